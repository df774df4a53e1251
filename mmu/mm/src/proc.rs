//! What `/proc/self/maps` and messages say about an address space.

use crate::arch::Arch;
use crate::mm::{Mm, Space};
use crate::vma::{Contents, Prot, Vma};
use std::fmt::Write;

fn name(space: &Space, v: &Vma) -> String {
    match (&v.contents, v.name) {
        (_, Some(n)) => n.into(),
        (Contents::Object { file, .. }, _) => file.name(),
        (Contents::Anonymous, _) if v.start < space.brk && v.end > space.start_brk => "[heap]".into(),
        _ => String::new(),
    }
}

fn line(space: &Space, v: &Vma) -> String {
    let bit = |p, c| if v.prot.contains(p) { c } else { '-' };
    let shared = if v.is_shared() { 's' } else { 'p' };
    let (offset, (major, minor, inode)) = match &v.contents {
        Contents::Object { file, pgoff } if v.name.is_none() => (pgoff << file.page_shift(), file.id()),
        _ => (0, (0, 0, 0)),
    };
    let mut s = String::new();
    let _ = write!(
        s,
        "{:08x}-{:08x} {}{}{}{shared} {offset:08x} {major:02x}:{minor:02x} {inode} ",
        v.start,
        v.end,
        bit(Prot::READ, 'r'),
        bit(Prot::WRITE, 'w'),
        bit(Prot::EXEC, 'x'),
    );
    let name = name(space, v);
    if !name.is_empty() {
        s = format!("{s:<73}{name}");
    }
    s.push('\n');
    s
}

impl<A: Arch> Mm<A> {
    /// The text of `/proc/self/maps`.
    pub fn maps(&self) -> String {
        let space = self.mmap_read();
        space.vmas.iter().map(|v| line(&space, v)).collect()
    }

    /// Says what is at an address, or what is near it.
    pub fn describe(&self, addr: u64) -> String {
        let space = self.mmap_read();
        let text = |v: &Vma| line(&space, v).split_whitespace().collect::<Vec<_>>().join(" ");
        match (space.vmas.find(addr), space.vmas.prev(addr), space.vmas.find_or_next(addr)) {
            (Some(v), ..) => format!("{addr:#x} is {:#x} bytes into {}", addr - v.start, text(v)),
            (None, Some(p), Some(n)) => format!(
                "{addr:#x} is {:#x} bytes above {} and {:#x} bytes below {}",
                addr - p.end,
                text(p),
                n.start - addr,
                text(n)
            ),
            (None, Some(p), None) => {
                format!("{addr:#x} is {:#x} bytes above the last mapping, {}", addr - p.end, text(p))
            }
            (None, None, Some(n)) => {
                format!("{addr:#x} is {:#x} bytes below the first mapping, {}", n.start - addr, text(n))
            }
            (None, None, None) => format!("{addr:#x}: nothing is mapped at all"),
        }
    }
}

//! mremap, and its flags (`MREMAP_*`).

use super::page_align;
use crate::arch::Arch;
use crate::error::{Errno, MmError, Result, sys};
use crate::mm::{Mm, Space};
use crate::vma::{Contents, Vma};

/// May move.
pub const MAYMOVE: u32 = 1;
/// To exactly the address given.
pub const FIXED: u32 = 2;
/// Leave an empty mapping behind.
pub const DONTUNMAP: u32 = 4;

impl<A: Arch> Mm<A> {
    /// `mremap(2)`.
    pub fn mremap(&self, addr: u64, old_len: u64, new_len: u64, flags: u32, new_addr: u64) -> Result<u64> {
        self.kernel().note(self.do_mremap(addr, old_len, new_len, flags, new_addr))
    }

    fn do_mremap(&self, addr: u64, old_len: u64, new_len: u64, flags: u32, new_addr: u64) -> Result<u64> {
        const OP: &str = "mremap";
        let fixed = flags & FIXED != 0;
        if flags & !7 != 0 || (flags & 6 != 0 && flags & MAYMOVE == 0) {
            return sys(OP, Errno::EINVAL, "flags that do not go together");
        }
        if addr & Self::IN_PAGE != 0 {
            return sys(OP, Errno::EINVAL, "the address is not a multiple of the page size");
        }
        let (Some(mut old_len), Some(new_len)) =
            (page_align::<A>(old_len), page_align::<A>(new_len).filter(|&l| l != 0))
        else {
            return sys(OP, Errno::EINVAL, "length zero or too large");
        };
        if flags & DONTUNMAP != 0 {
            return Err(MmError::NotModelled { what: "MREMAP_DONTUNMAP".into(), errno: Errno::EINVAL });
        }
        let mut space = self.mmap_write();
        if space.vmas.find(addr).is_none() {
            return sys(OP, Errno::EFAULT, "nothing is mapped there");
        }
        if old_len > A::TASK_SIZE - addr {
            return sys(OP, Errno::EFAULT, "beyond the address space");
        }
        if fixed {
            if new_addr & Self::IN_PAGE != 0 || new_len > A::TASK_SIZE || new_addr > A::TASK_SIZE - new_len {
                return sys(OP, Errno::EINVAL, "the new place is not a range of pages");
            }
            if addr + old_len > new_addr && new_addr + new_len > addr {
                return sys(OP, Errno::EINVAL, "the new place overlaps the old one");
            }
            if new_addr < self.kernel().config().mmap_min_addr {
                return sys(OP, Errno::EPERM, "below mmap_min_addr");
            }
        }
        if space.vmas.len() + 6 > self.kernel().config().max_map_count {
            return sys(OP, Errno::ENOMEM, "too many mappings");
        }
        if fixed {
            self.do_munmap(&mut space, new_addr, new_len)?;
        }
        if old_len > new_len || (old_len == new_len && !fixed) {
            if old_len > new_len {
                self.do_munmap(&mut space, addr + new_len, old_len - new_len)?;
            }
            if !fixed {
                return Ok(addr);
            }
            old_len = new_len;
        }
        let Some(vma) = space.vmas.find(addr).cloned() else {
            return sys(OP, Errno::EFAULT, "nothing is mapped there");
        };
        if old_len == 0 && !vma.is_shared() {
            return sys(OP, Errno::EINVAL, "only shared memory can be mapped a second time");
        }
        if old_len > vma.end - addr {
            return sys(OP, Errno::EFAULT, "the range is more than one mapping");
        }
        if !fixed && old_len != 0 && old_len == vma.end - addr {
            let more = new_len - old_len;
            if vma.end <= A::TASK_SIZE - more && space.vmas.fits(vma.end, more) {
                let mut v = vma.clone();
                space.vmas.remove(vma.start, vma.end);
                v.end += more;
                self.link(&v);
                space.vmas.insert(v);
                return Ok(addr);
            }
        }
        if flags & MAYMOVE == 0 {
            return sys(OP, Errno::ENOMEM, "no room to grow in place");
        }
        let to = if fixed { new_addr } else { self.unmapped_area(&space, OP, 0, new_len, false)? };
        self.move_vma(&mut space, &vma, (addr, old_len), (to, new_len))?;
        Ok(to)
    }

    fn move_vma(
        &self,
        space: &mut Space,
        vma: &Vma,
        (old, old_len): (u64, u64),
        (to, len): (u64, u64),
    ) -> Result<()> {
        let k = self.kernel();
        let mut v = vma.clone();
        let first = vma.pgoff_of(old);
        if let Contents::Object { pgoff, .. } = &mut v.contents {
            *pgoff = first;
        }
        v.start = to;
        v.end = to + len;
        if let Err(e) = k.move_page_tables(self, old, to, old_len) {
            if !e.is_finding() {
                // The old tables exist, so the way back needs no memory; tables made at the new place go.
                k.move_page_tables(self, to, old, old_len)?;
                self.link(&v);
                space.vmas.insert(v);
                self.do_munmap(space, to, len)?;
            }
            return Err(e);
        }
        self.link(&v);
        space.vmas.insert(v);
        if old_len != 0 { self.do_munmap(space, old, old_len) } else { Ok(()) }
    }
}

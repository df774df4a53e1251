//! mmap and munmap; the other calls on mappings, a file each: with Linux's error numbers.

mod brk;
mod madvise;
mod mincore;
mod mprotect;
pub mod mremap;
mod msync;

use crate::arch::Arch;
use crate::error::{Errno, MmError, Result, sys};
use crate::file::FileObject;
use crate::gather::Gather;
use crate::mm::{Mm, Space};
use crate::vma::{Contents, MapFlags, Prot, VmFlags, Vma};
use racewalk_cpu::Access;
use racewalk_ram::Vaddr;
use std::sync::Arc;

pub use madvise::madv;

fn page_align<A: Arch>(len: u64) -> Option<u64> {
    let mask = (1 << A::PAGE_SHIFT) - 1;
    len.checked_add(mask).map(|l| l & !mask)
}

impl<A: Arch> Mm<A> {
    const PAGE: u64 = 1 << A::PAGE_SHIFT;
    const IN_PAGE: u64 = Self::PAGE - 1;

    /// `mmap(2)`. `file` is the object and the byte offset; without [`MapFlags::ANONYMOUS`] there must be one.
    ///
    /// The file counts as opened for reading: see [`mmap_file`](Self::mmap_file) for more.
    pub fn mmap(
        &self,
        addr: u64,
        len: u64,
        prot: Prot,
        flags: MapFlags,
        file: Option<(Arc<FileObject>, u64)>,
    ) -> Result<u64> {
        self.mmap_file(addr, len, prot, flags, file, false)
    }

    /// `mmap(2)` of a file that is open for reading, and for writing if `writable`. What is stored through a shared
    /// mapping gets to the file by [`FileObject::write_back`].
    pub fn mmap_file(
        &self,
        addr: u64,
        len: u64,
        prot: Prot,
        flags: MapFlags,
        file: Option<(Arc<FileObject>, u64)>,
        writable: bool,
    ) -> Result<u64> {
        let (at, len) = self.kernel().note(self.do_mmap(addr, len, prot, flags, (file, writable)))?;
        if flags.contains(MapFlags::POPULATE) && !flags.contains(MapFlags::NONBLOCK) {
            self.populate(at, len, prot, flags.contains(MapFlags::SHARED));
        }
        Ok(at)
    }

    fn do_mmap(
        &self,
        addr: u64,
        len: u64,
        prot: Prot,
        flags: MapFlags,
        (file, writable): (Option<(Arc<FileObject>, u64)>, bool),
    ) -> Result<(u64, u64)> {
        const OP: &str = "mmap";
        if file.as_ref().is_some_and(|f| f.1 & Self::IN_PAGE != 0) {
            return sys(OP, Errno::EINVAL, "the offset is not a multiple of the page size");
        }
        if len == 0 {
            return sys(OP, Errno::EINVAL, "length zero");
        }
        let fixed = flags.contains(MapFlags::FIXED) || flags.contains(MapFlags::FIXED_NOREPLACE);
        let Some(len) = page_align::<A>(len) else { return sys(OP, Errno::ENOMEM, "the length overflows") };
        if let Some((_, off)) = &file
            && (off >> A::PAGE_SHIFT).checked_add(len >> A::PAGE_SHIFT).is_none_or(|e| e > 1 << 51)
        {
            return sys(OP, Errno::EOVERFLOW, "offset and length overflow");
        }
        if flags.contains(MapFlags::HUGETLB) {
            return Err(MmError::NotModelled { what: "MAP_HUGETLB".into(), errno: Errno::ENOMEM });
        }
        let prot = Prot(prot.0 & 7);
        let mut vm_flags = VmFlags(0);
        let shared = match flags.0 & 0xf {
            1 | 3 => true,
            2 => false,
            _ => return sys(OP, Errno::EINVAL, "neither MAP_SHARED nor MAP_PRIVATE"),
        };
        if flags.contains(MapFlags::GROWSDOWN) {
            if shared || file.is_some() {
                return sys(OP, Errno::EINVAL, "MAP_GROWSDOWN is for private anonymous memory");
            }
            vm_flags = vm_flags | VmFlags::GROWSDOWN;
        }
        let contents = match (file, flags.contains(MapFlags::ANONYMOUS)) {
            (_, true) if shared => {
                vm_flags = vm_flags | VmFlags::SHARED;
                Contents::Object { file: FileObject::shmem(self.kernel().memory()), pgoff: 0 }
            }
            (_, true) => Contents::Anonymous,
            (Some((file, offset)), false) => {
                if shared && !writable && prot.contains(Prot::WRITE) {
                    return sys(OP, Errno::EACCES, "the file is not open for writing");
                }
                if shared {
                    vm_flags = vm_flags | VmFlags::SHARED;
                }
                if shared && !writable {
                    vm_flags = vm_flags | VmFlags::NO_MAY_WRITE;
                }
                Contents::Object { file, pgoff: offset >> A::PAGE_SHIFT }
            }
            (None, false) => return sys(OP, Errno::ENODEV, "the file cannot be mapped"),
        };
        let mut space = self.mmap_write();
        if space.vmas.len() > self.kernel().config().max_map_count {
            return sys(OP, Errno::ENOMEM, "too many mappings");
        }
        let at = self.unmapped_area(&space, OP, addr, len, fixed)?;
        if flags.contains(MapFlags::FIXED_NOREPLACE) {
            if space.vmas.any(at, at + len) {
                return sys(OP, Errno::EEXIST, "something is mapped there");
            }
        } else {
            self.do_munmap(&mut space, at, len)?;
        }
        let vma = Vma { start: at, end: at + len, prot, flags: vm_flags, contents, name: None };
        self.link(&vma);
        space.vmas.insert(vma);
        Ok((at, len))
    }

    /// `get_unmapped_area`: top-down below `mmap_base`, then bottom-up.
    fn unmapped_area(
        &self,
        space: &Space,
        op: &'static str,
        addr: u64,
        len: u64,
        fixed: bool,
    ) -> Result<u64> {
        let min = self.kernel().config().mmap_min_addr;
        if len > A::TASK_SIZE {
            return sys(op, Errno::ENOMEM, "longer than the address space");
        }
        if fixed {
            if addr > A::TASK_SIZE - len {
                // Linux would upgrade to four levels here.
                return sys(
                    op,
                    Errno::ENOMEM,
                    "beyond three levels of page tables (4 TiB); more is not modelled",
                );
            }
            if addr & Self::IN_PAGE != 0 {
                return sys(op, Errno::EINVAL, "the address is not a multiple of the page size");
            }
            if addr < min {
                return sys(op, Errno::EPERM, "below mmap_min_addr");
            }
            return Ok(addr);
        }
        if let Some(hint) = page_align::<A>(addr).filter(|&h| addr != 0 && h <= A::TASK_SIZE - len) {
            let hint = hint.max(min);
            if hint <= A::TASK_SIZE - len && space.vmas.fits(hint, len) {
                return Ok(hint);
            }
        }
        let found = space
            .vmas
            .top_down(len, min, space.mmap_base)
            .or_else(|| space.vmas.bottom_up(len, A::TASK_SIZE / 2, A::TASK_SIZE));
        found.map_or_else(|| sys(op, Errno::ENOMEM, "no room in the address space"), Ok)
    }

    /// Maps something the kernel provides (`[vdso]`) at a fixed place that is free.
    pub fn map_special(
        &self,
        addr: u64,
        len: u64,
        prot: Prot,
        file: Arc<FileObject>,
        name: &'static str,
    ) -> Result<()> {
        let mut space = self.mmap_write();
        let end = addr
            .checked_add(len)
            .filter(|&e| e <= A::TASK_SIZE && (addr | len) & Self::IN_PAGE == 0 && len != 0);
        let Some(end) = end else { return sys("map", Errno::EINVAL, "not a range of pages") };
        if space.vmas.any(addr, end) {
            return sys("map", Errno::EEXIST, "something is mapped there");
        }
        let contents = Contents::Object { file, pgoff: 0 };
        space.vmas.insert(Vma { start: addr, end, prot, flags: VmFlags(0), contents, name: Some(name) });
        Ok(())
    }

    /// Maps the stack, which ends at the top of the address space and grows from `size` bytes to the limit. Returns
    /// the address behind it.
    pub fn map_stack(&self, size: u64) -> Result<u64> {
        let mut space = self.mmap_write();
        let size = page_align::<A>(size.max(Self::PAGE)).filter(|&s| s <= self.kernel().config().stack_limit);
        let Some(size) = size else { return sys("map stack", Errno::ENOMEM, "larger than the limit") };
        if space.vmas.any(A::TASK_SIZE - size, A::TASK_SIZE) {
            return sys("map stack", Errno::EEXIST, "something is mapped there");
        }
        space.vmas.insert(Vma {
            start: A::TASK_SIZE - size,
            end: A::TASK_SIZE,
            prot: Prot::READ | Prot::WRITE,
            flags: VmFlags::GROWSDOWN,
            contents: Contents::Anonymous,
            name: Some("[stack]"),
        });
        Ok(A::TASK_SIZE)
    }

    /// Takes pages and tables of detached mappings away; `floor` and `ceiling` are the neighbours that stay. `exit`: the whole
    /// space goes.
    pub(crate) fn unmap_vmas(
        &self,
        g: &mut Gather<'_, A>,
        vmas: &[Vma],
        floor: u64,
        ceiling: u64,
        exit: bool,
    ) -> Result<()> {
        let k = self.kernel();
        for v in vmas {
            k.zap_range(g, self, v.start, v.end)?;
        }
        // From here on nobody finds these tables by the objects that were mapped (hosted-mm C.7).
        let (Some(first), Some(last)) = (vmas.first(), vmas.last()) else { return Ok(()) };
        let anon = vmas.iter().any(|v| matches!(v.contents, Contents::Anonymous));
        self.unlink(first.start, last.end, anon);
        if exit && let Some(s) = k.sanitizer() {
            s.state().exit(self.kva());
        }
        for (i, v) in vmas.iter().enumerate() {
            let next = vmas.get(i + 1).map_or(ceiling, |n| n.start);
            k.free_pgtables(g, self, (v.start, v.end), (floor, next))?;
        }
        Ok(())
    }

    /// With `mmap_lock` held for writing: takes `start..start + len` out, whatever is there.
    fn do_munmap(&self, space: &mut Space, start: u64, len: u64) -> Result<()> {
        let end = start + len;
        if !space.vmas.any(start, end) {
            return Ok(());
        }
        if space.vmas.cuts(start, end) > 0 && space.vmas.len() >= self.kernel().config().max_map_count {
            return sys("munmap", Errno::ENOMEM, "too many mappings");
        }
        let vmas = space.vmas.remove(start, end);
        let floor = space.vmas.prev(start).map_or(0, |v| v.end);
        let ceiling = space.vmas.find_or_next(end).map_or(A::TASK_SIZE, |v| v.start);
        let mut g = Gather::new(self.kernel(), self);
        self.unmap_vmas(&mut g, &vmas, floor, ceiling, false)?;
        g.flush()
    }

    /// `munmap(2)`.
    pub fn munmap(&self, addr: u64, len: u64) -> Result<()> {
        const OP: &str = "munmap";
        if addr & Self::IN_PAGE != 0 || addr > A::TASK_SIZE || len > A::TASK_SIZE - addr {
            return sys(OP, Errno::EINVAL, "not a range of pages of the address space");
        }
        match page_align::<A>(len) {
            None | Some(0) => sys(OP, Errno::EINVAL, "length zero"),
            Some(len) => {
                let mut space = self.mmap_write();
                let r = self.do_munmap(&mut space, addr, len);
                self.kernel().note(r)
            }
        }
    }

    /// `mm_populate`: faults the range in as far as that goes.
    fn populate(&self, start: u64, len: u64, prot: Prot, shared: bool) {
        if prot == Prot::NONE {
            return;
        }
        let access = if prot.contains(Prot::WRITE) && !shared { Access::Store } else { Access::Load };
        for a in (start..start + len).step_by(Self::PAGE as usize) {
            if self.fault_in(Vaddr(a), access).is_err() {
                return;
            }
        }
    }
}

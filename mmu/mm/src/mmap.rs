//! mmap, munmap, mprotect, brk, madvise, mremap: with Linux's error numbers.

use crate::arch::{Arch, PteFormat};
use crate::error::{Errno, MmError, Result, sys};
use crate::file::FileObject;
use crate::gather::Gather;
use crate::mm::{Mm, Space};
use crate::vma::{Contents, MapFlags, Prot, VmFlags, Vma};
use racewalk_cpu::Access;
use racewalk_ram::Vaddr;
use std::sync::Arc;

/// `MREMAP_*`.
pub mod mremap {
    /// May move.
    pub const MAYMOVE: u32 = 1;
    /// To exactly the address given.
    pub const FIXED: u32 = 2;
    /// Leave an empty mapping behind.
    pub const DONTUNMAP: u32 = 4;
}

/// `MADV_*`.
pub mod madv {
    /// Nothing special.
    pub const NORMAL: u32 = 0;
    /// Random access to come.
    pub const RANDOM: u32 = 1;
    /// Sequential access to come.
    pub const SEQUENTIAL: u32 = 2;
    /// Will be needed.
    pub const WILLNEED: u32 = 3;
    /// Drop the pages.
    pub const DONTNEED: u32 = 4;
    /// The pages may be dropped.
    pub const FREE: u32 = 8;
    /// Huge pages wanted.
    pub const HUGEPAGE: u32 = 14;
    /// No huge pages.
    pub const NOHUGEPAGE: u32 = 15;
}

fn page_align<A: Arch>(len: u64) -> Option<u64> {
    let mask = (1 << A::PAGE_SHIFT) - 1;
    len.checked_add(mask).map(|l| l & !mask)
}

impl<A: Arch> Mm<A> {
    const PAGE: u64 = 1 << A::PAGE_SHIFT;
    const IN_PAGE: u64 = Self::PAGE - 1;
    /// Bytes that one PTE table covers.
    const SEGMENT: u64 = A::LEVELS[A::LEVELS.len() - 2].span();

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

    /// `mprotect(2)`. Up to the first hole the change is made even when the answer is ENOMEM.
    pub fn mprotect(&self, addr: u64, len: u64, prot: Prot) -> Result<()> {
        self.kernel().note(self.do_mprotect(addr, len, prot))
    }

    fn do_mprotect(&self, addr: u64, len: u64, prot: Prot) -> Result<()> {
        const OP: &str = "mprotect";
        // PROT_SEM (8) is accepted and means nothing; PROT_GROWSDOWN and PROT_GROWSUP are not modelled.
        if prot.0 & !0xf != 0 {
            return sys(OP, Errno::EINVAL, "unknown protection bits");
        }
        let prot = Prot(prot.0 & 7);
        if addr & Self::IN_PAGE != 0 {
            return sys(OP, Errno::EINVAL, "the address is not a multiple of the page size");
        }
        if len == 0 {
            return Ok(());
        }
        let end = page_align::<A>(len).and_then(|l| addr.checked_add(l)).filter(|&e| e > addr);
        let Some(end) = end else { return sys(OP, Errno::ENOMEM, "the length overflows") };
        let mut space = self.mmap_write();
        let mut at = addr;
        while at < end {
            let Some(v) = space.vmas.find(at) else { return sys(OP, Errno::ENOMEM, "a part is not mapped") };
            if v.flags.contains(VmFlags::NO_MAY_WRITE) && prot.contains(Prot::WRITE) {
                return sys(OP, Errno::EACCES, "the mapping may not be written");
            }
            let stop = v.end.min(end);
            if v.prot != prot {
                if space.vmas.len() + space.vmas.cuts(at, stop) > self.kernel().config().max_map_count {
                    return sys(OP, Errno::ENOMEM, "too many mappings");
                }
                for mut part in space.vmas.remove(at, stop) {
                    part.prot = prot;
                    self.kernel().change_protection(self, &part, part.start, part.end)?;
                    space.vmas.insert(part);
                }
                A::flush_mm_lazy(self.kernel(), self)?;
            }
            at = stop;
        }
        Ok(())
    }

    /// Where the heap begins: behind the program's data. Rounded up to a page.
    pub fn set_brk_start(&self, addr: u64) {
        let mut space = self.mmap_write();
        space.start_brk = (addr + Self::IN_PAGE) & !Self::IN_PAGE;
        space.brk = space.start_brk;
    }

    /// `brk(2)`: moves the end of the heap to `addr` if that can be done; answers where it is.
    pub fn brk(&self, addr: u64) -> Result<u64> {
        self.kernel().note(self.do_brk(addr))
    }

    fn do_brk(&self, addr: u64) -> Result<u64> {
        let mut space = self.mmap_write();
        let old = space.brk;
        if addr < space.start_brk {
            return Ok(old);
        }
        let (Some(new_end), Some(old_end)) = (page_align::<A>(addr), page_align::<A>(old)) else {
            return Ok(old);
        };
        if new_end < old_end {
            match self.do_munmap(&mut space, new_end, old_end - new_end) {
                Err(e) if e.is_finding() => return Err(e),
                Err(_) => return Ok(old),
                Ok(()) => {}
            }
        } else if new_end > old_end {
            let full = space.vmas.len() > self.kernel().config().max_map_count;
            if new_end > A::TASK_SIZE || full || !space.vmas.fits(old_end, new_end - old_end) {
                return Ok(old);
            }
            space.vmas.insert(Vma {
                start: old_end,
                end: new_end,
                prot: Prot::READ | Prot::WRITE,
                flags: VmFlags(0),
                contents: Contents::Anonymous,
                name: None,
            });
        }
        space.brk = addr;
        Ok(addr)
    }

    /// `madvise(2)`. DONTNEED and FREE drop pages; other known advice is accepted without effect.
    pub fn madvise(&self, addr: u64, len: u64, advice: u32) -> Result<()> {
        self.kernel().note(self.do_madvise(addr, len, advice))
    }

    fn do_madvise(&self, addr: u64, len: u64, advice: u32) -> Result<()> {
        const OP: &str = "madvise";
        let zap = match advice {
            madv::DONTNEED | madv::FREE => true,
            madv::NORMAL
            | madv::RANDOM
            | madv::SEQUENTIAL
            | madv::WILLNEED
            | madv::HUGEPAGE
            | madv::NOHUGEPAGE => false,
            _ => {
                return Err(MmError::NotModelled {
                    what: format!("madvise advice {advice}"),
                    errno: Errno::EINVAL,
                });
            }
        };
        if addr & Self::IN_PAGE != 0 {
            return sys(OP, Errno::EINVAL, "the address is not a multiple of the page size");
        }
        let end = page_align::<A>(len).and_then(|l| addr.checked_add(l));
        let Some(end) = end.filter(|_| len == 0 || len.wrapping_add(Self::IN_PAGE) >= len) else {
            return sys(OP, Errno::EINVAL, "the length overflows");
        };
        if addr == end {
            return Ok(());
        }
        let space = self.mmap_read();
        let mut at = addr;
        let mut hole = false;
        let mut g = Gather::new(self.kernel(), self);
        for v in space.vmas.overlapping(addr, end) {
            hole |= v.start > at;
            at = v.end;
            if advice == madv::FREE && !matches!(v.contents, Contents::Anonymous) {
                g.flush()?;
                return sys(OP, Errno::EINVAL, "MADV_FREE is for private anonymous memory");
            }
            if zap {
                self.kernel().zap_range(&mut g, self, v.start.max(addr), v.end.min(end))?;
            }
        }
        g.flush()?;
        if hole || at < end { sys(OP, Errno::ENOMEM, "a part is not mapped") } else { Ok(()) }
    }

    /// `mremap(2)`.
    pub fn mremap(&self, addr: u64, old_len: u64, new_len: u64, flags: u32, new_addr: u64) -> Result<u64> {
        self.kernel().note(self.do_mremap(addr, old_len, new_len, flags, new_addr))
    }

    fn do_mremap(&self, addr: u64, old_len: u64, new_len: u64, flags: u32, new_addr: u64) -> Result<u64> {
        const OP: &str = "mremap";
        let fixed = flags & mremap::FIXED != 0;
        if flags & !7 != 0 || (flags & 6 != 0 && flags & mremap::MAYMOVE == 0) {
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
        if flags & mremap::DONTUNMAP != 0 {
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
        if flags & mremap::MAYMOVE == 0 {
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

    /// Drops the pages of the object mapping in the segment (1 MiB) at `addr` and takes their page table away, as
    /// khugepaged does when it has collapsed them; both come back by faults. False if that segment is not wholly
    /// inside one object mapping, or somebody mapped a page meanwhile.
    pub fn retract_segment(&self, addr: u64) -> Result<bool> {
        self.kernel().note(self.do_retract(addr & !(Self::SEGMENT - 1)))
    }

    fn do_retract(&self, start: u64) -> Result<bool> {
        let inside = |space: &Space| {
            let end = start.saturating_add(Self::SEGMENT);
            space.vmas.find(start).is_some_and(|v| v.end >= end && v.is_shared())
        };
        if !self.kernel().frag.defers() {
            let space = self.mmap_write();
            return if inside(&space) { self.retract_alone(start) } else { Ok(false) };
        }
        let space = self.mmap_read();
        if inside(&space) { self.retract_linked(start) } else { Ok(false) }
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

    /// `msync(2)`: writes back what was stored through shared file mappings of the range.
    pub fn msync(&self, addr: u64, len: u64, write: bool) -> Result<()> {
        const OP: &str = "msync";
        if addr & Self::IN_PAGE != 0 {
            return sys(OP, Errno::EINVAL, "the address is not a multiple of the page size");
        }
        let end = page_align::<A>(len).and_then(|l| addr.checked_add(l));
        let Some(end) = end else { return sys(OP, Errno::ENOMEM, "the length overflows") };
        let mut pieces = Vec::new();
        let whole = {
            let space = self.mmap_read();
            for v in space.vmas.overlapping(addr, end).filter(|v| v.is_shared()) {
                if let Contents::Object { file, .. } = &v.contents {
                    let (from, to) = (v.start.max(addr), v.end.min(end));
                    pieces.push((
                        file.clone(),
                        v.pgoff_of(from),
                        v.pgoff_of(from) + ((to - from) >> A::PAGE_SHIFT),
                    ));
                }
            }
            space.vmas.all(addr, end)
        };
        if write {
            for (file, from, to) in pieces {
                file.write_back(from, to)?;
            }
        }
        if whole { Ok(()) } else { sys(OP, Errno::ENOMEM, "a part is not mapped") }
    }

    /// The object has `size` bytes now: pages beyond are mapped no more, private copies included.
    pub fn truncate_object(&self, object: &Arc<FileObject>, size: u64) -> Result<()> {
        let r = self.do_truncate(object, size.div_ceil(Self::PAGE));
        self.kernel().note(r)
    }

    fn do_truncate(&self, object: &Arc<FileObject>, pages: u64) -> Result<()> {
        let space = self.mmap_read();
        let mut g = Gather::new(self.kernel(), self);
        for v in space.vmas.iter() {
            let Contents::Object { file, pgoff } = &v.contents else { continue };
            let from = v.start + (pages.saturating_sub(*pgoff) << A::PAGE_SHIFT).min(v.bytes());
            if Arc::ptr_eq(file, object) && from < v.end {
                self.kernel().zap_range(&mut g, self, from, v.end)?;
            }
        }
        g.flush()
    }

    /// `mincore(2)`: for each page of the range, whether it is mapped to a frame.
    pub fn mincore(&self, addr: u64, len: u64) -> Result<Vec<bool>> {
        let end = page_align::<A>(len).and_then(|l| addr.checked_add(l)).filter(|&e| e <= A::TASK_SIZE);
        if addr & Self::IN_PAGE != 0 {
            return sys("mincore", Errno::EINVAL, "the address is not a multiple of the page size");
        }
        let Some(end) = end else { return sys("mincore", Errno::ENOMEM, "beyond the address space") };
        let space = self.mmap_read();
        if !space.vmas.all(addr, end) {
            return sys("mincore", Errno::ENOMEM, "a part is not mapped");
        }
        (addr..end)
            .step_by(Self::PAGE as usize)
            .map(|a| {
                let pmd = self.kernel().pmd_offset(self, Vaddr(a))?;
                pmd.map_or(Ok(false), |p| {
                    Ok(self.kernel().pte_peek(p, Vaddr(a))?.is_none_or(|pte| pte.present()))
                })
            })
            .collect()
    }
}

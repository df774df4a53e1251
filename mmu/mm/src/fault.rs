//! Page faults.

use crate::arch::{Arch, FaultInfo, How, Need, PteFormat, Soft};
use crate::buddy::Gfp;
use crate::error::{MmError, Result, broken};
use crate::mm::{Mm, Space};
use crate::page::{FrameKind, flag};
use crate::pgtable::PteLock;
use crate::vma::{Contents, Prot, STACK_GUARD_GAP, VmFlags, Vma};
use racewalk_cpu::Access;
use racewalk_ram::{Paddr, Pfn, Vaddr};
use racewalk_sched::point;
use racewalk_walk::hardware::Hardware;

/// Signal numbers and codes (the same on s390x, PowerPC and SPARC unless said otherwise).
pub mod signo {
    /// Bad access to a page that is there but has no contents. 10 on SPARC.
    pub const SIGBUS: u32 = 7;
    /// Out of memory.
    pub const SIGKILL: u32 = 9;
    /// Bad address or protection.
    pub const SIGSEGV: u32 = 11;
    /// SIGSEGV: nothing is mapped.
    pub const SEGV_MAPERR: u32 = 1;
    /// SIGSEGV: the mapping does not allow the access.
    pub const SEGV_ACCERR: u32 = 2;
    /// SIGBUS: beyond the end of the object.
    pub const BUS_ADRERR: u32 = 2;
}

/// What a fault ends in when it cannot be resolved.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Signal {
    /// Number, see [`signo`].
    pub number: u32,
    /// `si_code`.
    pub code: u32,
    /// `si_addr`: the address of the page (TEID & ~0xfff; s390x-mmu §7).
    pub addr: u64,
    /// What is at the address and what was wrong, for messages.
    pub why: String,
}

impl std::fmt::Display for Signal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = match (self.number, self.code) {
            (signo::SIGSEGV, signo::SEGV_MAPERR) => "SIGSEGV (MAPERR)",
            (signo::SIGSEGV, _) => "SIGSEGV (ACCERR)",
            (signo::SIGBUS, _) => "SIGBUS",
            (signo::SIGKILL, _) => "SIGKILL",
            _ => "signal",
        };
        write!(f, "{name} at {:#x}: {}", self.addr, self.why)
    }
}

enum Step {
    Done,
    /// Look again: the stack may have to grow first.
    Grow,
    Signal(u32, u32, &'static str),
}

impl<A: Arch> Mm<A> {
    /// Resolves a fault of a program in this space, or says which signal it gets. A fault that another CPU has
    /// resolved meanwhile is no fault.
    pub fn handle_fault(&self, fault: &<A::Hw as Hardware>::Fault) -> Result<(), Signal> {
        match self.kernel().note(A::refill(self, fault)) {
            Ok(true) => return Ok(()),
            Ok(false) => {}
            Err(e) => {
                let (number, addr) = (signo::SIGKILL, A::fault(fault).vaddr.0);
                return Err(Signal { number, code: 0, addr, why: e.to_string() });
            }
        }
        let info = A::fault(fault);
        if info.corrupt {
            self.kernel().report(MmError::Broken {
                rule: 0,
                text: format!("{fault}: a page table is corrupt"),
                about: None,
            });
        }
        self.resolve(&info)
    }

    /// Makes the page at `va` accessible, as a fault would.
    pub fn fault_in(&self, va: Vaddr, access: Access) -> Result<(), Signal> {
        self.resolve(&FaultInfo { vaddr: va, need: access.into(), corrupt: false })
    }

    pub(crate) fn resolve(&self, info: &FaultInfo) -> Result<(), Signal> {
        let k = self.kernel();
        let (page, need) = (info.vaddr.0 & !(k.page_size() - 1), info.need);
        k.stats.faults.bump();
        point("fault");
        let mut grown = false;
        let (number, code, why) = loop {
            match self.fault_step(page, need) {
                Ok(Step::Done) => return Ok(()),
                Ok(Step::Grow) if !grown => {
                    grown = true;
                    if let Err(why) = self.grow_stack(page) {
                        break (signo::SIGSEGV, signo::SEGV_MAPERR, why.to_string());
                    }
                }
                Ok(Step::Grow) => break (signo::SIGSEGV, signo::SEGV_MAPERR, "the stack vanished".into()),
                Ok(Step::Signal(n, c, why)) => break (n, c, why.to_string()),
                Err(e) if e.is_finding() => {
                    let text = e.to_string();
                    k.report(e);
                    break (signo::SIGKILL, 0, text);
                }
                Err(e) => break (signo::SIGKILL, 0, e.to_string()),
            }
        };
        k.stats.faults_signal.bump();
        let why = format!("{why}; {}", self.describe(info.vaddr.0));
        Err(Signal { number, code, addr: page, why })
    }

    fn fault_step(&self, va: u64, need: Need) -> Result<Step> {
        let k = self.kernel();
        let space = self.mmap_read();
        let Some(vma) = space.vmas.find(va) else {
            let stack = space.vmas.find_or_next(va).is_some_and(|v| v.flags.contains(VmFlags::GROWSDOWN));
            return Ok(if stack && va < A::TASK_SIZE {
                Step::Grow
            } else {
                Step::Signal(signo::SIGSEGV, signo::SEGV_MAPERR, "nothing is mapped there")
            });
        };
        let refused = match need {
            Need::Any if vma.prot == Prot::NONE => Some("the mapping allows no access"),
            Need::Write if !vma.prot.contains(Prot::WRITE) => Some("the mapping is read-only"),
            Need::Exec if !vma.prot.contains(Prot::EXEC) => Some("the mapping is not executable"),
            _ => None,
        };
        if let Some(why) = refused {
            return Ok(Step::Signal(signo::SIGSEGV, signo::SEGV_ACCERR, why));
        }
        let write = need == Need::Write;
        let at = Vaddr(va);
        let pmd = k.pmd_alloc(self, at)?;
        let Some(pte) = k.pte_peek(pmd, at)? else {
            // A huge page allows whatever its mapping does.
            k.stats.faults_spurious.bump();
            return Ok(Step::Done);
        };
        if !pte.none() {
            return self.present_fault(vma, pmd, at, pte, write).map(|()| Step::Done);
        }
        match &vma.contents {
            Contents::Anonymous => self.anonymous_fault(vma, pmd, at, write)?,
            Contents::Object { file, .. } => {
                let Some(page) = file.page(vma.pgoff_of(va))? else {
                    return Ok(Step::Signal(signo::SIGBUS, signo::BUS_ADRERR, "beyond the end of the file"));
                };
                self.object_fault(vma, pmd, at, page, write)?;
            }
        }
        Ok(Step::Done)
    }

    /// Hooks `pte` in where there is nothing yet; takes over the reference to its frame.
    fn install(&self, pmd: Paddr, va: Vaddr, pte: A::Pte) -> Result<()> {
        let k = self.kernel();
        let page = (!pte.special()).then(|| pte.frame());
        let locked = match self.lock_pte(pmd, va) {
            Ok(l) => l,
            Err(e) => {
                if let Some(p) = page {
                    k.put_page(p)?;
                }
                return Err(e);
            }
        };
        if k.takes(crate::mutant::Step::InstallRecheck) && !locked.load()?.none() {
            drop(locked);
            k.stats.faults_spurious.bump();
            return page.map_or(Ok(()), |p| k.put_page(p));
        }
        if let Some(p) = page {
            k.add_rmap(self, p)?;
        }
        k.set_pte(locked.pte, pte)
    }

    /// The entry for `va`, locked; the table is made if there is none.
    fn lock_pte(&self, pmd: Paddr, va: Vaddr) -> Result<PteLock<'_, A>> {
        loop {
            self.kernel().pte_alloc(self, pmd, va)?;
            if let Some(l) = self.kernel().pte_map_lock(pmd, va)? {
                return Ok(l);
            }
        }
    }

    fn anonymous_fault(&self, vma: &Vma, pmd: Paddr, va: Vaddr, write: bool) -> Result<()> {
        let k = self.kernel();
        let pte = if write {
            k.stats.faults_anonymous.bump();
            let page = k.alloc_zeroed("an anonymous page")?;
            A::Pte::new(page, vma.prot, false).with(Soft::YOUNG | Soft::DIRTY | Soft::WRITE)
        } else {
            k.stats.faults_zero_page.bump();
            A::Pte::new(k.zero_page, vma.prot, false).with(Soft::YOUNG | Soft::SPECIAL)
        };
        self.install(pmd, va, pte)
    }

    fn object_fault(&self, vma: &Vma, pmd: Paddr, va: Vaddr, page: Pfn, write: bool) -> Result<()> {
        let k = self.kernel();
        if write && !vma.is_shared() {
            k.stats.faults_file_cow.bump();
            let new = self.copy_of(page);
            k.put_page(page)?;
            let pte = A::Pte::new(new?, vma.prot, false).with(Soft::YOUNG | Soft::DIRTY | Soft::WRITE);
            return self.install(pmd, va, pte);
        }
        if vma.is_shared() {
            if write {
                vma.mark_dirty(va.0);
            }
            k.stats.faults_shared.bump()
        } else {
            k.stats.faults_file_read.bump()
        }
        let dirty = if write { Soft::DIRTY } else { Soft::NONE };
        self.install(pmd, va, A::Pte::new(page, vma.prot, vma.is_shared()).with(Soft::YOUNG | dirty))
    }

    /// An anonymous page with the contents of `page`.
    fn copy_of(&self, page: Pfn) -> Result<Pfn> {
        let k = self.kernel();
        let new = k.alloc(0, Gfp::Kernel, FrameKind::Anon, "a copy of a page")?;
        k.kmem.pages.set_flag(new, flag::ANON)?;
        point("cow.copy");
        k.copy_page(new, page)?;
        k.stats.cow_copies.bump();
        Ok(new)
    }

    /// The entry is not empty: young or dirty bits, or a write to a protected page.
    fn present_fault(&self, vma: &Vma, pmd: Paddr, va: Vaddr, seen: A::Pte, write: bool) -> Result<()> {
        let k = self.kernel();
        if !seen.present() {
            return broken(9, format!("entry {:#x} for {va:?} is neither empty nor present", seen.raw()));
        }
        let Some(l) = k.pte_map_lock(pmd, va)? else { return Ok(()) };
        if l.load()? != seen {
            k.stats.faults_spurious.bump();
            return Ok(());
        }
        if write && !seen.writable() {
            return self.write_protect_fault(vma, pmd, va, seen, l);
        }
        if write {
            vma.mark_dirty(va.0);
        }
        let new = seen.with(Soft::YOUNG | if write { Soft::DIRTY } else { Soft::NONE });
        if new == seen {
            k.stats.faults_spurious.bump();
            return Ok(());
        }
        k.stats.faults_access_flags.bump();
        k.ptep_xchg(self, va, l.pte, new, How::Direct)?;
        Ok(())
    }

    /// `do_wp_page`: the write goes to a page of our own.
    fn write_protect_fault(
        &self,
        vma: &Vma,
        pmd: Paddr,
        va: Vaddr,
        seen: A::Pte,
        l: PteLock<'_, A>,
    ) -> Result<()> {
        let k = self.kernel();
        let pages = &k.kmem.pages;
        k.stats.faults_write_protect.bump();
        let old = seen.frame();
        let writable = Soft::YOUNG | Soft::DIRTY | Soft::WRITE;
        if !seen.special() {
            let sole = pages.flags(old)? & flag::ANON != 0 && pages.refcount(old)? == 1;
            if sole || vma.is_shared() {
                vma.mark_dirty(va.0);
                k.stats.cow_reused.bump();
                k.ptep_xchg(self, va, l.pte, seen.with(writable), How::Direct)?;
                return Ok(());
            }
            pages.get_page(old)?;
        }
        drop(l);
        let new = if seen.special() { k.alloc_zeroed("an anonymous page") } else { self.copy_of(old) };
        let done = new.and_then(|new| match k.pte_map_lock(pmd, va)? {
            Some(l) if l.load()? == seen => {
                let pte = A::Pte::new(new, vma.prot, false).with(writable);
                k.ptep_xchg(self, va, l.pte, pte, How::Direct)?;
                k.add_rmap(self, new)?;
                if !seen.special() {
                    k.remove_rmap(self, old)?;
                    k.put_page(old)?;
                }
                Ok(())
            }
            _ => {
                k.stats.faults_spurious.bump();
                k.put_page(new)
            }
        });
        if !seen.special() {
            k.put_page(old)?;
        }
        done
    }

    fn grow_stack(&self, va: u64) -> Result<(), &'static str> {
        let mut space = self.mmap_write();
        let Space { vmas, .. } = &mut *space;
        let Some(v) = vmas.find_or_next(va) else { return Err("nothing is mapped there") };
        if va >= v.start {
            return Ok(());
        }
        if !v.flags.contains(VmFlags::GROWSDOWN) {
            return Err("nothing is mapped there");
        }
        let config = self.kernel().config();
        if v.end - va > config.stack_limit {
            return Err("the stack would exceed its limit");
        }
        if va < config.mmap_min_addr {
            return Err("the stack would grow below mmap_min_addr");
        }
        if vmas.prev(va + 1).is_some_and(|p| p.prot != Prot::NONE && va - p.end < STACK_GUARD_GAP) {
            return Err("the stack would grow into the guard gap above another mapping");
        }
        let start = v.start;
        vmas.grow_down(start, va);
        self.kernel().stats.faults_stack_growth.bump();
        Ok(())
    }
}

//! Flushing on sparc64: first the entry of the TSB, which is shared memory, then by cross call the TLBs (reference
//! sparc64-mmu §4; hosted-mm C.2).

use super::{Pte, Space, Sparc64, TSB_BYTES};
use crate::arch::{Arch, How, PteFormat};
use crate::error::Result;
use crate::kernel::Kernel;
use crate::mm::Mm;
use crate::mutant::Step;
use crate::pgtable::{pmd_level, pte_level};
use crate::tlb_batch::Stale;
use racewalk_ram::{Paddr, Vaddr};
use racewalk_sched::{point, tso};
use racewalk_walk::sparc64::sun4u::entry::{TagAccess, TagTarget};
use racewalk_walk::sparc64::sun4u::geometry::{HUGE_HALF, Tsb};
use racewalk_walk::sparc64::sun4u::walk::space;
use racewalk_walk::tlb::{Purge, Spaces};

impl Space {
    /// Where the TSB has the entry for an address, and the tag it has then.
    fn entry(&self, va: Vaddr) -> (Paddr, TagTarget) {
        let access = TagAccess::new(va, self.number);
        (self.tsb.pointer_8k(access), access.target().without_context())
    }
    /// Demap page, or demap context.
    fn demap(&self, va: Option<Vaddr>) -> (Option<Vaddr>, Purge) {
        let range = va.map(|v| (v, v));
        (va, Purge { range, spaces: Spaces::one(space(self.number)), ..Purge::default() })
    }
}

impl Kernel<Sparc64> {
    /// An entry changes under its table's lock: a plain store, and the flush now or before the lock is dropped.
    pub(super) fn ptep_xchg_tsb(
        &self,
        mm: &Mm<Sparc64>,
        va: Vaddr,
        pte: Paddr,
        new: u64,
        how: How<'_>,
    ) -> Result<u64> {
        point("pte.store");
        let old = self.load_u64(pte)?;
        self.store_u64(pte, new)?;
        // What is not valid was never entered.
        if Pte::from_raw(old).valid() {
            let stale = Stale { va, pte, old, slot: 0 };
            match how {
                How::Direct => self.flush_stale(mm, &[stale])?,
                How::Lazy(batch) => {
                    self.stats.flush_lazy.bump();
                    if batch.add(stale) {
                        self.flush_stale(mm, &batch.take())?;
                    }
                }
            }
        }
        Ok(old)
    }

    /// `__tsb_flush` of one address: the entry becomes invalid if it is that address's. Waits while a handler fills it.
    fn flush_tsb_entry(&self, at: Paddr, tag: TagTarget) -> Result<()> {
        loop {
            point("tsb.flush");
            self.cpus.tsb_unlocked(at);
            let found = self.load_u64(at)?;
            if found & TagTarget::LINUX_LOCK != 0 {
                continue;
            }
            if found != tag.0 || self.cas_u64(at, found, TagTarget::LINUX_INVALID)? == found {
                return Ok(());
            }
        }
    }

    /// `flush_tlb_pending`: translations through entries that have been changed go from the TSB and from all TLBs.
    pub(super) fn flush_stale(&self, mm: &Mm<Sparc64>, stale: &[Stale]) -> Result<()> {
        if stale.is_empty() {
            return Ok(());
        }
        let space = mm.context();
        // Linux takes `mm->context.lock` here: what its atomic operation orders is that the new entries are seen before the
        // TSB is looked at.
        if self.takes(Step::TsbLock) {
            tso::fence();
        }
        let flushes: Vec<u64> = stale.iter().map(|s| self.flush_noted(mm.kva(), Some(s.va))).collect();
        for s in stale {
            self.stats.flush_page.bump();
            let (at, tag) = space.entry(s.va);
            self.flush_tsb_entry(at, tag)?;
        }
        point("demap");
        let demaps: Vec<_> = stale.iter().map(|s| space.demap(Some(s.va))).collect();
        self.cpus.cross_demap(&demaps);
        for (s, flush) in stale.iter().zip(flushes) {
            self.flush_ends(mm.kva(), Some(s.va), flush);
        }
        self.sanitizer().map_or(Ok(()), |_| stale.iter().try_for_each(|s| self.check_tsb(space, s)))
    }

    /// `pmdp_collapse_flush`: unhooks the table, then flushes what it still maps (`tlb_batch_pmd_scan`).
    pub(super) fn collapse_table(&self, mm: &Mm<Sparc64>, pmd: Paddr, va: Vaddr) -> Result<()> {
        let table = Sparc64::next_table(pmd_level::<Sparc64>(), self.load_u64(pmd)?);
        self.store_u64(pmd, 0)?;
        let flush = self.flush_noted(mm.kva(), Some(va));
        let mut stale = Vec::new();
        if let Some(table) = table {
            for i in 0..pte_level::<Sparc64>().entries() {
                let pte = table.offset(i * 8);
                let old = self.load_u64(pte)?;
                if Pte::from_raw(old).valid() {
                    stale.push(Stale { va: Vaddr(va.0 + (i << Sparc64::PAGE_SHIFT)), pte, old, slot: 0 });
                }
            }
        }
        self.flush_stale(mm, &stale)?;
        self.flush_ends(mm.kva(), Some(va), flush);
        Ok(())
    }

    /// `pmdp_huge_clear_flush`: unhooks a huge page and demaps both its halves. No TSB has them.
    pub(super) fn flush_huge(&self, mm: &Mm<Sparc64>, pmd: Paddr, va: Vaddr) -> Result<()> {
        point("pmd.clear");
        self.ram.store_u64(pmd, 0)?;
        let flush = self.flush_begins(mm.kva(), Some(va));
        point("demap");
        let space = mm.context();
        self.cpus.cross_demap(&[space.demap(Some(va)), space.demap(Some(va.offset(HUGE_HALF)))]);
        self.flush_ends(mm.kva(), Some(va), flush);
        Ok(())
    }

    /// Invariant 24: after the flush the TSB has nothing for the address but what the tables have now.
    fn check_tsb(&self, space: &Space, s: &Stale) -> Result<()> {
        let (at, tag) = space.entry(s.va);
        let (found, tte) = (self.load_u64(at)?, self.load_u64(at.offset(8))?);
        if found != tag.0 || tte == self.load_u64(s.pte)? {
            return Ok(());
        }
        let found = format!(
            "the TSB entry at {:#x} still has {tte:#x} for {:#x} after its flush, which replaced {:#x}",
            at.0, s.va.0, s.old
        );
        self.broken_about(24, found, s.pte)
    }

    /// Everything of a space that no CPU runs any more: its TSB, and what it left in TLBs.
    pub(super) fn flush_context(&self, mm: &Mm<Sparc64>) -> Result<()> {
        self.stats.flush_pid.bump();
        let space = mm.context();
        let flush = self.flush_begins(mm.kva(), None);
        point("tsb.flush");
        let base = Paddr(space.tsb.0 & Tsb::BASE);
        for at in (0..TSB_BYTES).step_by(16).map(|i| base.offset(i)) {
            self.store_u64(at, TagTarget::LINUX_INVALID)?;
        }
        self.cpus.cross_demap(&[space.demap(None)]);
        self.flush_ends(mm.kva(), None, flush);
        Ok(())
    }
}

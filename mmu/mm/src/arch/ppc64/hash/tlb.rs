//! Flushing under a hashed page table: entries leave the table, then the TLBs, before the lock of the page table is dropped
//! (hosted-mm C.2, F-19; Linux's `hash__pte_update`, `flush_hash_page` and `flush_hash_range`).

use super::hpte::Page;
use super::pte::{BUSY, HASHED, Pte, SLOT, SLOT_SHIFT};
use super::{Hpt, Space};
use crate::arch::{Arch, How, PteFormat};
use crate::error::Result;
use crate::kernel::Kernel;
use crate::mm::Mm;
use crate::pgtable::{pmd_level, pte_level};
use crate::tlb_batch::Stale;
use racewalk_ram::{Paddr, Vaddr};
use racewalk_sched::{point, wait_while};

impl<const SHIFT: u32> Kernel<Hpt<SHIFT>> {
    /// Where a table of pages of 64K keeps the slots of an entry's HPTEs: as far behind it as the table is long.
    pub(super) fn slots_at(pte: Paddr) -> Paddr {
        pte.offset(pte_level::<Hpt<SHIFT>>().bytes())
    }

    /// The slot of an entry's HPTE (`__real_pte`).
    pub(super) fn slot(&self, pte: Paddr, raw: u64) -> Result<u64> {
        if SHIFT == 16 { self.load_u64(Self::slots_at(pte)) } else { Ok((raw & SLOT) >> SLOT_SHIFT) }
    }

    /// Waits while somebody is hashing the entry.
    pub(super) fn wait_busy(&self, pte: Paddr) {
        wait_while(self.word_key(pte), "pte.busy", || self.load_u64(pte).is_ok_and(|p| p & BUSY != 0));
    }

    /// An entry changes under its table's lock: an exchange once nobody is hashing it, and the flush of its HPTE now or
    /// before the lock is dropped.
    pub(super) fn ptep_xchg_hash(
        &self,
        mm: &Mm<Hpt<SHIFT>>,
        va: Vaddr,
        pte: Paddr,
        new: u64,
        how: How<'_>,
    ) -> Result<u64> {
        let old = loop {
            point("pte.xchg");
            self.wait_busy(pte);
            let old = self.load_u64(pte)?;
            if old & BUSY == 0 && self.cas_u64(pte, old, new)? == old {
                break old;
            }
        };
        if old & HASHED != 0 {
            let stale = Stale { va, pte, old, slot: self.slot(pte, old)? };
            match how {
                How::Direct => self.flush_hash(mm, &[stale])?,
                How::Lazy(batch) => {
                    self.stats.flush_lazy.bump();
                    if batch.add(stale) {
                        self.flush_hash(mm, &batch.take())?;
                    }
                }
            }
        }
        Ok(old)
    }

    /// `flush_hash_range`: the HPTEs of entries that were hashed, and what TLBs have of them.
    pub(super) fn flush_hash(&self, mm: &Mm<Hpt<SHIFT>>, stale: &[Stale]) -> Result<()> {
        if stale.is_empty() {
            return Ok(());
        }
        let Space { number } = *mm.context();
        let pages: Vec<Page> = stale.iter().map(|s| Page::new(SHIFT, number, s.va)).collect();
        let flushes: Vec<u64> = stale.iter().map(|s| self.flush_begins(mm.kva(), Some(s.va))).collect();
        for (p, s) in pages.iter().zip(stale) {
            self.stats.flush_page.bump();
            self.hpte_remove(p, s.slot)?;
        }
        self.hpte_flush(pages.iter().zip(stale.iter().map(|s| s.va)))?;
        for (s, flush) in stale.iter().zip(flushes) {
            self.flush_ends(mm.kva(), Some(s.va), flush);
        }
        if self.sanitizer().is_some() {
            for (p, s) in pages.iter().zip(stale) {
                self.check_hpt(p, s.va, s.pte, Pte::from_raw(self.load_u64(s.pte)?))?;
            }
        }
        Ok(())
    }

    /// `pmdp_collapse_flush`: unhooks the table, waits for those who are hashing entries of it (`serialize_against_pte_lookup`,
    /// F-28), and takes out what it still has hashed.
    pub(super) fn collapse_hash(&self, mm: &Mm<Hpt<SHIFT>>, pmd: Paddr, va: Vaddr) -> Result<()> {
        let table = Hpt::<SHIFT>::next_table(pmd_level::<Hpt<SHIFT>>(), self.load_u64(pmd)?);
        self.store_u64(pmd, 0)?;
        let flush = self.flush_begins(mm.kva(), Some(va));
        point("serialize");
        self.cpus.ipi_all();
        let mut stale = Vec::new();
        if let Some(table) = table {
            for i in 0..pte_level::<Hpt<SHIFT>>().entries() {
                let pte = table.offset(i * 8);
                let old = self.load_u64(pte)?;
                if old & HASHED != 0 {
                    stale.push(Stale {
                        va: Vaddr(va.0 + (i << SHIFT)),
                        pte,
                        old,
                        slot: self.slot(pte, old)?,
                    });
                }
            }
        }
        self.flush_hash(mm, &stale)?;
        self.flush_ends(mm.kva(), Some(va), flush);
        Ok(())
    }
}

//! PTE tables under their lock: `pte_offset_map_lock`.

use crate::arch::{Arch, PteFormat};
use crate::error::Result;
use crate::hold::{Held, Since};
use crate::kernel::Kernel;
use crate::layout;
use crate::lockword;
use crate::mutant::Step;
use crate::page::word;
use crate::pgtable::{pmd_level, pte_level};
use crate::rcu::RcuReader;
use crate::sanitizer::Class;
use racewalk_ram::{Paddr, Pfn, Vaddr};
use racewalk_sched::point;

/// A page table, mapped and locked: `pte_offset_map_lock`.
#[derive(Debug)]
pub(crate) struct PteLock<'a, A: Arch> {
    k: &'a Kernel<A>,
    /// The entry for the address that was asked for.
    pub(crate) pte: Paddr,
    page: Pfn,
    rcu: RcuReader<'a>,
    _since: Option<Since<'a>>,
}

impl<A: Arch> PteLock<'_, A> {
    /// The entry.
    pub(crate) fn load(&self) -> Result<A::Pte> {
        point("pte.load");
        let raw = A::peek_entry(self.k, self.pte)?;
        self.rcu.loaded(self.pte, raw)?;
        Ok(A::Pte::from_raw(raw))
    }
    /// The same without a scheduling point, unseen by the sanitizer: for entries behind the first, which change only
    /// under this lock.
    pub(super) fn peek(&self) -> Result<A::Pte> {
        Ok(A::Pte::from_raw(A::peek_entry(self.k, self.pte)?))
    }
    /// Whether another table has the same lock (the other half of the page).
    pub(super) fn shares_lock(&self, page: Pfn) -> bool {
        self.page == page
    }
}

impl<A: Arch> Drop for PteLock<'_, A> {
    fn drop(&mut self) {
        let r = self.k.kmem.pages.word(self.page, word::PTL).and_then(|w| lockword::unlock(w, "ptl"));
        if let Err(e) = r {
            self.k.report(e.at(layout::record(self.page)));
        }
    }
}

impl<A: Arch> Kernel<A> {
    /// `pte_offset_map_lock`: the entry for `va` in the table that hangs from `pmd`, with the table's lock; none if
    /// there is no table (hosted-mm C.5).
    pub(crate) fn pte_map_lock(&self, pmd: Paddr, va: Vaddr) -> Result<Option<PteLock<'_, A>>> {
        loop {
            let rcu = self.rcu_read_lock();
            let Some(table) = self.pte_table(pmd)? else { return Ok(None) };
            rcu.hold(table);
            rcu.reclass(Class::W5);
            let page = self.kmem.pages.at(table)?;
            lockword::lock(self.kmem.pages.word(page, word::PTL)?, "ptl")
                .map_err(|e| e.at(layout::record(page)))?;
            let pte = table.offset(pte_level::<A>().offset(va));
            let locked = PteLock { k: self, pte, page, rcu, _since: self.holds.begin(Held::Ptl) };
            if !self.takes(Step::MapLockRecheck) || self.pte_table(pmd)? == Some(table) {
                return Ok(Some(locked));
            }
        }
    }

    /// An unlocked look at the entry for `va`; empty if there is no table, none if the segment is a huge page.
    pub(crate) fn pte_peek(&self, pmd: Paddr, va: Vaddr) -> Result<Option<A::Pte>> {
        let rcu = self.rcu_read_lock();
        let entry = self.load_entry(pmd)?;
        if A::huge_pte(entry).is_some() {
            return Ok(None);
        }
        let Some(table) = A::next_table(pmd_level::<A>(), entry) else { return Ok(Some(A::Pte::EMPTY)) };
        rcu.hold(table);
        let at = table.offset(pte_level::<A>().offset(va));
        let pte = self.load_pte(at)?;
        rcu.loaded(at, pte.raw())?;
        Ok(Some(pte))
    }
}

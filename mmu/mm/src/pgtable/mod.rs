//! Page tables: making and finding them. The same code for every architecture's levels.

mod change;
mod lock;
mod zap;

pub(crate) use lock::PteLock;

use crate::arch::{Arch, Level, PteFormat};
use crate::error::Result;
use crate::kernel::{Kernel, PmdLocks};
use crate::lockword;
use crate::mm::{Mm, mmw};
use crate::mutant::Step;
use crate::page::word;
use crate::sanitizer::What;
use racewalk_ram::{Paddr, Vaddr};
use racewalk_sched::point;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

/// The level whose entries point to PTE tables.
pub(crate) const fn pmd_level<A: Arch>() -> usize {
    A::LEVELS.len() - 2
}

/// Bytes that a table whose entries point to PTE tables covers.
const fn above<A: Arch>() -> u64 {
    let pmd = A::LEVELS[pmd_level::<A>()];
    pmd.span() << pmd.bits
}

/// The PTE table's level.
pub(crate) const fn pte_level<A: Arch>() -> Level {
    A::LEVELS[A::LEVELS.len() - 1]
}

impl<A: Arch> Kernel<A> {
    pub(crate) fn with_lock<R>(&self, w: &AtomicU64, l: &'static str, f: impl FnOnce() -> R) -> Result<R> {
        lockword::lock(w, l)?;
        let r = f();
        lockword::unlock(w, l)?;
        Ok(r)
    }

    /// The lock of the upper table that an entry is in: `pmd_lockptr`.
    fn pmd_lock<'a>(&'a self, mm: &'a Mm<A>, pmd: Paddr) -> Result<&'a AtomicU64> {
        match self.config.pmd_locks {
            PmdLocks::Split => self.kmem.pages.word(self.pmd_page(pmd)?, word::PTL),
            PmdLocks::Space => Ok(&mm.words()?[mmw::PAGE_TABLE_LOCK]),
        }
    }

    /// Runs `f` under the lock of the upper table that `pmd` is in.
    pub(crate) fn with_pmd_lock<R>(
        &self,
        mm: &Mm<A>,
        pmd: Paddr,
        f: impl FnOnce() -> Result<R>,
    ) -> Result<R> {
        self.with_lock(self.pmd_lock(mm, pmd)?, "pmd lock", f)?
    }

    pub(crate) fn load_pte(&self, pte: Paddr) -> Result<A::Pte> {
        point("pte.load");
        Ok(A::Pte::from_raw(A::load_entry(self, pte)?))
    }

    /// Loads an entry of a table above the PTE tables.
    pub(crate) fn load_entry(&self, entry: Paddr) -> Result<u64> {
        point("pmd.load");
        if let Some(s) = self.sanitizer() {
            s.touch(entry)?;
        }
        A::load_entry(self, entry)
    }

    /// Notes that `entry` of level `level` points to `table` now, for `va` among others.
    pub(crate) fn hooked(&self, level: usize, table: Paddr, entry: Paddr, va: Vaddr) -> Result<()> {
        match self.sanitizer() {
            Some(s) => s.hook(table, entry, Vaddr(va.0 & !(A::LEVELS[level].span() - 1))),
            None => Ok(()),
        }
    }

    /// Notes that it does not any more.
    pub(crate) fn unhooked(&self, table: Paddr, entry: Paddr) -> Result<()> {
        self.sanitizer().map_or(Ok(()), |s| s.unhook(table, entry))
    }

    /// The PTE table that a PMD entry points to.
    fn pte_table(&self, pmd: Paddr) -> Result<Option<Paddr>> {
        Ok(A::next_table(pmd_level::<A>(), self.load_entry(pmd)?))
    }

    /// The entry for `va` that points, or would point, to a PTE table, if the tables above exist.
    pub(crate) fn pmd_offset(&self, mm: &Mm<A>, va: Vaddr) -> Result<Option<Paddr>> {
        self.upper_entry(mm, pmd_level::<A>(), va)
    }

    /// `pte_alloc`: makes sure that a page table hangs from `pmd`. Of two CPUs that find none, one loses and frees
    /// the table it made.
    pub(crate) fn pte_alloc(&self, mm: &Mm<A>, pmd: Paddr, va: Vaddr) -> Result<()> {
        let there = self.load_entry(pmd)?;
        if A::next_table(pmd_level::<A>(), there).is_some() || A::huge_pte(there).is_some() {
            return Ok(());
        }
        let table = self.pte_table_alloc(mm.kva())?;
        let used = self.with_lock(self.pmd_lock(mm, pmd)?, "pmd lock", || -> Result<bool> {
            // No huge page can have come: that takes mmap_lock for writing.
            if self.takes(Step::PmdRecheck) && self.pte_table(pmd)?.is_some() {
                return Ok(false);
            }
            point("pmd.populate");
            A::store_entry(self, pmd, A::table_entry(pmd_level::<A>(), table))?;
            self.hooked(pmd_level::<A>(), table, pmd, va)?;
            Ok(true)
        })??;
        if used {
            mm.words()?[mmw::NR_PTES].fetch_add(1, SeqCst);
        } else {
            self.stats.tables_lost_race.bump();
            self.pte_table_free(mm.kva(), table)?;
        }
        Ok(())
    }

    /// `tlb_remove_table_sync_one`: returns after every CPU had interrupts on.
    pub(crate) fn cross_call(&self) {
        self.stats.flush_ipi.bump();
        self.cpus.ipi_all();
        if let Some(s) = self.sanitizer() {
            s.mark(What::Ipi);
        }
    }
}

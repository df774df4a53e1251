//! Page tables: making and finding them. The same code for every architecture's levels.

mod change;
mod lock;
mod zap;

pub(crate) use lock::PteLock;

use crate::arch::{Arch, Level, PteFormat};
use crate::buddy::Gfp;
use crate::error::{Result, broken};
use crate::kernel::Kernel;
use crate::lockword;
use crate::mm::{Mm, mmw};
use crate::mutant::Step;
use crate::page::{FrameKind, flag, word};
use crate::sanitizer::{Give, What};
use racewalk_ram::{Kva, Paddr, Pfn, Vaddr};
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

/// log2 of the pages that a table of level `level` takes.
fn upper_order<A: Arch>(level: usize) -> u32 {
    (3 + A::LEVELS[level].bits).saturating_sub(A::PAGE_SHIFT)
}

impl<A: Arch> Kernel<A> {
    /// A table of level `level`, not the last: empty entries.
    pub(crate) fn upper_alloc(&self, level: usize, mm: Kva) -> Result<Paddr> {
        let order = upper_order::<A>(level);
        let page = self.alloc(order, Gfp::Kernel, FrameKind::UpperTable, A::LEVELS[level].name)?;
        self.kmem.pages.set_flag(page, flag::TABLE)?;
        lockword::init(self.kmem.pages.word(page, word::PTL)?);
        let bytes = A::LEVELS[level].bytes();
        self.fill_table(page.paddr(), bytes, A::empty(level))?;
        self.stats.upper_allocated.bump();
        self.stats.add_table_bytes(bytes);
        if let Some(s) = self.sanitizer() {
            s.alloc(page.paddr(), bytes, level, mm)?;
        }
        Ok(page.paddr())
    }

    pub(crate) fn upper_free(&self, level: usize, table: Paddr) -> Result<()> {
        let page = self.kmem.pages.at(table)?;
        if self.kmem.pages.kind(page)? != FrameKind::UpperTable || page.paddr() != table {
            return broken(1, format!("{table:?} is not a {}", A::LEVELS[level].name));
        }
        if !self.kmem.pages.put_testzero(page)? {
            return broken(7, format!("somebody holds a reference to table {table:?}"));
        }
        self.stats.upper_freed.bump();
        self.stats.table_bytes.sub(A::LEVELS[level].bytes());
        self.free(page, upper_order::<A>(level))
    }

    fn with_lock<R>(&self, w: &AtomicU64, l: &'static str, f: impl FnOnce() -> R) -> Result<R> {
        lockword::lock(w, l)?;
        let r = f();
        lockword::unlock(w, l)?;
        Ok(r)
    }

    /// The lock of the upper table that an entry is in: `pmd_lockptr`.
    fn pmd_lock(&self, pmd: Paddr) -> Result<&AtomicU64> {
        let table = Paddr(pmd.0 & !(A::LEVELS[pmd_level::<A>()].bytes() - 1));
        self.kmem.pages.word(self.kmem.pages.at(table)?, word::PTL)
    }

    /// Runs `f` under the lock of the upper table that `pmd` is in, with that table's page.
    pub(crate) fn with_pmd_lock<R>(&self, pmd: Paddr, f: impl FnOnce(Pfn) -> Result<R>) -> Result<R> {
        let table = Paddr(pmd.0 & !(A::LEVELS[pmd_level::<A>()].bytes() - 1));
        let page = self.kmem.pages.at(table)?;
        self.with_lock(self.pmd_lock(pmd)?, "pmd lock", || f(page))?
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
    fn hooked(&self, level: usize, table: Paddr, entry: Paddr, va: Vaddr) -> Result<()> {
        match self.sanitizer() {
            Some(s) => s.hook(table, entry, Vaddr(va.0 & !(A::LEVELS[level].span() - 1))),
            None => Ok(()),
        }
    }

    /// Notes that it does not any more.
    fn unhooked(&self, table: Paddr, entry: Paddr) -> Result<()> {
        self.sanitizer().map_or(Ok(()), |s| s.unhook(table, entry))
    }

    /// The PTE table that a PMD entry points to.
    fn pte_table(&self, pmd: Paddr) -> Result<Option<Paddr>> {
        Ok(A::next_table(pmd_level::<A>(), self.load_entry(pmd)?))
    }

    /// The entry of level `level` for `va`, if all tables above exist.
    fn upper_entry(&self, mm: &Mm<A>, level: usize, va: Vaddr) -> Result<Option<Paddr>> {
        if va.0 >= A::TASK_SIZE {
            return Ok(None);
        }
        let mut table = mm.pgd();
        for (i, l) in A::LEVELS[..level].iter().enumerate() {
            match A::next_table(i, self.load_entry(table.offset(l.offset(va)))?) {
                Some(next) => table = next,
                None => return Ok(None),
            }
        }
        Ok(Some(table.offset(A::LEVELS[level].offset(va))))
    }

    /// The entry for `va` that points, or would point, to a PTE table, if the tables above exist.
    pub(crate) fn pmd_offset(&self, mm: &Mm<A>, va: Vaddr) -> Result<Option<Paddr>> {
        self.upper_entry(mm, pmd_level::<A>(), va)
    }

    /// Like [`pmd_offset`](Self::pmd_offset), but makes the tables.
    pub(crate) fn pmd_alloc(&self, mm: &Mm<A>, va: Vaddr) -> Result<Paddr> {
        let mut entry = mm.pgd().offset(A::LEVELS[0].offset(va));
        for level in 0..pmd_level::<A>() {
            let table = match A::next_table(level, self.load_entry(entry)?) {
                Some(t) => t,
                None => self.upper_populate(mm, level, entry, va)?,
            };
            entry = table.offset(A::LEVELS[level + 1].offset(va));
        }
        Ok(entry)
    }

    /// Hooks a new table into `entry`, unless somebody else did: then the new one is given back.
    fn upper_populate(&self, mm: &Mm<A>, level: usize, entry: Paddr, va: Vaddr) -> Result<Paddr> {
        let table = self.upper_alloc(level + 1, mm.kva())?;
        let lock = &mm.words()?[mmw::PAGE_TABLE_LOCK];
        let there = self.with_lock(lock, "page_table_lock", || -> Result<Option<Paddr>> {
            let there = A::next_table(level, self.load_entry(entry)?);
            if there.is_none() {
                point("upper.populate");
                A::store_entry(self, entry, A::table_entry(level, table))?;
                self.hooked(level, table, entry, va)?;
            }
            Ok(there)
        })??;
        if let Some(there) = there {
            self.upper_dtor(table)?;
            if let Some(s) = self.sanitizer() {
                s.give(table, Give::Now)?;
            }
            self.upper_free(level + 1, table)?;
            return Ok(there);
        }
        Ok(table)
    }

    /// Rule 7: the lock of an upper table goes before the grace period.
    fn upper_dtor(&self, table: Paddr) -> Result<()> {
        lockword::destroy(self.kmem.pages.word(self.kmem.pages.at(table)?, word::PTL)?, "pmd lock")
    }

    /// `pte_alloc`: makes sure that a page table hangs from `pmd`. Of two CPUs that find none, one loses and frees
    /// the table it made.
    pub(crate) fn pte_alloc(&self, mm: &Mm<A>, pmd: Paddr, va: Vaddr) -> Result<()> {
        if self.pte_table(pmd)?.is_some() {
            return Ok(());
        }
        let table = self.pte_table_alloc(mm.kva())?;
        let used = self.with_lock(self.pmd_lock(pmd)?, "pmd lock", || -> Result<bool> {
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

//! Tables above the PTE tables: making, finding and giving them back.

use crate::arch::Arch;
use crate::buddy::Gfp;
use crate::error::{Result, broken_at};
use crate::frag::PmdFrag;
use crate::kernel::Kernel;
use crate::layout;
use crate::lockword;
use crate::mm::{Mm, mmw};
use crate::page::{FrameKind, flag, word};
use crate::pgtable::pmd_level;
use crate::sanitizer::Give;
use racewalk_ram::{Kva, Paddr, Vaddr};
use racewalk_sched::point;

/// log2 of the pages that a table of level `level` takes.
fn upper_order<A: Arch>(level: usize) -> u32 {
    (3 + A::LEVELS[level].bits).saturating_sub(A::PAGE_SHIFT)
}

impl<A: Arch> Kernel<A> {
    /// How tables of a level are made, if the scheme cuts them from pages.
    fn pmds(&self, level: usize) -> Option<&dyn PmdFrag<A>> {
        if level == pmd_level::<A>() { self.frag.pmds() } else { None }
    }

    /// A table of level `level`, not the last: empty entries.
    pub(crate) fn upper_alloc(&self, level: usize, mm: Kva) -> Result<Paddr> {
        let bytes = A::LEVELS[level].bytes();
        if let Some(pmds) = self.pmds(level) {
            let table = pmds.alloc(self, mm)?;
            self.stats.upper_allocated.bump();
            if let Some(s) = self.sanitizer() {
                s.alloc(table, bytes, level, mm)?;
            }
            return Ok(table);
        }
        let order = upper_order::<A>(level);
        let page = self.alloc(order, Gfp::Kernel, FrameKind::UpperTable, A::LEVELS[level].name)?;
        self.kmem.pages.set_flag(page, flag::TABLE)?;
        lockword::init(self.kmem.pages.word(page, word::PTL)?);
        self.fill_table(page.paddr(), bytes, A::empty(level))?;
        self.stats.upper_allocated.bump();
        self.stats.add_table_bytes(bytes);
        if let Some(s) = self.sanitizer() {
            s.alloc(page.paddr(), bytes, level, mm)?;
        }
        Ok(page.paddr())
    }

    /// Gives a table of level `level` back that no walker can reach.
    pub(crate) fn upper_free(&self, level: usize, table: Paddr) -> Result<()> {
        if let Some(pmds) = self.pmds(level) {
            return pmds.free(self, table);
        }
        let page = self.kmem.pages.at(table)?;
        if self.kmem.pages.kind(page)? != FrameKind::UpperTable || page.paddr() != table {
            return broken_at(
                1,
                layout::direct(table),
                format!("{table:?} is not a {}", A::LEVELS[level].name),
            );
        }
        if !self.kmem.pages.put_testzero(page)? {
            return broken_at(
                7,
                layout::direct(table),
                format!("somebody holds a reference to table {table:?}"),
            );
        }
        self.stats.upper_freed.bump();
        self.stats.table_bytes.sub(A::LEVELS[level].bytes());
        self.free(page, upper_order::<A>(level))
    }

    /// The entry of level `level` for `va`, if all tables above exist.
    pub(crate) fn upper_entry(&self, mm: &Mm<A>, level: usize, va: Vaddr) -> Result<Option<Paddr>> {
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
            self.upper_dtor(level + 1, table)?;
            if let Some(s) = self.sanitizer() {
                s.give(table, Give::Now)?;
            }
            self.upper_free(level + 1, table)?;
            return Ok(there);
        }
        Ok(table)
    }

    /// Rule 7: the lock of an upper table goes before the grace period, but for one that tables share.
    pub(crate) fn upper_dtor(&self, level: usize, table: Paddr) -> Result<()> {
        if level == pmd_level::<A>() {
            self.no_deposits(table)?;
        }
        if self.pmds(level).is_some() {
            return Ok(());
        }
        lockword::destroy(self.kmem.pages.word(self.kmem.pages.at(table)?, word::PTL)?, "pmd lock")
    }
}

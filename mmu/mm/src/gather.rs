//! mmu_gather: what an unmap frees, in the golden order unhook, invalidate, free (hosted-mm C.1).

use crate::arch::Arch;
use crate::buddy::Gfp;
use crate::error::{Result, broken_at};
use crate::kernel::{GatherMode, Kernel};
use crate::layout;
use crate::mm::Mm;
use crate::mutant::Step;
use crate::page::FrameKind;
use crate::rcu::RcuFunc;
use crate::sanitizer::Give;
use racewalk_ram::{Kva, Paddr, Pfn};
use racewalk_sched::point;

/// Tables that fit a batch page: `rcu_head` (16 bytes), count (8), then the tags.
const fn batch_max<A: Arch>() -> u64 {
    ((1 << A::PAGE_SHIFT) - 24) / 8
}
/// Pages that a batched gather holds before it flushes.
const PAGES_MAX: usize = 512;

/// Bits 3–2 of a batch's entry: the level of a table above the PTE tables; zero for those, which the fragment
/// scheme tags as it likes.
const UPPER_SHIFT: u32 = 2;

/// `mmu_table_batch`: tables on their way through the flush and a grace period.
#[derive(Debug)]
pub struct TableBatch<'a, A: Arch> {
    mm: &'a Mm<A>,
    page: Option<Pfn>,
    nr: u64,
}

impl<'a, A: Arch> TableBatch<'a, A> {
    pub(crate) fn new(mm: &'a Mm<A>) -> Self {
        TableBatch { mm, page: None, nr: 0 }
    }

    /// `tlb_remove_table`: takes an unhooked table. Without memory for a batch page: flush, cross call, free — which
    /// is no grace period (hosted-mm A.9, F-13).
    pub(crate) fn remove_table(&mut self, k: &Kernel<A>, tag: u64) -> Result<()> {
        let page = match self.page {
            Some(p) => p,
            None => match k.alloc(0, Gfp::Nowait, FrameKind::TableBatch, "a batch of page tables") {
                Ok(p) => {
                    self.nr = 0;
                    *self.page.insert(p)
                }
                Err(e) if e.is_finding() => return Err(e),
                Err(_) => {
                    if k.takes(Step::TableFlushNow) {
                        A::table_invalidate(k, self.mm)?;
                    }
                    if k.takes(Step::TableIpi) {
                        k.cross_call();
                    }
                    return k.tlb_remove_table(tag);
                }
            },
        };
        k.kmem.store(batch_word(page, 3 + self.nr), tag, "a table batch")?;
        self.nr += 1;
        if self.nr == batch_max::<A>() { self.flush(k) } else { Ok(()) }
    }

    /// `tlb_table_flush`: the flush, then the grace period of what was gathered.
    pub(crate) fn flush(&mut self, k: &Kernel<A>) -> Result<()> {
        let Some(page) = self.page.take() else { return Ok(()) };
        if k.takes(Step::TableFlush) {
            A::table_invalidate(k, self.mm)?;
        }
        k.kmem.store(batch_word(page, 2), self.nr, "a table batch")?;
        match k.takes(Step::TableGrace) {
            true => k.call_rcu(batch_word(page, 0), RcuFunc::TlbRemoveTable),
            false => k.tlb_remove_table_rcu(batch_word(page, 0)),
        }
    }
}

fn batch_word(page: Pfn, i: u64) -> Kva {
    layout::direct(page.paddr().offset(i * 8))
}

impl<A: Arch> Kernel<A> {
    /// `__tlb_remove_table`: the batch that `tag` was put on is past its flush and grace period.
    fn tlb_remove_table(&self, tag: u64) -> Result<()> {
        match (tag >> UPPER_SHIFT & 3) as usize {
            0 => self.frag.remove_table(self, tag),
            level => self.upper_free(level, Paddr(tag & !(3 << UPPER_SHIFT))),
        }
    }

    /// `tlb_remove_table_rcu`: the callback of a batch.
    pub(crate) fn tlb_remove_table_rcu(&self, head: Kva) -> Result<()> {
        let page = self.kmem.pages.at(Paddr(head.0))?;
        let nr = self.kmem.load(batch_word(page, 2), "a table batch")?;
        if head.0 & (self.page_size() - 1) != 0
            || nr > batch_max::<A>()
            || self.kmem.pages.kind(page)? != FrameKind::TableBatch
        {
            return broken_at(4, head, format!("{head:?} is not a batch of page tables"));
        }
        for i in 0..nr {
            self.tlb_remove_table(self.kmem.load(batch_word(page, 3 + i), "a table batch")?)?;
        }
        self.free(page, 0)
    }
}

/// What one unmap operation has taken away and not yet freed.
#[derive(Debug)]
pub(crate) struct Gather<'a, A: Arch> {
    k: &'a Kernel<A>,
    mm: &'a Mm<A>,
    batch: TableBatch<'a, A>,
    pages: Vec<Pfn>,
}

impl<'a, A: Arch> Gather<'a, A> {
    /// `tlb_gather_mmu`.
    pub(crate) fn new(k: &'a Kernel<A>, mm: &'a Mm<A>) -> Self {
        Gather { k, mm, batch: TableBatch::new(mm), pages: Vec::new() }
    }

    /// Takes a page whose entry is gone.
    pub(crate) fn remove_page(&mut self, page: Pfn) -> Result<()> {
        match self.k.config.gather {
            GatherMode::NoGather => self.k.put_page(page)?,
            GatherMode::Batched => self.pages.push(page),
        }
        Ok(())
    }

    /// Whether the caller must drop its locks and flush.
    pub(crate) fn is_full(&self) -> bool {
        self.pages.len() >= PAGES_MAX
    }

    /// Takes an unhooked PTE table.
    pub(crate) fn remove_pte_table(&mut self, table: Paddr) -> Result<()> {
        point("gather.pte_table");
        A::mark_freed_tables(self.k, self.mm)?;
        self.k.pte_table_free_rcu(self.mm.kva(), table, &mut self.batch)
    }

    /// Takes an unhooked table above the PTE tables.
    pub(crate) fn remove_upper(&mut self, level: usize, table: Paddr) -> Result<()> {
        point("gather.upper");
        A::mark_freed_tables(self.k, self.mm)?;
        if let Some(s) = self.k.sanitizer() {
            s.give(table, Give::Gather)?;
        }
        self.batch.remove_table(self.k, table.0 | (level as u64) << UPPER_SHIFT)
    }

    /// `tlb_flush_mmu`: invalidates, then frees.
    pub(crate) fn flush(&mut self) -> Result<()> {
        self.batch.flush(self.k)?;
        if self.k.takes(Step::TableFlush) {
            A::flush_mm_lazy(self.k, self.mm)?;
        }
        for p in std::mem::take(&mut self.pages) {
            self.k.put_page(p)?;
        }
        Ok(())
    }
}

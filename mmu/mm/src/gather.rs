//! mmu_gather: what an unmap frees, in the golden order unhook, invalidate, free (hosted-mm C.1).

use crate::buddy::Gfp;
use crate::error::{Result, broken};
use crate::kernel::{GatherMode, Kernel};
use crate::layout;
use crate::mm::Mm;
use crate::page::FrameKind;
use crate::rcu::RcuFunc;
use racewalk_ram::{Kva, PAGE_SIZE, Paddr, Pfn};
use racewalk_sched::point;

/// Tables that fit a batch page: `rcu_head` (16 bytes), count (8), then the tags.
const BATCH_MAX: u64 = (PAGE_SIZE - 24) / 8;
/// Pages that a batched gather holds before it flushes.
const PAGES_MAX: usize = 512;

/// `mmu_table_batch`: tables on their way through the flush and a grace period.
#[derive(Debug)]
pub(crate) struct TableBatch<'a> {
    mm: &'a Mm,
    page: Option<Pfn>,
    nr: u64,
}

impl<'a> TableBatch<'a> {
    pub(crate) fn new(mm: &'a Mm) -> Self {
        TableBatch { mm, page: None, nr: 0 }
    }

    /// `tlb_remove_table`: takes an unhooked table. Without memory for a batch page: flush, cross call, free — which
    /// is no grace period (hosted-mm A.9, F-13).
    pub(crate) fn remove_table(&mut self, k: &Kernel, tag: u64) -> Result<()> {
        let page = match self.page {
            Some(p) => p,
            None => match k.alloc(0, Gfp::Nowait, FrameKind::TableBatch, "a batch of page tables") {
                Ok(p) => {
                    self.nr = 0;
                    *self.page.insert(p)
                }
                Err(e) if e.is_finding() => return Err(e),
                Err(_) => {
                    k.tlb_table_invalidate(self.mm)?;
                    k.stats.flush_ipi.bump();
                    k.cpus.ipi_all();
                    return k.frag.remove_table(k, tag);
                }
            },
        };
        k.kmem.store(batch_word(page, 3 + self.nr), tag, "a table batch")?;
        self.nr += 1;
        if self.nr == BATCH_MAX { self.flush(k) } else { Ok(()) }
    }

    /// `tlb_table_flush`: the flush, then the grace period of what was gathered.
    pub(crate) fn flush(&mut self, k: &Kernel) -> Result<()> {
        let Some(page) = self.page.take() else { return Ok(()) };
        k.tlb_table_invalidate(self.mm)?;
        k.kmem.store(batch_word(page, 2), self.nr, "a table batch")?;
        k.call_rcu(batch_word(page, 0), RcuFunc::TlbRemoveTable)
    }
}

fn batch_word(page: Pfn, i: u64) -> Kva {
    layout::direct(page.paddr().offset(i * 8))
}

impl Kernel {
    /// `tlb_remove_table_rcu`: the callback of a batch.
    pub(crate) fn tlb_remove_table_rcu(&self, head: Kva) -> Result<()> {
        let page = self.kmem.pages.at(Paddr(head.0))?;
        let nr = self.kmem.load(batch_word(page, 2), "a table batch")?;
        if head.0 & 0xfff != 0 || nr > BATCH_MAX || self.kmem.pages.kind(page)? != FrameKind::TableBatch {
            return broken(4, format!("{head:?} is not a batch of page tables"));
        }
        for i in 0..nr {
            self.frag.remove_table(self, self.kmem.load(batch_word(page, 3 + i), "a table batch")?)?;
        }
        self.free(page, 0)
    }

    /// `pte_free_now`: the callback of a page whose tables were deferred.
    pub(crate) fn pte_free_now(&self, page: Pfn) -> Result<()> {
        self.frag.release(self, page)
    }
}

/// What one unmap operation has taken away and not yet freed.
#[derive(Debug)]
pub(crate) struct Gather<'a> {
    k: &'a Kernel,
    mm: &'a Mm,
    batch: TableBatch<'a>,
    pages: Vec<Pfn>,
}

impl<'a> Gather<'a> {
    /// `tlb_gather_mmu`.
    pub(crate) fn new(k: &'a Kernel, mm: &'a Mm) -> Self {
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
        self.k.mark_freed_tables(self.mm)?;
        self.k.frag.free_rcu(self.k, self.mm.kva(), table, &mut self.batch)
    }

    /// Takes an unhooked segment or region table.
    pub(crate) fn remove_crst(&mut self, table: Paddr) -> Result<()> {
        point("gather.crst");
        self.k.mark_freed_tables(self.mm)?;
        self.batch.remove_table(self.k, table.0)
    }

    /// `tlb_flush_mmu`: invalidates, then frees.
    pub(crate) fn flush(&mut self) -> Result<()> {
        self.batch.flush(self.k)?;
        self.k.flush_mm_lazy(self.mm)?;
        for p in std::mem::take(&mut self.pages) {
            self.k.put_page(p)?;
        }
        Ok(())
    }
}

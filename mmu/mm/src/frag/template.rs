//! `NAME`: what it does, in a sentence (where it was posted, or where it is described).
//!
//! It begins as the simplest scheme that is right: a page for each table, and its `rcu_head` for the deferral. Say here
//! which flaw it has, if one is known: the interleaving, and what goes wrong.

use crate::arch::Arch;
use crate::error::{Result, broken};
use crate::frag::Frag;
use crate::gather::TableBatch;
use crate::kernel::Kernel;
use crate::mm::Mm;
use crate::page::{FrameKind, Pages};
use crate::rcu::RcuFunc;
use racewalk_ram::{Kva, Paddr, Pfn};
use racewalk_sched::point;

/// The scheme.
#[derive(Clone)]
pub(crate) struct Template;

/// The page of a table; anything else was never handed out.
fn page_of<A: Arch>(k: &Kernel<A>, table: Paddr) -> Result<Pfn> {
    let page = k.kmem.pages.at(table)?;
    if k.kmem.pages.kind(page)? != FrameKind::PteTables || page.paddr() != table {
        return k.broken_about(1, format!("{:#x} is not a PTE table", table.0), table);
    }
    Ok(page)
}

/// Nobody can reach the page any more.
fn release<A: Arch>(k: &Kernel<A>, page: Pfn) -> Result<()> {
    // Every step that another CPU can come between is a scheduling point with a name.
    point("template.release");
    k.stats.tables_freed.bump();
    k.table_dtor(page)?;
    k.table_page_free(page)
}

impl<A: Arch> Frag<A> for Template {
    /// `pte_alloc_one`. Where tables share pages: look for a free part first, `k.stats.tables_reused.bump()` if there is one.
    fn alloc(&self, k: &Kernel<A>, mm: Kva) -> Result<Paddr> {
        k.table_page(mm).map(|p| p.paddr())
    }

    /// `pte_free`: no walker can reach the table.
    fn free(&self, k: &Kernel<A>, _mm: Kva, table: Paddr) -> Result<()> {
        release(k, page_of(k, table)?)
    }

    /// `pte_free_tlb`: unhooked, but not flushed yet. The low two bits of a batch's tag are the scheme's own.
    fn free_rcu(&self, k: &Kernel<A>, _mm: Kva, table: Paddr, batch: &mut TableBatch<'_, A>) -> Result<()> {
        batch.remove_table(k, page_of(k, table)?.paddr().0)
    }

    /// `__tlb_remove_table`: the batch with this tag is past its flush and its grace period.
    fn remove_table(&self, k: &Kernel<A>, tag: u64) -> Result<()> {
        release(k, page_of(k, Paddr(tag))?)
    }

    /// `pte_free_defer`: readers under RCU may be inside. `page->rcu_head` overlays `page->lru`.
    fn free_defer(&self, k: &Kernel<A>, _mm: &Mm<A>, table: Paddr) -> Result<()> {
        k.call_rcu(Pages::lru(page_of(k, table)?), RcuFunc::Scheme(0))
    }

    /// The callback, by the number that was queued.
    fn callback(&self, k: &Kernel<A>, which: u8, head: Kva) -> Result<()> {
        match which {
            0 => release(k, k.kmem.pages.frame_of(head, 8)?),
            _ => broken(4, format!("callback {which}, which nobody queued")),
        }
    }
}

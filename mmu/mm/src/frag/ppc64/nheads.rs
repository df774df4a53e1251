//! `ppc-nheads`: one `rcu_head` to a fragment (hosted-mm A.3). Correct; it costs memory: here a page of heads beside each
//! page of tables.

#[cfg(test)]
use super::fragments::list_lock;
use super::fragments::{add, alloc, page_of, piece, release, rest, set};
use crate::arch::Arch;
use crate::buddy::Gfp;
use crate::error::{Result, broken};
use crate::frag::Frag;
use crate::gather::TableBatch;
use crate::kernel::Kernel;
use crate::layout;
use crate::mm::Mm;
use crate::page::{FrameKind, word};
use crate::rcu::RcuFunc;
use racewalk_ram::{Kva, Paddr, Pfn};
use std::sync::atomic::Ordering::SeqCst;

/// The scheme.
#[derive(Clone)]
pub(super) struct NHeads;

/// Bytes of a head.
const HEAD: u64 = 16;

/// The heads come with the page, before the cursor points into it: others use its fragments from then on.
fn begin<A: Arch>(k: &Kernel<A>, page: Pfn, n: u64) -> Result<()> {
    let named = k.kmem.pages.word(page, word::MAPPING)?;
    if named.load(SeqCst) == 0 {
        let heads = k.alloc(0, Gfp::Kernel, FrameKind::TableBatch, "heads of page tables")?;
        k.kmem.pages.word(heads, word::MAPPING)?.store(page.paddr().0, SeqCst);
        named.store(heads.paddr().0, SeqCst);
    }
    set(k, page, n, "pte_fragment_alloc")
}

/// The page of heads: named by the `mapping` word, which pages of tables do not use.
fn heads<A: Arch>(k: &Kernel<A>, page: Pfn) -> Result<Pfn> {
    k.kmem.pages.at(Paddr(k.kmem.pages.word(page, word::MAPPING)?.load(SeqCst)))
}

impl NHeads {
    fn free_page<A: Arch>(&self, k: &Kernel<A>, page: Pfn) -> Result<()> {
        let heads = heads(k, page)?;
        release(k, page)?;
        k.free(heads, 0)
    }
    fn give<A: Arch>(&self, k: &Kernel<A>, table: Paddr, by: &'static str) -> Result<()> {
        let page = page_of(k, table)?;
        k.stats.tables_freed.bump();
        if add(k, page, -1, by)? == 0 { self.free_page(k, page) } else { Ok(()) }
    }
}

impl<A: Arch> Frag<A> for NHeads {
    fn alloc(&self, k: &Kernel<A>, mm: Kva) -> Result<Paddr> {
        alloc(k, mm, begin)
    }

    fn free(&self, k: &Kernel<A>, _mm: Kva, table: Paddr) -> Result<()> {
        self.give(k, table, "pte_fragment_free")
    }

    fn free_rcu(&self, k: &Kernel<A>, _mm: Kva, table: Paddr, batch: &mut TableBatch<'_, A>) -> Result<()> {
        batch.remove_table(k, table.0)
    }

    fn free_defer(&self, k: &Kernel<A>, _mm: &Mm<A>, table: Paddr) -> Result<()> {
        let heads = heads(k, page_of(k, table)?)?;
        let head = layout::direct(heads.paddr().offset(piece::<A>(table) * HEAD));
        k.call_rcu(head, RcuFunc::Scheme(0))
    }

    fn remove_table(&self, k: &Kernel<A>, tag: u64) -> Result<()> {
        self.give(k, Paddr(tag), "__tlb_remove_table")
    }

    fn mm_exit(&self, k: &Kernel<A>, mm: Kva) -> Result<()> {
        let Some((page, n)) = rest(k, mm)? else { return Ok(()) };
        if add(k, page, -(n as i64), "pte_frag_destroy")? == 0 {
            self.free_page(k, page)?;
        }
        Ok(())
    }

    #[cfg(test)]
    fn lock<'a>(&'a self, k: &'a Kernel<A>, mm: Kva) -> Result<&'a std::sync::atomic::AtomicU64> {
        list_lock(k, mm)
    }

    fn callback(&self, k: &Kernel<A>, which: u8, head: Kva) -> Result<()> {
        if which != 0 {
            return broken(4, format!("callback {which} of a page of heads"));
        }
        let heads = k.kmem.pages.at(Paddr(head.0))?;
        let page = Paddr(k.kmem.pages.word(heads, word::MAPPING)?.load(SeqCst));
        let n = (head.0 - heads.paddr().0) / HEAD;
        self.give(k, page.offset(n * A::FRAGMENT), "pte_free_now")
    }
}

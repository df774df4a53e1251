//! `s390-rush`, the "grossest patch" (hosted-mm S390-RUSH): the node of the free list lies in the first two doublewords
//! of the free half itself, so that `page->rcu_head` is not overlaid by a list.
//!
//! Flaw (F-03b): `list_add` writes into a table before its flush and its grace period. The node's address looks to the
//! hardware like a valid, writable entry. How the patch deferred a half is not recorded; here as in `s390-66`.

use super::halves::*;
use super::v61::{LEGAL, finish_byte};
use crate::arch::{Arch, S390x};
use crate::error::Result;
use crate::frag::Frag;
use crate::gather::TableBatch;
use crate::layout;
use crate::mm::Mm;
use crate::page::{Pages, flag};
use crate::rcu::RcuFunc;
use racewalk_ram::{Kva, Paddr, Pfn};
use racewalk_sched::{observe, point};

/// The scheme.
#[derive(Clone)]
pub(super) struct Rush;

fn node(page: Pfn, half: u32) -> Kva {
    layout::direct(table_of(page, half))
}

/// Takes a free half off the list, and makes its first two entries invalid again.
fn unlink(k: &K, page: Pfn, half: u32) -> Result<()> {
    let n = node(page, half);
    k.kmem.list_del_init(n)?;
    for i in 0..2 {
        k.kmem.store(Kva(n.0 + 8 * i), S390x::empty(2), "a page table")?;
    }
    Ok(())
}

impl Rush {
    fn retire(&self, k: &K, mm: Kva, table: Paddr, tail: bool, by: &'static str) -> Result<()> {
        let (page, bit) = (page_of(k, table)?, half(table));
        locked(k, mm, || {
            let byte = change(k, page, (A | P) << bit, LEGAL, by)?;
            let active = active(k, page)?;
            let other = 1 - bit;
            if byte & AA != 0 {
                // The sibling is in use, so it is not on the list.
                return match (active, tail, node(page, bit)) {
                    (true, ..) => Ok(()),
                    (false, true, n) => k.kmem.list_add_tail(n, list_head(mm)),
                    (false, false, n) => k.kmem.list_add(n, list_head(mm)),
                };
            }
            // The sibling is on the list if its first entry is a link.
            let listed = k.kmem.load(node(page, other), "a page table")? != S390x::empty(2);
            observe(listed.into());
            if listed { unlink(k, page, other) } else { Ok(()) }
        })
    }

    fn finish(&self, k: &K, page: Pfn, bit: u32, by: &'static str) -> Result<()> {
        if finish_byte(k, page, bit, Step::PendingFree, by)? != 0 {
            return Ok(());
        }
        if take_active(k, page)? {
            k.call_rcu(Pages::lru(page), RcuFunc::Scheme(0))
        } else {
            release(k, page)
        }
    }
}

impl Frag<S390x> for Rush {
    fn alloc(&self, k: &K, mm: Kva) -> Result<Paddr> {
        let found = locked(k, mm, || {
            let Some(n) = k.kmem.list_first(list_head(mm))? else { return Ok(None) };
            let table = Paddr(n.0);
            let (page, bit) = (page_of(k, table)?, half(table));
            let byte = k.kmem.pages.table_byte(page)?;
            observe(byte.into());
            if (byte | byte >> 4) & AA == AA {
                return Ok(None);
            }
            change(k, page, A << bit, LEGAL, "page_table_alloc")?;
            unlink(k, page, bit)?;
            k.stats.tables_reused.bump();
            Ok(Some(table))
        })?;
        if let Some(t) = found {
            return Ok(t);
        }
        let page = fresh(k, mm, LEGAL)?;
        locked(k, mm, || k.kmem.list_add(node(page, 1), list_head(mm)))?;
        Ok(page.paddr())
    }

    fn free(&self, k: &K, mm: Kva, table: Paddr) -> Result<()> {
        const BY: &str = "page_table_free";
        self.retire(k, mm, table, false, BY)?;
        k.stats.tables_freed.bump();
        self.finish(k, page_of(k, table)?, half(table), BY)
    }

    fn free_rcu(&self, k: &K, mm: Kva, table: Paddr, batch: &mut TableBatch<'_, S390x>) -> Result<()> {
        self.retire(k, mm, table, true, "page_table_free_rcu")?;
        batch.remove_table(k, tag(table))
    }

    fn free_defer(&self, k: &K, mm: &Mm, table: Paddr) -> Result<()> {
        point("frag.set_active");
        k.kmem.pages.set_flag(page_of(k, table)?, flag::ACTIVE)?;
        self.free(k, mm.kva(), table)
    }

    fn remove_table(&self, k: &K, tag: u64) -> Result<()> {
        let (page, bit) = untag(k, tag)?;
        k.stats.tables_freed.bump();
        self.finish(k, page, bit, "__tlb_remove_table")
    }

    #[cfg(test)]
    fn lock<'a>(&'a self, k: &'a K, mm: Kva) -> Result<&'a std::sync::atomic::AtomicU64> {
        list_lock(k, mm)
    }

    fn callback(&self, k: &K, _which: u8, head: Kva) -> Result<()> {
        release(k, k.kmem.pages.frame_of(head, 8)?)
    }
}

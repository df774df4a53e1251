//! `s390-66`, what landed in Linux 6.6 (hosted-mm S390-66, B.2): a page one of whose halves went through
//! `pte_free_defer` is Active; neither half is used again, and the page is freed after a grace period. No flaw is known;
//! it costs memory.

use super::halves::*;
use super::v61::{LEGAL, finish_byte, retired, reuse};
use crate::arch::S390x;
use crate::error::{Result, broken_at};
use crate::frag::Frag;
use crate::gather::TableBatch;
use crate::mm::Mm;
use crate::page::{Pages, flag};
use crate::rcu::RcuFunc;
use racewalk_ram::{Kva, Paddr, Pfn};
use racewalk_sched::point;

/// The scheme.
#[derive(Clone)]
pub(super) struct V66 {
    /// See [`Frag::collapse_excludes`].
    pub(super) excludes: bool,
}

impl V66 {
    /// The common first step of both frees: A and P of the half change, and the page's place on the list with them.
    fn retire(&self, k: &K, mm: Kva, table: Paddr, step: Step, tail: bool, by: &'static str) -> Result<()> {
        let (page, bit) = (page_of(k, table)?, half(table));
        locked(k, mm, || {
            let byte = change(k, page, retired(k, step) << bit, LEGAL, by)?;
            let node = Pages::lru(page);
            let active = k.takes(Step::ActiveLook) && active(k, page)?;
            if byte & AA == 0 || active {
                if k.takes(Step::ListDelEmpty) { k.kmem.list_del_init(node) } else { Ok(()) }
            } else if tail {
                k.kmem.list_add_tail(node, list_head(mm))
            } else {
                k.kmem.list_add(node, list_head(mm))
            }
        })
    }

    /// The last step: P of the half goes; whoever empties the byte frees the page.
    fn finish(&self, k: &K, page: Pfn, bit: u32, step: Step, by: &'static str) -> Result<()> {
        if finish_byte(k, page, bit, step, by)? != 0 {
            return Ok(());
        }
        if !k.kmem.list_empty(Pages::lru(page))? {
            return broken_at(14, Pages::lru(page), format!("{page:?} is freed while it is on a list"));
        }
        if take_active(k, page)? && k.takes(Step::ActiveGrace) {
            k.call_rcu(Pages::lru(page), RcuFunc::Scheme(0))
        } else {
            release(k, page)
        }
    }
}

impl Frag<S390x> for V66 {
    fn alloc(&self, k: &K, mm: Kva) -> Result<Paddr> {
        if let Some(t) = locked(k, mm, || reuse(k, mm, true))? {
            return Ok(t);
        }
        let page = fresh(k, mm, LEGAL)?;
        locked(k, mm, || k.kmem.list_add(Pages::lru(page), list_head(mm)))?;
        Ok(page.paddr())
    }

    fn free(&self, k: &K, mm: Kva, table: Paddr) -> Result<()> {
        self.retire(k, mm, table, Step::PendingFree, false, "page_table_free")?;
        k.stats.tables_freed.bump();
        self.finish(k, page_of(k, table)?, half(table), Step::PendingFree, "page_table_free")
    }

    fn free_rcu(&self, k: &K, mm: Kva, table: Paddr, batch: &mut TableBatch<'_, S390x>) -> Result<()> {
        self.retire(k, mm, table, Step::PendingFreeRcu, true, "page_table_free_rcu")?;
        batch.remove_table(k, tag(table))
    }

    fn free_defer(&self, k: &K, mm: &Mm, table: Paddr) -> Result<()> {
        let page = page_of(k, table)?;
        point("frag.set_active");
        if k.takes(Step::ActiveSet) {
            k.kmem.pages.set_flag(page, flag::ACTIVE)?;
        }
        self.free(k, mm.kva(), table)
    }

    fn collapse_excludes(&self) -> bool {
        self.excludes
    }

    fn remove_table(&self, k: &K, tag: u64) -> Result<()> {
        let (page, bit) = untag(k, tag)?;
        k.stats.tables_freed.bump();
        self.finish(k, page, bit, Step::PendingFreeRcu, "__tlb_remove_table")
    }

    #[cfg(test)]
    fn lock<'a>(&'a self, k: &'a K, mm: Kva) -> Result<&'a std::sync::atomic::AtomicU64> {
        list_lock(k, mm)
    }

    fn callback(&self, k: &K, _which: u8, head: Kva) -> Result<()> {
        release(k, k.kmem.pages.frame_of(head, 8)?)
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::boot;

    #[test]
    fn illegal_steps_are_findings() {
        let (k, _) = boot(1);
        let mm = k.mm_create().unwrap();
        let t = k.frag.alloc(&k, mm.kva()).unwrap();
        k.frag.free(&k, mm.kva(), t).unwrap();
        assert!(k.frag.free(&k, mm.kva(), t).unwrap_err().is_finding(), "double free");
        let a = k.frag.alloc(&k, mm.kva()).unwrap();
        let b = k.frag.alloc(&k, mm.kva()).unwrap();
        assert_eq!((a.0 ^ b.0, k.stats.tables_reused.get()), (2048, 1), "both halves of one page");
        k.frag.free(&k, mm.kva(), a).unwrap();
        assert!(k.frag.free(&k, mm.kva(), a).unwrap_err().is_finding(), "double free of a half");
    }
}

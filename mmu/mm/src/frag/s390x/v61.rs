//! The allocator of Linux 6.1 and everything that was proposed on top of it (hosted-mm A.1, B.1): one page has two
//! halves, a page with exactly one A is on the space's list through `page->lru`.

use super::halves::*;
use crate::arch::S390x;
use crate::error::{Result, broken_at};
use crate::frag::Frag;
use crate::gather::TableBatch;
use crate::mm::Mm;
use crate::page::{Pages, word};
use crate::rcu::RcuFunc;
use racewalk_ram::{Kva, Paddr, Pfn};
use racewalk_sched::{observe, point};
use std::sync::atomic::Ordering::SeqCst;

/// What a scheme does differently.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Variant {
    /// `s390-61`: as it was. `pte_free` may hand the table out at once, which is sound for its callers then;
    /// `pte_free_defer` did not exist: a retract sends a cross call and frees.
    Base,
    /// `s390-pre`: `page_table_free` clears only A. A page can be freed while it is being unlinked (F-04).
    Pre,
    /// `s390-nop`: `page_table_alloc` looks only at A. A pending half is handed out (F-05).
    NoP,
    /// `s390-v1`: the ordinary free, deferred, with mm and half in `page->pt_mm`. One `rcu_head` and one `pt_mm` for
    /// two halves, and `rcu_head` overlays `lru` (F-01, F-02, F-03a).
    V1,
    /// `s390-gerald-final`: only the last step is deferred. A half can be reused, or its page freed by the sibling,
    /// inside the grace period (the twin of F-08).
    GeraldFinal,
    /// `s390-free-rcu`: defers through `tlb_remove_table`. Without batch memory that is a cross call, which is no
    /// grace period (F-13).
    FreeRcu,
}

/// The scheme.
#[derive(Clone)]
pub(super) struct V61(pub(super) Variant);

/// States of the byte at rest (B.1); zero only while the page is being freed.
pub(super) const LEGAL: &[u8] = &[0x01, 0x02, 0x03, 0x10, 0x12, 0x20, 0x21, 0x30];

/// The list's first page, if one of its halves can be had; `pending` says whether P bits count. Under the lock.
pub(super) fn reuse(k: &K, mm: Kva, pending: bool) -> Result<Option<Paddr>> {
    let Some((page, byte)) = first(k, list_head(mm))? else { return Ok(None) };
    let used = if pending && k.takes(Step::PendingLook) { (byte | byte >> 4) & AA } else { byte & AA };
    match used {
        AA => return Ok(None),
        0 => return k.broken_about(6, format!("{page:?} is listed with byte {byte:#04x}"), page.paddr()),
        _ => {}
    }
    let bit = (used & 1) as u32;
    change(k, page, A << bit, LEGAL, "page_table_alloc")?;
    if k.takes(Step::ListDelFull) {
        k.kmem.list_del_init(Pages::lru(page))?;
    }
    k.stats.tables_reused.bump();
    Ok(Some(table_of(page, bit)))
}

/// The bits that a free takes into the byte, or none of P where a mutant says so.
pub(super) fn retired(k: &K, step: Step) -> u8 {
    if k.takes(step) { A | P } else { A }
}

/// P of the half goes, if `step` has set it. Returns the byte.
pub(super) fn finish_byte(k: &K, page: Pfn, bit: u32, step: Step, by: &'static str) -> Result<u8> {
    match k.takes(step) {
        true => change(k, page, P << bit, LEGAL, by),
        false => k.kmem.pages.table_byte(page),
    }
}

impl V61 {
    /// A goes (with P coming, where the variant does that), and the page's place on the list changes. Returns the byte.
    fn retire(&self, k: &K, mm: Kva, table: Paddr, bits: u8, tail: bool, by: &'static str) -> Result<u8> {
        let (page, bit) = (page_of(k, table)?, half(table));
        locked(k, mm, || {
            let byte = change(k, page, bits << bit, LEGAL, by)?;
            let node = Pages::lru(page);
            match (byte & AA, tail) {
                (0, _) if !k.takes(Step::ListDelEmpty) => {}
                (0, _) => k.kmem.list_del_init(node)?,
                (_, true) => k.kmem.list_add_tail(node, list_head(mm))?,
                (_, false) => k.kmem.list_add(node, list_head(mm))?,
            }
            Ok(byte)
        })
    }

    fn finish(&self, k: &K, page: Pfn, bit: u32, step: Step, by: &'static str) -> Result<()> {
        if finish_byte(k, page, bit, step, by)? == 0 { self.release(k, page) } else { Ok(()) }
    }

    fn release(&self, k: &K, page: Pfn) -> Result<()> {
        // The check of S390-pre would have caught its own flaw.
        if self.0 != Variant::Pre && !k.kmem.list_empty(Pages::lru(page))? {
            return broken_at(14, Pages::lru(page), format!("{page:?} is freed while it is on a list"));
        }
        release(k, page)
    }
}

impl Frag<S390x> for V61 {
    fn alloc(&self, k: &K, mm: Kva) -> Result<Paddr> {
        if let Some(t) = locked(k, mm, || reuse(k, mm, self.0 != Variant::NoP))? {
            return Ok(t);
        }
        let page = fresh(k, mm, LEGAL)?;
        locked(k, mm, || k.kmem.list_add(Pages::lru(page), list_head(mm)))?;
        Ok(page.paddr())
    }

    fn free(&self, k: &K, mm: Kva, table: Paddr) -> Result<()> {
        const BY: &str = "page_table_free";
        k.stats.tables_freed.bump();
        if self.0 == Variant::Pre {
            let byte = self.retire(k, mm, table, A, false, BY)?;
            return if byte == 0 { self.release(k, page_of(k, table)?) } else { Ok(()) };
        }
        self.retire(k, mm, table, retired(k, Step::PendingFree), false, BY)?;
        self.finish(k, page_of(k, table)?, half(table), Step::PendingFree, BY)
    }

    fn free_rcu(&self, k: &K, mm: Kva, table: Paddr, batch: &mut TableBatch<'_, S390x>) -> Result<()> {
        self.retire(k, mm, table, retired(k, Step::PendingFreeRcu), true, "page_table_free_rcu")?;
        batch.remove_table(k, tag(table))
    }

    fn defers(&self) -> bool {
        !matches!(self.0, Variant::Base | Variant::Pre | Variant::NoP)
    }

    fn free_defer(&self, k: &K, mm: &Mm, table: Paddr) -> Result<()> {
        let page = page_of(k, table)?;
        match self.0 {
            // Never asked: `defers` says no.
            Variant::Base | Variant::Pre | Variant::NoP => self.free(k, mm.kva(), table),
            Variant::V1 => {
                k.mmgrab(mm.kva())?;
                point("frag.pt_mm");
                k.kmem.pages.word(page, word::PT_MM)?.store(mm.kva().0 | half(table) as u64, SeqCst);
                k.call_rcu(Pages::lru(page), RcuFunc::Scheme(1))
            }
            Variant::GeraldFinal => {
                const BY: &str = "pte_free_defer";
                self.retire(k, mm.kva(), table, A | P, false, BY)?;
                if finish_byte(k, page, half(table), Step::PendingFree, BY)? == 0 {
                    return k.call_rcu(Pages::lru(page), RcuFunc::Scheme(0));
                }
                Ok(())
            }
            Variant::FreeRcu => {
                let mut batch = TableBatch::new(mm);
                self.free_rcu(k, mm.kva(), table, &mut batch)?;
                batch.flush(k)
            }
        }
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

    fn callback(&self, k: &K, which: u8, head: Kva) -> Result<()> {
        let page = k.kmem.pages.frame_of(head, 8)?;
        if which == 0 {
            return release(k, page);
        }
        point("frag.pt_mm");
        let v = k.kmem.pages.word(page, word::PT_MM)?.load(SeqCst);
        observe(v);
        let mm = Kva(v & !1);
        self.free(k, mm, table_of(page, (v & 1) as u32))?;
        k.mmdrop(mm)
    }
}

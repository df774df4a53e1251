//! `s390-v2g`, Gerald's variant of the HH bits (hosted-mm S390-v2G): no half that went through `pte_free_defer` is used
//! again, so that nothing has to be listed after a grace period, and the callback needs neither the space nor a lock of all
//! spaces. `pt_frag_refcount` says whether the page is listed: `lru` cannot be asked while it is an `rcu_head`.
//!
//! The reference has the idea, not the text: what it leaves open is as in `s390-61`, on which it was built. It has the slip of
//! `s390-v2`: the test whether the other half waits looks at the unshifted counter and never fires (F-24).

use super::halves::*;
use super::v61;
use crate::arch::S390x;
use crate::error::{Result, broken};
use crate::frag::Frag;
use crate::gather::TableBatch;
use crate::mm::Mm;
use crate::page::{Pages, word};
use crate::rcu::RcuFunc;
use racewalk_ram::{Kva, Paddr, Pfn};
use racewalk_sched::observe;
use std::sync::atomic::Ordering::SeqCst;

/// The scheme.
#[derive(Clone)]
pub(super) struct V2G;

/// States at rest: those of B.3. Whether a page with one A and P of the other half is listed depends on how that was given
/// back.
const LEGAL: &[u8] =
    &[0x01, 0x02, 0x03, 0x10, 0x12, 0x14, 0x16, 0x20, 0x21, 0x28, 0x29, 0x30, 0x34, 0x38, 0x3c];

/// Where the list that a page is on changes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// `page_table_free`: listed at the front, if the other half is in use.
    Head,
    /// `page_table_free_rcu`: listed at the end.
    Tail,
    /// `pte_free_defer`: not listed any more.
    Off,
}

impl V2G {
    fn set_listed(&self, k: &K, page: Pfn, listed: bool) -> Result<()> {
        k.kmem.pages.word(page, word::PT_MM)?.store(listed.into(), SeqCst);
        Ok(())
    }

    /// Takes the page off the list, if it is on it. Under the lock.
    fn unlist(&self, k: &K, page: Pfn) -> Result<()> {
        let listed = k.kmem.pages.word(page, word::PT_MM)?.load(SeqCst) != 0;
        observe(listed.into());
        if listed {
            k.kmem.list_del_init(Pages::lru(page))?;
            self.set_listed(k, page, false)?;
        }
        Ok(())
    }

    /// Takes `bits` of the half into the byte, and the page to its place. Returns the byte.
    fn retire(&self, k: &K, mm: Kva, table: Paddr, bits: u8, place: Place, by: &'static str) -> Result<u8> {
        let (page, bit) = (page_of(k, table)?, half(table));
        locked(k, mm, || {
            let byte = change(k, page, bits << bit, LEGAL, by)?;
            // Whose other half is in use has no half that waits for the head, unless this one does.
            if place == Place::Off || byte & AA == 0 {
                self.unlist(k, page)?;
                return Ok(byte);
            }
            match place {
                Place::Tail => k.kmem.list_add_tail(Pages::lru(page), list_head(mm))?,
                _ => k.kmem.list_add(Pages::lru(page), list_head(mm))?,
            }
            self.set_listed(k, page, true)?;
            Ok(byte)
        })
    }

    /// The half is through: its P goes, and the last bit frees the page.
    fn finish(&self, k: &K, page: Pfn, bit: u32, by: &'static str) -> Result<()> {
        if change(k, page, P << bit, LEGAL, by)? == 0 { release(k, page) } else { Ok(()) }
    }
}

impl Frag<S390x> for V2G {
    fn alloc(&self, k: &K, mm: Kva) -> Result<Paddr> {
        let found = locked(k, mm, || {
            let table = v61::reuse(k, mm, true)?;
            if let Some(t) = table {
                self.set_listed(k, page_of(k, t)?, false)?;
            }
            Ok(table)
        })?;
        if let Some(t) = found {
            return Ok(t);
        }
        let page = fresh(k, mm, LEGAL)?;
        locked(k, mm, || {
            k.kmem.list_add(Pages::lru(page), list_head(mm))?;
            self.set_listed(k, page, true)
        })?;
        Ok(page.paddr())
    }

    fn free(&self, k: &K, mm: Kva, table: Paddr) -> Result<()> {
        const BY: &str = "page_table_free";
        self.retire(k, mm, table, A | P, Place::Head, BY)?;
        k.stats.tables_freed.bump();
        self.finish(k, page_of(k, table)?, half(table), BY)
    }

    fn free_rcu(&self, k: &K, mm: Kva, table: Paddr, batch: &mut TableBatch<'_, S390x>) -> Result<()> {
        self.retire(k, mm, table, A | P, Place::Tail, "page_table_free_rcu")?;
        batch.remove_table(k, tag(table))
    }

    fn free_defer(&self, k: &K, mm: &Mm, table: Paddr) -> Result<()> {
        let (page, bit) = (page_of(k, table)?, half(table));
        let byte = self.retire(k, mm.kva(), table, A | P | H, Place::Off, "pte_free_defer")?;
        if byte & HH != HH {
            return k.call_rcu(Pages::lru(page), RcuFunc::Scheme(bit as u8));
        }
        Ok(())
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

    fn callback(&self, k: &K, which: u8, head: Kva) -> Result<()> {
        const BY: &str = "pte_free_half";
        if which > 1 {
            return broken(4, format!("callback {which} of a page of halves"));
        }
        let (page, bit) = (k.kmem.pages.frame_of(head, 8)?, which as u32);
        change(k, page, H << bit, LEGAL, BY)?;
        // The mask meets the low bits of the counter: one reference.
        if k.kmem.pages.refcount(page)? as u8 & HH != 0 {
            k.call_rcu(head, RcuFunc::Scheme(1 - which))?;
        }
        k.stats.tables_freed.bump();
        self.finish(k, page, bit, BY)
    }
}

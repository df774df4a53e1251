//! Schemes that free a page when its count of fragments reaches zero (hosted-mm A.3, B.4).

#[cfg(test)]
use super::fragments::list_lock;
use super::fragments::{add, alloc, page_of, release, rest, set};
use super::pmd::{self, PmdFragments};
use crate::arch::Arch;
use crate::error::{Result, broken};
use crate::frag::{Frag, PmdFrag};
use crate::gather::TableBatch;
use crate::kernel::Kernel;
use crate::mm::Mm;
use crate::mutant::Step;
use crate::page::{Pages, flag, word};
use crate::rcu::RcuFunc;
use crate::sanitizer::What;
use racewalk_ram::{Kva, Paddr, Pfn};
use racewalk_sched::{observe, point};
use std::sync::atomic::Ordering::SeqCst;

/// What a scheme does differently.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Variant {
    /// `ppc-frag`: no `pte_free_defer`.
    Base,
    /// `ppc-v1`: `call_rcu` of the page's head for each table; the callback frees "the fragment at the page's base"
    /// (F-01).
    V1,
    /// `ppc-v2`: deferrals are counted in the upper half of the count; the page's head is queued for the first only.
    V2,
    /// `ppc-jason-last-a`: the last fragment's free queues the page, after the destructor (F-07).
    LastA,
    /// `ppc-jason-last-b`: `pte_free_defer` queues the page if it was the last; an ordinary free does not (F-08).
    LastB,
    /// `ppc-jason-last-c`: every last free queues the page.
    LastC,
    /// `ppc-66-fixed`: a deferred table makes the page Active; the last free of an Active page queues it.
    V66,
    /// `ppc-66`, as merged: the same before `pte_frag_destroy` learnt to clear Active (F-21).
    V66AsMerged,
    /// `ppc-oldref`: the count is the page's own reference count, set when fragments are handed out (F-22).
    OldRef,
}

/// The scheme.
#[derive(Clone)]
pub(super) struct Counter {
    pub(super) variant: Variant,
    /// PMD tables are cut from pages too: `ppc-pmdfrag`.
    pub(super) pmds: bool,
}

/// One deferral in the count of `ppc-v2`.
const DEFERRED: u64 = 0x1_0000;

fn begin<A: Arch>(k: &Kernel<A>, page: Pfn, n: u64) -> Result<()> {
    set(k, page, if k.takes(Step::FragCount) { n } else { 1 }, "pte_fragment_alloc")
}

/// `set_page_count`: whatever references somebody else took are gone.
fn begin_in_refcount<A: Arch>(k: &Kernel<A>, page: Pfn, n: u64) -> Result<()> {
    point("page.set_count");
    let old =
        k.kmem.pages.word(page, word::COUNTS)?.fetch_update(SeqCst, SeqCst, |v| Some(v & !0xff_ffff | n));
    let old = old.unwrap_or_else(|v| v) & 0xff_ffff;
    if let Some(s) = k.sanitizer() {
        s.state().note(What::Count { page, old, new: n, by: "set_page_count" });
    }
    // The page is fresh: all references but the allocation's are somebody else's, who will drop them.
    if old != 1 {
        let page_at = page.paddr().0;
        let found =
            format!("set_page_count overwrites references to {page_at:#x} that others hold: {}", old - 1);
        return k.broken_about(7, found, page.paddr());
    }
    Ok(())
}

/// The page is Active no more. Whether it was.
fn take_active<A: Arch>(k: &Kernel<A>, page: Pfn) -> Result<bool> {
    let flags = match k.takes(Step::ActiveClear) {
        true => k.kmem.pages.clear_flag(page, flag::ACTIVE)?,
        false => k.kmem.pages.flags(page)?,
    };
    let was = flags & flag::ACTIVE != 0;
    observe(was.into());
    Ok(was)
}

impl Counter {
    /// Takes `n` from the count; true if nothing is left.
    fn take<A: Arch>(&self, k: &Kernel<A>, page: Pfn, n: u64, by: &'static str) -> Result<bool> {
        if self.variant != Variant::OldRef {
            return Ok(add(k, page, -(n as i64), by)? == 0);
        }
        for i in 0..n {
            point("page.put");
            // The reference that the allocator counts stays for `table_page_free`.
            let count = k.kmem.pages.refcount(page)?;
            observe(count.into());
            if count == 1 {
                if i + 1 != n {
                    return k.broken_about(7, format!("{by}: too few references to {page:?}"), page.paddr());
                }
                return Ok(true);
            }
            let last = k.kmem.pages.put_testzero(page)?;
            k.note_references(page, -1, by)?;
            if last {
                return k.broken_about(
                    7,
                    format!("{by}: the last reference to {page:?} is gone"),
                    page.paddr(),
                );
            }
        }
        Ok(false)
    }

    /// Nothing of the page is in use any more.
    fn last<A: Arch>(&self, k: &Kernel<A>, page: Pfn, deferred: bool) -> Result<()> {
        let queue = |which| k.call_rcu(Pages::lru(page), RcuFunc::Scheme(which));
        match self.variant {
            Variant::LastA => {
                k.table_dtor(page)?;
                queue(2)
            }
            Variant::LastC => queue(0),
            Variant::LastB if deferred => queue(0),
            Variant::V66 | Variant::V66AsMerged if take_active(k, page)? && k.takes(Step::ActiveGrace) => {
                queue(0)
            }
            _ => release(k, page),
        }
    }

    fn give<A: Arch>(&self, k: &Kernel<A>, table: Paddr, deferred: bool, by: &'static str) -> Result<()> {
        let page = page_of(k, table)?;
        k.stats.tables_freed.bump();
        if self.take(k, page, 1, by)? { self.last(k, page, deferred) } else { Ok(()) }
    }
}

impl<A: Arch> Frag<A> for Counter {
    fn alloc(&self, k: &Kernel<A>, mm: Kva) -> Result<Paddr> {
        alloc(k, mm, if self.variant == Variant::OldRef { begin_in_refcount } else { begin })
    }

    fn free(&self, k: &Kernel<A>, _mm: Kva, table: Paddr) -> Result<()> {
        self.give(k, table, false, "pte_fragment_free")
    }

    fn free_rcu(&self, k: &Kernel<A>, _mm: Kva, table: Paddr, batch: &mut TableBatch<'_, A>) -> Result<()> {
        batch.remove_table(k, table.0)
    }

    fn defers(&self) -> bool {
        !matches!(self.variant, Variant::Base | Variant::OldRef)
    }

    fn free_defer(&self, k: &Kernel<A>, _mm: &Mm<A>, table: Paddr) -> Result<()> {
        const BY: &str = "pte_free_defer";
        let page = page_of(k, table)?;
        match self.variant {
            Variant::V1 => k.call_rcu(Pages::lru(page), RcuFunc::Scheme(1)),
            Variant::V2 => {
                k.stats.tables_freed.bump();
                if add(k, page, DEFERRED as i64 - 1, BY)? < 2 * DEFERRED {
                    k.call_rcu(Pages::lru(page), RcuFunc::Scheme(3))?;
                }
                Ok(())
            }
            Variant::V66 | Variant::V66AsMerged => {
                point("frag.set_active");
                if k.takes(Step::ActiveSet) {
                    k.kmem.pages.set_flag(page, flag::ACTIVE)?;
                }
                self.give(k, table, true, BY)
            }
            _ => self.give(k, table, true, BY),
        }
    }

    fn remove_table(&self, k: &Kernel<A>, tag: u64) -> Result<()> {
        self.give(k, Paddr(tag), false, "__tlb_remove_table")
    }

    fn pmds(&self) -> Option<&dyn PmdFrag<A>> {
        self.pmds.then_some(&PmdFragments)
    }

    fn mm_exit(&self, k: &Kernel<A>, mm: Kva) -> Result<()> {
        if self.pmds {
            pmd::destroy(k, mm)?;
        }
        let Some((page, n)) = rest(k, mm)?.filter(|_| k.takes(Step::FragRest)) else { return Ok(()) };
        if self.take(k, page, n, "pte_frag_destroy")? {
            if self.variant == Variant::V66 {
                take_active(k, page)?;
            }
            release(k, page)?;
        }
        Ok(())
    }

    #[cfg(test)]
    fn lock<'a>(&'a self, k: &'a Kernel<A>, mm: Kva) -> Result<&'a std::sync::atomic::AtomicU64> {
        list_lock(k, mm)
    }

    fn callback(&self, k: &Kernel<A>, which: u8, head: Kva) -> Result<()> {
        const BY: &str = "pte_free_now";
        let page = k.kmem.pages.frame_of(head, 8)?;
        match which {
            0 => release(k, page),
            // Whichever fragment it was: the page's base.
            1 => self.give(k, page.paddr(), false, BY),
            2 => k.table_page_free(page),
            3 => {
                let left = add(k, page, 1 - DEFERRED as i64, BY)?;
                if left < DEFERRED {
                    return if self.take(k, page, 1, BY)? { release(k, page) } else { Ok(()) };
                }
                // More came meanwhile: all but one share the next grace period with it.
                let mut left = left;
                while left >= 2 * DEFERRED {
                    left = add(k, page, -(DEFERRED as i64), BY)?;
                }
                add(k, page, -1, BY)?;
                k.call_rcu(head, RcuFunc::Scheme(3))
            }
            _ => broken(4, format!("callback {which} of a page of fragments")),
        }
    }
}

//! Schemes that let a deferred half be used again after its grace period: the HH bits of the second posting and what was
//! proposed around it (hosted-mm A.1, B.3). A page is listed while exactly one half is allocated and nothing is pending.

use super::halves::*;
use crate::arch::S390x;
use crate::error::{Result, broken};
use crate::frag::Frag;
use crate::gather::TableBatch;
use crate::lockword;
use crate::mm::{Mm, mmw};
use crate::page::{Pages, word};
use crate::rcu::RcuFunc;
use racewalk_ram::{Kva, Paddr, Pfn};
use racewalk_sched::observe;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

/// What a scheme does differently.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Variant {
    /// `s390-v2` as posted: the test whether the other half waits looks at the unshifted counter and never fires (F-24).
    V2,
    /// `s390-v2-maskfixed`: our correction of that.
    MaskFixed,
    /// `s390-v2-mmlock`: ours, what `s390-v2+1` is there to avoid: the callback takes the lock of the space by the
    /// pointer in the page, and the space may be gone (F-25).
    MmLock,
    /// `s390-v2+1`: lock and list in an object of a type-safe cache, looked at again under its lock.
    Plus1,
    /// `s390-hhtail`: pages with a waiting half go to the end of the list and stay there; the allocator looks at the
    /// first only (F-26).
    HhTail,
    /// `s390-1bit`: one bit at a time for each half: A, then H, then P.
    OneBit,
}

/// The scheme.
pub(super) struct Hh {
    variant: Variant,
    /// `mm_pgtable_list_lock`.
    lock: AtomicU64,
}

impl Clone for Hh {
    fn clone(&self) -> Hh {
        Hh { variant: self.variant, lock: AtomicU64::new(self.lock.load(SeqCst)) }
    }
}

/// States at rest of B.3, with the fix.
const LEGAL: &[u8] =
    &[0x01, 0x02, 0x03, 0x10, 0x12, 0x14, 0x16, 0x20, 0x21, 0x28, 0x29, 0x30, 0x34, 0x38, 0x3c];

/// States where each half is free, A, P or H: all but the empty page.
const LEGAL_ONE_BIT: &[u8] =
    &[0x01, 0x10, 0x04, 0x02, 0x03, 0x12, 0x06, 0x20, 0x21, 0x30, 0x24, 0x08, 0x09, 0x18, 0x0c];

impl Hh {
    pub(super) fn new(variant: Variant) -> Hh {
        Hh { variant, lock: AtomicU64::new(0) }
    }

    fn legal(&self) -> &'static [u8] {
        if self.variant == Variant::OneBit { LEGAL_ONE_BIT } else { LEGAL }
    }

    /// What `page_table_free_rcu` takes into the byte besides A, and its end takes out again.
    fn pending(&self, k: &K) -> u8 {
        if k.takes(Step::PendingFreeRcu) { P } else { 0 }
    }

    /// Runs `f` with the list's head, under the lock that guards it. `owner` is the space, or what `page->pt_mm` holds.
    fn listed<R>(&self, k: &K, owner: Kva, f: impl FnOnce(Kva) -> Result<R>) -> Result<R> {
        match self.variant {
            Variant::Plus1 => {
                let o = k.kmem.type_safe.words(owner)?;
                under(&o[LIST_LOCK], "pgtable_list.lock", || f(Kva(owner.0 + 8)))
            }
            Variant::MmLock => locked(k, owner, || f(list_head(owner))),
            _ => under(&self.lock, "mm_pgtable_list_lock", || f(list_head(owner))),
        }
    }

    /// What `pt_mm` of the space's pages holds.
    fn owner(&self, k: &K, mm: Kva) -> Result<Kva> {
        match self.variant {
            Variant::Plus1 => Ok(Kva(k.kmem.slab.object(mm)?[mmw::SCHEME].load(SeqCst))),
            _ => Ok(mm),
        }
    }

    /// Takes `bits` of the half into the byte, under the lock; the page leaves the list when its last A goes.
    fn retire(&self, k: &K, mm: Kva, table: Paddr, bits: u8, by: &'static str) -> Result<u8> {
        let (page, bit) = (page_of(k, table)?, half(table));
        self.listed(k, self.owner(k, mm)?, |head| {
            let old = k.kmem.pages.table_byte(page)?;
            observe(old.into());
            let byte = change(k, page, bits << bit, self.legal(), by)?;
            let node = Pages::lru(page);
            let waiting = byte & (HH | PP) != 0;
            if byte & AA != 0 {
                if !waiting {
                    k.kmem.list_add(node, head)?;
                } else if self.variant == Variant::HhTail {
                    k.kmem.list_add_tail(node, head)?;
                }
            } else if old & (HH | PP) == 0 || self.variant == Variant::HhTail && old & AA != AA {
                // Exactly one A and nothing waiting: it was listed.
                if k.takes(Step::ListDelEmpty) {
                    k.kmem.list_del_init(node)?;
                }
            }
            Ok(byte)
        })
    }

    /// `__tlb_remove_table`: the half is through. A page with one A is listed again; the last bit frees the page.
    fn finish(&self, k: &K, page: Pfn, bit: u32, p: u8, by: &'static str) -> Result<()> {
        let pages = &k.kmem.pages;
        let byte = pages.table_byte(page)?;
        observe(byte.into());
        let done = |byte: u8| if byte == 0 { release(k, page) } else { Ok(()) };
        if byte & AA == 0 {
            return done(if p == 0 { byte } else { change(k, page, p << bit, self.legal(), by)? });
        }
        let owner = Kva(pages.word(page, word::PT_MM)?.load(SeqCst));
        // Keeps the slot of a type-safe object what it is; the others need none.
        let _rcu = (self.variant == Variant::Plus1).then(|| k.rcu_read_lock());
        let byte = self.listed(k, owner, |head| {
            let byte = match p {
                0 => pages.table_byte(page)?,
                _ => change(k, page, p << bit, self.legal(), by)?,
            };
            // Looked at again: somebody may have freed the other half meanwhile.
            let usable = byte & AA != 0 && byte & (HH | PP) == 0 || !k.takes(Step::FinishRecheck);
            if usable && self.variant != Variant::HhTail {
                k.kmem.list_add(Pages::lru(page), head)?;
            }
            Ok(byte)
        })?;
        done(byte)
    }

    /// Queues the page for the callback of a half.
    fn queue(&self, k: &K, page: Pfn, half: u8) -> Result<()> {
        let head = match self.variant {
            // A page that is listed while a half waits needs a head that does not overlay its list.
            Variant::HhTail => {
                let o = k.kmem.type_safe.alloc("an rcu_head")?;
                k.kmem.type_safe.words(o)?[HEAD_PAGE].store(page.paddr().0, SeqCst);
                Kva(o.0 + 8)
            }
            _ => Pages::lru(page),
        };
        k.call_rcu(head, RcuFunc::Scheme(half))
    }

    /// Whether a page behind the first could be used: what the allocator passes over (F-26).
    fn passed_over(&self, k: &K, head: Kva) -> Result<Option<Pfn>> {
        for node in k.kmem.list_nodes(head, 4096)? {
            let page = k.kmem.pages.frame_of(node, 8)?;
            let byte = k.kmem.pages.table_byte(page)?;
            if byte & (HH | PP) == 0 && byte & AA != AA {
                return Ok(Some(page));
            }
        }
        Ok(None)
    }
}

/// Word of a type-safe object: its lock. Words 1 and 2 are the list's head.
const LIST_LOCK: usize = 3;
/// Word of a type-safe object that is an `rcu_head`: its page. Words 1 and 2 are the head.
const HEAD_PAGE: usize = 3;

impl Frag<S390x> for Hh {
    fn mm_init(&self, k: &K, mm: Kva) -> Result<()> {
        if self.variant == Variant::Plus1 {
            let o = k.kmem.type_safe.alloc("a list of page tables")?;
            k.kmem.list_init(Kva(o.0 + 8))?;
            k.kmem.slab.object(mm)?[mmw::SCHEME].store(o.0, SeqCst);
        }
        Ok(())
    }

    fn mm_exit(&self, k: &K, mm: Kva) -> Result<()> {
        if self.variant == Variant::Plus1 {
            let o = self.owner(k, mm)?;
            // Destroyed under its lock: who got here by an old pointer looks at AA again after taking it.
            let w = k.kmem.type_safe.words(o)?;
            lockword::lock(&w[LIST_LOCK], "pgtable_list.lock")?;
            lockword::unlock(&w[LIST_LOCK], "pgtable_list.lock")?;
            k.kmem.type_safe.free(o)?;
        }
        Ok(())
    }

    fn alloc(&self, k: &K, mm: Kva) -> Result<Paddr> {
        let owner = self.owner(k, mm)?;
        let found = self.listed(k, owner, |head| {
            let Some((page, byte)) = first(k, head)? else { return Ok(None) };
            if byte & (HH | PP) != 0 {
                if self.variant == Variant::HhTail {
                    if let Some(p) = self.passed_over(k, head)? {
                        let found = format!(
                            "a fresh page is taken: the first of the list ({:#x}) is waiting, {:#x} behind it is usable",
                            page.paddr().0,
                            p.paddr().0
                        );
                        return k.broken_about(26, found, p.paddr());
                    }
                    return Ok(None);
                }
                return k.broken_about(6, format!("{page:?} is listed with byte {byte:#04x}"), page.paddr());
            }
            if byte & AA == 0 || byte & AA == AA {
                return k.broken_about(6, format!("{page:?} is listed with byte {byte:#04x}"), page.paddr());
            }
            let bit = (byte & 1) as u32;
            change(k, page, A << bit, self.legal(), "page_table_alloc")?;
            if k.takes(Step::ListDelFull) {
                k.kmem.list_del_init(Pages::lru(page))?;
            }
            k.stats.tables_reused.bump();
            Ok(Some(table_of(page, bit)))
        })?;
        if let Some(t) = found {
            return Ok(t);
        }
        let page = fresh(k, owner, self.legal())?;
        self.listed(k, owner, |head| k.kmem.list_add(Pages::lru(page), head))?;
        Ok(page.paddr())
    }

    fn free(&self, k: &K, mm: Kva, table: Paddr) -> Result<()> {
        const BY: &str = "page_table_free";
        k.stats.tables_freed.bump();
        // Where a page with a waiting half is listed, its last half must not be the one that empties the byte (F-04).
        if matches!(self.variant, Variant::OneBit | Variant::HhTail) {
            self.retire(k, mm, table, A | P, BY)?;
            return self.finish(k, page_of(k, table)?, half(table), P, BY);
        }
        let page = page_of(k, table)?;
        if self.retire(k, mm, table, A, BY)? == 0 { release(k, page) } else { Ok(()) }
    }

    fn free_rcu(&self, k: &K, mm: Kva, table: Paddr, batch: &mut TableBatch<'_, S390x>) -> Result<()> {
        self.retire(k, mm, table, A | self.pending(k), "page_table_free_rcu")?;
        batch.remove_table(k, tag(table))
    }

    fn free_defer(&self, k: &K, mm: &Mm, table: Paddr) -> Result<()> {
        let (page, bit) = (page_of(k, table)?, half(table));
        let bits = if self.variant == Variant::OneBit { A | H } else { A | P | H };
        let byte = self.retire(k, mm.kva(), table, bits, "pte_free_defer")?;
        if byte & HH != HH {
            return self.queue(k, page, bit as u8);
        }
        Ok(())
    }

    fn remove_table(&self, k: &K, tag: u64) -> Result<()> {
        let (page, bit) = untag(k, tag)?;
        k.stats.tables_freed.bump();
        self.finish(k, page, bit, self.pending(k), "__tlb_remove_table")
    }

    #[cfg(test)]
    fn lock<'a>(&'a self, k: &'a K, mm: Kva) -> Result<&'a AtomicU64> {
        Ok(match self.variant {
            Variant::Plus1 => &k.kmem.type_safe.words(self.owner(k, mm)?)?[LIST_LOCK],
            Variant::MmLock => list_lock(k, mm)?,
            _ => &self.lock,
        })
    }

    fn callback(&self, k: &K, which: u8, head: Kva) -> Result<()> {
        const BY: &str = "pte_free_half";
        if which > 1 {
            return broken(4, format!("callback {which} of a page of halves"));
        }
        let bit = which as u32;
        let page = match self.variant {
            Variant::HhTail => {
                let page = k.kmem.type_safe.words(head)?[HEAD_PAGE].load(SeqCst);
                k.kmem.type_safe.free(Kva(head.0 - 8))?;
                k.kmem.pages.at(Paddr(page))?
            }
            _ => k.kmem.pages.frame_of(head, 8)?,
        };
        let bits = if self.variant == Variant::OneBit { H | P } else { H };
        let byte = change(k, page, bits << bit, self.legal(), BY)?;
        // As posted, the mask meets the low bits of the counter: one reference.
        let tested = if self.variant == Variant::V2 { k.kmem.pages.refcount(page)? as u8 } else { byte };
        if tested & HH != 0 && k.takes(Step::SecondHalf) {
            self.queue(k, page, 1 - which)?;
        }
        self.finish(k, page, bit, P, BY)
    }
}

//! `ppc-jason-side`: a structure beside each page with a bitmap of free fragments and one of pending ones, and an
//! `rcu_head` (hosted-mm A.3). As it was written the test is inverted, so that a first free is never queued (F-06), the
//! bitmaps are too small, and the callback's update is not atomic; `ppc-jason-side-fixed` is our correction of all three.
//!
//! The structure is kept by the scheme here, except for the head, which is the page's.

#[cfg(test)]
use super::fragments::list_lock;
use super::fragments::{alloc, page_of, piece, pieces, release, rest};
use crate::arch::Arch;
use crate::error::{Result, broken};
use crate::frag::Frag;
use crate::gather::TableBatch;
use crate::kernel::Kernel;
use crate::mm::Mm;
use crate::page::{Pages, word};
use crate::rcu::RcuFunc;
use racewalk_ram::{Kva, Paddr, Pfn};
use racewalk_sched::{observe, point};
use std::collections::BTreeMap;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Up to 256 fragments.
type Bits = [u64; 4];

#[derive(Clone, Default)]
struct Beside {
    free: Bits,
    pending: Bits,
}

/// The scheme.
pub(super) struct Side {
    fixed: bool,
    /// By page. A host lock, held for one atomic operation.
    beside: Mutex<BTreeMap<u64, Beside>>,
}

impl Clone for Side {
    fn clone(&self) -> Side {
        Side { fixed: self.fixed, beside: Mutex::new(self.beside().clone()) }
    }
}

fn set(bits: &mut Bits, n: u64) {
    bits[n as usize / 64] |= 1 << (n % 64);
}

fn count(bits: &Bits) -> u64 {
    bits.iter().map(|b| b.count_ones() as u64).sum()
}

impl Side {
    pub(super) fn new(fixed: bool) -> Side {
        Side { fixed, beside: Mutex::default() }
    }

    fn beside(&self) -> MutexGuard<'_, BTreeMap<u64, Beside>> {
        self.beside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bits of the type that the bitmaps have: as written, eight.
    fn width<A: Arch>(&self) -> u64 {
        if self.fixed { pieces::<A>() } else { 8 }
    }

    fn give<A: Arch>(&self, k: &Kernel<A>, page: Pfn, pieces: impl Iterator<Item = u64>) -> Result<()> {
        point("side.fetch_or");
        let before = {
            let mut all = self.beside();
            let b = all.entry(page.0).or_default();
            let before = count(&b.pending);
            for n in pieces.filter(|&n| n < self.width::<A>()) {
                set(&mut b.pending, n);
            }
            before
        };
        observe(before);
        let queue = if self.fixed { before == 0 } else { before != 0 };
        if queue { k.call_rcu(Pages::lru(page), RcuFunc::Scheme(0)) } else { Ok(()) }
    }
}

fn begin<A: Arch>(k: &Kernel<A>, page: Pfn, _n: u64) -> Result<()> {
    // The word has the space's address, which nobody needs here.
    k.kmem.pages.word(page, word::PT_MM)?.store(0, SeqCst);
    Ok(())
}

impl<A: Arch> Frag<A> for Side {
    fn alloc(&self, k: &Kernel<A>, mm: Kva) -> Result<Paddr> {
        let table = alloc(k, mm, begin)?;
        let page = k.kmem.pages.at(table)?;
        if piece::<A>(table) == 0 {
            let mut b = Beside::default();
            // A page that the cursor does not use has one fragment.
            let on_cursor = k.kmem.slab.object(mm)?[crate::mm::mmw::FRAG_CURSOR].load(SeqCst);
            if k.kmem.pages.at(Paddr(on_cursor)).ok() != Some(page) {
                (1..self.width::<A>()).for_each(|n| set(&mut b.free, n));
            }
            self.beside().insert(page.0, b);
        }
        Ok(table)
    }

    fn free(&self, k: &Kernel<A>, _mm: Kva, table: Paddr) -> Result<()> {
        k.stats.tables_freed.bump();
        self.give(k, page_of(k, table)?, std::iter::once(piece::<A>(table)))
    }

    fn free_rcu(&self, k: &Kernel<A>, _mm: Kva, table: Paddr, batch: &mut TableBatch<'_, A>) -> Result<()> {
        batch.remove_table(k, table.0)
    }

    fn free_defer(&self, k: &Kernel<A>, mm: &Mm<A>, table: Paddr) -> Result<()> {
        self.free(k, mm.kva(), table)
    }

    fn remove_table(&self, k: &Kernel<A>, tag: u64) -> Result<()> {
        self.free(k, Kva(0), Paddr(tag))
    }

    fn mm_exit(&self, k: &Kernel<A>, mm: Kva) -> Result<()> {
        match rest(k, mm)? {
            Some((page, n)) => self.give(k, page, pieces::<A>() - n..pieces::<A>()),
            None => Ok(()),
        }
    }

    #[cfg(test)]
    fn lock<'a>(&'a self, k: &'a Kernel<A>, mm: Kva) -> Result<&'a std::sync::atomic::AtomicU64> {
        list_lock(k, mm)
    }

    fn callback(&self, k: &Kernel<A>, which: u8, head: Kva) -> Result<()> {
        if which != 0 {
            return broken(4, format!("callback {which} of a page of fragments"));
        }
        let page = k.kmem.pages.frame_of(head, 8)?;
        let free = |all: &MutexGuard<'_, BTreeMap<u64, Beside>>| {
            all.get(&page.0).map(|b| b.free).unwrap_or_default()
        };
        point("side.xchg");
        let (pending, mut seen) = {
            let mut all = self.beside();
            let seen = free(&all);
            let b = all.entry(page.0).or_default();
            let pending = std::mem::take(&mut b.pending);
            if self.fixed {
                b.free.iter_mut().zip(pending).for_each(|(f, p)| *f |= p);
            }
            (pending, if self.fixed { b.free } else { seen })
        };
        pending.iter().chain(&seen).for_each(|&b| observe(b));
        if !self.fixed {
            // Read, or, write: another callback may come between.
            point("side.or");
            seen.iter_mut().zip(pending).for_each(|(f, p)| *f |= p);
            self.beside().entry(page.0).or_default().free = seen;
        }
        if count(&seen) == self.width::<A>() {
            self.beside().remove(&page.0);
            release(k, page)?;
        }
        Ok(())
    }
}

//! What the Power schemes share: pieces of a page handed out in order by a cursor of the space, and a counter in the page
//! (hosted-mm B.4). A piece that was given back is not handed out again.

use crate::arch::Arch;
use crate::error::Result;
use crate::kernel::Kernel;
use crate::lockword;
use crate::mm::mmw;
use crate::mutant::Step;
use crate::page::{FrameKind, word};
use crate::sanitizer::What;
use racewalk_ram::{Kva, Paddr, Pfn};
use racewalk_sched::{observe, point};
use std::sync::atomic::Ordering::SeqCst;

/// Pieces of a page: `PTE_FRAG_NR`.
pub(super) const fn pieces<A: Arch>() -> u64 {
    (1 << A::PAGE_SHIFT) / A::FRAGMENT
}

/// The number of a table's piece in its page.
pub(super) fn piece<A: Arch>(table: Paddr) -> u64 {
    table.0 % (1 << A::PAGE_SHIFT) / A::FRAGMENT
}

/// The page of a table.
pub(super) fn page_of<A: Arch>(k: &Kernel<A>, table: Paddr) -> Result<Pfn> {
    let page = k.kmem.pages.at(table)?;
    if k.kmem.pages.kind(page)? != FrameKind::PteTables || !table.0.is_multiple_of(A::FRAGMENT) {
        let found = format!("{:#x} is not a PTE table: {:?}", table.0, k.kmem.pages.kind(page)?);
        return k.broken_about(1, found, table);
    }
    Ok(page)
}

/// Adds to `pt_frag_refcount`, modulo 2^64; returns the new count. A count that wraps is invariant 7.
pub(super) fn add<A: Arch>(k: &Kernel<A>, page: Pfn, n: i64, by: &'static str) -> Result<u64> {
    point("frag.count");
    let old = k.kmem.pages.word(page, word::PT_MM)?.fetch_add(n as u64, SeqCst);
    note(k, page, old, old.wrapping_add(n as u64), by)
}

/// Sets `pt_frag_refcount`.
pub(super) fn set<A: Arch>(k: &Kernel<A>, page: Pfn, n: u64, by: &'static str) -> Result<()> {
    point("frag.count");
    let old = k.kmem.pages.word(page, word::PT_MM)?.swap(n, SeqCst);
    note(k, page, old, n, by).map(|_| ())
}

fn note<A: Arch>(k: &Kernel<A>, page: Pfn, old: u64, new: u64, by: &'static str) -> Result<u64> {
    observe(new);
    if let Some(s) = k.sanitizer() {
        let mut s = s.state();
        s.note(What::Count { page, old, new, by });
        s.code(page.paddr().0 | 1, new + 1);
    }
    if new > 1 << 32 {
        let found = format!("{by} takes the count of fragments of {:#x} below zero", page.paddr().0);
        return k.broken_about(7, found, page.paddr());
    }
    Ok(new)
}

/// How a page's counter begins.
pub(super) type Begin<A> = fn(&Kernel<A>, Pfn, u64) -> Result<()>;

/// What is cut from pages.
pub(super) struct Cut<A: Arch> {
    /// Bytes of a piece; a page has a whole number of them.
    pub(super) bytes: u64,
    /// The word of the space that has the cursor.
    pub(super) cursor: usize,
    /// Makes a page.
    pub(super) page: fn(&Kernel<A>, Kva) -> Result<Pfn>,
    /// Destroys and frees it.
    pub(super) release: fn(&Kernel<A>, Pfn) -> Result<()>,
}

impl<A: Arch> Cut<A> {
    /// PTE tables.
    const PTE: Cut<A> =
        Cut { bytes: A::FRAGMENT, cursor: mmw::FRAG_CURSOR, page: Kernel::table_page, release };

    /// Pieces of a page.
    const fn pieces(&self) -> u64 {
        (1 << A::PAGE_SHIFT) / self.bytes
    }
}

/// `pte_fragment_alloc`: the cursor's piece, or the first of a fresh page, whose counter `begin` sets to the pieces that
/// are or will be handed out.
pub(super) fn alloc<A: Arch>(k: &Kernel<A>, mm: Kva, begin: Begin<A>) -> Result<Paddr> {
    cut(k, mm, &Cut::PTE, begin)
}

/// The same for whatever is cut.
pub(super) fn cut<A: Arch>(k: &Kernel<A>, mm: Kva, c: &Cut<A>, begin: Begin<A>) -> Result<Paddr> {
    let w = k.kmem.slab.object(mm)?;
    let (lock, cursor) = (&w[mmw::PAGE_TABLE_LOCK], &w[c.cursor]);
    let advance = |at: u64| {
        let next = at + c.bytes;
        if next.is_multiple_of(1 << A::PAGE_SHIFT) { 0 } else { next }
    };
    let locked = k.takes(Step::CursorLock);
    if locked {
        lockword::lock(lock, "page_table_lock")?;
    }
    point("frag.cursor");
    let at = cursor.load(SeqCst);
    observe(at);
    if at != 0 {
        point("frag.cursor");
        cursor.store(advance(at), SeqCst);
    }
    if locked {
        lockword::unlock(lock, "page_table_lock")?;
    }
    if at != 0 {
        return Ok(Paddr(at));
    }
    let page = (c.page)(k, mm)?;
    if let Err(e) = begin(k, page, 1) {
        (c.release)(k, page)?;
        return Err(e);
    }
    if c.pieces() > 1 {
        // Somebody else may have made a page meanwhile: then this one is used for one table only.
        lockword::lock(lock, "page_table_lock")?;
        let taken = cursor.load(SeqCst) != 0;
        observe(taken.into());
        let r = if !taken {
            cursor.store(advance(page.paddr().0), SeqCst);
            begin(k, page, c.pieces())
        } else {
            Ok(())
        };
        lockword::unlock(lock, "page_table_lock")?;
        r?;
    }
    Ok(page.paddr())
}

/// The space ends: the page of the cursor, and how many of its pieces were never handed out.
pub(super) fn rest<A: Arch>(k: &Kernel<A>, mm: Kva) -> Result<Option<(Pfn, u64)>> {
    rest_of(k, mm, &Cut::PTE)
}

/// The same for whatever is cut.
pub(super) fn rest_of<A: Arch>(k: &Kernel<A>, mm: Kva, c: &Cut<A>) -> Result<Option<(Pfn, u64)>> {
    match k.kmem.slab.object(mm)?[c.cursor].swap(0, SeqCst) {
        0 => Ok(None),
        at => {
            let page = k.kmem.pages.at(Paddr(at))?;
            Ok(Some((page, c.pieces() - (at - page.paddr().0) / c.bytes)))
        }
    }
}

/// Destructor and free of a page.
pub(super) fn release<A: Arch>(k: &Kernel<A>, page: Pfn) -> Result<()> {
    point("frag.release");
    k.table_dtor(page)?;
    k.table_page_free(page)
}

/// `mm->page_table_lock`, which guards the cursor.
#[cfg(test)]
pub(super) fn list_lock<A: Arch>(k: &Kernel<A>, mm: Kva) -> Result<&std::sync::atomic::AtomicU64> {
    Ok(&k.kmem.slab.object(mm)?[mmw::PAGE_TABLE_LOCK])
}

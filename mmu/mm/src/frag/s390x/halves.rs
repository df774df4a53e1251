//! What all schemes with two 2 KiB tables to a page share: the PP/AA byte, the list of pages, the release.
//!
//! In the byte at bits 31–24 of `_refcount`, A0/A1 (0x01, 0x02) say that the lower or upper half is allocated,
//! P0/P1 (0x10, 0x20) that it is pending: given back, but not yet through; H0/H1 (0x04, 0x08), where a scheme has them,
//! that it waits for the page's `rcu_head` (hosted-mm B.1 to B.3).

use crate::arch::S390x;
use crate::error::{Result, broken};
use crate::kernel::Kernel;
use crate::lockword;
use crate::mm::mmw;
pub(super) use crate::mutant::Step;
use crate::page::{FrameKind, Pages, flag};
use crate::sanitizer::What;
use racewalk_ram::{Kva, Paddr, Pfn};
use racewalk_sched::{observe, point};
use std::sync::atomic::AtomicU64;

/// The kernel of these schemes.
pub(super) type K = Kernel<S390x>;

/// A bit of the lower half; shift by the half's number.
pub(super) const A: u8 = 0x01;
/// Pending.
pub(super) const P: u8 = 0x10;
/// Waits for the `rcu_head`.
pub(super) const H: u8 = 0x04;
/// Both halves' A bits.
pub(super) const AA: u8 = 0x03;
/// Both halves' P bits.
pub(super) const PP: u8 = 0x30;
/// Both halves' H bits.
pub(super) const HH: u8 = 0x0c;

/// Changes the byte, by exclusive or, and checks the new state (invariant 6).
pub(super) fn change(k: &K, page: Pfn, bits: u8, legal: &[u8], by: &'static str) -> Result<u8> {
    point("frag.xor");
    let new = k.kmem.pages.xor_table_byte(page, bits)?;
    let old = new ^ bits;
    observe(new.into());
    if let Some(s) = k.sanitizer() {
        let mut s = s.state();
        s.note(What::Byte { page, old, new, by });
        s.code(page.paddr().0 | 1, new as u64);
    }
    if new != 0 && !legal.contains(&new) || old == 0 && new != A {
        let found =
            format!("{by} takes the PP/AA byte of {:#x} from {old:#04x} to {new:#04x}", page.paddr().0);
        return k.broken_about(6, found, page.paddr());
    }
    Ok(new)
}

/// Which half of its page a table is.
pub(super) fn half(table: Paddr) -> u32 {
    (table.0 >> 11 & 1) as u32
}

/// The page of a table.
pub(super) fn page_of(k: &K, table: Paddr) -> Result<Pfn> {
    let page = k.kmem.pages.at(table)?;
    if k.kmem.pages.kind(page)? != FrameKind::PteTables || table.0 & 0x7ff != 0 {
        let found = format!("{:#x} is not a PTE table: {:?}", table.0, k.kmem.pages.kind(page)?);
        return k.broken_about(1, found, table);
    }
    Ok(page)
}

/// A half of a page.
pub(super) fn table_of(page: Pfn, half: u32) -> Paddr {
    page.paddr().offset(half as u64 * 2048)
}

/// Runs `f` under a lock.
pub(super) fn under<R>(word: &AtomicU64, label: &'static str, f: impl FnOnce() -> Result<R>) -> Result<R> {
    lockword::lock(word, label)?;
    let r = f();
    lockword::unlock(word, label)?;
    r
}

/// `mm->context.lock`.
pub(super) fn list_lock(k: &K, mm: Kva) -> Result<&AtomicU64> {
    Ok(&k.kmem.slab.object(mm)?[mmw::LOCK])
}

/// Runs `f` under `mm->context.lock`.
pub(super) fn locked<R>(k: &K, mm: Kva, f: impl FnOnce() -> Result<R>) -> Result<R> {
    let lock = list_lock(k, mm)?;
    if !k.takes(Step::ContextLock) {
        return f();
    }
    under(lock, "context.lock", || {
        // The space may have gone while we waited.
        k.kmem.slab.object(mm)?;
        f()
    })
}

/// The head of `mm->context.pgtable_list`.
pub(super) fn list_head(mm: Kva) -> Kva {
    Kva(mm.0 + mmw::PGTABLE_LIST as u64 * 8)
}

/// A fresh page whose lower half is handed out, on no list yet.
pub(super) fn fresh(k: &K, mm: Kva, legal: &[u8]) -> Result<Pfn> {
    let page = k.table_page(mm)?;
    k.kmem.list_init(Pages::lru(page))?;
    change(k, page, A, legal, "page_table_alloc")?;
    Ok(page)
}

/// The list's first page and its byte.
pub(super) fn first(k: &K, head: Kva) -> Result<Option<(Pfn, u8)>> {
    let Some(node) = k.kmem.list_first(head)? else { return Ok(None) };
    let page = k.kmem.pages.frame_of(node, 8)?;
    let byte = k.kmem.pages.table_byte(page)?;
    observe(byte.into());
    Ok(Some((page, byte)))
}

/// Whether the page is Active.
pub(super) fn active(k: &K, page: Pfn) -> Result<bool> {
    let active = k.kmem.pages.flags(page)? & flag::ACTIVE != 0;
    observe(active.into());
    Ok(active)
}

/// The page is Active no more. Whether it was.
pub(super) fn take_active(k: &K, page: Pfn) -> Result<bool> {
    let flags = match k.takes(Step::ActiveClear) {
        true => k.kmem.pages.clear_flag(page, flag::ACTIVE)?,
        false => k.kmem.pages.flags(page)?,
    };
    let was = flags & flag::ACTIVE != 0;
    observe(was.into());
    Ok(was)
}

/// Frees the page of an empty byte.
pub(super) fn release(k: &K, page: Pfn) -> Result<()> {
    point("frag.release");
    let byte = k.kmem.pages.table_byte(page)?;
    if byte != 0 {
        let found = format!("page {:#x} is freed with byte {byte:#04x}", page.paddr().0);
        return k.broken_about(13, found, page.paddr());
    }
    k.table_dtor(page)?;
    k.table_page_free(page)
}

/// Entry of a batch for a half: its bit below the page's address.
pub(super) fn tag(table: Paddr) -> u64 {
    table.0 & !0xfff | 1 << half(table)
}

/// The page and the half of such an entry.
pub(super) fn untag(k: &K, tag: u64) -> Result<(Pfn, u32)> {
    let bit = match tag & 3 {
        1 => 0,
        2 => 1,
        _ => {
            return broken(
                6,
                format!("table tag {tag:#x} names no half, or a PGSTE page, which nobody made"),
            );
        }
    };
    Ok((page_of(k, Paddr(tag & !3))?, bit))
}

//! Two 2 KiB PTE tables to a page, and the PP/AA byte: hosted-mm B.1 and B.2 (Linux 6.6).
//!
//! In the byte at bits 31–24 of `_refcount`, A0/A1 (0x01, 0x02) say that the lower or upper half is allocated,
//! P0/P1 (0x10, 0x20) that it is pending: given back, but not yet through. A page with exactly one A is on the
//! address space's `pgtable_list`, threaded through `page->lru`, unless it is Active: then one of its halves went
//! through `pte_free_defer`, neither is used again, and the page is freed after a grace period.

use super::{Frag, Scheme};
use crate::arch::S390x;
use crate::buddy::Gfp;
use crate::error::{Result, broken};
use crate::gather::TableBatch;
use crate::kernel::Kernel;
use crate::lockword;
use crate::mm::mmw;
use crate::page::{FrameKind, Pages, flag, word};
use crate::rcu::RcuFunc;
use racewalk_ram::{Kva, PAGE_SIZE, Paddr, Pfn};
use racewalk_sched::point;
use racewalk_walk::s390x::Pte;

/// A table's bit in the batch's tags: lower and upper half.
const TAG: u64 = 3;

struct S390;

/// The code of a scheme of this family.
pub(crate) fn of(scheme: Scheme) -> Option<Box<dyn Frag<S390x>>> {
    match scheme {
        Scheme::S390_66 => Some(Box::new(S390)),
        _ => None,
    }
}

/// States that the byte may be in at rest (B.1); zero only while the page is being freed.
fn legal(byte: u8) -> bool {
    matches!(byte, 0x01 | 0x02 | 0x03 | 0x10 | 0x12 | 0x20 | 0x21 | 0x30 | 0x00)
}

/// Changes the byte and checks both states (invariant 6).
fn change(k: &Kernel<S390x>, page: Pfn, bits: u8, what: &str) -> Result<u8> {
    point("frag.xor");
    let new = k.kmem.pages.xor_table_byte(page, bits)?;
    if !legal(new) || new ^ bits == 0 && new != 0x01 {
        return broken(
            6,
            format!("{what} takes the PP/AA byte of {page:?} from {:#04x} to {new:#04x}", new ^ bits),
        );
    }
    Ok(new)
}

fn half(table: Paddr) -> u32 {
    (table.0 >> 11 & 1) as u32
}

fn page_of(k: &Kernel<S390x>, table: Paddr) -> Result<Pfn> {
    let page = k.kmem.pages.at(table)?;
    if k.kmem.pages.kind(page)? != FrameKind::PteTables || table.0 & 0x7ff != 0 {
        return broken(1, format!("{table:?} is not a PTE table: {:?}", k.kmem.pages.kind(page)?));
    }
    Ok(page)
}

fn locked<R>(k: &Kernel<S390x>, mm: Kva, f: impl FnOnce() -> Result<R>) -> Result<R> {
    let word = &k.kmem.slab.object(mm)?[mmw::LOCK];
    lockword::lock(word, "context.lock")?;
    let r = f();
    lockword::unlock(word, "context.lock")?;
    r
}

fn list_head(mm: Kva) -> Kva {
    Kva(mm.0 + mmw::PGTABLE_LIST as u64 * 8)
}

impl S390 {
    /// The first page of the list, if one of its halves can be had.
    fn reuse(&self, k: &Kernel<S390x>, mm: Kva) -> Result<Option<Paddr>> {
        let Some(node) = k.kmem.list_first(list_head(mm))? else { return Ok(None) };
        let page = k.kmem.pages.frame_of(node, 8)?;
        let byte = k.kmem.pages.table_byte(page)?;
        let used = (byte | byte >> 4) & 3;
        match used {
            3 => return Ok(None),
            0 => return broken(6, format!("{page:?} is listed with byte {byte:#04x}")),
            _ => {}
        }
        let bit = used & 1;
        change(k, page, 0x01 << bit, "page_table_alloc")?;
        k.kmem.list_del_init(node)?;
        k.stats.tables_reused.bump();
        Ok(Some(page.paddr().offset(bit as u64 * 2048)))
    }

    fn fresh(&self, k: &Kernel<S390x>, mm: Kva) -> Result<Paddr> {
        let page = k.alloc(0, Gfp::Kernel, FrameKind::PteTables, "page tables")?;
        let pages = &k.kmem.pages;
        pages.set_flag(page, flag::TABLE)?;
        pages.word(page, word::PT_MM)?.store(mm.0, std::sync::atomic::Ordering::SeqCst);
        lockword::init(pages.word(page, word::PTL)?);
        k.kmem.list_init(Pages::lru(page))?;
        for i in 0..PAGE_SIZE / 8 {
            k.ram.store_u64(page.paddr().offset(i * 8), Pte::EMPTY.0)?;
        }
        k.stats.add_table_bytes(PAGE_SIZE);
        change(k, page, 0x01, "page_table_alloc")?;
        locked(k, mm, || k.kmem.list_add(Pages::lru(page), list_head(mm)))?;
        Ok(page.paddr())
    }

    /// The common first step of both frees: A (and P, which is not set) of the half change, and the page's place
    /// on the list with them.
    fn retire(&self, k: &Kernel<S390x>, mm: Kva, page: Pfn, bit: u32, tail: bool, what: &str) -> Result<()> {
        locked(k, mm, || {
            let byte = change(k, page, 0x11 << bit, what)?;
            let node = Pages::lru(page);
            let active = k.kmem.pages.flags(page)? & flag::ACTIVE != 0;
            if byte & 3 == 0 || active {
                k.kmem.list_del_init(node)
            } else if tail {
                k.kmem.list_add_tail(node, list_head(mm))
            } else {
                k.kmem.list_add(node, list_head(mm))
            }
        })
    }

    /// The last step: P of the half goes; whoever empties the byte frees the page.
    fn finish(&self, k: &Kernel<S390x>, page: Pfn, bit: u32, what: &str) -> Result<()> {
        if change(k, page, 0x10 << bit, what)? != 0 {
            return Ok(());
        }
        if !k.kmem.list_empty(Pages::lru(page))? {
            return broken(14, format!("{page:?} is freed while it is on a list"));
        }
        if k.kmem.pages.clear_flag(page, flag::ACTIVE)? & flag::ACTIVE != 0 {
            k.call_rcu(Pages::lru(page), RcuFunc::PteFreeNow)
        } else {
            self.release(k, page)
        }
    }
}

impl Frag<S390x> for S390 {
    fn alloc(&self, k: &Kernel<S390x>, mm: Kva) -> Result<Paddr> {
        let table = match locked(k, mm, || self.reuse(k, mm))? {
            Some(t) => t,
            None => self.fresh(k, mm)?,
        };
        k.stats.tables_allocated.bump();
        Ok(table)
    }

    fn free(&self, k: &Kernel<S390x>, mm: Kva, table: Paddr) -> Result<()> {
        let (page, bit) = (page_of(k, table)?, half(table));
        self.retire(k, mm, page, bit, false, "page_table_free")?;
        k.stats.tables_freed.bump();
        self.finish(k, page, bit, "page_table_free")
    }

    fn free_rcu(
        &self,
        k: &Kernel<S390x>,
        mm: Kva,
        table: Paddr,
        batch: &mut TableBatch<'_, S390x>,
    ) -> Result<()> {
        let (page, bit) = (page_of(k, table)?, half(table));
        self.retire(k, mm, page, bit, true, "page_table_free_rcu")?;
        batch.remove_table(k, table.0 & !0xfff | 1 << bit)
    }

    fn free_defer(&self, k: &Kernel<S390x>, mm: Kva, table: Paddr) -> Result<()> {
        let page = page_of(k, table)?;
        point("frag.set_active");
        k.kmem.pages.set_flag(page, flag::ACTIVE)?;
        k.stats.tables_deferred.bump();
        self.free(k, mm, table)
    }

    fn remove_table(&self, k: &Kernel<S390x>, tag: u64) -> Result<()> {
        let bit = match tag & TAG {
            1 => 0,
            2 => 1,
            _ => return broken(6, format!("table tag {tag:#x} names a PGSTE page, which nobody made")),
        };
        let page = page_of(k, Paddr(tag & !TAG))?;
        k.stats.tables_freed.bump();
        self.finish(k, page, bit, "__tlb_remove_table")
    }

    fn release(&self, k: &Kernel<S390x>, page: Pfn) -> Result<()> {
        point("frag.release");
        let pages = &k.kmem.pages;
        let byte = pages.table_byte(page)?;
        if pages.kind(page)? != FrameKind::PteTables || byte != 0 {
            return broken(13, format!("{page:?} is freed as a page of PTE tables with byte {byte:#04x}"));
        }
        lockword::destroy(pages.word(page, word::PTL)?, "ptl")?;
        pages.clear_flag(page, flag::TABLE)?;
        if !pages.put_testzero(page)? {
            return broken(7, format!("somebody holds a reference to page-table page {page:?}"));
        }
        k.stats.table_bytes.sub(PAGE_SIZE);
        k.free(page, 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{boot, run_controlled};
    use racewalk_sched::controlled::{self, Rng};
    use std::cell::RefCell;
    use std::collections::BTreeSet;
    use std::rc::Rc;
    use std::sync::atomic::Ordering::SeqCst;

    /// B.2: byte, Active, listed. Active pages are written with T, listed ones with L.
    const REACHABLE: [&str; 20] = [
        "01L", "02L", "03", "10", "12L", "20", "21L", "30", "01T", "01LT", "02T", "02LT", "03T", "10T",
        "12T", "12LT", "20T", "21T", "21LT", "30T",
    ];

    /// The state of a page between lock sections; `generation` leaves out pages that are being made.
    fn observe(k: &Kernel<S390x>, mm: Kva, page: Pfn, generation: u64) -> Option<String> {
        let word = &k.kmem.slab.object(mm).ok()?[mmw::LOCK];
        lockword::lock(word, "observer").ok()?;
        // No scheduling point from here to the unlock.
        let p = &k.kmem.pages;
        let mut s = None;
        if p.kind(page).ok()? == FrameKind::PteTables && p.generation(page).ok()? == generation {
            let byte = p.table_byte(page).ok()?;
            let next = p.word(page, word::LRU_NEXT).ok()?.load(SeqCst);
            // During the grace period of the page the words are an rcu_head.
            let listed = next != Pages::lru(page).0 && byte & 3 != 0;
            let active = p.flags(page).ok()? & flag::ACTIVE != 0;
            if byte != 0 {
                let (l, t) = (if listed { "L" } else { "" }, if active { "T" } else { "" });
                s = Some(format!("{byte:02x}{l}{t}"));
            }
        }
        lockword::unlock(word, "observer").ok()?;
        s
    }

    #[test]
    fn reachable_states_are_those_of_the_table() {
        let seen = Rc::new(RefCell::new(BTreeSet::new()));
        for seed in 0..1500 {
            let seen = seen.clone();
            run_controlled(seed, move || {
                let (k, _) = boot(1);
                let mm = k.mm_create().unwrap();
                let base = mm.kva();
                let pages = Rc::new(RefCell::new(BTreeSet::new()));
                for t in 0..3u64 {
                    let (k, pages, mm) = (k.clone(), pages.clone(), mm.clone());
                    controlled::spawn(format!("user {t}"), move || {
                        let mut rng = Rng(seed * 31 + t);
                        let mut mine: Vec<Paddr> = Vec::new();
                        let mut batch = TableBatch::new(&mm);
                        for _ in 0..10 {
                            let r = rng.below(6);
                            if r < 3 || mine.is_empty() {
                                let table = k.frag.alloc(&k, base).unwrap();
                                let made = (table.pfn(), k.kmem.pages.generation(table.pfn()).unwrap());
                                pages.borrow_mut().insert(made);
                                mine.push(table);
                                continue;
                            }
                            let table = mine.swap_remove(rng.below(mine.len() as u64) as usize);
                            match r {
                                3 => k.frag.free(&k, base, table).unwrap(),
                                4 => k.frag.free_defer(&k, base, table).unwrap(),
                                _ => {
                                    k.frag.free_rcu(&k, base, table, &mut batch).unwrap();
                                    if rng.below(2) == 0 {
                                        batch.flush(&k).unwrap();
                                    }
                                }
                            }
                        }
                        for table in mine {
                            k.frag.free(&k, base, table).unwrap();
                        }
                        batch.flush(&k).unwrap();
                        k.rcu_poll();
                    });
                }
                let ks = k.clone();
                controlled::spawn("observer", move || {
                    for _ in 0..60 {
                        let list: Vec<(Pfn, u64)> = pages.borrow().iter().copied().collect();
                        for (p, g) in list {
                            if let Some(s) = observe(&ks, base, p, g) {
                                assert!(REACHABLE.contains(&s.as_str()), "state {s} is not in the table");
                                seen.borrow_mut().insert(s);
                            }
                        }
                        point("observer");
                    }
                    // Kept alive to the end.
                    drop(mm);
                });
            });
        }
        let seen: Vec<String> = seen.take().into_iter().collect();
        let mut want: Vec<&str> = REACHABLE.to_vec();
        want.sort();
        assert_eq!(seen, want);
    }

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

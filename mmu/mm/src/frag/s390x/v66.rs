//! `s390-66`, what landed in Linux 6.6 (hosted-mm S390-66, B.2): a page one of whose halves went through
//! `pte_free_defer` is Active; neither half is used again, and the page is freed after a grace period. No flaw is known;
//! it costs memory.

use super::halves::*;
use super::v61::{LEGAL, finish_byte, reuse};
use crate::arch::S390x;
use crate::error::{Result, broken};
use crate::frag::Frag;
use crate::gather::TableBatch;
use crate::mm::Mm;
use crate::page::{Pages, flag};
use crate::rcu::RcuFunc;
use racewalk_ram::{Kva, Paddr, Pfn};
use racewalk_sched::point;

/// The scheme.
pub(super) struct V66;

impl V66 {
    /// The common first step of both frees: A and P of the half change, and the page's place on the list with them.
    fn retire(&self, k: &K, mm: Kva, page: Pfn, bit: u32, tail: bool, by: &'static str) -> Result<()> {
        locked(k, mm, || {
            let byte = change(k, page, (A | P) << bit, LEGAL, by)?;
            let node = Pages::lru(page);
            let active = active(k, page)?;
            if byte & AA == 0 || active {
                k.kmem.list_del_init(node)
            } else if tail {
                k.kmem.list_add_tail(node, list_head(mm))
            } else {
                k.kmem.list_add(node, list_head(mm))
            }
        })
    }

    /// The last step: P of the half goes; whoever empties the byte frees the page.
    fn finish(&self, k: &K, page: Pfn, bit: u32, by: &'static str) -> Result<()> {
        if finish_byte(k, page, bit, by)? != 0 {
            return Ok(());
        }
        if !k.kmem.list_empty(Pages::lru(page))? {
            return broken(14, format!("{page:?} is freed while it is on a list"));
        }
        if take_active(k, page)? {
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
        let (page, bit) = (page_of(k, table)?, half(table));
        self.retire(k, mm, page, bit, false, "page_table_free")?;
        k.stats.tables_freed.bump();
        self.finish(k, page, bit, "page_table_free")
    }

    fn free_rcu(&self, k: &K, mm: Kva, table: Paddr, batch: &mut TableBatch<'_, S390x>) -> Result<()> {
        let (page, bit) = (page_of(k, table)?, half(table));
        self.retire(k, mm, page, bit, true, "page_table_free_rcu")?;
        batch.remove_table(k, tag(table))
    }

    fn free_defer(&self, k: &K, mm: &Mm, table: Paddr) -> Result<()> {
        let page = page_of(k, table)?;
        point("frag.set_active");
        k.kmem.pages.set_flag(page, flag::ACTIVE)?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lockword;
    use crate::mm::mmw;
    use crate::page::{FrameKind, word};
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
    fn observe(k: &K, mm: Kva, page: Pfn, generation: u64) -> Option<String> {
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
                                4 => k.frag.free_defer(&k, &mm, table).unwrap(),
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

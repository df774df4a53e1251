//! The policies one by one, locked entries, page sizes of every kind.

use crate::naive::Tree;
use crate::{check, entry, key, one_array};
use proptest::prelude::*;
use racewalk_ram::Vaddr;
use racewalk_walk::tlb::{Entry, Fill, Lookup, Purge, Side, Tlb};

const D: Side = Side::Data;

fn hit(t: &mut Tlb<u32>, page: u64) -> bool {
    t.lookup(D, &key(page << 12)) != Lookup::Miss
}

fn fill(t: &mut Tlb<u32>, page: u64) -> Option<u64> {
    assert_eq!(t.fill(D, entry(page, 12)), Fill::Entered);
    t.evicted().first().map(|e| u64::from(e.leaf))
}

fn fill_all(t: &mut Tlb<u32>, pages: u64) {
    for p in 0..pages {
        assert_eq!(fill(t, p), None);
    }
}

#[test]
fn tree_plru_is_its_recursive_definition() {
    // Page n is in way n of the one set until something is replaced.
    check((2..10usize, prop::collection::vec((0..10usize, any::<bool>()), 1..60)), |(ways, acts)| {
        let mut t = Tlb::new(&one_array(ways as u32, "\"full\"", "[\"4K\"]", "tree-plru"));
        let mut tree = Tree::new(&(0..ways).collect::<Vec<_>>());
        let mut pages: Vec<u64> = (0..ways as u64).collect();
        for way in 0..ways {
            fill(&mut t, way as u64);
            tree.touch(way);
        }
        for (n, (way, miss)) in acts.into_iter().enumerate() {
            if miss {
                let victim = tree.victim(&vec![false; ways]).expect("nothing is locked");
                let page = 1000 + n as u64;
                prop_assert_eq!(fill(&mut t, page), Some(pages[victim]));
                pages[victim] = page;
                tree.touch(victim);
            } else {
                prop_assert!(hit(&mut t, pages[way % ways]));
                tree.touch(way % ways);
            }
        }
        Ok(())
    });
}

#[test]
fn round_robin_ignores_use_and_lru_does_not() {
    let replaced = |policy| {
        let mut t = Tlb::new(&one_array(3, "\"full\"", "[\"4K\"]", policy));
        fill_all(&mut t, 3);
        assert!(hit(&mut t, 0));
        [fill(&mut t, 3), fill(&mut t, 4), fill(&mut t, 5), fill(&mut t, 6)].map(Option::unwrap)
    };
    assert_eq!(replaced("round-robin"), [0, 1, 2, 3]);
    assert_eq!(replaced("lru"), [1, 2, 0, 3]);
    // All bits are set: they are reset, way 0 goes, and its new entry is used again.
    assert_eq!(replaced("used-bit"), [0, 1, 2, 3]);
}

#[test]
fn the_used_bit_saves_what_was_used_since_the_reset() {
    let mut t = Tlb::new(&one_array(4, "\"full\"", "[\"4K\"]", "used-bit"));
    fill_all(&mut t, 4);
    assert_eq!(fill(&mut t, 4), Some(0));
    assert!(hit(&mut t, 1));
    assert_eq!(fill(&mut t, 5), Some(2));
    assert_eq!(fill(&mut t, 6), Some(3));
    assert_eq!(fill(&mut t, 7), Some(4), "all used again: from way 0");
}

#[test]
fn random_replacement_follows_from_its_seed_and_reaches_every_way() {
    let victims = |seed: u64| {
        let mut c = one_array(8, "\"full\"", "[\"4K\"]", "random");
        c.levels[0].arrays[0].seed = seed;
        let mut t = Tlb::new(&c);
        (0..400).filter_map(|p| fill(&mut t, p)).collect::<Vec<_>>()
    };
    assert_eq!(victims(7), victims(7));
    assert_ne!(victims(7), victims(8));
    // The pages that stay longest: with 392 replacements in 8 ways none stays for 100.
    let longest = victims(7).iter().enumerate().map(|(i, v)| i as u64 + 8 - v).max();
    assert!((9..100).contains(&longest.unwrap()), "{longest:?}");
}

#[test]
fn locked_entries_are_never_replaced_and_a_full_set_of_them_refuses() {
    for policy in ["lru", "tree-plru", "random", "round-robin", "used-bit"] {
        let mut t = Tlb::new(&one_array(6, "3", "[\"4K\"]", policy));
        let locked = |p| Entry { locked: true, ..entry(p, 12) };
        // Even pages are in set 0.
        for p in [0, 2] {
            assert_eq!(t.fill(D, locked(p)), Fill::Entered);
        }
        for p in (4..40).step_by(2) {
            assert_eq!(fill(&mut t, p), (p > 4).then(|| p - 2), "{policy}");
        }
        assert_eq!(t.fill(D, locked(38)), Fill::Entered, "an update locks it");
        assert_eq!(t.fill(D, entry(100, 12)), Fill::Refused, "{policy}");
        assert!(t.evicted().is_empty() && !hit(&mut t, 100));
        assert_eq!(t.stats()[0].total.refused, 1);
        assert!([0, 2, 38].iter().all(|&p| hit(&mut t, p)));
        assert_eq!(t.fill(D, entry(101, 12)), Fill::Entered, "the other set is free");
        assert_eq!(t.purge(&Purge { spare_locked: true, ..Purge::ALL }, |_| {}), 1);
        assert_eq!(t.purge(&Purge::ALL, |_| {}), 3);
        assert!(t.is_empty());
        assert_eq!(fill(&mut t, 100), None);
    }
}

#[test]
fn one_array_holds_pages_of_all_sizes_at_once() {
    let sizes = "[\"4K\", \"64K\", \"2M\", \"1G\", \"16G\", \"4P\"]";
    let mut t = Tlb::new(&one_array(30, "6", sizes, "lru"));
    // Each where no other is: page 1 of each size, but of 4P page 2.
    for shift in [12, 16, 21, 30, 34] {
        t.fill(D, entry(1, shift));
    }
    t.fill(D, entry(2, 52));
    let size = |va| match t.peek(D, &key(va)) {
        Lookup::Hit(e) => Some((e.tag.shift, e.paddr(Vaddr(va)).0 == va)),
        _ => None,
    };
    for shift in [12, 16, 21, 30, 34, 52] {
        let first = if shift == 52 { 2u64 << 52 } else { 1 << shift };
        assert_eq!(size(first), Some((shift, true)));
        assert_eq!(size(first + (1 << shift) - 1), Some((shift, true)));
        assert_eq!(size(first - 1), None, "below page 1 of 2^{shift}");
    }
    t.fill(D, entry(0x17, 12));
    assert_eq!(t.peek(D, &key(0x1_7000)), Lookup::Multiple, "inside the page of 64K");
    assert_eq!(t.fill(D, entry(0, 13)), Fill::Unheld, "no pages of 8K here");
    let one = Purge { range: Some((Vaddr(0x1_7fff), Vaddr(0x1_7fff))), ..Purge::default() };
    assert_eq!(t.purge(&Purge { shift: Some(12), ..one }, |_| {}), 1);
    assert!(matches!(t.peek(D, &key(0x1_7000)), Lookup::Hit(e) if e.tag.shift == 16));
    assert_eq!(t.purge(&one, |_| {}), 1);
}

#[test]
fn no_tlb_misses_always_and_the_infinite_one_never_forgets() {
    let mut none = Tlb::new(&crate::parse("kind = \"none\""));
    let mut infinite = Tlb::new(&crate::parse("kind = \"infinite\""));
    for p in 0..10_000 {
        assert_eq!(none.fill(D, entry(p, 12)), Fill::Unheld);
        assert_eq!(infinite.fill(Side::Instruction, entry(p, 12)), Fill::Entered);
        assert!(!hit(&mut none, p));
    }
    assert!((0..10_000).all(|p| hit(&mut infinite, p)));
    let (n, i) = (none.stats()[0].total, infinite.stats()[0].total);
    assert_eq!((n.accesses, n.misses, n.hits), (10_000, 10_000, 0));
    assert_eq!((i.accesses, i.hits, i.fills), (10_000, 10_000, 10_000));
    assert_eq!(infinite.purge(&Purge::ALL, |_| {}), 10_000);
    assert_eq!(infinite.stats()[0].total.purged, 10_000);
}

//! Every configuration against the naive model and the infinite TLB, under lookups, fills and purges of every kind.

use crate::check;
use crate::naive::{Leaf, Naive};
use proptest::prelude::*;
use proptest::test_runner::TestCaseError;
use racewalk_ram::{Asid, Paddr, Vaddr};
use racewalk_walk::event::PageSize;
use racewalk_walk::tlb::config::{ArrayConfig, Hierarchy, Kind, LevelConfig, Serves, TlbConfig, Ways};
use racewalk_walk::tlb::{
    Entry, Fill, Globals, Key, Lookup, Purge, Replacement, Side, Spaces, Stats, Tag, Target, Tlb,
};
use std::collections::BTreeMap;

/// Base pages, larger ones, and one of 16G, beyond 32 bits.
const SHIFTS: [u8; 4] = [12, 14, 20, 34];

fn array() -> impl Strategy<Value = ArrayConfig> {
    let side =
        prop_oneof![1 => Just(Serves::Instruction), 1 => Just(Serves::Data), 3 => Just(Serves::Unified)];
    let replacement = prop_oneof![
        Just(Replacement::Lru),
        Just(Replacement::TreePlru),
        Just(Replacement::Random),
        Just(Replacement::RoundRobin),
        Just(Replacement::UsedBit)
    ];
    let sizes = prop::sample::subsequence(SHIFTS.to_vec(), 1..=4);
    (side, 1..6u32, 1..8u32, any::<bool>(), sizes, replacement, any::<u64>(), prop::bool::weighted(0.8))
        .prop_map(|(side, sets, ways, full, sizes, replacement, seed, locks)| ArrayConfig {
            name: String::new(),
            side,
            entries: sets * ways,
            ways: if full { Ways::Full } else { Ways::Of(ways) },
            sizes: sizes.into_iter().map(PageSize).collect(),
            replacement,
            seed,
            locks,
            source: BTreeMap::new(),
        })
}

fn config() -> impl Strategy<Value = TlbConfig> {
    let hierarchy =
        prop_oneof![Just(Hierarchy::Independent), Just(Hierarchy::Inclusive), Just(Hierarchy::Exclusive)];
    let level = prop::collection::vec(array(), 1..4).prop_map(|arrays| LevelConfig { arrays });
    (hierarchy, prop::collection::vec(level, 1..4)).prop_map(|(hierarchy, levels)| TlbConfig {
        about: String::new(),
        kind: Kind::Finite,
        hierarchy,
        levels,
        walk_cache: Vec::new(),
    })
}

#[derive(Clone, Debug)]
enum Act {
    Lookup(Side, Key),
    Fill(Side, Entry<Leaf>),
    Purge(Purge),
}

fn side() -> impl Strategy<Value = Side> {
    prop_oneof![Just(Side::Instruction), Just(Side::Data)]
}

/// A few places near each other, in four regions that are far apart.
fn address() -> impl Strategy<Value = u64> {
    let far = prop_oneof![4 => Just(0u64), 1 => Just(3 << 20), 1 => Just(1 << 34), 1 => Just(0xffff_ff00_0000_0000)];
    (far, 0..20u64, 0..4096u64).prop_map(|(far, page, byte)| far + (page << 12) + byte)
}

fn space() -> impl Strategy<Value = Asid> {
    prop_oneof![4 => Just(Asid(0x1000)), 1 => Just(Asid(0x2000)), 1 => Just(Asid(0x3000))]
}

fn entry() -> impl Strategy<Value = Entry<Leaf>> {
    let shift = prop_oneof![5 => Just(12u8), 1 => Just(14), 1 => Just(20), 1 => Just(34)];
    let global = prop::bool::weighted(0.15);
    let locked = prop::bool::weighted(0.15);
    (space(), global, address(), shift, 0..3u64, locked, 0..100u32).prop_map(
        |(space, global, va, shift, from, locked, leaf)| {
            let page = Vaddr(va >> shift << shift);
            // Some leaves have no address, some are reached by two paths.
            let from = if from == 0 { Paddr(0) } else { Paddr(0x8000 + (va >> 12 & 31) * 8) };
            let frame = Paddr(u64::from(leaf) << 34);
            Entry { tag: Tag { space, global, page, shift }, frame, from, locked, leaf }
        },
    )
}

/// A range that repeats lies in the first `1 << bits` bytes.
fn within(repeats: Option<u8>, first: Vaddr, last: Vaddr) -> (Vaddr, Vaddr) {
    let Some(bits) = repeats else { return (first, last) };
    let [a, b] = [first, last].map(|v| v.0 & ((1 << bits) - 1));
    (Vaddr(a.min(b)), Vaddr(a.max(b)))
}

fn purge() -> impl Strategy<Value = Purge> {
    let spaces = prop_oneof![
        3 => space().prop_map(Spaces::one),
        2 => Just(Spaces::Any),
        1 => Just(Spaces::Matching { value: 0x1000, mask: 0x1000 })
    ];
    let range = (address(), prop_oneof![4 => 0..0x8000u64, 1 => Just(1 << 21), 1 => Just(1 << 35)])
        .prop_map(|(a, n)| (Vaddr(a), Vaddr(a.saturating_add(n))));
    let from = (0..32u64, 0..24u64).prop_map(|(a, n)| (Paddr(0x8000 + a * 8), Paddr(0x8000 + a * 8 + n)));
    let from =
        prop_oneof![4 => from, 1 => Just((Paddr(0), Paddr(7))), 1 => Just((Paddr(0), Paddr(u64::MAX)))];
    let globals = prop_oneof![Just(Globals::Like), Just(Globals::Always), Just(Globals::Never)];
    let target =
        prop_oneof![3 => Just(Target::Both), 1 => Just(Target::Translations), 1 => Just(Target::WalkCache)];
    let one = (
        spaces,
        prop::option::of(range),
        prop::option::weighted(0.2, prop::sample::select(&[13u8, 16, 21, 35][..])),
        prop::option::weighted(0.4, from),
        prop::option::weighted(0.2, prop::sample::select(SHIFTS.to_vec())),
        globals,
        any::<bool>(),
        target,
    );
    let one = one.prop_map(|(spaces, range, repeats, from, shift, globals, spare_locked, target)| Purge {
        spaces,
        range: range.map(|(first, last)| within(repeats, first, last)),
        repeats,
        from,
        shift,
        globals,
        spare_locked,
        target,
    });
    prop_oneof![12 => one, 1 => Just(Purge::ALL)]
}

fn act() -> impl Strategy<Value = Act> {
    let key = (address(), space(), prop::option::weighted(0.2, space()), any::<bool>());
    let key = key.prop_map(|(va, space, other, globals)| Key { va: Vaddr(va), space, other, globals });
    prop_oneof![
        6 => (side(), key).prop_map(|(s, k)| Act::Lookup(s, k)),
        6 => (side(), entry()).prop_map(|(s, e)| Act::Fill(s, e)),
        1 => purge().prop_map(Act::Purge)
    ]
}

fn sorted(mut v: Vec<Entry<Leaf>>) -> Vec<Entry<Leaf>> {
    v.sort_by_key(|e| (e.tag.space, e.tag.page, e.tag.shift, e.tag.global, e.leaf));
    v
}

/// A finite TLB, the naive one and the infinite one, told the same.
struct Three {
    tlb: Tlb<Leaf>,
    naive: Naive,
    infinite: Tlb<Leaf>,
    /// What is held by the account of fills, what they drove out, and purges.
    held: Vec<Entry<Leaf>>,
}

impl Three {
    fn act(&mut self, act: &Act) -> Result<(), TestCaseError> {
        match act {
            Act::Lookup(side, key) => {
                let peeked = self.tlb.peek(*side, key);
                let found = self.tlb.lookup(*side, key);
                prop_assert_eq!(peeked, found, "a look without effect");
                prop_assert_eq!(found, self.naive.lookup(*side, key));
                self.evicted()?;
                let truth = self.infinite.lookup(*side, key);
                match (found, truth) {
                    (Lookup::Miss, _) => {}
                    (Lookup::Hit(e), Lookup::Hit(t)) => prop_assert_eq!(e, t),
                    (Lookup::Hit(e), Lookup::Multiple) => {
                        prop_assert_eq!(Some(&e), self.infinite_has(&e.tag), "one of them")
                    }
                    (Lookup::Multiple, Lookup::Multiple) => {}
                    _ => prop_assert!(false, "{found:?}, an infinite TLB has {truth:?}"),
                }
            }
            Act::Fill(side, e) => {
                let fill = self.tlb.fill(*side, *e);
                prop_assert_eq!(fill, self.naive.fill(*side, *e));
                self.infinite.fill(*side, *e);
                if self.held.iter().any(|h| h.tag == e.tag) || fill == Fill::Entered {
                    self.held.retain(|h| h.tag != e.tag);
                    self.held.push(*e);
                }
                self.evicted()?;
                let key = Key { va: e.tag.last(), space: e.tag.space, other: None, globals: true };
                let found = self.tlb.peek(*side, &key);
                let own = matches!(found, Lookup::Hit(f) if f.tag == e.tag);
                let right = if fill == Fill::Entered { own || self.overlapped(e, found) } else { !own };
                prop_assert!(right, "{fill:?}, but then {found:?}");
            }
            Act::Purge(p) => {
                let mut gone = Vec::new();
                let n = self.tlb.purge(p, |e| gone.push(*e));
                prop_assert_eq!(n, gone.len());
                prop_assert_eq!(sorted(gone.clone()), sorted(self.naive.purge(p)));
                self.infinite.purge(p, |_| {});
                self.held.retain(|h| gone.iter().all(|g| g.tag != h.tag));
            }
        }
        self.agree()
    }

    fn infinite_has(&self, tag: &Tag) -> Option<&Entry<Leaf>> {
        let Tlb::Infinite(t, _) = &self.infinite else { return None };
        t.entries().find(|e| e.tag == *tag)
    }

    /// Another entry stands before `e`, or beside it.
    fn overlapped(&self, e: &Entry<Leaf>, found: Lookup<Leaf>) -> bool {
        match found {
            Lookup::Multiple => true,
            Lookup::Hit(f) => f.tag != e.tag && self.naive.holds(&e.tag),
            Lookup::Miss => false,
        }
    }

    fn evicted(&mut self) -> Result<(), TestCaseError> {
        let evicted = self.tlb.evicted().to_vec();
        prop_assert_eq!(sorted(evicted.clone()), sorted(self.naive.evicted.clone()));
        self.held.retain(|h| evicted.iter().all(|g| g.tag != h.tag));
        Ok(())
    }

    /// Contents and counters, array by array.
    fn agree(&self) -> Result<(), TestCaseError> {
        let Tlb::Finite(t) = &self.tlb else { unreachable!("finite") };
        let mut union: Vec<Entry<Leaf>> = Vec::new();
        for (i, (level, lists)) in t.levels().iter().zip(&self.naive.levels).enumerate() {
            for (a, list) in level.arrays().iter().zip(lists) {
                let entries: Vec<_> = a.entries().copied().collect();
                prop_assert_eq!(&entries, &list.entries(), "set by set, way by way");
                prop_assert_eq!(a.len(), entries.len());
                let s = a.stats();
                prop_assert_eq!(s, list.stats);
                prop_assert_eq!(s.hits + s.misses, s.accesses);
                prop_assert_eq!(s.fills - s.evictions - s.purged - s.moved, entries.len() as u64);
                union.extend(
                    entries.iter().filter(|e| union.iter().all(|u| u.tag != e.tag)).collect::<Vec<_>>(),
                );
            }
            let (s, n) = (level.stats(), self.naive.stats[i]);
            prop_assert_eq!(s.hits + s.misses, s.accesses);
            let Stats { accesses, hits, misses, multiple, .. } = s;
            prop_assert_eq!(n, Stats { accesses, hits, misses, multiple, ..Stats::default() });
        }
        prop_assert_eq!(self.tlb.is_empty(), union.is_empty());
        prop_assert_eq!(sorted(union), sorted(self.held.clone()), "the account balances");
        Ok(())
    }
}

/// Seen to fail: with a slot counted twice that two chains reach, a purge that left out the last page of its range, an
/// entry reported gone while another array held it, the smaller half of a tree on the left.
#[test]
fn every_configuration_is_the_naive_one_and_never_contradicts_the_infinite_one() {
    check((config(), prop::collection::vec(act(), 1..120)), |(config, acts)| {
        let mut all = Three {
            tlb: Tlb::new(&config),
            naive: Naive::new(&config),
            infinite: Tlb::new(&crate::parse("kind = \"infinite\"")),
            held: Vec::new(),
        };
        acts.iter().try_for_each(|a| all.act(a))
    });
}

/// The classic form: both sides' first levels over a shared second one.
fn split(hierarchy: Hierarchy) -> TlbConfig {
    let array = |name, side, entries, ways| {
        format!(
            "[[level.array]]\nname = \"{name}\"\nside = \"{side}\"\nentries = {entries}\nways = {ways}\n\
             sizes = [\"4K\", \"16K\", \"1M\", \"16G\"]\n"
        )
    };
    let mut c = crate::parse(&format!(
        "kind = \"finite\"\n[[level]]\n{}{}[[level]]\n{}",
        array("i", "instruction", 4, 2),
        array("d", "data", 4, 4),
        array("u", "unified", 12, 3)
    ));
    c.hierarchy = hierarchy;
    c
}

fn tags(t: &Tlb<Leaf>, level: usize, array: usize) -> Vec<Tag> {
    let Tlb::Finite(t) = t else { unreachable!("finite") };
    t.levels()[level].arrays()[array].entries().map(|e| e.tag).collect()
}

/// Seen to fail: without the removal from the levels above.
#[test]
fn inclusive_levels_include_and_exclusive_ones_exclude() {
    check(prop::collection::vec(act(), 1..150), |acts| {
        let mut inclusive = Tlb::<Leaf>::new(&split(Hierarchy::Inclusive));
        let mut exclusive = Tlb::<Leaf>::new(&split(Hierarchy::Exclusive));
        for a in &acts {
            for (t, side_of) in [(&mut inclusive, None), (&mut exclusive, Some(Side::Data))] {
                let side = |s: &Side| side_of.unwrap_or(*s);
                match a {
                    Act::Lookup(s, k) => {
                        t.lookup(side(s), k);
                    }
                    Act::Fill(s, e) => {
                        t.fill(side(s), *e);
                    }
                    Act::Purge(p) => {
                        t.purge(p, |_| {});
                    }
                }
            }
            let below = tags(&inclusive, 1, 0);
            for above in [tags(&inclusive, 0, 0), tags(&inclusive, 0, 1)] {
                prop_assert!(above.iter().all(|t| below.contains(t)), "{above:?} in {below:?}");
            }
            let below = tags(&exclusive, 1, 0);
            prop_assert!(tags(&exclusive, 0, 1).iter().all(|t| !below.contains(t)));
        }
        Ok(())
    });
}

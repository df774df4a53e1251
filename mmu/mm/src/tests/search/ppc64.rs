//! The counters of powerpc: a page of which all fragments but the last few were handed out and given back.

use super::counters::{Row, Seen, reachable};
use super::{Found, Options, search};
use crate::arch::{Arch, Radix};
use racewalk_sched::search::Order;
use std::collections::BTreeSet;

type A = Radix<16>;

/// Fragments of a page.
const ALL: u64 = (1 << A::PAGE_SHIFT) / A::FRAGMENT;

fn options<const LEFT: u64>(scheme: &'static str, actors: usize) -> Options<A> {
    Options {
        scheme,
        actors,
        // None but the one that is there.
        pages: 0,
        batches: true,
        order: Order::BreadthFirst,
        setup: |k, mm| {
            let tables: Vec<_> = (LEFT..ALL).map(|_| k.pte_table_alloc(mm.kva()).unwrap()).collect();
            tables.into_iter().for_each(|t| k.pte_table_free(mm.kva(), t).unwrap());
        },
        exits: true,
        settled: |w, page, s, held| s.count != 0 && s.count == held + w.left(page) / A::FRAGMENT,
    }
}

fn run<const LEFT: u64>(scheme: &'static str, actors: usize) -> (Found, BTreeSet<Seen>) {
    let o = options::<LEFT>(scheme, actors);
    let found = search(o);
    let seen: BTreeSet<Seen> = found.states.iter().map(|s| (s.count, s.active, s.queued != 0)).collect();
    found.print(&o, &seen.iter().map(name).collect());
    (found, seen)
}

/// live + D, A for Active and Q for a queued head.
fn name(s: &Seen) -> String {
    let flag = |b, s| if b { s } else { "" };
    format!("{}+{}D{}{}", s.0 & 0xffff, s.0 >> 16, flag(s.1, "A"), flag(s.2, "Q"))
}

/// Nothing is found, and the counters are those of the model, no more and no fewer.
fn is_sound<const LEFT: u64>(scheme: &'static str, row: Row, actors: usize) -> BTreeSet<Seen> {
    let (found, seen) = run::<LEFT>(scheme, actors);
    found.finds(&[]);
    assert_eq!(seen, reachable(row, LEFT, actors), "{scheme}");
    seen
}

fn bare(counts: impl IntoIterator<Item = u64>) -> BTreeSet<Seen> {
    counts.into_iter().map(|n| (n, false, false)).collect()
}

/// Seen to fail when the destruction takes one fragment too few.
#[test]
fn row_6_1() {
    let seen = is_sound::<3>("ppc-frag", Row::V61, 3);
    assert_eq!(seen, bare(0..=3));
}

/// R = live + 0x10000·D. Seen to fail when a second deferral queues too.
#[test]
fn row_v2() {
    let seen = is_sound::<3>("ppc-v2", Row::V2, 3);
    let pairs = (0..=3).flat_map(|d| (0..=3 - d).map(move |live| (live + (d << 16), d > 0)));
    // All mixes of live and deferred fragments, while the head is queued and while its callback runs.
    let want: BTreeSet<Seen> = pairs.flat_map(|(r, d)| [(r, false, false), (r, false, d)]).collect();
    assert_eq!(seen, want);
    is_sound::<4>("ppc-v2", Row::V2, 2);
}

/// Active is set before the last fragment goes, and is gone when the head is queued. Seen to fail when Active is set after
/// the count, and when the destruction leaves it.
#[test]
fn row_6_6() {
    let seen = is_sound::<3>("ppc-66-fixed", Row::V66, 3);
    let active = (1..=3).map(|n| (n, true, false));
    let want: BTreeSet<Seen> = bare(0..=3).into_iter().chain(active).chain([(0, false, true)]).collect();
    assert_eq!(seen, want);
    is_sound::<4>("ppc-66-fixed", Row::V66, 2);
}

/// F-21: as merged, the destruction leaves Active set.
#[test]
fn row_6_6_before_its_fix() {
    let (found, seen) = run::<3>("ppc-66", 2);
    found.finds(&["25: "]);
    let more: Vec<Seen> = seen.difference(&reachable(Row::V66, 3, 2)).copied().collect();
    assert_eq!(more, [(0, true, false)]);
}

#[test]
fn flaws_are_found() {
    // F-01.
    run::<3>("ppc-v1", 2).0.finds(&["4: "]);
    // F-07.
    run::<3>("ppc-jason-last-a", 2)
        .0
        .finds(&["11: invariant 11 broken: a lock is destroyed while readers are inside"]);
    // F-08.
    run::<3>("ppc-jason-last-b", 2)
        .0
        .finds(&["3: invariant 3 broken: a page is freed while readers are inside"]);
}

#[test]
fn other_sound_schemes() {
    let (found, seen) = run::<3>("ppc-jason-last-c", 2);
    found.finds(&[]);
    assert_eq!(seen, bare(0..=3).into_iter().chain([(0, false, true)]).collect());
    // Its heads are not the page's.
    let (found, seen) = run::<3>("ppc-nheads", 2);
    found.finds(&[]);
    assert_eq!(seen, bare(0..=3));
}

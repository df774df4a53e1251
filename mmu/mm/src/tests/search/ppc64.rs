//! The counters of powerpc: a page of which all fragments but the last few were handed out and given back.

use super::counters::{Row, Seen, reachable};
use super::{Found, Options, search};
use crate::arch::{Arch, Radix};
use std::collections::BTreeSet;

type A = Radix<16>;

/// Fragments of a page.
const ALL: u64 = (1 << A::PAGE_SHIFT) / A::FRAGMENT;
/// Those that are left.
const LEFT: u64 = 3;

fn run(scheme: &'static str, actors: usize) -> (Found, BTreeSet<Seen>) {
    let t = std::time::Instant::now();
    let found = search::<A>(Options {
        scheme,
        actors,
        pages: 0,
        setup: |k, mm| {
            let tables: Vec<_> = (LEFT..ALL).map(|_| k.pte_table_alloc(mm.kva()).unwrap()).collect();
            tables.into_iter().for_each(|t| k.pte_table_free(mm.kva(), t).unwrap());
        },
        exits: true,
        settled: |w, page, s, held| s.count != 0 && s.count == held + w.left(page) / A::FRAGMENT,
    });
    let seen: BTreeSet<Seen> = found.states.iter().map(|s| (s.count, s.active, s.queued != 0)).collect();
    let s = &found.search;
    println!(
        "{scheme}, {actors} actors: {} states, {} steps, {} runs, {:?}; {} states of a page: {}",
        s.states,
        s.transitions,
        s.runs,
        t.elapsed(),
        seen.len(),
        seen.iter().map(name).collect::<Vec<_>>().join(" ")
    );
    assert!(s.complete, "{:?}, diverged: {}", s.end, s.diverged);
    for f in &found.findings {
        println!("    {f}");
    }
    (found, seen)
}

/// The counter as live + D, then A for Active and Q for queued.
fn name(s: &Seen) -> String {
    let flag = |b, s| if b { s } else { "" };
    format!("{}+{}D{}{}", s.0 & 0xffff, s.0 >> 16, flag(s.1, "A"), flag(s.2, "Q"))
}

#[test]
fn try_counters() {
    let actors: usize = std::env::var("ACTORS").map_or(2, |a| a.parse().unwrap());
    let only = std::env::var("SCHEME").unwrap_or_default();
    for (s, row) in [
        ("ppc-frag", Some(Row::V61)),
        ("ppc-v2", Some(Row::V2)),
        ("ppc-66-fixed", Some(Row::V66)),
        ("ppc-66", None),
        ("ppc-v1", None),
        ("ppc-jason-last-a", None),
        ("ppc-jason-last-b", None),
        ("ppc-jason-last-c", None),
        ("ppc-nheads", None),
    ] {
        if s.contains(&only) {
            let (_, seen) = run(s, actors);
            if let Some(row) = row {
                let want = reachable(row, LEFT, actors);
                println!("    missing {:?}", want.difference(&seen).map(name).collect::<Vec<_>>());
                println!("    more {:?}", seen.difference(&want).map(name).collect::<Vec<_>>());
            }
        }
    }
}

//! The byte protocols of s390: the states that a page is in between the sections of its list's lock.

use super::world::PageState;
use super::{Found, Options, search};
use crate::arch::S390x;
use std::collections::BTreeSet;

fn run(scheme: &'static str, actors: usize, pages: u64) -> Found {
    let t = std::time::Instant::now();
    let found = search::<S390x>(Options {
        scheme,
        actors,
        pages,
        setup: |_, _| {},
        exits: false,
        // Nothing waits, and what is allocated is held.
        settled: |_, _, s, held| s.byte & 0xfc == 0 && u64::from(s.byte.count_ones()) == held,
    });
    let s = &found.search;
    println!(
        "{scheme}, {actors} actors, {pages} pages: {} states, {} steps, {} runs, {:?}; {} states of a page: {}",
        s.states,
        s.transitions,
        s.runs,
        t.elapsed(),
        names(&found.states).len(),
        names(&found.states).into_iter().collect::<Vec<_>>().join(" ")
    );
    assert!(s.complete, "{:?}, diverged: {}", s.end, s.diverged);
    for f in &found.findings {
        println!("    {f}");
    }
    found
}

/// As the reference writes them; an empty page is being freed.
fn names(states: &BTreeSet<PageState>) -> BTreeSet<String> {
    let flag = |b, s| if b { s } else { "" };
    states
        .iter()
        .filter(|s| s.byte != 0)
        .map(|s| format!("{:02x}{}{}", s.byte, flag(s.listed, "L"), flag(s.active, "T")))
        .collect()
}

#[test]
fn try_it() {
    let actors: usize = std::env::var("ACTORS").map_or(2, |a| a.parse().unwrap());
    let pages: u64 = std::env::var("PAGES").map_or(1, |a| a.parse().unwrap());
    let only = std::env::var("SCHEME").unwrap_or_default();
    for s in [
        "s390-61",
        "s390-66",
        "s390-v2-maskfixed",
        "s390-pre",
        "s390-nop",
        "s390-v1",
        "s390-v2",
        "s390-rush",
        "s390-gerald-final",
        "s390-free-rcu",
        "s390-1bit",
        "s390-hhtail",
        "s390-v2+1",
        "s390-v2-mmlock",
    ] {
        if s.contains(&only) {
            run(s, actors, pages);
        }
    }
}

//! The byte protocols of s390: the states that a page is in between the steps that belong together.

use super::world::PageState;
use super::{Found, Options, search};
use crate::arch::S390x;
use racewalk_sched::search::Order;
use std::collections::BTreeSet;

/// B.1.
const V61: &str = "01L 02L 03 10 12L 20 21L 30";
/// What B.2 adds: Active is set.
const ACTIVE: &str = "01T 01LT 02T 02LT 03T 10T 12T 12LT 20T 21T 21LT 30T";
/// B.3.
const V2: &str = "01L 02L 03 10 12 14 16 20 21 28 29 30 34 38 3c";

const fn options(scheme: &'static str, actors: usize, pages: u64) -> Options<S390x> {
    Options {
        scheme,
        actors,
        pages,
        batches: true,
        order: Order::BreadthFirst,
        setup: |_, _| {},
        exits: false,
        // Nothing waits, and what is allocated is held.
        settled: |_, _, s, held| s.byte & 0xfc == 0 && u64::from(s.byte.count_ones()) == held,
    }
}

fn run(o: Options<S390x>) -> (Found, BTreeSet<String>) {
    let found = search(o);
    let states = names(&found.states);
    found.print(&o, &states);
    (found, states)
}

/// As the reference writes them: byte, listed, Active. An empty page is being freed.
fn names(states: &BTreeSet<PageState>) -> BTreeSet<String> {
    let flag = |b, s| if b { s } else { "" };
    let made = states.iter().filter(|s| s.byte != 0);
    made.map(|s| format!("{:02x}{}{}", s.byte, flag(s.listed, "L"), flag(s.active, "T"))).collect()
}

fn table(rows: &[&str]) -> BTreeSet<String> {
    rows.iter().flat_map(|r| r.split(' ')).map(String::from).collect()
}

/// Nothing is found, and the states are the table's, no more and no fewer.
fn is_sound(o: Options<S390x>, rows: &[&str]) {
    let (found, states) = run(o);
    found.finds(&[]);
    assert_eq!(states, table(rows), "{}", o.scheme);
}

/// Seen to fail when `page_table_alloc` leaves the page on its list, and when the free of the last half does.
#[test]
fn b1_is_what_s390_61_reaches() {
    is_sound(options("s390-61", 3, 1), &[V61]);
    is_sound(options("s390-61", 1, 2), &[V61]);
}

/// Seen to fail when a free does not look at Active.
#[test]
fn b2_is_what_s390_66_reaches() {
    is_sound(options("s390-66", 3, 1), &[V61, ACTIVE]);
    is_sound(options("s390-66", 1, 2), &[V61, ACTIVE]);
}

/// Seen to fail when the callback does not queue the page for the other half.
#[test]
fn b3_is_what_the_corrected_v2_reaches() {
    is_sound(options("s390-v2-maskfixed", 3, 1), &[V2]);
    is_sound(options("s390-v2-maskfixed", 1, 2), &[V2]);
}

/// The table does not depend on the order in which the states are found, nor does their number.
#[test]
fn orders_agree() {
    for o in [options("s390-66", 2, 1), options("s390-66", 1, 2)] {
        let ((broad, a), (deep, b)) = (run(o), run(Options { order: Order::DepthFirst, ..o }));
        assert_eq!(a, b);
        let size = |f: &Found| (f.search.states, f.search.transitions);
        assert_eq!(size(&broad), size(&deep));
        assert!(deep.search.runs < broad.search.runs);
    }
}

/// Without memory for batches tables are freed behind a cross call: no grace period, and no state is new.
#[test]
fn without_batches() {
    is_sound(Options { batches: false, ..options("s390-61", 2, 1) }, &[V61]);
    is_sound(Options { batches: false, ..options("s390-66", 2, 1) }, &[V61, ACTIVE]);
    let (found, _) = run(Options { batches: false, ..options("s390-free-rcu", 2, 1) });
    // F-13.
    found.finds(&["3: ", "8: "]);
}

const TWICE: &str = "4: invariant 4 broken: call_rcu on the head at which is queued already";
const FREED: &str = "14: invariant 14 broken: a freed page is on the list";

#[test]
fn f04_pre_frees_a_page_that_is_being_unlinked() {
    let (found, states) = run(options("s390-pre", 2, 1));
    found.finds(&[FREED]);
    assert_eq!(states, table(&[V61]));
    // It takes two.
    run(options("s390-pre", 1, 1)).0.finds(&[]);
}

#[test]
fn f05_nop_hands_out_a_pending_half() {
    run(options("s390-nop", 2, 1)).0.finds(&[
        "6: invariant 6 broken: page_table_alloc takes the PP/AA byte of from 0x12 to 0x13",
        "6: invariant 6 broken: page_table_alloc takes the PP/AA byte of from 0x21 to 0x23",
    ]);
}

#[test]
fn v1_has_three_flaws() {
    let (found, _) = run(options("s390-v1", 2, 1));
    for flaw in [
        // F-01.
        TWICE,
        // F-02: the wrong half is freed, so that its A comes back.
        "6: invariant 6 broken: page_table_free takes the PP/AA byte of from 0x01 to 0x23",
        "6: invariant 6 broken: page_table_free takes the PP/AA byte of from 0x02 to 0x13",
        // F-03a: the list is a callback's, and the callback a list's.
        "14: wild kernel pointer 0x0: wanted a list node",
        "14: wild kernel pointer wanted an RCU callback function",
    ] {
        assert!(found.findings.contains(flaw), "{flaw}: {:#?}", found.findings);
    }
}

#[test]
fn f08_gerald_final_has_no_grace_period() {
    run(options("s390-gerald-final", 2, 1)).0.finds(&[
        "3: invariant 3 broken: a page is freed while readers are inside a table",
        "8: invariant 8 broken: a table is handed out again while readers are inside",
    ]);
}

#[test]
fn f24_v2_as_posted_leaks() {
    let (found, states) = run(options("s390-v2", 2, 1));
    found
        .finds(&["10: invariant 10 broken: left for ever: 14", "10: invariant 10 broken: left for ever: 28"]);
    assert_eq!(states, table(&[V2]), "what leaks is in no new state");
}

/// What the list says where a half went through `pte_free_defer` is lost for good: those states have no L. Seen to fail when
/// the list is left without a look at the flag.
#[test]
fn f24_v2g_leaks() {
    const V2G: &str = "01 01L 02 02L 03 10 12 12L 14 16 20 21 21L 28 29 30 34 38 3c";
    let (found, states) = run(options("s390-v2g", 2, 1));
    found
        .finds(&["10: invariant 10 broken: left for ever: 14", "10: invariant 10 broken: left for ever: 28"]);
    assert_eq!(states, table(&[V2G]));
    run(options("s390-v2g", 1, 2));
}

#[test]
fn f26_hhtail_passes_over_a_usable_page() {
    run(options("s390-hhtail", 2, 1)).0.finds(&[]);
    run(options("s390-hhtail", 1, 2)).0.finds(&["26: "]);
}

/// Variants of ours and of others, which have no table in the reference: the states that their rules allow.
#[test]
fn other_sound_schemes() {
    const ONE_BIT: &str = "01L 02L 03 04 06 08 09 0c 10 12 18 20 21 24 30";
    is_sound(options("s390-1bit", 2, 1), &[ONE_BIT]);
    // Its list is another.
    is_sound(options("s390-v2+1", 2, 1), &[&V2.replace('L', "")]);
    is_sound(options("s390-v2-mmlock", 2, 1), &[V2]);
    // Writes to tables before their grace period are not looked at here.
    is_sound(options("s390-rush", 2, 1), &[V61, ACTIVE]);
}

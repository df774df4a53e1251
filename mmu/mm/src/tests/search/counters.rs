//! The counters of hosted-mm B.4 once more, as numbers alone: one page whose last fragments are handed out and given back.

use std::collections::BTreeSet;

/// A row of the table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Row {
    /// "6.1".
    V61,
    /// "v2".
    V2,
    /// "6.6", with the fix of the destruction.
    V66,
}

/// One deferral in the counter of v2.
const D: u64 = 0x1_0000;

/// What an operation does next.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Step {
    /// R − 1.
    Free,
    SetActive,
    /// R + 0xFFFF.
    AddDeferral,
    /// R − 0xFFFF.
    TakeDeferral,
    /// R has come to this: D more than one are dropped, and the one is queued.
    Drop(u64),
    /// R − this.
    Destroy(u64),
    Release,
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct State {
    r: u64,
    active: bool,
    /// The page's head is queued, or its grace period is over.
    head: Option<bool>,
    /// Gathered fragments before and after their grace period.
    gathered: [u64; 2],
    left: u64,
    held: u64,
    /// Steps to come, and whether it is a callback's.
    ops: Vec<(Step, bool)>,
    exited: bool,
}

/// A counter, Active, and whether the page's head is queued.
pub(super) type Seen = (u64, bool, bool);

/// All that is reached from a page of which `left` fragments are still to be handed out, with so many operations at once.
pub(super) fn reachable(row: Row, left: u64, at_once: usize) -> BTreeSet<Seen> {
    let first = State {
        r: left,
        active: false,
        head: None,
        gathered: [0; 2],
        left,
        held: 0,
        ops: Vec::new(),
        exited: false,
    };
    let mut work = vec![first.clone()];
    let mut all = BTreeSet::from([first]);
    while let Some(s) = work.pop() {
        for mut n in next(row, &s, at_once) {
            n.ops.sort();
            if all.insert(n.clone()) {
                work.push(n);
            }
        }
    }
    all.iter().map(|s| (s.r, s.active, s.head.is_some())).collect()
}

/// The states after `s` in which the page still exists.
fn next(row: Row, s: &State, at_once: usize) -> Vec<State> {
    let mut out = Vec::new();
    let mut with = |f: &dyn Fn(&mut State)| {
        let mut n = s.clone();
        f(&mut n);
        out.push(n);
    };
    if s.ops.len() < at_once {
        if s.left > 0 && !s.exited {
            with(&|n| (n.left, n.held) = (n.left - 1, n.held + 1));
        }
        if s.held > 0 {
            let give = |n: &mut State, step| {
                n.held -= 1;
                n.ops.push((step, false));
            };
            with(&|n| give(n, Step::Free));
            with(&|n| (n.held, n.gathered[0]) = (n.held - 1, n.gathered[0] + 1));
            match row {
                Row::V61 => {}
                Row::V2 => with(&|n| give(n, Step::AddDeferral)),
                Row::V66 => with(&|n| give(n, Step::SetActive)),
            }
        }
        if s.gathered[1] > 0 {
            with(&|n| {
                n.gathered[1] -= 1;
                n.ops.push((Step::Free, true));
            });
        }
        if s.head == Some(true) {
            with(&|n| {
                n.head = None;
                n.ops.push((if row == Row::V2 { Step::TakeDeferral } else { Step::Release }, true));
            });
        }
        if !s.exited && s.held == 0 && s.ops.iter().all(|o| o.1) {
            with(&|n| {
                n.exited = true;
                if n.left > 0 {
                    n.ops.push((Step::Destroy(std::mem::take(&mut n.left)), false));
                }
            });
        }
        with(&|n| {
            n.head = n.head.map(|_| true);
            n.gathered = [0, n.gathered[0] + n.gathered[1]];
        });
    }
    for i in 0..s.ops.len() {
        let mut n = s.clone();
        let (step, callback) = n.ops.remove(i);
        let mut then = |n: &mut State, step| n.ops.push((step, callback));
        let zero = |n: &mut State, then: &mut dyn FnMut(&mut State, Step)| {
            if n.r == 0 && row == Row::V66 && n.active && !matches!(step, Step::Destroy(_)) {
                (n.active, n.head) = (false, Some(false));
            } else if n.r == 0 {
                n.active = false;
                then(n, Step::Release);
            }
        };
        match step {
            Step::Free => {
                n.r -= 1;
                zero(&mut n, &mut then);
            }
            Step::SetActive => {
                n.active = true;
                then(&mut n, Step::Free);
            }
            Step::AddDeferral => {
                n.r += D - 1;
                if n.r < 2 * D {
                    assert_eq!(n.head, None, "queued twice");
                    n.head = Some(false);
                }
            }
            Step::TakeDeferral => {
                n.r -= D - 1;
                let step = if n.r < D { Step::Free } else { Step::Drop(n.r) };
                then(&mut n, step);
            }
            Step::Drop(r) if r >= 2 * D => {
                n.r -= D;
                let r = n.r;
                then(&mut n, Step::Drop(r));
            }
            Step::Drop(_) => {
                n.r -= 1;
                assert_eq!(n.head, None, "queued twice");
                n.head = Some(false);
            }
            Step::Destroy(left) => {
                n.r -= left;
                zero(&mut n, &mut then);
            }
            // The page is gone, and nothing else may be about it.
            Step::Release => {
                assert_eq!((n.r, n.held, n.left, n.gathered, n.head), (0, 0, 0, [0; 2], None), "{s:?}");
                continue;
            }
        }
        out.push(n);
    }
    out
}

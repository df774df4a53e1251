//! The search of all states, over programs whose states can be counted by hand.

use racewalk_sched::controlled::*;
use racewalk_sched::search::{Order, Search, SearchConfig, State, explore, explore_by, explore_with};
use racewalk_sched::{Lock, choose, forget, observe, point, wait_while, wake};
use std::cell::Cell;
use std::collections::BTreeSet;
use std::rc::Rc;

fn config(order: Order) -> SearchConfig {
    let mut c = SearchConfig::default();
    c.order = order;
    c
}

/// Both orders, which must agree; `vars` are what the tasks share, made zero before each run.
fn both<const N: usize>(main: fn(Rc<[Cell<u64>; N]>)) -> Search {
    let search = |order| {
        let vars: Rc<[Cell<u64>; N]> = Rc::new([const { Cell::new(0) }; N]);
        let (v, seen) = (vars.clone(), vars);
        let fingerprint = move || seen.iter().fold(1, |h, c| Rng(h ^ c.get()).next_u64());
        let mut keys = BTreeSet::new();
        let s = explore_with(
            config(order),
            fingerprint,
            move || {
                v.iter().for_each(|c| c.set(0));
                main(v.clone());
            },
            |s: State| assert!(keys.insert(s.key)),
        );
        assert!(!s.diverged);
        (s, keys)
    };
    let ((deep, a), (broad, b)) = (search(Order::DepthFirst), search(Order::BreadthFirst));
    if deep.complete {
        assert_eq!((deep.states, deep.transitions), (broad.states, broad.transitions));
        assert_eq!(a, b, "the same states");
        assert!(deep.runs <= broad.runs);
    }
    broad
}

/// Each of two tasks is at its start, at one of three points, or has ended: 5 × 5, and the start of the run. Each of
/// the 25 but the last has a step for each task that has not ended.
#[test]
fn positions_are_counted() {
    let s = both::<1>(|_| {
        for _ in 0..2 {
            spawn("t", || (0..3).for_each(|_| point("p")));
        }
    });
    assert!(s.complete && s.end.is_none());
    assert_eq!((s.states, s.transitions), (1 + 25, 1 + 2 * 4 * 5));
}

/// The same with points at which nobody else may go on: they add no state. Somebody else goes on all the same where a task
/// waits. Seen to fail when every label is a branch.
#[test]
fn branches_are_at_chosen_labels() {
    let quiet = |waits: bool| {
        let lock = Rc::new(Lock::new());
        move || {
            for _ in 0..2 {
                let lock = lock.clone();
                spawn("t", move || {
                    for _ in 0..3 {
                        let _held = waits.then(|| lock.lock("quiet"));
                        point("quiet");
                        point("p");
                        point("quiet");
                    }
                });
            }
        }
    };
    for order in [Order::DepthFirst, Order::BreadthFirst] {
        let mut c = config(order);
        c.branch = Some(|label| label != "quiet");
        let s = explore(c, || 0, quiet(false));
        assert!(s.complete && s.end.is_none(), "{s:?}");
        assert_eq!((s.states, s.transitions), (1 + 25, 1 + 2 * 4 * 5));
        let s = explore(c, || 0, quiet(true));
        assert!(s.complete && s.end.is_none(), "{s:?}");
    }
}

/// Tasks that do the same are told apart by where they are alone: of the 5 × 5 pairs 15 are left. Seen to fail when the
/// order counts.
#[test]
fn the_caller_says_what_a_state_is() {
    let key = |at: Option<&Situation<'_>>| {
        let mut tasks: Vec<u64> = at.map_or(vec![], |at| (0..at.tasks()).map(|t| at.local(t)).collect());
        tasks.sort();
        tasks.iter().fold(1, |h, t| Rng(h ^ t).next_u64())
    };
    let main = || (0..2).for_each(|_| _ = spawn("t", || (0..3).for_each(|_| point("p"))));
    let s = explore_by(config(Order::BreadthFirst), key, main, |_| {});
    assert!(s.complete && s.end.is_none(), "{s:?}");
    assert_eq!(s.states, 1 + 15);
}

/// Two tasks for ever, one counter modulo 5. Both at the start: the counter is 0; one or both in the loop: any of 5.
/// Seen not to end without `forget`.
#[test]
fn endless_programs_end() {
    let s = both::<1>(|v| {
        for _ in 0..2 {
            let v = v.clone();
            spawn("t", move || {
                loop {
                    point("inc");
                    v[0].set((v[0].get() + 1) % 5);
                    forget();
                }
            });
        }
    });
    assert!(s.complete, "{s:?}");
    // To come to the first point adds nothing: with one task still at the start, the other may have made any number of
    // rounds.
    assert_eq!(s.states, 1 + 1 + 5 + 5 + 5);
}

/// Every value is a branch: the start, then three ways to the point, then one end for each of the values.
#[test]
fn values_are_branches() {
    let s = both::<1>(|v| {
        let n = choose(3, "which");
        point("p");
        v[0].set(n as u64);
    });
    assert!(s.complete);
    assert_eq!((s.states, s.transitions), (1 + 3 + 3, 3 + 3));
}

/// A lock by load and store. The shortest failure is found first: both load before either stores. Against every
/// schedule of up to four preemptions.
#[test]
fn the_shortest_violation_is_found() {
    fn broken(v: Rc<[Cell<u64>; 2]>) {
        for _ in 0..2 {
            let v = v.clone();
            spawn("t", move || {
                for _ in 0..3 {
                    point("load");
                    let held = v[0].get();
                    observe(held);
                    if held != 0 {
                        continue;
                    }
                    point("store");
                    v[0].set(1);
                    assert_eq!(v[1].get(), 0, "two inside");
                    v[1].set(1);
                    point("inside");
                    v[1].set(0);
                    v[0].set(0);
                }
            });
        }
    }
    let s = both::<2>(broken);
    let (end, schedule) = s.end.expect("it is broken");
    assert!(matches!(&end, End::Panicked(_, m) if m.contains("two inside")), "{end:?}");
    let again = |policy: &mut dyn Policy| {
        run(Config::default(), policy, || broken(Rc::new([const { Cell::new(0) }; 2])))
    };
    let mut replay = Replay::new(schedule.clone(), Stay);
    let out = again(&mut replay);
    assert_eq!((&out.end, &out.schedule), (&end, &schedule), "its schedule repeats it");
    let mut dfs = Dfs::new(4);
    let mut shortest = usize::MAX;
    while dfs.start() {
        let out = again(&mut dfs);
        if out.end != End::Finished {
            shortest = shortest.min(out.schedule.choices.len());
        }
    }
    assert!(dfs.complete());
    assert_eq!(schedule.choices.len(), shortest);
}

/// A lock that works: no failure in any state, with waits and wakeups. Seen to fail with `lock` in one task only.
#[test]
fn a_lock_has_no_violation() {
    let s = both::<1>(|v| {
        let lock = Rc::new(Lock::new());
        for _ in 0..3 {
            let (v, lock) = (v.clone(), lock.clone());
            spawn("t", move || {
                let _held = lock.lock("lock");
                assert_eq!(v[0].replace(1), 0);
                point("inside");
                v[0].set(0);
            });
        }
    });
    assert!(s.complete && s.end.is_none(), "{s:?}");
}

/// A lost wakeup that needs one order of three steps.
#[test]
fn failures_of_the_run_are_failures() {
    let s = both::<1>(|v| {
        let w = v.clone();
        spawn("waiter", move || wait_while(5, "wait", || w[0].get() == 0));
        spawn("setter", move || {
            point("set");
            v[0].set(1);
            if v[0].get() == 0 {
                wake(5);
            }
        });
    });
    assert_eq!(s.end.map(|e| e.0), Some(End::LostWakeup("waiter".into(), "wait")));
    assert!(!s.complete);
}

#[test]
fn limits_are_not_complete() {
    let forever = || {
        loop {
            point("p");
        }
    };
    for order in [Order::DepthFirst, Order::BreadthFirst] {
        let mut c = config(order);
        (c.max_states, c.max_depth) = (100, 1000);
        let s = explore(c, || 0, forever);
        assert!(!s.complete && s.states == 100, "{s:?}");
        (c.max_states, c.max_depth) = (1000, 50);
        let s = explore(c, || 0, forever);
        assert!(!s.complete && s.states == 51, "{s:?}");
    }
    // A program that remembers that it ran.
    let n = Rc::new(Cell::new(0));
    let s = explore(
        config(Order::DepthFirst),
        || 0,
        move || {
            n.set(n.get() + 1);
            if n.get() == 1 {
                (0..2).for_each(|_| _ = spawn("t", || point("p")));
            }
        },
    );
    assert!(s.diverged && !s.complete, "{s:?}");
}

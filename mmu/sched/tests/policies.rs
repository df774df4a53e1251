//! Policies over small programs, and their names.

use racewalk_sched::controlled::*;
use racewalk_sched::{choose, point};
use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::rc::Rc;

/// `tasks` tasks of `points` points; the order in which they passed them.
fn order(policy: &mut dyn Policy, tasks: usize, points: usize) -> (Vec<usize>, Outcome) {
    let log = Rc::new(RefCell::new(Vec::new()));
    let l = log.clone();
    let out = run(Config::default(), policy, move || {
        for t in 0..tasks {
            let l = l.clone();
            spawn("t", move || {
                for _ in 0..points {
                    l.borrow_mut().push(t);
                    point("p");
                }
            });
        }
    });
    assert_eq!(out.end, End::Finished);
    (log.take(), out)
}

/// Preemptions counted from the order alone: a switch away from a task that has steps left.
fn preemptions(order: &[usize], points: usize) -> usize {
    let left = |i: usize| order[..=i].iter().filter(|&&t| t == order[i]).count() < points;
    (1..order.len()).filter(|&i| order[i] != order[i - 1] && left(i - 1)).count()
}

/// All orders of a multiset, and how many preemptions each has, against the search with a bound. A task that has
/// passed its last point must still be resumed to end, which the order does not show: schedules outnumber orders.
/// Seen to fail with the bound off by one and with the last option left out.
#[test]
fn dfs_makes_every_order_within_the_bound() {
    fn all(left: &mut [usize], order: &mut Vec<usize>, out: &mut Vec<Vec<usize>>) {
        if left.iter().all(|&l| l == 0) {
            out.push(order.clone());
        }
        for t in 0..left.len() {
            if left[t] != 0 {
                left[t] -= 1;
                order.push(t);
                all(left, order, out);
                order.pop();
                left[t] += 1;
            }
        }
    }
    let (tasks, points) = (3, 2);
    let mut every = Vec::new();
    all(&mut vec![points; tasks], &mut Vec::new(), &mut every);
    assert_eq!(every.len(), 90);
    for bound in 0..6 {
        let (mut dfs, mut seen, mut schedules) = (Dfs::new(bound), BTreeSet::new(), BTreeSet::new());
        while dfs.start() {
            let (o, out) = order(&mut dfs, tasks, points);
            assert!(out.preemptions.len() <= bound as usize, "{out:?}");
            assert!(preemptions(&o, points) <= out.preemptions.len());
            assert!(schedules.insert(out.schedule.to_string()), "each schedule once");
            seen.insert(o);
        }
        assert!(dfs.complete() && dfs.diverged() == 0 && dfs.schedules() == schedules.len() as u64);
        let within = every.iter().filter(|o| preemptions(o, points) <= bound as usize);
        assert_eq!(seen, within.cloned().collect(), "bound {bound}");
    }
}

/// Without preemptions the tasks run in one of the orders of three things. Seen to fail with every switch counted.
#[test]
fn dfs_without_preemptions_permutes() {
    let mut dfs = Dfs::new(0);
    let mut seen = BTreeSet::new();
    while dfs.start() {
        seen.insert(order(&mut dfs, 3, 3).0);
    }
    assert_eq!(seen.len(), 6);
    assert_eq!(dfs.schedules(), 6);
}

#[test]
fn dfs_takes_every_value() {
    let seen = Rc::new(RefCell::new(Vec::new()));
    let mut dfs = Dfs::new(0);
    while dfs.start() {
        let s = seen.clone();
        run(Config::default(), &mut dfs, move || s.borrow_mut().push((choose(2, "a"), choose(3, "b"))));
    }
    assert_eq!(*seen.borrow(), [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)]);
}

/// With two tasks of one step and depth 1, either order has an even chance; the bug of depth 2 in the second program
/// needs one change at one of its few decisions. Bounds are the paper's, checked with a wide margin.
#[test]
fn pct_finds_bugs_of_its_depth() {
    let first = (0..1000).filter(|&s| order(&mut Pct::new(s, 1, 10), 2, 1).0[0] == 0).count();
    assert!((400..600).contains(&first), "{first}");
    for seed in 0..200 {
        assert!(
            preemptions(&order(&mut Pct::new(seed, 1, 40), 3, 10).0, 10) == 0,
            "no change, no preemption"
        );
        assert!(preemptions(&order(&mut Pct::new(seed, 3, 40), 3, 10).0, 10) <= 2, "two changes");
    }
    let broken = |policy: &mut dyn Policy| {
        let out = run(Config::default(), policy, || {
            let count = Rc::new(Cell::new(0));
            let done = Rc::new(Cell::new(0));
            for _ in 0..2 {
                let (count, done) = (count.clone(), done.clone());
                spawn("adder", move || {
                    (0..20).for_each(|_| point("work"));
                    let v = count.get();
                    point("between");
                    count.set(v + 1);
                    done.set(done.get() + 1);
                    if done.get() == 2 && count.get() != 2 {
                        cancel();
                    }
                });
            }
        });
        (out.end == End::Cancelled, out)
    };
    let mut runs = "pct:2".parse::<PolicySpec>().unwrap().runs(7);
    let mut found = 0;
    for _ in 0..2000 {
        let (bug, out) = broken(runs.policy().unwrap());
        runs.ran(&out);
        found += bug as u32;
    }
    // At least 1/(2 tasks × 44 decisions) of the runs are expected: 22.
    assert!(found > 10, "{found}");
    assert!((0..200).all(|s| !broken(&mut Pct::new(s, 1, 44)).0), "depth 1 cannot");
}

/// Seen to fail with a `stay` that follows the current task into the background.
#[test]
fn a_background_task_starves_nobody() {
    for spec in ["stay", "pct:1", "pct:3", "dfs:1", "random", "round-robin"] {
        let mut runs = spec.parse::<PolicySpec>().unwrap().runs(3);
        for _ in 0..50 {
            let Some(policy) = runs.policy() else { break };
            let mut config = Config::default();
            config.max_points = 2000;
            let out = run(config, policy, || {
                let left = Rc::new(Cell::new(2));
                for _ in 0..2 {
                    let l = left.clone();
                    spawn("worker", move || {
                        (0..5).for_each(|_| point("work"));
                        l.set(l.get() - 1);
                    });
                }
                spawn_background("walker", move || {
                    while left.get() != 0 {
                        point("rest");
                    }
                });
            });
            runs.ran(&out);
            assert_eq!(out.end, End::Finished, "{spec}: {}", out.schedule);
        }
    }
}

/// Values are part of what is repeated, in the string too.
#[test]
fn values_replay() {
    let go = |policy: &mut dyn Policy| {
        let log = Rc::new(RefCell::new(Vec::new()));
        let l = log.clone();
        let out = run(Config::default(), policy, move || {
            for _ in 0..2 {
                let l = l.clone();
                spawn("t", move || {
                    for _ in 0..5 {
                        l.borrow_mut().push((current(), choose(5, "v")));
                        point("p");
                    }
                });
            }
        });
        (log.take(), out)
    };
    for seed in 0..50 {
        let first = go(&mut Random::new(seed));
        assert!(first.0.iter().any(|v| v.1 != 0), "not all zero");
        let mut replay = Replay::new(first.1.schedule.to_string().parse().unwrap(), Stay);
        assert_eq!(first, go(&mut replay));
        assert_eq!(replay.diverged, 0);
    }
    assert_eq!(choose(5, "free"), 0);
}

#[test]
fn names_round_trip_and_errors_list_them() {
    for s in ["round-robin", "random", "stay", "pct:3", "pct:2:500", "dfs:0", "replay:rw1-a1b2=3"] {
        assert_eq!(s.parse::<PolicySpec>().unwrap().to_string(), s);
    }
    for s in ["", "rnd", "pct", "pct:0", "pct:x", "dfs:-1", "stay:1", "replay:a1", "pct:3:"] {
        let e = s.parse::<PolicySpec>().unwrap_err().to_string();
        assert!(e.contains("round-robin, random, stay, pct:DEPTH") && e.contains(&format!("{s:?}")), "{e}");
    }
    let mut once = PolicySpec::RoundRobin.runs(0);
    assert!(once.policy().is_some() && once.policy().is_none() && once.complete());
}

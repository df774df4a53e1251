//! What a scheduling point costs: `cargo bench -p racewalk-sched`. Items are scheduling points.

use divan::counter::ItemsCount;
use divan::{Bencher, black_box};
use racewalk_sched::controlled::{Config, End, Pct, Policy, Random, RoundRobin, Stay, run, spawn};
use racewalk_sched::point;
use racewalk_sched::search::{Order, SearchConfig, explore};

fn main() {
    divan::main();
}

const POINTS: u64 = 25_000;

/// Four tasks whose points do nothing.
fn four(b: Bencher, mut policy: impl Policy) {
    let mut config = Config::default();
    config.livelock = 0;
    b.counter(ItemsCount::new(4 * POINTS)).bench_local(|| {
        let out = run(config, &mut policy, || {
            for name in ["a", "b", "c", "d"] {
                spawn(name, || (0..POINTS).for_each(|_| point("nothing")));
            }
        });
        assert!(out.end == End::Finished && out.points == 4 * POINTS + 5);
    });
}

#[divan::bench]
fn stay(b: Bencher) {
    four(b, Stay);
}

#[divan::bench]
fn round_robin(b: Bencher) {
    four(b, RoundRobin::default());
}

#[divan::bench]
fn random(b: Bencher) {
    four(b, Random::new(1));
}

#[divan::bench]
fn pct(b: Bencher) {
    four(b, Pct::new(1, 3, 4 * POINTS));
}

/// A whole run of four tasks with one point each.
#[divan::bench]
fn short_run(b: Bencher) {
    b.bench_local(|| {
        run(Config::default(), &mut RoundRobin::default(), || {
            for name in ["a", "b", "c", "d"] {
                spawn(name, || point("nothing"));
            }
        })
    });
}

/// All 1 + 12³ states of three tasks with ten points each. Items are states.
#[divan::bench(args = [Order::DepthFirst, Order::BreadthFirst])]
fn search(b: Bencher, order: Order) {
    let mut config = SearchConfig::default();
    config.order = order;
    b.counter(ItemsCount::new(1 + 12u64.pow(3))).bench_local(|| {
        let main = || {
            for name in ["a", "b", "c"] {
                spawn(name, || (0..10).for_each(|_| point("nothing")));
            }
        };
        let s = explore(config, || 0, main);
        assert!(s.complete && s.states == 1 + 12u64.pow(3));
    });
}

/// A point in free mode, in a function that is not inlined: the flag is read each time.
#[divan::bench]
fn free(b: Bencher) {
    #[inline(never)]
    fn one(n: u64) {
        point("nothing");
        black_box(n);
    }
    b.counter(ItemsCount::new(1000u64)).bench_local(|| (0..1000).for_each(one));
}

/// The same function without the point: what to take off from `free`.
#[divan::bench]
fn free_call_alone(b: Bencher) {
    #[inline(never)]
    fn one(n: u64) {
        black_box(n);
    }
    b.counter(ItemsCount::new(1000u64)).bench_local(|| (0..1000).for_each(one));
}

//! The litmus tests of total store order, over all schedules: which outcomes are seen, and which never.

use racewalk_sched::controlled::{Config, End, Random, Rng, run, spawn};
use racewalk_sched::search::{Order, SearchConfig, explore_with};
use racewalk_sched::tso::{self, Cells, StoreBuffers};
use racewalk_sched::{NO_CPU, observe, point, set_this_cpu, wait_while, wake};
use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::rc::Rc;

#[derive(Default)]
struct Memory([Cell<u64>; 2]);

impl Cells for Memory {
    fn load(&self, key: u64) -> u64 {
        self.0[key as usize].get()
    }
    fn store(&self, key: u64, value: u64) {
        self.0[key as usize].set(value)
    }
    fn update(&self, key: u64, f: &mut dyn FnMut(u64) -> u64) -> u64 {
        let old = self.load(key);
        self.store(key, f(old));
        old
    }
}

#[derive(Clone, Copy)]
enum Op {
    /// Stores 1.
    Store(u64),
    Load(u64),
    Fence,
    /// Adds 1.
    Add(u64),
}
use Op::*;

/// What the loads of each CPU gave.
type Results = [Vec<u64>; 2];

/// The results that all schedules of two CPUs' programs give.
fn all(programs: [&'static [Op]; 2], tso: bool) -> BTreeSet<Results> {
    let now: Rc<RefCell<(Rc<StoreBuffers<Memory>>, Results)>> =
        Rc::new(RefCell::new((Rc::new(StoreBuffers::new(Memory::default(), 2)), Results::default())));
    let (seen, last, mut results) = (now.clone(), now.clone(), BTreeSet::new());
    let fingerprint = move || {
        let (m, results) = &*seen.borrow();
        let waiting =
            m.waiting().into_iter().flat_map(|b| b.into_iter().flat_map(|s| [s.0 + 1, s.1]).chain([9]));
        let cells = m.cells().0.iter().map(Cell::get);
        let results = results.iter().flat_map(|r| r.iter().copied().chain([9]));
        cells.chain(waiting).chain(results).fold(0, |h, v| Rng(h ^ v).next_u64())
    };
    let mut config = SearchConfig::default();
    config.order = Order::DepthFirst;
    let main = move || {
        let m = Rc::new(StoreBuffers::new(Memory::default(), 2));
        *now.borrow_mut() = (m.clone(), Results::default());
        if tso {
            m.spawn_drains();
        }
        for (cpu, program) in (0..).zip(programs) {
            let (m, now) = (m.clone(), now.clone());
            spawn(format!("cpu {cpu}"), move || {
                for op in program {
                    point("op");
                    match *op {
                        Store(k) => m.store(cpu, k, 1),
                        Fence => m.fence(cpu),
                        Add(k) => {
                            observe(m.update(cpu, k, |v| v + 1));
                        }
                        Load(k) => {
                            let v = m.load(cpu, k);
                            observe(v);
                            now.borrow_mut().1[cpu as usize].push(v);
                        }
                    }
                }
            });
        }
    };
    let s = explore_with(config, fingerprint, main, |_| {
        // Complete results only; others are those of runs that go on.
        let r = &last.borrow().1;
        let loads = |p: &[Op]| p.iter().filter(|o| matches!(o, Load(_))).count();
        if (0..2).all(|i| r[i].len() == loads(programs[i])) {
            results.insert(r.clone());
        }
    });
    assert!(s.complete && s.end.is_none(), "{s:?}");
    results
}

/// Store buffering. Seen with `tso`; never without, nor with fences or atomic operations between.
#[test]
fn store_buffering() {
    let sb = [vec![0], vec![0]];
    let programs: [&[Op]; 2] = [&[Store(0), Load(1)], &[Store(1), Load(0)]];
    assert!(all(programs, true).contains(&sb));
    assert!(!all(programs, false).contains(&sb));
    assert!(!all([&[Store(0), Fence, Load(1)], &[Store(1), Fence, Load(0)]], true).contains(&sb));
    assert!(!all([&[Add(0), Load(1)], &[Add(1), Load(0)]], true).contains(&sb));
    // One fence is not enough.
    assert!(all([&[Store(0), Fence, Load(1)], &[Store(1), Load(0)]], true).contains(&sb));
}

/// Message passing: stores are seen in order, and loads made in order. Seen to fail with the youngest store drained
/// first.
#[test]
fn message_passing() {
    let results = all([&[Store(0), Store(1)], &[Load(1), Load(0)]], true);
    let pair = |a, b| [vec![], vec![a, b]];
    assert_eq!(results, BTreeSet::from([pair(0, 0), pair(0, 1), pair(1, 1)]));
}

/// Load buffering: no store is seen before the load that precedes it.
#[test]
fn load_buffering() {
    let results = all([&[Load(0), Store(1)], &[Load(1), Store(0)]], true);
    assert!(!results.contains(&[vec![1], vec![1]]));
    assert_eq!(results.len(), 3);
}

/// A CPU sees its own stores at once. Seen to fail with loads from memory only.
#[test]
fn own_stores_come_first() {
    let results = all([&[Store(0), Load(0), Load(1)], &[Store(1), Load(1), Load(0)]], true);
    assert!(results.iter().all(|r| r[0][0] == 1 && r[1][0] == 1));
    assert!(results.contains(&[vec![1, 0], vec![1, 0]]));
}

/// Runs two tasks on CPUs 0 and 1 of a run with buffers of its own, under many seeds; how each run ended.
fn installed(seeds: u64, first: fn(&Memory), second: fn(&Memory)) -> Vec<(End, [u64; 2])> {
    let one = |seed| {
        let memory = Rc::new(Memory::default());
        let m = memory.clone();
        let out = run(Config::default(), &mut Random::new(seed), move || {
            tso::install(m.clone(), 2);
            for (cpu, f) in (0..).zip([first, second]) {
                let m = m.clone();
                spawn(format!("cpu {cpu}"), move || {
                    set_this_cpu(cpu);
                    f(&m);
                    tso::fence();
                });
            }
        });
        assert!(!tso::enabled(), "the next run has none");
        (out.end, [memory.load(0), memory.load(1)])
    };
    (0..seeds).map(one).collect()
}

/// Who waits for a store is woken when it can see it. Seen to fail with a wakeup that does not wait for the store: it is
/// lost.
#[test]
fn a_wakeup_comes_after_the_store_it_is_for() {
    let waits = |m: &Memory| wait_while(1, "wait", || tso::load(0, m.load(0)) == 0);
    let tells = |_: &Memory| {
        point("tell");
        assert!(tso::store(0, 7, u64::MAX));
        wake(1);
        point("on");
    };
    for (end, memory) in installed(200, waits, tells) {
        assert_eq!((end, memory), (End::Finished, [7, 0]));
    }
}

/// Stores of parts, a full buffer, tasks without a CPU. Seen to fail with masks that are not looked at, and without a
/// limit.
#[test]
fn parts_and_limits() {
    let stores = |m: &Memory| {
        assert!(tso::store(0, 0xaaaa_bbbb, u64::MAX));
        assert!(tso::store(0, 0xcccc << 16, 0xffff << 16));
        assert_eq!((tso::load(0, m.load(0)), m.load(0)), (0xcccc_bbbb, 0));
        for n in 0..tso::CAPACITY as u64 {
            assert!(tso::store(1, n, u64::MAX));
        }
        assert_eq!((m.load(0), m.load(1)), (0xcccc_bbbb, 0), "the first two made room");
        set_this_cpu(NO_CPU);
        assert!(!tso::store(1, 1, u64::MAX), "nobody's stores do not wait");
        set_this_cpu(0);
        tso::fence();
        assert_eq!(m.load(1), tso::CAPACITY as u64 - 1);
    };
    let looks = |m: &Memory| {
        tso::fence_of(0);
        assert_eq!(tso::load(0, m.load(0)), m.load(0), "another CPU's stores are not seen");
    };
    assert!(
        installed(50, stores, looks).iter().all(|r| r.0 == End::Finished),
        "{:?}",
        installed(1, stores, looks)
    );
}

//! The litmus tests of total store order, over all schedules: which outcomes are seen, and which never.

use racewalk_sched::controlled::{Rng, spawn};
use racewalk_sched::search::{Order, SearchConfig, explore_with};
use racewalk_sched::tso::{Cells, StoreBuffers};
use racewalk_sched::{observe, point};
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

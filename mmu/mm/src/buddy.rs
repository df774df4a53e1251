//! The frame allocator: buddy lists of orders 0 to 12, per-CPU lists of single pages, failure injection.

mod lists;

pub use lists::MAX_ORDER;

use crate::error::{MmError, Result};
use crate::page::{FrameKind, KINDS, Pages};
use crate::stats::Stats;
use lists::FreeLists;
use racewalk_ram::Pfn;
use racewalk_sched::controlled::Rng;
use racewalk_sched::this_cpu;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::SeqCst};
use std::sync::{Mutex, MutexGuard, PoisonError};

const PCP_BATCH: usize = 8;
const PCP_HIGH: usize = 32;

/// Host locks, held for one operation: an allocation is one step of a schedule.
fn locked<T>(m: &Mutex<T>) -> MutexGuard<'_, T> {
    m.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How an allocation may behave.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Gfp {
    /// May sleep.
    Kernel,
    /// May not sleep, and fails without a fuss.
    Nowait,
    /// May not sleep.
    Atomic,
}

/// Which allocations fail though memory is there.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Failures {
    /// None.
    #[default]
    None,
    /// The `n`-th from now (counted from 1) and no other.
    Nth {
        /// Which.
        n: u64,
        /// Only allocations of this kind count.
        only: Option<Gfp>,
    },
    /// Each `n`-th, counted from now.
    Every {
        /// Which; not zero.
        n: u64,
        /// Only allocations of this kind count.
        only: Option<Gfp>,
    },
    /// Each with a chance of `num` in `den`, decided by `seed`.
    Chance {
        /// Chance: numerator.
        num: u64,
        /// Chance: denominator, not zero.
        den: u64,
        /// Repeats the decisions.
        seed: u64,
        /// Only allocations of this kind may fail.
        only: Option<Gfp>,
    },
    /// Those of a use that has so many pages already.
    Beyond(Vec<(FrameKind, u64)>),
}

/// A plan on its way.
#[derive(Clone, Debug)]
struct Injector {
    plan: Failures,
    count: u64,
    rng: Rng,
}

impl Injector {
    fn new(plan: Failures) -> Injector {
        let seed = if let Failures::Chance { seed, .. } = plan { seed } else { 0 };
        Injector { plan, count: 0, rng: Rng(seed) }
    }

    fn fails(&mut self, gfp: Gfp, kind: FrameKind, in_use: u64) -> bool {
        let only = match &self.plan {
            Failures::None => return false,
            Failures::Beyond(limits) => return limits.iter().any(|&(k, n)| k == kind && in_use >= n),
            Failures::Nth { only, .. } | Failures::Every { only, .. } | Failures::Chance { only, .. } => {
                *only
            }
        };
        if only.is_some_and(|o| o != gfp) {
            return false;
        }
        self.count += 1;
        match self.plan {
            Failures::None | Failures::Beyond(_) => false,
            Failures::Nth { n, .. } => self.count == n,
            Failures::Every { n, .. } => self.count.is_multiple_of(n.max(1)),
            Failures::Chance { num, den, .. } => self.rng.below(den.max(1)) < num,
        }
    }
}

/// The frame allocator.
#[derive(Debug)]
pub(crate) struct Buddy {
    free: Mutex<FreeLists>,
    // One list a CPU; the last one is for tasks that hold no CPU.
    pcp: Box<[Mutex<Vec<u64>>]>,
    /// An allocation that one of them is against fails.
    injectors: Mutex<Vec<Injector>>,
    in_use: [AtomicI64; KINDS],
    /// End of the frames that were ever handed out.
    high: AtomicU64,
    /// log2 of the frames in a page: orders of callers count pages.
    page_order: u32,
}

impl Buddy {
    /// All frames from `first` to `end` (not included) are free.
    pub(crate) fn new(first: u64, end: u64, page_order: u32, cpus: u32) -> Buddy {
        let mut lists = FreeLists::new(end);
        lists.add_range(first, end);
        Buddy {
            free: Mutex::new(lists),
            pcp: (0..=cpus).map(|_| Mutex::new(Vec::new())).collect(),
            injectors: Mutex::default(),
            in_use: Default::default(),
            high: AtomicU64::new(0),
            page_order,
        }
    }

    pub(crate) fn set_failures(&self, plans: Vec<Failures>) {
        *locked(&self.injectors) = plans.into_iter().map(Injector::new).collect();
    }

    /// Whether an allocation is to fail. Each plan counts it, whatever the others say.
    fn fails(&self, gfp: Gfp, kind: FrameKind) -> bool {
        let in_use = self.in_use(kind);
        locked(&self.injectors).iter_mut().fold(false, |fails, i| i.fails(gfp, kind, in_use) | fails)
    }

    fn local(&self) -> &Mutex<Vec<u64>> {
        &self.pcp[(this_cpu() as usize).min(self.pcp.len() - 1)]
    }

    fn take(&self, order: u32) -> Option<u64> {
        if order == self.page_order {
            let mut pcp = locked(self.local());
            if pcp.is_empty() {
                let mut free = locked(&self.free);
                pcp.extend((0..PCP_BATCH).map_while(|_| free.take(order)));
                pcp.reverse();
            }
            if let Some(f) = pcp.pop() {
                return Some(f);
            }
        } else if let Some(f) = locked(&self.free).take(order) {
            return Some(f);
        }
        // Frames may hide in other CPUs' lists.
        self.drain();
        locked(&self.free).take(order)
    }

    fn drain(&self) {
        for p in &self.pcp {
            let frames = std::mem::take(&mut *locked(p));
            let mut free = locked(&self.free);
            for f in frames {
                free.give(f, self.page_order);
            }
        }
    }

    /// A block of 2^`order` pages, its contents as they were left.
    pub(crate) fn alloc(
        &self,
        pages: &Pages,
        stats: &Stats,
        order: u32,
        gfp: Gfp,
        kind: FrameKind,
        what: &'static str,
    ) -> Result<Pfn> {
        let block = if self.fails(gfp, kind) { None } else { self.take(order + self.page_order) };
        let Some(block) = block else {
            stats.alloc_failures.bump();
            return Err(MmError::NoMemory { order, what });
        };
        pages.prepare(Pfn(block), order + self.page_order, kind)?;
        self.high.fetch_max(block + (1 << (order + self.page_order)), SeqCst);
        self.in_use[kind as usize].fetch_add(1 << order, SeqCst);
        stats.frames_allocated.add(1 << order);
        Ok(Pfn(block))
    }

    /// Gives a block back.
    pub(crate) fn free(&self, pages: &Pages, stats: &Stats, pfn: Pfn, order: u32) -> Result<()> {
        let frames = order + self.page_order;
        let kind = pages.retire(pfn, frames)?;
        self.in_use[kind as usize].fetch_sub(1 << order, SeqCst);
        stats.frames_freed.add(1 << order);
        if order == 0 {
            let mut pcp = locked(self.local());
            pcp.push(pfn.0);
            if pcp.len() > PCP_HIGH {
                let old: Vec<u64> = pcp.drain(..PCP_BATCH).collect();
                let mut free = locked(&self.free);
                for f in old {
                    free.give(f, frames);
                }
            }
        } else {
            locked(&self.free).give(pfn.0, frames);
        }
        Ok(())
    }

    /// Pages in use, by kind.
    pub(crate) fn in_use(&self, kind: FrameKind) -> u64 {
        self.in_use[kind as usize].load(SeqCst).max(0) as u64
    }

    /// End of the frames that were ever handed out.
    pub(crate) fn high(&self) -> u64 {
        self.high.load(SeqCst)
    }

    /// Free frames.
    pub(crate) fn free_frames(&self) -> u64 {
        let cached: usize = self.pcp.iter().map(|p| locked(p).len()).sum();
        locked(&self.free).frames() + ((cached as u64) << self.page_order)
    }
}

/// The allocator as it was at some time.
#[derive(Debug)]
pub(crate) struct Saved {
    free: FreeLists,
    pcp: Vec<Vec<u64>>,
    injectors: Vec<Injector>,
    in_use: [i64; KINDS],
}

impl Buddy {
    pub(crate) fn save(&self) -> Saved {
        Saved {
            free: locked(&self.free).clone(),
            pcp: self.pcp.iter().map(|p| locked(p).clone()).collect(),
            injectors: locked(&self.injectors).clone(),
            in_use: std::array::from_fn(|i| self.in_use[i].load(SeqCst)),
        }
    }

    pub(crate) fn restore(&self, saved: &Saved) {
        locked(&self.free).clone_from(&saved.free);
        self.pcp.iter().zip(&saved.pcp).for_each(|(p, was)| locked(p).clone_from(was));
        locked(&self.injectors).clone_from(&saved.injectors);
        self.in_use.iter().zip(saved.in_use).for_each(|(n, was)| n.store(was, SeqCst));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Random allocations and frees against a plain map of frames.
    #[test]
    fn agrees_with_a_bitmap() {
        let (first, end) = (300, 3001);
        for seed in 0..20 {
            let mut rng = Rng(seed);
            let pages = Pages::new(4096, 0).unwrap();
            let stats = Stats::default();
            let b = Buddy::new(first, end, 0, 2);
            let mut used = vec![false; 4096];
            let mut blocks: Vec<(Pfn, u32)> = Vec::new();
            for _ in 0..3000 {
                if rng.below(100) < 55 {
                    let order = rng.below(5) as u32;
                    let r = b.alloc(&pages, &stats, order, Gfp::Kernel, FrameKind::Anon, "test");
                    let Ok(p) = r else {
                        let n = 1usize << order;
                        let aligned = |i: usize| i.is_multiple_of(n) && i + n <= end as usize;
                        let hole = (first as usize..end as usize)
                            .find(|&i| aligned(i) && !used[i..i + n].contains(&true));
                        assert_eq!(hole, None, "order {order} was refused");
                        continue;
                    };
                    assert!(p.0.is_multiple_of(1 << order) && p.0 >= first && p.0 + (1 << order) <= end);
                    for i in p.0..p.0 + (1 << order) {
                        assert!(
                            !std::mem::replace(&mut used[i as usize], true),
                            "frame {i} handed out twice"
                        );
                    }
                    blocks.push((p, order));
                } else if !blocks.is_empty() {
                    let (p, order) = blocks.swap_remove(rng.below(blocks.len() as u64) as usize);
                    b.free(&pages, &stats, p, order).unwrap();
                    assert!(b.free(&pages, &stats, p, order).unwrap_err().is_finding());
                    used[p.0 as usize..(p.0 + (1 << order)) as usize].fill(false);
                }
                let n = used.iter().filter(|&&u| u).count() as u64;
                assert_eq!(b.in_use(FrameKind::Anon), n);
                assert_eq!(b.free_frames(), end - first - n);
            }
            for (p, order) in blocks {
                b.free(&pages, &stats, p, order).unwrap();
            }
            b.drain();
            let mut fresh = FreeLists::new(end);
            fresh.add_range(first, end);
            assert_eq!(*locked(&b.free), fresh, "everything merged again");
        }
    }

    #[test]
    fn failures_as_planned() {
        let pages = Pages::new(4096, 0).unwrap();
        let stats = Stats::default();
        let b = Buddy::new(256, 4096, 0, 1);
        let mut try_it = |gfp| b.alloc(&pages, &stats, 0, gfp, FrameKind::Anon, "test").is_ok();
        b.set_failures(vec![Failures::Nth { n: 2, only: Some(Gfp::Nowait) }]);
        assert_eq!(
            [Gfp::Nowait, Gfp::Kernel, Gfp::Nowait, Gfp::Nowait].map(&mut try_it),
            [true, true, false, true]
        );
        // Each plan counts all that it is about, those included that another lets fail.
        let nth = |n, only| Failures::Nth { n, only };
        b.set_failures(vec![nth(1, None), nth(3, Some(Gfp::Kernel)), nth(2, Some(Gfp::Nowait))]);
        assert_eq!(
            [Gfp::Kernel, Gfp::Nowait, Gfp::Kernel, Gfp::Nowait, Gfp::Kernel, Gfp::Kernel].map(&mut try_it),
            [false, true, true, false, false, true]
        );
        b.set_failures(vec![Failures::Chance { num: 1, den: 2, seed: 1, only: None }]);
        let n = (0..200).filter(|_| try_it(Gfp::Kernel)).count();
        assert!((60..140).contains(&n));
        b.set_failures(vec![Failures::None]);
        assert!(try_it(Gfp::Kernel));
    }
}

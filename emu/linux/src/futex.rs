//! Futexes: ours, keyed by virtual address (one address space, private and shared are the same).

use racewalk_sched::{Mutex, MutexGuard, wake};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A task that waits on a futex.
#[derive(Debug)]
pub struct Waiter {
    woken: AtomicBool,
    bitset: u32,
}

impl Waiter {
    /// Whether it has been woken.
    pub fn woken(&self) -> bool {
        self.woken.load(Ordering::SeqCst)
    }
    /// What it waits for, for [`racewalk_sched::wait_while`].
    pub fn key(&self) -> usize {
        std::ptr::from_ref(&self.woken) as usize
    }
    fn wake(&self) {
        self.woken.store(true, Ordering::SeqCst);
        wake(self.key());
    }
}

/// The queues, in order of arrival.
#[derive(Debug, Default)]
pub struct Queues {
    waiting: HashMap<u64, VecDeque<Arc<Waiter>>>,
}

impl Queues {
    /// Adds a waiter. The caller has compared the futex word under the same lock.
    pub fn enqueue(&mut self, addr: u64, bitset: u32) -> Arc<Waiter> {
        let w = Arc::new(Waiter { woken: AtomicBool::new(false), bitset });
        self.waiting.entry(addr).or_default().push_back(w.clone());
        w
    }

    /// Takes a waiter out again, wherever it was moved to. Returns false if it has been woken.
    pub fn remove(&mut self, w: &Arc<Waiter>) -> bool {
        let mut found = false;
        self.waiting.retain(|_, q| {
            let before = q.len();
            q.retain(|x| !Arc::ptr_eq(x, w));
            found |= q.len() != before;
            !q.is_empty()
        });
        found
    }

    /// Wakes at most `n` waiters that share a bit with `bitset`; returns how many.
    pub fn wake(&mut self, addr: u64, n: u32, bitset: u32) -> u32 {
        let Some(q) = self.waiting.get_mut(&addr) else { return 0 };
        let mut woken = 0;
        q.retain(|w| {
            let hit = woken < n && w.bitset & bitset != 0;
            if hit {
                woken += 1;
                w.wake();
            }
            !hit
        });
        if q.is_empty() {
            self.waiting.remove(&addr);
        }
        woken
    }

    /// Moves at most `n` waiters from one futex to another; returns how many.
    pub fn requeue(&mut self, from: u64, to: u64, n: u32) -> u32 {
        if from == to {
            return 0;
        }
        let Some(mut q) = self.waiting.remove(&from) else { return 0 };
        let k = q.len().min(n as usize);
        let rest = q.split_off(k);
        self.waiting.entry(to).or_default().extend(q);
        if !rest.is_empty() {
            self.waiting.insert(from, rest);
        }
        k as u32
    }
}

/// All futexes of a process.
#[derive(Debug, Default)]
pub struct Futexes(Mutex<Queues>);

impl Futexes {
    /// Takes the lock that orders comparisons of futex words with wakes.
    pub fn lock(&self) -> MutexGuard<'_, Queues> {
        self.0.lock("futex")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wake_in_order_and_by_bit() {
        let f = Futexes::default();
        let mut q = f.lock();
        let w: Vec<_> = [1, 2, 3].map(|b| q.enqueue(8, b)).into();
        assert_eq!(q.wake(8, 1, 2), 1);
        assert!(!w[0].woken() && w[1].woken());
        assert_eq!(q.requeue(8, 16, 1), 1);
        assert_eq!(q.wake(16, 9, !0), 1);
        assert!(w[0].woken());
        assert!(q.remove(&w[2]) && !q.remove(&w[2]));
    }
}

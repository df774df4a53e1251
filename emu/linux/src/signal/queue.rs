//! Pending signals of a task or of the process.

use super::{Info, bit};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Signals that instructions cause: taken before all others, in this order of numbers.
const SYNCHRONOUS: u64 = bit(4) | bit(5) | bit(7) | bit(8) | bit(11) | bit(31);
/// The first real-time signal: from there on each instance is queued.
const REAL_TIME: u32 = 32;
/// Real-time signals that one queue holds.
const LIMIT: usize = 1 << 15;

/// Pending signals.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    set: AtomicU64,
    // A host lock: never held across a scheduling point.
    list: Mutex<VecDeque<Info>>,
}

impl Queue {
    fn list(&self) -> MutexGuard<'_, VecDeque<Info>> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The set of pending signals.
    pub(crate) fn set(&self) -> u64 {
        self.set.load(SeqCst)
    }

    /// Adds a signal; an ordinary one that is pending already stays as it is. False if there is no room.
    pub(crate) fn add(&self, info: Info) -> bool {
        let sig = info.signal();
        let mut l = self.list();
        if sig < REAL_TIME && self.set() & bit(sig) != 0 {
            return true;
        }
        if l.len() >= LIMIT {
            return false;
        }
        l.push_back(info);
        self.set.fetch_or(bit(sig), SeqCst);
        true
    }

    /// Takes the next signal of `wanted`.
    pub(crate) fn take(&self, wanted: u64) -> Option<Info> {
        let mut l = self.list();
        let ready = self.set() & wanted;
        let first = if ready & SYNCHRONOUS != 0 { ready & SYNCHRONOUS } else { ready };
        if first == 0 {
            return None;
        }
        let sig = first.trailing_zeros() + 1;
        let i = l.iter().position(|i| i.signal() == sig);
        let info = i.and_then(|i| l.remove(i));
        if !l.iter().any(|i| i.signal() == sig) {
            self.set.fetch_and(!bit(sig), SeqCst);
        }
        info
    }

    /// Drops all instances of a signal, which is ignored from now on.
    pub(crate) fn drop_all(&self, sig: u32) {
        let mut l = self.list();
        l.retain(|i| i.signal() != sig);
        self.set.fetch_and(!bit(sig), SeqCst);
    }

    /// Whether an expiry of the POSIX timer `id` is pending.
    pub(crate) fn has_timer(&self, id: u32) -> bool {
        self.list().iter().any(|i| i.timer_id() == Some(id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_and_queueing() {
        let q = Queue::default();
        for s in [40, 10, 11, 10, 40, 2] {
            assert!(q.add(Info::sent(s, 0, 1, 0)));
        }
        let order: Vec<u32> = std::iter::from_fn(|| q.take(!bit(2))).map(|i| i.signal()).collect();
        assert_eq!(order, [11, 10, 40, 40]);
        assert_eq!(q.set(), bit(2));
        q.drop_all(2);
        assert_eq!(q.take(!0), None);
    }
}

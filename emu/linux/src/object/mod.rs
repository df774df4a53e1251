//! Files that are objects of our own: pipes, eventfd, timerfd, epoll. Waiting for one is a wait of
//! [`racewalk_sched`], so in a controlled run the schedule decides it.
//!
//! Each has a host descriptor of the same kind as a stand-in, which answers what does not concern its contents
//! (fstat, seek, the flags) and holds none.

pub(crate) mod epoll;
pub(crate) mod eventfd;
pub(crate) mod pipe;
pub(crate) mod timerfd;

use crate::clock::Moment;
use crate::task::TaskShared;
use rustix::event::PollFlags;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What changes of the objects are announced through. One for the process: whoever waits for any of them looks at
/// those it waits for after each change.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    count: AtomicU64,
    // A host lock: never held across a scheduling point.
    polling: Mutex<Vec<Arc<TaskShared>>>,
}

fn locked<T>(m: &Mutex<T>) -> MutexGuard<'_, T> {
    m.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Changes {
    /// What waiters wait for.
    pub(crate) fn key(&self) -> usize {
        std::ptr::from_ref(&self.count) as usize
    }
    /// Announces a change.
    pub(crate) fn announce(&self) {
        self.count.fetch_add(1, SeqCst);
        racewalk_sched::wake(self.key());
        for t in locked(&self.polling).iter() {
            t.ring();
        }
    }
    /// How many there have been.
    pub(crate) fn count(&self) -> u64 {
        self.count.load(SeqCst)
    }
    /// The task polls host files as well: changes ring its bell.
    pub(crate) fn enter_poll(&self, t: &Arc<TaskShared>) {
        locked(&self.polling).push(t.clone());
    }
    /// It does not any more.
    pub(crate) fn leave_poll(&self, t: &Arc<TaskShared>) {
        locked(&self.polling).retain(|x| !Arc::ptr_eq(x, t));
    }
}

/// What a waiter asks an object.
pub(crate) trait Object: Send + Sync + std::fmt::Debug {
    /// Events of `poll(2)` that hold now.
    fn events(&self) -> PollFlags;
    /// Counts what edge-triggered epoll reports.
    fn edges(&self) -> u64;
    /// When events may change without a change being announced.
    fn due(&self) -> Option<Moment> {
        None
    }
    /// Bytes that FIONREAD counts, where there is such a thing.
    fn readable(&self) -> Option<usize> {
        None
    }
}

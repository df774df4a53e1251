//! Waiting in free mode: a table of condition variables, keyed by address.

use std::sync::atomic::{AtomicUsize, Ordering, fence};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

struct Bucket {
    gate: Mutex<()>,
    bell: Condvar,
    waiters: AtomicUsize,
}

const BUCKETS: usize = 256;
static TABLE: [Bucket; BUCKETS] =
    [const { Bucket { gate: Mutex::new(()), bell: Condvar::new(), waiters: AtomicUsize::new(0) } }; BUCKETS];

fn bucket(key: usize) -> &'static Bucket {
    &TABLE[(key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) % BUCKETS]
}

pub(crate) fn wait_while(key: usize, mut blocked: impl FnMut() -> bool, timeout: Option<Duration>) -> bool {
    if !blocked() {
        return true;
    }
    let b = bucket(key);
    let end = timeout.and_then(|t| Instant::now().checked_add(t));
    let mut gate = b.gate.lock().unwrap_or_else(PoisonError::into_inner);
    // Announced before the condition is looked at again: a waker that changed it before sees us, one that changes
    // it after finds the gate locked until we sleep.
    b.waiters.fetch_add(1, Ordering::SeqCst);
    fence(Ordering::SeqCst);
    let mut done = true;
    while blocked() {
        gate = match end {
            None => b.bell.wait(gate).unwrap_or_else(PoisonError::into_inner),
            Some(end) => {
                let now = Instant::now();
                if now >= end {
                    done = false;
                    break;
                }
                b.bell.wait_timeout(gate, end - now).unwrap_or_else(PoisonError::into_inner).0
            }
        };
    }
    b.waiters.fetch_sub(1, Ordering::SeqCst);
    done
}

pub(crate) fn wake(key: usize) {
    let b = bucket(key);
    fence(Ordering::SeqCst);
    if b.waiters.load(Ordering::SeqCst) != 0 {
        drop(b.gate.lock().unwrap_or_else(PoisonError::into_inner));
        b.bell.notify_all();
    }
}

//! A hardware walk against unhook, invalidate and free of a table (reference C.1).
//!
//! The CPU polls between walks: when it sees a purge it drops its walk cache and acknowledges; a parked CPU counts as
//! having acknowledged. The updater clears the upper entry, asks for a purge, waits for the acknowledgement, frees.

use crate::Memory;
use loom::sync::Arc;
use loom::sync::atomic::AtomicUsize;
use loom::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use loom::thread;

/// What is left out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Flaw {
    /// The table is freed after the unhook, without an invalidate.
    NoInvalidate,
    /// The acknowledgement comes without dropping the walk cache.
    KeepsWalkCache,
    /// The acknowledgement does not order the walks before it.
    RelaxedAcknowledgement,
}

const PARKED: usize = usize::MAX;

#[derive(Debug)]
struct Machine {
    upper: AtomicUsize,
    table: Memory,
    purge: AtomicUsize,
    acknowledged: AtomicUsize,
}

/// All interleavings of two walks with one free.
pub fn model(flaw: Option<Flaw>) {
    loom::model(move || {
        let m = Arc::new(Machine {
            upper: AtomicUsize::new(1),
            table: Memory::default(),
            purge: AtomicUsize::new(0),
            acknowledged: AtomicUsize::new(0),
        });
        let cpu = thread::spawn({
            let m = m.clone();
            move || cpu(&m, flaw)
        });
        m.upper.store(0, Relaxed);
        if flaw != Some(Flaw::NoInvalidate) {
            m.purge.store(1, Release);
            while m.acknowledged.load(Acquire) < 1 {
                thread::yield_now();
            }
        }
        m.table.free();
        // A panic of the other thread has ended the model already.
        let _ = cpu.join();
    });
}

fn cpu(m: &Machine, flaw: Option<Flaw>) {
    let order = if flaw == Some(Flaw::RelaxedAcknowledgement) { Relaxed } else { Release };
    let (mut seen, mut walk_cache) = (0, None);
    for _ in 0..2 {
        let purge = m.purge.load(Acquire);
        if purge != seen {
            seen = purge;
            if flaw != Some(Flaw::KeepsWalkCache) {
                walk_cache = None;
            }
            m.acknowledged.store(purge, order);
        }
        let upper = walk_cache.unwrap_or_else(|| m.upper.load(Relaxed));
        if upper != 0 {
            walk_cache = Some(upper);
            m.table.read();
        }
    }
    m.acknowledged.store(PARKED, order);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sound() {
        model(None);
    }

    #[test]
    fn without_invalidate() {
        crate::objects(|| model(Some(Flaw::NoInvalidate)));
    }

    #[test]
    fn with_the_walk_cache_kept() {
        crate::objects(|| model(Some(Flaw::KeepsWalkCache)));
    }

    #[test]
    fn with_a_relaxed_acknowledgement() {
        crate::objects(|| model(Some(Flaw::RelaxedAcknowledgement)));
    }
}

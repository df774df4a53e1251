//! Entry to hosted code against a grace period.
//!
//! A CPU's counter is odd while it is in hosted code. Entry makes it odd and is a fence; exit makes it even. The grace
//! period, after the unhook: a fence, a look at the counter, and if that is odd a wait until it has changed.
//!
//! Entry adds to the counter, it does not store to it: a grace period that sees the *next* entry instead of the exit
//! must be ordered after that exit all the same, and it is because an addition carries on the exit's release.

use crate::Memory;
use loom::sync::Arc;
use loom::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};
use loom::sync::atomic::{AtomicUsize, fence};
use loom::thread;

/// What is left out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Flaw {
    /// The fence at entry.
    NoEntryFence,
    /// The addition at entry, which is a store.
    PlainEntry,
    /// The fence at the start of the grace period.
    NoStartFence,
    /// The wait for a CPU that is in hosted code.
    NoWait,
}

#[derive(Debug)]
struct Machine {
    pointer: AtomicUsize,
    table: Memory,
    counter: AtomicUsize,
}

/// All interleavings of two sections with one free.
pub fn model(flaw: Option<Flaw>) {
    loom::model(move || {
        let m = Arc::new(Machine {
            pointer: AtomicUsize::new(1),
            table: Memory::default(),
            counter: AtomicUsize::new(0),
        });
        let reader = thread::spawn({
            let m = m.clone();
            move || {
                for section in 0..2 {
                    if flaw == Some(Flaw::PlainEntry) {
                        m.counter.store(2 * section + 1, Relaxed);
                    } else {
                        m.counter.fetch_add(1, Relaxed);
                    }
                    if flaw != Some(Flaw::NoEntryFence) {
                        fence(SeqCst);
                    }
                    if m.pointer.load(Relaxed) != 0 {
                        m.table.read();
                    }
                    m.counter.fetch_add(1, Release);
                }
            }
        });
        m.pointer.store(0, Relaxed);
        if flaw != Some(Flaw::NoStartFence) {
            fence(SeqCst);
        }
        let counter = m.counter.load(Acquire);
        if counter % 2 == 1 && flaw != Some(Flaw::NoWait) {
            while m.counter.load(Acquire) == counter {
                thread::yield_now();
            }
        }
        m.table.free();
        // A panic of the other thread has ended the model already.
        let _ = reader.join();
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sound() {
        model(None);
    }

    #[test]
    fn without_the_fence_at_entry() {
        crate::objects(|| model(Some(Flaw::NoEntryFence)));
    }

    #[test]
    fn with_a_store_at_entry() {
        crate::objects(|| model(Some(Flaw::PlainEntry)));
    }

    #[test]
    fn without_the_fence_at_the_start() {
        crate::objects(|| model(Some(Flaw::NoStartFence)));
    }

    #[test]
    fn without_the_wait() {
        crate::objects(|| model(Some(Flaw::NoWait)));
    }
}

//! A TLB fill against an invalidate.
//!
//! A walk notes the TLB's purge count, reads the entry without the TLB's lock, and fills only if no purge was made
//! since. The invalidate clears the entry first, then purges.

use loom::sync::atomic::AtomicUsize;
use loom::sync::atomic::Ordering::Relaxed;
use loom::sync::{Arc, Mutex, MutexGuard};
use loom::thread;

/// What is wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Flaw {
    /// A fill that a purge has overtaken is not dropped.
    KeepsOvertakenFill,
    /// The TLB is purged before the entry is cleared.
    PurgesFirst,
}

#[derive(Debug, Default)]
struct Tlb {
    entry: Option<usize>,
    purges: usize,
}

#[derive(Debug)]
struct Machine {
    pte: AtomicUsize,
    tlb: Mutex<Tlb>,
}

impl Machine {
    fn tlb(&self) -> MutexGuard<'_, Tlb> {
        self.tlb.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn purge(&self) {
        let mut tlb = self.tlb();
        tlb.purges += 1;
        tlb.entry = None;
    }

    fn walk(&self, flaw: Option<Flaw>) {
        let purges = self.tlb().purges;
        let pte = self.pte.load(Relaxed);
        if pte != 0 {
            let mut tlb = self.tlb();
            if tlb.purges == purges || flaw == Some(Flaw::KeepsOvertakenFill) {
                tlb.entry = Some(pte);
            }
        }
    }
}

/// All interleavings of two walks with one invalidate. When it is over, the TLB has no entry: nothing may use a
/// translation after the invalidate that covers it (invariant 12).
///
/// # Panics
/// If it has one.
pub fn model(flaw: Option<Flaw>) {
    loom::model(move || {
        let m = Arc::new(Machine { pte: AtomicUsize::new(1), tlb: Mutex::new(Tlb::default()) });
        let walker = thread::spawn({
            let m = m.clone();
            move || {
                m.walk(flaw);
                m.walk(flaw);
            }
        });
        if flaw == Some(Flaw::PurgesFirst) {
            m.purge();
        }
        m.pte.store(0, Relaxed);
        if flaw != Some(Flaw::PurgesFirst) {
            m.purge();
        }
        // A panic of the other thread has ended the model already.
        let _ = walker.join();
        assert_eq!(m.tlb().entry, None, "a translation outlives its invalidate");
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
    fn with_overtaken_fills_kept() {
        crate::objects(|| model(Some(Flaw::KeepsOvertakenFill)));
    }

    #[test]
    fn with_the_purge_first() {
        crate::objects(|| model(Some(Flaw::PurgesFirst)));
    }
}

//! How long things are held, for the comparison of schemes: the longest.

use racewalk_sched::controlled;
use std::ops::{Deref, DerefMut};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

/// What is held.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Held {
    /// The lock of a page table.
    Ptl,
    /// Interrupts are off.
    IrqOff,
    /// `mmap_lock`, for reading or writing.
    MmapLock,
}

/// In what it is measured.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Measure {
    /// Not at all.
    #[default]
    Off,
    /// In scheduling points; only while a run is controlled.
    Points,
    /// In nanoseconds.
    Nanoseconds,
}

/// The longest of each.
#[derive(Debug)]
pub struct Holds {
    measure: Measure,
    longest: [AtomicU64; 3],
}

impl Measure {
    fn now(self) -> Option<u64> {
        static START: LazyLock<Instant> = LazyLock::new(Instant::now);
        match self {
            Measure::Off => None,
            Measure::Points => controlled::points(),
            Measure::Nanoseconds => Some(START.elapsed().as_nanos() as u64),
        }
    }
}

impl Holds {
    pub(crate) fn new(measure: Measure) -> Holds {
        Holds { measure, longest: Default::default() }
    }

    pub(crate) fn copy(&self) -> Holds {
        let longest = std::array::from_fn(|i| AtomicU64::new(self.longest[i].load(Relaxed)));
        Holds { measure: self.measure, longest }
    }

    /// The longest time that `what` was held; 0 if it is not measured.
    pub fn longest(&self, what: Held) -> u64 {
        self.longest[what as usize].load(Relaxed)
    }

    /// It is held until the answer is dropped.
    #[inline]
    pub(crate) fn begin(&self, what: Held) -> Option<Since<'_>> {
        self.measure.now().map(|from| Since { holds: self, what, from })
    }
}

/// Since when something is held.
#[derive(Debug)]
pub(crate) struct Since<'a> {
    holds: &'a Holds,
    what: Held,
    from: u64,
}

impl Drop for Since<'_> {
    fn drop(&mut self) {
        if let Some(now) = self.holds.measure.now() {
            self.holds.longest[self.what as usize].fetch_max(now.saturating_sub(self.from), Relaxed);
        }
    }
}

/// A lock's guard, and since when.
#[derive(Debug)]
pub(crate) struct Timed<'a, G> {
    // Dropped in this order: the time ends when the lock goes.
    guard: G,
    _since: Option<Since<'a>>,
}

impl<'a, G> Timed<'a, G> {
    pub(crate) fn new(holds: &'a Holds, what: Held, guard: G) -> Self {
        Timed { guard, _since: holds.begin(what) }
    }
}

impl<G: Deref> Deref for Timed<'_, G> {
    type Target = G::Target;
    fn deref(&self) -> &G::Target {
        &self.guard
    }
}

impl<G: DerefMut> DerefMut for Timed<'_, G> {
    fn deref_mut(&mut self) -> &mut G::Target {
        &mut self.guard
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_is_kept() {
        let h = Holds::new(Measure::Nanoseconds);
        for ms in [3, 1] {
            let _held = h.begin(Held::Ptl);
            std::thread::sleep(std::time::Duration::from_millis(ms));
        }
        assert!(h.longest(Held::Ptl) >= 3_000_000);
        assert_eq!(h.longest(Held::IrqOff), 0);
        for off in [Measure::Off, Measure::Points] {
            assert!(Holds::new(off).begin(Held::Ptl).is_none(), "no controlled run");
        }
    }
}

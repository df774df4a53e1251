//! Which of a number of records were reached since a certain time: the others need not be put back.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A bit for each record, once somebody wants to know.
#[derive(Debug, Default)]
pub(crate) struct Reached(OnceLock<Box<[AtomicU64]>>);

impl Reached {
    /// Record `n` is reached, perhaps to be written to.
    #[inline]
    pub(crate) fn note(&self, n: usize) {
        if let Some(words) = self.0.get() {
            let (word, bit) = (&words[n / 64], 1 << (n % 64));
            if word.load(Relaxed) & bit == 0 {
                word.fetch_or(bit, Relaxed);
            }
        }
    }

    /// From here on it is noted which of `records` records are reached. Nobody reaches any meanwhile.
    pub(crate) fn begin(&self, records: usize) {
        let zero = || std::iter::repeat_with(AtomicU64::default).take(records.div_ceil(64)).collect();
        self.0.get_or_init(zero).iter().for_each(|w| w.store(0, Relaxed));
    }

    /// Calls `f` for each record that was reached since the last `begin` or `take`. Nobody reaches any meanwhile.
    pub(crate) fn take(&self, mut f: impl FnMut(usize)) {
        for (i, word) in self.0.get().into_iter().flatten().enumerate() {
            let mut left = word.load(Relaxed);
            if left != 0 {
                word.store(0, Relaxed);
            }
            while left != 0 {
                f(i * 64 + left.trailing_zeros() as usize);
                left &= left - 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Seen to fail with the bits kept by `take`.
    #[test]
    fn each_is_told_once() {
        let r = Reached::default();
        let taken = || {
            let mut v = Vec::new();
            r.take(|n| v.push(n));
            v
        };
        r.note(5);
        assert_eq!(taken(), [], "nobody wants to know");
        r.begin(130);
        [129, 0, 63, 64, 0].iter().for_each(|&n| r.note(n));
        assert_eq!(taken(), [0, 63, 64, 129]);
        assert_eq!(taken(), []);
        r.note(1);
        r.begin(130);
        assert_eq!(taken(), []);
    }
}

//! The labels that a run has passed, numbered and counted.

use crate::Label;

/// A label's number within one run, in the order of first use.
pub(crate) type LabelId = u32;

/// Lines of the cache from a label's address to its number.
const LINES: usize = 64;

struct Line {
    at: *const u8,
    len: usize,
    id: LabelId,
}

/// Labels are few and fixed: a small cache by address finds the number, and only a miss compares texts (the same
/// text may lie at several addresses).
pub(crate) struct Labels {
    lines: [Line; LINES],
    counts: Vec<(Label, u64)>,
}

impl Labels {
    pub(crate) fn new() -> Self {
        Labels {
            lines: [const { Line { at: std::ptr::null(), len: 0, id: 0 } }; LINES],
            counts: Vec::with_capacity(8),
        }
    }

    /// The number of `label`, which is counted `times` more.
    #[inline]
    pub(crate) fn count(&mut self, label: Label, times: u64) -> LabelId {
        let line = &self.lines[Self::line(label)];
        let id = match (line.at, line.len) == (label.as_ptr(), label.len()) {
            true => line.id,
            false => self.look_up(label),
        };
        self.counts[id as usize].1 += times;
        id
    }

    #[inline]
    fn line(label: Label) -> usize {
        let a = label.as_ptr() as usize;
        (a ^ a >> 6) % LINES
    }

    #[cold]
    fn look_up(&mut self, label: Label) -> LabelId {
        let id = self.counts.iter().position(|c| c.0 == label).unwrap_or_else(|| {
            self.counts.push((label, 0));
            self.counts.len() - 1
        }) as LabelId;
        self.lines[Self::line(label)] = Line { at: label.as_ptr(), len: label.len(), id };
        id
    }

    pub(crate) fn text(&self, id: LabelId) -> Label {
        self.counts[id as usize].0
    }

    /// The labels that were passed at least once, in the order of first use.
    pub(crate) fn into_counts(self) -> Vec<(Label, u64)> {
        let mut c = self.counts;
        c.retain(|l| l.1 != 0);
        c
    }
}

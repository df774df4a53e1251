//! The labels that a run has passed, numbered and counted.

use crate::Label;
use std::cell::RefCell;
use std::collections::HashMap;

/// A label's number within one run, in the order of first use.
pub(crate) type LabelId = u32;

/// Lines of the cache from a label's address to its text.
const LINES: usize = 256;

#[derive(Clone, Copy)]
struct Line {
    at: *const u8,
    len: usize,
    text: usize,
}

/// Texts of labels, numbered in the order in which a host thread met them. Labels live as long as the program: what is known
/// of an address stays true from run to run.
struct Texts {
    /// By address: a small cache.
    lines: [Line; LINES],
    /// The same text may lie at several addresses.
    numbers: HashMap<Label, usize>,
}

impl Default for Texts {
    fn default() -> Self {
        let empty = Line { at: std::ptr::null(), len: 0, text: 0 };
        Texts { lines: [empty; LINES], numbers: HashMap::new() }
    }
}

impl Texts {
    #[inline]
    fn number(&mut self, label: Label) -> usize {
        let a = label.as_ptr() as usize;
        let line = (a ^ a >> 8) % LINES;
        let Line { at, len, text } = self.lines[line];
        if (at, len) == (label.as_ptr(), label.len()) { text } else { self.enter(label, line) }
    }

    #[cold]
    fn enter(&mut self, label: Label, line: usize) -> usize {
        let next = self.numbers.len();
        let text = *self.numbers.entry(label).or_insert(next);
        self.lines[line] = Line { at: label.as_ptr(), len: label.len(), text };
        text
    }
}

thread_local! {
    /// While no run of this thread has them.
    static TEXTS: RefCell<Option<Box<Texts>>> = const { RefCell::new(None) };
}

/// Labels by their numbers in one run.
pub(crate) struct Labels {
    texts: Box<Texts>,
    /// The number in this run plus one, by the number of the text; zero: none.
    ids: Vec<LabelId>,
    counts: Vec<(Label, u64)>,
}

impl Labels {
    pub(crate) fn new() -> Self {
        let texts = TEXTS.with_borrow_mut(Option::take).unwrap_or_default();
        let known = texts.numbers.len().max(32);
        Labels { texts, ids: vec![0; known], counts: Vec::with_capacity(known) }
    }

    /// The number of `label`, which is counted `times` more.
    #[inline]
    pub(crate) fn count(&mut self, label: Label, times: u64) -> LabelId {
        let text = self.texts.number(label);
        let id = match self.ids.get(text) {
            Some(&id) if id != 0 => id - 1,
            _ => self.first(label, text),
        };
        self.counts[id as usize].1 += times;
        id
    }

    #[cold]
    fn first(&mut self, label: Label, text: usize) -> LabelId {
        if text >= self.ids.len() {
            self.ids.resize(text + 1, 0);
        }
        self.counts.push((label, 0));
        self.ids[text] = self.counts.len() as LabelId;
        self.ids[text] - 1
    }

    pub(crate) fn text(&self, id: LabelId) -> Label {
        self.counts[id as usize].0
    }

    /// The labels that were passed at least once, in the order of first use.
    pub(crate) fn into_counts(self) -> Vec<(Label, u64)> {
        let mut c = self.counts;
        c.retain(|l| l.1 != 0);
        TEXTS.set(Some(self.texts));
        c
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Seen to fail with texts told apart by their places.
    #[test]
    fn one_text_is_one_label_in_every_run() {
        let twice: &'static str = Box::leak(String::from("b").into_boxed_str());
        for first in ["a", "b"] {
            let mut l = Labels::new();
            let ids: Vec<LabelId> = [first, "b", twice, "a"].map(|t| l.count(t, 1)).into();
            let (b, a) = if first == "a" { (1, 0) } else { (0, 1) };
            assert_eq!(ids, [0, b, b, a]);
            assert_eq!(l.into_counts().iter().map(|c| c.1).sum::<u64>(), 4);
        }
    }
}

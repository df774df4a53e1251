//! The race lab: what is run, under what, how often, and how it is shown.
//!
//! A [`Scenario`] says which mm operations each CPU does and which hardware walkers there are, without any order. A
//! *scheme* is a way of allocating, deferring and freeing page tables; the [`Matrix`] says which schemes each
//! scenario is expected to break. A [`Target`] runs one scenario under one scheme and one schedule; a [`campaign`]
//! runs many schedules. What happened is drawn as [`columns`], one for each CPU, and explained as a [`story`].
//!
//! Nothing of that knows the mm but by its lists of schemes and invariants: everything that does stands behind [`Target`], in
//! [`machine`].
#![forbid(unsafe_code)]

pub mod campaign;
pub mod columns;
pub mod finding;
pub mod library;
pub mod machine;
pub mod matrix;
pub mod scenario;
pub mod story;
pub mod target;
pub mod workload;

pub use matrix::Matrix;
pub use scenario::Scenario;
pub use target::{LabError, Target};

/// The nearest of `words` to `word`, if one is near enough to be what was meant.
pub fn nearest<'a>(word: &str, words: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    words
        .into_iter()
        .map(|w| (strsim::damerau_levenshtein(word, w), w))
        .filter(|&(d, w)| d <= 1 + w.len() / 4)
        .min_by_key(|&(d, _)| d)
        .map(|(_, w)| w)
}

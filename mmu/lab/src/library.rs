//! The scenarios, the matrix and the stories that come with racewalk (`tests/race`).

use crate::matrix::{Matrix, MatrixError};
use crate::nearest;
use crate::scenario::{Scenario, ScenarioError};
use crate::story::{Stories, StoryError};

macro_rules! race {
    ($($name:literal)*) => {
        /// Name and text of each scenario.
        pub const TEXTS: &[(&str, &str)] =
            &[$(($name, include_str!(concat!("../../../tests/race/", $name, ".race")))),*];
    };
}

race! {
    "f-01" "f-02" "f-03a" "f-03b" "f-04" "f-05" "f-06" "f-06-late" "f-07" "f-08" "f-08-half" "f-08-reuse" "f-13"
    "f-13-munmap" "f-21" "f-22" "f-24" "f-25" "f-26" "f-27" "f-29" "gup" "huge" "huge-space" "pae" "pmdfrag" "pom" "ptl-life" "recheck" "sparc-gup"
    "sparc-refill" "sparc-refill-hidden" "tso-tsb"
}

/// The text of the matrix.
pub const MATRIX: &str = include_str!("../../../tests/race/matrix.toml");
/// The text of the stories.
pub const STORIES: &str = include_str!("../../../tests/race/stories.toml");

/// The text of the notes.
pub const NOTES: &str = include_str!("../../../tests/race/notes.toml");

/// The scenario of that name, in either case; a reference such as `F-03b` if one scenario has its name.
pub fn scenario(name: &str) -> Option<Result<Scenario, ScenarioError>> {
    text(name).map(|(name, text)| Scenario::parse(name, text))
}

/// The same: its name and its text.
pub fn text(name: &str) -> Option<(&'static str, &'static str)> {
    TEXTS.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).copied()
}

/// The name that was probably meant.
pub fn meant(name: &str) -> Option<&'static str> {
    nearest(&name.to_ascii_lowercase(), TEXTS.iter().map(|(n, _)| *n))
}

/// All scenarios, by name.
pub fn scenarios() -> Result<Vec<Scenario>, ScenarioError> {
    TEXTS.iter().map(|(name, text)| Scenario::parse(name, text)).collect()
}

/// A part of the library that cannot be used; a test says that there is none.
#[derive(Debug, thiserror::Error)]
pub enum LibraryError {
    /// A scenario.
    #[error(transparent)]
    Scenario(#[from] ScenarioError),
    /// The matrix.
    #[error(transparent)]
    Matrix(#[from] MatrixError),
    /// The stories.
    #[error(transparent)]
    Story(#[from] StoryError),
}

/// The matrix.
pub fn matrix() -> Result<Matrix, LibraryError> {
    Ok(Matrix::parse(MATRIX, &scenarios()?)?)
}

/// The stories, with the matrix and the scenarios that they refer to.
pub fn stories() -> Result<Stories, LibraryError> {
    Ok(Stories::new(STORIES, NOTES, scenarios()?, matrix()?)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// Seen to fail with a file that is not in the list.
    #[test]
    fn every_file_is_in_the_list() {
        let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/race");
        let names = std::fs::read_dir(dir).unwrap_or_else(|e| panic!("{dir}: {e}"));
        let names = names.map(|e| e.map(|e| e.file_name().to_string_lossy().into_owned()));
        let names: Result<Vec<_>, _> = names.collect();
        let names = names.unwrap_or_else(|e| panic!("{dir}: {e}"));
        let files: BTreeSet<_> = names.iter().filter_map(|n| n.strip_suffix(".race")).collect();
        assert_eq!(files, TEXTS.iter().map(|t| t.0).collect());
    }

    /// Each scenario says what printing says, apart from comments and spaces, so that a shrunk one looks the same.
    /// Seen to fail with `0..1` written for `0`.
    #[test]
    fn scenarios_are_written_canonically() {
        let words = |text: &str| -> Vec<String> {
            let lines = text.lines().map(|l| l.split('#').next().unwrap_or_default());
            lines.flat_map(|l| l.split_whitespace().map(str::to_owned).collect::<Vec<_>>()).collect()
        };
        for (name, text) in TEXTS {
            let s = Scenario::parse(name, text).unwrap_or_else(|e| panic!("{e}"));
            let printed = s.to_string();
            let printed =
                if text.contains("forbid") { printed } else { printed.replace("forbid   any\n", "") };
            assert_eq!(words(text), words(&printed), "{name}");
            assert!(scenario(&name.to_uppercase()).is_some());
        }
        assert_eq!(meant("F-1"), Some("f-01"));
        assert_eq!(meant("sprac-gup"), Some("sparc-gup"));
        assert!(scenario("f-99").is_none());
    }

    /// Seen to fail with a story under a name that no scenario refers to.
    #[test]
    fn everything_loads() {
        stories().unwrap_or_else(|e| panic!("{e}"));
    }
}

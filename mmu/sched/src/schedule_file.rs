//! Schedules as text files: a version, what was run, the schedule, and the steps for people to read.
//!
//! ```text
//! racewalk-schedule 1
//! scenario unmap-walk
//! seed 42
//!
//! rw1-a12b3=1c1
//! # 1 walker pte.load
//! ```
//!
//! Header lines are a key, a space and a value to the end of the line; keys may repeat and keep their order. An
//! empty line ends them. The next line is the schedule; lines after it begin with `#` and are not read back as
//! anything but text. Version 1 stays readable for ever; a reader refuses versions it does not know.

use crate::schedule::{Schedule, ScheduleError};
use std::fmt;
use std::str::FromStr;

/// What a schedule file holds.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ScheduleFile {
    /// What was run (scenario, scheme, seed, commit, …), in the order given.
    pub header: Vec<(String, String)>,
    /// What it did.
    pub schedule: Schedule,
    /// Lines for people, such as one for each step.
    pub steps: Vec<String>,
}

/// A schedule file that does not parse.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("schedule file, line {line}: {problem}")]
pub struct ScheduleFileError {
    /// The line, from 1.
    pub line: usize,
    /// What was found and what was wanted.
    pub problem: FileProblem,
}

/// What is wrong with a line of a schedule file.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum FileProblem {
    /// It does not begin as a schedule file.
    #[error("{0:?} is no version line; wanted racewalk-schedule 1")]
    NotAScheduleFile(String),
    /// It is of a version that this reader does not know.
    #[error("version {0}; wanted version 1")]
    Version(String),
    /// A header line is not a key and a value.
    #[error("{0:?} is no header line; wanted a key of a-z, 0-9, - and _, a space and a value")]
    Header(String),
    /// The file ends before its schedule.
    #[error("the file ends here; wanted {0}")]
    CutShort(&'static str),
    /// The schedule does not parse.
    #[error(transparent)]
    Schedule(#[from] ScheduleError),
    /// Something else follows the schedule.
    #[error("{0:?} follows the schedule; wanted lines that begin with #")]
    Trailing(String),
    /// A value that cannot be written in a line.
    #[error("{0:?} cannot be written: it has a line break")]
    LineBreak(String),
}

const MAGIC: &str = "racewalk-schedule";

fn is_key(s: &str) -> bool {
    let ok = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_';
    !s.is_empty() && s.bytes().all(ok)
}

impl ScheduleFile {
    /// For `schedule`, with nothing said about it yet.
    pub fn new(schedule: Schedule) -> Self {
        ScheduleFile { schedule, ..Self::default() }
    }

    /// The same with another header line.
    pub fn with(mut self, key: &str, value: impl fmt::Display) -> Self {
        self.header.push((key.into(), value.to_string()));
        self
    }

    /// The first value of `key`.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.header.iter().find(|h| h.0 == key).map(|h| h.1.as_str())
    }

    /// The file's text.
    ///
    /// # Errors
    /// A key that is none, or a line break inside a value or a step; the line is the one it would have.
    pub fn to_text(&self) -> Result<String, ScheduleFileError> {
        let breaks = |s: &str| s.contains(['\n', '\r']);
        let mut out = format!("{MAGIC} 1\n");
        for (i, (key, value)) in self.header.iter().enumerate() {
            let bad = |problem| ScheduleFileError { line: i + 2, problem };
            if !is_key(key) {
                return Err(bad(FileProblem::Header(key.clone())));
            }
            if breaks(value) {
                return Err(bad(FileProblem::LineBreak(value.clone())));
            }
            out += &format!("{key} {value}\n");
        }
        out += &format!("\n{}\n", self.schedule);
        for (i, step) in self.steps.iter().enumerate() {
            if breaks(step) {
                let line = self.header.len() + i + 4;
                return Err(ScheduleFileError { line, problem: FileProblem::LineBreak(step.clone()) });
            }
            out += &format!("# {step}\n");
        }
        Ok(out)
    }
}

impl FromStr for ScheduleFile {
    type Err = ScheduleFileError;
    fn from_str(text: &str) -> Result<Self, ScheduleFileError> {
        let mut lines = text.lines().zip(1..);
        let count = text.lines().count();
        let end = |what| ScheduleFileError { line: count + 1, problem: FileProblem::CutShort(what) };
        let mut file = ScheduleFile::default();
        let (first, line) = lines.next().ok_or(end("racewalk-schedule 1"))?;
        match first.split_once(' ') {
            Some((MAGIC, "1")) => {}
            Some((MAGIC, version)) => {
                return Err(ScheduleFileError { line, problem: FileProblem::Version(version.into()) });
            }
            _ => {
                let problem = FileProblem::NotAScheduleFile(first.chars().take(60).collect());
                return Err(ScheduleFileError { line, problem });
            }
        }
        loop {
            let (l, line) = lines.next().ok_or(end("an empty line and a schedule"))?;
            if l.is_empty() {
                break;
            }
            match l.split_once(' ') {
                Some((key, value)) if is_key(key) => file.header.push((key.into(), value.into())),
                _ => return Err(ScheduleFileError { line, problem: FileProblem::Header(l.into()) }),
            }
        }
        let (l, line) = lines.next().ok_or(end("a schedule"))?;
        file.schedule =
            l.parse().map_err(|e: ScheduleError| ScheduleFileError { line, problem: e.into() })?;
        for (l, line) in lines {
            let step = l.strip_prefix('#');
            let step =
                step.ok_or_else(|| ScheduleFileError { line, problem: FileProblem::Trailing(l.into()) })?;
            file.steps.push(step.strip_prefix(' ').unwrap_or(step).into());
        }
        Ok(file)
    }
}

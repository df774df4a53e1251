//! A schedule: what a controlled run did, printable and repeatable.

use std::fmt;
use std::str::FromStr;

/// The choices of a controlled run: at each scheduling point with more than one runnable task, which one went on.
///
/// Printed as `rw1-` and the choices in a compact form: a choice is a letter or number of the task, and runs of the
/// same task are counted (`rw1-a12b3c1`). Tasks are numbered in the order they were spawned.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Schedule {
    /// Task numbers, one for each decision.
    pub choices: Vec<u32>,
}

/// A schedule string that does not parse.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("schedule {text:?}: {problem}; wanted rw1- followed by task letters and counts, such as rw1-a12b3")]
pub struct ScheduleError {
    /// What was given.
    pub text: String,
    /// What is wrong with it.
    pub problem: String,
}

fn letters(mut task: u32) -> String {
    // Base 26, most significant first, as spreadsheet columns are named.
    let mut s = Vec::new();
    loop {
        s.push(b'a' + (task % 26) as u8);
        if task < 26 {
            break;
        }
        task = task / 26 - 1;
    }
    s.reverse();
    String::from_utf8(s).unwrap_or_default()
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("rw1-")?;
        let mut i = 0;
        while i < self.choices.len() {
            let t = self.choices[i];
            let n = self.choices[i..].iter().take_while(|&&x| x == t).count();
            write!(f, "{}{n}", letters(t))?;
            i += n;
        }
        Ok(())
    }
}

impl FromStr for Schedule {
    type Err = ScheduleError;
    fn from_str(text: &str) -> Result<Self, ScheduleError> {
        let bad = |problem: &str| ScheduleError { text: text.into(), problem: problem.into() };
        let body = text.strip_prefix("rw1-").ok_or_else(|| bad("it does not begin with rw1-"))?;
        let mut choices = Vec::new();
        let mut rest = body.as_bytes();
        while !rest.is_empty() {
            let n = rest.iter().take_while(|c| c.is_ascii_lowercase()).count();
            if n == 0 || n > 6 {
                return Err(bad("a task is one to six lower-case letters"));
            }
            let task = rest[..n].iter().fold(0u64, |t, c| t * 26 + (c - b'a') as u64 + 1) - 1;
            rest = &rest[n..];
            let n = rest.iter().take_while(|c| c.is_ascii_digit()).count();
            let count: usize = std::str::from_utf8(&rest[..n])
                .ok()
                .and_then(|s| s.parse().ok())
                .ok_or_else(|| bad("a count is missing or too large"))?;
            if count == 0 || count > 1 << 28 || choices.len() + count > 1 << 28 {
                return Err(bad("a count is zero or the schedule is longer than 2^28 choices"));
            }
            rest = &rest[n..];
            choices.extend(std::iter::repeat_n(task as u32, count));
        }
        Ok(Schedule { choices })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip() {
        for choices in [vec![], vec![0, 0, 1, 1, 1, 0], vec![25, 26, 27, 701, 702, 702, 3]] {
            let s = Schedule { choices };
            assert_eq!(s.to_string().parse::<Schedule>(), Ok(s));
        }
    }

    #[test]
    fn bad_strings_are_errors() {
        for t in ["", "rw2-a1", "rw1-a", "rw1-1", "rw1-a0", "rw1-A1", "rw1-a99999999999", "rw1-aaaaaaaa1"] {
            assert!(t.parse::<Schedule>().is_err(), "{t}");
        }
    }
}

//! A schedule: what a controlled run did, printable and repeatable.

use std::fmt;
use std::str::FromStr;

/// The choices of a controlled run: at each scheduling point with more than one runnable task, which one went on; and
/// the values of [`choose`](crate::choose).
///
/// Printed as `rw1-` and the choices in a compact form: letters name a task, and runs of the same task are counted
/// (`rw1-a12b3c1`); `a+` is task a for as long as it can go on; `=2` is the value 2, `=2*5` five times. Tasks are
/// numbered in the order they were spawned.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Schedule {
    /// One for each decision: a task number, or what [`Choice::code`] makes of another choice.
    pub choices: Vec<u32>,
}

/// What one element of [`Schedule::choices`] says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Choice {
    /// This task goes on to its next point.
    Task(u32),
    /// This task goes on until it waits or ends. Only in schedules made to be replayed: a run records its points.
    Until(u32),
    /// A value was chosen.
    Value(u32),
}

pub(crate) const VALUE: u32 = 1 << 31;
const UNTIL: u32 = 1 << 30;

impl Choice {
    /// What the code says.
    pub fn of(code: u32) -> Choice {
        match code {
            c if c & VALUE != 0 => Choice::Value(c & !VALUE),
            c if c & UNTIL != 0 => Choice::Until(c & !UNTIL),
            c => Choice::Task(c),
        }
    }
    /// The element that says so. Tasks are below 2^30, values below 2^31.
    pub fn code(self) -> u32 {
        match self {
            Choice::Task(t) => t,
            Choice::Until(t) => UNTIL | t,
            Choice::Value(v) => VALUE | v,
        }
    }
}

/// A schedule string that does not parse.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "schedule {text:?}: {problem}; wanted rw1- followed by task letters and counts, such as rw1-a12b3, and values such as =2"
)]
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
            match Choice::of(t) {
                Choice::Task(t) => write!(f, "{}{n}", letters(t))?,
                Choice::Until(t) => (0..n).try_for_each(|_| write!(f, "{}+", letters(t)))?,
                Choice::Value(v) if n == 1 => write!(f, "={v}")?,
                Choice::Value(v) => write!(f, "={v}*{n}")?,
            }
            i += n;
        }
        Ok(())
    }
}

/// Choices that a schedule string may have.
const MOST: u64 = 1 << 28;

/// The number that `text` begins with; `rest` is what follows it.
fn number<'a>(text: &'a str, rest: &mut &'a str) -> Option<u64> {
    let (digits, tail) = text.split_at(text.bytes().take_while(u8::is_ascii_digit).count());
    *rest = tail;
    digits.parse().ok()
}

impl FromStr for Schedule {
    type Err = ScheduleError;
    fn from_str(text: &str) -> Result<Self, ScheduleError> {
        let bad = |problem: &str| ScheduleError { text: text.into(), problem: problem.into() };
        let body = text.strip_prefix("rw1-").ok_or_else(|| bad("it does not begin with rw1-"))?;
        let mut choices = Vec::new();
        let mut rest = body;
        while !rest.is_empty() {
            let (choice, count) = if let Some(r) = rest.strip_prefix('=') {
                let value = number(r, &mut rest).filter(|&v| v < u64::from(VALUE));
                let value = value.ok_or_else(|| bad("a value is missing or not below 2^31"))?;
                let count = match rest.strip_prefix('*') {
                    Some(r) => number(r, &mut rest).ok_or_else(|| bad("a count is missing"))?,
                    None => 1,
                };
                (Choice::Value(value as u32), count)
            } else {
                let n = rest.bytes().take_while(u8::is_ascii_lowercase).count();
                if n == 0 || n > 6 {
                    return Err(bad("a task is one to six lower-case letters"));
                }
                let task = rest[..n].bytes().fold(0u64, |t, c| t * 26 + u64::from(c - b'a') + 1) - 1;
                rest = &rest[n..];
                match rest.strip_prefix('+') {
                    Some(r) => {
                        rest = r;
                        (Choice::Until(task as u32), 1)
                    }
                    None => {
                        let count = number(rest, &mut rest);
                        let count = count.ok_or_else(|| bad("a count is missing or too large"))?;
                        (Choice::Task(task as u32), count)
                    }
                }
            };
            if count == 0 || count > MOST || choices.len() as u64 + count > MOST {
                return Err(bad("a count is zero or the schedule is longer than 2^28 choices"));
            }
            choices.extend(std::iter::repeat_n(choice.code(), count as usize));
        }
        Ok(Schedule { choices })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip() {
        let others =
            [Choice::Value(0), Choice::Value(7), Choice::Value(7), Choice::Until(27), Choice::Until(27)];
        let others = others.map(Choice::code).to_vec();
        for choices in [vec![], vec![0, 0, 1, 1, 1, 0], vec![25, 26, 27, 701, 702, 702, 3], others] {
            let s = Schedule { choices };
            assert_eq!(s.to_string().parse::<Schedule>(), Ok(s));
        }
    }

    #[test]
    fn bad_strings_are_errors() {
        for t in [
            "",
            "rw2-a1",
            "rw1-a",
            "rw1-1",
            "rw1-a0",
            "rw1-A1",
            "rw1-a99999999999",
            "rw1-aaaaaaaa1",
            "rw1-=",
            "rw1-=1*",
            "rw1-=2147483648",
            "rw1-a1+",
        ] {
            assert!(t.parse::<Schedule>().is_err(), "{t}");
        }
    }
}

//! Finds hidden nondeterminism: the same schedule twice.

use crate::controlled::{End, Outcome, Policy, Replay, Stay};
use crate::schedule::Schedule;

/// What differed first when a run was repeated; the first run's before the second's.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NotRepeatable {
    /// The runs chose, or could choose, differently.
    #[error("the runs part at decision {at}: {first}, then {second}")]
    Schedule {
        /// Decisions that were the same.
        at: usize,
        /// What follows them, a few choices long.
        first: Schedule,
        /// The same of the second run.
        second: Schedule,
    },
    /// The same choices, but other scheduling points.
    #[error("the runs passed {0} and {1} scheduling points")]
    Points(u64, u64),
    /// A label was passed more often in one run.
    #[error("the runs passed the label {0} {1} and {2} times")]
    Label(&'static str, u64, u64),
    /// They ended differently.
    #[error("the runs ended as {0:?} and {1:?}")]
    End(End, End),
    /// The same run left another state behind.
    #[error("the runs left the fingerprints {0:#x} and {1:#x}")]
    Fingerprint(u64, u64),
}

/// Runs under `policy`, repeats the schedule, and compares schedule, points, labels, end and the fingerprint that
/// `run` takes of the state it left.
///
/// # Errors
/// What differed first.
pub fn verify_repeats(
    policy: &mut dyn Policy,
    mut run: impl FnMut(&mut dyn Policy) -> (Outcome, u64),
) -> Result<(Outcome, u64), NotRepeatable> {
    let (a, first) = run(policy);
    let mut replay = Replay::new(a.schedule.clone(), Stay);
    let (b, second) = run(&mut replay);
    let (x, y) = (&a.schedule.choices, &b.schedule.choices);
    if x != y {
        let at = x.iter().zip(y).take_while(|(x, y)| x == y).count();
        let some = |c: &[u32]| Schedule { choices: c[at..].iter().take(8).copied().collect() };
        return Err(NotRepeatable::Schedule { at, first: some(x), second: some(y) });
    }
    if a.points != b.points {
        return Err(NotRepeatable::Points(a.points, b.points));
    }
    for i in 0..a.labels.len().max(b.labels.len()) {
        let (Some(&(label, n)), other) = (a.labels.get(i).or(b.labels.get(i)), b.labels.get(i)) else {
            break;
        };
        if other != Some(&(label, n)) {
            let count = |o: &Outcome| o.labels.iter().find(|l| l.0 == label).map_or(0, |l| l.1);
            return Err(NotRepeatable::Label(label, count(&a), count(&b)));
        }
    }
    if a.end != b.end {
        return Err(NotRepeatable::End(a.end, b.end));
    }
    if first != second {
        return Err(NotRepeatable::Fingerprint(first, second));
    }
    Ok((a, first))
}

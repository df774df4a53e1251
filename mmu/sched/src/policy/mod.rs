//! Who decides, at each scheduling point, which task goes on.

mod dfs;
mod pct;
mod random;
mod replay;
mod round_robin;
mod spec;
mod stay;
mod turns;

pub use dfs::Dfs;
pub use pct::Pct;
pub use random::Random;
pub use replay::Replay;
pub use round_robin::RoundRobin;
pub use spec::{PolicySpec, PolicySpecError, Runs};
pub use stay::Stay;
pub use turns::Turns;

use crate::Label;
use crate::label::Labels;
use crate::runtime::Slot;
use std::time::Duration;

/// A task of a controlled run, numbered in the order of spawning.
pub type TaskId = u32;

/// What a policy may know when it decides.
pub struct Situation<'a> {
    /// The tasks that can run, ascending, never empty.
    pub runnable: &'a [TaskId],
    /// The task that reached the point, if it can still run.
    pub current: Option<TaskId>,
    /// Where that task is, `"start"` after a task ended.
    pub label: Label,
    pub(crate) slots: &'a [Slot],
    pub(crate) labels: &'a Labels,
    pub(crate) now: Duration,
}

impl Situation<'_> {
    /// Who goes on if nobody is preempted: the current task; after it waits or ends, the first that can run. A task
    /// in the background runs only when it is chosen, or when there is no other.
    pub fn unforced(&self) -> TaskId {
        let front = |t: &TaskId| !self.is_background(*t);
        let first = || self.runnable.iter().copied().find(front).unwrap_or(self.runnable[0]);
        self.current.filter(front).unwrap_or_else(first)
    }
}

/// Decides who goes on. An oracle with one question; everything else is the runtime's.
pub trait Policy {
    /// One of `runnable` (ascending, never empty). `current` is the task that reached the point, if it can still
    /// run; `label` is where it is.
    fn choose(&mut self, runnable: &[TaskId], current: Option<TaskId>, label: Label) -> TaskId;

    /// The same question with all that is known. `None` ends the run as [`cancel`](crate::controlled::cancel) does.
    fn decide(&mut self, at: &Situation<'_>) -> Option<TaskId> {
        Some(self.choose(at.runnable, at.current, at.label))
    }

    /// The value of a [`choose`](crate::choose) among `n`: below `n`, which is at least 2.
    fn pick(&mut self, n: u32, label: Label) -> u32 {
        let _ = (n, label);
        0
    }

    /// Whether it is asked at points where only one task can run, too. Read once, when a run starts; the schedule
    /// does not record those.
    fn every_point(&self) -> bool {
        false
    }
}

impl<P: Policy + ?Sized> Policy for Box<P> {
    fn choose(&mut self, runnable: &[TaskId], current: Option<TaskId>, label: Label) -> TaskId {
        (**self).choose(runnable, current, label)
    }
    fn decide(&mut self, at: &Situation<'_>) -> Option<TaskId> {
        (**self).decide(at)
    }
    fn pick(&mut self, n: u32, label: Label) -> u32 {
        (**self).pick(n, label)
    }
    fn every_point(&self) -> bool {
        (**self).every_point()
    }
}

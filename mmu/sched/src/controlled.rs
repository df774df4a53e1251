//! Controlled runs: coroutines on one host thread, every switch decided by a [`Policy`].

pub use crate::policy::{
    Dfs, Pct, Policy, PolicySpec, PolicySpecError, Random, Replay, RoundRobin, Runs, Situation, Stay, TaskId,
    Turns,
};
pub use crate::rng::Rng;
use crate::schedule::Schedule;
use crate::{Cancelled, Label, co};
use std::sync::Arc;

/// How a controlled run ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum End {
    /// Every task returned.
    Finished,
    /// Tasks wait for each other: their names and where each waits.
    Deadlock(Vec<(String, Label)>),
    /// This task waits although what it waits for has come: nobody woke it. Its name and where it waits.
    LostWakeup(String, Label),
    /// Tasks go round in circles, see [`Config::livelock`]: their names and where each was last.
    Livelock(Vec<(String, Label)>),
    /// The step limit was reached.
    Limit,
    /// Somebody called [`cancel`].
    Cancelled,
    /// A task panicked: its name and the message.
    Panicked(String, String),
}

/// What a controlled run did.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Outcome {
    /// How it ended.
    pub end: End,
    /// The choices, to repeat it.
    pub schedule: Schedule,
    /// Scheduling points passed.
    pub points: u64,
    /// Where the schedule took a task away that could have gone on.
    pub preemptions: Vec<Preemption>,
    /// How often each label was passed, in the order of first use.
    pub labels: Vec<(Label, u64)>,
}

/// A decision against a foreground task that could have gone on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Preemption {
    /// Index of the decision in [`Schedule::choices`].
    pub at: usize,
    /// The task that had to stop.
    pub task: TaskId,
}

/// Watches a run. It is no task: what it calls of this crate finds free mode.
pub trait Observer {
    /// Task `to` goes on; `from` was at `label`, or is none at the start.
    fn switched(&mut self, from: Option<TaskId>, to: TaskId, label: Label);
    /// Task `task` reached a scheduling point or waits.
    fn reached(&mut self, task: TaskId, label: Label) {
        let _ = (task, label);
    }
}

/// Limits of a run.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Config {
    /// Scheduling points after which the run is cancelled, so that a livelock ends.
    pub max_points: u64,
    /// Bytes of stack for each task. Slow paths of translated code run on it.
    pub stack: usize,
    /// Scheduling points after which a run is a livelock, if meanwhile no task has ended, waited or called
    /// [`progress`](crate::progress), and every task that can run was at the same labels again and again. Points of
    /// tasks in the background do not count. Zero: never. Code that computes at length says so with `progress`.
    pub livelock: u64,
}

impl Config {
    /// A window that suits tests and labs, for [`Config::livelock`].
    pub const LIVELOCK_WINDOW: u64 = 20_000;
}

impl Default for Config {
    fn default() -> Self {
        Config { max_points: 1_000_000, stack: 256 << 10, livelock: Config::LIVELOCK_WINDOW }
    }
}

/// Runs `main` as task 0, and whatever it [`spawn`]s, to the end.
pub fn run(config: Config, policy: &mut dyn Policy, main: impl FnOnce() + 'static) -> Outcome {
    co::run(config, policy, None, Box::new(main))
}

/// The same, watched.
pub fn run_observed(
    config: Config,
    policy: &mut dyn Policy,
    observer: &mut dyn Observer,
    main: impl FnOnce() + 'static,
) -> Outcome {
    co::run(config, policy, Some(observer), Box::new(main))
}

/// Adds a task to the controlled run that the caller is part of.
///
/// # Panics
/// Outside a controlled run.
pub fn spawn(name: impl Into<Arc<str>>, f: impl FnOnce() + 'static) -> TaskId {
    co::spawn(name.into(), Box::new(f), false)
}

/// The same for a task that serves the others: time passes although it can run, and when all others have ended it
/// ends by itself or is cancelled where it waits.
///
/// # Panics
/// Outside a controlled run.
pub fn spawn_background(name: impl Into<Arc<str>>, f: impl FnOnce() + 'static) -> TaskId {
    co::spawn(name.into(), Box::new(f), true)
}

/// Ends the run: every task gets [`Cancelled`] at its next scheduling point.
pub fn cancel() {
    co::cancel()
}

/// Whether the caller is a task of a controlled run.
pub fn active() -> bool {
    crate::CONTROLLED.get()
}

/// Scheduling points passed so far, if the caller is a task of a controlled run.
pub fn points() -> Option<u64> {
    active().then(co::points)
}

/// The number of the task that runs, if the caller is one.
pub fn current() -> Option<TaskId> {
    active().then(co::current)
}

/// Turns cancellation into an error for code that must not unwind.
pub fn catch<T>(f: impl FnOnce() -> T) -> Result<T, Cancelled> {
    match std::panic::catch_unwind(std::panic::AssertUnwindSafe(f)) {
        Ok(v) => Ok(v),
        Err(p) if p.is::<Cancelled>() => Err(Cancelled),
        Err(p) => std::panic::resume_unwind(p),
    }
}

//! Controlled runs: coroutines on one host thread, every switch decided by a [`Policy`].

use crate::schedule::Schedule;
use crate::{Cancelled, Label, co};

/// A task of a controlled run, numbered in the order of spawning.
pub type TaskId = u32;

/// Decides who goes on. An oracle with one question; everything else is the runtime's.
pub trait Policy {
    /// One of `runnable` (ascending, never empty). `current` is the task that reached the point, if it can still
    /// run; `label` is where it is.
    fn choose(&mut self, runnable: &[TaskId], current: Option<TaskId>, label: Label) -> TaskId;
}

/// Each task in turn, one scheduling point at a time.
#[derive(Clone, Debug, Default)]
pub struct RoundRobin {
    last: Option<TaskId>,
}

impl Policy for RoundRobin {
    fn choose(&mut self, runnable: &[TaskId], _current: Option<TaskId>, _label: Label) -> TaskId {
        let next = match self.last {
            Some(l) => *runnable.iter().find(|&&t| t > l).unwrap_or(&runnable[0]),
            None => runnable[0],
        };
        self.last = Some(next);
        next
    }
}

/// A small, fast, reproducible generator (SplitMix64).
#[derive(Clone, Debug)]
pub struct Rng(pub u64);

impl Rng {
    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }
    /// A number below `n` (not zero).
    pub fn below(&mut self, n: u64) -> u64 {
        ((self.next_u64() as u128 * n as u128) >> 64) as u64
    }
}

/// Any runnable task with equal chance.
#[derive(Clone, Debug)]
pub struct Random(Rng);

impl Random {
    /// From a seed.
    pub fn new(seed: u64) -> Self {
        Random(Rng(seed))
    }
}

impl Policy for Random {
    fn choose(&mut self, runnable: &[TaskId], _current: Option<TaskId>, _label: Label) -> TaskId {
        runnable[self.0.below(runnable.len() as u64) as usize]
    }
}

/// Repeats a schedule; when it is at its end, or names a task that cannot run, `then` decides.
pub struct Replay<P> {
    schedule: Schedule,
    at: usize,
    /// Decisions that named a task which could not run: zero when the replay was exact.
    pub diverged: u64,
    then: P,
}

impl<P: Policy> Replay<P> {
    /// Repeats `schedule`, then asks `then`.
    pub fn new(schedule: Schedule, then: P) -> Self {
        Replay { schedule, at: 0, diverged: 0, then }
    }
}

impl<P: Policy> Policy for Replay<P> {
    fn choose(&mut self, runnable: &[TaskId], current: Option<TaskId>, label: Label) -> TaskId {
        if let Some(&t) = self.schedule.choices.get(self.at) {
            self.at += 1;
            if runnable.contains(&t) {
                return t;
            }
            self.diverged += 1;
        }
        self.then.choose(runnable, current, label)
    }
}

/// How a controlled run ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum End {
    /// Every task returned.
    Finished,
    /// Tasks wait for each other: their names and where each waits.
    Deadlock(Vec<(String, Label)>),
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
}

/// Limits of a run.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Config {
    /// Scheduling points after which the run is cancelled, so that a livelock ends.
    pub max_points: u64,
    /// Bytes of stack for each task. Slow paths of translated code run on it.
    pub stack: usize,
}

impl Default for Config {
    fn default() -> Self {
        Config { max_points: 1_000_000, stack: 256 << 10 }
    }
}

/// Runs `main` as task 0, and whatever it [`spawn`]s, to the end.
pub fn run(config: Config, policy: &mut dyn Policy, main: impl FnOnce() + 'static) -> Outcome {
    co::run(config, policy, Box::new(main))
}

/// Adds a task to the controlled run that the caller is part of.
///
/// # Panics
/// Outside a controlled run.
pub fn spawn(name: impl Into<String>, f: impl FnOnce() + 'static) -> TaskId {
    co::spawn(name.into(), Box::new(f), false)
}

/// The same for a task that never waits and ends when the others have ended: time passes although it can run.
///
/// # Panics
/// Outside a controlled run.
pub fn spawn_background(name: impl Into<String>, f: impl FnOnce() + 'static) -> TaskId {
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

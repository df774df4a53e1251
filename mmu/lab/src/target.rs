//! What the lab asks of the code that runs a scenario.

use crate::scenario::{Geometry, Scenario};
use racewalk_mm::cost::Cost;
use racewalk_sched::controlled::{Outcome, Policy, Replay, RoundRobin};
use racewalk_sched::schedule::Schedule;

/// Runs scenarios. Runs on several host threads do not meet, and a run depends on nothing but its arguments: not on
/// what was run before.
pub trait Target: Sync {
    /// Ids of the schemes that it knows.
    fn schemes(&self) -> Vec<String>;

    /// Makes ready for runs of `scenario` under `scheme`: what is the same in all of them is done once.
    ///
    /// # Errors
    /// The target does not know the scheme, or not in any geometry that is wanted.
    fn prepare(
        &self,
        scenario: &Scenario,
        scheme: &str,
        options: &RunOptions,
    ) -> Result<Box<dyn Runner + '_>, LabError>;

    /// Runs `scenario` once under `scheme`, every choice of who goes on being `policy`'s.
    ///
    /// # Errors
    /// Those of [`prepare`](Self::prepare) and of [`Runner::run`].
    fn run(
        &self,
        scenario: &Scenario,
        scheme: &str,
        policy: &mut dyn Policy,
        options: &RunOptions,
    ) -> Result<RunResult, LabError> {
        self.prepare(scenario, scheme, options)?.run(policy)
    }
}

/// Runs one scenario under one scheme, again and again. Each run shows what a first one would.
pub trait Runner: Send {
    /// Runs it once, every choice of who goes on being `policy`'s.
    ///
    /// # Errors
    /// The set-up failed, so that nothing was raced.
    fn run(&mut self, policy: &mut dyn Policy) -> Result<RunResult, LabError>;
}

/// How a scenario is run.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct RunOptions {
    /// The geometry; if none is given, the first of the scenario's that the scheme knows.
    pub geometry: Option<Geometry>,
    /// Scheduling points after which a run is ended.
    pub max_points: u64,
    /// Whether [`RunResult::events`] is wanted: campaigns leave it empty.
    pub events: bool,
    /// Whether [`RunResult::states`] is wanted.
    pub states: bool,
    /// Whether [`RunResult::counters`] is wanted.
    pub counters: bool,
}

impl Default for RunOptions {
    fn default() -> Self {
        RunOptions { geometry: None, max_points: 100_000, events: false, states: true, counters: false }
    }
}

impl RunOptions {
    /// The same with events.
    pub fn with_events(mut self) -> Self {
        self.events = true;
        self
    }
}

/// An invariant that did not hold.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Finding {
    /// Its number in reference section D.
    pub rule: u8,
    /// One line.
    pub title: String,
    /// The evidence, in several lines.
    pub text: String,
    /// The event at which it showed, if events were wanted.
    pub event: Option<u64>,
}

/// Something that an actor did.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Event {
    /// Position in the order of the run.
    pub seq: u64,
    /// The CPU that it happened on; none for actors that hold no CPU.
    pub cpu: Option<u32>,
    /// The name of the task.
    pub task: String,
    /// A short fixed name, such as `pte.load`.
    pub label: String,
    /// What a reader is told; the label says it all if this is empty.
    pub text: String,
}

/// What a run showed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RunResult {
    /// How it ended, its schedule and its scheduling points.
    pub outcome: Outcome,
    /// Invariants that did not hold, in the order of finding.
    pub findings: Vec<Finding>,
    /// What happened, by `seq`.
    pub events: Vec<Event>,
    /// A hash of each state it passed through: of memory, records, TLBs, and where each task is.
    pub states: Vec<u64>,
    /// What the tables cost.
    pub counters: Vec<Cost>,
}

/// A run or a campaign that could not be made. A finding is none of these.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LabError {
    /// The target does not know the scheme.
    #[error("found scheme {scheme:?}; wanted one of {}", .known.join(", "))]
    Scheme {
        /// What was asked for.
        scheme: String,
        /// What there is.
        known: Vec<String>,
    },
    /// Scheme and scenario have no geometry in common.
    #[error("scenario {scenario}: found no geometry that scheme {scheme} knows; wanted one of {}", words(.wanted))]
    Geometry {
        /// The scenario.
        scenario: String,
        /// The scheme.
        scheme: String,
        /// Geometries of the scenario.
        wanted: Vec<Geometry>,
    },
    /// The target does not do this.
    #[error("not modelled: {0}")]
    NotModelled(String),
    /// The set-up of the scenario failed, so nothing was raced.
    #[error("scenario {scenario}: the set-up failed: {problem}")]
    Setup {
        /// The scenario.
        scenario: String,
        /// What went wrong.
        problem: String,
    },
    /// A schedule does not fit the run.
    #[error("schedule {schedule}: found {diverged} choices of tasks that could not run; wanted none")]
    Diverged {
        /// The schedule.
        schedule: Schedule,
        /// Choices that could not be made.
        diverged: u64,
    },
    /// A schedule fits the run, but is not as long.
    #[error(
        "schedule {schedule}: found {} of {made} choices; wanted one of {has}, as many as the schedule has",
        if made < has { "a shorter run," } else { "a longer run," }
    )]
    Length {
        /// The schedule.
        schedule: Schedule,
        /// Choices that it has.
        has: usize,
        /// Choices that the run asked for.
        made: usize,
    },
    /// Two runs of one schedule differ: something decides that is not the schedule.
    #[error("schedule {schedule}: two runs differ in {what}; wanted the same")]
    Nondeterministic {
        /// The schedule.
        schedule: Schedule,
        /// In what.
        what: String,
    },
    /// A plan that cannot be carried out.
    #[error("found {found}; wanted {wanted}")]
    Plan {
        /// What was asked for.
        found: String,
        /// What can be had.
        wanted: String,
    },
}

fn words(geometries: &[Geometry]) -> String {
    geometries.iter().map(|g| g.word()).collect::<Vec<_>>().join(", ")
}

/// Repeats a schedule, with events.
///
/// # Errors
/// [`LabError::Diverged`] if a choice could not be made, [`LabError::Length`] if choices are left over or were missing.
pub fn replay(
    target: &dyn Target,
    scenario: &Scenario,
    scheme: &str,
    schedule: &Schedule,
    options: &RunOptions,
) -> Result<RunResult, LabError> {
    let mut policy = Replay::new(schedule.clone(), RoundRobin::default());
    let result = target.run(scenario, scheme, &mut policy, &options.clone().with_events())?;
    fits(policy.diverged, schedule, &result.outcome.schedule)?;
    Ok(result)
}

/// Whether a schedule is that of the run which it was given to.
pub(crate) fn fits(diverged: u64, given: &Schedule, ran: &Schedule) -> Result<(), LabError> {
    let (has, made) = (given.choices.len(), ran.choices.len());
    let schedule = given.clone();
    match given == ran {
        true if diverged == 0 => Ok(()),
        _ if diverged == 0 && has != made => Err(LabError::Length { schedule, has, made }),
        _ => Err(LabError::Diverged { schedule, diverged }),
    }
}

/// Repeats a schedule twice: the second run must be the first one's equal.
pub fn confirm(
    target: &dyn Target,
    scenario: &Scenario,
    scheme: &str,
    schedule: &Schedule,
    options: &RunOptions,
) -> Result<RunResult, LabError> {
    let [first, second] = [(); 2].map(|()| replay(target, scenario, scheme, schedule, options));
    let (first, second) = (first?, second?);
    let differs = [
        ("outcome", first.outcome != second.outcome),
        ("findings", first.findings != second.findings),
        ("events", first.events != second.events),
        ("states", first.states != second.states),
    ];
    match differs.iter().find(|d| d.1) {
        None => Ok(first),
        Some((what, _)) => {
            Err(LabError::Nondeterministic { schedule: schedule.clone(), what: (*what).into() })
        }
    }
}

//! Many schedules of one scenario under one scheme.
//!
//! The schedule of each seed is a run of its own, so a campaign is the same whether it is done by one host thread or
//! many, at once or in shards: reports of shards [merge](Report::merge) to the report of the whole.

mod states;
#[cfg(test)]
mod tests;

pub use states::States;

use crate::scenario::Scenario;
use crate::target::{Finding, LabError, RunOptions, Runner, Target};
use racewalk_sched::controlled::{End, Policy};
use racewalk_sched::schedule::Schedule;
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::str::FromStr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A part of a campaign: the seeds that leave `index` when divided by `of`. Written `2/4`, from `0/4` to `3/4`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shard {
    index: u64,
    of: u64,
}

impl Default for Shard {
    fn default() -> Self {
        Shard::WHOLE
    }
}

impl Shard {
    /// All seeds.
    pub const WHOLE: Shard = Shard { index: 0, of: 1 };

    /// Whether it is not the whole.
    pub fn is_part(self) -> bool {
        self != Shard::WHOLE
    }

    /// Whether number `n` is in it.
    pub fn has(self, n: u64) -> bool {
        n % self.of == self.index
    }

    /// Its first seed, if it has one.
    fn first(self, range: &Range<u64>) -> Option<u64> {
        let behind = range.start % self.of;
        let wait = (self.index + self.of - behind) % self.of;
        range.start.checked_add(wait).filter(|f| range.contains(f))
    }

    pub(crate) fn seeds(self, range: &Range<u64>) -> impl Iterator<Item = u64> + use<> {
        let end = range.end;
        std::iter::successors(self.first(range), move |s| s.checked_add(self.of).filter(|s| *s < end))
    }

    /// How many seeds of `range` it has.
    pub fn count(self, range: &Range<u64>) -> u64 {
        self.first(range).map_or(0, |f| (range.end - 1 - f) / self.of + 1)
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.index, self.of)
    }
}

impl FromStr for Shard {
    type Err = LabError;
    fn from_str(text: &str) -> Result<Shard, LabError> {
        let parts = text.split_once('/').and_then(|(i, n)| Some((i.parse().ok()?, n.parse().ok()?)));
        match parts {
            Some((index, of)) if of <= u32::MAX as u64 && index < of => Ok(Shard { index, of }),
            _ => Err(LabError::Plan {
                found: format!("shard {text:?}"),
                wanted: "I/N with I from 0 to N-1, such as 0/4".into(),
            }),
        }
    }
}

/// What a campaign does.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Plan {
    /// A schedule for each of these seeds.
    pub seeds: Range<u64>,
    /// Only these of them.
    pub shard: Shard,
    /// Host threads; as many as the host has CPUs, if 0.
    pub jobs: usize,
    /// Whether it ends with the lowest seed that has a finding.
    pub stop_at_first: bool,
    /// Hashes of states that are kept: up to this many distinct states are counted exactly, more are estimated.
    pub max_states: usize,
}

impl Plan {
    /// A schedule for each of these seeds, all of them, on all CPUs of the host.
    pub fn new(seeds: Range<u64>) -> Plan {
        Plan { seeds, shard: Shard::WHOLE, jobs: 0, stop_at_first: false, max_states: 1 << 16 }
    }
}

/// How often an invariant did not hold.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RuleCount {
    /// Schedules in which it did not.
    pub schedules: u64,
    /// The lowest seed of them.
    pub first_seed: u64,
}

/// The schedule of the lowest seed that has a finding.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct First {
    /// The seed.
    pub seed: u64,
    /// The schedule.
    pub schedule: Schedule,
    /// What was found.
    pub findings: Vec<Finding>,
}

/// How schedules ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Ends {
    /// Every task returned.
    pub finished: u64,
    /// Tasks wait for each other.
    pub deadlock: u64,
    /// The limit of scheduling points was reached.
    pub limit: u64,
    /// Ended by the target, usually because of a finding.
    pub cancelled: u64,
    /// A task panicked.
    pub panicked: u64,
}

/// What a campaign, or a shard of one, showed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Report {
    /// Schedules run.
    pub schedules: u64,
    /// Scheduling points passed.
    pub points: u64,
    /// How they ended.
    pub ends: Ends,
    /// States that they passed through.
    pub states: States,
    /// Findings by invariant.
    pub rules: BTreeMap<u8, RuleCount>,
    /// The lowest seed with a finding.
    pub first: Option<First>,
    /// All seeds with a finding, ascending.
    pub hits: Vec<u64>,
}

impl Report {
    fn new(max_states: usize) -> Report {
        Report {
            schedules: 0,
            points: 0,
            ends: Ends::default(),
            states: States::new(max_states),
            rules: BTreeMap::new(),
            first: None,
            hits: vec![],
        }
    }

    /// Both reports as one. They must not have seeds in common.
    pub fn merge(mut self, other: Report) -> Report {
        self.schedules += other.schedules;
        self.points += other.points;
        let Ends { finished, deadlock, limit, cancelled, panicked } = other.ends;
        self.ends.finished += finished;
        self.ends.deadlock += deadlock;
        self.ends.limit += limit;
        self.ends.cancelled += cancelled;
        self.ends.panicked += panicked;
        self.states.merge(&other.states);
        for (rule, n) in other.rules {
            let mine = self.rules.entry(rule).or_insert(RuleCount { schedules: 0, first_seed: n.first_seed });
            mine.schedules += n.schedules;
            mine.first_seed = mine.first_seed.min(n.first_seed);
        }
        self.first = [self.first, other.first].into_iter().flatten().min_by_key(|f| f.seed);
        self.hits.extend(other.hits);
        self.hits.sort_unstable();
        self
    }

    /// How many schedules it takes to find something, counted from each seed of the whole range: the median.
    /// `None` if from more than half of them nothing was found up to the range's end.
    pub fn median_needed(&self, seeds: &Range<u64>) -> Option<u64> {
        let starts = seeds.end.saturating_sub(seeds.start);
        // A gap that ends in a hit has starts that need 1, 2, … up to its length: count gaps of each length.
        let mut gaps = Vec::with_capacity(self.hits.len());
        let mut from = seeds.start;
        for &h in self.hits.iter().filter(|h| seeds.contains(h)) {
            gaps.push(h + 1 - from);
            from = h + 1;
        }
        gaps.sort_unstable();
        // The smallest n such that half of the starts, at least, need no more than n.
        let half = starts.div_ceil(2);
        let (mut reached, mut n) = (0, 0);
        for (i, &gap) in gaps.iter().enumerate() {
            let open = (gaps.len() - i) as u64;
            let step = (gap - n) * open;
            if half > 0 && reached + step >= half {
                return Some(n + (half - reached).div_ceil(open));
            }
            (reached, n) = (reached + step, gap);
        }
        None
    }

    fn add(&mut self, run: Run) {
        self.schedules += 1;
        self.points += run.points;
        let ends = &mut self.ends;
        *match run.end {
            End::Finished => &mut ends.finished,
            End::Deadlock(_) | End::LostWakeup(..) => &mut ends.deadlock,
            End::Livelock(_) | End::Limit => &mut ends.limit,
            End::Cancelled => &mut ends.cancelled,
            End::Panicked(..) => &mut ends.panicked,
        } += 1;
        run.states.iter().for_each(|&s| self.states.insert(s));
        let Some(first) = run.found else { return };
        let mut rules: Vec<_> = first.findings.iter().map(|f| f.rule).collect();
        rules.sort_unstable();
        rules.dedup();
        for r in rules {
            let n = self.rules.entry(r).or_insert(RuleCount { schedules: 0, first_seed: first.seed });
            n.schedules += 1;
        }
        self.hits.push(first.seed);
        self.first.get_or_insert(first);
    }
}

/// What is kept of one schedule.
struct Run {
    points: u64,
    end: End,
    states: Vec<u64>,
    found: Option<First>,
}

/// How far a campaign is.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Progress {
    /// Schedules run.
    pub done: u64,
    /// Schedules of the whole campaign.
    pub total: u64,
    /// Those with a finding.
    pub found: u64,
    /// Time since the start.
    pub elapsed: Duration,
}

impl Progress {
    /// Schedules a second.
    pub fn rate(&self) -> f64 {
        self.done as f64 / self.elapsed.as_secs_f64().max(1e-9)
    }
}

/// One line for a terminal.
impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Progress { done, total, found, .. } = self;
        write!(f, "{done}/{total} schedules, {:.0}/s, {found} with findings", self.rate())
    }
}

/// Host threads for `work` pieces of work: `jobs`, or as many as the host has CPUs if 0, but none without work.
pub(crate) fn pool(jobs: usize, work: u64) -> Result<rayon::ThreadPool, LabError> {
    let wanted = match jobs {
        0 => std::thread::available_parallelism().map_or(1, |n| n.get()),
        n => n,
    };
    let threads = wanted.min(usize::try_from(work).unwrap_or(usize::MAX)).max(1);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).thread_name(|i| format!("lab-{i}"));
    pool.build().map_err(|e| LabError::Plan {
        found: format!("{jobs} jobs: {e}"),
        wanted: "as many as the host can start threads".into(),
    })
}

/// Runs `scenario` under `scheme` for each seed of `plan`; `policy` makes a seed's policy. `progress` is called now and
/// then, on the caller's thread.
///
/// # Errors
/// Those of the target, the lowest seed's first.
pub fn run(
    target: &dyn Target,
    scenario: &Scenario,
    scheme: &str,
    options: &RunOptions,
    plan: &Plan,
    policy: &(dyn Fn(u64) -> Box<dyn Policy> + Sync),
    mut progress: impl FnMut(&Progress),
) -> Result<Report, LabError> {
    let total = plan.shard.count(&plan.seeds);
    let pool = pool(plan.jobs, total)?;
    // As many as there are threads at most; which one a run gets changes nothing.
    let runners: Mutex<Vec<Box<dyn Runner + '_>>> = Mutex::default();
    let idle = || runners.lock().unwrap_or_else(PoisonError::into_inner);
    let one = |seed: u64| -> Result<Run, LabError> {
        let kept = idle().pop();
        let mut runner = kept.map_or_else(|| target.prepare(scenario, scheme, options), Ok)?;
        let result = runner.run(&mut *policy(seed))?;
        idle().push(runner);
        let (findings, outcome) = (result.findings, result.outcome);
        let found = (!findings.is_empty()).then_some(First { seed, schedule: outcome.schedule, findings });
        Ok(Run { points: outcome.points, end: outcome.end, states: result.states, found })
    };
    let mut report = Report::new(plan.max_states);
    let start = Instant::now();
    let mut at = Progress { done: 0, total, found: 0, elapsed: Duration::ZERO };
    let mut seeds = plan.shard.seeds(&plan.seeds);
    // Batches grow until one takes about a tenth of a second: often enough for progress, and little is thrown away
    // when the first finding ends the campaign. Their size changes nothing in the report.
    let mut size = pool.current_num_threads() * 4;
    loop {
        let batch: Vec<u64> = seeds.by_ref().take(size).collect();
        if batch.is_empty() {
            return Ok(report);
        }
        let began = Instant::now();
        let runs: Vec<_> = pool.install(|| batch.into_par_iter().map(one).collect());
        for run in runs {
            report.add(run?);
            if plan.stop_at_first && report.first.is_some() {
                break;
            }
        }
        at = Progress {
            done: report.schedules,
            found: report.hits.len() as u64,
            elapsed: start.elapsed(),
            ..at
        };
        progress(&at);
        if plan.stop_at_first && report.first.is_some() {
            return Ok(report);
        }
        if began.elapsed() < Duration::from_millis(50) && size < 1 << 14 {
            size *= 2;
        }
    }
}

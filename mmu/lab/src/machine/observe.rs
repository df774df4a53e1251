//! A run that somebody listens to: what its machine says from its boot on, and what is left of it.

use super::prepared::Prepared;
use super::{Machine, world};
use crate::finding::Finding;
use crate::scenario::{Geometry, Scenario};
use crate::target::{LabError, RunOptions, RunResult};
use racewalk_cpu::Sink;
use racewalk_mm::Variant;
use racewalk_mm::arch::Arch;
use racewalk_mm::sanitizer::Watcher;
use racewalk_ram::{Paddr, Ram};
use racewalk_sched::controlled::{Policy, Replay, RoundRobin};
use std::fmt;
use std::sync::Arc;

/// Who listens. Both are called on the thread of the run and must reach no scheduling point.
#[derive(Clone)]
pub struct Listener {
    /// What the processors do.
    pub sink: Arc<dyn Sink>,
    /// What the mm does.
    pub watcher: Arc<dyn Watcher>,
}

/// What a processor counted from its boot on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counted {
    /// Lookups of its TLB.
    pub lookups: u64,
    /// Of those, hits.
    pub hits: u64,
    /// Walks begun.
    pub walks: u64,
    /// Table entries fetched.
    pub steps: u64,
    /// Translations taken in.
    pub fills: u64,
    /// Purges of all CPUs asked for.
    pub purges: u64,
}

/// What is left of a run that was listened to.
pub struct Observed {
    /// What it showed.
    pub result: RunResult,
    /// Its tasks, by number.
    pub tasks: Vec<String>,
    /// Its operations as the scenario writes them, by the number that the sanitizer knows them by.
    pub ops: Vec<String>,
    /// Counters by processor.
    pub cpus: Vec<Counted>,
    /// The machine's memory, and where that ends which was used of it; nothing if the set-up has the finding.
    pub memory: Option<(Arc<Ram>, Paddr)>,
}

impl fmt::Debug for Observed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Observed").field("result", &self.result).finish_non_exhaustive()
    }
}

fn observe<A: Arch>(
    scenario: &Scenario,
    variant: Variant,
    options: &RunOptions,
    policy: &mut dyn Policy,
    listener: &Listener,
) -> Result<Observed, LabError> {
    Prepared::<A>::new(scenario, variant, options).observed(policy, listener)
}

fn size<A: Arch>(scenario: &Scenario) -> u64 {
    world::size::<A>(scenario)
}

impl Machine {
    /// Bytes of memory that the machine of a scenario has.
    pub fn memory(scenario: &Scenario, geometry: Geometry) -> u64 {
        on_geometry!(geometry, size(scenario))
    }

    /// Repeats a finding, with events, and lets `listener` hear it.
    ///
    /// # Errors
    /// [`LabError::Diverged`] if the schedule does not fit the run; those of a run.
    pub fn observe(&self, finding: &Finding, listener: &Listener) -> Result<Observed, LabError> {
        let options = finding.options().with_events();
        let (variant, geometry) = self.choose(&finding.scenario, &finding.scheme, &options)?;
        let mut policy = Replay::new(finding.schedule.clone(), RoundRobin::default());
        let scenario = &finding.scenario;
        let seen = on_geometry!(geometry, observe(scenario, variant, &options, &mut policy, listener))?;
        crate::target::fits(policy.diverged, &finding.schedule, &seen.result.outcome.schedule)?;
        Ok(seen)
    }
}

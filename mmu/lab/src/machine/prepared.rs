//! A scenario ready to be run again and again: the machine is booted and set up once, and put back for each run.

use super::observe::{Counted, Listener, Observed};
use super::race::{Race, of_error};
use super::{setup, world};
use crate::scenario::Scenario;
use crate::target::{Finding, LabError, RunOptions, RunResult, Runner};
use racewalk_mm::arch::Arch;
use racewalk_mm::{Checkpoint, Ready, Variant};
use racewalk_sched::controlled::{self, End, Policy};
use std::sync::Arc;

/// A scenario under a variant of a scheme.
pub(super) struct Prepared<A: Arch> {
    race: Arc<Race>,
    variant: Variant,
    options: RunOptions,
    start: Start<A>,
}

/// Where runs begin.
enum Start<A: Arch> {
    /// Nothing is there yet, or any more.
    Nowhere,
    At(Box<Checkpoint<A>>),
    /// The set-up has these findings.
    Never(Vec<Finding>),
}

impl<A: Arch> Prepared<A> {
    pub(super) fn new(scenario: &Scenario, variant: Variant, options: &RunOptions) -> Self {
        let race = Arc::new(Race::new(scenario));
        Prepared { race, variant, options: options.clone(), start: Start::Nowhere }
    }

    /// Boots a machine and sets the scenario up. Findings of the set-up are those of every schedule.
    fn boot(&self, listener: Option<&Listener>) -> Result<Result<Ready<A>, Vec<Finding>>, LabError> {
        let scenario = self.race.scenario();
        let failed = |e: racewalk_mm::MmError| LabError::Setup {
            scenario: scenario.name.clone(),
            problem: e.to_string(),
        };
        let ram = world::memory(world::size::<A>(scenario)).map_err(failed)?;
        let kernel =
            world::boot::<A>(&ram, self.variant, scenario.cpus, scenario.machine, &self.options, listener)
                .map_err(failed)?;
        match setup::make(scenario, &kernel) {
            Ok(mms) => Ok(Ok((kernel, mms))),
            Err(e) => {
                let found = kernel.take_findings();
                kernel.halt();
                if found.is_empty() { Err(failed(e)) } else { Ok(Err(found.iter().map(of_error).collect())) }
            }
        }
    }

    /// One run on a machine that is booted for it.
    pub(super) fn once(&self, policy: &mut dyn Policy) -> Result<RunResult, LabError> {
        let (kernel, mms) = match self.boot(None)? {
            Ok(ready) => ready,
            Err(findings) => return Ok(never(&findings, policy)),
        };
        let ram = kernel.ram().clone();
        let result = self.race.run(kernel, mms, policy, &self.options);
        if racewalk_mm::frames::wipe(&ram).is_ok() {
            world::keep(ram);
        }
        Ok(result)
    }

    /// [`once`](Self::once), with somebody who listens.
    pub(super) fn observed(
        &self,
        policy: &mut dyn Policy,
        listener: &Listener,
    ) -> Result<Observed, LabError> {
        let (tasks, ops) = (self.race.task_names(), self.race.op_texts());
        let (kernel, mms) = match self.boot(Some(listener))? {
            Ok(ready) => ready,
            Err(findings) => {
                let result = never(&findings, policy);
                return Ok(Observed { result, tasks, ops, cpus: vec![], memory: None });
            }
        };
        let result = self.race.run(kernel.clone(), mms, policy, &self.options);
        let cpus = (0..kernel.cpus().count()).map(|n| {
            let s = kernel.cpus().stats(n);
            Counted {
                lookups: s.lookups.get(),
                hits: s.hits.get(),
                walks: s.walks.get(),
                steps: s.steps.get(),
                fills: s.fills.get(),
                purges: s.purges_sent.get(),
            }
        });
        let memory = Some((kernel.ram().clone(), kernel.high_water()));
        Ok(Observed { result, tasks, ops, cpus: cpus.collect(), memory })
    }

    fn checkpoint(&self) -> Result<Start<A>, LabError> {
        Ok(match self.boot(None)? {
            Err(findings) => Start::Never(findings),
            Ok((kernel, mms)) => {
                Start::At(Box::new(Checkpoint::take(kernel, mms).map_err(|e| self.failed(&e))?))
            }
        })
    }

    fn failed(&self, e: &racewalk_mm::MmError) -> LabError {
        LabError::Setup { scenario: self.race.scenario().name.clone(), problem: e.to_string() }
    }
}

/// A run of which nothing but the set-up is there: its findings are those of every schedule, the empty one included.
fn never(findings: &[Finding], policy: &mut dyn Policy) -> RunResult {
    let outcome = controlled::run(controlled::Config::default(), policy, || {});
    RunResult { outcome, findings: findings.into(), events: vec![], states: vec![], counters: vec![] }
}

impl<A: Arch> Runner for Prepared<A> {
    fn run(&mut self, policy: &mut dyn Policy) -> Result<RunResult, LabError> {
        if let Start::Nowhere = self.start {
            self.start = self.checkpoint()?;
        }
        let checkpoint = match &mut self.start {
            Start::At(c) => c,
            Start::Never(findings) => return Ok(never(findings, policy)),
            Start::Nowhere => unreachable!("made above"),
        };
        let restored = checkpoint.restore();
        let (kernel, mms) = restored.map_err(|e| self.failed(&e))?;
        let result = self.race.run(kernel, mms, policy, &self.options);
        if let End::Panicked(..) = result.outcome.end {
            // Code of ours stopped halfway: nothing that it may have left is used again.
            self.start = Start::Nowhere;
        }
        Ok(result)
    }
}

impl<A: Arch> Drop for Prepared<A> {
    fn drop(&mut self) {
        if let Start::At(c) = std::mem::replace(&mut self.start, Start::Nowhere)
            && let Ok(ram) = c.wipe()
        {
            world::keep(ram);
        }
    }
}

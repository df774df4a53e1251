//! From a schedule with a finding to a short story: shrunk in preemptions and operations, confirmed, saved, repeated.

use crate::scenario::{Geometry, Scenario, ScenarioError};
use crate::target::{LabError, RunOptions, RunResult, Runner, Target, confirm};
use racewalk_sched::controlled::{Outcome, Policy, PolicySpec, Replay, Stay};
use racewalk_sched::schedule::Schedule;
use racewalk_sched::schedule_file::{ScheduleFile, ScheduleFileError};
use racewalk_sched::shrink::minimise_schedule;

/// A finding with all that repeats it.
#[derive(Clone, Debug)]
pub struct Finding {
    /// What is run.
    pub scenario: Scenario,
    /// Under which scheme.
    pub scheme: String,
    /// With which geometry.
    pub geometry: Geometry,
    /// In which order.
    pub schedule: Schedule,
    /// The invariant.
    pub rule: u8,
}

/// Schedules that are tried to find the rule again in a scenario with one part less.
const TRIES: u64 = 400;

/// A file that is no saved finding.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FindingError {
    /// It is no schedule file.
    #[error(transparent)]
    File(#[from] ScheduleFileError),
    /// A header line is missing or not understood.
    #[error("found {found}; wanted a header line `{wanted}`")]
    Header {
        /// What is there.
        found: String,
        /// What should be.
        wanted: &'static str,
    },
    /// The scenario in it is not understood.
    #[error(transparent)]
    Scenario(#[from] ScenarioError),
    /// It cannot be run.
    #[error(transparent)]
    Lab(#[from] LabError),
}

impl Finding {
    pub(crate) fn options(&self) -> RunOptions {
        RunOptions { geometry: Some(self.geometry), states: false, ..RunOptions::default() }
    }

    /// Runs under `policy`; the outcome if the same invariant breaks first.
    fn breaks(&self, runner: &mut dyn Runner, policy: &mut dyn Policy) -> Result<Option<Outcome>, LabError> {
        let r = runner.run(policy)?;
        Ok(r.findings.first().is_some_and(|f| f.rule == self.rule).then_some(r.outcome))
    }

    /// The same with as few preemptions as no single one of which can be left out.
    fn fewer_preemptions(&self, target: &dyn Target) -> Result<Finding, LabError> {
        let mut failed = None;
        let mut runner = target.prepare(&self.scenario, &self.scheme, &self.options())?;
        let best = minimise_schedule(&self.schedule, |s| {
            match self.breaks(&mut *runner, &mut Replay::new(s.clone(), Stay)) {
                Ok(o) => o,
                Err(e) => {
                    failed.get_or_insert(e);
                    None
                }
            }
        });
        if let Some(e) = failed {
            return Err(e);
        }
        Ok(best.map_or_else(|| self.clone(), |o| Finding { schedule: o.schedule, ..self.clone() }))
    }

    /// The same with one operation, walker or failure less, if the invariant breaks without it too.
    fn one_part_less(&self, target: &dyn Target) -> Result<Option<Finding>, LabError> {
        for part in self.scenario.removable() {
            let Some(scenario) = self.scenario.without(part) else { continue };
            // Choices name tasks by number and mean something else now: the schedule is looked for anew.
            let mut runner = target.prepare(&scenario, &self.scheme, &self.options())?;
            let mut runs = PolicySpec::Pct { depth: 3, decisions: None }.runs(1);
            for n in 0..TRIES {
                let found = match runs.policy() {
                    Some(p) if n != 0 => self.breaks(&mut *runner, p)?,
                    _ => self.breaks(&mut *runner, &mut Stay)?,
                };
                if let Some(o) = found {
                    return Ok(Some(Finding { scenario, schedule: o.schedule, ..self.clone() }));
                }
            }
        }
        Ok(None)
    }

    /// Shrinks: 1-minimal in parts of the scenario (as far as some hundred schedules tell) and in preemptions.
    pub fn shrink(&self, target: &dyn Target) -> Result<Finding, LabError> {
        let mut best = self.clone();
        while let Some(smaller) = best.one_part_less(target)? {
            best = smaller;
        }
        best.fewer_preemptions(target)
    }

    /// Repeats it, twice, with events.
    pub fn repeat(&self, target: &dyn Target) -> Result<RunResult, LabError> {
        confirm(target, &self.scenario, &self.scheme, &self.schedule, &self.options())
    }

    /// As a schedule file that needs nothing else to be repeated.
    pub fn to_file(&self, seed: u64, steps: &str) -> Result<String, ScheduleFileError> {
        let mut f = ScheduleFile::new(self.schedule.clone())
            .with("racewalk", env!("CARGO_PKG_VERSION"))
            .with("scheme", &self.scheme)
            .with("geometry", self.geometry.word())
            .with("rule", self.rule)
            .with("seed", seed)
            .with("scenario", &self.scenario.name);
        for line in self.scenario.to_string().lines().filter(|l| !l.trim().is_empty()) {
            f = f.with("line", line.trim_end());
        }
        f.steps = steps.lines().map(|l| l.trim_end().to_string()).collect();
        f.to_text()
    }

    /// Reads such a file.
    pub fn from_file(text: &str) -> Result<Finding, FindingError> {
        let f: ScheduleFile = text.parse()?;
        let get = |key: &str, wanted: &'static str| {
            f.get(key).ok_or(FindingError::Header { found: format!("no `{key}`"), wanted })
        };
        let scheme = get("scheme", "scheme NAME")?.to_string();
        let word = get("geometry", "geometry NAME")?;
        let geometry = Geometry::from_word(word)
            .ok_or(FindingError::Header { found: format!("geometry {word:?}"), wanted: "geometry NAME" })?;
        let number = get("rule", "rule NUMBER")?;
        let rule = number
            .parse()
            .map_err(|_| FindingError::Header { found: format!("rule {number:?}"), wanted: "rule NUMBER" })?;
        let name = get("scenario", "scenario NAME")?;
        let lines: Vec<&str> = f.header.iter().filter(|h| h.0 == "line").map(|h| h.1.as_str()).collect();
        let scenario = Scenario::parse(name, &(lines.join("\n") + "\n"))?;
        Ok(Finding { scenario, scheme, geometry, schedule: f.schedule, rule })
    }
}

//! Policies by name.

use super::{Dfs, Pct, Policy, Random, Replay, RoundRobin, Stay};
use crate::controlled::Outcome;
use crate::rng::mix;
use crate::schedule::Schedule;
use std::fmt;
use std::str::FromStr;

/// A policy as people type it. Its seed is given apart.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PolicySpec {
    /// `round-robin`
    RoundRobin,
    /// `random`
    Random,
    /// `stay`
    Stay,
    /// `pct:3`, or `pct:3:500` for runs of about 500 decisions; without them the run before tells.
    Pct {
        /// Ordered events of the bugs looked for, at least 1.
        depth: u32,
        /// Decisions of a run.
        decisions: Option<u64>,
    },
    /// `dfs:2`, with the largest number of preemptions.
    Dfs(u32),
    /// `replay:` and a schedule; at its end a task goes on until it waits.
    Replay(Schedule),
}

/// A policy that does not parse.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "policy {text:?}: {problem}; wanted round-robin, random, stay, pct:DEPTH, pct:DEPTH:DECISIONS, \
     dfs:PREEMPTIONS or replay:SCHEDULE"
)]
pub struct PolicySpecError {
    /// What was given.
    pub text: String,
    /// What is wrong with it.
    pub problem: String,
}

impl fmt::Display for PolicySpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PolicySpec::RoundRobin => f.write_str("round-robin"),
            PolicySpec::Random => f.write_str("random"),
            PolicySpec::Stay => f.write_str("stay"),
            PolicySpec::Pct { depth, decisions: None } => write!(f, "pct:{depth}"),
            PolicySpec::Pct { depth, decisions: Some(k) } => write!(f, "pct:{depth}:{k}"),
            PolicySpec::Dfs(n) => write!(f, "dfs:{n}"),
            PolicySpec::Replay(s) => write!(f, "replay:{s}"),
        }
    }
}

impl FromStr for PolicySpec {
    type Err = PolicySpecError;
    fn from_str(text: &str) -> Result<Self, PolicySpecError> {
        let bad = |problem: String| PolicySpecError { text: text.into(), problem };
        let (name, rest) = match text.split_once(':') {
            Some((n, r)) => (n, Some(r)),
            None => (text, None),
        };
        let given = || rest.ok_or_else(|| bad(format!("{name} needs a value after a colon")));
        fn number<T: FromStr>(what: &str, s: &str) -> Result<T, String> {
            s.parse().map_err(|_| format!("{what} is {s:?}, not a number in range"))
        }
        Ok(match name {
            "round-robin" | "random" | "stay" if rest.is_some() => {
                return Err(bad(format!("{name} takes no value")));
            }
            "round-robin" => PolicySpec::RoundRobin,
            "random" => PolicySpec::Random,
            "stay" => PolicySpec::Stay,
            "pct" => {
                let (depth, decisions) = match given()?.split_once(':') {
                    Some((d, k)) => (d, Some(number("the number of decisions", k).map_err(bad)?)),
                    None => (given()?, None),
                };
                let depth = number("the depth", depth).map_err(bad)?;
                if !(1..=1000).contains(&depth) {
                    return Err(bad(format!("the depth is {depth}, not 1 to 1000")));
                }
                PolicySpec::Pct { depth, decisions }
            }
            "dfs" => PolicySpec::Dfs(number("the number of preemptions", given()?).map_err(bad)?),
            "replay" => PolicySpec::Replay(given()?.parse().map_err(|e| bad(format!("{e}")))?),
            _ => return Err(bad("there is no such policy".into())),
        })
    }
}

impl PolicySpec {
    /// Run after run under this policy. Run `n` of a seed is the same however many were made before it, except with
    /// `dfs`, and with `pct` where it learns the number of decisions from the run before.
    pub fn runs(&self, seed: u64) -> Runs {
        let dfs = match self {
            PolicySpec::Dfs(n) => Dfs::new(*n),
            _ => Dfs::new(0),
        };
        Runs { spec: self.clone(), seed, n: 0, decisions: 1, one: Box::new(Stay), dfs }
    }
}

/// The policies of a campaign, one run after the other.
///
/// ```
/// use racewalk_sched::controlled::{Config, PolicySpec, run};
/// let mut runs = "pct:2".parse::<PolicySpec>()?.runs(1);
/// for _ in 0..10 {
///     let Some(policy) = runs.policy() else { break };
///     let outcome = run(Config::default(), policy, || racewalk_sched::point("here"));
///     runs.ran(&outcome);
/// }
/// # Ok::<(), racewalk_sched::controlled::PolicySpecError>(())
/// ```
pub struct Runs {
    spec: PolicySpec,
    seed: u64,
    n: u64,
    decisions: u64,
    one: Box<dyn Policy>,
    dfs: Dfs,
}

impl Runs {
    /// For the next run; `None` when another run would only repeat.
    pub fn policy(&mut self) -> Option<&mut dyn Policy> {
        let seed = mix(mix(self.seed) ^ self.n);
        self.n += 1;
        let once = self.n == 1;
        self.one = match &self.spec {
            PolicySpec::Dfs(_) => return self.dfs.start().then_some(&mut self.dfs as &mut dyn Policy),
            PolicySpec::Random => Box::new(Random::new(seed)),
            PolicySpec::Pct { depth, decisions } => {
                Box::new(Pct::new(seed, *depth, decisions.unwrap_or(self.decisions)))
            }
            PolicySpec::RoundRobin if once => Box::new(RoundRobin::default()),
            PolicySpec::Stay if once => Box::new(Stay),
            PolicySpec::Replay(s) if once => Box::new(Replay::new(s.clone(), Stay)),
            PolicySpec::RoundRobin | PolicySpec::Stay | PolicySpec::Replay(_) => return None,
        };
        Some(&mut *self.one)
    }

    /// Tells how long the run was.
    pub fn ran(&mut self, outcome: &Outcome) {
        self.decisions = self.decisions.max(outcome.schedule.choices.len() as u64);
    }

    /// Runs begun.
    pub fn count(&self) -> u64 {
        match self.spec {
            PolicySpec::Dfs(_) => self.dfs.schedules(),
            _ => self.n,
        }
    }

    /// Whether every schedule of the policy has been run (`dfs`), or the only one.
    pub fn complete(&self) -> bool {
        match self.spec {
            PolicySpec::Dfs(_) => self.dfs.complete(),
            PolicySpec::Random | PolicySpec::Pct { .. } => false,
            _ => self.n != 0,
        }
    }
}

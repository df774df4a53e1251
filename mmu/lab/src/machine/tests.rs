//! Runs of a prepared scenario show what runs on machines booted for them show.

use super::*;
use crate::target::Runner;
use crate::{library, workload};
use racewalk_mm::MUTANTS;
use racewalk_sched::Label;
use racewalk_sched::controlled::{End, Random, Rng, RoundRobin, Situation, Stay, TaskId};
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

/// How a run goes: to its end, or cut short.
#[derive(Clone, Copy, Debug)]
struct Case {
    seed: u64,
    /// Points after which it is ended.
    limit: u64,
    /// The decision at which it panics.
    panics: Option<u64>,
}

/// Panics when it has decided often enough: usually on the stack of a task.
struct Panics {
    left: u64,
    random: Random,
}

impl Policy for Panics {
    fn choose(&mut self, runnable: &[TaskId], current: Option<TaskId>, label: Label) -> TaskId {
        self.random.choose(runnable, current, label)
    }
    fn decide(&mut self, at: &Situation<'_>) -> Option<TaskId> {
        if self.left == 0 {
            // As `panic` does, without a message on the terminal.
            resume_unwind(Box::new("as planned"));
        }
        self.left -= 1;
        self.random.decide(at)
    }
}

fn policy(case: Case) -> Box<dyn Policy> {
    match (case.panics, case.seed % 4) {
        (Some(left), _) => Box::new(Panics { left, random: Random::new(case.seed) }),
        (None, 0) => Box::new(Stay),
        (None, 1) => Box::new(RoundRobin::default()),
        (None, _) => Box::new(Random::new(case.seed)),
    }
}

/// All that a run shows, as text; and how it ended.
fn told(run: impl FnOnce() -> Result<RunResult, LabError>) -> (String, &'static str) {
    match catch_unwind(AssertUnwindSafe(run)) {
        Err(_) => ("the policy panicked outside tasks".into(), "panic"),
        Ok(Err(e)) => (format!("{e:?}"), "error"),
        Ok(Ok(r)) => {
            let end = match (r.findings.is_empty(), &r.outcome.end) {
                (_, End::Panicked(..)) => "panicked",
                (_, End::Limit) => "limit",
                (_, End::Deadlock(_) | End::LostWakeup(..) | End::Livelock(_)) => "stuck",
                (false, _) => "found",
                (true, _) => "silent",
            };
            (format!("{} {r:?}", r.outcome.schedule), end)
        }
    }
}

#[derive(Default)]
struct Comparison(BTreeMap<&'static str, u32>);

impl Comparison {
    /// Runs that go in any way, in any order, prepared ones on one runner for each limit, and each on a machine of its own.
    fn runs(&mut self, scenario: &Scenario, scheme: &str, geometry: Geometry, n: usize) {
        let mut options = RunOptions::default().with_events();
        (options.geometry, options.counters) = (Some(geometry), true);
        let mut rng = Rng(scenario.name.len() as u64 ^ (scheme.len() as u64) << 8);
        let mut runners: BTreeMap<u64, Box<dyn Runner + '_>> = BTreeMap::new();
        for _ in 0..n {
            let (seed, limit) = (rng.below(1000), [40, 100_000, 100_000][rng.below(3) as usize]);
            let panics = (rng.below(8) == 0).then(|| rng.below(30));
            let case = Case { seed, limit, panics };
            options.max_points = case.limit;
            let fresh = told(|| Machine.run(scenario, scheme, &mut *policy(case), &options));
            let runner =
                runners.entry(limit).or_insert_with(|| Machine.prepare(scenario, scheme, &options).unwrap());
            let again = told(|| runner.run(&mut *policy(case)));
            assert_eq!(again, fresh, "{} {scheme} {geometry:?}: {case:?}", scenario.name);
            *self.0.entry(fresh.1).or_default() += 1;
        }
    }
}

/// What is told of the set-up and of what comes after the race names no host thread.
#[test]
fn a_run_is_the_same_on_every_thread() {
    let options = RunOptions::default().with_events();
    let mut found = 0;
    for scenario in library::scenarios().unwrap() {
        let Ok(mut runner) = Machine.prepare(&scenario, "s390-nop", &options) else { continue };
        let mut runs = || (0..40).map(|n| told(|| runner.run(&mut Random::new(n)))).collect::<Vec<_>>();
        let here = runs();
        let there = std::thread::scope(|s| s.spawn(&mut runs).join().unwrap());
        assert_eq!(here, there);
        found += here.iter().filter(|r| r.1 == "found").count();
    }
    assert!(found > 0, "no run had findings");
}

/// Every scenario under every scheme on every geometry, the sound schemes' mutants, and workloads that nobody wrote.
///
/// Seen to fail with any one part of a checkpoint not put back: guest memory, page records, either slab, the allocator,
/// counters, the sanitizer's books, TLBs and registers, a scheme's own, objects that are mapped and what is linked to them,
/// and who runs where.
#[test]
fn a_prepared_run_is_a_fresh_run() {
    let mut c = Comparison::default();
    let scenarios = library::scenarios().unwrap();
    for scheme in Scheme::catalogue().filter(|s| s.available()) {
        let there = geometries(scheme);
        for s in &scenarios {
            for &g in there.iter().filter(|g| s.geometries.contains(g)) {
                c.runs(s, scheme.name(), g, 8);
            }
        }
        for &g in &there {
            (0..12).for_each(|seed| c.runs(&workload::scenario(seed, g, 4), scheme.name(), g, 4));
        }
    }
    let mutants = MUTANTS.iter().flat_map(|r| r.schemes.iter().map(move |s| format!("{s}~{}", r.name)));
    for (i, name) in mutants.enumerate() {
        let variant: Variant = name.parse().unwrap();
        for g in geometries(variant.scheme) {
            scenarios
                .iter()
                .skip(i % 5)
                .step_by(5)
                .filter(|s| s.geometries.contains(&g))
                .for_each(|s| c.runs(s, &name, g, 4));
        }
    }
    let Comparison(ends) = c;
    println!("{ends:?}");
    for end in ["silent", "found", "limit", "panicked", "panic"] {
        assert!(ends.get(end).is_some_and(|&n| n >= 50), "{end}: {ends:?}");
    }
}

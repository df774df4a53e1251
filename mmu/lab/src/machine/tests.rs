//! Runs of a prepared scenario show what runs on machines booted for them show.

use super::*;
use crate::library;
use crate::target::Runner;
use racewalk_sched::controlled::{Random, Rng, RoundRobin, Stay};

/// How a run may go: to its end, or cut short.
#[derive(Clone, Copy, Debug)]
struct Case {
    seed: u64,
    limit: u64,
}

fn policy(case: Case) -> Box<dyn Policy> {
    match case.seed % 4 {
        0 => Box::new(Stay),
        1 => Box::new(RoundRobin::default()),
        _ => Box::new(Random::new(case.seed)),
    }
}

/// Everything that both runs show, as text.
fn told(r: Result<RunResult, LabError>) -> String {
    match r {
        Ok(r) => format!("{} {r:?}", r.outcome.schedule),
        Err(e) => format!("{e:?}"),
    }
}

/// Runs `cases` in this order, all prepared ones on one runner for each limit, and compares each with a fresh machine's.
/// Returns how many runs had findings.
fn same(scenario: &Scenario, scheme: &str, options: &RunOptions, cases: &[Case]) -> usize {
    let mut runners: Vec<(u64, Box<dyn Runner + '_>)> = Vec::new();
    let mut found = 0;
    for &case in cases {
        let mut o = options.clone();
        o.max_points = case.limit;
        let fresh = Machine.run(scenario, scheme, &mut *policy(case), &o);
        found += fresh.as_ref().is_ok_and(|r| !r.findings.is_empty()) as usize;
        let at = runners.iter().position(|r| r.0 == case.limit).unwrap_or_else(|| {
            runners.push((case.limit, Machine.prepare(scenario, scheme, &o).unwrap()));
            runners.len() - 1
        });
        let again = runners[at].1.run(&mut *policy(case));
        let name = (&scenario.name, scheme, options.geometry);
        assert_eq!(told(again), told(fresh), "{name:?}: {case:?}");
    }
    found
}

/// Every scenario under every scheme, and under each mutant, on every geometry.
///
/// Seen to fail with any one part of a checkpoint not put back: page records, slabs, the allocator, counters, the
/// sanitizer's books, guest memory, processors, RCU's state, a scheme's own.
#[test]
fn a_prepared_run_is_a_fresh_run() {
    let mut found = 0;
    for scenario in library::scenarios().unwrap() {
        for scheme in Scheme::catalogue().filter(|s| s.available()) {
            for geometry in geometries(scheme).into_iter().filter(|g| scenario.geometries.contains(g)) {
                let mut options = RunOptions::default().with_events();
                (options.geometry, options.counters) = (Some(geometry), true);
                let mut rng = Rng(scenario.name.len() as u64);
                let cases: Vec<Case> = (0..8)
                    .map(|_| Case { seed: rng.below(1000), limit: [100_000, 40][rng.below(2) as usize] })
                    .collect();
                found += same(&scenario, scheme.name(), &options, &cases);
            }
        }
    }
    assert!(found > 1000, "only {found} runs had findings");
}

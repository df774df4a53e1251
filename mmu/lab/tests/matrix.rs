//! Every cell of the matrix on the real mm: flawed schemes are caught by an invariant that was expected, sound ones stay
//! silent. `RACEWALK_CELL_SCHEDULES` is the number of schedules for a silent cell; the test command takes a few, the
//! campaign of a hundred thousand is `racewalk race --all`.

use racewalk_lab::machine::{Machine, geometries};
use racewalk_lab::matrix::Expectation;
use racewalk_lab::scenario::{Geometry, Scenario};
use racewalk_lab::target::{RunOptions, Target};
use racewalk_lab::{Matrix, library};
use racewalk_mm::Scheme;
use racewalk_sched::controlled::PolicySpec;
use std::collections::BTreeSet;

/// Preemptions and priority changes that every caught cell is found with.
const POLICY: &str = "pct:3";
/// Schedules for a caught cell, whatever its budget says.
const BUDGET: u64 = 60_000;

/// Rules found within `limit` schedules; stops at the first finding.
fn found(scenario: &Scenario, scheme: &str, geometry: Geometry, limit: u64) -> (BTreeSet<u8>, u64, String) {
    let mut options = RunOptions::default();
    options.geometry = Some(geometry);
    options.states = false;
    let mut runner = Machine.prepare(scenario, scheme, &options).unwrap();
    let mut runs = POLICY.parse::<PolicySpec>().unwrap().runs(1);
    for n in 1..=limit {
        let policy = runs.policy().unwrap();
        let r = runner.run(policy).unwrap();
        runs.ran(&r.outcome);
        if !r.findings.is_empty() {
            let text = format!("{}\n{}", r.outcome.schedule, r.findings[0].text);
            return (r.findings.iter().map(|f| f.rule).collect(), n, text);
        }
    }
    (BTreeSet::new(), limit, String::new())
}

/// Cells that this version can run: scenario, scheme, geometry and what is expected.
fn cells<'a>(
    scenarios: &'a [Scenario],
    matrix: &'a Matrix,
) -> impl Iterator<Item = (&'a Scenario, Scheme, Geometry, &'a Expectation)> {
    scenarios.iter().flat_map(move |s| {
        Scheme::catalogue().filter(|x| x.available()).flat_map(move |scheme| {
            let cell = matrix.cell(&s.name, scheme.name());
            geometries(scheme)
                .into_iter()
                .filter(|g| s.geometries.contains(g))
                .filter_map(move |g| cell.map(|c| (s, scheme, g, c)))
        })
    })
}

#[test]
fn every_cell_is_as_expected() {
    let silent = std::env::var("RACEWALK_CELL_SCHEDULES").ok().and_then(|n| n.parse().ok()).unwrap_or(100);
    let scenarios = library::scenarios().unwrap();
    let matrix = library::matrix().unwrap();
    let mut wrong = Vec::new();
    let mut counts = [0; 2];
    for (scenario, scheme, geometry, cell) in cells(&scenarios, &matrix) {
        let (limit, kind) = match cell {
            Expectation::Caught(_) => (BUDGET, 0),
            Expectation::Silent => (silent, 1),
            _ => continue,
        };
        counts[kind] += 1;
        let (rules, n, text) = found(scenario, scheme.name(), geometry, limit);
        if cell.met(&rules) == Some(false) {
            wrong.push(format!(
                "{} {scheme} on {}: expected {cell:?}, found {rules:?} after {n} schedules; {text}",
                scenario.name,
                geometry.word()
            ));
        }
    }
    assert!(counts[0] >= 20 && counts[1] >= 100, "{counts:?} cells");
    let heads: Vec<&str> = wrong.iter().map(|w| w.lines().next().unwrap_or("")).collect();
    assert!(wrong.is_empty(), "{} cells of {counts:?}:\n{}\n{}", wrong.len(), heads.join("\n"), wrong[0]);
}

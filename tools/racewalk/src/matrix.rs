//! `racewalk race --all`: what every scheme shows in every scenario, beside what is expected.

use crate::cli::{Race, StatsFormat};
use crate::exit;
use crate::exit::usage;
use crate::race::{buffered, policy_of, seeds, selected};
use crate::talk;
use anyhow::Context;
use racewalk_lab::campaign::{self, Plan};
use racewalk_lab::library;
use racewalk_lab::machine::{Machine, geometries};
use racewalk_lab::matrix::{Expectation, MAX_BUDGET, Matrix};
use racewalk_lab::scenario::{Geometry, Scenario};
use racewalk_lab::target::{RunOptions, Target};
use racewalk_mm::Scheme;
use racewalk_sched::controlled::{Dfs, PolicySpec, RoundRobin, Stay};
use std::collections::BTreeSet;
use std::time::Instant;

/// One cell as it was measured.
struct Measured {
    rules: BTreeSet<u8>,
    /// Schedules needed, for each seed that found something.
    needed: Vec<u64>,
    points: u64,
    seconds: f64,
    control: bool,
}

/// The schemes that are wanted: those of `--scheme`, or all.
fn chosen(args: &Race) -> anyhow::Result<Vec<Scheme>> {
    let all = selected(args, |_| true)?;
    match all.iter().find(|v| v.without.is_some()) {
        Some(v) => Err(usage(format!(
            "race --all: {v}; wanted whole schemes, since the matrix knows nothing of mutants"
        ))),
        None => Ok(all.into_iter().map(|v| v.scheme).collect()),
    }
}

/// The geometries of a scheme that are wanted.
fn known(args: &Race, scheme: Scheme) -> Vec<Geometry> {
    geometries(scheme).into_iter().filter(|&g| args.geometry.is_none_or(|w| w == g)).collect()
}

/// The verb with `--all`. Status 3 if a cell is not as expected.
pub fn all(args: &Race) -> anyhow::Result<u8> {
    let scenarios = library::scenarios().context("race --all")?;
    let matrix = library::matrix().context("race --all")?;
    if let PolicySpec::Dfs(bound) = args.policy {
        return bounded(args, bound, &scenarios, &matrix);
    }
    // Cells have ranges of seeds that do not meet.
    seeds(args, ((args.seeds - 1) << 32).saturating_add(args.schedules.max(MAX_BUDGET)))?;
    let json = args.format == StatsFormat::Json;
    let table = |text: String| if json { Ok(()) } else { talk::print(&text) };
    table(format!(
        "policy {}, {} seeds for cells that are caught, {} schedules for silent ones\n\
         {:<12} {:<20} {:<15} {:<9} {:<9} {:>7} {:>9} {:>6} {:>7} control\n",
        args.policy,
        args.seeds,
        args.schedules,
        "scenario",
        "scheme",
        "geometry",
        "expected",
        "found",
        "seeds",
        "schedules",
        "points",
        "time"
    ))?;
    let (mut wrong, mut cells, mut all) = (0, 0, 0);
    for s in scenarios.into_iter().map(|s| buffered(args, s)) {
        let s = &s;
        for scheme in chosen(args)? {
            let known = known(args, scheme);
            let Some(cell) = matrix.cell(&s.name, scheme.name()) else { continue };
            let budget = matrix.rows.get(&s.name).map_or(args.schedules, |r| r.budget);
            for g in s.geometries.iter().copied().filter(|g| known.contains(g)) {
                let (expected, limit, seeds) = match cell {
                    Expectation::Caught(_) => ("caught", budget, args.seeds),
                    Expectation::Silent => ("silent", args.schedules, 1),
                    _ => continue,
                };
                all += 1;
                if !args.shard.has(all - 1) {
                    continue;
                }
                let m = measure(args, s, scheme, g, limit, seeds)?;
                cells += 1;
                let enough = expected == "silent" || m.needed.len() as u64 * 100 >= seeds * 95;
                let met = cell.met(&m.rules) != Some(false) && enough;
                wrong += !met as u64;
                let row = Row { s, scheme, g, expected, m: &m, seeds, limit, met };
                talk::print(&if json { row.json()? } else { row.text() })?;
            }
        }
    }
    if all == 0 {
        return Err(no_cell());
    }
    table(format!("{cells} cells, {wrong} not as expected\n"))?;
    Ok(if wrong == 0 { 0 } else { exit::FOUND })
}

fn no_cell() -> anyhow::Error {
    usage("race --all: nothing was run, since no cell has these schemes on this geometry")
}

/// The most scheduling points of a run without preemption for which all schedules are tried.
const SMALL: u64 = 60;

/// With `--policy dfs:N`: every schedule of each cell that is small enough, at most `--schedules`. Status 3 if a cell is
/// not as expected; that a flaw is not found is no surprise where it needs more preemptions.
fn bounded(args: &Race, bound: u32, scenarios: &[Scenario], matrix: &Matrix) -> anyhow::Result<u8> {
    let (mut wrong, mut cells, mut complete, mut all) = (0, 0, 0, 0);
    talk::print(&format!(
        "all schedules with at most {bound} preemptions, of runs of at most {SMALL} points: bounded exploration, not proof\n\
         {:<12} {:<20} {:<15} {:>6} {:<9} {:>9} found\n",
        "scenario", "scheme", "geometry", "points", "expected", "schedules"
    ))?;
    for s in scenarios.iter().map(|s| buffered(args, s.clone())) {
        let s = &s;
        for scheme in chosen(args)? {
            let known = known(args, scheme);
            let Some(cell) = matrix.cell(&s.name, scheme.name()) else { continue };
            let expected = match cell {
                Expectation::Caught(_) => "caught",
                Expectation::Silent => "silent",
                _ => continue,
            };
            for g in s.geometries.iter().copied().filter(|g| known.contains(g)) {
                let mut options = RunOptions::default();
                options.geometry = Some(g);
                options.states = false;
                let mut runner = Machine.prepare(s, scheme.name(), &options)?;
                let points = runner.run(&mut Stay)?.outcome.points;
                if points > SMALL {
                    continue;
                }
                all += 1;
                if !args.shard.has(all - 1) {
                    continue;
                }
                let mut dfs = Dfs::new(bound);
                let mut rules = BTreeSet::new();
                while dfs.schedules() < args.schedules && dfs.start() {
                    let r = runner.run(&mut dfs)?;
                    rules.extend(r.findings.iter().map(|f| f.rule));
                }
                cells += 1;
                complete += dfs.complete() as u64;
                let met = expected == "caught" || rules.is_empty();
                wrong += !met as u64;
                let rules: Vec<String> = rules.iter().map(u8::to_string).collect();
                talk::print(&format!(
                    "{:<12} {:<20} {:<15} {points:>6} {expected:<9} {:>9} {}{}{}\n",
                    s.name,
                    scheme.name(),
                    g.word(),
                    dfs.schedules(),
                    if rules.is_empty() { "-".into() } else { rules.join(",") },
                    if dfs.complete() { "" } else { "   not complete" },
                    if met { "" } else { "   NOT AS EXPECTED" },
                ))?;
            }
        }
    }
    talk::print(&format!("{cells} cells, {complete} complete, {wrong} not as expected\n"))?;
    Ok(if wrong == 0 { 0 } else { exit::FOUND })
}

fn measure(
    args: &Race,
    s: &Scenario,
    scheme: Scheme,
    geometry: Geometry,
    limit: u64,
    seeds: u64,
) -> anyhow::Result<Measured> {
    let mut options = RunOptions::default();
    options.geometry = Some(geometry);
    options.states = false;
    let policy = policy_of(&args.policy, s, scheme.name(), &options)?;
    let control = Machine.run(s, scheme.name(), &mut RoundRobin::default(), &options)?;
    let started = Instant::now();
    let mut m = Measured {
        rules: BTreeSet::new(),
        needed: Vec::new(),
        points: control.outcome.points,
        seconds: 0.0,
        control: !control.findings.is_empty(),
    };
    for k in 0..seeds {
        let from = args.seed + (k << 32);
        let mut plan = Plan::new(from..from + limit);
        plan.jobs = args.jobs;
        plan.stop_at_first = true;
        let r = campaign::run(&Machine, s, scheme.name(), &options, &plan, &*policy, |_| {})?;
        if let Some(f) = &r.first {
            m.needed.push(f.seed - from + 1);
            m.rules.extend(f.findings.iter().map(|x| x.rule));
        }
    }
    m.needed.sort_unstable();
    m.seconds = started.elapsed().as_secs_f64();
    Ok(m)
}

/// A cell beside what is expected of it.
struct Row<'a> {
    s: &'a Scenario,
    scheme: Scheme,
    g: Geometry,
    expected: &'static str,
    m: &'a Measured,
    seeds: u64,
    limit: u64,
    met: bool,
}

impl Row<'_> {
    /// The median of what the seeds needed.
    fn median(&self) -> Option<u64> {
        self.m.needed.get(self.m.needed.len() / 2).copied()
    }

    fn text(&self) -> String {
        let m = self.m;
        let rules: Vec<String> = m.rules.iter().map(u8::to_string).collect();
        format!(
            "{:<12} {:<20} {:<15} {:<9} {:<9} {:>7} {:>9} {:>6} {:>6.1}s {}{}\n",
            self.s.name,
            self.scheme.name(),
            self.g.word(),
            self.expected,
            if rules.is_empty() { "-".into() } else { rules.join(",") },
            format!("{}/{}", m.needed.len(), self.seeds),
            self.median().unwrap_or(self.limit),
            m.points,
            m.seconds,
            if m.control { "found" } else { "-" },
            if self.met { "" } else { "   NOT AS EXPECTED" },
        )
    }

    fn json(&self) -> anyhow::Result<String> {
        let m = self.m;
        let row = serde_json::json!({
            "scenario": self.s.name,
            "scheme": self.scheme.name(),
            "geometry": self.g.word(),
            "expected": self.expected,
            "invariants": m.rules,
            "seeds": self.seeds,
            "seeds_found": m.needed.len(),
            "limit": self.limit,
            "median_schedules": self.median(),
            "points": m.points,
            "seconds": m.seconds,
            "round_robin_found": m.control,
            "as_expected": self.met,
        });
        Ok(serde_json::to_string(&row)? + "\n")
    }
}

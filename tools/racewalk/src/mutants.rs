//! `racewalk race --mutants`: the sound schemes without one step each. What is switched off must be noticed.

use crate::cli::Race;
use crate::race::{memory, policy_of, seeds, with_suffix};
use crate::talk;
use anyhow::Context;
use racewalk_lab::campaign::{self, Plan, Shard};
use racewalk_lab::finding::Finding;
use racewalk_lab::library;
use racewalk_lab::machine::{Machine, geometries};
use racewalk_lab::matrix::{Expectation, Matrix};
use racewalk_lab::scenario::{Memory, Scenario};
use racewalk_lab::target::RunOptions;
use racewalk_lab::workload::{self, Search};
use racewalk_mm::sanitizer::invariant;
use racewalk_mm::{MUTANTS, Scheme, Variant};
use std::time::Instant;

/// Of the mutants at least so many in ten must be caught.
const WANTED_OF_TEN: usize = 9;

/// Where a mutant was caught.
struct Caught {
    by: String,
    scheme: Variant,
    rule: u8,
    schedules: u64,
    finding: Finding,
}

/// The verb with `--mutants`. Status 1 if too few are caught.
pub fn mutants(args: &Race) -> anyhow::Result<u8> {
    let scenarios = library::scenarios().context("race --mutants")?;
    let matrix = library::matrix().context("race --mutants")?;
    let mutants = || (0..).zip(MUTANTS).filter(|(n, _)| args.shard.has(*n)).map(|(_, row)| row);
    for row in mutants() {
        args.save.as_deref().map_or(Ok(()), |path| talk::writable(&with_suffix(path, row.name)))?;
    }
    let (mut caught, mut not) = (0, Vec::new());
    talk::print(&format!(
        "{:<18} {:<32} {:<14} {:>9} {:>6}  invariant\n",
        "step left out", "scheme", "caught in", "schedules", "time"
    ))?;
    for row in mutants() {
        let started = Instant::now();
        let mut tried = 0;
        let mut found = None;
        for scheme in row.schemes {
            let scheme: Scheme = scheme.parse()?;
            let v = Variant { scheme, without: Some(row.step) };
            found = catch(args, &scenarios, &matrix, v, &mut tried)?;
            if found.is_some() {
                break;
            }
        }
        let seconds = started.elapsed().as_secs_f64();
        match found {
            Some(c) => {
                caught += 1;
                talk::print(&format!(
                    "{:<18} {:<32} {:<14} {:>9} {seconds:>5.1}s  {} ({})\n",
                    row.name,
                    c.scheme.to_string(),
                    c.by,
                    c.schedules,
                    c.rule,
                    invariant(c.rule)
                ))?;
                if let Some(path) = &args.save
                    && let Err(e) = save(path, row.name, &c)
                {
                    talk::complain(&e);
                }
            }
            None => {
                not.push(row.name);
                let schemes = row.schemes.join(", ");
                talk::print(&format!(
                    "{:<18} {schemes:<32} {:<14} {tried:>9} {seconds:>5.1}s  NOT CAUGHT\n",
                    row.name, "-"
                ))?;
            }
        }
    }
    let all = mutants().count();
    talk::print(&format!(
        "{caught} of {all} mutants caught; not: {}\n",
        if not.is_empty() { "none".into() } else { not.join(", ") }
    ))?;
    Ok((caught * 10 < all * WANTED_OF_TEN) as u8)
}

/// Keeps it, in a file of the step's own.
fn save(path: &std::path::Path, step: &str, c: &Caught) -> anyhow::Result<()> {
    let path = with_suffix(path, step);
    let text = c.finding.shrink(&Machine)?.to_file(0, "")?;
    std::fs::write(&path, text).with_context(|| format!("write {}", path.display()))
}

/// Looks for a schedule that shows the flaw: in the scenarios that the whole scheme survives, then in random workloads.
fn catch(
    args: &Race,
    scenarios: &[Scenario],
    matrix: &Matrix,
    v: Variant,
    tried: &mut u64,
) -> anyhow::Result<Option<Caught>> {
    let known = geometries(v.scheme);
    let name = v.to_string();
    let memory = if v.without.is_some_and(|s| s.row().tso) { Memory::Tso } else { memory(args) };
    for s in scenarios.iter().map(|s| Scenario { memory, ..s.clone() }) {
        let s = &s;
        if !matches!(matrix.cell(&s.name, v.scheme.name()), Some(Expectation::Silent)) {
            continue;
        }
        for &g in s.geometries.iter().filter(|g| known.contains(g)) {
            let mut options = RunOptions::default();
            options.geometry = Some(g);
            options.states = false;
            let policy = policy_of(&args.policy, s, &name, &options)?;
            let mut plan = Plan::new(seeds(args, args.schedules)?);
            plan.jobs = args.jobs;
            plan.stop_at_first = true;
            let r = campaign::run(&Machine, s, &name, &options, &plan, &*policy, |_| {})?;
            *tried += r.schedules;
            if let Some(f) = r.first {
                let rule = f.findings[0].rule;
                let (scenario, scheme, schedule) = (s.clone(), name, f.schedule);
                return Ok(Some(Caught {
                    by: s.name.clone(),
                    scheme: v,
                    rule,
                    schedules: r.schedules,
                    finding: Finding { scenario, scheme, geometry: g, schedule, rule },
                }));
            }
        }
    }
    for &g in &known {
        let search = Search {
            seeds: seeds(args, args.schedules.div_ceil(PER_WORKLOAD))?,
            shard: Shard::WHOLE,
            cpus: 4,
            memory,
            schedules: PER_WORKLOAD,
            time: None,
            jobs: args.jobs,
        };
        let r = workload::search(&Machine, &name, g, &search)?;
        *tried += r.schedules;
        if let Some((seed, f)) = r.first {
            let by = format!("random {seed}");
            return Ok(Some(Caught { by, scheme: v, rule: f.rule, schedules: r.schedules, finding: f }));
        }
    }
    Ok(None)
}

/// Schedules of a random workload.
pub const PER_WORKLOAD: u64 = 8;

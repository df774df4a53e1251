//! `racewalk race --random` and `--soak`: workloads that nobody wrote, to find flaws with and to see that what is sound
//! stays silent.

use crate::cli::Race;
use crate::exit;
use crate::mutants::PER_WORKLOAD;
use crate::race::{memory, report_finding, selected};
use crate::talk;
use racewalk_lab::machine::{Free, Machine, geometries};
use racewalk_lab::scenario::Geometry;
use racewalk_lab::workload::{self, Search, Searched};
use racewalk_mm::Variant;
use racewalk_mm::sanitizer::invariant;
use std::time::{Duration, Instant};

fn search(args: &Race, schedules: u64) -> Search {
    Search {
        seeds: args.seed..args.seed.saturating_add(schedules.div_ceil(PER_WORKLOAD)),
        shard: args.shard,
        cpus: args.cpus,
        memory: memory(args),
        schedules: PER_WORKLOAD,
        time: None,
        jobs: args.jobs,
    }
}

fn geometries_of(args: &Race, v: Variant) -> Vec<Geometry> {
    geometries(v.scheme).into_iter().filter(|&g| args.geometry.is_none_or(|w| w == g)).collect()
}

/// The verb with `--random`: `--seconds` for each scheme, shared by its geometries. Status 3 if something was found.
pub fn random(args: &Race) -> anyhow::Result<u8> {
    let schemes = selected(args, |s| s.row().flaw.is_some())?;
    let (mut found, mut all) = (0, 0);
    talk::print(&format!(
        "{:<22} {:<16} {:>10} {:>10} {:>7}  found\n",
        "scheme", "geometry", "workloads", "schedules", "time"
    ))?;
    for v in schemes {
        let known = geometries_of(args, v);
        all += 1;
        let mut here = false;
        for &g in &known {
            let s = Search {
                time: Some(Duration::from_secs_f64(args.seconds / known.len() as f64)),
                ..search(args, u64::MAX / 2)
            };
            let started = Instant::now();
            let r = workload::search(&Machine, &v.to_string(), g, &s)?;
            talk::print(&line(v, g, &r, started.elapsed()))?;
            if let Some((seed, f)) = r.first {
                here = true;
                if args.save.is_some()
                    || args.scheme.as_deref().is_some_and(|s| !s.contains(',') && s != "all")
                {
                    let mut out = String::new();
                    report_finding(args, &f, seed, &mut out)?;
                    talk::print(&out)?;
                }
                break;
            }
        }
        found += here as u64;
    }
    talk::print(&format!("something was found in {found} of {all} schemes\n"))?;
    Ok(if found == 0 { 0 } else { exit::FOUND })
}

fn line(v: Variant, g: Geometry, r: &Searched, took: Duration) -> String {
    let found = match &r.first {
        None => "-".to_string(),
        Some((seed, f)) => format!("invariant {} ({}), workload {seed}", f.rule, invariant(f.rule)),
    };
    format!(
        "{:<22} {:<16} {:>10} {:>10} {:>6.1}s  {found}\n",
        v.to_string(),
        g.word(),
        r.workloads,
        r.schedules,
        took.as_secs_f64()
    )
}

/// The verb with `--soak`: each sound scheme on each of its geometries, `--schedules` controlled and `--seconds` on
/// threads, four CPUs and their walkers. Status 3 if something was found.
pub fn soak(args: &Race) -> anyhow::Result<u8> {
    let schemes = selected(args, |s| s.row().flaw.is_none())?;
    let (mut bad, mut all) = (0, 0);
    talk::print(&format!(
        "{:<22} {:<16} {:>10} {:>11} {:>11} {:>11} {:>10}  found\n",
        "scheme", "geometry", "schedules", "points", "operations", "walks", "tables"
    ))?;
    for v in schemes {
        for g in geometries_of(args, v) {
            all += 1;
            let r = workload::search(&Machine, &v.to_string(), g, &search(args, args.schedules))?;
            let free = Free {
                variant: v,
                geometry: g,
                cpus: args.cpus,
                time: Duration::from_secs_f64(args.seconds),
                seed: args.seed,
            };
            let f = free.run()?;
            let found = match (&r.first, f.findings.first()) {
                (Some((seed, x)), _) => format!("invariant {} in workload {seed}", x.rule),
                (None, Some(x)) => format!("on threads: {}", x.title),
                (None, None) => "-".into(),
            };
            talk::print(&format!(
                "{:<22} {:<16} {:>10} {:>11} {:>11} {:>11} {:>10}  {found}\n",
                v.to_string(),
                g.word(),
                r.schedules,
                r.points,
                f.operations,
                f.walks,
                f.tables
            ))?;
            bad += (r.first.is_some() || !f.findings.is_empty()) as u64;
            let mut out = String::new();
            if let Some((seed, f)) = &r.first {
                report_finding(args, f, *seed, &mut out)?;
            }
            for f in f.findings {
                out += &f.text;
            }
            talk::print(&out)?;
        }
    }
    talk::print(&format!("{all} combinations, something was found in {bad}\n"))?;
    Ok(if bad == 0 { 0 } else { exit::FOUND })
}

//! `racewalk race --random`: workloads that nobody wrote, to find flaws with.

use crate::cli::Race;
use crate::exit;
use crate::exit::usage;
use crate::mutants::PER_WORKLOAD;
use crate::race::{memory, report_finding, seeds, selected, writable};
use crate::talk;
use racewalk_lab::machine::{Machine, geometries};
use racewalk_lab::scenario::Geometry;
use racewalk_lab::workload::{self, Search, Searched};
use racewalk_mm::Variant;
use racewalk_mm::sanitizer::invariant;
use std::time::{Duration, Instant};

/// A search through workloads with so many schedules in all.
pub(crate) fn search(args: &Race, schedules: u64) -> anyhow::Result<Search> {
    Ok(Search {
        seeds: seeds(args, schedules.div_ceil(PER_WORKLOAD))?,
        shard: args.shard,
        cpus: args.cpus,
        memory: memory(args),
        schedules: PER_WORKLOAD,
        time: None,
        jobs: args.jobs,
    })
}

/// Geometries of a scheme, as far as they are wanted.
pub(crate) fn geometries_of(args: &Race, v: Variant) -> Vec<Geometry> {
    geometries(v.scheme).into_iter().filter(|&g| args.geometry.is_none_or(|w| w == g)).collect()
}

/// Asks that something can be run and what is found be written.
pub(crate) fn fit(args: &Race, schemes: &[Variant]) -> anyhow::Result<()> {
    if schemes.iter().all(|&v| geometries_of(args, v).is_empty()) {
        let names: Vec<String> = schemes.iter().map(Variant::to_string).collect();
        let g = args.geometry.map_or("", Geometry::word);
        return Err(usage(format!("race: none of {} knows --geometry {g}", names.join(", "))));
    }
    writable(args, schemes.iter().copied())
}

/// The verb with `--random`: `--seconds` for each scheme, shared by its geometries. Status 3 if something was found.
pub fn random(args: &Race) -> anyhow::Result<u8> {
    let schemes = selected(args, |s| s.row().flaw.is_some())?;
    fit(args, &schemes)?;
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
                ..search(args, (u64::MAX - args.seed).min(u64::MAX / 2))?
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
                    report_finding(args, &f, None, seed, &mut out)?;
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
        None if r.workloads == 0 => "nothing was run".to_string(),
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

//! `racewalk race --soak`: workloads that nobody wrote, to see that what is sound stays silent.

use crate::cli::Race;
use crate::exit;
use crate::race::{report_finding, selected};
use crate::random::{fit, geometries_of, search};
use crate::talk;
use racewalk_lab::machine::{Free, Machine};
use racewalk_lab::workload;
use std::time::Duration;

/// The verb with `--soak`: each sound scheme on each of its geometries, `--schedules` controlled and `--seconds` on
/// threads, four CPUs and their walkers. Status 3 if something was found.
pub fn soak(args: &Race) -> anyhow::Result<u8> {
    let schemes = selected(args, |s| s.row().flaw.is_none())?;
    fit(args, &schemes)?;
    let (mut bad, mut all) = (0, 0);
    talk::print(&format!(
        "{:<22} {:<16} {:>10} {:>11} {:>11} {:>11} {:>10}  found\n",
        "scheme", "geometry", "schedules", "points", "operations", "walks", "tables"
    ))?;
    for v in schemes {
        for g in geometries_of(args, v) {
            all += 1;
            let r = workload::search(&Machine, &v.to_string(), g, &search(args, args.schedules)?)?;
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
                (None, None) if r.workloads == 0 => "no schedule was run".into(),
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
                report_finding(args, f, None, *seed, &mut out)?;
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

//! `racewalk cost`: what schemes cost on the same workload, side by side.

use crate::cli::{self, StatsFormat};
use crate::exit::usage;
use crate::race::{geometry, no_geometry, scenario, scheme};
use crate::run::{CODE_BYTES, environment, refuse, status};
use crate::talk::{self, Calls, Output};
use anyhow::{Context, bail};
use racewalk_lab::machine::{Machine, geometries};
use racewalk_lab::scenario::{Geometry, Scenario};
use racewalk_lab::target::{RunOptions, Target};
use racewalk_lab::workload;
use racewalk_linux::system::{Options, System};
use racewalk_mm::Variant;
use racewalk_mm::cost::{Cost, Kind};
use racewalk_sched::controlled::{Random, Stay};
use racewalk_walk::tlb::config::TlbConfig;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Arc;

/// What one scheme costs.
struct Column {
    scheme: Variant,
    geometry: Geometry,
    costs: Vec<Cost>,
}

/// The verb.
pub fn cost(args: &cli::Cost) -> anyhow::Result<u8> {
    let (mut columns, mut status) = (Vec::new(), 0);
    let what = args.workload[0].to_string_lossy().into_owned();
    let guest =
        racewalk_lab::library::scenario(&what).is_none() && what != "random" && !what.ends_with(".race");
    for word in args.schemes.split(',') {
        let v = scheme(word).context("cost")?;
        let column = match guest {
            true => match watched(args, v)? {
                Ok((c, exited)) => {
                    status = status.max(exited);
                    c
                }
                Err(status) => return Ok(status),
            },
            false => simulated(args, v, &what)?,
        };
        columns.push(column);
    }
    let unit = if guest { "ns" } else { "scheduling points" };
    let runs = if guest { 1 } else { args.schedules };
    talk::print(&match args.format {
        StatsFormat::Text => text(&columns, &what, runs, unit),
        StatsFormat::Json => json(&columns, &what, runs, unit)?,
    })?;
    Ok(status)
}

/// Puts the numbers of another run to those of the runs before.
fn add(sum: &mut Vec<Cost>, run: Vec<Cost>) {
    if sum.is_empty() {
        *sum = run;
        return;
    }
    for (s, r) in sum.iter_mut().zip(run) {
        match s.kind {
            Kind::Count => s.value += r.value,
            Kind::Peak => s.value = s.value.max(r.value),
            Kind::Time => {}
        }
    }
}

/// A scenario or random workloads, in controlled runs. The first is undisturbed, so that the times mean something.
fn simulated(args: &cli::Cost, v: Variant, what: &str) -> anyhow::Result<Column> {
    let known = geometries(v.scheme);
    let fixed = if what == "random" { None } else { Some(scenario(what).context("cost")?) };
    let there = fixed.as_ref().map_or(&known, |s| &s.geometries);
    let Some(geometry) = geometry(v, args.geometry, there) else {
        return Err(match &fixed {
            Some(s) => no_geometry(v, args.geometry, s),
            None => usage(format!("scheme {v} does not run on the geometry of --geometry")),
        })
        .context("cost");
    };
    let mut o = RunOptions::default();
    (o.geometry, o.states, o.counters) = (Some(geometry), false, true);
    let mut costs = Vec::new();
    for n in 0..args.schedules {
        let s: Scenario = match &fixed {
            Some(s) => s.clone(),
            None => workload::scenario(args.seed.wrapping_add(n), geometry, 4),
        };
        let name = v.to_string();
        let r = match n {
            0 => Machine.run(&s, &name, &mut Stay, &o)?,
            _ => Machine.run(&s, &name, &mut Random::new(args.seed.wrapping_add(n)), &o)?,
        };
        if let Some(f) = r.findings.first() {
            bail!(
                "cost: the workload breaks invariant {} under {v} ({}); wanted one that it survives\n\
                 hint: racewalk race {what} --scheme {v}",
                f.rule,
                f.title
            );
        }
        add(&mut costs, r.counters);
    }
    for c in costs.iter_mut().filter(|c| c.kind == Kind::Count) {
        c.value = c.value.div_ceil(args.schedules.max(1));
    }
    Ok(Column { scheme: v, geometry, costs })
}

/// A guest program, on real threads and watched, with the status that it exited with. An error is the status where it
/// could not be started.
fn watched(args: &cli::Cost, v: Variant) -> anyhow::Result<Result<(Column, u8), u8>> {
    let o = Options {
        program: PathBuf::from(&args.workload[0]),
        args: args.workload.clone(),
        env: environment(&[]),
        cpus: args.cpus,
        memory: args.mem,
        mode: args.engine,
        scheme: v,
        tlb: TlbConfig::infinite(),
        sanitize: true,
        measure: true,
        speculate: false,
        code_bytes: CODE_BYTES,
        observer: Default::default(),
        tape: Default::default(),
        known_as: None,
    };
    let output = Arc::new(Output::open(None)?);
    let (sys, first) = match System::start(&o, Arc::new(Calls { output, strace: false })) {
        Ok(x) => x,
        Err(e) => return refuse(e).map(Err),
    };
    let ending = sys.run_free(first);
    let costs = sys.kernel.cost();
    if let Some(f) = sys.findings().first() {
        bail!("cost: the guest breaks an invariant under {v}: {f}");
    }
    Ok(Ok((Column { scheme: v, geometry: Geometry::S390x2k, costs }, status(&ending))))
}

fn text(columns: &[Column], what: &str, runs: u64, unit: &str) -> String {
    let mut out = format!(
        "{what}: means of counts and largest peaks of {runs} runs; times of the first, in {unit}\n\n"
    );
    let width = |c: &Column| c.scheme.to_string().len().max(c.geometry.word().len()).max(10);
    let mut head = [format!("{:<52}", ""), format!("{:<52}", "")];
    for c in columns {
        let w = width(c);
        let _ = write!(head[0], "  {:>w$}", c.scheme.to_string());
        let _ = write!(head[1], "  {:>w$}", c.geometry.word());
    }
    let _ = writeln!(out, "{}\n{}", head[0], head[1]);
    for (i, row) in columns.first().map_or(&[][..], |c| &c.costs).iter().enumerate() {
        let _ = write!(out, "{:<52}", row.what);
        for c in columns {
            let w = width(c);
            let _ = write!(out, "  {:>w$}", c.costs[i].value);
        }
        out.push('\n');
    }
    out
}

fn json(columns: &[Column], what: &str, runs: u64, unit: &str) -> anyhow::Result<String> {
    let schemes: Vec<serde_json::Value> = columns
        .iter()
        .map(|c| {
            let costs: serde_json::Map<String, serde_json::Value> =
                c.costs.iter().map(|x| (x.name.into(), x.value.into())).collect();
            serde_json::json!({"scheme": c.scheme.to_string(), "geometry": c.geometry.word(), "costs": costs})
        })
        .collect();
    let all = serde_json::json!({"workload": what, "runs": runs, "time_unit": unit, "schemes": schemes});
    Ok(serde_json::to_string(&all)? + "\n")
}

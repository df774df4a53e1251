//! `racewalk race`, `replay` and `explain`: the race lab on the command line.

use crate::cli::{Explain, Race, Replay};
use crate::exit;
use crate::finding;
use crate::talk;
use anyhow::{Context, anyhow, bail};
use racewalk_lab::campaign::{self, Plan, Report};
use racewalk_lab::columns::Columns;
use racewalk_lab::finding::{Finding, FindingError};
use racewalk_lab::library;
use racewalk_lab::machine::{Machine, geometries};
use racewalk_lab::scenario::{Geometry, Memory, Scenario};
use racewalk_lab::target::{LabError, RunOptions, RunResult, Target};
use racewalk_mm::frag::Status;
use racewalk_mm::sanitizer::invariant;
use racewalk_mm::{Scheme, Variant};
use racewalk_sched::controlled::{
    Dfs, Pct, Policy, PolicySpec, Random, Replay as Replayed, RoundRobin, Stay,
};
use std::fmt::Write as _;
use std::io::{IsTerminal, Write as _};
use std::path::Path;

/// The verb. Status 3 if something was found; with `--all`, if a cell is not as expected.
pub fn race(args: &Race) -> anyhow::Result<u8> {
    if args.list {
        talk::print(&list()?)?;
        return Ok(0);
    }
    if args.all {
        return crate::matrix::all(args);
    }
    if args.mutants {
        return crate::mutants::mutants(args);
    }
    if args.random {
        return crate::random::random(args);
    }
    if args.soak {
        return crate::soak::soak(args);
    }
    let Some(what) = &args.what else {
        bail!("race: no scenario; wanted a name of `race --list`, or a file")
    };
    let (name, source) = text_of(what).context("race")?;
    let scenario = buffered(args, Scenario::parse(&name, &source).context("race")?);
    let schemes = schemes(args, &scenario)?;
    let mut status = 0;
    for (scheme, geometry) in schemes {
        if one(args, what, &source, &scenario, scheme, geometry)? {
            status = exit::FOUND;
        }
    }
    Ok(status)
}

/// The scenario of a name or a file.
pub fn scenario(what: &str) -> anyhow::Result<Scenario> {
    let (name, text) = text_of(what)?;
    Ok(Scenario::parse(&name, &text)?)
}

/// The name of the scenario of a name or a file, and its text.
fn text_of(what: &str) -> anyhow::Result<(String, String)> {
    if let Some((name, text)) = library::text(what) {
        return Ok((name.into(), text.into()));
    }
    let path = Path::new(what);
    if path.extension().is_some_and(|e| e == "race") || path.exists() {
        let text = std::fs::read_to_string(path).with_context(|| format!("read {what}"))?;
        let name = path.file_stem().map_or(what.into(), |s| s.to_string_lossy());
        return Ok((name.into_owned(), text));
    }
    let meant = library::meant(what).map_or(String::new(), |m| format!("; did you mean {m}?"));
    Err(anyhow!("scenario {what:?} is none of `race --list` and no file{meant}"))
}

/// The scenario as the options want it.
pub fn buffered(args: &Race, mut scenario: Scenario) -> Scenario {
    if args.tso {
        scenario.memory = Memory::Tso;
    }
    scenario
}

/// The memory model of what is made up.
pub fn memory(args: &Race) -> Memory {
    if args.tso { Memory::Tso } else { Memory::Sc }
}

/// The schemes that `--scheme` names; without it, those that `default` takes.
pub fn selected(args: &Race, default: impl Fn(Scheme) -> bool) -> anyhow::Result<Vec<Variant>> {
    let available = Scheme::catalogue().filter(|s| s.available());
    match args.scheme.as_deref() {
        None => Ok(available.filter(|&s| default(s)).map(Variant::from).collect()),
        Some("all") => Ok(available.map(Variant::from).collect()),
        Some(words) => {
            words.split(',').map(|w| w.parse::<Variant>().map_err(|e| anyhow!("race: {e}"))).collect()
        }
    }
}

fn schemes(args: &Race, scenario: &Scenario) -> anyhow::Result<Vec<(Variant, Geometry)>> {
    let fits = |v: Variant| -> Option<Geometry> {
        let known = geometries(v.scheme);
        let wanted = scenario.geometries.iter().copied().filter(|g| args.geometry.is_none_or(|w| w == *g));
        wanted.into_iter().find(|g| known.contains(g))
    };
    let named = args.scheme.as_deref().is_some_and(|s| s != "all");
    let mut out = Vec::new();
    for v in selected(args, |_| true)? {
        match fits(v) {
            Some(g) => out.push((v, g)),
            None if named => {
                let there: Vec<_> = scenario.geometries.iter().map(|g| g.word()).collect();
                let knows: Vec<_> = geometries(v.scheme).iter().map(|g| g.word()).collect();
                bail!(
                    "race: scheme {v} knows {}; the scenario is for {}",
                    if knows.is_empty() { "no geometry yet".into() } else { knows.join(", ") },
                    there.join(", ")
                );
            }
            None => {}
        }
    }
    if out.is_empty() {
        bail!("race: no scheme of this version runs on a geometry of the scenario");
    }
    Ok(out)
}

/// Runs from which the number of decisions of a run is learnt.
const LEARN: u64 = 16;

/// The policy of a seed.
pub type PolicyOf = Box<dyn Fn(u64) -> Box<dyn Policy> + Sync>;

/// What makes the policy of a seed.
pub fn policy_of(
    spec: &PolicySpec,
    scenario: &Scenario,
    scheme: &str,
    options: &RunOptions,
) -> anyhow::Result<PolicyOf> {
    Ok(match spec.clone() {
        PolicySpec::Random => Box::new(|seed| Box::new(Random::new(seed))),
        PolicySpec::RoundRobin => Box::new(|_| Box::new(RoundRobin::default())),
        PolicySpec::Stay => Box::new(|_| Box::new(Stay)),
        PolicySpec::Replay(s) => Box::new(move |_| Box::new(Replayed::new(s.clone(), Stay))),
        PolicySpec::Pct { depth, decisions } => {
            let k = match decisions {
                Some(k) => k,
                // How many decisions a run has: the most of a few, since a run that finds something ends early.
                None => {
                    let mut most = 1;
                    let mut runner = Machine.prepare(scenario, scheme, options)?;
                    for seed in 0..LEARN {
                        let mut policy = Pct::new(seed, depth, most);
                        let r = runner.run(&mut policy)?;
                        most = most.max(r.outcome.schedule.choices.len() as u64);
                    }
                    most
                }
            };
            Box::new(move |seed| Box::new(Pct::new(seed, depth, k)))
        }
        PolicySpec::Dfs(_) => bail!("race: dfs is not a policy of seeds"),
    })
}

/// One scheme; whether something was found.
fn one(
    args: &Race,
    what: &str,
    source: &str,
    scenario: &Scenario,
    variant: Variant,
    geometry: Geometry,
) -> anyhow::Result<bool> {
    let mut options = RunOptions::default();
    options.geometry = Some(geometry);
    let flaw = match variant.without {
        Some(step) => format!("a step is left out: {}", step.row().name),
        None => variant.scheme.row().flaw.unwrap_or("none known").to_string(),
    };
    let scheme = &*variant.to_string();
    let mut out = format!("{} under {scheme} on {} (flaw: {flaw})\n", scenario.name, geometry.word());
    let first = if let PolicySpec::Dfs(n) = args.policy {
        dfs(args, scenario, scheme, &options, n, &mut out)?
    } else {
        let mut plan = Plan::new(args.seed..args.seed.saturating_add(args.schedules));
        plan.shard = args.shard;
        plan.jobs = args.jobs;
        plan.stop_at_first = !args.keep_going;
        let policy = policy_of(&args.policy, scenario, scheme, &options)?;
        let terminal = std::io::stderr().is_terminal();
        let started = std::time::Instant::now();
        let report = campaign::run(&Machine, scenario, scheme, &options, &plan, &*policy, |p| {
            if terminal {
                eprint!("\r{scheme}: {p} ");
                let _ = std::io::stderr().flush();
            }
        })?;
        if terminal {
            eprint!("\r\x1b[K");
        }
        summary(&mut out, &report, &plan, started.elapsed().as_secs_f64());
        report.first.map(|f| (f.seed, f.schedule, f.findings[0].rule))
    };
    let Some((seed, schedule, rule)) = first else {
        talk::print(&out)?;
        return Ok(false);
    };
    let found = Finding { scenario: scenario.clone(), scheme: scheme.into(), geometry, schedule, rule };
    let reported = report_finding(args, &found, Some(source), seed, &mut out);
    if args.save.is_none() || reported.is_err() {
        let _ = writeln!(
            out,
            "again: racewalk race {what} --scheme {scheme} --geometry {} --policy {} --seed {seed} --schedules 1{}\n\
             to keep it: add --save FILE",
            geometry.word(),
            args.policy,
            if args.tso { " --tso" } else { "" }
        );
    }
    // What was found is told, wherever it could not be written to.
    talk::print(&out)?;
    reported?;
    Ok(true)
}

/// Shrinks a finding, tells it, saves and draws it where that is wanted. `source` is the scenario as it was given. If it cannot
/// be saved, it is told nevertheless.
pub fn report_finding(
    args: &Race,
    found: &Finding,
    source: Option<&str>,
    seed: u64,
    out: &mut String,
) -> anyhow::Result<()> {
    let small = found.shrink(&Machine)?;
    let result = small.repeat(&Machine)?;
    let told = tell(&small, &result);
    let _ = writeln!(out, "\n{told}");
    let _ = writeln!(out, "seed {seed}; schedule {}", small.schedule);
    if let Some(path) = &args.save {
        let path = numbered(path, &small.scheme, args);
        let text = small.to_file(seed, &Columns::of(&result.events).text())?;
        if finding::is_recording(&path) {
            let source = source.map_or_else(|| found.scenario.to_string(), String::from);
            finding::save(&path, &small, seed, &text, &source, &result)?;
        } else {
            std::fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
        }
        let _ = writeln!(out, "replay: racewalk replay {}", path.display());
    }
    if let Some(path) = &args.output {
        let c = Columns::of(&result.events);
        let svg = path.extension().is_some_and(|e| e == "svg");
        let title = format!("{} under {}", small.scenario.name, small.scheme);
        let text = if svg { c.svg() } else { c.html(&title) };
        std::fs::write(path, text).with_context(|| format!("write {}", path.display()))?;
    }
    Ok(())
}

/// `NAME-SUFFIX.EXTENSION`.
pub fn with_suffix(path: &Path, suffix: &str) -> std::path::PathBuf {
    let mut name = path.file_stem().unwrap_or_default().to_os_string();
    name.push(format!("-{suffix}"));
    if let Some(e) = path.extension() {
        name.push(".");
        name.push(e);
    }
    path.with_file_name(name)
}

/// Several schemes save into files of their own.
fn numbered(path: &Path, scheme: &str, args: &Race) -> std::path::PathBuf {
    match args.scheme.as_deref() {
        Some(s) if s != "all" && !s.contains(',') => path.into(),
        _ => with_suffix(path, scheme),
    }
}

fn summary(out: &mut String, r: &Report, plan: &Plan, seconds: f64) {
    let rules: Vec<String> =
        r.rules.iter().map(|(n, c)| format!("{n} ({}) in {}", invariant(*n), c.schedules)).collect();
    let states = match r.states.count() {
        Ok(n) => n.to_string(),
        Err(n) => format!("about {n}"),
    };
    let found = if rules.is_empty() { "nothing".to_string() } else { rules.join("; ") };
    let _ = writeln!(
        out,
        "  {} schedules of seeds {}..{}, shard {}; {:.0} schedules/s, {:.1} points a run, {states} distinct states\n  \
         found: {found}",
        r.schedules,
        plan.seeds.start,
        plan.seeds.end,
        plan.shard,
        r.schedules as f64 / seconds.max(1e-9),
        r.points as f64 / r.schedules.max(1) as f64,
    );
}

type First = (u64, racewalk_sched::schedule::Schedule, u8);

fn dfs(
    args: &Race,
    scenario: &Scenario,
    scheme: &str,
    options: &RunOptions,
    bound: u32,
    out: &mut String,
) -> anyhow::Result<Option<First>> {
    let mut dfs = Dfs::new(bound);
    let mut runner = Machine.prepare(scenario, scheme, options)?;
    let (mut first, mut found) = (None, 0u64);
    while dfs.schedules() < args.schedules && dfs.start() {
        let r = runner.run(&mut dfs)?;
        if let Some(f) = r.findings.first() {
            found += 1;
            first.get_or_insert((dfs.schedules(), r.outcome.schedule, f.rule));
            if !args.keep_going {
                break;
            }
        }
    }
    let whole = match (dfs.complete(), first.is_some() && !args.keep_going) {
        (true, _) => {
            format!("all schedules with at most {bound} preemptions: bounded exploration, not proof")
        }
        (false, true) => "stopped at the first finding".into(),
        (false, false) => format!("not complete; --schedules was {}", args.schedules),
    };
    let _ = writeln!(out, "  {} schedules ({whole}); {found} with findings", dfs.schedules());
    Ok(first)
}

/// What a finding is of: a line.
pub fn title(f: &Finding) -> String {
    format!("{} under {} on {}\n", f.scenario.name, f.scheme, f.geometry.word())
}

/// Columns and report.
pub fn tell(f: &Finding, r: &RunResult) -> String {
    let mut out = String::new();
    for line in f.scenario.to_string().lines() {
        let _ = writeln!(out, "    {line}");
    }
    let _ = writeln!(out, "\n{}", Columns::of(&r.events).text());
    for x in &r.findings {
        let _ = writeln!(out, "{}", x.text.trim_end());
    }
    out
}

/// `racewalk replay` of a finding. Status 3 if the finding is there again, 4 if the run is another one.
pub fn replay(args: &Replay) -> anyhow::Result<u8> {
    let what = || format!("replay {}", args.file.display());
    let text = std::fs::read_to_string(&args.file).with_context(what)?;
    let f = Finding::from_file(&text).with_context(what)?;
    match f.repeat(&Machine) {
        Ok(r) => {
            talk::print(&format!("{}\n{}", title(&f), tell(&f, &r)))?;
            if r.findings.iter().any(|x| x.rule == f.rule) {
                return Ok(exit::FOUND);
            }
            eprintln!(
                "error: the schedule ran as recorded, but invariant {} is not broken any more\n\
                 hint: the file says which version found it",
                f.rule
            );
            Ok(exit::DIVERGED)
        }
        Err(
            e @ (LabError::Diverged { .. } | LabError::Length { .. } | LabError::Nondeterministic { .. }),
        ) => {
            eprintln!("error: failed to replay {}: {e}", args.file.display());
            Ok(exit::DIVERGED)
        }
        Err(e) => Err(FindingError::from(e)).with_context(what),
    }
}

/// `racewalk explain`.
pub fn explain(args: &Explain) -> anyhow::Result<u8> {
    let stories = library::stories().context("explain")?;
    for w in &args.what {
        talk::print(&stories.explain(w).with_context(|| format!("explain {w}"))?)?;
    }
    Ok(0)
}

fn list() -> anyhow::Result<String> {
    let mut out = String::from("scenarios:\n");
    for s in library::scenarios()? {
        let _ = writeln!(out, "  {:<12} {}", s.name, s.title);
    }
    out.push_str("schemes:\n");
    for s in Scheme::catalogue() {
        let r = s.row();
        let state = match r.status {
            Status::Selectable => geometries(s).iter().map(|g| g.word()).collect::<Vec<_>>().join(", "),
            Status::Later => "not in this version".into(),
            Status::Note(_) => format!("a note: racewalk explain {}", s.name()),
        };
        let _ = writeln!(
            out,
            "  {:<20} {}; {state}\n{:23}flaw: {}",
            s.name(),
            r.what,
            "",
            r.flaw.unwrap_or("none known")
        );
    }
    out.push_str("geometries:\n");
    for g in Geometry::ALL {
        let _ = writeln!(out, "  {}", g.word());
    }
    out.push_str("policies:\n  random, pct:DEPTH, dfs:PREEMPTIONS, round-robin, stay, replay:SCHEDULE\n");
    Ok(out)
}

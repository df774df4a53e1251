//! `racewalk race`, `replay` and `explain`: the race lab on the command line.

use crate::cli::{Explain, Race, Replay};
use crate::exit::{self, unopened, usage};
use crate::finding;
use crate::talk;
use anyhow::Context;
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
use racewalk_sched::schedule::Schedule;
use std::fmt::Write as _;
use std::io::{IsTerminal, Write as _};
use std::ops::Range;
use std::path::Path;

/// The verb. Status 3 if something was found, 4 if a schedule that was given is of another run; with `--all`, 3 if a cell is not
/// as expected.
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
        return Err(usage("race: no scenario; wanted a name of `race --list`, or a file"));
    };
    let (name, source) = text_of(what).context("race")?;
    let scenario = buffered(args, parse(&name, &source).context("race")?);
    let schemes = schemes(args, &scenario)?;
    writable(args, schemes.iter().map(|s| s.0))?;
    let mut status = 0;
    for (scheme, geometry) in schemes {
        status = status.max(one(args, what, &source, &scenario, scheme, geometry)?);
    }
    Ok(status)
}

/// The scenario of a name or a file.
pub fn scenario(what: &str) -> anyhow::Result<Scenario> {
    let (name, text) = text_of(what)?;
    parse(&name, &text)
}

fn parse(name: &str, text: &str) -> anyhow::Result<Scenario> {
    let s = Scenario::parse(name, text)?;
    if s.ops() == 0 {
        return Err(usage(format!(
            "{name}.race: found no operation of a CPU; wanted a `cpu N` block with one at least, such as `A touch seg0:0`"
        )));
    }
    let unchecked: Vec<String> = s.unchecked().iter().map(u8::to_string).collect();
    if !unchecked.is_empty() {
        eprintln!(
            "racewalk: warning: {name}.race forbids what nothing checks (docs/not-modelled.md): invariant {}",
            unchecked.join(", ")
        )
    }
    let idle = s.idle_ops();
    if !idle.is_empty() {
        eprintln!(
            "racewalk: warning: {name}.race: nothing is mapped where these work, so they do nothing: {}",
            idle.join("; ")
        )
    }
    Ok(s)
}

/// The name of the scenario of a name or a file, and its text.
fn text_of(what: &str) -> anyhow::Result<(String, String)> {
    if let Some((name, text)) = library::text(what) {
        return Ok((name.into(), text.into()));
    }
    let path = Path::new(what);
    if path.extension().is_some_and(|e| e == "race") || path.exists() {
        let text = std::fs::read_to_string(path).map_err(unopened("read", path))?;
        let name = path.file_stem().map_or(what.into(), |s| s.to_string_lossy());
        return Ok((name.into_owned(), text));
    }
    let meant = library::meant(what).map_or(String::new(), |m| format!("; did you mean {m}?"));
    Err(usage(format!("scenario {what:?} is none of `race --list` and no file{meant}")))
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
        Some(words) => words.split(',').map(|w| scheme(w).context("race")).collect(),
    }
}

/// The scheme of that name, which can be run.
pub fn scheme(word: &str) -> anyhow::Result<Variant> {
    let v = word.parse::<Variant>().map_err(|e| usage(e.to_string()))?;
    if !v.scheme.available() {
        return Err(usage(format!("scheme {v} cannot be run; `racewalk explain {v}` says why")));
    }
    Ok(v)
}

/// A schedule for each of these seeds.
pub fn seeds(args: &Race, count: u64) -> anyhow::Result<Range<u64>> {
    let end = args.seed.checked_add(count).filter(|_| count != 0);
    end.map(|end| args.seed..end).ok_or_else(|| {
        let most = u64::MAX - count.max(1);
        usage(format!("race: {count} seeds from {}; wanted --seed {most} at most", args.seed))
    })
}

/// Asks that findings of these schemes can be saved and drawn where that is wanted.
pub fn writable(args: &Race, schemes: impl Iterator<Item = Variant>) -> anyhow::Result<()> {
    if let Some(path) = &args.save {
        for v in schemes {
            talk::writable(&numbered(path, &v.to_string(), args))?;
        }
    }
    args.output.as_deref().map_or(Ok(()), talk::writable)
}

/// The first geometry of those that a scheme knows and the options want.
pub fn geometry(v: Variant, wanted: Option<Geometry>, there: &[Geometry]) -> Option<Geometry> {
    let known = geometries(v.scheme);
    there.iter().copied().find(|g| known.contains(g) && wanted.is_none_or(|w| w == *g))
}

/// Why there is none.
pub fn no_geometry(v: Variant, wanted: Option<Geometry>, s: &Scenario) -> anyhow::Error {
    let words = |g: &[Geometry]| g.iter().map(|g| g.word()).collect::<Vec<_>>().join(", ");
    let there = words(&s.geometries);
    let name = &s.name;
    usage(match wanted {
        Some(g) if !s.geometries.contains(&g) => {
            format!("scenario {name} is for {there}; wanted one of these as --geometry, not {}", g.word())
        }
        Some(g) => {
            let known = words(&geometries(v.scheme));
            format!("scheme {v} knows {known}; wanted one of these as --geometry, not {}", g.word())
        }
        None => format!("scheme {v} knows {}; scenario {name} is for {there}", words(&geometries(v.scheme))),
    })
}

fn schemes(args: &Race, scenario: &Scenario) -> anyhow::Result<Vec<(Variant, Geometry)>> {
    let named = args.scheme.as_deref().is_some_and(|s| s != "all");
    let (mut out, mut last) = (Vec::new(), None);
    for v in selected(args, |_| true)? {
        match geometry(v, args.geometry, &scenario.geometries) {
            Some(g) => out.push((v, g)),
            None if named => return Err(no_geometry(v, args.geometry, scenario)).context("race"),
            None => last = Some(v),
        }
    }
    match last.filter(|_| out.is_empty()) {
        Some(v) => Err(no_geometry(v, args.geometry, scenario)).context("race"),
        None => Ok(out),
    }
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
        PolicySpec::Dfs(_) | PolicySpec::Replay(_) => {
            return Err(usage(format!(
                "race --policy {spec} in a campaign of seeds; wanted random, pct:DEPTH, round-robin or stay"
            )));
        }
    })
}

/// One scheme, and the status.
fn one(
    args: &Race,
    what: &str,
    source: &str,
    scenario: &Scenario,
    variant: Variant,
    geometry: Geometry,
) -> anyhow::Result<u8> {
    let mut options = RunOptions::default();
    options.geometry = Some(geometry);
    let flaw = match variant.without {
        Some(step) => format!("a step is left out: {}", step.row().name),
        None => variant.scheme.row().flaw.unwrap_or("none known").to_string(),
    };
    let scheme = &*variant.to_string();
    let mut out = format!("{} under {scheme} on {} (flaw: {flaw})\n", scenario.name, geometry.word());
    let mut fits = true;
    if args.shard.is_part() && matches!(args.policy, PolicySpec::Dfs(_) | PolicySpec::Replay(_)) {
        return Err(usage(format!("race --policy {}: it has no seeds; wanted no --shard", args.policy)));
    }
    let first = if let PolicySpec::Dfs(n) = args.policy {
        dfs(args, scenario, scheme, &options, n, &mut out)?
    } else if let PolicySpec::Replay(s) = &args.policy {
        let mut policy = Replayed::new(s.clone(), Stay);
        let r = Machine.run(scenario, scheme, &mut policy, &options)?;
        fits = told(&mut out, s, &policy, &r);
        r.findings.first().map(|f| (args.seed, r.outcome.schedule, f.rule))
    } else {
        let mut plan = Plan::new(seeds(args, args.schedules)?);
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
        return Ok(if fits { 0 } else { exit::DIVERGED });
    };
    let found = Finding { scenario: scenario.clone(), scheme: scheme.into(), geometry, schedule, rule };
    let kept = report_finding(args, &found, Some(source), seed, &mut out)?;
    if args.save.is_none() || !kept {
        let _ = writeln!(
            out,
            "again: racewalk race {what} --scheme {scheme} --geometry {} --policy {} --seed {seed} --schedules 1{}\n\
             to keep it: add --save FILE",
            geometry.word(),
            args.policy,
            if args.tso { " --tso" } else { "" }
        );
    }
    talk::print(&out)?;
    Ok(if fits { exit::FOUND } else { exit::DIVERGED })
}

/// What one run of a given schedule showed; whether the schedule is that of the run, or of its beginning.
fn told(out: &mut String, given: &Schedule, policy: &Replayed<Stay>, r: &RunResult) -> bool {
    let mut rules: Vec<u8> = r.findings.iter().map(|f| f.rule).collect();
    rules.dedup();
    let rules: Vec<String> = rules.iter().map(|&n| format!("{n} ({})", invariant(n))).collect();
    let (made, has) = (r.outcome.schedule.choices.len(), given.choices.len());
    let found = if rules.is_empty() { "nothing".into() } else { rules.join("; ") };
    let _ =
        writeln!(out, "  1 schedule, the one that was given; the run made {made} choices\n  found: {found}");
    let (diverged, left) = (policy.diverged, policy.left());
    if diverged == 0 && left == 0 {
        return true;
    }
    let _ = writeln!(
        out,
        "  it is another run: found {diverged} choices of tasks that could not run, and {left} of {has} choices behind its \
         end; wanted none"
    );
    false
}

/// Shrinks a finding, tells it, saves and draws it where that is wanted. `source` is the scenario as it was given. False if it
/// could not be written somewhere; it is told nevertheless.
pub fn report_finding(
    args: &Race,
    found: &Finding,
    source: Option<&str>,
    seed: u64,
    out: &mut String,
) -> anyhow::Result<bool> {
    let small = found.shrink(&Machine)?;
    let result = small.repeat(&Machine)?;
    let told = tell(&small, &result);
    let _ = writeln!(out, "\n{told}");
    let _ = writeln!(out, "seed {seed}; schedule {}", small.schedule);
    let mut kept = true;
    if let Some(path) = &args.save {
        let path = numbered(path, &small.scheme, args);
        let text = small.to_file(seed, &Columns::of(&result.events).text())?;
        let saved = if finding::is_recording(&path) {
            let source = source.map_or_else(|| found.scenario.to_string(), String::from);
            finding::save(&path, &small, seed, &text, &source, &result)
        } else {
            write(&path, text)
        };
        match &saved {
            Ok(()) => drop(writeln!(out, "replay: racewalk replay {}", path.display())),
            Err(e) => talk::complain(e),
        }
        kept &= saved.is_ok();
    }
    if let Some(path) = &args.output {
        let c = Columns::of(&result.events);
        let svg = path.extension().is_some_and(|e| e == "svg");
        let title = format!("{} under {}", small.scenario.name, small.scheme);
        let text = if svg { c.svg() } else { c.html(&title) };
        if let Err(e) = write(path, text) {
            talk::complain(&e);
            kept = false;
        }
    }
    Ok(kept)
}

fn write(path: &Path, text: String) -> anyhow::Result<()> {
    std::fs::write(path, text).with_context(|| format!("write {}", path.display()))
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
    let (first, last, shard) = (plan.seeds.start, plan.seeds.end - 1, plan.shard);
    if r.schedules == 0 {
        let _ = writeln!(out, "  nothing was run: shard {shard} has none of the seeds {first} to {last}");
        return;
    }
    let rules: Vec<String> =
        r.rules.iter().map(|(n, c)| format!("{n} ({}) in {}", invariant(*n), c.schedules)).collect();
    let states = match r.states.count() {
        Ok(n) => n.to_string(),
        Err(n) => format!("about {n}"),
    };
    let found = if rules.is_empty() { "nothing".to_string() } else { rules.join("; ") };
    let _ = writeln!(
        out,
        "  {} schedules of seeds {first} to {last}, shard {shard}; {:.0} schedules/s, {:.1} points a run, {states} distinct states\n  \
         found: {found}",
        r.schedules,
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
    let text = std::fs::read_to_string(&args.file).map_err(unopened("read", &args.file)).context("replay")?;
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

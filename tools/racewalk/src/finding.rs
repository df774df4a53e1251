//! Findings of the race lab as recordings: written by `race --save FILE.rwt`, repeated by `replay`, read by `trace`.

use crate::cli::Replay;
use crate::exit;
use crate::race;
use crate::recorded;
use crate::talk;
use anyhow::{Context, anyhow, bail};
use racewalk_lab::finding::{Finding, FindingError};
use racewalk_lab::machine::{Counted, Listener, Machine, Observed};
use racewalk_lab::scenario::{Geometry, Scenario};
use racewalk_lab::target::{LabError, RunResult};
use racewalk_mm::sanitizer::invariant;
use racewalk_sched::schedule_file::ScheduleFile;
use racewalk_trace::compare::{Compare, Limit};
use racewalk_trace::event::{Bytes, Event};
use racewalk_trace::lab::LabRecorder;
use racewalk_trace::meta::{CpuCounts, EndNote, FindingMeta, MachineMeta, Meta};
use racewalk_trace::{FileOutput, Record, Recording, Writer, stream};
use racewalk_walk::tlb::presets;
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

/// The embedded file that is what `race --save` writes as text.
const SCHEDULE: &str = "schedule";
/// The embedded file that is the scenario in which the finding was looked for, before it was shrunk.
const SCENARIO: &str = "scenario";

/// Whether a finding that is saved under this name is a recording.
pub fn is_recording(path: &Path) -> bool {
    path.extension().is_some_and(|e| e == "rwt")
}

/// A finding repeated, and what was heard of it.
struct Heard {
    seen: Observed,
    recorder: Arc<LabRecorder>,
}

fn hear(f: &Finding) -> Result<Heard, LabError> {
    let recorder = LabRecorder::new();
    let listener = Listener { sink: recorder.clone(), watcher: recorder.clone() };
    Ok(Heard { seen: Machine.observe(f, &listener)?, recorder })
}

impl Heard {
    /// Gives the embedded files, what was heard and what was found. How many events that were.
    fn give(&self, files: &[(&str, &[u8])], out: &mut impl racewalk_trace::recorder::Output) -> u64 {
        let file =
            |&(name, bytes): &(&str, &[u8])| Event::File { name: name.into(), bytes: Bytes(bytes.into()) };
        let first = files.iter().map(file).collect();
        let mut last = Vec::new();
        for f in &self.seen.result.findings {
            last.push(Event::Found { invariant: f.rule.into(), title: f.title.as_str().into() });
            last.extend(f.text.lines().map(|l| Event::Evidence { text: l.into() }))
        }
        self.recorder.give(first, last, &self.seen.tasks, &self.seen.ops, out)
    }

    fn end(&self, f: &Finding) -> EndNote {
        let count = |c: &Counted| CpuCounts {
            instructions: 0,
            lookups: c.lookups,
            hits: c.hits,
            walks: c.walks,
            steps: c.steps,
            fills: c.fills,
            purges: c.purges,
        };
        EndNote {
            how: match found(f, &self.seen.result) {
                Some(title) => format!("invariant {} does not hold: {title}", f.rule),
                None => format!("invariant {} holds", f.rule),
            },
            status: exit::FOUND,
            cpus: self.seen.cpus.iter().map(count).collect(),
            memory: self.seen.memory.as_ref().map(|(ram, used)| recorded::memory_of(ram, *used)),
            ..EndNote::default()
        }
    }
}

/// The title of what breaks the finding's invariant in a run.
fn found<'a>(f: &Finding, r: &'a RunResult) -> Option<&'a str> {
    r.findings.iter().find(|x| x.rule == f.rule).map(|x| x.title.as_str())
}

/// The instruction set or format of a geometry.
fn arch(g: Geometry) -> &'static str {
    g.word().split('-').next().unwrap_or_default()
}

fn meta(f: &Finding, seed: u64, title: &str) -> Meta {
    Meta {
        racewalk: env!("CARGO_PKG_VERSION").into(),
        machine: MachineMeta {
            arch: arch(f.geometry).into(),
            cpus: f.scenario.cpus,
            memory: Machine::memory(&f.scenario, f.geometry),
            scheme: f.scheme.clone(),
            tlb: presets::text("infinite").unwrap_or("infinite").into(),
            engine: "none".into(),
            speculate: !f.scenario.walkers.is_empty(),
            sanitize: true,
        },
        guest: None,
        selection: Default::default(),
        replayable: None,
        finding: Some(FindingMeta {
            scenario: f.scenario.name.clone(),
            geometry: f.geometry.word().into(),
            invariant: f.rule,
            title: title.into(),
            seed,
        }),
    }
}

/// Saves a finding as a recording: `text` is its schedule file, `source` the scenario as it was given, `shown` the run that
/// was told.
pub fn save(
    path: &Path,
    f: &Finding,
    seed: u64,
    text: &str,
    source: &str,
    shown: &RunResult,
) -> anyhow::Result<()> {
    let heard = hear(f)?;
    let again = &heard.seen.result;
    if (&again.outcome, &again.findings, &again.events) != (&shown.outcome, &shown.findings, &shown.events) {
        bail!("record {}: the run that was told and the one that was recorded differ", path.display())
    }
    let meta = meta(f, seed, found(f, again).unwrap_or_default());
    let what = || format!("record to {}", path.display());
    let mut out = FileOutput::new(Writer::create(path, &meta, None).with_context(what)?);
    heard.give(&[(SCHEDULE, text.as_bytes()), (SCENARIO, source.as_bytes())], &mut out);
    out.finish(&heard.end(f)).with_context(what)?;
    Ok(())
}

fn embedded(r: &Recording, name: &str) -> anyhow::Result<Arc<[u8]>> {
    r.file(name).ok_or_else(|| match r.damage.first() {
        Some(d) => anyhow!("read its {name}: that part of the file cannot be read: {d}"),
        None => anyhow!("read its {name}: no record has it; `racewalk trace check` says what there is"),
    })
}

/// An embedded file, to standard output.
pub fn print_embedded(r: &Recording, name: &str) -> anyhow::Result<()> {
    if r.meta.finding.is_none() {
        bail!(
            "print the {name} of {}: it is a recording of a guest, not a finding of `racewalk race --save FILE.rwt`",
            r.path().display()
        )
    }
    let bytes = embedded(r, name).with_context(|| format!("print the {name} of {}", r.path().display()))?;
    std::io::Write::write_all(&mut std::io::stdout().lock(), &bytes).context("write to standard output")
}

fn text_of(bytes: &[u8]) -> anyhow::Result<&str> {
    std::str::from_utf8(bytes).map_err(|e| anyhow!("the embedded schedule is no text: {e}"))
}

/// What `trace show` prints first.
pub fn header(r: &Recording) -> Option<String> {
    let (m, f) = (&r.meta.machine, r.meta.finding.as_ref()?);
    let mut s = format!(
        "# {} under {} on {}: invariant {} ({}) does not hold\n# {}\n",
        f.scenario,
        m.scheme,
        f.geometry,
        f.invariant,
        invariant(f.invariant),
        f.title
    );
    let text = r.file(SCHEDULE);
    let file = text.as_deref().and_then(|b| std::str::from_utf8(b).ok()?.parse::<ScheduleFile>().ok());
    match file {
        Some(file) => s += &format!("# seed {}; schedule {}\n", f.seed, file.schedule),
        None => s += "# the schedule cannot be read\n",
    }
    Some(s)
}

/// In what the metadata is not about the finding of the embedded schedule file.
fn contradictions(m: &Meta, f: &Finding) -> Vec<String> {
    let Some(said) = &m.finding else { return Vec::new() };
    let pairs = [
        ("scenario", f.scenario.name.clone(), said.scenario.clone()),
        ("scheme", f.scheme.clone(), m.machine.scheme.clone()),
        ("geometry", f.geometry.word().into(), said.geometry.clone()),
        ("invariant", f.rule.to_string(), said.invariant.to_string()),
        ("number of CPUs", f.scenario.cpus.to_string(), m.machine.cpus.to_string()),
    ];
    let differ = pairs.into_iter().filter(|(_, a, b)| a != b);
    differ
        .map(|(what, a, b)| format!("the {what} of the embedded schedule is {a}, the recording's is {b}"))
        .collect()
}

/// What is wrong with a finding, besides what is wrong with a recording.
pub fn check(r: &Recording) -> Vec<String> {
    let Some(meta) = &r.meta.finding else { return Vec::new() };
    let mut wrong = Vec::new();
    let parsed = embedded(r, SCHEDULE).and_then(|b| Ok(Finding::from_file(text_of(&b)?)?));
    match &parsed {
        Ok(f) => wrong.extend(contradictions(&r.meta, f)),
        Err(e) => wrong.push(format!("the embedded schedule: {e:#}")),
    }
    let source = embedded(r, SCENARIO).and_then(|b| {
        let text = std::str::from_utf8(&b).map_err(|e| anyhow!("it is no text: {e}"))?;
        Ok(Scenario::parse(&meta.scenario, text)?)
    });
    if let Err(e) = source {
        wrong.push(format!("the embedded scenario: {e:#}"))
    }
    let ops: Option<BTreeSet<String>> = parsed.ok().map(|f| {
        let all = f.scenario.programs.iter().flat_map(|p| &p.ops);
        all.map(|o| f.scenario.op_text(o)).collect()
    });
    let mut titles = Vec::new();
    for (s, x) in r.merged() {
        let Ok(Record::Event { seq, event, .. }) = x else { continue };
        let cpu = if (stream::WALKERS..stream::KERNEL).contains(&s) { s - stream::WALKERS } else { s };
        if s != stream::KERNEL && cpu >= r.meta.machine.cpus {
            wrong.push(format!(
                "event #{seq} is of {}, the scenario has {} CPUs",
                stream::name(s),
                r.meta.machine.cpus
            ))
        }
        match event {
            Event::Operation { text, .. } if ops.as_ref().is_some_and(|o| !o.contains(&*text)) => wrong
                .push(format!("event #{seq} is the operation `{text}`, which the embedded schedule has not")),
            Event::Found { invariant, title } if invariant == u64::from(meta.invariant) => titles.push(title),
            _ => {}
        }
    }
    if r.end.is_some() && !titles.iter().any(|t| **t == *meta.title) {
        wrong.push(format!("no record says that invariant {} does not hold: {}", meta.invariant, meta.title))
    }
    wrong.truncate(20);
    wrong
}

/// `racewalk replay` of a finding that is a recording. Status 3 if it is the same again, 4 if it is not.
pub fn replay(args: &Replay, r: Recording) -> anyhow::Result<u8> {
    if args.engine.is_some() || args.until.is_some() {
        eprintln!(
            "error: {} is a finding of the race lab; --engine, --until and --then are for recordings of guests",
            args.file.display()
        );
        return Ok(exit::USAGE);
    }
    let what = || format!("replay {}", args.file.display());
    for d in &r.damage {
        eprintln!("racewalk: warning: {d}")
    }
    let text = embedded(&r, SCHEDULE).with_context(what)?;
    let f = text_of(&text).and_then(|t| Ok(Finding::from_file(t)?)).with_context(what)?;
    let differs = |text: String| {
        eprintln!("error: the run is not the recorded one: {text}");
        Ok(exit::DIVERGED)
    };
    if let Some(c) = contradictions(&r.meta, &f).first() {
        return differs(c.clone());
    }
    let heard = match hear(&f) {
        Ok(h) => h,
        Err(e @ (LabError::Diverged { .. } | LabError::Length { .. })) => return differs(e.to_string()),
        Err(e) => return Err(FindingError::from(e)).with_context(what),
    };
    let result = &heard.seen.result;
    talk::print(&format!("{}\n{}", race::title(&f), race::tell(&f, result)))?;
    let whole = r.end.is_some() && r.damage.is_empty();
    let source = r.file(SCENARIO);
    let mut files = vec![(SCHEDULE, &*text)];
    files.extend(source.as_deref().map(|s| (SCENARIO, s)));
    let r = Arc::new(r);
    let mut compare =
        Compare::new(r.clone(), if whole { Limit::Whole } else { Limit::Prefix }, Arc::default());
    let events = heard.give(&files, &mut compare);
    if let Some(d) = compare.verdict() {
        return differs(d.to_string());
    }
    let end = heard.end(&f);
    if let Some(recorded) = r.end.as_ref().filter(|_| whole) {
        if recorded.how != end.how {
            return differs(format!(
                "it ended otherwise\n  expected  {}\n  came      {}",
                recorded.how, end.how
            ));
        }
        if recorded.cpus != end.cpus {
            return differs("the CPUs counted otherwise, after the same events".into());
        }
        if recorded.memory != end.memory {
            return differs("memory is another one at the end, after the same events".into());
        }
    }
    if found(&f, result).is_none() {
        return differs(format!("invariant {} is not broken any more", f.rule));
    }
    match whole {
        true => eprintln!("racewalk: as recorded: {events} events and memory"),
        false => eprintln!(
            "racewalk: as recorded, as far as the recording goes; it was not completed, or a part is lost"
        ),
    }
    Ok(exit::FOUND)
}

#[cfg(test)]
mod tests {
    use super::*;
    use racewalk_lab::library;
    use racewalk_lab::target::{RunOptions, Target};
    use racewalk_sched::controlled::Random;
    use racewalk_trace::recorder::Output;
    use std::collections::BTreeMap;

    /// Events by stream, and the actors that each names.
    #[derive(Default)]
    struct Streams(BTreeMap<u32, (Vec<Event>, BTreeSet<String>)>);

    impl Output for Streams {
        fn run(&mut self, _: u32, _: u64, _: bool, _: u32, _: u32) {}
        fn enter(&mut self, _: u32, _: u64, _: u64) {}
        fn event(&mut self, stream: u32, _: u64, _: u64, event: Event) {
            let s = self.0.entry(stream).or_default();
            if let Event::Actor { name } = &event {
                s.1.insert(name.to_string());
            }
            s.0.push(event)
        }
        fn settle(&mut self, _: bool) {}
    }

    /// What a shrunk finding has no more, since nothing needs it: walkers of the hardware have streams of their own. Seen to
    /// fail with all said to be the CPU's.
    #[test]
    fn walkers_have_streams_of_their_own() {
        let scenario = library::scenario("f-03b").expect("it is there").expect("it is one");
        let (scheme, geometry) = ("s390-66".to_string(), scenario.geometries[0]);
        let mut walked = 0;
        for seed in 0..20 {
            let mut policy = Random::new(seed);
            let run = Machine.run(&scenario, &scheme, &mut policy, &RunOptions::default()).expect("a run");
            let (scenario, scheme, schedule) = (scenario.clone(), scheme.clone(), run.outcome.schedule);
            let f = Finding { scenario, scheme, geometry, schedule, rule: 1 };
            let heard = hear(&f).expect("the same run");
            let mut streams = Streams::default();
            heard.give(&[], &mut streams);
            let count = |streams: &Streams, s: u32, is: fn(&Event) -> bool| -> u64 {
                streams.0.get(&s).map_or(0, |s| s.0.iter().filter(|e| is(e)).count() as u64)
            };
            let start = |e: &Event| matches!(e, Event::WalkStart { .. });
            for (cpu, n) in (0..).zip(&heard.seen.cpus) {
                let walks = [cpu, stream::WALKERS + cpu].map(|s| count(&streams, s, start));
                assert_eq!(walks[0] + walks[1], n.walks, "cpu{cpu}, seed {seed}");
                walked += walks[1];
            }
            for (s, (_, actors)) in &streams.0 {
                if (stream::WALKERS..stream::KERNEL).contains(s) {
                    assert_eq!(actors.iter().collect::<Vec<_>>(), ["walker 0 of cpu 1"]);
                }
            }
        }
        assert!(walked > 0, "no walker walked in 20 runs");
    }
}

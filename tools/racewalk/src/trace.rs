//! `racewalk trace show`, `stats`, `check` and `diff`: recordings read.

use crate::cli::{Show, StatsFormat, TraceVerb};
use crate::exit;
use crate::progress::size;
use anyhow::Context;
use racewalk_trace::event::Group;
use racewalk_trace::frame::FrameKind;
use racewalk_trace::reader::Damage;
use racewalk_trace::{Record, Recording, check, diff, stats, stream};
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Does what is asked of a recording.
pub fn trace(verb: &TraceVerb) -> anyhow::Result<u8> {
    let r = match verb {
        TraceVerb::Show(s) => show(s),
        TraceVerb::Stats(s) => stats(&s.file, s.format),
        TraceVerb::Check { file } => check(file),
        TraceVerb::Diff { a, b } => diff(a, b),
    };
    match r {
        // Whoever reads has seen enough.
        Err(e) if is_closed_pipe(&e) => Ok(0),
        r => r,
    }
}

fn is_closed_pipe(e: &anyhow::Error) -> bool {
    e.chain()
        .filter_map(|c| c.downcast_ref::<std::io::Error>())
        .any(|e| e.kind() == std::io::ErrorKind::BrokenPipe)
}

fn open(file: &Path) -> anyhow::Result<Recording> {
    Recording::open(file).context("read a recording")
}

/// Says what is damaged or missing; whether anything is damaged.
fn warn(r: &Recording, damage: &[Damage]) -> bool {
    for d in damage {
        eprintln!("racewalk: warning: {}: {d}", r.path().display())
    }
    if r.end.is_none() && damage.is_empty() {
        eprintln!("racewalk: warning: {} was not completed; this is what it has", r.path().display())
    }
    !damage.is_empty()
}

fn stats(file: &Path, format: StatsFormat) -> anyhow::Result<u8> {
    let r = open(file)?;
    let t = stats::TraceStats::of(&r);
    crate::talk::print(&match format {
        StatsFormat::Text => t.text(),
        StatsFormat::Json => serde_json::to_string(&t)? + "\n",
    })?;
    Ok(if warn(&r, &t.damaged) { exit::DIFFERS } else { 0 })
}

fn check(file: &Path) -> anyhow::Result<u8> {
    let r = open(file)?;
    let mut c = check::check(&r);
    c.wrong.extend(crate::finding::check(&r));
    let mut s = String::new();
    for w in &c.wrong {
        s += &format!("wrong: {w}\n");
    }
    for m in &c.missing {
        s += &format!("missing: {m}\n");
    }
    let verdict = match (c.wrong.is_empty(), c.missing.is_empty()) {
        (true, true) => "all is well",
        (true, false) => "what is there is well",
        _ => "not all is well",
    };
    s += &format!(
        "{}: {} frames, {} records, {}: {verdict}\n",
        file.display(),
        c.frames,
        c.records,
        size(r.size())
    );
    crate::talk::print(&s)?;
    Ok(if c.wrong.is_empty() { 0 } else { exit::DIFFERS })
}

fn diff(a: &Path, b: &Path) -> anyhow::Result<u8> {
    let (mut a, mut b) = (open(a)?, open(b)?);
    let mut damaged = false;
    for r in [&mut a, &mut b] {
        r.verify();
        damaged |= warn(r, &r.damage)
    }
    let (first, second) = (a.path().display().to_string(), b.path().display().to_string());
    let found = match diff::diff(Arc::new(a), &b) {
        Ok(d) => d.map(|d| d.to_string()),
        Err(damage) => Some(damage.to_string()),
    };
    let text = match &found {
        None if damaged => "the same records, as far as both can be read\n".into(),
        None => "the same records\n".into(),
        Some(d) => format!("{second} is not {first}: {d}\n"),
    };
    crate::talk::print(&text)?;
    Ok(if found.is_some() || damaged { exit::DIFFERS } else { 0 })
}

/// How often a file that grows is looked at.
const LOOK: Duration = Duration::from_millis(300);

fn show(s: &Show) -> anyhow::Result<u8> {
    if let Some(name) = if s.schedule { Some("schedule") } else { s.scenario.then_some("scenario") } {
        crate::finding::print_embedded(&open(&s.file)?, name)?;
        return Ok(0);
    }
    let mut out = BufWriter::new(std::io::stdout().lock());
    let mut shown = 0;
    if s.follow {
        return follow(s, &mut out);
    }
    let r = open(&s.file)?;
    let mut damage = r.damage.clone();
    out.write_all(crate::finding::header(&r).unwrap_or_default().as_bytes())?;
    for (stream, x) in r.merged() {
        if s.limit.is_some_and(|n| shown >= n) {
            break;
        }
        match x {
            Ok(x) => line(s, stream, &x, &mut shown, &mut out)?,
            Err(d) => damage.push(d),
        }
    }
    out.flush()?;
    Ok(if warn(&r, &damage) { exit::DIFFERS } else { 0 })
}

/// Frames in the order of the file, while it grows. What is damaged is told once, when more has come behind it.
fn follow(s: &Show, out: &mut impl Write) -> anyhow::Result<u8> {
    let (mut r, mut seen, mut told, mut shown) = (open(&s.file)?, 0, 0, 0);
    out.write_all(crate::finding::header(&r).unwrap_or_default().as_bytes())?;
    let mut damaged = false;
    loop {
        for f in r.frames.iter().skip(seen).filter(|f| f.header.kind == FrameKind::Stream) {
            match r.records_of(f) {
                Ok(all) => all.iter().try_for_each(|x| line(s, f.header.stream, x, &mut shown, out))?,
                Err(d) => {
                    damaged = true;
                    eprintln!("racewalk: warning: {d}")
                }
            }
        }
        seen = r.frames.len();
        out.flush()?;
        for d in r.damage_for_good().skip(told) {
            damaged = true;
            told += 1;
            eprintln!("racewalk: warning: {d}")
        }
        if r.end.is_some() || s.limit.is_some_and(|n| shown >= n) {
            return Ok(if damaged { exit::DIFFERS } else { 0 });
        }
        std::thread::sleep(LOOK);
        r.grow().context("read a recording")?
    }
}

fn line(s: &Show, stream: u32, x: &Record, shown: &mut u64, out: &mut impl Write) -> anyhow::Result<()> {
    let group = match x {
        Record::Event { event, .. } => event.kind().group,
        _ => Group::Access,
    };
    let wanted = (s.kind.is_empty() || s.kind.contains(&group))
        && (s.cpu.is_empty()
            || s.cpu.contains(&stream)
            || stream.checked_sub(stream::WALKERS).is_some_and(|n| s.cpu.contains(&n)))
        && s.limit.is_none_or(|n| *shown < n);
    if wanted {
        *shown += 1;
        writeln!(out, "{:<8} {x}", stream::name(stream))?
    }
    Ok(())
}

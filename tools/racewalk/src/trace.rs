//! `racewalk trace show`, `stats`, `check` and `diff`: recordings read.

use crate::cli::{Show, StatsFormat, TraceVerb};
use crate::exit;
use crate::progress::size;
use anyhow::Context;
use racewalk_trace::event::Group;
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

fn stats(file: &Path, format: StatsFormat) -> anyhow::Result<u8> {
    let t = stats::TraceStats::of(&open(file)?);
    crate::talk::print(&match format {
        StatsFormat::Text => t.text(),
        StatsFormat::Json => serde_json::to_string(&t)? + "\n",
    })?;
    Ok(0)
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
    let (a, b) = (open(a)?, open(b)?);
    let (first, second) = (a.path().display().to_string(), b.path().display().to_string());
    let found = match diff::diff(Arc::new(a), &b) {
        Ok(d) => d.map(|d| d.to_string()),
        Err(damage) => Some(format!("{second}: {damage}")),
    };
    match found {
        None => {
            crate::talk::print("the same records\n")?;
            Ok(0)
        }
        Some(d) => {
            crate::talk::print(&format!("{second} is not {first}: {d}\n"))?;
            Ok(exit::DIFFERS)
        }
    }
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
        let (mut r, mut seen) = (open(&s.file)?, 0);
        out.write_all(crate::finding::header(&r).unwrap_or_default().as_bytes())?;
        loop {
            let over = r.end.is_some();
            seen = follow(s, &r, seen, &mut shown, &mut out)?;
            out.flush()?;
            if over || s.limit.is_some_and(|n| shown >= n) {
                return Ok(0);
            }
            std::thread::sleep(LOOK);
            r.grow().context("read a recording")?
        }
    }
    let r = open(&s.file)?;
    let mut damaged = !r.damage.is_empty();
    for d in &r.damage {
        eprintln!("racewalk: warning: {d}")
    }
    out.write_all(crate::finding::header(&r).unwrap_or_default().as_bytes())?;
    for (stream, x) in r.merged() {
        if s.limit.is_some_and(|n| shown >= n) {
            break;
        }
        match x {
            Ok(x) => line(s, stream, &x, &mut shown, &mut out)?,
            Err(d) => {
                damaged = true;
                eprintln!("racewalk: warning: {d}")
            }
        }
    }
    out.flush()?;
    if r.end.is_none() && !damaged {
        eprintln!("racewalk: warning: the recording was not completed; this is what it has")
    }
    Ok(if damaged { exit::DIFFERS } else { 0 })
}

/// Frames behind the first `seen`, in the order of the file. How many there are now.
fn follow(
    s: &Show,
    r: &Recording,
    seen: usize,
    shown: &mut u64,
    out: &mut impl Write,
) -> anyhow::Result<usize> {
    for f in r.frames.iter().skip(seen) {
        for x in r.frame(f).map_err(|e| anyhow::anyhow!("read the frame at {:#x}: {e}", f.at))? {
            line(s, f.header.stream, &x, shown, out)?
        }
    }
    Ok(r.frames.len())
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

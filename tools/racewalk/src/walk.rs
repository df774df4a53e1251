//! `racewalk walk`: walks from a text file, step by step with each entry's bits named; entries decoded.

use crate::cli::Walk;
use crate::exit::{self, unopened, usage};
use anyhow::Context;
use racewalk_walk::event::WalkEvent;
use racewalk_walk::text::{Format, Table, WalkFile, Walked, formats, number};
use std::fmt::Write as _;
use std::path::Path;

/// The verb. Status 1 if some access gives something else than its file says.
pub fn walk(args: &Walk) -> anyhow::Result<u8> {
    let mut out = String::new();
    let mut status = 0;
    if args.list {
        list(&mut out);
    }
    for entry in &args.explain {
        explain(&mut out, args, entry)?;
    }
    for path in &args.files {
        if !file(&mut out, path)? {
            status = exit::DIFFERS;
        }
    }
    crate::talk::print(&out)?;
    Ok(status)
}

fn list(out: &mut String) {
    for f in formats() {
        let _ = writeln!(out, "{}: {}", f.name(), f.about());
        for r in f.registers() {
            let _ = writeln!(out, "  set {:<14} {}", r.name, r.about);
        }
        for t in f.tables() {
            let _ = writeln!(out, "  table {:<18} {}", t.name, t.about);
        }
    }
}

/// The formats that `--format` names: one, or all.
fn wanted(args: &Walk) -> anyhow::Result<Vec<Box<dyn Format>>> {
    let all = formats();
    let Some(name) = &args.format else { return Ok(all) };
    let names: Vec<_> = all.iter().map(|f| f.name()).collect();
    match all.into_iter().find(|f| f.name() == name) {
        Some(f) => Ok(vec![f]),
        None => {
            let names = names.join(", ");
            Err(usage(format!("explain an entry: format {name:?}; wanted one of {names}")))
        }
    }
}

fn explain(out: &mut String, args: &Walk, entry: &str) -> anyhow::Result<()> {
    let value = number(entry).map_err(usage).context("explain an entry")?;
    let mut found = false;
    for f in wanted(args)? {
        for t in f.tables() {
            if args.table.as_ref().is_some_and(|name| name != t.name) {
                continue;
            }
            found = true;
            let _ = writeln!(out, "{value:#018x} as {} {}: {}", f.name(), t.name, t.about);
            fields(out, t, value);
        }
    }
    if !found {
        let mut names: Vec<_> = wanted(args)?.iter().flat_map(|f| f.tables()).map(|t| t.name).collect();
        names.dedup();
        let table = args.table.as_deref().unwrap_or_default();
        let names = names.join(", ");
        return Err(usage(format!("explain an entry: table {table:?}; wanted one of {names}")));
    }
    Ok(())
}

fn fields(out: &mut String, table: &Table, entry: u64) {
    for line in table.explain(entry) {
        let _ = writeln!(out, "      {line}");
    }
}

/// Shows a file; whether everything was as it says.
fn file(out: &mut String, path: &Path) -> anyhow::Result<bool> {
    let what = || format!("walk {}", path.display());
    let text = std::fs::read_to_string(path).map_err(unopened("read", path)).context("walk")?;
    let walks = WalkFile::parse(&text).with_context(what)?;
    let mut agree = true;
    walks.run(|w| agree &= show(out, path, w)).with_context(what)?;
    Ok(agree)
}

fn show(out: &mut String, path: &Path, w: &Walked<'_>) -> bool {
    let _ = writeln!(out, "{}:{}: {}", path.display(), w.line, w.format.name());
    for e in &w.events {
        let _ = writeln!(out, "  {e}");
        if let WalkEvent::Step { table, entry, .. } = e
            && let Some(t) = w.format.tables().iter().find(|t| t.name == *table)
        {
            fields(out, t, *entry);
        }
    }
    for (register, value) in &w.report {
        let _ = writeln!(out, "  {register} {value:#x}");
    }
    let got = w.lines();
    if w.expected.is_empty() || w.expected == got {
        return true;
    }
    let _ = writeln!(out, "  the file expects something else:");
    for i in 0..got.len().max(w.expected.len()) {
        let (want, got) = (w.expected.get(i).map(String::as_str), got.get(i).map(String::as_str));
        if want != got {
            let nothing = "nothing";
            let _ = writeln!(out, "    wanted {}", want.unwrap_or(nothing));
            let _ = writeln!(out, "    found  {}", got.unwrap_or(nothing));
        }
    }
    false
}

//! A difference in as few operands as show it, and its story.

use super::batch::Record;
use super::campaign::{Campaign, Cut, Shown};
use super::run::{Bench, Outcome};
use super::sequence::{Patch, Sequence, State};
use std::fmt::Write;

/// Rounds of simplification; each runs one batch.
const ROUNDS: usize = 6;

type Change = Box<dyn Fn(&mut Sequence)>;

/// What may be simpler: one register or patch at a time, and earlier items.
fn changes(s: &Sequence) -> Vec<Change> {
    let mut all: Vec<Change> = Vec::new();
    for n in 0..s.items.len() - 1 {
        all.push(Box::new(move |s| {
            s.items.remove(n);
        }));
    }
    for n in 0..16 {
        if s.state.gr[n] != 0 {
            all.push(Box::new(move |s| s.state.gr[n] = 0));
        }
        if s.state.fr[n] != 0 {
            all.push(Box::new(move |s| s.state.fr[n] = 0));
        }
        if s.state.ar[n] != 0 {
            all.push(Box::new(move |s| s.state.ar[n] = 0));
        }
    }
    if s.state.fpc != 0 {
        all.push(Box::new(|s| s.state.fpc = 0));
    }
    if s.state.pm != 0 {
        all.push(Box::new(|s| s.state.pm = 0));
    }
    for n in 0..s.patches.len() {
        all.push(Box::new(move |s| s.patches[n].bytes.clear()));
    }
    all
}

/// The last item alone, from the state in which it began.
fn alone(c: &Cut) -> Option<Sequence> {
    let before = c.before.as_ref()?;
    if before.signal != 0 || before.changed as usize > before.bytes.len() {
        return None;
    }
    let mut s = c.sequence.clone();
    s.items.drain(..s.items.len() - 1);
    s.state = before.state;
    s.patches.extend(before.bytes.iter().map(|&(at, b)| Patch { at, bytes: vec![b] }));
    Some(s)
}

/// Those of `all` that still differ, with what came of them.
fn differing(c: &Campaign, bench: &Bench, all: Vec<Sequence>) -> anyhow::Result<Vec<Option<Cut>>> {
    let [a, b] = bench.both(c.machines, &all)?;
    let cuts = all.into_iter().zip(a.into_iter().zip(b)).map(|(sequence, (a, b))| {
        let cut = Cut { sequence, before: None, outcomes: [a, b] };
        matches!(c.look(&cut), Shown::Differs(_)).then_some(cut)
    });
    Ok(cuts.collect())
}

/// Shrinks a difference and tells it.
pub fn story(c: &Campaign, bench: &Bench, cut: Cut, index: u64) -> anyhow::Result<String> {
    let mut best = cut;
    if let Some(s) = alone(&best)
        && let Some(Some(cut)) = differing(c, bench, vec![s])?.pop()
    {
        best = cut;
    }
    for _ in 0..ROUNDS {
        let s = best.sequence.clone();
        let candidates = changes(&s);
        let tried = candidates.iter().map(|f| {
            let mut s = s.clone();
            f(&mut s);
            s
        });
        let kept = differing(c, bench, tried.collect())?;
        let (good, cuts): (Vec<_>, Vec<_>) =
            candidates.iter().zip(kept).filter_map(|(f, k)| Some((f, k?))).unzip();
        let Some(first) = cuts.into_iter().next() else { break };
        // All that helped alone, together, from the back so that numbers stay right; else the first.
        let mut together = s;
        good.iter().rev().for_each(|f| f(&mut together));
        best = differing(c, bench, vec![together])?.pop().flatten().unwrap_or(first);
    }
    best.sequence.patches.retain(|p| !p.bytes.is_empty());
    Ok(tell(c, &best, index))
}

fn state(s: &State) -> String {
    let mut out = String::new();
    for n in 0..16 {
        if s.gr[n] != 0 {
            let _ = write!(out, " r{n}={:x}", s.gr[n]);
        }
    }
    for n in 0..16 {
        if s.fr[n] != 0 {
            let _ = write!(out, " f{n}={:x}", s.fr[n]);
        }
    }
    for n in 0..16 {
        if s.ar[n] != 0 {
            let _ = write!(out, " a{n}={:x}", s.ar[n]);
        }
    }
    let _ = write!(out, " fpc={:x} cc={} pm={:x}", s.fpc, s.pm >> 4, s.pm & 15);
    out
}

fn value(r: &Record, field: &str) -> String {
    let number = |stem: &str| field.strip_prefix(stem).and_then(|n| n.parse::<usize>().ok());
    let s = &r.state;
    if let Some(n) = number("gr") {
        return format!("{:016x}", s.gr[n & 15]);
    }
    if let Some(n) = number("fr") {
        return format!("{:016x}", s.fr[n & 15]);
    }
    if let Some(n) = number("ar") {
        return format!("{:08x}", s.ar[n & 15]);
    }
    match field {
        "signal" => r.signal.to_string(),
        "code" => r.code.to_string(),
        "address" => format!("{:x}", r.address),
        "psw" => format!("{:x}", r.psw),
        "fpc" => format!("{:08x}", s.fpc),
        "cc" => (s.pm >> 4).to_string(),
        "mask" => format!("{:x}", s.pm & 15),
        _ => {
            let shown = r.bytes.iter().map(|(at, b)| format!("{at:x}:{b:02x}")).collect::<Vec<_>>().join(" ");
            format!("{} bytes changed: {shown}", r.changed)
        }
    }
}

fn tell(c: &Campaign, cut: &Cut, index: u64) -> String {
    let s = &cut.sequence;
    let name = s.items.last().map_or("", |i| i.row.name);
    let against = if c.machines[0] == super::run::Machine::Qemu { "qemu" } else { "engines" };
    let mut out = format!(
        "{name}: sequence {index} of seed {}\n  again: cargo xtask fuzz-isa --against {against} --seed {} --first {index} \
         --sequences 1\n{}  before:{}\n",
        c.seed,
        c.seed,
        s.listing(),
        state(&s.state)
    );
    for p in &s.patches {
        let hex: String = p.bytes.iter().map(|b| format!("{b:02x}")).collect();
        let _ = writeln!(out, "  before: data area + {:x}: {hex}", p.at);
    }
    let outcomes: [&Outcome; 2] = [&cut.outcomes[0], &cut.outcomes[1]];
    if let [Ok(a), Ok(b)] = outcomes {
        if let Shown::Differs(fields) = c.look(cut) {
            for f in fields {
                let _ = writeln!(out, "  {f}: {} gives {}", c.machines[0], value(a, &f));
                let _ = writeln!(out, "  {f}: {} gives {}", c.machines[1], value(b, &f));
            }
        }
        let _ = writeln!(out, "  signals {} and {}, PSW {:x} and {:x}", a.signal, b.signal, a.psw, b.psw);
    } else {
        for o in outcomes.into_iter().filter_map(|o| o.as_ref().err()) {
            let _ = writeln!(out, "  {o}");
        }
    }
    out
}

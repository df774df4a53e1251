//! Whether a scenario makes sense.

use super::*;

/// A part of a scenario.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Location {
    /// The header lines.
    Header,
    /// A step of an mm's set-up.
    Setup {
        /// Index of the mm.
        mm: usize,
        /// Index of the step.
        step: usize,
    },
    /// The head of a CPU's program.
    Program(usize),
    /// An operation.
    Op {
        /// Index of the program.
        program: usize,
        /// Index of the operation.
        op: usize,
    },
    /// A walker, by index.
    Walker(usize),
    /// A failure, by index.
    Failure(usize),
}

/// What makes no sense.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("found {found}; wanted {wanted}")]
pub struct Problem {
    /// Where.
    pub at: Location,
    /// What is there.
    pub found: String,
    /// What should be.
    pub wanted: String,
}

type Check = Result<(), Problem>;

fn problem(at: Location, found: impl Into<String>, wanted: impl Into<String>) -> Check {
    Err(Problem { at, found: found.into(), wanted: wanted.into() })
}

pub(super) fn check(s: &Scenario) -> Check {
    header(s)?;
    for (m, mm) in s.mms.iter().enumerate() {
        for (i, step) in mm.setup.iter().enumerate() {
            let at = Location::Setup { mm: m, step: i };
            let (a, b) = step.segments;
            if a >= b {
                return problem(
                    at,
                    format!("the empty range seg{a}..{b}"),
                    "segments FIRST..END with END above FIRST",
                );
            }
            place(s, at, &Place { segment: b - 1, pages: step.pages })?;
            if matches!(step.kind, SetupKind::Unmap | SetupKind::Huge) && step.pages.is_some() {
                return problem(at, "pages of a segment", "whole segments for `unmap` and `huge`");
            }
            if step.kind == SetupKind::Huge {
                deposits(s, at, "huge")?;
            }
        }
    }
    for (p, program) in s.programs.iter().enumerate() {
        check_program(s, p, program)?;
    }
    for (i, w) in s.walkers.iter().enumerate() {
        let at = Location::Walker(i);
        cpu(s, at, w.cpu)?;
        place(s, at, &w.place)?;
        if w.place.pages.is_none() || !(1..=1000).contains(&w.times) {
            return problem(
                at,
                "a walker without pages or a number of walks",
                "SEG:PAGES and 1 to 1000 times",
            );
        }
    }
    for (i, x) in s.failures.iter().enumerate() {
        let (Which::Nth(n) | Which::Every(n)) = x.which;
        if n == 0 {
            return problem(Location::Failure(i), "0", "a number from 1");
        }
    }
    Ok(())
}

fn header(s: &Scenario) -> Check {
    let at = Location::Header;
    if s.title.trim().is_empty() || s.title.contains(['\n', '#']) {
        return problem(at, format!("title {:?}", s.title), "a title of one line without #");
    }
    if s.geometries.is_empty() {
        return problem(at, "no geometry", "a `geometry` line");
    }
    if !(1..=MAX_CPUS).contains(&s.cpus) {
        return problem(at, format!("{} CPUs", s.cpus), format!("`cpus` 1 to {MAX_CPUS}"));
    }
    if let Some(r) = s.forbid.iter().find(|r| !(1..=MAX_RULE).contains(*r)) {
        return problem(at, format!("invariant {r}"), format!("`forbid` any, or numbers 1 to {MAX_RULE}"));
    }
    if s.machine.refill_hidden
        && let Some(g) = s.geometries.iter().find(|&&g| g != Geometry::Sparc64)
    {
        let wanted = format!("`refill hidden` for sparc64 alone: {} has no refill at trap level", g.word());
        return problem(at, "a hidden refill", wanted);
    }
    if s.mms.is_empty() {
        return problem(at, "no mm", "at least one `mm NAME` block");
    }
    Ok(())
}

/// For what makes huge pages.
fn deposits(s: &Scenario, at: Location, word: &str) -> Check {
    match s.geometries.iter().find(|g| !g.shape().deposits) {
        Some(g) => {
            let wanted = format!("a geometry whose huge pages are modelled: those of {} are not", g.word());
            problem(at, word, wanted)
        }
        None => Ok(()),
    }
}

fn cpu(s: &Scenario, at: Location, cpu: u32) -> Check {
    if cpu < s.cpus {
        return Ok(());
    }
    problem(at, format!("cpu {cpu}"), format!("a CPU below {}, as `cpus` says", s.cpus))
}

fn place(s: &Scenario, at: Location, p: &Place) -> Check {
    for g in &s.geometries {
        let shape = g.shape();
        if p.segment >= shape.segments {
            let wanted = format!("a segment below {} for {}", shape.segments, g.word());
            return problem(at, format!("seg{}", p.segment), wanted);
        }
        if let Some((a, b)) = p.pages
            && (a >= b || b > shape.pages)
        {
            let wanted = format!("pages of 0..{} for {}, not none", shape.pages, g.word());
            return problem(at, format!("pages {a}..{b}"), wanted);
        }
    }
    Ok(())
}

fn check_program(s: &Scenario, p: usize, program: &Program) -> Check {
    let head = Location::Program(p);
    cpu(s, head, program.cpu)?;
    if s.programs[..p].iter().any(|q| q.cpu == program.cpu) {
        return problem(head, format!("a second block for cpu {}", program.cpu), "one block for each CPU");
    }
    let name = |m: usize| s.mms.get(m).map(|m| m.name.as_str());
    let Some(mut loaded) = name(program.loaded) else {
        return problem(head, format!("mm {}", program.loaded), "an mm of the scenario");
    };
    let mut exited = Vec::new();
    let mut got = Vec::new();
    for (i, op) in program.ops.iter().enumerate() {
        let at = Location::Op { program: p, op: i };
        let mm = match op.mm.map(name) {
            Some(None) => return problem(at, format!("mm {:?}", op.mm), "an mm of the scenario"),
            Some(Some(n)) => n,
            None if op.verb.on_mm() => return problem(at, op.verb.word(), "an mm for it"),
            None => "",
        };
        if exited.contains(&mm) {
            return problem(
                at,
                format!("{} on {mm} after its exit", op.verb.word()),
                "nothing on it any more",
            );
        }
        if op.verb.needs_loaded() && mm != loaded {
            let wanted = format!("`switch {mm}` before it: cpu {} has {loaded} loaded", program.cpu);
            return problem(at, format!("{mm} {}", op.verb.word()), wanted);
        }
        match op.verb {
            Verb::Exit => exited.push(mm),
            Verb::Switch => loaded = mm,
            Verb::GetPage => got.push((mm, op.place.as_ref())),
            Verb::PutPage => match got.iter().position(|g| *g == (mm, op.place.as_ref())) {
                Some(g) => drop(got.remove(g)),
                None => {
                    return problem(at, "put-page", "a get-page of the same segment on this CPU before it");
                }
            },
            _ => {}
        }
        if let Some(x) = &op.place {
            place(s, at, x)?;
        }
        if op.verb.maps_huge() {
            deposits(s, at, op.verb.word())?;
        }
        let small = s.geometries.iter().find(|g| !g.shape().huge);
        if let Some(g) = small.filter(|_| op.verb.needs_huge()) {
            let wanted = format!("a geometry with huge pages: {} has none", g.word());
            return problem(at, op.verb.word(), wanted);
        }
        if matches!(op.verb, Verb::Retract | Verb::RetractIpi) && anon(s, op) {
            return problem(
                at,
                format!("{} of anonymous memory", op.verb.word()),
                "a segment that maps a file",
            );
        }
    }
    Ok(())
}

/// Whether the set-up makes the operation's segment anonymous: only tables of files are retracted.
fn anon(s: &Scenario, op: &Op) -> bool {
    let (Some(mm), Some(place)) = (op.mm.and_then(|m| s.mms.get(m)), &op.place) else { return false };
    let here = |x: &&Setup| (x.segments.0..x.segments.1).contains(&place.segment);
    mm.setup.iter().rev().find(here).is_some_and(|x| x.kind == SetupKind::MapAnon)
}

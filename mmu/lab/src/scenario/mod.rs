//! Scenarios: who does what, in no order, under no particular scheme.
//!
//! The text form is line-oriented; `#` begins a comment. Header lines come first, then blocks:
//!
//! ```text
//! title    One rcu_head, two tables
//! ref      F-01
//! geometry s390x-2k ppc64-radix-64k   # each it makes sense for
//! cpus     2
//! memory   tso                        # stores wait in buffers; sc, which is the default: they do not
//! forbid   4 10                       # invariants it is about: reference section D and the project's own; or: any
//! machine  refill visible             # what the machine is like, where it may be otherwise
//!
//! mm A                                # done before the run, in this order
//!   map   seg0:0..2                   # maps a file and touches pages 0 and 1 of segment 0
//!   map   seg1..4:0 anon              # the same page of segments 1 to 3, anonymous memory
//!   unmap seg3
//!
//! cpu 0                               # has the first mm loaded; `cpu 0 B` another
//!   A retract seg0                    # in this order on this CPU
//! cpu 1
//!   A retract seg1
//!   A read seg0:0
//!
//! walker hardware cpu 1 seg0:0        # the CPU's speculative walker may walk there at any time
//! fail   nowait nth 1                 # the first allocation without waiting fails
//! ```
//!
//! After the last operation the run waits for all callbacks, ends every process that is left and waits again, so that
//! what leaked can be told. [`op::table`] lists the operations.

mod check;
pub mod geometry;
pub mod op;
mod parse;
#[cfg(test)]
mod tests;

pub use check::{Location, Problem};
pub use geometry::{Geometry, Shape};
pub use op::{Op, Operand, Place, Verb};
pub use parse::ScenarioError;

use racewalk_mm::sanitizer::INVARIANTS;
use std::fmt;

/// Numbers from the first up to the second, which is not included.
pub type Span = (u32, u32);

/// The most CPUs a scenario may have.
pub const MAX_CPUS: u32 = 64;
/// The highest invariant: those of reference section D, and the project's own behind them.
pub const MAX_RULE: u8 = INVARIANTS[INVARIANTS.len() - 1].0;

/// A scenario.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Scenario {
    /// Its name: the file's, without `.race`. Not part of the text.
    pub name: String,
    /// One line that says what it is about.
    pub title: String,
    /// Interleavings and catalogue entries of the reference, such as `F-01` or `PTL-life`.
    pub refs: Vec<String>,
    /// The geometries it is for, at least one.
    pub geometries: Vec<Geometry>,
    /// How many CPUs there are.
    pub cpus: u32,
    /// In what order stores of one CPU are seen by others.
    pub memory: Memory,
    /// Invariants of reference section D that it is about; any, if empty. Others are checked all the same.
    pub forbid: Vec<u8>,
    /// What the machine is like.
    pub machine: Options,
    /// The address spaces.
    pub mms: Vec<Mm>,
    /// What CPUs do; each CPU at most once.
    pub programs: Vec<Program>,
    /// Hardware walkers that run besides.
    pub walkers: Vec<Walker>,
    /// Allocations that fail.
    pub failures: Vec<Failure>,
}

/// A memory model.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Memory {
    /// Sequentially consistent.
    #[default]
    Sc,
    /// Total store order: the kernel's stores wait in buffers, which [`racewalk_sched::tso`] describes.
    Tso,
}

impl Memory {
    /// Both.
    pub const ALL: [Memory; 2] = [Memory::Sc, Memory::Tso];
    /// The word in a scenario.
    pub fn word(self) -> &'static str {
        match self {
            Memory::Sc => "sc",
            Memory::Tso => "tso",
        }
    }
}

/// What a machine may be like: the defaults, but for what the scenario says.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Options {
    /// `refill hidden`: neither cross calls nor RCU wait for the miss handler of sparc64, which runs at trap level. By default
    /// (`refill visible`) they do.
    pub refill_hidden: bool,
    /// `pmd-locks space`: PMD tables have the lock of their space, and tables are deposited with it; by default (`pmd-locks
    /// split`) both are in the record of the page that the PMD table is in.
    pub pmd_locks_space: bool,
}

impl Options {
    /// What is not as by default, as it is written.
    fn words(&self) -> Vec<&'static str> {
        let said = [(self.refill_hidden, "refill hidden"), (self.pmd_locks_space, "pmd-locks space")];
        said.into_iter().filter(|s| s.0).map(|s| s.1).collect()
    }
}

/// An address space and what is done to it before the run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Mm {
    /// Its name, which begins with a capital letter.
    pub name: String,
    /// Done in this order, to the end of all callbacks.
    pub setup: Vec<Setup>,
}

/// A step of an mm's set-up.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Setup {
    /// What is done.
    pub kind: SetupKind,
    /// Segments; the end is not included.
    pub segments: Span,
    /// Pages of each of them; the end is not included. All pages if there are none here.
    pub pages: Option<Span>,
}

/// What a [`Setup`] does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SetupKind {
    /// Maps a file, one file for each segment, and touches the pages; none if no pages are given.
    MapFile,
    /// The same with anonymous memory.
    MapAnon,
    /// Makes anonymous segments huge pages.
    Huge,
    /// Unmaps.
    Unmap,
}

/// The operations of one CPU.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Program {
    /// Which CPU.
    pub cpu: u32,
    /// The mm it has loaded at the start, an index in [`Scenario::mms`].
    pub loaded: usize,
    /// In program order.
    pub ops: Vec<Op>,
}

/// A hardware walker that walks without being asked (W1 of reference A.8).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Walker {
    /// Whose context and TLB it uses.
    pub cpu: u32,
    /// Where it walks.
    pub place: Place,
    /// How often each page.
    pub times: u32,
}

/// Which allocations a [`Failure`] is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AllocKind {
    /// Without waiting: the pages of mmu_gather batches.
    Nowait,
    /// In atomic context, with reserves.
    Atomic,
    /// Ordinary kernel allocations, page tables among them.
    Kernel,
}

impl AllocKind {
    /// All of them.
    pub const ALL: [AllocKind; 3] = [AllocKind::Nowait, AllocKind::Atomic, AllocKind::Kernel];
    /// The word in a scenario.
    pub fn word(self) -> &'static str {
        match self {
            AllocKind::Nowait => "nowait",
            AllocKind::Atomic => "atomic",
            AllocKind::Kernel => "kernel",
        }
    }
}

/// Which of them fail.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Which {
    /// The n-th, counted from 1.
    Nth(u32),
    /// Each n-th; all, for 1.
    Every(u32),
}

/// Allocations that fail during the run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Failure {
    /// Of this kind.
    pub kind: AllocKind,
    /// Which.
    pub which: Which,
}

impl Scenario {
    /// Reads a scenario that is called `name`; [`ScenarioError`] says what is wrong and where.
    pub fn parse(name: &str, text: &str) -> Result<Scenario, ScenarioError> {
        parse::parse(name, text)
    }

    /// Whether what it says makes sense; the parser has asked this already.
    pub fn check(&self) -> Result<(), Problem> {
        check::check(self)
    }

    /// Invariants that it is about and nothing checks.
    pub fn unchecked(&self) -> Vec<u8> {
        let checked = |r: &u8| INVARIANTS.iter().any(|i| i.0 == *r);
        self.forbid.iter().copied().filter(|r| !checked(r)).collect()
    }

    /// Operations on segments of an mm that nothing maps there, neither before the run nor in it: they do nothing.
    pub fn idle_ops(&self) -> Vec<String> {
        let all = || self.programs.iter().flat_map(|p| &p.ops);
        let maps = |op: &Op, mm: usize, segment: u32| {
            op.verb == Verb::Map
                && op.mm == Some(mm)
                && op.place.as_ref().is_some_and(|p| p.segment == segment)
        };
        let mapped = |mm: usize, segment: u32| {
            let before = self.mms.get(mm).into_iter().flat_map(|m| &m.setup);
            let mut before = before.filter(|s| matches!(s.kind, SetupKind::MapFile | SetupKind::MapAnon));
            before.any(|s| (s.segments.0..s.segments.1).contains(&segment))
                || all().any(|op| maps(op, mm, segment))
        };
        let idle = all().filter(|op| match (op.mm, &op.place) {
            (Some(mm), Some(place)) => !mapped(mm, place.segment),
            _ => false,
        });
        idle.map(|op| self.op_text(op)).collect()
    }

    /// Operations in all programs.
    pub fn ops(&self) -> usize {
        self.programs.iter().map(|p| p.ops.len()).sum()
    }

    /// What a shrinker may leave out: operations, walkers and failures.
    pub fn removable(&self) -> Vec<Location> {
        let ops = self.programs.iter().enumerate();
        let mut all: Vec<_> =
            ops.flat_map(|(p, x)| (0..x.ops.len()).map(move |op| Location::Op { program: p, op })).collect();
        all.extend((0..self.walkers.len()).map(Location::Walker));
        all.extend((0..self.failures.len()).map(Location::Failure));
        all
    }

    /// The scenario without one of those; `None` if there is no such thing or the rest makes no sense.
    pub fn without(&self, what: Location) -> Option<Scenario> {
        let mut s = self.clone();
        match what {
            Location::Op { program, op } => {
                let ops = &mut s.programs.get_mut(program)?.ops;
                (op < ops.len()).then(|| ops.remove(op))?;
            }
            Location::Walker(w) => {
                (w < s.walkers.len()).then(|| s.walkers.remove(w))?;
            }
            Location::Failure(x) => {
                (x < s.failures.len()).then(|| s.failures.remove(x))?;
            }
            _ => return None,
        }
        s.check().is_ok().then_some(s)
    }

    /// An operation as it is written.
    pub fn op_text(&self, op: &Op) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = op.write(&mut text, &self.mms);
        text
    }
}

/// The canonical text: what [`Scenario::parse`] reads back as the same scenario.
impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "title    {}", self.title)?;
        if !self.refs.is_empty() {
            writeln!(f, "ref      {}", self.refs.join(" "))?;
        }
        let words: Vec<_> = self.geometries.iter().map(|g| g.word()).collect();
        writeln!(f, "geometry {}", words.join(" "))?;
        writeln!(f, "cpus     {}", self.cpus)?;
        if self.memory != Memory::default() {
            writeln!(f, "memory   {}", self.memory.word())?;
        }
        let rules: Vec<_> = self.forbid.iter().map(u8::to_string).collect();
        writeln!(f, "forbid   {}", if rules.is_empty() { "any".into() } else { rules.join(" ") })?;
        if self.machine != Options::default() {
            writeln!(f, "machine  {}", self.machine.words().join(" "))?;
        }
        for mm in &self.mms {
            writeln!(f, "\nmm {}", mm.name)?;
            for s in &mm.setup {
                let verb = match s.kind {
                    SetupKind::Unmap => "unmap",
                    SetupKind::Huge => "huge",
                    SetupKind::MapFile | SetupKind::MapAnon => "map",
                };
                write!(f, "  {verb} seg{}", op::span(s.segments))?;
                if let Some(p) = s.pages {
                    write!(f, ":{}", op::span(p))?;
                }
                f.write_str(if s.kind == SetupKind::MapAnon { " anon\n" } else { "\n" })?;
            }
        }
        for p in &self.programs {
            write!(f, "\ncpu {}", p.cpu)?;
            if p.loaded != 0 {
                write!(f, " {}", self.mms.get(p.loaded).map_or("", |m| &m.name))?;
            }
            f.write_str("\n")?;
            for op in &p.ops {
                f.write_str("  ")?;
                op.write(f, &self.mms)?;
                f.write_str("\n")?;
            }
        }
        if !self.walkers.is_empty() || !self.failures.is_empty() {
            f.write_str("\n")?;
        }
        for w in &self.walkers {
            write!(f, "walker hardware cpu {} {}", w.cpu, w.place)?;
            f.write_str(&if w.times == 1 { "\n".into() } else { format!(" times {}\n", w.times) })?;
        }
        for x in &self.failures {
            let (word, n) = match x.which {
                Which::Nth(n) => ("nth", n),
                Which::Every(n) => ("every", n),
            };
            writeln!(f, "fail {} {word} {n}", x.kind.word())?;
        }
        Ok(())
    }
}

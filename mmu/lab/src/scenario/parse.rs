//! The text form.

use super::*;
use crate::nearest;
use std::collections::HashMap;

/// A scenario that cannot be read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ScenarioError {
    /// The scenario's name.
    pub name: String,
    /// Line, from 1; 0 if it is the whole that lacks something.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// What is there.
    pub found: String,
    /// What should be.
    pub wanted: String,
    /// The word that was probably meant.
    pub meant: Option<String>,
}

impl fmt::Display for ScenarioError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.race", self.name)?;
        if self.line != 0 {
            write!(f, ":{}:{}", self.line, self.column)?;
        }
        write!(f, ": found {}; wanted {}", self.found, self.wanted)?;
        self.meant.as_ref().map_or(Ok(()), |m| write!(f, "; did you mean {m:?}?"))
    }
}

impl std::error::Error for ScenarioError {}

type Result<T> = std::result::Result<T, ScenarioError>;

/// The words of one line, read from left to right.
struct Words<'a> {
    name: &'a str,
    line: usize,
    text: &'a str,
    at: usize,
}

impl<'a> Words<'a> {
    fn peek(&self) -> Option<&'a str> {
        self.text[self.at..].split_whitespace().next()
    }
    /// Where the next word begins, or the text ends, in bytes.
    fn start(&self) -> usize {
        let rest = &self.text[self.at..];
        self.at + rest.len() - rest.trim_start().len()
    }
    fn next(&mut self) -> Option<&'a str> {
        let word = self.peek()?;
        self.at = self.start() + word.len();
        Some(word)
    }
    fn error<'w>(&self, wanted: &str, near: impl IntoIterator<Item = &'w str>) -> ScenarioError {
        let found = self.peek();
        ScenarioError {
            name: self.name.into(),
            line: self.line,
            column: self.text[..self.start()].chars().count() + 1,
            found: found.map_or("the end of the line".into(), |w| format!("{w:?}")),
            wanted: wanted.into(),
            meant: found.and_then(|w| nearest(w, near)).map(str::to_owned),
        }
    }
    /// The next word as `read` makes it; an error at that word, which stays the next one, if it makes nothing of it.
    fn take<'w, T>(
        &mut self,
        wanted: &str,
        near: impl IntoIterator<Item = &'w str>,
        read: impl FnOnce(&'a str) -> Option<T>,
    ) -> Result<T> {
        match self.peek().and_then(read) {
            Some(v) => {
                self.next();
                Ok(v)
            }
            None => Err(self.error(wanted, near)),
        }
    }
    fn number(&mut self, wanted: &str) -> Result<u32> {
        self.take(wanted, [], |w| w.parse().ok())
    }
    fn end(&self) -> Result<()> {
        if self.peek().is_none() { Ok(()) } else { Err(self.error("the end of the line", [])) }
    }
}

/// `3` or `1..4`.
fn span(text: &str) -> Option<Span> {
    match text.split_once("..") {
        Some((a, b)) => Some((a.parse().ok()?, b.parse().ok()?)),
        None => {
            let a: u32 = text.parse().ok()?;
            Some((a, a.checked_add(1)?))
        }
    }
}

/// Segments, and pages if there is a colon.
fn segments(text: &str) -> Option<(Span, Option<Span>)> {
    let text = text.strip_prefix("seg")?;
    match text.split_once(':') {
        Some((s, p)) => Some((span(s)?, Some(span(p)?))),
        None => Some((span(text)?, None)),
    }
}

fn place(text: &str) -> Option<Place> {
    let ((segment, end), pages) = segments(text)?;
    (end == segment + 1 && !text.split(':').next()?.contains("..")).then_some(Place { segment, pages })
}

const HEADERS: [&str; 7] = ["title", "ref", "geometry", "cpus", "memory", "forbid", "machine"];
const BLOCKS: [&str; 4] = ["mm", "cpu", "walker", "fail"];

/// The block that indented lines belong to. Indentation is for the reader: the words decide.
enum Block {
    None,
    Mm,
    Cpu,
}

struct Parser<'a> {
    name: &'a str,
    s: Scenario,
    seen: Vec<&'static str>,
    block: Block,
    /// Where the parts that [`check`] may complain about stand.
    places: HashMap<Location, (usize, usize)>,
}

pub(super) fn parse(name: &str, text: &str) -> Result<Scenario> {
    let s = Scenario {
        name: name.into(),
        title: String::new(),
        refs: vec![],
        geometries: vec![],
        cpus: 0,
        memory: Memory::default(),
        forbid: vec![],
        machine: Options::default(),
        mms: vec![],
        programs: vec![],
        walkers: vec![],
        failures: vec![],
    };
    let mut p = Parser { name, s, seen: vec![], block: Block::None, places: HashMap::new() };
    for (i, line) in text.lines().enumerate() {
        let text = line.split('#').next().unwrap_or_default();
        let mut words = Words { name, line: i + 1, text, at: 0 };
        if words.peek().is_some() {
            p.line(&mut words)?;
            words.end()?;
        }
    }
    check::check(&p.s).map_err(|problem| {
        let (line, column) = p.places.get(&problem.at).copied().unwrap_or((0, 0));
        let Problem { found, wanted, .. } = problem;
        ScenarioError { name: name.into(), line, column, found, wanted, meant: None }
    })?;
    Ok(p.s)
}

impl<'a> Parser<'a> {
    fn here(&mut self, at: Location, w: &Words<'a>) {
        let first = w.text.len() - w.text.trim_start().len();
        self.places.insert(at, (w.line, w.text[..first].chars().count() + 1));
    }

    fn line(&mut self, w: &mut Words<'a>) -> Result<()> {
        let word = w.peek().unwrap_or_default();
        if let Some(&header) = HEADERS.iter().find(|h| **h == word) {
            if self.seen.contains(&header) {
                return Err(w.error(&format!("`{header}` only once"), []));
            }
            if !self.s.mms.is_empty() {
                return Err(w.error("header lines before the first `mm` block", []));
            }
            self.seen.push(header);
            w.next();
            return self.header(header, w);
        }
        if BLOCKS.contains(&word) {
            w.next();
            return self.block(word, w);
        }
        match self.block {
            Block::Mm => self.setup(w),
            Block::Cpu => self.op(w),
            Block::None => {
                let wanted = "`title`, `ref`, `geometry`, `cpus`, `forbid`, `machine`, `mm`, `cpu`, `walker` or `fail`";
                Err(w.error(wanted, HEADERS.into_iter().chain(BLOCKS)))
            }
        }
    }

    fn header(&mut self, header: &str, w: &mut Words<'a>) -> Result<()> {
        match header {
            "title" => {
                let title = w.text[w.at..].split_whitespace().collect::<Vec<_>>().join(" ");
                if title.is_empty() {
                    return Err(w.error("a title", []));
                }
                self.s.title = title;
                w.at = w.text.len();
            }
            "ref" => {
                while let Some(r) = w.next() {
                    self.s.refs.push(r.into());
                }
                if self.s.refs.is_empty() {
                    return Err(w.error("a reference such as F-01", []));
                }
            }
            "geometry" => {
                let all = Geometry::ALL.map(Geometry::word);
                let wanted = format!("a geometry: {}", all.join(", "));
                while w.peek().is_some() || self.s.geometries.is_empty() {
                    let known = &self.s.geometries;
                    let new = |t: &str| Geometry::from_word(t).filter(|g| !known.contains(g));
                    let g = w.take(&format!("{wanted}; each once"), all, new)?;
                    self.s.geometries.push(g);
                }
            }
            "memory" => {
                let words = Memory::ALL.map(Memory::word);
                let of = |t: &str| Memory::ALL.into_iter().find(|m| m.word() == t);
                self.s.memory = w.take("`sc` or `tso`", words, of)?;
            }
            "machine" => loop {
                let keys = ["refill", "pmd-locks"];
                let key = w.take("`refill` or `pmd-locks`", keys, |t| keys.into_iter().find(|k| *k == t))?;
                let (other, values) = match key {
                    "refill" => (&mut self.s.machine.refill_hidden, ["visible", "hidden"]),
                    _ => (&mut self.s.machine.pmd_locks_space, ["split", "space"]),
                };
                let wanted = format!("`{}` or `{}`", values[0], values[1]);
                *other = w.take(&wanted, values, |t| values.iter().position(|v| *v == t))? == 1;
                if w.peek().is_none() {
                    break;
                }
            },
            "cpus" => self.s.cpus = w.take("a number of CPUs from 1 to 64", [], |t| t.parse().ok())?,
            _ => {
                if w.peek() == Some("any") {
                    w.next();
                    return Ok(());
                }
                let wanted = format!("`any` or numbers of invariants from 1 to {MAX_RULE}, each once");
                while w.peek().is_some() || self.s.forbid.is_empty() {
                    let known = &self.s.forbid;
                    let new = |t: &str| t.parse().ok().filter(|r| !known.contains(r));
                    let rule = w.take(&wanted, ["any"], new)?;
                    self.s.forbid.push(rule);
                }
            }
        }
        Ok(())
    }

    fn block(&mut self, word: &str, w: &mut Words<'a>) -> Result<()> {
        match word {
            "mm" => {
                let known = &self.s.mms;
                let new = |t: &'a str| {
                    let name = t.starts_with(|c: char| c.is_ascii_uppercase())
                        && t.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
                    (name && known.iter().all(|m| m.name != t)).then_some(t)
                };
                let name =
                    w.take("a new name for the mm: a capital letter, then letters and digits", [], new)?;
                self.s.mms.push(Mm { name: name.into(), setup: vec![] });
                self.block = Block::Mm;
            }
            "cpu" => {
                let cpu = w.number("the number of a CPU")?;
                let loaded = if w.peek().is_some() { self.mm(w)? } else { 0 };
                self.here(Location::Program(self.s.programs.len()), w);
                self.s.programs.push(Program { cpu, loaded, ops: vec![] });
                self.block = Block::Cpu;
            }
            "walker" => {
                w.take("`hardware`", ["hardware"], |t| (t == "hardware").then_some(()))?;
                w.take("`cpu`", ["cpu"], |t| (t == "cpu").then_some(()))?;
                let cpu = w.number("the number of a CPU")?;
                let place = self.place(w, Operand::Pages)?;
                let times = match w.peek() {
                    Some("times") => {
                        w.next();
                        w.number("how often")?
                    }
                    Some(_) => return Err(w.error("`times` or the end of the line", ["times"])),
                    None => 1,
                };
                self.here(Location::Walker(self.s.walkers.len()), w);
                self.s.walkers.push(Walker { cpu, place, times });
                self.block = Block::None;
            }
            _ => {
                let words = AllocKind::ALL.map(AllocKind::word);
                let by_word = |t: &str| AllocKind::ALL.into_iter().find(|k| k.word() == t);
                let kind = w.take(&format!("one of {}", words.join(", ")), words, by_word)?;
                let which = w.take("`nth` or `every`", ["nth", "every"], |t| match t {
                    "nth" => Some(Which::Nth as fn(u32) -> Which),
                    "every" => Some(Which::Every),
                    _ => None,
                })?;
                let which = which(w.number("a number from 1")?);
                self.here(Location::Failure(self.s.failures.len()), w);
                self.s.failures.push(Failure { kind, which });
                self.block = Block::None;
            }
        }
        Ok(())
    }

    fn mm(&self, w: &mut Words<'a>) -> Result<usize> {
        let names: Vec<_> = self.s.mms.iter().map(|m| m.name.as_str()).collect();
        let wanted = match names.as_slice() {
            [] => "an `mm NAME` block before it".into(),
            names => format!("a known mm: {}", names.join(", ")),
        };
        w.take(&wanted, names.iter().copied(), |t| names.iter().position(|n| *n == t))
    }

    fn place(&self, w: &mut Words<'a>, operand: Operand) -> Result<Place> {
        let (wanted, pages): (_, fn(&Place) -> bool) = match operand {
            Operand::Segment => ("a segment such as seg0", |p| p.pages.is_none()),
            Operand::SegmentOrPages => ("a segment or pages of it, such as seg0 or seg0:1..4", |_| true),
            _ => ("pages of a segment, such as seg0:3 or seg0:1..4", |p| p.pages.is_some()),
        };
        w.take(wanted, [], |t| place(t).filter(pages))
    }

    fn setup(&mut self, w: &mut Words<'a>) -> Result<()> {
        let words = ["map", "unmap", "huge", "cpu"];
        let what = w.take("`map`, `unmap` or `huge`, or the next block", words, |t| match t {
            "map" => Some(SetupKind::MapFile),
            "unmap" => Some(SetupKind::Unmap),
            "huge" => Some(SetupKind::Huge),
            _ => None,
        })?;
        let map = what == SetupKind::MapFile;
        let (range, pages) = w.take("segments such as seg0:0..2 or seg0..4:0", [], segments)?;
        let kind = match w.peek() {
            Some("anon") if map => SetupKind::MapAnon,
            Some("file") | None if map => SetupKind::MapFile,
            None => what,
            _ if map => return Err(w.error("`file`, `anon` or the end of the line", ["file", "anon"])),
            _ => return Err(w.error("the end of the line", [])),
        };
        w.next();
        if let Some(mm) = self.s.mms.len().checked_sub(1) {
            self.here(Location::Setup { mm, step: self.s.mms[mm].setup.len() }, w);
            self.s.mms[mm].setup.push(Setup { kind, segments: range, pages });
        }
        Ok(())
    }

    fn op(&mut self, w: &mut Words<'a>) -> Result<()> {
        let words = || Verb::ALL.iter().map(|v| v.word());
        let first = w.peek().unwrap_or_default();
        let subject =
            if first.starts_with(|c: char| c.is_ascii_uppercase()) { Some(self.mm(w)?) } else { None };
        let list = |on: bool| {
            let of = Verb::ALL.iter().filter(|v| v.on_mm() == on).map(|v| v.word());
            of.collect::<Vec<_>>().join(", ")
        };
        let verb = match w.peek().and_then(Verb::from_word) {
            Some(v) if v.on_mm() && subject.is_none() => {
                return Err(w.error(&format!("the mm before it, as in `A {}`", v.word()), []));
            }
            Some(v) if !v.on_mm() && subject.is_some() => {
                return Err(w.error(&format!("`{}` without an mm before it", v.word()), []));
            }
            Some(v) => v,
            None if subject.is_some() => {
                return Err(w.error(&format!("an operation: {}", list(true)), words()));
            }
            None => {
                let wanted = format!("MM and an operation, or one of {}, or the next block", list(false));
                return Err(w.error(&wanted, words().chain(BLOCKS)));
            }
        };
        w.next();
        let mut op = Op { verb, mm: subject, place: None, store: false };
        match verb.operand() {
            Operand::None => {}
            Operand::Mm => op.mm = Some(self.mm(w)?),
            operand => op.place = Some(self.place(w, operand)?),
        }
        if verb.operand() == Operand::Access && w.peek().is_some() {
            op.store = w.take("`load`, `store` or the end of the line", ["load", "store"], |t| match t {
                "load" => Some(false),
                "store" => Some(true),
                _ => None,
            })?;
        }
        let Some(program) = self.s.programs.len().checked_sub(1) else {
            return Err(ScenarioError { name: self.name.into(), ..w.error("a `cpu N` block before it", []) });
        };
        self.here(Location::Op { program, op: self.s.programs[program].ops.len() }, w);
        self.s.programs[program].ops.push(op);
        Ok(())
    }
}

//! Walks as text: `.walk` files, and the names of registers and bits.
//!
//! A file names a format, then sets registers and memory and makes accesses, in order. What each access must give is
//! written below it, after `>`:
//!
//! ```text
//! # A hole in the segment table.
//! format s390x
//! set cr1 0x10000
//! mem 0x10000 0x20
//! load 0x1234
//! > walk_start 0x1234 load root 0x10000
//! > walk_step level 1 segment [0x10000] = 0x0000000000000020
//! > walk_fault 0x1234 segment-translation (0x10)
//! > pic 0x10
//! > teid 0x1800
//! ```
//!
//! `mem ADDRESS VALUE…` sets consecutive doublewords as big-endian memory has them; what no line names is not
//! configured memory. Accesses are `load`, `store` and `fetch`. After the events come the machine's own registers, as the
//! format names them. Numbers are hexadecimal with `0x`, else decimal.

use crate::event::WalkEvent;
use crate::{Access, EntryStop, TableMemory};
use racewalk_ram::{Paddr, Vaddr};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;

/// A register that a `.walk` file can set, or that a fault reports.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Register {
    /// Its name in the file.
    pub name: &'static str,
    /// What it holds, with the source.
    pub about: &'static str,
}

/// Some bits of an entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Field {
    /// The manual's name.
    pub name: &'static str,
    /// Which bits.
    pub mask: u64,
    /// They are an address, shown where it stands in its word or doubleword.
    pub address: bool,
    /// What they say.
    pub about: &'static str,
}

impl Field {
    /// A flag or a number.
    pub const fn new(name: &'static str, mask: u64, about: &'static str) -> Field {
        Field { name, mask, address: false, about }
    }
    /// An address.
    pub const fn address(name: &'static str, mask: u64, about: &'static str) -> Field {
        Field { name, mask, address: true, about }
    }
}

/// A kind of entry.
#[derive(Clone, Copy, Debug)]
pub struct Table {
    /// Its name in events.
    pub name: &'static str,
    /// What it is, with the source.
    pub about: &'static str,
    /// It is the content of a register: no walk fetches it.
    pub register: bool,
    /// The fields, which may depend on the entry.
    pub fields: fn(u64) -> &'static [Field],
}

impl Table {
    /// The fields of `entry` in words, most significant first, a line each: those that are not zero, and every field of
    /// more than one bit. Bits that no field covers come last.
    pub fn explain(&self, entry: u64) -> Vec<String> {
        let mut lines = Vec::new();
        let mut rest = entry;
        for f in (self.fields)(entry) {
            rest &= !f.mask;
            let value = entry & f.mask;
            if f.mask.count_ones() == 1 {
                if value != 0 {
                    lines.push(format!("{:<6} {}", f.name, f.about));
                }
            } else if f.address {
                let value = if f.mask.trailing_zeros() >= 32 { value >> 32 } else { value };
                lines.push(format!("{:<6} {value:#x}: {}", f.name, f.about));
            } else {
                lines.push(format!("{:<6} {:#x}: {}", f.name, value >> f.mask.trailing_zeros(), f.about));
            }
        }
        if rest != 0 {
            lines.push(format!("other  {rest:#x}: bits without a meaning here"));
        }
        lines
    }
}

/// One format with its registers, as text deals with it.
pub trait Format {
    /// Name in files.
    fn name(&self) -> &'static str;
    /// What it is.
    fn about(&self) -> &'static str;
    /// What a file can set.
    fn registers(&self) -> &'static [Register];
    /// Sets a register; says so if there is none of this name.
    fn set(&mut self, name: &str, value: u64) -> bool;
    /// Walks. Returns what the machine stores for a fault, by register, or what it found beside the address.
    fn walk(&self, memory: &Tables, va: Vaddr, access: Access) -> Vec<(&'static str, u64)>;
    /// The kinds of entries.
    fn tables(&self) -> &'static [Table];
    /// The names of all faults, as events have them.
    fn faults(&self) -> Vec<&'static str>;
}

/// All formats, with registers as after reset.
pub fn formats() -> Vec<Box<dyn Format>> {
    vec![
        Box::new(crate::s390x::names::Text::default()),
        Box::new(crate::ppc64::names::RadixText::default()),
        Box::new(crate::ppc64::names::HashText::default()),
        Box::new(crate::sparc64::names::Sun4u::default()),
        Box::new(crate::sparc64::names::Sun4v::default()),
        Box::new(crate::pae::names::Text::default()),
    ]
}

/// Memory for tables, a doubleword at a time, with a record of what was done to it.
#[derive(Clone, Debug, Default)]
pub struct Tables {
    doublewords: RefCell<BTreeMap<u64, u64>>,
    events: RefCell<Vec<WalkEvent>>,
}

impl Tables {
    /// The doubleword at `addr`.
    pub fn get(&self, addr: u64) -> Option<u64> {
        self.doublewords.borrow().get(&addr).copied()
    }
    /// Configures and sets the doubleword at `addr`, a multiple of 8.
    pub fn set(&self, addr: u64, value: u64) {
        debug_assert_eq!(addr % 8, 0);
        self.doublewords.borrow_mut().insert(addr, value);
    }
    /// Makes the doubleword at `addr` not configured.
    pub fn unset(&self, addr: u64) {
        self.doublewords.borrow_mut().remove(&addr);
    }
    /// What happened since the last call.
    pub fn take_events(&self) -> Vec<WalkEvent> {
        self.events.take()
    }
    /// All of it, in the order of addresses.
    pub fn contents(&self) -> Vec<(u64, u64)> {
        self.doublewords.borrow().iter().map(|(&a, &v)| (a, v)).collect()
    }
}

impl TableMemory for Tables {
    fn load_entry(&self, addr: Paddr) -> Result<u64, EntryStop> {
        self.get(addr.0).ok_or(EntryStop::Addressing)
    }
    fn cas_entry(&self, addr: Paddr, expected: u64, new: u64) -> Result<u64, EntryStop> {
        let old = self.load_entry(addr)?;
        if old == expected {
            self.set(addr.0, new);
        }
        Ok(old)
    }
    fn load_pair(&self, addr: Paddr) -> Result<[u64; 2], EntryStop> {
        Ok([self.load_entry(addr)?, self.load_entry(addr.offset(8))?])
    }
    fn load_word(&self, addr: Paddr) -> Result<u32, EntryStop> {
        let both = self.load_entry(Paddr(addr.0 & !7))?;
        Ok(if addr.0 & 4 == 0 { (both >> 32) as u32 } else { both as u32 })
    }
    fn store_byte(&self, addr: Paddr, byte: u8) -> Result<(), EntryStop> {
        let at = addr.0 & !7;
        let shift = 56 - (addr.0 & 7) * 8;
        let old = self.load_entry(Paddr(at))?;
        self.set(at, old & !(0xff << shift) | (byte as u64) << shift);
        Ok(())
    }
    fn event(&self, event: WalkEvent) {
        self.events.borrow_mut().push(event)
    }
}

/// A line of a `.walk` file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Item {
    /// Sets a register.
    Set {
        /// Which.
        register: String,
        /// To what.
        value: u64,
    },
    /// Sets consecutive doublewords.
    Memory {
        /// The first one's address.
        addr: u64,
        /// The values.
        values: Vec<u64>,
    },
    /// Makes an access.
    Access {
        /// What for.
        access: Access,
        /// Where.
        va: Vaddr,
        /// What the file expects.
        expected: Vec<String>,
    },
}

/// A parsed `.walk` file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WalkFile {
    /// The format's name.
    pub format: String,
    /// Its lines, with their numbers from 1.
    pub items: Vec<(usize, Item)>,
}

/// What is wrong with a `.walk` file.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("line {line}: {what}")]
pub struct TextError {
    /// Counted from 1.
    pub line: usize,
    /// What was found and what was wanted.
    pub what: String,
}

/// A number as these files and the command line write it.
pub fn number(s: &str) -> Result<u64, String> {
    let digits = s.replace('_', "");
    let parsed = match digits.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16),
        None => digits.parse(),
    };
    parsed.map_err(|_| format!("{s:?} is no number; wanted hexadecimal with 0x, or decimal, up to 64 bits"))
}

impl WalkFile {
    /// Reads a file.
    pub fn parse(text: &str) -> Result<WalkFile, TextError> {
        let mut format = None;
        let mut items: Vec<(usize, Item)> = Vec::new();
        for (i, raw) in text.lines().enumerate() {
            let line = i + 1;
            let fail = |what: String| TextError { line, what };
            let content = raw.split('#').next().unwrap_or_default().trim();
            if content.is_empty() {
                continue;
            }
            if let Some(want) = content.strip_prefix('>') {
                let Some((_, Item::Access { expected, .. })) = items.last_mut() else {
                    return Err(fail("an expectation that follows no access".into()));
                };
                expected.push(want.trim().to_string());
                continue;
            }
            let mut words = content.split_whitespace();
            let verb = words.next().unwrap_or_default();
            let rest: Vec<&str> = words.collect();
            let item = match (verb, rest.as_slice()) {
                ("format", [name]) => {
                    if format.replace(name.to_string()).is_some() {
                        return Err(fail("a second format; a file has one".into()));
                    }
                    continue;
                }
                ("set", [register, value]) => {
                    Item::Set { register: register.to_string(), value: number(value).map_err(fail)? }
                }
                ("mem", [addr, values @ ..]) if !values.is_empty() => {
                    let addr = number(addr).map_err(fail)?;
                    if addr % 8 != 0 {
                        return Err(fail(format!("memory at {addr:#x}; wanted a multiple of 8")));
                    }
                    let values = values.iter().map(|v| number(v)).collect::<Result<_, _>>().map_err(fail)?;
                    Item::Memory { addr, values }
                }
                ("load" | "store" | "fetch", [va]) => Item::Access {
                    access: match verb {
                        "load" => Access::Load,
                        "store" => Access::Store,
                        _ => Access::Fetch,
                    },
                    va: Vaddr(number(va).map_err(fail)?),
                    expected: Vec::new(),
                },
                _ => {
                    return Err(fail(format!(
                        "{content:?}; wanted \"format NAME\", \"set REGISTER VALUE\", \"mem ADDRESS VALUE…\", \
                         \"load|store|fetch ADDRESS\" or \"> what an access gives\""
                    )));
                }
            };
            items.push((line, item));
        }
        let format = format.ok_or_else(|| TextError {
            line: 1,
            what: format!("no line \"format NAME\"; wanted one of {}", known()),
        })?;
        Ok(WalkFile { format, items })
    }

    /// Does what the file says and gives `each` every access with what it gave.
    pub fn run(&self, mut each: impl FnMut(&Walked<'_>)) -> Result<(), TextError> {
        let mut format = formats().into_iter().find(|f| f.name() == self.format).ok_or_else(|| {
            TextError { line: 1, what: format!("format {:?}; wanted one of {}", self.format, known()) }
        })?;
        let memory = Tables::default();
        for (line, item) in &self.items {
            match item {
                Item::Set { register, value } => {
                    if !format.set(register, *value) {
                        let names: Vec<_> = format.registers().iter().map(|r| r.name).collect();
                        let what = format!("register {register:?}; {} has {}", self.format, names.join(", "));
                        return Err(TextError { line: *line, what });
                    }
                }
                Item::Memory { addr, values } => {
                    for (i, v) in values.iter().enumerate() {
                        memory.set(addr.wrapping_add(i as u64 * 8), *v);
                    }
                }
                Item::Access { access, va, expected } => {
                    let report = format.walk(&memory, *va, *access);
                    let events = memory.take_events();
                    each(&Walked { line: *line, format: &*format, events, report, expected });
                }
            }
        }
        Ok(())
    }
}

fn known() -> String {
    formats().iter().map(|f| f.name()).collect::<Vec<_>>().join(", ")
}

/// One access of a file and what came of it.
pub struct Walked<'a> {
    /// Its line, from 1.
    pub line: usize,
    /// The format, with its registers as they were set.
    pub format: &'a dyn Format,
    /// What the walker did.
    pub events: Vec<WalkEvent>,
    /// What the machine reports, by register.
    pub report: Vec<(&'static str, u64)>,
    /// What the file expects.
    pub expected: &'a [String],
}

impl Walked<'_> {
    /// Events and registers as a file has them, without the `>`.
    pub fn lines(&self) -> Vec<String> {
        let events = self.events.iter().map(|e| e.to_string());
        events.chain(self.report.iter().map(|(n, v)| format!("{n} {v:#x}"))).collect()
    }
}

impl fmt::Debug for Walked<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Walked").field("line", &self.line).field("lines", &self.lines()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mistakes_are_named_with_their_line() {
        let wrong = |text: &str| WalkFile::parse(text).unwrap_err().to_string();
        assert!(wrong("load 1").starts_with("line 1: no line \"format NAME\""));
        assert_eq!(wrong("format a\nformat b"), "line 2: a second format; a file has one");
        assert_eq!(wrong("format a\n> x"), "line 2: an expectation that follows no access");
        assert_eq!(wrong("mem 4 1"), "line 1: memory at 0x4; wanted a multiple of 8");
        assert!(wrong("set a 0xg").contains("\"0xg\" is no number"));
        assert!(wrong("jump 1").contains("\"jump 1\"; wanted \"format NAME\""));
        let run = |text: &str| WalkFile::parse(text).unwrap().run(|_| {}).unwrap_err().to_string();
        assert!(run("format vax").starts_with("line 1: format \"vax\"; wanted one of s390x"));
        assert!(run("format s390x\nset crx 1").starts_with("line 2: register \"crx\"; s390x has psw, "));
    }

    #[test]
    fn words_and_bytes_of_a_doubleword() {
        let t = Tables::default();
        t.set(8, 0x1122_3344_5566_7788);
        assert_eq!(t.load_word(Paddr(8)), Ok(0x1122_3344));
        assert_eq!(t.load_word(Paddr(12)), Ok(0x5566_7788));
        t.store_byte(Paddr(14), 0xff).unwrap();
        assert_eq!(t.get(8), Some(0x1122_3344_5566_ff88));
        assert_eq!(t.load_pair(Paddr(8)), Err(EntryStop::Addressing));
    }
}

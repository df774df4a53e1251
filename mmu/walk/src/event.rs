//! The four events of a walk. Every format uses these, under these names.

use crate::Access;
use racewalk_ram::{Paddr, Vaddr};
use std::fmt;

/// A table level, numbered from the leaf: 0 is the page table, 1 the table above it, and so on.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct Level(pub u8);

impl Level {
    /// Above every table: what designates the root.
    pub const ROOT: Level = Level(u8::MAX);
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Level::ROOT => f.write_str("root"),
            Level(n) => write!(f, "level {n}"),
        }
    }
}

/// What a walk does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WalkEvent {
    /// A walk begins.
    Start {
        /// Address to translate.
        vaddr: Vaddr,
        /// For what.
        access: Access,
        /// The root: an ASCE, a process-table entry, …
        root: u64,
    },
    /// An entry was fetched.
    Step {
        /// Of which level.
        level: Level,
        /// Name of the table in the architecture's terms.
        table: &'static str,
        /// Where.
        entry_addr: Paddr,
        /// Its value.
        entry: u64,
    },
    /// The walk found a translation.
    Done {
        /// Address that was translated.
        vaddr: Vaddr,
        /// Where it leads.
        paddr: Paddr,
        /// log2 of the size of the page.
        shift: u8,
        /// Whether stores are forbidden.
        protected: bool,
    },
    /// The walk ended with an exception.
    Fault {
        /// Address that was translated.
        vaddr: Vaddr,
        /// The architecture's name of the exception.
        name: &'static str,
        /// Its number in the architecture's own numbering.
        code: u32,
    },
}

/// The size of a page, given as its log2; prints as `4K`, `16M`, `2G`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct PageSize(pub u8);

impl fmt::Display for PageSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = ["", "K", "M", "G", "T", "P", "E"];
        write!(f, "{}{}", 1u64 << (self.0 % 10), unit.get(self.0 as usize / 10).copied().unwrap_or("?"))
    }
}

impl std::str::FromStr for PageSize {
    type Err = String;
    /// Reads what `Display` writes for 1K and more: a power of two with K, M, G, T, P or E, below 16E.
    fn from_str(s: &str) -> Result<Self, String> {
        let wrong =
            || format!("{s:?} is no page size; wanted a power of two with K, M, G, T, P or E, such as 64K");
        let at = s.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
        let n: u64 = s[..at].parse().map_err(|_| wrong())?;
        let unit = match &s[at..] {
            "K" => 10,
            "M" => 20,
            "G" => 30,
            "T" => 40,
            "P" => 50,
            "E" if n < 16 => 60,
            _ => return Err(wrong()),
        };
        if !n.is_power_of_two() || n >= 1024 {
            return Err(wrong());
        }
        Ok(PageSize(n.trailing_zeros() as u8 + unit))
    }
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Access::Load => "load",
            Access::Store => "store",
            Access::Fetch => "fetch",
        })
    }
}

impl fmt::Display for WalkEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            WalkEvent::Start { vaddr, access, root } => {
                write!(f, "walk_start {vaddr:#x} {access} root {root:#x}")
            }
            WalkEvent::Step { level, table, entry_addr, entry } => {
                write!(f, "walk_step {level} {table} [{entry_addr:#x}] = {entry:#018x}")
            }
            WalkEvent::Done { vaddr, paddr, shift, protected } => {
                let protected = if protected { " protected" } else { "" };
                write!(f, "walk_done {vaddr:#x} -> {paddr:#x} {}{protected}", PageSize(shift))
            }
            WalkEvent::Fault { vaddr, name, code } => write!(f, "walk_fault {vaddr:#x} {name} ({code:#x})"),
        }
    }
}

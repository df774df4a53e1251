//! The four events of a walk. Every format uses these, under these names.

use crate::Access;
use racewalk_ram::{Paddr, Vaddr};
use std::fmt;

/// A table level, numbered from the leaf: 0 is the page table, 1 the table above it, and so on.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct Level(pub u8);

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
                write!(f, "walk_step level {} {table} [{entry_addr:#x}] = {entry:#018x}", level.0)
            }
            WalkEvent::Done { vaddr, paddr, protected } => {
                write!(f, "walk_done {vaddr:#x} -> {paddr:#x}{}", if protected { " protected" } else { "" })
            }
            WalkEvent::Fault { vaddr, name, code } => write!(f, "walk_fault {vaddr:#x} {name} ({code:#x})"),
        }
    }
}

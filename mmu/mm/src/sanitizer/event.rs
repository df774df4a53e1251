//! What happens to page tables, as the sanitizer logs it: the material of reports and of CPU columns.

use crate::layout;
use racewalk_ram::{Kva, Paddr, Pfn, Vaddr};
use racewalk_sched::NO_CPU;
use std::fmt;

/// Walker classes (hosted-mm A.8).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Class {
    /// Hardware.
    W1,
    /// Low-level software refill, interrupts off.
    W2,
    /// `gup_fast`, interrupts off.
    W3,
    /// `pte_offset_map`, under `rcu_read_lock`.
    W4,
    /// `pte_offset_map_lock`, also under the table's lock.
    W5,
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Class::W1 => "hardware walk",
            Class::W2 => "software refill",
            Class::W3 => "gup_fast",
            Class::W4 => "pte_offset_map",
            Class::W5 => "pte_offset_map_lock",
        })
    }
}

/// How a table was given back.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Give {
    /// `pte_free`: may be used again at once.
    Now,
    /// Through `tlb_remove_table`.
    Gather,
    /// `pte_free_defer`.
    Defer,
}

/// One thing that happened.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum What {
    /// A table was handed out.
    Alloc {
        /// Its address.
        table: Paddr,
        /// How often this address had been handed out before.
        generation: u64,
    },
    /// An entry points to the table now.
    Hook {
        /// The table.
        table: Paddr,
        /// The entry.
        entry: Paddr,
        /// The entry's level, from the top.
        level: usize,
        /// First address that the table translates.
        va: Vaddr,
    },
    /// The entry that pointed to the table is empty.
    Unhook {
        /// The table.
        table: Paddr,
        /// The entry.
        entry: Paddr,
    },
    /// The table was given back.
    Given {
        /// The table.
        table: Paddr,
        /// How.
        how: Give,
    },
    /// The table's memory left the owner of tables, or is handed out again.
    Gone {
        /// The table.
        table: Paddr,
    },
    /// A page of tables was allocated.
    PageAlloc(Pfn),
    /// A page of tables was freed.
    PageFree(Pfn),
    /// The byte of a page of halves changed (hosted-mm B.1).
    Byte {
        /// The page.
        page: Pfn,
        /// Before.
        old: u8,
        /// After.
        new: u8,
        /// By what.
        by: &'static str,
    },
    /// The counter of a page of fragments changed (hosted-mm B.4); or, by `get_page`, `put_page` and `set_page_count`, the
    /// references to a page of tables.
    Count {
        /// The page.
        page: Pfn,
        /// Before.
        old: u64,
        /// After.
        new: u64,
        /// By what.
        by: &'static str,
    },
    /// `call_rcu`.
    CallRcu(Kva),
    /// A callback runs.
    Callback(Kva),
    /// A grace period began.
    GpStart,
    /// A grace period ended.
    GpEnd,
    /// Invalidation of an address, or of everything, of a space began.
    Flush {
        /// The space.
        mm: Kva,
        /// The address; none: all.
        va: Option<Vaddr>,
    },
    /// It is complete on every CPU.
    Flushed {
        /// The space.
        mm: Kva,
        /// The address; none: all.
        va: Option<Vaddr>,
    },
    /// A table was deposited, or withdrawn again.
    Deposit {
        /// The table.
        table: Paddr,
        /// Withdrawn.
        taken: bool,
    },
    /// A PMD entry maps a huge page now, or does no more.
    Huge {
        /// The entry.
        entry: Paddr,
        /// It does.
        maps: bool,
    },
    /// A cross call was sent and every CPU took it.
    Ipi,
    /// A walker holds a pointer to the table.
    Holds {
        /// Its class.
        class: Class,
        /// The table.
        table: Paddr,
    },
    /// A walker loaded an entry.
    Load {
        /// Its class.
        class: Class,
        /// Where.
        entry: Paddr,
        /// What.
        value: u64,
    },
    /// A doubleword of a table was stored by software.
    Store {
        /// Where.
        entry: Paddr,
        /// What.
        value: u64,
    },
    /// A store to a doubleword of a table left its CPU's store buffer.
    Drained {
        /// Where.
        entry: Paddr,
        /// What.
        value: u64,
    },
    /// A node was linked into a list.
    Listed(Kva),
    /// A node was taken off a list.
    Unlisted(Kva),
    /// A reader section or a section with interrupts off began.
    Enter(Class),
    /// It ended.
    Leave(Class),
    /// A table's lock was made unusable by the destructor.
    LockGone(Pfn),
    /// An operation of a scenario began; the number is the scenario's.
    Op(u32),
    /// It ended.
    OpDone(u32),
}

impl What {
    /// The table that this is about, if it is about one.
    pub fn table(&self) -> Option<Paddr> {
        match *self {
            What::Alloc { table, .. }
            | What::Hook { table, .. }
            | What::Unhook { table, .. }
            | What::Given { table, .. }
            | What::Gone { table }
            | What::Deposit { table, .. }
            | What::Holds { table, .. } => Some(table),
            _ => None,
        }
    }
    /// The page of tables that this is about, if it is about one and no single table.
    pub fn page(&self) -> Option<Pfn> {
        match *self {
            What::PageAlloc(p) | What::PageFree(p) | What::LockGone(p) => Some(p),
            What::Byte { page, .. } | What::Count { page, .. } => Some(page),
            _ => None,
        }
    }
}

/// A list node or an `rcu_head`, told by the page in whose record it is.
struct Node(Kva);

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0.0)?;
        match layout::about(self.0) {
            Some(at) if at.0 != self.0.0 => write!(f, " of page {:#x}", at.0),
            _ => Ok(()),
        }
    }
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let range = |va: &Option<Vaddr>| va.map_or("all".to_string(), |v| format!("{:#x}", v.0));
        match self {
            What::Alloc { table, generation } => {
                write!(f, "alloc table {:#x} generation {generation}", table.0)
            }
            What::Hook { table, entry, .. } => write!(f, "hook {:#x} at {:#x}", table.0, entry.0),
            What::Unhook { table, entry } => write!(f, "unhook {:#x} from {:#x}", table.0, entry.0),
            What::Given { table, how } => {
                let by = match how {
                    Give::Now => "pte_free",
                    Give::Gather => "tlb_remove_table",
                    Give::Defer => "pte_free_defer",
                };
                write!(f, "{by} {:#x}", table.0)
            }
            What::Gone { table } => write!(f, "table {:#x} is gone", table.0),
            What::PageAlloc(p) => write!(f, "alloc page {:#x}", p.paddr().0),
            What::PageFree(p) => write!(f, "free page {:#x}", p.paddr().0),
            What::Byte { page, old, new, by } => {
                write!(f, "{by}: byte of {:#x} {old:#04x} to {new:#04x}", page.paddr().0)
            }
            What::Count { page, old, new, by } => {
                write!(f, "{by}: count of {:#x} {old:#x} to {new:#x}", page.paddr().0)
            }
            What::CallRcu(h) => write!(f, "call_rcu {}", Node(*h)),
            What::Callback(h) => write!(f, "callback {}", Node(*h)),
            What::GpStart => f.write_str("grace period begins"),
            What::GpEnd => f.write_str("grace period ends"),
            What::Flush { va, .. } => write!(f, "flush {}", range(va)),
            What::Flushed { va, .. } => write!(f, "flushed {}", range(va)),
            What::Deposit { table, taken: false } => write!(f, "deposit {:#x}", table.0),
            What::Deposit { table, taken: true } => write!(f, "withdraw {:#x}", table.0),
            What::Huge { entry, maps: true } => write!(f, "{:#x} maps a huge page", entry.0),
            What::Huge { entry, maps: false } => write!(f, "{:#x} maps no huge page any more", entry.0),
            What::Ipi => f.write_str("cross call done"),
            What::Holds { class, table } => write!(f, "{class} holds {:#x}", table.0),
            What::Load { class, entry, value } => {
                write!(f, "{class} loads {:#x}: {value:#x}", entry.0)
            }
            What::Store { entry, value } => write!(f, "store {value:#x} at {:#x}", entry.0),
            What::Drained { entry, value } => write!(f, "all see {value:#x} at {:#x}", entry.0),
            What::Listed(n) => write!(f, "list_add {}", Node(*n)),
            What::Unlisted(n) => write!(f, "list_del {}", Node(*n)),
            What::Enter(c) => write!(f, "{c} begins"),
            What::Leave(c) => write!(f, "{c} ends"),
            What::LockGone(p) => write!(f, "destroy ptlock of {:#x}", p.paddr().0),
            What::Op(n) => write!(f, "operation {n}"),
            What::OpDone(n) => write!(f, "operation {n} done"),
        }
    }
}

/// Who does something.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Actor {
    /// A task of a controlled run, by its number.
    Task(u32),
    /// A thread outside of one, counted from 1 in the order in which they came.
    Thread(u32),
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Actor::Task(n) => write!(f, "task {n}"),
            Actor::Thread(n) => write!(f, "thread {n}"),
        }
    }
}

/// When, where and what.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct Event {
    /// Position among all events.
    pub seq: u64,
    /// The CPU, or [`NO_CPU`].
    pub cpu: u32,
    /// Who.
    pub task: Actor,
    /// What.
    pub what: What,
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{:<4} ", self.seq)?;
        let who = match self.cpu {
            NO_CPU => self.task.to_string(),
            cpu => format!("cpu {cpu}"),
        };
        write!(f, "{who:<9} ")?;
        self.what.fmt(f)
    }
}

//! What processors tell an observer.

use crate::Access;
use racewalk_ram::{Paddr, Vaddr};
use racewalk_walk::event::{PageSize, WalkEvent};
use racewalk_walk::tlb::Purge;
use std::fmt;

/// Something a CPU did, as its model TLB and walker saw it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CpuEvent {
    /// A step of a walk.
    Walk(WalkEvent),
    /// A purge, or the end of the run, ended a walk between two of its steps.
    Overtaken,
    /// The model TLB was asked. Only of models that replace entries: how often the others are asked is the emulator's affair.
    Lookup {
        /// First byte of the page, by the smallest size.
        page: Vaddr,
        /// For what.
        access: Access,
        /// Whether it had it.
        hit: bool,
    },
    /// The model TLB lost a page to another.
    Evict {
        /// First byte of the page.
        page: Vaddr,
        /// log2 of its size.
        shift: u8,
    },
    /// The model TLB took the page in.
    Fill {
        /// First byte of the page.
        page: Vaddr,
    },
    /// This CPU asked all CPUs to purge.
    Purge {
        /// With which instruction, by its mnemonic.
        by: &'static str,
        /// The address that the instruction was given, where it was given one.
        va: Option<Vaddr>,
        /// What goes.
        purge: Purge,
    },
    /// The purge is complete on every CPU.
    Purged {
        /// With which instruction, by its mnemonic.
        by: &'static str,
    },
    /// Software refill stored to what hardware looks translations up in: a word of a TSB entry.
    Store {
        /// Where.
        addr: Paddr,
        /// What.
        value: u64,
    },
    /// What names the address space was loaded.
    Load {
        /// Which register, in the architecture's term: an ASCE, a PID, a context.
        register: &'static str,
        /// The new value.
        value: u64,
    },
}

impl fmt::Display for CpuEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            CpuEvent::Walk(w) => write!(f, "{w}"),
            CpuEvent::Overtaken => f.write_str("walk_overtaken"),
            CpuEvent::Lookup { page, access, hit } => {
                write!(f, "tlb_{} {page:#x} {access}", if hit { "hit" } else { "miss" })
            }
            CpuEvent::Evict { page, shift } => write!(f, "tlb_evict {page:#x} {}", PageSize(shift)),
            CpuEvent::Fill { page } => write!(f, "tlb_fill {page:#x}"),
            CpuEvent::Purge { by, va: Some(va), purge } => write!(f, "{by} {va:#x} {purge}"),
            CpuEvent::Purge { by, va: None, purge } => write!(f, "{by} {purge}"),
            CpuEvent::Purged { by } => write!(f, "{by} complete"),
            CpuEvent::Store { addr, value } => write!(f, "refill_store {addr:#x} {value:#x}"),
            CpuEvent::Load { register, value } => write!(f, "load_{register} {value:#x}"),
        }
    }
}

/// Takes events. Called on the thread of the CPU that the event is about, in its order; calls for different CPUs
/// come at the same time. Must not reach a scheduling point.
pub trait Sink: Send + Sync {
    /// `cpu` did `event`.
    fn event(&self, cpu: u32, event: &CpuEvent);
}

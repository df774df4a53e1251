//! The hardware side of address translation: page-table walkers and TLB models.
//!
//! A walker is a plain function that follows the steps of its architecture's manual, generic over
//! [`TableMemory`], the only thing it wants from the outside. It never writes page tables (where the architecture
//! does, through [`TableMemory`]), never calls the mm and never blocks.
//!
//! Every format has the same files: `entry` (bits), `geometry` (how addresses divide), `fault` (what is reported),
//! `walk`, `invalidate` (which instruction removes what), and `names`, which says the same of bits and registers to
//! people and to the text format of [`text`].
#![forbid(unsafe_code)]

pub mod event;
pub mod hardware;
mod memory;
pub mod pae;
pub mod ppc64;
pub mod s390x;
pub mod sparc64;
pub mod text;
pub mod tlb;

use racewalk_ram::{Paddr, Vaddr};

/// What an access wants.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Access {
    /// Data read.
    Load,
    /// Data write.
    Store,
    /// Instruction fetch.
    Fetch,
}

impl Access {
    /// All three, for tests and tables.
    pub const ALL: [Access; 3] = [Access::Load, Access::Store, Access::Fetch];
}

/// Why a table entry could not be had.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EntryStop {
    /// The address is not configured memory.
    Addressing,
    /// The controlled run ended at this load.
    Cancelled,
}

/// The walker's view of memory, defined by the walker: table entries are fetched, compared and swapped, and that is
/// all. In a free run a fetch is one atomic load; in a controlled run it is a scheduling point first. Values are
/// those of big-endian memory.
pub trait TableMemory {
    /// Fetches the doubleword entry at an absolute address as one single-copy atomic access.
    fn load_entry(&self, addr: Paddr) -> Result<u64, EntryStop>;

    /// Atomically replaces `expected` by `new`; returns what was there. For formats whose hardware updates
    /// reference and change bits in the table.
    fn cas_entry(&self, addr: Paddr, expected: u64, new: u64) -> Result<u64, EntryStop>;

    /// Fetches 16 bytes, aligned to 16, as one single-copy atomic access: a TSB entry.
    fn load_pair(&self, addr: Paddr) -> Result<[u64; 2], EntryStop>;

    /// Fetches an aligned word: one half of a `pae` entry, which can be torn.
    fn load_word(&self, addr: Paddr) -> Result<u32, EntryStop>;

    /// Stores one byte, not atomically with what was read before: how POWER hardware sets R and C in the hashed
    /// page table.
    fn store_byte(&self, addr: Paddr, byte: u8) -> Result<(), EntryStop>;

    /// The deepest upper part of a walk to `va` that a walk cache holds. `None`, the default: no such cache.
    fn resume(&self, va: Vaddr) -> Option<Upper> {
        let _ = va;
        None
    }

    /// Offers an upper part of the walk to the walk cache. It covers the `1 << shift` bytes around `va`.
    fn remember(&self, va: Vaddr, shift: u8, upper: Upper) {
        let _ = (va, shift, upper);
    }

    /// Tells what the walk does. Does nothing by default.
    fn event(&self, event: event::WalkEvent) {
        let _ = event;
    }
}

/// The upper part of a walk, as a walk cache keeps it: everything that a walk has learnt before it fetches from the
/// next table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Upper {
    /// Level of the table that is read next.
    pub next: event::Level,
    /// The entry that designates it, in the format's own encoding.
    pub entry: u64,
    /// What the levels above contribute (protection and the like), in the format's own encoding.
    pub gathered: u64,
}

/// How a walk ends without a translation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WalkStop<F> {
    /// With an exception of the architecture.
    Fault(F),
    /// The controlled run ended inside the walk.
    Cancelled,
}

//! The hardware side of address translation: page-table walkers and TLB models.
//!
//! A walker is a plain function that follows the steps of its architecture's manual, generic over
//! [`TableMemory`], the only thing it wants from the outside. It never writes page tables (where the architecture
//! does, through [`TableMemory`]), never calls the mm and never blocks.
#![forbid(unsafe_code)]

pub mod event;
pub mod s390x;
pub mod tlb;

use racewalk_ram::Paddr;

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

/// Why a table entry could not be had.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EntryStop {
    /// The address is not configured memory.
    Addressing,
    /// The controlled run ended at this load.
    Cancelled,
}

/// The walker's view of memory, defined by the walker: table entries are fetched, compared and swapped, and that is
/// all. In a free run a fetch is one atomic load; in a controlled run it is a scheduling point first.
pub trait TableMemory {
    /// Fetches the doubleword entry at an absolute address as one single-copy atomic access.
    fn load_entry(&self, addr: Paddr) -> Result<u64, EntryStop>;
    /// Atomically replaces `expected` by `new`; returns what was there. For formats whose hardware updates
    /// reference and change bits in the table.
    fn cas_entry(&self, addr: Paddr, expected: u64, new: u64) -> Result<u64, EntryStop>;
    /// Tells what the walk does. Does nothing by default.
    fn event(&self, event: event::WalkEvent) {
        let _ = event;
    }
}

/// How a walk ends without a translation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WalkStop<F> {
    /// With an exception of the architecture.
    Fault(F),
    /// The controlled run ended inside the walk.
    Cancelled,
}

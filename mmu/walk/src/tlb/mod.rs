//! TLB models, one set for all formats.
//!
//! A TLB holds [`Entry`]s: where a page leads, under which [`Tag`] it is found, and a *leaf*, which is the format's own:
//! the permission bits that each access is checked against. The models know nothing of permissions, and the formats
//! nothing of sets and ways.
//!
//! Who wants any of them takes a [`Tlb`], made from a [`TlbConfig`](config::TlbConfig): no TLB, the infinite one, or levels
//! of arrays, which a file or a [preset](presets) describes.

mod array;
pub mod config;
mod index;
mod infinite;
mod model;
pub mod presets;
mod purge;
mod replace;
mod stats;
mod unit;
mod walkcache;

pub use array::Array;
pub use infinite::InfiniteTlb;
pub use model::{Fill, FiniteTlb, Level};
pub use purge::{Globals, Purge, Spaces, Target};
pub use replace::Replacement;
pub use stats::Stats;
pub use unit::{LevelStats, Tlb};
pub use walkcache::{Cached, WalkCache};

use crate::Access;
use racewalk_ram::{Asid, Paddr, Vaddr};

/// What an entry is found by.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct Tag {
    /// The address space, in the format's own numbering (an ASCE, LPID and PID, a VSID, a context).
    pub space: Asid,
    /// Valid in every space that admits such entries: s390x common segments, SPARC's G.
    pub global: bool,
    /// First byte of the page.
    pub page: Vaddr,
    /// log2 of its size.
    pub shift: u8,
}

impl Tag {
    /// Whether the entry serves `key`.
    #[inline]
    pub fn serves(&self, key: &Key) -> bool {
        (self.page.0 ^ key.va.0) >> self.shift == 0
            && (self.space == key.space || key.other == Some(self.space) || (self.global && key.globals))
    }

    /// The last byte of the page.
    pub fn last(&self) -> Vaddr {
        Vaddr(self.page.0 | ((1 << self.shift) - 1))
    }
}

/// What an access looks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct Key {
    /// The address.
    pub va: Vaddr,
    /// The space it is in.
    pub space: Asid,
    /// A second space whose entries serve as well: context register 1 of sun4v.
    pub other: Option<Asid>,
    /// Whether global entries serve.
    pub globals: bool,
}

/// One translation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Entry<L> {
    /// What it is found by.
    pub tag: Tag,
    /// First byte of the frame.
    pub frame: Paddr,
    /// Where the leaf entry was fetched; zero for translations that no memory describes.
    pub from: Paddr,
    /// Not replaced, and kept by purges that spare locked entries.
    pub locked: bool,
    /// What the format checks accesses against.
    pub leaf: L,
}

impl<L> Entry<L> {
    /// Where `va`, an address inside the page, leads.
    #[inline]
    pub fn paddr(&self, va: Vaddr) -> Paddr {
        Paddr(self.frame.0 | (va.0 & ((1 << self.tag.shift) - 1)))
    }
}

/// Which side of a TLB an access asks.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Side {
    /// Instruction fetches.
    Instruction,
    /// Loads and stores.
    Data,
}

impl From<Access> for Side {
    fn from(a: Access) -> Side {
        match a {
            Access::Fetch => Side::Instruction,
            Access::Load | Access::Store => Side::Data,
        }
    }
}

/// What a lookup found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lookup<L> {
    /// Nothing.
    Miss,
    /// One entry.
    Hit(Entry<L>),
    /// Several entries serve the key: a machine check on POWER, undefined on SPARC. What each format makes of it is the
    /// format's.
    Multiple,
}

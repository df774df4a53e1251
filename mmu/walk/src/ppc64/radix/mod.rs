//! Radix-tree translation of ISA 3.0 as POWER9 and POWER10 have it.

pub mod entry;
pub mod geometry;
pub mod walk;

#[cfg(test)]
mod tests;

pub use entry::{Entry, PartitionEntry, Ptcr, Root};
pub use walk::{Controls, Leaf, Translation, walk};

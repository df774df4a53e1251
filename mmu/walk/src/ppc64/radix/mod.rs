//! Radix-tree translation of ISA 3.0 as POWER9 and POWER10 have it.

pub mod controls;
pub mod entry;
pub mod geometry;
pub mod walk;

#[cfg(test)]
mod tests;

pub use controls::{Controls, Leaf, PartitionLeaf, Translation};
pub use entry::{Entry, PartitionEntry, Ptcr, Root};
pub use walk::walk;

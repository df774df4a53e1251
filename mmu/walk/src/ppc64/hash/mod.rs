//! Translation by SLB and hashed page table: ISA 2.x, and ISA 3.0 with the page table of the partition table.

pub mod entry;
pub mod geometry;
pub mod slb;
pub mod walk;

pub use entry::{Hpte, Version};
pub use slb::{Segment, SegmentSize, Slb, SlbMiss};
pub use walk::{Controls, Leaf, Translation, walk};

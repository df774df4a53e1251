//! sun4u: a TLB that software fills from a TSB (UltraSPARC I to III; reference sparc64-mmu §1.5, §2.1). What the hardware
//! does is in [`walk`]; what Linux's miss handler does is in [`miss`].

pub mod entry;
pub mod geometry;
pub mod invalidate;
pub mod miss;
pub mod walk;

pub use entry::{TagAccess, TagTarget, Tte};
pub use geometry::Tsb;
pub use miss::{Kernel, KernelMemory, refill, translate};
pub use walk::{Context, Translation, lookup};

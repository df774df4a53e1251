//! sun4v: TSBs that the hardware walks (UltraSPARC T2; reference sparc64-mmu §1.6, §2.2).

pub mod entry;
pub mod geometry;
pub mod invalidate;
pub mod walk;

pub use entry::{Tag, Tte};
pub use geometry::{Config, Model, RealRange};
pub use walk::{Context, Translation, walk};

//! sun4v: TSBs that the hardware walks (UltraSPARC T2; reference sparc64-mmu §1.6, §2.2).

pub mod descriptor;
pub mod entry;
pub mod geometry;
pub mod hypercall;
pub mod invalidate;
pub mod permanent;
pub mod walk;

pub use descriptor::TsbDescriptor;
pub use entry::{Tag, Tte};
pub use geometry::{Config, Model, RealRange};
pub use hypercall::{Refused, map_addr};
pub use permanent::Permanent;
pub use walk::{Context, Translation, walk};

//! `pae`, for the lab only: x86 physical-address-extension paging (Intel SDM volume 3, "PAE paging") with entries that are
//! read as two 32-bit words, so that a reader can see half of an update. No instruction set uses it. Memory types,
//! protection keys, SMEP and SMAP are not modelled.

pub mod context;
pub mod entry;
pub mod fault;
pub mod geometry;
mod hardware;
pub mod invalidate;
pub mod names;
pub mod walk;

pub use context::{Context, Layout, Order};
pub use entry::{Pde, Pdpte, Pte};
pub use fault::{Fault, Reason};
pub use hardware::Pae;
pub use walk::{Leaf, Translation, load_pdptes, walk};

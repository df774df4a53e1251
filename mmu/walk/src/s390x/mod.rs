//! z/Architecture dynamic address translation (DAT): Principles of Operation SA22-7832, chapter 3.

pub mod context;
pub mod entry;
pub mod fault;
pub mod geometry;
mod hardware;
pub mod invalidate;
pub mod key;
pub mod names;
pub mod walk;

pub use context::{Context, Space};
pub use entry::{Asce, Pte, Rte, Ste};
pub use fault::{Fault, Reason};
pub use hardware::S390x;
pub use walk::{Controls, Leaf, Translation, walk};

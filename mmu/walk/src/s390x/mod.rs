//! z/Architecture dynamic address translation (DAT): Principles of Operation SA22-7832, chapter 3.

pub mod entry;
pub mod fault;
pub mod geometry;
pub mod invalidate;
pub mod walk;

pub use entry::{Asce, Pte, Rte, Ste};
pub use fault::{Fault, Reason};
pub use walk::{Controls, Translation, walk};

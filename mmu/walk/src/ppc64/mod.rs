//! Power ISA Book III storage control on Book3S: the radix trees of ISA 3.0 and the hashed page table (reference
//! ppc64-mmu). Tables are big-endian whatever MSR\[LE\] says.

pub mod completion;
pub mod context;
pub mod fault;
mod hardware;
pub mod hash;
pub mod invalidate;
pub mod names;
pub mod radix;

pub use completion::{Completion, Ticket};
pub use context::{Context, Mode, Update};
pub use fault::{Denied, Fault, Reason};
pub use hardware::{Hash, Radix};

//! 64-bit SPARC: `sun4u`, where software refills the TLB (UltraSPARC I to III), and `sun4v`, where the hardware walks
//! translation storage buffers (TSBs) that a hypervisor configured (UltraSPARC T2 and later). Bit 63 is the most
//! significant one, as in the manuals.

pub mod context;
pub mod fault;
mod hardware;
pub mod names;
pub mod sun4u;
pub mod sun4v;

pub use context::{Leaf, Operand, Request, Space, State};
pub use fault::{Fault, Machine, Reason};
pub use hardware::{Sun4u, Sun4v};

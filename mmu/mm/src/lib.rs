//! A hosted, Linux-like mm over guest physical memory.
//!
//! The page tables, the records of page frames, and the lists between them live where a real kernel has them, and
//! hardware walkers of other CPUs are inside the tables while they change. A [`Kernel`] owns a machine's memory; an
//! [`Mm`] is an address space. Everything takes `&self` and may be called from any task; the locks are those of
//! `racewalk_sched`, so that a controlled run can stop a task between any two steps.
//!
//! References such as "hosted-mm B.2" are to the project's facts reference on Linux's mm.
//!
//! Software refill of translations is here too, where an architecture has it. Not modelled so far: four- and five-level
//! tables of s390x, fork, huge pages,
//! reclaim, and storage keys.
#![forbid(unsafe_code)]

pub mod arch;
mod buddy;
mod checkpoint;
mod context;
pub mod cost;
mod deposit;
mod errno;
mod error;
mod fault;
mod file;
pub mod frag;
pub mod frames;
pub mod gather;
mod hold;
mod kernel;
mod kmem;
pub mod layout;
mod lockword;
mod lookup;
mod memory;
mod mm;
mod mmap;
mod mutant;
pub mod page;
mod pgtable;
mod proc;
mod rcu;
mod reached;
mod refs;
mod retract;
mod rmap;
pub mod sanitizer;
mod slab;
mod sorted;
pub mod stats;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod thp;
pub mod tlb_batch;
mod uaccess;
mod upper;
pub mod vma;

pub use buddy::{Failures, Gfp, MAX_ORDER};
pub use checkpoint::{Checkpoint, Ready};
pub use error::{Errno, MmError, Result};
pub use fault::{Signal, signo};
pub use file::{Backing, Bytes, FileObject};
pub use frag::Scheme;
pub use hold::{Held, Holds, Measure};
pub use kernel::{Config, GatherMode, Kernel, Ledger, MAX_CPUS, PmdLocks, Unhook};
pub use memory::Memory;
pub use mm::{Mm, MmCounters};
pub use mmap::{madv, mremap};
pub use mutant::{MUTANTS, Step, Variant};
pub use page::FrameKind;
pub use rcu::{RcuReader, RcuState};
pub use vma::{MapFlags, Prot};

//! Engines: the interpreter, the x86-64 translator, the code cache and the vCPU loop.

pub mod access;
pub mod core;
pub mod interp;
#[cfg(target_arch = "x86_64")]
pub mod x86;

pub use crate::core::{Core, Mmu, Piece};

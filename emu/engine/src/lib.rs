//! Engines: the interpreter, the x86-64 translator, the code cache and the vCPU loop.

pub mod access;
pub mod core;
pub mod interp;

pub use crate::core::{Core, Mmu, Piece};

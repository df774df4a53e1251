//! Engines: the interpreter, the x86-64 translator, the code cache and the vCPU loop.

pub mod access;
pub mod block;
pub mod cache;
mod check;
pub mod core;
pub mod interp;
pub mod mmu;
pub mod runs;
pub mod vcpu;
pub mod x86;

pub use crate::core::{Core, Mmu, Piece};

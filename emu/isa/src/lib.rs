//! Instruction decoding and semantics: each instruction is written once, generic over [`Backend`].
#![forbid(unsafe_code)]

pub mod backend;
pub mod flags;
pub mod fp;
pub mod oracle;
pub mod ppc64;
pub mod s390x;
pub mod scan;
pub mod sparc64;
pub mod vec;

pub use backend::*;

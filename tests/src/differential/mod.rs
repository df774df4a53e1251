//! Differential fuzzing of instructions: random sequences, made from the opcode table, run by the guest `sequences`
//! on two machines; every difference between what they leave is cut down to one instruction.
//!
//! [`generate`] makes sequences and knows no result; [`batch`] is what the guest reads and writes; [`run`] starts the
//! machines; [`campaign`] compares, [`judge`] knows which differences are understood, [`shrink`] makes the others
//! small. `cargo xtask fuzz-isa` is the command.

pub mod batch;
pub mod campaign;
pub mod condition;
pub mod encode;
pub mod generate;
pub mod judge;
pub mod rng;
pub mod run;
pub mod sequence;
pub mod shrink;
pub mod special;
pub mod values;

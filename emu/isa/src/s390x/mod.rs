//! z/Architecture, problem state, 64-bit addressing mode. Source: *Principles of Operation*, SA22-7832.
//!
//! [`table`] has one row per opcode; [`decode`] turns bytes into an [`Insn`]; the meanings are in [`general`],
//! [`memory`], [`branch`] and [`bfp`], and what needs a loop over storage is in [`helpers`] and [`decimal`], or a
//! lock in [`lock`].

pub mod bfp;
pub mod branch;
pub mod decimal;
pub mod decode;
pub mod edit;
pub mod general;
pub mod helpers;
pub mod lock;
pub mod memory;
pub mod operand;
pub mod state;
pub mod table;
pub mod text;
pub mod translate;

use crate::backend::{Arch, Backend, Exc, Sem};
pub use table::Op;

/// Program interruption 1: operation.
pub const OPERATION: Exc = Exc::program(1);
/// Program interruption 2: privileged operation.
pub const PRIVILEGED: Exc = Exc::program(2);
/// Program interruption 3: execute.
pub const EXECUTE: Exc = Exc::program(3);
/// Program interruption 6: specification.
pub const SPECIFICATION: Exc = Exc::program(6);
/// Program interruption 8: fixed-point overflow.
pub const FIXED_OVERFLOW: Exc = Exc::program(8);
/// Program interruption 9: fixed-point divide.
pub const FIXED_DIVIDE: Exc = Exc::program(9);
/// Program interruption 7 with data-exception code 0xff: compare and trap.
pub const COMPARE_TRAP: Exc = Exc::data(0xff);

/// The architecture.
#[derive(Clone, Copy, Debug)]
pub struct S390x;

/// A decoded instruction. Which fields mean something depends on the format of its [`table`] row.
#[derive(Clone, Copy, Debug)]
pub struct Insn {
    /// What to do.
    pub op: Op,
    /// Length in bytes: 2, 4 or 6.
    pub len: u8,
    /// First register field (or the mask in its place).
    pub r1: u8,
    /// Second register field.
    pub r2: u8,
    /// Third register field.
    pub r3: u8,
    /// Mask (M3, or M1 of a branch).
    pub m: u8,
    /// Second mask (M4).
    pub m4: u8,
    /// Index register of the storage operand; 0 is none.
    pub x: u8,
    /// Base register of the storage operand (the first one of SS); 0 is none.
    pub b: u8,
    /// Base register of the second storage operand of SS.
    pub b2: u8,
    /// Displacement that goes with `b`.
    pub d: i32,
    /// Displacement that goes with `b2`.
    pub d2: i32,
    /// Immediate, sign-extended where the format says so; for SS the length code.
    pub imm: i64,
    /// Absolute target of a relative operand.
    pub target: u64,
    /// Address of the instruction.
    pub pc: u64,
    /// Address of the next sequential instruction: behind EXECUTE for its target.
    pub next: u64,
}

impl Insn {
    /// Address of the next sequential instruction.
    pub fn next(&self) -> u64 {
        self.next
    }
}

impl Arch for S390x {
    type Insn = Insn;
    const NAME: &'static str = "s390x";
    const SLOTS: usize = state::SLOTS;
    const INSN_ALIGN: u64 = 2;
    const MISALIGNED_PC: Exc = SPECIFICATION;
    const EXECUTE_OF_EXECUTE: Exc = EXECUTE;

    fn insn_len(first: [u8; 2]) -> usize {
        match first[0] >> 6 {
            0 => 2,
            1 | 2 => 4,
            _ => 6,
        }
    }
    fn decode(pc: u64, bytes: &[u8]) -> Insn {
        decode::decode(pc, bytes)
    }
    #[inline]
    fn exec<B: Backend>(b: &mut B, i: &Insn) -> Sem<B> {
        table::exec(b, i)
    }
    fn executed(i: &mut Insn, next: u64) {
        i.next = next
    }
    fn traps_late(slots: &[u64]) -> bool {
        slots[state::PMASK as usize] & 8 != 0 || slots[state::FPC as usize] & bfp::LATE_MASKS != 0
    }
    fn len(i: &Insn) -> u8 {
        i.len
    }
    fn pc(i: &Insn) -> u64 {
        i.pc
    }
    fn text(i: &Insn) -> String {
        text::text(i)
    }
}

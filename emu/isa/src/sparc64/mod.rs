//! SPARC V9, 64-bit: a first set of instructions, chosen for what their semantics demand of the trait (register
//! windows, delay slots with annulling, two sets of condition codes). Source: *The SPARC Architecture Manual*,
//! version 9.

pub mod branch;
pub mod decode;
pub mod general;
pub mod memory;
pub mod state;
pub mod text;

use crate::backend::{Arch, Backend, Exc, Sem};

/// Trap type 0x10: illegal_instruction.
pub const ILLEGAL: Exc = Exc::sparc(0x10);
/// Trap type 0x34: mem_address_not_aligned.
pub const NOT_ALIGNED: Exc = Exc::sparc(0x34);
/// Trap type 0x80: spill_0_normal.
pub const SPILL: Exc = Exc::sparc(0x80);
/// Trap type 0xc0: fill_0_normal.
pub const FILL: Exc = Exc::sparc(0xc0);

/// The architecture.
#[derive(Clone, Copy, Debug)]
pub struct Sparc64;

/// What an instruction does.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[allow(missing_docs, reason = "the names are the manual's mnemonics")]
pub enum Op {
    Illegal,
    Sethi,
    Bpcc,
    Add,
    Addcc,
    Sub,
    Subcc,
    Or,
    Save,
    Restore,
    Ldx,
    Stx,
}

/// A decoded instruction.
#[derive(Clone, Copy, Debug)]
pub struct Insn {
    /// What to do.
    pub op: Op,
    /// Destination (or the register stored).
    pub rd: u8,
    /// First source.
    pub rs1: u8,
    /// Second source, unless there is an immediate.
    pub rs2: u8,
    /// The second source is `imm`.
    pub immediate: bool,
    /// Immediate.
    pub imm: i64,
    /// Condition of a branch.
    pub cond: u8,
    /// A branch tests the 64-bit condition codes.
    pub wide: bool,
    /// Annul bit of a branch.
    pub annul: bool,
    /// Absolute branch target.
    pub target: u64,
    /// Address of the instruction.
    pub pc: u64,
}

impl Arch for Sparc64 {
    type Insn = Insn;
    const NAME: &'static str = "sparc64";
    const SLOTS: usize = state::SLOTS;
    const INSN_ALIGN: u64 = 4;

    fn insn_len(_: [u8; 2]) -> usize {
        4
    }
    fn decode(pc: u64, bytes: &[u8]) -> Insn {
        decode::decode(pc, bytes)
    }
    fn exec<B: Backend>(b: &mut B, i: &Insn) -> Sem<B> {
        match i.op {
            Op::Illegal => b.trap(ILLEGAL),
            Op::Sethi => general::sethi(b, i),
            Op::Bpcc => branch::conditional(b, i),
            Op::Add => general::add(b, i, false),
            Op::Addcc => general::add(b, i, true),
            Op::Sub => general::subtract(b, i, false),
            Op::Subcc => general::subtract(b, i, true),
            Op::Or => general::or(b, i),
            Op::Save => general::save(b, i),
            Op::Restore => general::restore(b, i),
            Op::Ldx => memory::load(b, i),
            Op::Stx => memory::store(b, i),
        }
    }
    fn len(_: &Insn) -> u8 {
        4
    }
    fn pc(i: &Insn) -> u64 {
        i.pc
    }
    fn text(i: &Insn) -> String {
        text::text(i)
    }
}

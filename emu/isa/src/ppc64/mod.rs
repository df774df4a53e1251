//! Power ISA, 64-bit mode, big-endian: a first set of instructions, chosen for what their semantics demand of the
//! trait (reservations on quadwords, record forms, update forms, CTR branches). Source: *Power ISA* 3.0B, Book I
//! and II.

pub mod branch;
pub mod decode;
pub mod general;
pub mod memory;
pub mod state;
pub mod text;

use crate::backend::{Arch, Backend, Exc, Sem};

/// Program interrupt: illegal instruction.
pub const PROGRAM: Exc = Exc::ppc(0x700);
/// Alignment interrupt.
pub const ALIGNMENT: Exc = Exc::ppc(0x600);

/// The architecture.
#[derive(Clone, Copy, Debug)]
pub struct Ppc64;

/// What an instruction does.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[allow(missing_docs, reason = "the names are the manual's mnemonics")]
pub enum Op {
    Illegal,
    Addi,
    Addis,
    Add,
    Addc,
    Adde,
    Or,
    Cmpi,
    Ld,
    Ldu,
    Std,
    Stdu,
    Stwu,
    Lqarx,
    Stqcx,
    B,
    Bc,
    Bclr,
}

/// A decoded instruction.
#[derive(Clone, Copy, Debug)]
pub struct Insn {
    /// What to do.
    pub op: Op,
    /// RT or RS; BO of a branch.
    pub rt: u8,
    /// RA; BI of a branch.
    pub ra: u8,
    /// RB; the CR field of a comparison.
    pub rb: u8,
    /// Record form; the link bit of a branch.
    pub rc: bool,
    /// Overflow form; 64-bit operands of a comparison.
    pub oe: bool,
    /// Immediate or displacement.
    pub imm: i64,
    /// Absolute branch target.
    pub target: u64,
    /// Address of the instruction.
    pub pc: u64,
}

impl Arch for Ppc64 {
    type Insn = Insn;
    const NAME: &'static str = "ppc64";
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
            Op::Illegal => b.trap(PROGRAM),
            Op::Addi | Op::Addis => general::add_immediate(b, i),
            Op::Add => general::add(b, i),
            Op::Addc => general::add_carrying(b, i, false),
            Op::Adde => general::add_carrying(b, i, true),
            Op::Or => general::or(b, i),
            Op::Cmpi => general::compare_immediate(b, i),
            Op::Ld => memory::load(b, i, false),
            Op::Ldu => memory::load(b, i, true),
            Op::Std => memory::store(b, i, 8, false),
            Op::Stdu => memory::store(b, i, 8, true),
            Op::Stwu => memory::store(b, i, 4, true),
            Op::Lqarx => memory::load_quadword_reserve(b, i),
            Op::Stqcx => memory::store_quadword_conditional(b, i),
            Op::B => branch::unconditional(b, i),
            Op::Bc => branch::conditional(b, i),
            Op::Bclr => branch::to_link(b, i),
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

//! Loads and stores (V9 manual, appendix A).

use super::general::{get, put, second};
use super::{Insn, NOT_ALIGNED};
use crate::backend::{Backend, MemOp, Sem};

const WORD: MemOp = MemOp::be(8).aligned(NOT_ALIGNED);

#[inline]
fn ea<B: Backend>(b: &mut B, i: &Insn) -> B::V {
    let x = get(b, i.rs1);
    let y = second(b, i);
    b.add(x, y)
}

/// LDX.
#[inline]
pub fn load<B: Backend>(b: &mut B, i: &Insn) -> Sem<B> {
    let a = ea(b, i);
    let v = b.load(WORD, a)?;
    put(b, i.rd, v);
    Ok(())
}

/// STX.
#[inline]
pub fn store<B: Backend>(b: &mut B, i: &Insn) -> Sem<B> {
    let a = ea(b, i);
    let v = get(b, i.rd);
    b.store(WORD, a, v)
}

//! Loads and stores (Power ISA Book I chapter 3.3; Book II chapter 4 for reservations).

use super::state::{SO, cr, cr_so, gpr};
use super::{ALIGNMENT, Insn, PROGRAM};
use crate::backend::{Backend, FlagKind, MemOp, Sem};

const QUAD: MemOp = MemOp::be(16).aligned(ALIGNMENT);

/// RA + displacement; RA = 0 is zero except in update forms.
#[inline]
fn ea<B: Backend>(b: &mut B, i: &Insn, update: bool) -> B::V {
    let k = b.k(i.imm as u64);
    if i.ra == 0 && !update {
        return k;
    }
    let base = b.get(gpr(i.ra));
    b.add(base, k)
}

/// RA + RB.
#[inline]
fn indexed<B: Backend>(b: &mut B, i: &Insn) -> B::V {
    let y = b.get(gpr(i.rb));
    if i.ra == 0 {
        return y;
    }
    let x = b.get(gpr(i.ra));
    b.add(x, y)
}

/// ld, ldu.
#[inline]
pub fn load<B: Backend>(b: &mut B, i: &Insn, update: bool) -> Sem<B> {
    if update && (i.ra == 0 || i.ra == i.rt) {
        return b.trap(PROGRAM);
    }
    let a = ea(b, i, update);
    let v = b.load(MemOp::be(8), a)?;
    b.set(gpr(i.rt), v);
    if update {
        b.set(gpr(i.ra), a);
    }
    Ok(())
}

/// std, stdu, stwu.
#[inline]
pub fn store<B: Backend>(b: &mut B, i: &Insn, size: u8, update: bool) -> Sem<B> {
    if update && i.ra == 0 {
        return b.trap(PROGRAM);
    }
    let a = ea(b, i, update);
    let v = b.get(gpr(i.rt));
    b.store(MemOp::be(size), a, v)?;
    if update {
        b.set(gpr(i.ra), a);
    }
    Ok(())
}

/// lqarx: RT must be even, and neither RA nor RB.
#[inline]
pub fn load_quadword_reserve<B: Backend>(b: &mut B, i: &Insn) -> Sem<B> {
    if i.rt & 1 != 0 || i.rt == i.ra || i.rt == i.rb {
        return b.trap(PROGRAM);
    }
    let a = indexed(b, i);
    let (h, l) = b.load_reserve(QUAD, a)?;
    b.set(gpr(i.rt), h);
    b.set(gpr(i.rt | 1), l);
    Ok(())
}

/// stqcx.: CR0 = 0b00 || stored || SO.
#[inline]
pub fn store_quadword_conditional<B: Backend>(b: &mut B, i: &Insn) -> Sem<B> {
    if i.rt & 1 != 0 {
        return b.trap(PROGRAM);
    }
    let a = indexed(b, i);
    let v = (b.get(gpr(i.rt)), b.get(gpr(i.rt | 1)));
    let done = b.store_conditional(QUAD, a, v)?;
    // EQ is "the canonical value is zero". With nothing stored LT, GT and EQ are all off, which the form of a
    // signed value cannot say; GT stands for it, and no branch may rely on GT after stqcx..
    let one = b.k(1);
    let r = b.xor(done, one);
    let so = b.get(SO);
    b.flags(cr(0), FlagKind::Value, r, r);
    b.set(cr_so(0), so);
    Ok(())
}

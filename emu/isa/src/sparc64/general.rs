//! Arithmetic, logic, and the register windows (V9 manual, appendix A).

use super::state::{CANRESTORE, CANSAVE, CWP, ICC, WINDOWS, XCC, reg};
use super::{FILL, Insn, SPILL};
use crate::backend::{Backend, Cc, Exc, FlagKind, Sem, Slot, Width};
use Width::{W32, W64};

/// Reads a register; register 0 is zero.
#[inline]
pub fn get<B: Backend>(b: &mut B, r: u8) -> B::V {
    if r == 0 { b.k(0) } else { b.get(reg(r)) }
}

/// Writes a register; register 0 forgets.
#[inline]
pub fn put<B: Backend>(b: &mut B, r: u8, v: B::V) {
    if r != 0 {
        b.set(reg(r), v);
    }
}

/// The second operand: register or immediate.
#[inline]
pub fn second<B: Backend>(b: &mut B, i: &Insn) -> B::V {
    if i.immediate { b.k(i.imm as u64) } else { get(b, i.rs2) }
}

/// SETHI.
#[inline]
pub fn sethi<B: Backend>(b: &mut B, i: &Insn) -> Sem<B> {
    let v = b.k(i.imm as u64);
    put(b, i.rd, v);
    Ok(())
}

/// ADD, ADDcc.
#[inline]
pub fn add<B: Backend>(b: &mut B, i: &Insn, cc: bool) -> Sem<B> {
    let x = get(b, i.rs1);
    let y = second(b, i);
    let r = b.add(x, y);
    put(b, i.rd, r);
    if cc {
        b.flags(ICC, FlagKind::AddU(W32), x, y);
        b.flags(XCC, FlagKind::AddU(W64), x, y);
    }
    Ok(())
}

/// SUB, SUBcc.
#[inline]
pub fn subtract<B: Backend>(b: &mut B, i: &Insn, cc: bool) -> Sem<B> {
    let x = get(b, i.rs1);
    let y = second(b, i);
    let r = b.sub(x, y);
    put(b, i.rd, r);
    if cc {
        b.flags(ICC, FlagKind::SubU(W32), x, y);
        b.flags(XCC, FlagKind::SubU(W64), x, y);
    }
    Ok(())
}

/// OR.
#[inline]
pub fn or<B: Backend>(b: &mut B, i: &Insn) -> Sem<B> {
    let x = get(b, i.rs1);
    let y = second(b, i);
    let r = b.or(x, y);
    put(b, i.rd, r);
    Ok(())
}

/// Turns the windows: operands from the old window, result to the new one.
#[inline]
fn rotate<B: Backend>(b: &mut B, i: &Insn, by: i8, from: Slot, to: Slot, e: Exc) -> Sem<B> {
    let left = b.get(from);
    let z = b.k(0);
    let c = b.cmp(W64, Cc::Eq, left, z);
    b.trap_if(c, e)?;
    let x = get(b, i.rs1);
    let y = second(b, i);
    let r = b.add(x, y);
    let one = b.k(1);
    let left = b.sub(left, one);
    b.set(from, left);
    let other = b.get(to);
    let other = b.add(other, one);
    b.set(to, other);
    let cwp = b.get(CWP);
    let step = b.k(by as i64 as u64);
    let cwp = b.add(cwp, step);
    let m = b.k(WINDOWS - 1);
    let cwp = b.and(cwp, m);
    b.set(CWP, cwp);
    b.rotate_windows(by);
    put(b, i.rd, r);
    b.end_block(i.pc.wrapping_add(4));
    Ok(())
}

/// SAVE.
#[inline]
pub fn save<B: Backend>(b: &mut B, i: &Insn) -> Sem<B> {
    rotate(b, i, 1, CANSAVE, CANRESTORE, SPILL)
}

/// RESTORE.
#[inline]
pub fn restore<B: Backend>(b: &mut B, i: &Insn) -> Sem<B> {
    rotate(b, i, -1, CANRESTORE, CANSAVE, FILL)
}

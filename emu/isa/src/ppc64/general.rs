//! Fixed-point arithmetic and comparison (Power ISA Book I, chapter 3.3).

use super::Insn;
use super::state::{CA, CA32, OV, OV32, SO, cr, cr_so, gpr};
use crate::backend::{Backend, Cc, FlagKind, Sem, Width};
use Width::W64;

/// Sets CR0 from a result when the instruction is a record form; SO is copied after it has been updated.
#[inline]
pub fn record<B: Backend>(b: &mut B, i: &Insn, r: B::V, so: B::V) {
    if i.rc {
        let z = b.k(0);
        b.flags(cr(0), FlagKind::Cmp(W64), r, z);
        b.set(cr_so(0), so);
    }
}

/// Sign bit of `v` shifted down from bit `from`.
#[inline]
fn bit<B: Backend>(b: &mut B, v: B::V, from: u64) -> B::V {
    let k = b.k(from);
    let one = b.k(1);
    let v = b.shr(v, k);
    b.and(v, one)
}

/// Writes RT, then OV, OV32 and SO in overflow forms, then CR0 in record forms.
#[inline]
fn finish<B: Backend>(b: &mut B, i: &Insn, x: B::V, y: B::V, r: B::V) {
    let mut so = b.get(SO);
    b.set(gpr(i.rt), r);
    if i.oe {
        // Overflow: both operands differ in sign from the result.
        let dx = b.xor(x, r);
        let dy = b.xor(y, r);
        let v = b.and(dx, dy);
        let ov = bit(b, v, 63);
        let ov32 = bit(b, v, 31);
        so = b.or(so, ov);
        b.set(OV, ov);
        b.set(OV32, ov32);
        b.set(SO, so);
    }
    record(b, i, r, so);
}

/// addi, addis.
#[inline]
pub fn add_immediate<B: Backend>(b: &mut B, i: &Insn) -> Sem<B> {
    let k = b.k(i.imm as u64);
    let r = if i.ra == 0 {
        k
    } else {
        let x = b.get(gpr(i.ra));
        b.add(x, k)
    };
    b.set(gpr(i.rt), r);
    Ok(())
}

/// add, add., addo, addo.
#[inline]
pub fn add<B: Backend>(b: &mut B, i: &Insn) -> Sem<B> {
    let x = b.get(gpr(i.ra));
    let y = b.get(gpr(i.rb));
    let r = b.add(x, y);
    finish(b, i, x, y, r);
    Ok(())
}

/// addc and adde (`extended`: plus CA).
#[inline]
pub fn add_carrying<B: Backend>(b: &mut B, i: &Insn, extended: bool) -> Sem<B> {
    let x = b.get(gpr(i.ra));
    let y = b.get(gpr(i.rb));
    let t = b.add(x, y);
    let c = b.cmp(W64, Cc::Ltu, t, x);
    let mut carry = b.c2v(c);
    let mut r = t;
    if extended {
        let ca = b.get(CA);
        r = b.add(t, ca);
        let c = b.cmp(W64, Cc::Ltu, r, t);
        let c = b.c2v(c);
        carry = b.or(carry, c);
    }
    // The carry out of bit 32 shows in the sum's bit 32.
    let d = b.xor(x, y);
    let d = b.xor(d, r);
    let carry32 = bit(b, d, 32);
    b.set(CA, carry);
    b.set(CA32, carry32);
    finish(b, i, x, y, r);
    Ok(())
}

/// or (mr when RS = RB).
#[inline]
pub fn or<B: Backend>(b: &mut B, i: &Insn) -> Sem<B> {
    let x = b.get(gpr(i.rt));
    let y = b.get(gpr(i.rb));
    let r = b.or(x, y);
    b.set(gpr(i.ra), r);
    let so = b.get(SO);
    record(b, i, r, so);
    Ok(())
}

/// cmpi: cmpdi, cmpwi.
#[inline]
pub fn compare_immediate<B: Backend>(b: &mut B, i: &Insn) -> Sem<B> {
    let x = b.get(gpr(i.ra));
    let k = b.k(i.imm as u64);
    let so = b.get(SO);
    b.flags(cr(i.rb), FlagKind::Cmp(if i.oe { W64 } else { Width::W32 }), x, k);
    b.set(cr_so(i.rb), so);
    Ok(())
}

//! Arithmetic, logic, comparison, shifts and rotates on general registers (PoP chapter 7).

use super::helpers::DIVIDE_128;
use super::operand::{Src, ea, even, pair32, put, put_high, put_pair32, src};
use super::state::{CC, CC_FLAG, PMASK, gpr};
use super::{FIXED_DIVIDE, FIXED_OVERFLOW, Insn};
use crate::backend::{Backend, Cc, FlagKind, Helper, Sem, Width};
use Width::{W32, W64};

/// Two-operand arithmetic and logic that sets the condition code.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Alu {
    /// Signed sum.
    Add,
    /// Signed difference.
    Sub,
    /// Logical sum.
    AddL,
    /// Logical difference.
    SubL,
    /// And.
    And,
    /// Or.
    Or,
    /// Exclusive or.
    Xor,
}

impl Alu {
    /// The operation on values.
    #[inline]
    pub fn apply<B: Backend>(self, b: &mut B, x: B::V, y: B::V) -> B::V {
        match self {
            Alu::Add | Alu::AddL => b.add(x, y),
            Alu::Sub | Alu::SubL => b.sub(x, y),
            Alu::And => b.and(x, y),
            Alu::Or => b.or(x, y),
            Alu::Xor => b.xor(x, y),
        }
    }
    /// Its condition code and overflow exception, the instruction's last effects; `r` is the result.
    #[inline]
    pub fn flags<B: Backend>(self, b: &mut B, w: Width, x: B::V, y: B::V, r: B::V) -> Sem<B> {
        match self {
            Alu::Add => {
                b.flags(CC_FLAG, FlagKind::AddS(w), x, y);
                return overflow(b);
            }
            Alu::Sub => {
                b.flags(CC_FLAG, FlagKind::SubS(w), x, y);
                return overflow(b);
            }
            Alu::AddL => b.flags(CC_FLAG, FlagKind::AddU(w), x, y),
            Alu::SubL => b.flags(CC_FLAG, FlagKind::SubU(w), x, y),
            Alu::And | Alu::Or | Alu::Xor => {
                let z = b.k(0);
                b.flags(CC_FLAG, FlagKind::Logic(w), r, z)
            }
        }
        Ok(())
    }
}

/// ADD, SUBTRACT, AND, OR, EXCLUSIVE OR in all register, immediate and storage-to-register forms: R1 = `x` op `y`.
#[inline]
pub fn alu<B: Backend>(b: &mut B, i: &Insn, k: Alu, w: Width, x: Src, y: Src) -> Sem<B> {
    let x = src(b, i, x)?;
    let y = src(b, i, y)?;
    let r = k.apply(b, x, y);
    put(b, i.r1, w, r);
    k.flags(b, w, x, y, r)
}

/// The same on high halves (high-word facility): R1 high = `x` op `y`.
#[inline]
pub fn alu_high<B: Backend>(b: &mut B, i: &Insn, k: Alu, x: Src, y: Src) -> Sem<B> {
    let x = src(b, i, x)?;
    let y = src(b, i, y)?;
    let r = k.apply(b, x, y);
    put_high(b, i.r1, r);
    k.flags(b, W32, x, y, r)
}

/// ADD LOGICAL WITH SIGNED IMMEDIATE HIGH without condition code.
#[inline]
pub fn add_high_no_cc<B: Backend>(b: &mut B, i: &Insn) -> Sem<B> {
    let x = src(b, i, Src::High(1))?;
    let y = src(b, i, Src::I)?;
    let r = b.add(x, y);
    put_high(b, i.r1, r);
    Ok(())
}

/// ADD LOGICAL WITH CARRY and SUBTRACT LOGICAL WITH BORROW: the latter adds the complement.
#[inline]
pub fn carry_in<B: Backend>(b: &mut B, i: &Insn, w: Width, subtract: bool, y: Src) -> Sem<B> {
    let x = src(b, i, Src::R1)?;
    let y = src(b, i, y)?;
    let ones = b.k(u64::MAX);
    let y = if subtract { b.xor(y, ones) } else { y };
    let c = b.flags_test(CC_FLAG, 3);
    let c = b.c2v(c);
    let one = b.k(1);
    let zero = b.k(0);
    let (r, carry) = match w {
        W32 => {
            let x = b.zx(x, 32);
            let y = b.zx(y, 32);
            let s = b.add(x, y);
            let s = b.add(s, c);
            let k = b.k(32);
            let carry = b.shr(s, k);
            (s, carry)
        }
        W64 => {
            let t = b.add(x, y);
            let c1 = b.cmp(W64, Cc::Ltu, t, x);
            let c1 = b.c2v(c1);
            let s = b.add(t, c);
            let c2 = b.cmp(W64, Cc::Ltu, s, t);
            let c2 = b.c2v(c2);
            let carry = b.or(c1, c2);
            (s, carry)
        }
    };
    let nz = b.cmp(w, Cc::Ne, r, zero);
    let nz = b.c2v(nz);
    let hi = b.shl(carry, one);
    let cc = b.or(hi, nz);
    put(b, i.r1, w, r);
    b.flags(CC_FLAG, FlagKind::Value, cc, cc);
    Ok(())
}

/// AND, OR IMMEDIATE on one 16- or 32-bit part of R1, whose lowest bit is `shift`.
#[inline]
pub fn imm_part<B: Backend>(b: &mut B, i: &Insn, k: Alu, bits: u8, shift: u8) -> Sem<B> {
    let mask = if bits == 16 { 0xffff } else { 0xffff_ffff };
    let part = i.imm as u64 & mask;
    let old = b.get(gpr(i.r1));
    let operand = match k {
        Alu::And => part << shift | !(mask << shift),
        _ => part << shift,
    };
    let y = b.k(operand);
    let r = k.apply(b, old, y);
    let sel = b.k(mask << shift);
    let shown = b.and(r, sel);
    b.set(gpr(i.r1), r);
    let z = b.k(0);
    b.flags(CC_FLAG, FlagKind::Logic(W64), shown, z);
    Ok(())
}

/// INSERT IMMEDIATE: replaces one part of R1.
#[inline]
pub fn insert_part<B: Backend>(b: &mut B, i: &Insn, bits: u8, shift: u8) -> Sem<B> {
    let mask = if bits == 16 { 0xffff } else { 0xffff_ffff };
    let old = b.get(gpr(i.r1));
    let keep = b.k(!(mask << shift));
    let new = b.k((i.imm as u64 & mask) << shift);
    let r = b.and(old, keep);
    let r = b.or(r, new);
    b.set(gpr(i.r1), r);
    Ok(())
}

/// LOAD LOGICAL IMMEDIATE: one part, zeros elsewhere.
#[inline]
pub fn load_part<B: Backend>(b: &mut B, i: &Insn, bits: u8, shift: u8) -> Sem<B> {
    let mask = if bits == 16 { 0xffff } else { 0xffff_ffff };
    let r = b.k((i.imm as u64 & mask) << shift);
    b.set(gpr(i.r1), r);
    Ok(())
}

/// TEST UNDER MASK on a 16-bit part of R1.
#[inline]
pub fn test_part<B: Backend>(b: &mut B, i: &Insn, shift: u8) -> Sem<B> {
    let mask = (i.imm as u64 & 0xffff) << shift;
    let v = b.get(gpr(i.r1));
    let m = b.k(mask);
    let v = b.and(v, m);
    b.flags(CC_FLAG, FlagKind::TestMaskHigh, v, m);
    Ok(())
}

/// COMPARE, COMPARE LOGICAL.
#[inline]
pub fn compare<B: Backend>(b: &mut B, i: &Insn, k: FlagKind, x: Src, y: Src) -> Sem<B> {
    let x = src(b, i, x)?;
    let y = src(b, i, y)?;
    b.flags(CC_FLAG, k, x, y);
    Ok(())
}

/// LOAD of every kind that only moves and extends.
#[inline]
pub fn load<B: Backend>(b: &mut B, i: &Insn, w: Width, y: Src) -> Sem<B> {
    let v = src(b, i, y)?;
    put(b, i.r1, w, v);
    Ok(())
}

/// LOAD to a high half.
#[inline]
pub fn load_high<B: Backend>(b: &mut B, i: &Insn, y: Src) -> Sem<B> {
    let v = src(b, i, y)?;
    put_high(b, i.r1, v);
    Ok(())
}

/// LOAD LOGICAL THIRTY ONE BITS.
#[inline]
pub fn load_31<B: Backend>(b: &mut B, i: &Insn, y: Src) -> Sem<B> {
    let v = src(b, i, y)?;
    let m = b.k(0x7fff_ffff);
    let v = b.and(v, m);
    b.set(gpr(i.r1), v);
    Ok(())
}

/// LOAD AND TEST.
#[inline]
pub fn load_test<B: Backend>(b: &mut B, i: &Insn, w: Width, y: Src) -> Sem<B> {
    let v = src(b, i, y)?;
    put(b, i.r1, w, v);
    let z = b.k(0);
    b.flags(CC_FLAG, FlagKind::Cmp(w), v, z);
    Ok(())
}

/// LOAD COMPLEMENT: `0 - y`.
#[inline]
pub fn load_complement<B: Backend>(b: &mut B, i: &Insn, w: Width, y: Src) -> Sem<B> {
    let v = src(b, i, y)?;
    let z = b.k(0);
    let r = b.sub(z, v);
    put(b, i.r1, w, r);
    b.flags(CC_FLAG, FlagKind::SubS(w), z, v);
    overflow(b)
}

/// LOAD NEGATIVE (`positive` false) and LOAD POSITIVE.
#[inline]
pub fn load_signed<B: Backend>(b: &mut B, i: &Insn, w: Width, positive: bool, y: Src) -> Sem<B> {
    let v = src(b, i, y)?;
    let z = b.k(0);
    let c = b.cmp(w, Cc::Lt, v, z);
    let n = b.sub(z, v);
    let negative = b.sel(c, v, n);
    if positive {
        let r = b.sub(z, negative);
        put(b, i.r1, w, r);
        b.flags(CC_FLAG, FlagKind::SubS(w), z, negative);
        return overflow(b);
    } else {
        put(b, i.r1, w, negative);
        b.flags(CC_FLAG, FlagKind::Cmp(w), negative, z);
    }
    Ok(())
}

/// LOAD ADDRESS.
#[inline]
pub fn load_address<B: Backend>(b: &mut B, i: &Insn) -> Sem<B> {
    let a = ea(b, i);
    b.set(gpr(i.r1), a);
    Ok(())
}

/// LOAD ADDRESS RELATIVE LONG.
#[inline]
pub fn load_address_relative<B: Backend>(b: &mut B, i: &Insn) -> Sem<B> {
    let a = b.k(i.target);
    b.set(gpr(i.r1), a);
    Ok(())
}

/// LOAD ON CONDITION, register form.
#[inline]
pub fn load_on_condition<B: Backend>(b: &mut B, i: &Insn, w: Width) -> Sem<B> {
    let old = b.get(gpr(i.r1));
    let new = b.get(gpr(i.r2));
    let c = b.flags_test(CC_FLAG, i.m);
    let r = b.sel(c, new, old);
    put(b, i.r1, w, r);
    Ok(())
}

/// MULTIPLY SINGLE, MULTIPLY HALFWORD: low bits of the product to R1.
#[inline]
pub fn multiply<B: Backend>(b: &mut B, i: &Insn, w: Width, y: Src) -> Sem<B> {
    let x = b.get(gpr(i.r1));
    let y = src(b, i, y)?;
    let r = b.mul(x, y);
    put(b, i.r1, w, r);
    Ok(())
}

/// MULTIPLY, MULTIPLY LOGICAL of 32-bit operands: product to a pair.
#[inline]
pub fn multiply_pair32<B: Backend>(b: &mut B, i: &Insn, signed: bool, y: Src) -> Sem<B> {
    even(b, i.r1)?;
    let x = b.get(gpr(i.r1 | 1));
    let y = src(b, i, y)?;
    let (x, y) = if signed { (b.sx(x, 32), b.sx(y, 32)) } else { (b.zx(x, 32), b.zx(y, 32)) };
    let r = b.mul(x, y);
    put_pair32(b, i.r1, r);
    Ok(())
}

/// MULTIPLY LOGICAL of 64-bit operands: product to a pair.
#[inline]
pub fn multiply_pair64<B: Backend>(b: &mut B, i: &Insn, y: Src) -> Sem<B> {
    even(b, i.r1)?;
    let x = b.get(gpr(i.r1 | 1));
    let y = src(b, i, y)?;
    let h = b.mulhu(x, y);
    let l = b.mul(x, y);
    b.set(gpr(i.r1), h);
    b.set(gpr(i.r1 | 1), l);
    Ok(())
}

/// DIVIDE: 64 by 32 bits, signed; remainder to R1, quotient to R1 + 1.
#[inline]
pub fn divide_32<B: Backend>(b: &mut B, i: &Insn, y: Src) -> Sem<B> {
    even(b, i.r1)?;
    let x = pair32(b, i.r1);
    let y = src(b, i, y)?;
    let y = b.sx(y, 32);
    check_divisor(b, x, y)?;
    let q = b.sdiv(x, y);
    let r = b.srem(x, y);
    let s = b.sx(q, 32);
    let c = b.cmp(W64, Cc::Ne, s, q);
    b.trap_if(c, FIXED_DIVIDE)?;
    b.set_low32(gpr(i.r1), r);
    b.set_low32(gpr(i.r1 | 1), q);
    Ok(())
}

/// Raises the divide exception for a zero divisor and for the one signed quotient that does not fit.
#[inline]
fn check_divisor<B: Backend>(b: &mut B, x: B::V, y: B::V) -> Sem<B> {
    let z = b.k(0);
    let c = b.cmp(W64, Cc::Eq, y, z);
    b.trap_if(c, FIXED_DIVIDE)?;
    let min = b.k(1 << 63);
    let d = b.xor(x, min);
    let ones = b.k(u64::MAX);
    let e = b.xor(y, ones);
    let both = b.or(d, e);
    let c = b.cmp(W64, Cc::Eq, both, z);
    b.trap_if(c, FIXED_DIVIDE)
}

/// DIVIDE LOGICAL: 64 by 32 bits.
#[inline]
pub fn divide_logical_32<B: Backend>(b: &mut B, i: &Insn, y: Src) -> Sem<B> {
    even(b, i.r1)?;
    let x = pair32(b, i.r1);
    let y = src(b, i, y)?;
    let y = b.zx(y, 32);
    let z = b.k(0);
    let c = b.cmp(W64, Cc::Eq, y, z);
    b.trap_if(c, FIXED_DIVIDE)?;
    let q = b.udiv(x, y);
    let r = b.urem(x, y);
    let max = b.k(0xffff_ffff);
    let c = b.cmp(W64, Cc::Gtu, q, max);
    b.trap_if(c, FIXED_DIVIDE)?;
    b.set_low32(gpr(i.r1), r);
    b.set_low32(gpr(i.r1 | 1), q);
    Ok(())
}

/// DIVIDE SINGLE: R1 + 1 by `y`, signed 64 bits.
#[inline]
pub fn divide_single<B: Backend>(b: &mut B, i: &Insn, y: Src) -> Sem<B> {
    even(b, i.r1)?;
    let x = b.get(gpr(i.r1 | 1));
    let y = src(b, i, y)?;
    check_divisor(b, x, y)?;
    let q = b.sdiv(x, y);
    let r = b.srem(x, y);
    b.set(gpr(i.r1), r);
    b.set(gpr(i.r1 | 1), q);
    Ok(())
}

/// DIVIDE LOGICAL: 128 by 64 bits.
#[inline]
pub fn divide_logical_64<B: Backend>(b: &mut B, i: &Insn, y: Src) -> Sem<B> {
    even(b, i.r1)?;
    let h = b.get(gpr(i.r1));
    let l = b.get(gpr(i.r1 | 1));
    let y = src(b, i, y)?;
    let q = b.helper(&DIVIDE_128, &[h, l, y])?;
    let p = b.mul(q, y);
    let r = b.sub(l, p);
    b.set(gpr(i.r1), r);
    b.set(gpr(i.r1 | 1), q);
    Ok(())
}

/// Shift amount: the low six bits of the second-operand address.
#[inline]
fn amount<B: Backend>(b: &mut B, i: &Insn) -> B::V {
    if i.b == 0 {
        return b.k(i.d as u64 & 63);
    }
    let a = ea(b, i);
    let m = b.k(63);
    b.and(a, m)
}

/// SHIFT LEFT SINGLE LOGICAL, SHIFT RIGHT SINGLE LOGICAL; `x` is R1 in the two-operand form, R3 in the other.
#[inline]
pub fn shift_logical<B: Backend>(b: &mut B, i: &Insn, w: Width, left: bool, x: Src) -> Sem<B> {
    let v = src(b, i, x)?;
    let v = if w == W32 && !left { b.zx(v, 32) } else { v };
    let n = amount(b, i);
    let r = if left { b.shl(v, n) } else { b.shr(v, n) };
    put(b, i.r1, w, r);
    Ok(())
}

/// SHIFT RIGHT SINGLE.
#[inline]
pub fn shift_right<B: Backend>(b: &mut B, i: &Insn, w: Width, x: Src) -> Sem<B> {
    let v = src(b, i, x)?;
    let v = if w == W32 { b.sx(v, 32) } else { v };
    let n = amount(b, i);
    let r = b.sar(v, n);
    put(b, i.r1, w, r);
    let z = b.k(0);
    b.flags(CC_FLAG, FlagKind::Cmp(w), r, z);
    Ok(())
}

/// Condition code of a signed shift left.
#[inline]
fn shift_cc<B: Backend>(b: &mut B, w: Width, overflow: B::C, r: B::V) {
    let z = b.k(0);
    let one = b.k(1);
    let two = b.k(2);
    let three = b.k(3);
    let neg = b.cmp(w, Cc::Lt, r, z);
    let nz = b.cmp(w, Cc::Ne, r, z);
    let cc = b.sel(nz, two, z);
    let cc = b.sel(neg, one, cc);
    let cc = b.sel(overflow, three, cc);
    b.flags(CC_FLAG, FlagKind::Value, cc, cc);
}

/// Shifts 63 numeric bits left, keeping the sign; also says whether a bit unlike the sign was lost.
#[inline]
fn shift_left_numeric<B: Backend>(b: &mut B, v: B::V, n: B::V) -> (B::V, B::C) {
    let t = b.shl(v, n);
    let back = b.sar(t, n);
    let max = b.k(i64::MAX as u64);
    let min = b.k(1 << 63);
    let t = b.and(t, max);
    let s = b.and(v, min);
    let r = b.or(t, s);
    let lost = b.cmp(W64, Cc::Ne, back, v);
    (r, lost)
}

/// SHIFT LEFT SINGLE.
#[inline]
pub fn shift_left<B: Backend>(b: &mut B, i: &Insn, w: Width, x: Src) -> Sem<B> {
    let v = src(b, i, x)?;
    let n = amount(b, i);
    let (r, lost) = match w {
        W64 => shift_left_numeric(b, v, n),
        W32 => {
            // An amount of 32 or more loses all numeric bits; 32 is as good as any and fits 64 bits.
            let v = b.sx(v, 32);
            let most = b.k(32);
            let big = b.cmp(W64, Cc::Gtu, n, most);
            let n = b.sel(big, most, n);
            let t = b.shl(v, n);
            let s = b.sx(t, 32);
            let lost = b.cmp(W64, Cc::Ne, s, t);
            let num = b.k(0x7fff_ffff);
            let sign = b.k(0x8000_0000);
            let t = b.and(t, num);
            let s = b.and(v, sign);
            (b.or(t, s), lost)
        }
    };
    put(b, i.r1, w, r);
    shift_cc(b, w, lost, r);
    overflow(b)
}

/// Shifts of an even-odd pair as 64 bits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Double {
    /// SHIFT LEFT DOUBLE LOGICAL.
    LeftLogical,
    /// SHIFT RIGHT DOUBLE LOGICAL.
    RightLogical,
    /// SHIFT LEFT DOUBLE.
    Left,
    /// SHIFT RIGHT DOUBLE.
    Right,
}

/// SHIFT ... DOUBLE ....
#[inline]
pub fn shift_double<B: Backend>(b: &mut B, i: &Insn, k: Double) -> Sem<B> {
    even(b, i.r1)?;
    let v = pair32(b, i.r1);
    let n = amount(b, i);
    match k {
        Double::LeftLogical | Double::RightLogical => {
            let r = if k == Double::LeftLogical { b.shl(v, n) } else { b.shr(v, n) };
            put_pair32(b, i.r1, r);
        }
        Double::Left => {
            let (r, lost) = shift_left_numeric(b, v, n);
            put_pair32(b, i.r1, r);
            shift_cc(b, W64, lost, r);
            return overflow(b);
        }
        Double::Right => {
            let r = b.sar(v, n);
            put_pair32(b, i.r1, r);
            let z = b.k(0);
            b.flags(CC_FLAG, FlagKind::Cmp(W64), r, z);
        }
    }
    Ok(())
}

/// ROTATE LEFT SINGLE LOGICAL.
#[inline]
pub fn rotate<B: Backend>(b: &mut B, i: &Insn, w: Width) -> Sem<B> {
    let v = b.get(gpr(i.r3));
    let n = amount(b, i);
    let r = if w == W32 { b.rotl32(v, n) } else { b.rotl(v, n) };
    put(b, i.r1, w, r);
    Ok(())
}

/// Ones from bit `start` to bit `end` in the manual's numbering (0 is the most significant), wrapping around.
pub const fn bit_range(start: u32, end: u32) -> u64 {
    let from = u64::MAX >> start;
    let to = u64::MAX << (63 - end);
    if start <= end { from & to } else { from | to }
}

#[inline]
fn rotated<B: Backend>(b: &mut B, i: &Insn) -> B::V {
    let v = b.get(gpr(i.r2));
    let n = i.imm as u64 & 63;
    if n == 0 {
        return v;
    }
    let n = b.k(n);
    b.rotl(v, n)
}

/// ROTATE THEN INSERT SELECTED BITS, with or without condition code.
#[inline]
pub fn rotate_insert<B: Backend>(b: &mut B, i: &Insn, cc: bool) -> Sem<B> {
    let mask = bit_range((i.imm >> 16 & 63) as u32, (i.imm >> 8 & 63) as u32);
    let v = rotated(b, i);
    let m = b.k(mask);
    let mut r = b.and(v, m);
    if i.imm & 0x8000 == 0 {
        let old = b.get(gpr(i.r1));
        let keep = b.k(!mask);
        let old = b.and(old, keep);
        r = b.or(old, r);
    }
    b.set(gpr(i.r1), r);
    if cc {
        let z = b.k(0);
        b.flags(CC_FLAG, FlagKind::Cmp(W64), r, z);
    }
    Ok(())
}

/// ROTATE THEN INSERT SELECTED BITS HIGH and LOW: within one half, the other half stays.
#[inline]
pub fn rotate_insert_half<B: Backend>(b: &mut B, i: &Insn, high: bool) -> Sem<B> {
    let (start, end) = ((i.imm >> 16 & 31) as u32, (i.imm >> 8 & 31) as u32);
    let m32 = {
        let from = u32::MAX >> start;
        let to = u32::MAX << (31 - end);
        (if start <= end { from & to } else { from | to }) as u64
    };
    let shift = if high { 32 } else { 0 };
    let mask = m32 << shift;
    let keep = if i.imm & 0x8000 == 0 { !mask } else { !(0xffff_ffff << shift) };
    let v = rotated(b, i);
    let m = b.k(mask);
    let new = b.and(v, m);
    let old = b.get(gpr(i.r1));
    let keep = b.k(keep);
    let old = b.and(old, keep);
    let r = b.or(old, new);
    b.set(gpr(i.r1), r);
    Ok(())
}

/// ROTATE THEN AND / OR / EXCLUSIVE OR SELECTED BITS; bit 0 of I3 asks for the condition code only.
#[inline]
pub fn rotate_logic<B: Backend>(b: &mut B, i: &Insn, k: Alu) -> Sem<B> {
    let mask = bit_range((i.imm >> 16 & 63) as u32, (i.imm >> 8 & 63) as u32);
    let v = rotated(b, i);
    let old = b.get(gpr(i.r1));
    let m = b.k(mask);
    let r = k.apply(b, old, v);
    let shown = b.and(r, m);
    if i.imm >> 16 & 0x80 == 0 {
        let keep = b.k(!mask);
        let rest = b.and(old, keep);
        let r = b.or(rest, shown);
        b.set(gpr(i.r1), r);
    }
    let z = b.k(0);
    b.flags(CC_FLAG, FlagKind::Logic(W64), shown, z);
    Ok(())
}

/// FIND LEFTMOST ONE.
#[inline]
pub fn find_leftmost_one<B: Backend>(b: &mut B, i: &Insn) -> Sem<B> {
    even(b, i.r1)?;
    let v = b.get(gpr(i.r2));
    let n = b.clz(v);
    let top = b.k(1 << 63);
    let bit = b.shr(top, n);
    let ones = b.k(u64::MAX);
    let keep = b.xor(bit, ones);
    let rest = b.and(v, keep);
    let z = b.k(0);
    let two = b.k(2);
    let c = b.cmp(W64, Cc::Ne, v, z);
    let cc = b.sel(c, two, z);
    b.set(gpr(i.r1), n);
    b.set(gpr(i.r1 | 1), rest);
    b.flags(CC_FLAG, FlagKind::Value, cc, cc);
    Ok(())
}

/// POPULATION COUNT: of each byte.
#[inline]
pub fn population_count<B: Backend>(b: &mut B, i: &Insn) -> Sem<B> {
    let v = b.get(gpr(i.r2));
    let step = |b: &mut B, v: B::V, n: u64, m: u64| {
        let n = b.k(n);
        let m = b.k(m);
        let hi = b.shr(v, n);
        let hi = b.and(hi, m);
        let lo = b.and(v, m);
        b.add(hi, lo)
    };
    let v = step(b, v, 1, 0x5555_5555_5555_5555);
    let v = step(b, v, 2, 0x3333_3333_3333_3333);
    let v = step(b, v, 4, 0x0f0f_0f0f_0f0f_0f0f);
    b.set(gpr(i.r1), v);
    let z = b.k(0);
    b.flags(CC_FLAG, FlagKind::Logic(W64), v, z);
    Ok(())
}

/// LOAD REVERSED, register form.
#[inline]
pub fn load_reversed<B: Backend>(b: &mut B, i: &Insn, w: Width) -> Sem<B> {
    let v = b.get(gpr(i.r2));
    let mut r = b.bswap(v);
    if w == W32 {
        let k = b.k(32);
        r = b.shr(r, k);
    }
    put(b, i.r1, w, r);
    Ok(())
}

/// INSERT PROGRAM MASK.
#[inline]
pub fn insert_program_mask<B: Backend>(b: &mut B, i: &Insn) -> Sem<B> {
    let cc = b.flags_value(CC_FLAG);
    let pm = b.get(PMASK);
    let k28 = b.k(28);
    let k24 = b.k(24);
    let cc = b.shl(cc, k28);
    let pm = b.shl(pm, k24);
    let new = b.or(cc, pm);
    let old = b.get(gpr(i.r1));
    let keep = b.k(!0xff00_0000);
    let old = b.and(old, keep);
    let r = b.or(old, new);
    b.set(gpr(i.r1), r);
    Ok(())
}

/// Makes the engine notice that exceptions of completed instructions were enabled.
pub(super) static NOTICE: Helper = Helper {
    name: "late exceptions enabled",
    run: |e, _| {
        e.end_block();
        Ok(0)
    },
    reads: &[],
    writes: &[],
    faults: false,
};

/// Raises the fixed-point-overflow exception if the program mask asks for it: the condition code of whatever can
/// overflow is 3 only then.
static OVERFLOW: Helper = Helper {
    name: "fixed-point overflow",
    run: |e, _| if e.get(CC) == 3 && e.get(PMASK) & 8 != 0 { Err(FIXED_OVERFLOW) } else { Ok(0) },
    reads: &[(CC, 1), (PMASK, 1)],
    writes: &[],
    faults: true,
};

/// The end of every instruction whose condition code 3 means fixed-point overflow.
#[inline]
pub(super) fn overflow<B: Backend>(b: &mut B) -> Sem<B> {
    b.late(&OVERFLOW)
}

/// SET PROGRAM MASK.
#[inline]
pub fn set_program_mask<B: Backend>(b: &mut B, i: &Insn) -> Sem<B> {
    let v = b.get(gpr(i.r1));
    let k24 = b.k(24);
    let v = b.shr(v, k24);
    let k15 = b.k(15);
    let pm = b.and(v, k15);
    let k4 = b.k(4);
    let cc = b.shr(v, k4);
    let k3 = b.k(3);
    let cc = b.and(cc, k3);
    b.set(PMASK, pm);
    b.flags(CC_FLAG, FlagKind::Value, cc, cc);
    let k8 = b.k(8);
    let z = b.k(0);
    let overflow = b.and(pm, k8);
    let c = b.cmp(W64, Cc::Ne, overflow, z);
    b.when(c, |b| b.helper(&NOTICE, &[]).map(|_| ()))
}

/// EXTRACT PSW: the halves of bits 0 to 63. What problem state does not see change is what Linux gives a process.
#[inline]
pub fn extract_psw<B: Backend>(b: &mut B, i: &Insn) -> Sem<B> {
    let cc = b.flags_value(CC_FLAG);
    let pm = b.get(PMASK);
    let k12 = b.k(12);
    let k8 = b.k(8);
    let cc = b.shl(cc, k12);
    let pm = b.shl(pm, k8);
    let changing = b.or(cc, pm);
    let fixed = b.k(0x0705_0001);
    let high = b.or(fixed, changing);
    b.set_low32(gpr(i.r1), high);
    if i.r2 != 0 {
        let low = b.k(0x8000_0000);
        b.set_low32(gpr(i.r2), low);
    }
    Ok(())
}

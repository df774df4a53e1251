//! Operands: effective addresses, sources, destinations (PoP chapter 5, "Address Generation").

use super::state::gpr;
use super::{Insn, SPECIFICATION};
use crate::backend::{Backend, MemOp, Sem, Width};

/// One byte, zeros in front.
pub const U8: MemOp = MemOp::be(1);
/// Two bytes, zeros in front.
pub const U16: MemOp = MemOp::be(2);
/// Four bytes, zeros in front.
pub const U32: MemOp = MemOp::be(4);
/// Eight bytes.
pub const U64: MemOp = MemOp::be(8);
/// One byte, sign in front.
pub const S8: MemOp = MemOp::be(1).signed();
/// Two bytes, sign in front.
pub const S16: MemOp = MemOp::be(2).signed();
/// Four bytes, sign in front.
pub const S32: MemOp = MemOp::be(4).signed();

/// Where a source operand comes from.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Src {
    /// All of R1.
    R1,
    /// All of R2.
    R2,
    /// All of R3.
    R3,
    /// The low bits of R2, sign-extended.
    R2S(u8),
    /// The low bits of R2, zero-extended.
    R2Z(u8),
    /// The high half of R1, R2 or R3 (by number), zero-extended.
    High(u8),
    /// Storage at base, index and displacement.
    M(MemOp),
    /// Storage at the relative address; must be aligned.
    Rel(MemOp),
    /// The immediate as decoded.
    I,
    /// The low 8 bits of the immediate, zero-extended.
    I8,
    /// The low 16 bits of the immediate, zero-extended.
    I16,
    /// The low 32 bits of the immediate, zero-extended.
    I32,
}

/// Base register plus displacement.
#[inline]
fn base_disp<B: Backend>(b: &mut B, base: u8, d: i32) -> B::V {
    if base == 0 {
        return b.k(d as i64 as u64);
    }
    let v = b.get(gpr(base));
    if d == 0 {
        return v;
    }
    let k = b.k(d as i64 as u64);
    b.add(v, k)
}

/// The address of the (first) storage operand.
#[inline]
pub fn ea<B: Backend>(b: &mut B, i: &Insn) -> B::V {
    let a = base_disp(b, i.b, i.d);
    if i.x == 0 {
        return a;
    }
    let x = b.get(gpr(i.x));
    b.add(x, a)
}

/// The address of the second storage operand of an SS instruction.
#[inline]
pub fn ea2<B: Backend>(b: &mut B, i: &Insn) -> B::V {
    base_disp(b, i.b2, i.d2)
}

/// Fetches a source operand.
#[inline]
pub fn src<B: Backend>(b: &mut B, i: &Insn, s: Src) -> Result<B::V, B::Trap> {
    Ok(match s {
        Src::R1 => b.get(gpr(i.r1)),
        Src::R2 => b.get(gpr(i.r2)),
        Src::R3 => b.get(gpr(i.r3)),
        Src::R2S(n) => {
            let v = b.get(gpr(i.r2));
            b.sx(v, n)
        }
        Src::R2Z(n) => {
            let v = b.get(gpr(i.r2));
            b.zx(v, n)
        }
        Src::High(n) => {
            let v = b.get(gpr([i.r1, i.r1, i.r2, i.r3][n as usize & 3]));
            let k = b.k(32);
            b.shr(v, k)
        }
        Src::M(m) => {
            let a = ea(b, i);
            b.load(m, a)?
        }
        Src::Rel(m) => {
            let a = b.k(i.target);
            b.load(m.aligned(SPECIFICATION), a)?
        }
        Src::I => b.k(i.imm as u64),
        Src::I8 => b.k(i.imm as u8 as u64),
        Src::I16 => b.k(i.imm as u16 as u64),
        Src::I32 => b.k(i.imm as u32 as u64),
    })
}

/// Writes general register `r`: all of it, or its low half.
#[inline]
pub fn put<B: Backend>(b: &mut B, r: u8, w: Width, v: B::V) {
    match w {
        Width::W32 => b.set_low32(gpr(r), v),
        Width::W64 => b.set(gpr(r), v),
    }
}

/// Writes the high half of general register `r` with the low half of `v`.
#[inline]
pub fn put_high<B: Backend>(b: &mut B, r: u8, v: B::V) {
    let k = b.k(32);
    let hi = b.shl(v, k);
    let old = b.get(gpr(r));
    let lo = b.zx(old, 32);
    let n = b.or(hi, lo);
    b.set(gpr(r), n);
}

/// The 64-bit value whose halves are the low halves of an even-odd pair.
#[inline]
pub fn pair32<B: Backend>(b: &mut B, r: u8) -> B::V {
    let h = b.get(gpr(r));
    let k = b.k(32);
    let h = b.shl(h, k);
    let l = b.get(gpr(r | 1));
    let l = b.zx(l, 32);
    b.or(h, l)
}

/// Writes the halves of `v` to the low halves of an even-odd pair.
#[inline]
pub fn put_pair32<B: Backend>(b: &mut B, r: u8, v: B::V) {
    let k = b.k(32);
    let h = b.shr(v, k);
    b.set_low32(gpr(r), h);
    b.set_low32(gpr(r | 1), v);
}

/// Specification exception if a register that must be even is not: decided when decoded.
#[inline]
pub fn even<B: Backend>(b: &mut B, r: u8) -> Sem<B> {
    if r & 1 != 0 { b.trap(SPECIFICATION) } else { Ok(()) }
}

//! Stores, storage-immediate and storage-to-storage instructions, multiple and conditional accesses, atomics
//! (PoP chapter 7).

use super::edit;
use super::general::Alu;
use super::helpers;
use super::operand::{Src, U8, U32, U64, ea, ea2, even, put, put_pair32, src};
use super::state::{CC_FLAG, ar, gpr};
use super::{Insn, SPECIFICATION};
use crate::backend::{Access, Backend, Cc, FlagKind, Helper, MemOp, Rmw, Sem, Slot, Width};
use Width::{W32, W64};

/// STORE of a register or an immediate.
#[inline]
pub fn store<B: Backend>(b: &mut B, i: &Insn, m: MemOp, v: Src) -> Sem<B> {
    let v = src(b, i, v)?;
    let a = ea(b, i);
    b.store(m, a, v)
}

/// STORE RELATIVE LONG.
#[inline]
pub fn store_relative<B: Backend>(b: &mut B, i: &Insn, m: MemOp) -> Sem<B> {
    let v = b.get(gpr(i.r1));
    let a = b.k(i.target);
    b.store(m.aligned(SPECIFICATION), a, v)
}

/// INSERT CHARACTER.
#[inline]
pub fn insert_character<B: Backend>(b: &mut B, i: &Insn) -> Sem<B> {
    let v = src(b, i, Src::M(U8))?;
    let old = b.get(gpr(i.r1));
    let keep = b.k(!0xff);
    let old = b.and(old, keep);
    let r = b.or(old, v);
    b.set(gpr(i.r1), r);
    Ok(())
}

/// LOAD REVERSED HALFWORD: bits 48 to 63 of R1, the rest stays.
#[inline]
pub fn load_reversed_half<B: Backend>(b: &mut B, i: &Insn) -> Sem<B> {
    let v = src(b, i, Src::M(MemOp::le(2)))?;
    let old = b.get(gpr(i.r1));
    let keep = b.k(!0xffff);
    let old = b.and(old, keep);
    let r = b.or(old, v);
    b.set(gpr(i.r1), r);
    Ok(())
}

/// TEST UNDER MASK.
#[inline]
pub fn test_under_mask<B: Backend>(b: &mut B, i: &Insn) -> Sem<B> {
    let v = src(b, i, Src::M(U8))?;
    let m = b.k(i.imm as u8 as u64);
    let v = b.and(v, m);
    b.flags(CC_FLAG, FlagKind::TestMask, v, m);
    Ok(())
}

/// AND, OR, EXCLUSIVE OR of an immediate byte to storage.
#[inline]
pub fn logic_immediate<B: Backend>(b: &mut B, i: &Insn, k: Alu) -> Sem<B> {
    let a = ea(b, i);
    let v = b.load(U8, a)?;
    let m = b.k(i.imm as u8 as u64);
    let r = k.apply(b, v, m);
    b.store(U8, a, r)?;
    let z = b.k(0);
    b.flags(CC_FLAG, FlagKind::Logic(W32), r, z);
    Ok(())
}

/// ADD (LOGICAL) IMMEDIATE to storage: an interlocked update.
#[inline]
pub fn add_immediate<B: Backend>(b: &mut B, i: &Insn, k: Alu, w: Width) -> Sem<B> {
    let a = ea(b, i);
    let y = b.k(i.imm as i8 as i64 as u64);
    let old = b.rmw(if w == W32 { U32 } else { U64 }, Rmw::Add, a, y)?;
    k.flags(b, w, old, y, old)
}

/// LOAD AND ADD / AND / OR / EXCLUSIVE OR.
#[inline]
pub fn load_and<B: Backend>(b: &mut B, i: &Insn, k: Alu, w: Width) -> Sem<B> {
    let a = ea(b, i);
    let y = b.get(gpr(i.r3));
    let m = if w == W32 { U32 } else { U64 }.aligned(SPECIFICATION);
    let op = match k {
        Alu::And => Rmw::And,
        Alu::Or => Rmw::Or,
        Alu::Xor => Rmw::Xor,
        _ => Rmw::Add,
    };
    let old = b.rmw(m, op, a, y)?;
    let r = k.apply(b, old, y);
    put(b, i.r1, w, old);
    k.flags(b, w, old, y, r)
}

/// COMPARE AND SWAP.
#[inline]
pub fn compare_and_swap<B: Backend>(b: &mut B, i: &Insn, w: Width) -> Sem<B> {
    let a = ea(b, i);
    let x = b.get(gpr(i.r1));
    let n = b.get(gpr(i.r3));
    let (x, m) = if w == W32 { (b.zx(x, 32), U32) } else { (x, U64) };
    let old = b.cas(m.aligned(SPECIFICATION), a, x, n)?;
    let d = b.xor(old, x);
    put(b, i.r1, w, old);
    let z = b.k(0);
    b.flags(CC_FLAG, FlagKind::Logic(w), d, z);
    Ok(())
}

/// COMPARE DOUBLE AND SWAP, 32-bit registers.
#[inline]
pub fn compare_double_and_swap<B: Backend>(b: &mut B, i: &Insn) -> Sem<B> {
    even(b, i.r1)?;
    even(b, i.r3)?;
    let a = ea(b, i);
    let x = super::operand::pair32(b, i.r1);
    let n = super::operand::pair32(b, i.r3);
    let old = b.cas(U64.aligned(SPECIFICATION), a, x, n)?;
    let d = b.xor(old, x);
    put_pair32(b, i.r1, old);
    let z = b.k(0);
    b.flags(CC_FLAG, FlagKind::Logic(W64), d, z);
    Ok(())
}

const QUAD: MemOp = MemOp::be(16).aligned(SPECIFICATION);

/// COMPARE DOUBLE AND SWAP, 64-bit registers.
#[inline]
pub fn compare_double_and_swap_64<B: Backend>(b: &mut B, i: &Insn) -> Sem<B> {
    even(b, i.r1)?;
    even(b, i.r3)?;
    let a = ea(b, i);
    let x = (b.get(gpr(i.r1)), b.get(gpr(i.r1 | 1)));
    let n = (b.get(gpr(i.r3)), b.get(gpr(i.r3 | 1)));
    let old = b.cas_pair(QUAD, a, x, n)?;
    let dh = b.xor(old.0, x.0);
    let dl = b.xor(old.1, x.1);
    let d = b.or(dh, dl);
    b.set(gpr(i.r1), old.0);
    b.set(gpr(i.r1 | 1), old.1);
    let z = b.k(0);
    b.flags(CC_FLAG, FlagKind::Logic(W64), d, z);
    Ok(())
}

/// LOAD PAIR FROM QUADWORD.
#[inline]
pub fn load_pair<B: Backend>(b: &mut B, i: &Insn) -> Sem<B> {
    even(b, i.r1)?;
    let a = ea(b, i);
    let (h, l) = b.load_pair(QUAD, a)?;
    b.set(gpr(i.r1), h);
    b.set(gpr(i.r1 | 1), l);
    Ok(())
}

/// STORE PAIR TO QUADWORD.
#[inline]
pub fn store_pair<B: Backend>(b: &mut B, i: &Insn) -> Sem<B> {
    even(b, i.r1)?;
    let a = ea(b, i);
    let v = (b.get(gpr(i.r1)), b.get(gpr(i.r1 | 1)));
    b.store_pair(QUAD, a, v)
}

/// Registers of a multiple load or store.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Bank {
    /// Low halves of general registers.
    Low,
    /// High halves of general registers.
    High,
    /// General registers.
    Full,
    /// Access registers.
    Access,
}

impl Bank {
    fn mem(self) -> MemOp {
        if self == Bank::Full { U64 } else { U32 }
    }
    fn slot(self, n: u8) -> Slot {
        if self == Bank::Access { ar(n) } else { gpr(n) }
    }
}

/// Registers from R1 to R3, wrapping from 15 to 0.
fn registers(i: &Insn) -> impl Iterator<Item = u8> + use<> {
    let (first, count) = (i.r1, (i.r3.wrapping_sub(i.r1) & 15) + 1);
    (0..count).map(move |n| (first + n) & 15)
}

#[inline]
fn offset<B: Backend>(b: &mut B, a: B::V, n: u64) -> B::V {
    if n == 0 {
        return a;
    }
    let k = b.k(n);
    b.add(a, k)
}

/// LOAD MULTIPLE, LOAD ACCESS MULTIPLE: all loads, then all registers.
#[inline]
pub fn load_multiple<B: Backend>(b: &mut B, i: &Insn, k: Bank) -> Sem<B> {
    let m = k.mem();
    let a = ea(b, i);
    if k == Bank::Access {
        check_word(b, a)?;
    }
    let mut v = [None; 16];
    for (n, v) in v.iter_mut().enumerate().take(registers(i).count()) {
        let at = offset(b, a, n as u64 * m.size as u64);
        *v = Some(b.load(m, at)?);
    }
    for (r, v) in registers(i).zip(v) {
        let Some(v) = v else { continue };
        match k {
            Bank::Low => b.set_low32(gpr(r), v),
            Bank::High => super::operand::put_high(b, r, v),
            Bank::Full | Bank::Access => b.set(k.slot(r), v),
        }
    }
    Ok(())
}

/// STORE MULTIPLE, STORE ACCESS MULTIPLE.
#[inline]
pub fn store_multiple<B: Backend>(b: &mut B, i: &Insn, k: Bank) -> Sem<B> {
    let m = k.mem();
    let a = ea(b, i);
    if k == Bank::Access {
        check_word(b, a)?;
    }
    let count = registers(i).count() as u64;
    if count > 1 {
        let len = b.k(count * m.size as u64);
        b.probe(a, len, Access::Store)?;
    }
    for (n, r) in registers(i).enumerate() {
        let mut v = b.get(k.slot(r));
        if k == Bank::High {
            let s = b.k(32);
            v = b.shr(v, s);
        }
        let at = offset(b, a, n as u64 * m.size as u64);
        b.store(m, at, v)?;
    }
    Ok(())
}

#[inline]
fn check_word<B: Backend>(b: &mut B, a: B::V) -> Sem<B> {
    let k = b.k(3);
    let z = b.k(0);
    let low = b.and(a, k);
    let c = b.cmp(W64, Cc::Ne, low, z);
    b.trap_if(c, SPECIFICATION)
}

/// Loads as many bytes as the mask has ones, right-aligned; none gives zero after checking one byte.
#[inline]
fn masked_load<B: Backend>(b: &mut B, i: &Insn) -> Result<B::V, B::Trap> {
    let a = ea(b, i);
    Ok(match i.m.count_ones() {
        0 => {
            let one = b.k(1);
            b.probe(a, one, Access::Load)?;
            b.k(0)
        }
        3 => {
            let h = b.load(MemOp::be(2), a)?;
            let at = offset(b, a, 2);
            let l = b.load(U8, at)?;
            let k = b.k(8);
            let h = b.shl(h, k);
            b.or(h, l)
        }
        n => b.load(MemOp::be(n as u8), a)?,
    })
}

/// Spreads right-aligned bytes to the positions of the mask's ones.
#[inline]
fn spread<B: Backend>(b: &mut B, mask: u8, v: B::V) -> B::V {
    let mut left = mask.count_ones();
    let mut out = b.k(0);
    for bit in (0..4).rev() {
        if mask >> bit & 1 == 0 {
            continue;
        }
        left -= 1;
        let from = b.k(8 * left as u64);
        let to = b.k(8 * bit as u64);
        let m = b.k(0xff);
        let x = b.shr(v, from);
        let x = b.and(x, m);
        let x = b.shl(x, to);
        out = b.or(out, x);
    }
    out
}

/// Gathers the bytes at the mask's ones, right-aligned.
#[inline]
fn gather<B: Backend>(b: &mut B, mask: u8, v: B::V) -> B::V {
    let mut out = b.k(0);
    for bit in (0..4).rev() {
        if mask >> bit & 1 == 0 {
            continue;
        }
        let from = b.k(8 * bit as u64);
        let m = b.k(0xff);
        let k = b.k(8);
        let x = b.shr(v, from);
        let x = b.and(x, m);
        let hi = b.shl(out, k);
        out = b.or(hi, x);
    }
    out
}

/// INSERT CHARACTERS UNDER MASK, into the low or high half of R1.
#[inline]
pub fn insert_under_mask<B: Backend>(b: &mut B, i: &Insn, high: bool) -> Sem<B> {
    let v = masked_load(b, i)?;
    let shift = if high { 32 } else { 0 };
    let bytes = (0..4).filter(|n| i.m >> n & 1 != 0).fold(0u64, |m, n| m | 0xff << (8 * n));
    let new = if i.m & (i.m + 1) == 0 { v } else { spread(b, i.m, v) };
    let k = b.k(shift);
    let new = b.shl(new, k);
    let old = b.get(gpr(i.r1));
    let keep = b.k(!(bytes << shift));
    let old = b.and(old, keep);
    let r = b.or(old, new);
    b.set(gpr(i.r1), r);
    let z = b.k(0);
    let up = b.k(64 - 8 * (i.m.count_ones() as u64).max(1));
    let shown = b.shl(v, up);
    b.flags(CC_FLAG, FlagKind::Cmp(W64), shown, z);
    Ok(())
}

#[inline]
fn half<B: Backend>(b: &mut B, i: &Insn, high: bool) -> B::V {
    let v = b.get(gpr(i.r1));
    if !high {
        return v;
    }
    let k = b.k(32);
    b.shr(v, k)
}

/// STORE CHARACTERS UNDER MASK.
#[inline]
pub fn store_under_mask<B: Backend>(b: &mut B, i: &Insn, high: bool) -> Sem<B> {
    let v = half(b, i, high);
    let a = ea(b, i);
    let v = if i.m & (i.m + 1) == 0 { v } else { gather(b, i.m, v) };
    match i.m.count_ones() {
        0 => Ok(()),
        3 => {
            let three = b.k(3);
            b.probe(a, three, Access::Store)?;
            let k = b.k(8);
            let h = b.shr(v, k);
            b.store(MemOp::be(2), a, h)?;
            let at = offset(b, a, 2);
            b.store(U8, at, v)
        }
        n => b.store(MemOp::be(n as u8), a, v),
    }
}

/// COMPARE LOGICAL CHARACTERS UNDER MASK.
#[inline]
pub fn compare_under_mask<B: Backend>(b: &mut B, i: &Insn, high: bool) -> Sem<B> {
    let y = masked_load(b, i)?;
    let v = half(b, i, high);
    let x = gather(b, i.m, v);
    b.flags(CC_FLAG, FlagKind::CmpU(W64), x, y);
    Ok(())
}

/// LOAD ON CONDITION: no access when the condition does not hold.
#[inline]
pub fn load_on_condition<B: Backend>(b: &mut B, i: &Insn, w: Width) -> Sem<B> {
    let a = ea(b, i);
    let c = b.flags_test(CC_FLAG, i.m);
    b.when(c, |b| {
        let v = b.load(if w == W32 { U32 } else { U64 }, a)?;
        put(b, i.r1, w, v);
        Ok(())
    })
}

/// STORE ON CONDITION: no access when the condition does not hold.
#[inline]
pub fn store_on_condition<B: Backend>(b: &mut B, i: &Insn, w: Width) -> Sem<B> {
    let a = ea(b, i);
    let v = b.get(gpr(i.r1));
    let c = b.flags_test(CC_FLAG, i.m);
    b.when(c, |b| b.store(if w == W32 { U32 } else { U64 }, a, v))
}

/// Length of an SS instruction that an ordinary access of that size can do.
fn simple_size(i: &Insn) -> Option<u8> {
    match i.imm {
        0 => Some(1),
        1 => Some(2),
        3 => Some(4),
        7 => Some(8),
        _ => None,
    }
}

/// MOVE (characters). Byte by byte from left to right, so an overlap may replicate; only without such an overlap
/// may one load and one store stand for it.
#[inline]
pub fn move_characters<B: Backend>(b: &mut B, i: &Insn) -> Sem<B> {
    let to = ea(b, i);
    let from = ea2(b, i);
    match simple_size(i) {
        Some(1) => {
            let v = b.load(U8, from)?;
            b.store(U8, to, v)
        }
        Some(n) => {
            let v = b.load(MemOp::be(n), from)?;
            let d = b.sub(to, from);
            let one = b.k(1);
            let d = b.sub(d, one);
            let last = b.k(n as u64 - 1);
            let len = b.k(n as u64);
            let apart = b.cmp(W64, Cc::Geu, d, last);
            let overlap = b.cmp(W64, Cc::Ltu, d, last);
            b.when(apart, |b| b.store(MemOp::be(n), to, v))?;
            b.when(overlap, |b| b.helper(&helpers::MVC, &[to, from, len]).map(|_| ()))
        }
        None => {
            let len = b.k(i.imm as u64 + 1);
            b.helper(&helpers::MVC, &[to, from, len])?;
            Ok(())
        }
    }
}

/// EXCLUSIVE OR (characters): clearing a field with itself is the usual use.
#[inline]
pub fn xor_characters<B: Backend>(b: &mut B, i: &Insn) -> Sem<B> {
    match simple_size(i) {
        Some(n) if i.b == i.b2 && i.d == i.d2 => {
            let a = ea(b, i);
            let z = b.k(0);
            b.store(MemOp::be(n), a, z)?;
            b.flags(CC_FLAG, FlagKind::Value, z, z);
            Ok(())
        }
        _ => storage_cc(b, i, &helpers::XC),
    }
}

/// COMPARE LOGICAL (characters).
#[inline]
pub fn compare_characters<B: Backend>(b: &mut B, i: &Insn) -> Sem<B> {
    let Some(n) = simple_size(i) else { return storage_cc(b, i, &helpers::CLC) };
    let x = ea(b, i);
    let y = ea2(b, i);
    let x = b.load(MemOp::be(n), x)?;
    let y = b.load(MemOp::be(n), y)?;
    b.flags(CC_FLAG, FlagKind::CmpU(W64), x, y);
    Ok(())
}

/// Two storage operands of one length: the helper takes (first, second, length) and returns nothing of interest.
#[inline]
pub fn storage<B: Backend>(b: &mut B, i: &Insn, h: &'static Helper) -> Sem<B> {
    let x = ea(b, i);
    let y = ea2(b, i);
    let len = b.k(i.imm as u64 + 1);
    b.helper(h, &[x, y, len])?;
    Ok(())
}

/// The same where the helper returns the condition code.
#[inline]
pub fn storage_cc<B: Backend>(b: &mut B, i: &Insn, h: &'static Helper) -> Sem<B> {
    let x = ea(b, i);
    let y = ea2(b, i);
    let len = b.k(i.imm as u64 + 1);
    let cc = b.helper(h, &[x, y, len])?;
    b.flags(CC_FLAG, FlagKind::Value, cc, cc);
    Ok(())
}

/// Two storage operands with lengths of their own (4 bits each): the helper takes (first, second, length byte).
#[inline]
pub fn storage_lengths<B: Backend>(b: &mut B, i: &Insn, h: &'static Helper, cc: bool) -> Sem<B> {
    let x = ea(b, i);
    let y = ea2(b, i);
    let len = b.k(i.imm as u64);
    let r = b.helper(h, &[x, y, len])?;
    if cc {
        b.flags(CC_FLAG, FlagKind::Value, r, r);
    }
    Ok(())
}

/// MOVE LONG, COMPARE LOGICAL LONG and their extended forms: the helper takes the register numbers and the
/// second-operand address (padding) and returns the condition code.
#[inline]
pub fn long<B: Backend>(b: &mut B, i: &Insn, h: &'static Helper, second: u8) -> Sem<B> {
    even(b, i.r1)?;
    even(b, second)?;
    let a = ea(b, i);
    let regs = b.k(i.r1 as u64 | (second as u64) << 8);
    let cc = b.helper(h, &[regs, a])?;
    b.flags(CC_FLAG, FlagKind::Value, cc, cc);
    Ok(())
}

/// MOVE STRING, COMPARE LOGICAL STRING, SEARCH STRING: register numbers to the helper, condition code from it.
#[inline]
pub fn string<B: Backend>(b: &mut B, i: &Insn, h: &'static Helper) -> Sem<B> {
    let regs = b.k(i.r1 as u64 | (i.r2 as u64) << 8);
    let cc = b.helper(h, &[regs])?;
    b.flags(CC_FLAG, FlagKind::Value, cc, cc);
    Ok(())
}

/// TRANSLATE EXTENDED, TRANSLATE ONE TO ONE and the like: register numbers and mask to the helper, condition code
/// from it. R1 is even; `pair` says that R2 must be, too.
#[inline]
pub fn translate<B: Backend>(b: &mut B, i: &Insn, h: &'static Helper, pair: bool) -> Sem<B> {
    even(b, i.r1)?;
    if pair {
        even(b, i.r2)?;
    }
    let regs = b.k(i.r1 as u64 | (i.r2 as u64) << 8);
    let mask = b.k(i.m as u64);
    let cc = b.helper(h, &[regs, mask])?;
    b.flags(CC_FLAG, FlagKind::Value, cc, cc);
    Ok(())
}

/// One storage operand, the helper gives the condition code (STORE CLOCK and the like).
#[inline]
pub fn one_operand_cc<B: Backend>(b: &mut B, i: &Insn, h: &'static Helper) -> Sem<B> {
    let a = ea(b, i);
    let cc = b.helper(h, &[a])?;
    b.flags(CC_FLAG, FlagKind::Value, cc, cc);
    Ok(())
}

/// EXTRACT CPU ATTRIBUTE.
#[inline]
pub fn extract_cpu_attribute<B: Backend>(b: &mut B, i: &Insn) -> Sem<B> {
    let a = ea(b, i);
    let v = b.helper(&helpers::ECAG, &[a])?;
    b.set(gpr(i.r1), v);
    Ok(())
}

/// EXTRACT ACCESS.
#[inline]
pub fn extract_access<B: Backend>(b: &mut B, i: &Insn) -> Sem<B> {
    let v = b.get(ar(i.r2));
    b.set_low32(gpr(i.r1), v);
    Ok(())
}

/// SET ACCESS.
#[inline]
pub fn set_access<B: Backend>(b: &mut B, i: &Insn) -> Sem<B> {
    let v = b.get(gpr(i.r2));
    let v = b.zx(v, 32);
    b.set(ar(i.r1), v);
    Ok(())
}

/// COPY ACCESS.
#[inline]
pub fn copy_access<B: Backend>(b: &mut B, i: &Insn) -> Sem<B> {
    let v = b.get(ar(i.r2));
    b.set(ar(i.r1), v);
    Ok(())
}

/// LOAD ADDRESS EXTENDED: in primary-space mode the access register becomes 0.
#[inline]
pub fn load_address_extended<B: Backend>(b: &mut B, i: &Insn) -> Sem<B> {
    let a = ea(b, i);
    let z = b.k(0);
    b.set(gpr(i.r1), a);
    b.set(ar(i.r1), z);
    Ok(())
}

/// CONVERT TO BINARY: packed decimal in storage to R1.
#[inline]
pub fn convert_to_binary<B: Backend>(b: &mut B, i: &Insn, w: Width, h: &'static Helper) -> Sem<B> {
    let a = ea(b, i);
    let v = b.helper(h, &[a])?;
    put(b, i.r1, w, v);
    Ok(())
}

/// CONVERT TO DECIMAL: R1 to packed decimal in storage.
#[inline]
pub fn convert_to_decimal<B: Backend>(b: &mut B, i: &Insn, w: Width, h: &'static Helper) -> Sem<B> {
    let a = ea(b, i);
    let v = b.get(gpr(i.r1));
    let v = if w == W32 { b.sx(v, 32) } else { v };
    b.helper(h, &[a, v])?;
    Ok(())
}

/// SHIFT AND ROUND DECIMAL.
#[inline]
pub fn shift_and_round<B: Backend>(b: &mut B, i: &Insn, h: &'static Helper) -> Sem<B> {
    let a = ea(b, i);
    let n = ea2(b, i);
    let len = b.k(i.imm as u64);
    let cc = b.helper(h, &[a, n, len])?;
    b.flags(CC_FLAG, FlagKind::Value, cc, cc);
    Ok(())
}

/// EXTRACT CPU TIME: the first operand less the CPU timer, the second operand, and what R3 points to.
#[inline]
pub fn extract_cpu_time<B: Backend>(b: &mut B, i: &Insn) -> Sem<B> {
    let first = ea(b, i);
    let second = ea2(b, i);
    let third = b.get(gpr(i.r3));
    let first = b.load(U64, first)?;
    let second = b.load(U64, second)?;
    let third = b.load(U64, third)?;
    let timer = b.helper(&helpers::CPU_TIMER, &[])?;
    let d = b.sub(first, timer);
    b.set(gpr(0), d);
    b.set(gpr(1), second);
    b.set(gpr(i.r3), third);
    Ok(())
}

/// TEST DECIMAL.
#[inline]
pub fn test_decimal<B: Backend>(b: &mut B, i: &Insn) -> Sem<B> {
    let a = ea(b, i);
    let len = b.k(i.imm as u64 + 1);
    let cc = b.helper(&edit::TP, &[a, len])?;
    b.flags(CC_FLAG, FlagKind::Value, cc, cc);
    Ok(())
}

/// TEST AND SET: the byte becomes all ones; condition code: its leftmost bit before.
#[inline]
pub fn test_and_set<B: Backend>(b: &mut B, i: &Insn) -> Sem<B> {
    let a = ea(b, i);
    let before = b.load(U8, a)?;
    let ones = b.k(0xff);
    // If another CPU set the byte in between, that comes first and this one finds it set; if it cleared the byte,
    // this one came first.
    let old = b.cas(U8, a, before, ones)?;
    let any = b.or(before, old);
    let k = b.k(7);
    let cc = b.shr(any, k);
    b.flags(CC_FLAG, FlagKind::Value, cc, cc);
    Ok(())
}

/// LOAD PAIR DISJOINT: condition code 3 when the first operand changed while the second was fetched.
#[inline]
pub fn load_pair_disjoint<B: Backend>(b: &mut B, i: &Insn, w: Width) -> Sem<B> {
    even(b, i.r3)?;
    let m = if w == W32 { U32 } else { U64 }.aligned(SPECIFICATION);
    let x = ea(b, i);
    let y = ea2(b, i);
    let first = b.load(m, x)?;
    let second = b.load(m, y)?;
    let again = b.load(m, x)?;
    let same = b.cmp(W64, Cc::Eq, first, again);
    let z = b.k(0);
    let three = b.k(3);
    let cc = b.sel(same, z, three);
    put(b, i.r3, w, first);
    put(b, i.r3 | 1, w, second);
    b.flags(CC_FLAG, FlagKind::Value, cc, cc);
    Ok(())
}

/// CHECKSUM: register numbers to the helper, condition code from it.
#[inline]
pub fn checksum<B: Backend>(b: &mut B, i: &Insn) -> Sem<B> {
    even(b, i.r2)?;
    string(b, i, &helpers::CKSM)
}

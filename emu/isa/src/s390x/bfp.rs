//! Binary floating point (PoP chapters 9 and 19).
//!
//! An enabled IEEE exception for an invalid operation or a division by zero suppresses the instruction. For overflow,
//! underflow and inexact the result is delivered first, scaled where it does not fit ([`crate::fp::trap`]).

use super::general::NOTICE;
use super::operand::{U32, U64, ea, put};
use super::state::{CC_FLAG, FPC, IEEE, fpr, gpr};
use super::{Insn, SPECIFICATION};
use crate::backend::{Backend, Cc, Exc, FlagKind, Helper, MemOp, Sem, Width};
use crate::fp::{Fmt, FpOp, Round, flag};
use Fmt::{F32, F64, F128};
use Width::W64;

/// Bits of the FPC that enable exceptions raised when the instruction has completed: overflow, underflow, inexact.
pub const LATE_MASKS: u64 = (flag::OVERFLOW | flag::UNDERFLOW | flag::INEXACT) << 24;

/// Records IEEE flags in the FPC: (flags). If one of them is enabled, raises the data exception, or leaves it to
/// [`LATE`].
pub static RAISE: Helper = Helper {
    name: "IEEE exception",
    run: |e, [flags, ..]| {
        let fpc = e.get(FPC);
        let recordable = flags & flag::ALL;
        let enabled = recordable & fpc >> 24;
        // One at a time, in this order; inexact goes with overflow and underflow.
        let inexact = flags & (flag::INEXACT | flag::INCREMENTED);
        let (dxc, recorded) = if enabled == 0 {
            (0, recordable)
        } else if enabled & flag::INVALID != 0 {
            (flag::INVALID, 0)
        } else if enabled & flag::DIVZERO != 0 {
            (flag::DIVZERO, 0)
        } else if enabled & flag::OVERFLOW != 0 {
            (flag::OVERFLOW | inexact, 0)
        } else if enabled & flag::UNDERFLOW != 0 {
            (flag::UNDERFLOW | inexact, 0)
        } else {
            (inexact, recordable & !flag::INEXACT)
        };
        let fpc = fpc | recorded << 16;
        if dxc == 0 {
            e.set(FPC, fpc);
            return Ok(0);
        }
        e.set(FPC, fpc & !0xff00 | dxc << 8);
        if enabled & (flag::INVALID | flag::DIVZERO) != 0 {
            return Err(Exc::data(dxc as u8));
        }
        e.set(IEEE, dxc);
        Ok(0)
    },
    reads: &[(FPC, 1)],
    writes: &[(FPC, 1), (IEEE, 1)],
    faults: true,
};

/// Raises what [`RAISE`] left.
static LATE: Helper = Helper {
    name: "IEEE exception after the result",
    run: |e, _| match e.get(IEEE) {
        0 => Ok(0),
        dxc => {
            e.set(IEEE, 0);
            Err(Exc::data(dxc as u8))
        }
    },
    reads: &[(IEEE, 1)],
    writes: &[(IEEE, 1)],
    faults: true,
};

/// The end of every operation that can overflow, underflow or be inexact.
#[inline]
fn done<B: Backend>(b: &mut B) -> Sem<B> {
    b.late(&LATE)
}

/// A value of a format: high half (or all of it) and low half.
type Pair<V> = (V, V);

/// The second operand of an arithmetic instruction.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Arg {
    /// Register R1.
    R1,
    /// Register R2.
    R2,
    /// Register R3.
    R3,
    /// Storage.
    Mem,
}

/// Extended operands live in pairs 0-2, 1-3, 4-6, ...: bit 1 of the register number must be off.
#[inline]
fn check<B: Backend>(b: &mut B, f: Fmt, r: u8) -> Sem<B> {
    if f == F128 && r & 2 != 0 { b.trap(SPECIFICATION) } else { Ok(()) }
}

#[inline]
fn register<B: Backend>(b: &mut B, f: Fmt, r: u8) -> Result<Pair<B::V>, B::Trap> {
    check(b, f, r)?;
    let v = b.get(fpr(r));
    Ok(match f {
        F32 => {
            let k = b.k(32);
            let v = b.shr(v, k);
            (v, v)
        }
        F64 => (v, v),
        F128 => (v, b.get(fpr(r & 13 | 2))),
    })
}

#[inline]
fn arg<B: Backend>(b: &mut B, i: &Insn, f: Fmt, a: Arg) -> Result<Pair<B::V>, B::Trap> {
    match a {
        Arg::R1 => register(b, f, i.r1),
        Arg::R2 => register(b, f, i.r2),
        Arg::R3 => register(b, f, i.r3),
        Arg::Mem => {
            let at = ea(b, i);
            let v = b.load(if f == F32 { U32 } else { U64 }, at)?;
            Ok((v, v))
        }
    }
}

/// Writes register `r`; the halves of a word's register that it does not fill stay.
#[inline]
fn put_fp<B: Backend>(b: &mut B, f: Fmt, r: u8, v: Pair<B::V>) {
    match f {
        F32 => {
            let k = b.k(32);
            let hi = b.shl(v.0, k);
            let old = b.get(fpr(r));
            let lo = b.zx(old, 32);
            let v = b.or(hi, lo);
            b.set(fpr(r), v);
        }
        F64 => b.set(fpr(r), v.0),
        F128 => {
            b.set(fpr(r), v.0);
            b.set(fpr(r & 13 | 2), v.1);
        }
    }
}

#[inline]
fn eval<B: Backend>(b: &mut B, op: FpOp, f: Fmt, rm: B::V, args: &[Pair<B::V>]) -> (B::V, B::V, B::V) {
    let mut flat = [rm; 6];
    let n = flatten(f, args, &mut flat);
    b.fp(op, rm, &flat[..n])
}

/// Puts operands in the form of [`Backend::fp`]; returns how many values they are.
#[inline]
fn flatten<V: Copy>(f: Fmt, args: &[Pair<V>], flat: &mut [V; 6]) -> usize {
    let mut n = 0;
    for a in args {
        flat[n] = a.0;
        n += 1;
        if f == F128 {
            flat[n] = a.1;
            n += 1;
        }
    }
    n
}

/// Evaluates an operation and records its flags, or raises what they enable.
#[inline]
fn operate<B: Backend>(
    b: &mut B,
    op: FpOp,
    f: Fmt,
    rm: B::V,
    args: &[Pair<B::V>],
) -> Result<Pair<B::V>, B::Trap> {
    let mut flat = [rm; 6];
    let n = flatten(f, args, &mut flat);
    // The mask and the rounding mode are zero, and inexact is recorded already.
    let fpc = b.get(FPC);
    let m = b.k(0xf808_0007);
    let x = b.and(fpc, m);
    let want = b.k(0x0008_0000);
    let quick = b.cmp(Width::W32, Cc::Eq, x, want);
    b.fp_record(op, rm, quick, &flat[..n], &RAISE)
}

/// Records the flags of an operation: nothing when there are none.
#[inline]
fn fp_finish<B: Backend>(b: &mut B, flags: B::V) -> Sem<B> {
    let z = b.k(0);
    let any = b.cmp(W64, Cc::Ne, flags, z);
    b.when(any, |b| b.helper(&RAISE, &[flags]).map(|_| ()))
}

/// The rounding mode of the FPC, and the masks that [`crate::fp::trap`] looks at.
#[inline]
fn current_mode<B: Backend>(b: &mut B) -> B::V {
    let fpc = b.get(FPC);
    let k = b.k(LATE_MASKS | 7);
    b.and(fpc, k)
}

/// The rounding mode an M3 field asks for; 0 is the FPC's.
#[inline]
fn explicit_mode<B: Backend>(b: &mut B, m: u8) -> Result<B::V, B::Trap> {
    let r = match m {
        0 => return Ok(current_mode(b)),
        1 => Round::NearestAway,
        3 => Round::Odd,
        4 => Round::NearestEven,
        5 => Round::Zero,
        6 => Round::Up,
        7 => Round::Down,
        _ => {
            b.trap(SPECIFICATION)?;
            Round::NearestEven
        }
    };
    let masks = b.late_mask(FPC, LATE_MASKS);
    let r = b.k(r as u64);
    Ok(b.or(masks, r))
}

/// Bits of a value that say what it is: infinity, sign, quiet bit (all of the high half).
fn bits(f: Fmt) -> (u64, u64, u64) {
    match f {
        F32 => (0x7f80_0000, 0x8000_0000, 0x0040_0000),
        F64 => (0x7ff0 << 48, 1 << 63, 8 << 48),
        F128 => (0x7fff << 48, 1 << 63, 0x8000 << 32),
    }
}

/// The magnitude's high half with the low half's being nonzero folded into its last bit: good for comparisons with
/// zero and infinity.
#[inline]
fn magnitude<B: Backend>(b: &mut B, f: Fmt, v: Pair<B::V>) -> B::V {
    let (_, sign, _) = bits(f);
    let m = b.k(sign - 1);
    let hi = b.and(v.0, m);
    if f != F128 {
        return hi;
    }
    let z = b.k(0);
    let c = b.cmp(W64, Cc::Ne, v.1, z);
    let low = b.c2v(c);
    b.or(hi, low)
}

/// Condition code of a result: 0 zero, 1 negative, 2 positive, 3 NaN.
#[inline]
fn result_cc<B: Backend>(b: &mut B, f: Fmt, v: Pair<B::V>) -> B::V {
    let (inf, sign, _) = bits(f);
    let m = magnitude(b, f, v);
    let z = b.k(0);
    let one = b.k(1);
    let two = b.k(2);
    let three = b.k(3);
    let s = b.k(sign);
    let s = b.and(v.0, s);
    let neg = b.cmp(W64, Cc::Ne, s, z);
    let cc = b.sel(neg, one, two);
    let zero = b.cmp(W64, Cc::Eq, m, z);
    let cc = b.sel(zero, z, cc);
    let inf = b.k(inf);
    let nan = b.cmp(W64, Cc::Gtu, m, inf);
    b.sel(nan, three, cc)
}

#[inline]
fn set_cc<B: Backend>(b: &mut B, cc: B::V) {
    b.flags(CC_FLAG, FlagKind::Value, cc, cc)
}

/// Two-operand arithmetic.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Arith {
    /// ADD, sets the condition code.
    Add,
    /// SUBTRACT, sets the condition code.
    Sub,
    /// MULTIPLY.
    Mul,
    /// DIVIDE.
    Div,
}

/// R1 = R1 op `y`.
#[inline]
pub fn arith<B: Backend>(b: &mut B, i: &Insn, k: Arith, f: Fmt, y: Arg) -> Sem<B> {
    let x = register(b, f, i.r1)?;
    let y = arg(b, i, f, y)?;
    let rm = current_mode(b);
    let op = match k {
        Arith::Add => FpOp::Add(f),
        Arith::Sub => FpOp::Sub(f),
        Arith::Mul => FpOp::Mul(f),
        Arith::Div => FpOp::Div(f),
    };
    let (h, l) = operate(b, op, f, rm, &[x, y])?;
    put_fp(b, f, i.r1, (h, l));
    if matches!(k, Arith::Add | Arith::Sub) {
        let cc = result_cc(b, f, (h, l));
        set_cc(b, cc);
    }
    done(b)
}

/// MULTIPLY to the next longer format: exact.
#[inline]
pub fn multiply_long<B: Backend>(b: &mut B, i: &Insn, from: Fmt, to: Fmt, y: Arg) -> Sem<B> {
    check(b, to, i.r1)?;
    let x = register(b, from, i.r1)?;
    let y = arg(b, i, from, y)?;
    let rm = current_mode(b);
    let op = FpOp::Convert { from, to };
    let (xh, xl, f1) = eval(b, op, from, rm, &[x]);
    let (yh, yl, f2) = eval(b, op, from, rm, &[y]);
    let (h, l, f3) = eval(b, FpOp::Mul(to), to, rm, &[(xh, xl), (yh, yl)]);
    let fl = b.or(f1, f2);
    let fl = b.or(fl, f3);
    fp_finish(b, fl)?;
    put_fp(b, to, i.r1, (h, l));
    Ok(())
}

/// MULTIPLY AND ADD, MULTIPLY AND SUBTRACT: R1 = `y` * R3 ± R1.
#[inline]
pub fn multiply_add<B: Backend>(b: &mut B, i: &Insn, subtract: bool, f: Fmt, y: Arg) -> Sem<B> {
    let y = arg(b, i, f, y)?;
    let x = register(b, f, i.r3)?;
    let z = register(b, f, i.r1)?;
    let rm = current_mode(b);
    let op = if subtract { FpOp::MulSub(f) } else { FpOp::MulAdd(f) };
    let (h, l) = operate(b, op, f, rm, &[y, x, z])?;
    put_fp(b, f, i.r1, (h, l));
    done(b)
}

/// SQUARE ROOT.
#[inline]
pub fn square_root<B: Backend>(b: &mut B, i: &Insn, f: Fmt, y: Arg) -> Sem<B> {
    check(b, f, i.r1)?;
    let y = arg(b, i, f, y)?;
    let rm = current_mode(b);
    let (h, l) = operate(b, FpOp::Sqrt(f), f, rm, &[y])?;
    put_fp(b, f, i.r1, (h, l));
    done(b)
}

/// COMPARE, COMPARE AND SIGNAL.
#[inline]
pub fn compare<B: Backend>(b: &mut B, i: &Insn, signal: bool, f: Fmt, y: Arg) -> Sem<B> {
    let x = register(b, f, i.r1)?;
    let y = arg(b, i, f, y)?;
    let rm = b.k(0);
    let (cc, _) = operate(b, FpOp::Cmp { fmt: f, signal }, f, rm, &[x, y])?;
    set_cc(b, cc);
    Ok(())
}

/// What a sign instruction does to the sign.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Sign {
    /// Off.
    Positive,
    /// On.
    Negative,
    /// Inverted.
    Complement,
}

/// LOAD POSITIVE, NEGATIVE, COMPLEMENT; only the BFP forms (`cc`) set the condition code.
#[inline]
pub fn load_sign<B: Backend>(b: &mut B, i: &Insn, k: Sign, f: Fmt, cc: bool) -> Sem<B> {
    check(b, f, i.r1)?;
    let v = register(b, f, i.r2)?;
    let (_, sign, _) = bits(f);
    let h = match k {
        Sign::Positive => {
            let m = b.k(!sign);
            b.and(v.0, m)
        }
        Sign::Negative => {
            let m = b.k(sign);
            b.or(v.0, m)
        }
        Sign::Complement => {
            let m = b.k(sign);
            b.xor(v.0, m)
        }
    };
    put_fp(b, f, i.r1, (h, v.1));
    if cc {
        let cc = result_cc(b, f, (h, v.1));
        set_cc(b, cc);
    }
    Ok(())
}

/// COPY SIGN: the sign of R3 and the rest of R2.
#[inline]
pub fn copy_sign<B: Backend>(b: &mut B, i: &Insn) -> Sem<B> {
    let s = b.get(fpr(i.r3));
    let v = b.get(fpr(i.r2));
    let m = b.k(1 << 63);
    let k = b.k(!(1 << 63));
    let s = b.and(s, m);
    let v = b.and(v, k);
    let r = b.or(s, v);
    b.set(fpr(i.r1), r);
    Ok(())
}

/// LOAD AND TEST: a signalling NaN is invalid and becomes quiet.
#[inline]
pub fn load_test<B: Backend>(b: &mut B, i: &Insn, f: Fmt) -> Sem<B> {
    check(b, f, i.r1)?;
    let v = register(b, f, i.r2)?;
    let cc = result_cc(b, f, v);
    let (_, _, quiet) = bits(f);
    let q = b.k(quiet);
    let z = b.k(0);
    let three = b.k(3);
    let bit = b.and(v.0, q);
    let c = b.cmp(W64, Cc::Eq, cc, three);
    let nan = b.c2v(c);
    let c = b.cmp(W64, Cc::Eq, bit, z);
    let silent = b.c2v(c);
    let s = b.and(nan, silent);
    let loud = b.cmp(W64, Cc::Ne, s, z);
    let inv = b.k(flag::INVALID);
    let fl = b.sel(loud, inv, z);
    let made = b.or(v.0, q);
    let h = b.sel(loud, made, v.0);
    fp_finish(b, fl)?;
    put_fp(b, f, i.r1, (h, v.1));
    set_cc(b, cc);
    Ok(())
}

/// LOAD of a register or of storage: no change, no flags.
#[inline]
pub fn load<B: Backend>(b: &mut B, i: &Insn, f: Fmt, y: Arg) -> Sem<B> {
    check(b, f, i.r1)?;
    let v = arg(b, i, f, y)?;
    put_fp(b, f, i.r1, v);
    Ok(())
}

/// STORE.
#[inline]
pub fn store<B: Backend>(b: &mut B, i: &Insn, f: Fmt) -> Sem<B> {
    let v = register(b, f, i.r1)?;
    let a = ea(b, i);
    b.store(if f == F32 { U32 } else { U64 }, a, v.0)
}

/// LOAD ZERO.
#[inline]
pub fn load_zero<B: Backend>(b: &mut B, i: &Insn, f: Fmt) -> Sem<B> {
    check(b, f, i.r1)?;
    let z = b.k(0);
    put_fp(b, f, i.r1, (z, z));
    Ok(())
}

/// LOAD FPR FROM GR.
#[inline]
pub fn from_general<B: Backend>(b: &mut B, i: &Insn) -> Sem<B> {
    let v = b.get(gpr(i.r2));
    b.set(fpr(i.r1), v);
    Ok(())
}

/// LOAD GR FROM FPR.
#[inline]
pub fn to_general<B: Backend>(b: &mut B, i: &Insn) -> Sem<B> {
    let v = b.get(fpr(i.r2));
    b.set(gpr(i.r1), v);
    Ok(())
}

/// LOAD LENGTHENED, LOAD ROUNDED. With `modes` M3 chooses the rounding and M4 can suppress inexact; the older
/// form without them has zeros there.
///
/// A trapped overflow or underflow of LOAD ROUNDED delivers the rounded value in the format of the source, which is
/// why both registers must suit that format.
#[inline]
pub fn convert<B: Backend>(b: &mut B, i: &Insn, from: Fmt, to: Fmt, y: Arg) -> Sem<B> {
    check(b, to, i.r1)?;
    let narrows = matches!((from, to), (F128, _) | (F64, F32));
    if narrows {
        check(b, from, i.r1)?;
    }
    let v = arg(b, i, from, y)?;
    let rm = if y == Arg::Mem { current_mode(b) } else { explicit_mode(b, i.m)? };
    let op = FpOp::Convert { from, to };
    let (h, l) = if i.m4 & 4 == 0 {
        operate(b, op, from, rm, &[v])?
    } else {
        let (h, l, fl) = eval(b, op, from, rm, &[v]);
        let fl = without_inexact(b, i, fl);
        fp_finish(b, fl)?;
        (h, l)
    };
    if !narrows {
        put_fp(b, to, i.r1, (h, l));
        return done(b);
    }
    // Overflow or underflow is about to be raised.
    let late = b.late_mask(IEEE, flag::OVERFLOW | flag::UNDERFLOW);
    let z = b.k(0);
    let c = b.cmp(W64, Cc::Ne, late, z);
    put_fp(b, to, i.r1, (h, l));
    b.when(c, |b| {
        let op = FpOp::Unbounded { from, to };
        let (h, l, _) = eval(b, op, from, rm, &[v]);
        put_fp(b, from, i.r1, (h, l));
        Ok(())
    })?;
    done(b)
}

/// M4 bit 1 (4) suppresses the inexact exception.
#[inline]
fn without_inexact<B: Backend>(b: &mut B, i: &Insn, fl: B::V) -> B::V {
    if i.m4 & 4 == 0 {
        return fl;
    }
    let k = b.k(!(flag::INEXACT | flag::INCREMENTED));
    b.and(fl, k)
}

/// LOAD FP INTEGER.
#[inline]
pub fn round_to_integer<B: Backend>(b: &mut B, i: &Insn, f: Fmt) -> Sem<B> {
    check(b, f, i.r1)?;
    let v = register(b, f, i.r2)?;
    let rm = explicit_mode(b, i.m)?;
    let op = FpOp::RoundInt { fmt: f, exact_quiet: i.m4 & 4 != 0 };
    let (h, l) = operate(b, op, f, rm, &[v])?;
    put_fp(b, f, i.r1, (h, l));
    done(b)
}

/// CONVERT FROM FIXED, CONVERT FROM LOGICAL.
#[inline]
pub fn from_fixed<B: Backend>(b: &mut B, i: &Insn, f: Fmt, width: u8, signed: bool) -> Sem<B> {
    check(b, f, i.r1)?;
    let v = b.get(gpr(i.r2));
    let rm = explicit_mode(b, i.m)?;
    let op = FpOp::FromInt { fmt: f, bits: width, signed };
    let (h, l) = if i.m4 & 4 == 0 {
        operate(b, op, F64, rm, &[(v, v)])?
    } else {
        let (h, l, fl) = b.fp(op, rm, &[v]);
        let fl = without_inexact(b, i, fl);
        fp_finish(b, fl)?;
        (h, l)
    };
    put_fp(b, f, i.r1, (h, l));
    done(b)
}

/// CONVERT TO FIXED, CONVERT TO LOGICAL: condition code 0, 1, 2 by the source's sign, 3 if it does not fit.
#[inline]
pub fn to_fixed<B: Backend>(b: &mut B, i: &Insn, f: Fmt, width: u8, signed: bool) -> Sem<B> {
    let v = register(b, f, i.r2)?;
    let rm = explicit_mode(b, i.m)?;
    let (r, _, fl) = eval(b, FpOp::ToInt { fmt: f, bits: width, signed }, f, rm, &[v]);
    let cc = result_cc(b, f, v);
    let inv = b.k(flag::INVALID);
    let z = b.k(0);
    let three = b.k(3);
    let bad = b.and(fl, inv);
    let c = b.cmp(W64, Cc::Ne, bad, z);
    // A number that does not fit is inexact as well; a NaN is only invalid.
    let number = b.cmp(W64, Cc::Ne, cc, three);
    let inexact = b.k(flag::INEXACT);
    let inexact = b.sel(number, inexact, z);
    let both = b.or(fl, inexact);
    let fl = b.sel(c, both, fl);
    let cc = b.sel(c, three, cc);
    let fl = without_inexact(b, i, fl);
    fp_finish(b, fl)?;
    put(b, i.r1, if width == 32 { Width::W32 } else { W64 }, r);
    set_cc(b, cc);
    done(b)
}

/// Class bit of a value, as TEST DATA CLASS numbers them: (high, low, format 0, 1 or 2).
static CLASS: Helper = Helper {
    name: "data class",
    run: |_, [hi, lo, f, _]| {
        let fmt = match f {
            0 => F32,
            1 => F64,
            _ => F128,
        };
        let (inf, sign, quiet) = bits(fmt);
        let m = hi & (sign - 1);
        let low = fmt == F128 && lo != 0;
        let n = if m == 0 && !low {
            11
        } else if m < inf && m & inf != 0 {
            9
        } else if m & inf == 0 {
            7
        } else if m == inf && !low {
            5
        } else if m & quiet != 0 {
            3
        } else {
            1
        };
        Ok(1 << (n - (hi & sign != 0) as u32))
    },
    reads: &[],
    writes: &[],
    faults: false,
};

/// TEST DATA CLASS: condition code 1 if the class of R1 is among the bits of the second-operand address.
#[inline]
pub fn test_data_class<B: Backend>(b: &mut B, i: &Insn, f: Fmt) -> Sem<B> {
    let v = register(b, f, i.r1)?;
    let a = ea(b, i);
    let k = b.k(f as u64);
    let class = b.helper(&CLASS, &[v.0, v.1, k])?;
    let m = b.k(0xfff);
    let class = b.and(class, m);
    let hit = b.and(class, a);
    let z = b.k(0);
    b.flags(CC_FLAG, FlagKind::Logic(W64), hit, z);
    Ok(())
}

/// EXTRACT FPC.
#[inline]
pub fn extract_fpc<B: Backend>(b: &mut B, i: &Insn) -> Sem<B> {
    let v = b.get(FPC);
    b.set_low32(gpr(i.r1), v);
    Ok(())
}

/// Bits of the FPC that are not defined. Mask and flag of the quantum exception, which no binary operation meets, are.
const FPC_RESERVED: u64 = 0x0303_0088;
/// Its flags.
const FPC_FLAGS: u64 = 0x00fc_0000;

/// Checks and sets the FPC.
#[inline]
fn write_fpc<B: Backend>(b: &mut B, v: B::V) -> Sem<B> {
    let v = b.zx(v, 32);
    let m = b.k(FPC_RESERVED);
    let z = b.k(0);
    let bad = b.and(v, m);
    let c = b.cmp(W64, Cc::Ne, bad, z);
    b.trap_if(c, SPECIFICATION)?;
    let seven = b.k(7);
    let mode = b.and(v, seven);
    let three = b.k(3);
    let four = b.k(4);
    let off = b.sub(mode, four);
    let c = b.cmp(W64, Cc::Ltu, off, three);
    b.trap_if(c, SPECIFICATION)?;
    b.set(FPC, v);
    let k = b.k(LATE_MASKS);
    let late = b.and(v, k);
    let c = b.cmp(W64, Cc::Ne, late, z);
    b.when(c, |b| b.helper(&NOTICE, &[]).map(|_| ()))
}

/// SET FPC.
#[inline]
pub fn set_fpc<B: Backend>(b: &mut B, i: &Insn) -> Sem<B> {
    let v = b.get(gpr(i.r1));
    write_fpc(b, v)
}

/// LOAD FPC.
#[inline]
pub fn load_fpc<B: Backend>(b: &mut B, i: &Insn) -> Sem<B> {
    let a = ea(b, i);
    let v = b.load(U32, a)?;
    write_fpc(b, v)
}

/// LFAS, SFASR: (new value). The flags of old and new value come together; an old flag that the new mask enables
/// is a simulated IEEE exception, after the FPC was loaded.
pub static SIGNAL: Helper = Helper {
    name: "set FPC and signal",
    run: |e, [v, ..]| {
        let v = v & 0xffff_ffff;
        if v & FPC_RESERVED != 0 || matches!(v & 7, 4..=6) {
            return Err(SPECIFICATION);
        }
        let flags = e.get(FPC) & FPC_FLAGS;
        e.set(FPC, v | flags);
        if v & LATE_MASKS != 0 {
            e.end_block();
        }
        match (flags >> 16) & (v >> 24) {
            0 => Ok(0),
            // The most significant one, overflow and underflow with inexact if that flag is on; 3 in the low bits says
            // that it is simulated.
            n => {
                let first = 1 << (63 - n.leading_zeros());
                let inexact = if first & 0x30 != 0 { (flags >> 16) as u8 & 0x08 } else { 0 };
                Err(Exc::data(first | inexact | 3))
            }
        }
    },
    reads: &[(FPC, 1)],
    writes: &[(FPC, 1)],
    faults: true,
};

/// SET FPC AND SIGNAL.
#[inline]
pub fn set_fpc_and_signal<B: Backend>(b: &mut B, i: &Insn) -> Sem<B> {
    let v = b.get(gpr(i.r1));
    b.helper(&SIGNAL, &[v]).map(|_| ())
}

/// LOAD FPC AND SIGNAL.
#[inline]
pub fn load_fpc_and_signal<B: Backend>(b: &mut B, i: &Insn) -> Sem<B> {
    let a = ea(b, i);
    let v = b.load(U32, a)?;
    b.helper(&SIGNAL, &[v]).map(|_| ())
}

/// STORE FPC.
#[inline]
pub fn store_fpc<B: Backend>(b: &mut B, i: &Insn) -> Sem<B> {
    let a = ea(b, i);
    let v = b.get(FPC);
    b.store(MemOp::be(4), a, v)
}

/// SET BFP ROUNDING MODE: `width` low bits of the second-operand address; SRNM keeps the third bit zero. Of the
/// rightmost eight bits SRNMB wants all others to be zero, and a mode that exists.
#[inline]
pub fn set_rounding<B: Backend>(b: &mut B, i: &Insn, width: u8) -> Sem<B> {
    let a = ea(b, i);
    let m = b.k(if width == 2 { 3 } else { 7 });
    let mode = b.and(a, m);
    if width == 3 {
        let reserved = b.k(0xf8);
        let z = b.k(0);
        let bad = b.and(a, reserved);
        let c = b.cmp(W64, Cc::Ne, bad, z);
        b.trap_if(c, SPECIFICATION)?;
        let three = b.k(3);
        let four = b.k(4);
        let off = b.sub(mode, four);
        let c = b.cmp(W64, Cc::Ltu, off, three);
        b.trap_if(c, SPECIFICATION)?;
    }
    let fpc = b.get(FPC);
    let keep = b.k(!7);
    let fpc = b.and(fpc, keep);
    let fpc = b.or(fpc, mode);
    b.set(FPC, fpc);
    Ok(())
}

/// SET DFP ROUNDING MODE: bits 25 to 27 of the FPC.
#[inline]
pub fn set_decimal_rounding<B: Backend>(b: &mut B, i: &Insn) -> Sem<B> {
    let a = ea(b, i);
    let m = b.k(7);
    let mode = b.and(a, m);
    let k = b.k(4);
    let mode = b.shl(mode, k);
    let fpc = b.get(FPC);
    let keep = b.k(!0x70);
    let fpc = b.and(fpc, keep);
    let fpc = b.or(fpc, mode);
    b.set(FPC, fpc);
    Ok(())
}

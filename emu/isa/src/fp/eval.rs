//! The exact evaluation, on `rustc_apfloat` with the places corrected where IEEE 754 leaves a choice: NaN
//! propagation, the default NaN, tininess before rounding, rounding to odd.

use super::{Fmt, FpOp, flag};
use rustc_apfloat::ieee::{Double, Quad, Single};
use rustc_apfloat::{Float, FloatConvert, Round, Status, StatusAnd};
use std::cmp::Ordering;

/// A format as this module needs it.
pub(super) trait Format: Float {
    /// Bits in all.
    const WIDTH: u32;
    /// Bits of the stored fraction.
    const FRACTION: u32;
    const EXPONENT_BIAS: i32 = (1 << (Self::WIDTH - Self::FRACTION - 2)) - 1;
    const QUIET: u128 = 1 << (Self::FRACTION - 1);
    const INFINITY_BITS: u128 = ((1 << (Self::WIDTH - Self::FRACTION - 1)) - 1) << Self::FRACTION;
    const SIGN: u128 = 1 << (Self::WIDTH - 1);
    const DEFAULT_NAN: u128 = Self::INFINITY_BITS | Self::QUIET;
}

impl Format for Single {
    const WIDTH: u32 = 32;
    const FRACTION: u32 = 23;
}
impl Format for Double {
    const WIDTH: u32 = 64;
    const FRACTION: u32 = 52;
}
impl Format for Quad {
    const WIDTH: u32 = 128;
    const FRACTION: u32 = 112;
}

fn is_nan<F: Format>(v: u128) -> bool {
    v & !F::SIGN > F::INFINITY_BITS
}

fn is_signaling<F: Format>(v: u128) -> bool {
    is_nan::<F>(v) && v & F::QUIET == 0
}

/// The result when an operand is a NaN: the first signalling one made quiet, else the first.
fn propagate<F: Format>(args: &[u128]) -> Option<(u128, u64)> {
    if let Some(&s) = args.iter().find(|&&v| is_signaling::<F>(v)) {
        return Some((s | F::QUIET, flag::INVALID));
    }
    args.iter().find(|&&v| is_nan::<F>(v)).map(|&v| (v, 0))
}

/// A rounding mode of the library, and whether to round to odd on top of it.
pub(super) fn mode(rm: u64) -> (Round, bool) {
    match rm & 7 {
        1 => (Round::TowardZero, false),
        2 => (Round::TowardPositive, false),
        3 => (Round::TowardNegative, false),
        4 => (Round::NearestTiesToAway, false),
        7 => (Round::TowardZero, true),
        _ => (Round::NearestTiesToEven, false),
    }
}

fn flags(s: Status) -> u64 {
    let one = |bit, f| if s.contains(bit) { f } else { 0 };
    one(Status::INVALID_OP, flag::INVALID)
        | one(Status::DIV_BY_ZERO, flag::DIVZERO)
        | one(Status::OVERFLOW, flag::OVERFLOW)
        | one(Status::UNDERFLOW, flag::UNDERFLOW)
        | one(Status::INEXACT, flag::INEXACT)
}

/// Rounds by calling `f` with a mode of the library, and corrects what it does differently. `exponent` is that of
/// the result before rounding, asked for when it is a question of overflow.
fn rounded<F: Format>(rm: u64, f: impl Fn(Round) -> StatusAnd<F>, exponent: impl Fn() -> i32) -> (u128, u64) {
    let (round, odd) = mode(rm);
    let r = f(round);
    let mut bits = r.value.to_bits();
    let mut fl = flags(r.status);
    if is_nan::<F>(bits) {
        return (F::DEFAULT_NAN, fl);
    }
    let smallest = 1u128 << F::FRACTION;
    if fl & flag::INEXACT != 0 && fl & flag::UNDERFLOW == 0 && bits & !F::SIGN == smallest {
        // Tiny before rounding, though not after.
        let down = f(Round::TowardZero).value.to_bits();
        if down & !F::SIGN < smallest {
            fl |= flag::UNDERFLOW;
        }
    }
    let largest = F::INFINITY_BITS - 1;
    if fl & flag::INEXACT != 0 && bits & !F::SIGN == largest && exponent() > F::EXPONENT_BIAS {
        // A directed mode stops at the largest number, which the library does not call an overflow.
        fl |= flag::OVERFLOW;
    }
    if odd && fl & flag::INEXACT != 0 {
        bits |= 1;
    }
    (bits, fl)
}

fn sqrt<F: Format>(v: u128, rm: u64) -> (u128, u64) {
    let x = F::from_bits(v);
    if x.is_zero() || v == F::INFINITY_BITS {
        return (v, 0);
    }
    if x.is_negative() {
        return (F::DEFAULT_NAN, flag::INVALID);
    }
    // v = m * 2^e with e even and m of a fixed number of bits.
    let fraction = v & ((1 << F::FRACTION) - 1);
    let biased = (v >> F::FRACTION) as i32;
    let (mut m, mut e) = match biased {
        0 => (fraction, 1 - F::EXPONENT_BIAS),
        n => (fraction | 1 << F::FRACTION, n - F::EXPONENT_BIAS),
    };
    e -= F::FRACTION as i32;
    let width = F::FRACTION + 2 + (F::FRACTION & 1);
    let up = width - (128 - m.leading_zeros());
    m <<= up;
    e -= up as i32;
    if e & 1 != 0 {
        m >>= 1;
        e += 1;
    }
    // Digit by digit: two bits of the operand for each bit of the root; zeros follow the operand.
    let digits = F::FRACTION + 4;
    let (mut root, mut rem) = (0u128, 0u128);
    for k in 0..digits {
        let pair = match width.checked_sub(2 * (k + 1)) {
            Some(s) => m >> s & 3,
            None => 0,
        };
        rem = rem << 2 | pair;
        let trial = root << 2 | 1;
        root <<= 1;
        if rem >= trial {
            rem -= trial;
            root |= 1;
        }
    }
    // root = floor(sqrt(m * 2^(2 * digits - width))); a last bit stands for the remainder.
    let exponent = (e + width as i32) / 2 - digits as i32 - 1;
    let sticky = root << 1 | (rem != 0) as u128;
    let (round, odd) = mode(rm);
    let r = F::from_u128_r(sticky, round);
    let bits = r.value.scalbn(exponent).to_bits();
    let fl = flags(r.status);
    (if odd && fl != 0 { bits | 1 } else { bits }, fl)
}

fn integral<F: Format>(v: u128, rm: u64) -> (u128, u64) {
    let (round, odd) = mode(rm);
    let r = F::from_bits(v).round_to_integral(round);
    let fl = flags(r.status) & flag::INEXACT;
    let mut value = r.value;
    if odd && fl != 0 && (value * F::from_u128(2).value.copy_sign(value)).value.is_finite() {
        let half = value.scalbn(-1);
        if half.is_integer() {
            value = (value + F::from_u128(1).value.copy_sign(value)).value;
        }
    }
    (value.to_bits(), fl)
}

fn to_int<F: Format>(v: u128, rm: u64, bits: u32, signed: bool) -> (u128, u64) {
    let (low, high) = match (signed, bits) {
        (true, n) => (-(1i128 << (n - 1)), (1i128 << (n - 1)) - 1),
        (false, n) => (0, (1i128 << n) - 1),
    };
    if is_nan::<F>(v) {
        return (low as u128, flag::INVALID);
    }
    let (r, fl) = integral::<F>(v, rm);
    let r = F::from_bits(r);
    let mut exact = false;
    let n = r.to_i128_r(128, Round::TowardZero, &mut exact);
    let saturated = if r.is_negative() { low } else { high };
    if n.status.contains(Status::INVALID_OP) || n.value < low || n.value > high {
        return (saturated as u128, flag::INVALID);
    }
    (n.value as u128, fl)
}

fn arithmetic<F: Format>(op: FpOp, rm: u64, a: &[u128; 3]) -> (u128, u64) {
    let (x, y, z) = (F::from_bits(a[0]), F::from_bits(a[1]), F::from_bits(a[2]));
    // The same operation a quarter as large shows the exponent of a result that is out of range.
    let quarter = |v: F| v.scalbn(-2);
    let size = |v: StatusAnd<F>| v.value.ilogb().saturating_add(2);
    let zero = Round::TowardZero;
    let two = |f: fn(F, F, Round) -> StatusAnd<F>, scaled: F| {
        propagate::<F>(&a[..2])
            .unwrap_or_else(|| rounded(rm, |r| f(x, y, r), || size(f(quarter(x), scaled, zero))))
    };
    match op {
        FpOp::Add(_) => two(F::add_r, quarter(y)),
        FpOp::Sub(_) => two(F::sub_r, quarter(y)),
        FpOp::Mul(_) => two(F::mul_r, y),
        FpOp::Div(_) => two(F::div_r, y),
        FpOp::MulAdd(_) | FpOp::MulSub(_) => {
            let product_invalid = (x.is_infinite() && y.is_zero()) || (x.is_zero() && y.is_infinite());
            if product_invalid && !is_signaling::<F>(a[2]) {
                return (F::DEFAULT_NAN, flag::INVALID);
            }
            let z = if matches!(op, FpOp::MulSub(_)) { -z } else { z };
            propagate::<F>(a).unwrap_or_else(|| {
                rounded(rm, |r| x.mul_add_r(y, z, r), || size(quarter(x).mul_add_r(y, quarter(z), zero)))
            })
        }
        FpOp::Sqrt(_) => propagate::<F>(&a[..1]).unwrap_or_else(|| sqrt::<F>(a[0], rm)),
        FpOp::Cmp { signal, .. } => {
            let quiet = a[..2].iter().any(|&v| is_nan::<F>(v));
            let loud = a[..2].iter().any(|&v| is_signaling::<F>(v)) || (signal && quiet);
            let cc = match x.partial_cmp(&y) {
                Some(Ordering::Equal) => 0,
                Some(Ordering::Less) => 1,
                Some(Ordering::Greater) => 2,
                None => 3,
            };
            (cc, if loud { flag::INVALID } else { 0 })
        }
        FpOp::RoundInt { exact_quiet, .. } => propagate::<F>(&a[..1]).unwrap_or_else(|| {
            let (r, fl) = integral::<F>(a[0], rm);
            (r, if exact_quiet { 0 } else { fl })
        }),
        FpOp::ToInt { bits, signed, .. } => to_int::<F>(a[0], rm, bits as u32, signed),
        FpOp::FromInt { bits, signed, .. } => {
            let n = a[0] as u64;
            let v = match (signed, bits) {
                (true, 32) => n as i32 as i128,
                (true, _) => n as i64 as i128,
                (false, 32) => n as u32 as i128,
                (false, _) => n as i128,
            };
            rounded::<F>(rm, |r| F::from_i128_r(v, r), || 0)
        }
        FpOp::Convert { .. } | FpOp::Unbounded { .. } => (a[0], 0),
    }
}

fn convert<F: Format + FloatConvert<T>, T: Format>(v: u128, rm: u64) -> (u128, u64) {
    if is_nan::<F>(v) {
        // Sign and payload from the left, made quiet.
        let fl = if is_signaling::<F>(v) { flag::INVALID } else { 0 };
        let fraction = v & ((1 << F::FRACTION) - 1);
        let fraction = match T::FRACTION.checked_sub(F::FRACTION) {
            Some(up) => fraction << up,
            None => fraction >> (F::FRACTION - T::FRACTION),
        };
        let sign = if v & F::SIGN != 0 { T::SIGN } else { 0 };
        return (sign | T::DEFAULT_NAN | fraction, fl);
    }
    let x = F::from_bits(v);
    rounded::<T>(rm, |r| x.convert_r(r, &mut false), || x.ilogb())
}

/// The format whose operands `op` takes, and the one it gives.
pub(super) fn formats(op: FpOp) -> (Fmt, Fmt) {
    match op {
        FpOp::Add(f) | FpOp::Sub(f) | FpOp::Mul(f) | FpOp::Div(f) | FpOp::Sqrt(f) => (f, f),
        FpOp::MulAdd(f) | FpOp::MulSub(f) | FpOp::RoundInt { fmt: f, .. } => (f, f),
        FpOp::Convert { from, to } => (from, to),
        FpOp::Unbounded { from, .. } => (from, from),
        FpOp::Cmp { fmt, .. } | FpOp::ToInt { fmt, .. } => (fmt, Fmt::F64),
        FpOp::FromInt { fmt, .. } => (Fmt::F64, fmt),
    }
}

/// Evaluates `op` in rounding mode `rm` (the numbers of [`super::Round`]; [`super::trap`] says what else it may
/// ask for). Operands and result as
/// [`crate::Backend::fp`] says: `(high, low, flags)`.
pub fn eval(op: FpOp, rm: u64, args: [u64; 6]) -> (u64, u64, u64) {
    if rm & super::trap::MASKS != 0 {
        return super::trap::eval(op, rm, args);
    }
    match super::fast::eval(op, rm, &args) {
        Some((r, fl)) => (r, 0, fl),
        None => exact(op, rm, args),
    }
}

/// [`eval`] without the host's arithmetic.
pub(super) fn exact(op: FpOp, rm: u64, args: [u64; 6]) -> (u64, u64, u64) {
    let (from, to) = formats(op);
    let a = operands(from, args);
    let (r, fl) = match op {
        FpOp::Unbounded { .. } => (super::trap::unbounded(op, rm, &a), 0),
        FpOp::Convert { from, to } => match (from, to) {
            (Fmt::F32, Fmt::F64) => convert::<Single, Double>(a[0], rm),
            (Fmt::F32, Fmt::F128) => convert::<Single, Quad>(a[0], rm),
            (Fmt::F64, Fmt::F32) => convert::<Double, Single>(a[0], rm),
            (Fmt::F64, Fmt::F128) => convert::<Double, Quad>(a[0], rm),
            (Fmt::F128, Fmt::F32) => convert::<Quad, Single>(a[0], rm),
            (Fmt::F128, Fmt::F64) => convert::<Quad, Double>(a[0], rm),
            _ => (a[0], 0),
        },
        FpOp::FromInt { fmt, .. } => match fmt {
            Fmt::F32 => arithmetic::<Single>(op, rm, &a),
            Fmt::F64 => arithmetic::<Double>(op, rm, &a),
            Fmt::F128 => arithmetic::<Quad>(op, rm, &a),
        },
        _ => match from {
            Fmt::F32 => arithmetic::<Single>(op, rm, &a),
            Fmt::F64 => arithmetic::<Double>(op, rm, &a),
            Fmt::F128 => arithmetic::<Quad>(op, rm, &a),
        },
    };
    result(to, r, fl)
}

/// The operands as bits of their format.
pub(super) fn operands(fmt: Fmt, args: [u64; 6]) -> [u128; 3] {
    std::array::from_fn(|k| match fmt {
        Fmt::F32 => args[k] as u32 as u128,
        Fmt::F64 => args[k] as u128,
        Fmt::F128 => (args[2 * k] as u128) << 64 | args[2 * k + 1] as u128,
    })
}

/// Bits of a format as [`crate::Backend::fp`] gives them.
pub(super) fn result(fmt: Fmt, r: u128, fl: u64) -> (u64, u64, u64) {
    match fmt {
        Fmt::F128 => ((r >> 64) as u64, r as u64, fl),
        _ => (r as u64, 0, fl),
    }
}

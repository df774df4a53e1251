//! Results of operations whose overflow, underflow or inexact exception is enabled (IEEE 754-1985 section 7; PoP
//! chapter 19, "IEEE Exceptions"): computed as if the exponent had no bounds, then scaled by a power of two that
//! brings them back into range. With underflow enabled a tiny result is an underflow also if it is exact.

use super::eval::{Format, exact, formats, mode, operands, result};
use super::{Fmt, FpOp, flag};
use rustc_apfloat::ieee::{Double, Quad, Single};
use rustc_apfloat::{Float, FloatConvert, Round, Status, StatusAnd};

/// Bits of a rounding mode that say which exceptions are enabled: [`flag`]s shifted left, as in the s390x FPC.
pub const MASKS: u64 = (flag::OVERFLOW | flag::UNDERFLOW | flag::INEXACT) << SHIFT;
const SHIFT: u32 = 24;

/// A result without bounds of the exponent: `value * 2^exponent`, `value` near one.
struct Unbounded<F> {
    value: F,
    exponent: i32,
    /// log2 of the magnitude before rounding.
    log: i32,
    inexact: bool,
    incremented: bool,
}

/// Rounds by calling `f`; it must not leave the range of the format.
fn round<F: Float>(rm: u64, exponent: i32, f: impl Fn(Round) -> StatusAnd<F>) -> Unbounded<F> {
    let (how, odd) = mode(rm);
    let down = f(Round::TowardZero).value;
    let r = f(how);
    let inexact = r.status.contains(Status::INEXACT);
    let value = if odd && inexact { F::from_bits(r.value.to_bits() | 1) } else { r.value };
    Unbounded {
        value,
        exponent,
        log: down.ilogb().saturating_add(exponent),
        inexact,
        incremented: inexact && value.abs() > down.abs(),
    }
}

/// A finite number that is not zero, as one between 1 and 2 with its exponent.
fn split<F: Float>(v: F) -> (F, i32) {
    let e = v.ilogb();
    (v.scalbn(-e), e)
}

/// `v * 2^e`, where all that matters of something very small is that it is not zero.
fn place<F: Format>(v: F, e: i32) -> F {
    v.scalbn(e.max(-4 * F::FRACTION as i32))
}

/// `op` on finite operands without bounds of the exponent; `None` for zeros, infinities and NaNs, and for what never
/// leaves the range.
fn arithmetic<F: Format>(op: FpOp, rm: u64, a: &[u128; 3]) -> Option<Unbounded<F>> {
    let (x, y, z) = (F::from_bits(a[0]), F::from_bits(a[1]), F::from_bits(a[2]));
    let one = F::from_u128(1).value;
    let zero = F::ZERO;
    let (x, y, z) = match op {
        FpOp::Add(_) => (x, one, y),
        FpOp::Sub(_) => (x, one, -y),
        FpOp::Mul(_) => (x, y, zero),
        FpOp::MulAdd(_) => (x, y, z),
        FpOp::MulSub(_) => (x, y, -z),
        FpOp::Div(_) => {
            let proper = |v: F| v.is_finite() && !v.is_zero();
            if !proper(x) || !proper(y) {
                return None;
            }
            let ((x, ex), (y, ey)) = (split(x), split(y));
            return Some(round(rm, ex - ey, |r| x.div_r(y, r)));
        }
        _ => return None,
    };
    if ![x, y, z].iter().all(|v| v.is_finite()) {
        return None;
    }
    let (x, y, z) = match (x.is_zero() || y.is_zero(), z.is_zero()) {
        (true, true) => return None,
        (true, false) => (z, one, zero),
        _ => (x, y, z),
    };
    let ((x, ex), (y, ey)) = (split(x), split(y));
    let product = ex + ey;
    let (z, ez) = if z.is_zero() { (z, product) } else { split(z) };
    let most = product.max(ez);
    let (x, z) = (place(x, product - most), if z.is_zero() { z } else { place(z, ez - most) });
    let u = round(rm, most, |r| x.mul_add_r(y, z, r));
    (!u.value.is_zero()).then_some(u)
}

fn shorter<F: Format + FloatConvert<T>, T: Format>(v: u128, rm: u64) -> Option<Unbounded<T>> {
    let v = F::from_bits(v);
    if !v.is_finite() || v.is_zero() {
        return None;
    }
    let (v, e) = split(v);
    Some(round(rm, e, |r| v.convert_r(r, &mut false)))
}

/// What `op` gives, with its flags, when the exceptions in `rm` are enabled and it came to `(bits, fl)` without.
fn scale<F: Format>(u: Option<Unbounded<F>>, rm: u64, (bits, fl): (u128, u64)) -> (u128, u64) {
    let enabled = rm >> SHIFT;
    let Some(u) = u else { return (bits, fl) };
    let overflow = fl & enabled & flag::OVERFLOW;
    let underflow = if u.log < 1 - F::EXPONENT_BIAS { enabled & flag::UNDERFLOW } else { 0 };
    if overflow | underflow == 0 {
        return (bits, fl);
    }
    // 192, 1536 or 24576.
    let by = 3 * (F::EXPONENT_BIAS + 1) / 2;
    let value = u.value.scalbn(u.exponent + if overflow != 0 { -by } else { by });
    let inexact = if u.inexact { flag::INEXACT } else { 0 };
    let incremented = if u.incremented { flag::INCREMENTED } else { 0 };
    (value.to_bits(), overflow | underflow | inexact | incremented)
}

/// The flags of a conversion to a shorter format; the result is [`unbounded`]'s business.
fn narrow<T: Format>(u: Option<Unbounded<T>>, rm: u64, fl: u64) -> u64 {
    scale(u, rm, (0, fl)).1
}

/// [`super::eval()`] with exceptions enabled.
pub(super) fn eval(op: FpOp, rm: u64, args: [u64; 6]) -> (u64, u64, u64) {
    let plain = rm & 7;
    let (from, to) = formats(op);
    let a = operands(from, args);
    let (h, l, fl) = exact(op, plain, args);
    let bits = match to {
        Fmt::F128 => (h as u128) << 64 | l as u128,
        _ => h as u128,
    };
    let (r, mut fl) = match op {
        FpOp::Convert { from: Fmt::F64, to: Fmt::F32 } => {
            (bits, narrow(shorter::<Double, Single>(a[0], rm), rm, fl))
        }
        FpOp::Convert { from: Fmt::F128, to: Fmt::F32 } => {
            (bits, narrow(shorter::<Quad, Single>(a[0], rm), rm, fl))
        }
        FpOp::Convert { from: Fmt::F128, to: Fmt::F64 } => {
            (bits, narrow(shorter::<Quad, Double>(a[0], rm), rm, fl))
        }
        _ => match from {
            Fmt::F32 => scale(arithmetic::<Single>(op, rm, &a), rm, (bits, fl)),
            Fmt::F64 => scale(arithmetic::<Double>(op, rm, &a), rm, (bits, fl)),
            Fmt::F128 => scale(arithmetic::<Quad>(op, rm, &a), rm, (bits, fl)),
        },
    };
    let scaled = fl & rm >> SHIFT & (flag::OVERFLOW | flag::UNDERFLOW) != 0;
    if fl & flag::INEXACT != 0 && !scaled {
        // Compared with the result that was cut off; a NaN is never inexact.
        let (th, tl, _) = exact(op, 1, args);
        let sign = match (op, to) {
            (FpOp::ToInt { .. }, _) => 0,
            (_, Fmt::F32) => 1 << 31,
            _ => 1 << 63,
        };
        let larger = match op {
            FpOp::ToInt { signed: true, .. } => (h as i64).unsigned_abs() > (th as i64).unsigned_abs(),
            _ => (h & !sign, l) > (th & !sign, tl),
        };
        if larger {
            fl |= flag::INCREMENTED;
        }
    }
    result(to, r, fl)
}

/// [`FpOp::Unbounded`]: the rounded value in the source's format.
pub(super) fn unbounded(op: FpOp, rm: u64, a: &[u128; 3]) -> u128 {
    fn wide<F: Format, T: Format + FloatConvert<F>>(v: u128, u: Option<Unbounded<T>>) -> u128 {
        u.map_or(v, |u| {
            let w: F = u.value.convert(&mut false).value;
            w.scalbn(u.exponent).to_bits()
        })
    }
    let v = a[0];
    match op {
        FpOp::Unbounded { from: Fmt::F64, to: Fmt::F32 } => {
            wide::<Double, Single>(v, shorter::<Double, Single>(v, rm))
        }
        FpOp::Unbounded { from: Fmt::F128, to: Fmt::F32 } => {
            wide::<Quad, Single>(v, shorter::<Quad, Single>(v, rm))
        }
        FpOp::Unbounded { from: Fmt::F128, to: Fmt::F64 } => {
            wide::<Quad, Double>(v, shorter::<Quad, Double>(v, rm))
        }
        _ => v,
    }
}

//! Packed decimal: conversions, packing, shifting, adding (PoP chapters 7 and 8).

use super::FIXED_DIVIDE;
use super::helpers::on_storage;
use super::state::{CC, PMASK};
use crate::backend::{Access, Env, Exc, Helper};

/// Program interruption 10: decimal overflow.
const DECIMAL_OVERFLOW: Exc = Exc::program(10);
/// Data exception for an invalid digit or sign.
const INVALID: Exc = Exc::data(0);

/// A packed number: up to 31 digits in a magnitude, and a sign.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Packed {
    magnitude: u128,
    negative: bool,
}

fn read(e: &mut dyn Env, addr: u64, len: usize) -> Result<Packed, Exc> {
    let mut buf = [0u8; 16];
    let buf = &mut buf[..len];
    e.read(addr, buf)?;
    let mut magnitude = 0u128;
    for (k, &byte) in buf.iter().enumerate() {
        let (h, l) = (byte >> 4, byte & 15);
        if h > 9 {
            return Err(INVALID);
        }
        magnitude = magnitude * 10 + h as u128;
        if k + 1 < len {
            if l > 9 {
                return Err(INVALID);
            }
            magnitude = magnitude * 10 + l as u128;
        }
    }
    match buf[len - 1] & 15 {
        0..=9 => Err(INVALID),
        s => Ok(Packed { magnitude, negative: matches!(s, 0xb | 0xd) }),
    }
}

fn encode(v: Packed, out: &mut [u8]) {
    let mut m = v.magnitude;
    let last = out.len() - 1;
    for k in (0..out.len()).rev() {
        let low = if k == last {
            if v.negative { 0xd } else { 0xc }
        } else {
            let d = (m % 10) as u8;
            m /= 10;
            d
        };
        out[k] = ((m % 10) as u8) << 4 | low;
        m /= 10;
    }
}

fn power(digits: usize) -> u128 {
    10u128.pow(digits as u32)
}

/// Stores a result, truncated to the field; returns the condition code or the overflow.
fn finish(e: &mut dyn Env, addr: u64, len: usize, v: Packed) -> Result<u64, Exc> {
    let limit = power(2 * len - 1);
    let overflow = v.magnitude >= limit;
    let magnitude = v.magnitude % limit;
    let zero = magnitude == 0;
    let negative = v.negative && (overflow || !zero);
    let mut out = [0u8; 16];
    encode(Packed { magnitude, negative }, &mut out[..len]);
    e.write(addr, &out[..len])?;
    if overflow && e.get(PMASK) & 4 != 0 {
        // The operation is completed first.
        e.set(CC, 3);
        return Err(DECIMAL_OVERFLOW);
    }
    Ok(match (overflow, zero, negative) {
        (true, ..) => 3,
        (_, true, _) => 0,
        (_, _, true) => 1,
        _ => 2,
    })
}

fn to_binary(e: &mut dyn Env, addr: u64, len: usize, bits: u32) -> Result<u64, Exc> {
    let v = read(e, addr, len)?;
    let limit = 1u128 << (bits - 1);
    if v.magnitude > limit || (v.magnitude == limit && !v.negative) {
        return Err(FIXED_DIVIDE);
    }
    let m = v.magnitude as u64;
    Ok(if v.negative { m.wrapping_neg() } else { m })
}

/// CVB, CVBY: (address).
pub static CVB: Helper = on_storage("cvb", |e, [a, ..]| to_binary(e, a, 8, 32));
/// CVBG: (address).
pub static CVBG: Helper = on_storage("cvbg", |e, [a, ..]| to_binary(e, a, 16, 64));

fn to_decimal(e: &mut dyn Env, addr: u64, v: i64, len: usize) -> Result<u64, Exc> {
    let mut out = [0u8; 16];
    encode(Packed { magnitude: v.unsigned_abs() as u128, negative: v < 0 }, &mut out[..len]);
    e.write(addr, &out[..len])?;
    Ok(0)
}

/// CVD, CVDY: (address, value).
pub static CVD: Helper = on_storage("cvd", |e, [a, v, ..]| to_decimal(e, a, v as i64, 8));
/// CVDG: (address, value).
pub static CVDG: Helper = on_storage("cvdg", |e, [a, v, ..]| to_decimal(e, a, v as i64, 16));

/// The two lengths in a length byte.
fn lengths(code: u64) -> (usize, usize) {
    ((code >> 4 & 15) as usize + 1, (code & 15) as usize + 1)
}

/// Runs a right-to-left byte operation with results visible to later reads, as the manual defines for overlap.
fn right_to_left(
    e: &mut dyn Env,
    [to, from, code, _]: [u64; 4],
    mut f: impl FnMut(usize, &mut dyn FnMut(usize) -> Result<u8, Exc>) -> Result<u8, Exc>,
) -> Result<u64, Exc> {
    let (l1, l2) = lengths(code);
    e.probe(from, l2 as u64, Access::Load)?;
    e.probe(to, l1 as u64, Access::Store)?;
    for k in 0..l1 {
        let byte = f(k, &mut |n| {
            if n >= l2 {
                return Ok(0);
            }
            let mut b = [0];
            e.read(from.wrapping_add((l2 - 1 - n) as u64), &mut b)?;
            Ok(b[0])
        })?;
        e.write(to.wrapping_add((l1 - 1 - k) as u64), &[byte])?;
    }
    Ok(0)
}

/// PACK: (to, from, lengths).
pub static PACK: Helper = on_storage("pack", |e, a| {
    right_to_left(e, a, |k, s| {
        Ok(if k == 0 {
            let b = s(0)?;
            b.rotate_left(4)
        } else {
            let low = s(2 * k - 1)? & 15;
            let high = s(2 * k)? & 15;
            high << 4 | low
        })
    })
});

/// UNPK: (to, from, lengths).
pub static UNPK: Helper = on_storage("unpk", |e, a| {
    right_to_left(e, a, |k, s| {
        Ok(if k == 0 {
            let b = s(0)?;
            b.rotate_left(4)
        } else {
            let b = s(k.div_ceil(2))?;
            0xf0 | if k % 2 == 1 { b & 15 } else { b >> 4 }
        })
    })
});

/// MVO: (to, from, lengths): the source goes to the left of the target's rightmost four bits.
pub static MVO: Helper = on_storage("mvo", |e, a| {
    let (l1, _) = lengths(a[2]);
    let mut last = [0];
    e.read(a[0].wrapping_add(l1 as u64 - 1), &mut last)?;
    let mut carry = last[0] & 15;
    right_to_left(e, a, |k, s| {
        let b = s(k)?;
        let out = b << 4 | carry;
        carry = b >> 4;
        Ok(out)
    })
});

fn sum(x: Packed, y: Packed) -> Packed {
    if x.negative == y.negative {
        return Packed { magnitude: x.magnitude + y.magnitude, negative: x.negative };
    }
    match x.magnitude.checked_sub(y.magnitude) {
        Some(magnitude) => Packed { magnitude, negative: x.negative && magnitude != 0 },
        None => Packed { magnitude: y.magnitude - x.magnitude, negative: y.negative },
    }
}

fn add(e: &mut dyn Env, [to, from, code, _]: [u64; 4], subtract: bool) -> Result<u64, Exc> {
    let (l1, l2) = lengths(code);
    e.probe(to, l1 as u64, Access::Store)?;
    let mut y = read(e, from, l2)?;
    let x = read(e, to, l1)?;
    y.negative ^= subtract;
    finish(e, to, l1, sum(x, y))
}

/// AP: (to, from, lengths).
pub static AP: Helper =
    Helper { reads: &[(PMASK, 1)], writes: &[(CC, 1)], ..on_storage("ap", |e, a| add(e, a, false)) };
/// SP: (to, from, lengths).
pub static SP: Helper =
    Helper { reads: &[(PMASK, 1)], writes: &[(CC, 1)], ..on_storage("sp", |e, a| add(e, a, true)) };

/// ZAP: (to, from, lengths).
pub static ZAP: Helper = Helper {
    reads: &[(PMASK, 1)],
    writes: &[(CC, 1)],
    ..on_storage("zap", |e, [to, from, code, _]| {
        let (l1, l2) = lengths(code);
        let y = read(e, from, l2)?;
        finish(e, to, l1, y)
    })
};

/// CP: (first, second, lengths).
pub static CP: Helper = on_storage("cp", |e, [x, y, code, _]| {
    let (l1, l2) = lengths(code);
    let mut y = read(e, y, l2)?;
    let x = read(e, x, l1)?;
    y.negative ^= true;
    let d = sum(x, y);
    Ok(match (d.magnitude, d.negative) {
        (0, _) => 0,
        (_, true) => 1,
        _ => 2,
    })
});

/// SRP: (address, shift, length and rounding digit). A negative six-bit amount shifts right and rounds.
pub static SRP: Helper = Helper {
    reads: &[(PMASK, 1)],
    writes: &[(CC, 1)],
    ..on_storage("srp", |e, [a, shift, code, _]| {
        let len = (code >> 4 & 15) as usize + 1;
        let digit = (code & 15) as u128;
        if digit > 9 {
            return Err(INVALID);
        }
        let v = read(e, a, len)?;
        let n = (shift as u8) << 2;
        let n = (n as i8 >> 2) as i32;
        let digits = 2 * len - 1;
        let v = if n >= 0 {
            // More than the field holds is lost whatever it is; keep one digit to show that it was.
            let keep = power(digits.saturating_sub(n as usize));
            let lost = v.magnitude >= keep && v.magnitude != 0;
            let kept = if n as usize >= digits { 0 } else { v.magnitude % keep * power(n as usize) };
            Packed { magnitude: kept + if lost { power(digits) } else { 0 }, ..v }
        } else {
            let n = (-n) as usize;
            let m = if n > 31 { 0 } else { (v.magnitude / power(n - 1) + digit) / 10 };
            Packed { magnitude: m, ..v }
        };
        finish(e, a, len, v)
    })
};

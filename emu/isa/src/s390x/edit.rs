//! Editing and the packed, zoned, ASCII and Unicode forms of decimal digits (PoP chapters 7 and 8).

use super::SPECIFICATION;
use super::helpers::{on_registers, on_storage};
use super::state::gpr;
use crate::backend::{Access, Env, Exc, Helper};

const SELECT: u8 = 0x20;
const START: u8 = 0x21;
const SEPARATE: u8 = 0x22;

/// ED and EDMK: (pattern, source, length). The source is read as digits are asked for; nothing is stored before
/// the whole pattern has been gone through.
fn edit(e: &mut dyn Env, [to, from, len, _]: [u64; 4], mark: bool) -> Result<u64, Exc> {
    let mut buf = [0u8; 256];
    let pattern = &mut buf[..len as usize];
    e.probe(to, len, Access::Store)?;
    e.read(to, pattern)?;
    let fill = pattern[0];
    let (mut at, mut right) = (from, None);
    let (mut significant, mut nonzero, mut marked) = (false, false, None);
    for (k, p) in pattern.iter_mut().enumerate() {
        match *p {
            SELECT | START => {
                let (digit, plus) = match right.take() {
                    Some(digit) => (digit, false),
                    None => {
                        let mut b = [0];
                        e.read(at, &mut b)?;
                        at = at.wrapping_add(1);
                        let (high, low) = (b[0] >> 4, b[0] & 15);
                        if high > 9 {
                            return Err(Exc::data(0));
                        }
                        if low <= 9 {
                            right = Some(low);
                        }
                        (high, matches!(low, 0xa | 0xc | 0xe | 0xf))
                    }
                };
                let starts = *p == START || digit != 0;
                if significant || digit != 0 {
                    *p = 0xf0 | digit;
                    if !significant {
                        marked = Some(to.wrapping_add(k as u64));
                    }
                } else {
                    *p = fill;
                }
                nonzero |= digit != 0;
                significant = (significant || starts) && !plus;
            }
            SEPARATE => {
                *p = fill;
                (significant, nonzero) = (false, false);
            }
            _ if !significant => *p = fill,
            _ => {}
        }
    }
    e.write(to, pattern)?;
    if let (true, Some(a)) = (mark, marked) {
        e.set(gpr(1), a);
    }
    Ok(match (nonzero, significant) {
        (false, _) => 0,
        (true, true) => 1,
        (true, false) => 2,
    })
}

/// ED.
pub static ED: Helper = on_storage("ed", |e, a| edit(e, a, false));
/// EDMK: register 1 gets the address of the first significant digit that no starter preceded.
pub static EDMK: Helper = on_registers("edmk", |e, a| edit(e, a, true));

/// Digits of a packed field of 16 bytes.
const DIGITS: usize = 31;

/// PKA, PKU: the right halves of characters of `size` bytes, packed, with a plus sign.
fn pack(e: &mut dyn Env, [to, from, len, _]: [u64; 4], size: usize) -> Result<u64, Exc> {
    let len = len as usize;
    if len > 32 * size || !len.is_multiple_of(size) {
        return Err(SPECIFICATION);
    }
    let mut source = [0u8; 64];
    e.read(from, &mut source[..len])?;
    let mut out = [0u8; 16];
    out[15] = 0xc;
    for (k, c) in source[..len].chunks_exact(size).rev().take(DIGITS).enumerate() {
        // Position 0 is the sign.
        let (byte, up) = (15 - k.div_ceil(2), if k % 2 == 0 { 4 } else { 0 });
        out[byte] |= (c[size - 1] & 15) << up;
    }
    e.write(to, &out)?;
    Ok(0)
}

/// PKA: (to, from, length of the second operand).
pub static PKA: Helper = on_storage("pka", |e, a| pack(e, a, 1));
/// PKU: (to, from, length of the second operand).
pub static PKU: Helper = on_storage("pku", |e, a| pack(e, a, 2));

/// UNPKA, UNPKU: digits to characters of `size` bytes; the condition code tells the sign.
fn unpack(e: &mut dyn Env, [to, from, len, _]: [u64; 4], size: usize) -> Result<u64, Exc> {
    let len = len as usize;
    if len > 32 * size || !len.is_multiple_of(size) {
        return Err(SPECIFICATION);
    }
    let mut source = [0u8; 16];
    e.read(from, &mut source)?;
    let mut out = [0u8; 64];
    for (k, c) in out[..len].chunks_exact_mut(size).rev().enumerate() {
        let digit = match k {
            DIGITS.. => 0,
            k if k % 2 == 0 => source[15 - k / 2] >> 4,
            k => source[15 - k.div_ceil(2)] & 15,
        };
        c[size - 1] = 0x30 | digit;
    }
    e.write(to, &out[..len])?;
    Ok(match source[15] & 15 {
        0..=9 => 3,
        0xb | 0xd => 1,
        _ => 0,
    })
}

/// UNPKA: (to, from, length of the first operand).
pub static UNPKA: Helper = on_storage("unpka", |e, a| unpack(e, a, 1));
/// UNPKU: (to, from, length of the first operand).
pub static UNPKU: Helper = on_storage("unpku", |e, a| unpack(e, a, 2));

/// TP: (address, length). Condition code 1: the sign is not valid; 2: a digit is not; 3: neither is.
pub static TP: Helper = on_storage("tp", |e, [a, len, ..]| {
    let mut buf = [0u8; 16];
    let buf = &mut buf[..len as usize];
    e.read(a, buf)?;
    let last = buf.len() - 1;
    let digits = buf.iter().enumerate().all(|(k, b)| b >> 4 <= 9 && (k == last || b & 15 <= 9));
    Ok((buf[last] & 15 <= 9) as u64 | ((!digits) as u64) << 1)
});

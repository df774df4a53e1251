//! Translation of long operands: TRE, TROO and its kin, TRTE and TRTRE, and the UTF conversions (PoP chapter 7).
//!
//! All are interruptible. One call does one unit: it ends at the first page boundary of an operand, so that a fault
//! on an operand is met by the first character of a unit, when nothing has changed yet.

use super::SPECIFICATION;
use super::helpers::{Run, on_registers, page_room};
use super::state::gpr;
use crate::backend::{Access, Env, Exc, Helper, MemOp};

/// Most bytes of source that one unit goes through.
const UNIT: u64 = 256;

/// TRE: (register numbers).
pub static TRE: Helper = on_registers("tre", |e, [regs, ..]| {
    let mut run = Run::new(e, regs as u8, 64);
    let table = e.get(gpr((regs >> 8) as u8));
    let test = e.get(gpr(0)) as u8;
    let n = run.room().min(UNIT);
    if n == 0 {
        return Ok(0);
    }
    let mut buf = [0u8; UNIT as usize];
    let buf = &mut buf[..n as usize];
    e.read(run.addr, buf)?;
    let found = buf.iter().position(|&c| c == test);
    let count = found.unwrap_or(buf.len());
    if count != 0 {
        e.probe(run.addr, count as u64, Access::Store)?;
        for c in &mut buf[..count] {
            *c = e.load(MemOp::be(1), table.wrapping_add(*c as u64))? as u8;
        }
        e.write(run.addr, &buf[..count])?;
    }
    run.advance(e, count as u64);
    Ok(match (found, run.len) {
        (Some(_), _) => 1,
        (_, 0) => 0,
        _ => 3,
    })
});

/// TROO, TROT, TRTO, TRTT: (register numbers, mask); `from` and `to` are the sizes of characters.
fn translate(e: &mut dyn Env, [regs, mask, ..]: [u64; 4], from: u8, to: u8) -> Result<u64, Exc> {
    let (r1, r2) = (regs as u8, (regs >> 8) as u8);
    let (target, len, source) = (e.get(gpr(r1)), e.get(gpr(r1 | 1)), e.get(gpr(r2)));
    let table = e.get(gpr(1)) & !7;
    let bits = if to == 1 { 0xff } else { 0xffff };
    let test = (mask & 1 == 0).then(|| e.get(gpr(0)) & bits);
    if !len.is_multiple_of(from as u64) {
        return Err(SPECIFICATION);
    }
    let rooms = (page_room(source) / from as u64).min(page_room(target) / to as u64);
    let count = rooms.max(1).min(len / from as u64).min(UNIT / from as u64);
    let mut out = [0u8; 2 * UNIT as usize];
    let (mut done, mut found) = (0, false);
    while done < count {
        let c = e.load(MemOp::be(from), source.wrapping_add(done * from as u64))?;
        let v = e.load(MemOp::be(to), table.wrapping_add(c * to as u64))?;
        if test == Some(v) {
            found = true;
            break;
        }
        let at = (done * to as u64) as usize;
        out[at..at + to as usize].copy_from_slice(&v.to_be_bytes()[8 - to as usize..]);
        done += 1;
    }
    if done != 0 {
        e.write(target, &out[..(done * to as u64) as usize])?;
    }
    let left = len - done * from as u64;
    e.set(gpr(r1), target.wrapping_add(done * to as u64));
    e.set(gpr(r1 | 1), left);
    e.set(gpr(r2), source.wrapping_add(done * from as u64));
    Ok(match (found, left) {
        (true, _) => 1,
        (_, 0) => 0,
        _ => 3,
    })
}

/// TROO.
pub static TROO: Helper = on_registers("troo", |e, a| translate(e, a, 1, 1));
/// TROT.
pub static TROT: Helper = on_registers("trot", |e, a| translate(e, a, 1, 2));
/// TRTO.
pub static TRTO: Helper = on_registers("trto", |e, a| translate(e, a, 2, 1));
/// TRTT.
pub static TRTT: Helper = on_registers("trtt", |e, a| translate(e, a, 2, 2));

/// TRTE, TRTRE: (register numbers, mask). Mask 8: arguments of two bytes; 4: function codes of two bytes; 2:
/// arguments above 255 have the function code 0.
fn test(e: &mut dyn Env, [regs, mask, ..]: [u64; 4], back: bool) -> Result<u64, Exc> {
    let (r1, r2) = (regs as u8, (regs >> 8) as u8);
    let (addr, len) = (e.get(gpr(r1)), e.get(gpr(r1 | 1)));
    let table = e.get(gpr(1));
    let (from, to) = (1 + (mask >> 3 & 1), 1 + (mask >> 2 & 1));
    if !len.is_multiple_of(from) {
        return Err(SPECIFICATION);
    }
    // Going back, the first character lies at the address and the rest before it.
    let room = if back { (addr & 4095) / from + 1 } else { (page_room(addr) / from).max(1) };
    let count = room.min(len / from).min(UNIT);
    let at = |n: u64| {
        let step = n * from;
        if back { addr.wrapping_sub(step) } else { addr.wrapping_add(step) }
    };
    let (mut done, mut code) = (0, 0);
    while done < count {
        let c = e.load(MemOp::be(from as u8), at(done))?;
        if mask & 2 == 0 || c < 256 {
            code = e.load(MemOp::be(to as u8), table.wrapping_add(c * to))?;
        }
        if code != 0 {
            break;
        }
        done += 1;
    }
    let left = len - done * from;
    e.set(gpr(r1), at(done));
    e.set(gpr(r1 | 1), left);
    if code == 0 && left != 0 {
        return Ok(3);
    }
    e.set(gpr(r2), code);
    Ok((code != 0) as u64)
}

/// TRTE.
pub static TRTE: Helper = on_registers("trte", |e, a| test(e, a, false));
/// TRTRE.
pub static TRTRE: Helper = on_registers("trtre", |e, a| test(e, a, true));

/// Forms of Unicode text.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Utf {
    U8,
    U16,
    U32,
}

/// What the next character of the source is.
enum Next {
    /// This many bytes of it, and the code point.
    Char(usize, u32),
    /// It is not all there.
    Short,
    /// It is no character.
    Bad,
}

/// The character at the beginning of `s`; `check` asks for all of it to be well-formed, otherwise only the first
/// byte or the range is looked at, and the bits of later bytes are taken as they are.
fn decode(form: Utf, s: &[u8], check: bool) -> Next {
    let half = |k: usize| (s[k] as u32) << 8 | s[k + 1] as u32;
    match form {
        Utf::U8 => {
            let Some(&first) = s.first() else { return Next::Short };
            let n = match first {
                0..=0x7f => 1,
                0x80..=0xbf => return Next::Bad,
                0xc0 | 0xc1 | 0xf5..=0xff if check => return Next::Bad,
                0xc0..=0xdf => 2,
                0xe0..=0xef => 3,
                0xf0..=0xf7 => 4,
                0xf8..=0xff => return Next::Bad,
            };
            let Some(all) = s.get(..n) else { return Next::Short };
            if check && n > 1 {
                let second = match first {
                    0xe0 => 0xa0..=0xbf,
                    0xed => 0x80..=0x9f,
                    0xf0 => 0x90..=0xbf,
                    0xf4 => 0x80..=0x8f,
                    _ => 0x80..=0xbf,
                };
                if !second.contains(&all[1]) || all[2..].iter().any(|b| b & 0xc0 != 0x80) {
                    return Next::Bad;
                }
            }
            let start = first as u32 & [0x7f, 0x1f, 0x0f, 0x07][n - 1];
            Next::Char(n, all[1..].iter().fold(start, |c, &b| c << 6 | b as u32 & 0x3f))
        }
        Utf::U16 => match s.len() {
            0 | 1 => Next::Short,
            _ if !(0xd800..=0xdbff).contains(&half(0)) => Next::Char(2, half(0)),
            2 | 3 => Next::Short,
            _ if check && !(0xdc00..=0xdfff).contains(&half(2)) => Next::Bad,
            _ => Next::Char(4, 0x10000 + ((half(0) & 0x3ff) << 10 | half(2) & 0x3ff)),
        },
        Utf::U32 if s.len() < 4 => Next::Short,
        Utf::U32 => match half(0) << 16 | half(2) {
            0xd800..=0xdbff | 0x11_0000.. => Next::Bad,
            c => Next::Char(4, c),
        },
    }
}

/// Writes a character to the beginning of `out`; returns its length. `long` says that a UTF-8 source had four
/// bytes: such a character becomes a surrogate pair whatever its value.
fn encode(form: Utf, c: u32, long: bool, out: &mut [u8]) -> usize {
    let tail = |shift: u32| 0x80 | (c >> shift) as u8 & 0x3f;
    let bytes: &[u8] = match form {
        Utf::U8 if c < 0x80 => &[c as u8],
        Utf::U8 if c < 0x800 => &[0xc0 | (c >> 6) as u8, tail(0)],
        Utf::U8 if c < 0x10000 => &[0xe0 | (c >> 12) as u8, tail(6), tail(0)],
        Utf::U8 => &[0xf0 | (c >> 18) as u8, tail(12), tail(6), tail(0)],
        Utf::U16 if c >= 0x10000 || long => {
            let v = c.wrapping_sub(0x10000);
            let [a, b] = (0xd800 | (v >> 10) as u16 & 0x3ff).to_be_bytes();
            let [c, d] = (0xdc00 | v as u16 & 0x3ff).to_be_bytes();
            &[a, b, c, d]
        }
        Utf::U16 => &(c as u16).to_be_bytes(),
        Utf::U32 => &c.to_be_bytes(),
    };
    out[..bytes.len()].copy_from_slice(bytes);
    bytes.len()
}

/// The conversions: (register numbers, mask).
fn convert(e: &mut dyn Env, [regs, mask, ..]: [u64; 4], from: Utf, to: Utf) -> Result<u64, Exc> {
    let mut target = Run::new(e, regs as u8, 64);
    let mut source = Run::new(e, (regs >> 8) as u8, 64);
    if source.len == 0 {
        return Ok(0);
    }
    let check = mask & 1 != 0;
    // What this unit reads: to the end of the page, and beyond it only for its first character.
    let mut buf = [0u8; UNIT as usize + 4];
    let mut have = source.room().min(UNIT) as usize;
    e.read(source.addr, &mut buf[..have])?;
    while (have as u64) < source.len.min(4) && matches!(decode(from, &buf[..have], check), Next::Short) {
        e.read(source.addr.wrapping_add(have as u64), &mut buf[have..have + 1])?;
        have += 1;
    }
    let whole = have as u64 == source.len;
    let room = page_room(target.addr);
    let mut out = [0u8; 4 * UNIT as usize + 16];
    let (mut read, mut written) = (0, 0);
    let cc = loop {
        let (n, c) = match decode(from, &buf[read..have], check) {
            Next::Short if whole => break 0,
            Next::Short => break 3,
            Next::Bad => break 2,
            Next::Char(n, c) => (n, c),
        };
        let m = encode(to, c, from == Utf::U8 && n == 4, &mut out[written..]);
        if (written + m) as u64 > target.len {
            break 1;
        }
        if written != 0 && (written + m) as u64 > room {
            break 3;
        }
        read += n;
        written += m;
    };
    if written != 0 {
        e.write(target.addr, &out[..written])?;
    }
    target.advance(e, written as u64);
    source.advance(e, read as u64);
    Ok(cc)
}

/// CU12, also called CUTFU.
pub static CU12: Helper = on_registers("cu12", |e, a| convert(e, a, Utf::U8, Utf::U16));
/// CU14.
pub static CU14: Helper = on_registers("cu14", |e, a| convert(e, a, Utf::U8, Utf::U32));
/// CU21, also called CUUTF.
pub static CU21: Helper = on_registers("cu21", |e, a| convert(e, a, Utf::U16, Utf::U8));
/// CU24.
pub static CU24: Helper = on_registers("cu24", |e, a| convert(e, a, Utf::U16, Utf::U32));
/// CU41.
pub static CU41: Helper =
    on_registers("cu41", |e, [regs, ..]| convert(e, [regs, 0, 0, 0], Utf::U32, Utf::U8));
/// CU42.
pub static CU42: Helper =
    on_registers("cu42", |e, [regs, ..]| convert(e, [regs, 0, 0, 0], Utf::U32, Utf::U16));

/// Bytes of a unit on two-byte characters: `len` is even; a character may lie across the page boundary if it is
/// the only one.
fn whole(addr: u64, len: u64) -> u64 {
    len.min((page_room(addr) & !1).max(2)).min(UNIT)
}

/// Gives up odd lengths.
fn wide_runs(e: &dyn Env, regs: u64) -> Result<(Run, Run), Exc> {
    let x = Run::new(e, regs as u8, 64);
    let y = Run::new(e, (regs >> 8) as u8, 64);
    if (x.len | y.len) & 1 != 0 { Err(SPECIFICATION) } else { Ok((x, y)) }
}

/// A buffer of padding characters.
fn padding(pad: u64) -> [u8; UNIT as usize] {
    let [high, low] = (pad as u16).to_be_bytes();
    std::array::from_fn(|k| if k % 2 == 0 { high } else { low })
}

/// MVCLU: (register numbers, padding). One unit a call.
pub static MVCLU: Helper = on_registers("mvclu", |e, [regs, pad, ..]| {
    let (mut to, mut from) = wide_runs(e, regs)?;
    let cc = match to.len.cmp(&from.len) {
        std::cmp::Ordering::Equal => 0,
        std::cmp::Ordering::Less => 1,
        std::cmp::Ordering::Greater => 2,
    };
    if to.len == 0 {
        return Ok(cc);
    }
    let mut buf = padding(pad);
    let mut n = whole(to.addr, to.len);
    if from.len != 0 {
        n = n.min(whole(from.addr, from.len));
        e.read(from.addr, &mut buf[..n as usize])?;
    }
    e.write(to.addr, &buf[..n as usize])?;
    to.advance(e, n);
    from.advance(e, n);
    Ok(if to.len == 0 { cc } else { 3 })
});

/// CLCLU: (register numbers, padding). One unit a call.
pub static CLCLU: Helper = on_registers("clclu", |e, [regs, pad, ..]| {
    let (mut x, mut y) = wide_runs(e, regs)?;
    let (mut a, mut b) = (padding(pad), padding(pad));
    let n = match (x.len, y.len) {
        (0, 0) => return Ok(0),
        (0, _) => whole(y.addr, y.len),
        (_, 0) => whole(x.addr, x.len),
        _ => whole(x.addr, x.len).min(whole(y.addr, y.len)),
    } as usize;
    if x.len != 0 {
        e.read(x.addr, &mut a[..n])?;
    }
    if y.len != 0 {
        e.read(y.addr, &mut b[..n])?;
    }
    let same = a[..n].iter().zip(&b[..n]).take_while(|(p, q)| p == q).count();
    let character = same & !1;
    x.advance(e, character as u64);
    y.advance(e, character as u64);
    Ok(match same < n {
        true if a[same] < b[same] => 1,
        true => 2,
        false if x.len == 0 && y.len == 0 => 0,
        false => 3,
    })
});

/// SRSTU: (register numbers). R1 is the first byte after the operand, R2 its beginning; an operand of odd length
/// ends one byte later.
pub static SRSTU: Helper = on_registers("srstu", |e, [regs, ..]| {
    let (r1, r2) = (regs as u8, (regs >> 8) as u8);
    let want = e.get(gpr(0)) as u32;
    if want >> 16 != 0 {
        return Err(SPECIFICATION);
    }
    let (end, at) = (e.get(gpr(r1)), e.get(gpr(r2)));
    let left = end.wrapping_sub(at);
    let left = left.wrapping_add(left & 1);
    if left == 0 {
        return Ok(2);
    }
    let n = whole(at, left);
    let mut buf = [0u8; UNIT as usize];
    let buf = &mut buf[..n as usize];
    e.read(at, buf)?;
    if let Some(p) = buf.chunks_exact(2).position(|c| c == (want as u16).to_be_bytes()) {
        e.set(gpr(r1), at.wrapping_add(2 * p as u64));
        return Ok(1);
    }
    if n == left {
        return Ok(2);
    }
    e.set(gpr(r2), at.wrapping_add(n));
    Ok(3)
});

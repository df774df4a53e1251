//! Operand values: boundaries of integers, binary floating point, packed decimal, text; and the data area, which
//! holds some of each.

use super::rng::Rng;

/// Bytes of the data area that may be written: two pages.
pub const DATA_BYTES: usize = 0x2000;
/// Bytes of the data area, the read-only page behind included.
pub const IMAGE_BYTES: usize = 0x3000;

/// What an operand in storage is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Class {
    /// Binary integers.
    Integer,
    /// Binary floating point: short, long, extended.
    Float(Fmt),
    /// Packed decimal.
    Decimal,
    /// A table for translation, or text of bytes.
    Table,
    /// UTF-8.
    Utf8,
    /// UTF-16.
    Utf16,
    /// UTF-32.
    Utf32,
    /// Patterns for editing.
    Pattern,
    /// Values for the floating-point control register.
    Fpc,
    /// Bytes of which many are equal.
    Bytes,
}

/// A floating-point format.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fmt {
    /// 32 bits.
    Short,
    /// 64 bits.
    Long,
    /// 128 bits.
    Extended,
}

impl Fmt {
    /// Bits of the fraction, bits of the exponent.
    fn bits(self) -> (u32, u32) {
        match self {
            Fmt::Short => (23, 8),
            Fmt::Long => (52, 11),
            Fmt::Extended => (112, 15),
        }
    }
}

impl Class {
    /// Where such operands lie in the data area: offset and bytes.
    pub fn region(self) -> (usize, usize) {
        match self {
            Class::Integer => (0, 0xc0),
            Class::Fpc => (0xc0, 0x40),
            Class::Float(Fmt::Short) => (0x100, 0x80),
            Class::Float(Fmt::Long) => (0x180, 0x200),
            Class::Float(Fmt::Extended) => (0x380, 0x100),
            Class::Decimal => (0x480, 0x200),
            Class::Table => (0x680, 0x100),
            Class::Utf8 => (0x780, 0x180),
            Class::Utf16 => (0x900, 0x180),
            Class::Utf32 => (0xa80, 0x180),
            Class::Pattern => (0xc00, 0x100),
            Class::Bytes => (0xd00, 0x1300),
        }
    }
}

/// A general register's value.
pub fn integer(r: &mut Rng) -> u64 {
    match r.below(10) {
        0 => 0,
        1 => r.pick(&[1, 2, 3, 7, 8, 9, 10, 0x7f, 0x80, 0xff, 0x100, 63, 64, 31, 32]),
        2 => u64::MAX - r.pick(&[0, 1, 0x7f, 0x80, 0x7fff, 0x8000, 0xffff_ffff]),
        3 | 4 => (1u64 << r.below(64)).wrapping_add(r.pick(&[0, 0, 1, u64::MAX])),
        5 => {
            let half = |r: &mut Rng| {
                r.pick(&[0, 1, u32::MAX, 0x7fff_ffff, 0x8000_0000, 0x8000_0001, 0x7fff, 0x8000, 0xffff_8000])
            };
            (half(r) as u64) << 32 | half(r) as u64
        }
        6 => (1u64 << r.below(64)).wrapping_neg(),
        7 => r.next() >> r.below(64),
        8 => (r.next() as u32 as u64) << 32 | integer(r) & 0xffff_ffff,
        _ => r.next(),
    }
}

/// A floating-point value, right-aligned.
pub fn float(r: &mut Rng, f: Fmt) -> u128 {
    let (p, e) = f.bits();
    let top = (1u128 << e) - 1;
    let bias = top >> 1;
    let ones = (1u128 << p) - 1;
    let random = (r.next() as u128) << 64 | r.next() as u128;
    let exponent = match r.below(12) {
        0 => 0,
        1 => 1 + r.below(3) as u128,
        2 => top - 1 - r.below(2) as u128,
        3 => top,
        4 | 5 => bias - 3 + r.below(7) as u128,
        // Around 2^31, 2^32, 2^63, 2^64.
        6 => bias + r.pick(&[30, 31, 32, 62, 63, 64]),
        // Halves of units in the last place.
        7 => bias.saturating_sub(p as u128) + r.below(5) as u128,
        8 => bias + p as u128 - 2 + r.below(4) as u128,
        9 => (bias / 2 + r.below(4) as u128).max(1),
        10 => bias + bias / 2 + r.below(4) as u128,
        _ => random >> 70 & top,
    };
    let fraction = match r.below(9) {
        0 | 1 => 0,
        2 => 1,
        3 => ones,
        4 => ones - 1,
        5 => 1 << (p - 1) | r.pick(&[0u128, 1]),
        6 => random & ones & !0 << r.below(p as usize),
        // As wide as a narrower format, and one bit more.
        7 => random & ones & !0 << (p - p.min(r.pick(&[22, 23, 24, 51, 52, 53]))),
        _ => random & ones,
    };
    (r.next() as u128 & 1) << (p + e) | exponent << p | fraction
}

/// A value for the FPC that is valid: traps in a sixth of them, all rounding modes.
pub fn fpc(r: &mut Rng) -> u32 {
    let masks = if r.chance(16) { (r.next() as u32 & 0xfc) << 24 } else { 0 };
    let flags = if r.chance(30) { (r.next() as u32 & 0xfc) << 16 } else { 0 };
    let dxc = if r.chance(10) { (r.next() as u32 & 0xff) << 8 } else { 0 };
    masks | flags | dxc & 0xff00 | r.pick(&[0, 0, 0, 1, 2, 3, 7])
}

/// Bytes in which one number of [`Class::Decimal`] ends.
pub const DECIMAL: usize = 16;

/// A packed number; one in twenty has a wrong digit or sign.
pub fn packed(r: &mut Rng, out: &mut [u8]) {
    let Some(last) = out.len().checked_sub(1) else { return };
    let zeros = if r.chance(60) { r.below(2 * out.len()) } else { 0 };
    let nines = r.chance(10);
    for (k, b) in out.iter_mut().enumerate() {
        let mut digit = |at: usize| match at < zeros {
            true => 0,
            false if nines => 9,
            false => r.below(10) as u8,
        };
        *b = digit(2 * k) << 4 | digit(2 * k + 1);
    }
    let sign = if r.chance(80) { r.pick(&[0xc, 0xd]) } else { r.pick(&[0xa, 0xb, 0xe, 0xf]) };
    out[last] = out[last] & 0xf0 | sign;
    if r.chance(5) {
        let at = r.below(out.len());
        out[at] = r.next() as u8;
    }
}

/// A code point: of every length of UTF-8, and surrogates.
fn code_point(r: &mut Rng) -> u32 {
    match r.below(12) {
        0 => r.pick(&[0x7f, 0x80, 0x7ff, 0x800, 0xffff, 0x1_0000, 0x10_ffff, 0x11_0000, 0xd7ff, 0xe000]),
        1 => 0xd800 + r.below(0x800) as u32,
        2 | 3 => r.below(0x800) as u32,
        4 | 5 => r.below(0x1_0000) as u32,
        6 | 7 => 0x1_0000 + r.below(0x10_0000) as u32,
        _ => r.below(0x80) as u32,
    }
}

fn utf8(c: u32, out: &mut Vec<u8>) {
    let tail = |s: u32| 0x80 | (c >> s) as u8 & 0x3f;
    match c {
        0..0x80 => out.push(c as u8),
        0x80..0x800 => out.extend([0xc0 | (c >> 6) as u8, tail(0)]),
        0x800..0x1_0000 => out.extend([0xe0 | (c >> 12) as u8, tail(6), tail(0)]),
        _ => out.extend([0xf0 | (c >> 18) as u8 & 7, tail(12), tail(6), tail(0)]),
    }
}

/// Fills `out` with operands of a class.
pub fn fill(r: &mut Rng, c: Class, out: &mut [u8]) {
    let mut all = Vec::with_capacity(out.len() + 16);
    while all.len() < out.len() {
        match c {
            Class::Integer => all.extend(integer(r).to_be_bytes()),
            Class::Fpc => all.extend(fpc(r).to_be_bytes()),
            Class::Float(Fmt::Short) => all.extend((float(r, Fmt::Short) as u32).to_be_bytes()),
            Class::Float(Fmt::Long) => all.extend((float(r, Fmt::Long) as u64).to_be_bytes()),
            Class::Float(Fmt::Extended) => all.extend(float(r, Fmt::Extended).to_be_bytes()),
            // Numbers end where sixteen bytes do, and half of them where eight do.
            Class::Decimal => {
                let at = all.len();
                all.resize(at + 16, 0);
                let half = if r.chance(60) { 8 } else { 0 };
                packed(r, &mut all[at + half..]);
                packed(r, &mut all[at..at + half]);
            }
            Class::Table => all.push(if r.chance(60) { 0 } else { r.next() as u8 }),
            Class::Utf8 => {
                utf8(code_point(r), &mut all);
                if r.chance(4) {
                    all.push(r.next() as u8);
                }
            }
            Class::Utf16 => match code_point(r) {
                c @ ..0x1_0000 => all.extend((c as u16).to_be_bytes()),
                c => {
                    let v = c.wrapping_sub(0x1_0000);
                    all.extend((0xd800 | (v >> 10) as u16 & 0x3ff).to_be_bytes());
                    all.extend((0xdc00 | v as u16 & 0x3ff).to_be_bytes());
                }
            },
            Class::Utf32 => all.extend(code_point(r).to_be_bytes()),
            Class::Pattern => {
                all.push(r.pick(&[0x20, 0x20, 0x20, 0x21, 0x22, 0x40, 0x5c, 0x6b, 0x4b]));
            }
            Class::Bytes => {
                let (b, n) = (r.pick(&[0, 0, 1, 2, 0x40, 0xff]), 1 + r.below(24));
                if r.chance(40) {
                    all.extend((0..n).map(|_| r.next() as u8));
                } else {
                    all.resize(all.len() + n, b);
                }
            }
        }
    }
    out.copy_from_slice(&all[..out.len()]);
}

/// Every class.
const CLASSES: [Class; 12] = [
    Class::Integer,
    Class::Fpc,
    Class::Float(Fmt::Short),
    Class::Float(Fmt::Long),
    Class::Float(Fmt::Extended),
    Class::Decimal,
    Class::Table,
    Class::Utf8,
    Class::Utf16,
    Class::Utf32,
    Class::Pattern,
    Class::Bytes,
];

/// The data area as a run of `seed` begins with it.
pub fn image(seed: u64) -> Vec<u8> {
    let mut r = Rng::new(seed, u64::MAX);
    let mut all = vec![0; IMAGE_BYTES];
    for c in CLASSES {
        let (at, len) = c.region();
        fill(&mut r, c, &mut all[at..at + len]);
    }
    fill(&mut r, Class::Bytes, &mut all[DATA_BYTES..]);
    all
}

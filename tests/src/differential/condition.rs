//! Conditions that entries of `judged.toml` name.

use super::batch::Record;
use super::judge::Difference;
use super::sequence::{Item, Pooled};

type Condition = fn(&Difference) -> bool;

const ALL: &[(&str, Condition)] = &[
    ("operation exception there", |d| d.there.signal == SIGILL && d.there.code == ILL_ILLOPC),
    ("codes", |d| d.there.code == ILL_ILLOPC && matches!(d.here.code, ILL_ILLOPN | ILL_PRVOPC)),
    ("specification exception here", |d| d.here.code == ILL_ILLOPN && unchanged(d)),
    ("nothing changed here", unchanged),
    ("at most two bytes", |d| bytes_that_differ(d).is_some_and(|n| n <= 2)),
    ("translation", |d| no_length(d) || tested(d)),
    ("rejected there, or not checked", |d| {
        let checked = bits(d.item).is_none_or(|b| b[2] & 0x10 != 0);
        d.there.signal == 0 && (d.there.state.pm >> 4 == 2 || !checked)
    }),
    ("signaling NaN", |d| d.here.state.fpc & 0x80_0000 != 0 || d.here.signal == SIGFPE),
    ("NaNs", nans),
    ("IEEE trap", ieee_trap),
    ("condition code only", |d| condition_code(d.item)),
    ("zeros there", zeros),
    // It explains an end only.
    ("no quotient", |_| false),
    ("a right product here", right_product),
    ("an address there", |d| d.there.state.gr[1] & !0xffff == super::sequence::DATA & !0xffff),
];

/// ROSBG and its like for the condition code only.
fn condition_code(i: &Item) -> bool {
    bits(i).is_some_and(|b| b[0] == 0xec && b[2] & 0x80 != 0)
}

/// Both trap for the same reason, or underflow of an exact result traps here only. The result may differ only where one is
/// delivered: not after invalid operation and division by zero, which suppress.
fn ieee_trap(d: &Difference) -> bool {
    const SUPPRESSES: u32 = 0xc0;
    const UNDERFLOW: u32 = 0x10;
    let code = |r: &Record| r.state.fpc >> 8 & 0xff;
    let (x, y) = (code(d.there), code(d.here));
    if d.here.signal != SIGFPE {
        return false;
    }
    if d.there.signal == 0 {
        // Neither rounded up nor down: the result was exact.
        return y == UNDERFLOW;
    }
    let delivers = y & SUPPRESSES == 0;
    let registers = d.there.state.gr == d.here.state.gr && d.there.state.pm == d.here.state.pm;
    d.there.signal == SIGFPE && x & y & 0xf8 != 0 && x & 3 == y & 3 && (delivers || registers)
}

/// The bytes of the instruction that is executed in the end, but for what EXECUTE inserts.
fn bits(i: &Item) -> Option<[u8; 6]> {
    let target = i.pool.iter().rev().find_map(|p| match p {
        Pooled::Target(t) => Some(t.bytes),
        Pooled::Constant(_) => None,
    });
    target.or(i.pieces.get(i.test).map(|p| p.bytes))
}

/// Whether entry `when` of the name explains that the machine there ended.
pub fn explains_end(name: &str, i: &Item) -> bool {
    match name {
        "condition code only" => condition_code(i),
        "no quotient" => true,
        _ => false,
    }
}

const SIGSEGV: u32 = 11;
const SIGILL: u32 = 4;
const SIGFPE: u32 = 8;
const ILL_ILLOPC: u32 = 1;
const ILL_ILLOPN: u32 = 2;
const ILL_PRVOPC: u32 = 5;

/// Whether a condition has this name.
pub fn is_condition(name: &str) -> bool {
    ALL.iter().any(|(n, _)| *n == name)
}

/// Whether the condition `name` holds; false if there is none of the name.
pub fn condition(name: &str, d: &Difference) -> bool {
    ALL.iter().any(|(n, f)| *n == name && f(d))
}

/// Nothing that only the instruction under test can change is other than before: storage, floating-point and
/// access registers.
fn unchanged(d: &Difference) -> bool {
    let Some(b) = d.before else { return d.here.changed == 0 };
    (b.hash, b.changed) == (d.here.hash, d.here.changed)
        && b.state.fr == d.here.state.fr
        && b.state.ar == d.here.state.ar
}

/// How many bytes of storage differ, if both records show all that changed.
fn bytes_that_differ(d: &Difference) -> Option<usize> {
    let (x, y) = (&d.there.bytes, &d.here.bytes);
    if d.there.changed as usize > x.len() || d.here.changed as usize > y.len() {
        return None;
    }
    // A byte that only one of them changed counts; one that both changed to other values counts once.
    let only =
        |x: &[(u16, u8)], y: &[(u16, u8)]| x.iter().filter(|(at, _)| !y.iter().any(|(o, _)| o == at)).count();
    let other = x.iter().filter(|(at, b)| y.iter().any(|(o, c)| o == at && b != c)).count();
    Some(only(x, y) + only(y, x) + other)
}

/// An instruction with nothing to translate ends with condition code 0 and changes nothing.
fn no_length(d: &Difference) -> bool {
    let r1 = bits(d.item).map_or(0, |b| b[3] >> 4);
    let r: &Record = d.here;
    r.signal == 0 && r.state.gr[r1 as usize | 1] == 0 && unchanged(d)
}

/// The test character's size is mistaken where those of arguments and functions differ.
fn tested(d: &Difference) -> bool {
    let ended = |r: &Record| r.signal == SIGSEGV || r.signal == 0 && r.state.pm >> 4 <= 1;
    matches!(d.item.subject.name, "trot" | "trto") && ended(d.there) && ended(d.here)
}

/// Where storage differs, what is there is zero.
fn zeros(d: &Difference) -> bool {
    let same = |at: u16, b: u8| d.here.bytes.contains(&(at, b));
    d.there.bytes.iter().all(|&(at, b)| b == 0 || same(at, b))
}

/// MDEBR and MXDBR: the result here is the exact product. Other operands than finite ones, and those in storage,
/// are let through.
fn right_product(d: &Difference) -> bool {
    let Some(b) = bits(d.item).filter(|b| b[0] == 0xb3 && d.here.signal == 0) else { return true };
    let (r1, r2) = ((b[3] >> 4) as usize, (b[3] & 15) as usize);
    let (x, y) = (d.start.fr[r1], d.start.fr[r2]);
    if d.item.subject.name == "mdebr" {
        let short = |v: u64| f32::from_bits((v >> 32) as u32) as f64;
        let p = short(x) * short(y);
        return p.is_nan() || d.here.state.fr[r1] == p.to_bits();
    }
    let result = (d.here.state.fr[r1 & 13] as u128) << 64 | d.here.state.fr[r1 & 13 | 2] as u128;
    exact_product(x, y).is_none_or(|p| p == result)
}

/// The extended product of two long numbers, which is exact; none unless both are finite and not zero.
fn exact_product(x: u64, y: u64) -> Option<u128> {
    let parts = |v: u64| {
        let (e, f) = ((v >> 52 & 0x7ff) as i32, v & ((1 << 52) - 1));
        match e {
            0 if f == 0 => None,
            0x7ff => None,
            0 => Some((f as u128, -1074)),
            _ => Some(((f | 1 << 52) as u128, e - 1075)),
        }
    };
    let ((m, e), (n, k)) = (parts(x)?, parts(y)?);
    let product = m * n;
    let up = product.leading_zeros() as i32 - 15;
    let exponent = (e + k + 112 - up + 0x3fff) as u128;
    let sign = ((x ^ y) >> 63) as u128;
    Some(sign << 127 | exponent << 112 | product << up & ((1 << 112) - 1))
}

/// Every register that differs holds a NaN on both sides.
fn nans(d: &Difference) -> bool {
    let nan = |v: u64| {
        let short = (v >> 32) as u32;
        v << 1 > 0xffe0_0000_0000_0000 || short << 1 > 0xff00_0000
    };
    let (x, y) = (&d.there.state.fr, &d.here.state.fr);
    (0..16).filter(|&n| x[n] != y[n]).all(|n| nan(x[n]) && nan(y[n]))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Expected values by hand: 1.5 times -2, and the smallest denormal number squared.
    #[test]
    fn products() {
        assert_eq!(exact_product(1.5f64.to_bits(), (-2.0f64).to_bits()), Some(0xc000_8000 << 96));
        assert_eq!(exact_product(1, 1), Some(((0x3fff - 2148) as u128) << 112));
        assert_eq!(exact_product(0, 1), None);
        assert_eq!(exact_product(f64::INFINITY.to_bits(), 1), None);
    }
}

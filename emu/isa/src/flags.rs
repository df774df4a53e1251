//! The one definition of how flags come from operands and how they are tested.

use crate::backend::{Family, FlagKind, Width};

fn narrow(w: Width, a: u64) -> (u64, i64) {
    match w {
        Width::W32 => (a as u32 as u64, a as i32 as i64),
        Width::W64 => (a, a as i64),
    }
}

fn sum(w: Width, a: u64, b: u64) -> (u64, i64, bool, bool) {
    match w {
        Width::W32 => {
            let (u, c) = (a as u32).overflowing_add(b as u32);
            let (s, v) = (a as i32).overflowing_add(b as i32);
            (u as u64, s as i64, c, v)
        }
        Width::W64 => {
            let (u, c) = a.overflowing_add(b);
            let (s, v) = (a as i64).overflowing_add(b as i64);
            (u, s, c, v)
        }
    }
}

fn difference(w: Width, a: u64, b: u64) -> (u64, i64, bool, bool) {
    match w {
        Width::W32 => {
            let (u, c) = (a as u32).overflowing_sub(b as u32);
            let (s, v) = (a as i32).overflowing_sub(b as i32);
            (u as u64, s as i64, c, v)
        }
        Width::W64 => {
            let (u, c) = a.overflowing_sub(b);
            let (s, v) = (a as i64).overflowing_sub(b as i64);
            (u, s, c, v)
        }
    }
}

fn ordering<T: Ord>(a: T, b: T) -> i64 {
    a.cmp(&b) as i64
}

/// The canonical form that `kind` makes of `a` and `b` in `family`.
///
/// A kind that its family does not define (signed addition in a PowerPC CR field, say) gives the sign of the
/// result; no semantics function asks for one.
#[inline]
pub fn eval(family: Family, kind: FlagKind, a: u64, b: u64) -> u64 {
    use FlagKind::*;
    if kind == Value {
        return a;
    }
    match family {
        Family::S390Cc => s390(kind, a, b),
        Family::PpcCr => match kind {
            Cmp(w) => ordering(narrow(w, a).1, narrow(w, b).1) as u64,
            CmpU(w) => ordering(narrow(w, a).0, narrow(w, b).0) as u64,
            Logic(w) => narrow(w, a).1 as u64,
            AddS(w) | AddU(w) => sum(w, a, b).1 as u64,
            SubS(w) | SubU(w) => difference(w, a, b).1 as u64,
            Value | TestMask | TestMaskHigh => a,
        },
        Family::SparcCc => {
            let (r, c, v) = match kind {
                AddS(w) | AddU(w) => {
                    let (_, s, c, v) = sum(w, a, b);
                    (s, c, v)
                }
                SubS(w) | SubU(w) | Cmp(w) | CmpU(w) => {
                    let (_, s, c, v) = difference(w, a, b);
                    (s, c, v)
                }
                Logic(w) => (narrow(w, a).1, false, false),
                Value | TestMask | TestMaskHigh => (a as i64, false, false),
            };
            ((r < 0) as u64) << 3 | ((r == 0) as u64) << 2 | (v as u64) << 1 | c as u64
        }
    }
}

fn s390(kind: FlagKind, a: u64, b: u64) -> u64 {
    use FlagKind::*;
    let order = |o: i64| match o {
        0 => 0,
        o if o < 0 => 1,
        _ => 2,
    };
    let arith = |(_, s, _, v): (u64, i64, bool, bool)| if v { 3 } else { order(s) };
    match kind {
        Value => a,
        Cmp(w) => order(ordering(narrow(w, a).1, narrow(w, b).1)),
        CmpU(w) => order(ordering(narrow(w, a).0, narrow(w, b).0)),
        Logic(w) => (narrow(w, a).0 != 0) as u64,
        AddS(w) => arith(sum(w, a, b)),
        SubS(w) => arith(difference(w, a, b)),
        AddU(w) => {
            let (u, _, c, _) = sum(w, a, b);
            (u != 0) as u64 | (c as u64) << 1
        }
        SubU(w) => {
            let (u, _, c, _) = difference(w, a, b);
            (u != 0) as u64 | (!c as u64) << 1
        }
        TestMask | TestMaskHigh if a == 0 || b == 0 => 0,
        TestMask | TestMaskHigh if a == b => 3,
        TestMask => 1,
        TestMaskHigh => {
            let top = 63 - b.leading_zeros();
            1 + (a >> top & 1)
        }
    }
}

/// Whether canonical flags satisfy `mask` (see [`Family`] for what the mask means).
#[inline]
pub fn test(family: Family, value: u64, mask: u8) -> bool {
    match family {
        Family::S390Cc => mask & (8 >> (value & 3)) != 0,
        Family::PpcCr => {
            let v = value as i64;
            (mask & 8 != 0 && v < 0) || (mask & 4 != 0 && v > 0) || (mask & 2 != 0 && v == 0)
        }
        Family::SparcCc => {
            let (n, z, v, c) = (value & 8 != 0, value & 4 != 0, value & 2 != 0, value & 1 != 0);
            let base = match mask & 7 {
                0 => false,
                1 => z,
                2 => z || (n != v),
                3 => n != v,
                4 => c || z,
                5 => c,
                6 => n,
                _ => v,
            };
            base != (mask & 8 != 0)
        }
    }
}

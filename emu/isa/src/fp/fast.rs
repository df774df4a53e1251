//! The common cases on the host's arithmetic: operands and results well inside the range, rounding to nearest (any
//! mode where nothing is rounded). Whether a result is exact is found with error-free transformations (Knuth's sum,
//! Dekker's product), so no flag is guessed; whatever does not fit here goes the slow way.

use super::{Fmt, FpOp, flag};

/// Bounds within which no step below can overflow or lose bits at the bottom.
const LARGE: f64 = f64::from_bits((1023 + 480) << 52);
const SMALL: f64 = f64::from_bits((1023 - 480) << 52);
const LARGE_32: f32 = f32::from_bits((127 + 60) << 23);
const SMALL_32: f32 = f32::from_bits((127 - 60) << 23);

fn tame(x: f64) -> bool {
    x == 0.0 || (SMALL < x.abs() && x.abs() < LARGE)
}

fn tame32(x: f32) -> bool {
    x == 0.0 || (SMALL_32 < x.abs() && x.abs() < LARGE_32)
}

fn inexact(yes: bool) -> u64 {
    if yes { flag::INEXACT } else { 0 }
}

/// What `a + b` lost: exact.
fn sum_error(a: f64, b: f64, r: f64) -> f64 {
    let v = r - a;
    (a - (r - v)) + (b - v)
}

/// What `a * b` lost: exact.
fn product_error(a: f64, b: f64, r: f64) -> f64 {
    let split = |x: f64| {
        let c = 134_217_729.0 * x;
        let hi = c - (c - x);
        (hi, x - hi)
    };
    let ((ah, al), (bh, bl)) = (split(a), split(b));
    ((ah * bh - r) + ah * bl + al * bh) + al * bl
}

/// The result and flags, if this is one of the cases.
pub(super) fn eval(op: FpOp, rm: u64, a: &[u64; 6]) -> Option<(u64, u64)> {
    let nearest = rm & 7 == 0;
    let (x, y) = (f64::from_bits(a[0]), f64::from_bits(a[1]));
    let (p, q) = (f32::from_bits(a[0] as u32), f32::from_bits(a[1] as u32));
    let done = |r: f64, lost: bool| (tame(r) && (nearest || !lost)).then(|| (r.to_bits(), inexact(lost)));
    let done32 =
        |r: f32, lost: bool| (tame32(r) && (nearest || !lost)).then(|| (r.to_bits() as u64, inexact(lost)));
    match op {
        FpOp::Add(Fmt::F64) | FpOp::Sub(Fmt::F64) if tame(x) && tame(y) => {
            let y = if matches!(op, FpOp::Sub(_)) { -y } else { y };
            let r = x + y;
            // The sign of an exact zero depends on the mode.
            (nearest || r != 0.0).then(|| done(r, sum_error(x, y, r) != 0.0))?
        }
        FpOp::Add(Fmt::F32) | FpOp::Sub(Fmt::F32) if tame32(p) && tame32(q) => {
            let q = if matches!(op, FpOp::Sub(_)) { -q } else { q };
            let r = p + q;
            let v = r - p;
            let lost = (p - (r - v)) + (q - v) != 0.0;
            (nearest || r != 0.0).then(|| done32(r, lost))?
        }
        FpOp::Mul(Fmt::F64) if tame(x) && tame(y) => {
            let r = x * y;
            done(r, product_error(x, y, r) != 0.0)
        }
        FpOp::Mul(Fmt::F32) if tame32(p) && tame32(q) => {
            let exact = p as f64 * q as f64;
            let r = exact as f32;
            done32(r, r as f64 != exact)
        }
        FpOp::Div(Fmt::F64) if tame(x) && tame(y) && y != 0.0 => {
            let r = x / y;
            let back = r * y;
            done(r, (x - back) - product_error(r, y, back) != 0.0)
        }
        FpOp::Div(Fmt::F32) if tame32(p) && tame32(q) && q != 0.0 => {
            let r = p / q;
            done32(r, r as f64 * q as f64 != p as f64)
        }
        FpOp::Sqrt(Fmt::F64) if tame(x) && x > 0.0 => {
            let r = x.sqrt();
            let back = r * r;
            done(r, (x - back) - product_error(r, r, back) != 0.0)
        }
        FpOp::Sqrt(Fmt::F32) if tame32(p) && p > 0.0 => {
            let r = p.sqrt();
            done32(r, r as f64 * r as f64 != p as f64)
        }
        FpOp::Cmp { fmt: Fmt::F64, .. } => order(x, y),
        FpOp::Cmp { fmt: Fmt::F32, .. } => order(p as f64, q as f64),
        FpOp::Convert { from: Fmt::F32, to: Fmt::F64 } if !p.is_nan() => Some(((p as f64).to_bits(), 0)),
        FpOp::Convert { from: Fmt::F64, to: Fmt::F32 } => {
            let r = x as f32;
            // Something that became zero is an underflow.
            (r != 0.0 || x == 0.0).then(|| done32(r, r as f64 != x))?
        }
        FpOp::FromInt { fmt: Fmt::F64, bits, signed } => {
            let v = integer(a[0], bits, signed);
            let r = v as f64;
            done(r, r as i128 != v)
        }
        FpOp::FromInt { fmt: Fmt::F32, bits, signed } => {
            let v = integer(a[0], bits, signed);
            let r = v as f32;
            let lost = r as i128 != v;
            (nearest || !lost).then(|| (r.to_bits() as u64, inexact(lost)))
        }
        FpOp::RoundInt { fmt: Fmt::F64, exact_quiet } => {
            let r = integral(x, rm)?;
            Some((r.to_bits(), inexact(r != x && !exact_quiet)))
        }
        FpOp::RoundInt { fmt: Fmt::F32, exact_quiet } => {
            let r = integral(p as f64, rm)? as f32;
            Some((r.to_bits() as u64, inexact(r != p && !exact_quiet)))
        }
        FpOp::ToInt { fmt: Fmt::F64, bits, signed } => to_int(x, rm, bits, signed),
        FpOp::ToInt { fmt: Fmt::F32, bits, signed } => to_int(p as f64, rm, bits, signed),
        _ => None,
    }
}

fn order(x: f64, y: f64) -> Option<(u64, u64)> {
    x.partial_cmp(&y).map(|o| match o {
        std::cmp::Ordering::Equal => (0, 0),
        std::cmp::Ordering::Less => (1, 0),
        std::cmp::Ordering::Greater => (2, 0),
    })
}

fn integer(v: u64, bits: u8, signed: bool) -> i128 {
    match (signed, bits) {
        (true, 32) => v as i32 as i128,
        (true, _) => v as i64 as i128,
        (false, 32) => v as u32 as i128,
        (false, _) => v as i128,
    }
}

fn integral(x: f64, rm: u64) -> Option<f64> {
    if !x.is_finite() {
        return None;
    }
    Some(match rm & 7 {
        0 => x.round_ties_even(),
        1 => x.trunc(),
        2 => x.ceil(),
        3 => x.floor(),
        4 => x.round(),
        _ => return None,
    })
}

fn to_int(x: f64, rm: u64, bits: u8, signed: bool) -> Option<(u64, u64)> {
    let r = integral(x, rm)?;
    let limit = 2f64.powi(bits as i32 - signed as i32);
    let low = if signed { -limit } else { 0.0 };
    (r >= low && r < limit).then(|| (r as i128 as u64, inexact(r != x)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A splitmix generator: the cases are the same in every run.
    fn random(state: &mut u64) -> u64 {
        *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (*state ^ *state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    fn operand(s: &mut u64, fmt: Fmt) -> u64 {
        let r = random(s);
        let near = random(s);
        let exponent = |bias: u64, spread: u64| bias - spread + near % (2 * spread);
        let fraction = match near >> 60 {
            0..=3 => 0,
            4..=7 => r & 0xffff_f000_0000_0000,
            _ => r,
        };
        match (fmt, near >> 56 & 7) {
            (_, 0) => r,
            (Fmt::F32, n) => {
                let f = if n < 3 { fraction >> 41 & 0x7f_f000 } else { fraction & 0x7f_ffff };
                r >> 63 << 31 | exponent(127, 30) << 23 | f
            }
            (_, 1) => exponent(1023, 4) << 52,
            _ => r >> 63 << 63 | exponent(1023, 70) << 52 | fraction & 0x000f_ffff_ffff_ffff,
        }
    }

    #[test]
    fn agrees_with_the_exact_evaluation() {
        let mut ops = Vec::new();
        for fmt in [Fmt::F32, Fmt::F64] {
            ops.extend([FpOp::Add(fmt), FpOp::Sub(fmt), FpOp::Mul(fmt), FpOp::Div(fmt), FpOp::Sqrt(fmt)]);
            ops.push(FpOp::Cmp { fmt, signal: true });
            ops.push(FpOp::Convert { from: fmt, to: if fmt == Fmt::F32 { Fmt::F64 } else { Fmt::F32 } });
            ops.push(FpOp::RoundInt { fmt, exact_quiet: false });
            for (bits, signed) in [(32, true), (64, true), (32, false), (64, false)] {
                ops.push(FpOp::FromInt { fmt, bits, signed });
                ops.push(FpOp::ToInt { fmt, bits, signed });
            }
        }
        let (mut s, mut hits) = (1, 0);
        for n in 0..400_000 {
            let op = ops[n % ops.len()];
            let fmt = match op {
                FpOp::Add(f) | FpOp::Sub(f) | FpOp::Mul(f) | FpOp::Div(f) | FpOp::Sqrt(f) => f,
                FpOp::Cmp { fmt, .. } | FpOp::RoundInt { fmt, .. } | FpOp::ToInt { fmt, .. } => fmt,
                FpOp::Convert { from, .. } => from,
                _ => Fmt::F64,
            };
            let args = if matches!(op, FpOp::FromInt { .. }) {
                [random(&mut s) >> (random(&mut s) % 64), 0, 0, 0, 0, 0]
            } else {
                [operand(&mut s, fmt), operand(&mut s, fmt), 0, 0, 0, 0]
            };
            let rm = [0, 0, 0, 1, 2, 3, 4, 7][(random(&mut s) % 8) as usize];
            if let Some((r, fl)) = eval(op, rm, &args) {
                hits += 1;
                let (want, _, flags) = super::super::eval::exact(op, rm, args);
                assert_eq!((r, fl), (want, flags), "{op:?} mode {rm} {:x} {:x}", args[0], args[1]);
            }
        }
        assert!(hits > 150_000, "only {hits} cases were taken");
    }
}

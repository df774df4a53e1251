//! Lane-wise operations on 128-bit vectors: the shape of the trait, filled as architectures need it.

/// Lane size in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lane {
    /// 8 bits.
    B,
    /// 16 bits.
    H,
    /// 32 bits.
    F,
    /// 64 bits.
    G,
}

/// A lane-wise operation on two vectors.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum VecOp {
    /// Wrapping sum of each lane.
    Add(Lane),
    /// Wrapping difference of each lane.
    Sub(Lane),
    /// Bitwise and.
    And,
    /// Bitwise or.
    Or,
    /// Bitwise exclusive or.
    Xor,
    /// All ones in each lane where the operands are equal, else zeros.
    CmpEq(Lane),
}

/// Evaluates `op`; a vector is `(high, low)`.
pub fn eval(op: VecOp, a: (u64, u64), b: (u64, u64)) -> (u64, u64) {
    let halves = |f: &dyn Fn(u64, u64) -> u64| (f(a.0, b.0), f(a.1, b.1));
    let lanes = |l: Lane, f: &dyn Fn(u64, u64) -> u64| {
        let bits = match l {
            Lane::B => 8,
            Lane::H => 16,
            Lane::F => 32,
            Lane::G => 64,
        };
        let mask = u64::MAX >> (64 - bits);
        let one = |x: u64, y: u64| {
            (0..64 / bits).fold(0, |r, i| {
                let s = i * bits;
                r | (f(x >> s & mask, y >> s & mask) & mask) << s
            })
        };
        (one(a.0, b.0), one(a.1, b.1))
    };
    match op {
        VecOp::Add(l) => lanes(l, &|x, y| x.wrapping_add(y)),
        VecOp::Sub(l) => lanes(l, &|x, y| x.wrapping_sub(y)),
        VecOp::CmpEq(l) => lanes(l, &|x, y| if x == y { u64::MAX } else { 0 }),
        VecOp::And => halves(&|x, y| x & y),
        VecOp::Or => halves(&|x, y| x | y),
        VecOp::Xor => halves(&|x, y| x ^ y),
    }
}

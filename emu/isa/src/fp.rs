//! IEEE binary floating point: one exact definition that every engine shares.

/// Formats.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fmt {
    /// 32 bits, held in the low half of a value.
    F32,
    /// 64 bits.
    F64,
    /// 128 bits, held in two values, high first.
    F128,
}

/// Rounding modes; the numbers are those of s390x FPC, PowerPC FPSCR.RN and SPARC FSR.RD.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Round {
    /// To nearest, ties to even.
    NearestEven = 0,
    /// Toward zero.
    Zero = 1,
    /// Toward plus infinity.
    Up = 2,
    /// Toward minus infinity.
    Down = 3,
    /// To nearest, ties away from zero.
    NearestAway = 4,
    /// To prepare for shorter precision (round to odd).
    Odd = 7,
}

/// IEEE flags as bits of the third result of [`eval`]. The order is that of the s390x FPC flag byte.
pub mod flag {
    /// Invalid operation.
    pub const INVALID: u64 = 0x80;
    /// Division by zero.
    pub const DIVZERO: u64 = 0x40;
    /// Overflow.
    pub const OVERFLOW: u64 = 0x20;
    /// Underflow.
    pub const UNDERFLOW: u64 = 0x10;
    /// Inexact.
    pub const INEXACT: u64 = 0x08;
    /// Inexact, and the result is larger in magnitude than the exact one; found only where [`super::trap`] looks.
    pub const INCREMENTED: u64 = 0x04;
    /// The IEEE flags.
    pub const ALL: u64 = INVALID | DIVZERO | OVERFLOW | UNDERFLOW | INEXACT;
}

/// An operation. Operands come in the order of the doc line; an F128 operand takes two values.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FpOp {
    /// `a + b`.
    Add(Fmt),
    /// `a - b`.
    Sub(Fmt),
    /// `a * b`.
    Mul(Fmt),
    /// `a / b`.
    Div(Fmt),
    /// Square root of `a`.
    Sqrt(Fmt),
    /// `a * b + c`, rounded once.
    MulAdd(Fmt),
    /// `a * b - c`, rounded once.
    MulSub(Fmt),
    /// Compares `a` with `b`: 0 equal, 1 less, 2 greater, 3 unordered. Signalling NaNs raise invalid; with
    /// `signal` quiet ones too.
    Cmp {
        /// Format of both operands.
        fmt: Fmt,
        /// Quiet NaNs raise invalid too.
        signal: bool,
    },
    /// Converts between formats.
    Convert {
        /// From.
        from: Fmt,
        /// To.
        to: Fmt,
    },
    /// The value that `Convert` to a shorter format would give if that had any exponent, in the format `from`.
    Unbounded {
        /// From.
        from: Fmt,
        /// To.
        to: Fmt,
    },
    /// Rounds to an integral value in the same format. With `exact_quiet` inexact is not raised.
    RoundInt {
        /// Format.
        fmt: Fmt,
        /// Do not raise inexact.
        exact_quiet: bool,
    },
    /// From an integer of `bits` (32 or 64).
    FromInt {
        /// Target format.
        fmt: Fmt,
        /// Integer width.
        bits: u8,
        /// Two's complement if true.
        signed: bool,
    },
    /// To an integer of `bits`; out of range saturates and raises invalid, a NaN gives the s390x result
    /// (most negative, or zero when unsigned) and raises invalid.
    ToInt {
        /// Source format.
        fmt: Fmt,
        /// Integer width.
        bits: u8,
        /// Two's complement if true.
        signed: bool,
    },
}

mod eval;
mod fast;
pub mod trap;
pub use eval::eval;

//! Slot numbers of the s390x state. Engines, the process layer and the debugger depend on these.

use crate::backend::{Family, Flag, Slot};

/// General register `n`, 64 bits.
pub const fn gpr(n: u8) -> Slot {
    n as Slot
}

/// Floating-point register `n`: the high half of vector register `n`.
pub const fn fpr(n: u8) -> Slot {
    16 + 2 * n as Slot
}

/// Access register `n`, a 32-bit value, zero-extended.
pub const fn ar(n: u8) -> Slot {
    80 + n as Slot
}

/// The condition code, 0 to 3.
pub const CC: Slot = 96;
/// [`CC`] as a flag.
pub const CC_FLAG: Flag = Flag { slot: CC, family: Family::S390Cc };
/// The floating-point control register, 32 bits: masks, flags, data-exception code, rounding modes.
pub const FPC: Slot = 97;
/// The program mask, 4 bits: 8 fixed-point overflow, 4 decimal overflow, 2 HFP exponent underflow, 1 HFP
/// significance.
pub const PMASK: Slot = 98;
/// Data-exception code of an IEEE exception that the instruction raises when it has completed; zero otherwise.
pub const IEEE: Slot = 99;
/// Slots used.
pub const SLOTS: usize = 104;

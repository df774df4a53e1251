//! Slot numbers of the ppc64 state.

use crate::backend::{Family, Flag, Slot};

/// General register `n`.
pub const fn gpr(n: u8) -> Slot {
    n as Slot
}

/// Condition register field `n` without its SO bit.
pub const fn cr(n: u8) -> Flag {
    Flag { slot: 32 + n as Slot, family: Family::PpcCr }
}

/// SO bit of condition register field `n`, 0 or 1.
pub const fn cr_so(n: u8) -> Slot {
    40 + n as Slot
}

/// XER.SO, 0 or 1.
pub const SO: Slot = 48;
/// XER.OV, 0 or 1.
pub const OV: Slot = 49;
/// XER.CA, 0 or 1.
pub const CA: Slot = 50;
/// XER.OV32, 0 or 1.
pub const OV32: Slot = 51;
/// XER.CA32, 0 or 1.
pub const CA32: Slot = 52;
/// Link register.
pub const LR: Slot = 53;
/// Count register.
pub const CTR: Slot = 54;
/// Slots used.
pub const SLOTS: usize = 64;

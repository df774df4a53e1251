//! Slot numbers of the sparc64 state. The general registers are those of the current window: an engine's
//! `rotate_windows` changes what the slots 8 to 31 hold.

use crate::backend::{Family, Flag, Slot};

/// Register `n` of the current window: 0..=7 globals, 8..=15 outs, 16..=23 locals, 24..=31 ins.
pub const fn reg(n: u8) -> Slot {
    n as Slot
}

/// Condition codes of 32-bit results.
pub const ICC: Flag = Flag { slot: 32, family: Family::SparcCc };
/// Condition codes of 64-bit results.
pub const XCC: Flag = Flag { slot: 33, family: Family::SparcCc };
/// Windows that SAVE may still use.
pub const CANSAVE: Slot = 34;
/// Windows that RESTORE may still use.
pub const CANRESTORE: Slot = 35;
/// Current window.
pub const CWP: Slot = 36;
/// Slots used.
pub const SLOTS: usize = 64;
/// Number of register windows.
pub const WINDOWS: u64 = 8;

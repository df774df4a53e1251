//! Exceptions of a translation (Intel SDM volume 3, "Page-Fault Exceptions").

use crate::Access;
use racewalk_ram::Vaddr;
use std::fmt;

/// Why.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Reason {
    /// P = 0 in some entry.
    NotPresent,
    /// A reserved bit of a present entry is set.
    Reserved,
    /// U/S = 0 in some entry, and user code.
    Supervisor,
    /// R/W = 0 in some entry, and a store.
    ReadOnly,
    /// XD = 1 in some entry, and a fetch.
    NoExecute,
    /// A load of the PDPTE registers found a reserved bit in a present entry.
    PointerReserved,
    /// A table lies outside memory.
    Addressing,
}

impl Reason {
    /// All of them.
    pub const ALL: [Reason; 7] = [
        Reason::NotPresent,
        Reason::Reserved,
        Reason::Supervisor,
        Reason::ReadOnly,
        Reason::NoExecute,
        Reason::PointerReserved,
        Reason::Addressing,
    ];

    /// Exception and condition.
    pub fn name(self) -> &'static str {
        match self {
            Reason::NotPresent => "page fault: not present",
            Reason::Reserved => "page fault: reserved bit",
            Reason::Supervisor => "page fault: supervisor page",
            Reason::ReadOnly => "page fault: read-only page",
            Reason::NoExecute => "page fault: no-execute page",
            Reason::PointerReserved => "general protection: reserved bit in PDPTE",
            Reason::Addressing => "machine check: table outside memory",
        }
    }

    /// Vector of the exception.
    pub fn vector(self) -> u8 {
        match self {
            Reason::PointerReserved => 13,
            Reason::Addressing => 18,
            _ => 14,
        }
    }
}

/// Error code: a present translation forbids the access.
pub const ERROR_P: u32 = 1;
/// Error code: a store.
pub const ERROR_W: u32 = 1 << 1;
/// Error code: user code.
pub const ERROR_U: u32 = 1 << 2;
/// Error code: a reserved bit.
pub const ERROR_RSVD: u32 = 1 << 3;
/// Error code: a fetch, with EFER.NXE.
pub const ERROR_I: u32 = 1 << 4;

/// An exception with everything the machine reports.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fault {
    /// Address that was translated; page faults leave it in CR2.
    pub vaddr: Vaddr,
    /// What for.
    pub access: Access,
    /// Why it failed.
    pub reason: Reason,
    /// CPL = 3.
    pub user: bool,
    /// Fetches are told from loads: EFER.NXE.
    pub fetch_reported: bool,
}

impl Fault {
    /// The error code on the stack; `None` for machine checks.
    pub fn error_code(&self) -> Option<u32> {
        let why = match self.reason {
            Reason::PointerReserved => return Some(0),
            Reason::Addressing => return None,
            Reason::NotPresent => 0,
            Reason::Reserved => ERROR_P | ERROR_RSVD,
            Reason::Supervisor | Reason::ReadOnly | Reason::NoExecute => ERROR_P,
        };
        let access = match self.access {
            Access::Store => ERROR_W,
            Access::Fetch if self.fetch_reported => ERROR_I,
            _ => 0,
        };
        Some(why | access | if self.user { ERROR_U } else { 0 })
    }

    /// CR2 after a page fault.
    pub fn cr2(&self) -> Option<u64> {
        (self.reason.vector() == 14).then_some(self.vaddr.0)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} (vector {}) at {:#x} on {}",
            self.reason.name(),
            self.reason.vector(),
            self.vaddr.0,
            self.access
        )
    }
}

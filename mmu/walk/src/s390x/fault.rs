//! Exceptions of a translation and what the machine stores for them.

use crate::Access;
use racewalk_ram::Vaddr;

/// Why.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Reason {
    /// 0x04: low-address protection.
    LowAddress,
    /// 0x04: DAT protection, the P bit of some entry.
    DatProtection,
    /// 0x04: instruction-execution protection.
    InstructionExecution,
    /// 0x05: an address outside the configuration.
    Addressing,
    /// 0x12: a table entry with a format that is not allowed.
    TranslationSpecification,
    /// 0x38: the address does not fit the table the ASCE designates.
    AsceType,
    /// 0x39.
    RegionFirst,
    /// 0x3a.
    RegionSecond,
    /// 0x3b.
    RegionThird,
    /// 0x10.
    Segment,
    /// 0x11.
    Page,
}

impl Reason {
    /// All of them, for tests that want one of each.
    pub const ALL: [Reason; 11] = [
        Reason::LowAddress,
        Reason::DatProtection,
        Reason::InstructionExecution,
        Reason::Addressing,
        Reason::TranslationSpecification,
        Reason::AsceType,
        Reason::RegionFirst,
        Reason::RegionSecond,
        Reason::RegionThird,
        Reason::Segment,
        Reason::Page,
    ];

    /// The program-interruption code.
    pub fn code(self) -> u16 {
        match self {
            Reason::LowAddress | Reason::DatProtection | Reason::InstructionExecution => 0x04,
            Reason::Addressing => 0x05,
            Reason::Segment => 0x10,
            Reason::Page => 0x11,
            Reason::TranslationSpecification => 0x12,
            Reason::AsceType => 0x38,
            Reason::RegionFirst => 0x39,
            Reason::RegionSecond => 0x3a,
            Reason::RegionThird => 0x3b,
        }
    }

    /// Name as in the manual.
    pub fn name(self) -> &'static str {
        match self {
            Reason::LowAddress => "low-address protection",
            Reason::DatProtection => "DAT protection",
            Reason::InstructionExecution => "instruction-execution protection",
            Reason::Addressing => "addressing",
            Reason::TranslationSpecification => "translation-specification",
            Reason::AsceType => "ASCE-type",
            Reason::RegionFirst => "region-first-translation",
            Reason::RegionSecond => "region-second-translation",
            Reason::RegionThird => "region-third-translation",
            Reason::Segment => "segment-translation",
            Reason::Page => "page-translation",
        }
    }

    /// Whether the instruction is nullified: the old PSW then points at it, otherwise behind it.
    pub fn nullifies(self) -> bool {
        !matches!(self.code(), 0x04 | 0x05 | 0x12)
    }
}

/// A translation exception with everything the machine reports.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fault {
    /// Address that was translated.
    pub vaddr: Vaddr,
    /// What for.
    pub access: Access,
    /// Why it failed.
    pub reason: Reason,
}

impl Fault {
    /// The translation-exception identification (doubleword at real 0xa8), if this exception stores one: page
    /// address, FSI (0x400 store, 0x800 fetch), protection reason; the address-space id is 0, primary.
    pub fn teid(&self) -> Option<u64> {
        let fsi = if self.access == Access::Store { 0x400 } else { 0x800 };
        let why = match self.reason {
            Reason::Addressing | Reason::TranslationSpecification => return None,
            Reason::LowAddress => 0x80,
            Reason::DatProtection => 0x04,
            Reason::InstructionExecution => 0x84,
            _ => 0,
        };
        Some(self.vaddr.page().0 | fsi | why)
    }
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} exception ({:#04x}) at {:#x} on {}",
            self.reason.name(),
            self.reason.code(),
            self.vaddr.0,
            self.access
        )
    }
}

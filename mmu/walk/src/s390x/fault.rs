//! Exceptions of a translation and what the machine stores for them (SA22-7832 chapters 3 and 6; reference s390x-mmu
//! §2.1).

use super::context::Space;
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
    /// 0x04: key-controlled protection.
    KeyProtection,
    /// 0x04: access-list-controlled protection, a store through a fetch-only access-list entry.
    AccessListProtection,
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
    /// 0x28: bits 0-6 of the access-list-entry token are not zero.
    AletSpecification,
    /// 0x29: the access list is too short or its entry invalid.
    AlenTranslation,
    /// 0x2a: the sequence numbers of token and access-list entry differ.
    AleSequence,
    /// 0x2b: the ASN-second-table entry is invalid.
    AsteValidity,
    /// 0x2c: the sequence numbers of access-list entry and ASN-second-table entry differ.
    AsteSequence,
    /// 0x2d: neither the extended authorization index nor the authority table permits the space.
    ExtendedAuthority,
}

impl Reason {
    /// All of them, for tests that want one of each.
    pub const ALL: [Reason; 19] = [
        Reason::LowAddress,
        Reason::DatProtection,
        Reason::InstructionExecution,
        Reason::KeyProtection,
        Reason::AccessListProtection,
        Reason::Addressing,
        Reason::TranslationSpecification,
        Reason::AsceType,
        Reason::RegionFirst,
        Reason::RegionSecond,
        Reason::RegionThird,
        Reason::Segment,
        Reason::Page,
        Reason::AletSpecification,
        Reason::AlenTranslation,
        Reason::AleSequence,
        Reason::AsteValidity,
        Reason::AsteSequence,
        Reason::ExtendedAuthority,
    ];

    /// The program-interruption code.
    pub fn code(self) -> u16 {
        match self {
            Reason::LowAddress
            | Reason::DatProtection
            | Reason::InstructionExecution
            | Reason::KeyProtection
            | Reason::AccessListProtection => 0x04,
            Reason::Addressing => 0x05,
            Reason::Segment => 0x10,
            Reason::Page => 0x11,
            Reason::TranslationSpecification => 0x12,
            Reason::AletSpecification => 0x28,
            Reason::AlenTranslation => 0x29,
            Reason::AleSequence => 0x2a,
            Reason::AsteValidity => 0x2b,
            Reason::AsteSequence => 0x2c,
            Reason::ExtendedAuthority => 0x2d,
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
            Reason::KeyProtection => "key-controlled protection",
            Reason::AccessListProtection => "access-list-controlled protection",
            Reason::Addressing => "addressing",
            Reason::TranslationSpecification => "translation-specification",
            Reason::AsceType => "ASCE-type",
            Reason::RegionFirst => "region-first-translation",
            Reason::RegionSecond => "region-second-translation",
            Reason::RegionThird => "region-third-translation",
            Reason::Segment => "segment-translation",
            Reason::Page => "page-translation",
            Reason::AletSpecification => "ALET-specification",
            Reason::AlenTranslation => "ALEN-translation",
            Reason::AleSequence => "ALE-sequence",
            Reason::AsteValidity => "ASTE-validity",
            Reason::AsteSequence => "ASTE-sequence",
            Reason::ExtendedAuthority => "extended-authority",
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
    /// In which address space.
    pub space: Space,
}

impl Fault {
    /// The translation-exception identification (doubleword at real 0xa8), if this exception stores one: page
    /// address, FSI (0x400 store, 0x800 fetch), protection reason, address-space id.
    pub fn teid(&self) -> Option<u64> {
        let fsi = if self.access == Access::Store { 0x400 } else { 0x800 };
        let why = match self.reason {
            Reason::Addressing
            | Reason::TranslationSpecification
            | Reason::AletSpecification
            | Reason::AlenTranslation
            | Reason::AleSequence
            | Reason::AsteValidity
            | Reason::AsteSequence
            | Reason::ExtendedAuthority => return None,
            Reason::LowAddress => 0x80,
            Reason::KeyProtection => 0x08,
            Reason::AccessListProtection => 0x0c,
            Reason::DatProtection => 0x04,
            Reason::InstructionExecution => 0x84,
            Reason::AsceType
            | Reason::RegionFirst
            | Reason::RegionSecond
            | Reason::RegionThird
            | Reason::Segment
            | Reason::Page => 0,
        };
        Some(self.vaddr.page().0 | fsi | why | self.space.id())
    }

    /// The exception access identification (byte at real 0xa0): the number of the access register that named the
    /// space, for exceptions in access-register mode.
    pub fn access_id(&self) -> Option<u8> {
        match self.space {
            Space::AccessRegister(n) => Some(n),
            _ => None,
        }
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

//! Formats of the ASCE and of table entries. Bit 0 is the most significant one, as in the manual.

use racewalk_ram::{Asid, Paddr};

/// Which table an ASCE designates, or an entry's level: its TT or DT field.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum TableType {
    /// Segment table.
    Segment = 0,
    /// Region-third table.
    Region3 = 1,
    /// Region-second table.
    Region2 = 2,
    /// Region-first table.
    Region1 = 3,
}

impl TableType {
    /// From the two-bit field.
    pub fn from_bits(bits: u64) -> Self {
        match bits & 3 {
            0 => TableType::Segment,
            1 => TableType::Region3,
            2 => TableType::Region2,
            _ => TableType::Region1,
        }
    }
    /// The table one level down; `None` below the segment table, where page tables are.
    pub fn below(self) -> Option<Self> {
        match self {
            TableType::Segment => None,
            TableType::Region3 => Some(TableType::Segment),
            TableType::Region2 => Some(TableType::Region3),
            TableType::Region1 => Some(TableType::Region2),
        }
    }
    /// Name as in the manual.
    pub fn name(self) -> &'static str {
        match self {
            TableType::Segment => "segment",
            TableType::Region3 => "region-third",
            TableType::Region2 => "region-second",
            TableType::Region1 => "region-first",
        }
    }
}

/// Address-space-control element: what CR1, CR7 and CR13 hold.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Asce(pub u64);

impl std::fmt::Debug for Asce {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Asce({:#x}: {} table, TL {})", self.0, self.designation().name(), self.length())
    }
}

impl Asce {
    /// P (bit 55): private space.
    pub const P: u64 = 0x100;
    /// G (bit 54): subspace group; translation ignores it.
    pub const G: u64 = 0x200;
    /// S (bit 56): storage-alteration event; a matter of PER.
    pub const S: u64 = 0x80;
    /// X (bit 57): space-switch event; translation ignores it.
    pub const X: u64 = 0x40;
    /// R (bit 58): real space; no tables.
    pub const R: u64 = 0x20;
    /// Table-origin bits.
    pub const ORIGIN: u64 = !0xfff;

    /// An ASCE that designates `table` of (`length` + 1) * 512 entries at `origin`.
    pub fn new(origin: Paddr, table: TableType, length: u64) -> Asce {
        debug_assert_eq!(origin.0 & 0xfff, 0);
        Asce(origin.0 | (table as u64) << 2 | (length & 3))
    }
    /// Origin of the designated table.
    pub fn origin(self) -> Paddr {
        Paddr(self.0 & Self::ORIGIN)
    }
    /// DT (bits 60-61): which table.
    pub fn designation(self) -> TableType {
        TableType::from_bits(self.0 >> 2)
    }
    /// TL (bits 62-63): the table has (TL + 1) * 512 entries.
    pub fn length(self) -> u64 {
        self.0 & 3
    }
    /// Private-space control.
    pub fn private(self) -> bool {
        self.0 & Self::P != 0
    }
    /// Real-space control.
    pub fn real_space(self) -> bool {
        self.0 & Self::R != 0
    }
    /// What tells spaces apart in a TLB: origin, designation and length, and the private and real-space controls.
    pub fn space(self) -> Asid {
        Asid(self.0 & (Self::ORIGIN | Self::P | Self::R | 0xf))
    }
}

/// Region-table entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rte(pub u64);

impl Rte {
    /// Origin of the next table (bits 0-51).
    pub const ORIGIN: u64 = !0xfff;
    /// P (bit 54): DAT protection; honoured with EDAT-1 only.
    pub const P: u64 = 0x200;
    /// I (bit 58): invalid.
    pub const I: u64 = 0x20;
    /// FC (bit 53), region-third entries with EDAT-2: format control.
    pub const FC: u64 = 0x400;
    /// CR (bit 59), region-third entries with EDAT-2: common region.
    pub const CR: u64 = 0x10;
    /// Region-frame absolute address (bits 0-32) of an entry with FC = 1: a frame of 2 GiB.
    pub const RFAA: u64 = !0x7fff_ffff;

    /// A valid entry of a table of type `of` that designates the table at `origin` with all 2048 entries.
    pub fn new(of: TableType, origin: Paddr) -> Rte {
        debug_assert_eq!(origin.0 & 0xfff, 0);
        Rte(origin.0 | (of as u64) << 2 | 3)
    }
    /// An invalid entry of a table of type `of`, as Linux writes it: I and the type bits.
    pub fn empty(of: TableType) -> Rte {
        Rte(Self::I | (of as u64) << 2)
    }
    /// Whether this is an entry of a table of type `of` that is valid, designates all 2048 entries and has no other bit
    /// that translation looks at.
    pub fn is_plain(self, of: TableType) -> bool {
        self.0 & !Self::ORIGIN & (Self::FC | Self::P | Self::CR | Self::I | 0xcf) == (of as u64) << 2 | 3
    }
    /// Origin of the next table.
    pub fn origin(self) -> Paddr {
        Paddr(self.0 & Self::ORIGIN)
    }
    /// TT (bits 60-61).
    pub fn table_type(self) -> TableType {
        TableType::from_bits(self.0 >> 2)
    }
    /// TF (bits 56-57): the first 512-entry quarter of the next table that exists.
    pub fn offset(self) -> u64 {
        self.0 >> 6 & 3
    }
    /// TL (bits 62-63): the last quarter of the next table that exists.
    pub fn length(self) -> u64 {
        self.0 & 3
    }
    /// I.
    pub fn invalid(self) -> bool {
        self.0 & Self::I != 0
    }
}

/// Segment-table entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ste(pub u64);

impl Ste {
    /// Origin of the page table (bits 0-52): 2 KiB aligned.
    pub const ORIGIN: u64 = !0x7ff;
    /// FC (bit 53) with EDAT-1: format control.
    pub const FC: u64 = 0x400;
    /// P (bit 54): DAT protection, always honoured.
    pub const P: u64 = 0x200;
    /// I (bit 58): invalid.
    pub const I: u64 = 0x20;
    /// CS (bit 59): common segment.
    pub const CS: u64 = 0x10;
    /// Segment-frame absolute address (bits 0-43) of an entry with FC = 1: a frame of 1 MiB.
    pub const SFAA: u64 = !0xf_ffff;

    /// A valid entry that designates the page table at `origin`.
    pub fn new(origin: Paddr) -> Ste {
        debug_assert_eq!(origin.0 & 0x7ff, 0);
        Ste(origin.0)
    }
    /// Whether the entry is valid, of the right type and without any other bit that translation looks at.
    pub fn is_plain(self) -> bool {
        self.0 & (Self::FC | Self::P | Self::I | Self::CS | 0xc) == 0
    }
    /// An invalid entry.
    pub const EMPTY: Ste = Ste(Self::I);
    /// Origin of the page table.
    pub fn origin(self) -> Paddr {
        Paddr(self.0 & Self::ORIGIN)
    }
    /// I.
    pub fn invalid(self) -> bool {
        self.0 & Self::I != 0
    }
    /// TT (bits 60-61), which must be 0.
    pub fn table_type(self) -> TableType {
        TableType::from_bits(self.0 >> 2)
    }
}

/// What a format-control entry (FC = 1, a large frame) says beside its frame; the bits are the same in region-third and
/// segment entries.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FrameBits(pub u64);

impl FrameBits {
    /// AV (bit 47): the access-control bits and F are valid.
    pub const AV: u64 = 0x1_0000;
    /// ACC (bits 48-51): access-control bits.
    pub const ACC: u64 = 0xf000;
    /// F (bit 52): fetch protection.
    pub const F: u64 = 0x800;
    /// IEP (bit 55): no instruction execution, with that facility.
    pub const IEP: u64 = 0x100;

    /// ACC and F as a storage key has them, if they are to be used in the key's place.
    pub fn key(self) -> Option<u8> {
        (self.0 & Self::AV != 0).then_some((self.0 >> 8 & 0xf8) as u8)
    }
}

/// Page-table entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pte(pub u64);

impl Pte {
    /// Page-frame real address (bits 0-51).
    pub const PFRA: u64 = !0xfff;
    /// Bit 52: must be zero, else a translation-specification exception.
    pub const ZERO: u64 = 0x800;
    /// I (bit 53): invalid. Not where region and segment entries have it.
    pub const I: u64 = 0x400;
    /// P (bit 54): DAT protection.
    pub const P: u64 = 0x200;
    /// IEP (bit 55): no instruction execution, with that facility.
    pub const IEP: u64 = 0x100;
    /// Bits 56-63, free for software.
    pub const SOFTWARE: u64 = 0xff;

    /// An invalid entry with no software bits.
    pub const EMPTY: Pte = Pte(Self::I);
    /// Page-frame real address.
    pub fn frame(self) -> u64 {
        self.0 & Self::PFRA
    }
    /// I.
    pub fn invalid(self) -> bool {
        self.0 & Self::I != 0
    }
    /// P.
    pub fn protected(self) -> bool {
        self.0 & Self::P != 0
    }
}

//! Entries, as numbers: in memory they are little-endian (Intel SDM volume 3, "PAE paging", figure of entry formats).

use racewalk_ram::Paddr;

/// P: present.
pub const P: u64 = 1;
/// R/W: writable.
pub const RW: u64 = 1 << 1;
/// U/S: for user code too.
pub const US: u64 = 1 << 2;
/// PWT: write-through.
pub const PWT: u64 = 1 << 3;
/// PCD: not cached.
pub const PCD: u64 = 1 << 4;
/// A: accessed.
pub const A: u64 = 1 << 5;
/// D: dirty, in entries that map a page.
pub const D: u64 = 1 << 6;
/// G: global, in entries that map a page.
pub const G: u64 = 1 << 8;
/// XD: no execution; reserved without EFER.NXE.
pub const XD: u64 = 1 << 63;
/// Bits 11-9: free for software.
pub const SOFTWARE: u64 = 0x7 << 9;

/// Bits from `maxphyaddr` to 62, which must be zero.
#[inline]
const fn above(maxphyaddr: u8) -> u64 {
    (XD - 1) & !((1 << maxphyaddr) - 1)
}

/// Page-directory-pointer-table entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Pdpte(pub u64);

impl Pdpte {
    /// The page directory.
    pub const TABLE: u64 = (1 << 52) - (1 << 12);
    const RESERVED: u64 = 0x6 | 0x1e0 | XD;

    /// Bits that a present entry may not have when the registers are loaded.
    pub fn reserved(self, maxphyaddr: u8) -> u64 {
        self.0 & (Self::RESERVED | above(maxphyaddr))
    }
    /// Whether it is present.
    #[inline]
    pub fn present(self) -> bool {
        self.0 & P != 0
    }
    /// The page directory.
    #[inline]
    pub fn table(self) -> Paddr {
        Paddr(self.0 & Self::TABLE)
    }
}

/// Page-directory entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pde(pub u64);

impl Pde {
    /// PS: maps 2 MiB.
    pub const PS: u64 = 1 << 7;
    /// The page table.
    pub const TABLE: u64 = (1 << 52) - (1 << 12);
    /// The frame of 2 MiB.
    pub const FRAME: u64 = (1 << 52) - (1 << 21);
    /// PAT, of a frame.
    pub const PAT: u64 = 1 << 12;
    const LARGE_RESERVED: u64 = (1 << 21) - (1 << 13);

    /// Whether it maps a page.
    #[inline]
    pub fn large(self) -> bool {
        self.0 & Self::PS != 0
    }
    /// Reserved bits that are set.
    #[inline]
    pub fn reserved(self, maxphyaddr: u8, nxe: bool) -> u64 {
        let more = if self.large() { Self::LARGE_RESERVED } else { 0 } | if nxe { 0 } else { XD };
        self.0 & (more | above(maxphyaddr))
    }
    /// The page table.
    #[inline]
    pub fn table(self) -> Paddr {
        Paddr(self.0 & Self::TABLE)
    }
}

/// Page-table entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pte(pub u64);

impl Pte {
    /// PAT.
    pub const PAT: u64 = 1 << 7;
    /// The frame.
    pub const FRAME: u64 = (1 << 52) - (1 << 12);

    /// Reserved bits that are set.
    #[inline]
    pub fn reserved(self, maxphyaddr: u8, nxe: bool) -> u64 {
        self.0 & (if nxe { 0 } else { XD } | above(maxphyaddr))
    }
}

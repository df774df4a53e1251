//! How a virtual address divides and hashes (ISA 2.07B Book III-S 5.7.7.3 and 5.7.7.4; reference ppc64-mmu §1.3).

use super::slb::{Segment, SegmentSize};

/// Entries of a group.
pub const GROUP_ENTRIES: u64 = 8;
/// Bytes of an entry.
pub const ENTRY_BYTES: u64 = 16;
/// Bytes of a group.
pub const GROUP_BYTES: u64 = GROUP_ENTRIES * ENTRY_BYTES;
/// Hashes have 39 bits.
pub const HASH: u64 = (1 << 39) - 1;
/// log2 of the smallest page.
pub const BASE_4K: u8 = 12;

/// A page size that an entry with L = 1 can tell.
#[derive(Clone, Copy, Debug)]
pub struct LargePage {
    /// log2 of the segment's base page size.
    pub base: u8,
    /// log2 of the page size.
    pub shift: u8,
    /// What the lower bits of the LP field are, as many as the page leaves of the eight.
    pub encoding: u64,
}

/// The page sizes of POWER7 to POWER9. An encoding that is not here belongs to no page of the segment.
pub const LARGE_PAGES: [LargePage; 6] = [
    LargePage { base: 12, shift: 16, encoding: 0x07 },
    LargePage { base: 12, shift: 24, encoding: 0x38 },
    LargePage { base: 16, shift: 16, encoding: 0x01 },
    LargePage { base: 16, shift: 24, encoding: 0x08 },
    LargePage { base: 24, shift: 24, encoding: 0x00 },
    LargePage { base: 34, shift: 34, encoding: 0x03 },
];

/// The abbreviated virtual page number of an address in a segment, in place for the entry's first doubleword.
#[inline]
pub fn avpn(s: &Segment, offset: u64) -> u64 {
    let page = offset & !((1u64 << s.base) - 1);
    // The virtual address has 78 bits; 16 of them are left out, of which 7 are the entry's flags.
    (s.vsid << (s.size.shift() - 16) | page >> 16) & !0x7f
}

/// The primary hash of an address in a segment; the secondary is its complement.
#[inline]
pub fn hash(s: &Segment, offset: u64) -> u64 {
    let page = offset >> s.base;
    let h = match s.size {
        SegmentSize::M256 => s.vsid ^ page,
        SegmentSize::T1 => s.vsid ^ s.vsid << 25 ^ page,
    };
    h & HASH
}

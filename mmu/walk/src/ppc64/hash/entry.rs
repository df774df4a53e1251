//! The hashed page table's entry, and what designates the table (ISA 2.07B Book III-S 5.7.7, ISA 3.0B Book III 6.7.8;
//! reference ppc64-mmu §1.3). Bit 0 is the most significant one, as in the manual.

use super::geometry::{BASE_4K, LARGE_PAGES};
use super::slb::SegmentSize;
use racewalk_ram::Paddr;

/// Which architecture the entries follow.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash)]
pub enum Version {
    /// ISA 2.07 and before: the table by SDR1, B in the first doubleword.
    V2,
    /// ISA 3.0: the table by the partition table, B in the second doubleword.
    #[default]
    V3,
}

/// SDR1, or the first doubleword of a partition-table entry with HR = 0.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct TableDesignation(pub u64);

impl TableDesignation {
    /// HTABORG (bits 4-45): origin of the table.
    pub const HTABORG: u64 = 0x0fff_ffff_fffc_0000;
    /// HTABSIZE (bits 59-63): the table has 2^(11 + HTABSIZE) groups.
    pub const HTABSIZE: u64 = 0x1f;

    /// Origin of the table.
    #[inline]
    pub fn origin(self) -> Paddr {
        Paddr(self.0 & Self::HTABORG)
    }
    /// Which bits of the hash number its groups.
    #[inline]
    pub fn mask(self) -> u64 {
        (1 << (11 + (self.0 & Self::HTABSIZE))) - 1
    }
}

/// A page-table entry, both doublewords.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Hpte(pub u64, pub u64);

impl Hpte {
    /// B of the first doubleword (bits 0-1, ISA 2.x): segment size.
    pub const B_V2: u64 = 3 << 62;
    /// AVPN of the first doubleword, ISA 2.x: the virtual address without its 23 lower bits.
    pub const AVPN_V2: u64 = 0x3fff_ffff_ffff_ff80;
    /// AVPN of the first doubleword, ISA 3.0: virtual addresses have 68 bits.
    pub const AVPN_V3: u64 = 0x000f_ffff_ffff_ff80;
    /// Bits that are free for software.
    pub const SOFTWARE: u64 = 0x78;
    /// L (bit 61): the LP field tells the page size.
    pub const L: u64 = 4;
    /// H (bit 62): in the secondary group.
    pub const H: u64 = 2;
    /// V (bit 63): valid.
    pub const V: u64 = 1;

    /// PP bit 0 of the second doubleword.
    pub const PP0: u64 = 1 << 63;
    /// Upper two bits of the key.
    pub const KEY_HIGH: u64 = 0x3000_0000_0000_0000;
    /// B of the second doubleword (bits 4-5, ISA 3.0).
    pub const B_V3: u64 = 3 << 58;
    /// ARPN with LP, ISA 2.x.
    pub const RPN_V2: u64 = 0x0fff_ffff_ffff_f000;
    /// ARPN with LP, ISA 3.0.
    pub const RPN_V3: u64 = 0x01ff_ffff_ffff_f000;
    /// Lower three bits of the key.
    pub const KEY_LOW: u64 = 0xe00;
    /// R (bit 55): referenced.
    pub const R: u64 = 0x100;
    /// C (bit 56): changed.
    pub const C: u64 = 0x80;
    /// WIM: write through, caching inhibited, memory coherence.
    pub const WIM: u64 = 0x70;
    /// G (bit 60): guarded.
    pub const G: u64 = 8;
    /// N (bit 61): no execute.
    pub const N: u64 = 4;
    /// PP bits 1 and 2.
    pub const PP: u64 = 3;

    /// What the first doubleword of the entry for the page with `avpn` (as [`geometry::avpn`](super::geometry::avpn)) is in a
    /// primary group, and under which mask; in a secondary group [`Hpte::H`] is set as well.
    #[inline]
    pub fn wanted(version: Version, avpn: u64, size: SegmentSize) -> (u64, u64) {
        match version {
            Version::V2 => {
                let mask = Self::B_V2 | Self::AVPN_V2 | Self::H | Self::V;
                ((size as u64) << 62 | (avpn & Self::AVPN_V2) | Self::V, mask)
            }
            Version::V3 => ((avpn & Self::AVPN_V3) | Self::V, Self::AVPN_V3 | Self::H | Self::V),
        }
    }

    /// Whether the second doubleword agrees on the segment size.
    #[inline]
    pub fn segment_matches(self, version: Version, size: SegmentSize) -> bool {
        version == Version::V2 || (self.1 & Self::B_V3) >> 58 == size as u64
    }

    /// log2 of the page's size in a segment with base pages of 2^`base` bytes; `None` if the encoding is none of them.
    #[inline]
    pub fn page_shift(self, base: u8) -> Option<u8> {
        if self.0 & Self::L == 0 {
            return (base == BASE_4K).then_some(BASE_4K);
        }
        let lp = self.1 >> 12;
        LARGE_PAGES
            .iter()
            .find(|p| p.base == base && (lp ^ p.encoding) & ((1u64 << (p.shift - 12).min(8)) - 1) == 0)
            .map(|p| p.shift)
    }

    /// Where `offset`, an address in the page's segment, leads, in a page of 2^`shift` bytes.
    #[inline]
    pub fn real(self, version: Version, shift: u8, offset: u64) -> u64 {
        let inside = (1u64 << shift) - 1;
        let rpn = if version == Version::V2 { Self::RPN_V2 } else { Self::RPN_V3 };
        (self.1 & rpn & !inside) | (offset & inside)
    }

    /// The storage key, 0 to 31.
    #[inline]
    pub fn key(self) -> u32 {
        ((self.1 & Self::KEY_HIGH) >> 57 | (self.1 & Self::KEY_LOW) >> 9) as u32
    }

    /// What the page protection permits with a storage protection key of `key`: (loads and fetches, stores).
    #[inline]
    pub fn protection(self, key: bool) -> (bool, bool) {
        let pp = (self.1 & Self::PP0) >> 61 | (self.1 & Self::PP);
        match (pp, key) {
            (0 | 1, false) | (2, _) => (true, true),
            (3, _) | (6, false) | (1, true) => (true, false),
            _ => (false, false),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_sizes_by_base_and_encoding() {
        let large = |lp: u64, base| Hpte(Hpte::L, lp << 12).page_shift(base);
        assert_eq!((Hpte(0, 0).page_shift(12), Hpte(0, 0).page_shift(16)), (Some(12), None));
        assert_eq!((large(0x07, 12), large(0x38, 12), large(0x0, 12)), (Some(16), Some(24), None));
        // Bits above the encoding belong to the page's number.
        assert_eq!((large(0xf1, 16), large(0x08, 16), large(0x18, 16)), (Some(16), Some(24), None));
        assert_eq!((large(0, 24), large(3, 34), large(1, 24)), (Some(24), Some(34), None));
    }

    #[test]
    fn protection_by_key() {
        let of = |pp: u64, key| Hpte(0, (pp & 4) << 61 | (pp & 3)).protection(key);
        let (none, read, all) = ((false, false), (true, false), (true, true));
        assert_eq!(
            [0, 1, 2, 3, 4, 5, 6, 7].map(|pp| of(pp, false)),
            [all, all, all, read, none, none, read, none]
        );
        assert_eq!(
            [0, 1, 2, 3, 4, 5, 6, 7].map(|pp| of(pp, true)),
            [none, read, all, read, none, none, none, none]
        );
        assert_eq!(Hpte(0, Hpte::KEY_HIGH | 0x200).key(), 25);
        assert_eq!(TableDesignation(0x4_0001).mask(), 0xfff);
    }
}

//! TSB entries: a tag and a translation table entry (TTE), 16 bytes (reference sparc64-mmu §1.1, §1.2).

use crate::sparc64::context::{CONTEXT, Leaf};
use racewalk_ram::Vaddr;

/// The tag of a TSB entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tag(pub u64);

impl Tag {
    /// Context (bits 60-48).
    pub const CONTEXT: u64 = (CONTEXT as u64) << Self::CONTEXT_SHIFT;
    /// VA[63:22] (bits 41-0).
    pub const VA: u64 = (1 << 42) - 1;
    /// Bits 63-61 and 47-42: the hardware takes an entry with one of them set for none. Software marks entries so.
    pub const RESERVED: u64 = !(Self::CONTEXT | Self::VA);
    const CONTEXT_SHIFT: u32 = 48;

    /// The tag for an address in a context.
    pub fn new(va: Vaddr, context: u16) -> Tag {
        Tag(va.0 >> 22 | (context as u64) << Self::CONTEXT_SHIFT)
    }
    /// The context.
    pub fn context(self) -> u16 {
        (self.0 >> Self::CONTEXT_SHIFT) as u16 & CONTEXT
    }
}

/// The TTE: the data half of a TSB entry, and what hypercalls take.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tte(pub u64);

impl Tte {
    /// V: valid.
    pub const V: u64 = 1 << 63;
    /// NFO: for no-fault loads only.
    pub const NFO: u64 = 1 << 62;
    /// soft2: free for software.
    pub const SOFT2: u64 = 0x3f << 56;
    /// Real address, or physical address where the TSB says so.
    pub const RA: u64 = (1 << 56) - (1 << 13);
    /// IE: invert endianness.
    pub const IE: u64 = 1 << 12;
    /// E: side effect.
    pub const E: u64 = 1 << 11;
    /// CP: cacheable in physically indexed caches.
    pub const CP: u64 = 1 << 10;
    /// CV: cacheable in virtually indexed caches.
    pub const CV: u64 = 1 << 9;
    /// P: privileged.
    pub const P: u64 = 1 << 8;
    /// EP: executable.
    pub const EP: u64 = 1 << 7;
    /// W: writable.
    pub const W: u64 = 1 << 6;
    /// soft: free for software.
    pub const SOFT: u64 = 0x3 << 4;
    /// Page size.
    pub const SIZE: u64 = 0xf;

    /// The page size, 0 for 8K to 7 for 16G, each eight times the last; values above 7 mean nothing.
    #[inline]
    pub fn size(self) -> u8 {
        (self.0 & Self::SIZE) as u8
    }
    /// What accesses are checked against: bits 12-6 and NFO.
    #[inline]
    pub fn leaf(self) -> Leaf {
        Leaf((self.0 >> 6 & 0x7f) as u8 | ((self.0 & Self::NFO) >> 55) as u8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_bit_of_a_leaf_is_that_of_its_tte() {
        let pairs = [
            (Tte::W, Leaf::W),
            (Tte::EP, Leaf::EP),
            (Tte::P, Leaf::P),
            (Tte::CV, Leaf::CV),
            (Tte::CP, Leaf::CP),
            (Tte::E, Leaf::E),
            (Tte::IE, Leaf::IE),
            (Tte::NFO, Leaf::NFO),
        ];
        for (tte, leaf) in pairs {
            assert_eq!(Tte(tte).leaf(), Leaf(leaf), "{tte:#x}");
        }
        assert_eq!(Tte(Tte::V | Tte::RA | Tte::SOFT | Tte::SOFT2 | Tte::SIZE).leaf(), Leaf(0));
        assert_eq!(Tag::new(Vaddr(0x1234_5678_9abc), 0x1234), Tag(0x1234_0000_0048_d159));
        assert_eq!(Tag::new(Vaddr(0), 0x1fff).context(), 0x1fff);
    }
}

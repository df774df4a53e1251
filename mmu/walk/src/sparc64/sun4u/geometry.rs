//! Page sizes, TSB pointers, and the indexes of Linux's page tables (reference sparc64-mmu §1.5, §7.1).

use super::entry::TagAccess;
use racewalk_ram::{Paddr, Vaddr};

/// Bits of a physical address (UltraSPARC-III).
pub const PA_BITS: u32 = 43;
/// Bits of a virtual address; those above repeat the topmost.
pub const VA_BITS: u32 = 44;
/// log2 of the smallest page.
pub const BASE_SHIFT: u8 = 13;

/// log2 of the bytes of a page of size 0 (8K) to 5 (256M).
pub const fn page_shift(size: u8) -> u8 {
    BASE_SHIFT + 3 * size
}

/// Whether an address is outside the hole.
#[inline]
pub const fn in_range(va: Vaddr) -> bool {
    const ABOVE: u32 = 64 - VA_BITS;
    ((va.0 << ABOVE) as i64) >> ABOVE == va.0 as i64
}

/// A TSB register.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Tsb(pub u64);

impl Tsb {
    /// Where it is.
    pub const BASE: u64 = !0x1fff;
    /// A TSB of 64K pages follows.
    pub const SPLIT: u64 = 1 << 12;
    /// It has 512 << n entries.
    pub const SIZE: u64 = 0x7;

    /// log2 of its entries, or of half of them if it is split.
    fn index_bits(self) -> u8 {
        9 + (self.0 & Self::SIZE) as u8
    }

    /// The entry that page number `number` has; `half` says which part of a split TSB.
    #[inline]
    fn pointer(self, number: u64, half: u64) -> Paddr {
        let bytes = 16u64 << self.index_bits();
        let entry = number << 4 & (bytes - 1);
        if self.0 & Self::SPLIT == 0 {
            Paddr(self.0 & Self::BASE & !(bytes - 1) | entry)
        } else {
            Paddr(self.0 & Self::BASE & !(2 * bytes - 1) | (half * bytes) | entry)
        }
    }
    /// The 8K pointer register.
    #[inline]
    pub fn pointer_8k(self, tag: TagAccess) -> Paddr {
        self.pointer(tag.page().0 >> 13, 0)
    }
    /// The 64K pointer register.
    pub fn pointer_64k(self, tag: TagAccess) -> Paddr {
        self.pointer(tag.page().0 >> 16, 1)
    }
    /// The direct pointer register: the pointer for the size of the page that last faulted on protection, 64K or not.
    pub fn pointer_direct(self, tag: TagAccess, shift: u8) -> Paddr {
        if shift == 16 { self.pointer_64k(tag) } else { self.pointer_8k(tag) }
    }
    /// Where Linux's TSB of huge pages has its entry: by VA >> 22, the size of the TTEs in it.
    pub fn pointer_huge(self, va: Vaddr) -> Paddr {
        self.pointer(va.0 >> 22, 0)
    }
}

/// log2 of what a Linux PGD entry covers; the others follow, ten bits a level.
pub const PGD_SHIFT: u32 = 43;
/// log2 of what a PUD entry covers.
pub const PUD_SHIFT: u32 = 33;
/// log2 of what a PMD entry covers.
pub const PMD_SHIFT: u32 = 23;
/// Entries of each of Linux's tables, which fill a page.
pub const ENTRIES: u64 = 1024;
/// The half of a huge page: it is made of two TTEs of 4M.
pub const HUGE_HALF: u64 = 1 << 22;

/// The index into a table whose entries cover 1 << `shift` bytes.
#[inline]
pub const fn index(shift: u32, va: Vaddr) -> u64 {
    va.0 >> shift & (ENTRIES - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pointers() {
        let tag = TagAccess::new(Vaddr(0x1234_5678), 0x1fff);
        assert_eq!(Tsb(0x10_0000).pointer_8k(tag), Paddr(0x10_0000 | (0x1234_5678 >> 13 & 511) << 4));
        assert_eq!(Tsb(0x10_0000).pointer_64k(tag), Paddr(0x10_0000 | (0x1234_5678 >> 16 & 511) << 4));
        // Split: the base loses one more bit, which says which half.
        let split = Tsb(0x10_6000 | Tsb::SPLIT);
        assert_eq!(split.pointer_8k(tag), Paddr(0x10_4000 | (0x1234_5678 >> 13 & 511) << 4));
        assert_eq!(split.pointer_64k(tag), Paddr(0x10_6000 | (0x1234_5678 >> 16 & 511) << 4));
        assert_eq!(split.pointer_direct(tag, 16), split.pointer_64k(tag));
        assert_eq!(split.pointer_direct(tag, 22), split.pointer_8k(tag));
        assert_eq!(Tsb(0x10_0000 | 7).pointer_8k(tag), Paddr(0x10_0000 | (0x1234_5678 >> 13 & 0xffff) << 4));
        assert_eq!(tag.target().0, 0x1fff_0000_0000_0048);
        assert!(in_range(Vaddr(0x7ff_ffff_ffff)) && in_range(Vaddr(0xffff_f800_0000_0000)));
        assert!(!in_range(Vaddr(0x800_0000_0000)));
    }
}

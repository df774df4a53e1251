//! Page sizes, TSB configurations and real ranges (reference sparc64-mmu §1.6).

use racewalk_ram::{Paddr, Vaddr};

/// log2 of the smallest page, size 0.
pub const BASE_SHIFT: u8 = 13;

/// log2 of the bytes of a page of size 0 to 7.
#[inline]
pub const fn page_shift(size: u8) -> u8 {
    BASE_SHIFT + 3 * size
}

/// No processor has fewer bits of a virtual address.
pub const VA_BITS_MIN: u8 = 44;
/// No processor has fewer bits of a physical address.
pub const PA_BITS_MIN: u8 = 40;

/// What sets one processor apart from another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Model {
    /// Which page sizes there are: bit n for size n.
    pub page_sizes: u8,
    /// Bits of a virtual address, 44 to 64; those above repeat the topmost.
    pub va_bits: u8,
    /// Bits of a real or physical address, 40 to 56.
    pub pa_bits: u8,
}

impl Model {
    /// UltraSPARC T2: 8K, 64K, 4M and 256M (the OpenSPARC T2 sources).
    pub const T2: Model = Model { page_sizes: 0b0010_1011, va_bits: 48, pa_bits: 40 };
    /// Everything that a TTE can say: 8K to 16G, real addresses of 56 bits; virtual addresses as Linux lays them out for
    /// the processors after T3.
    pub const ALL: Model = Model { page_sizes: 0xff, va_bits: 53, pa_bits: 56 };

    /// Whether the bits above `va_bits` repeat the topmost.
    #[inline]
    pub fn in_range(&self, va: Vaddr) -> bool {
        // The answer for nearly all addresses takes no variable shift.
        va.0 >> (VA_BITS_MIN - 1) == 0 || {
            let above = 64 - self.va_bits as u32;
            ((va.0 << above) as i64) >> above == va.0 as i64
        }
    }
    /// An address without the bits that the processor does not have.
    #[inline]
    pub fn truncate(&self, pa: u64) -> u64 {
        if pa >> PA_BITS_MIN == 0 { pa } else { pa & ((1 << self.pa_bits) - 1) }
    }
    /// Whether pages of this size exist.
    #[inline]
    pub fn has(&self, size: u8) -> bool {
        size < 8 && self.page_sizes >> size & 1 != 0
    }
}

impl Default for Model {
    fn default() -> Self {
        Model::ALL
    }
}

/// A TSB configuration register (ASI 0x54).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Config(pub u64);

impl Config {
    /// Bit 63: the TSB is walked.
    pub const ENABLE: u64 = 1 << 63;
    /// Bit 62: its tags' contexts do not count; translations are of context register 0.
    pub const USE_CONTEXT_0: u64 = 1 << 62;
    /// Bit 61: its tags' contexts do not count; translations are of context register 1.
    pub const USE_CONTEXT_1: u64 = 1 << 61;
    /// Bits 39-13: where it is.
    pub const BASE: u64 = (1 << 40) - (1 << 13);
    /// Bit 8: its TTEs have real addresses.
    pub const RA_NOT_PA: u64 = 1 << 8;
    /// Bits 6-4: the smallest page size in it, by which it is indexed.
    pub const PAGE_SIZE: u64 = 0x7 << 4;
    /// Bits 3-0: it has 512 << n entries.
    pub const SIZE: u64 = 0xf;

    /// An enabled TSB of 512 << `size` entries at `base`, for pages of `page_size` and larger.
    pub fn new(base: Paddr, page_size: u8, size: u8) -> Config {
        debug_assert_eq!(base.0 & !Self::BASE, 0);
        Config(Self::ENABLE | base.0 | (page_size as u64 & 7) << 4 | size as u64 & Self::SIZE)
    }
    /// Whether it is walked.
    #[inline]
    pub fn enabled(self) -> bool {
        self.0 & Self::ENABLE != 0
    }
    /// The smallest page size in it.
    #[inline]
    pub fn page_size(self) -> u8 {
        ((self.0 & Self::PAGE_SIZE) >> 4) as u8
    }
    /// log2 of its entries.
    #[inline]
    pub fn index_bits(self) -> u8 {
        9 + (self.0 & Self::SIZE) as u8
    }
    /// Where the entry for `va` is: bits of the page number replace bits of the base, they are not added.
    #[inline]
    pub fn pointer(self, va: Vaddr) -> Paddr {
        const VA: u64 = (1 << 48) - 1;
        let offsets = (16u64 << self.index_bits()) - 1;
        let number = (va.0 & VA) >> page_shift(self.page_size());
        Paddr(self.0 & Self::BASE & !offsets | number << 4 & offsets)
    }
}

/// A real-range register and its physical offset (ASI 0x52).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct RealRange {
    /// Bit 63 enables it; bits 53-27 have RA[39:13] of the last page, bits 26-0 of the first.
    pub range: u64,
    /// Bits 39-13 are added.
    pub offset: u64,
}

impl RealRange {
    /// Bit 63 of the range register.
    pub const ENABLE: u64 = 1 << 63;
    const NUMBER: u64 = (1 << 27) - 1;

    /// An enabled range of the pages `first..=last`, real addresses, which lie `offset` higher in physical memory.
    pub fn new(first: u64, last: u64, offset: u64) -> RealRange {
        let number = |ra: u64| ra >> 13 & Self::NUMBER;
        RealRange { range: Self::ENABLE | number(last) << 27 | number(first), offset }
    }
    /// The physical address of a page at `ra`, if the range has it.
    #[inline]
    pub fn physical(&self, ra: u64) -> Option<u64> {
        let number = ra >> 13;
        let (first, last) = (self.range & Self::NUMBER, self.range >> 27 & Self::NUMBER);
        let inside = self.range & Self::ENABLE != 0 && first <= number && number <= last;
        inside.then(|| ra.wrapping_add(self.offset & Config::BASE) & ((1 << 40) - 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pointers_replace_base_bits() {
        let va = Vaddr(0x0000_7654_3210_6000);
        // 512 entries of 8K pages: the index is VA[21:13].
        assert_eq!(
            Config::new(Paddr(0x10_2000), 0, 0).pointer(va),
            Paddr(0x10_2000 | (0x3210_6000 >> 13 & 0x1ff) << 4)
        );
        // The base's bits below the table's size are ignored.
        assert_eq!(Config::new(Paddr(0x10_2000), 0, 1).pointer(Vaddr(0)), Paddr(0x10_0000));
        // 4M pages, the largest table: 24 bits of index.
        assert_eq!(Config::new(Paddr(0), 3, 15).pointer(va), Paddr((va.0 >> 22 & 0xff_ffff) << 4));
        // 256M pages have but 20 bits of page number.
        assert_eq!(Config::new(Paddr(0), 5, 15).pointer(Vaddr(u64::MAX)), Paddr(0xf_ffff << 4));
    }

    #[test]
    fn ranges_and_the_hole() {
        let r = RealRange::new(0x40_0000, 0x7f_e000, 0x1_0000_0000);
        assert_eq!(r.physical(0x40_0000), Some(0x1_0040_0000));
        assert_eq!(r.physical(0x7f_e000), Some(0x1_007f_e000));
        assert_eq!((r.physical(0x3f_e000), r.physical(0x80_0000)), (None, None));
        assert_eq!(RealRange { range: r.range & !RealRange::ENABLE, ..r }.physical(0x40_0000), None);
        assert!(
            Model::T2.in_range(Vaddr(0x7fff_ffff_ffff)) && Model::T2.in_range(Vaddr(0xffff_8000_0000_0000))
        );
        assert!(!Model::T2.in_range(Vaddr(0x8000_0000_0000)) && !Model::T2.in_range(Vaddr(1 << 63)));
    }
}

//! Registers and entries of radix translation (ISA 3.0B Book III 6.7.6 to 6.7.10; reference ppc64-mmu §1.2). Bit 0 is the
//! most significant one, as in the manual.

use racewalk_ram::Paddr;

/// Bytes of a partition-table or process-table entry.
pub const ENTRY_16: u64 = 16;

/// What designates a table of 2^(12 + size) bytes: PTCR, and the second doubleword of a partition-table entry.
const BASE: u64 = 0x0fff_ffff_ffff_f000;
const SIZE: u64 = 0x1f;

/// Partition table control register.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Ptcr(pub u64);

impl Ptcr {
    /// PATB: base of the partition table.
    pub const PATB: u64 = BASE;
    /// PATS: the table has 2^(12 + PATS) bytes.
    pub const PATS: u64 = SIZE;

    /// Base of the partition table.
    pub fn base(self) -> Paddr {
        Paddr(self.0 & Self::PATB)
    }
    /// Its size in bytes.
    pub fn bytes(self) -> u64 {
        1 << (12 + (self.0 & Self::PATS))
    }
}

/// A partition-table entry, both doublewords.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PartitionEntry(pub u64, pub u64);

impl PartitionEntry {
    /// HR (bit 0 of the first doubleword): the partition uses radix trees.
    pub const HR: u64 = 1 << 63;
    /// PRTB: base of the process table, translated by the tree of the first doubleword.
    pub const PRTB: u64 = BASE;
    /// PRTS: the table has 2^(12 + PRTS) bytes.
    pub const PRTS: u64 = SIZE;

    /// Whether the partition uses radix trees.
    pub fn radix(self) -> bool {
        self.0 & Self::HR != 0
    }
    /// The partition-scoped tree.
    pub fn root(self) -> Root {
        Root(self.0)
    }
    /// Base and bytes of the process table.
    pub fn process_table(self) -> (u64, u64) {
        (self.1 & Self::PRTB, 1 << (12 + (self.1 & Self::PRTS)))
    }
}

/// What designates the root of a tree: the first doubleword of a process-table or partition-table entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Root(pub u64);

impl Root {
    /// RTS (bits 1-2 and 56-58): the tree translates RTS + 31 bits.
    pub const RTS: u64 = 0x6000_0000_0000_0000 | 0xe0;
    /// RPDB: base of the root page directory.
    pub const RPDB: u64 = Entry::NLB;
    /// RPDS: the root page directory has 2^RPDS entries.
    pub const RPDS: u64 = Entry::NLS;

    /// The root of a tree of `bits` bits whose directory at `base` has 2^`entries` entries.
    pub fn new(base: u64, bits: u64, entries: u64) -> Root {
        let rts = bits - 31;
        Root((rts >> 3) << 61 | (rts & 7) << 5 | (base & Self::RPDB) | (entries & Self::RPDS))
    }
    /// Bits of an address that the tree translates.
    #[inline]
    pub fn bits(self) -> u32 {
        ((self.0 >> 61 & 3) << 3 | (self.0 >> 5 & 7)) as u32 + 31
    }
    /// The root page directory, which is designated as those below it are.
    #[inline]
    pub fn directory(self) -> Entry {
        Entry(self.0)
    }
}

/// An entry of a tree: a page-directory entry, or the page-table entry that maps a page.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Entry(pub u64);

impl Entry {
    /// V (bit 0): valid.
    pub const V: u64 = 1 << 63;
    /// L (bit 1): leaf, a page-table entry.
    pub const L: u64 = 1 << 62;
    /// NLB of a directory entry: base of the next table.
    pub const NLB: u64 = 0x0fff_ffff_ffff_ff00;
    /// NLS of a directory entry: the next table has 2^NLS entries.
    pub const NLS: u64 = 0x1f;
    /// RPN of a leaf: the page's address.
    pub const RPN: u64 = 0x01ff_ffff_ffff_f000;
    /// Bits of a leaf that are free for software.
    pub const SOFTWARE: u64 = 0x2000_0000_0000_0e00;
    /// R (bit 55): referenced.
    pub const R: u64 = 0x100;
    /// C (bit 56): changed.
    pub const C: u64 = 0x80;
    /// ATT (bits 58-59): storage attributes.
    pub const ATT: u64 = 0x30;
    /// ATT of non-idempotent I/O: guarded, no fetches.
    pub const ATT_NON_IDEMPOTENT: u64 = 0x20;
    /// EAA bit 60: privileged.
    pub const PRIVILEGED: u64 = 8;
    /// EAA bit 61: loads.
    pub const READ: u64 = 4;
    /// EAA bit 62: loads and stores.
    pub const WRITE: u64 = 2;
    /// EAA bit 63: fetches.
    pub const EXECUTE: u64 = 1;

    /// A directory entry for the table of 2^`entries` entries at `base`.
    pub fn directory(base: u64, entries: u64) -> Entry {
        Entry(Self::V | (base & Self::NLB) | (entries & Self::NLS))
    }
    /// A leaf for the page at `page` with `bits` of R, C, ATT and EAA.
    pub fn leaf(page: u64, bits: u64) -> Entry {
        Entry(Self::V | Self::L | (page & Self::RPN) | (bits & 0x1ff))
    }
    /// Whether it is valid.
    #[inline]
    pub fn valid(self) -> bool {
        self.0 & Self::V != 0
    }
    /// Whether it maps a page.
    #[inline]
    pub fn is_leaf(self) -> bool {
        self.0 & Self::L != 0
    }
    /// log2 of the entries of the table that it designates.
    #[inline]
    pub fn next_bits(self) -> u32 {
        (self.0 & Self::NLS) as u32
    }
    /// Where the entry for `index` is in the table, of 2^`bits` entries, that this one designates. A table is aligned to its
    /// size; lower bits of its base do not count.
    #[inline]
    pub fn slot(self, bits: u32, index: u64) -> u64 {
        (self.0 & Self::NLB & !((8 << bits) - 1)) + index * 8
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_of_52_bits() {
        let r = Root::new(0x1_0000, 52, 13);
        // RTS = 21: binary 10 in bits 1-2, 101 in bits 56-58.
        assert_eq!(r.0, 0x4000_0000_0001_00ad);
        assert_eq!((r.bits(), r.directory().next_bits(), r.directory().slot(13, 2)), (52, 13, 0x1_0010));
        assert_eq!(Root(Root::RTS).bits(), 62);
    }

    #[test]
    fn tables_of_tables() {
        assert_eq!(Ptcr(0xf000_0000_0001_0004), Ptcr(0xf000_0000_0001_0004));
        assert_eq!((Ptcr(0xf000_0000_0001_0004).base(), Ptcr(4).bytes()), (Paddr(0x1_0000), 0x1_0000));
        assert_eq!(PartitionEntry(0, 0x2_0000).process_table(), (0x2_0000, 0x1000));
    }
}

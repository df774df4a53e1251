//! The TTE, the MMU's tag registers, and Linux's page-table entries, which are TTEs too (reference sparc64-mmu §1.1, §1.2,
//! §7.1).

use super::geometry::{PA_BITS, page_shift};
use crate::sparc64::context::{CONTEXT, Leaf};
use racewalk_ram::{Paddr, Vaddr};

/// Translation table entry: the data half of a TSB entry, what Data In takes, and Linux's PTE.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tte(pub u64);

impl Tte {
    /// V: valid.
    pub const V: u64 = 1 << 63;
    /// Page size, low two bits: 8K, 64K, 512K, 4M.
    pub const SIZE: u64 = 0x3 << 61;
    /// NFO: for no-fault loads only.
    pub const NFO: u64 = 1 << 60;
    /// IE: invert endianness.
    pub const IE: u64 = 1 << 59;
    /// soft2: free for software.
    pub const SOFT2: u64 = 0x1ff << 50;
    /// Page size, high bit (UltraSPARC-IV+): 32M, 256M.
    pub const SIZE_2: u64 = 1 << 48;
    /// Physical address (UltraSPARC-III: 43 bits).
    pub const PA: u64 = (1 << PA_BITS) - (1 << 13);
    /// soft: free for software.
    pub const SOFT: u64 = 0x3f << 7;
    /// L: locked.
    pub const L: u64 = 1 << 6;
    /// CP: cacheable in physically indexed caches.
    pub const CP: u64 = 1 << 5;
    /// CV: cacheable in virtually indexed caches.
    pub const CV: u64 = 1 << 4;
    /// E: side effect.
    pub const E: u64 = 1 << 3;
    /// P: privileged.
    pub const P: u64 = 1 << 2;
    /// W: writable.
    pub const W: u64 = 1 << 1;
    /// G: the context does not count.
    pub const G: u64 = 1;

    /// Linux: a PMD that maps 8M itself.
    pub const LINUX_HUGE: u64 = 1 << 56;
    /// Linux: executable. The hardware has no such bit; the miss handler asks.
    pub const LINUX_EXEC: u64 = 1 << 12;

    /// V.
    pub fn valid(self) -> bool {
        self.0 & Self::V != 0
    }
    /// The page size, 0 for 8K to 5 for 256M; `None` for the two values that mean nothing.
    #[inline]
    pub fn size(self) -> Option<u8> {
        let size = (self.0 >> 61 & 3) as u8 | ((self.0 & Self::SIZE_2) >> 46) as u8;
        (size <= 5).then_some(size)
    }
    /// log2 of the page's bytes; a size that means nothing is taken for 8K.
    #[inline]
    pub fn shift(self) -> u8 {
        page_shift(self.size().unwrap_or(0))
    }
    /// What accesses are checked against.
    #[inline]
    pub fn leaf(self) -> Leaf {
        let one = |bit: u64, to: u8| if self.0 & bit != 0 { to } else { 0 };
        // The instruction TLB asks for no permission.
        Leaf(
            Leaf::EP
                | one(Self::W, Leaf::W)
                | one(Self::P, Leaf::P)
                | one(Self::CV, Leaf::CV)
                | one(Self::CP, Leaf::CP)
                | one(Self::E, Leaf::E)
                | one(Self::IE, Leaf::IE)
                | one(Self::NFO, Leaf::NFO),
        )
    }
}

/// The Tag Access register: VA[63:13] and the context of the last fault; Data In gives them to the entry it makes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct TagAccess(pub u64);

impl TagAccess {
    /// For an address in a context.
    pub fn new(va: Vaddr, context: u16) -> TagAccess {
        TagAccess(va.0 & !0x1fff | (context & CONTEXT) as u64)
    }
    /// The page.
    pub fn page(self) -> Vaddr {
        Vaddr(self.0 & !0x1fff)
    }
    /// The context.
    pub fn context(self) -> u16 {
        self.0 as u16 & CONTEXT
    }
    /// The Tag Target register: the same, shifted to compare with a TSB tag.
    pub fn target(self) -> TagTarget {
        TagTarget(self.0 >> 22 | (self.context() as u64) << 48)
    }
}

/// The Tag Target register, and the tag half of a TSB entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct TagTarget(pub u64);

impl TagTarget {
    /// VA[63:22].
    pub const VA: u64 = (1 << 42) - 1;
    /// The context.
    pub const CONTEXT: u64 = (CONTEXT as u64) << 48;
    /// G, in a TSB tag.
    pub const G: u64 = 1 << 63;
    /// Linux: somebody is writing the entry.
    pub const LINUX_LOCK: u64 = 1 << 47;
    /// Linux: the entry is invalid.
    pub const LINUX_INVALID: u64 = 1 << 46;

    /// The tag that Linux looks for in a process's TSB: without the context, since the TSB is the process's own.
    pub fn without_context(self) -> TagTarget {
        TagTarget(self.0 & Self::VA)
    }
}

/// An entry of Linux's PGD, PUD or PMD: the physical address of the next table; zero if there is none.
pub fn table(entry: u64) -> Option<Paddr> {
    (entry != 0).then_some(Paddr(entry))
}

//! Page-table entries of Linux on sun4u, which are TTEs (reference sparc64-mmu §1.1): V is set once the page is young and
//! readable, W once it is writable and dirty, since the hardware sets no bits itself.

use crate::arch::{PteFormat, Soft};
use crate::vma::Prot;
use racewalk_ram::{Paddr, Pfn};
use racewalk_walk::sparc64::sun4u::entry::Tte;

/// `_PAGE_PRESENT_4U`.
const PRESENT: u64 = 1 << 7;
/// `_PAGE_WRITE_4U`: may be written to.
const WRITE: u64 = 1 << 8;
/// `_PAGE_READ_4U`.
const READ: u64 = 1 << 9;
/// `_PAGE_ACCESSED_4U`.
const ACCESSED: u64 = 1 << 10;
/// `_PAGE_MODIFIED_4U`.
const MODIFIED: u64 = 1 << 11;
/// `_PAGE_SPECIAL_4U`: maps a frame that is not counted.
const SPECIAL: u64 = 1 << 57;

/// A page-table entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pte(u64);

impl Pte {
    fn prot_bits(prot: Prot, shared: bool) -> u64 {
        let mut b = PRESENT | Tte::CP | Tte::CV;
        if prot != Prot::NONE {
            b |= READ;
        }
        if shared && prot.contains(Prot::WRITE) {
            b |= WRITE;
        }
        if prot.contains(Prot::EXEC) {
            b |= Tte::LINUX_EXEC;
        }
        b
    }
    /// With the hardware's bits as the software's say.
    fn sync(self) -> Pte {
        let has = |bits| self.0 & bits == bits;
        let mut b = self.0 & !(Tte::V | Tte::W);
        if has(ACCESSED | READ) {
            b |= Tte::V;
        }
        if has(MODIFIED | WRITE) {
            b |= Tte::W;
        }
        Pte(b)
    }
}

impl PteFormat for Pte {
    const EMPTY: Pte = Pte(0);

    fn from_raw(raw: u64) -> Pte {
        Pte(raw)
    }
    fn raw(self) -> u64 {
        self.0
    }
    fn new(frame: Pfn, prot: Prot, shared: bool) -> Pte {
        Pte(frame.paddr().0 & Tte::PA | Self::prot_bits(prot, shared)).sync()
    }
    fn with(self, bits: Soft) -> Pte {
        let mut b = self.0;
        for (soft, bit) in
            [(Soft::YOUNG, ACCESSED), (Soft::DIRTY, MODIFIED), (Soft::WRITE, WRITE), (Soft::SPECIAL, SPECIAL)]
        {
            if bits.contains(soft) {
                b |= bit;
            }
        }
        Pte(b).sync()
    }
    fn modify(self, prot: Prot, shared: bool) -> Pte {
        let keep = Tte::PA | ACCESSED | MODIFIED | SPECIAL;
        Pte(self.0 & keep | Self::prot_bits(prot, shared)).sync()
    }
    fn present(self) -> bool {
        self.0 & PRESENT != 0
    }
    fn valid(self) -> bool {
        Tte(self.0).valid()
    }
    fn writable(self) -> bool {
        self.0 & WRITE != 0
    }
    fn stores(self) -> bool {
        self.valid() && self.0 & Tte::W != 0
    }
    fn special(self) -> bool {
        self.0 & SPECIAL != 0
    }
    fn frame(self) -> Pfn {
        Paddr(self.0 & Tte::PA).pfn()
    }
}

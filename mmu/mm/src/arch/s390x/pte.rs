//! Page-table entries as Linux on s390x keeps them. IEP follows from the mapping; I and P follow from the software
//! bits: I is clear when the entry is readable and young, P is clear when it is writable and dirty.

use crate::arch::{PteFormat, Soft};
use crate::vma::Prot;
use racewalk_ram::{Paddr, Pfn};
use racewalk_walk::s390x::entry::FrameBits;
use racewalk_walk::s390x::{Pte as Hard, Ste};

const PRESENT: u64 = 0x01;
const YOUNG: u64 = 0x04;
const DIRTY: u64 = 0x08;
const READ: u64 = 0x10;
const WRITE: u64 = 0x20;
const SPECIAL: u64 = 0x40;

/// A page-table entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pte(u64);

impl Pte {
    fn prot_bits(prot: Prot, shared: bool) -> u64 {
        let mut b = 0;
        if prot != Prot::NONE {
            b |= READ;
        }
        if shared && prot.contains(Prot::WRITE) {
            b |= WRITE;
        }
        if !prot.contains(Prot::EXEC) {
            b |= Hard::IEP;
        }
        b
    }
    /// The segment-table entry, with format control, of a block that this entry maps the first page of.
    pub(super) fn segment(self) -> u64 {
        self.0 & (Ste::SFAA | FrameBits::IEP | Ste::P) | Ste::FC
    }
    /// The entry for the first page of such a block, which is young, and dirty where it can be written to.
    pub(super) fn from_segment(entry: u64) -> Pte {
        let writes = if entry & Ste::P == 0 { WRITE | DIRTY } else { 0 };
        Pte(entry & (Ste::SFAA | FrameBits::IEP) | PRESENT | READ | YOUNG | writes).sync()
    }
    fn sync(self) -> Pte {
        let mut b = self.0 | Hard::I | Hard::P;
        if b & READ != 0 && b & YOUNG != 0 {
            b &= !Hard::I;
        }
        if b & WRITE != 0 && b & DIRTY != 0 {
            b &= !Hard::P;
        }
        Pte(b)
    }
}

impl PteFormat for Pte {
    const EMPTY: Pte = Pte(Hard::EMPTY.0);

    fn from_raw(raw: u64) -> Pte {
        Pte(raw)
    }
    fn raw(self) -> u64 {
        self.0
    }
    fn new(frame: Pfn, prot: Prot, shared: bool) -> Pte {
        Pte(frame.paddr().0 | PRESENT | Self::prot_bits(prot, shared)).sync()
    }
    fn with(self, bits: Soft) -> Pte {
        let mut b = self.0;
        for (soft, bit) in
            [(Soft::YOUNG, YOUNG), (Soft::DIRTY, DIRTY), (Soft::WRITE, WRITE), (Soft::SPECIAL, SPECIAL)]
        {
            if bits.contains(soft) {
                b |= bit;
            }
        }
        Pte(b).sync()
    }
    fn modify(self, prot: Prot, shared: bool) -> Pte {
        let keep = Hard::PFRA | PRESENT | YOUNG | DIRTY | SPECIAL;
        Pte(self.0 & keep | Self::prot_bits(prot, shared)).sync()
    }
    fn present(self) -> bool {
        self.0 & PRESENT != 0
    }
    fn valid(self) -> bool {
        !Hard(self.0).invalid()
    }
    fn writable(self) -> bool {
        self.0 & WRITE != 0
    }
    fn stores(self) -> bool {
        !Hard(self.0).protected()
    }
    fn special(self) -> bool {
        self.0 & SPECIAL != 0
    }
    fn frame(self) -> Pfn {
        Paddr(Hard(self.0).frame()).pfn()
    }
}

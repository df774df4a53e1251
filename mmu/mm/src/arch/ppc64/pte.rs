//! Page-table entries of radix trees as Linux keeps them: R is young, C is dirty, and a page can be written to when both
//! write permission and C are there, since POWER9 leaves setting R and C to software.

use crate::arch::{PteFormat, Soft};
use crate::vma::Prot;
use racewalk_ram::{Paddr, Pfn};
use racewalk_walk::ppc64::radix::entry::Entry;

/// A software bit: maps a frame that is not counted.
const SPECIAL: u64 = 0x400;

/// A page-table entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pte(u64);

impl Pte {
    fn prot_bits(prot: Prot, shared: bool) -> u64 {
        let mut b = 0;
        if prot != Prot::NONE {
            b |= Entry::READ;
        }
        if shared && prot.contains(Prot::WRITE) {
            b |= Entry::WRITE;
        }
        if prot.contains(Prot::EXEC) {
            b |= Entry::EXECUTE;
        }
        b
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
        Pte(Entry::leaf(frame.paddr().0, Self::prot_bits(prot, shared)).0)
    }
    fn with(self, bits: Soft) -> Pte {
        let mut b = self.0;
        for (soft, bit) in [
            (Soft::YOUNG, Entry::R),
            (Soft::DIRTY, Entry::C),
            (Soft::WRITE, Entry::WRITE),
            (Soft::SPECIAL, SPECIAL),
        ] {
            if bits.contains(soft) {
                b |= bit;
            }
        }
        Pte(b)
    }
    fn modify(self, prot: Prot, shared: bool) -> Pte {
        let keep = Entry::V | Entry::L | Entry::RPN | Entry::R | Entry::C | SPECIAL;
        Pte(self.0 & keep | Self::prot_bits(prot, shared))
    }
    fn present(self) -> bool {
        Entry(self.0).valid()
    }
    fn valid(self) -> bool {
        Entry(self.0).valid() && self.0 & Entry::R != 0
    }
    fn writable(self) -> bool {
        self.0 & Entry::WRITE != 0
    }
    fn stores(self) -> bool {
        self.0 & Entry::WRITE != 0 && self.0 & Entry::C != 0
    }
    fn special(self) -> bool {
        self.0 & SPECIAL != 0
    }
    fn frame(self) -> Pfn {
        Paddr(self.0 & Entry::RPN).pfn()
    }
}

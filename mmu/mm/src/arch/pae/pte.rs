//! Page-table entries of x86 with PAE, as numbers: in memory they are little-endian. A page can be written to once it is
//! dirty, so that the mm sees every first store.

use super::{from_entry, in_entry};
use crate::arch::{PteFormat, Soft};
use crate::vma::Prot;
use racewalk_ram::Pfn;
use racewalk_walk::pae::entry::{A, D, P, RW, US, XD};

/// Software: maps a frame that is not counted.
const SPECIAL: u64 = 1 << 9;
/// Software: maps a frame, though the hardware may not.
const PRESENT: u64 = 1 << 10;
/// Software: may be written to.
const WRITE: u64 = 1 << 11;

/// A page-table entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pte(u64);

impl Pte {
    fn prot_bits(prot: Prot, shared: bool) -> u64 {
        let mut b = PRESENT | US;
        if prot != Prot::NONE {
            b |= P;
        }
        if shared && prot.contains(Prot::WRITE) {
            b |= WRITE;
        }
        if !prot.contains(Prot::EXEC) {
            b |= XD;
        }
        b
    }
    /// With R/W as the software's bits say.
    fn sync(self) -> Pte {
        let stores = self.0 & (WRITE | D) == WRITE | D;
        Pte(self.0 & !RW | if stores { RW } else { 0 })
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
        Pte(in_entry(frame.paddr()) | Self::prot_bits(prot, shared)).sync()
    }
    fn with(self, bits: Soft) -> Pte {
        let mut b = self.0;
        for (soft, bit) in
            [(Soft::YOUNG, A), (Soft::DIRTY, D), (Soft::WRITE, WRITE), (Soft::SPECIAL, SPECIAL)]
        {
            if bits.contains(soft) {
                b |= bit;
            }
        }
        Pte(b).sync()
    }
    fn modify(self, prot: Prot, shared: bool) -> Pte {
        let keep = in_entry(self.frame().paddr()) | self.0 & (A | D | SPECIAL);
        Pte(keep | Self::prot_bits(prot, shared)).sync()
    }
    fn present(self) -> bool {
        self.0 & PRESENT != 0
    }
    fn valid(self) -> bool {
        self.0 & P != 0
    }
    fn writable(self) -> bool {
        self.0 & WRITE != 0
    }
    fn stores(self) -> bool {
        self.0 & (P | RW) == P | RW
    }
    fn special(self) -> bool {
        self.0 & SPECIAL != 0
    }
    fn frame(self) -> Pfn {
        from_entry(self.0).pfn()
    }
}

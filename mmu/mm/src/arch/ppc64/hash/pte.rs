//! Page-table entries of Linux under a hashed page table: those of radix trees, and beside them what software knows of the
//! entry's HPTE, which nothing but this architecture's own code sees.

use crate::arch::ppc64::pte::Pte as Common;
use crate::arch::{PteFormat, Soft};
use crate::vma::Prot;
use racewalk_ram::Pfn;

/// `H_PAGE_BUSY`: somebody is hashing the entry, and nobody else changes it.
pub(super) const BUSY: u64 = 1 << 60;
/// `H_PAGE_HASHPTE`: there is, or was, an HPTE of it.
pub(super) const HASHED: u64 = 1 << 56;
/// With pages of 4K: the slot of the HPTE, `H_PAGE_F_SECOND` and `H_PAGE_F_GIX`.
pub(super) const SLOT: u64 = 0xf << SLOT_SHIFT;
/// Where the slot is.
pub(super) const SLOT_SHIFT: u32 = 52;

/// A page-table entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pte(Common);

impl PteFormat for Pte {
    const EMPTY: Pte = Pte(Common::EMPTY);

    fn from_raw(raw: u64) -> Pte {
        Pte(Common::from_raw(raw & !(BUSY | HASHED | SLOT)))
    }
    fn raw(self) -> u64 {
        self.0.raw()
    }
    fn new(frame: Pfn, prot: Prot, shared: bool) -> Pte {
        Pte(Common::new(frame, prot, shared))
    }
    fn with(self, bits: Soft) -> Pte {
        Pte(self.0.with(bits))
    }
    fn modify(self, prot: Prot, shared: bool) -> Pte {
        Pte(self.0.modify(prot, shared))
    }
    fn present(self) -> bool {
        self.0.present()
    }
    fn valid(self) -> bool {
        self.0.valid()
    }
    fn writable(self) -> bool {
        self.0.writable()
    }
    fn stores(self) -> bool {
        self.0.stores()
    }
    fn special(self) -> bool {
        self.0.special()
    }
    fn frame(self) -> Pfn {
        self.0.frame()
    }
}

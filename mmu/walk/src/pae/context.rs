//! The registers that steer a translation.

use super::entry::Pdpte;
use super::fault::{Fault, Reason};
use super::geometry::{PDPT_ENTRIES, linear};
use super::walk::Leaf;
use crate::Access;
use crate::tlb::Key;
use racewalk_ram::{Asid, Paddr, Vaddr};

/// How the two words of an entry are read.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash)]
pub enum Order {
    /// The low word, which has P, then the high word.
    #[default]
    LowFirst,
    /// The high word, then the low word.
    HighFirst,
    /// Both by one access, as processors do.
    Whole,
}

/// Where on the bus the lab's memory lies.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash)]
pub enum Layout {
    /// From address 0 on.
    #[default]
    Flat,
    /// Even frames from address 0 on, and each odd frame 4 GiB above the even one before it: the high words of entries
    /// differ though there is little memory, of which 8 GiB fit.
    Interleaved,
}

impl Layout {
    /// The bus address of a byte of memory, as entries have it.
    #[inline]
    pub const fn bus(self, memory: Paddr) -> Paddr {
        match self {
            Layout::Flat => memory,
            Layout::Interleaved => {
                let (frame, inside) = (memory.0 >> 12, memory.0 & 0xfff);
                Paddr((frame & 1) << 32 | frame >> 1 << 12 | inside)
            }
        }
    }
    /// Where in memory the byte at a bus address is. Of bits above the 33rd nothing is left out.
    #[inline]
    pub const fn memory(self, bus: Paddr) -> Paddr {
        match self {
            Layout::Flat => bus,
            Layout::Interleaved => {
                let (high, low) = (bus.0 >> 33, bus.0 & 0xffff_ffff);
                Paddr(high << 33 | (low >> 12 << 1 | bus.0 >> 32 & 1) << 12 | low & 0xfff)
            }
        }
    }
}

/// The registers of one CPU that steer translation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Context {
    /// CR0.WP: read-only pages are so for the supervisor too.
    pub write_protect: bool,
    /// CR4.PGE: G means something.
    pub global_pages: bool,
    /// EFER.NXE: XD means something.
    pub no_execute: bool,
    /// CPL = 3.
    pub user: bool,
    /// MAXPHYADDR, 32 to 52.
    pub maxphyaddr: u8,
    /// The PDPTE registers, as the last load of CR3 left them.
    pub pdptes: [Pdpte; PDPT_ENTRIES],
    /// How entries are read.
    pub order: Order,
    /// Where memory lies.
    pub layout: Layout,
}

impl Default for Context {
    fn default() -> Self {
        Context {
            write_protect: true,
            global_pages: true,
            no_execute: true,
            user: false,
            maxphyaddr: 36,
            pdptes: [Pdpte::default(); PDPT_ENTRIES],
            order: Order::default(),
            layout: Layout::default(),
        }
    }
}

/// What tells address spaces apart in a TLB: nothing does.
pub const SPACE: Asid = Asid(0);

/// What an access may do with a translation that a TLB holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Hit {
    /// Use it.
    Use,
    /// Walk all the same: a store, and D is not known to be set.
    Walk,
}

impl Context {
    /// What a TLB is asked.
    pub fn tlb_key(&self, va: Vaddr) -> Key {
        Key { va: Vaddr(linear(va)), space: SPACE, other: None, globals: true }
    }

    /// Whether an access may use a translation that a TLB holds.
    pub fn check(&self, leaf: &Leaf, va: Vaddr, access: Access) -> Result<Hit, Fault> {
        match self.refusal(leaf, access) {
            Some(reason) => Err(self.fault(va, access, reason)),
            None if access == Access::Store && !leaf.dirty => Ok(Hit::Walk),
            None => Ok(Hit::Use),
        }
    }

    /// What forbids the access (SDM volume 3, "Access Rights").
    #[inline]
    pub(super) fn refusal(&self, leaf: &Leaf, access: Access) -> Option<Reason> {
        match access {
            _ if self.user && !leaf.user => Some(Reason::Supervisor),
            Access::Store if !leaf.writable && (self.user || self.write_protect) => Some(Reason::ReadOnly),
            Access::Fetch if leaf.no_execute && self.no_execute => Some(Reason::NoExecute),
            _ => None,
        }
    }

    #[cold]
    pub(super) fn fault(&self, va: Vaddr, access: Access, reason: Reason) -> Fault {
        let fetch_reported = self.no_execute;
        Fault { vaddr: Vaddr(linear(va)), access, reason, user: self.user, fetch_reported }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Seen to fail with the frame's parity dropped.
    #[test]
    fn odd_frames_lie_above_4_gib() {
        let l = Layout::Interleaved;
        assert_eq!(l.bus(Paddr(0x5123)), Paddr(0x1_0000_2123));
        for at in [0, 0x1fff, 0x5123, 0x12_3456, 0x1_ffff_ffff] {
            assert_eq!(l.memory(l.bus(Paddr(at))), Paddr(at));
        }
        assert_eq!(l.memory(Paddr(2 << 33 | 5)), Paddr(2 << 33 | 5), "outside");
        assert_eq!(Layout::Flat.bus(Paddr(0x5123)), Paddr(0x5123));
    }
}

//! Demap, and the stores that replace TLB entries (UltraSPARC-I User's Manual §6.9.10; UltraSPARC-III adds demap all;
//! reference sparc64-mmu §4). All concern the TLB of the CPU that executes them, on one side; the effect is there after
//! MEMBAR #Sync (data) or FLUSH, DONE or RETRY (instructions). Nothing is promised of other CPUs.

use super::entry::{TagAccess, Tte};
use super::walk::{data_in, space};
use crate::sparc64::context::{Leaf, Space, State};
use crate::tlb::{Entry, Globals, Purge, Spaces};
use racewalk_ram::{Paddr, Vaddr};

/// Which TLB an ASI names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Side {
    /// ASIs 0x54 to 0x57.
    Instruction,
    /// ASIs 0x5c to 0x5f.
    Data,
}

/// STXA to ASI 0x57 or 0x5f. `address` has the page (bits 63-13), the type (7-6) and the context register (5-4); the data
/// stored does not matter. `None` if the operation does nothing.
pub fn demap(state: &State, side: Side, address: u64) -> Option<Purge> {
    let of_register = || {
        let register = match address >> 4 & 3 {
            0 => Space::Primary,
            // The instruction MMU has no secondary context.
            1 if side == Side::Data => Space::Secondary,
            2 => Space::Nucleus,
            _ => return None,
        };
        Some(Spaces::one(space(state.contexts(register)[0])))
    };
    let page = Vaddr(address & !0x1fff);
    match address >> 6 & 3 {
        // A page: the entry whose own page has it, of the context or global, locked or not.
        0 => Some(Purge {
            spaces: of_register()?,
            range: Some((page, page)),
            globals: Globals::Always,
            ..Purge::default()
        }),
        // A context: global entries stay, locked ones go.
        1 => Some(Purge { spaces: of_register()?, globals: Globals::Never, ..Purge::default() }),
        // All entries that are not locked.
        2 => Some(Purge { spare_locked: true, ..Purge::ALL }),
        _ => None,
    }
}

/// A store to Data Access: which entry is replaced, and by what; `None` leaves it empty.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Replacement {
    /// Number of the entry.
    pub index: usize,
    /// Its new content.
    pub entry: Option<Entry<Leaf>>,
}

/// STXA of `tte` to ASI 0x55 or 0x5d: entry `address` bits 8-3 becomes what Tag Access and `tte` say, whatever was there,
/// locked or not.
pub fn data_access(tag: TagAccess, address: u64, tte: u64) -> Replacement {
    Replacement { index: (address >> 3 & 0x3f) as usize, entry: data_in(tag, Tte(tte), Paddr(0)) }
}

/// LDXA from ASI 0x56 or 0x5e: what an entry is found by.
pub fn tag_read(e: &Entry<Leaf>) -> u64 {
    TagAccess::new(e.tag.page, e.tag.space.0 as u16).0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tlb::InfiniteTlb;

    /// In contexts 5 and 6: an 8K page at 0x2000, a global 64K page at 0x10000 (context 5 only), a locked 8K page at 0x4000.
    fn tlb() -> InfiniteTlb<Leaf> {
        let mut t = InfiniteTlb::new();
        for context in [5, 6] {
            for (va, bits) in [(0x2000, 0), (0x4000, Tte::L), (0x1_0000, Tte::G | 1 << 61)] {
                if bits & Tte::G == 0 || context == 5 {
                    t.fill(
                        data_in(TagAccess::new(Vaddr(va), context), Tte(Tte::V | bits), Paddr(0)).unwrap(),
                    );
                }
            }
        }
        assert_eq!(t.len(), 5);
        t
    }

    fn gone(side: Side, address: u64) -> Option<usize> {
        let state = State { primary: [5, 5], secondary: [6, 6], ..State::default() };
        demap(&state, side, address).map(|p| tlb().purge(&p, |_| {}))
    }

    #[test]
    fn demaps_remove_what_they_name() {
        let (i, d) = (Side::Instruction, Side::Data);
        assert_eq!(gone(d, 0x2000), Some(1));
        assert_eq!(gone(d, 0x4010), Some(1), "secondary, locked");
        assert_eq!(gone(d, 0x1_e010), Some(1), "global, whatever the context, by its own size");
        assert_eq!(gone(d, 0x2020), Some(0), "nucleus");
        assert_eq!(gone(d, 0x40), Some(2), "context: not the global one");
        assert_eq!(gone(d, 0x80), Some(3), "all: not the locked ones");
        assert_eq!(gone(d, 0x2030), None);
        assert_eq!(gone(d, 0xc0), None);
        assert_eq!((gone(i, 0x2010), gone(i, 0x2000)), (None, Some(1)));
    }

    #[test]
    fn data_access_names_an_entry() {
        let tag = TagAccess::new(Vaddr(0x1234_5678), 5);
        let r = data_access(tag, 0x1f8, Tte::V | Tte::L | 0x77_0000 | 3 << 61);
        let e = r.entry.unwrap();
        assert_eq!((r.index, e.locked, e.tag.shift, e.frame), (63, true, 22, Paddr(0x40_0000)));
        assert_eq!(tag_read(&e), 0x1200_0005);
        assert_eq!(data_access(tag, 8, 0), Replacement { index: 1, entry: None });
    }
}

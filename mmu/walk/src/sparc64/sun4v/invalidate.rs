//! Demap as a guest asks for it, by hypercall (reference sparc64-mmu §4): each concerns the TLBs of the CPU that makes
//! it, and is complete on return. It promises nothing of other CPUs, and nothing of a tablewalk under way on the same
//! one that fetched its TSB entry before: software invalidates the TSB entry first.

use super::entry::Tte;
use super::geometry::{Model, page_shift};
use super::walk::space;
use crate::sparc64::context::{CONTEXT, Leaf};
use crate::tlb::{Entry, Globals, Purge, Spaces, Tag};
use racewalk_ram::{Paddr, Vaddr};

/// Function numbers of the hypercalls (trap 0x80).
pub mod number {
    /// Demaps a page of a context.
    pub const DEMAP_PAGE: u64 = 0x22;
    /// Demaps a context.
    pub const DEMAP_CONTEXT: u64 = 0x23;
    /// Demaps everything.
    pub const DEMAP_ALL: u64 = 0x24;
    /// Makes a permanent mapping.
    pub const MAP_PERMANENT: u64 = 0x25;
}

/// Flag: the data TLB.
pub const DATA: u64 = 1;
/// Flag: the instruction TLB.
pub const INSTRUCTION: u64 = 2;
/// Permanent mappings that a CPU can have.
pub const PERMANENT: usize = 8;

/// Status of a hypercall that did nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refused {
    /// 2: a real address that the guest does not have.
    NoRealAddress = 2,
    /// 4: a page size that does not exist.
    BadPageSize = 4,
    /// 6: an argument out of range.
    Invalid = 6,
    /// 15: there are eight permanent mappings already.
    TooMany = 15,
}

/// What a hypercall removes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Demap {
    /// What goes.
    pub purge: Purge,
    /// From the data TLB.
    pub data: bool,
    /// From the instruction TLB.
    pub instruction: bool,
}

fn demap(purge: Purge, flags: u64) -> Result<Demap, Refused> {
    match flags {
        1..=3 => Ok(Demap { purge, data: flags & DATA != 0, instruction: flags & INSTRUCTION != 0 }),
        _ => Err(Refused::Invalid),
    }
}

fn spaces(partition: u8, context: u64) -> Result<Spaces, Refused> {
    if context > CONTEXT as u64 {
        return Err(Refused::Invalid);
    }
    Ok(Spaces::one(space(partition, context as u16)))
}

/// All spaces of a partition.
fn all_of(partition: u8) -> Spaces {
    Spaces::Matching { value: space(partition, 0).0, mask: 7 << 13 }
}

/// `mmu_demap_page`: the page of `va` in a context, of whatever size it is; a permanent mapping too.
pub fn demap_page(partition: u8, args: [u64; 5]) -> Result<Demap, Refused> {
    let [zero0, zero1, va, context, flags] = args;
    if zero0 | zero1 != 0 {
        return Err(Refused::Invalid);
    }
    let spaces = spaces(partition, context)?;
    demap(Purge { spaces, range: Some((Vaddr(va), Vaddr(va))), ..Purge::default() }, flags)
}

/// `mmu_demap_ctx`: a context, except permanent mappings.
pub fn demap_context(partition: u8, args: [u64; 4]) -> Result<Demap, Refused> {
    let [zero0, zero1, context, flags] = args;
    if zero0 | zero1 != 0 {
        return Err(Refused::Invalid);
    }
    let spaces = spaces(partition, context)?;
    demap(Purge { spaces, spare_locked: true, ..Purge::default() }, flags)
}

/// `mmu_demap_all`: all of the guest's mappings, except permanent ones.
pub fn demap_all(partition: u8, args: [u64; 3]) -> Result<Demap, Refused> {
    let [zero0, zero1, flags] = args;
    if zero0 | zero1 != 0 {
        return Err(Refused::Invalid);
    }
    let spaces = all_of(partition);
    demap(Purge { spaces, globals: Globals::Always, spare_locked: true, ..Purge::default() }, flags)
}

/// `mmu_map_perm_addr`: the TLB entry of a permanent mapping, in context 0. `physical` says where a real page of the
/// guest is; `held` is how many permanent mappings the CPU has.
pub fn map_permanent(
    partition: u8,
    model: &Model,
    held: usize,
    args: [u64; 4],
    physical: impl Fn(u64) -> Option<u64>,
) -> Result<(Entry<Leaf>, Demap), Refused> {
    let [va, zero, tte, flags] = args;
    let tte = Tte(tte);
    if zero != 0 || tte.0 & Tte::V == 0 || !model.in_range(Vaddr(va)) {
        return Err(Refused::Invalid);
    }
    if !model.has(tte.size()) {
        return Err(Refused::BadPageSize);
    }
    if held >= PERMANENT {
        return Err(Refused::TooMany);
    }
    let shift = page_shift(tte.size());
    let inside = (1u64 << shift) - 1;
    let frame = physical(tte.0 & Tte::RA & !inside).ok_or(Refused::NoRealAddress)?;
    let space = space(partition, 0);
    let tag = Tag { space, global: false, page: Vaddr(va & !inside), shift };
    let e = Entry { tag, frame: Paddr(frame), from: Paddr(0), locked: true, leaf: tte.leaf() };
    // What it replaces.
    let range = Some((tag.page, tag.last()));
    Ok((e, demap(Purge { spaces: Spaces::one(space), range, ..Purge::default() }, flags)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tlb::InfiniteTlb;
    use racewalk_ram::Asid;

    /// Two pages in contexts 0 and 5 of partitions 1 and 2; those of context 0 are permanent.
    fn tlb() -> InfiniteTlb<Leaf> {
        let mut t = InfiniteTlb::new();
        for (partition, context) in [(1, 0), (1, 5), (2, 0), (2, 5)] {
            for page in [0x2000u64, 0x40_0000] {
                let shift = if page == 0x2000 { 13 } else { 22 };
                t.fill(Entry {
                    tag: Tag { space: space(partition, context), global: false, page: Vaddr(page), shift },
                    frame: Paddr(0),
                    from: Paddr(0),
                    locked: context == 0,
                    leaf: Leaf(0),
                });
            }
        }
        t
    }

    fn gone(d: Result<Demap, Refused>) -> usize {
        tlb().purge(&d.unwrap().purge, |_| {})
    }

    #[test]
    fn demaps_remove_what_they_name() {
        assert_eq!(gone(demap_page(1, [0, 0, 0x2fff, 5, 3])), 1);
        assert_eq!(gone(demap_page(1, [0, 0, 0x7f_ffff, 5, 3])), 1, "by the entry's own size");
        assert_eq!(gone(demap_page(1, [0, 0, 0x4000, 5, 3])), 0);
        assert_eq!(gone(demap_page(1, [0, 0, 0x2000, 0, 3])), 1, "permanent mappings too");
        assert_eq!(gone(demap_context(1, [0, 0, 5, 1])), 2);
        assert_eq!(gone(demap_context(1, [0, 0, 0, 1])), 0, "permanent mappings stay");
        assert_eq!(gone(demap_all(2, [0, 0, 2])), 2);
        let d = demap_all(2, [0, 0, INSTRUCTION]).unwrap();
        assert!(d.instruction && !d.data);
        assert_eq!(demap_all(2, [0, 0, 0]), Err(Refused::Invalid));
        assert_eq!(demap_page(1, [0, 0, 0, 0x2000, 3]), Err(Refused::Invalid));
        assert_eq!(demap_context(1, [1, 0, 0, 3]), Err(Refused::Invalid));
    }

    #[test]
    fn permanent_mappings() {
        let map = |held, tte: u64| {
            map_permanent(1, &Model::T2, held, [0x40_1000, 0, tte, 3], |ra| {
                Some(ra + 0x1000_0000).filter(|_| ra != 0)
            })
        };
        let (e, d) = map(0, Tte::V | 0x80_0000 | Tte::W | 3).unwrap();
        assert_eq!((e.frame, e.tag.page, e.tag.shift), (Paddr(0x1080_0000), Vaddr(0x40_0000), 22));
        assert!(e.locked && e.tag.space == Asid(1 << 13) && d.purge.removes(&e));
        assert_eq!(map(8, Tte::V | 0x80_0000), Err(Refused::TooMany));
        assert_eq!(map(0, Tte::V | 2), Err(Refused::BadPageSize));
        assert_eq!(map(0, Tte::V), Err(Refused::NoRealAddress));
        assert_eq!(map(0, 0x80_0000), Err(Refused::Invalid));
    }
}

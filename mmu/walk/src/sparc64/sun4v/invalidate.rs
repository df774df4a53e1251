//! Demap as a guest asks for it, by hypercall (reference sparc64-mmu §4): each concerns the TLBs of the CPU that makes
//! it, and is complete on return. It promises nothing of other CPUs, and nothing of a tablewalk under way on the same
//! one that fetched its TSB entry before: software invalidates the TSB entry first.

use super::geometry::Model;
use super::hypercall::{Refused, Sides};
use super::walk::space;
use crate::sparc64::context::CONTEXT;
use crate::tlb::{Globals, Purge, Spaces};
use racewalk_ram::Vaddr;

/// What a hypercall removes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Demap {
    /// What goes.
    pub purge: Purge,
    /// From which TLBs.
    pub sides: Sides,
}

fn demap(purge: Purge, flags: u64) -> Result<Demap, Refused> {
    Ok(Demap { purge, sides: Sides::from_flags(flags)? })
}

/// Two arguments are reserved for a list of CPUs.
fn no_list(args: [u64; 2]) -> Result<(), Refused> {
    if args == [0; 2] { Ok(()) } else { Err(Refused::NotSupported) }
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
pub fn demap_page(partition: u8, model: &Model, args: [u64; 5]) -> Result<Demap, Refused> {
    let [zero0, zero1, va, context, flags] = args;
    no_list([zero0, zero1])?;
    unmap_addr(partition, model, [va, context, flags])
}

/// `mmu_unmap_addr`: the same by a trap of its own.
pub fn unmap_addr(partition: u8, model: &Model, args: [u64; 3]) -> Result<Demap, Refused> {
    let [va, context, flags] = args;
    if !model.in_range(Vaddr(va)) {
        return Err(Refused::Invalid);
    }
    let spaces = spaces(partition, context)?;
    demap(Purge { spaces, range: Some((Vaddr(va), Vaddr(va))), ..Purge::default() }, flags)
}

/// `mmu_demap_ctx`: a context, except permanent mappings.
pub fn demap_context(partition: u8, args: [u64; 4]) -> Result<Demap, Refused> {
    let [zero0, zero1, context, flags] = args;
    no_list([zero0, zero1])?;
    let spaces = spaces(partition, context)?;
    demap(Purge { spaces, spare_locked: true, ..Purge::default() }, flags)
}

/// `mmu_demap_all`: all of the guest's mappings, except permanent ones.
pub fn demap_all(partition: u8, args: [u64; 3]) -> Result<Demap, Refused> {
    let [zero0, zero1, flags] = args;
    no_list([zero0, zero1])?;
    let spaces = all_of(partition);
    demap(Purge { spaces, globals: Globals::Always, spare_locked: true, ..Purge::default() }, flags)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sparc64::context::Leaf;
    use crate::sparc64::sun4v::hypercall::INSTRUCTION;
    use crate::tlb::{Entry, InfiniteTlb, Tag};
    use racewalk_ram::Paddr;

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
        assert_eq!(gone(demap_page(1, &Model::T2, [0, 0, 0x2fff, 5, 3])), 1);
        assert_eq!(gone(demap_page(1, &Model::T2, [0, 0, 0x7f_ffff, 5, 3])), 1, "by the entry's own size");
        assert_eq!(gone(demap_page(1, &Model::T2, [0, 0, 0x4000, 5, 3])), 0);
        assert_eq!(gone(demap_page(1, &Model::T2, [0, 0, 0x2000, 0, 3])), 1, "permanent mappings too");
        assert_eq!(gone(demap_context(1, [0, 0, 5, 1])), 2);
        assert_eq!(gone(demap_context(1, [0, 0, 0, 1])), 0, "permanent mappings stay");
        assert_eq!(gone(demap_all(2, [0, 0, 2])), 2);
        let d = demap_all(2, [0, 0, INSTRUCTION]).unwrap();
        assert!(d.sides.instruction && !d.sides.data);
        assert_eq!(demap_all(2, [0, 0, 0]), Err(Refused::Invalid));
        assert_eq!(demap_page(1, &Model::T2, [0, 0, 0, 0x2000, 3]), Err(Refused::Invalid));
        assert_eq!(demap_page(1, &Model::T2, [0, 0, 1 << 47, 0, 3]), Err(Refused::Invalid), "in the hole");
        assert_eq!(demap_page(1, &Model::T2, [0, 1, 0, 0, 3]), Err(Refused::NotSupported));
        assert_eq!(demap_context(1, [1, 0, 0, 3]), Err(Refused::NotSupported));
        assert_eq!(demap_context(1, [0, 0, 0x2000, 3]), Err(Refused::Invalid));
        assert_eq!(demap_all(1, [0, 1, 3]), Err(Refused::NotSupported));
        assert_eq!(demap_all(1, [0, 0, 4]), Err(Refused::Invalid));
    }
}

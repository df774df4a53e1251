//! Permanent mappings: translations of context 0 that a guest never takes a miss for. The hypervisor remembers them and
//! enters them again when the TLB has lost them; demaps of a context or of everything do not concern them.

use super::entry::Tte;
use super::geometry::page_shift;
use super::hypercall::{Refused, Sides};
use super::walk::{Context, space};
use crate::Access;
use crate::sparc64::context::Leaf;
use crate::tlb::{Entry, Purge, Spaces, Tag};
use racewalk_ram::{Paddr, Vaddr};

/// Permanent mappings that a CPU can have.
pub const PERMANENT: usize = 8;

/// One mapping.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mapping {
    /// The first address.
    pub page: Vaddr,
    /// What the guest gave, V set.
    pub tte: Tte,
    /// Where the page is in physical memory.
    pub frame: Paddr,
    /// For which accesses.
    pub sides: Sides,
}

impl Mapping {
    /// log2 of the page's size.
    pub fn shift(&self) -> u8 {
        page_shift(self.tte.size())
    }

    /// The TLB entry.
    pub fn entry(&self, partition: u8) -> Entry<Leaf> {
        let tag = Tag { space: space(partition, 0), global: false, page: self.page, shift: self.shift() };
        Entry { tag, frame: self.frame, from: Paddr(0), locked: true, leaf: self.tte.leaf() }
    }

    /// Everything in context 0 that it overlaps.
    pub fn purge(&self, partition: u8) -> Purge {
        let tag = self.entry(partition).tag;
        Purge { spaces: Spaces::one(tag.space), range: Some((tag.page, tag.last())), ..Purge::default() }
    }

    fn serves(&self, va: Vaddr, access: Access) -> bool {
        let side = if access == Access::Fetch { self.sides.instruction } else { self.sides.data };
        side && (va.0 ^ self.page.0) >> self.shift() == 0
    }
}

/// Those of one CPU.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Permanent([Option<Mapping>; PERMANENT]);

impl Permanent {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.iter().flatten().count()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The one that serves an access in context 0.
    pub fn find(&self, va: Vaddr, access: Access) -> Option<&Mapping> {
        self.0.iter().flatten().find(|m| m.serves(va, access))
    }

    fn at(&mut self, page: Vaddr) -> Option<&mut Option<Mapping>> {
        self.0.iter_mut().find(|m| m.is_some_and(|m| m.page == page))
    }

    /// Adds one. The same mapping for the other side joins what is there; any other at its address is refused.
    fn add(&mut self, new: Mapping) -> Result<(), Refused> {
        if let Some(Some(old)) = self.at(new.page) {
            let again = |old: bool, new: bool| old && new;
            if old.tte != new.tte
                || again(old.sides.data, new.sides.data)
                || again(old.sides.instruction, new.sides.instruction)
            {
                return Err(Refused::Invalid);
            }
            old.sides.data |= new.sides.data;
            old.sides.instruction |= new.sides.instruction;
            return Ok(());
        }
        let free = self.0.iter_mut().find(|m| m.is_none()).ok_or(Refused::TooMany)?;
        *free = Some(new);
        Ok(())
    }
}

/// `mmu_map_perm_addr`: remembers a permanent mapping of the CPU in `c`; the mapping, for its TLBs.
pub fn map_permanent(c: &mut Context, args: [u64; 4]) -> Result<Mapping, Refused> {
    let [va, zero, tte, flags] = args;
    let tte = Tte(tte);
    if zero != 0 || !c.model.in_range(Vaddr(va)) || tte.0 & Tte::V == 0 {
        return Err(Refused::Invalid);
    }
    let sides = Sides::from_flags(flags)?;
    let shift = c.page_shift(tte)?;
    if va & ((1 << shift) - 1) != 0 {
        return Err(Refused::Invalid);
    }
    let frame = c.frame(tte, shift)?;
    let m = Mapping { page: Vaddr(va), tte, frame, sides };
    c.permanent.add(m)?;
    Ok(m)
}

/// `mmu_unmap_perm_addr`: forgets a permanent mapping for the sides that the call names. What goes from the TLBs, once no
/// side has it any more.
pub fn unmap_permanent(c: &mut Context, args: [u64; 3]) -> Result<Option<Purge>, Refused> {
    let [va, zero, flags] = args;
    if zero != 0 || !c.model.in_range(Vaddr(va)) {
        return Err(Refused::Invalid);
    }
    let sides = Sides::from_flags(flags)?;
    let partition = c.partition;
    let at = c.permanent.at(Vaddr(va)).ok_or(Refused::NoMapping)?;
    let Some(m) = at else { return Err(Refused::NoMapping) };
    m.sides.data &= !sides.data;
    m.sides.instruction &= !sides.instruction;
    if m.sides != Sides::default() {
        return Ok(None);
    }
    let purge = m.purge(partition);
    *at = None;
    Ok(Some(purge))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sparc64::sun4v::geometry::{Model, RealRange};
    use racewalk_ram::Asid;

    const TTE: u64 = Tte::V | 0x80_0000 | Tte::CP | Tte::W | 3;

    fn context() -> Context {
        let mut c = Context { model: Model::T2, partition: 1, ..Context::default() };
        c.ranges[0] = RealRange::new(0x80_0000, 0xbf_e000, 0x1000_0000);
        c
    }

    #[test]
    fn a_mapping_lasts_until_no_side_has_it() {
        let mut c = context();
        let m = map_permanent(&mut c, [0x40_0000, 0, TTE, 1]).unwrap();
        let e = m.entry(1);
        assert_eq!((e.frame, e.tag.page, e.tag.shift), (Paddr(0x1080_0000), Vaddr(0x40_0000), 22));
        assert!(e.locked && e.tag.space == Asid(1 << 13) && m.purge(1).removes(&e));
        let found = |c: &Context, access| c.permanent.find(Vaddr(0x7f_ffff), access).is_some();
        assert!(found(&c, Access::Store) && !found(&c, Access::Fetch));
        assert_eq!(map_permanent(&mut c, [0x40_0000, 0, TTE, 3]), Err(Refused::Invalid), "data has it");
        assert_eq!(map_permanent(&mut c, [0x40_0000, 0, TTE ^ Tte::W, 2]), Err(Refused::Invalid));
        map_permanent(&mut c, [0x40_0000, 0, TTE, 2]).unwrap();
        assert!(found(&c, Access::Fetch) && c.permanent.len() == 1);
        assert_eq!(unmap_permanent(&mut c, [0x40_0000, 0, 1]), Ok(None), "instructions still have it");
        assert!(!found(&c, Access::Load));
        assert!(unmap_permanent(&mut c, [0x40_0000, 0, 2]).unwrap().unwrap().removes(&e));
        assert_eq!(unmap_permanent(&mut c, [0x40_0000, 0, 2]), Err(Refused::NoMapping));
        assert!(c.permanent.is_empty());
    }

    #[test]
    fn each_error() {
        let mut c = context();
        let mut map =
            |va: u64, zero: u64, tte: u64, flags: u64| map_permanent(&mut c, [va, zero, tte, flags]).err();
        assert_eq!(map(0x40_0000, 1, TTE, 3), Some(Refused::Invalid));
        assert_eq!(map(1 << 47, 0, TTE, 3), Some(Refused::Invalid), "in the hole");
        assert_eq!(map(0x40_0000, 0, TTE & !Tte::V, 3), Some(Refused::Invalid));
        assert_eq!(map(0x40_0000, 0, TTE, 0), Some(Refused::Invalid));
        assert_eq!(map(0x40_0000, 0, TTE, 4), Some(Refused::Invalid));
        assert_eq!(map(0x40_2000, 0, TTE, 3), Some(Refused::Invalid), "not the page's first address");
        assert_eq!(map(0x40_0000, 0, TTE ^ 1, 3), Some(Refused::BadPageSize), "T2 has no 512K");
        assert_eq!(map(0x40_0000, 0, TTE + 0x40_0000, 3), Some(Refused::NoRealAddress));
        for page in 0..8 {
            assert_eq!(map(page << 22, 0, TTE, 3), None);
        }
        assert_eq!(map(8 << 22, 0, TTE, 3), Some(Refused::TooMany));
        assert_eq!(unmap_permanent(&mut c, [0, 1, 3]), Err(Refused::Invalid));
        assert_eq!(unmap_permanent(&mut c, [1 << 47, 0, 3]), Err(Refused::Invalid));
        assert_eq!(unmap_permanent(&mut c, [0, 0, 8]), Err(Refused::Invalid));
        assert_eq!(unmap_permanent(&mut c, [0x2000, 0, 3]), Err(Refused::NoMapping));
    }
}

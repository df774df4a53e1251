//! What the MMU's hypercalls have in common: numbers, flags, and why one is refused (Linux `asm/hypervisor.h`; reference
//! sparc64-mmu §4). What is tested in which order is that of the hypervisor which OpenSPARC published for UltraSPARC T2.

use super::entry::Tte;
use super::geometry::page_shift;
use super::walk::{Context, space};
use crate::sparc64::context::{CONTEXT, Leaf};
use crate::tlb::{Entry, Tag};
use racewalk_ram::{Paddr, Vaddr};

/// Software trap of calls by function number (%o5): arguments in %o0 to %o4, status in %o0.
pub const FAST_TRAP: u8 = 0x80;
/// Software trap `mmu_map_addr`: enters a translation that lasts until the hardware needs the place.
pub const MAP_ADDR_TRAP: u8 = 0x83;
/// Software trap `mmu_unmap_addr`: takes it out.
pub const UNMAP_ADDR_TRAP: u8 = 0x84;

/// Function numbers of [`FAST_TRAP`].
pub mod number {
    /// `mmu_tsb_ctx0`: the TSBs for context zero.
    pub const TSB_CTX0: u64 = 0x20;
    /// `mmu_tsb_ctxnon0`: the TSBs for the other contexts.
    pub const TSB_CTXNON0: u64 = 0x21;
    /// `mmu_demap_page`.
    pub const DEMAP_PAGE: u64 = 0x22;
    /// `mmu_demap_ctx`.
    pub const DEMAP_CONTEXT: u64 = 0x23;
    /// `mmu_demap_all`.
    pub const DEMAP_ALL: u64 = 0x24;
    /// `mmu_map_perm_addr`: makes a permanent mapping.
    pub const MAP_PERMANENT: u64 = 0x25;
    /// `mmu_fault_area_conf`: where faults are reported.
    pub const FAULT_AREA_CONF: u64 = 0x26;
    /// `mmu_enable`: translation on or off.
    pub const ENABLE: u64 = 0x27;
    /// `mmu_unmap_perm_addr`: ends a permanent mapping.
    pub const UNMAP_PERMANENT: u64 = 0x28;
    /// `mmu_fault_area_info`: what [`FAULT_AREA_CONF`] was last given.
    pub const FAULT_AREA_INFO: u64 = 0x2b;
}

/// Flag: the data TLB.
pub const DATA: u64 = 1;
/// Flag: the instruction TLB.
pub const INSTRUCTION: u64 = 2;

/// Status of a hypercall that did nothing; 0 is that of one that was done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refused {
    /// ENORADDR: a real address that the guest does not have.
    NoRealAddress = 2,
    /// EBADPGSZ: a page size that does not exist.
    BadPageSize = 4,
    /// EBADTSB: a TSB of an associativity or size that there is not.
    BadTsb = 5,
    /// EINVAL: an argument out of range.
    Invalid = 6,
    /// EBADTRAP: no such function.
    BadTrap = 7,
    /// EBADALIGN: an address that is not aligned.
    BadAlignment = 8,
    /// ENOTSUPPORTED: an argument is reserved for what no version of the interface has.
    NotSupported = 13,
    /// ENOMAP: there is no such mapping.
    NoMapping = 14,
    /// ETOOMANY: there are eight permanent mappings already.
    TooMany = 15,
}

impl Refused {
    /// What %o0 gets.
    pub fn status(self) -> u64 {
        self as u64
    }
}

/// Which TLBs of the CPU a call concerns.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Sides {
    /// The data TLB.
    pub data: bool,
    /// The instruction TLB.
    pub instruction: bool,
}

impl Sides {
    /// From a flags argument, which names one of them at least and nothing else.
    pub fn from_flags(flags: u64) -> Result<Sides, Refused> {
        match flags {
            1..=3 => Ok(Sides { data: flags & DATA != 0, instruction: flags & INSTRUCTION != 0 }),
            _ => Err(Refused::Invalid),
        }
    }
}

impl Context {
    /// Where `bytes` bytes of the guest's real memory at `ra` are, if one range has all of them.
    pub fn real_memory(&self, ra: u64, bytes: u64) -> Option<Paddr> {
        const INSIDE: u64 = (1 << 13) - 1;
        let last = ra.checked_add(bytes.checked_sub(1)?)?;
        let range = self.ranges.iter().find(|r| r.physical(ra).is_some() && r.physical(last).is_some())?;
        range.physical(ra & !INSIDE).map(|page| Paddr(page | ra & INSIDE))
    }

    /// log2 of a TTE's page size.
    pub(super) fn page_shift(&self, tte: Tte) -> Result<u8, Refused> {
        let size = tte.size();
        if self.model.has(size) { Ok(page_shift(size)) } else { Err(Refused::BadPageSize) }
    }

    /// The frame of a TTE's page of 1 << `shift` bytes.
    pub(super) fn frame(&self, tte: Tte, shift: u8) -> Result<Paddr, Refused> {
        let bytes = 1u64 << shift;
        self.real_memory(tte.0 & Tte::RA & !(bytes - 1), bytes).ok_or(Refused::NoRealAddress)
    }
}

/// `mmu_map_addr`: the TLB entry, which any miss may drive out, and for which TLBs it is.
pub fn map_addr(c: &Context, args: [u64; 4]) -> Result<(Entry<Leaf>, Sides), Refused> {
    let [va, context, tte, flags] = args;
    let tte = Tte(tte);
    if !c.model.in_range(Vaddr(va)) || context > u64::from(CONTEXT) || tte.0 & Tte::V == 0 {
        return Err(Refused::Invalid);
    }
    let sides = Sides::from_flags(flags)?;
    let shift = c.page_shift(tte)?;
    let frame = c.frame(tte, shift)?;
    let page = Vaddr(va & !((1 << shift) - 1));
    let tag = Tag { space: space(c.partition, context as u16), global: false, page, shift };
    Ok((Entry { tag, frame, from: Paddr(0), locked: false, leaf: tte.leaf() }, sides))
}

//! Where kernel virtual addresses point.
//!
//! The direct map is at zero, as on s390x, so a direct-map pointer has the value of the absolute address behind
//! it: a list node stored into a page table looks to the hardware like an entry that names the node's frame
//! (hosted-mm A.9, F-03b). The first frame (lowcore) is not mapped, so null and small numbers are wild.

use crate::error::{MmError, Result};
use racewalk_ram::{Kva, PAGE_SIZE, Paddr, Pfn};

/// First address of the slab range. Bits 32–47 of a slab pointer are the generation of the object.
pub const SLAB: u64 = 0x0001_0000_0000_0000;
/// First address of the type-safe slab range.
pub const TYPE_SAFE: u64 = 0x0002_0000_0000_0000;
/// First address of the array of page records.
pub const VMEMMAP: u64 = 0x0003_0000_0000_0000;
/// First address of kernel text: function `n` is at `TEXT + 16 * n`.
pub const TEXT: u64 = 0x0003_ffe0_0000_0000;
/// Bytes of a page record.
pub const RECORD: u64 = 64;
/// Bytes of a slab slot.
pub const SLOT: u64 = 256;

/// What a kernel virtual address points to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    /// Guest memory through the direct map.
    Direct(Paddr),
    /// A byte of a page record.
    Record {
        /// The frame whose record it is.
        pfn: Pfn,
        /// 0–63.
        byte: u64,
    },
    /// A byte of a slab object.
    Slab {
        /// Slot number.
        slot: u32,
        /// The generation the pointer was made for.
        generation: u16,
        /// 0–255.
        byte: u64,
    },
    /// A byte of an object of a type-safe cache, whatever its generation.
    TypeSafe {
        /// Slot number.
        slot: u32,
        /// 0–255.
        byte: u64,
    },
    /// A function.
    Text(u16),
}

/// Finds out where `kva` points, given the number of frames. A pointer into none of the ranges is
/// [`MmError::Wild`], naming `wanted`.
pub fn place(kva: Kva, frames: u64, wanted: &'static str) -> Result<Place> {
    let a = kva.0;
    if (PAGE_SIZE..frames * PAGE_SIZE).contains(&a) {
        return Ok(Place::Direct(Paddr(a)));
    }
    if (VMEMMAP..VMEMMAP + frames * RECORD).contains(&a) {
        let at = a - VMEMMAP;
        return Ok(Place::Record { pfn: Pfn(at / RECORD), byte: at % RECORD });
    }
    if (SLAB..SLAB * 2).contains(&a) {
        let at = a & 0xffff_ffff;
        let slot = (at / SLOT) as u32;
        return Ok(Place::Slab { slot, generation: (a >> 32) as u16, byte: at % SLOT });
    }
    if (TYPE_SAFE..TYPE_SAFE + (1 << 32)).contains(&a) {
        let at = a - TYPE_SAFE;
        return Ok(Place::TypeSafe { slot: (at / SLOT) as u32, byte: at % SLOT });
    }
    if (TEXT..TEXT + 0x10_0000).contains(&a) && a.is_multiple_of(16) {
        return Ok(Place::Text(((a - TEXT) / 16) as u16));
    }
    Err(MmError::Wild { kva, wanted })
}

/// More frames than any machine has.
const FRAMES: u64 = 1 << 28;

/// The memory that `kva` is in, or the frame whose record it is in.
pub fn about(kva: Kva) -> Option<Paddr> {
    match place(kva, FRAMES, "memory") {
        Ok(Place::Direct(at)) => Some(at),
        Ok(Place::Record { pfn, .. }) => Some(pfn.paddr()),
        _ => None,
    }
}

/// The address of a frame's record.
pub fn record(pfn: Pfn) -> Kva {
    Kva(VMEMMAP + pfn.0 * RECORD)
}

/// The address of guest memory in the direct map.
pub fn direct(at: Paddr) -> Kva {
    Kva(at.0)
}

/// The address of a function.
pub fn text(id: u16) -> Kva {
    Kva(TEXT + id as u64 * 16)
}

/// The slot that a pointer to a slab object names.
pub(crate) fn slot(kva: Kva) -> u32 {
    ((kva.0 & 0xffff_ffff) / SLOT) as u32
}

/// The address of an object of the type-safe cache.
pub(crate) fn type_safe(slot: u32) -> Kva {
    Kva(TYPE_SAFE + slot as u64 * SLOT)
}

/// The address of a slab object.
pub(crate) fn slab(slot: u32, generation: u16) -> Kva {
    Kva(SLAB | (generation as u64) << 32 | (slot as u64 * SLOT))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_do_not_overlap_and_wild_pointers_are_named() {
        let frames = 4096;
        assert_eq!(place(record(Pfn(7)), frames, "").unwrap(), Place::Record { pfn: Pfn(7), byte: 0 });
        assert_eq!(place(direct(Paddr(0x5008)), frames, "").unwrap(), Place::Direct(Paddr(0x5008)));
        assert_eq!(place(text(3), frames, "").unwrap(), Place::Text(3));
        let s = place(Kva(slab(5, 0xffff).0 + 8), frames, "").unwrap();
        assert_eq!(s, Place::Slab { slot: 5, generation: 0xffff, byte: 8 });
        for wild in [0, 8, frames * PAGE_SIZE, VMEMMAP + frames * RECORD, TEXT + 1, u64::MAX] {
            let e = place(Kva(wild), frames, "a list node").unwrap_err();
            assert!(e.to_string().contains("a list node") && e.is_finding(), "{e}");
        }
    }
}

//! The hashed page table itself: entries are found, put in and taken out under a lock bit of each (reference ppc64-mmu §1.3;
//! Linux's `native_hpte_*`).

use super::Hpt;
use super::pte::Pte;
use crate::arch::PteFormat;
use crate::error::{Result, broken};
use crate::kernel::Kernel;
use racewalk_cpu::Broadcasts;
use racewalk_ram::{Paddr, Vaddr};
use racewalk_sched::{point, wait_while, wake};
use racewalk_walk::ppc64::Context;
use racewalk_walk::ppc64::hash::entry::TableDesignation;
use racewalk_walk::ppc64::hash::geometry::{ENTRY_BYTES, GROUP_BYTES, GROUP_ENTRIES, HASH, avpn, hash};
use racewalk_walk::ppc64::hash::slb::{VSID_C, VSID_KP, VSID_KS, VSID_L};
use racewalk_walk::ppc64::hash::{Hpte, Segment, SegmentSize, Version};
use racewalk_walk::ppc64::invalidate::{Operands, tlbie};
use racewalk_walk::ppc64::radix::entry::Entry;
use std::sync::atomic::Ordering::SeqCst;

/// `HPTE_LOCK_BIT` of an entry's first doubleword.
const LOCK: u64 = 8;
/// A slot's bit for the secondary group.
const SECONDARY: u64 = 8;
/// log2 of the bytes of a segment.
const SEGMENT_SHIFT: u32 = 28;
/// Bits of a segment's number in a user address.
const ESID_BITS: u32 = 20;
/// VSIDs are taken modulo 2^37 - 1, after a multiplication by a prime that scatters them over the groups.
const VSID_MODULUS: u64 = (1 << 37) - 1;
const VSID_MULTIPLIER: u64 = 12_538_073;
/// The LP encoding of a page of 64K in a segment of 64K.
const LP_64K: u64 = 1 << 12;
/// LP of a segment of 64K.
const SEGMENT_LP_64K: u64 = 0x10;
/// WIMG of memory: coherence required.
const WIMG_M: u64 = 0x10;

/// A page as the hashed page table names it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Page {
    segment: Segment,
    offset: u64,
}

/// The VSID word of the SLB entry for an address of space `number`.
pub(super) fn vsid_word(shift: u32, number: u64, va: Vaddr) -> u64 {
    let proto = number << ESID_BITS | va.0 >> SEGMENT_SHIFT;
    let vsid = proto * VSID_MULTIPLIER % VSID_MODULUS;
    let size = if shift == 16 { VSID_L | SEGMENT_LP_64K } else { 0 };
    vsid << 12 | VSID_KS | VSID_KP | VSID_C | size
}

impl Page {
    /// Of an address of space `number`; pages have 2^`shift` bytes.
    pub(super) fn new(shift: u32, number: u64, va: Vaddr) -> Page {
        let word = vsid_word(shift, number, va);
        let (vsid, size) = (word >> 12 & ((1 << 50) - 1), SegmentSize::M256);
        let segment = Segment { vsid, size, base: shift as u8, word };
        Page { segment, offset: va.0 & ((1 << SEGMENT_SHIFT) - 1) }
    }

    /// The group of a slot.
    fn group(&self, table: TableDesignation, slot: u64) -> Paddr {
        let primary = hash(&self.segment, self.offset);
        let h = if slot & SECONDARY == 0 { primary } else { !primary & HASH };
        table.origin().offset((h & table.mask()) * GROUP_BYTES)
    }

    /// The entry of a slot.
    fn entry(&self, table: TableDesignation, slot: u64) -> Paddr {
        self.group(table, slot).offset(slot % GROUP_ENTRIES * ENTRY_BYTES)
    }

    /// What an entry of the page has in its first doubleword in a slot, and under which mask.
    fn first(&self, slot: u64) -> (u64, u64) {
        let (want, mask) = Hpte::wanted(Version::V2, avpn(&self.segment, self.offset), self.segment.size);
        (if slot & SECONDARY == 0 { want } else { want | Hpte::H }, mask)
    }

    /// RB of `tlbie` for the page.
    fn rb(&self) -> u64 {
        let va = self.segment.vsid << SEGMENT_SHIFT | self.offset;
        if self.segment.base == 16 { va & !0xf_ffff | LP_64K | (va >> 12 & 0xf0) | 1 } else { va & !0xfff }
    }
}

/// The second doubleword of the entry for a page-table entry (`htab_convert_pte_flags`): users read or write, and store only
/// where the page is dirty already.
pub(super) fn second(shift: u32, pte: Pte) -> u64 {
    let mut second = pte.frame().paddr().0 & Hpte::RPN_V2 | WIMG_M | Hpte::R;
    if shift == 16 {
        second |= LP_64K;
    }
    if pte.raw() & Entry::EXECUTE == 0 {
        second |= Hpte::N;
    }
    second | if pte.stores() { 2 | Hpte::C } else { 3 }
}

impl<const SHIFT: u32> Kernel<Hpt<SHIFT>> {
    fn table(&self) -> TableDesignation {
        self.machine.table
    }

    /// What those wait for who find a word locked.
    pub(super) fn word_key(&self, at: Paddr) -> usize {
        (std::ptr::from_ref(self) as usize).wrapping_add(at.0 as usize)
    }

    /// Takes an entry's lock; what its first doubleword was.
    fn hpte_lock(&self, at: Paddr) -> Result<u64> {
        loop {
            point("hpte.lock");
            wait_while(self.word_key(at), "hpte.lock", || {
                self.load_u64(at).is_ok_and(|first| first & LOCK != 0)
            });
            let first = self.load_u64(at)?;
            if first & LOCK == 0 && self.cas_u64(at, first, first | LOCK)? == first {
                return Ok(first);
            }
        }
    }

    /// Stores the first doubleword without the lock.
    fn hpte_unlock(&self, at: Paddr, first: u64) -> Result<()> {
        self.store_u64(at, first)?;
        wake(self.word_key(at));
        Ok(())
    }

    /// `native_hpte_insert`, and `native_hpte_remove` where both groups are full. Returns the slot.
    pub(super) fn hpte_insert(&self, page: &Page, pte: Pte) -> Result<u64> {
        let second = second(SHIFT, pte);
        let large = if SHIFT == 16 { Hpte::L } else { 0 };
        loop {
            for slot in 0..2 * GROUP_ENTRIES {
                let at = page.entry(self.table(), slot);
                if self.load_u64(at)? & (Hpte::V | LOCK) != 0 {
                    continue;
                }
                let old = self.hpte_lock(at)?;
                if old & Hpte::V != 0 {
                    self.hpte_unlock(at, old)?;
                    continue;
                }
                self.store_u64(at.offset(8), second)?;
                point("hpte.insert");
                self.hpte_unlock(at, page.first(slot).0 | large)?;
                self.stats.hpte_inserted.bump();
                return Ok(slot);
            }
            self.hpte_evict(page)?;
        }
    }

    /// Makes room in the primary group. Translations of the entry go with it: a walk reads the halves of an entry one after
    /// the other, and the slot is about to be another page's. The PTE goes on saying that it is hashed.
    fn hpte_evict(&self, page: &Page) -> Result<()> {
        let victim = self.machine.victim.fetch_add(1, SeqCst);
        let at = page.entry(self.table(), victim % GROUP_ENTRIES);
        let first = self.hpte_lock(at)?;
        self.hpte_unlock(at, 0)?;
        if first & Hpte::V == 0 {
            return Ok(());
        }
        self.stats.hpte_evicted.bump();
        // The page is not known from here; its whole partition goes.
        self.hpte_tlbie([(2 << 10, None)])
    }

    /// Whether a slot has the page's entry.
    pub(super) fn hpte_is(&self, page: &Page, slot: u64) -> Result<bool> {
        let (want, mask) = page.first(slot);
        point("hpte.load");
        Ok((self.load_u64(page.entry(self.table(), slot))? ^ want) & mask == 0)
    }

    /// `native_hpte_invalidate` but for the `tlbie`: takes the page's entry out of a slot, if it is there.
    pub(super) fn hpte_remove(&self, page: &Page, slot: u64) -> Result<()> {
        let at = page.entry(self.table(), slot);
        let (want, mask) = page.first(slot);
        let old = self.hpte_lock(at)?;
        self.hpte_unlock(at, if (old ^ want) & mask == 0 { 0 } else { old })
    }

    /// Translations of pages go from all TLBs: `ptesync; tlbie …; eieio; tlbsync; ptesync`.
    pub(super) fn hpte_flush<'p>(&self, pages: impl IntoIterator<Item = (&'p Page, Vaddr)>) -> Result<()> {
        self.hpte_tlbie(pages.into_iter().map(|(p, va)| (p.rb(), Some(va))))
    }

    fn hpte_tlbie(&self, operands: impl IntoIterator<Item = (u64, Option<Vaddr>)>) -> Result<()> {
        let context = Context { version: Version::V2, ..Context::default() };
        let mut sent = Broadcasts::new();
        for (rb, va) in operands {
            point("tlbie");
            let o = Operands { rb, ..Operands::default() };
            let effect =
                tlbie(&context, o).or_else(|r| broken(0, format!("tlbie {o:?} is refused: {r:?}")))?;
            sent.tlbie(&self.cpus, va, &effect);
        }
        sent.eieio();
        sent.tlbsync();
        sent.ptesync(&self.cpus);
        Ok(())
    }

    /// Invariant 24: after a flush of the page the table has no entry of it but one that `now` permits.
    pub(super) fn check_hpt(&self, page: &Page, va: Vaddr, at: Paddr, now: Pte) -> Result<()> {
        for slot in 0..2 * GROUP_ENTRIES {
            let (want, mask) = page.first(slot);
            let entry = page.entry(self.table(), slot);
            let e = Hpte(self.load_u64(entry)?, self.load_u64(entry.offset(8))?);
            if (e.0 ^ want) & mask != 0 {
                continue;
            }
            let leads = e.1 & Hpte::RPN_V2 & !((1 << SHIFT) - 1) == now.frame().paddr().0;
            let stores = e.1 & Hpte::PP == 2;
            if !now.valid() || !leads || (stores && !now.stores()) {
                let found = format!(
                    "the HPTE at {:#x} still has {:#x} for {:#x} after its flush; the PTE is {:#x}",
                    entry.0,
                    e.1,
                    va.0,
                    now.raw()
                );
                return self.broken_about(24, found, at);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use racewalk_walk::ppc64::hash::slb::VSID;

    /// Seen to fail with a modulus of 2^20.
    #[test]
    fn segments_of_spaces_differ() {
        let mut seen = std::collections::HashSet::new();
        for number in 1..64 {
            for esid in (0..1u64 << 19).step_by(4099) {
                let w = vsid_word(16, number, Vaddr(esid << SEGMENT_SHIFT));
                assert!(seen.insert(w & VSID), "space {number}, segment {esid:#x}");
            }
        }
        let s = Segment::from_word(vsid_word(16, 3, Vaddr(0x1000_0000))).unwrap();
        assert_eq!((s.base, s.size), (16, SegmentSize::M256));
        assert_eq!(Segment::from_word(vsid_word(12, 3, Vaddr(0))).unwrap().base, 12);
    }
}

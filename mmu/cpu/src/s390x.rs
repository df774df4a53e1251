//! The port as s390x has it: control register 1, and invalidations that are complete when their instruction is.

use crate::Cpus;
use crate::event::CpuEvent;
use racewalk_ram::{Paddr, Vaddr};
use racewalk_sched::tso;
use racewalk_walk::s390x::entry::TableType;
use racewalk_walk::s390x::geometry::{PAGE_TABLE_BYTES, SEGMENT_BYTES, index};
use racewalk_walk::s390x::invalidate::{self, Effect, Instruction, Refused};
use racewalk_walk::s390x::{Asce, Controls, S390x};
use racewalk_walk::tlb::Purge;

impl Cpus<S390x> {
    /// Loads control register 1 (the primary ASCE) of `cpu`, with the controls that user mode has: DAT, low-address and
    /// instruction-execution protection.
    pub fn load_asce(&self, cpu: u32, asce: u64) {
        self.load(cpu, |c| {
            *c = Controls {
                dat: true,
                asce: Asce(asce),
                low_address_protection: true,
                execution_protection: true,
                // Linux turns enhanced DAT on for its huge pages.
                edat1: true,
                ..Controls::default()
            }
        });
        self.emit(cpu, || CpuEvent::Load { register: "asce", value: asce });
    }

    /// Control register 1 of `cpu`.
    pub fn asce(&self, cpu: u32) -> u64 {
        self.context(cpu).asce.0
    }

    /// Completes what an invalidation began. Returns the entry as it was; one outside memory is a bug of the caller,
    /// reported as an entry with all bits one.
    fn finish(&self, by: Instruction, va: Vaddr, effect: Result<Effect, Refused>) -> u64 {
        let Ok(e) = effect else { return u64::MAX };
        match e.purge {
            Some(p) if e.local => self.purge_here(&p),
            Some(p) => self.purge(by.name(), Some(va), p),
            None => {}
        }
        e.old
    }

    /// INVALIDATE PAGE TABLE ENTRY: sets I in the entry at `pte`, then purges what was formed from it everywhere. Returns
    /// the entry as it was. An address outside memory is a bug of the caller, reported as an entry with all bits one.
    pub fn ipte(&self, pte: Paddr, va: Vaddr) -> u64 {
        tso::fence();
        self.finish(
            Instruction::Ipte,
            va,
            invalidate::ipte(&*self.ram, table_of(pte), page_of(pte, va), 0, 0),
        )
    }

    /// IPTE with the local-clearing control: only this CPU's TLB is purged. For entries that no other CPU can have
    /// used.
    pub fn ipte_local(&self, pte: Paddr, va: Vaddr) -> u64 {
        tso::fence();
        let m4 = invalidate::LOCAL;
        self.finish(
            Instruction::Ipte,
            va,
            invalidate::ipte(&*self.ram, table_of(pte), page_of(pte, va), 0, m4),
        )
    }

    /// INVALIDATE DAT TABLE ENTRY of the entry at `entry`, which is the one for `va` in a table of type `table`: sets I,
    /// then purges everything formed through it. Returns the entry as it was.
    pub fn idte_entry(&self, entry: Paddr, table: TableType, va: Vaddr) -> u64 {
        tso::fence();
        let origin = entry.0.wrapping_sub(index(table, va) * 8);
        debug_assert_eq!(origin & 0xfff, 0, "entry {entry:#x} is not the one for {va:#x}");
        let page = va.0 & !(SEGMENT_BYTES - 1);
        self.finish(
            Instruction::Idte,
            va,
            invalidate::idte(&*self.ram, origin | (table as u64) << 2, page, 0, 0),
        )
    }

    /// INVALIDATE DAT TABLE ENTRY, clearing by ASCE.
    pub fn idte_asce(&self, asce: u64) {
        self.purge(Instruction::Idte.name(), None, invalidate::by_asce(asce));
    }

    /// COMPARE AND SWAP AND PURGE whose comparison succeeded: purges everything everywhere.
    pub fn csp_purge_all(&self) {
        self.purge(Instruction::Csp.name(), None, Purge::ALL);
    }
}

/// R1 of an IPTE for the entry at `pte`.
fn table_of(pte: Paddr) -> u64 {
    pte.0 & !(PAGE_TABLE_BYTES - 1)
}

/// R2 of an IPTE for the entry at `pte`: the address with the index that the entry has.
fn page_of(pte: Paddr, va: Vaddr) -> u64 {
    let px = pte.0 % PAGE_TABLE_BYTES / 8;
    va.0 & !(SEGMENT_BYTES - 1) | px << 12
}

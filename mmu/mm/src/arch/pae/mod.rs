//! 32-bit x86 with PAE, for the lab only: entries are two words, and a CPU that has no wider load reads them one after the
//! other (hosted-mm PAE). Hardware reads them whole.
//!
//! The four page directories of a space are one table of 16 KiB, made with the space and gone with it, as Linux preallocates
//! them: so the PDPTE registers never change while a space is loaded, and no table of theirs is kept in memory. Odd frames of
//! memory lie above 4 GiB, or no high word of an entry would ever matter.

mod pte;
mod tlb;

pub use pte::Pte;

use super::{Arch, FaultInfo, How, Level, Need};
use crate::error::Result;
use crate::frag::{self, Frag, Scheme};
use crate::kernel::Kernel;
use crate::memory::Memory;
use crate::mm::{Mm, mmw};
use racewalk_cpu::Cpus;
use racewalk_ram::{Kva, Paddr, Vaddr};
use racewalk_walk::pae::entry::{A, P, RW, US};
use racewalk_walk::pae::geometry::{PDE_SHIFT, PDPT_ENTRIES, PTE_SHIFT};
use racewalk_walk::pae::invalidate::mov_cr4_pge;
use racewalk_walk::pae::{Context, Fault, Layout, Order, Pae as Hw, Pde, Pdpte, Reason};
use std::sync::atomic::Ordering::SeqCst;

/// x86 with PAE.
#[derive(Clone, Copy, Debug)]
pub struct Pae;

/// What names a space: its page directories.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Space {
    pdptes: [Pdpte; PDPT_ENTRIES],
}

/// The address of a frame as entries have it.
fn in_entry(at: Paddr) -> u64 {
    Layout::Interleaved.bus(at).0
}

/// The frame that an entry leads to.
fn from_entry(entry: u64) -> Paddr {
    Layout::Interleaved.memory(Paddr(entry & Pde::TABLE))
}

impl Arch for Pae {
    type Hw = Hw;
    type Pte = Pte;
    type Context = Space;
    type Machine = ();

    const NAME: &'static str = "pae";
    const PAGE_SHIFT: u32 = PTE_SHIFT as u32;
    const LEVELS: &'static [Level] = &[
        Level { name: "page directories", shift: PDE_SHIFT as u32, bits: 11 },
        Level { name: "page table", shift: PTE_SHIFT as u32, bits: 9 },
    ];
    const TASK_SIZE: u64 = 0xc000_0000;
    const WALKED: bool = true;
    const NO_GATHER: bool = false;

    fn table_entry(_level: usize, table: Paddr) -> u64 {
        in_entry(table) | P | RW | US | A
    }
    fn next_table(_level: usize, entry: u64) -> Option<Paddr> {
        (entry & P != 0).then(|| from_entry(entry))
    }
    fn peek_entry(k: &Kernel<Self>, at: Paddr) -> Result<u64> {
        Ok(k.load_u64(at)?.swap_bytes())
    }
    fn load_entry(k: &Kernel<Self>, at: Paddr) -> Result<u64> {
        k.load_halves(at)
    }
    fn store_entry(k: &Kernel<Self>, at: Paddr, entry: u64) -> Result<()> {
        k.store_u64(at, entry.swap_bytes())
    }

    fn boot(_memory: &Memory, _max_mms: u32) -> Result<()> {
        Ok(())
    }
    fn context(_k: &Kernel<Self>, _mm: Kva, pgd: Paddr) -> Result<Space> {
        let directory = |i: usize| Pdpte(in_entry(pgd.offset((i as u64) << PTE_SHIFT)) | P);
        Ok(Space { pdptes: std::array::from_fn(directory) })
    }
    fn load(cpus: &Cpus<Hw>, _machine: &(), cpu: u32, context: Option<&Space>) {
        let pdptes = context.map_or([Pdpte::default(); PDPT_ENTRIES], |s| s.pdptes);
        let (order, layout) = (Order::Whole, Layout::Interleaved);
        cpus.load(cpu, |c| *c = Context { user: true, pdptes, order, layout, ..Context::default() });
        // Translations have no name of their space.
        cpus.purge_on(cpu, &mov_cr4_pge());
    }
    fn is_loaded(cpus: &Cpus<Hw>, cpu: u32, context: &Space) -> bool {
        cpus.context(cpu).pdptes == context.pdptes
    }

    fn fault(f: &Fault) -> FaultInfo {
        let need = Need::of(f.access, f.reason == Reason::NoExecute);
        let corrupt = matches!(f.reason, Reason::Reserved | Reason::PointerReserved | Reason::Addressing);
        FaultInfo { vaddr: f.vaddr, need, corrupt }
    }

    fn frag(scheme: Scheme) -> Option<Box<dyn Frag<Self>>> {
        frag::pae::of(scheme)
    }

    fn ptep_xchg(
        k: &Kernel<Self>,
        mm: &Mm<Self>,
        va: Vaddr,
        pte: Paddr,
        new: u64,
        how: How<'_>,
    ) -> Result<u64> {
        k.ptep_xchg_pae(mm, va, pte, new, how)
    }
    fn mark_freed_tables(_k: &Kernel<Self>, mm: &Mm<Self>) -> Result<()> {
        mm.words()?[mmw::FLUSH_MM].fetch_or(tlb::OWED, SeqCst);
        Ok(())
    }
    fn flush_mm_lazy(k: &Kernel<Self>, mm: &Mm<Self>) -> Result<()> {
        k.flush_owed_pae(mm)
    }
    fn flush_mm(k: &Kernel<Self>, mm: &Mm<Self>) -> Result<()> {
        k.flush_all(mm, None);
        Ok(())
    }
    fn table_invalidate(k: &Kernel<Self>, mm: &Mm<Self>) -> Result<()> {
        k.flush_owed_pae(mm)
    }
    fn unhook(k: &Kernel<Self>, _mm: &Mm<Self>, entry: Paddr, _level: usize, _va: Vaddr) -> Result<()> {
        k.clear_halves(entry)
    }
    fn collapse_flush(k: &Kernel<Self>, mm: &Mm<Self>, pmd: Paddr, va: Vaddr) -> Result<()> {
        k.clear_halves(pmd)?;
        k.flush_all(mm, Some(va));
        k.lockless_sync();
        Ok(())
    }
}

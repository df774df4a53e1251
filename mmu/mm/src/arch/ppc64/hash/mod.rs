//! Power with a hashed page table, of pages of 4K and 64K: Linux keeps page tables that no hardware knows, and fills the
//! hashed one from them (hosted-mm E; reference ppc64-mmu §1.3). ISA 2.07: SDR1, segments of 256M. Huge pages, subpages of
//! 4K, bolted entries and hypervisors are not modelled.

mod hpte;
mod pte;
mod refill;
mod tlb;

pub use pte::Pte;

use crate::arch::{Arch, FaultInfo, How, Level, Need};
use crate::error::{MmError, Result};
use crate::frag::{self, Frag, Scheme};
use crate::kernel::Kernel;
use crate::layout;
use crate::memory::Memory;
use crate::mm::Mm;
use crate::tlb_batch::TlbBatch;
use racewalk_cpu::Cpus;
use racewalk_ram::{Kva, Paddr, Vaddr};
use racewalk_walk::ppc64::hash::Version;
use racewalk_walk::ppc64::hash::entry::TableDesignation;
use racewalk_walk::ppc64::{Context, Fault, Hash as Hw, Reason};
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

/// A hashed page table with pages of 2^`SHIFT` bytes: 12 or 16.
#[derive(Clone, Copy, Debug)]
pub struct Hpt<const SHIFT: u32>;

/// HTABSIZE: the smallest table, of 2048 groups.
const HTABSIZE: u64 = 0;
/// Its bytes.
const HPT_BYTES: u64 = 1 << (18 + HTABSIZE);

const fn level(name: &'static str, shift: u32, bits: u32) -> Level {
    Level { name, shift, bits }
}

const LEVELS_4K: &[Level] = &[
    level("page global directory", 37, 9),
    level("page upper directory", 28, 9),
    level("page middle directory", 21, 7),
    level("page table", 12, 9),
];
const LEVELS_64K: &[Level] = &[
    level("page global directory", 44, 8),
    level("page upper directory", 34, 10),
    level("page middle directory", 24, 10),
    level("page table", 16, 8),
];

/// The hashed page table, and whose turn it is to be replaced.
#[derive(Debug)]
pub struct Machine {
    table: TableDesignation,
    /// Entries of a full group go in turn.
    victim: AtomicU64,
    /// Entries of SLBs too.
    slb_next: AtomicU64,
}

impl Clone for Machine {
    fn clone(&self) -> Machine {
        let copy = |n: &AtomicU64| AtomicU64::new(n.load(SeqCst));
        Machine { table: self.table, victim: copy(&self.victim), slb_next: copy(&self.slb_next) }
    }
}

/// What names a space: the number that its segments are made from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Space {
    number: u64,
}

impl<const SHIFT: u32> Arch for Hpt<SHIFT> {
    type Hw = Hw;
    type Pte = Pte;
    type Context = Space;
    type Machine = Machine;

    const NAME: &'static str = if SHIFT == 12 { "ppc64-hash-4k" } else { "ppc64-hash-64k" };
    const PAGE_SHIFT: u32 = SHIFT;
    const LEVELS: &'static [Level] = if SHIFT == 12 { LEVELS_4K } else { LEVELS_64K };
    // The window that Linux gives a program that does not ask for more.
    const TASK_SIZE: u64 = if SHIFT == 12 { 1 << 46 } else { 1 << 47 };
    // The hardware walks the hashed page table only.
    const WALKED: bool = false;
    const NO_GATHER: bool = false;
    // A table of pages of 64K, and the slots of its entries.
    const FRAGMENT: u64 = 4096;
    // With pages of 64K, huge pages have a word behind the table for each entry.
    const PMD_FRAGMENT: u64 = if SHIFT == 16 { 16 << 10 } else { LEVELS_4K[2].bytes() };

    fn table_entry(_level: usize, table: Paddr) -> u64 {
        table.0
    }
    fn next_table(_level: usize, entry: u64) -> Option<Paddr> {
        (entry != 0).then_some(Paddr(entry))
    }

    fn boot(memory: &Memory, _max_mms: u32) -> Result<Machine> {
        let at = memory.kernel_table(HPT_BYTES, 0)?;
        let table = TableDesignation(at.0 | HTABSIZE);
        if table.origin() != at {
            return Err(MmError::Config(format!("no aligned memory for a hashed page table: {at:?}")));
        }
        Ok(Machine { table, victim: AtomicU64::new(0), slb_next: AtomicU64::new(0) })
    }

    fn context(_k: &Kernel<Self>, mm: Kva, _pgd: Paddr) -> Result<Space> {
        // 0 is the kernel's.
        Ok(Space { number: layout::slot(mm) as u64 + 1 })
    }
    fn load(cpus: &Cpus<Hw>, machine: &Machine, cpu: u32, context: Option<&Space>) {
        let lpcr = 0;
        cpus.load(cpu, |c| {
            *c = match context {
                None => Context { version: Version::V2, lpcr, ..Context::default() },
                Some(s) => Context {
                    msr: Context::default().msr | Context::MSR_PR,
                    version: Version::V2,
                    sdr1: machine.table.0,
                    // Not looked at by this MMU; Linux has it there all the same.
                    pidr: s.number,
                    lpcr,
                    ..Context::default()
                },
            }
        });
    }
    fn is_loaded(cpus: &Cpus<Hw>, cpu: u32, context: &Space) -> bool {
        cpus.context(cpu).pidr == context.number
    }

    fn fault(f: &Fault) -> FaultInfo {
        let need = Need::of(f.access, f.reason == Reason::NoExecute);
        let corrupt = matches!(f.reason, Reason::UnsupportedMmu | Reason::Addressing | Reason::SlbMultihit);
        FaultInfo { vaddr: f.vaddr, need, corrupt }
    }
    fn refill(mm: &Mm<Self>, f: &Fault) -> Result<bool> {
        let k = mm.kernel();
        match f.reason {
            Reason::Segment => k.slb_allocate(mm.context(), f.vaddr),
            Reason::NoTranslation | Reason::Protection | Reason::NoExecute => {
                k.hash_page(mm, f.vaddr, f.access)
            }
            _ => Ok(false),
        }
    }

    fn frag(scheme: Scheme) -> Option<Box<dyn Frag<Self>>> {
        frag::ppc64::of(scheme)
    }

    fn ptep_xchg(
        k: &Kernel<Self>,
        mm: &Mm<Self>,
        va: Vaddr,
        pte: Paddr,
        new: u64,
        how: How<'_>,
    ) -> Result<u64> {
        k.ptep_xchg_hash(mm, va, pte, new, how)
    }
    fn leave_lazy(k: &Kernel<Self>, mm: &Mm<Self>, batch: &mut TlbBatch) -> Result<()> {
        k.flush_hash(mm, &batch.take())
    }
    fn mark_freed_tables(_k: &Kernel<Self>, _mm: &Mm<Self>) -> Result<()> {
        Ok(())
    }
    fn flush_mm_lazy(_k: &Kernel<Self>, _mm: &Mm<Self>) -> Result<()> {
        // Entries were flushed under the locks of their tables.
        Ok(())
    }
    fn flush_mm(_k: &Kernel<Self>, _mm: &Mm<Self>) -> Result<()> {
        // What was hashed has been flushed with its entry.
        Ok(())
    }
    fn table_invalidate(_k: &Kernel<Self>, _mm: &Mm<Self>) -> Result<()> {
        // `tlb_needs_table_invalidate` is false without radix (hosted-mm C.2).
        Ok(())
    }
    fn collapse_flush(k: &Kernel<Self>, mm: &Mm<Self>, pmd: Paddr, va: Vaddr) -> Result<()> {
        k.collapse_hash(mm, pmd, va)
    }
}

//! SPARC V9 on sun4u: the TLB traps, a handler looks into the process's TSB and then into page tables that no hardware
//! knows (reference sparc64-mmu §7.1). The TSB does not grow (`tsb_grow`), there is none of huge pages, and context numbers
//! are not recycled while a space lives.

mod pte;
mod tlb;

pub use pte::Pte;

use super::{Arch, FaultInfo, How, Level, Need, PteFormat, Translation};
use crate::buddy::Gfp;
use crate::error::{MmError, Result};
use crate::frag::{self, Frag, Scheme};
use crate::kernel::{Kernel, MAX_CPUS};
use crate::layout;
use crate::memory::Memory;
use crate::mm::Mm;
use crate::page::FrameKind;
use crate::sanitizer::{Class, Give};
use crate::tlb_batch::TlbBatch;
use racewalk_cpu::{Access, Cpus};
use racewalk_ram::{Kva, Paddr, Vaddr};
use racewalk_walk::WalkStop;
use racewalk_walk::sparc64::sun4u::entry::{TagTarget, Tte};
use racewalk_walk::sparc64::sun4u::geometry::{PGD_SHIFT, PMD_SHIFT, PUD_SHIFT, Tsb, VA_BITS};
use racewalk_walk::sparc64::sun4u::{Context, miss};
use racewalk_walk::sparc64::{Fault, Reason, State, Sun4u as Hw};
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

/// sparc64.
#[derive(Clone, Copy, Debug)]
pub struct Sparc64;

/// A PMD entry that maps a huge page: two TTEs of 4M.
const HUGE: u64 = Tte::LINUX_HUGE | 3 << 61;
/// Bytes of a TSB: 512 entries of 16 bytes, the smallest.
const TSB_BYTES: u64 = 8 << 10;
/// Context numbers have 13 bits, and 0 is the kernel's.
const CONTEXTS: u32 = (1 << 13) - 1;

/// What the trap handler of each CPU finds without a translation: Linux's `trap_block`.
#[derive(Debug)]
pub struct Machine {
    /// `pgd_paddr`; 0 while the CPU runs no program.
    pgd: Box<[AtomicU64]>,
}

impl Clone for Machine {
    fn clone(&self) -> Machine {
        Machine { pgd: self.pgd.iter().map(|p| AtomicU64::new(p.load(SeqCst))).collect() }
    }
}

/// What names a space, and what translates it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Space {
    /// Number of the context.
    number: u16,
    pgd: Paddr,
    tsb: Tsb,
}

impl Sparc64 {
    /// What the miss handler of a CPU knows.
    fn handler(k: &Kernel<Self>, cpu: u32) -> miss::Kernel {
        let pgd = Paddr(k.machine.pgd[cpu as usize].load(SeqCst));
        miss::Kernel { pgd, huge_tsb: None, recheck: k.frag.rereads() }
    }
}

impl Arch for Sparc64 {
    type Hw = Hw;
    type Pte = Pte;
    type Context = Space;
    type Machine = Machine;

    const NAME: &'static str = "sparc64";
    const PAGE_SHIFT: u32 = 13;
    const LEVELS: &'static [Level] = &[
        Level { name: "page global directory", shift: PGD_SHIFT, bits: 10 },
        Level { name: "page upper directory", shift: PUD_SHIFT, bits: 10 },
        Level { name: "page middle directory", shift: PMD_SHIFT, bits: 10 },
        Level { name: "page table", shift: 13, bits: 10 },
    ];
    // Up to the hole; what is above it is not given out.
    const TASK_SIZE: u64 = 1 << (VA_BITS - 1);
    const WALKED: bool = false;
    const WALKER: Class = Class::W2;
    const NO_GATHER: bool = false;
    const DEPOSITS: bool = true;

    fn table_entry(_level: usize, table: Paddr) -> u64 {
        table.0
    }
    fn next_table(_level: usize, entry: u64) -> Option<Paddr> {
        (entry != 0 && entry & Tte::LINUX_HUGE == 0).then_some(Paddr(entry))
    }
    fn huge_entry(pte: Pte) -> u64 {
        pte.raw() | HUGE
    }
    fn huge_pte(entry: u64) -> Option<Pte> {
        (entry & Tte::LINUX_HUGE != 0).then(|| Pte::from_raw(entry & !HUGE))
    }
    fn huge_flush(k: &Kernel<Self>, mm: &Mm<Self>, pmd: Paddr, va: Vaddr) -> Result<()> {
        k.flush_huge(mm, pmd, va)
    }

    fn boot(_memory: &Memory, max_mms: u32) -> Result<Machine> {
        if max_mms > CONTEXTS {
            return Err(MmError::Config(format!(
                "{max_mms} address spaces; at most {CONTEXTS} have a context"
            )));
        }
        Ok(Machine { pgd: (0..MAX_CPUS).map(|_| AtomicU64::new(0)).collect() })
    }

    fn context(k: &Kernel<Self>, mm: Kva, pgd: Paddr) -> Result<Space> {
        let page = k.alloc(0, Gfp::Kernel, FrameKind::Tsb, "a TSB")?;
        // A tag of zero would be that of the lowest addresses.
        k.fill_table(page.paddr(), TSB_BYTES, TagTarget::LINUX_INVALID)?;
        if let Some(s) = k.sanitizer() {
            s.alloc(page.paddr(), TSB_BYTES, usize::MAX, mm)?;
        }
        Ok(Space { number: layout::slot(mm) as u16 + 1, pgd, tsb: Tsb(page.paddr().0) })
    }
    fn forget(k: &Kernel<Self>, context: &Space) -> Result<()> {
        let tsb = Paddr(context.tsb.0 & Tsb::BASE);
        if let Some(s) = k.sanitizer() {
            s.give(tsb, Give::Now)?;
        }
        k.free(tsb.pfn(), 0)
    }
    fn load(cpus: &Cpus<Hw>, machine: &Machine, cpu: u32, context: Option<&Space>) {
        machine.pgd[cpu as usize].store(context.map_or(0, |c| c.pgd.0), SeqCst);
        cpus.load(cpu, |c| {
            *c = context.map_or(Context::default(), |s| Context {
                state: State { primary: [s.number; 2], ..State::default() },
                instruction_tsb: s.tsb,
                data_tsb: s.tsb,
            });
        });
    }
    fn is_loaded(cpus: &Cpus<Hw>, cpu: u32, context: &Space) -> bool {
        cpus.context(cpu).state.primary[0] == context.number
    }

    fn fault(f: &Fault) -> FaultInfo {
        let need = match (f.reason, f.request.access) {
            (_, Access::Fetch) => Need::Exec,
            (Reason::Protection, _) | (_, Access::Store) => Need::Write,
            _ => Need::Any,
        };
        let corrupt = matches!(f.reason, Reason::TableError | Reason::MultipleHit);
        FaultInfo { vaddr: f.vaddr, need, corrupt }
    }

    fn translate(k: &Kernel<Self>, cpu: u32, va: Vaddr, access: Access) -> Translation<Self> {
        k.cpus.translate_with_misses(cpu, &Self::handler(k, cpu), k.config.trap_level, va, access)
    }
    fn user_piece<R>(
        k: &Kernel<Self>,
        va: Vaddr,
        access: Access,
        f: impl FnOnce(Paddr) -> R,
    ) -> Result<R, WalkStop<Fault>> {
        let handler = Self::handler(k, racewalk_sched::this_cpu());
        k.cpus.user_piece_with_misses(&handler, k.config.trap_level, va, access, f)
    }

    fn frag(scheme: Scheme) -> Option<Box<dyn Frag<Self>>> {
        frag::sparc64::of(scheme)
    }

    fn ptep_xchg(
        k: &Kernel<Self>,
        mm: &Mm<Self>,
        va: Vaddr,
        pte: Paddr,
        new: u64,
        how: How<'_>,
    ) -> Result<u64> {
        k.ptep_xchg_tsb(mm, va, pte, new, how)
    }
    fn leave_lazy(k: &Kernel<Self>, mm: &Mm<Self>, batch: &mut TlbBatch) -> Result<()> {
        k.flush_stale(mm, &batch.take())
    }
    fn mark_freed_tables(_k: &Kernel<Self>, _mm: &Mm<Self>) -> Result<()> {
        Ok(())
    }
    fn flush_mm_lazy(_k: &Kernel<Self>, _mm: &Mm<Self>) -> Result<()> {
        // Entries were flushed under the locks of their tables.
        Ok(())
    }
    fn flush_mm(k: &Kernel<Self>, mm: &Mm<Self>) -> Result<()> {
        k.flush_context(mm)
    }
    fn table_invalidate(_k: &Kernel<Self>, _mm: &Mm<Self>) -> Result<()> {
        // No hardware caches parts of these tables (`tlb_needs_table_invalidate`, hosted-mm C.2).
        Ok(())
    }
    fn collapse_flush(k: &Kernel<Self>, mm: &Mm<Self>, pmd: Paddr, va: Vaddr) -> Result<()> {
        k.collapse_table(mm, pmd, va)
    }
}

//! Power (Book3S, 64 bits). Radix trees, which hardware walks, with pages of 4K and 64K (hosted-mm E); and [`hash`].

pub mod hash;
mod pte;
mod tlb;

pub use hash::Hpt;
pub use pte::Pte;

use super::{Arch, FaultInfo, How, Level, Need, PteFormat};
use crate::error::Result;
use crate::frag::{self, Frag, Scheme};
use crate::kernel::Kernel;
use crate::layout;
use crate::memory::Memory;
use crate::mm::{Mm, mmw};
use racewalk_cpu::Cpus;
use racewalk_ram::{Kva, Paddr, Vaddr};
use racewalk_walk::ppc64::radix::entry::{ENTRY_16, Entry, PartitionEntry, Root};
use racewalk_walk::ppc64::{Context, Fault, Radix as Hw, Reason};
use std::sync::atomic::Ordering::SeqCst;

/// Radix trees with pages of 2^`SHIFT` bytes: 12 or 16.
#[derive(Clone, Copy, Debug)]
pub struct Radix<const SHIFT: u32>;

/// Bits that a tree translates.
const TREE_BITS: u64 = 52;
/// log2 of the entries of a root page directory.
const ROOT_BITS: u64 = 13;

const fn levels(page: u32) -> [Level; 4] {
    [
        Level { name: "page global directory", shift: 39, bits: 13 },
        Level { name: "page upper directory", shift: 30, bits: 9 },
        Level { name: "page middle directory", shift: 21, bits: 9 },
        Level { name: "page table", shift: page, bits: 21 - page },
    ]
}

const LEVELS_4K: &[Level] = &levels(12);
const LEVELS_64K: &[Level] = &levels(16);

/// The tables that name processes to the hardware.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Machine {
    /// The partition table; the host is partition 0.
    partitions: Paddr,
    /// The process table.
    processes: Paddr,
}

/// What names a space: its process identifier.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pid {
    pid: u64,
    partitions: Paddr,
}

impl<const SHIFT: u32> Arch for Radix<SHIFT> {
    type Hw = Hw;
    type Pte = Pte;
    type Context = Pid;
    type Machine = Machine;

    const NAME: &'static str = if SHIFT == 12 { "ppc64-radix-4k" } else { "ppc64-radix-64k" };
    const PAGE_SHIFT: u32 = SHIFT;
    const LEVELS: &'static [Level] = if SHIFT == 12 { LEVELS_4K } else { LEVELS_64K };
    // The window that Linux gives a program that does not ask for more.
    const TASK_SIZE: u64 = if SHIFT == 12 { 1 << 46 } else { 1 << 47 };
    const WALKED: bool = true;
    const NO_GATHER: bool = false;
    const DEPOSITS: bool = true;

    fn table_entry(level: usize, table: Paddr) -> u64 {
        Entry::directory(table.0, Self::LEVELS[level + 1].bits as u64).0
    }
    fn next_table(_level: usize, entry: u64) -> Option<Paddr> {
        let e = Entry(entry);
        (e.valid() && !e.is_leaf()).then_some(Paddr(entry & Entry::NLB))
    }

    fn huge_pte(entry: u64) -> Option<Pte> {
        let e = Entry(entry);
        (e.valid() && e.is_leaf()).then(|| Pte::from_raw(entry))
    }

    fn boot(memory: &Memory, max_mms: u32) -> Result<Machine> {
        let partitions = memory.kernel_table(4096, 0)?;
        let bytes = ((max_mms as u64 + 1) * ENTRY_16).next_power_of_two().max(4096);
        let processes = memory.kernel_table(bytes, 0)?;
        // The linear mapping, which translates the address of the process table: its first 1G is enough.
        let linear = memory.kernel_table(8 << ROOT_BITS, 0)?;
        let first = memory.kernel_table(4096, 0)?;
        let set = |at: Paddr, v: u64| memory.ram().store_u64(at, v);
        let all = Entry::R | Entry::C | Entry::PRIVILEGED | Entry::READ | Entry::WRITE;
        set(first, Entry::leaf(0, all).0)?;
        set(linear, Entry::directory(first.0, 9).0)?;
        set(partitions, PartitionEntry::HR | Root::new(linear.0, TREE_BITS, ROOT_BITS).0)?;
        set(partitions.offset(8), processes.0 | (bytes.trailing_zeros() as u64 - 12))?;
        Ok(Machine { partitions, processes })
    }

    fn context(k: &Kernel<Self>, mm: Kva, pgd: Paddr) -> Result<Pid> {
        // 0 is the kernel's.
        let pid = layout::slot(mm) as u64 + 1;
        let entry = k.machine.processes.offset(pid * ENTRY_16);
        k.store_u64(entry, Root::new(pgd.0, TREE_BITS, ROOT_BITS).0)?;
        Ok(Pid { pid, partitions: k.machine.partitions })
    }
    fn forget(k: &Kernel<Self>, context: &Pid) -> Result<()> {
        k.store_u64(k.machine.processes.offset(context.pid * ENTRY_16), 0)
    }
    fn load(cpus: &Cpus<Hw>, _machine: &Machine, cpu: u32, context: Option<&Pid>) {
        cpus.load(cpu, |c| {
            *c = match context {
                None => Context::default(),
                Some(p) => Context {
                    msr: Context::default().msr | Context::MSR_PR,
                    ptcr: p.partitions.0,
                    pidr: p.pid,
                    ..Context::default()
                },
            }
        });
    }
    fn is_loaded(cpus: &Cpus<Hw>, cpu: u32, context: &Pid) -> bool {
        let c = cpus.context(cpu);
        c.ptcr == context.partitions.0 && c.pidr == context.pid
    }

    fn fault(f: &Fault) -> FaultInfo {
        let need = Need::of(f.access, f.reason == Reason::NoExecute);
        let corrupt = matches!(f.reason, Reason::UnsupportedMmu | Reason::Addressing);
        FaultInfo { vaddr: f.vaddr, need, corrupt }
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
        k.ptep_xchg_radix(mm, va, pte, new, how)
    }
    fn mark_freed_tables(_k: &Kernel<Self>, mm: &Mm<Self>) -> Result<()> {
        mm.words()?[mmw::FLUSH_MM].fetch_or(tlb::TABLES, SeqCst);
        Ok(())
    }
    fn flush_mm_lazy(k: &Kernel<Self>, mm: &Mm<Self>) -> Result<()> {
        k.flush_owed(mm)
    }
    fn flush_mm(k: &Kernel<Self>, mm: &Mm<Self>) -> Result<()> {
        k.flush_pid(mm, 2, None)
    }
    fn table_invalidate(k: &Kernel<Self>, mm: &Mm<Self>) -> Result<()> {
        k.flush_owed(mm)
    }
    fn collapse_flush(k: &Kernel<Self>, mm: &Mm<Self>, pmd: Paddr, va: Vaddr) -> Result<()> {
        k.store_u64(pmd, 0)?;
        // Of the range, or, with small pages, of everything: the same here (hosted-mm C.2).
        k.flush_pid(mm, 2, Some(va))
    }
}

impl Pid {
    /// The process identifier.
    pub(super) fn pid(&self) -> u64 {
        self.pid
    }
}

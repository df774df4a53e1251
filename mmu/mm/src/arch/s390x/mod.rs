//! s390x with three levels: region-third table, segment tables, page tables (hosted-mm E). Four and five levels are
//! not modelled: an address space ends at 4 TiB.

mod pte;
mod tlb;

pub use pte::Pte;

use super::{Arch, FaultInfo, How, Level, Need};
use crate::error::Result;
use crate::frag::{self, Frag, Scheme};
use crate::kernel::Kernel;
use crate::memory::Memory;
use crate::mm::Mm;
use racewalk_cpu::{Access, Cpus};
use racewalk_ram::{Kva, Paddr, Vaddr};
use racewalk_walk::s390x::entry::TableType;
use racewalk_walk::s390x::geometry::{REGION_3_SHIFT, SEGMENT_SHIFT};
use racewalk_walk::s390x::{Asce, Fault, Reason, Rte, S390x as Hw, Ste};
use std::sync::Arc;

/// s390x.
#[derive(Clone, Copy, Debug)]
pub struct S390x;

/// The level whose entries are region-third-table entries.
const REGION_3: usize = 0;

/// The type of the table that entries of `level` are in.
fn table_type(level: usize) -> TableType {
    if level == REGION_3 { TableType::Region3 } else { TableType::Segment }
}

impl Arch for S390x {
    type Hw = Hw;
    type Pte = Pte;
    type Context = Asce;
    /// A table with no valid entry.
    type Machine = Paddr;

    const NAME: &'static str = "s390x-2k";
    const PAGE_SHIFT: u32 = 12;
    const LEVELS: &'static [Level] = &[
        Level { name: "region-third table", shift: REGION_3_SHIFT, bits: 11 },
        Level { name: "segment table", shift: SEGMENT_SHIFT, bits: 11 },
        Level { name: "page table", shift: 12, bits: 8 },
    ];
    const TASK_SIZE: u64 = 1 << 42;
    const WALKED: bool = true;
    const NO_GATHER: bool = true;
    const DEPOSITS: bool = true;

    fn table_entry(level: usize, table: Paddr) -> u64 {
        if level == REGION_3 { Rte::new(TableType::Region3, table).0 } else { Ste::new(table).0 }
    }
    fn next_table(level: usize, entry: u64) -> Option<Paddr> {
        if level == REGION_3 {
            (!Rte(entry).invalid()).then(|| Rte(entry).origin())
        } else {
            (entry & (Ste::I | Ste::FC) == 0).then(|| Ste(entry).origin())
        }
    }
    fn huge_entry(pte: Pte) -> u64 {
        pte.segment()
    }
    fn huge_pte(entry: u64) -> Option<Pte> {
        (entry & (Ste::I | Ste::FC) == Ste::FC).then(|| Pte::from_segment(entry))
    }
    fn empty(level: usize) -> u64 {
        match level {
            REGION_3 => Rte::empty(TableType::Region3).0,
            1 => Ste::EMPTY.0,
            _ => racewalk_walk::s390x::Pte::EMPTY.0,
        }
    }

    fn boot(memory: &Memory, _max_mms: u32) -> Result<Paddr> {
        memory.kernel_table(Self::LEVELS[REGION_3].bytes(), Self::empty(REGION_3))
    }
    fn context(_k: &Kernel, _mm: Kva, pgd: Paddr) -> Result<Asce> {
        // User spaces are private: no low-address protection.
        Ok(Asce(Asce::new(pgd, TableType::Region3, 3).0 | Asce::P))
    }
    fn load(cpus: &Cpus<Hw>, idle: &Paddr, cpu: u32, context: Option<&Asce>) {
        cpus.load_asce(cpu, context.copied().unwrap_or(Asce::new(*idle, TableType::Region3, 3)).0);
    }
    fn is_loaded(cpus: &Cpus<Hw>, cpu: u32, context: &Asce) -> bool {
        cpus.asce(cpu) == context.0
    }

    fn fault(f: &Fault) -> FaultInfo {
        let need = match (f.reason, f.access) {
            (Reason::InstructionExecution, _) => Need::Exec,
            (Reason::DatProtection, _) | (_, Access::Store) => Need::Write,
            _ => Need::Any,
        };
        // Only broken tables do that.
        let corrupt = matches!(f.reason, Reason::Addressing | Reason::TranslationSpecification);
        FaultInfo { vaddr: f.vaddr, need, corrupt }
    }

    fn frag(scheme: Scheme) -> Option<Box<dyn Frag<Self>>> {
        frag::s390x::of(scheme)
    }

    fn ptep_xchg(k: &Kernel, mm: &Mm, va: Vaddr, pte: Paddr, new: u64, how: How<'_>) -> Result<u64> {
        match how {
            How::Direct => k.pte_xchg_direct(mm, va, pte, new),
            How::Lazy(_) => k.pte_xchg_lazy(mm, va, pte, new),
        }
    }
    fn set_pte(k: &Kernel, pte: Paddr, new: u64) -> Result<()> {
        k.set_pte_plain(pte, new)
    }
    fn mark_freed_tables(k: &Kernel, mm: &Mm) -> Result<()> {
        // Rule 5.
        k.owe_flush(mm)
    }
    fn flush_mm_lazy(k: &Kernel, mm: &Mm) -> Result<()> {
        k.flush_mm_lazy(mm)
    }
    fn flush_mm(k: &Kernel, mm: &Mm) -> Result<()> {
        k.flush_mm(mm)
    }
    fn table_invalidate(k: &Kernel, mm: &Mm) -> Result<()> {
        k.flush_mm_lazy(mm)
    }
    fn unhook(k: &Kernel, mm: &Mm, entry: Paddr, level: usize, va: Vaddr) -> Result<()> {
        k.unhook(mm, entry, level, va)
    }
    fn collapse_flush(k: &Kernel, mm: &Mm, pmd: Paddr, va: Vaddr) -> Result<()> {
        k.flush_entry(mm, pmd, Self::LEVELS.len() - 2, va)?;
        k.store_u64(pmd, Ste::EMPTY.0)
    }
    fn switch_mm(k: &Kernel, cpu: u32, next: Option<&Arc<Mm>>) -> Result<()> {
        k.switch_mm(cpu, next)
    }
}

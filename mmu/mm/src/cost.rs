//! What a scheme costs: the numbers by which schemes are compared.

use crate::arch::Arch;
use crate::hold::Held;
use crate::kernel::Kernel;

/// How values of several runs are put together.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// By their mean.
    Count,
    /// By the largest.
    Peak,
    /// By the first run's, which nothing disturbs.
    Time,
}

/// A number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cost {
    /// Its name.
    pub name: &'static str,
    /// What it counts, with its unit.
    pub what: &'static str,
    /// The value.
    pub value: u64,
    /// How it goes with those of other runs.
    pub kind: Kind,
}

impl<A: Arch> Kernel<A> {
    /// What the tables of this kernel have cost so far. Bytes in use and pending are zero without the sanitizer, times
    /// unless they are measured.
    pub fn cost(&self) -> Vec<Cost> {
        let s = self.stats();
        let usage = self.sanitizer().map(|s| s.usage()).unwrap_or_default();
        let count = |name, what, value| Cost { name, what, value, kind: Kind::Count };
        let peak = |name, what, value| Cost { name, what, value, kind: Kind::Peak };
        let held = |name, what, of| Cost { name, what, value: self.holds().longest(of), kind: Kind::Time };
        vec![
            count("tables", "PTE tables handed out", s.tables_allocated.get()),
            count("reused", "of those, in a page used before", s.tables_reused.get()),
            count("deferred", "PTE tables through pte_free_defer", s.tables_deferred.get()),
            peak("in_use", "most bytes of PTE tables in use", usage.in_use_peak),
            peak("pending", "most bytes of PTE tables given back and not usable", usage.pending_peak),
            peak("pages", "most bytes of pages that hold tables", s.table_bytes_peak.get()),
            count("call_rcu", "calls of call_rcu", s.rcu_calls.get()),
            count("grace_periods", "grace periods", s.rcu_grace_periods.get()),
            count("ipis", "cross calls", s.flush_ipi.get()),
            held("ptl", "longest time with a page-table lock", Held::Ptl),
            held("irq_off", "longest time with interrupts off", Held::IrqOff),
            held("mmap_lock", "longest time with mmap_lock", Held::MmapLock),
        ]
    }
}

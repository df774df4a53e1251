//! One PTE table to a page: the page's `rcu_head` is the table's own (hosted-mm S390-67, GEN-defer, SPARC-conv,
//! SPARC-quick, SPARC-rcu). No flaw is known but that of quicklists.

use super::{Frag, Scheme};
use crate::arch::Arch;
use crate::error::{Result, broken};
use crate::gather::TableBatch;
use crate::kernel::Kernel;
use crate::mm::Mm;
use crate::mutant::Step;
use crate::page::{FrameKind, Pages};
use crate::rcu::RcuFunc;
use racewalk_ram::{Kva, Paddr, Pfn};
use racewalk_sched::{point, this_cpu};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// How tables of a page of their own are freed.
#[derive(Debug)]
pub(super) enum Whole {
    /// `gen-defer`, `s390-67`, `sparc-conv`, `sparc-rcu`: through the gather's batch, or `call_rcu` of the table.
    Rcu {
        /// There is a `pte_free_defer`.
        defers: bool,
        /// See [`Frag::rereads`].
        rereads: bool,
        /// See [`Frag::guards_halves`].
        guards: bool,
    },
    /// `sparc-quick`: freed tables go to a per-CPU list at once and are handed out from there: no delay for lockless
    /// walkers.
    Quick(Mutex<Vec<(u32, Paddr)>>),
}

/// Most tables that a quicklist keeps before it gives some back.
const QUICK_HIGH: usize = 25;

impl Whole {
    /// Freed through RCU; with or without a `pte_free_defer`.
    pub(super) fn rcu(defers: bool) -> Whole {
        Whole::Rcu { defers, rereads: true, guards: true }
    }
    /// Quicklists.
    pub(super) fn quick() -> Whole {
        Whole::Quick(Mutex::default())
    }
}

impl Clone for Whole {
    fn clone(&self) -> Whole {
        match self {
            Whole::Rcu { defers, rereads, guards } => {
                Whole::Rcu { defers: *defers, rereads: *rereads, guards: *guards }
            }
            Whole::Quick(q) => Whole::Quick(Mutex::new(list(q).clone())),
        }
    }
}

/// The code of a scheme that is not an architecture's own.
pub(crate) fn of<A: Arch>(scheme: Scheme) -> Option<Box<dyn Frag<A>>> {
    match scheme.name() {
        "gen-defer" | "s390-67" => Some(Box::new(Whole::rcu(true))),
        _ => None,
    }
}

fn page_of<A: Arch>(k: &Kernel<A>, table: Paddr) -> Result<Pfn> {
    let page = k.kmem.pages.at(table)?;
    if k.kmem.pages.kind(page)? != FrameKind::PteTables || page.paddr() != table {
        let found = format!("{:#x} is not a PTE table: {:?}", table.0, k.kmem.pages.kind(page)?);
        return k.broken_about(1, found, table);
    }
    Ok(page)
}

fn release<A: Arch>(k: &Kernel<A>, page: Pfn) -> Result<()> {
    k.stats.tables_freed.bump();
    k.table_dtor(page)?;
    k.table_page_free(page)
}

fn list(m: &Mutex<Vec<(u32, Paddr)>>) -> MutexGuard<'_, Vec<(u32, Paddr)>> {
    m.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<A: Arch> Frag<A> for Whole {
    fn alloc(&self, k: &Kernel<A>, mm: Kva) -> Result<Paddr> {
        if let Whole::Quick(q) = self {
            point("quicklist");
            let me = this_cpu();
            let mut q = list(q);
            if let Some(i) = q.iter().rposition(|t| t.0 == me) {
                k.stats.tables_reused.bump();
                return Ok(q.remove(i).1);
            }
        }
        k.table_page(mm).map(|p| p.paddr())
    }

    fn free(&self, k: &Kernel<A>, _mm: Kva, table: Paddr) -> Result<()> {
        let page = page_of(k, table)?;
        let Whole::Quick(q) = self else { return release(k, page) };
        point("quicklist");
        let spare = {
            let mut q = list(q);
            q.push((this_cpu(), table));
            (q.len() > QUICK_HIGH).then(|| q.remove(0).1)
        };
        spare.map_or(Ok(()), |t| release(k, page_of(k, t)?))
    }

    fn free_rcu(&self, k: &Kernel<A>, mm: Kva, table: Paddr, batch: &mut TableBatch<'_, A>) -> Result<()> {
        let page = page_of(k, table)?;
        match self {
            Whole::Rcu { .. } => batch.remove_table(k, page.paddr().0),
            Whole::Quick(_) => self.free(k, mm, table),
        }
    }

    fn defers(&self) -> bool {
        matches!(self, Whole::Rcu { defers: true, .. })
    }

    fn rereads(&self) -> bool {
        !matches!(self, Whole::Rcu { rereads: false, .. })
    }

    fn guards_halves(&self) -> bool {
        !matches!(self, Whole::Rcu { guards: false, .. })
    }

    fn free_defer(&self, k: &Kernel<A>, mm: &Mm<A>, table: Paddr) -> Result<()> {
        match self {
            Whole::Rcu { .. } if !k.takes(Step::DeferGrace) => release(k, page_of(k, table)?),
            Whole::Rcu { .. } => k.call_rcu(Pages::lru(page_of(k, table)?), RcuFunc::Scheme(0)),
            Whole::Quick(_) => self.free(k, mm.kva(), table),
        }
    }

    fn remove_table(&self, k: &Kernel<A>, tag: u64) -> Result<()> {
        release(k, page_of(k, Paddr(tag))?)
    }

    #[cfg(test)]
    fn lock<'a>(&'a self, k: &'a Kernel<A>, mm: Kva) -> Result<&'a std::sync::atomic::AtomicU64> {
        Ok(&k.kmem.slab.object(mm)?[crate::mm::mmw::LOCK])
    }

    fn callback(&self, k: &Kernel<A>, which: u8, head: Kva) -> Result<()> {
        if which != 0 {
            return broken(4, format!("callback {which} of a page with one table"));
        }
        release(k, k.kmem.pages.frame_of(head, 8)?)
    }

    fn shutdown(&self, k: &Kernel<A>) -> Result<()> {
        if let Whole::Quick(q) = self {
            let all = std::mem::take(&mut *list(q));
            for (_, t) in all {
                release(k, page_of(k, t)?)?;
            }
        }
        Ok(())
    }
}

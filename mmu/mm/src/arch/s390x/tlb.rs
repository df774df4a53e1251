//! Flushing on s390x, and attaching CPUs to address spaces (hosted-mm C.2, rules 1 to 6).

use super::{S390x, table_type};
use crate::arch::{Arch, PteFormat};
use crate::context::{attach_mask, clear_cpu, cpu_mask, only_me, set_cpu};
use crate::error::{Result, broken_at};
use crate::kernel::{Kernel, Unhook};
use crate::layout;
use crate::lockword;
use crate::mm::{Mm, mmw};
use racewalk_ram::{Kva, Paddr, Vaddr};
use racewalk_sched::{point, tso, wait_while, wake};
use racewalk_walk::s390x::{Pte, Rte};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

impl Kernel<S390x> {
    fn in_flush<R>(&self, w: &[AtomicU64], f: impl FnOnce() -> R) -> R {
        let count = &w[mmw::FLUSH_COUNT];
        tso::fence();
        count.fetch_add(1, SeqCst);
        let r = f();
        tso::fence();
        if count.fetch_sub(1, SeqCst) == 1 {
            wake(std::ptr::from_ref(count) as usize);
        }
        r
    }

    /// Notes that a flush of everything is owed: a plain store.
    pub(super) fn owe_flush(&self, mm: &Mm<S390x>) -> Result<()> {
        self.kmem.poke(Kva(mm.kva().0 + mmw::FLUSH_MM as u64 * 8), 1, "an address space")
    }

    fn ipte(&self, w: &[AtomicU64], pte: Paddr, va: Vaddr) {
        let local = only_me(cpu_mask(w));
        point("ipte");
        if local {
            self.stats.flush_ipte_local.bump();
            self.cpus.ipte_local(pte, va);
        } else {
            self.stats.flush_ipte.bump();
            self.cpus.ipte(pte, va);
        }
    }

    /// Stores an entry where there is none, or changes software bits only; anything else done to an entry that a
    /// CPU may be using is invariant 18.
    pub(super) fn set_pte_plain(&self, pte: Paddr, new: u64) -> Result<()> {
        point("pte.store");
        let old = Pte(self.load_u64(pte)?);
        if !old.invalid() && (old.0 ^ new) & !Pte::SOFTWARE != 0 {
            let found = format!("a plain store turns valid entry {:#x} at {pte:?} into {new:#x}", old.0);
            return broken_at(18, layout::direct(pte), found);
        }
        self.store_u64(pte, new)
    }

    /// `ptep_xchg_direct`: the entry is invalid and flushed on every CPU before `new` is stored. The caller holds
    /// the table's lock.
    pub(super) fn pte_xchg_direct(&self, mm: &Mm<S390x>, va: Vaddr, pte: Paddr, new: u64) -> Result<u64> {
        let old = self.load_pte(pte)?.raw();
        if !Pte(old).invalid() {
            point("pte.flush");
            let w = mm.words()?;
            self.in_flush(w, || self.ipte(w, pte, va));
        }
        self.set_pte_plain(pte, new)?;
        Ok(old)
    }

    /// `ptep_xchg_lazy`: like the direct form, unless only this CPU is attached: then the invalid bit is stored and
    /// the flush left to [`flush_mm_lazy`](Self::flush_mm_lazy).
    pub(super) fn pte_xchg_lazy(&self, mm: &Mm<S390x>, va: Vaddr, pte: Paddr, new: u64) -> Result<u64> {
        let old = self.load_pte(pte)?.raw();
        if !Pte(old).invalid() {
            point("pte.flush");
            let w = mm.words()?;
            self.in_flush(w, || -> Result<()> {
                point("flush.attach_test");
                let lazy = only_me(attach_mask(w));
                point("flush.lazy");
                if lazy {
                    self.store_u64(pte, old | Pte::I)?;
                    self.owe_flush(mm)?;
                    self.stats.flush_lazy.bump();
                } else {
                    self.stats.flush_ipte.bump();
                    self.cpus.ipte(pte, va);
                }
                Ok(())
            })?;
        }
        self.set_pte_plain(pte, new)?;
        Ok(old)
    }

    /// Takes away the entry for `va` of a segment or region table.
    pub(super) fn unhook(&self, mm: &Mm<S390x>, entry: Paddr, level: usize, va: Vaddr) -> Result<()> {
        point("pmd.clear");
        if self.config.unhook == Unhook::Idte && self.load_u64(entry)? & Rte::I == 0 {
            self.flush_entry(mm, entry, level, va)?;
        }
        self.store_u64(entry, S390x::empty(level))
    }

    /// IDTE of the entry for `va` of a segment or region table.
    pub(super) fn flush_entry(&self, mm: &Mm<S390x>, entry: Paddr, level: usize, va: Vaddr) -> Result<()> {
        let w = mm.words()?;
        self.stats.flush_idte_entry.bump();
        let flush = self.flush_begins(mm.kva(), Some(va));
        self.in_flush(w, || self.cpus.idte_entry(entry, table_type(level), va));
        self.flush_ends(mm.kva(), Some(va), flush);
        Ok(())
    }

    /// `__tlb_flush_mm`: IDTE clearing by ASCE.
    pub(super) fn flush_mm(&self, mm: &Mm<S390x>) -> Result<()> {
        let w = mm.words()?;
        self.in_flush(w, || {
            tso::fence();
            for (to, from) in cpu_mask(w).iter().zip(attach_mask(w)) {
                to.store(from.load(SeqCst), SeqCst);
            }
            point("flush.idte_asce");
            self.stats.flush_idte_asce.bump();
            let flush = self.flush_begins(mm.kva(), None);
            self.cpus.idte_asce(mm.asce().0);
            self.flush_ends(mm.kva(), None, flush);
        });
        Ok(())
    }

    /// `__tlb_flush_mm_lazy`: the flush, if somebody left it to us.
    pub(super) fn flush_mm_lazy(&self, mm: &Mm<S390x>) -> Result<()> {
        let w = mm.words()?;
        lockword::lock(&w[mmw::LOCK], "context.lock")?;
        let r = if w[mmw::FLUSH_MM].swap(0, SeqCst) != 0 { self.flush_mm(mm) } else { Ok(()) };
        lockword::unlock(&w[mmw::LOCK], "context.lock")?;
        r
    }

    /// `switch_mm` and `finish_arch_post_lock_switch` for `cpu`, which runs the caller: attaches it to `next`, or
    /// to the empty space. Does not return while a direct flush of `next` is under way.
    pub(super) fn switch_mm(&self, cpu: u32, next: Option<&Arc<Mm<S390x>>>) -> Result<()> {
        point("switch_mm");
        if let Some(mm) = next {
            set_cpu(attach_mask(mm.words()?), cpu);
        }
        let prev = self.active[cpu as usize].lock("active").take();
        S390x::load(&self.cpus, &self.machine, cpu, None);
        let same = prev.as_ref().zip(next).is_some_and(|(p, n)| Arc::ptr_eq(p, n));
        if let Some(prev) = prev
            && !same
        {
            clear_cpu(attach_mask(prev.words()?), cpu);
            prev.drop_if_last()?;
        }
        if let Some(mm) = next {
            let w = mm.words()?;
            let count = &w[mmw::FLUSH_COUNT];
            wait_while(std::ptr::from_ref(count) as usize, "switch_mm.flush_count", || {
                count.load(SeqCst) != 0
            });
            set_cpu(cpu_mask(w), cpu);
            self.flush_mm_lazy(mm)?;
            *self.active[cpu as usize].lock("active") = Some(mm.clone());
            point("switch_mm.load_asce");
            S390x::load(&self.cpus, &self.machine, cpu, Some(mm.context()));
        }
        Ok(())
    }
}

//! Flushing on x86: by cross call, on CPUs that have interrupts on (Intel SDM volume 3, "Propagation of Paging-Structure
//! Changes to Multiple Processors"); and entries of two words (hosted-mm PAE).

use super::{Pae, Pte};
use crate::arch::{How, PteFormat};
use crate::error::Result;
use crate::kernel::Kernel;
use crate::lockword;
use crate::mm::{Mm, mmw};
use racewalk_ram::{Paddr, Vaddr};
use racewalk_sched::{point, this_cpu};
use racewalk_walk::pae::invalidate::{invlpg, mov_cr4_pge};
use std::sync::atomic::Ordering::SeqCst;

/// A flush is owed.
pub(super) const OWED: u64 = 1;

impl Kernel<Pae> {
    fn word(&self, at: Paddr) -> Result<u64> {
        Ok(self.load_u32(at)?.swap_bytes() as u64)
    }

    /// `pmdp_get_lockless`: the low word, then the high word. A scheme that guards this masks interrupts and begins anew until
    /// the low word is what it was: with interrupts masked, whoever clears the entry cannot fill it again before the end.
    pub(super) fn load_halves(&self, at: Paddr) -> Result<u64> {
        if !self.frag.guards_halves() {
            let low = self.word(at)?;
            point("entry.high");
            return Ok(self.word(at.offset(4))? << 32 | low);
        }
        let cpu = this_cpu();
        self.cpus.irq_off(cpu);
        let r = loop {
            let (low, high) = match (self.word(at), {
                point("entry.high");
                self.word(at.offset(4))
            }) {
                (Ok(low), Ok(high)) => (low, high),
                (Err(e), _) | (_, Err(e)) => break Err(e),
            };
            point("entry.again");
            match self.word(at) {
                Ok(again) if again == low => break Ok(high << 32 | low),
                Ok(_) => {}
                Err(e) => break Err(e),
            }
        };
        self.cpus.irq_on(cpu);
        r
    }

    /// `pmd_clear`: the low word, which has P, then the high word.
    pub(super) fn clear_halves(&self, at: Paddr) -> Result<()> {
        point("pmd.clear");
        self.store_u32(at, 0)?;
        point("pmd.clear_high");
        self.store_u32(at.offset(4), 0)
    }

    /// `pmdp_get_lockless_sync`: waits for those who read an entry by halves.
    pub(super) fn lockless_sync(&self) {
        if self.frag.guards_halves() {
            self.cross_call();
        }
    }

    /// An entry changes under its table's lock: `cmpxchg8b`, and the flush now or with the gather.
    pub(super) fn ptep_xchg_pae(
        &self,
        mm: &Mm<Pae>,
        va: Vaddr,
        pte: Paddr,
        new: u64,
        how: How<'_>,
    ) -> Result<u64> {
        point("pte.xchg");
        let old = self.xchg_u64(pte, new.swap_bytes())?.swap_bytes();
        if Pte::from_raw(old).valid() {
            match how {
                How::Direct => {
                    self.stats.flush_page.bump();
                    let page = invlpg(va.0).map(|p| (Some(va), p));
                    self.cpus.cross_purge("invlpg", &page);
                }
                How::Lazy(_) => {
                    mm.words()?[mmw::FLUSH_MM].fetch_or(OWED, SeqCst);
                    self.stats.flush_lazy.bump();
                }
            }
        }
        Ok(old)
    }

    /// `flush_tlb_mm`: everything on every CPU, since nothing tells spaces apart. `va`: for what the table of that address
    /// translates.
    pub(super) fn flush_all(&self, mm: &Mm<Pae>, va: Option<Vaddr>) {
        self.stats.flush_pid.bump();
        let flush = self.flush_begins(mm.kva(), va);
        point("flush.all");
        self.cpus.cross_purge("mov_cr4", &[(None, mov_cr4_pge())]);
        self.flush_ends(mm.kva(), va, flush);
    }

    /// What was left to the end of the gather. Whoever finds that somebody else is at it waits for that.
    pub(super) fn flush_owed_pae(&self, mm: &Mm<Pae>) -> Result<()> {
        let w = mm.words()?;
        lockword::lock(&w[mmw::LOCK], "context.lock")?;
        if w[mmw::FLUSH_MM].swap(0, SeqCst) != 0 {
            self.flush_all(mm, None);
        }
        lockword::unlock(&w[mmw::LOCK], "context.lock")
    }
}

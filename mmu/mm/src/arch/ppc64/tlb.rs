//! Flushing with radix trees (hosted-mm C.2): `ptesync; tlbie; eieio; tlbsync; ptesync`, and a walk cache that only RIC
//! 1 and 2 reach.

use super::Radix;
use crate::arch::{Arch, How, PteFormat};
use crate::error::{Result, broken};
use crate::kernel::Kernel;
use crate::lockword;
use crate::mm::{Mm, mmw};
use crate::mutant::Step;
use racewalk_cpu::Broadcasts;
use racewalk_ram::{Paddr, Vaddr};
use racewalk_sched::point;
use racewalk_walk::ppc64::Context;
use racewalk_walk::ppc64::invalidate::{Operands, tlbie};
use std::sync::atomic::Ordering::SeqCst;

/// A flush of translations is owed.
const PAGES: u64 = 1;
/// A flush of walk caches too: tables were unhooked.
pub(super) const TABLES: u64 = 2;

/// RB: by page, and by process.
const IS_PID: u64 = 1 << 10;
/// AP of RB, by the size of a page.
const AP_SHIFT: u32 = 5;

impl<const SHIFT: u32> Kernel<Radix<SHIFT>> {
    /// One broadcast and everything that makes it complete.
    fn broadcast(&self, va: Option<Vaddr>, o: Operands) -> Result<()> {
        point("tlbie");
        let effect =
            tlbie(&Context::default(), o).or_else(|r| broken(0, format!("tlbie {o:?} is refused: {r:?}")))?;
        let mut sent = Broadcasts::new();
        sent.tlbie(&self.cpus, va, &effect);
        sent.eieio();
        sent.tlbsync();
        sent.ptesync(&self.cpus);
        Ok(())
    }

    /// Everything of the process; `ric` 2: walk caches too. `va`: for what the table of that address translates.
    pub(super) fn flush_pid(&self, mm: &Mm<Radix<SHIFT>>, ric: u8, va: Option<Vaddr>) -> Result<()> {
        let rs = mm.context().pid() << 32;
        self.stats.flush_pid.bump();
        let o = Operands { rb: IS_PID, rs, ric, prs: true, radix: true };
        if ric != 2 {
            return self.broadcast(None, o);
        }
        let flush = self.flush_begins(mm.kva(), va);
        self.broadcast(None, o)?;
        self.flush_ends(mm.kva(), va, flush);
        Ok(())
    }

    fn flush_page(&self, mm: &Mm<Radix<SHIFT>>, va: Vaddr) -> Result<()> {
        let ap = if SHIFT == 16 { 5 } else { 0 };
        let rb = va.0 >> SHIFT << SHIFT | ap << AP_SHIFT;
        self.stats.flush_page.bump();
        let o = Operands { rb, rs: mm.context().pid() << 32, ric: 0, prs: true, radix: true };
        self.broadcast(Some(va), o)
    }

    /// `ptep_get_and_clear` and its like: an atomic exchange, and the flush now or with the gather.
    pub(super) fn ptep_xchg_radix(
        &self,
        mm: &Mm<Radix<SHIFT>>,
        va: Vaddr,
        pte: Paddr,
        new: u64,
        how: How<'_>,
    ) -> Result<u64> {
        point("pte.xchg");
        let old = self.xchg_u64(pte, new)?;
        if <Radix<SHIFT> as Arch>::Pte::from_raw(old).valid() {
            match how {
                How::Direct => self.flush_page(mm, va)?,
                How::Lazy(_) => {
                    mm.words()?[mmw::FLUSH_MM].fetch_or(PAGES, SeqCst);
                    self.stats.flush_lazy.bump();
                }
            }
        }
        Ok(old)
    }

    /// What was left to the end of the gather. Whoever finds that somebody else is at it waits for that.
    pub(super) fn flush_owed(&self, mm: &Mm<Radix<SHIFT>>) -> Result<()> {
        let w = mm.words()?;
        lockword::lock(&w[mmw::LOCK], "context.lock")?;
        let r = match w[mmw::FLUSH_MM].swap(0, SeqCst) {
            0 => Ok(()),
            owed => {
                let tables = owed & TABLES != 0 && self.takes(Step::WalkCache);
                self.flush_pid(mm, if tables { 2 } else { 0 }, None)
            }
        };
        lockword::unlock(&w[mmw::LOCK], "context.lock")?;
        r
    }
}

//! Taking away: pages out of a range, the tables that nothing else uses, a table from under an object mapping.

use crate::arch::{Arch, How, PteFormat};
use crate::error::Result;
use crate::gather::Gather;
use crate::kernel::Kernel;
use crate::mm::{Mm, mmw};
use crate::mutant::Step;
use crate::pgtable::{above, pmd_level, pte_level};
use crate::tlb_batch::TlbBatch;
use racewalk_ram::{Paddr, Vaddr};
use racewalk_sched::point;
use std::sync::atomic::Ordering::SeqCst;

impl<A: Arch> Kernel<A> {
    /// Calls `f` with each piece of `start..end` that lies in one segment and has a page table there.
    pub(super) fn each_segment(
        &self,
        mm: &Mm<A>,
        start: u64,
        end: u64,
        mut f: impl FnMut(Paddr, u64, u64) -> Result<()>,
    ) -> Result<()> {
        let (segment, above) = (A::LEVELS[pmd_level::<A>()].span(), above::<A>());
        let mut a = start;
        while a < end {
            match self.pmd_offset(mm, Vaddr(a))? {
                None => a = (a | (above - 1)).saturating_add(1),
                Some(pmd) => {
                    let stop = ((a | (segment - 1)) + 1).min(end);
                    f(pmd, a, stop)?;
                    a = stop;
                }
            }
        }
        Ok(())
    }

    /// Takes all pages out of `start..end`.
    pub(crate) fn zap_range(&self, g: &mut Gather<'_, A>, mm: &Mm<A>, start: u64, end: u64) -> Result<()> {
        self.each_segment(mm, start, end, |pmd, from, to| {
            let mut a = from;
            while a < to {
                let Some(mut l) = self.pte_map_lock(pmd, Vaddr(a))? else {
                    if self.zap_or_split(mm, pmd, (a, to))? {
                        continue;
                    }
                    return Ok(());
                };
                let mut batch = TlbBatch::default();
                l.load()?;
                while a < to && !g.is_full() {
                    if !l.peek()?.none() {
                        let how = How::Lazy(&mut batch);
                        let old = self.ptep_xchg(mm, Vaddr(a), l.pte, A::Pte::EMPTY, how)?;
                        if old.present() && !old.special() {
                            self.remove_rmap(mm, old.frame())?;
                            g.remove_page(old.frame())?;
                        }
                    }
                    a += self.page_size();
                    l.pte = l.pte.offset(8);
                }
                A::leave_lazy(self, mm, &mut batch)?;
                drop(l);
                if g.is_full() {
                    g.flush()?;
                }
            }
            Ok(())
        })
    }

    /// Frees the tables that only `start..end` uses: none that also covers addresses below `floor` or from
    /// `ceiling` on.
    pub(crate) fn free_pgtables(
        &self,
        g: &mut Gather<'_, A>,
        mm: &Mm<A>,
        (start, end): (u64, u64),
        (floor, ceiling): (u64, u64),
    ) -> Result<()> {
        let within = |span: u64| {
            let lo = start & !(span - 1);
            let hi = (end + span - 1) & !(span - 1);
            let lo = if lo < floor { lo + span } else { lo };
            let hi = if hi > ceiling { hi - span } else { hi };
            (lo, hi)
        };
        let pmd = pmd_level::<A>();
        let (lo, hi) = within(A::LEVELS[pmd].span());
        if lo < hi {
            self.each_segment(mm, lo, hi, |entry, from, _| {
                let Some(table) = self.pte_table(entry)? else { return Ok(()) };
                A::unhook(self, mm, entry, pmd, Vaddr(from))?;
                self.unhooked(table, entry)?;
                mm.words()?[mmw::NR_PTES].fetch_sub(1, SeqCst);
                g.remove_pte_table(table)
            })?;
        }
        for level in (0..pmd).rev() {
            let span = A::LEVELS[level].span();
            let (lo, hi) = within(span);
            let mut a = lo;
            while a < hi {
                let va = Vaddr(a);
                if let Some(entry) = self.upper_entry(mm, level, va)?
                    && let Some(table) = A::next_table(level, self.load_entry(entry)?)
                {
                    A::unhook(self, mm, entry, level, va)?;
                    self.unhooked(table, entry)?;
                    self.upper_dtor(level + 1, table)?;
                    g.remove_upper(level + 1, table)?;
                }
                a += span;
            }
        }
        Ok(())
    }

    /// `retract_page_tables` for one segment (hosted-mm C.4): takes an empty page table away from under an object
    /// mapping. With `defer` readers under RCU may be inside; without, the caller keeps them out. False if it is not
    /// empty.
    pub(crate) fn retract_table(&self, mm: &Mm<A>, start: u64, defer: bool) -> Result<bool> {
        let Some(pmd) = self.pmd_offset(mm, Vaddr(start))? else { return Ok(false) };
        let table = self.with_lock(self.pmd_lock(mm, pmd)?, "pmd lock", || -> Result<Option<Paddr>> {
            let Some(l) = self.pte_map_lock(pmd, Vaddr(start))? else { return Ok(None) };
            let table = l.pte;
            point("pte.load");
            // Under the lock no entry changes: one look at all of them.
            for i in 0..pte_level::<A>().entries() {
                if !A::Pte::from_raw(A::peek_entry(self, table.offset(i * 8))?).none() {
                    return Ok(None);
                }
            }
            point("pmd.collapse_flush");
            self.unhooked(table, pmd)?;
            match self.takes(Step::CollapseFlush) {
                true => A::collapse_flush(self, mm, pmd, Vaddr(start))?,
                false => A::store_entry(self, pmd, A::empty(pmd_level::<A>()))?,
            }
            Ok(Some(table))
        })??;
        let Some(table) = table else { return Ok(false) };
        mm.words()?[mmw::NR_PTES].fetch_sub(1, SeqCst);
        if defer {
            self.pte_table_free_defer(mm, table)?;
        } else {
            if self.takes(Step::RetractIpi) {
                self.cross_call();
            }
            self.pte_table_free(mm.kva(), table)?;
        }
        Ok(true)
    }
}

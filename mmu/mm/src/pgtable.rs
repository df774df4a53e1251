//! Page tables: making, mapping, locking and taking them away. The same code for every architecture's levels.

use crate::arch::{Arch, How, Level, PteFormat};
use crate::error::{Result, broken};
use crate::gather::Gather;
use crate::hold::{Held, Since};
use crate::kernel::{Kernel, PmdLocks};
use crate::lockword;
use crate::mm::{Mm, mmw};
use crate::mutant::Step;
use crate::page::{flag, word};
use crate::rcu::RcuReader;
use crate::sanitizer::{Class, What};
use crate::tlb_batch::TlbBatch;
use crate::vma::Vma;
use racewalk_ram::{Paddr, Pfn, Vaddr};
use racewalk_sched::point;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

/// The level whose entries point to PTE tables.
pub(crate) const fn pmd_level<A: Arch>() -> usize {
    A::LEVELS.len() - 2
}

/// Bytes that a table whose entries point to PTE tables covers.
const fn above<A: Arch>() -> u64 {
    let pmd = A::LEVELS[pmd_level::<A>()];
    pmd.span() << pmd.bits
}

/// The PTE table's level.
pub(crate) const fn pte_level<A: Arch>() -> Level {
    A::LEVELS[A::LEVELS.len() - 1]
}

/// A page table, mapped and locked: `pte_offset_map_lock`.
#[derive(Debug)]
pub(crate) struct PteLock<'a, A: Arch> {
    k: &'a Kernel<A>,
    /// The entry for the address that was asked for.
    pub(crate) pte: Paddr,
    page: Pfn,
    rcu: RcuReader<'a>,
    _since: Option<Since<'a>>,
}

impl<A: Arch> PteLock<'_, A> {
    /// The entry.
    pub(crate) fn load(&self) -> Result<A::Pte> {
        point("pte.load");
        let raw = A::peek_entry(self.k, self.pte)?;
        self.rcu.loaded(self.pte, raw)?;
        Ok(A::Pte::from_raw(raw))
    }
    /// The same without a scheduling point, unseen by the sanitizer: for entries behind the first, which change only
    /// under this lock.
    fn peek(&self) -> Result<A::Pte> {
        Ok(A::Pte::from_raw(A::peek_entry(self.k, self.pte)?))
    }
    /// Whether another table has the same lock (the other half of the page).
    fn shares_lock(&self, page: Pfn) -> bool {
        self.page == page
    }
}

impl<A: Arch> Drop for PteLock<'_, A> {
    fn drop(&mut self) {
        let r = self.k.kmem.pages.word(self.page, word::PTL).and_then(|w| lockword::unlock(w, "ptl"));
        if let Err(e) = r {
            self.k.report(e);
        }
    }
}

impl<A: Arch> Kernel<A> {
    pub(crate) fn with_lock<R>(&self, w: &AtomicU64, l: &'static str, f: impl FnOnce() -> R) -> Result<R> {
        lockword::lock(w, l)?;
        let r = f();
        lockword::unlock(w, l)?;
        Ok(r)
    }

    /// The lock of the upper table that an entry is in: `pmd_lockptr`.
    fn pmd_lock<'a>(&'a self, mm: &'a Mm<A>, pmd: Paddr) -> Result<&'a AtomicU64> {
        match self.config.pmd_locks {
            PmdLocks::Split => self.kmem.pages.word(self.pmd_page(pmd)?, word::PTL),
            PmdLocks::Space => Ok(&mm.words()?[mmw::PAGE_TABLE_LOCK]),
        }
    }

    /// Runs `f` under the lock of the upper table that `pmd` is in.
    pub(crate) fn with_pmd_lock<R>(
        &self,
        mm: &Mm<A>,
        pmd: Paddr,
        f: impl FnOnce() -> Result<R>,
    ) -> Result<R> {
        self.with_lock(self.pmd_lock(mm, pmd)?, "pmd lock", f)?
    }

    pub(crate) fn load_pte(&self, pte: Paddr) -> Result<A::Pte> {
        point("pte.load");
        Ok(A::Pte::from_raw(A::load_entry(self, pte)?))
    }

    /// Loads an entry of a table above the PTE tables.
    pub(crate) fn load_entry(&self, entry: Paddr) -> Result<u64> {
        point("pmd.load");
        if let Some(s) = self.sanitizer() {
            s.touch(entry)?;
        }
        A::load_entry(self, entry)
    }

    /// Notes that `entry` of level `level` points to `table` now, for `va` among others.
    pub(crate) fn hooked(&self, level: usize, table: Paddr, entry: Paddr, va: Vaddr) -> Result<()> {
        match self.sanitizer() {
            Some(s) => s.hook(table, entry, Vaddr(va.0 & !(A::LEVELS[level].span() - 1))),
            None => Ok(()),
        }
    }

    /// Notes that it does not any more.
    pub(crate) fn unhooked(&self, table: Paddr, entry: Paddr) -> Result<()> {
        self.sanitizer().map_or(Ok(()), |s| s.unhook(table, entry))
    }

    /// The PTE table that a PMD entry points to.
    fn pte_table(&self, pmd: Paddr) -> Result<Option<Paddr>> {
        Ok(A::next_table(pmd_level::<A>(), self.load_entry(pmd)?))
    }

    /// The entry for `va` that points, or would point, to a PTE table, if the tables above exist.
    pub(crate) fn pmd_offset(&self, mm: &Mm<A>, va: Vaddr) -> Result<Option<Paddr>> {
        self.upper_entry(mm, pmd_level::<A>(), va)
    }

    /// `pte_alloc`: makes sure that a page table hangs from `pmd`. Of two CPUs that find none, one loses and frees
    /// the table it made.
    pub(crate) fn pte_alloc(&self, mm: &Mm<A>, pmd: Paddr, va: Vaddr) -> Result<()> {
        let there = self.load_entry(pmd)?;
        if A::next_table(pmd_level::<A>(), there).is_some() || A::huge_pte(there).is_some() {
            return Ok(());
        }
        let table = self.pte_table_alloc(mm.kva())?;
        let used = self.with_lock(self.pmd_lock(mm, pmd)?, "pmd lock", || -> Result<bool> {
            // No huge page can have come: that takes mmap_lock for writing.
            if self.takes(Step::PmdRecheck) && self.pte_table(pmd)?.is_some() {
                return Ok(false);
            }
            point("pmd.populate");
            A::store_entry(self, pmd, A::table_entry(pmd_level::<A>(), table))?;
            self.hooked(pmd_level::<A>(), table, pmd, va)?;
            Ok(true)
        })??;
        if used {
            mm.words()?[mmw::NR_PTES].fetch_add(1, SeqCst);
        } else {
            self.stats.tables_lost_race.bump();
            self.pte_table_free(mm.kva(), table)?;
        }
        Ok(())
    }

    /// `pte_offset_map_lock`: the entry for `va` in the table that hangs from `pmd`, with the table's lock; none if
    /// there is no table (hosted-mm C.5).
    pub(crate) fn pte_map_lock(&self, pmd: Paddr, va: Vaddr) -> Result<Option<PteLock<'_, A>>> {
        loop {
            let rcu = self.rcu_read_lock();
            let Some(table) = self.pte_table(pmd)? else { return Ok(None) };
            rcu.hold(table);
            rcu.reclass(Class::W5);
            let page = self.kmem.pages.at(table)?;
            lockword::lock(self.kmem.pages.word(page, word::PTL)?, "ptl")?;
            let pte = table.offset(pte_level::<A>().offset(va));
            let locked = PteLock { k: self, pte, page, rcu, _since: self.holds.begin(Held::Ptl) };
            if !self.takes(Step::MapLockRecheck) || self.pte_table(pmd)? == Some(table) {
                return Ok(Some(locked));
            }
        }
    }

    /// An unlocked look at the entry for `va`; empty if there is no table, none if the segment is a huge page.
    pub(crate) fn pte_peek(&self, pmd: Paddr, va: Vaddr) -> Result<Option<A::Pte>> {
        let rcu = self.rcu_read_lock();
        let entry = self.load_entry(pmd)?;
        if A::huge_pte(entry).is_some() {
            return Ok(None);
        }
        let Some(table) = A::next_table(pmd_level::<A>(), entry) else { return Ok(Some(A::Pte::EMPTY)) };
        rcu.hold(table);
        let at = table.offset(pte_level::<A>().offset(va));
        let pte = self.load_pte(at)?;
        rcu.loaded(at, pte.raw())?;
        Ok(Some(pte))
    }

    /// Calls `f` with each piece of `start..end` that lies in one segment and has a page table there.
    fn each_segment(
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

    /// Gives all present entries of `start..end` the protection of `vma`.
    pub(crate) fn change_protection(&self, mm: &Mm<A>, vma: &Vma, start: u64, end: u64) -> Result<()> {
        self.each_segment(mm, start, end, |pmd, from, to| {
            let locked = match self.pte_map_lock(pmd, Vaddr(from))? {
                None if self.split_if_huge(mm, pmd, Vaddr(from))? => self.pte_map_lock(pmd, Vaddr(from))?,
                l => l,
            };
            let Some(mut l) = locked else { return Ok(()) };
            let mut batch = TlbBatch::default();
            for a in (from..to).step_by(1 << A::PAGE_SHIFT) {
                let old = l.load()?;
                if old.present() {
                    let new = old.modify(vma.prot, vma.is_shared());
                    if new != old {
                        self.ptep_xchg(mm, Vaddr(a), l.pte, new, How::Lazy(&mut batch))?;
                    }
                }
                l.pte = l.pte.offset(8);
            }
            A::leave_lazy(self, mm, &mut batch)
        })
    }

    /// Moves the entries of `len` bytes from `old` to `new`, which has none. Entries whose new table cannot be had
    /// stay; the error says so after as many as possible were moved.
    pub(crate) fn move_page_tables(&self, mm: &Mm<A>, old: u64, new: u64, len: u64) -> Result<()> {
        let (segment, above) = (A::LEVELS[pmd_level::<A>()].span(), above::<A>());
        let mut at = 0;
        while at < len {
            let Some(from_pmd) = self.pmd_offset(mm, Vaddr(old + at))? else {
                at += ((old + at) | (above - 1)) + 1 - (old + at);
                continue;
            };
            let piece = |a: u64| (a | (segment - 1)) + 1 - a;
            let n = piece(old + at).min(piece(new + at)).min(len - at);
            if self.pte_table(from_pmd)?.is_some() || self.split_if_huge(mm, from_pmd, Vaddr(old + at))? {
                let to_pmd = self.pmd_alloc(mm, Vaddr(new + at))?;
                self.pte_alloc(mm, to_pmd, Vaddr(new + at))?;
                self.move_ptes(mm, (from_pmd, old + at), (to_pmd, new + at), n)?;
            }
            at += n;
        }
        A::flush_mm_lazy(self, mm)
    }

    fn move_ptes(&self, mm: &Mm<A>, from: (Paddr, u64), to: (Paddr, u64), n: u64) -> Result<()> {
        let Some(mut src) = self.pte_map_lock(from.0, Vaddr(from.1))? else { return Ok(()) };
        let Some(table) = self.pte_table(to.0)? else {
            return broken(16, format!("the page table at {:?} vanished under mmap_lock", to.0));
        };
        // Tables of the same page have the same lock.
        let page = self.kmem.pages.at(table)?;
        let nested = !src.shares_lock(page);
        let ptl = self.kmem.pages.word(page, word::PTL)?;
        if nested {
            lockword::lock(ptl, "ptl nested")?;
        }
        let mut dst = table.offset(pte_level::<A>().offset(Vaddr(to.1)));
        let r = (|| {
            for a in (from.1..from.1 + n).step_by(1 << A::PAGE_SHIFT) {
                if !src.load()?.none() {
                    let old = self.ptep_xchg(mm, Vaddr(a), src.pte, A::Pte::EMPTY, How::Direct)?;
                    self.set_pte(dst, old)?;
                }
                src.pte = src.pte.offset(8);
                dst = dst.offset(8);
            }
            Ok(())
        })();
        if nested {
            lockword::unlock(ptl, "ptl nested")?;
        }
        r
    }

    /// Changes an entry under its table's lock; returns the old one.
    pub(crate) fn ptep_xchg(
        &self,
        mm: &Mm<A>,
        va: Vaddr,
        pte: Paddr,
        new: A::Pte,
        how: How<'_>,
    ) -> Result<A::Pte> {
        if let Some(s) = self.sanitizer() {
            s.store(pte, new.raw())?;
        }
        A::ptep_xchg(self, mm, va, pte, new.raw(), how).map(A::Pte::from_raw)
    }

    /// Stores an entry where there is none, or changes software bits only, under its table's lock.
    pub(crate) fn set_pte(&self, pte: Paddr, new: A::Pte) -> Result<()> {
        if let Some(s) = self.sanitizer() {
            s.store(pte, new.raw())?;
        }
        A::set_pte(self, pte, new.raw())
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

    /// `tlb_remove_table_sync_one`: returns after every CPU had interrupts on.
    pub(crate) fn cross_call(&self) {
        self.stats.flush_ipi.bump();
        self.cpus.ipi_all();
        if let Some(s) = self.sanitizer() {
            s.mark(What::Ipi);
        }
    }

    /// Counts a new entry that maps the frame.
    pub(crate) fn add_rmap(&self, mm: &Mm<A>, page: Pfn) -> Result<()> {
        self.kmem.pages.add_mapcount(page, 1)?;
        mm.words()?[self.rss_word(page)?].fetch_add(1, SeqCst);
        Ok(())
    }

    /// Counts that an entry that mapped the frame is gone.
    pub(crate) fn remove_rmap(&self, mm: &Mm<A>, page: Pfn) -> Result<()> {
        mm.words()?[self.rss_word(page)?].fetch_sub(1, SeqCst);
        self.kmem.pages.add_mapcount(page, -1)
    }

    fn rss_word(&self, page: Pfn) -> Result<usize> {
        let f = self.kmem.pages.flags(page)?;
        if f & flag::ANON != 0 {
            Ok(mmw::RSS_ANON)
        } else if f & flag::CACHE != 0 {
            Ok(mmw::RSS_FILE)
        } else {
            broken(19, format!("frame {page:?} is mapped by a program: {:?}", self.kmem.pages.kind(page)?))
        }
    }
}

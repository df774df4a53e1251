//! Three-level page tables on s390x: region-third table, segment tables, page tables.
//!
//! Four and five levels are not modelled: an address space ends at 4 TiB (hosted-mm E).

use crate::buddy::Gfp;
use crate::error::{Result, broken};
use crate::gather::Gather;
use crate::kernel::Kernel;
use crate::lockword;
use crate::mm::{Mm, mmw};
use crate::page::{FrameKind, flag, word};
use crate::rcu::RcuReader;
use crate::vma::{Prot, Vma};
use racewalk_ram::{Paddr, Pfn, Vaddr};
use racewalk_sched::point;
use racewalk_walk::s390x::entry::TableType;
use racewalk_walk::s390x::geometry::{
    CRST_BYTES, CRST_ENTRIES, PAGE_TABLE_ENTRIES, SEGMENT_BYTES, index, page_index,
};
use racewalk_walk::s390x::{Pte, Rte, Ste};
use std::sync::atomic::Ordering::SeqCst;

/// First address that a program cannot have.
pub const TASK_SIZE: u64 = 1 << 42;
/// Bytes that one region-third entry covers.
const REGION_BYTES: u64 = 1 << 31;
/// log2 of the frames of a region or segment table.
const CRST_ORDER: u32 = 2;

/// Software bits of a page-table entry (Linux on s390x).
pub(crate) mod soft {
    pub(crate) const PRESENT: u64 = 0x01;
    pub(crate) const YOUNG: u64 = 0x04;
    pub(crate) const DIRTY: u64 = 0x08;
    pub(crate) const READ: u64 = 0x10;
    pub(crate) const WRITE: u64 = 0x20;
    pub(crate) const SPECIAL: u64 = 0x40;
}

/// A page-table entry as software looks at it. IEP follows from the mapping; the hardware's I and P follow from the software bits: I is clear
/// when the entry is readable and young, P is clear when it is writable and dirty.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct SwPte(pub(crate) u64);

impl SwPte {
    /// A frame with the protection that a mapping has before its first write: private mappings are read-only.
    pub(crate) fn new(frame: Pfn, prot: Prot, shared: bool) -> SwPte {
        SwPte(frame.paddr().0 | soft::PRESENT | Self::prot_bits(prot, shared)).sync()
    }
    fn prot_bits(prot: Prot, shared: bool) -> u64 {
        let mut b = 0;
        if prot != Prot::NONE {
            b |= soft::READ;
        }
        if shared && prot.contains(Prot::WRITE) {
            b |= soft::WRITE;
        }
        if !prot.contains(Prot::EXEC) {
            b |= Pte::IEP;
        }
        if !prot.contains(Prot::EXEC) {
            b |= Pte::IEP;
        }
        b
    }
    fn sync(self) -> SwPte {
        let mut b = self.0 | Pte::I | Pte::P;
        if b & soft::READ != 0 && b & soft::YOUNG != 0 {
            b &= !Pte::I;
        }
        if b & soft::WRITE != 0 && b & soft::DIRTY != 0 {
            b &= !Pte::P;
        }
        SwPte(b)
    }
    pub(crate) fn with(self, bits: u64) -> SwPte {
        SwPte(self.0 | bits).sync()
    }
    /// The same frame under another protection.
    pub(crate) fn modify(self, prot: Prot, shared: bool) -> SwPte {
        let keep = Pte::PFRA | soft::PRESENT | soft::YOUNG | soft::DIRTY | soft::SPECIAL;
        SwPte(self.0 & keep | Self::prot_bits(prot, shared)).sync()
    }
    pub(crate) fn none(self) -> bool {
        self.0 == Pte::EMPTY.0
    }
    pub(crate) fn present(self) -> bool {
        self.0 & soft::PRESENT != 0
    }
    pub(crate) fn writable(self) -> bool {
        self.0 & soft::WRITE != 0
    }
    pub(crate) fn special(self) -> bool {
        self.0 & soft::SPECIAL != 0
    }
    pub(crate) fn frame(self) -> Pfn {
        Paddr(Pte(self.0).frame()).pfn()
    }
}

/// A page table, mapped and locked: `pte_offset_map_lock`.
#[derive(Debug)]
pub(crate) struct PteLock<'a> {
    k: &'a Kernel,
    /// The entry for the address that was asked for.
    pub(crate) pte: Paddr,
    page: Pfn,
    _rcu: RcuReader<'a>,
}

impl PteLock<'_> {
    pub(crate) fn load(&self) -> Result<SwPte> {
        self.k.load_pte(self.pte).map(SwPte)
    }
    /// Whether another table has the same lock (the other half of the page).
    fn shares_lock(&self, page: Pfn) -> bool {
        self.page == page
    }
}

impl Drop for PteLock<'_> {
    fn drop(&mut self) {
        let r = self.k.kmem.pages.word(self.page, word::PTL).and_then(|w| lockword::unlock(w, "ptl"));
        if let Err(e) = r {
            self.k.report(e);
        }
    }
}

impl Kernel {
    /// A region or segment table: 16 KiB of empty entries.
    pub(crate) fn crst_alloc(&self, of: TableType, kind: FrameKind) -> Result<Paddr> {
        let page = self.alloc(CRST_ORDER, Gfp::Kernel, kind, "a region or segment table")?;
        self.kmem.pages.set_flag(page, flag::TABLE)?;
        lockword::init(self.kmem.pages.word(page, word::PTL)?);
        for i in 0..CRST_ENTRIES {
            self.ram.store_u64(page.paddr().offset(i * 8), Rte::empty(of).0)?;
        }
        if kind == FrameKind::CrstTable {
            self.stats.crst_allocated.bump();
            self.stats.add_table_bytes(CRST_BYTES);
        }
        Ok(page.paddr())
    }

    pub(crate) fn crst_free(&self, table: Paddr) -> Result<()> {
        let page = self.kmem.pages.at(table)?;
        if self.kmem.pages.kind(page)? != FrameKind::CrstTable || self.kmem.pages.order(page)? != CRST_ORDER {
            return broken(1, format!("{table:?} is not a region or segment table"));
        }
        if !self.kmem.pages.put_testzero(page)? {
            return broken(7, format!("somebody holds a reference to table {table:?}"));
        }
        self.stats.crst_freed.bump();
        self.stats.table_bytes.sub(CRST_BYTES);
        self.free(page, CRST_ORDER)
    }

    fn with_lock<R>(
        &self,
        w: &std::sync::atomic::AtomicU64,
        l: &'static str,
        f: impl FnOnce() -> R,
    ) -> Result<R> {
        lockword::lock(w, l)?;
        let r = f();
        lockword::unlock(w, l)?;
        Ok(r)
    }

    fn load_entry(&self, entry: Paddr) -> Result<u64> {
        point("pmd.load");
        Ok(self.ram.load_u64(entry)?)
    }

    /// The segment-table entry for `va`, if there is a segment table.
    pub(crate) fn pmd_offset(&self, mm: &Mm, va: Vaddr) -> Result<Option<Paddr>> {
        if va.0 >= TASK_SIZE {
            return Ok(None);
        }
        let rte = Rte(self.load_entry(mm.pgd().offset(index(TableType::Region3, va) * 8))?);
        Ok((!rte.invalid()).then(|| rte.origin().offset(index(TableType::Segment, va) * 8)))
    }

    /// Like [`pmd_offset`](Self::pmd_offset), but makes the segment table.
    pub(crate) fn pmd_alloc(&self, mm: &Mm, va: Vaddr) -> Result<Paddr> {
        if let Some(p) = self.pmd_offset(mm, va)? {
            return Ok(p);
        }
        let pud = mm.pgd().offset(index(TableType::Region3, va) * 8);
        let table = self.crst_alloc(TableType::Segment, FrameKind::CrstTable)?;
        let lock = &mm.words()?[mmw::PAGE_TABLE_LOCK];
        let used = self.with_lock(lock, "page_table_lock", || -> Result<bool> {
            if !Rte(self.load_entry(pud)?).invalid() {
                return Ok(false);
            }
            point("pud.populate");
            self.ram.store_u64(pud, Rte::new(TableType::Region3, table).0)?;
            Ok(true)
        })??;
        if !used {
            self.segment_table_dtor(table)?;
            self.crst_free(table)?;
        }
        match self.pmd_offset(mm, va)? {
            Some(p) => Ok(p),
            None => broken(16, format!("the segment table for {va:?} vanished")),
        }
    }

    /// Rule 7: the lock of a segment table goes before the grace period.
    fn segment_table_dtor(&self, table: Paddr) -> Result<()> {
        lockword::destroy(self.kmem.pages.word(self.kmem.pages.at(table)?, word::PTL)?, "pmd lock")
    }

    /// `pte_alloc`: makes sure that a page table hangs from `pmd`. Of two CPUs that find none, one loses and frees
    /// the table it made.
    pub(crate) fn pte_alloc(&self, mm: &Mm, pmd: Paddr) -> Result<()> {
        if !Ste(self.load_entry(pmd)?).invalid() {
            return Ok(());
        }
        let table = self.frag.alloc(self, mm.kva())?;
        let segments = Paddr(pmd.0 & !(CRST_BYTES - 1));
        let lock = self.kmem.pages.word(self.kmem.pages.at(segments)?, word::PTL)?;
        let used = self.with_lock(lock, "pmd lock", || -> Result<bool> {
            if !Ste(self.load_entry(pmd)?).invalid() {
                return Ok(false);
            }
            point("pmd.populate");
            self.ram.store_u64(pmd, Ste::new(table).0)?;
            Ok(true)
        })??;
        if used {
            mm.words()?[mmw::NR_PTES].fetch_add(1, SeqCst);
        } else {
            self.stats.tables_lost_race.bump();
            self.frag.free(self, mm.kva(), table)?;
        }
        Ok(())
    }

    /// `pte_offset_map_lock`: the entry for `va` in the table that hangs from `pmd`, with the table's lock; none if
    /// there is no table (hosted-mm C.5).
    pub(crate) fn pte_map_lock(&self, pmd: Paddr, va: Vaddr) -> Result<Option<PteLock<'_>>> {
        loop {
            let rcu = self.rcu_read_lock();
            let ste = Ste(self.load_entry(pmd)?);
            if ste.invalid() {
                return Ok(None);
            }
            let page = self.kmem.pages.at(ste.origin())?;
            lockword::lock(self.kmem.pages.word(page, word::PTL)?, "ptl")?;
            let pte = ste.origin().offset(page_index(va) * 8);
            let locked = PteLock { k: self, pte, page, _rcu: rcu };
            if Ste(self.load_entry(pmd)?) == ste {
                return Ok(Some(locked));
            }
        }
    }

    /// An unlocked look at the entry for `va`; `EMPTY` if there is no table.
    pub(crate) fn pte_peek(&self, pmd: Paddr, va: Vaddr) -> Result<SwPte> {
        let _rcu = self.rcu_read_lock();
        let ste = Ste(self.load_entry(pmd)?);
        if ste.invalid() {
            return Ok(SwPte(Pte::EMPTY.0));
        }
        self.load_pte(ste.origin().offset(page_index(va) * 8)).map(SwPte)
    }

    /// Calls `f` with each piece of `start..end` that lies in one segment and has a page table there.
    fn each_segment(
        &self,
        mm: &Mm,
        start: u64,
        end: u64,
        mut f: impl FnMut(Paddr, u64, u64) -> Result<()>,
    ) -> Result<()> {
        let mut a = start;
        while a < end {
            match self.pmd_offset(mm, Vaddr(a))? {
                None => a = (a | (REGION_BYTES - 1)).saturating_add(1),
                Some(pmd) => {
                    let stop = ((a | (SEGMENT_BYTES - 1)) + 1).min(end);
                    f(pmd, a, stop)?;
                    a = stop;
                }
            }
        }
        Ok(())
    }

    /// Takes all pages out of `start..end`.
    pub(crate) fn zap_range(&self, g: &mut Gather<'_>, mm: &Mm, start: u64, end: u64) -> Result<()> {
        self.each_segment(mm, start, end, |pmd, from, to| {
            let mut a = from;
            while a < to {
                let Some(mut l) = self.pte_map_lock(pmd, Vaddr(a))? else { return Ok(()) };
                while a < to && !g.is_full() {
                    if !l.load()?.none() {
                        let old = SwPte(self.pte_xchg_lazy(mm, Vaddr(a), l.pte, Pte::EMPTY.0)?);
                        if old.present() && !old.special() {
                            self.remove_rmap(mm, old.frame())?;
                            g.remove_page(old.frame())?;
                        }
                    }
                    a += 4096;
                    l.pte = l.pte.offset(8);
                }
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
        g: &mut Gather<'_>,
        mm: &Mm,
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
        let (lo, hi) = within(SEGMENT_BYTES);
        if lo < hi {
            self.each_segment(mm, lo, hi, |pmd, from, _| {
                let ste = Ste(self.load_entry(pmd)?);
                if ste.invalid() {
                    return Ok(());
                }
                self.unhook(mm, pmd, Ste::EMPTY.0, TableType::Segment, Vaddr(from))?;
                mm.words()?[mmw::NR_PTES].fetch_sub(1, SeqCst);
                g.remove_pte_table(ste.origin())
            })?;
        }
        let (lo, hi) = within(REGION_BYTES);
        let mut a = lo;
        while a < hi {
            let pud = mm.pgd().offset(index(TableType::Region3, Vaddr(a)) * 8);
            let rte = Rte(self.load_entry(pud)?);
            if !rte.invalid() {
                self.unhook(mm, pud, Rte::empty(TableType::Region3).0, TableType::Region3, Vaddr(a))?;
                self.segment_table_dtor(rte.origin())?;
                g.remove_crst(rte.origin())?;
            }
            a += REGION_BYTES;
        }
        Ok(())
    }

    /// Gives all present entries of `start..end` the protection of `vma`.
    pub(crate) fn change_protection(&self, mm: &Mm, vma: &Vma, start: u64, end: u64) -> Result<()> {
        self.each_segment(mm, start, end, |pmd, from, to| {
            let Some(mut l) = self.pte_map_lock(pmd, Vaddr(from))? else { return Ok(()) };
            for a in (from..to).step_by(4096) {
                let old = l.load()?;
                if old.present() {
                    let new = old.modify(vma.prot, vma.is_shared());
                    if new != old {
                        self.pte_xchg_lazy(mm, Vaddr(a), l.pte, new.0)?;
                    }
                }
                l.pte = l.pte.offset(8);
            }
            Ok(())
        })
    }

    /// Moves the entries of `len` bytes from `old` to `new`, which has none. Entries whose new table cannot be had
    /// stay; the error says so after as many as possible were moved.
    pub(crate) fn move_page_tables(&self, mm: &Mm, old: u64, new: u64, len: u64) -> Result<()> {
        let mut at = 0;
        while at < len {
            let Some(from_pmd) = self.pmd_offset(mm, Vaddr(old + at))? else {
                at += ((old + at) | (REGION_BYTES - 1)) + 1 - (old + at);
                continue;
            };
            let piece = |a: u64| (a | (SEGMENT_BYTES - 1)) + 1 - a;
            let n = piece(old + at).min(piece(new + at)).min(len - at);
            if !Ste(self.load_entry(from_pmd)?).invalid() {
                let to_pmd = self.pmd_alloc(mm, Vaddr(new + at))?;
                self.pte_alloc(mm, to_pmd)?;
                self.move_ptes(mm, (from_pmd, old + at), (to_pmd, new + at), n)?;
            }
            at += n;
        }
        self.flush_mm_lazy(mm)
    }

    fn move_ptes(&self, mm: &Mm, from: (Paddr, u64), to: (Paddr, u64), n: u64) -> Result<()> {
        let Some(mut src) = self.pte_map_lock(from.0, Vaddr(from.1))? else { return Ok(()) };
        // The other half of the same page has the same lock.
        let ste = Ste(self.load_entry(to.0)?);
        let page = self.kmem.pages.at(ste.origin())?;
        let nested = !src.shares_lock(page);
        let ptl = self.kmem.pages.word(page, word::PTL)?;
        if nested {
            lockword::lock(ptl, "ptl nested")?;
        }
        let mut dst = ste.origin().offset(page_index(Vaddr(to.1)) * 8);
        let r = (|| {
            for a in (from.1..from.1 + n).step_by(4096) {
                if !src.load()?.none() {
                    let old = self.pte_xchg_direct(mm, Vaddr(a), src.pte, Pte::EMPTY.0)?;
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

    /// `retract_page_tables` for one segment (hosted-mm C.4): takes an empty page table away from under an object
    /// mapping, with `mmap_lock` held for reading only; readers under RCU may be inside. False if it is not empty.
    pub(crate) fn retract_table(&self, mm: &Mm, start: u64) -> Result<bool> {
        let Some(pmd) = self.pmd_offset(mm, Vaddr(start))? else { return Ok(false) };
        let segments = Paddr(pmd.0 & !(CRST_BYTES - 1));
        let lock = self.kmem.pages.word(self.kmem.pages.at(segments)?, word::PTL)?;
        let table = self.with_lock(lock, "pmd lock", || -> Result<Option<Paddr>> {
            let Some(mut l) = self.pte_map_lock(pmd, Vaddr(start))? else { return Ok(None) };
            let table = l.pte;
            for _ in 0..PAGE_TABLE_ENTRIES {
                if !l.load()?.none() {
                    return Ok(None);
                }
                l.pte = l.pte.offset(8);
            }
            point("pmd.collapse_flush");
            self.flush_entry(mm, pmd, TableType::Segment, Vaddr(start))?;
            self.ram.store_u64(pmd, Ste::EMPTY.0)?;
            Ok(Some(table))
        })??;
        let Some(table) = table else { return Ok(false) };
        mm.words()?[mmw::NR_PTES].fetch_sub(1, SeqCst);
        self.frag.free_defer(self, mm.kva(), table)?;
        Ok(true)
    }

    /// Counts a new entry that maps the frame.
    pub(crate) fn add_rmap(&self, mm: &Mm, page: Pfn) -> Result<()> {
        self.kmem.pages.add_mapcount(page, 1)?;
        mm.words()?[self.rss_word(page)?].fetch_add(1, SeqCst);
        Ok(())
    }

    /// Counts that an entry that mapped the frame is gone.
    pub(crate) fn remove_rmap(&self, mm: &Mm, page: Pfn) -> Result<()> {
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

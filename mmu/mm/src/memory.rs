//! The machine's memory as the kernel keeps it: frames, their records, and what was found wrong. The same for every
//! architecture.

use crate::buddy::{Buddy, Failures, Gfp};
use crate::error::{MmError, Result};
use crate::kmem::Kmem;
use crate::layout;
use crate::page::{FrameKind, Pages, flag};
use crate::sanitizer::{Sanitizer, What};
use crate::slab::{Slab, TypeSafe};
use crate::stats::Stats;
use racewalk_ram::{Kva, Paddr, Pfn, Ram, Vaddr};
use racewalk_sched::{controlled, point, tso};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, OnceLock, PoisonError};

/// Memory and its books.
#[derive(Debug)]
pub struct Memory {
    pub(crate) ram: Arc<Ram>,
    page_shift: u32,
    pub(crate) kmem: Kmem,
    pub(crate) buddy: Buddy,
    pub(crate) stats: Stats,
    /// The page that was last allocated for PTE tables.
    pub(crate) last_table_page: AtomicU64,
    /// By frame, on a machine with a checkpoint: zero while it is watched (`crate::frames`).
    blank: OnceLock<Box<[AtomicBool]>>,
    // A host lock, held for one operation.
    findings: std::sync::Mutex<Vec<MmError>>,
    found: AtomicBool,
}

impl Memory {
    /// All of `ram` but its first `reserved` frames, in pages of 2^`page_shift` bytes.
    pub(crate) fn new(
        ram: Arc<Ram>,
        page_shift: u32,
        reserved: u64,
        max_mms: u32,
        cpus: u32,
        sanitizer: Option<Arc<Sanitizer>>,
    ) -> Result<Memory> {
        let order = page_shift - racewalk_ram::PAGE_SHIFT;
        let frames = ram.size() >> racewalk_ram::PAGE_SHIFT;
        let m = Memory {
            kmem: Kmem {
                ram: ram.clone(),
                pages: Pages::new(frames, order)?,
                slab: Slab::new(max_mms)?,
                type_safe: TypeSafe::new(max_mms)?,
                sanitizer,
            },
            buddy: Buddy::new(reserved, frames, order, cpus),
            stats: Stats::default(),
            last_table_page: AtomicU64::new(0),
            blank: OnceLock::new(),
            findings: Default::default(),
            found: AtomicBool::new(false),
            page_shift,
            ram,
        };
        for f in 0..reserved {
            m.kmem.pages.prepare(Pfn(f), 0, FrameKind::Reserved)?;
            m.kmem.pages.set_flag(Pfn(f), flag::RESERVED)?;
        }
        Ok(m)
    }

    /// Guest memory.
    pub fn ram(&self) -> &Arc<Ram> {
        &self.ram
    }
    /// What the mm did so far.
    pub fn stats(&self) -> &Stats {
        &self.stats
    }
    /// The sanitizer, if it is on.
    pub fn sanitizer(&self) -> Option<&Sanitizer> {
        self.kmem.sanitizer.as_deref()
    }
    /// The page records.
    pub fn pages(&self) -> &Pages {
        &self.kmem.pages
    }
    /// Free frames of 4 KiB.
    pub fn free_frames(&self) -> u64 {
        self.buddy.free_frames()
    }
    /// End of the memory that was ever handed out: what is beyond was not written to by the mm.
    pub fn high_water(&self) -> Paddr {
        Pfn(self.buddy.high()).paddr()
    }
    /// Makes allocations fail from now on.
    pub fn set_failures(&self, plan: Failures) {
        self.set_failure_plans(vec![plan]);
    }
    /// The same by several plans at once: an allocation that one of them is against fails, and each counts all that it is
    /// about.
    pub fn set_failure_plans(&self, plans: Vec<Failures>) {
        self.buddy.set_failures(plans);
    }
    /// Bytes of a page.
    pub fn page_size(&self) -> u64 {
        1 << self.page_shift
    }
    /// log2 of the bytes of a page.
    pub(crate) fn page_shift(&self) -> u32 {
        self.page_shift
    }

    /// An invalidation of a space begins, of what the table for `va` translates or of everything: with the barrier before
    /// it, or the serialising part of the instruction. For [`flush_ends`](Self::flush_ends).
    pub(crate) fn flush_begins(&self, mm: Kva, va: Option<Vaddr>) -> u64 {
        tso::fence();
        self.flush_noted(mm, va)
    }

    /// The same where the barrier is elsewhere.
    pub(crate) fn flush_noted(&self, mm: Kva, va: Option<Vaddr>) -> u64 {
        self.sanitizer().map_or(0, |s| s.state().note(What::Flush { mm, va }))
    }

    /// It is complete on every CPU.
    pub(crate) fn flush_ends(&self, mm: Kva, va: Option<Vaddr>, began: u64) {
        if let Some(s) = self.sanitizer() {
            s.state().flush_done(mm, va, began);
        }
    }

    /// A broken invariant about the table or page at `about`, with its story if the sanitizer is on.
    pub(crate) fn broken_about<T>(&self, rule: u8, found: String, about: Paddr) -> Result<T> {
        match self.sanitizer() {
            Some(s) => Err(s.broken(rule, found, Some(about))),
            None => crate::error::broken_at(rule, layout::direct(about), found),
        }
    }

    /// What is done while `depth` sections of the task are open (invariant 27).
    pub(crate) fn atomic(&self, what: &str, depth: u32) -> MmError {
        let found = format!("{what} with {depth} sections open in which the task must not sleep");
        match self.sanitizer() {
            Some(s) => s.broken(27, found, None),
            None => MmError::Broken { rule: 27, text: found, about: None },
        }
    }

    /// A finding with the story of the page that it is about, if the sanitizer is on.
    fn with_story(&self, e: MmError) -> MmError {
        let (rule, about) = match (&e, e.rule()) {
            (MmError::Broken { about, .. }, Some(rule)) => (rule, *about),
            (MmError::Wild { kva, .. } | MmError::Stale { kva, .. }, Some(rule)) => (rule, Some(*kva)),
            _ => return e,
        };
        let Some(s) = self.sanitizer() else { return e };
        let found = match e {
            MmError::Broken { text, .. } => text,
            e => e.to_string(),
        };
        s.broken(rule, found, about.and_then(layout::about))
    }

    /// Notes a finding. In a controlled run the schedule ends with it.
    pub(crate) fn report(&self, e: MmError) {
        let e = self.with_story(e);
        self.findings.lock().unwrap_or_else(PoisonError::into_inner).push(e);
        self.found.store(true, SeqCst);
        if controlled::active() {
            controlled::cancel();
        }
    }

    /// Notes `r`'s error if it is a finding, and hands `r` on.
    pub(crate) fn note<T>(&self, r: Result<T>) -> Result<T> {
        match r {
            Err(e) if e.is_finding() => {
                let copy = MmError::Reported(e.to_string());
                self.report(e);
                Err(copy)
            }
            r => r,
        }
    }

    /// Whether a broken invariant, or a wild or stale pointer was found.
    pub fn has_findings(&self) -> bool {
        self.found.load(SeqCst)
    }

    /// Takes what was found so far.
    pub fn take_findings(&self) -> Vec<MmError> {
        self.found.store(false, SeqCst);
        std::mem::take(&mut *self.findings.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A block of 2^`order` pages.
    pub(crate) fn alloc(&self, order: u32, gfp: Gfp, kind: FrameKind, what: &'static str) -> Result<Pfn> {
        point("page.alloc");
        let depth = racewalk_sched::atomic_depth();
        if gfp == Gfp::Kernel && depth != 0 {
            return Err(self.atomic(&format!("memory for {what} is asked for, which may sleep"), depth));
        }
        self.buddy.alloc(&self.kmem.pages, &self.stats, order, gfp, kind, what)
    }

    /// Gives a block of 2^`order` pages back.
    pub(crate) fn free(&self, pfn: Pfn, order: u32) -> Result<()> {
        point("page.free");
        if let Some(s) = self.sanitizer() {
            s.freed(pfn.paddr(), self.page_size() << order)?;
        }
        self.buddy.free(&self.kmem.pages, &self.stats, pfn, order)
    }

    /// A zeroed page of user memory.
    pub(crate) fn alloc_zeroed(&self, what: &'static str) -> Result<Pfn> {
        let p = self.alloc(0, Gfp::Kernel, FrameKind::Anon, what)?;
        tso::fence();
        self.clear(p.paddr(), self.page_size())?;
        self.kmem.pages.set_flag(p, flag::ANON)?;
        Ok(p)
    }

    /// Copies a page.
    pub(crate) fn copy_page(&self, to: Pfn, from: Pfn) -> Result<()> {
        tso::fence();
        for i in 0..self.page_size() >> racewalk_ram::PAGE_SHIFT {
            let (to, from) = (Pfn(to.0 + i), Pfn(from.0 + i));
            if self.is_blank(from) {
                self.clear(to.paddr(), racewalk_ram::PAGE_SIZE)?;
            } else {
                self.ram.copy_frame(to, from)?;
            }
        }
        Ok(())
    }

    /// Zeroes memory. What is known to be zero is not written to, and need not be put back after the run.
    pub(crate) fn clear(&self, at: Paddr, len: u64) -> Result<()> {
        if self.blank.get().is_none() {
            return Ok(self.ram.fill(at, 0, len)?);
        }
        let (mut from, end) = (at, at.offset(len));
        while from < end {
            let next = Pfn(from.pfn().0 + 1).paddr().min(end);
            if !self.is_blank(from.pfn()) {
                self.ram.fill(from, 0, next.0 - from.0)?;
            }
            from = next;
        }
        Ok(())
    }

    fn is_blank(&self, f: Pfn) -> bool {
        let zero = self.blank.get().and_then(|b| b.get(f.0 as usize));
        zero.is_some_and(|z| z.load(SeqCst)) && self.ram.code().has_code(f)
    }

    /// Says of every frame whether it is zero; all are watched from now on.
    pub(crate) fn set_blank(&self, zero: impl Iterator<Item = bool>) {
        let all = self.blank.get_or_init(|| {
            let frames = self.ram.size() >> racewalk_ram::PAGE_SHIFT;
            (0..frames).map(|_| AtomicBool::new(false)).collect()
        });
        all.iter().zip(zero).for_each(|(f, z)| f.store(z, SeqCst));
    }

    /// A table of the kernel's own, of `bytes` bytes filled with `entry`, which is never freed.
    pub(crate) fn kernel_table(&self, bytes: u64, entry: u64) -> Result<Paddr> {
        let order = bytes.div_ceil(self.page_size()).next_power_of_two().trailing_zeros();
        let page = self.alloc(order, Gfp::Kernel, FrameKind::Reserved, "a table of the kernel")?;
        self.kmem.pages.set_flag(page, flag::TABLE)?;
        self.fill_table(page.paddr(), bytes, entry)?;
        if let Some(s) = self.sanitizer() {
            s.alloc(page.paddr(), bytes, usize::MAX, Kva(0))?;
        }
        Ok(page.paddr())
    }

    // What software does to a doubleword of guest memory. With store buffers it sees its own CPU's stores first.

    /// Loads.
    #[inline]
    pub(crate) fn load_u64(&self, at: Paddr) -> Result<u64> {
        Ok(tso::load(at.0, self.ram.load_u64(at)?))
    }

    /// Stores.
    #[inline]
    pub(crate) fn store_u64(&self, at: Paddr, value: u64) -> Result<()> {
        match self.buffer(at, value, u64::MAX)? {
            true => Ok(()),
            false => Ok(self.ram.store_u64(at, value)?),
        }
    }

    /// Loads four bytes.
    #[inline]
    pub(crate) fn load_u32(&self, at: Paddr) -> Result<u32> {
        if !tso::enabled() {
            return Ok(self.ram.load_u32(at)?);
        }
        Ok((self.load_u64(Paddr(at.0 & !7))? >> half_shift(at)) as u32)
    }

    /// Stores four bytes.
    #[inline]
    pub(crate) fn store_u32(&self, at: Paddr, value: u32) -> Result<()> {
        let shift = half_shift(at);
        match self.buffer(Paddr(at.0 & !7), u64::from(value) << shift, u64::from(u32::MAX) << shift)? {
            true => Ok(()),
            false => Ok(self.ram.store_u32(at, value)?),
        }
    }

    /// Stores into the CPU's buffer, if it has one. An address outside memory is refused now, not when the store leaves.
    #[inline]
    fn buffer(&self, at: Paddr, value: u64, mask: u64) -> Result<bool> {
        if !tso::enabled() {
            return Ok(false);
        }
        self.ram.load_u64(at)?;
        Ok(self.kmem.buffer(at.0, value, mask))
    }

    /// Compares and swaps; the old value.
    #[inline]
    pub(crate) fn cas_u64(&self, at: Paddr, expected: u64, new: u64) -> Result<u64> {
        tso::fence();
        Ok(self.ram.cas_u64(at, expected, new)?)
    }

    /// Exchanges a doubleword of memory; returns the old one.
    pub(crate) fn xchg_u64(&self, at: Paddr, new: u64) -> Result<u64> {
        tso::fence();
        let mut old = self.ram.load_u64(at)?;
        loop {
            match self.ram.cas_u64(at, old, new)? {
                seen if seen == old => return Ok(old),
                seen => old = seen,
            }
        }
    }

    /// Fills `len` bytes of a table that nobody can reach yet with `entry`.
    pub(crate) fn fill_table(&self, at: Paddr, len: u64, entry: u64) -> Result<()> {
        tso::fence();
        if entry == 0
            && (at.pfn().0..(at.0 + len).div_ceil(racewalk_ram::PAGE_SIZE)).all(|f| self.is_blank(Pfn(f)))
        {
            return Ok(());
        }
        Ok(self.ram.fill_u64(at, entry, len / 8)?)
    }

    /// Drops a reference to a frame of user memory; the last one frees it.
    pub(crate) fn put_page(&self, pfn: Pfn) -> Result<()> {
        point("page.put");
        if self.kmem.pages.put_testzero(pfn)? {
            if self.kmem.pages.mapcount(pfn)? != -1 {
                return crate::error::broken(19, format!("frame {pfn:?} is freed while it is mapped"));
            }
            self.free(pfn, 0)?;
        }
        Ok(())
    }
}

/// Where the four bytes at an address are in their doubleword: its bits above this one.
fn half_shift(at: Paddr) -> u32 {
    if at.0 & 4 == 0 { 32 } else { 0 }
}

/// All books of a memory as they were at some time, the sanitizer's among them. What is in guest memory is not kept.
#[derive(Debug)]
pub(crate) struct Saved {
    pages: Vec<u64>,
    slab: crate::slab::Saved,
    type_safe: crate::slab::Saved,
    buddy: crate::buddy::Saved,
    stats: Stats,
    last_table_page: u64,
    sanitizer: Option<crate::sanitizer::Saved>,
}

impl Memory {
    pub(crate) fn save(&self) -> Saved {
        let stats = Stats::default();
        stats.set(&self.stats);
        Saved {
            pages: self.kmem.pages.save(),
            slab: self.kmem.slab.save(),
            type_safe: self.kmem.type_safe.save(),
            buddy: self.buddy.save(),
            stats,
            last_table_page: self.last_table_page.load(SeqCst),
            sanitizer: self.sanitizer().map(Sanitizer::save),
        }
    }

    /// Puts the books back as they were at the last [`save`](Self::save), when there were no findings.
    pub(crate) fn restore(&self, saved: &Saved) {
        self.kmem.pages.restore(&saved.pages);
        self.kmem.slab.restore(&saved.slab);
        self.kmem.type_safe.restore(&saved.type_safe);
        self.buddy.restore(&saved.buddy);
        self.stats.set(&saved.stats);
        self.last_table_page.store(saved.last_table_page, SeqCst);
        if let (Some(s), Some(was)) = (self.sanitizer(), &saved.sanitizer) {
            s.restore(was);
        }
        self.take_findings();
    }
}

//! Which pages a CPU touches, for a recording: runs of accesses to one page, in the order in which they begin.
//!
//! Both engines write the same runs. Translated code has the comparison with the last page inline; what it does when
//! the page changes is in `x86/runs.rs`.

use crate::core::{Core, GRANULE};
use racewalk_cpu::signal;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// A run of accesses to one page, or the entry of execution into a page.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Run {
    /// The first address of the page (4 KiB granules), and in its low bits what it is: [`FETCH`](Run::FETCH), or a
    /// run of data accesses that begins with a load (zero) or a store ([`STORE`](Run::STORE)).
    pub word: u64,
    /// Data: how many loads in the low half, stores in the high half. Fetch: instructions that the CPU had completed.
    pub count: u64,
}

impl Run {
    /// The run begins with a store.
    pub const STORE: u64 = 1;
    /// Execution enters the page.
    pub const FETCH: u64 = 2;

    /// First address of the page.
    pub fn page(&self) -> u64 {
        self.word & !(GRANULE - 1)
    }
    /// Loads of a data run.
    pub fn loads(&self) -> u32 {
        self.count as u32
    }
    /// Stores of a data run.
    pub fn stores(&self) -> u32 {
        (self.count >> 32) as u32
    }
}

/// Takes the runs of one CPU.
pub trait RunSink: Send {
    /// `runs` are the ones from number `first` on. Returns an empty vector to be used again. May block, which is
    /// what slows a guest down that its reader cannot follow; must not reach a scheduling point.
    fn take(&mut self, first: u64, runs: Vec<Run>) -> Vec<Run>;
    /// `n` runs were lost for want of room; not expected to be called.
    fn lost(&mut self, n: u32);
}

/// How far a CPU is, for whoever hears of its MMU's events: kept true whenever it asks its MMU, and while it is parked.
#[derive(Debug, Default)]
pub struct Position {
    /// Runs begun.
    pub begun: AtomicU64,
    /// Instructions completed.
    pub instructions: AtomicU64,
    /// Set by the reader when something happened here: the run that is open ends, so that no later access seems to have
    /// come before.
    pub told: AtomicBool,
}

/// What no page is equal to.
pub(crate) const CLOSED: u64 = 1;
/// A data run ends when this many pages were entered since it began, so that what cannot be handed over yet is bounded.
pub(crate) const FARTHEST: usize = 4096;
/// Runs in a buffer before it is handed over.
const SOFT: usize = 32 << 10;
/// Room behind: more than the accesses of one block of translated code.
const SLACK: usize = 8 << 10;

/// The runs of one CPU. Translated code addresses the fields.
#[repr(C)]
pub struct Runs {
    /// The page of the open data run, or [`CLOSED`].
    pub(crate) page: u64,
    /// The open data run, while there is one.
    pub(crate) slot: *mut Run,
    /// Where the next run goes.
    pub(crate) next: *mut Run,
    /// From here on it is time to hand over.
    pub(crate) soft: *mut Run,
    /// Nothing is written from here on.
    pub(crate) hard: *mut Run,
    /// The page that execution is in, or [`CLOSED`].
    pub(crate) fetched: u64,
    /// Instructions completed, plus the budget.
    pub(crate) base: u64,
    /// Runs that found no room.
    pub(crate) lost: u32,
    /// Touches of the current instruction that translated code has noted already.
    pub(crate) skip: u32,
    /// The last touch was one of them.
    pub(crate) skipped: bool,
    /// Instructions completed that the budget does not show yet.
    pub(crate) ahead: u64,
    /// Whether touches are noted.
    pub(crate) on: bool,
    recorder: Option<Recorder>,
    position: Option<Arc<Position>>,
}

struct Recorder {
    buffer: Vec<Run>,
    handed: u64,
    sink: Box<dyn RunSink>,
}

impl Default for Runs {
    fn default() -> Self {
        let none = std::ptr::null_mut();
        Runs {
            page: CLOSED,
            slot: none,
            next: none,
            soft: none,
            hard: none,
            fetched: CLOSED,
            base: 0,
            lost: 0,
            skip: 0,
            skipped: false,
            ahead: 0,
            on: false,
            recorder: None,
            position: None,
        }
    }
}

fn page_of(addr: u64) -> u64 {
    addr & !(GRANULE - 1)
}

impl Runs {
    /// Whether somebody wants to know how far the CPU is.
    #[inline]
    pub(crate) fn watched(&self) -> bool {
        self.position.is_some()
    }

    /// Whether the CPU has somebody to give its runs to.
    pub(crate) fn installed(&self) -> bool {
        self.recorder.is_some()
    }

    fn place(&mut self, mut buffer: Vec<Run>) {
        buffer.clear();
        buffer.reserve_exact(SOFT + SLACK);
        self.next = buffer.as_mut_ptr();
        self.soft = self.next.wrapping_add(SOFT);
        self.hard = self.next.wrapping_add(SOFT + SLACK);
        if let Some(r) = &mut self.recorder {
            r.buffer = buffer
        }
    }

    fn used(&self) -> usize {
        let start = self.recorder.as_ref().map_or(self.next.cast_const(), |r| r.buffer.as_ptr());
        (self.next as usize - start as usize) / size_of::<Run>()
    }

    fn push(&mut self, run: Run) {
        if self.next >= self.soft {
            self.hand_over()
        }
        // SAFETY: `next` is inside the buffer's capacity, below `hard`: `hand_over` has just made room if it was beyond
        // `soft`, for an open run that began farther back than `FARTHEST` was closed.
        unsafe { self.next.write(run) };
        self.next = self.next.wrapping_add(1)
    }

    /// Gives away what is complete. A data run that is open stays, with what follows it.
    pub(crate) fn hand_over(&mut self) {
        let used = self.used();
        let Some(r) = &mut self.recorder else { return };
        let start = r.buffer.as_mut_ptr();
        let full = match self.page {
            CLOSED => used,
            _ => (self.slot as usize - start as usize) / size_of::<Run>(),
        };
        let mut buffer = std::mem::take(&mut r.buffer);
        // SAFETY: the first `used` elements were written, by `push` or by translated code.
        unsafe { buffer.set_len(used) };
        let tail = buffer[full..].to_vec();
        buffer.truncate(full);
        let first = r.handed;
        r.handed += full as u64;
        let lost = std::mem::take(&mut self.lost);
        if lost != 0 {
            r.sink.lost(lost)
        }
        let empty = r.sink.take(first, buffer);
        self.place(empty);
        self.slot = self.next;
        for run in tail {
            self.push(run)
        }
    }

    /// Ends the open data run.
    pub(crate) fn close(&mut self) {
        self.page = CLOSED
    }

    /// Makes the position known.
    fn publish(&self, budget: i64) {
        if let Some(p) = &self.position {
            let begun = self.recorder.as_ref().map_or(0, |r| r.handed + self.used() as u64);
            p.begun.store(begun, Ordering::Relaxed);
            let done = self.base.wrapping_sub(budget as u64).wrapping_add(self.ahead);
            p.instructions.store(done, Ordering::Relaxed)
        }
    }

    fn touch(&mut self, addr: u64, store: bool) {
        let page = page_of(addr);
        if page != self.page {
            self.push(Run { word: page | (store as u64 * Run::STORE), count: 0 });
            self.page = page;
            self.slot = self.next.wrapping_sub(1);
        }
        // SAFETY: an open run is in the buffer.
        unsafe { (*self.slot).count += if store { 1 << 32 } else { 1 } }
    }

    fn fetch(&mut self, addr: u64, budget: i64) {
        let page = page_of(addr);
        if page == self.fetched {
            return;
        }
        self.fetched = page;
        let count = self.base.wrapping_sub(budget as u64).wrapping_add(self.ahead);
        self.push(Run { word: page | Run::FETCH, count });
        if self.next as usize - (self.slot as usize).min(self.next as usize) > FARTHEST * size_of::<Run>() {
            self.close()
        }
    }
}

/// What the run loop and the engines say. Everything does nothing unless the CPU is being recorded.
impl Core {
    /// From now on tells `position` how far it is. For as long as it lives.
    pub fn tell_position(&mut self, position: Arc<Position>) {
        self.runs.position = Some(position)
    }

    /// From now on tells `sink` of its runs. For as long as it lives.
    pub fn record_runs(&mut self, sink: Box<dyn RunSink>) {
        self.runs.recorder = Some(Recorder { buffer: Vec::new(), handed: 0, sink });
        self.runs.place(Vec::new());
        self.runs.on = true
    }

    /// Gives away all runs, the open one too: before somebody reads the recording.
    pub fn flush_runs(&mut self) {
        self.runs.close();
        self.runs.hand_over()
    }

    /// An access of `len` bytes (at least 1) at `addr` by the current instruction.
    #[inline(always)]
    pub(crate) fn touch(&mut self, addr: u64, len: u64, store: bool) {
        if self.runs.on {
            self.touch_noted(addr, len, store)
        }
    }

    /// A load and a store of the same bytes: the first page of both, then what follows.
    #[inline(always)]
    pub(crate) fn touch_both(&mut self, addr: u64, len: u64) {
        if self.runs.on {
            self.touch_noted(addr, 1, false);
            self.touch_noted(addr, 1, true);
            // An instruction that translated code has noted as far as here has noted these pages, too.
            if !self.runs.skipped {
                self.touch_rest(addr, len, false);
                self.touch_rest(addr, len, true)
            }
        }
    }

    #[inline(never)]
    fn touch_noted(&mut self, addr: u64, len: u64, store: bool) {
        self.runs.skipped = self.runs.skip > 0;
        if self.runs.skipped {
            self.runs.skip -= 1;
            return;
        }
        self.runs.touch(addr, store);
        self.touch_rest(addr, len, store)
    }

    /// The pages of an access behind its first, which translated code has noted.
    pub(crate) fn touch_rest(&mut self, addr: u64, len: u64, store: bool) {
        if !self.runs.on {
            return;
        }
        let last = page_of(addr.wrapping_add(len.max(1) - 1));
        let mut page = page_of(addr);
        while page != last {
            page = page.wrapping_add(GRANULE);
            self.runs.touch(page, store)
        }
    }

    /// The instruction of `len` bytes at `pc` begins; `ahead` instructions before it are not in the budget.
    pub(crate) fn fetching(&mut self, pc: u64, len: u8, ahead: u64) {
        self.runs.ahead = ahead;
        if !self.runs.on {
            return;
        }
        // Translated code began it.
        if self.runs.skip > 0 {
            return;
        }
        let budget = self.budget;
        self.runs.fetch(pc, budget);
        self.runs.fetch(pc.wrapping_add(len as u64 - 1), budget)
    }

    /// The CPU begins to run with a budget of `quantum`, after `instructions`.
    pub(crate) fn runs_begin(&mut self, instructions: u64, quantum: u64) {
        self.runs.base = instructions.wrapping_add(quantum);
        self.heard()
    }

    /// Before something is asked that others may hear of.
    #[inline]
    pub(crate) fn publish(&self) {
        if self.runs.watched() {
            self.runs.publish(self.budget)
        }
    }

    /// After it.
    #[inline]
    pub(crate) fn heard(&mut self) {
        if let Some(p) = &self.runs.position
            && p.told.swap(false, Ordering::Relaxed)
        {
            self.runs.close()
        }
    }

    /// Somebody set [`signal::RUNS`]: there are enough runs to be given away.
    pub(crate) fn runs_full(&mut self) {
        self.signal.fetch_and(!signal::RUNS, Ordering::SeqCst);
        self.runs.hand_over()
    }
}

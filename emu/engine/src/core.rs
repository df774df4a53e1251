//! The state of one CPU as the engines see it: architectural slots, the fast TLB, the jump cache.
//!
//! The layout is `repr(C)` because translated code addresses the fields from one base register. `slots` comes
//! first so that the general registers are within a one-byte displacement.

use crate::check::Undo;
use crate::runs::Runs;
use racewalk_cpu::{FastDrop, Fault};
use racewalk_isa::{Access, Exc, MAX_SLOTS};
use racewalk_ram::{Paddr, Pfn};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// Register windows (sparc64).
pub const WINDOWS: usize = racewalk_isa::sparc64::state::WINDOWS as usize;
/// Entries of each half of the fast TLB.
pub const FAST_TLB: usize = 1024;
/// Entries of the jump cache.
pub const JUMP_CACHE: usize = 4096;
/// log2 of the granule of the fast TLB: the smallest base page size.
pub const GRANULE_SHIFT: u32 = 12;
/// The granule of the fast TLB in bytes.
pub const GRANULE: u64 = 1 << GRANULE_SHIFT;
/// Ranges up to this many granules are dropped from the fast TLB one by one.
const FEW_PAGES: u64 = 64;

/// One fast-TLB entry. An access of `size` bytes at `addr` hits entry `addr >> 12 & (FAST_TLB - 1)` if
/// `addr - tag <= GRANULE - size` (unsigned), and its bytes are then at host address `addr + addend`.
#[repr(C, align(16))]
#[derive(Clone, Copy, Debug)]
pub struct FastEntry {
    /// First virtual address of the page; in an empty entry an address that belongs to another index.
    pub tag: u64,
    /// Host address minus virtual address, wrapping.
    pub addend: u64,
}

impl FastEntry {
    const fn empty(index: usize) -> Self {
        FastEntry { tag: ((index as u64) ^ 1) << GRANULE_SHIFT, addend: 0 }
    }
}

/// One jump-cache entry: translated code for a virtual address under the current translations.
#[repr(C, align(16))]
#[derive(Clone, Copy, Debug)]
pub struct JumpEntry {
    /// Virtual address; 1 in an empty entry (no instruction is at an odd address).
    pub pc: u64,
    /// Host address of the code.
    pub code: u64,
}

const EMPTY_JUMP: JumpEntry = JumpEntry { pc: 1, code: 0 };

/// Jump-cache index of a program counter. Translated code computes the same.
#[inline(always)]
pub fn jump_index(pc: u64) -> usize {
    (pc >> 1) as usize & (JUMP_CACHE - 1)
}

/// A translated piece of memory within one granule.
#[derive(Clone, Copy, Debug)]
pub struct Piece {
    /// Host address of the byte asked for.
    pub host: *mut u8,
    /// Its physical address.
    pub paddr: Paddr,
    /// Whether the page may be entered in the fast TLB for this access. Never for stores to frames with code.
    pub cacheable: bool,
}

/// The slow side of a CPU's memory: its MMU. Implemented over `mmu/cpu`; tests implement it over flat memory.
pub trait Mmu {
    /// Translates the byte at `addr` for `access` in address space `space`. The result holds for the rest of the
    /// granule, until the next poll. A failure leaves its fault record with the implementor.
    fn translate(&mut self, addr: u64, access: Access, space: u8) -> Result<Piece, Exc>;
    /// Says that `len` bytes at `paddr` (one granule) were stored by other means than the fast TLB. Returns true
    /// if translated code was made from them.
    fn written(&mut self, paddr: Paddr, len: u64) -> bool;
    /// The time-of-day clock in the architecture's unit.
    fn clock(&mut self) -> u64;
    /// The CPU's number.
    fn cpu(&self) -> u32;
    /// The CPU begins to run guest code; returns what the fast TLB must drop first.
    fn unpark(&mut self) -> FastDrop {
        FastDrop::default()
    }
    /// A boundary between blocks; returns what the fast TLB must drop.
    fn poll(&mut self) -> FastDrop {
        FastDrop::default()
    }
    /// The CPU stops running guest code.
    fn park(&mut self) {}
    /// Whether translations stay until they are purged. If not, the MMU wants to be asked at the beginning of every run of
    /// accesses to one page.
    fn retains(&self) -> bool {
        true
    }
    /// What the fast TLB must drop because the MMU has lost it since the last call, other than by purges.
    fn take_evicted(&mut self) -> Option<FastDrop> {
        None
    }
    /// The fault record of the last failed translation.
    fn take_fault(&mut self) -> Option<Fault> {
        None
    }
}

/// A reservation of load-reserve, checked by value (DESIGN §3).
#[derive(Clone, Copy, Debug, Default)]
pub struct Reservation {
    /// Address and size; size 0 means none.
    pub addr: u64,
    /// Bytes.
    pub size: u8,
    /// The value seen.
    pub value: (u64, u64),
}

/// One CPU.
#[repr(C, align(64))]
pub struct Core {
    /// Architectural state, numbered by the architecture.
    pub slots: [u64; MAX_SLOTS],
    /// Program counter: of the next instruction between blocks, of the faulting one after an exception.
    pub pc: u64,
    /// Instructions left in the quantum. Translated code may keep it in a host register.
    pub budget: i64,
    /// The word that [`racewalk_cpu::signal`] bits are set in; owned by `signal`, never null.
    pub pending: *const AtomicU32,
    /// First operand of an exit (target of EXECUTE, …).
    pub arg0: u64,
    /// Second operand of an exit.
    pub arg1: u64,
    /// Set when a store hit a frame with code, or a helper asked for it: the block ends after this instruction.
    pub code_written: u32,
    /// Exception of the last slow path, zero if none ([`Exc`]).
    pub exc: u32,
    /// Where translated code was left last, other than at its end: a host address in the block's code.
    pub left_at: u64,
    /// Room for translated code's own spills and results of slow paths.
    pub scratch: [u64; 16],
    /// What a recording is told of the pages that are touched.
    pub(crate) runs: Runs,
    /// The fast TLB for loads.
    pub tlb_read: [FastEntry; FAST_TLB],
    /// The fast TLB for stores. Never holds a frame that has code.
    pub tlb_write: [FastEntry; FAST_TLB],
    /// Translated code by program counter.
    pub jumps: [JumpEntry; JUMP_CACHE],
    /// The fast TLB for instruction fetches, used when blocks are looked up and built.
    pub tlb_fetch: [FastEntry; 64],
    /// Physical page of each `tlb_fetch` entry.
    pub fetch_frames: [Pfn; 64],
    /// Load-reserve state.
    pub reservation: Reservation,
    /// Locals and ins of the register windows that are not current (sparc64), and the number of the current one.
    window_file: [[u64; 16]; WINDOWS],
    window: usize,
    /// Exceptions of completed instructions are enabled ([`racewalk_isa::Arch::traps_late`]); kept by the vCPU loop.
    pub traps_late: bool,
    /// Held by the CPU that is inside [`racewalk_isa::Env::exclusively`]; one for the machine.
    pub exclusive: Arc<racewalk_sched::Lock>,
    /// Owner of the word behind `pending`.
    pub signal: Arc<AtomicU32>,
    /// The slow side.
    pub mmu: Box<dyn Mmu + Send>,
    /// While `--engine check` runs a block for the first time: what it takes to undo it.
    pub(crate) undo: Option<Box<Undo>>,
    /// The budget when the MMU was last asked, and how often it had changed then since the run began.
    pub(crate) asked_at: (i64, u32),
    /// The MMU is asked for every run of accesses to one page: the halves for data have one page at most, this one.
    run: Option<u64>,
    used_read: Vec<u16>,
    used_write: Vec<u16>,
    used_jumps: Vec<u16>,
    /// Which pages (by a hash of 4096 bits) some jump entry is for.
    jump_pages: [u64; 64],
    /// Counts flushes of the jump cache: whatever else is keyed by program counter compares it.
    pub jump_generation: u64,
}

// SAFETY: `pending` points into `signal`, which the Core owns a share of; the pointers of `runs` into a buffer that it
// owns; all else is owned.
unsafe impl Send for Core {}

impl std::fmt::Debug for Core {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Core(pc {:#x}, budget {})", self.pc, self.budget)
    }
}

impl Core {
    /// A CPU with all state zero. `signal` is the word others set [`racewalk_cpu::signal`] bits in.
    pub fn new(mmu: Box<dyn Mmu + Send>, signal: Arc<AtomicU32>) -> Box<Core> {
        let run = (!mmu.retains()).then_some(u64::MAX);
        let mut core = Box::new(Core {
            slots: [0; MAX_SLOTS],
            pc: 0,
            budget: 0,
            pending: Arc::as_ptr(&signal),
            arg0: 0,
            arg1: 0,
            code_written: 0,
            exc: 0,
            left_at: 0,
            scratch: [0; 16],
            runs: Runs::default(),
            tlb_read: [FastEntry::empty(0); FAST_TLB],
            tlb_write: [FastEntry::empty(0); FAST_TLB],
            jumps: [EMPTY_JUMP; JUMP_CACHE],
            tlb_fetch: [FastEntry::empty(0); 64],
            fetch_frames: [Pfn(0); 64],
            reservation: Reservation::default(),
            asked_at: (0, 0),
            window_file: [[0; 16]; WINDOWS],
            window: 0,
            traps_late: false,
            exclusive: Arc::default(),
            signal,
            mmu,
            undo: None,
            run,
            used_read: Vec::new(),
            used_write: Vec::new(),
            used_jumps: Vec::new(),
            jump_pages: [0; 64],
            jump_generation: 0,
        });
        for i in 0..FAST_TLB {
            core.tlb_read[i] = FastEntry::empty(i);
            core.tlb_write[i] = FastEntry::empty(i);
        }
        core.flush_fetch();
        core
    }

    /// Bits of [`racewalk_cpu::signal`] that are set.
    #[inline(always)]
    pub fn pending(&self) -> u32 {
        self.signal.load(Ordering::Relaxed)
    }

    /// Enters a page for loads (`Access::Load`) or stores.
    pub fn fill(&mut self, addr: u64, access: Access, piece: &Piece) {
        let page = addr & !(GRANULE - 1);
        if self.run.is_some() {
            self.begin_run(page, access);
        }
        let addend = (piece.host as u64).wrapping_sub(addr);
        let i = (addr >> GRANULE_SHIFT) as usize & (FAST_TLB - 1);
        let e = FastEntry { tag: page, addend };
        match access {
            Access::Load => {
                self.tlb_read[i] = e;
                self.used_read.push(i as u16);
            }
            Access::Store => {
                self.tlb_write[i] = e;
                self.used_write.push(i as u16);
            }
            Access::Fetch => {
                let i = i & 63;
                self.tlb_fetch[i] = e;
                self.fetch_frames[i] = piece.paddr.pfn();
            }
        }
        if self.used_read.len() > 2 * FAST_TLB {
            self.used_read.sort_unstable();
            self.used_read.dedup();
        }
        if self.used_write.len() > 2 * FAST_TLB {
            self.used_write.sort_unstable();
            self.used_write.dedup();
        }
    }

    /// Another page than the last: what the fast TLB has of others on this side must not hide that they are used again.
    #[cold]
    fn begin_run(&mut self, page: u64, access: Access) {
        if access == Access::Fetch {
            self.flush_fetch();
            self.flush_jumps();
        } else if self.run != Some(page) {
            self.flush_reads();
            self.flush_writes();
            self.run = Some(page);
        }
    }

    /// What the MMU has lost for the translation it just gave goes from the fast TLB too.
    #[inline]
    pub(crate) fn follow_evictions(&mut self) {
        if self.run.is_some()
            && let Some(drop) = self.mmu.take_evicted()
        {
            self.apply(drop);
        }
    }

    /// Turns the register windows (sparc64): slots 8 to 15 are the outs, 16 to 23 the locals, 24 to 31 the ins of
    /// the current window; the outs of a window are the ins of the next one.
    pub fn rotate_windows(&mut self, by: i8) {
        let at = |n: i64| n.rem_euclid(WINDOWS as i64) as usize;
        let now = self.window as i64;
        self.window_file[at(now)].copy_from_slice(&self.slots[16..32]);
        self.window_file[at(now + 1)][8..].copy_from_slice(&self.slots[8..16]);
        self.window = at(now + by as i64);
        self.slots[16..32].copy_from_slice(&self.window_file[self.window]);
        let after = at(self.window as i64 + 1);
        self.slots[8..16].copy_from_slice(&self.window_file[after][8..]);
    }

    /// Says that something is remembered for `pc` until [`jump_generation`](Self::jump_generation) changes.
    pub fn note_jump(&mut self, pc: u64) {
        let bit = (pc >> GRANULE_SHIFT) as usize & 4095;
        self.jump_pages[bit >> 6] |= 1 << (bit & 63);
    }

    /// Remembers translated code for `pc` until the next flush.
    pub fn fill_jump(&mut self, pc: u64, code: u64) {
        self.note_jump(pc);
        let i = jump_index(pc);
        self.jumps[i] = JumpEntry { pc, code };
        self.used_jumps.push(i as u16);
        if self.used_jumps.len() > 2 * JUMP_CACHE {
            self.used_jumps.sort_unstable();
            self.used_jumps.dedup();
        }
    }

    /// Drops one page from every half of the fast TLB, and the jump cache.
    pub fn flush_page(&mut self, addr: u64) {
        let page = addr & !(GRANULE - 1);
        let i = (addr >> GRANULE_SHIFT) as usize & (FAST_TLB - 1);
        if self.tlb_read[i].tag == page {
            self.tlb_read[i] = FastEntry::empty(i);
        }
        if self.tlb_write[i].tag == page {
            self.tlb_write[i] = FastEntry::empty(i);
        }
        if self.tlb_fetch[i & 63].tag == page {
            self.tlb_fetch[i & 63] = FastEntry::empty(i & 63);
        }
        let bit = (addr >> GRANULE_SHIFT) as usize & 4095;
        if self.jump_pages[bit >> 6] & 1 << (bit & 63) != 0 {
            self.flush_jumps();
        }
    }

    /// Drops what a poll or unpark said.
    pub fn apply(&mut self, drop: FastDrop) {
        if drop.all || drop.ranges.iter().any(|&(_, len)| len > FEW_PAGES * GRANULE) {
            self.flush_all();
        } else {
            for (start, len) in drop.ranges {
                for i in 0..len.div_ceil(GRANULE) {
                    self.flush_page(start.0.wrapping_add(i * GRANULE));
                }
            }
        }
        if drop.stores {
            self.flush_writes();
        }
    }

    /// Drops all of the fast TLB and the jump cache.
    pub fn flush_all(&mut self) {
        self.flush_reads();
        self.flush_writes();
        self.flush_fetch();
        self.flush_jumps();
    }

    fn flush_reads(&mut self) {
        for i in self.used_read.drain(..) {
            self.tlb_read[i as usize] = FastEntry::empty(i as usize);
        }
    }

    /// Drops the store half of the fast TLB (some frame got code).
    pub fn flush_writes(&mut self) {
        for i in self.used_write.drain(..) {
            self.tlb_write[i as usize] = FastEntry::empty(i as usize);
        }
    }

    /// Drops the jump cache (some translated code is gone).
    pub fn flush_jumps(&mut self) {
        for i in self.used_jumps.drain(..) {
            self.jumps[i as usize] = EMPTY_JUMP;
        }
        self.jump_pages = [0; 64];
        self.jump_generation += 1;
    }

    fn flush_fetch(&mut self) {
        for i in 0..64 {
            self.tlb_fetch[i] = FastEntry::empty(i);
        }
    }
}

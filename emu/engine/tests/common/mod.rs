//! What the tests of this directory share: a machine with s390x tables made by hand, an assembler, random programs.
//!
//! The kernel here is a few lines long on purpose: what is tested is the engines over the port, so whatever a test
//! sees can only come from them.
#![allow(dead_code, reason = "each test uses its part")]

pub mod asm;
pub mod program;
pub mod storm;
pub mod victim;

use racewalk_cpu::{CpuEvent, Cpus, Sink};
use racewalk_engine::cache::{CodeCache, Mode};
use racewalk_engine::mmu::{Clock, PortMmu};
use racewalk_engine::runs::{Position, Run, RunSink};
use racewalk_engine::vcpu::{Stop, Vcpu};
use racewalk_engine::{Core, Mmu};
use racewalk_isa::s390x::S390x;
use racewalk_ram::{Paddr, Pfn, Ram, Vaddr};
use racewalk_walk::s390x::entry::TableType;
use racewalk_walk::s390x::{Asce, Pte, Rte, Ste};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

const REGIONS: u64 = 0x10_0000;
const SEGMENTS: u64 = 0x10_4000;
const PAGES: u64 = 0x10_8000;
/// Frame of virtual page `n` at the start: `FIRST_FRAME + n`.
pub const FIRST_FRAME: u64 = 0x200;
/// Frames that no page has at the start.
pub const SPARE_FRAMES: u64 = 0x300;
/// Pages that the one page table maps.
pub const TABLE_PAGES: u64 = 256;
/// Room for translated code: small, since thousands of machines are made.
const ARENA: usize = 1 << 20;

/// A machine: region-third, segment and page table in guest memory, one address space on all CPUs.
pub struct Machine {
    /// The port.
    pub cpus: Arc<Cpus>,
    /// What each CPU's runs of accesses go to, if they are wanted.
    pub recorded: Option<Vec<Arc<Recorded>>>,
}

/// Runs of accesses, and how far the CPU is.
#[derive(Default)]
pub struct Recorded {
    /// How far.
    pub position: Arc<Position>,
    /// All runs so far.
    pub runs: Mutex<Vec<Run>>,
}

struct Keep(Arc<Recorded>);

impl RunSink for Keep {
    fn take(&mut self, first: u64, mut runs: Vec<Run>) -> Vec<Run> {
        let mut all = self.0.runs.lock().unwrap_or_else(PoisonError::into_inner);
        assert_eq!(first, all.len() as u64);
        all.append(&mut runs);
        runs
    }
    fn lost(&mut self, n: u32) {
        panic!("{n} runs found no room")
    }
}

impl Machine {
    /// `n` CPUs; pages `mapped` (numbers below [`TABLE_PAGES`]) are valid, the others are not.
    pub fn new(n: u32, mapped: impl Fn(u64) -> bool) -> Machine {
        let ram = Arc::new(Ram::new(16 << 20).expect("16 MiB of memory"));
        for i in 0..2048 {
            let rte = if i == 0 { Rte::new(TableType::Region3, Paddr(SEGMENTS)) } else { Rte(Rte::I | 4) };
            ram.store_u64(Paddr(REGIONS + i * 8), rte.0).expect("in memory");
            let ste = if i == 0 { Ste::new(Paddr(PAGES)) } else { Ste::EMPTY };
            ram.store_u64(Paddr(SEGMENTS + i * 8), ste.0).expect("in memory");
        }
        for page in 0..TABLE_PAGES {
            let i = if mapped(page) { 0 } else { Pte::I };
            ram.store_u64(pte(page), (FIRST_FRAME + page) << 12 | i).expect("in memory");
        }
        let cpus = Cpus::new(ram, n);
        for i in 0..n {
            cpus.load_asce(i, Asce::new(Paddr(REGIONS), TableType::Region3, 0).0);
        }
        Machine { cpus, recorded: None }
    }

    /// The memory.
    pub fn ram(&self) -> &Ram {
        self.cpus.ram()
    }

    /// A cache for `mode`.
    pub fn cache(&self, mode: Mode) -> Arc<CodeCache<S390x>> {
        let made = match self.recorded {
            Some(_) => CodeCache::recording(self.cpus.clone(), mode, ARENA),
            None => CodeCache::new(self.cpus.clone(), mode, ARENA),
        };
        made.expect("room for code")
    }

    /// From now on takes down the runs of accesses of every vCPU, and where among them events come.
    pub fn record(&mut self, log: &Log) {
        let all: Vec<_> = (0..self.cpus.count()).map(|_| Arc::<Recorded>::default()).collect();
        let _ = log.positions.set(all.iter().map(|r| r.position.clone()).collect());
        self.recorded = Some(all)
    }

    /// A vCPU on CPU `n`.
    pub fn vcpu(&self, n: u32, cache: &Arc<CodeCache<S390x>>) -> Vcpu<S390x> {
        self.vcpu_with(n, cache, |mmu| Box::new(mmu))
    }

    /// A vCPU on CPU `n` with something between it and its MMU.
    pub fn vcpu_with(
        &self,
        n: u32,
        cache: &Arc<CodeCache<S390x>>,
        wrap: impl FnOnce(PortMmu) -> Box<dyn Mmu + Send>,
    ) -> Vcpu<S390x> {
        let mmu = PortMmu::new(self.cpus.clone(), n, Arc::new(Counter::default()));
        let mut core = Core::new(wrap(mmu), self.cpus.signal_word(n));
        if let Some(r) = self.recorded.as_ref().map(|r| &r[n as usize]) {
            core.tell_position(r.position.clone());
            core.record_runs(Box::new(Keep(r.clone())))
        }
        Vcpu::new(core, cache.clone())
    }

    /// Copies bytes to a virtual address, by way of the frames of the start.
    pub fn put(&self, va: u64, bytes: &[u8]) {
        self.ram().write(Paddr((FIRST_FRAME << 12) + va), bytes).expect("in memory");
    }

    /// Bytes at a virtual address, as [`put`](Self::put) finds it.
    pub fn get(&self, va: u64, len: usize) -> Vec<u8> {
        let mut b = vec![0; len];
        self.ram().read(Paddr((FIRST_FRAME << 12) + va), &mut b).expect("in memory");
        b
    }

    /// The page-table entry of a page.
    pub fn entry(&self, page: u64) -> Pte {
        Pte(self.ram().load_u64(pte(page)).expect("in memory"))
    }

    /// Stores the page-table entry of a page.
    pub fn set_entry(&self, page: u64, e: u64) {
        self.ram().store_u64(pte(page), e).expect("in memory")
    }

    /// IPTE of a page.
    pub fn ipte(&self, page: u64) -> u64 {
        self.cpus.ipte(pte(page), Vaddr(page << 12))
    }

    /// The entry of the one segment that the page table maps.
    pub fn segment(&self) -> Ste {
        Ste(self.ram().load_u64(Paddr(SEGMENTS)).expect("in memory"))
    }

    /// Stores the segment's entry, valid or not.
    pub fn set_segment(&self, valid: bool) {
        let i = if valid { 0 } else { Ste::I };
        self.ram().store_u64(Paddr(SEGMENTS), Ste::new(Paddr(PAGES)).0 | i).expect("in memory")
    }

    /// IDTE of the segment.
    pub fn idte_segment(&self) -> u64 {
        self.cpus.idte_entry(Paddr(SEGMENTS), TableType::Segment, Vaddr(0))
    }

    /// IDTE clearing by ASCE, of the one address space.
    pub fn idte_asce(&self) {
        self.cpus.idte_asce(self.cpus.asce(0))
    }

    /// The frame that a page has, valid or not.
    pub fn frame(&self, page: u64) -> Pfn {
        Pfn(self.entry(page).frame() >> 12)
    }
}

/// Where the entry of a page is.
pub fn pte(page: u64) -> Paddr {
    Paddr(PAGES + page * 8)
}

/// A clock that counts how often it was read: the same in every engine.
#[derive(Default)]
pub struct Counter(AtomicU64);

impl Clock for Counter {
    fn tod(&self) -> u64 {
        self.0.fetch_add(4096, Ordering::Relaxed)
    }
}

/// What a run shows.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Seen {
    /// A CPU's event.
    Event(u32, CpuEvent),
    /// A vCPU stopped: CPU, why, instructions so far, program counter.
    Stop(u32, Stop, u64, u64),
    /// Where the event that follows is among the runs and the instructions of its CPU.
    At(u64, u64),
    /// The kernel made a page valid, on behalf of a CPU.
    Mapped(u32, u64),
}

impl std::fmt::Display for Seen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Seen::Event(cpu, e) if *cpu == racewalk_sched::NO_CPU => write!(f, "kernel {e}"),
            Seen::Event(cpu, e) => write!(f, "cpu{cpu} {e}"),
            Seen::Stop(cpu, s, n, pc) => write!(f, "cpu{cpu} stop {s:?} after {n} at {pc:#x}"),
            Seen::At(runs, n) => write!(f, "  after {n} instructions, {runs} runs:"),
            Seen::Mapped(cpu, page) => write!(f, "cpu{cpu} maps page {page:#x}"),
        }
    }
}

/// Takes down what happens, in order.
#[derive(Default)]
pub struct Log {
    seen: Mutex<Vec<Seen>>,
    positions: std::sync::OnceLock<Vec<Arc<Position>>>,
}

impl Log {
    /// Adds a line.
    pub fn put(&self, s: Seen) {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).push(s)
    }
    /// Everything so far.
    pub fn take(&self) -> Vec<Seen> {
        std::mem::take(&mut self.seen.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Sink for Log {
    fn event(&self, cpu: u32, event: &CpuEvent) {
        // Not those of the speculative walkers, which are beside the CPU.
        if racewalk_sched::this_cpu() == cpu
            && let Some(p) = self.positions.get().and_then(|p| p.get(cpu as usize))
        {
            p.told.store(true, Ordering::Relaxed);
            let (runs, n) = (p.begun.load(Ordering::Relaxed), p.instructions.load(Ordering::Relaxed));
            self.put(Seen::At(runs, n))
        }
        self.put(Seen::Event(cpu, *event))
    }
}

/// A number from the environment, or a default: how many seeds, which seed first.
pub fn setting(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(v) => v.parse().unwrap_or_else(|_| panic!("{name}={v:?}: wanted a number")),
        Err(_) => default,
    }
}

/// A hash of bytes (FNV-1a by words), for comparing memories.
pub fn hash(bytes: &[u8]) -> u64 {
    bytes.chunks(8).fold(0xcbf2_9ce4_8422_2325, |h, c| {
        let mut w = [0; 8];
        w[..c.len()].copy_from_slice(c);
        (h ^ u64::from_le_bytes(w)).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(23)
    })
}

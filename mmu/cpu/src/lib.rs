//! The port between hardware and kernel.
//!
//! A [`Cpus`] is what the hosted kernel knows of the machine's processors: their context registers, their TLBs (as
//! something to purge, never to look into), interrupts, and whether each runs guest code. The engines use the same
//! object from the other side: they enter and leave guest mode, poll, and have addresses translated.
//!
//! # The three completions
//!
//! * An **invalidation** ([`Cpus::purge`], which IPTE and its like are made of) returns after every CPU that was in guest mode or inside a
//!   bracketed user access passed a boundary ([`Cpus::poll`] or [`Cpus::park`]); interrupts, locks and RCU of the
//!   target do not matter. No walk that began before installs an entry afterwards.
//! * A **cross call** ([`Cpus::ipi_all`]) returns after every CPU had interrupts on at one instant. A CPU in guest
//!   mode has them on; hosted code may switch them off ([`Cpus::irq_off`]).
//! * An **RCU grace period** is the mm's; the port counts only when each CPU enters and leaves hosted code
//!   ([`Cpus::rcu_counter`]).
#![forbid(unsafe_code)]

mod bus;
mod context;
mod event;
mod held;
mod mmu;
mod ppc64;
mod s390x;
mod save;
mod sparc64;
mod speculative;
mod stats;
mod sun4v;
mod tables;

pub use bus::{FastDrop, Pending};
pub use event::{CpuEvent, Sink};
pub use mmu::Translated;
pub use ppc64::Broadcasts;
pub use racewalk_walk::Access;
pub use racewalk_walk::s390x::Fault;
pub use save::Saved;
pub use sparc64::TrapLevel;
pub use speculative::SpeculativeWalker;
pub use stats::{CpuStats, TlbStats};
pub use sun4v::Returned;

use bus::Gate;
use racewalk_ram::Ram;
use racewalk_walk::WalkStop;
use racewalk_walk::hardware::Hardware;
use racewalk_walk::s390x::S390x;
use racewalk_walk::tlb::config::{Kind, TlbConfig};
use std::sync::atomic::{AtomicU32, AtomicU64};
use std::sync::{Arc, Mutex, OnceLock};

/// Bits of the word that a CPU polls between blocks of instructions.
pub mod signal {
    /// A purge waits for this CPU, or was made while it was away.
    pub const INVALIDATE: u32 = 1;
    /// An inter-processor interrupt.
    pub const IPI: u32 = 2;
    /// Another task wants the CPU.
    pub const RESCHEDULE: u32 = 4;
    /// The task has a signal to take, or its process is ending.
    pub const SIGNAL: u32 = 8;
    /// The machine stops.
    pub const STOP: u32 = 16;
    /// Code that was written to has been dropped from the code cache.
    pub const CODE: u32 = 32;
    /// The CPU has many runs of accesses to give away to a recording.
    pub const RUNS: u32 = 64;
    /// What concerns the engine only: it polls and goes on.
    pub const ENGINE: u32 = INVALIDATE | CODE | RUNS;
}

/// Why an access on behalf of hosted code failed.
pub type AccessStop = WalkStop<Fault>;

/// One processor.
pub(crate) struct Cpu<H: Hardware> {
    pub(crate) signal: Arc<AtomicU32>,
    pub(crate) gate: Mutex<Gate<H>>,
    pub(crate) rcu: AtomicU64,
    pub(crate) irq_off: AtomicU32,
    pub(crate) stats: CpuStats,
}

/// The machine's processors and what they share. `H` is their MMU.
pub struct Cpus<H: Hardware = S390x> {
    pub(crate) ram: Arc<Ram>,
    pub(crate) cpus: Box<[Cpu<H>]>,
    /// The TLBs keep entries until they are purged.
    pub(crate) retains: bool,
    /// The CPUs have walk caches; without them a walk neither asks nor remembers.
    pub(crate) walk_caches: bool,
    pub(crate) sink: OnceLock<Arc<dyn Sink>>,
    /// The kernel's own observer.
    pub(crate) watch: OnceLock<Arc<dyn Sink>>,
    pub(crate) tracing: std::sync::atomic::AtomicBool,
}

impl<H: Hardware> std::fmt::Debug for Cpus<H> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Cpus({})", self.cpus.len())
    }
}

impl<H: Hardware> Cpus<H> {
    /// `n` processors over `ram` with infinite TLBs and no walk caches, all parked, no address space loaded.
    pub fn new(ram: Arc<Ram>, n: u32) -> Arc<Cpus<H>> {
        Self::with_tlbs(ram, n, &TlbConfig::infinite())
    }

    /// `n` processors over `ram` whose TLBs and walk caches are those of a configuration.
    pub fn with_tlbs(ram: Arc<Ram>, n: u32, tlbs: &TlbConfig) -> Arc<Cpus<H>> {
        let cpu = || Cpu {
            signal: Arc::default(),
            gate: Mutex::new(Gate::new(tlbs)),
            rcu: AtomicU64::new(0),
            irq_off: AtomicU32::new(0),
            stats: CpuStats::default(),
        };
        Arc::new(Cpus {
            ram,
            cpus: (0..n).map(|_| cpu()).collect(),
            retains: tlbs.kind == Kind::Infinite,
            walk_caches: !tlbs.walk_cache.is_empty(),
            sink: OnceLock::new(),
            watch: OnceLock::new(),
            tracing: Default::default(),
        })
    }

    /// How many.
    pub fn count(&self) -> u32 {
        self.cpus.len() as u32
    }

    /// The memory they share.
    pub fn ram(&self) -> &Arc<Ram> {
        &self.ram
    }

    /// The word that CPU `cpu` polls; see [`signal`].
    pub fn signal_word(&self, cpu: u32) -> Arc<AtomicU32> {
        self.cpus[cpu as usize].signal.clone()
    }

    /// Whether entries leave the TLBs only when they are purged. Else whoever keeps translations before a TLB lets it see
    /// every run of accesses to one page, or it would count the misses of that cache.
    pub fn retains(&self) -> bool {
        self.retains
    }

    /// What the TLB and the walk caches of CPU `cpu` counted so far.
    pub fn tlb_stats(&self, cpu: u32) -> TlbStats {
        let g = self.cpus[cpu as usize].gate();
        let walk_caches = g.walk_cache.stats().map(|(name, s)| (name.to_string(), s)).collect();
        TlbStats { levels: g.tlb.stats(), walk_caches }
    }

    /// What CPU `cpu` did so far.
    pub fn stats(&self, cpu: u32) -> &CpuStats {
        &self.cpus[cpu as usize].stats
    }

    /// Sends events of all CPUs to `sink` from now on. May be called once.
    pub fn trace_to(&self, sink: Arc<dyn Sink>) {
        if self.sink.set(sink).is_ok() {
            self.tracing.store(true, std::sync::atomic::Ordering::Release);
        }
    }

    /// Sends events of all CPUs to the kernel's sanitizer, beside the sink of [`trace_to`](Self::trace_to). May be called
    /// once.
    pub fn watch_by(&self, sink: Arc<dyn Sink>) {
        if self.watch.set(sink).is_ok() {
            self.tracing.store(true, std::sync::atomic::Ordering::Release);
        }
    }

    #[inline]
    pub(crate) fn tracing(&self) -> bool {
        self.tracing.load(std::sync::atomic::Ordering::Relaxed)
    }

    pub(crate) fn emit(&self, cpu: u32, event: impl FnOnce() -> CpuEvent) {
        if self.tracing() {
            let event = event();
            for s in [self.sink.get(), self.watch.get()].into_iter().flatten() {
                s.event(cpu, &event);
            }
        }
    }
}

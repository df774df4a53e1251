//! The machine-wide part of the hosted kernel.

use crate::arch::{Arch, PteFormat, S390x};
use crate::buddy::Gfp;
use crate::error::{MmError, Result};
use crate::frag::{self, Frag, Scheme};
use crate::hold::{Holds, Measure};
use crate::kmem::Buffered;
use crate::memory::Memory;
use crate::mm::Mm;
use crate::mutant::Step;
use crate::page::FrameKind;
use crate::rcu::Rcu;
use crate::sanitizer::{self, Format, Sanitizer};
use racewalk_cpu::Cpus;
use racewalk_cpu::{CpuEvent, Sink, TrapLevel};
use racewalk_ram::{PAGE_SIZE, Pfn, Ram};
use racewalk_sched::{Mutex, tso};
use std::ops::Deref;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Weak};

/// CPUs that fit the attach masks.
pub const MAX_CPUS: u32 = 256;

/// When pages leave the mm (the axis "gather").
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum GatherMode {
    /// As soon as their entry is invalid and flushed, or marked for a lazy flush (`MMU_GATHER_NO_GATHER`, s390).
    #[default]
    NoGather,
    /// In batches, after a flush of the mm.
    Batched,
}

/// How an entry that points to a lower table is taken away before that table is freed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Unhook {
    /// By a plain store of the empty entry, as Linux does; the flush before the free covers it.
    #[default]
    Store,
    /// By IDTE of the entry (s390 rule 1 by the letter, hosted-mm C.2).
    Idte,
}

/// Where the lock of PMD tables is, and the head of the list of tables deposited with them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum PmdLocks {
    /// In the record of the page that the table is in (`USE_SPLIT_PMD_PTLOCKS`).
    #[default]
    Split,
    /// In the space: `page_table_lock`.
    Space,
}

/// How the kernel is set up.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Config {
    /// How fragments of page tables are shared and freed.
    pub scheme: Scheme,
    /// When pages leave the mm.
    pub gather: GatherMode,
    /// How table entries are taken away.
    pub unhook: Unhook,
    /// Bytes at the start of memory that are never handed out: lowcore and a stand-in for the kernel image. A
    /// multiple of 4 KiB, at least two frames.
    pub reserved: u64,
    /// Address spaces that may exist at one time.
    pub max_mms: u32,
    /// Stack size limit (`RLIMIT_STACK`), bytes.
    pub stack_limit: u64,
    /// Most mappings in one address space (`vm.max_map_count`).
    pub max_map_count: usize,
    /// Lowest address that a program may map (`vm.mmap_min_addr`).
    pub mmap_min_addr: u64,
    /// Watch every table and walker.
    pub sanitize: Option<sanitizer::Options>,
    /// Measure how long locks are held.
    pub measure: Measure,
    /// A step that the mm leaves out.
    pub without: Option<Step>,
    /// Whose locks PMD tables have.
    pub pmd_locks: PmdLocks,
    /// sparc64: whether cross calls and RCU see the handler of TLB misses.
    pub trap_level: TrapLevel,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            scheme: Scheme::default(),
            gather: GatherMode::default(),
            unhook: Unhook::default(),
            reserved: 4 << 20,
            max_mms: 4096,
            stack_limit: 8 << 20,
            max_map_count: 65530,
            mmap_min_addr: 0x1_0000,
            sanitize: None,
            measure: Measure::Off,
            without: None,
            pmd_locks: PmdLocks::default(),
            trap_level: TrapLevel::default(),
        }
    }
}

/// Pages in use, by kind.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Ledger {
    /// Anonymous memory.
    pub anon: u64,
    /// Page cache.
    pub cache: u64,
    /// Pages of PTE tables.
    pub pte_pages: u64,
    /// Pages of upper tables; the kernel's own empty table is not counted.
    pub upper_pages: u64,
    /// Batches of tables that wait for a grace period.
    pub batches: u64,
    /// Pages of TSBs.
    pub tsb_pages: u64,
    /// Address spaces.
    pub mms: u64,
}

impl Ledger {
    /// Whether nothing but the page cache is in use.
    pub fn is_empty(&self) -> bool {
        Ledger { cache: 0, ..self.clone() } == Ledger::default()
    }
}

/// The space that a CPU runs, if it runs one.
type Running<A> = Option<Arc<Mm<A>>>;

/// The hosted kernel on a machine of architecture `A`.
pub struct Kernel<A: Arch = S390x> {
    pub(crate) memory: Arc<Memory>,
    pub(crate) cpus: Arc<Cpus<A::Hw>>,
    pub(crate) config: Config,
    pub(crate) rcu: Rcu,
    pub(crate) frag: Box<dyn Frag<A>>,
    pub(crate) holds: Holds,
    pub(crate) zero_page: Pfn,
    pub(crate) machine: A::Machine,
    /// Whose address space each CPU runs.
    pub(crate) active: Box<[Mutex<Running<A>>]>,
    pub(crate) halted: AtomicBool,
}

impl<A: Arch> Deref for Kernel<A> {
    type Target = Memory;
    fn deref(&self) -> &Memory {
        &self.memory
    }
}

impl<A: Arch> std::fmt::Debug for Kernel<A> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Kernel({}, {}, {} cpus)", A::NAME, self.config.scheme.name(), self.cpus.count())
    }
}

impl<A: Arch> Kernel<A> {
    /// Boots the kernel on a machine: takes all its memory, and loads an empty address space on every CPU.
    pub fn new(ram: Arc<Ram>, cpus: Arc<Cpus<A::Hw>>, config: Config) -> Result<Arc<Kernel<A>>> {
        let frag = frag::of::<A>(config.scheme)?;
        Self::with_scheme(ram, cpus, config, frag)
    }

    /// The same with the code of a scheme that the catalogue need not know.
    pub(crate) fn with_scheme(
        ram: Arc<Ram>,
        cpus: Arc<Cpus<A::Hw>>,
        config: Config,
        frag: Box<dyn Frag<A>>,
    ) -> Result<Arc<Kernel<A>>> {
        let page = 1 << A::PAGE_SHIFT;
        let n = cpus.count();
        if n > MAX_CPUS {
            return Err(MmError::Config(format!("{n} CPUs; at most {MAX_CPUS} are supported")));
        }
        let size = ram.size();
        if !config.reserved.is_multiple_of(page)
            || config.reserved < 2 * PAGE_SIZE
            || config.reserved.checked_add(64 * page).is_none_or(|end| end > size)
        {
            return Err(MmError::Config(format!(
                "{:#x} reserved bytes of {size:#x}; wanted a multiple of {page}, at least {}, that leaves at least {} KiB",
                config.reserved,
                2 * PAGE_SIZE,
                (64 * page) >> 10
            )));
        }
        let reserved = config.reserved / PAGE_SIZE;
        let watch = config.sanitize.map(|o| Arc::new(Sanitizer::new(format::<A>(), o)));
        let memory = Arc::new(Memory::new(ram, A::PAGE_SHIFT, reserved, config.max_mms, n, watch)?);
        if memory.sanitizer().is_some() {
            cpus.watch_by(Arc::new(Watch(Arc::downgrade(&memory))));
        }
        let zero_page = memory.alloc(0, Gfp::Kernel, FrameKind::Reserved, "the zero page")?;
        memory.ram.fill(zero_page.paddr(), 0, page)?;
        let gather = if A::NO_GATHER { config.gather } else { GatherMode::Batched };
        let k = Kernel {
            machine: A::boot(&memory, config.max_mms)?,
            rcu: Rcu::new(n),
            frag,
            holds: Holds::new(config.measure),
            zero_page,
            active: (0..n).map(|_| Mutex::new(None)).collect(),
            halted: AtomicBool::new(false),
            memory,
            cpus,
            config: Config { gather, ..config },
        };
        for cpu in 0..n {
            A::load(&k.cpus, &k.machine, cpu, None);
        }
        Ok(Arc::new(k))
    }

    /// Memory and its books, without the architecture.
    pub(crate) fn memory(&self) -> &Arc<Memory> {
        &self.memory
    }
    /// How it was set up.
    pub fn config(&self) -> &Config {
        &self.config
    }
    /// How long locks were held.
    pub fn holds(&self) -> &Holds {
        &self.holds
    }
    /// Whether a step is taken: all are, but that of a mutant.
    #[inline]
    pub(crate) fn takes(&self, step: Step) -> bool {
        self.config.without != Some(step)
    }
    /// The machine's processors.
    pub fn cpus(&self) -> &Arc<Cpus<A::Hw>> {
        &self.cpus
    }

    /// Stores of hosted code wait in a buffer of their CPU from now on, to the end of the controlled run that the caller is
    /// part of (total store order).
    ///
    /// # Panics
    /// Outside a controlled run.
    pub fn buffer_stores(&self) {
        tso::install(Rc::new(Buffered(self.memory.clone())), self.cpus.count());
    }

    /// The machine stops where it is: nothing is given back when handles go. For a run that ended with a finding, and
    /// to break the circle between CPUs and the spaces they run.
    pub fn halt(&self) {
        self.halted.store(true, SeqCst);
        for a in &self.active {
            drop(a.lock("active").take());
        }
    }
    pub(crate) fn is_halted(&self) -> bool {
        self.halted.load(SeqCst)
    }

    /// Gives back what the scheme keeps for itself; nothing may run any more.
    pub fn shutdown(&self) -> Result<()> {
        self.note(self.frag.shutdown(self))
    }

    /// When all spaces have ended and all callbacks have run: notes what is left (invariant 10).
    pub fn check_leaks(&self) {
        let ledger = self.ledger();
        if ledger.is_empty() {
            return;
        }
        let mut text = format!("left when everything has ended: {ledger:?}");
        for t in self.sanitizer().map(|s| s.remaining()).unwrap_or_default() {
            text.push_str("\n    ");
            text.push_str(&t);
        }
        self.report(match self.sanitizer() {
            Some(s) => s.broken(10, text, None),
            None => MmError::Broken { rule: 10, text, about: None },
        });
    }

    /// What is in use now.
    pub fn ledger(&self) -> Ledger {
        let in_use = |kind| self.buddy.in_use(kind);
        Ledger {
            anon: in_use(FrameKind::Anon),
            cache: in_use(FrameKind::Cache),
            pte_pages: in_use(FrameKind::PteTables),
            upper_pages: in_use(FrameKind::UpperTable),
            batches: in_use(FrameKind::TableBatch),
            tsb_pages: in_use(FrameKind::Tsb),
            mms: self.kmem.slab.live() as u64,
        }
    }
}

#[cfg(test)]
impl<A: Arch> Kernel<A> {
    /// A kernel on the same memory, its own state as after booting.
    pub(crate) fn again(&self) -> Result<Arc<Kernel<A>>> {
        let n = self.cpus.count();
        Ok(Arc::new(Kernel {
            memory: self.memory.clone(),
            cpus: self.cpus.clone(),
            config: self.config.clone(),
            rcu: Rcu::new(n),
            frag: frag::of::<A>(self.config.scheme)?,
            holds: Holds::new(self.config.measure),
            zero_page: self.zero_page,
            machine: self.machine.clone(),
            active: (0..n).map(|_| Mutex::new(None)).collect(),
            halted: AtomicBool::new(false),
        }))
    }
}

/// What the sanitizer knows of an architecture.
fn format<A: Arch>() -> Format {
    Format {
        walked: A::WALKED,
        walker: A::WALKER,
        levels: A::LEVELS.len(),
        next_table: A::next_table,
        clear: |level, entry| {
            if level + 1 == A::LEVELS.len() {
                !A::Pte::from_raw(entry).valid()
            } else {
                A::next_table(level, entry).is_none()
            }
        },
        page: 1 << A::PAGE_SHIFT,
        level_name: |level| A::LEVELS.get(level).map_or("table of the kernel", |l| l.name),
    }
}

/// Takes the events of the hardware to the sanitizer.
struct Watch(Weak<Memory>);

impl Sink for Watch {
    fn event(&self, cpu: u32, event: &CpuEvent) {
        let Some(m) = self.0.upgrade() else { return };
        if let Some(s) = m.sanitizer()
            && let Err(e) = s.hardware(cpu, event)
        {
            m.report(e);
        }
    }
}

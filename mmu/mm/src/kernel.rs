//! The machine-wide part of the hosted kernel.

use crate::buddy::{Buddy, Failures, Gfp};
use crate::error::{MmError, Result};
use crate::frag::{self, Frag, Scheme};
use crate::kmem::Kmem;
use crate::mm::Mm;
use crate::page::{FrameKind, Pages, flag};
use crate::rcu::Rcu;
use crate::slab::Slab;
use crate::stats::Stats;
use racewalk_cpu::Cpus;
use racewalk_ram::{PAGE_SIZE, Pfn, Ram};
use racewalk_sched::{Mutex, controlled};
use racewalk_walk::s390x::Asce;
use racewalk_walk::s390x::entry::TableType;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, PoisonError};

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
}

impl Default for Config {
    fn default() -> Self {
        Config {
            scheme: Scheme::S390_66,
            gather: GatherMode::default(),
            unhook: Unhook::default(),
            reserved: 4 << 20,
            max_mms: 4096,
            stack_limit: 8 << 20,
            max_map_count: 65530,
            mmap_min_addr: 0x1_0000,
        }
    }
}

/// Frames in use, by kind.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Ledger {
    /// Anonymous memory.
    pub anon: u64,
    /// Page cache.
    pub cache: u64,
    /// Pages of PTE tables.
    pub pte_pages: u64,
    /// Frames of region and segment tables, four each; the kernel's own empty table is not counted.
    pub crst_frames: u64,
    /// Batches of tables that wait for a grace period.
    pub batches: u64,
    /// Address spaces.
    pub mms: u64,
}

impl Ledger {
    /// Whether nothing but the page cache is in use.
    pub fn is_empty(&self) -> bool {
        Ledger { cache: 0, ..self.clone() } == Ledger::default()
    }
}

/// The hosted kernel.
pub struct Kernel {
    pub(crate) ram: Arc<Ram>,
    pub(crate) cpus: Arc<Cpus>,
    pub(crate) config: Config,
    pub(crate) kmem: Kmem,
    pub(crate) buddy: Buddy,
    pub(crate) rcu: Rcu,
    pub(crate) stats: Stats,
    pub(crate) frag: Box<dyn Frag>,
    pub(crate) zero_page: Pfn,
    /// What CPUs run whose task has no address space: a region-third table with no valid entry.
    pub(crate) idle_asce: Asce,
    /// Whose address space each CPU runs.
    pub(crate) active: Box<[Mutex<Option<Arc<Mm>>>]>,
    // A host lock, held for one operation.
    findings: std::sync::Mutex<Vec<MmError>>,
    found: AtomicBool,
}

impl std::fmt::Debug for Kernel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Kernel({}, {} cpus)", self.config.scheme.name(), self.cpus.count())
    }
}

impl Kernel {
    /// Boots the kernel on a machine: takes all its memory, and loads an empty address space on every CPU.
    pub fn new(ram: Arc<Ram>, cpus: Arc<Cpus>, config: Config) -> Result<Arc<Kernel>> {
        let frames = ram.size() / PAGE_SIZE;
        let n = cpus.count();
        if n > MAX_CPUS {
            return Err(MmError::Config(format!("{n} CPUs; at most {MAX_CPUS} are supported")));
        }
        let first = config.reserved / PAGE_SIZE;
        if !config.reserved.is_multiple_of(PAGE_SIZE) || first < 2 || first + 64 > frames {
            return Err(MmError::Config(format!(
                "{:#x} reserved bytes of {:#x}; wanted a multiple of 4096 that leaves at least 256 KiB",
                config.reserved,
                ram.size()
            )));
        }
        let frag = frag::of(config.scheme)?;
        let mut k = Kernel {
            kmem: Kmem { ram: ram.clone(), pages: Pages::new(frames)?, slab: Slab::new(config.max_mms)? },
            buddy: Buddy::new(first, frames, n),
            rcu: Rcu::new(n),
            stats: Stats::default(),
            frag,
            zero_page: Pfn(0),
            idle_asce: Asce(0),
            active: (0..n).map(|_| Mutex::new(None)).collect(),
            findings: Default::default(),
            found: AtomicBool::new(false),
            ram,
            cpus,
            config,
        };
        for f in 0..first {
            k.kmem.pages.prepare(Pfn(f), 0, FrameKind::Reserved)?;
            k.kmem.pages.set_flag(Pfn(f), flag::RESERVED)?;
        }
        k.zero_page = k.alloc(0, Gfp::Kernel, FrameKind::Reserved, "the zero page")?;
        k.ram.fill(k.zero_page.paddr(), 0, PAGE_SIZE)?;
        let table = k.crst_alloc(TableType::Region3, FrameKind::Reserved)?;
        k.idle_asce = Asce::new(table, TableType::Region3, 3);
        for cpu in 0..n {
            k.cpus.load_asce(cpu, k.idle_asce.0);
        }
        Ok(Arc::new(k))
    }

    /// How it was set up.
    pub fn config(&self) -> &Config {
        &self.config
    }
    /// The machine's memory.
    pub fn ram(&self) -> &Arc<Ram> {
        &self.ram
    }
    /// The machine's processors.
    pub fn cpus(&self) -> &Arc<Cpus> {
        &self.cpus
    }
    /// What the mm did so far.
    pub fn stats(&self) -> &Stats {
        &self.stats
    }
    /// The page records.
    pub fn pages(&self) -> &Pages {
        &self.kmem.pages
    }
    /// Free frames.
    pub fn free_frames(&self) -> u64 {
        self.buddy.free_frames()
    }
    /// Makes allocations fail from now on.
    pub fn set_failures(&self, plan: Failures) {
        self.buddy.set_failures(plan);
    }

    /// What is in use now.
    pub fn ledger(&self) -> Ledger {
        Ledger {
            anon: self.buddy.in_use(FrameKind::Anon),
            cache: self.buddy.in_use(FrameKind::Cache),
            pte_pages: self.buddy.in_use(FrameKind::PteTables),
            crst_frames: self.buddy.in_use(FrameKind::CrstTable),
            batches: self.buddy.in_use(FrameKind::TableBatch),
            mms: self.kmem.slab.live() as u64,
        }
    }

    /// Notes a finding. In a controlled run the schedule ends with it.
    pub(crate) fn report(&self, e: MmError) {
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

    pub(crate) fn alloc(&self, order: u32, gfp: Gfp, kind: FrameKind, what: &'static str) -> Result<Pfn> {
        self.buddy.alloc(&self.kmem.pages, &self.stats, order, gfp, kind, what)
    }

    pub(crate) fn free(&self, pfn: Pfn, order: u32) -> Result<()> {
        self.buddy.free(&self.kmem.pages, &self.stats, pfn, order)
    }

    /// A zeroed frame of user memory.
    pub(crate) fn alloc_zeroed(&self, what: &'static str) -> Result<Pfn> {
        let p = self.alloc(0, Gfp::Kernel, FrameKind::Anon, what)?;
        self.ram.fill(p.paddr(), 0, PAGE_SIZE)?;
        self.kmem.pages.set_flag(p, flag::ANON)?;
        Ok(p)
    }

    /// Drops a reference to a frame of user memory; the last one frees it.
    pub(crate) fn put_page(&self, pfn: Pfn) -> Result<()> {
        racewalk_sched::point("page.put");
        if self.kmem.pages.put_testzero(pfn)? {
            if self.kmem.pages.mapcount(pfn)? != -1 {
                return crate::error::broken(19, format!("frame {pfn:?} is freed while it is mapped"));
            }
            self.free(pfn, 0)?;
        }
        Ok(())
    }
}

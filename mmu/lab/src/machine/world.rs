//! The machine that a scenario runs on: its memory, a booted kernel, and what its tasks share.

use super::observe::Listener;
use crate::scenario::{Scenario, SetupKind, Verb};
use crate::target::RunOptions;
use racewalk_cpu::{Cpus, TrapLevel};
use racewalk_mm::arch::Arch;
use racewalk_mm::{Kernel, Measure, Mm, MmError, PmdLocks, Variant, frames, sanitizer};
use racewalk_ram::{PAGE_SIZE, Ram, Vaddr};
use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

thread_local! {
    /// Memories of earlier machines, blank.
    static MEMORIES: RefCell<Vec<Arc<Ram>>> = const { RefCell::new(Vec::new()) };
}

/// Blank memory of `size` bytes.
pub(super) fn memory(size: u64) -> Result<Arc<Ram>, MmError> {
    let kept = MEMORIES.with_borrow_mut(|m| {
        let i = m.iter().position(|r| r.size() == size)?;
        Some(m.swap_remove(i))
    });
    match kept {
        Some(r) => Ok(r),
        None => frames::blank(size),
    }
}

/// Keeps memory that is blank for a later machine.
pub(super) fn keep(ram: Arc<Ram>) {
    // Somebody may still hold it: a run that panicked.
    if Arc::strong_count(&ram) == 1 {
        MEMORIES.with_borrow_mut(|m| m.push(ram));
    }
}

/// What all tasks of a run share.
pub(super) struct Shared<A: Arch> {
    pub(super) kernel: Arc<Kernel<A>>,
    pub(super) mms: Vec<Arc<Mm<A>>>,
    /// CPUs and walkers that have not ended.
    pub(super) left: AtomicUsize,
}

impl<A: Arch> Shared<A> {
    pub(super) fn one_less(&self) {
        if self.left.fetch_sub(1, SeqCst) == 1 {
            self.kernel.rcu_kick();
        }
    }
}

/// Where segment `n` begins.
pub(super) fn segment<A: Arch>(n: u32) -> Vaddr {
    Vaddr(n as u64 * A::LEVELS[A::LEVELS.len() - 2].span())
}

/// Page `page` of segment `n`.
pub(super) fn page<A: Arch>(n: u32, page: u32) -> Vaddr {
    Vaddr(segment::<A>(n).0 + ((page as u64) << A::PAGE_SHIFT))
}

/// Memory that a scenario fits in: what its set-up touches, what its operations may, and tables. Few sizes, so that
/// memories are used again; small ones, since every machine has new records for all of it.
pub(super) fn size<A: Arch>(scenario: &Scenario) -> u64 {
    let span = |s: crate::scenario::Span| (s.1 - s.0) as u64;
    let setup = scenario.mms.iter().flat_map(|m| &m.setup);
    let touched: u64 = setup.map(|s| span(s.segments) * (1 + s.pages.map_or(0, span))).sum();
    let ops = scenario.programs.iter().flat_map(|p| &p.ops);
    let more: u64 = ops.map(|o| 2 + o.place.as_ref().and_then(|p| p.pages).map_or(0, span)).sum();
    let made = scenario.mms.iter().flat_map(|m| &m.setup).filter(|s| s.kind == SetupKind::Huge);
    let huge = made.map(|s| span(s.segments)).sum::<u64>()
        + scenario.programs.iter().flat_map(|p| &p.ops).filter(|o| o.verb == Verb::HugeMap).count() as u64;
    // One more, since they are aligned.
    let huge = if huge == 0 { 0 } else { (huge + 1) * A::LEVELS[A::LEVELS.len() - 1].entries() };
    let pages = (80 + touched + more + huge).next_power_of_two();
    (pages << A::PAGE_SHIFT).next_multiple_of(1 << 20)
}

/// A machine with a sanitizer that watches it.
pub(super) fn boot<A: Arch>(
    ram: &Arc<Ram>,
    variant: Variant,
    cpus: u32,
    machine: crate::scenario::Options,
    options: &RunOptions,
    listener: Option<&Listener>,
) -> Result<Arc<Kernel<A>>, MmError> {
    let mut config = racewalk_mm::Config::default();
    config.scheme = variant.scheme;
    config.without = variant.without;
    if machine.pmd_locks_space {
        config.pmd_locks = PmdLocks::Space;
    }
    if machine.refill_hidden {
        config.trap_level = TrapLevel::Hidden;
    }
    config.reserved = (2 * PAGE_SIZE).max(1 << A::PAGE_SHIFT);
    config.max_mms = 8;
    config.mmap_min_addr = 0;
    config.measure = if options.counters { Measure::Points } else { Measure::Off };
    config.sanitize = Some(sanitizer::Options { log: 1 << 14, states: options.states });
    let cpus = Cpus::new(ram.clone(), cpus);
    if let Some(l) = listener {
        cpus.trace_to(l.sink.clone());
    }
    let kernel = Kernel::<A>::new(ram.clone(), cpus, config)?;
    if let (Some(l), Some(s)) = (listener, kernel.sanitizer()) {
        s.watch(l.watcher.clone());
    }
    Ok(kernel)
}

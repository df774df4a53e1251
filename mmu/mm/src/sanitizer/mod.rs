//! The sanitizer: watches every table from hand-out to reuse, every walker, flush and grace period, and reports what
//! breaks an invariant of hosted-mm D, with evidence.
//!
//! A hook is one test of a pointer when the sanitizer is off. When it is on, a hook takes a host lock for one
//! operation and reaches no scheduling point. Hooks run inside the section that protects what they look at, so that a
//! sound scheme is never reported.

mod deposits;
mod event;
mod report;
mod state;

pub use event::{Actor, Class, Event, Give, What};
pub use report::{INVARIANTS, Report, invariant};
pub(crate) use state::Format;
pub use state::Usage;

use crate::error::MmError;
use racewalk_cpu::CpuEvent;
use racewalk_ram::{Kva, Paddr, Pfn, Vaddr};
use state::{Check, State};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What the sanitizer keeps.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Options {
    /// Events that the log holds; older ones are dropped and counted.
    pub log: usize,
    /// Collect hashes of the states that were seen.
    pub states: bool,
}

impl Default for Options {
    fn default() -> Self {
        Options { log: 1 << 16, states: false }
    }
}

/// The sanitizer of one kernel.
pub struct Sanitizer {
    state: Mutex<State>,
}

impl std::fmt::Debug for Sanitizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sanitizer")
    }
}

/// Hears of everything that the sanitizer logs. Called on the thread that does it; must reach no scheduling point.
pub trait Watcher: Send + Sync {
    /// `what` happened on `cpu`, or on none ([`racewalk_sched::NO_CPU`]).
    fn happened(&self, cpu: u32, what: &What);
}

/// The books as they were at some time.
pub(crate) struct Saved(State);

impl std::fmt::Debug for Saved {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Saved")
    }
}

fn finding(c: Check) -> Result<(), MmError> {
    c.map_err(MmError::Found)
}

impl Sanitizer {
    pub(crate) fn new(format: Format, options: Options) -> Sanitizer {
        Sanitizer { state: Mutex::new(State::new(format, options.log.max(16), options.states)) }
    }

    /// From now on tells `watcher` of everything that is logged.
    pub fn watch(&self, watcher: std::sync::Arc<dyn Watcher>) {
        self.state().watcher = Some(watcher)
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn save(&self) -> Saved {
        Saved(self.state().clone())
    }
    pub(crate) fn restore(&self, saved: &Saved) {
        self.state().go_back(&saved.0);
    }

    /// The log so far.
    pub fn events(&self) -> Vec<Event> {
        self.state().log.iter().copied().collect()
    }
    /// Hashes of the states seen so far, if they are collected.
    pub fn take_states(&self) -> std::collections::HashSet<u64> {
        self.state().states.replace(Default::default()).unwrap_or_default()
    }
    /// Bytes of PTE tables in use and pending.
    pub fn usage(&self) -> Usage {
        self.state().usage
    }
    /// Marks the begin or the end of a scenario's operation.
    pub fn mark(&self, what: What) {
        self.state().note(what);
    }
    /// Tables that were handed out and did not come to an end, described.
    pub fn remaining(&self) -> Vec<String> {
        self.state().remaining()
    }

    pub(crate) fn alloc(&self, table: Paddr, bytes: u64, level: usize, mm: Kva) -> Result<(), MmError> {
        finding(self.state().alloc(table, bytes, level, mm))
    }
    pub(crate) fn hook(&self, table: Paddr, entry: Paddr, va: Vaddr) -> Result<(), MmError> {
        finding(self.state().hook(table, entry, va))
    }
    pub(crate) fn unhook(&self, table: Paddr, entry: Paddr) -> Result<(), MmError> {
        finding(self.state().unhook(table, entry))
    }
    pub(crate) fn give(&self, table: Paddr, how: Give) -> Result<(), MmError> {
        finding(self.state().give(table, how))
    }
    pub(crate) fn deposit(&self, table: Paddr, head: Kva) -> Result<(), MmError> {
        finding(self.state().deposit(table, head))
    }
    pub(crate) fn withdraw(&self, table: Paddr, head: Kva) -> Result<(), MmError> {
        finding(self.state().withdraw(table, head))
    }
    pub(crate) fn huge(&self, head: Kva, entry: Paddr, maps: bool) -> Result<(), MmError> {
        finding(self.state().huge(head, entry, maps))
    }
    pub(crate) fn freed(&self, at: Paddr, len: u64) -> Result<(), MmError> {
        finding(self.state().freed(at, len))
    }
    pub(crate) fn store(&self, at: Paddr, value: u64) -> Result<(), MmError> {
        finding(self.state().store(at, value))
    }
    /// Software reads an entry that no walk is about.
    pub(crate) fn touch(&self, entry: Paddr) -> Result<(), MmError> {
        finding(self.state().touch(entry))
    }
    pub(crate) fn load(&self, id: u64, entry: Paddr, value: u64) -> Result<(), MmError> {
        finding(self.state().load(id, entry, value))
    }
    pub(crate) fn call_rcu(&self, head: Kva, page: Option<Pfn>) -> Result<(), MmError> {
        finding(self.state().call_rcu(head, page))
    }
    pub(crate) fn list_add(&self, node: Kva) -> Result<(), MmError> {
        finding(self.state().list_add(node))
    }
    pub(crate) fn list_del(&self, node: Kva) -> Result<(), MmError> {
        finding(self.state().list_del(node))
    }
    pub(crate) fn overwrites(&self, at: Kva) -> Result<(), MmError> {
        finding(self.state().overwrites(at))
    }
    pub(crate) fn lock_gone(&self, page: Pfn, len: u64) -> Result<(), MmError> {
        finding(self.state().lock_gone(page, len))
    }
    pub(crate) fn hardware(&self, cpu: u32, event: &CpuEvent) -> Result<(), MmError> {
        finding(self.state().hardware(cpu, event))
    }
    /// A finding of a scheme's own checks, with the story of its page.
    pub(crate) fn broken(&self, rule: u8, found: String, about: Option<Paddr>) -> MmError {
        MmError::Found(self.state().report(rule, found, about))
    }
}

//! Who takes down what a machine does: what the parts of a system tell an observer, and how it is attached.

use racewalk_cpu::Sink;
use racewalk_engine::runs::{Position, RunSink};
use racewalk_mm::sanitizer::Watcher;
use std::sync::Arc;

/// Something that a process did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Note {
    /// The guest marked a place.
    Mark(u64),
    /// A task runs on the CPU from now on.
    Task(u32),
    /// A system call came back.
    Call {
        /// The task.
        tid: u32,
        /// Its number.
        number: u64,
        /// The result, as the guest sees it.
        result: u64,
    },
}

/// Takes everything down.
pub trait Observer: Send + Sync {
    /// Who is told how far CPU `cpu` is.
    fn position(&self, cpu: u32) -> Arc<Position>;
    /// Who takes its runs of accesses; nobody if they are not wanted, on any CPU.
    fn runs(&self, cpu: u32) -> Option<Box<dyn RunSink>>;
    /// Who takes the events of MMUs.
    fn sink(&self) -> Arc<dyn Sink>;
    /// Who takes those of the mm.
    fn watcher(&self) -> Arc<dyn Watcher>;
    /// What a process did on `cpu`. Must reach no scheduling point.
    fn note(&self, cpu: u32, note: Note);
}

/// An observer, if there is one.
#[derive(Clone, Default)]
pub struct Observed(pub Option<Arc<dyn Observer>>);

impl Observed {
    /// Whether there is one.
    pub fn is_some(&self) -> bool {
        self.0.is_some()
    }

    pub(crate) fn note(&self, cpu: u32, note: impl FnOnce() -> Note) {
        if let Some(o) = &self.0 {
            o.note(cpu, note())
        }
    }
}

impl std::fmt::Debug for Observed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.is_some() { "observed" } else { "not observed" })
    }
}

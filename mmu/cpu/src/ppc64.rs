//! The port as Power has it: broadcasts that promise nothing when they end.

use crate::{Cpus, Pending};
use racewalk_ram::Vaddr;
use racewalk_walk::hardware::Hardware;
use racewalk_walk::ppc64::invalidate::Effect;
use racewalk_walk::ppc64::{Completion, Ticket};
use std::collections::VecDeque;

/// The broadcast invalidations of one CPU: what it has sent, and what it is promised. `tlbie` returns at once; the other CPUs
/// drop what it names at boundaries of their own, and only `eieio; tlbsync; ptesync` waits for them.
#[derive(Debug, Default)]
pub struct Broadcasts {
    completion: Completion,
    sent: VecDeque<(Ticket, Pending)>,
}

impl Broadcasts {
    /// None so far.
    pub fn new() -> Self {
        Self::default()
    }

    /// `tlbie`, as `effect` says: sends its purge to all CPUs.
    pub fn tlbie<H: Hardware>(&mut self, cpus: &Cpus<H>, va: Option<Vaddr>, effect: &Effect) -> Ticket {
        let ticket = self.completion.issue();
        self.sent.push_back((ticket, cpus.post("tlbie", va, effect.purge)));
        ticket
    }

    /// `eieio`.
    pub fn eieio(&mut self) {
        self.completion.order();
    }

    /// `tlbsync`.
    pub fn tlbsync(&mut self) {
        self.completion.cover();
    }

    /// `ptesync`: waits until no CPU uses any more what the covered broadcasts named.
    pub fn ptesync<H: Hardware>(&mut self, cpus: &Cpus<H>) {
        let Some(last) = self.completion.wait_for() else { return };
        let mut pending = Pending::default();
        while self.sent.front().is_some_and(|(t, _)| *t <= last) {
            if let Some((_, p)) = self.sent.pop_front() {
                pending = pending.and(p);
            }
        }
        cpus.complete("ptesync", pending);
    }

    /// Whether the architecture promises that a broadcast is complete.
    pub fn is_complete(&self, ticket: Ticket) -> bool {
        self.completion.is_complete(ticket)
    }
}

impl<H: Hardware> Cpus<H> {
    /// `tlbiel`, as `effect` says: this CPU only. A TLB without congruence classes takes any of the loop's for the whole.
    pub fn tlbiel(&self, effect: &Effect) {
        self.purge_here(&effect.purge);
    }
}

//! When a broadcast invalidation is complete (ISA 3.0B Book III 6.9.3.3 `tlbie`, `tlbsync`, and Book II `eieio`, `sync`;
//! reference ppc64-mmu §4).
//!
//! `tlbie` and `slbieg` promise nothing when they end. Of a thread that issues
//!
//! | instruction | what is then known of its broadcasts |
//! |---|---|
//! | `tlbie`, `slbieg` | nothing |
//! | `eieio`, `ptesync` | those before it come before what the thread does next: a later `tlbsync` covers them |
//! | `tlbsync`, `slbsync` | nothing yet; a later `ptesync` waits for those that it covers |
//! | `ptesync` | those covered are complete: no thread has the entry, and every access through it was performed, R and C included |
//!
//! `tlbiel` and the other SLB instructions concern the thread alone: they are complete for it after `ptesync` or a
//! context-synchronizing instruction.

/// A broadcast of one thread, in the order in which it issued them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct Ticket(u64);

/// How far one thread's broadcasts of one kind have come: one for `tlbie` with `tlbsync`, one for `slbieg` with `slbsync`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Completion {
    issued: u64,
    ordered: u64,
    covered: u64,
    complete: u64,
}

impl Completion {
    /// None so far.
    pub fn new() -> Completion {
        Completion::default()
    }

    /// `tlbie` or `slbieg`.
    pub fn issue(&mut self) -> Ticket {
        self.issued += 1;
        Ticket(self.issued)
    }

    /// `eieio`.
    pub fn order(&mut self) {
        self.ordered = self.issued;
    }

    /// `tlbsync` or `slbsync`.
    pub fn cover(&mut self) {
        self.covered = self.ordered;
    }

    /// `ptesync`: the last broadcast that must be complete before it ends, if some are that were not. Whoever executes it
    /// waits for their targets, then lets the instruction end.
    pub fn wait_for(&mut self) -> Option<Ticket> {
        self.ordered = self.issued;
        let more = self.covered > self.complete;
        self.complete = self.covered;
        more.then_some(Ticket(self.covered))
    }

    /// Whether the architecture promises that a broadcast is complete.
    pub fn is_complete(&self, ticket: Ticket) -> bool {
        ticket.0 <= self.complete
    }

    /// Whether broadcasts were issued whose completion is not promised.
    pub fn is_pending(&self) -> bool {
        self.complete < self.issued
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_sequence_completes() {
        let mut c = Completion::new();
        let (a, b) = (c.issue(), c.issue());
        c.order();
        c.cover();
        assert!(!c.is_complete(a));
        assert_eq!(c.wait_for(), Some(b));
        assert!(c.is_complete(a) && c.is_complete(b) && !c.is_pending());
        assert_eq!(c.wait_for(), None);
    }

    #[test]
    fn nothing_less_does() {
        // (eieio, tlbsync, ptesync), each there or not.
        for n in 0..7 {
            let mut c = Completion::new();
            let a = c.issue();
            if n & 1 != 0 {
                c.order();
            }
            if n & 2 != 0 {
                c.cover();
            }
            if n & 4 != 0 {
                assert_eq!(c.wait_for(), None, "{n}");
            }
            assert!(!c.is_complete(a) && c.is_pending(), "{n}");
        }
    }

    #[test]
    fn what_follows_is_not_covered() {
        let mut c = Completion::new();
        let a = c.issue();
        c.order();
        c.cover();
        let b = c.issue();
        assert_eq!(c.wait_for(), Some(a));
        assert!(!c.is_complete(b));
        // ptesync orders as eieio does.
        c.cover();
        assert_eq!(c.wait_for(), Some(b));
    }
}

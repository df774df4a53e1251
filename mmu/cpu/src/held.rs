//! The last translations of a CPU since its boundary.
//!
//! A TLB that keeps its entries until they are purged makes them last to the boundary that the purge waits for. One that
//! replaces entries may lose an operand's page for another operand's, after the instruction has tested both; hardware does
//! not let go of translations inside an instruction.

use racewalk_walk::tlb::{Entry, Key};

/// More pages than an instruction has: two for each of three operands and for itself.
const PAGES: usize = 8;

/// What a CPU translated last.
#[derive(Clone, Debug)]
pub(crate) struct Held<L> {
    entries: Vec<Entry<L>>,
    next: usize,
}

impl<L> Default for Held<L> {
    fn default() -> Self {
        Held { entries: Vec::new(), next: 0 }
    }
}

impl<L: Copy> Held<L> {
    pub(crate) fn take_in(&mut self, e: Entry<L>) {
        if let Some(same) = self.entries.iter_mut().find(|h| h.tag == e.tag) {
            *same = e;
        } else if self.entries.len() < PAGES {
            self.entries.push(e);
        } else {
            self.entries[self.next] = e;
            self.next = (self.next + 1) % PAGES;
        }
    }

    pub(crate) fn find(&self, key: &Key) -> Option<Entry<L>> {
        self.entries.iter().find(|e| e.tag.serves(key)).copied()
    }

    pub(crate) fn clear(&mut self) {
        self.entries.clear();
        self.next = 0;
    }
}

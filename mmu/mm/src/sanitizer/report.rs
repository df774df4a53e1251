//! What a finding says: the invariant, the table, who holds it, and its story.

use super::event::Event;
use std::fmt;

/// The invariants that are checked: number, name. 1 to 23 as in hosted-mm D; the others are the project's own.
pub const INVARIANTS: &[(u8, &str)] = &[
    (0, "a page table is corrupt"),
    (1, "walk after free"),
    (2, "table freed under a hardware walk"),
    (3, "table freed before its grace period"),
    (4, "rcu_head used twice or overwritten"),
    (5, "double free"),
    (6, "state of a page of halves that cannot be"),
    (7, "reference count"),
    (8, "table reused inside its grace period"),
    (9, "contents of an unhooked table changed"),
    (10, "leak"),
    (11, "page-table lock used or destroyed at the wrong time"),
    (13, "page freed while a table on it is in use or pending"),
    (14, "broken list"),
    (15, "deposited tables do not match huge entries"),
    (16, "unhook, flush and free out of order"),
    (18, "plain store to a valid entry that a CPU may use"),
    (19, "frame used by two owners"),
    (22, "object of an address space used after it was destroyed"),
    (23, "detached table hooked by somebody else"),
    (24, "a TSB or HPT entry outlives the invalidate that covers it"),
    (25, "bad page state: freed with Active set"),
    (26, "fresh page taken while a usable table was listed"),
    (27, "unbalanced sections, or sleeping in atomic context"),
    (28, "deadlock, livelock or lost wakeup"),
];

/// The name of an invariant.
pub fn invariant(rule: u8) -> &'static str {
    INVARIANTS.iter().find(|i| i.0 == rule).map_or("an invariant", |i| i.1)
}

/// A finding with its evidence.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Report {
    /// The number of the invariant.
    pub rule: u8,
    /// What was found, in a sentence.
    pub found: String,
    /// The table that it is about: address, name of its level, bytes, first address that it translates, generation.
    pub table: Option<String>,
    /// When it was handed out, hooked, unhooked, flushed and given back, as positions in the history.
    pub life: Option<String>,
    /// Walkers and readers that hold the table.
    pub holders: Vec<String>,
    /// The events of the table, its page and whoever holds it, oldest first.
    pub history: Vec<Event>,
    /// Events that are not among them: of the story, and older than the log.
    pub left_out: u64,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "invariant {} ({}): {}", self.rule, invariant(self.rule), self.found)?;
        if let Some(t) = &self.table {
            writeln!(f, "  table    {t}")?;
        }
        if let Some(l) = &self.life {
            writeln!(f, "  life     {l}")?;
        }
        for h in &self.holders {
            writeln!(f, "  held by  {h}")?;
        }
        if self.left_out != 0 {
            writeln!(f, "  ({} events before or between these are left out)", self.left_out)?;
        }
        for e in &self.history {
            writeln!(f, "  {e}")?;
        }
        Ok(())
    }
}

//! What happens to tables: handed out, hooked, unhooked, given back, freed; what is stored to their entries, and what
//! invalidations cover.

use super::{Check, Life, State, Table, WAITS, Walk};
use crate::page::Pages;
use crate::sanitizer::event::{Class, Give, What};
use crate::sanitizer::report::Report;
use racewalk_ram::{Kva, Paddr, Vaddr};

impl State {
    pub(crate) fn alloc(&mut self, table: Paddr, bytes: u64, level: usize, mm: Kva) -> Check {
        self.gone(table, true)?;
        if let Some((at, t)) = self.covering(table) {
            let found = format!("{:#x} is handed out inside {}", table.0, self.describe(at, t));
            return self.bad(5, found, at);
        }
        let generation = self.generations.get(table.0).copied().unwrap_or(0) + 1;
        self.generations.insert(table.0, generation);
        let handed_out = self.note(What::Alloc { table, generation });
        let t = Table {
            bytes,
            level,
            mm,
            generation,
            life: Life::Fresh,
            handed_out,
            hook: None,
            hooked: 0,
            unhooked: 0,
            flushed: false,
            given: 0,
        };
        self.tables.insert(table.0, t);
        if level == self.format.levels - 1 {
            self.usage.take(bytes);
        }
        self.table_code(table.0);
        Ok(())
    }

    pub(in crate::sanitizer) fn table(
        &mut self,
        table: Paddr,
        doing: &str,
    ) -> Result<&mut Table, Box<Report>> {
        if !self.tables.contains(table.0) {
            return self.bad(1, format!("{doing} of {:#x}, which is no table", table.0), table);
        }
        Ok(self.tables.get_mut(table.0).expect("looked up above"))
    }

    pub(crate) fn hook(&mut self, table: Paddr, entry: Paddr, va: Vaddr) -> Check {
        let life = self.table(table, "hooking")?.life;
        if !matches!(life, Life::Fresh | Life::Detached) {
            let what = match life {
                Life::Hooked => "hooked already",
                Life::Deposited => "deposited",
                _ => "given back already",
            };
            return self.bad(23, format!("a table is hooked that is {what}"), table);
        }
        let t = self.table(table, "hooking")?;
        (t.life, t.hook, t.flushed) = (Life::Hooked, Some((entry, va)), false);
        let level = self.table(table, "hooking")?.level - 1;
        let seq = self.note(What::Hook { table, entry, level, va });
        self.table(table, "hooking")?.hooked = seq;
        self.table_code(table.0);
        Ok(())
    }

    pub(crate) fn unhook(&mut self, table: Paddr, entry: Paddr) -> Check {
        let seq = self.note(What::Unhook { table, entry });
        let seq = if self.waiting.contains_key(&entry.0) { WAITS } else { seq };
        let t = self.table(table, "unhooking")?;
        if t.life != Life::Hooked {
            return self.bad(23, "a table is unhooked that was not hooked".into(), table);
        }
        (t.life, t.unhooked) = (Life::Detached, seq);
        self.table_code(table.0);
        Ok(())
    }

    pub(crate) fn give(&mut self, table: Paddr, how: Give) -> Check {
        let seq = self.note(What::Given { table, how });
        let t = self.table(table, "giving back")?;
        match t.life {
            Life::Given(_) => return self.bad(5, "a table is given back twice".into(), table),
            Life::Hooked => {
                return self.bad(16, "a table is given back while it is hooked".into(), table);
            }
            Life::Deposited => {
                return self.bad(15, "a table is given back while it is deposited".into(), table);
            }
            Life::Fresh | Life::Detached => {}
        }
        (t.life, t.given) = (Life::Given(how), seq);
        let (bytes, level) = (t.bytes, t.level);
        if level == self.format.levels - 1 {
            self.usage.give(bytes);
        }
        self.table_code(table.0);
        Ok(())
    }

    /// The space's mappings are out of everybody's reach.
    pub(crate) fn exit(&mut self, mm: Kva) {
        self.exiting.insert(mm.0, ());
    }

    pub(super) fn holders(&self, at: Paddr, t: &Table) -> impl Iterator<Item = &Walk> {
        self.walks.iter().filter(move |w| w.holds.contains(&(at, t.generation)))
    }

    /// A full grace period lies between then and now.
    pub(super) fn grace_since(&self, then: u64) -> bool {
        self.grace > then
    }

    /// The table's memory is used for something else from here on; `reuse`: for a table at the same place.
    pub(super) fn gone(&mut self, at: Paddr, reuse: bool) -> Check {
        let Some(t) = self.tables.get(at.0) else { return Ok(()) };
        let doing = if reuse { "handed out again" } else { "freed" };
        let Life::Given(how) = t.life else {
            let rule = if reuse { 5 } else { 13 };
            return self.bad(rule, format!("a table is {doing} that nobody gave back"), at);
        };
        if let Some(w) = self.holders(at, t).find(|w| w.class == Class::W1) {
            return self.bad(2, format!("the table is {doing} under a {}", w.name()), at);
        }
        if self.format.walked && t.hook.is_some() && !t.flushed {
            let found =
                format!("the table is {doing}, but no invalidation that covers it came after its unhook");
            return self.bad(16, found, at);
        }
        let rule = if reuse { 8 } else { 3 };
        if let Some(w) = self.holders(at, t).next() {
            return self.bad(rule, format!("the table is {doing} under a reader: {}", w.name()), at);
        }
        if how == Give::Defer && !self.grace_since(t.given) && !self.exiting.contains(t.mm.0) {
            let found =
                format!("the table is {doing}, but no grace period lies between pte_free_defer and now");
            return self.bad(rule, found, at);
        }
        if t.level == self.format.levels - 1 {
            self.usage.pending -= t.bytes;
        }
        self.note(What::Gone { table: at });
        self.tables.remove(at.0);
        self.table_code(at.0);
        Ok(())
    }

    /// `len` bytes go back to the frame allocator.
    pub(crate) fn freed(&mut self, at: Paddr, len: u64) -> Check {
        let inside: Vec<u64> = self.tables.range(at.0, at.0 + len).iter().map(|t| t.0).collect();
        if inside.is_empty() {
            return Ok(());
        }
        self.note(What::PageFree(at.pfn()));
        for a in inside {
            self.gone(Paddr(a), false)?;
        }
        if !self.listed.range(kva_of(at), kva_of(at) + len).is_empty()
            || self.listed.contains(Pages::lru(at.pfn()).0)
        {
            return self.bad(14, "the page is freed while a list runs through it".into(), at);
        }
        Ok(())
    }

    /// Software stores a doubleword of memory.
    pub(crate) fn store(&mut self, at: Paddr, value: u64) -> Check {
        let Some((table, t)) = self.covering(at) else { return Ok(()) };
        let (level, life, hooked) = (t.level, t.life, t.hook.is_some());
        let clear = (self.format.clear)(level, value);
        // A table that was never hooked has no readers.
        let exposed = hooked
            && match life {
                Life::Fresh | Life::Hooked => false,
                // The collapse that unhooked it keeps readers out, and waits for those who were inside.
                Life::Detached | Life::Deposited => {
                    (self.format.walked && !t.flushed) || self.holders(table, t).next().is_some()
                }
                Life::Given(_) => {
                    (self.format.walked && !t.flushed)
                        || !self.grace_since(t.given)
                        || self.holders(table, t).next().is_some()
                }
            };
        self.note(What::Store { entry: at, value });
        if exposed && !clear {
            let found = format!(
                "{value:#x} is stored at {:#x} of an unhooked table that walkers may still be inside",
                at.0
            );
            return self.bad(9, found, table);
        }
        Ok(())
    }

    /// A store to a doubleword went into a store buffer. What is stored to an entry is no fact before all see it: an
    /// invalidation that begins earlier does not cover it.
    pub(crate) fn buffered(&mut self, at: Paddr) {
        *self.waiting.entry(at.0).or_insert(0) += 1;
        for (_, t) in self.tables.iter_mut() {
            if t.life == Life::Detached && t.hook.is_some_and(|h| h.0 == at) {
                t.unhooked = WAITS;
            }
        }
    }

    /// It left the buffer.
    pub(crate) fn drained(&mut self, cpu: u32, at: Paddr, value: u64) {
        if self.covering(at).is_some() {
            self.note_of(cpu, What::Drained { entry: at, value });
        }
        let Some(n) = self.waiting.get_mut(&at.0) else { return };
        *n -= 1;
        if *n != 0 {
            return;
        }
        self.waiting.remove(&at.0);
        let seq = self.seq;
        for (_, t) in self.tables.iter_mut() {
            if t.unhooked == WAITS && t.hook.is_some_and(|h| h.0 == at) {
                t.unhooked = seq;
            }
        }
    }

    pub(crate) fn flush_done(&mut self, mm: Kva, va: Option<Vaddr>, began: u64) {
        self.note(What::Flushed { mm, va });
        let format = self.format;
        let mut changed = Vec::new();
        for (at, t) in self.tables.iter_mut() {
            let covered = match (va, t.hook) {
                (None, _) => true,
                // Of an address: the PTE table that it is translated by.
                (Some(va), Some((_, start))) => t.level == format.levels - 1 && start == va,
                (Some(_), None) => false,
            };
            let unhooked = !matches!(t.life, Life::Fresh | Life::Hooked) && t.hook.is_some();
            if t.mm == mm && covered && unhooked && t.unhooked < began && !t.flushed {
                t.flushed = true;
                changed.push(*at);
            }
        }
        for at in changed {
            self.table_code(at);
        }
    }

    /// Tables that were handed out and did not come to an end.
    pub(crate) fn remaining(&self) -> Vec<String> {
        self.tables
            .iter()
            .filter(|(_, t)| t.mm != Kva(0))
            .map(|(a, t)| format!("{}: {}", self.describe(Paddr(*a), t), self.life(t)))
            .collect()
    }
}

fn kva_of(at: Paddr) -> u64 {
    crate::layout::direct(at).0
}

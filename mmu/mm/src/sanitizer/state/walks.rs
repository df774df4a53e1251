//! Walkers, software's and the hardware's: what they hold and what they load.

use super::{Check, State, Walk};
use crate::sanitizer::event::{Class, What};
use racewalk_cpu::CpuEvent;
use racewalk_ram::Paddr;
use racewalk_sched::this_cpu;
use racewalk_walk::event::WalkEvent;

impl State {
    /// A software walker begins.
    pub(crate) fn enter(&mut self, class: Class) -> u64 {
        let id = self.note(What::Enter(class));
        let (task, holds) = (self.task(), self.spare.pop().unwrap_or_default());
        let w = Walk { id, class, cpu: this_cpu(), task, began: id, holds };
        self.walks.push(w);
        id
    }

    pub(crate) fn leave(&mut self, id: u64) {
        if let Some(i) = self.walks.iter().position(|w| w.id == id) {
            let w = self.walks.swap_remove(i);
            self.note(What::Leave(w.class));
            self.keep(w);
        }
    }

    fn keep(&mut self, mut walk: Walk) {
        walk.holds.clear();
        self.spare.push(walk.holds);
    }

    /// The section became one of another class: `pte_offset_map` that went on to take the lock.
    pub(crate) fn reclass(&mut self, id: u64, class: Class) {
        if let Some(w) = self.walks.iter_mut().find(|w| w.id == id) {
            w.class = class;
        }
    }

    /// The walker has a pointer to a table now.
    pub(crate) fn hold(&mut self, id: u64, table: Paddr) {
        let generation = self.tables.get(table.0).map_or(0, |t| t.generation);
        if let Some(w) = self.walks.iter_mut().find(|w| w.id == id) {
            w.holds.push((table, generation));
            let class = w.class;
            self.note(What::Holds { class, table });
        }
    }

    /// Software reads an entry that no walk is about.
    pub(crate) fn touch(&self, entry: Paddr) -> Check {
        match self.covering(entry) {
            Some(_) => Ok(()),
            None => {
                self.bad(1, format!("software reads {:#x}, where no table is (any more)", entry.0), entry)
            }
        }
    }

    /// The walker loaded an entry.
    pub(crate) fn load(&mut self, id: u64, entry: Paddr, value: u64) -> Check {
        let Some(i) = self.walks.iter().position(|w| w.id == id) else { return Ok(()) };
        self.loaded(i, entry, value)
    }

    fn loaded(&mut self, walk: usize, entry: Paddr, value: u64) -> Check {
        let w = &self.walks[walk];
        let (class, cpu) = (w.class, w.cpu);
        self.note_of(cpu, What::Load { class, entry, value });
        let w = &self.walks[walk];
        let Some((at, t)) = self.covering(entry) else {
            let found = format!("{} reads {:#x}, where no table is (any more)", w.name(), entry.0);
            let about = w.holds.iter().rev().find(|h| entry.0 >= h.0.0).map_or(entry, |h| h.0);
            return self.bad(1, found, about);
        };
        if let Some(&(_, had)) = w.holds.iter().rev().find(|h| h.0 == at)
            && had != t.generation
        {
            let found = format!(
                "{} reads {:#x}: the table has generation {}, its pointer was to generation {had}",
                w.name(),
                entry.0,
                t.generation
            );
            return self.bad(1, found, at);
        }
        let (level, generation) = (t.level, t.generation);
        if class == self.format.walker {
            let next = (level < self.format.levels - 1)
                .then(|| (self.format.next_table)(level, value))
                .flatten()
                .map(|next| (next, self.tables.get(next.0).map_or(0, |t| t.generation)));
            let w = &mut self.walks[walk];
            if !w.holds.contains(&(at, generation)) {
                w.holds.push((at, generation));
            }
            if let Some(next) = next {
                w.holds.push(next);
                self.note_of(cpu, What::Holds { class, table: next.0 });
            }
        }
        Ok(())
    }

    /// An event of the hardware.
    pub(crate) fn hardware(&mut self, cpu: u32, event: &CpuEvent) -> Check {
        let task = self.task();
        let class = self.format.walker;
        let mine = |w: &Walk| w.class == class && w.cpu == cpu && w.task == task;
        match event {
            CpuEvent::Walk(WalkEvent::Start { .. }) => {
                self.walks.retain(|w| !mine(w));
                let began = self.note_of(cpu, What::Enter(class));
                let holds = self.spare.pop().unwrap_or_default();
                let w = Walk { id: began, class, cpu, task, began, holds };
                self.walks.push(w);
            }
            CpuEvent::Walk(WalkEvent::Step { entry_addr, entry, .. }) => {
                // A walk that a complete purge has ended is not known any more.
                if let Some(i) = self.walks.iter().position(mine) {
                    return self.loaded(i, *entry_addr, *entry);
                }
            }
            CpuEvent::Walk(WalkEvent::Done { .. } | WalkEvent::Fault { .. }) | CpuEvent::Overtaken => {
                if let Some(i) = self.walks.iter().position(mine) {
                    let w = self.walks.swap_remove(i);
                    self.note_of(cpu, What::Leave(class));
                    self.keep(w);
                }
            }
            CpuEvent::Purge { .. } => {
                self.purges.insert(u64::from(cpu), self.seq);
            }
            CpuEvent::Purged { .. } => {
                let sent = self.purges.get(u64::from(cpu)).copied().unwrap_or(0);
                self.walks.retain(|w| w.class != Class::W1 || w.began > sent);
            }
            CpuEvent::Store { addr, value } => {
                self.note_of(cpu, What::Store { entry: *addr, value: *value });
            }
            CpuEvent::Lookup { .. } | CpuEvent::Evict { .. } => {}
            CpuEvent::Fill { .. } | CpuEvent::Load { .. } => {}
        }
        Ok(())
    }
}

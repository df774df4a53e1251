//! Guest memory as the walker sees it.

use crate::event::CpuEvent;
use crate::{Cpu, Cpus};
use racewalk_ram::{Asid, Paddr, Ram, Vaddr};
use racewalk_sched::{step, tso};
use racewalk_walk::event::WalkEvent;
use racewalk_walk::hardware::Hardware;
use racewalk_walk::{EntryStop, TableMemory, Upper};
use std::cell::RefCell;

/// Memory for a walk on `cpu`: a scheduling point before each access; its steps are counted, and observed.
pub(crate) struct Tables<'a, H: Hardware> {
    pub(crate) cpus: &'a Cpus<H>,
    pub(crate) cpu: u32,
    /// The space that the walk is in, for the walk cache.
    pub(crate) space: Asid,
    /// Upper parts that the walk offers to the walk cache. They enter it when the walk has ended: a purge that overtook a
    /// speculative walk keeps them out.
    pub(crate) uppers: RefCell<Vec<(Vaddr, u8, Upper)>>,
    /// A speculative walk goes on only as long as no purge was made since this one: what an invalidation promises holds
    /// for such walks too, and nobody waits for them.
    pub(crate) since: Option<u64>,
    /// Software reads, which sees what its own CPU has stored; a walk of the hardware sees memory.
    pub(crate) software: bool,
}

impl<H: Hardware> Tables<'_, H> {
    fn of(&self) -> &Cpu<H> {
        &self.cpus.cpus[self.cpu as usize]
    }
    #[inline]
    fn step(&self, label: &'static str) -> Result<&Ram, EntryStop> {
        let cut = step(label).is_err() || self.since.is_some_and(|s| self.of().gate().seq != s);
        if cut {
            self.cpus.emit(self.cpu, || CpuEvent::Overtaken);
            return Err(EntryStop::Cancelled);
        }
        Ok(&self.cpus.ram)
    }
}

impl<H: Hardware> TableMemory for Tables<'_, H> {
    #[inline]
    fn load_entry(&self, addr: Paddr) -> Result<u64, EntryStop> {
        let entry = self.step("walk.load")?.load_entry(addr)?;
        Ok(if self.software { tso::load(addr.0, entry) } else { entry })
    }
    #[inline]
    fn cas_entry(&self, addr: Paddr, expected: u64, new: u64) -> Result<u64, EntryStop> {
        let ram = self.step("walk.cas")?;
        if self.software {
            tso::fence();
        }
        ram.cas_entry(addr, expected, new)
    }
    #[inline]
    fn load_pair(&self, addr: Paddr) -> Result<[u64; 2], EntryStop> {
        let [first, second] = TableMemory::load_pair(self.step("walk.load")?, addr)?;
        let seen = |at: Paddr, v| if self.software { tso::load(at.0, v) } else { v };
        Ok([seen(addr, first), seen(addr.offset(8), second)])
    }
    #[inline]
    fn load_word(&self, addr: Paddr) -> Result<u32, EntryStop> {
        self.step("walk.load")?.load_word(addr)
    }
    #[inline]
    fn store_byte(&self, addr: Paddr, byte: u8) -> Result<(), EntryStop> {
        self.step("walk.store")?.store_byte(addr, byte)
    }
    fn resume(&self, va: Vaddr) -> Option<Upper> {
        if !self.cpus.walk_caches {
            return None;
        }
        self.of().gate().walk_cache.resume(self.space, va)
    }
    fn remember(&self, va: Vaddr, shift: u8, upper: Upper) {
        if self.cpus.walk_caches {
            self.uppers.borrow_mut().push((va, shift, upper));
        }
    }
    #[inline]
    fn event(&self, event: WalkEvent) {
        // An entry is a step, however many accesses it takes; what a walk updates is none.
        if let WalkEvent::Step { .. } = event {
            self.of().stats.steps.bump()
        }
        self.cpus.emit(self.cpu, || CpuEvent::Walk(event));
    }
}

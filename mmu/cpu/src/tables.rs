//! Guest memory as the walker sees it.

use crate::event::CpuEvent;
use crate::{Cpu, Cpus};
use racewalk_ram::{Asid, Paddr, Ram, RamError, Vaddr};
use racewalk_sched::step;
use racewalk_walk::event::WalkEvent;
use racewalk_walk::hardware::Hardware;
use racewalk_walk::{EntryStop, TableMemory, Upper};
use std::cell::RefCell;

fn outside(_: RamError) -> EntryStop {
    EntryStop::Addressing
}

/// Memory as it is: for the table updates of invalidations, which are one step of their CPU.
pub(crate) struct Direct<'a>(pub(crate) &'a Ram);

impl TableMemory for Direct<'_> {
    #[inline]
    fn load_entry(&self, addr: Paddr) -> Result<u64, EntryStop> {
        self.0.load_u64(addr).map_err(outside)
    }
    #[inline]
    fn cas_entry(&self, addr: Paddr, expected: u64, new: u64) -> Result<u64, EntryStop> {
        self.0.cas_u64(addr, expected, new).map_err(outside)
    }
    #[inline]
    fn load_pair(&self, addr: Paddr) -> Result<[u64; 2], EntryStop> {
        self.0.load_pair(addr).map_err(outside)
    }
    #[inline]
    fn load_word(&self, addr: Paddr) -> Result<u32, EntryStop> {
        self.0.load_u32(addr).map_err(outside)
    }
    #[inline]
    fn store_byte(&self, addr: Paddr, byte: u8) -> Result<(), EntryStop> {
        self.0.store_u8(addr, byte).map_err(outside)
    }
}

impl Direct<'_> {
    /// Stores a doubleword of a table or TSB.
    pub(crate) fn store_entry(&self, addr: Paddr, value: u64) -> Result<(), EntryStop> {
        self.0.store_u64(addr, value).map_err(outside)
    }
}

/// Memory for a walk on `cpu`: a scheduling point before each access, counted, and observed.
pub(crate) struct Tables<'a, H: Hardware> {
    pub(crate) cpus: &'a Cpus<H>,
    pub(crate) cpu: u32,
    /// The space that the walk is in, for the walk cache.
    pub(crate) space: Asid,
    /// Upper parts that the walk offers to the walk cache. They enter it when the walk has ended: a purge that overtook a
    /// speculative walk keeps them out.
    pub(crate) uppers: RefCell<Vec<(Vaddr, u8, Upper)>>,
}

impl<H: Hardware> Tables<'_, H> {
    fn of(&self) -> &Cpu<H> {
        &self.cpus.cpus[self.cpu as usize]
    }
    #[inline]
    fn step(&self, label: &'static str) -> Result<Direct<'_>, EntryStop> {
        step(label).map_err(|_| EntryStop::Cancelled)?;
        self.of().stats.steps.bump();
        Ok(Direct(&self.cpus.ram))
    }
}

impl<H: Hardware> TableMemory for Tables<'_, H> {
    #[inline]
    fn load_entry(&self, addr: Paddr) -> Result<u64, EntryStop> {
        self.step("walk.load")?.load_entry(addr)
    }
    #[inline]
    fn cas_entry(&self, addr: Paddr, expected: u64, new: u64) -> Result<u64, EntryStop> {
        self.step("walk.cas")?.cas_entry(addr, expected, new)
    }
    #[inline]
    fn load_pair(&self, addr: Paddr) -> Result<[u64; 2], EntryStop> {
        self.step("walk.load")?.load_pair(addr)
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
        let mut g = self.of().gate();
        if g.walk_cache.is_absent() { None } else { g.walk_cache.resume(self.space, va) }
    }
    fn remember(&self, va: Vaddr, shift: u8, upper: Upper) {
        self.uppers.borrow_mut().push((va, shift, upper));
    }
    #[inline]
    fn event(&self, event: WalkEvent) {
        self.cpus.emit(self.cpu, || CpuEvent::Walk(event));
    }
}

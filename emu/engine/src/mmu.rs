//! The slow side of a CPU's memory over the port of `mmu/cpu`.

use crate::core::{Mmu, Piece};
use racewalk_cpu::{Cpus, FastDrop, Fault};
use racewalk_isa::{Access, Exc};
use racewalk_ram::{Paddr, Vaddr};
use racewalk_walk::WalkStop;
use std::sync::Arc;

/// Where an emulated CPU gets its time of day.
pub trait Clock: Send + Sync {
    /// The time-of-day clock in the architecture's unit.
    fn tod(&self) -> u64;
}

/// The MMU of one CPU.
pub struct PortMmu {
    cpus: Arc<Cpus>,
    cpu: u32,
    clock: Arc<dyn Clock>,
    fault: Option<Fault>,
    evicted: bool,
}

impl PortMmu {
    /// The MMU of CPU `cpu`.
    pub fn new(cpus: Arc<Cpus>, cpu: u32, clock: Arc<dyn Clock>) -> Self {
        PortMmu { cpus, cpu, clock, fault: None, evicted: false }
    }
}

impl Mmu for PortMmu {
    fn translate(&mut self, addr: u64, access: Access, _space: u8) -> Result<Piece, Exc> {
        let wanted = match access {
            Access::Load => racewalk_cpu::Access::Load,
            Access::Store => racewalk_cpu::Access::Store,
            Access::Fetch => racewalk_cpu::Access::Fetch,
        };
        match self.cpus.translate(self.cpu, Vaddr(addr), wanted) {
            Ok(t) => {
                self.evicted |= t.evicted;
                let ram = self.cpus.ram();
                // `translate` has checked that the frame lies in memory.
                let host = ram.base().wrapping_add(t.paddr.0 as usize);
                let cacheable = access != Access::Store || ram.code().fast_writable(t.paddr.pfn());
                Ok(Piece { host, paddr: t.paddr, cacheable })
            }
            Err(WalkStop::Fault(f)) => {
                self.fault = Some(f);
                Err(Exc::ACCESS)
            }
            Err(WalkStop::Cancelled) => Err(Exc::CANCELLED),
        }
    }

    fn written(&mut self, paddr: Paddr, len: u64) -> bool {
        let code = self.cpus.ram().code();
        let before = code.epoch();
        self.cpus.ram().written(paddr, len);
        code.epoch() != before
    }

    fn clock(&mut self) -> u64 {
        self.clock.tod()
    }

    fn cpu(&self) -> u32 {
        self.cpu
    }

    fn unpark(&mut self) -> FastDrop {
        self.cpus.unpark(self.cpu)
    }

    fn poll(&mut self) -> FastDrop {
        self.cpus.poll(self.cpu)
    }

    fn park(&mut self) {
        self.cpus.park(self.cpu)
    }

    fn retains(&self) -> bool {
        self.cpus.retains()
    }

    fn take_evicted(&mut self) -> Option<FastDrop> {
        std::mem::take(&mut self.evicted).then(|| self.cpus.take_evicted(self.cpu))
    }

    fn take_fault(&mut self) -> Option<Fault> {
        self.fault.take()
    }
}

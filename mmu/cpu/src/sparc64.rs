//! The port as SPARC has it: misses that trap into kernel code, and demaps that reach the own CPU only.

use crate::tables::{Direct, Tables};
use crate::{Access, Cpus, Translated};
use racewalk_ram::{Paddr, Vaddr};
use racewalk_sched::{step, wait_while};
use racewalk_walk::event::WalkEvent;
use racewalk_walk::hardware::Hardware;
use racewalk_walk::sparc64::sun4u::miss::{self, Kernel, KernelMemory};
use racewalk_walk::sparc64::{Fault, Leaf, Operand, Reason, Sun4u};
use racewalk_walk::tlb::Purge;
use racewalk_walk::{EntryStop, TableMemory, Upper, WalkStop};

/// Memory as the miss handler at trap level 1 reaches it, by physical ASIs.
struct Physical<'a>(Tables<'a, Sun4u>);

impl TableMemory for Physical<'_> {
    fn load_entry(&self, addr: Paddr) -> Result<u64, EntryStop> {
        self.0.load_entry(addr)
    }
    fn cas_entry(&self, addr: Paddr, expected: u64, new: u64) -> Result<u64, EntryStop> {
        self.0.cas_entry(addr, expected, new)
    }
    fn load_pair(&self, addr: Paddr) -> Result<[u64; 2], EntryStop> {
        self.0.load_pair(addr)
    }
    fn load_word(&self, addr: Paddr) -> Result<u32, EntryStop> {
        self.0.load_word(addr)
    }
    fn store_byte(&self, addr: Paddr, byte: u8) -> Result<(), EntryStop> {
        self.0.store_byte(addr, byte)
    }
    // Software keeps no upper parts of walks.
    fn resume(&self, _: Vaddr) -> Option<Upper> {
        None
    }
    fn event(&self, event: WalkEvent) {
        self.0.event(event)
    }
}

impl KernelMemory for Physical<'_> {
    fn store_entry(&self, addr: Paddr, value: u64) -> Result<(), EntryStop> {
        step("miss.store").map_err(|_| EntryStop::Cancelled)?;
        Direct(&self.0.cpus.ram).store_entry(addr, value)
    }
    fn spin(&self) -> Result<(), EntryStop> {
        step("miss.spin").map_err(|_| EntryStop::Cancelled)?;
        std::hint::spin_loop();
        Ok(())
    }
}

impl Cpus<Sun4u> {
    /// Translates `va` as [`translate`](Cpus::translate) does; a TLB miss enters the miss handler, with interrupts off and
    /// as hosted code, and tries again with what it found. What the handler does not find is the mm's.
    pub fn translate_with_misses(
        &self,
        cpu: u32,
        kernel: &Kernel,
        va: Vaddr,
        access: Access,
    ) -> Result<Translated<Leaf>, WalkStop<Fault>> {
        loop {
            match self.translate(cpu, va, access) {
                Err(WalkStop::Fault(Fault { reason: Reason::Miss, .. })) => {}
                done => return done,
            }
            self.irq_off(cpu);
            self.enter_kernel(cpu);
            let handled = self.miss(cpu, kernel, va, access);
            self.exit_kernel(cpu);
            self.irq_on(cpu);
            handled?;
        }
    }

    /// The trap: refills the TLB, or says why not. What a cross call overtook is not entered; the access tries again.
    fn miss(&self, cpu: u32, kernel: &Kernel, va: Vaddr, access: Access) -> Result<(), WalkStop<Fault>> {
        let (context, seq) = {
            let g = self.cpus[cpu as usize].gate();
            (g.context, g.seq)
        };
        let r = context.request(va, access, &Operand::default()).map_err(WalkStop::Fault)?;
        let space = context.tlb_key(va, &r).space;
        let memory = Physical(Tables { cpus: self, cpu, space, uppers: Default::default() });
        let found = miss::refill(&memory, kernel, context.tsb(access), &r, va)?;
        if let Some(entry) = miss::enter(&r, va, &found) {
            self.enter(cpu, va, access, entry, seq);
        }
        Ok(())
    }
}

impl<H: Hardware> Cpus<H> {
    /// The cross call with which SPARC kernels demap on all CPUs (sun4u `xcall_flush_tlb_*`, sun4v `cpu_mondo`): each takes
    /// it once it has interrupts on, demaps, and is waited for.
    pub fn cross_demap(&self, va: Option<Vaddr>, purge: Purge) {
        for c in &self.cpus {
            wait_while(std::ptr::from_ref(&c.irq_off) as usize, "xcall.wait", || {
                c.irq_off.load(std::sync::atomic::Ordering::SeqCst) != 0
            });
        }
        self.purge("demap", va, purge);
    }
}

//! Context registers, interrupt mask and the guest/hosted border of each CPU.

use crate::Cpus;
use racewalk_sched::{NO_CPU, tso, wake};
use racewalk_walk::hardware::Hardware;
use std::sync::atomic::{AtomicU64, Ordering};

impl<H: Hardware> Cpus<H> {
    /// Changes what is loaded on `cpu`. The TLB keeps what it has: entries are tagged by space.
    pub fn load(&self, cpu: u32, change: impl FnOnce(&mut H::Context)) {
        tso::fence_of(cpu);
        change(&mut self.cpus[cpu as usize].gate().context);
    }

    /// What is loaded on `cpu`.
    pub fn context(&self, cpu: u32) -> H::Context {
        self.cpus[cpu as usize].gate().context.clone()
    }

    /// Even: the CPU is in guest mode or idle, a quiescent state of RCU. Odd: it is in hosted code.
    pub fn rcu_counter(&self, cpu: u32) -> &AtomicU64 {
        &self.cpus[cpu as usize].rcu
    }

    /// The CPU enters hosted code from guest mode or idle: a full fence, and the RCU counter becomes odd.
    pub fn enter_kernel(&self, cpu: u32) {
        tso::fence_of(cpu);
        let old = self.cpus[cpu as usize].rcu.fetch_add(1, Ordering::SeqCst);
        debug_assert!(old & 1 == 0, "cpu {cpu} entered hosted code twice");
    }

    /// The CPU leaves hosted code: the RCU counter becomes even.
    pub fn exit_kernel(&self, cpu: u32) {
        tso::fence_of(cpu);
        let c = &self.cpus[cpu as usize].rcu;
        let old = c.fetch_add(1, Ordering::SeqCst);
        debug_assert!(old & 1 == 1, "cpu {cpu} left hosted code twice");
        wake(std::ptr::from_ref(c) as usize);
    }

    /// Hosted code on `cpu` masks interrupts; nests.
    pub fn irq_off(&self, cpu: u32) {
        if cpu != NO_CPU {
            self.cpus[cpu as usize].irq_off.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Ends one [`irq_off`](Self::irq_off).
    pub fn irq_on(&self, cpu: u32) {
        if cpu != NO_CPU {
            let depth = &self.cpus[cpu as usize].irq_off;
            if depth.fetch_sub(1, Ordering::SeqCst) == 1 {
                wake(std::ptr::from_ref(depth) as usize);
            }
        }
    }

    /// A cross call to every other CPU with an empty handler: returns after each had interrupts on at one instant. The
    /// handler is a fence where it runs.
    pub fn ipi_all(&self) {
        let me = racewalk_sched::this_cpu();
        if let Some(c) = self.cpus.get(me as usize) {
            c.stats.ipis_sent.bump();
        }
        std::sync::atomic::fence(Ordering::SeqCst);
        tso::fence();
        for (i, c) in self.cpus.iter().enumerate() {
            if i as u32 != me {
                racewalk_sched::wait_while(std::ptr::from_ref(&c.irq_off) as usize, "ipi.wait", || {
                    c.irq_off.load(Ordering::SeqCst) != 0
                });
                tso::fence_of(i as u32);
            }
        }
    }

    /// Sets bits of [`signal`](crate::signal) for `cpu`: it leaves guest mode at its next poll.
    pub fn kick(&self, cpu: u32, bits: u32) {
        self.cpus[cpu as usize].signal.fetch_or(bits, Ordering::SeqCst);
    }
}

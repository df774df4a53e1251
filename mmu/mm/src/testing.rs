//! Helpers of the tests.

use crate::fault::Signal;
use crate::kernel::{Config, Kernel};
use crate::mm::Mm;
use racewalk_cpu::{Access, Cpus};
use racewalk_ram::{Ram, Vaddr};
use racewalk_sched::controlled::{self, End, Random};
use racewalk_walk::WalkStop;
use std::sync::Arc;

/// 16 MiB, most of it free.
pub(crate) fn boot(cpus: u32) -> (Arc<Kernel>, Arc<Cpus>) {
    boot_with(cpus, Config { reserved: 1 << 20, max_mms: 16, ..Config::default() })
}

pub(crate) fn boot_with(cpus: u32, config: Config) -> (Arc<Kernel>, Arc<Cpus>) {
    let ram = Arc::new(Ram::new(16 << 20).unwrap());
    let c = Cpus::new(ram.clone(), cpus);
    (Kernel::new(ram, c.clone(), config).unwrap(), c)
}

/// A controlled run with random choices that must finish.
pub(crate) fn run_controlled(seed: u64, f: impl FnOnce() + 'static) {
    let out = controlled::run(Default::default(), &mut Random::new(seed), f);
    assert_eq!(out.end, End::Finished, "seed {seed}: {}", out.schedule);
}

/// Waits for tasks of a controlled run.
#[derive(Default)]
pub(crate) struct Join(std::cell::Cell<usize>);

impl Join {
    pub(crate) fn spawn(self: &std::rc::Rc<Self>, name: &str, f: impl FnOnce() + 'static) {
        self.0.set(self.0.get() + 1);
        let me = self.clone();
        controlled::spawn(name, move || {
            f();
            me.0.set(me.0.get() - 1);
            racewalk_sched::wake(std::rc::Rc::as_ptr(&me) as usize);
        });
    }
    pub(crate) fn wait(self: &std::rc::Rc<Self>) {
        racewalk_sched::wait_while(std::rc::Rc::as_ptr(self) as usize, "join", || self.0.get() != 0);
    }
}

/// What a program on CPU `cpu` does when it loads (`store` none) or stores a doubleword: hardware access, fault into
/// the kernel, again.
pub(crate) fn guest(mm: &Arc<Mm>, cpu: u32, va: u64, store: Option<u64>) -> Result<u64, Signal> {
    let (k, cpus) = (mm.kernel(), mm.kernel().cpus());
    let access = if store.is_some() { Access::Store } else { Access::Load };
    loop {
        let _ = cpus.unpark(cpu);
        let r = cpus.translate(cpu, Vaddr(va), access).map(|t| {
            racewalk_sched::point("guest.access");
            match store {
                Some(v) => k.ram().store_u64(t.paddr, v).map(|()| v),
                None => k.ram().load_u64(t.paddr),
            }
            .unwrap()
        });
        cpus.park(cpu);
        match r {
            Ok(v) => return Ok(v),
            Err(WalkStop::Fault(f)) => {
                cpus.enter_kernel(cpu);
                let r = mm.handle_fault(&f);
                cpus.exit_kernel(cpu);
                r?;
            }
            Err(WalkStop::Cancelled) => racewalk_sched::point("cancelled"),
        }
    }
}

/// Everything was given back.
pub(crate) fn assert_clean(k: &Kernel) {
    k.rcu_barrier();
    assert!(k.take_findings().is_empty());
    assert!(k.ledger().is_empty(), "{:?}", k.ledger());
    assert_eq!(k.stats().table_bytes.get(), 0);
}

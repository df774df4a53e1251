//! Helpers of the tests.

use crate::fault::Signal;
use crate::kernel::{Config, Kernel, Ledger};
use crate::mm::Mm;
use crate::page::{FrameKind, Pages};
use racewalk_cpu::{Access, CpuEvent, Cpus, Sink};
use racewalk_ram::{Ram, Vaddr};
use racewalk_sched::controlled::{self, End, Policy, Rng, TaskId};
use racewalk_walk::WalkStop;
use racewalk_walk::event::WalkEvent;
use std::sync::Arc;

/// 16 MiB, most of it free.
pub(crate) fn boot(cpus: u32) -> (Arc<Kernel>, Arc<Cpus>) {
    boot_with(
        cpus,
        Config { reserved: 1 << 20, max_mms: 16, sanitize: Some(Default::default()), ..Config::default() },
    )
}

pub(crate) fn boot_with(cpus: u32, config: Config) -> (Arc<Kernel>, Arc<Cpus>) {
    let ram = Arc::new(Ram::new(16 << 20).unwrap());
    let c = Cpus::new(ram.clone(), cpus);
    (Kernel::new(ram, c.clone(), config).unwrap(), c)
}

/// Random choices, but every now and then one task is stopped for a long time, wherever it is.
struct Stall {
    rng: Rng,
    victim: TaskId,
    left: u64,
}

impl Policy for Stall {
    fn choose(&mut self, runnable: &[TaskId], _current: Option<TaskId>, _label: &'static str) -> TaskId {
        if self.left == 0 {
            self.victim = runnable[self.rng.below(runnable.len() as u64) as usize];
            self.left = 1 + self.rng.below(400);
        }
        self.left -= 1;
        loop {
            let t = runnable[self.rng.below(runnable.len() as u64) as usize];
            if t != self.victim || runnable.len() == 1 {
                return t;
            }
        }
    }
}

/// A controlled run that must finish.
pub(crate) fn run_controlled(seed: u64, f: impl FnOnce() + 'static) {
    let out = controlled::run(Default::default(), &mut Stall { rng: Rng(seed), victim: 0, left: 40 }, f);
    assert!(out.end == End::Finished, "seed {seed}: {:?} after {} points", out.end, out.points);
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
            let owner = |p: &Pages| (p.kind(t.paddr.pfn()).unwrap(), p.generation(t.paddr.pfn()).unwrap());
            let before = owner(k.pages());
            racewalk_sched::point("guest.access");
            assert_eq!(before, owner(k.pages()), "the frame went to another owner during an access");
            assert!(
                matches!(before.0, FrameKind::Anon | FrameKind::Cache | FrameKind::Reserved),
                "{before:?}"
            );
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

/// One walk of a program that does not wait for its fault to be resolved.
pub(crate) fn walk_only(mm: &Arc<Mm>, cpu: u32, va: u64) {
    let cpus = mm.kernel().cpus();
    let _ = cpus.unpark(cpu);
    let _ = cpus.translate(cpu, Vaddr(va), Access::Load);
    cpus.park(cpu);
    // A hit passes no scheduling point of its own.
    racewalk_sched::point("walk_only");
}

/// Everything was given back.
pub(crate) fn assert_clean(k: &Kernel) {
    k.rcu_barrier();
    assert!(k.take_findings().is_empty());
    assert_eq!(k.ledger(), Ledger::default());
    assert_eq!(k.stats().table_bytes.get(), 0);
}

/// Finds walks that read a frame which is not a page table (any more). For runs without speculative walkers, which
/// may do that and whose result is then dropped.
pub(crate) struct WalkCheck(pub(crate) std::sync::Weak<Kernel>);

impl Sink for WalkCheck {
    fn event(&self, _cpu: u32, event: &CpuEvent) {
        if let (CpuEvent::Walk(WalkEvent::Step { entry_addr, .. }), Some(k)) = (event, self.0.upgrade()) {
            let page = entry_addr.pfn();
            let table = k.pages().flags(page).unwrap() & crate::page::flag::TABLE != 0;
            // Frames of a table behind the first have no record of their own.
            let part = k.pages().kind(page).unwrap() == FrameKind::Free && {
                let head = racewalk_ram::Pfn(page.0 & !3);
                matches!(k.pages().kind(head).unwrap(), FrameKind::UpperTable | FrameKind::Reserved)
            };
            if !table && !part {
                k.report(crate::MmError::Broken {
                    rule: 1,
                    text: format!("a walk reads {entry_addr:?}"),
                    about: None,
                });
            }
        }
    }
}

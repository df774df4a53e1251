//! The operations of a CPU.

use super::setup;
use super::world::{Shared, page, segment};
use crate::scenario::{Op, Verb};
use racewalk_cpu::Access;
use racewalk_mm::arch::Arch;
use racewalk_mm::sanitizer::What;
use racewalk_mm::{Mm, Result};
use racewalk_ram::{Pfn, Vaddr};
use racewalk_walk::WalkStop;
use std::sync::Arc;

/// Faults of one access after which the program gives up.
const FAULTS: usize = 16;

/// A CPU on its way through its program.
pub(super) struct Cpu<'a, A: Arch> {
    shared: &'a Shared<A>,
    cpu: u32,
    /// References that `get-page` took: mm, segment, page.
    got: Vec<(Option<usize>, u32, Option<Pfn>)>,
}

impl<'a, A: Arch> Cpu<'a, A> {
    pub(super) fn new(shared: &'a Shared<A>, cpu: u32) -> Self {
        Cpu { shared, cpu, got: Vec::new() }
    }

    /// Runs the program; its operations have numbers from `first` on.
    pub(super) fn run(&mut self, program: &[Op], first: u32) {
        for (op, n) in program.iter().zip(first..) {
            let k = &self.shared.kernel;
            let mark = |what| {
                if let Some(s) = k.sanitizer() {
                    s.mark(what);
                }
            };
            mark(What::Op(n));
            // What an operation answers to its program is the program's business; findings are noted where they occur.
            let _ = self.operation(op);
            mark(What::OpDone(n));
            k.check_balance("an operation returns");
            if k.has_findings() {
                return;
            }
        }
    }

    fn operation(&mut self, op: &Op) -> Result<()> {
        let mm = match op.mm {
            Some(m) => self.shared.mms[m].clone(),
            None => self.shared.mms[0].clone(),
        };
        match op.verb {
            Verb::Touch | Verb::Refill | Verb::Walk => {
                for va in self.pages(op) {
                    self.access(&mm, va, op.store, op.verb != Verb::Walk);
                }
                Ok(())
            }
            _ => {
                let cpus = self.shared.kernel.cpus();
                cpus.enter_kernel(self.cpu);
                let r = self.hosted(&mm, op);
                cpus.exit_kernel(self.cpu);
                r
            }
        }
    }

    fn pages(&self, op: &Op) -> Vec<Vaddr> {
        let Some(p) = &op.place else { return Vec::new() };
        let entries = A::LEVELS[A::LEVELS.len() - 1].entries() as u32;
        p.range(entries).map(|n| page::<A>(p.segment, n)).collect()
    }

    fn hosted(&mut self, mm: &Arc<Mm<A>>, op: &Op) -> Result<()> {
        let k = &self.shared.kernel;
        let n = op.place.as_ref().map_or(0, |p| p.segment);
        let va = segment::<A>(n);
        let span = A::LEVELS[A::LEVELS.len() - 2].span();
        match op.verb {
            Verb::Map => setup::map(mm, n, false),
            Verb::Unmap => match op.place.as_ref().and_then(|p| p.pages) {
                None => mm.munmap(va.0, span),
                Some((a, b)) => {
                    let (from, to) = (page::<A>(n, a), page::<A>(n, b));
                    mm.munmap(from.0, to.0 - from.0)
                }
            },
            Verb::Retract => mm.retract(va).map(drop),
            Verb::RetractIpi => mm.retract_by_ipi(va).map(drop),
            Verb::Alloc => mm.alloc_table(va),
            Verb::Read => match (self.pages(op).first(), op.place.as_ref().and_then(|p| p.pages)) {
                (Some(&first), Some((a, b))) => mm.read_entries(first, (b - a) as u64).map(drop),
                _ => Ok(()),
            },
            Verb::ReadAnon => match (self.pages(op).first(), op.place.as_ref().and_then(|p| p.pages)) {
                (Some(&first), Some((a, b))) => mm.read_anon_entries(first, (b - a) as u64).map(drop),
                _ => Ok(()),
            },
            Verb::Lock => {
                for va in self.pages(op) {
                    mm.lock_entry(va)?;
                }
                Ok(())
            }
            Verb::Gup => {
                for va in self.pages(op) {
                    if let Some(p) = mm.gup_fast(va)? {
                        racewalk_sched::point("gup.use");
                        mm.unpin(p)?;
                    }
                }
                Ok(())
            }
            Verb::Madvise => mm.zap_segment(va),
            Verb::Switch => mm.switch_to(self.cpu),
            Verb::Exit => mm.exit(),
            Verb::RcuBarrier => {
                k.rcu_barrier();
                Ok(())
            }
            Verb::HugeMap => mm.huge_map(va).map(drop),
            Verb::Split => mm.split_huge(va).map(drop),
            Verb::GetPage => {
                let p = mm.get_table_page()?;
                self.got.push((op.mm, n, p));
                Ok(())
            }
            Verb::PutPage => {
                let at = self.got.iter().position(|g| (g.0, g.1) == (op.mm, n));
                match at.map(|i| self.got.swap_remove(i)) {
                    Some((_, _, Some(p))) => mm.put_table_page(p),
                    _ => Ok(()),
                }
            }
            Verb::Touch | Verb::Refill | Verb::Walk => Ok(()),
        }
    }

    /// An access of the guest program; with `fault`, until it succeeds.
    fn access(&self, mm: &Mm<A>, va: Vaddr, store: bool, fault: bool) {
        let k = &self.shared.kernel;
        let cpus = k.cpus();
        let access = if store { Access::Store } else { Access::Load };
        for _ in 0..FAULTS {
            let _ = cpus.unpark(self.cpu);
            let r = A::translate(k, self.cpu, va, access);
            racewalk_sched::point("guest.access");
            cpus.park(self.cpu);
            match r {
                Err(WalkStop::Fault(f)) if fault => {
                    cpus.enter_kernel(self.cpu);
                    let r = mm.handle_fault(&f);
                    cpus.exit_kernel(self.cpu);
                    if r.is_err() {
                        return;
                    }
                }
                _ => return,
            }
        }
    }
}

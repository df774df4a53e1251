//! The port as SPARC has it: misses that trap into kernel code, and demaps that reach the own CPU only.

use crate::event::CpuEvent;
use crate::tables::Tables;
use crate::{Access, Cpus, Translated};
use racewalk_ram::{Paddr, Vaddr};
use racewalk_sched::{NO_CPU, step, this_cpu, tso, wait_while, wake};
use racewalk_walk::event::WalkEvent;
use racewalk_walk::hardware::Hardware;
use racewalk_walk::sparc64::sun4u::entry::TagTarget;
use racewalk_walk::sparc64::sun4u::miss::{self, Kernel, KernelMemory};
use racewalk_walk::sparc64::{Fault, Leaf, Operand, Reason, Sun4u};
use racewalk_walk::tlb::Purge;
use racewalk_walk::{EntryStop, WalkStop};
use std::sync::atomic::Ordering::SeqCst;

/// The miss handler reaches memory by physical ASIs. It keeps no upper parts of walks.
impl KernelMemory for Tables<'_, Sun4u> {
    fn store_entry(&self, addr: Paddr, value: u64) -> Result<(), EntryStop> {
        step("miss.store").map_err(|_| EntryStop::Cancelled)?;
        if tso::enabled() {
            // One outside memory is refused now, not when it leaves the buffer.
            self.cpus.ram.load_u64(addr).map_err(|_| EntryStop::Addressing)?;
        }
        if !tso::store(addr.0, value, u64::MAX) {
            self.cpus.ram.store_entry(addr, value)?;
        }
        self.cpus.emit(self.cpu, || CpuEvent::Store { addr, value });
        // It may have been a tag's lock.
        wake(self.cpus.tsb_key(addr));
        Ok(())
    }
    fn spin(&self, tag: Paddr) -> Result<(), EntryStop> {
        step("miss.spin").map_err(|_| EntryStop::Cancelled)?;
        self.cpus.tsb_unlocked(tag);
        Ok(())
    }
}

/// How the miss handler looks from other CPUs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum TrapLevel {
    /// Interrupts are off and RCU sees hosted code: cross calls and grace periods wait for the handler.
    #[default]
    Visible,
    /// The CPU looks as it did in the program: it takes cross calls, and it is quiescent.
    Hidden,
}

impl Cpus<Sun4u> {
    /// Translates `va` as [`translate`](Cpus::translate) does; a TLB miss enters the miss handler, by default with interrupts
    /// off and as hosted code, and tries again with what it found. What the handler does not find is the mm's. As on the machine, a
    /// TSB entry with the right tag and an invalid TTE is found again and again.
    pub fn translate_with_misses(
        &self,
        cpu: u32,
        kernel: &Kernel,
        level: TrapLevel,
        va: Vaddr,
        access: Access,
    ) -> Result<Translated<Leaf>, WalkStop<Fault>> {
        loop {
            match self.translate(cpu, va, access) {
                Err(WalkStop::Fault(Fault { reason: Reason::Miss, .. })) => {}
                done => return done,
            }
            if level == TrapLevel::Hidden {
                self.miss(cpu, kernel, va, access)?;
                continue;
            }
            self.irq_off(cpu);
            // A miss of hosted code that accesses user memory is hosted code already.
            let guest = self.rcu_counter(cpu).load(SeqCst) & 1 == 0;
            if guest {
                self.enter_kernel(cpu);
            }
            let handled = self.miss(cpu, kernel, va, access);
            if guest {
                self.exit_kernel(cpu);
            }
            self.irq_on(cpu);
            handled?;
        }
    }

    /// [`user_piece`](Cpus::user_piece) with misses.
    ///
    /// # Panics
    /// If the task holds no CPU.
    pub fn user_piece_with_misses<R>(
        &self,
        kernel: &Kernel,
        level: TrapLevel,
        va: Vaddr,
        access: Access,
        f: impl FnOnce(Paddr) -> R,
    ) -> Result<R, WalkStop<Fault>> {
        let cpu = this_cpu();
        assert_ne!(cpu, NO_CPU, "a user access by a task that holds no CPU");
        self.bracket(cpu, || self.translate_with_misses(cpu, kernel, level, va, access).map(|t| f(t.paddr)))
    }

    /// What those wait for who find the TSB entry at `tag` locked.
    fn tsb_key(&self, tag: Paddr) -> usize {
        (std::ptr::from_ref(self) as usize).wrapping_add(tag.0 as usize).wrapping_add(1)
    }

    /// Returns when nobody holds the lock of the TSB entry at `tag`.
    pub fn tsb_unlocked(&self, tag: Paddr) {
        wait_while(self.tsb_key(tag), "tsb.lock", || {
            self.ram.load_u64(tag).is_ok_and(|t| tso::load(tag.0, t) & TagTarget::LINUX_LOCK != 0)
        });
    }

    /// The trap: refills the TLB, or says why not. What a cross call overtook is not entered; the access tries again.
    fn miss(&self, cpu: u32, kernel: &Kernel, va: Vaddr, access: Access) -> Result<(), WalkStop<Fault>> {
        let (context, seq) = {
            let g = self.cpus[cpu as usize].gate();
            (g.context, g.seq)
        };
        let r = context.request(va, access, &Operand::default()).map_err(WalkStop::Fault)?;
        let space = context.tlb_key(va, &r).space;
        let memory =
            Tables { cpus: self, cpu, space, uppers: Default::default(), since: None, software: true };
        let found = miss::refill(&memory, kernel, context.tsb(access), &r, va)?;
        if let Some(entry) = miss::enter(&r, va, &found) {
            self.enter(cpu, va, access, entry, seq);
            let (paddr, shift) = (entry.paddr(va), entry.tag.shift);
            let protected = !entry.leaf.has(Leaf::W);
            self.emit(cpu, || CpuEvent::Walk(WalkEvent::Done { vaddr: va, paddr, shift, protected }));
        }
        Ok(())
    }
}

impl<H: Hardware> Cpus<H> {
    /// The cross call with which SPARC kernels demap on all CPUs (sun4u `xcall_flush_tlb_*`, sun4v `cpu_mondo`).
    pub fn cross_demap(&self, demaps: &[(Option<Vaddr>, Purge)]) {
        self.cross_purge("demap", demaps);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use racewalk_ram::Ram;
    use racewalk_sched::{controlled, set_this_cpu};
    use racewalk_walk::sparc64::State;
    use racewalk_walk::sparc64::sun4u::Context;
    use racewalk_walk::sparc64::sun4u::entry::{TagAccess, Tte};
    use racewalk_walk::sparc64::sun4u::geometry::{PGD_SHIFT, PMD_SHIFT, PUD_SHIFT, Tsb, index};
    use racewalk_walk::sparc64::sun4u::walk::space;
    use racewalk_walk::tlb::Spaces;
    use std::sync::Arc;

    const VA: Vaddr = Vaddr(0x123_4567_8000);
    const TSB: Tsb = Tsb(0x10_0000);
    const PTES: u64 = 0x2_6000;
    const FRAME: u64 = 0x77_2000;
    const CONTEXT: u16 = 5;
    const LINUX: Kernel = Kernel { pgd: Paddr(0x2_0000), huge_tsb: None, recheck: false };
    const KERNEL: Kernel = Kernel { recheck: true, ..LINUX };

    fn machine(n: u32) -> Arc<Cpus<Sun4u>> {
        let ram = Arc::new(Ram::new(16 << 20).unwrap());
        let set = |at: u64, v: u64| ram.store_u64(Paddr(at), v).unwrap();
        set(0x2_0000 + index(PGD_SHIFT, VA) * 8, 0x2_2000);
        set(0x2_2000 + index(PUD_SHIFT, VA) * 8, 0x2_4000);
        set(0x2_4000 + index(PMD_SHIFT, VA) * 8, PTES);
        set(PTES + index(13, VA) * 8, Tte::V | FRAME | Tte::CP | Tte::CV | Tte::W);
        // A tag of zero would be that of the lowest addresses.
        for entry in 0..512 {
            set(TSB.0 + entry * 16, TagTarget::LINUX_INVALID);
        }
        let cpus = Cpus::new(ram, n);
        for cpu in 0..n {
            let state = State { primary: [CONTEXT; 2], ..State::default() };
            cpus.load(cpu, |c| *c = Context { state, data_tsb: TSB, ..Context::default() });
        }
        cpus
    }

    fn tsb_entry() -> Paddr {
        TSB.pointer_8k(TagAccess::new(VA, CONTEXT))
    }

    fn page() -> Purge {
        let range = Some((VA, Vaddr(VA.0 + 0x1fff)));
        Purge { range, spaces: Spaces::one(space(CONTEXT)), ..Purge::default() }
    }

    #[test]
    fn a_miss_enters_the_handler_and_fills_tsb_and_tlb() {
        let m = machine(1);
        set_this_cpu(0);
        let _ = m.unpark(0);
        let before = m.rcu_counter(0).load(std::sync::atomic::Ordering::SeqCst);
        let t = m.translate_with_misses(0, &KERNEL, TrapLevel::Visible, VA, Access::Load).unwrap();
        assert_eq!(t.paddr, Paddr(FRAME));
        assert_eq!(m.rcu_counter(0).load(std::sync::atomic::Ordering::SeqCst), before + 2);
        assert_eq!(m.ram.load_u64(tsb_entry()).unwrap(), VA.0 >> 22);
        let steps = m.stats(0).steps.get();
        m.translate_with_misses(0, &KERNEL, TrapLevel::Visible, VA, Access::Load).unwrap();
        assert_eq!(m.stats(0).steps.get(), steps, "the TLB has it");
        let f = m.translate_with_misses(0, &KERNEL, TrapLevel::Visible, Vaddr(0x2000), Access::Store);
        assert!(matches!(f, Err(WalkStop::Fault(Fault { reason: Reason::Miss, .. }))));
        m.park(0);
    }

    /// A handler that nobody sees leaves the counter of RCU alone.
    #[test]
    fn a_hidden_handler_is_no_hosted_code() {
        let m = machine(1);
        set_this_cpu(0);
        let _ = m.unpark(0);
        let count = || m.rcu_counter(0).load(std::sync::atomic::Ordering::SeqCst);
        let before = count();
        m.translate_with_misses(0, &KERNEL, TrapLevel::Hidden, VA, Access::Load).unwrap();
        assert_eq!(count(), before);
        m.park(0);
    }

    /// CPU 0 unmaps and reuses the frame: the TSB entry goes, then the TLBs'. Each may be left out. Without rechecks in the
    /// handler a first cross call (`quiesce`) waits for those that have read the old entry and will fill the TSB with it.
    fn reused(seed: u64, kernel: Kernel, quiesce: bool, tsb: bool, demap: bool) -> bool {
        let bad = std::rc::Rc::new(std::cell::Cell::new(false));
        let seen = bad.clone();
        let out = controlled::run(Default::default(), &mut controlled::Random::new(seed), move || {
            let m = machine(2);
            let (a, b) = (m.clone(), m);
            controlled::spawn("unmaps", move || {
                set_this_cpu(0);
                a.ram.store_u64(Paddr(PTES + index(13, VA) * 8), 0).unwrap();
                if quiesce {
                    a.cross_demap(&[(Some(VA), page())]);
                }
                if tsb {
                    racewalk_sched::point("tsb");
                    a.tsb_unlocked(tsb_entry());
                    let tag = a.ram.load_u64(tsb_entry()).unwrap();
                    a.ram.cas_u64(tsb_entry(), tag, TagTarget::LINUX_INVALID).unwrap();
                }
                racewalk_sched::point("demap");
                if demap {
                    a.cross_demap(&[(Some(VA), page())]);
                }
                racewalk_sched::point("reuse");
                a.ram.store_u64(Paddr(FRAME), 0xdead).unwrap();
            });
            controlled::spawn("reads", move || {
                set_this_cpu(1);
                let _ = b.unpark(1);
                for _ in 0..4 {
                    if let Ok(t) = b.translate_with_misses(1, &kernel, TrapLevel::Visible, VA, Access::Load) {
                        racewalk_sched::point("use");
                        seen.set(seen.get() | (b.ram.load_u64(t.paddr).unwrap() == 0xdead));
                    }
                    let _ = b.poll(1);
                }
                b.park(1);
            });
        });
        assert_eq!(out.end, controlled::End::Finished);
        bad.get()
    }

    #[test]
    fn an_unmapped_page_is_gone_from_tsb_and_tlbs() {
        assert!((0..400).all(|s| !reused(s, LINUX, true, true, true)));
        assert!((0..400).all(|s| !reused(s, KERNEL, false, true, true)));
        assert!((0..400).any(|s| reused(s, LINUX, false, true, true)), "a stale entry is entered late");
        assert!((0..400).any(|s| reused(s, KERNEL, false, true, false)), "a TLB entry stays");
        assert!((0..400).any(|s| reused(s, KERNEL, false, false, true)), "the TSB refills the TLB");
    }
}

//! The port as Power has it: broadcasts that promise nothing when they end.

use crate::{Cpus, Pending};
use racewalk_ram::Vaddr;
use racewalk_walk::hardware::Hardware;
use racewalk_walk::ppc64::invalidate::Effect;
use racewalk_walk::ppc64::{Completion, Ticket};
use std::collections::VecDeque;

/// The broadcast invalidations of one CPU: what it has sent, and what it is promised. `tlbie` returns at once; the other CPUs
/// drop what it names at boundaries of their own, and only `eieio; tlbsync; ptesync` waits for them.
#[derive(Debug, Default)]
pub struct Broadcasts {
    completion: Completion,
    sent: VecDeque<(Ticket, Pending)>,
}

impl Broadcasts {
    /// None so far.
    pub fn new() -> Self {
        Self::default()
    }

    /// `tlbie`, as `effect` says: sends its purge to all CPUs.
    pub fn tlbie<H: Hardware>(&mut self, cpus: &Cpus<H>, va: Option<Vaddr>, effect: &Effect) -> Ticket {
        let ticket = self.completion.issue();
        self.sent.push_back((ticket, cpus.post("tlbie", va, effect.purge)));
        ticket
    }

    /// `eieio`.
    pub fn eieio(&mut self) {
        self.completion.order();
    }

    /// `tlbsync`.
    pub fn tlbsync(&mut self) {
        self.completion.cover();
    }

    /// `ptesync`: waits until no CPU uses any more what the covered broadcasts named.
    pub fn ptesync<H: Hardware>(&mut self, cpus: &Cpus<H>) {
        let Some(last) = self.completion.wait_for() else { return };
        let mut pending = Pending::default();
        while self.sent.front().is_some_and(|(t, _)| *t <= last) {
            if let Some((_, p)) = self.sent.pop_front() {
                pending = pending.and(p);
            }
        }
        cpus.complete("ptesync", pending);
    }

    /// Whether the architecture promises that a broadcast is complete.
    pub fn is_complete(&self, ticket: Ticket) -> bool {
        self.completion.is_complete(ticket)
    }
}

impl<H: Hardware> Cpus<H> {
    /// `tlbiel`, as `effect` says: this CPU only. A TLB without congruence classes takes any of the loop's for the whole.
    pub fn tlbiel(&self, effect: &Effect) {
        self.purge_here(&effect.purge);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Access;
    use racewalk_ram::{Paddr, Ram};
    use racewalk_sched::{controlled, set_this_cpu};
    use racewalk_walk::ppc64::invalidate::{Operands, tlbie};
    use racewalk_walk::ppc64::radix::entry::{Entry, PartitionEntry, Root};
    use racewalk_walk::ppc64::{Context, Radix};
    use racewalk_walk::tlb::config::TlbConfig;
    use racewalk_walk::tlb::presets;
    use std::sync::Arc;

    const PARTITIONS: u64 = 0x1_0000;
    const PROCESSES: u64 = 0x2_0000;
    const ROOT: u64 = 0x10_0000;
    /// The partition's tree, which translates the address of the process table: one page of 1G.
    const LINEAR: u64 = 0xc0_0000;
    const LINEAR_1G: u64 = 0xd0_0000;
    const DIRECTORY: u64 = 0x20_2000;
    const LEAF: u64 = 0x20_3000;
    const OTHER: u64 = 0x20_4000;
    const FRAME: u64 = 0x80_0000;
    const PID: u64 = 5;

    /// Four levels with pages of 4K: page 0 leads to `FRAME`.
    fn machine(n: u32, tlbs: &TlbConfig) -> Arc<Cpus<Radix>> {
        let ram = Arc::new(Ram::new(16 << 20).unwrap());
        let set = |at: u64, v: u64| ram.store_u64(Paddr(at), v).unwrap();
        set(PARTITIONS, PartitionEntry::HR | Root::new(LINEAR, 52, 13).0);
        set(PARTITIONS + 8, PROCESSES);
        set(LINEAR, Entry::directory(LINEAR_1G, 9).0);
        set(LINEAR_1G, leaf(0));
        set(PROCESSES + 16 * PID, Root::new(ROOT, 52, 13).0);
        set(ROOT, Entry::directory(0x20_1000, 9).0);
        set(0x20_1000, Entry::directory(DIRECTORY, 9).0);
        set(DIRECTORY, Entry::directory(LEAF, 9).0);
        set(LEAF, leaf(FRAME));
        set(OTHER, leaf(FRAME + 0x1000));
        let cpus = Cpus::with_tlbs(ram, n, tlbs);
        for cpu in 0..n {
            cpus.load(cpu, |c| *c = context());
        }
        cpus
    }

    fn leaf(frame: u64) -> u64 {
        Entry::leaf(frame, Entry::R | Entry::C | Entry::READ | Entry::WRITE).0
    }

    fn context() -> Context {
        Context { ptcr: PARTITIONS, pidr: PID, ..Context::default() }
    }

    /// `tlbie` of page 0 of the process.
    fn page(ric: u8) -> Effect {
        tlbie(&context(), Operands { rb: 0, rs: PID << 32, ric, prs: true, radix: true }).unwrap()
    }

    fn process(ric: u8) -> Effect {
        tlbie(&context(), Operands { rb: 1 << 10, rs: PID << 32, ric, prs: true, radix: true }).unwrap()
    }

    /// CPU 0 takes the page away and reuses the frame; CPU 1 reads. `steps` of `eieio`, `tlbsync`, `ptesync` are made.
    fn reused(seed: u64, steps: [bool; 3]) -> bool {
        let bad = std::rc::Rc::new(std::cell::Cell::new(false));
        let seen = bad.clone();
        let out = controlled::run(Default::default(), &mut controlled::Random::new(seed), move || {
            let m = machine(2, &TlbConfig::infinite());
            let (a, b) = (m.clone(), m);
            controlled::spawn("unmaps", move || {
                set_this_cpu(0);
                a.ram.store_u64(Paddr(LEAF), 0).unwrap();
                let mut sent = Broadcasts::new();
                let ticket = sent.tlbie(&a, Some(Vaddr(0)), &page(0));
                if steps[0] {
                    sent.eieio();
                }
                if steps[1] {
                    sent.tlbsync();
                }
                if steps[2] {
                    sent.ptesync(&a);
                }
                assert_eq!(sent.is_complete(ticket), steps == [true; 3]);
                racewalk_sched::point("reuse");
                a.ram.store_u64(Paddr(FRAME), 0xdead).unwrap();
            });
            controlled::spawn("reads", move || {
                set_this_cpu(1);
                let _ = b.unpark(1);
                for _ in 0..4 {
                    if let Ok(t) = b.translate(1, Vaddr(0), Access::Load) {
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
    fn only_the_whole_sequence_protects_the_frame() {
        assert!((0..300).all(|s| !reused(s, [true; 3])));
        for steps in [[false, false, false], [false, true, true], [true, false, true], [true, true, false]] {
            assert!((0..300).any(|s| reused(s, steps)), "{steps:?} was never caught");
        }
    }

    #[test]
    fn ric_0_leaves_the_walk_cache() {
        let m = machine(1, &presets::find("power9-radix").unwrap());
        set_this_cpu(0);
        let frame = || m.translate(0, Vaddr(0), Access::Load).map(|t| t.paddr.0).ok();
        let flush = |e: Effect| {
            m.park(0);
            let mut sent = Broadcasts::new();
            sent.tlbie(&m, None, &e);
            sent.eieio();
            sent.tlbsync();
            sent.ptesync(&m);
            let _ = m.unpark(0);
        };
        let _ = m.unpark(0);
        assert_eq!(frame(), Some(FRAME));
        // The page table is exchanged for another one.
        m.ram.store_u64(Paddr(DIRECTORY), Entry::directory(OTHER, 9).0).unwrap();
        flush(page(0));
        assert_eq!(frame(), Some(FRAME), "the walk began at the table that was taken away");
        flush(process(2));
        assert_eq!(frame(), Some(FRAME + 0x1000));
        m.ram.store_u64(Paddr(DIRECTORY), Entry::directory(LEAF, 9).0).unwrap();
        flush(process(1));
        assert_eq!(frame(), Some(FRAME + 0x1000), "RIC = 1 leaves the translation");
        flush(page(0));
        assert_eq!(frame(), Some(FRAME));
        m.park(0);
    }
}

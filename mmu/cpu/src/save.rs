//! The processors as they were at one time, to go back to.

use crate::bus::Gate;
use crate::{Cpu, Cpus};
use racewalk_walk::hardware::Hardware;
use std::sync::atomic::Ordering::SeqCst;

/// What [`Cpus::save`] took down: registers, TLBs, walk caches, interrupt masks, signals and counters of every CPU.
pub struct Saved<H: Hardware>(Vec<One<H>>);

struct One<H: Hardware> {
    gate: Gate<H>,
    signal: u32,
    rcu: u64,
    irq_off: u32,
    stats: [u64; crate::stats::COUNTERS],
}

impl<H: Hardware> std::fmt::Debug for Saved<H> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Saved({} cpus)", self.0.len())
    }
}

impl<H: Hardware> Cpu<H> {
    fn save(&self) -> One<H> {
        One {
            gate: self.gate().clone(),
            signal: self.signal.load(SeqCst),
            rcu: self.rcu.load(SeqCst),
            irq_off: self.irq_off.load(SeqCst),
            stats: self.stats.values(),
        }
    }

    fn restore(&self, one: &One<H>) {
        self.gate().clone_from(&one.gate);
        self.signal.store(one.signal, SeqCst);
        self.rcu.store(one.rcu, SeqCst);
        self.irq_off.store(one.irq_off, SeqCst);
        self.stats.set(&one.stats);
    }
}

impl<H: Hardware> Cpus<H> {
    /// Takes down the state of every CPU. Nothing runs on any meanwhile. Where events go is not part of it.
    pub fn save(&self) -> Saved<H> {
        Saved(self.cpus.iter().map(Cpu::save).collect())
    }

    /// Puts every CPU back into the state it was in when these processors were [saved](Self::save). Nothing runs on any
    /// meanwhile.
    pub fn restore(&self, saved: &Saved<H>) {
        self.cpus.iter().zip(&saved.0).for_each(|(c, s)| c.restore(s));
    }
}

#[cfg(test)]
mod tests {
    use crate::{Access, Cpus, signal};
    use racewalk_ram::{Paddr, Ram, Vaddr};
    use racewalk_walk::s390x::entry::TableType;
    use racewalk_walk::s390x::{Asce, Ste};
    use std::sync::Arc;

    /// Seen to fail with each field of a CPU left as it was.
    #[test]
    fn everything_comes_back() {
        let ram = Arc::new(Ram::new(1 << 20).unwrap());
        ram.store_u64(Paddr(0x1_0000), Ste::new(Paddr(0x2_0000)).0).unwrap();
        (0..16).for_each(|i| ram.store_u64(Paddr(0x2_0000 + i * 8), i << 12).unwrap());
        let m: Arc<Cpus> = Cpus::new(ram, 2);
        let look = |va| {
            let _ = m.unpark(0);
            let r = m.translate(0, Vaddr(va), Access::Load).map(|t| t.paddr.0).ok();
            m.park(0);
            r
        };
        m.load_asce(0, Asce::new(Paddr(0x1_0000), TableType::Segment, 0).0);
        assert_eq!(look(0x1000), Some(0x1000));
        m.enter_kernel(1);
        m.kick(1, signal::STOP);
        let tell = || {
            (0..2)
                .map(|c| {
                    let word = m.signal_word(c).load(std::sync::atomic::Ordering::SeqCst);
                    let rcu = m.rcu_counter(c).load(std::sync::atomic::Ordering::SeqCst);
                    let depth = m.cpus[c as usize].irq_off.load(std::sync::atomic::Ordering::SeqCst);
                    (
                        format!("{:?}", m.cpus[c as usize].gate()),
                        format!("{:?}", m.stats(c)),
                        word,
                        rcu,
                        depth,
                    )
                })
                .collect::<Vec<_>>()
        };
        let (saved, before) = (m.save(), tell());
        m.exit_kernel(1);
        m.irq_off(1);
        m.kick(1, signal::IPI);
        m.ipte(Paddr(0x2_0008), Vaddr(0x1000));
        m.load_asce(0, Asce::new(Paddr(0x1_0000), TableType::Segment, 1).0);
        assert_ne!(look(0x2000), Some(0x1000));
        assert_ne!(tell(), before);
        m.restore(&saved);
        assert_eq!(tell(), before);
        assert_eq!(look(0x1000), Some(0x1000), "from the TLB: the entry in memory is invalid now");
    }
}

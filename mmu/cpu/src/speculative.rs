//! The speculative walker of a CPU: an actor beside its instructions.
//!
//! Hardware may walk at any time under whatever context is loaded: while the CPU runs guest code, while it is in hosted
//! code, with interrupts off, or idle with a stale context. The walker here goes where such walks go: around pages that
//! the CPU translated lately.

use crate::Cpus;
use racewalk_ram::Vaddr;
use racewalk_sched::Cancelled;
use racewalk_sched::controlled::Rng;
use racewalk_walk::hardware::Hardware;

/// How far from a page that was translated lately a walk may go, in pages.
const REACH: u64 = 4;

/// Pages that a CPU translated lately.
#[derive(Clone, Debug, Default)]
pub(crate) struct Recent {
    pages: [u64; 16],
    filled: usize,
}

impl Recent {
    pub(crate) fn note(&mut self, va: Vaddr) {
        self.pages[self.filled % self.pages.len()] = va.0 >> 12;
        self.filled += 1;
    }
    fn pick(&self, r: u64) -> Option<u64> {
        let n = self.filled.min(self.pages.len());
        (n > 0).then(|| self.pages[r as usize % n])
    }
}

/// The speculative walker of one CPU. Whoever schedules it calls [`step`](Self::step) as often as it likes, from a
/// thread or task that holds no CPU.
#[derive(Debug)]
pub struct SpeculativeWalker {
    cpu: u32,
    rng: Rng,
}

impl SpeculativeWalker {
    /// The walker of `cpu`; `seed` decides where it goes.
    pub fn new(cpu: u32, seed: u64) -> Self {
        SpeculativeWalker { cpu, rng: Rng(seed ^ (cpu as u64) << 32) }
    }

    /// One walk, near a page that the CPU translated lately; nothing if it has translated none.
    pub fn step<H: Hardware>(&mut self, cpus: &Cpus<H>) -> Result<(), Cancelled> {
        let recent = cpus.cpus[self.cpu as usize].gate().recent.pick(self.rng.next_u64());
        let Some(page) = recent else { return Ok(()) };
        let page = page.wrapping_add(self.rng.below(2 * REACH + 1)).wrapping_sub(REACH);
        cpus.speculate(self.cpu, Vaddr(page << 12))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_stays_near_what_was_translated() {
        let mut r = Recent::default();
        assert_eq!(r.pick(3), None);
        for i in 0..40 {
            r.note(Vaddr(i << 12));
        }
        for n in 0..100 {
            assert!((24..40).contains(&r.pick(n).unwrap()));
        }
    }
}

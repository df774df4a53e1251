//! `--engine check`: every block by the interpreter, undone, then by translated code; compared.
//!
//! Only one CPU of the machine runs at a time in this mode, so nobody sees the first execution.

use crate::block::Block;
use crate::core::{GRANULE, Piece};
use crate::vcpu::{Stop, Vcpu};
use racewalk_isa::{Arch, MAX_SLOTS};
use racewalk_ram::{Paddr, raw};
use std::sync::Arc;

const PAGE: usize = GRANULE as usize;

/// A page of guest memory as it was.
struct Page {
    host: *mut u8,
    paddr: u64,
    bytes: Box<[u8; PAGE]>,
}

/// What it takes to undo a block.
#[derive(Default)]
pub(crate) struct Undo {
    pages: Vec<Page>,
    /// Clock values that were read, to be read again.
    clocks: Vec<u64>,
    /// Where stores hit code: it is gone by the second time, and the block ends there all the same.
    hits: Vec<Paddr>,
    replayed: Option<usize>,
}

// SAFETY: the page pointers lead into guest memory, which any thread may access through `raw`.
unsafe impl Send for Undo {}

impl Undo {
    /// Whether this is the execution that will be undone.
    pub(crate) fn recording(&self) -> bool {
        self.replayed.is_none()
    }

    /// Remembers the page of a piece that is about to be stored to.
    pub(crate) fn save(&mut self, p: &Piece) {
        let offset = p.paddr.0 & (GRANULE - 1);
        let paddr = p.paddr.0 - offset;
        if self.pages.iter().any(|x| x.paddr == paddr) {
            return;
        }
        let host = p.host.wrapping_sub(offset as usize);
        let mut bytes = Box::new([0; PAGE]);
        // SAFETY: a translated piece lies in a whole page of guest memory.
        unsafe { raw::read(host, &mut bytes[..]) };
        self.pages.push(Page { host, paddr, bytes });
    }

    /// Whether stores to the frame of `paddr` have to be told although it has no code any more.
    pub(crate) fn hit_frame(&self, paddr: Paddr) -> bool {
        self.hits.iter().any(|h| h.pfn() == paddr.pfn())
    }

    /// A store at `paddr` that hit code or not: recorded the first time, repeated the second.
    pub(crate) fn wrote(&mut self, paddr: Paddr, hit: bool) -> bool {
        if self.recording() {
            if hit {
                self.hits.push(paddr);
            }
            return hit;
        }
        hit || self.hits.contains(&paddr)
    }

    /// The clock: recorded the first time, repeated the second.
    pub(crate) fn clock(&mut self, now: impl FnOnce() -> u64) -> u64 {
        match &mut self.replayed {
            None => {
                let t = now();
                self.clocks.push(t);
                t
            }
            Some(i) => {
                *i += 1;
                self.clocks.get(*i - 1).copied().unwrap_or_else(now)
            }
        }
    }

    /// Exchanges the remembered pages with memory.
    fn exchange(&mut self) {
        for p in &mut self.pages {
            let mut now = Box::new([0; PAGE]);
            // SAFETY: as in `save`; guest memory stays mapped as long as the CPU.
            unsafe {
                raw::read(p.host, &mut now[..]);
                raw::write(p.host, &p.bytes[..]);
            }
            p.bytes = now;
        }
    }

    /// The first byte in which memory differs from the remembered pages.
    fn difference(&self) -> Option<(u64, u8, u8)> {
        self.pages.iter().find_map(|p| {
            let mut now = [0; PAGE];
            // SAFETY: as in `exchange`.
            unsafe { raw::read(p.host, &mut now) };
            let i = (0..PAGE).find(|&i| now[i] != p.bytes[i])?;
            Some((p.paddr + i as u64, p.bytes[i], now[i]))
        })
    }
}

/// What a block leaves behind, memory apart.
#[derive(PartialEq)]
struct State {
    slots: [u64; MAX_SLOTS],
    pc: u64,
    budget: i64,
    stop: Option<Stop>,
}

impl<A: Arch> Vcpu<A> {
    /// Runs a block both ways. Leaves the state of the translated code.
    pub(crate) fn check_block(&mut self, block: &Arc<Block<A>>) -> Option<Stop> {
        let whole = 0..block.insns.len();
        let Some(code) = self.translation(block) else { return self.interpret(block, whole) };
        let before = (self.core.slots, self.core.pc, self.core.budget, self.core.reservation);
        self.core.flush_writes();
        self.core.undo = Some(Box::default());
        // What is undone has touched nothing.
        let noted = std::mem::take(&mut self.core.runs.on);
        let stop = self.interpret(block, whole);
        self.core.runs.on = noted;
        let interpreted = self.state(stop);

        if let Some(u) = &mut self.core.undo {
            u.exchange();
            u.replayed = Some(0);
        }
        (self.core.slots, self.core.pc, self.core.budget, self.core.reservation) = before;
        let written = std::mem::take(&mut self.core.code_written);

        let exit = self.run_code(code);
        let stop = self.after(exit);
        self.core.code_written |= written;
        let translated = self.state(stop);
        let memory = self.core.undo.take().and_then(|u| u.difference());
        if interpreted == translated && memory.is_none() {
            return stop;
        }
        self.difference = Some(describe::<A>(block, &interpreted, &translated, memory));
        Some(Stop::Difference)
    }

    fn state(&self, stop: Option<Stop>) -> State {
        State { slots: self.core.slots, pc: self.core.pc, budget: self.core.budget, stop }
    }
}

fn describe<A: Arch>(block: &Block<A>, t0: &State, t1: &State, memory: Option<(u64, u8, u8)>) -> String {
    let mut s = format!("block at {:#x}:", block.key.pc);
    for i in &block.insns {
        s.push_str(&format!("\n  {:#x}  {}", A::pc(i), A::text(i)));
    }
    let mut differ = |what: String, a: String, b: String| {
        if a != b {
            s.push_str(&format!("\n{what}: interpreter {a}, translator {b}"));
        }
    };
    for (i, (a, b)) in t0.slots.iter().zip(&t1.slots).enumerate() {
        differ(format!("slot {i}"), format!("{a:#x}"), format!("{b:#x}"));
    }
    differ("pc".into(), format!("{:#x}", t0.pc), format!("{:#x}", t1.pc));
    differ("instructions left".into(), t0.budget.to_string(), t1.budget.to_string());
    differ("stop".into(), format!("{:?}", t0.stop), format!("{:?}", t1.stop));
    if let Some((addr, a, b)) = memory {
        differ(format!("memory at {addr:#x}"), format!("{a:#04x}"), format!("{b:#04x}"));
    }
    s
}

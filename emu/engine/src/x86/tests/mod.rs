//! The translator against the interpreter, on random programs.

mod cases;
mod speed;
mod toy;

use super::*;
use crate::core::Core;
use crate::interp::{Interp, Left};
use racewalk_cpu::signal as pending;
use racewalk_isa::{Arch as _, Exc};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use toy::*;

struct Machine {
    core: Box<Core>,
    memory: Arc<Memory>,
    fault: Fault,
    signal: Arc<AtomicU32>,
}

impl Machine {
    fn new(seed: u64, explosive: Option<u64>) -> Machine {
        let mut r = Rng(seed);
        let mut mmu = Flat::new(&mut r);
        let memory = mmu.memory.clone();
        mmu.explosive = explosive;
        let fault = mmu.fault.clone();
        let signal = Arc::new(AtomicU32::new(0));
        let mut core = Core::new(Box::new(mmu), signal.clone());
        for s in 0..32 {
            core.slots[s] = r.number()
        }
        core.slots[20] &= 3;
        core.slots[22] &= 15;
        Machine { core, memory, fault, signal }
    }
    fn bytes(&self) -> Vec<u8> {
        // SAFETY: the memory lives as long as the core, and nobody writes to it now.
        unsafe { std::slice::from_raw_parts(self.memory.at(), PAGES * 4096) }.to_vec()
    }
    /// One instruction in the interpreter; counts it if it completes.
    fn step(&mut self, p: &Program) -> Result<Left, Exc> {
        let i = &p.insns[&self.core.pc];
        let mut t0 = Interp::new(&mut self.core);
        Toy::exec(&mut t0, i)?;
        let (left, target) = (t0.left, t0.target);
        self.core.pc = match left {
            Left::Jump | Left::Syscall(_) | Left::EndBlock => target,
            _ => i.pc + i.len as u64,
        };
        self.core.budget -= 1;
        Ok(left)
    }
}

fn same(a: &Machine, b: &Machine, what: &str) {
    assert_eq!(a.core.slots[..], b.core.slots[..], "slots after {what}");
    assert_eq!(a.core.pc, b.core.pc, "pc after {what}");
    assert_eq!(a.core.budget, b.core.budget, "budget after {what}");
    assert_eq!(*a.fault.lock().unwrap(), *b.fault.lock().unwrap(), "fault after {what}");
    let (x, y) = (&a.core.reservation, &b.core.reservation);
    assert_eq!((x.addr, x.size, x.value), (y.addr, y.size, y.value), "reservation after {what}");
    assert!(a.bytes() == b.bytes(), "memory after {what}");
}

#[derive(Default, Debug)]
struct Seen {
    exits: HashMap<&'static str, usize>,
    blocks: usize,
    insns: usize,
    bytes: usize,
}

/// Runs a random program on both engines for `rounds` exits.
fn differ(seed: u64, blocks: usize, longest: usize, rounds: usize, seen: &mut Seen) {
    let mut r = Rng(seed);
    let p = program(&mut r, blocks, longest);
    let mut arena = Arena::new(16 << 20).unwrap();
    let mut t1: HashMap<u64, u64> = HashMap::new();
    let mut code = |arena: &mut Arena, pc: u64, seen: &mut Seen| {
        *t1.entry(pc).or_insert_with(|| {
            let (_, insns, next) = p.blocks.iter().find(|b| b.0 == pc).unwrap();
            let t = translate::<Toy>(arena, pc, insns, *next, &|t| t % 3 != 0).unwrap();
            assert!(t.links.iter().all(|l| l.site % 4 == 0));
            seen.blocks += 1;
            seen.insns += insns.len();
            seen.bytes += t.bytes;
            t.entry
        })
    };
    let (mut a, mut b) = (Machine::new(seed ^ 1, None), Machine::new(seed ^ 1, None));
    let mut patched = Vec::new();
    let random_block = |r: &mut Rng| p.blocks[r.below(p.blocks.len())].0;
    a.core.pc = p.blocks[0].0;
    b.core.pc = a.core.pc;
    for round in 0..rounds {
        let budget = r.below(200) as i64;
        a.core.budget = budget;
        b.core.budget = budget;
        if r.chance(2) {
            b.signal.store(pending::IPI, Ordering::Relaxed)
        }
        let start = b.core.pc;
        let entry = code(&mut arena, start, seen);
        // SAFETY: the arena lives, and all its blocks are the toy's.
        let exit = unsafe { enter(&mut b.core, entry) };
        let ran = budget - b.core.budget;
        let what = format!("seed {seed} round {round}: {start:#x}, {ran} instructions, {exit:x?}");
        assert!(ran >= 0, "{what}");
        let mut last = Left::Next;
        for _ in 0..ran {
            last = a.step(&p).unwrap_or_else(|e| panic!("interpreter raised {e:?} in {what}"))
        }
        let name = match exit {
            Exit::Jump => {
                same(&a, &b, &what);
                if r.chance(50) {
                    let pc = b.core.pc;
                    if p.blocks.iter().any(|x| x.0 == pc) {
                        let c = code(&mut arena, pc, seen);
                        b.core.fill_jump(pc, c)
                    }
                }
                "jump"
            }
            Exit::Link { site } => {
                same(&a, &b, &what);
                if r.chance(70) {
                    let c = code(&mut arena, b.core.pc, seen);
                    arena.patch(site, c);
                    patched.push(site)
                }
                "link"
            }
            Exit::Poll => {
                same(&a, &b, &what);
                let n = p.blocks.iter().find(|x| x.0 == b.core.pc).unwrap().1.len() as i64;
                assert!(
                    b.signal.load(Ordering::Relaxed) != 0 || b.core.budget < n,
                    "needless poll in {what}"
                );
                b.signal.store(0, Ordering::Relaxed);
                "poll"
            }
            Exit::Exc(e) => {
                assert_eq!(a.step(&p).err(), Some(e), "{what}");
                same(&a, &b, &what);
                a.core.pc = random_block(&mut r);
                "exc"
            }
            Exit::Syscall { number, next } => {
                assert_eq!(last, Left::Syscall(number), "{what}");
                assert_eq!(a.core.pc, next, "{what}");
                assert!(p.insns[&b.core.pc].steps.iter().any(|s| matches!(s, Step::Syscall(..))));
                b.core.pc = next;
                same(&a, &b, &what);
                "syscall"
            }
            Exit::Execute { .. } => {
                let at = a.core.pc;
                assert_eq!(a.step(&p), Ok(Left::Execute), "{what}");
                assert_eq!((a.core.arg0, a.core.arg1), (b.core.arg0, b.core.arg1), "{what}");
                assert_eq!(b.core.pc, at, "{what}");
                b.core.pc = a.core.pc;
                b.core.budget -= 1;
                same(&a, &b, &what);
                "execute"
            }
            Exit::Interpret => {
                same(&a, &b, &what);
                assert_eq!(a.step(&p), b.step(&p), "{what}");
                same(&a, &b, &what);
                "interpret"
            }
            Exit::Panicked => panic!("{what}"),
        };
        *seen.exits.entry(name).or_default() += 1;
        // After a store to code T1 stops inside the block; go on with the interpreter to the next block.
        while !p.blocks.iter().any(|x| x.0 == a.core.pc) {
            if a.step(&p).is_err() {
                a.core.pc = random_block(&mut r)
            }
        }
        if r.chance(3) || b.core.pc != a.core.pc || round % 64 == 63 {
            if a.bytes() != b.bytes() || round % 64 == 63 {
                for m in [&a, &b] {
                    // SAFETY: all of the memory, which nobody uses now.
                    unsafe { std::slice::from_raw_parts_mut(m.memory.at(), PAGES * 4096) }
                        .copy_from_slice(&a.bytes())
                }
            }
            for _ in 0..r.below(24) {
                let (s, v) = (r.below(20), r.number());
                a.core.slots[s] = v
            }
            a.core.slots[20] &= 3;
            b.core.slots = a.core.slots;
            b.core.reservation = a.core.reservation;
            *b.fault.lock().unwrap() = *a.fault.lock().unwrap();
            b.core.pc = a.core.pc;
        }
        a.core.code_written = 0;
        b.core.code_written = 0;
        if r.chance(5)
            && let Some(site) = patched.pop()
        {
            arena.unpatch(site)
        }
        if r.chance(5) {
            a.core.flush_all();
            b.core.flush_all()
        }
    }
}

#[test]
fn random_programs() {
    let mut seen = Seen::default();
    let many = std::env::var("RACEWALK_FUZZ").ok().and_then(|n| n.parse().ok()).unwrap_or(200);
    for seed in 0..many {
        differ(seed, 20, 10, 150, &mut seen)
    }
    // Long blocks: more live values than registers.
    for seed in 0..many / 4 {
        differ(seed | 1 << 32, 8, 60, 100, &mut seen)
    }
    for name in ["jump", "link", "poll", "exc", "syscall", "execute", "interpret"] {
        assert!(seen.exits.get(name).copied().unwrap_or(0) > 50, "{name} is rare: {seen:?}")
    }
    println!("{seen:?}");
}

//! Figures: what a translation costs, and how fast the code is. `cargo test --release -- --ignored --nocapture speed`.

use super::super::*;
use super::toy::{BASE, Flat, Rng, S390};
use crate::core::Core;
use racewalk_isa::*;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::Instant;

/// Instructions like those compilers emit most for s390x.
#[derive(Clone, Copy, Debug)]
enum Op {
    Load(u16, u16, u64),
    LoadWord(u16, u16, u64),
    Store(u16, u16, u64),
    Add(u16, u16),
    AddWord(u16, u16),
    Move(u16, u16),
    LoadAddress(u16, u16, u64),
    Shift(u16, u16, u64),
    And(u16, u16),
    Compare(u16, u16),
    Branch(u8, u64),
}

#[derive(Clone, Copy, Debug)]
struct Insn {
    pc: u64,
    op: Op,
}

#[derive(Clone, Copy)]
struct Plain;

impl Arch for Plain {
    type Insn = Insn;
    const NAME: &'static str = "plain";
    const SLOTS: usize = 24;
    const INSN_ALIGN: u64 = 2;
    fn insn_len(_: [u8; 2]) -> usize {
        4
    }
    fn decode(pc: u64, _: &[u8]) -> Insn {
        Insn { pc, op: Op::Move(0, 0) }
    }
    fn len(_: &Insn) -> u8 {
        4
    }
    fn pc(i: &Insn) -> u64 {
        i.pc
    }
    fn text(i: &Insn) -> String {
        format!("{i:?}")
    }
    fn exec<B: Backend>(b: &mut B, i: &Insn) -> Sem<B> {
        let ea = |b: &mut B, base, disp| {
            let (x, d) = (b.get(base), b.k(disp));
            b.add(x, d)
        };
        match i.op {
            Op::Load(r, base, disp) => {
                let a = ea(b, base, disp);
                let v = b.load(MemOp::be(8), a)?;
                b.set(r, v)
            }
            Op::LoadWord(r, base, disp) => {
                let a = ea(b, base, disp);
                let v = b.load(MemOp::be(4), a)?;
                b.set_low32(r, v)
            }
            Op::Store(r, base, disp) => {
                let a = ea(b, base, disp);
                let v = b.get(r);
                b.store(MemOp::be(8), a, v)?
            }
            Op::Add(r, s) => {
                let (x, y) = (b.get(r), b.get(s));
                let v = b.add(x, y);
                b.set(r, v);
                b.flags(S390, FlagKind::AddS(Width::W64), x, y)
            }
            Op::AddWord(r, s) => {
                let (x, y) = (b.get(r), b.get(s));
                let v = b.add(x, y);
                b.set_low32(r, v);
                b.flags(S390, FlagKind::AddS(Width::W32), x, y)
            }
            Op::Move(r, s) => {
                let v = b.get(s);
                b.set(r, v)
            }
            Op::LoadAddress(r, base, disp) => {
                let a = ea(b, base, disp);
                b.set(r, a)
            }
            Op::Shift(r, s, n) => {
                let (x, n) = (b.get(s), b.k(n));
                let v = b.shl(x, n);
                b.set(r, v)
            }
            Op::And(r, s) => {
                let (x, y) = (b.get(r), b.get(s));
                let v = b.and(x, y);
                b.set(r, v);
                let z = b.k(0);
                b.flags(S390, FlagKind::Logic(Width::W64), v, z)
            }
            Op::Compare(r, s) => {
                let (x, y) = (b.get(r), b.get(s));
                b.flags(S390, FlagKind::Cmp(Width::W64), x, y)
            }
            Op::Branch(mask, t) => {
                let c = b.flags_test(S390, mask);
                b.branch(c, t, i.pc + 4)
            }
        }
        Ok(())
    }
}

fn block(r: &mut Rng, pc: u64, len: usize) -> Vec<Insn> {
    let mut all: Vec<Op> = Vec::new();
    for _ in 0..len - 1 {
        let (x, y) = (r.below(14) as u16, r.below(14) as u16);
        let d = r.below(500) as u64 * 8;
        all.push(match r.below(16) {
            0..=3 => Op::Load(x, 15, d),
            4 => Op::LoadWord(x, 15, d),
            5 | 6 => Op::Store(x, 15, d),
            7 | 8 => Op::Add(x, y),
            9 => Op::AddWord(x, y),
            10 | 11 => Op::Move(x, y),
            12 => Op::LoadAddress(x, y, d),
            13 => Op::Shift(x, y, 3),
            14 => Op::And(x, y),
            _ => Op::Compare(x, y),
        })
    }
    all.push(Op::Branch(r.below(14) as u8 + 1, pc + 0x1000));
    all.into_iter().enumerate().map(|(i, op)| Insn { pc: pc + 4 * i as u64, op }).collect()
}

#[test]
#[ignore = "a measurement"]
fn speed() {
    let mut r = Rng(7);
    let blocks: Vec<Vec<Insn>> =
        (0..20_000).map(|i| block(&mut r, 0x1_0000 + i * 256, 4 + i as usize % 13)).collect();
    let insns: usize = blocks.iter().map(|b| b.len()).sum();
    let mut arena = Arena::new(256 << 20).unwrap();
    let mut best = f64::MAX;
    let mut bytes = 0;
    for _ in 0..4 {
        arena.reset();
        let t = Instant::now();
        bytes = 0;
        for b in &blocks {
            let next = b[0].pc + 4 * b.len() as u64;
            bytes += translate::<Plain>(&mut arena, b[0].pc, b, next, &|_| true).unwrap().bytes
        }
        best = best.min(t.elapsed().as_secs_f64());
    }
    println!(
        "translation: {:.3} us and {:.1} bytes per instruction, {:.1} instructions per block",
        best * 1e6 / insns as f64,
        bytes as f64 / insns as f64,
        insns as f64 / blocks.len() as f64
    );

    // A loop over memory, chained to itself: load, add, store, move on, compare, branch.
    let pc = 0x5000;
    let ops = [
        Op::Load(2, 5, 0),
        Op::Add(2, 3),
        Op::Store(2, 5, 8),
        Op::LoadAddress(5, 5, 8),
        Op::LoadAddress(6, 6, 1),
        Op::And(5, 7),
        Op::Compare(6, 8),
        Op::Branch(6, pc),
    ];
    let insns: Vec<Insn> =
        ops.into_iter().enumerate().map(|(i, op)| Insn { pc: pc + 4 * i as u64, op }).collect();
    let t = translate::<Plain>(&mut arena, pc, &insns, pc + 32, &|_| true).unwrap();
    let mmu = Flat::new(&mut r);
    let mut core = Core::new(Box::new(mmu), Arc::new(AtomicU32::new(0)));
    core.slots[5] = BASE;
    core.slots[7] = BASE | 0x3ff8;
    core.slots[8] = u64::MAX;
    let link = t.links.iter().find(|l| l.target == pc).unwrap();
    arena.patch(link.site, t.entry);
    core.budget = 400_000_000;
    let start = Instant::now();
    // SAFETY: the arena lives, and the block is of this architecture.
    let exit = unsafe { enter(&mut core, t.entry) };
    let ns = start.elapsed().as_secs_f64() * 1e9;
    assert_eq!(exit, Exit::Poll);
    if let Ok(path) = std::env::var("RACEWALK_DUMP") {
        // SAFETY: the bytes of a block in a live arena.
        let code = unsafe { std::slice::from_raw_parts(t.entry as *const u8, t.bytes) };
        std::fs::write(path, code).unwrap()
    }
    println!("loop: {:.3} ns per instruction, {} bytes", ns / 400e6, t.bytes);
}

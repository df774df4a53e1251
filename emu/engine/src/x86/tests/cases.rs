//! Single properties: flags, registers running out, panics, links, polls.

use super::super::*;
use super::toy::*;
use super::{Machine, same};
use racewalk_cpu::signal as pending;
use racewalk_isa::*;
use std::sync::atomic::Ordering;

/// One block of instructions at [`CODE`], two bytes each.
fn insns(bodies: Vec<Vec<Step>>) -> Vec<Insn> {
    let at = |i: usize| CODE + 2 * i as u64;
    bodies.into_iter().enumerate().map(|(i, b)| Insn { pc: at(i), len: 2, steps: b.leak() }).collect()
}

fn program_of(block: &[Insn]) -> Program {
    let end = CODE + 2 * block.len() as u64;
    Program { insns: block.iter().map(|i| (i.pc, *i)).collect(), blocks: vec![(CODE, block.to_vec(), end)] }
}

/// Translates a block and runs it once, beside the interpreter.
fn both(block: &[Insn], seed: u64) -> (Machine, Exit) {
    let p = program_of(block);
    let mut arena = Arena::new(1 << 20).unwrap();
    let t = translate::<Toy>(&mut arena, CODE, block, p.blocks[0].2, &|_| true).unwrap();
    let (mut a, mut b) = (Machine::new(seed, None), Machine::new(seed, None));
    for m in [&mut a, &mut b] {
        m.core.pc = CODE;
        m.core.budget = 1000;
    }
    // SAFETY: the arena lives, and the block is the toy's.
    let exit = unsafe { enter(&mut b.core, t.entry) };
    for _ in b.core.budget..1000 {
        a.step(&p).unwrap();
    }
    same(&a, &b, "one block");
    (b, exit)
}

fn kinds() -> Vec<FlagKind> {
    use FlagKind::*;
    let mut all = vec![Value, TestMask, TestMaskHigh];
    for w in [Width::W32, Width::W64] {
        all.extend([Cmp(w), CmpU(w), Logic(w), AddS(w), SubS(w), AddU(w), SubU(w)])
    }
    all
}

#[test]
fn every_flag_kind_and_mask() {
    let numbers = [
        0,
        1,
        2,
        0x55,
        u64::MAX,
        1 << 63,
        i64::MAX as u64,
        1 << 31,
        i32::MAX as u64,
        u32::MAX as u64,
        0xffff_ffff_8000_0000,
        1 << 32,
    ];
    let mut arena = Arena::new(64 << 20).unwrap();
    let mut m = Machine::new(1, None);
    // Operands come from slots 0 and 1, or are constants; tests happen in the instruction and across a call.
    for f in [S390, PPC, SPARC] {
        for kind in kinds() {
            for (constant_a, constant_b) in [(None, None), (None, Some(2)), (None, Some(8)), (Some(5), None)]
            {
                let operand = |s, k: Option<usize>| match k {
                    Some(k) => Step::K(numbers[k]),
                    None => Step::Get(s),
                };
                let mut bodies =
                    vec![vec![operand(0, constant_a), operand(1, constant_b), Step::Flags(f, kind, 0, 1)]];
                for mask in 0..16 {
                    bodies.push(vec![Step::Test(f, mask), Step::C2v(0), Step::Set(2 + mask as Slot, 0)])
                }
                // From here on the flags are known only by their canonical form.
                bodies.push(vec![Step::FlagsValue(f), Step::Set(18, 0)]);
                for mask in 0..16 {
                    bodies.push(vec![
                        Step::Test(f, mask),
                        Step::Get(19),
                        Step::K(1 << mask),
                        Step::Bin(11, 0, 1),
                        Step::Sel(0, 2, 0),
                        Step::Set(19, 3),
                    ])
                }
                let block = insns(bodies);
                let p = program_of(&block);
                let t = translate::<Toy>(&mut arena, CODE, &block, p.blocks[0].2, &|_| true).unwrap();
                for a in numbers {
                    for b in numbers {
                        let (a, b) =
                            (constant_a.map_or(a, |k| numbers[k]), constant_b.map_or(b, |k| numbers[k]));
                        let a = if matches!(kind, FlagKind::TestMask | FlagKind::TestMaskHigh) {
                            a & b
                        } else {
                            a
                        };
                        m.core.slots[0] = a;
                        m.core.slots[1] = b;
                        m.core.slots[19] = 0;
                        if constant_a.is_some() && a != numbers[5] {
                            continue;
                        }
                        m.core.budget = 1000;
                        // SAFETY: the arena lives, and the block is the toy's.
                        let exit = unsafe { enter(&mut m.core, t.entry) };
                        assert!(matches!(exit, Exit::Link { .. }));
                        let v = racewalk_isa::flags::eval(f.family, kind, a, b);
                        let what = format!("{f:?} {kind:?} {a:#x} {b:#x}");
                        assert_eq!(m.core.slots[f.slot as usize], v, "{what}");
                        assert_eq!(m.core.slots[18], v, "{what}");
                        let mut taken = 0;
                        for mask in 0..16 {
                            let holds = racewalk_isa::flags::test(f.family, v, mask);
                            assert_eq!(m.core.slots[2 + mask as usize], holds as u64, "{what} {mask}");
                            taken |= (holds as u64) << mask
                        }
                        assert_eq!(m.core.slots[19], taken, "{what}");
                    }
                }
            }
        }
    }
}

#[test]
fn more_live_values_than_registers() {
    // Forty values alive at once, all used at the end; with calls and a region in between.
    let mut s: Vec<Step> = (0..20).map(Step::Get).collect();
    for i in 0..20 {
        s.push(Step::Bin([0, 1, 11, 2][i % 4], i, (i * 7 + 3) % 20))
    }
    s.push(Step::Cmp(Width::W64, Cc::Ltu, 3, 4));
    s.push(Step::When(0, &[Step::Bin(0, 1, 30), Step::Bin(2, 40, 39), Step::Set(19, 41), Step::Get(2)]));
    s.push(Step::Helper(0, [1, 35]));
    for i in 0..20 {
        s.push(Step::Bin(11, 39 - i, 40 + i))
    }
    for i in 0..20 {
        s.push(Step::Set(i, 40 + i as usize))
    }
    // Sixteen loads into registers, and the widest compare and swap.
    let mut loads = vec![Step::K(BASE + 64)];
    loads.extend((0..16).map(|_| Step::Load(MemOp::be(8), 0)));
    loads.extend((0..16).map(|i| Step::Set(i, 1 + i as usize)));
    let swap = vec![
        Step::K(BASE + 32),
        Step::Get(0),
        Step::Get(1),
        Step::Get(2),
        Step::Get(3),
        Step::CasPair(MemOp::be(16), 0, [1, 2, 3, 4]),
        Step::Set(0, 5),
        Step::Set(1, 6),
    ];
    for seed in 0..50 {
        let (_, exit) = both(&insns(vec![s.clone(), loads.clone(), swap.clone(), s.clone()]), seed);
        assert!(matches!(exit, Exit::Link { .. }))
    }
}

#[test]
fn an_instruction_too_big_is_left_to_the_interpreter() {
    let mut s: Vec<Step> = (0..20).map(Step::Get).collect();
    for i in 0..200 {
        s.push(Step::Bin(0, i, i % 7))
    }
    for i in 0..219 {
        s.push(Step::Bin(11, i, 219 - i))
    }
    s.push(Step::Set(0, 400));
    let small = vec![Step::Get(1), Step::Set(2, 0)];
    let block = insns(vec![small.clone(), s, small]);
    let (m, exit) = both(&block, 3);
    assert_eq!(exit, Exit::Interpret);
    assert_eq!((m.core.pc, m.core.budget), (CODE + 2, 999));
}

#[test]
fn a_panic_ends_at_the_slow_path() {
    let block = insns(vec![
        vec![Step::K(7), Step::Set(3, 0)],
        vec![Step::K(BASE), Step::Load(MemOp::be(8), 0), Step::Set(4, 1)],
        vec![Step::K(8), Step::Set(3, 0)],
    ]);
    let mut arena = Arena::new(1 << 20).unwrap();
    let t = translate::<Toy>(&mut arena, CODE, &block, CODE + 6, &|_| true).unwrap();
    let mut m = Machine::new(1, Some(BASE));
    m.core.budget = 10;
    let before = m.core.slots[4];
    // SAFETY: the arena lives, and the block is the toy's.
    let exit = unsafe { enter(&mut m.core, t.entry) };
    assert_eq!(exit, Exit::Panicked);
    assert_eq!((m.core.pc, m.core.budget), (CODE + 2, 9));
    assert_eq!((m.core.slots[3], m.core.slots[4]), (7, before));
}

#[test]
fn a_panic_ends_at_a_helper() {
    static BAD: [Helper; 1] = [Helper {
        name: "bad",
        run: |e, a| {
            e.set(6, a[0]);
            panic!("a helper panics")
        },
        reads: &[],
        writes: &[(6, 1)],
        faults: true,
    }];
    #[derive(Clone, Copy)]
    struct Bad;
    impl Arch for Bad {
        type Insn = u64;
        const NAME: &'static str = "bad";
        const SLOTS: usize = 8;
        const INSN_ALIGN: u64 = 2;
        fn insn_len(_: [u8; 2]) -> usize {
            2
        }
        fn decode(pc: u64, _: &[u8]) -> u64 {
            pc
        }
        fn exec<B: Backend>(b: &mut B, i: &u64) -> Sem<B> {
            let k = b.k(*i);
            b.set(5, k);
            if *i == 4 {
                b.helper(&BAD[0], &[k])?;
            }
            Ok(())
        }
        fn len(_: &u64) -> u8 {
            2
        }
        fn pc(i: &u64) -> u64 {
            *i
        }
        fn text(i: &u64) -> String {
            i.to_string()
        }
    }
    let mut arena = Arena::new(1 << 20).unwrap();
    let t = translate::<Bad>(&mut arena, 2, &[2, 4, 6], 8, &|_| true).unwrap();
    let mut m = Machine::new(1, None);
    m.core.budget = 10;
    // SAFETY: the arena lives, and the block is of the architecture that the slots are for.
    assert_eq!(unsafe { enter(&mut m.core, t.entry) }, Exit::Panicked);
    assert_eq!((m.core.pc, m.core.budget, m.core.slots[6]), (4, 9, 4));
}

#[test]
fn links_are_patched_and_unpatched() {
    let jump = insns(vec![vec![Step::Goto(CODE + 100)]]);
    let there = [Insn { pc: CODE + 100, len: 2, steps: &[Step::Syscall(9, 1)] }];
    let mut arena = Arena::new(1 << 20).unwrap();
    let a = translate::<Toy>(&mut arena, CODE, &jump, CODE + 2, &|_| true).unwrap();
    let b = translate::<Toy>(&mut arena, CODE + 100, &there, CODE + 102, &|_| true).unwrap();
    let [link] = a.links[..] else { panic!("{a:?}") };
    assert_eq!(link.target, CODE + 100);
    assert!(b.links.is_empty());
    let mut m = Machine::new(1, None);
    let go = |m: &mut Machine| {
        m.core.budget = 10;
        // SAFETY: the arena lives, and the block is the toy's.
        unsafe { enter(&mut m.core, a.entry) }
    };
    assert_eq!(go(&mut m), Exit::Link { site: link.site });
    assert_eq!((m.core.pc, m.core.budget), (CODE + 100, 9));
    arena.patch(link.site, b.entry);
    assert_eq!(go(&mut m), Exit::Syscall { number: 9, next: 1 });
    assert_eq!((m.core.pc, m.core.budget), (CODE + 100, 8));
    arena.unpatch(link.site);
    assert_eq!(go(&mut m), Exit::Link { site: link.site });
    // Without permission to link, the jump cache decides.
    let c = translate::<Toy>(&mut arena, CODE, &jump, CODE + 2, &|_| false).unwrap();
    assert!(c.links.is_empty());
    let go = |m: &mut Machine| {
        m.core.budget = 10;
        // SAFETY: the arena lives, and the block is the toy's.
        unsafe { enter(&mut m.core, c.entry) }
    };
    assert_eq!(go(&mut m), Exit::Jump);
    m.core.fill_jump(CODE + 100, b.entry);
    assert_eq!(go(&mut m), Exit::Syscall { number: 9, next: 1 });
    m.core.flush_jumps();
    assert_eq!(go(&mut m), Exit::Jump);
}

#[test]
fn a_block_polls_before_it_starts() {
    let block = insns(vec![
        vec![Step::K(7), Step::Set(3, 0)],
        vec![Step::Get(3), Step::Set(4, 0)],
        vec![Step::Goto(CODE)],
    ]);
    let mut arena = Arena::new(1 << 20).unwrap();
    let t = translate::<Toy>(&mut arena, CODE, &block, CODE + 6, &|_| true).unwrap();
    arena.patch(t.links[0].site, t.entry);
    let mut m = Machine::new(1, None);
    for (budget, left) in [(0, 0), (2, 2), (3, 0), (11, 2), (300, 0)] {
        m.core.budget = budget;
        m.core.pc = 0;
        // SAFETY: the arena lives, and the block is the toy's.
        let exit = unsafe { enter(&mut m.core, t.entry) };
        assert_eq!((exit, m.core.pc, m.core.budget), (Exit::Poll, CODE, left));
    }
    m.signal.store(pending::STOP, Ordering::Relaxed);
    m.core.budget = 100;
    // SAFETY: as above.
    assert_eq!(unsafe { enter(&mut m.core, t.entry) }, Exit::Poll);
    assert_eq!(m.core.budget, 100);
}

#[test]
fn a_signal_from_another_thread_stops_a_chained_loop() {
    let block = insns(vec![vec![Step::Goto(CODE)]]);
    let mut arena = Arena::new(1 << 20).unwrap();
    let t = translate::<Toy>(&mut arena, CODE, &block, CODE + 2, &|_| true).unwrap();
    arena.patch(t.links[0].site, t.entry);
    let mut m = Machine::new(1, None);
    m.core.budget = i64::MAX;
    let signal = m.signal.clone();
    let (exit, link) = std::thread::scope(|s| {
        s.spawn(|| {
            std::thread::sleep(std::time::Duration::from_millis(20));
            // Another thread may change links of running code.
            for _ in 0..1000 {
                arena.unpatch(t.links[0].site);
                arena.patch(t.links[0].site, t.entry)
            }
            std::thread::sleep(std::time::Duration::from_millis(5));
            signal.store(pending::SIGNAL, Ordering::Relaxed)
        });
        let mut links = 0;
        loop {
            // SAFETY: the arena lives, and the block is the toy's.
            match unsafe { enter(&mut m.core, t.entry) } {
                Exit::Link { .. } => links += 1,
                e => break (e, links),
            }
        }
    });
    assert_eq!(exit, Exit::Poll);
    assert!(link <= 1000 && m.core.budget < i64::MAX - 1000);
}

#[test]
fn a_full_arena_says_so() {
    let mut arena = Arena::new(64 << 10).unwrap();
    let block = insns(vec![vec![Step::Goto(CODE)]]);
    let empty = arena.used();
    let mut n = 0;
    while let Ok(t) = translate::<Toy>(&mut arena, CODE, &block, CODE + 2, &|_| true) {
        assert!(t.bytes > 20);
        n += 1;
        assert!(n < 5000)
    }
    assert!(n > 300 && arena.used() <= arena.size());
    arena.reset();
    assert_eq!(arena.used(), empty);
    assert!(translate::<Toy>(&mut arena, CODE, &block, CODE + 2, &|_| true).is_ok());
}

#[test]
fn division_never_traps_the_host() {
    for (x, y) in [(5, 0), (0, 0), (1 << 63, u64::MAX), (7, u64::MAX), (u64::MAX, 3)] {
        let mut s = vec![Step::K(x), Step::Set(0, 0), Step::K(y), Step::Set(1, 1)];
        let mut t = vec![Step::Get(0), Step::Get(1)];
        for (i, o) in (5..9).enumerate() {
            t.push(Step::Bin(o, 0, 1));
            t.push(Step::Set(2 + i as Slot, 2 + i))
        }
        both(&insns(vec![s.clone(), t.clone()]), 1);
        s.extend([Step::Helper(0, [0, 1])]);
        both(&insns(vec![s, t]), 1);
    }
}

#[test]
fn atomics_are_atomic_between_cpus() {
    const ROUNDS: u64 = 20_000;
    // Adds one to a word and three to a doubleword, in both byte orders, and counts down.
    let step = |m: MemOp, at: u64, k: u64| {
        vec![Step::K(BASE + at), Step::K(k), Step::Rmw(m, Rmw::Add, 0, 1), Step::Set(2, 2)]
    };
    // Adds one by compare and swap: one instruction loads, the next swaps and counts the failures.
    let load = vec![Step::K(BASE + 32), Step::Load(MemOp::be(8), 0), Step::Set(3, 1)];
    let swap = vec![
        Step::K(BASE + 32),
        Step::Get(3),
        Step::K(1),
        Step::Bin(0, 1, 2),
        Step::Cas(MemOp::be(8), 0, 1, 3),
        Step::Cmp(Width::W64, Cc::Eq, 4, 1),
        Step::C2v(0),
        Step::Get(4),
        Step::Bin(0, 6, 5),
        Step::Set(4, 7),
    ];
    let block = insns(vec![
        step(MemOp::be(4), 0, 1),
        step(MemOp::be(8), 8, 3),
        step(MemOp::le(4), 16, 1),
        step(MemOp::le(8), 24, 3),
        load,
        swap,
        vec![Step::Goto(CODE)],
    ]);
    let mut arena = Arena::new(1 << 20).unwrap();
    let t = translate::<Toy>(&mut arena, CODE, &block, CODE + 14, &|_| true).unwrap();
    arena.patch(t.links[0].site, t.entry);
    let first = Machine::new(1, None);
    let memory = first.memory.clone();
    // SAFETY: nobody runs yet.
    unsafe { std::slice::from_raw_parts_mut(memory.at(), 64) }.fill(0);
    let run = &|mut core: Box<crate::Core>| {
        core.slots[4] = 0;
        core.budget = 7 * ROUNDS as i64;
        // SAFETY: the arena lives, and the block is the toy's.
        assert_eq!(unsafe { enter(&mut core, t.entry) }, Exit::Poll);
        core.slots[4]
    };
    let swapped: u64 = std::thread::scope(|s| {
        let mut mmu = Flat::new(&mut Rng(2));
        mmu.memory = memory.clone();
        let second = crate::Core::new(Box::new(mmu), Default::default());
        let other = s.spawn(move || run(second));
        run(first.core) + other.join().unwrap()
    });
    // SAFETY: nobody runs any more.
    let b = unsafe { std::slice::from_raw_parts(memory.at(), 64) };
    let word = |at: usize| b[at..at + 8].try_into().unwrap();
    assert_eq!(u32::from_be_bytes(b[..4].try_into().unwrap()) as u64, 2 * ROUNDS);
    assert_eq!(u64::from_be_bytes(word(8)), 6 * ROUNDS);
    assert_eq!(u32::from_le_bytes(b[16..20].try_into().unwrap()) as u64, 2 * ROUNDS);
    assert_eq!(u64::from_le_bytes(word(24)), 6 * ROUNDS);
    assert_eq!(u64::from_be_bytes(word(32)), swapped);
    assert!(swapped >= ROUNDS);
}

//! Generated code, coroutines and invalidation: eight vCPUs suspended inside walks that translated code called, while
//! pages are purged and their frames reused all the time; the run is cancelled, or a slow path panics, anywhere.

mod common;

use common::asm::Asm;
use common::storm::{controlled_storm, every_way, explain, free_storm, resident};
use common::victim::{CODE, HOT, How, Rule, Size};
use common::{Machine, setting};
use racewalk_engine::cache::Mode;
use racewalk_engine::mmu::PortMmu;
use racewalk_engine::vcpu::{Stop, Vcpu};
use racewalk_isa::s390x::S390x;
use racewalk_isa::s390x::state::gpr;
use racewalk_sched::controlled::End;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

const EIGHT: Size = Size { cpus: 8, storms: 1 };

#[test]
fn no_stale_address_survives() {
    let (first, count) = (setting("RACEWALK_FIRST", 0), setting("RACEWALK_SEEDS", 2000));
    let mut totals = [0u64; 5];
    let (mut warm, mut deepest) = (0, 0);
    for seed in first..first + count {
        let how = every_way(EIGHT, seed);
        let (f, o) = controlled_storm(EIGHT, seed, Rule::Kept, how);
        let why = || explain("storm", seed, Rule::Kept, how, &f, &o);
        assert!(!f.bad() && f.strange.lock().unwrap().is_none(), "{}", why());
        let panicked = f.panicked.load(Ordering::SeqCst) as u64;
        let expected = match how {
            How::Limit(_) => matches!(o.end, End::Limit | End::Finished),
            How::Cancel(_) => matches!(o.end, End::Cancelled | End::Finished),
            _ => o.end == End::Finished,
        };
        assert!(expected, "{}", why());
        assert!(panicked <= matches!(how, How::Panic(..)) as u64, "{}", why());
        let n = |a: &AtomicU64| a.load(Ordering::SeqCst);
        let cancelled = f.cancelled.load(Ordering::SeqCst) as u64;
        for (t, v) in totals.iter_mut().zip([n(&f.instructions), n(&f.moves), panicked, cancelled, o.points])
        {
            *t += v;
        }
        deepest = deepest.max(f.deepest.load(Ordering::SeqCst));
        if seed == first + count / 4 {
            warm = resident();
        }
    }
    let [instructions, moves, panicked, cancelled, points] = totals;
    let grown = resident().saturating_sub(warm);
    println!(
        "{count} runs: {instructions} instructions, {moves} moves, {panicked} panics, {cancelled} vCPUs cancelled \
         inside a walk, up to {deepest} in walks at once, {points} points; resident memory grew by {grown} bytes"
    );
    if count >= 1000 {
        assert_eq!(deepest, EIGHT.cpus, "all vCPUs were inside walks at once");
        assert!(panicked > count / 8 && cancelled > count, "the runs ended where they should not");
        assert!(grown < 24 << 20, "resident memory grew by {grown} bytes");
    }
}

/// The canary can die: with the rule broken in either way, most runs show it.
#[test]
fn a_broken_rule_is_found() {
    for rule in [Rule::NotWaited, Rule::Withheld] {
        let found = (0..100).filter(|&seed| controlled_storm(EIGHT, seed, rule, How::Finish).0.bad()).count();
        println!("{rule:?}: found in {found} of 100 runs");
        assert!(found > 20, "{rule:?} was found in {found} of 100 runs only");
    }
}

#[test]
fn threads_and_a_storm() {
    for cpus in [4, 8] {
        let f = free_storm(Size { cpus, storms: 1 }, Rule::Kept, Duration::from_secs(1));
        println!("{cpus} threads: {f:?}");
        assert!(!f.bad() && f.strange.lock().unwrap().is_none(), "{f:?}");
        assert!(
            f.moves.load(Ordering::SeqCst) > 20 && f.instructions.load(Ordering::SeqCst) > 10_000,
            "{f:?}"
        );
    }
    // And with the rule broken it is found here as well.
    let f = free_storm(Size { cpus: 4, storms: 1 }, Rule::Withheld, Duration::from_millis(500));
    assert!(f.bad(), "{f:?}");
}

/// A clock that panics: the instruction that reads it is not executed, and the vCPU can go on with the next one.
#[test]
fn a_panic_leaves_a_usable_vcpu() {
    struct Broken(AtomicI64);
    impl racewalk_engine::mmu::Clock for Broken {
        fn tod(&self) -> u64 {
            if self.0.fetch_sub(1, Ordering::SeqCst) == 1 {
                std::panic::resume_unwind(Box::new("no time"));
            }
            7
        }
    }
    for mode in [Mode::Interp, Mode::Jit] {
        let m = Machine::new(1, |_| true);
        let mut a = Asm::new(CODE << 12);
        a.lghi(1, 5);
        a.s(0xb205, 6, 0);
        a.lghi(2, 6);
        a.svc(0);
        m.put(CODE << 12, &a.bytes);
        let cache = m.cache(mode);
        let mmu = PortMmu::new(m.cpus.clone(), 0, Arc::new(Broken(AtomicI64::new(1))));
        let core = racewalk_engine::Core::new(Box::new(mmu), m.cpus.signal_word(0));
        let mut v: Vcpu<S390x> = Vcpu::new(core, cache);
        v.core.pc = CODE << 12;
        v.core.slots[gpr(6) as usize] = HOT << 12;
        assert_eq!(v.run(100), Stop::Panicked, "{mode:?}");
        assert_eq!((v.instructions, v.core.pc), (1, (CODE << 12) + 4), "{mode:?}");
        assert_eq!(v.core.slots[gpr(1) as usize], 5);
        assert!(matches!(v.run(100), Stop::Syscall { .. }), "{mode:?}");
        assert_eq!(v.instructions, 4, "{mode:?}");
        assert_eq!(m.get(HOT << 12, 8), [0, 0, 0, 0, 0, 0, 0, 7]);
    }
}

//! One policy seed, one guest program: the same events, schedule, counts and final state in every engine.
//!
//! Two vCPUs run random programs in random quanta while a third task purges pages (IPTE, then a move of the frame)
//! and a fourth walks speculatively. Scheduling points are the steps of walks, waits for purges and what the kernel
//! adds between quanta, so whatever an engine does on its own account (look up a block, follow a link, leave a store
//! into code to the interpreter) must neither walk nor acknowledge a purge that another engine would not.
//!
//! `RACEWALK_SEEDS=10000` runs that many seeds, `RACEWALK_FIRST=n` begins with another one.

mod common;

use common::program::{self, Programs, programs};
use common::{Log, Machine, SPARE_FRAMES, Seen, hash, pte, setting};
use racewalk_cpu::Fault;
use racewalk_engine::cache::Mode;
use racewalk_engine::runs::Run;
use racewalk_engine::vcpu::Stop;
use racewalk_isa::MAX_SLOTS;
use racewalk_isa::s390x::state::gpr;
use racewalk_ram::{Pfn, Vaddr};
use racewalk_sched::controlled::{self, Config, End, Outcome, Policy, Random, Replay, Rng, RoundRobin};
use racewalk_sched::{point, set_this_cpu};
use racewalk_walk::s390x::{Pte, Reason};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

/// Instructions after which a vCPU that goes on is left alone.
const LIMIT: u64 = 4000;
/// Stops after which a vCPU is left alone.
const STOPS: u32 = 400;

/// What a run leaves behind.
#[derive(PartialEq)]
struct Record {
    log: Vec<Seen>,
    outcome: Outcome,
    cpus: Vec<(Box<[u64; MAX_SLOTS]>, u64, u64)>,
    memory: u64,
    runs: Vec<Vec<Run>>,
}

type Finals = Arc<Mutex<Vec<(u32, Box<[u64; MAX_SLOTS]>, u64, u64)>>>;

/// Everything of a run that comes from its seed.
#[derive(Clone)]
struct Plan {
    seed: u64,
    programs: Arc<Programs>,
    mapped: u64,
}

impl Plan {
    fn new(seed: u64) -> Plan {
        let mut r = Rng(seed);
        Plan { seed, programs: Arc::new(programs(&mut r)), mapped: r.next_u64() | r.next_u64() }
    }
    fn rng(&self, task: u64) -> Rng {
        Rng(self.seed.wrapping_mul(31).wrapping_add(task) << 8)
    }
}

fn run(plan: &Plan, mode: Mode, policy: &mut dyn Policy) -> Record {
    let is_data = |p: u64| program::DATA.contains(&p);
    let mut m = Machine::new(3, |p| match p {
        0 => false,
        p if is_data(p) => plan.mapped >> (p - program::DATA.start) & 1 != 0,
        p => p < 0x30,
    });
    for (va, bytes) in &plan.programs.images {
        m.put(*va, bytes);
    }
    let log = Arc::new(Log::default());
    m.record(&log);
    let m = Arc::new(m);
    m.cpus.trace_to(log.clone());
    let finals = Finals::default();
    let main = {
        let (plan, m, log, finals) = (plan.clone(), m.clone(), log.clone(), finals.clone());
        move || tasks(&plan, m, mode, log, finals)
    };
    let mut config = Config::default();
    config.max_points = 100_000;
    let outcome = controlled::run(config, policy, main);
    let mut cpus = std::mem::take(&mut *finals.lock().expect("no panic while held"));
    cpus.sort_by_key(|c| c.0);
    // What the pages hold now; frames that were moved from hold the same in all runs that went the same way.
    let mut memory = 0;
    let mut frame = [0; 4096];
    for page in 0x10..0x58 {
        m.ram().read(m.frame(page).paddr(), &mut frame).expect("in memory");
        memory = hash(&frame) ^ u64::rotate_left(memory ^ m.entry(page).0, 7);
    }
    Record {
        log: log.take(),
        outcome,
        cpus: cpus.into_iter().map(|(_, slots, n, pc)| (slots, n, pc)).collect(),
        memory,
        runs: m
            .recorded
            .iter()
            .flatten()
            .map(|r| std::mem::take(&mut *r.runs.lock().expect("not held")))
            .collect(),
    }
}

fn tasks(plan: &Plan, m: Arc<Machine>, mode: Mode, log: Arc<Log>, finals: Finals) {
    let cache = m.cache(mode);
    let left = Arc::new(AtomicU32::new(2));
    for cpu in 0..2 {
        let mut vcpu = m.vcpu(cpu, &cache);
        let (plan, m, log, finals, left) =
            (plan.clone(), m.clone(), log.clone(), finals.clone(), left.clone());
        controlled::spawn(format!("cpu{cpu}"), move || {
            set_this_cpu(cpu);
            let mut r = plan.rng(cpu as u64);
            vcpu.core.pc = plan.programs.entry[cpu as usize];
            for (i, v) in plan.programs.registers[cpu as usize].iter().enumerate() {
                vcpu.core.slots[gpr(i as u8) as usize] = *v;
            }
            for _ in 0..STOPS {
                let quantum = if r.below(3) == 0 { r.below(12) } else { r.below(400) };
                let stop = vcpu.run(quantum);
                log.put(Seen::Stop(cpu, stop, vcpu.instructions, vcpu.core.pc));
                let ended = match stop {
                    Stop::Quantum => {
                        if r.below(2) == 0 {
                            point("quantum")
                        }
                        false
                    }
                    Stop::Syscall { number, next } => {
                        vcpu.core.pc = next;
                        point("svc");
                        number != 0
                    }
                    Stop::Exception { fault: Some(f), len, .. } => {
                        !resolve(&m, &f, cpu, &log) && {
                            vcpu.core.pc = vcpu.core.pc.wrapping_add(len as u64);
                            len == 0
                        }
                    }
                    Stop::Exception { len, .. } => {
                        vcpu.core.pc = vcpu.core.pc.wrapping_add(len as u64);
                        len == 0
                    }
                    Stop::Signal(_) => false,
                    Stop::Panicked | Stop::Difference => true,
                };
                if ended || vcpu.instructions > LIMIT {
                    break;
                }
            }
            vcpu.core.flush_runs();
            left.fetch_sub(1, Ordering::Relaxed);
            let last = (cpu, Box::new(vcpu.core.slots), vcpu.instructions, vcpu.core.pc);
            finals.lock().expect("no panic while held").push(last);
        });
    }

    let (a, n, mut r) = (m.clone(), left.clone(), plan.rng(8));
    controlled::spawn("invalidator", move || {
        set_this_cpu(2);
        let mut spare = SPARE_FRAMES;
        while n.load(Ordering::Relaxed) != 0 && spare < SPARE_FRAMES + 0x80 {
            for _ in 0..r.below(30) {
                point("between purges");
            }
            // Data mostly, and code.
            let page = match r.below(4) {
                0 => [0x10, 0x11, 0x14, 0x15, program::SUBROUTINE][r.below(5) as usize],
                _ => program::DATA.start + r.below(program::DATA.end - program::DATA.start),
            };
            a.ipte(page);
            point("purged");
            // A move of the page, unless somebody mapped it meanwhile.
            if r.below(2) == 0 && a.entry(page).invalid() {
                a.ram().copy_frame(Pfn(spare), a.frame(page)).expect("in memory");
                a.set_entry(page, spare << 12 | Pte::I);
                spare += 1;
            }
            if r.below(3) != 0 {
                point("about to map");
                a.set_entry(page, a.entry(page).0 & !Pte::I);
            }
        }
    });

    let (a, n, mut r) = (m, left, plan.rng(9));
    controlled::spawn("speculative walker", move || {
        while n.load(Ordering::Relaxed) != 0 {
            let cpu = r.below(2) as u32;
            let page = if r.below(4) == 0 { 0x10 + r.below(8) } else { program::DATA.start + r.below(0x20) };
            if a.cpus.speculate(cpu, Vaddr(page << 12)).is_err() {
                return;
            }
            point("between walks");
        }
    });
}

/// The kernel's part in a fault: makes the page valid if it may be used. False if the instruction is at fault.
fn resolve(m: &Machine, f: &Fault, cpu: u32, log: &Log) -> bool {
    let page = f.vaddr.0 >> 12;
    if f.reason != Reason::Page || page == 0 || page >= program::NEVER {
        return false;
    }
    point("fault");
    let e = m.entry(page);
    if e.invalid() {
        m.ram().store_u64(pte(page), e.0 & !Pte::I).expect("in memory");
        log.put(Seen::Mapped(cpu, page));
    }
    true
}

/// The first difference, with what led to it.
fn difference(a: &Record, b: &Record) -> String {
    let mut s = String::new();
    let n = a.log.iter().zip(&b.log).take_while(|(x, y)| x == y).count();
    for x in &a.log[n.saturating_sub(30)..n] {
        s.push_str(&format!("    {x}\n"));
    }
    for (name, r) in [("first ", a), ("second", b)] {
        for x in r.log.iter().skip(n).take(6) {
            s.push_str(&format!("  {name} {x}\n"));
        }
    }
    if n == a.log.len() && n == b.log.len() {
        s.push_str("  all events agree\n");
    }
    for (i, (x, y)) in a.cpus.iter().zip(&b.cpus).enumerate() {
        for slot in (0..MAX_SLOTS).filter(|&k| x.0[k] != y.0[k]) {
            s.push_str(&format!("  cpu{i} slot {slot}: {:#x}, {:#x}\n", x.0[slot], y.0[slot]));
        }
        if (x.1, x.2) != (y.1, y.2) {
            s.push_str(&format!("  cpu{i} count and pc: {:x?}, {:x?}\n", (x.1, x.2), (y.1, y.2)));
        }
    }
    for (i, (x, y)) in a.runs.iter().zip(&b.runs).enumerate() {
        if let Some(n) = (0..x.len().max(y.len())).find(|&n| x.get(n) != y.get(n)) {
            for n in n.saturating_sub(4)..n + 4 {
                s.push_str(&format!("  cpu{i} run {n}: {:x?}, {:x?}\n", x.get(n), y.get(n)));
            }
        }
    }
    s.push_str(&format!("  memory {:#x}, {:#x}\n", a.memory, b.memory));
    s.push_str(&format!("  end {:?}, {:?}\n", a.outcome.end, b.outcome.end));
    s
}

/// Totals, to see that the programs do what they are for.
#[derive(Default, Debug)]
struct Totals {
    instructions: u64,
    events: u64,
    faults: u64,
    purges: u64,
    points: u64,
    finished: u64,
}

fn check(seed: u64, totals: &mut Totals) {
    let plan = Plan::new(seed);
    let first = run(&plan, Mode::Interp, &mut Random::new(seed));
    let fail = |what: &str, b: &Record| -> ! {
        panic!(
            "seed {seed}: interp and {what} differ\n{}schedule {}\nagain: RACEWALK_FIRST={seed} RACEWALK_SEEDS=1 \
             cargo test --release -p racewalk-engine --test determinism",
            difference(&first, b),
            first.outcome.schedule
        )
    };
    assert!(matches!(first.outcome.end, End::Finished | End::Limit), "seed {seed}: {:?}", first.outcome.end);
    for mode in [Mode::Jit, Mode::Auto] {
        let other = run(&plan, mode, &mut Random::new(seed));
        if other != first {
            fail(&format!("{mode:?}"), &other)
        }
    }
    // A schedule recorded under one engine replays under another; as text, as it would be saved.
    let schedule = first.outcome.schedule.to_string().parse().expect("a schedule that was printed");
    let mut replay = Replay::new(schedule, RoundRobin::default());
    let again = run(&plan, if seed & 1 == 0 { Mode::Jit } else { Mode::Auto }, &mut replay);
    if again != first || replay.diverged != 0 {
        fail("a replay", &again)
    }
    totals.instructions += first.cpus.iter().map(|c| c.1).sum::<u64>();
    totals.events += first.log.len() as u64;
    totals.points += first.outcome.points;
    totals.finished += (first.outcome.end == End::Finished) as u64;
    for s in &first.log {
        match s {
            Seen::Stop(_, Stop::Exception { .. }, ..) => totals.faults += 1,
            Seen::Event(_, racewalk_cpu::CpuEvent::Purge { .. }) => totals.purges += 1,
            _ => {}
        }
    }
}

/// `--engine check`, the mode that looks for differences by itself, finds none. It runs one CPU at a time.
#[test]
fn check_finds_nothing() {
    let (first, count) = (setting("RACEWALK_FIRST", 0), setting("RACEWALK_SEEDS", 1000) / 4);
    for seed in first..first + count {
        let plan = Plan::new(seed);
        let m = Machine::new(2, |p| p != 0 && p < program::NEVER);
        for (va, bytes) in &plan.programs.images {
            m.put(*va, bytes);
        }
        let cache = m.cache(Mode::Check);
        let mut vcpus = [0, 1].map(|cpu| m.vcpu(cpu, &cache));
        for (cpu, v) in vcpus.iter_mut().enumerate() {
            v.core.pc = plan.programs.entry[cpu];
            for (i, x) in plan.programs.registers[cpu].iter().enumerate() {
                v.core.slots[gpr(i as u8) as usize] = *x;
            }
        }
        let mut r = plan.rng(3);
        for _ in 0..STOPS {
            let v = &mut vcpus[r.below(2) as usize];
            match v.run(r.below(300)) {
                Stop::Difference => {
                    panic!("seed {seed}: {}", v.difference.as_deref().unwrap_or("nothing said"))
                }
                Stop::Syscall { next, .. } => v.core.pc = next,
                Stop::Exception { len: 0, .. } => break,
                Stop::Exception { len, .. } => v.core.pc = v.core.pc.wrapping_add(len as u64),
                Stop::Panicked => panic!("seed {seed}: a slow path panicked"),
                Stop::Quantum | Stop::Signal(_) => {}
            }
        }
    }
}

#[test]
fn engines_agree() {
    let (first, count) = (setting("RACEWALK_FIRST", 0), setting("RACEWALK_SEEDS", 1000));
    let mut t = Totals::default();
    for seed in first..first + count {
        check(seed, &mut t)
    }
    println!("{count} seeds: {t:?}");
    if count >= 100 {
        assert!(
            t.instructions > 100 * count
                && t.faults > count
                && t.purges > count
                && t.finished > count * 9 / 10,
            "{t:?}"
        );
    }
}

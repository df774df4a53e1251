//! Generated code, coroutines and invalidation: eight vCPUs suspended inside walks that translated code called, while
//! pages are purged and their frames reused all the time; the run is cancelled, or a slow path panics, anywhere.
//!
//! The *canary*: a page is taken away by an acknowledged IPTE and its frame filled with [`CANARY`]. From then on
//! nobody may read the frame, execute it or store to it through what was translated before. Pages never hold that
//! byte otherwise. The same story with the rule broken on purpose must be found out, else this test shows nothing.

mod common;

use common::asm::Asm;
use common::{FIRST_FRAME, Machine, SPARE_FRAMES, setting};
use racewalk_cpu::FastDrop;
use racewalk_engine::cache::{CodeCache, Mode};
use racewalk_engine::mmu::PortMmu;
use racewalk_engine::vcpu::{Stop, Vcpu};
use racewalk_engine::{Mmu, Piece};
use racewalk_isa::s390x::S390x;
use racewalk_isa::s390x::state::gpr;
use racewalk_isa::{Access, Exc};
use racewalk_ram::{Paddr, Pfn};
use racewalk_sched::controlled::{self, Config, End, Outcome, Random, Rng};
use racewalk_sched::{point, set_this_cpu};
use racewalk_walk::s390x::{Pte, Reason};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// What a frame is filled with when nobody may use it. As an instruction it is an operation exception.
const CANARY: u8 = 0xca;
/// What data pages hold at the start; what is stored and ORed makes no canary of it.
const GOOD: u8 = 0x11;
const CODE: u64 = 0x10;
const HOT: u64 = 0x30;
const HOT_PAGES: u64 = 6;
const CPUS: u32 = 8;

/// How the rule of the completion is kept.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Rule {
    Kept,
    /// The frame is reused before the purge is complete.
    NotWaited,
    /// The engine is not told what its fast TLB must drop.
    Withheld,
}

/// How a run ends.
#[derive(Clone, Copy, PartialEq, Debug)]
enum How {
    Finish,
    /// The step limit is reached here.
    Limit(u64),
    /// Somebody cancels after so many purges.
    Cancel(u64),
    /// The MMU of a CPU panics at its n-th call.
    Panic(u32, i64),
}

/// Between an engine and its MMU: drops what it should pass on, or panics.
struct Meddler {
    inner: PortMmu,
    withhold: bool,
    fuse: i64,
    findings: Arc<Findings>,
}

impl Mmu for Meddler {
    fn translate(&mut self, addr: u64, access: Access, space: u8) -> Result<Piece, Exc> {
        self.fuse -= 1;
        if self.fuse == 0 {
            // Unwinds like a panic without printing like one.
            std::panic::resume_unwind(Box::new("the fuse has blown"));
        }
        let f = &self.findings;
        f.deepest.fetch_max(f.inside.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        let r = self.inner.translate(addr, access, space);
        f.inside.fetch_sub(1, Ordering::SeqCst);
        r
    }
    fn written(&mut self, paddr: Paddr, len: u64) -> bool {
        self.inner.written(paddr, len)
    }
    fn clock(&mut self) -> u64 {
        self.inner.clock()
    }
    fn cpu(&self) -> u32 {
        self.inner.cpu()
    }
    fn unpark(&mut self) -> FastDrop {
        self.pass(PortMmu::unpark)
    }
    fn poll(&mut self) -> FastDrop {
        self.pass(PortMmu::poll)
    }
    fn park(&mut self) {
        self.inner.park()
    }
    fn take_fault(&mut self) -> Option<racewalk_cpu::Fault> {
        self.inner.take_fault()
    }
}

impl Meddler {
    fn pass(&mut self, f: impl FnOnce(&mut PortMmu) -> FastDrop) -> FastDrop {
        let drop = f(&mut self.inner);
        if self.withhold { FastDrop::default() } else { drop }
    }
}

/// What went wrong and what happened, over all tasks of a run.
#[derive(Default, Debug)]
struct Findings {
    /// A vCPU read the canary.
    read: AtomicU64,
    /// A vCPU executed it.
    executed: AtomicU64,
    /// A store landed in it.
    overwritten: AtomicU64,
    /// vCPUs inside a translation now, and the most at one time.
    inside: AtomicU32,
    deepest: AtomicU32,
    panicked: AtomicU32,
    cancelled: AtomicU32,
    moves: AtomicU64,
    instructions: AtomicU64,
    /// The first other thing that should not be.
    strange: Mutex<Option<String>>,
}

impl Findings {
    fn bad(&self) -> bool {
        let n = |a: &AtomicU64| a.load(Ordering::SeqCst);
        n(&self.read) + n(&self.executed) + n(&self.overwritten) != 0
    }
    fn strange(&self, what: String) {
        self.strange.lock().expect("no panic while held").get_or_insert(what);
    }
}

/// A loop of groups: some accesses to hot pages, then a look at what was loaded. Several accesses in one block, so
/// that a walk for one comes between a translation and its next use.
fn guest(r: &mut Rng) -> Vec<u8> {
    let mut a = Asm::new(((CODE + 1) << 12) - 2 * r.below(120));
    let start = a.here();
    let mut bad = Vec::new();
    for _ in 0..2 + r.below(4) {
        let mut loaded = Vec::new();
        for _ in 0..2 + r.below(6) {
            let b = 6 + r.below(HOT_PAGES) as u8;
            let d = 8 * r.below(500) as u16;
            match r.below(10) {
                0..=3 => {
                    let to = 1 + r.below(4) as u8;
                    a.rxy(0xe304, to, 0, b, d);
                    loaded.push(to)
                }
                4 | 5 => a.rxy(0xe324, 5, 0, b, d),
                6 => a.rxy(0xebe6, 0, 5, b, d),
                7 => a.rxy(0xeb30, 0, 5, b, d),
                8 => a.ss(0xd2, 24, (14, 0), (b, d & 0xff8)),
                _ => a.rxy(0xeb24, 0, 5, b, d),
            }
        }
        a.rxy(0xe304, 0, 0, 14, 0);
        loaded.push(0);
        for l in loaded {
            a.rre(0xb921, l, 13);
            bad.push(a.ri_hole(0xa74, 8));
        }
        // Nothing that is kept may look like a canary.
        a.lghi(0, 0x11)
    }
    a.ri_to(0xa77, 12, start);
    a.svc(0);
    for h in bad {
        let here = a.here();
        a.fill(h, here)
    }
    a.svc(2);
    let mut page = vec![0; 0x2000];
    let at = (start - (CODE << 12)) as usize;
    page[at..at + a.bytes.len()].copy_from_slice(&a.bytes);
    page.extend_from_slice(&start.to_be_bytes());
    page
}

fn machine(r: &mut Rng) -> (Machine, u64) {
    let m = Machine::new(CPUS + 1, |p| p != 0 && p < 0x60);
    let code = guest(r);
    m.put(CODE << 12, &code[..0x2000]);
    m.ram().fill(Paddr((FIRST_FRAME + HOT) << 12), GOOD, 0x20 << 12).expect("in memory");
    let start = u64::from_be_bytes(code[0x2000..].try_into().expect("eight bytes"));
    (m, start)
}

fn vcpu(
    m: &Machine,
    cache: &Arc<CodeCache<S390x>>,
    (cpu, start): (u32, u64),
    (rule, how): (Rule, How),
    findings: &Arc<Findings>,
) -> Vcpu<S390x> {
    let fuse = match how {
        How::Panic(c, n) if c == cpu => n,
        _ => 0,
    };
    let mut v = m.vcpu_with(cpu, cache, |inner| {
        Box::new(Meddler { inner, withhold: rule == Rule::Withheld, fuse, findings: findings.clone() })
    });
    v.core.pc = start;
    for i in 0..HOT_PAGES {
        v.core.slots[gpr(6 + i as u8) as usize] = (HOT + i) << 12;
    }
    v.core.slots[gpr(5) as usize] = 0x2222_2222_2222_2222;
    v.core.slots[gpr(13) as usize] = u64::from_be_bytes([CANARY; 8]);
    v.core.slots[gpr(14) as usize] = (0x40 + cpu as u64) << 12;
    v.core.slots[gpr(12) as usize] = 1 << 40;
    v
}

/// Runs a vCPU once and judges why it stopped; false when it is over.
fn turn(m: &Machine, v: &mut Vcpu<S390x>, quantum: u64, f: &Findings) -> bool {
    let before = v.instructions;
    let stop = v.run(quantum);
    f.instructions.fetch_add(v.instructions - before, Ordering::Relaxed);
    match stop {
        Stop::Quantum => true,
        Stop::Signal(_) => true,
        Stop::Syscall { number: 2, .. } => {
            f.read.fetch_add(1, Ordering::SeqCst);
            false
        }
        Stop::Exception { fault: Some(fault), .. } if fault.reason == Reason::Page => {
            // The storm makes the page valid again, if it goes on.
            let page = fault.vaddr.0 >> 12;
            if controlled::active() {
                point("fault")
            } else if m.entry(page).invalid() {
                std::thread::yield_now()
            }
            true
        }
        Stop::Exception { exc: Exc::CANCELLED, .. } => {
            f.cancelled.fetch_add(1, Ordering::SeqCst);
            false
        }
        Stop::Exception { exc, .. } if exc == Exc::program(1) => {
            f.executed.fetch_add(1, Ordering::SeqCst);
            false
        }
        Stop::Panicked => {
            f.panicked.fetch_add(1, Ordering::SeqCst);
            false
        }
        other => {
            f.strange(format!("{other:?} at {:#x}", v.core.pc));
            false
        }
    }
}

/// Takes pages away and gives them back in other frames.
struct Storm {
    m: Arc<Machine>,
    free: VecDeque<Pfn>,
    r: Rng,
    rule: Rule,
}

impl Storm {
    fn new(m: Arc<Machine>, r: Rng, rule: Rule) -> Storm {
        let free: VecDeque<Pfn> = (0..4).map(|i| Pfn(SPARE_FRAMES + i)).collect();
        for f in &free {
            m.ram().fill(f.paddr(), CANARY, 4096).expect("in memory");
        }
        Storm { m, free, r, rule }
    }

    fn intact(&self, f: Pfn) -> bool {
        let mut b = [0; 4096];
        self.m.ram().read(f.paddr(), &mut b).expect("in memory");
        b == [CANARY; 4096]
    }

    fn step(&mut self, findings: &Findings) {
        let page = if self.r.below(6) == 0 { CODE + self.r.below(2) } else { HOT + self.r.below(HOT_PAGES) };
        let old = self.m.frame(page);
        match self.rule {
            Rule::NotWaited => {
                // Purged everywhere, but by a task that nobody waits for; the entry is invalid at once.
                let m = self.m.clone();
                m.set_entry(page, m.entry(page).0 | Pte::I);
                controlled::spawn("purge", move || {
                    m.ipte(page);
                });
                point("not waited");
            }
            _ => {
                self.m.ipte(page);
            }
        }
        // Nobody uses the frame now. It is reused: first of all for its own contents elsewhere.
        let new = self.free.pop_front().expect("frames go round");
        if !self.intact(new) {
            findings.overwritten.fetch_add(1, Ordering::SeqCst);
        }
        self.m.ram().copy_frame(new, old).expect("in memory");
        self.m.ram().fill(old.paddr(), CANARY, 4096).expect("in memory");
        self.free.push_back(old);
        for _ in 0..self.r.below(4) {
            point("page away");
        }
        self.m.set_entry(page, new.0 << 12);
        findings.moves.fetch_add(1, Ordering::Relaxed);
    }

    fn finish(&self, findings: &Findings) {
        let bad = self.free.iter().filter(|f| !self.intact(**f)).count();
        findings.overwritten.fetch_add(bad as u64, Ordering::SeqCst);
    }
}

/// Everything that a run holds on to, to see that it lets go.
struct Held {
    machine: Arc<Machine>,
    cache: Arc<CodeCache<S390x>>,
}

fn controlled_storm(seed: u64, rule: Rule, how: How) -> (Arc<Findings>, Outcome) {
    let findings = Arc::new(Findings::default());
    let mut r = Rng(seed);
    let (m, start) = machine(&mut r);
    let m = Arc::new(m);
    let held = Held { cache: m.cache(Mode::Jit), machine: m.clone() };
    let mut config = Config::default();
    config.max_points = 50_000;
    if let How::Limit(n) = how {
        config.max_points = n;
    }
    let (f, cache) = (findings.clone(), held.cache.clone());
    let main = move || {
        let left = Arc::new(AtomicU32::new(CPUS));
        for cpu in 0..CPUS {
            let mut v = vcpu(&m, &cache, (cpu, start), (rule, how), &f);
            let (m, f, left) = (m.clone(), f.clone(), left.clone());
            let mut r = Rng(seed << 8 | cpu as u64);
            controlled::spawn(format!("cpu{cpu}"), move || {
                set_this_cpu(cpu);
                for _ in 0..25 {
                    let quantum = r.below(200);
                    if !turn(&m, &mut v, quantum, &f) {
                        break;
                    }
                }
                left.fetch_sub(1, Ordering::SeqCst);
            });
        }
        controlled::spawn("storm", move || {
            set_this_cpu(CPUS);
            let mut s = Storm::new(m, Rng(seed ^ 0x5707), rule);
            let mut n = 0;
            while left.load(Ordering::SeqCst) != 0 {
                for _ in 0..s.r.below(12) {
                    point("between purges");
                }
                s.step(&f);
                n += 1;
                if how == How::Cancel(n) {
                    controlled::cancel();
                }
                point("between purges");
            }
            s.finish(&f);
        });
    };
    let outcome = controlled::run(config, &mut Random::new(seed), main);
    // Whatever happened to them, the tasks have let go of everything.
    assert_eq!(Arc::strong_count(&held.machine), 1, "seed {seed} {rule:?} {how:?}: a task kept the machine");
    assert_eq!(Arc::strong_count(&held.cache), 1, "seed {seed} {rule:?} {how:?}: a task kept the cache");
    assert_eq!(Arc::strong_count(&held.machine.cpus), 2, "the machine and its cache");
    (findings, outcome)
}

fn explain(seed: u64, rule: Rule, how: How, f: &Findings, o: &Outcome) -> String {
    format!(
        "seed {seed} {rule:?} {how:?}: {f:?}\nend {:?}\nschedule {}\nagain: RACEWALK_FIRST={seed} \
         RACEWALK_SEEDS=1 cargo test --release -p racewalk-engine --test storm",
        o.end, o.schedule
    )
}

/// Resident memory in bytes.
fn resident() -> u64 {
    let s = std::fs::read_to_string("/proc/self/statm").expect("Linux has it");
    s.split(' ').nth(1).and_then(|n| n.parse::<u64>().ok()).expect("a number of pages") * 4096
}

#[test]
fn no_stale_address_survives() {
    let (first, count) = (setting("RACEWALK_FIRST", 0), setting("RACEWALK_SEEDS", 2000));
    let mut totals = [0u64; 5];
    let (mut warm, mut deepest) = (0, 0);
    for seed in first..first + count {
        let mut r = Rng(!seed);
        let how = match seed % 4 {
            0 => How::Finish,
            1 => How::Limit(1 + r.below(400)),
            2 => How::Cancel(1 + r.below(20)),
            _ => How::Panic(r.below(CPUS as u64) as u32, 1 + r.below(30) as i64),
        };
        let (f, o) = controlled_storm(seed, Rule::Kept, how);
        let why = || explain(seed, Rule::Kept, how, &f, &o);
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
        assert_eq!(deepest, CPUS, "all vCPUs were inside walks at once");
        assert!(panicked > count / 8 && cancelled > count, "the runs ended where they should not");
        assert!(grown < 24 << 20, "resident memory grew by {grown} bytes");
    }
}

/// The canary can die: with the rule broken in either way, most runs show it.
#[test]
fn a_broken_rule_is_found() {
    for rule in [Rule::NotWaited, Rule::Withheld] {
        let found = (0..100).filter(|&seed| controlled_storm(seed, rule, How::Finish).0.bad()).count();
        println!("{rule:?}: found in {found} of 100 runs");
        assert!(found > 20, "{rule:?} was found in {found} of 100 runs only");
    }
}

fn free_storm(cpus: u32, rule: Rule, time: Duration) -> Arc<Findings> {
    let findings = Arc::new(Findings::default());
    let (m, start) = machine(&mut Rng(cpus as u64));
    let m = Arc::new(m);
    let cache = m.cache(Mode::Auto);
    let over = AtomicBool::new(false);
    std::thread::scope(|s| {
        for cpu in 0..cpus {
            let mut v = vcpu(&m, &cache, (cpu, start), (rule, How::Finish), &findings);
            let (m, f, over) = (&m, &findings, &over);
            s.spawn(move || {
                set_this_cpu(cpu);
                while !over.load(Ordering::Relaxed) && turn(m, &mut v, 5000, f) {}
            });
        }
        set_this_cpu(CPUS);
        let mut storm = Storm::new(m.clone(), Rng(1), rule);
        let end = Instant::now() + time;
        while Instant::now() < end {
            storm.step(&findings)
        }
        over.store(true, Ordering::Relaxed);
        // A last boundary on every CPU.
        m.ipte(HOT);
        storm.finish(&findings);
    });
    findings
}

#[test]
fn threads_and_a_storm() {
    for cpus in [4, 8] {
        let f = free_storm(cpus, Rule::Kept, Duration::from_secs(1));
        println!("{cpus} threads: {f:?}");
        assert!(!f.bad() && f.strange.lock().unwrap().is_none(), "{f:?}");
        assert!(
            f.moves.load(Ordering::SeqCst) > 20 && f.instructions.load(Ordering::SeqCst) > 10_000,
            "{f:?}"
        );
    }
    // And with the rule broken it is found here as well.
    let f = free_storm(4, Rule::Withheld, Duration::from_millis(500));
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

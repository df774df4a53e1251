//! Storms that take pages away from the vCPUs of [`super::victim`] and reuse their frames; whole runs of both.

use super::victim::{CANARY, CODE, Findings, HOT, HOT_PAGES, How, Rule, Size, machine, turn, vcpu};
use super::{Machine, SPARE_FRAMES};
use racewalk_engine::cache::{CodeCache, Mode};
use racewalk_isa::s390x::S390x;
use racewalk_ram::Pfn;
use racewalk_sched::controlled::{self, Config, Outcome, Random, Rng};
use racewalk_sched::{point, set_this_cpu};
use racewalk_walk::s390x::Pte;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Frames that a storm fills with canaries, to begin with.
const SPARES: u64 = 4;
/// Steps of a storm before the time of a free run counts: slow machines take longer.
const FEWEST: u64 = 20;
/// Frames that one step of a storm moves at most.
const MOST: u64 = 3;

/// By which instruction a storm takes pages away.
#[derive(Clone, Copy, PartialEq, Debug)]
enum By {
    /// IPTE of one page.
    Ipte,
    /// IDTE of the segment-table entry, which takes everything away for a while.
    IdteEntry,
    /// Stores that make page-table entries invalid, then IDTE clearing by ASCE.
    IdteAsce,
}

/// Takes pages away and gives them back in other frames.
struct Storm {
    m: Arc<Machine>,
    /// Its number; only the first one invalidates the segment and moves code.
    index: u32,
    storms: u32,
    free: VecDeque<Pfn>,
    r: Rng,
    rule: Rule,
}

impl Storm {
    fn new(m: Arc<Machine>, index: u32, storms: u32, r: Rng, rule: Rule) -> Storm {
        let first = SPARE_FRAMES + SPARES * u64::from(index);
        let free: VecDeque<Pfn> = (0..SPARES).map(|i| Pfn(first + i)).collect();
        for f in &free {
            m.ram().fill(f.paddr(), CANARY, 4096).expect("in memory");
        }
        Storm { m, index, storms, free, r, rule }
    }

    fn intact(&self, f: Pfn) -> bool {
        let mut b = [0; 4096];
        self.m.ram().read(f.paddr(), &mut b).expect("in memory");
        b == [CANARY; 4096]
    }

    /// One of the pages that only this storm moves.
    fn page(&mut self) -> u64 {
        if self.index == 0 && self.r.below(6) == 0 {
            return CODE + self.r.below(2);
        }
        let (n, i) = (u64::from(self.storms), u64::from(self.index));
        HOT + i + n * self.r.below(HOT_PAGES / n)
    }

    /// Takes the pages away. With the rule broken, what is purged is not waited for; the entries are invalid at once.
    fn take(&self, pages: &[u64], by: By) {
        let waits = self.rule != Rule::NotWaited;
        if by != By::IdteEntry && !(by == By::Ipte && waits) {
            for &p in pages {
                self.m.set_entry(p, self.m.entry(p).0 | Pte::I);
            }
        }
        let (m, pages) = (self.m.clone(), pages.to_vec());
        let purge = move || match by {
            By::Ipte => pages.iter().for_each(|&p| {
                m.ipte(p);
            }),
            By::IdteEntry => {
                m.idte_segment();
            }
            By::IdteAsce => m.idte_asce(),
        };
        if waits {
            purge();
        } else {
            if by == By::IdteEntry {
                self.m.set_segment(false);
            }
            controlled::spawn("purge", purge);
            point("not waited");
        }
    }

    fn step(&mut self, findings: &Findings) {
        let by = match self.r.below(8) {
            0 if self.index == 0 => By::IdteEntry,
            1 | 2 => By::IdteAsce,
            _ => By::Ipte,
        };
        let most = if by == By::Ipte { 1 } else { MOST };
        let mut pages: Vec<u64> = (0..1 + self.r.below(most)).map(|_| self.page()).collect();
        pages.sort();
        pages.dedup();
        self.take(&pages, by);
        // Nobody uses the frames now. They are reused: first of all for their own contents elsewhere.
        let mut moved = Vec::new();
        for &page in &pages {
            let old = self.m.frame(page);
            let new = self.free.pop_front().expect("frames go round");
            if !self.intact(new) {
                findings.overwritten.fetch_add(1, Ordering::SeqCst);
            }
            self.m.ram().copy_frame(new, old).expect("in memory");
            self.m.ram().fill(old.paddr(), CANARY, 4096).expect("in memory");
            self.free.push_back(old);
            moved.push((page, new));
        }
        for _ in 0..self.r.below(4) {
            point("page away");
        }
        for (page, new) in moved {
            self.m.set_entry(page, new.0 << 12);
        }
        if by == By::IdteEntry {
            self.m.set_segment(true);
        }
        let n = pages.len() as u64;
        match by {
            By::Ipte => &findings.ipte,
            By::IdteEntry => &findings.idte_entry,
            By::IdteAsce => &findings.idte_asce,
        }
        .fetch_add(1, Ordering::Relaxed);
        findings.moves.fetch_add(n, Ordering::Relaxed);
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

/// One controlled run, from `seed`. Panics if a task kept anything.
pub fn controlled_storm(size: Size, seed: u64, rule: Rule, how: How) -> (Arc<Findings>, Outcome) {
    let findings = Arc::new(Findings::default());
    let mut r = Rng(seed);
    let (m, start) = machine(&mut r, size);
    let m = Arc::new(m);
    let held = Held { cache: m.cache(Mode::Jit), machine: m.clone() };
    let mut config = Config::default();
    config.max_points = 6_250 * u64::from(size.cpus);
    if let How::Limit(n) = how {
        config.max_points = n;
    }
    let (f, cache) = (findings.clone(), held.cache.clone());
    let main = move || {
        let left = Arc::new(AtomicU32::new(size.cpus));
        for cpu in 0..size.cpus {
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
        for index in 0..size.storms {
            let (m, f, left) = (m.clone(), f.clone(), left.clone());
            controlled::spawn(format!("storm{index}"), move || {
                set_this_cpu(size.cpus + index);
                let mut s =
                    Storm::new(m, index, size.storms, Rng(seed ^ 0x5707 ^ u64::from(index) << 32), rule);
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
        }
    };
    let outcome = controlled::run(config, &mut Random::new(seed), main);
    // Whatever happened to them, the tasks have let go of everything.
    assert_eq!(Arc::strong_count(&held.machine), 1, "seed {seed} {rule:?} {how:?}: a task kept the machine");
    assert_eq!(Arc::strong_count(&held.cache), 1, "seed {seed} {rule:?} {how:?}: a task kept the cache");
    assert_eq!(Arc::strong_count(&held.machine.cpus), 2, "the machine and its cache");
    (findings, outcome)
}

/// How the run of a seed ends, when runs are to end in every way.
pub fn every_way(size: Size, seed: u64) -> How {
    let mut r = Rng(!seed);
    match seed % 4 {
        0 => How::Finish,
        1 => How::Limit(1 + r.below(50 * u64::from(size.cpus))),
        2 => How::Cancel(1 + r.below(20)),
        _ => How::Panic(r.below(u64::from(size.cpus)) as u32, 1 + r.below(30) as i64),
    }
}

/// A finding, with what to type to see it again.
pub fn explain(test: &str, seed: u64, rule: Rule, how: How, f: &Findings, o: &Outcome) -> String {
    format!(
        "seed {seed} {rule:?} {how:?}: {f:?}\nend {:?}\nschedule {}\nagain: RACEWALK_FIRST={seed} \
         RACEWALK_SEEDS=1 cargo test --release -p racewalk-engine --test {test}",
        o.end, o.schedule
    )
}

/// Resident memory in bytes.
pub fn resident() -> u64 {
    let s = std::fs::read_to_string("/proc/self/statm").expect("Linux has it");
    s.split(' ').nth(1).and_then(|n| n.parse::<u64>().ok()).expect("a number of pages") * 4096
}

/// Counts down even if its thread panics, so that nobody waits for it without end.
struct Leaving<'a>(&'a AtomicU32);

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A run with one host thread for each vCPU and storm. When the time is over the vCPUs are told to stop while the
/// storms go on, until the last one has: whoever leaves keeps nobody waiting.
pub fn free_storm(size: Size, rule: Rule, time: Duration) -> Arc<Findings> {
    let findings = Arc::new(Findings::default());
    let (m, start) = machine(&mut Rng(size.cpus as u64), size);
    let m = Arc::new(m);
    let cache = m.cache(Mode::Auto);
    let (over, left) = (AtomicBool::new(false), AtomicU32::new(size.cpus));
    let end = Instant::now() + time;
    std::thread::scope(|s| {
        for cpu in 0..size.cpus {
            let mut v = vcpu(&m, &cache, (cpu, start), (rule, How::Finish), &findings);
            let (m, f, over, left) = (&m, &findings, &over, &left);
            s.spawn(move || {
                let _leaving = Leaving(left);
                set_this_cpu(cpu);
                while !over.load(Ordering::Relaxed) && turn(m, &mut v, 5000, f) {}
            });
        }
        let mut storms = Vec::new();
        for index in 0..size.storms {
            let (m, f, over, left) = (&m, &findings, &over, &left);
            storms.push(s.spawn(move || {
                set_this_cpu(size.cpus + index);
                let mut storm = Storm::new(m.clone(), index, size.storms, Rng(1 + u64::from(index)), rule);
                let mut steps = 0;
                while left.load(Ordering::SeqCst) != 0 {
                    storm.step(f);
                    steps += 1;
                    if steps >= FEWEST && Instant::now() >= end {
                        over.store(true, Ordering::Relaxed);
                    }
                }
                storm
            }));
        }
        for storm in storms {
            storm.join().expect("the storm does not panic").finish(&findings);
        }
    });
    findings
}

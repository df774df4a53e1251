//! Random workloads: scenarios that nobody wrote, made from a seed, each run under a few schedules. They know nothing of
//! any scheme or flaw.

use crate::campaign::{self, Shard};
use crate::finding::Finding;
use crate::scenario::{
    AllocKind, Failure, Geometry, Memory, Mm, Op, Place, Program, Scenario, Setup, SetupKind, Verb, Walker,
    Which,
};
use crate::target::{LabError, RunOptions, Target};
use racewalk_sched::controlled::{Pct, Policy, Random, Rng};
use rayon::prelude::*;
use std::ops::Range;
use std::time::{Duration, Instant};

/// What a CPU may do, with how often relative to the others.
const MIX: &[(Verb, u64)] = &[
    (Verb::Touch, 4),
    (Verb::Retract, 6),
    (Verb::RetractIpi, 3),
    (Verb::Unmap, 4),
    (Verb::Map, 1),
    (Verb::Alloc, 5),
    (Verb::Read, 4),
    (Verb::Lock, 3),
    (Verb::Gup, 2),
    (Verb::Madvise, 1),
    (Verb::Walk, 2),
    (Verb::GetPage, 1),
    (Verb::RcuBarrier, 1),
    (Verb::Switch, 2),
    (Verb::HugeMap, 2),
    (Verb::Split, 1),
    (Verb::ReadAnon, 2),
];

/// Segments of files that a workload uses.
const SEGMENTS: u32 = 4;
/// Segments of anonymous memory behind them, where huge pages are modelled.
const ANON: u32 = 2;

/// The workload of a seed: two to `cpus` CPUs, one or two mms, some walkers, now and then allocations that fail.
pub fn scenario(seed: u64, geometry: Geometry, cpus: u32) -> Scenario {
    let mut rng = Rng(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5bd1_e995);
    let mms = if rng.below(3) == 0 { 2 } else { 1 };
    let mut s = Scenario {
        name: format!("random-{seed}"),
        title: format!("Random workload of seed {seed}"),
        refs: Vec::new(),
        geometries: vec![geometry],
        cpus: 2 + rng.below(cpus.max(2) as u64 - 1) as u32,
        forbid: Vec::new(),
        machine: Default::default(),
        mms: (0..mms).map(|m| mm(&mut rng, m, geometry)).collect(),
        programs: Vec::new(),
        walkers: Vec::new(),
        failures: Vec::new(),
        memory: Memory::default(),
    };
    for cpu in 0..s.cpus {
        let loaded = if mms == 2 && rng.below(4) == 0 { 1 } else { 0 };
        let ops = program(&mut rng, loaded, mms, geometry);
        s.programs.push(Program { cpu, loaded, ops });
    }
    exit(&mut rng, &mut s);
    for cpu in 0..s.cpus {
        if rng.below(3) == 0 {
            s.walkers.push(Walker { cpu, place: pages(&mut rng), times: 1 + rng.below(2) as u32 });
        }
    }
    if rng.below(3) == 0 {
        let n = 1 + rng.below(2) as u32;
        s.failures.push(Failure { kind: AllocKind::Nowait, which: Which::Every(n) });
    }
    if rng.below(8) == 0 {
        let n = 1 + rng.below(8) as u32;
        s.failures.push(Failure { kind: AllocKind::Kernel, which: Which::Nth(n) });
    }
    s
}

fn mm(rng: &mut Rng, n: usize, geometry: Geometry) -> Mm {
    let map = |a, b, pages| Setup { kind: SetupKind::MapFile, segments: (a, b), pages: Some((0, pages)) };
    let shape = geometry.shape();
    let mut setup = Vec::new();
    // Where few tables share a page, half of the workloads begin with a page of which only the first are left.
    if shape.tables > 2 && shape.tables <= 16 && rng.below(2) == 0 {
        let left = 1 + rng.below(SEGMENTS as u64 - 1) as u32;
        setup.push(map(0, shape.tables, 1));
        setup.push(Setup { kind: SetupKind::Unmap, segments: (left, shape.tables), pages: None });
        setup.push(Setup { kind: SetupKind::MapFile, segments: (left, SEGMENTS), pages: None });
    } else {
        for seg in 0..SEGMENTS {
            let pages = rng.below(3) as u32;
            setup.push(match pages {
                0 => Setup { pages: None, ..map(seg, seg + 1, 1) },
                _ => map(seg, seg + 1, pages),
            });
        }
    }
    if shape.deposits {
        for seg in SEGMENTS..SEGMENTS + ANON {
            let pages = (rng.below(2) == 0).then_some((0, 1));
            setup.push(Setup { kind: SetupKind::MapAnon, segments: (seg, seg + 1), pages });
        }
    }
    Mm { name: ["A", "B"][n].into(), setup }
}

fn pages(rng: &mut Rng) -> Place {
    let first = rng.below(2) as u32;
    let len = 1 + rng.below(2) as u32;
    Place { segment: rng.below(SEGMENTS as u64) as u32, pages: Some((first, first + len)) }
}

/// An operation of a CPU that has mm `loaded` loaded, of `mms`; none where the one that was drawn cannot be.
pub(crate) fn operation(rng: &mut Rng, loaded: usize, mms: usize, geometry: Geometry) -> Option<Op> {
    let all: u64 = MIX.iter().map(|m| m.1).sum();
    let mut at = rng.below(all);
    let verb = MIX
        .iter()
        .find(|m| {
            let here = at < m.1;
            at = at.wrapping_sub(m.1);
            here
        })
        .map_or(Verb::Touch, |m| m.0);
    if verb.needs_huge() && !geometry.shape().huge || verb == Verb::Switch && mms == 1 {
        return None;
    }
    let mm = if verb.needs_loaded() { loaded } else { rng.below(mms as u64) as usize };
    if (verb.maps_huge() || verb == Verb::ReadAnon) && !geometry.shape().deposits {
        return None;
    }
    let segment = Place { segment: rng.below(SEGMENTS as u64) as u32, pages: None };
    // What is no affair of files may be about the anonymous segments.
    let either = matches!(verb, Verb::Touch | Verb::Unmap | Verb::Gup | Verb::Walk | Verb::Madvise);
    let anon = verb.maps_huge()
        || verb == Verb::ReadAnon
        || either && geometry.shape().deposits && rng.below(4) == 0;
    let on = |mut p: Place, rng: &mut Rng| {
        if anon {
            p.segment = SEGMENTS + rng.below(ANON as u64) as u32;
        }
        p
    };
    let place = match verb {
        Verb::ReadAnon | Verb::Touch | Verb::Read | Verb::Lock | Verb::Gup | Verb::Walk => {
            let p = pages(rng);
            Some(on(p, rng))
        }
        Verb::Switch | Verb::RcuBarrier => None,
        _ => Some(on(segment, rng)),
    };
    let with = (verb.on_mm() || verb == Verb::Switch).then_some(mm);
    Some(Op { verb, mm: with, place, store: verb == Verb::Touch && rng.below(2) == 0 })
}

fn program(rng: &mut Rng, mut loaded: usize, mms: usize, geometry: Geometry) -> Vec<Op> {
    let mut ops = Vec::new();
    let mut got: Vec<Op> = Vec::new();
    for _ in 0..1 + rng.below(4) {
        let Some(op) = operation(rng, loaded, mms, geometry) else { continue };
        if op.verb == Verb::Switch {
            loaded = op.mm.unwrap_or(loaded);
        }
        if op.verb == Verb::GetPage {
            got.push(Op { verb: Verb::PutPage, ..op.clone() });
        }
        ops.push(op);
        if !got.is_empty() && rng.below(2) == 0 {
            ops.extend(got.pop());
        }
    }
    ops.extend(got);
    ops
}

/// Now and then a process ends while others are at its objects: who comes by the object needs no reference to the mm.
fn exit(rng: &mut Rng, s: &mut Scenario) {
    if rng.below(4) != 0 {
        return;
    }
    let who = rng.below(s.programs.len() as u64) as usize;
    let mm = s.mms.len() - 1;
    for (i, p) in s.programs.iter_mut().enumerate() {
        let by_object = |o: &Op| o.mm != Some(mm) || matches!(o.verb, Verb::Retract | Verb::Read);
        if i != who {
            p.ops.retain(by_object);
        }
        if p.loaded == mm {
            // Whoever runs the space keeps it alive until it switches away or ends.
            p.ops.retain(|o| o.verb != Verb::Switch && (i == who || !o.verb.needs_loaded()));
        }
    }
    let p = &mut s.programs[who];
    p.ops.retain(|o| o.verb != Verb::Switch);
    p.ops.retain(|o| !o.verb.needs_loaded() || o.mm == Some(p.loaded));
    p.ops.push(Op { verb: Verb::Exit, mm: Some(mm), place: None, store: false });
}

/// How a search through workloads is done.
#[derive(Clone, Debug)]
pub struct Search {
    /// A workload for each of these seeds.
    pub seeds: Range<u64>,
    /// Only these of them.
    pub shard: Shard,
    /// Most CPUs of a workload.
    pub cpus: u32,
    /// The memory model.
    pub memory: Memory,
    /// Schedules of each workload, half of them random and half PCT of depth 3.
    pub schedules: u64,
    /// Ends before the next batch when this has passed.
    pub time: Option<Duration>,
    /// Host threads; as many as the host has CPUs, if 0.
    pub jobs: usize,
}

/// What it showed.
#[derive(Clone, Debug, Default)]
pub struct Searched {
    /// Workloads run.
    pub workloads: u64,
    /// Schedules run.
    pub schedules: u64,
    /// Scheduling points passed.
    pub points: u64,
    /// The first finding, with the seed of its workload.
    pub first: Option<(u64, Finding)>,
}

/// Runs workloads until something is found, the seeds are used up, or the time is.
///
/// # Errors
/// Those of the target.
pub fn search(
    target: &dyn Target,
    scheme: &str,
    geometry: Geometry,
    s: &Search,
) -> Result<Searched, LabError> {
    let pool = campaign::pool(s.jobs, s.shard.count(&s.seeds))?;
    let options = RunOptions { geometry: Some(geometry), states: false, ..RunOptions::default() };
    let one = |seed: u64| -> Result<Searched, LabError> {
        let scenario = Scenario { memory: s.memory, ..scenario(seed, geometry, s.cpus) };
        let mut out = Searched { workloads: 1, ..Searched::default() };
        let mut decisions = 20;
        let mut runner = target.prepare(&scenario, scheme, &options)?;
        for n in 0..s.schedules {
            let mut random = Random::new(seed ^ n << 32);
            let mut pct = Pct::new(seed ^ n << 32, 3, decisions);
            let policy: &mut dyn Policy = if n % 2 == 0 { &mut random } else { &mut pct };
            let r = runner.run(policy)?;
            decisions = decisions.max(r.outcome.schedule.choices.len() as u64);
            out.schedules += 1;
            out.points += r.outcome.points;
            if let Some(f) = r.findings.first() {
                let (scheme, schedule) = (scheme.to_string(), r.outcome.schedule);
                out.first = Some((seed, Finding { scenario, scheme, geometry, schedule, rule: f.rule }));
                break;
            }
        }
        Ok(out)
    };
    let start = Instant::now();
    let mut seeds = s.shard.seeds(&s.seeds);
    let mut all = Searched::default();
    // The size of a batch changes nothing in what is found first.
    let size = pool.current_num_threads() * 16;
    while s.time.is_none_or(|t| start.elapsed() < t) {
        let batch: Vec<u64> = seeds.by_ref().take(size).collect();
        if batch.is_empty() {
            break;
        }
        let runs: Vec<_> = pool.install(|| batch.into_par_iter().map(one).collect());
        for r in runs {
            let r = r?;
            all.workloads += r.workloads;
            all.schedules += r.schedules;
            all.points += r.points;
            if r.first.is_some() {
                all.first = r.first;
                return Ok(all);
            }
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::Machine;
    use std::collections::BTreeSet;

    #[test]
    fn workloads_are_scenarios_and_use_every_operation_of_the_mix() {
        for g in Geometry::ALL {
            let mut seen = BTreeSet::new();
            for seed in 0..3000 {
                let s = scenario(seed, g, 4);
                s.check().unwrap_or_else(|e| panic!("seed {seed}: {e}\n{s}"));
                assert_eq!(Scenario::parse(&s.name, &s.to_string()).unwrap(), s);
                seen.extend(s.programs.iter().flat_map(|p| &p.ops).map(|o| o.verb));
            }
            for (v, _) in MIX {
                assert!(
                    seen.contains(v)
                        || v.needs_huge() && !g.shape().huge
                        || !g.shape().deposits && (v.maps_huge() || *v == Verb::ReadAnon),
                    "{} on {}",
                    v.word(),
                    g.word()
                );
            }
            assert!(seen.contains(&Verb::Exit) && seen.contains(&Verb::PutPage));
        }
    }

    fn quick(scheme: &str, geometry: Geometry, seeds: u64) -> Searched {
        let s = Search {
            seeds: 0..seeds,
            shard: Shard::WHOLE,
            cpus: 3,
            memory: Memory::Sc,
            schedules: 8,
            time: None,
            jobs: 2,
        };
        search(&Machine, scheme, geometry, &s).unwrap()
    }

    #[test]
    fn a_flaw_is_found_and_its_finding_repeats() {
        let r = quick("s390-v1", Geometry::S390x2k, 2000);
        let (seed, f) = r.first.expect("s390-v1 has a flaw");
        let again = quick("s390-v1", Geometry::S390x2k, 2000).first.unwrap();
        assert_eq!((seed, &f.schedule), (again.0, &again.1.schedule), "the same every time");
        let small = f.shrink(&Machine).unwrap();
        let r = small.repeat(&Machine).unwrap();
        assert_eq!(r.findings[0].rule, f.rule);
    }

    #[test]
    fn what_is_sound_stays_silent() {
        for (scheme, g) in [("s390-66", Geometry::S390x2k), ("ppc-66-fixed", Geometry::Ppc64Radix64k)] {
            let r = quick(scheme, g, 300);
            assert!(r.first.is_none(), "{scheme}: {:?}", r.first);
            assert_eq!((r.workloads, r.schedules), (300, 2400));
        }
    }
}

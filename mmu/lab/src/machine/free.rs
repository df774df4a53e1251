//! The same operations on real threads: every CPU a thread that does one random operation after the other, every walker a
//! thread, and one for RCU.

use super::ops::Cpu;
use super::race::{of_error, rcu, teardown};
use super::world::{Shared, boot, keep, memory};
use super::{knows, setup};
use crate::scenario::{Geometry, Op, Verb};
use crate::target::{Finding, LabError, RunOptions};
use crate::workload;
use racewalk_cpu::SpeculativeWalker;
use racewalk_mm::arch::Arch;
use racewalk_mm::{Failures, Gfp, Kernel, MmError, Variant, frames};
use racewalk_sched::controlled::Rng;
use racewalk_sched::{NO_CPU, set_this_cpu};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

/// A free run of a random workload.
#[derive(Clone, Copy, Debug)]
pub struct Free {
    /// The scheme.
    pub variant: Variant,
    /// Where.
    pub geometry: Geometry,
    /// CPUs, each with a walker beside it.
    pub cpus: u32,
    /// How long.
    pub time: Duration,
    /// Which operations are drawn; their order between CPUs is the host's.
    pub seed: u64,
}

/// What it showed.
#[derive(Clone, Debug, Default)]
pub struct Freed {
    /// Operations done.
    pub operations: u64,
    /// Walks of the speculative walkers.
    pub walks: u64,
    /// Tables handed out.
    pub tables: u64,
    /// What was found; anything left at the end is a finding too.
    pub findings: Vec<Finding>,
}

impl Free {
    /// Runs it.
    ///
    /// # Errors
    /// The scheme or the geometry is not there, or the machine cannot be set up.
    pub fn run(&self) -> Result<Freed, LabError> {
        if !knows(self.geometry, self.variant.scheme) {
            return Err(LabError::Geometry {
                scenario: "a random workload".into(),
                scheme: self.variant.to_string(),
                wanted: vec![self.geometry],
            });
        }
        on_geometry!(self.geometry, run(self))
    }
}

/// Mms of a run.
const MMS: usize = 2;
/// Pages of memory.
const FREE_PAGES: u64 = 512;
/// Operations between two looks at the clock.
const BURST: u32 = 16;

fn run<A: Arch>(f: &Free) -> Result<Freed, LabError> {
    let failed =
        |e: MmError| LabError::Setup { scenario: "a random workload".into(), problem: e.to_string() };
    // Two mms, mapped and loaded as the workloads have them.
    let mut scenario = workload::scenario(f.seed, f.geometry, f.cpus);
    scenario.cpus = f.cpus;
    let first = scenario.mms[0].clone();
    scenario.mms.resize(MMS, first);
    scenario.programs.clear();
    scenario.failures.clear();
    // Four huge pages at a time.
    let huge = if f.geometry.shape().deposits { 4 * f.geometry.shape().pages as u64 } else { 0 };
    let ram = memory((FREE_PAGES + huge) << A::PAGE_SHIFT).map_err(failed)?;
    let kernel = boot::<A>(
        &ram,
        f.variant,
        f.cpus,
        Default::default(),
        &RunOptions { states: false, ..RunOptions::default() },
        None,
    )
    .map_err(failed)?;
    let mms = setup::make(&scenario, &kernel).map_err(failed)?;
    kernel.set_failures(Failures::Chance { num: 1, den: 8, seed: f.seed, only: Some(Gfp::Nowait) });
    let shared = Arc::new(Shared { kernel: kernel.clone(), mms, left: AtomicUsize::new(f.cpus as usize) });
    let (operations, walks) = (AtomicU64::new(0), AtomicU64::new(0));
    let end = Instant::now() + f.time;
    std::thread::scope(|s| {
        for cpu in 0..f.cpus {
            let (shared, operations) = (&shared, &operations);
            s.spawn(move || {
                set_this_cpu(cpu);
                operations.fetch_add(program(shared, f, cpu, end), SeqCst);
                shared.one_less();
            });
            let walks = &walks;
            s.spawn(move || {
                let mut w = SpeculativeWalker::new(cpu, f.seed ^ cpu as u64);
                let mut n = 0;
                while shared.left.load(SeqCst) != 0 && w.step(shared.kernel.cpus()).is_ok() {
                    n += 1;
                }
                walks.fetch_add(n, SeqCst);
            });
        }
        s.spawn(|| rcu(&shared, &mut |_| {}));
        s.spawn(|| {
            let k = &shared.kernel;
            while shared.left.load(SeqCst) != 0 && !k.has_findings() {
                let news = k.rcu_news();
                (0..=f.cpus as usize).for_each(|cpu| k.rcu_help(cpu));
                k.rcu_wait(news, Duration::from_millis(10));
            }
        });
    });
    set_this_cpu(NO_CPU);
    if !kernel.has_findings() {
        teardown(&shared);
    }
    let findings = kernel.take_findings().iter().map(of_error).collect();
    let tables = kernel.stats().tables_allocated.get();
    finish(kernel, shared, ram);
    Ok(Freed { operations: operations.into_inner(), walks: walks.into_inner(), tables, findings })
}

fn finish<A: Arch>(kernel: Arc<Kernel<A>>, shared: Arc<Shared<A>>, ram: Arc<racewalk_ram::Ram>) {
    kernel.halt();
    drop(shared);
    drop(kernel);
    if frames::wipe(&ram).is_ok() {
        keep(ram);
    }
}

/// What one CPU does until `end`. Returns how many operations that were.
fn program<A: Arch>(shared: &Shared<A>, f: &Free, cpu: u32, end: Instant) -> u64 {
    let mut rng = Rng(f.seed.wrapping_mul(0x9e37_79b9) ^ (cpu as u64) << 32 | 1);
    let mut c = Cpu::new(shared, cpu);
    let (mut loaded, mut n) = (0, 0);
    while Instant::now() < end && !shared.kernel.has_findings() {
        for _ in 0..BURST {
            let Some(op) = workload::operation(&mut rng, loaded, MMS, f.geometry) else { continue };
            if op.verb == Verb::Switch {
                loaded = op.mm.unwrap_or(loaded);
            }
            let put = (op.verb == Verb::GetPage).then(|| Op { verb: Verb::PutPage, ..op.clone() });
            c.run(std::slice::from_ref(&op), n as u32);
            n += 1;
            if let Some(put) = put {
                c.run(&[put], n as u32);
                n += 1;
            }
        }
    }
    n
}

#[cfg(test)]
mod tests {
    use super::*;

    fn free(scheme: &str, geometry: Geometry, seed: u64) -> Freed {
        let variant = scheme.parse().unwrap();
        Free { variant, geometry, cpus: 3, time: Duration::from_millis(300), seed }.run().unwrap()
    }

    #[test]
    fn sound_schemes_are_silent_on_threads() {
        for (scheme, g) in [
            ("s390-61", Geometry::S390x2k),
            ("s390-66", Geometry::S390x2k),
            ("ppc-66-fixed", Geometry::Ppc64Radix64k),
            ("gen-defer", Geometry::Ppc64Radix4k),
        ] {
            let r = free(scheme, g, 1);
            assert!(r.findings.is_empty(), "{scheme}:\n{}", r.findings[0].text);
            assert!(r.operations > 100 && r.walks > 0, "{r:?}");
        }
    }

    #[test]
    fn a_flaw_shows_on_threads() {
        let found = (0..20).any(|seed| !free("s390-v1", Geometry::S390x2k, seed).findings.is_empty());
        assert!(found, "s390-v1 was silent in 20 runs");
    }
}

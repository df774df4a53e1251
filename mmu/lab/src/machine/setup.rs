//! What is done before the race, in no schedule.

use super::world::{page, segment};
use crate::scenario::{AllocKind, Failure, Scenario, SetupKind, Which};
use racewalk_cpu::Access;
use racewalk_mm::arch::Arch;
use racewalk_mm::{Failures, Gfp, Kernel, MapFlags, Mm, MmError, Prot, Result};
use racewalk_sched::{NO_CPU, set_this_cpu};
use std::sync::Arc;

/// Maps segment `n` with a file or with anonymous memory.
pub(super) fn map<A: Arch>(mm: &Mm<A>, n: u32, anon: bool) -> Result<()> {
    let span = A::LEVELS[A::LEVELS.len() - 2].span();
    let kind = if anon { MapFlags::PRIVATE } else { MapFlags::SHARED };
    let flags = MapFlags::FIXED | MapFlags::ANONYMOUS | kind;
    mm.mmap(segment::<A>(n).0, span, Prot::READ | Prot::WRITE, flags, None).map(drop)
}

/// Allocations that fail, as the mm is told.
fn plan(f: &Failure) -> Failures {
    let only = Some(match f.kind {
        AllocKind::Nowait => Gfp::Nowait,
        AllocKind::Atomic => Gfp::Atomic,
        AllocKind::Kernel => Gfp::Kernel,
    });
    match f.which {
        Which::Nth(n) => Failures::Nth { n: n as u64, only },
        Which::Every(n) => Failures::Every { n: n as u64, only },
    }
}

/// Makes the mms, loads them on the CPUs, and sets up failures. A finding is an error, and stays noted.
pub(super) fn make<A: Arch>(scenario: &Scenario, k: &Arc<Kernel<A>>) -> Result<Vec<Arc<Mm<A>>>> {
    set_this_cpu(NO_CPU);
    let mut mms = Vec::new();
    for m in &scenario.mms {
        let mm = k.mm_create()?;
        for s in &m.setup {
            for n in s.segments.0..s.segments.1 {
                match s.kind {
                    SetupKind::Unmap => {
                        mm.munmap(segment::<A>(n).0, A::LEVELS[A::LEVELS.len() - 2].span())?;
                    }
                    SetupKind::Huge => {
                        if !mm.huge_map(segment::<A>(n))? {
                            let what = format!("seg{n} of the set-up cannot be a huge page");
                            return Err(MmError::Config(what));
                        }
                    }
                    kind => {
                        map(&mm, n, kind == SetupKind::MapAnon)?;
                        for p in s.pages.map_or(0..0, |(a, b)| a..b) {
                            mm.fault_in(page::<A>(n, p), Access::Store).map_err(|s| {
                                MmError::Config(format!("a page of the set-up cannot be touched: {s}"))
                            })?;
                        }
                    }
                }
            }
        }
        mms.push(mm);
    }
    k.rcu_barrier();
    for cpu in 0..scenario.cpus {
        let loaded = scenario.programs.iter().find(|p| p.cpu == cpu).map_or(0, |p| p.loaded);
        if let Some(mm) = mms.get(loaded) {
            set_this_cpu(cpu);
            k.cpus().enter_kernel(cpu);
            mm.switch_to(cpu)?;
            k.cpus().exit_kernel(cpu);
        }
    }
    set_this_cpu(NO_CPU);
    k.set_failure_plans(scenario.failures.iter().map(plan).collect());
    if k.has_findings() {
        return Err(MmError::Config("the set-up has a finding".into()));
    }
    Ok(mms)
}

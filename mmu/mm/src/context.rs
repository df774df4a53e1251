//! Which CPUs run an address space, and which may hold translations of it.

use crate::arch::Arch;
use crate::error::Result;
use crate::kernel::{Kernel, MAX_CPUS};
use crate::mm::{Mm, mmw};
use racewalk_sched::{NO_CPU, point, this_cpu, tso};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

const MASK_WORDS: usize = (MAX_CPUS / 64) as usize;

pub(crate) fn set_cpu(mask: &[AtomicU64], cpu: u32) {
    tso::fence();
    mask[(cpu / 64) as usize].fetch_or(1 << (cpu % 64), SeqCst);
}

pub(crate) fn clear_cpu(mask: &[AtomicU64], cpu: u32) {
    tso::fence();
    mask[(cpu / 64) as usize].fetch_and(!(1 << (cpu % 64)), SeqCst);
}

/// Whether `mask` holds the current CPU and no other.
pub(crate) fn only_me(mask: &[AtomicU64]) -> bool {
    let me = this_cpu();
    me != NO_CPU
        && mask.iter().enumerate().all(|(i, w)| {
            let want = if i as u32 == me / 64 { 1 << (me % 64) } else { 0 };
            w.load(SeqCst) == want
        })
}

pub(crate) fn attach_mask(w: &[AtomicU64]) -> &[AtomicU64] {
    &w[mmw::ATTACH_MASK..][..MASK_WORDS]
}

pub(crate) fn cpu_mask(w: &[AtomicU64]) -> &[AtomicU64] {
    &w[mmw::CPU_MASK..][..MASK_WORDS]
}

/// Whether any CPU is attached.
pub(crate) fn attached(w: &[AtomicU64]) -> bool {
    attach_mask(w).iter().any(|m| m.load(SeqCst) != 0)
}

/// `switch_mm` of an architecture whose invalidations reach every CPU or every CPU that ran the space: attaches `cpu`,
/// which runs the caller, to `next`, or to no space.
pub(crate) fn switch<A: Arch>(k: &Kernel<A>, cpu: u32, next: Option<&Arc<Mm<A>>>) -> Result<()> {
    point("switch_mm");
    if let Some(mm) = next {
        let w = mm.words()?;
        set_cpu(attach_mask(w), cpu);
        set_cpu(cpu_mask(w), cpu);
    }
    let prev = k.active[cpu as usize].lock("active").take();
    A::load(&k.cpus, &k.machine, cpu, None);
    let same = prev.as_ref().zip(next).is_some_and(|(p, n)| Arc::ptr_eq(p, n));
    if let Some(prev) = prev
        && !same
    {
        clear_cpu(attach_mask(prev.words()?), cpu);
        prev.drop_if_last()?;
    }
    if let Some(mm) = next {
        *k.active[cpu as usize].lock("active") = Some(mm.clone());
        point("switch_mm.load");
        A::load(&k.cpus, &k.machine, cpu, Some(mm.context()));
    }
    Ok(())
}

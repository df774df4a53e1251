//! Which CPUs run an address space, and which may hold translations of it.

use crate::kernel::MAX_CPUS;
use crate::mm::mmw;
use racewalk_sched::{NO_CPU, this_cpu};
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

const MASK_WORDS: usize = (MAX_CPUS / 64) as usize;

pub(crate) fn set_cpu(mask: &[AtomicU64], cpu: u32) {
    mask[(cpu / 64) as usize].fetch_or(1 << (cpu % 64), SeqCst);
}

pub(crate) fn clear_cpu(mask: &[AtomicU64], cpu: u32) {
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

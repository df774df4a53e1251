//! Helpers of the tests.

use crate::kernel::{Config, Kernel};
use racewalk_cpu::Cpus;
use racewalk_ram::Ram;
use racewalk_sched::controlled::{self, End, Random};
use std::sync::Arc;

/// 16 MiB, most of it free.
pub(crate) fn boot(cpus: u32) -> (Arc<Kernel>, Arc<Cpus>) {
    boot_with(cpus, Config { reserved: 1 << 20, max_mms: 16, ..Config::default() })
}

pub(crate) fn boot_with(cpus: u32, config: Config) -> (Arc<Kernel>, Arc<Cpus>) {
    let ram = Arc::new(Ram::new(16 << 20).unwrap());
    let c = Cpus::new(ram.clone(), cpus);
    (Kernel::new(ram, c.clone(), config).unwrap(), c)
}

/// A controlled run with random choices that must finish.
pub(crate) fn run_controlled(seed: u64, f: impl FnOnce() + 'static) {
    let out = controlled::run(Default::default(), &mut Random::new(seed), f);
    assert_eq!(out.end, End::Finished, "seed {seed}: {}", out.schedule);
}

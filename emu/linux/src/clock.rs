//! Time as the guest sees it.

use rustix::time::{ClockId, clock_gettime};
use std::time::Duration;

/// The host's clocks, passed through.
#[derive(Debug)]
pub struct HostClock;

/// Microseconds from 1900 to 1970, when the TOD clock counts from and when Unix does.
const EPOCH_US: u64 = 2_208_988_800_000_000;

impl racewalk_engine::mmu::Clock for HostClock {
    fn tod(&self) -> u64 {
        let t = clock_gettime(ClockId::Realtime);
        let us = t.tv_sec as u64 * 1_000_000 + t.tv_nsec as u64 / 1000;
        let frac = (t.tv_nsec as u64 % 1000) * 4096 / 1000;
        // Bit 51 of the TOD clock is a microsecond.
        (us + EPOCH_US) << 12 | frac
    }
}

/// The host clock for a Linux clock id, if racewalk has it.
pub fn host_clock(id: u64) -> Option<ClockId> {
    Some(match id {
        0 => ClockId::Realtime,
        1 => ClockId::Monotonic,
        2 => ClockId::ProcessCPUTime,
        3 => ClockId::ThreadCPUTime,
        4 => ClockId::MonotonicRaw,
        5 => ClockId::RealtimeCoarse,
        6 => ClockId::MonotonicCoarse,
        7 => ClockId::Boottime,
        _ => return None,
    })
}

/// Now on a clock, since its epoch.
pub fn now(clock: ClockId) -> Duration {
    let t = clock_gettime(clock);
    Duration::new(t.tv_sec.max(0) as u64, t.tv_nsec as u32)
}

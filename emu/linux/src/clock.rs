//! Time as the guest sees it: the host's clocks; in a controlled run virtual time, which passes while every task waits, and a
//! little with every instruction and whenever the guest reads a clock.

use racewalk_sched::{pass_time, virtual_now};
use rustix::time::{ClockId, clock_gettime};
use std::time::Duration;

/// The time-of-day clock.
#[derive(Debug)]
pub struct GuestClock;

/// Microseconds from 1900 to 1970, when the TOD clock counts from and when Unix does.
const EPOCH_US: u64 = 2_208_988_800_000_000;

/// Seconds since 1970 at which virtual time starts: the beginning of 2025.
const VIRTUAL_START: u64 = 1_735_689_600;

impl racewalk_engine::mmu::Clock for GuestClock {
    fn tod(&self) -> u64 {
        let t = read(ClockId::Realtime);
        let frac = (t.subsec_nanos() as u64 % 1000) * 4096 / 1000;
        // Bit 51 of the TOD clock is a microsecond.
        (t.as_micros() as u64 + EPOCH_US) << 12 | frac
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

/// How much virtual time passes when the guest reads a clock: a guest that works until some time has come gets there.
const READ: Duration = Duration::from_micros(1);

/// The guest reads a clock: the time since its epoch.
pub fn read(clock: ClockId) -> Duration {
    pass_time(READ);
    now(clock)
}

/// Now on a clock, since its epoch.
pub fn now(clock: ClockId) -> Duration {
    match virtual_now() {
        Some(t) if matches!(clock, ClockId::Realtime | ClockId::RealtimeCoarse) => {
            t + Duration::from_secs(VIRTUAL_START)
        }
        Some(t) => t,
        None => {
            let t = clock_gettime(clock);
            Duration::new(t.tv_sec.max(0) as u64, t.tv_nsec as u32)
        }
    }
}

/// A point in time for deadlines.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Moment(Duration);

impl Moment {
    /// Now.
    pub fn now() -> Moment {
        Moment(now(ClockId::Monotonic))
    }
    /// `d` from now; so far away that it never comes if that is out of range.
    pub fn after(d: Duration) -> Moment {
        Moment::now() + d
    }
    /// Time from `earlier` to this one, zero if it was not earlier.
    pub fn since(self, earlier: Moment) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
    /// Time from now on.
    pub fn left(self) -> Duration {
        self.since(Moment::now())
    }
}

impl std::ops::Add<Duration> for Moment {
    type Output = Moment;
    fn add(self, d: Duration) -> Moment {
        Moment(self.0.saturating_add(d))
    }
}

//! timerfd_create(2): a timer that is read.

use super::{Changes, Object, locked};
use crate::clock::Moment;
use rustix::event::PollFlags;
use rustix::time::ClockId;
use std::sync::{Arc, Mutex};
use std::time::Duration;

#[derive(Debug, Default)]
struct State {
    next: Option<Moment>,
    interval: Duration,
    /// It was set since the start.
    armings: u64,
    /// Expiries that were read or passed by setting it again.
    past: u64,
}

/// A timerfd.
#[derive(Debug)]
pub(crate) struct TimerFd {
    /// Its clock.
    pub(crate) clock: ClockId,
    state: Mutex<State>,
    changes: Arc<Changes>,
}

impl State {
    /// Expiries since the last read.
    fn expiries(&self) -> u64 {
        match self.next {
            Some(at) if at <= Moment::now() && self.interval.is_zero() => 1,
            Some(at) if at <= Moment::now() => {
                let n = Moment::now().since(at).as_nanos() / self.interval.as_nanos() + 1;
                u64::try_from(n).unwrap_or(u64::MAX)
            }
            _ => 0,
        }
    }
    /// When it expires after `n` expiries from `next` on.
    fn after(&self, n: u64) -> Option<Moment> {
        match (n, self.interval.is_zero()) {
            (0, _) => self.next,
            (_, true) => None,
            (n, _) => {
                let n = u32::try_from(n).unwrap_or(u32::MAX);
                self.next.map(|at| at + self.interval.saturating_mul(n))
            }
        }
    }
}

impl TimerFd {
    /// A timer that is not armed.
    pub(crate) fn new(clock: ClockId, changes: Arc<Changes>) -> Self {
        TimerFd { clock, state: Mutex::default(), changes }
    }
    /// Expiries since the last read; `None` if there was none.
    pub(crate) fn read(&self) -> Option<u64> {
        let mut s = locked(&self.state);
        let n = s.expiries();
        s.next = s.after(n);
        s.past += n;
        (n != 0).then_some(n)
    }
    /// Time to the next expiry (zero: not armed), and the interval.
    pub(crate) fn left(&self) -> (Duration, Duration) {
        let s = locked(&self.state);
        let next = s.after(s.expiries());
        // A timer that is armed never says zero.
        (next.map_or(Duration::ZERO, |t| t.left().max(Duration::from_nanos(1))), s.interval)
    }
    /// Arms it to expire after `first` (`None`: disarms it), then every `interval`; returns what
    /// [`left`](Self::left) said before.
    pub(crate) fn arm(&self, first: Option<Duration>, interval: Duration) -> (Duration, Duration) {
        let old = self.left();
        {
            let mut s = locked(&self.state);
            s.next = first.map(Moment::after);
            s.interval = interval;
            s.armings += 1;
        }
        self.changes.announce();
        old
    }
}

impl Object for TimerFd {
    fn events(&self) -> PollFlags {
        if locked(&self.state).expiries() != 0 { PollFlags::IN } else { PollFlags::empty() }
    }
    fn edges(&self) -> u64 {
        let s = locked(&self.state);
        s.past.wrapping_add(s.expiries()).wrapping_add(s.armings << 32)
    }
    fn due(&self) -> Option<Moment> {
        locked(&self.state).next.filter(|&t| t > Moment::now())
    }
}

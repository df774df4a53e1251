//! Interval timers and POSIX timers: deadlines, and a host thread that sleeps until the next one.

use crate::clock::Moment;
use crate::errno::Errno;
use crate::signal::{Info, SIGALRM};
use crate::system::System;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The timer of `setitimer(ITIMER_REAL)` and `alarm`.
pub(crate) const REAL: u32 = u32::MAX;
/// Timers of one process.
const LIMIT: usize = 4096;

/// What a timer does when it expires.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Notify {
    /// Nothing (SIGEV_NONE).
    Nothing,
    /// SIGALRM, for the process.
    Alarm,
    /// A signal for the process, or for one task.
    Signal { sig: u32, value: u64, task: Option<u32> },
}

#[derive(Debug)]
struct Timer {
    clock: u64,
    notify: Notify,
    expires: Option<Moment>,
    interval: Duration,
    /// Expiries since the pending signal was sent.
    missed: u32,
    /// What `timer_getoverrun` answers.
    overrun: u32,
}

#[derive(Debug, Default)]
struct State {
    timers: BTreeMap<u32, Timer>,
    next_id: u32,
    /// The host thread runs.
    running: bool,
}

/// All timers of a process.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    // A host lock: never held across a scheduling point.
    state: Mutex<State>,
    changes: AtomicU64,
}

impl Timers {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the timer thread look again.
    pub(crate) fn look(&self) {
        self.changes.fetch_add(1, SeqCst);
        racewalk_sched::wake(std::ptr::from_ref(&self.changes) as usize);
    }

    /// A new timer that is not armed; `notify` may depend on its number.
    pub(crate) fn create(&self, clock: u64, notify: impl FnOnce(u32) -> Notify) -> Result<u32, Errno> {
        let mut s = self.state();
        if s.timers.len() >= LIMIT {
            return Err(Errno::EAGAIN);
        }
        let id = s.next_id;
        s.next_id += 1;
        let notify = notify(id);
        let interval = Duration::ZERO;
        s.timers.insert(id, Timer { clock, notify, expires: None, interval, missed: 0, overrun: 0 });
        Ok(id)
    }

    /// Removes a timer.
    pub(crate) fn delete(&self, id: u32) -> Result<(), Errno> {
        self.state().timers.remove(&id).map(drop).ok_or(Errno::EINVAL)
    }

    /// The clock of a timer.
    pub(crate) fn clock(&self, id: u32) -> Result<u64, Errno> {
        self.state().timers.get(&id).map(|t| t.clock).ok_or(Errno::EINVAL)
    }

    /// Time to the next expiry (zero: not armed) and interval.
    pub(crate) fn left(&self, id: u32) -> Result<(Duration, Duration), Errno> {
        let s = self.state();
        match s.timers.get(&id) {
            Some(t) => Ok((left(t), t.interval)),
            None if id == REAL => Ok((Duration::ZERO, Duration::ZERO)),
            None => Err(Errno::EINVAL),
        }
    }

    /// Expiries that were not signalled.
    pub(crate) fn overrun(&self, id: u32) -> Result<u32, Errno> {
        self.state().timers.get(&id).map(|t| t.overrun).ok_or(Errno::EINVAL)
    }

    /// A task takes a timer's signal: fills in how many expiries it stands for.
    pub(crate) fn note_taken(&self, info: &mut Info) {
        let Some(id) = info.timer_id() else { return };
        if let Some(t) = self.state().timers.get_mut(&id) {
            t.overrun = std::mem::take(&mut t.missed);
            info.set_overrun(t.overrun);
        }
    }

    /// Arms a timer to expire after `first` (zero: disarms it), then every `interval`; returns what
    /// [`left`](Self::left) said before.
    pub(crate) fn arm(
        &self,
        sys: &Arc<System>,
        id: u32,
        first: Option<Duration>,
        interval: Duration,
    ) -> Result<(Duration, Duration), Errno> {
        let start = {
            let mut s = self.state();
            if id == REAL {
                s.timers.entry(REAL).or_insert(Timer {
                    clock: 0,
                    notify: Notify::Alarm,
                    expires: None,
                    interval: Duration::ZERO,
                    missed: 0,
                    overrun: 0,
                });
            }
            let t = s.timers.get_mut(&id).ok_or(Errno::EINVAL)?;
            let old = (left(t), t.interval);
            t.expires = first.map(Moment::after);
            t.interval = interval;
            t.missed = 0;
            let start = t.expires.is_some() && !s.running;
            s.running |= start;
            (start, old)
        };
        if start.0 {
            let sys = sys.clone();
            let run = move || run(&sys);
            if racewalk_sched::controlled::active() {
                racewalk_sched::controlled::spawn("timers", run);
            } else if std::thread::Builder::new().name("timers".into()).spawn(run).is_err() {
                self.state().running = false;
                return Err(Errno::EAGAIN);
            }
        }
        self.look();
        Ok(start.1)
    }

    /// Re-arms what is due and says what it does, and when the next one is due.
    fn due(&self, sys: &System) -> (Vec<(u32, Notify)>, Option<Moment>) {
        let now = Moment::now();
        let mut s = self.state();
        let mut fired = Vec::new();
        for (&id, t) in &mut s.timers {
            let Some(at) = t.expires.filter(|&e| e <= now) else { continue };
            let mut times = 1;
            t.expires = if t.interval.is_zero() {
                None
            } else {
                let n = now.since(at).as_nanos() / t.interval.as_nanos() + 1;
                times = u32::try_from(n).unwrap_or(u32::MAX);
                Some(at + t.interval.saturating_mul(times))
            };
            let queued = match t.notify {
                Notify::Signal { task: Some(tid), .. } => {
                    sys.task(tid).is_some_and(|x| x.pending.has_timer(id))
                }
                _ => sys.pending.has_timer(id),
            };
            t.missed = t.missed.saturating_add(times - !queued as u32);
            if !queued {
                fired.push((id, t.notify));
            }
        }
        let next = s.timers.values().filter_map(|t| t.expires).min();
        s.running = !fired.is_empty() || next.is_some();
        (fired, next)
    }
}

fn left(t: &Timer) -> Duration {
    // A timer that is armed never says zero.
    t.expires.map_or(Duration::ZERO, |e| e.left().max(Duration::from_micros(1)))
}

fn run(sys: &Arc<System>) {
    let timers = &sys.timers;
    loop {
        let seen = timers.changes.load(SeqCst);
        let (fired, next) = timers.due(sys);
        for (id, n) in &fired {
            // A full queue loses the signal, as in Linux.
            let _ = match *n {
                Notify::Nothing => Ok(()),
                Notify::Alarm => sys.signal_process(Info::kernel(SIGALRM)),
                Notify::Signal { sig, value, task: None } => sys.signal_process(Info::timer(sig, *id, value)),
                Notify::Signal { sig, value, task: Some(tid) } => match sys.task(tid) {
                    Some(t) => sys.signal_task(&t, Info::timer(sig, *id, value)),
                    None => Ok(()),
                },
            };
        }
        if sys.ending() || fired.is_empty() && next.is_none() {
            return;
        }
        if let Some(at) = next {
            let key = std::ptr::from_ref(&timers.changes) as usize;
            racewalk_sched::wait_while_timeout(key, "timer.wait", at.left(), || {
                timers.changes.load(SeqCst) == seen && !sys.ending()
            });
        }
    }
}

//! Clocks and sleeping.

use super::{Args, Handler};
use crate::clock::{Moment, host_clock, now, read};
use crate::errno::{Errno, SysResult};
use crate::task::{Task, Woken};
use crate::timer::{self, Notify};
use rustix::time::ClockId;
use std::time::Duration;

pub(super) fn find(name: &str) -> Option<Handler> {
    Some(match name {
        "clock_gettime" => |t, a| {
            let c = host_clock(a[0]).ok_or(Errno::EINVAL)?;
            put_timespec(t, a[1], read(c))
        },
        "clock_getres" => |t, a| {
            host_clock(a[0]).ok_or(Errno::EINVAL)?;
            if a[1] == 0 { Ok(0) } else { put_timespec(t, a[1], Duration::from_nanos(1)) }
        },
        "gettimeofday" => |t, a| {
            let d = read(ClockId::Realtime);
            if a[0] != 0 {
                t.put_u64(a[0], d.as_secs())?;
                t.put_u64(a[0].wrapping_add(8), d.subsec_micros() as u64)?;
            }
            Ok(0)
        },
        "nanosleep" => |t, a| {
            let d = get_timespec(t, a[0])?;
            sleep_for(t, d, a[1])
        },
        "alarm" => |t, a| {
            let d = Duration::from_secs(a[0] as u32 as u64);
            let first = (!d.is_zero()).then_some(d);
            let (left, _) = t.sys.timers.arm(&t.sys, timer::REAL, first, Duration::ZERO)?;
            let up = left.subsec_micros() >= 500_000 || left.as_secs() == 0 && !left.is_zero();
            Ok(left.as_secs() + up as u64)
        },
        "setitimer" => setitimer,
        "getitimer" => getitimer,
        "timer_create" => timer_create,
        "timer_settime" => timer_settime,
        "timer_gettime" => |t, a| {
            let (value, interval) = t.sys.timers.left(a[0] as u32)?;
            put_itimer(t, a[1], interval, value, NANOSECONDS)
        },
        "timer_getoverrun" => |t, a| t.sys.timers.overrun(a[0] as u32).map(u64::from),
        "timer_delete" => |t, a| t.sys.timers.delete(a[0] as u32).map(|()| 0),
        "clock_nanosleep" => clock_nanosleep,
        _ => return None,
    })
}

pub(super) fn put_timespec(t: &Task, addr: u64, d: Duration) -> SysResult {
    t.put_u64(addr, d.as_secs())?;
    t.put_u64(addr.wrapping_add(8), d.subsec_nanos() as u64)?;
    Ok(0)
}

/// Reads a `struct timespec` that says how long.
pub(crate) fn get_timespec(t: &Task, addr: u64) -> Result<Duration, Errno> {
    let (s, ns) = (t.get_u64(addr)?, t.get_u64(addr.wrapping_add(8))?);
    if (s as i64) < 0 || ns >= 1_000_000_000 {
        return Err(Errno::EINVAL);
    }
    Ok(Duration::new(s, ns as u32))
}

/// Reads a `struct itimerspec` or `itimerval`: interval and value. `unit` is what a second has of its fractions.
pub(super) fn get_itimer(t: &Task, addr: u64, unit: u32) -> Result<(Duration, Duration), Errno> {
    let read = |at: u64| {
        let (s, f) = (t.get_u64(at)?, t.get_u64(at.wrapping_add(8))?);
        if (s as i64) < 0 || f >= unit as u64 {
            return Err(Errno::EINVAL);
        }
        Ok(Duration::new(s, f as u32 * (1_000_000_000 / unit)))
    };
    Ok((read(addr)?, read(addr.wrapping_add(16))?))
}

pub(super) fn put_itimer(t: &Task, addr: u64, interval: Duration, value: Duration, unit: u32) -> SysResult {
    for (i, d) in [interval, value].into_iter().enumerate() {
        let at = addr.wrapping_add(i as u64 * 16);
        t.put_u64(at, d.as_secs())?;
        t.put_u64(at.wrapping_add(8), (d.subsec_nanos() / (1_000_000_000 / unit)) as u64)?;
    }
    Ok(0)
}

const MICROSECONDS: u32 = 1_000_000;
pub(super) const NANOSECONDS: u32 = 1_000_000_000;

fn setitimer(t: &mut Task, a: Args) -> SysResult {
    match a[0] {
        0 => {}
        1 | 2 => return t.sys.not_modelled("timers of CPU time (setitimer)", Errno::EINVAL),
        _ => return Err(Errno::EINVAL),
    }
    let (interval, value) = if a[1] != 0 { get_itimer(t, a[1], MICROSECONDS)? } else { Default::default() };
    let first = (!value.is_zero()).then_some(value);
    let old = t.sys.timers.arm(&t.sys, timer::REAL, first, interval)?;
    if a[2] != 0 { put_itimer(t, a[2], old.1, old.0, MICROSECONDS) } else { Ok(0) }
}

fn getitimer(t: &mut Task, a: Args) -> SysResult {
    let (value, interval) = match a[0] {
        0 => t.sys.timers.left(timer::REAL)?,
        1 | 2 => Default::default(),
        _ => return Err(Errno::EINVAL),
    };
    put_itimer(t, a[1], interval, value, MICROSECONDS)
}

fn timer_create(t: &mut Task, a: Args) -> SysResult {
    if matches!(a[0], 2 | 3) {
        return t.sys.not_modelled("timers of CPU time (timer_create)", Errno::EINVAL);
    }
    host_clock(a[0]).ok_or(Errno::EINVAL)?;
    const SIGEV_NONE: u32 = 1;
    const SIGEV_THREAD_ID: u32 = 4;
    let given = if a[1] == 0 {
        None
    } else {
        let value = t.get_u64(a[1])?;
        let (sig, how) = (t.get_u32(a[1].wrapping_add(8))?, t.get_u32(a[1].wrapping_add(12))?);
        let task = if how & SIGEV_THREAD_ID != 0 { Some(t.get_u32(a[1].wrapping_add(16))?) } else { None };
        if task.is_some_and(|tid| t.sys.task(tid).is_none()) || how > SIGEV_THREAD_ID {
            return Err(Errno::EINVAL);
        }
        match how {
            SIGEV_NONE => Some(Notify::Nothing),
            _ if sig == 0 || sig > 64 => return Err(Errno::EINVAL),
            _ => Some(Notify::Signal { sig, value, task }),
        }
    };
    let alarm =
        |id: u32| Notify::Signal { sig: crate::signal::SIGALRM, value: (id as u64) << 32, task: None };
    let id = t.sys.timers.create(a[0], |id| given.unwrap_or(alarm(id)))?;
    if let Err(e) = t.put_u32(a[2], id) {
        t.sys.timers.delete(id)?;
        return Err(e);
    }
    Ok(0)
}

fn timer_settime(t: &mut Task, a: Args) -> SysResult {
    let id = a[0] as u32;
    let (interval, value) = get_itimer(t, a[2], NANOSECONDS)?;
    let clock = host_clock(t.sys.timers.clock(id)?).ok_or(Errno::EINVAL)?;
    let first = match a[1] & TIMER_ABSTIME {
        _ if value.is_zero() => None,
        0 => Some(value),
        _ => Some(value.saturating_sub(now(clock))),
    };
    let old = t.sys.timers.arm(&t.sys, id, first, interval)?;
    if a[3] != 0 { put_itimer(t, a[3], old.1, old.0, NANOSECONDS) } else { Ok(0) }
}

/// Sleeps until `end`; a signal cuts it short.
fn rest(t: &mut Task, d: Duration) -> (Woken, Moment) {
    let end = t.deadline.take().unwrap_or_else(|| Moment::after(d));
    let key = super::signal::own_key(t);
    (t.sleep(key, Some(end.left()), || true), end)
}

/// Sleeps for `d`; when a signal cuts it short, `left` is where the rest goes.
fn sleep_for(t: &mut Task, d: Duration, left: u64) -> SysResult {
    let (woken, end) = rest(t, d);
    if woken == Woken::TimedOut {
        return Ok(0);
    }
    if left != 0 {
        put_timespec(t, left, end.left())?;
    }
    t.deadline = Some(end);
    Err(Errno::ERESTART_RESTARTBLOCK)
}

const TIMER_ABSTIME: u64 = 1;

fn clock_nanosleep(t: &mut Task, a: Args) -> SysResult {
    let clock = host_clock(a[0]).ok_or(Errno::EINVAL)?;
    let d = get_timespec(t, a[2])?;
    if a[1] & TIMER_ABSTIME == 0 {
        return sleep_for(t, d, a[3]);
    }
    match rest(t, d.saturating_sub(now(clock))).0 {
        Woken::TimedOut => Ok(0),
        _ => Err(Errno::ERESTARTNOHAND),
    }
}

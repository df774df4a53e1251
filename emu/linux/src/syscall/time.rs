//! Clocks and sleeping.

use super::{Args, Handler};
use crate::clock::{host_clock, now};
use crate::errno::{Errno, SysResult};
use crate::task::Task;
use rustix::time::ClockId;
use std::time::Duration;

pub(super) fn find(name: &str) -> Option<Handler> {
    Some(match name {
        "clock_gettime" => |t, a| {
            let c = host_clock(a[0]).ok_or(Errno::EINVAL)?;
            put_timespec(t, a[1], now(c))
        },
        "clock_getres" => |t, a| {
            host_clock(a[0]).ok_or(Errno::EINVAL)?;
            if a[1] == 0 { Ok(0) } else { put_timespec(t, a[1], Duration::from_nanos(1)) }
        },
        "gettimeofday" => |t, a| {
            let d = now(ClockId::Realtime);
            if a[0] != 0 {
                t.put_u64(a[0], d.as_secs())?;
                t.put_u64(a[0].wrapping_add(8), d.subsec_micros() as u64)?;
            }
            Ok(0)
        },
        "nanosleep" => |t, a| {
            let d = get_timespec(t, a[0])?;
            rest(t, d)
        },
        "clock_nanosleep" => clock_nanosleep,
        _ => return None,
    })
}

fn put_timespec(t: &Task, addr: u64, d: Duration) -> SysResult {
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

fn rest(t: &mut Task, d: Duration) -> SysResult {
    // A key that nobody wakes but the end of the process.
    let key = std::sync::Arc::as_ptr(&t.shared) as usize;
    t.sleep(key, Some(d), || true);
    t.sys.interrupted().map_or(Ok(0), Err)
}

fn clock_nanosleep(t: &mut Task, a: Args) -> SysResult {
    let clock = host_clock(a[0]).ok_or(Errno::EINVAL)?;
    let d = get_timespec(t, a[2])?;
    const TIMER_ABSTIME: u64 = 1;
    rest(t, if a[1] & TIMER_ABSTIME != 0 { d.saturating_sub(now(clock)) } else { d })
}

//! What a process may ask about itself and the machine.

use super::{Args, Handler, Record};
use crate::errno::{Errno, SysResult};
use crate::system::FIRST_PID;
use crate::task::Task;

const FIELD: usize = 65;
/// The guest's stack limit in bytes (RLIMIT_STACK).
pub(crate) const STACK_LIMIT: u64 = 8 << 20;

pub(super) fn find(name: &str) -> Option<Handler> {
    Some(match name {
        "getpid" => |_, _| Ok(FIRST_PID as u64),
        "getppid" => |_, _| Ok(1),
        "getuid" => |_, _| Ok(rustix::process::getuid().as_raw() as u64),
        "geteuid" => |_, _| Ok(rustix::process::geteuid().as_raw() as u64),
        "getgid" => |_, _| Ok(rustix::process::getgid().as_raw() as u64),
        "getegid" => |_, _| Ok(rustix::process::getegid().as_raw() as u64),
        "getpgrp" | "getsid" => |_, _| Ok(FIRST_PID as u64),
        "uname" => uname,
        "sysinfo" => sysinfo,
        "getrlimit" => |t, a| limit(t, a[0], a[1]),
        "prlimit64" => |t, a| {
            if a[0] != 0 && a[0] != FIRST_PID as u64 {
                return Err(Errno::ESRCH);
            }
            if a[2] != 0 {
                // Limits cannot be changed; a request that changes nothing is granted.
                let (soft, hard) = (t.get_u64(a[2])?, t.get_u64(a[2].wrapping_add(8))?);
                if (soft, hard) != limits(a[1])? {
                    t.sys.warn_once("not modelled: changing resource limits: EPERM".into());
                    return Err(Errno::EPERM);
                }
            }
            if a[3] != 0 { limit(t, a[1], a[3]) } else { Ok(0) }
        },
        "getrusage" => getrusage,
        "times" => times,
        "getrandom" => |t, a| {
            let n = a[1].min(1 << 20);
            let mut b = vec![0; n as usize];
            t.sys.fill_random(&mut b);
            t.copy_out(a[0], &b)?;
            Ok(n)
        },
        "getcpu" => |t, a| {
            if a[0] != 0 {
                t.put_u32(a[0], racewalk_sched::this_cpu())?;
            }
            if a[1] != 0 {
                t.put_u32(a[1], 0)?;
            }
            Ok(0)
        },
        _ => return None,
    })
}

fn uname(t: &mut Task, a: Args) -> SysResult {
    let host = rustix::system::uname();
    let mut r = Record::new(6 * FIELD);
    let node = host.nodename().to_bytes();
    let fields: [&[u8]; 5] = [b"Linux", &node[..node.len().min(64)], b"6.6.0-racewalk", b"#1 SMP", b"s390x"];
    for (i, f) in fields.into_iter().enumerate() {
        r.bytes(i * FIELD, f);
    }
    r.put(t, a[0])?;
    Ok(0)
}

fn sysinfo(t: &mut Task, a: Args) -> SysResult {
    // struct sysinfo: uptime, loads[3], totalram, freeram, sharedram, bufferram, totalswap, freeswap, procs, …,
    // mem_unit at 104.
    let mut r = Record::new(112);
    r.u64(0, t.sys.started.elapsed().as_secs());
    r.u64(32, t.sys.cpus.ram().size());
    r.u64(40, t.sys.kernel.free_frames() << 12);
    r.u16(80, t.sys.live() as u16).u32(104, 1);
    r.put(t, a[0])?;
    Ok(0)
}

fn limits(resource: u64) -> Result<(u64, u64), Errno> {
    const INFINITY: u64 = u64::MAX;
    Ok(match resource {
        3 => (STACK_LIMIT, INFINITY),
        4 => (0, INFINITY),
        7 => (1024, 1024),
        0..=15 => (INFINITY, INFINITY),
        _ => return Err(Errno::EINVAL),
    })
}

fn limit(t: &Task, resource: u64, out: u64) -> SysResult {
    let (soft, hard) = limits(resource)?;
    let mut r = Record::new(16);
    r.u64(0, soft).u64(8, hard);
    r.put(t, out)?;
    Ok(0)
}

fn getrusage(t: &mut Task, a: Args) -> SysResult {
    if !matches!(a[0] as i32, -1..=1) {
        return Err(Errno::EINVAL);
    }
    let used = crate::clock::now(rustix::time::ClockId::ProcessCPUTime);
    let mut r = Record::new(144);
    if a[0] as i32 != -1 {
        r.u64(0, used.as_secs()).u64(8, used.subsec_micros() as u64);
        let frames = (t.sys.cpus.ram().size() >> 12) - t.sys.kernel.free_frames();
        r.u64(32, frames * 4);
    }
    r.put(t, a[1])?;
    Ok(0)
}

fn times(t: &mut Task, a: Args) -> SysResult {
    let ticks = |d: std::time::Duration| d.as_millis() as u64 / 10;
    if a[0] != 0 {
        let mut r = Record::new(32);
        r.u64(0, ticks(crate::clock::now(rustix::time::ClockId::ProcessCPUTime)));
        r.put(t, a[0])?;
    }
    Ok(ticks(crate::clock::now(rustix::time::ClockId::Monotonic)))
}

//! What a process may ask about itself and the machine.

use super::{Args, Handler, Record};
use crate::clock::now;
use crate::errno::{Errno, SysResult};
use crate::host;
use crate::system::FIRST_PID;
use crate::task::Task;
use rustix::time::ClockId;

const FIELD: usize = 65;
/// The guest's stack limit in bytes (RLIMIT_STACK).
pub(crate) const STACK_LIMIT: u64 = 8 << 20;

pub(super) fn find(name: &str) -> Option<Handler> {
    Some(match name {
        "getpid" => |_, _| Ok(FIRST_PID as u64),
        "getppid" => |_, _| Ok(1),
        "getuid" => |_, _| Ok(host::ask_simply("getuid", "", || rustix::process::getuid().as_raw()) as u64),
        "geteuid" => {
            |_, _| Ok(host::ask_simply("geteuid", "", || rustix::process::geteuid().as_raw()) as u64)
        }
        "getgid" => |_, _| Ok(host::ask_simply("getgid", "", || rustix::process::getgid().as_raw()) as u64),
        "getegid" => {
            |_, _| Ok(host::ask_simply("getegid", "", || rustix::process::getegid().as_raw()) as u64)
        }
        "getpgrp" | "getsid" => |_, _| Ok(FIRST_PID as u64),
        "uname" => uname,
        "sysinfo" => sysinfo,
        "getrlimit" => |t, a| {
            let old = limits(t, a[0], None)?;
            put_limit(t, a[1], old)
        },
        "setrlimit" => |t, a| {
            let new = (t.get_u64(a[1])?, t.get_u64(a[1].wrapping_add(8))?);
            limits(t, a[0], Some(new)).map(|_| 0)
        },
        "prlimit64" => |t, a| {
            if a[0] != 0 && a[0] != FIRST_PID as u64 {
                return Err(Errno::ESRCH);
            }
            let new = match a[2] {
                0 => None,
                p => Some((t.get_u64(p)?, t.get_u64(p.wrapping_add(8))?)),
            };
            let old = limits(t, a[1], new)?;
            if a[3] != 0 { put_limit(t, a[3], old) } else { Ok(0) }
        },
        "getrusage" => getrusage,
        "times" => times,
        "getrandom" => |t, a| {
            const RANDOM: u64 = 2;
            const INSECURE: u64 = 4;
            if a[2] & !7 != 0 || a[2] & (RANDOM | INSECURE) == RANDOM | INSECURE {
                return Err(Errno::EINVAL);
            }
            let n = a[1].min(1 << 20);
            let mut b = vec![0; n as usize];
            t.sys.fill_random(&mut b);
            t.copy_out(a[0], &b)?;
            Ok(n)
        },
        "prctl" => prctl,
        "membarrier" => membarrier,
        "personality" => |_, _| Ok(0),
        // The answer is 20 - nice.
        "getpriority" => |_, _| Ok(20),
        "setpriority" | "nice" => |_, _| Ok(0),
        "capget" => capget,
        "getgroups" => |_, _| Ok(0),
        "getresuid" => |t, a| {
            let e = host::ask_simply("geteuid", "", || rustix::process::geteuid().as_raw());
            t.put_u32(a[0], host::ask_simply("getuid", "", || rustix::process::getuid().as_raw()))?;
            t.put_u32(a[1], e)?;
            t.put_u32(a[2], e).map(|()| 0)
        },
        "getresgid" => |t, a| {
            let e = host::ask_simply("getegid", "", || rustix::process::getegid().as_raw());
            t.put_u32(a[0], host::ask_simply("getgid", "", || rustix::process::getgid().as_raw()))?;
            t.put_u32(a[1], e)?;
            t.put_u32(a[2], e).map(|()| 0)
        },
        "getpgid" => |_, _| Ok(FIRST_PID as u64),
        // No children.
        "wait4" | "waitid" => |_, _| Err(Errno::ECHILD),
        "sched_getscheduler" => |_, _| Ok(0),
        "sched_setparam" => |_, _| Ok(0),
        "sched_setscheduler" => |_, a| match a[1] as u32 {
            // Only SCHED_OTHER, which has no parameter.
            0 => Ok(0),
            _ => Err(Errno::EPERM),
        },
        "sched_getparam" => |t, a| t.put_u32(a[1], 0).map(|()| 0),
        "sched_get_priority_max" | "sched_get_priority_min" => |_, a| match a[0] {
            1 | 2 => Ok(1),
            0 | 3 | 5 => Ok(0),
            _ => Err(Errno::EINVAL),
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
    let mut r = Record::new(6 * FIELD);
    let node = host::ask_simply("uname", "", || rustix::system::uname().nodename().to_bytes().to_vec());
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
    r.u64(0, now(ClockId::Boottime).as_secs());
    r.u64(32, t.sys.cpus.ram().size());
    r.u64(40, t.sys.kernel.free_frames() << 12);
    r.u16(80, t.sys.live() as u16).u32(104, 1);
    r.put(t, a[0])?;
    Ok(0)
}

/// The limits a program starts with.
pub(crate) fn first_limits() -> [(u64, u64); 16] {
    const INFINITY: u64 = u64::MAX;
    let mut l = [(INFINITY, INFINITY); 16];
    l[3] = (STACK_LIMIT, INFINITY);
    l[4] = (0, INFINITY);
    l[7] = (1024, 1024);
    l
}

/// Answers a limit and perhaps changes it. Of the new limits only what `getrlimit` says changes.
fn limits(t: &Task, resource: u64, new: Option<(u64, u64)>) -> Result<(u64, u64), Errno> {
    let mut all = t.sys.limits.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let l = all.get_mut(resource as usize).ok_or(Errno::EINVAL)?;
    let old = *l;
    if let Some((soft, hard)) = new {
        if soft > hard {
            return Err(Errno::EINVAL);
        }
        if hard > old.1 {
            return Err(Errno::EPERM);
        }
        *l = (soft, hard);
    }
    Ok(old)
}

fn put_limit(t: &Task, out: u64, (soft, hard): (u64, u64)) -> SysResult {
    let mut r = Record::new(16);
    r.u64(0, soft).u64(8, hard);
    r.put(t, out)?;
    Ok(0)
}

fn prctl(t: &mut Task, a: Args) -> SysResult {
    const SET_DUMPABLE: u64 = 4;
    const GET_DUMPABLE: u64 = 3;
    const SET_NAME: u64 = 15;
    const GET_NAME: u64 = 16;
    const SET_TIMERSLACK: u64 = 29;
    const GET_TIMERSLACK: u64 = 30;
    const SET_NO_NEW_PRIVS: u64 = 38;
    const GET_NO_NEW_PRIVS: u64 = 39;
    const SET_VMA: u64 = 0x5356_4d41;
    match a[0] {
        SET_NAME => {
            let name = t.sys.mm.read_cstr(a[1], 15).map_err(|_| Errno::EFAULT)?;
            *t.sys.comm.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = name;
            Ok(0)
        }
        GET_NAME => {
            let mut name = t.sys.comm.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
            name.resize(16, 0);
            t.copy_out(a[1], &name)?;
            Ok(0)
        }
        GET_DUMPABLE => Ok(1),
        SET_DUMPABLE | SET_TIMERSLACK | SET_NO_NEW_PRIVS => Ok(0),
        GET_TIMERSLACK => Ok(50_000),
        GET_NO_NEW_PRIVS => Ok(0),
        // Names of anonymous memory: kernels without them answer this.
        SET_VMA => Err(Errno::EINVAL),
        n => t.sys.not_modelled(format!("prctl {n}"), Errno::EINVAL),
    }
}

fn membarrier(t: &mut Task, a: Args) -> SysResult {
    const QUERY: u64 = 0;
    const COMMANDS: u64 = 1 | 2 | 4 | 8 | 16;
    match a[0] {
        _ if a[1] != 0 => Err(Errno::EINVAL),
        QUERY => Ok(COMMANDS),
        c if c & COMMANDS == c && c.is_power_of_two() => {
            // Every CPU in guest code comes out, which orders its accesses.
            t.sys.cpus.ipi_all();
            Ok(0)
        }
        _ => Err(Errno::EINVAL),
    }
}

fn capget(t: &mut Task, a: Args) -> SysResult {
    const VERSION_3: u32 = 0x2008_0522;
    if t.get_u32(a[0])? != VERSION_3 {
        t.put_u32(a[0], VERSION_3)?;
        return Err(Errno::EINVAL);
    }
    // No capabilities: two records of three words.
    if a[1] != 0 {
        t.copy_out(a[1], &[0; 24])?;
    }
    Ok(0)
}

fn getrusage(t: &mut Task, a: Args) -> SysResult {
    if !matches!(a[0] as i32, -1..=1) {
        return Err(Errno::EINVAL);
    }
    let used = crate::clock::read(rustix::time::ClockId::ProcessCPUTime);
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
    Ok(ticks(crate::clock::read(rustix::time::ClockId::Monotonic)))
}

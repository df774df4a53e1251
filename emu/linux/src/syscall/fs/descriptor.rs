//! Descriptors: duplicating, flags, locks, pipes, files without a name.

use super::{Args, Handler, O_CLOEXEC, O_NONBLOCK, Record};
use crate::clock::now;
use crate::errno::{Errno, SysResult};
use crate::file::{Kind, OpenFile};
use crate::host;
use crate::object::eventfd::EventFd;
use crate::object::pipe;
use crate::object::timerfd::TimerFd;
use crate::syscall::signal::own_key;
use crate::syscall::time::{NANOSECONDS, get_itimer, put_itimer};
use crate::task::{Task, Woken};
use rustix::event::EventfdFlags;
use rustix::fs::{FlockOperation, MemfdFlags, OFlags};
use rustix::time::{ClockId, TimerfdClockId, TimerfdFlags};
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::time::Duration;

pub(super) fn find(name: &str) -> Option<Handler> {
    Some(match name {
        "close" => |t, a| t.sys.files.close(a[0] as i32).map(|()| 0),
        "close_range" => |t, a| {
            const CLOEXEC: u64 = 4;
            if a[0] > a[1] || a[2] & !6 != 0 {
                return Err(Errno::EINVAL);
            }
            for fd in t.sys.files.numbers().into_iter().filter(|&n| (a[0]..=a[1]).contains(&(n as u64))) {
                match a[2] & CLOEXEC {
                    0 => t.sys.files.close(fd as i32)?,
                    _ => t.sys.files.set_close_on_exec(fd as i32, true)?,
                }
            }
            Ok(0)
        },
        "dup" => |t, a| {
            let f = t.sys.files.get(a[0] as i32)?;
            t.sys.files.insert(f, false, 0)
        },
        "dup2" => |t, a| {
            let f = t.sys.files.get(a[0] as i32)?;
            if a[0] as i32 == a[1] as i32 { Ok(a[1]) } else { t.sys.files.replace(a[1] as i32, f, false) }
        },
        "dup3" => |t, a| {
            let f = t.sys.files.get(a[0] as i32)?;
            if a[0] as i32 == a[1] as i32 || a[2] & !O_CLOEXEC != 0 {
                return Err(Errno::EINVAL);
            }
            t.sys.files.replace(a[1] as i32, f, a[2] & O_CLOEXEC != 0)
        },
        "ioctl" => ioctl,
        "fcntl" => fcntl,
        "flock" => flock,
        "pipe" => |t, a| pipe2(t, a[0], 0),
        "pipe2" => |t, a| pipe2(t, a[0], a[1]),
        "eventfd" => |t, a| eventfd(t, a[0], 0),
        "eventfd2" => |t, a| eventfd(t, a[0], a[1]),
        "memfd_create" => memfd_create,
        "timerfd_create" => timerfd_create,
        "timerfd_settime" => timerfd_settime,
        "timerfd_gettime" => |t, a| {
            let f = t.sys.files.get(a[0] as i32)?;
            let (left, interval) = timerfd(&f)?.left();
            put_itimer(t, a[1], interval, left, NANOSECONDS)
        },
        _ => return None,
    })
}

const TCGETS: u64 = 0x5401;
const TIOCGWINSZ: u64 = 0x5413;
const FIONREAD: u64 = 0x541b;
const FIONBIO: u64 = 0x5421;
const FIONCLEX: u64 = 0x5450;
const FIOCLEX: u64 = 0x5451;
const O_ASYNC: OFlags = OFlags::from_bits_retain(0x2000);
const F_GETLK: u64 = 5;
const F_SETLK: u64 = 6;
const F_SETLKW: u64 = 7;
const F_GETOWN: u64 = 9;
const F_SETPIPE_SZ: u64 = 1031;
const F_GETPIPE_SZ: u64 = 1032;
const F_ADD_SEALS: u64 = 1033;
const F_GET_SEALS: u64 = 1034;

fn ioctl(t: &mut Task, a: Args) -> SysResult {
    let f = t.sys.files.get(a[0] as i32)?;
    match a[1] {
        TCGETS => {
            let m = host::ask("tcgetattr", f.name(), || {
                let m = rustix::termios::tcgetattr(f.fd())?;
                let control = (m.control_modes.bits(), m.local_modes.bits());
                Ok(((m.input_modes.bits(), m.output_modes.bits()), control))
            })?;
            // struct termios: four words of flags, the line discipline, 19 control characters.
            let mut r = Record::new(36);
            let ((input, output), (control, local)) = m;
            r.u32(0, input).u32(4, output).u32(8, control).u32(12, local);
            r.put(t, a[2])?;
            Ok(0)
        }
        TIOCGWINSZ => {
            let ((rows, columns), (x, y)) = host::ask("tcgetwinsize", f.name(), || {
                let w = rustix::termios::tcgetwinsize(f.fd())?;
                Ok(((w.ws_row, w.ws_col), (w.ws_xpixel, w.ws_ypixel)))
            })?;
            let mut r = Record::new(8);
            r.u16(0, rows).u16(2, columns).u16(4, x).u16(6, y);
            r.put(t, a[2])?;
            Ok(0)
        }
        FIONREAD => {
            let n = match f.object() {
                Some(o) => o.readable().ok_or(Errno::ENOTTY)? as u64,
                None => host::ask("ioctl_fionread", f.name(), || rustix::io::ioctl_fionread(f.fd()))?,
            };
            t.put_u32(a[2], n as u32)?;
            Ok(0)
        }
        FIONBIO => {
            f.set_nonblocking(t.get_u32(a[2])? != 0);
            Ok(0)
        }
        FIOCLEX | FIONCLEX => t.sys.files.set_close_on_exec(a[0] as i32, a[1] == FIOCLEX).map(|()| 0),
        n => t.sys.not_modelled(format!("ioctl {n:#x}"), Errno::ENOTTY),
    }
}

fn fcntl(t: &mut Task, a: Args) -> SysResult {
    let fd = a[0] as i32;
    let f = t.sys.files.get(fd)?;
    match a[1] {
        0 => t.sys.files.insert(f, false, a[2] as usize),
        1030 => t.sys.files.insert(f, true, a[2] as usize),
        1 => Ok(t.sys.files.close_on_exec(fd)? as u64),
        2 => t.sys.files.set_close_on_exec(fd, a[2] & 1 != 0).map(|()| 0),
        3 => {
            let host = f.status_flags()?.bits() as u64 & !O_NONBLOCK;
            Ok(host | if f.nonblocking() { O_NONBLOCK } else { 0 })
        }
        4 => {
            let wanted = OFlags::from_bits_retain(a[2] as u32);
            let more = wanted & !f.status_flags()?;
            for (flag, name) in [(OFlags::DIRECT, "O_DIRECT"), (O_ASYNC, "O_ASYNC")] {
                if more.contains(flag) {
                    return t.sys.not_modelled(format!("fcntl(F_SETFL) of {name}"), Errno::EINVAL);
                }
            }
            f.set_status_flags(wanted)?;
            Ok(0)
        }
        F_GETLK | F_SETLK | F_SETLKW => lock(t, a),
        F_GETOWN => Ok(0),
        F_SETPIPE_SZ => match &f.kind {
            Kind::Pipe(p) => Ok(p.set_capacity(a[2] as u32)? as u64),
            _ => Ok(host::ask("fcntl_setpipe_size", format_args!("{} {}", f.name(), a[2]), || {
                rustix::pipe::fcntl_setpipe_size(f.fd(), a[2] as usize)
            })? as u64),
        },
        F_GETPIPE_SZ => match &f.kind {
            Kind::Pipe(p) => Ok(p.capacity() as u64),
            _ => Ok(host::ask("fcntl_getpipe_size", f.name(), || rustix::pipe::fcntl_getpipe_size(f.fd()))?
                as u64),
        },
        F_ADD_SEALS => {
            let seals = rustix::fs::SealFlags::from_bits_retain(a[2] as u32);
            host::ask("fcntl_add_seals", format_args!("{} {seals:?}", f.name()), || {
                rustix::fs::fcntl_add_seals(f.fd(), seals)
            })?;
            Ok(0)
        }
        F_GET_SEALS => {
            host::ask("fcntl_get_seals", f.name(), || Ok(rustix::fs::fcntl_get_seals(f.fd())?.bits() as u64))
                .map_err(Errno::from)
        }
        n => t.sys.not_modelled(format!("fcntl {n}"), Errno::EINVAL),
    }
}

fn pipe2(t: &mut Task, addr: u64, flags: u64) -> SysResult {
    const O_DIRECT: u64 = 0x4000;
    if flags & O_DIRECT != 0 {
        return t.sys.not_modelled("pipes of packets (O_DIRECT)", Errno::EINVAL);
    }
    if flags & !0x80800 != 0 {
        return Err(Errno::EINVAL);
    }
    let (reading, writing) = pipe::pipe(t.sys.changes.clone());
    let (r, w) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    let nonblock = flags & 0x800 != 0;
    let cloexec = flags & 0x80000 != 0;
    let r = t.sys.files.insert(
        OpenFile::special(r, "pipe:".into(), nonblock, Kind::Pipe(reading)),
        cloexec,
        0,
    )?;
    let w = OpenFile::special(w, "pipe:".into(), nonblock, Kind::Pipe(writing));
    let w = match t.sys.files.insert(w, cloexec, 0) {
        Ok(w) => w,
        Err(e) => {
            t.sys.files.close(r as i32)?;
            return Err(e);
        }
    };
    let put = t.put_u32(addr, r as u32).and_then(|()| t.put_u32(addr.wrapping_add(4), w as u32));
    if let Err(e) = put {
        t.sys.files.close(r as i32)?;
        t.sys.files.close(w as i32)?;
        return Err(e);
    }
    Ok(0)
}

/// POSIX locks belong to the process: with one process nothing is ever in the way.
fn lock(t: &mut Task, a: Args) -> SysResult {
    const F_UNLCK: u16 = 2;
    let mut b = [0; 32];
    t.copy_in(a[2], &mut b)?;
    let (kind, whence) = (u16::from_be_bytes([b[0], b[1]]), u16::from_be_bytes([b[2], b[3]]));
    if kind > F_UNLCK || whence > 2 {
        return Err(Errno::EINVAL);
    }
    if a[1] == F_GETLK {
        t.copy_out(a[2], &F_UNLCK.to_be_bytes())?;
    }
    Ok(0)
}

/// How long a task that waits for another host process's lock sleeps between tries.
const LOCK_WAIT: Duration = Duration::from_millis(5);

fn flock(t: &mut Task, a: Args) -> SysResult {
    const LOCK_NB: u64 = 4;
    let f = t.sys.files.get(a[0] as i32)?;
    let op = match a[1] & !LOCK_NB {
        1 => FlockOperation::NonBlockingLockShared,
        2 => FlockOperation::NonBlockingLockExclusive,
        8 => FlockOperation::NonBlockingUnlock,
        _ => return Err(Errno::EINVAL),
    };
    loop {
        match host::ask("flock", format_args!("{} {op:?}", f.name()), || rustix::fs::flock(f.fd(), op)) {
            Err(rustix::io::Errno::WOULDBLOCK) if a[1] & LOCK_NB == 0 => {}
            r => return r.map(|()| 0).map_err(Errno::from),
        }
        let key = own_key(t);
        if t.sleep(key, Some(LOCK_WAIT), || true) == Woken::Interrupted {
            return Err(Errno::ERESTARTSYS);
        }
    }
}

fn eventfd(t: &mut Task, value: u64, flags: u64) -> SysResult {
    const SEMAPHORE: u64 = 1;
    if flags & !(SEMAPHORE | O_CLOEXEC | O_NONBLOCK) != 0 {
        return Err(Errno::EINVAL);
    }
    let fd = rustix::event::eventfd(0, EventfdFlags::CLOEXEC)?;
    let kind = Kind::Event(EventFd::new(value as u32, flags & SEMAPHORE != 0, t.sys.changes.clone()));
    let f = OpenFile::special(fd, "anon_inode:[eventfd]".into(), flags & O_NONBLOCK != 0, kind);
    t.sys.files.insert(f, flags & O_CLOEXEC != 0, 0)
}

fn memfd_create(t: &mut Task, a: Args) -> SysResult {
    const CLOEXEC: u64 = 1;
    const SEALING: u64 = 2;
    if a[1] & !(CLOEXEC | SEALING) != 0 {
        return t.sys.not_modelled(format!("memfd_create flags {:#x}", a[1]), Errno::EINVAL);
    }
    let name = OsString::from_vec(t.get_str(a[0])?);
    let sealing = if a[1] & SEALING != 0 { MemfdFlags::ALLOW_SEALING } else { MemfdFlags::empty() };
    let fd = host::ask("memfd_create", format_args!("{} {sealing:?}", name.display()), || {
        rustix::fs::memfd_create(&name, MemfdFlags::CLOEXEC | sealing)
    })?;
    let path = format!("/memfd:{} (deleted)", name.to_string_lossy());
    t.sys.files.insert(OpenFile::owned(fd, path.into(), false), a[1] & CLOEXEC != 0, 0)
}

fn timerfd_create(t: &mut Task, a: Args) -> SysResult {
    let (clock, host) = match a[0] {
        0 => (ClockId::Realtime, TimerfdClockId::Realtime),
        1 => (ClockId::Monotonic, TimerfdClockId::Monotonic),
        7 => (ClockId::Boottime, TimerfdClockId::Boottime),
        _ => return Err(Errno::EINVAL),
    };
    if a[1] & !(O_CLOEXEC | O_NONBLOCK) != 0 {
        return Err(Errno::EINVAL);
    }
    let fd = rustix::time::timerfd_create(host, TimerfdFlags::CLOEXEC)?;
    let kind = Kind::Timer(TimerFd::new(clock, t.sys.changes.clone()));
    let f = OpenFile::special(fd, "anon_inode:[timerfd]".into(), a[1] & O_NONBLOCK != 0, kind);
    t.sys.files.insert(f, a[1] & O_CLOEXEC != 0, 0)
}

fn timerfd(f: &OpenFile) -> Result<&TimerFd, Errno> {
    match &f.kind {
        Kind::Timer(t) => Ok(t),
        _ => Err(Errno::EINVAL),
    }
}

fn timerfd_settime(t: &mut Task, a: Args) -> SysResult {
    const ABSTIME: u64 = 1;
    const CANCEL_ON_SET: u64 = 2;
    let f = t.sys.files.get(a[0] as i32)?;
    let timer = timerfd(&f)?;
    if a[1] & !(ABSTIME | CANCEL_ON_SET) != 0 {
        return Err(Errno::EINVAL);
    }
    let (interval, value) = get_itimer(t, a[2], NANOSECONDS)?;
    let first = match a[1] & ABSTIME {
        _ if value.is_zero() => None,
        0 => Some(value),
        _ => Some(value.saturating_sub(now(timer.clock))),
    };
    let (left, old) = timer.arm(first, interval);
    if a[3] != 0 { put_itimer(t, a[3], old, left, NANOSECONDS) } else { Ok(0) }
}

//! Waiting for several files: poll, select, epoll. [`Task::poll_files`] does the waiting.

use super::{Args, Handler, O_CLOEXEC};
use crate::clock::Moment;
use crate::errno::{Errno, SysResult};
use crate::file::{Kind, OpenFile};
use crate::host;
use crate::object::epoll::Epoll;
use crate::syscall::signal::{get_set, own_key};
use crate::syscall::time::{get_timespec, put_timespec};
use crate::task::{Task, Woken};
use rustix::event::{PollFlags, epoll};
use std::sync::Arc;
use std::time::Duration;

pub(super) fn find(name: &str) -> Option<Handler> {
    Some(match name {
        "poll" => |t, a| {
            let ms = a[2] as i32;
            let timeout = u64::try_from(ms).ok().map(Duration::from_millis);
            poll(t, a, timeout, None)
        },
        "ppoll" => |t, a| {
            let timeout = if a[2] != 0 { Some(get_timespec(t, a[2])?) } else { None };
            let mask = if a[3] != 0 { Some(get_set(t, a[3], a[4])?) } else { None };
            poll(t, a, timeout, Some((mask, a[2])))
        },
        "select" => |t, a| {
            let timeout = if a[4] != 0 {
                let (s, us) = (t.get_u64(a[4])?, t.get_u64(a[4].wrapping_add(8))?);
                if (s as i64) < 0 || (us as i64) < 0 {
                    return Err(Errno::EINVAL);
                }
                Some(Duration::from_secs(s).saturating_add(Duration::from_micros(us)))
            } else {
                None
            };
            select(t, a, timeout, None, |t, left| {
                t.put_u64(a[4], left.as_secs())?;
                t.put_u64(a[4].wrapping_add(8), left.subsec_micros() as u64).map(|()| 0)
            })
        },
        "pselect6" => |t, a| {
            let timeout = if a[4] != 0 { Some(get_timespec(t, a[4])?) } else { None };
            // The sixth argument is a pointer to the mask's address and size.
            let mask = match a[5] {
                0 => None,
                p => match (t.get_u64(p)?, t.get_u64(p.wrapping_add(8))?) {
                    (0, _) => None,
                    (set, size) => Some(get_set(t, set, size)?),
                },
            };
            select(t, a, timeout, mask, |t, left| put_timespec(t, a[4], left))
        },
        "epoll_create" => |t, a| if (a[0] as i32) > 0 { epoll_create(t, 0) } else { Err(Errno::EINVAL) },
        "epoll_create1" => |t, a| epoll_create(t, a[0]),
        "epoll_ctl" => epoll_ctl,
        "epoll_wait" => |t, a| epoll_wait(t, a, None),
        "epoll_pwait" => |t, a| {
            let mask = if a[4] != 0 { Some(get_set(t, a[4], a[5])?) } else { None };
            epoll_wait(t, a, mask)
        },
        _ => return None,
    })
}

/// Waits with another signal mask, if one is given. An interrupted call keeps it until the signal is dealt with.
fn wait(
    t: &mut Task,
    files: &[(Arc<OpenFile>, PollFlags)],
    timeout: Option<Duration>,
    mask: Option<u64>,
) -> Result<(Woken, Vec<PollFlags>), Errno> {
    let old = t.mask();
    if let Some(m) = mask {
        t.set_mask(m);
    }
    let r = if files.is_empty() && timeout != Some(Duration::ZERO) {
        let key = own_key(t);
        Ok((t.sleep(key, timeout, || true), Vec::new()))
    } else {
        t.poll_files(files, timeout)
    };
    if mask.is_some() {
        match &r {
            Ok((Woken::Interrupted, _)) => t.saved_mask = Some(old),
            _ => t.set_mask(old),
        }
    }
    r
}

/// poll, and ppoll with a mask and the address of the timeout, where the time left goes.
fn poll(t: &mut Task, a: Args, timeout: Option<Duration>, p: Option<(Option<u64>, u64)>) -> SysResult {
    const NVAL: u16 = 0x20;
    let (list, n) = (a[0], a[1]);
    if n > t.sys.files.limit() as u64 {
        return Err(Errno::EINVAL);
    }
    let end = match t.deadline.take() {
        Some(e) if timeout.is_some() => Some(e),
        _ => timeout.map(Moment::after),
    };
    let mut files = Vec::new();
    let mut results = vec![0u16; n as usize];
    let mut of = Vec::new();
    let mut known = false;
    for i in 0..n {
        let word = t.get_u64(list.wrapping_add(i * 8))?;
        let (fd, events) = ((word >> 32) as i32, (word >> 16) as u16);
        if fd < 0 {
            continue;
        }
        match t.sys.files.get(fd) {
            Ok(f) => {
                files.push((f, PollFlags::from_bits_retain(events)));
                of.push(i as usize);
            }
            Err(_) => {
                results[i as usize] = NVAL;
                known = true;
            }
        }
    }
    let left = |end: Option<Moment>| end.map(Moment::left);
    let limit = match timeout {
        _ if known => Some(Duration::ZERO),
        Some(Duration::ZERO) => timeout,
        _ => left(end),
    };
    let (woken, events) = wait(t, &files, limit, p.and_then(|p| p.0))?;
    for (&i, e) in of.iter().zip(&events) {
        results[i] = e.bits();
    }
    let ready = results.iter().filter(|&&r| r != 0).count() as u64;
    for (i, r) in results.iter().enumerate() {
        t.copy_out(list.wrapping_add(i as u64 * 8 + 6), &r.to_be_bytes())?;
    }
    if let (Some((_, at)), Some(d)) = (p, left(end))
        && at != 0
    {
        // As in Linux, a timeout that cannot be written is not an error.
        let _ = put_timespec(t, at, d);
    }
    if ready == 0 && woken == Woken::Interrupted {
        if p.is_some() {
            return Err(Errno::ERESTARTNOHAND);
        }
        t.deadline = end;
        return Err(Errno::ERESTART_RESTARTBLOCK);
    }
    Ok(ready)
}

fn select(
    t: &mut Task,
    a: Args,
    timeout: Option<Duration>,
    mask: Option<u64>,
    put_left: impl Fn(&mut Task, Duration) -> SysResult,
) -> SysResult {
    let n = a[0] as i32;
    if n < 0 {
        return Err(Errno::EINVAL);
    }
    let n = (n as u64).min(t.sys.files.limit() as u64);
    let words = n.div_ceil(64) as usize;
    let end = timeout.map(Moment::after);
    let wanted = [PollFlags::IN, PollFlags::OUT, PollFlags::PRI];
    let mut sets = [vec![0u64; words], vec![0; words], vec![0; words]];
    for (set, &addr) in sets.iter_mut().zip(&a[1..4]) {
        for (i, w) in set.iter_mut().enumerate().filter(|_| addr != 0) {
            *w = t.get_u64(addr.wrapping_add(i as u64 * 8))?;
        }
    }
    let has = |set: &[u64], fd: u64| set[(fd / 64) as usize] >> (fd % 64) & 1 != 0;
    let mut files = Vec::new();
    let mut of = Vec::new();
    for fd in 0..n {
        let mut events = PollFlags::empty();
        for (set, e) in sets.iter().zip(wanted) {
            if has(set, fd) {
                events |= e;
            }
        }
        if !events.is_empty() {
            files.push((t.sys.files.get(fd as i32)?, events));
            of.push(fd);
        }
    }
    let (woken, events) = wait(t, &files, timeout, mask)?;
    if let Some(e) = end {
        let _ = put_left(t, e.left());
    }
    // POLLHUP counts as readable, POLLERR as readable and writable.
    let means = [
        PollFlags::IN | PollFlags::RDNORM | PollFlags::HUP | PollFlags::ERR,
        PollFlags::OUT | PollFlags::WRNORM | PollFlags::ERR,
        PollFlags::PRI,
    ];
    let mut ready = 0;
    let mut result = [vec![0u64; words], vec![0; words], vec![0; words]];
    for (&fd, e) in of.iter().zip(&events) {
        for k in 0..3 {
            if has(&sets[k], fd) && e.intersects(means[k]) {
                result[k][(fd / 64) as usize] |= 1 << (fd % 64);
                ready += 1;
            }
        }
    }
    if ready == 0 && woken == Woken::Interrupted {
        return Err(Errno::ERESTARTNOHAND);
    }
    for (set, &addr) in result.iter().zip(&a[1..4]) {
        for (i, w) in set.iter().enumerate().filter(|_| addr != 0) {
            t.put_u64(addr.wrapping_add(i as u64 * 8), *w)?;
        }
    }
    Ok(ready)
}

fn epoll_create(t: &mut Task, flags: u64) -> SysResult {
    if flags & !O_CLOEXEC != 0 {
        return Err(Errno::EINVAL);
    }
    let fd = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let kind = Kind::Epoll(Epoll::new(t.sys.changes.clone()));
    let f = OpenFile::special(fd, "anon_inode:[eventpoll]".into(), false, kind);
    t.sys.files.insert(f, flags & O_CLOEXEC != 0, 0)
}

fn epoll_ctl(t: &mut Task, a: Args) -> SysResult {
    let (e, f) = (t.sys.files.get(a[0] as i32)?, t.sys.files.get(a[2] as i32)?);
    const ADD: u64 = 1;
    const DEL: u64 = 2;
    const MOD: u64 = 3;
    let own = e.epoll().filter(|_| !Arc::ptr_eq(&e, &f)).ok_or(Errno::EINVAL)?;
    let fd = a[2] as i32;
    // The stand-in watches host files, and other epolls for the host files that they watch.
    let (object, host) = (f.object().is_some(), f.object().is_none() || f.epoll().is_some());
    if a[1] == DEL {
        if host {
            host::ask("epoll_ctl", format_args!("{} delete {fd}", e.name()), || {
                epoll::delete(e.fd(), f.fd())
            })?;
        }
        return if object { own.delete(fd, &f).map(|()| 0) } else { Ok(0) };
    }
    // struct epoll_event: the events, then the data at 8.
    let events = t.get_u32(a[3])?;
    let data = t.get_u64(a[3].wrapping_add(8))?;
    let flags = epoll::EventFlags::from_bits_retain(events);
    let host_data = epoll::EventData::new_u64(data);
    match a[1] {
        ADD => {
            if object {
                own.add(fd, &f, events, data)?;
            }
            if host {
                let added = host::ask("epoll_ctl", format_args!("{} add {fd} {flags:?}", e.name()), || {
                    epoll::add(e.fd(), f.fd(), host_data, flags)
                });
                if added.is_err() && object {
                    own.delete(fd, &f)?;
                }
                added?;
                own.note_host();
                t.sys.changes.announce();
            }
        }
        MOD => {
            if object {
                own.modify(fd, &f, events, data)?;
            }
            if host {
                host::ask("epoll_ctl", format_args!("{} modify {fd} {flags:?}", e.name()), || {
                    epoll::modify(e.fd(), f.fd(), host_data, flags)
                })?;
            }
        }
        _ => return Err(Errno::EINVAL),
    }
    Ok(0)
}

fn epoll_wait(t: &mut Task, a: Args, mask: Option<u64>) -> SysResult {
    /// Events given at a time.
    const MOST: i32 = 4096;
    let e = t.sys.files.get(a[0] as i32)?;
    let max = a[2] as i32;
    let Some(own) = e.epoll().filter(|_| max > 0) else { return Err(Errno::EINVAL) };
    let timeout = u64::try_from(a[3] as i32).ok().map(Duration::from_millis);
    let end = timeout.map(Moment::after);
    let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
    loop {
        let left = end.map(Moment::left);
        let (woken, _) = wait(t, &[(e.clone(), PollFlags::IN)], left, mask)?;
        // Events that are taken must not be lost: no more than can be stored.
        let most = t.room(a[1], max.min(MOST) as usize * 16) / 16;
        if most == 0 && woken == Woken::Done {
            return Err(Errno::EFAULT);
        }
        let mut events = own.take(most);
        let room = most - events.len();
        if room > 0 && own.watches_host() {
            let found: Vec<(u32, u64)> =
                host::ask("epoll_wait", format_args!("{} {room}", e.name()), || {
                    let mut found: Vec<epoll::Event> = Vec::with_capacity(room);
                    epoll::wait(e.fd(), rustix::buffer::spare_capacity(&mut found), Some(&now))?;
                    Ok(found.into_iter().map(|x| ({ x.flags }.bits(), { x.data }.u64())).collect())
                })?;
            for (flags, data) in found {
                match events.iter_mut().find(|(_, d)| *d == data) {
                    // An epoll that is watched both ways.
                    Some((f, _)) => *f |= flags,
                    None => events.push((flags, data)),
                }
            }
        }
        for (i, &(flags, data)) in events.iter().enumerate() {
            let at = a[1].wrapping_add(i as u64 * 16);
            t.put_u32(at, flags)?;
            t.put_u64(at.wrapping_add(8), data)?;
        }
        match woken {
            _ if !events.is_empty() => return Ok(events.len() as u64),
            Woken::Interrupted => return Err(Errno::EINTR),
            Woken::TimedOut => return Ok(0),
            // Another task took the events.
            Woken::Done => {}
        }
    }
}

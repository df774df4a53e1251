//! Threads and futexes.

use super::time::get_timespec;
use super::{Args, Handler};
use crate::clock::{Moment, now};
use crate::errno::{Errno, SysResult};
use crate::robust::HEAD_BYTES;
use crate::system::Ending;
use crate::task::{Task, Woken};
use rustix::time::ClockId;

pub(super) fn find(name: &str) -> Option<Handler> {
    Some(match name {
        "exit" => |t, a| {
            t.sys.set_exit_status(a[0] as u8);
            t.end();
            Ok(0)
        },
        "exit_group" => |t, a| {
            t.sys.finish(Ending::Exited(a[0] as u8));
            t.end();
            Ok(0)
        },
        "clone" => clone,
        // glibc falls back to clone.
        "clone3" => |_, _| Err(Errno::ENOSYS),
        "set_tid_address" => |t, a| {
            t.clear_child_tid = a[0];
            Ok(t.shared.tid as u64)
        },
        "set_robust_list" => |t, a| {
            if a[1] != HEAD_BYTES {
                return Err(Errno::EINVAL);
            }
            t.robust_list = a[0];
            Ok(0)
        },
        "get_robust_list" => |t, a| {
            if a[0] != 0 && a[0] != t.shared.tid as u64 {
                return t.sys.not_modelled("get_robust_list of another task", Errno::EPERM);
            }
            t.put_u64(a[2], HEAD_BYTES)?;
            t.put_u64(a[1], t.robust_list).map(|()| 0)
        },
        // glibc does without.
        "rseq" => |_, _| Err(Errno::ENOSYS),
        "gettid" => |t, _| Ok(t.shared.tid as u64),
        "sched_yield" => |t, _| {
            if t.sys.pool.contended() {
                t.drop_cpu();
                t.take_cpu();
            }
            Ok(0)
        },
        "sched_getaffinity" => |t, a| {
            let words = (t.sys.cpus.count() as u64).div_ceil(64);
            let n = words * 8;
            if a[1] < n || a[1] & 7 != 0 {
                return Err(Errno::EINVAL);
            }
            for w in 0..words {
                let left = t.sys.cpus.count() as u64 - w * 64;
                let mask = if left >= 64 { u64::MAX } else { (1 << left) - 1 };
                t.put_u64(a[2].wrapping_add(w * 8), mask)?;
            }
            Ok(n)
        },
        // Tasks run on whichever CPU is free; a set that holds one of them is accepted.
        "sched_setaffinity" => |t, a| {
            let mut b = vec![0; (a[1] as usize).min(128)];
            t.copy_in(a[2], &mut b)?;
            if b.iter().all(|&x| x == 0) { Err(Errno::EINVAL) } else { Ok(0) }
        },
        "futex" => futex,
        _ => return None,
    })
}

const CLONE_VM: u64 = 0x100;
const CLONE_FS: u64 = 0x200;
const CLONE_FILES: u64 = 0x400;
const CLONE_SIGHAND: u64 = 0x800;
const CLONE_THREAD: u64 = 0x10000;
const CLONE_SETTLS: u64 = 0x80000;
const CLONE_PARENT_SETTID: u64 = 0x100000;
const CLONE_CHILD_CLEARTID: u64 = 0x200000;
const CLONE_CHILD_SETTID: u64 = 0x1000000;

/// clone on s390x: new stack, flags, parent tid, child tid, TLS.
fn clone(t: &mut Task, a: Args) -> SysResult {
    let (stack, flags, parent_tid, child_tid, tls) = (a[0], a[1], a[2], a[3], a[4]);
    let thread = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD;
    if flags & thread != thread {
        t.sys.warn_once(format!("not modelled: clone with flags {flags:#x} (a new process): ENOSYS"));
        return Err(Errno::ENOSYS);
    }
    let mut child = t.fork_thread();
    let tid = child.shared.tid;
    child.set_gpr(2, 0);
    if stack != 0 {
        child.set_gpr(15, stack);
    }
    if flags & CLONE_SETTLS != 0 {
        child.set_thread_pointer(tls);
    }
    if flags & CLONE_PARENT_SETTID != 0 {
        t.put_u32(parent_tid, tid)?;
    }
    if flags & CLONE_CHILD_SETTID != 0 {
        t.put_u32(child_tid, tid)?;
    }
    if flags & CLONE_CHILD_CLEARTID != 0 {
        child.clear_child_tid = child_tid;
    }
    tracing::debug!(tid, flags = format_args!("{flags:#x}"), "clone");
    let sys = t.sys.clone();
    sys.spawn(child);
    Ok(tid as u64)
}

const FUTEX_WAIT: u64 = 0;
const FUTEX_WAKE: u64 = 1;
const FUTEX_REQUEUE: u64 = 3;
const FUTEX_CMP_REQUEUE: u64 = 4;
const FUTEX_WAKE_OP: u64 = 5;
const FUTEX_WAIT_BITSET: u64 = 9;
const FUTEX_WAKE_BITSET: u64 = 10;
const FUTEX_CLOCK_REALTIME: u64 = 256;

fn futex(t: &mut Task, a: Args) -> SysResult {
    let (addr, op, val) = (a[0], a[1], a[2] as u32);
    if addr & 3 != 0 {
        return Err(Errno::EINVAL);
    }
    match op & 127 {
        FUTEX_WAIT | FUTEX_WAIT_BITSET => wait(t, a),
        FUTEX_WAKE => Ok(t.sys.futexes.lock().wake(addr, val, !0) as u64),
        FUTEX_WAKE_BITSET if a[5] as u32 == 0 => Err(Errno::EINVAL),
        FUTEX_WAKE_BITSET => Ok(t.sys.futexes.lock().wake(addr, val, a[5] as u32) as u64),
        FUTEX_REQUEUE | FUTEX_CMP_REQUEUE => {
            let (to, limit) = (a[4], a[3] as u32);
            t.get_u32(addr)?;
            let mut q = t.sys.futexes.lock();
            if op & 127 == FUTEX_CMP_REQUEUE && t.get_u32(addr)? != a[5] as u32 {
                return Err(Errno::EAGAIN);
            }
            let woken = q.wake(addr, val, !0);
            Ok((woken + q.requeue(addr, to, limit)) as u64)
        }
        FUTEX_WAKE_OP => wake_op(t, a),
        n => {
            t.sys.warn_once(format!("not modelled: futex operation {n}: ENOSYS"));
            Err(Errno::ENOSYS)
        }
    }
}

fn wait(t: &mut Task, a: Args) -> SysResult {
    let (addr, op, val) = (a[0], a[1], a[2] as u32);
    let bitset = if op & 127 == FUTEX_WAIT_BITSET { a[5] as u32 } else { !0 };
    if bitset == 0 {
        return Err(Errno::EINVAL);
    }
    let timeout = if a[3] == 0 {
        None
    } else {
        let d = get_timespec(t, a[3])?;
        // FUTEX_WAIT takes a duration, FUTEX_WAIT_BITSET a point in time.
        Some(if op & 127 == FUTEX_WAIT {
            d
        } else {
            let c = if op & FUTEX_CLOCK_REALTIME != 0 { ClockId::Realtime } else { ClockId::Monotonic };
            d.saturating_sub(now(c))
        })
    };
    // A call made again goes on with the time it had left.
    let timeout = match t.deadline.take() {
        Some(end) if timeout.is_some() => Some(end.left()),
        _ => timeout,
    };
    let end = timeout.map(Moment::after);
    // Brings the page in, so that the comparison under the lock is quick.
    t.get_u32(addr)?;
    let waiter = {
        let mut q = t.sys.futexes.lock();
        if t.get_u32(addr)? != val {
            return Err(Errno::EAGAIN);
        }
        q.enqueue(addr, bitset)
    };
    let w = waiter.clone();
    let woken = t.sleep(waiter.key(), timeout, move || !w.woken());
    let pulled = t.sys.futexes.lock().remove(&waiter);
    match woken {
        _ if !pulled => Ok(0),
        Woken::TimedOut => Err(Errno::ETIMEDOUT),
        _ if timeout.is_some() => {
            t.deadline = end;
            Err(Errno::ERESTART_RESTARTBLOCK)
        }
        _ => Err(Errno::ERESTARTSYS),
    }
}

fn wake_op(t: &mut Task, a: Args) -> SysResult {
    let (addr, addr2, enc) = (a[0], a[4], a[5] as u32);
    let (op, cmp) = (enc >> 28 & 15, enc >> 24 & 15);
    let sext = |v: u32| ((v as i32) << 20 >> 20) as u32;
    let (mut oparg, cmparg) = (sext(enc >> 12 & 0xfff), sext(enc & 0xfff));
    if op & 8 != 0 {
        oparg = 1u32.wrapping_shl(oparg);
    }
    let mut q = t.sys.futexes.lock();
    let mut old = t.get_u32(addr2)?;
    loop {
        let new = match op & 7 {
            0 => oparg,
            1 => old.wrapping_add(oparg),
            2 => old | oparg,
            3 => old & !oparg,
            4 => old ^ oparg,
            _ => return Err(Errno::ENOSYS),
        };
        let seen = t.sys.mm.cmpxchg_user_u32(addr2, old, new).map_err(|_| Errno::EFAULT)?;
        if seen == old {
            break;
        }
        old = seen;
    }
    let (o, c) = (old as i32, cmparg as i32);
    let hit = match cmp {
        0 => o == c,
        1 => o != c,
        2 => o < c,
        3 => o <= c,
        4 => o > c,
        5 => o >= c,
        _ => return Err(Errno::ENOSYS),
    };
    let mut n = q.wake(addr, a[2] as u32, !0);
    if hit {
        n += q.wake(addr2, a[3] as u32, !0);
    }
    Ok(n as u64)
}

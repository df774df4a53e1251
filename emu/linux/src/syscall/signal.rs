//! Signals.

use super::time::get_timespec;
use super::{Args, Handler};
use crate::errno::{Errno, SysResult};
use crate::host;
use crate::signal::{Action, AltStack, Info, SIGKILL, UNBLOCKABLE, code};
use crate::system::FIRST_PID;
use crate::task::{Task, Woken};
use std::sync::Arc;

pub(super) fn find(name: &str) -> Option<Handler> {
    Some(match name {
        "rt_sigaction" => rt_sigaction,
        "rt_sigprocmask" => rt_sigprocmask,
        "rt_sigpending" => |t, a| {
            if a[1] > 8 {
                return Err(Errno::EINVAL);
            }
            let set = (t.shared.pending.set() | t.sys.pending.set()) & t.mask();
            t.copy_out(a[0], &set.to_be_bytes()[..a[1] as usize])?;
            Ok(0)
        },
        "rt_sigsuspend" => |t, a| {
            let mask = get_set(t, a[0], a[1])?;
            suspend(t, Some(mask))
        },
        "pause" => |t, _| suspend(t, None),
        "rt_sigtimedwait" => rt_sigtimedwait,
        "rt_sigreturn" => |t, _| t.sigreturn(true),
        "sigreturn" => |t, _| t.sigreturn(false),
        "sigaltstack" => sigaltstack,
        "kill" => kill,
        "tkill" => |t, a| send(t, a[0] as i32, a[1], None),
        "tgkill" => |t, a| {
            if (a[0] as i32) <= 0 {
                return Err(Errno::EINVAL);
            }
            if a[0] as u32 != FIRST_PID {
                return Err(Errno::ESRCH);
            }
            send(t, a[1] as i32, a[2], None)
        },
        "rt_sigqueueinfo" => |t, a| {
            let info = given(t, a[1], a[2])?;
            if a[0] as u32 != FIRST_PID {
                return Err(Errno::ESRCH);
            }
            if a[1] != 0 { t.sys.signal_process(info).map(|()| 0) } else { Ok(0) }
        },
        "rt_tgsigqueueinfo" => |t, a| {
            if (a[0] as i32) <= 0 {
                return Err(Errno::EINVAL);
            }
            let info = given(t, a[2], a[3])?;
            if a[0] as u32 != FIRST_PID {
                return Err(Errno::ESRCH);
            }
            send(t, a[1] as i32, a[2], Some(info))
        },
        "restart_syscall" => |_, _| Err(Errno::EINTR),
        _ => return None,
    })
}

/// Reads a `sigset_t` of `size` bytes, which must be the kernel's.
pub(super) fn get_set(t: &Task, addr: u64, size: u64) -> Result<u64, Errno> {
    if size != 8 {
        return Err(Errno::EINVAL);
    }
    t.get_u64(addr)
}

fn rt_sigaction(t: &mut Task, a: Args) -> SysResult {
    if a[3] != 8 {
        return Err(Errno::EINVAL);
    }
    let sig = a[0] as u32;
    if sig == 0 || sig > 64 {
        return Err(Errno::EINVAL);
    }
    let old = if a[1] != 0 {
        let mut b = [0; 32];
        t.copy_in(a[1], &mut b)?;
        let mut new = Action::from_bytes(&b);
        new.mask &= !UNBLOCKABLE;
        let old = t.sys.actions.set(sig, new)?;
        if new.ignores(sig) {
            t.sys.drop_signal(sig);
        }
        old
    } else {
        t.sys.actions.get(sig)
    };
    if a[2] != 0 {
        t.copy_out(a[2], &old.to_bytes())?;
    }
    Ok(0)
}

fn rt_sigprocmask(t: &mut Task, a: Args) -> SysResult {
    if a[3] != 8 {
        return Err(Errno::EINVAL);
    }
    let old = t.mask();
    if a[1] != 0 {
        let set = t.get_u64(a[1])?;
        let new = match a[0] {
            0 => old | set,
            1 => old & !set,
            2 => set,
            _ => return Err(Errno::EINVAL),
        };
        t.set_mask(new);
    }
    if a[2] != 0 {
        t.put_u64(a[2], old)?;
    }
    Ok(0)
}

/// A key that nobody wakes but a signal or the end of the process.
pub(super) fn own_key(t: &Task) -> usize {
    Arc::as_ptr(&t.shared) as usize
}

/// Waits for a signal with another mask, which goes when the signal has been dealt with.
fn suspend(t: &mut Task, mask: Option<u64>) -> SysResult {
    if let Some(m) = mask {
        t.saved_mask = Some(t.mask());
        t.set_mask(m);
    }
    t.sleep(own_key(t), None, || true);
    Err(Errno::ERESTARTNOHAND)
}

fn rt_sigtimedwait(t: &mut Task, a: Args) -> SysResult {
    let want = get_set(t, a[0], a[3])? & !UNBLOCKABLE;
    let timeout = if a[2] != 0 { Some(get_timespec(t, a[2])?) } else { None };
    let take = |t: &mut Task| t.shared.pending.take(want).or_else(|| t.sys.pending.take(want));
    let mut got = take(t);
    let mut woken = Woken::TimedOut;
    if got.is_none() && timeout.is_none_or(|d| !d.is_zero()) {
        // As long as it sleeps the signals may come.
        let mask = t.mask();
        t.set_mask(mask & !want);
        woken = t.sleep(own_key(t), timeout, || true);
        got = take(t);
        t.shared.forget_notice();
        t.set_mask(mask);
        t.review_signals();
    }
    let Some(mut info) = got else {
        return Err(if woken == Woken::TimedOut { Errno::EAGAIN } else { Errno::EINTR });
    };
    t.sys.timers.note_taken(&mut info);
    if a[1] != 0 {
        t.copy_out(a[1], info.bytes())?;
    }
    Ok(info.signal() as u64)
}

fn sigaltstack(t: &mut Task, a: Args) -> SysResult {
    let sp = t.gpr(15);
    let old = AltStack { flags: t.stack_flags(sp) | t.altstack.flags & AltStack::AUTODISARM, ..t.altstack };
    if a[0] != 0 {
        let mut b = [0; 24];
        t.copy_in(a[0], &mut b)?;
        t.set_altstack(AltStack::from_bytes(&b))?;
    }
    if a[1] != 0 {
        t.copy_out(a[1], &old.to_bytes())?;
    }
    Ok(0)
}

fn uid() -> u32 {
    host::ask_simply("getuid", "", || rustix::process::getuid().as_raw())
}

fn kill(t: &mut Task, a: Args) -> SysResult {
    let (pid, sig) = (a[0] as i32, a[1]);
    if sig > 64 {
        return Err(Errno::EINVAL);
    }
    let me = FIRST_PID as i32;
    // The process group holds nobody else.
    if pid != me && pid != 0 && pid != -me {
        return Err(Errno::ESRCH);
    }
    if sig != 0 {
        t.sys.signal_process(Info::sent(sig as u32, code::SI_USER, FIRST_PID, uid()))?;
    }
    Ok(0)
}

fn send(t: &mut Task, tid: i32, sig: u64, info: Option<Info>) -> SysResult {
    if tid <= 0 || sig > 64 {
        return Err(Errno::EINVAL);
    }
    let target = t.sys.task(tid as u32).ok_or(Errno::ESRCH)?;
    if sig != 0 {
        let info = info.unwrap_or_else(|| Info::sent(sig as u32, code::SI_TKILL, FIRST_PID, uid()));
        if sig as u32 == SIGKILL {
            t.sys.signal_process(info)?;
        } else {
            t.sys.signal_task(&target, info)?;
        }
    }
    Ok(0)
}

/// The siginfo of rt_sigqueueinfo.
fn given(t: &Task, sig: u64, addr: u64) -> Result<Info, Errno> {
    let mut b = [0; 128];
    t.copy_in(addr, &mut b)?;
    if sig > 64 {
        return Err(Errno::EINVAL);
    }
    Ok(Info::given(b, sig as u32))
}

/// Sends the calling task a signal on the kernel's behalf that says it is from a user (SIGPIPE).
pub(super) fn send_self(t: &mut Task, sig: u32) -> Result<(), Errno> {
    let info = Info::sent(sig, code::SI_USER, FIRST_PID, uid());
    let shared = t.shared.clone();
    t.sys.signal_task(&shared, info)
}

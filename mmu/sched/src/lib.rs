//! Who runs next.
//!
//! Code of the hosted mm, of the walkers and of the vCPUs takes its locks, waits and scheduling points from here.
//! On an ordinary host thread (*free* mode) a scheduling point is one predicted branch and a lock is a lock. Inside
//! a [`controlled`] run every task is a coroutine on one host thread, every scheduling point may hand over to
//! another task, and a [`Policy`](controlled::Policy) decides which: the run can be repeated exactly.
//!
//! Rules for code that uses it: no host lock, borrow guard or tracing span is held across a scheduling point; loops
//! that wait for another task wait in [`wait_while`] and never spin.
#![deny(unsafe_code)]

mod co;
pub mod controlled;
mod label;
mod livelock;
pub mod lock;
mod park;
pub mod policy;
mod rng;
mod runtime;
pub mod schedule;
pub mod schedule_file;
pub mod search;
pub mod shrink;
pub mod tso;
pub mod verify;

pub use lock::{Lock, LockGuard, Mutex, MutexGuard, RwLock};

use std::cell::Cell;

/// What a scheduling point is, in a schedule listing: a short fixed name such as `"pte.load"`.
pub type Label = &'static str;

/// The controlled run is over: whoever gets this unwinds without further effects.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the controlled schedule has ended")]
pub struct Cancelled;

thread_local! {
    /// Whether the code that runs now is a task of a controlled run.
    pub(crate) static CONTROLLED: Cell<bool> = const { Cell::new(false) };
    static CPU: Cell<u32> = const { Cell::new(NO_CPU) };
    /// Sections of the task that runs in which it must not sleep.
    static ATOMIC: Cell<u32> = const { Cell::new(0) };
}

/// What [`this_cpu`] says of a task that holds no CPU.
pub const NO_CPU: u32 = u32::MAX;

/// A scheduling point in hosted code. When the run has been cancelled the task unwinds from here.
#[inline(always)]
pub fn point(label: Label) {
    if CONTROLLED.get() {
        co::switch(label).unwrap_or_else(|c| std::panic::resume_unwind(Box::new(c)));
    }
}

/// A scheduling point that reports cancellation instead of unwinding: for walkers, which may be called from
/// generated code.
#[inline(always)]
pub fn step(label: Label) -> Result<(), Cancelled> {
    if CONTROLLED.get() { co::switch(label) } else { Ok(()) }
}

/// Waits as long as `blocked()` holds. It is evaluated at the start and after every [`wake`] of `key`; whoever makes
/// it false must then call `wake(key)`. `key` is usually the address of what is waited for.
pub fn wait_while(key: usize, label: Label, mut blocked: impl FnMut() -> bool) {
    if CONTROLLED.get() {
        let (mut again, mut probed) = (false, false);
        while blocked() {
            probed = co::block(key, label, again).unwrap_or_else(|c| std::panic::resume_unwind(Box::new(c)));
            again = true;
        }
        if probed {
            std::panic::resume_unwind(Box::new(co::lost_wakeup(label)));
        }
    } else {
        park::wait_while(key, blocked, None);
    }
}

/// Like [`wait_while`], but gives up after `timeout` (host time in free mode, [`virtual_now`] in a controlled
/// run). Returns false if it gave up.
pub fn wait_while_timeout(
    key: usize,
    label: Label,
    timeout: std::time::Duration,
    mut blocked: impl FnMut() -> bool,
) -> bool {
    if CONTROLLED.get() {
        let until = co::now().saturating_add(timeout);
        let mut again = false;
        while blocked() {
            match co::block_timeout(key, label, until, std::mem::replace(&mut again, true)) {
                Ok(true) => {}
                Ok(false) => return !blocked(),
                Err(c) => std::panic::resume_unwind(Box::new(c)),
            }
        }
        true
    } else {
        park::wait_while(key, blocked, Some(timeout))
    }
}

/// The time of a controlled run since its start; `None` in free mode. It passes when no task can run, up to the first
/// timeout of a wait, and where a task [lets it](pass_time): a run does not depend on the host's clock.
pub fn virtual_now() -> Option<std::time::Duration> {
    CONTROLLED.get().then(co::now)
}

/// Lets time pass in a controlled run, and waits end whose time is up: without it a task that runs until some time has come
/// would run for ever. Nothing in free mode.
pub fn pass_time(time: std::time::Duration) {
    if CONTROLLED.get() {
        co::pass(time);
    }
}

/// Makes everyone who waits for `key` look again: with [store buffers](tso), when they can see what the caller stored.
#[inline]
pub fn wake(key: usize) {
    if !(tso::enabled() && tso::wake_later(key)) {
        wake_now(key);
    }
}

fn wake_now(key: usize) {
    if CONTROLLED.get() { co::wake(key) } else { park::wake(key) }
}

/// The caller has got somewhere: its run is no livelock up to here.
#[inline]
pub fn progress() {
    if CONTROLLED.get() {
        co::progress();
    }
}

/// One of `n` values, whichever the policy picks; part of the schedule. In free mode it is 0. Not a scheduling point.
///
/// # Panics
/// If `n` is zero or more than 2^31.
pub fn choose(n: usize, label: Label) -> usize {
    assert!((1..=1 << 31).contains(&n), "choose among {n} values at {label}, wanted 1 to 2^31");
    if CONTROLLED.get() { co::choose(n as u32, label) as usize } else { 0 }
}

/// The caller has read `value` from what tasks share: its local state depends on it from now on. For
/// the search of all states.
#[inline]
pub fn observe(value: u64) {
    if CONTROLLED.get() {
        co::observe(value);
    }
}

/// The caller is where it began: what it did before does not matter to what it will do. For
/// the search of all states.
#[inline]
pub fn forget() {
    if CONTROLLED.get() {
        co::forget();
    }
}

/// The current task begins a section in which it must not sleep.
#[inline]
pub fn atomic_enter() {
    ATOMIC.set(ATOMIC.get() + 1);
}

/// It ends one; false if it was in none.
#[inline]
pub fn atomic_leave() -> bool {
    let depth = ATOMIC.get();
    ATOMIC.set(depth.saturating_sub(1));
    depth != 0
}

/// How many such sections it is in.
#[inline]
pub fn atomic_depth() -> u32 {
    ATOMIC.get()
}

pub(crate) fn set_atomic_depth(depth: u32) {
    ATOMIC.set(depth)
}

/// The CPU that the current task holds, or [`NO_CPU`].
#[inline]
pub fn this_cpu() -> u32 {
    CPU.get()
}

/// Says which CPU the current task holds.
#[inline]
pub fn set_this_cpu(cpu: u32) {
    CPU.set(cpu)
}

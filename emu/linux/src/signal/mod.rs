//! Signals: numbers, default actions, and the per-process table of actions.

mod deliver;
mod frame;
mod info;
mod queue;
mod send;

pub(crate) use deliver::{Interrupted, Interruption, VDSO_CODE};
pub(crate) use frame::AltStack;
pub use info::Info;
pub(crate) use info::code;
pub(crate) use queue::Queue;

use crate::errno::Errno;
use std::sync::{Mutex, PoisonError};

/// SA_ONSTACK.
pub const SA_ONSTACK: u64 = 0x0800_0000;
/// SA_RESTART.
pub const SA_RESTART: u64 = 0x1000_0000;
/// SA_NODEFER.
pub const SA_NODEFER: u64 = 0x4000_0000;
/// SA_RESETHAND.
pub const SA_RESETHAND: u64 = 0x8000_0000;
/// SA_RESTORER.
pub const SA_RESTORER: u64 = 0x0400_0000;
/// SA_SIGINFO.
pub const SA_SIGINFO: u64 = 4;

/// SIGKILL and SIGSTOP, which cannot be blocked.
pub const UNBLOCKABLE: u64 = bit(SIGKILL) | bit(SIGSTOP);

/// The bit of a signal in a set.
pub const fn bit(sig: u32) -> u64 {
    1 << (sig - 1)
}

/// Names by number, from 1.
const NAMES: [&str; 31] = [
    "SIGHUP",
    "SIGINT",
    "SIGQUIT",
    "SIGILL",
    "SIGTRAP",
    "SIGABRT",
    "SIGBUS",
    "SIGFPE",
    "SIGKILL",
    "SIGUSR1",
    "SIGSEGV",
    "SIGUSR2",
    "SIGPIPE",
    "SIGALRM",
    "SIGTERM",
    "SIGSTKFLT",
    "SIGCHLD",
    "SIGCONT",
    "SIGSTOP",
    "SIGTSTP",
    "SIGTTIN",
    "SIGTTOU",
    "SIGURG",
    "SIGXCPU",
    "SIGXFSZ",
    "SIGVTALRM",
    "SIGPROF",
    "SIGWINCH",
    "SIGIO",
    "SIGPWR",
    "SIGSYS",
];

/// Illegal instruction.
pub const SIGILL: u32 = 4;
/// Trace or breakpoint trap.
pub const SIGTRAP: u32 = 5;
/// Bus error: an address beyond the end of a file, or memory ran out.
pub const SIGBUS: u32 = 7;
/// Arithmetic exception.
pub const SIGFPE: u32 = 8;
/// Kill.
pub const SIGKILL: u32 = 9;
/// Invalid memory reference.
pub const SIGSEGV: u32 = 11;
/// Write to a pipe nobody reads.
pub const SIGPIPE: u32 = 13;
/// The timer of `alarm` and `setitimer` expired.
pub const SIGALRM: u32 = 14;
/// Stop.
pub const SIGSTOP: u32 = 19;

/// The name of a signal.
pub fn name(sig: u32) -> String {
    match NAMES.get((sig as usize).wrapping_sub(1)) {
        Some(n) => (*n).into(),
        None => format!("signal {sig}"),
    }
}

/// What happens without a handler.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Default {
    /// The process ends.
    Terminate,
    /// Nothing.
    Ignore,
    /// The process stops.
    Stop,
}

/// The default action of a signal (signal(7)).
pub fn default_action(sig: u32) -> Default {
    match sig {
        17 | 18 | 23 | 28 => Default::Ignore,
        19..=22 => Default::Stop,
        _ => Default::Terminate,
    }
}

/// The kernel's `struct sigaction` of s390x: 32 bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, std::default::Default)]
pub struct Action {
    /// SIG_DFL 0, SIG_IGN 1, or the handler.
    pub handler: u64,
    /// SA_ flags.
    pub flags: u64,
    /// Restorer.
    pub restorer: u64,
    /// Signals blocked while the handler runs.
    pub mask: u64,
}

impl Action {
    /// Whether a signal with this action has no effect.
    pub fn ignores(&self, sig: u32) -> bool {
        self.handler == 1 || self.handler == 0 && default_action(sig) == Default::Ignore
    }
    /// From its bytes.
    pub fn from_bytes(b: &[u8; 32]) -> Self {
        let at = |i: usize| u64::from_be_bytes(b[i..i + 8].try_into().unwrap_or_default());
        Action { handler: at(0), flags: at(8), restorer: at(16), mask: at(24) }
    }
    /// To its bytes.
    pub fn to_bytes(self) -> [u8; 32] {
        let mut b = [0; 32];
        for (i, v) in [self.handler, self.flags, self.restorer, self.mask].into_iter().enumerate() {
            b[i * 8..i * 8 + 8].copy_from_slice(&v.to_be_bytes());
        }
        b
    }
}

/// The actions of a process.
#[derive(Debug)]
pub struct Actions(Mutex<[Action; 65]>);

impl std::default::Default for Actions {
    fn default() -> Self {
        Actions(Mutex::new([Action::default(); 65]))
    }
}

impl Actions {
    /// The action of a signal.
    pub fn get(&self, sig: u32) -> Action {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(sig as usize).copied().unwrap_or_default()
    }
    /// Gives a signal its default action.
    pub fn reset(&self, sig: u32) {
        let mut t = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(a) = t.get_mut(sig as usize) {
            a.handler = 0;
        }
    }
    /// Sets the action of a signal; returns the one before.
    pub fn set(&self, sig: u32, action: Action) -> Result<Action, Errno> {
        if sig == 0 || sig > 64 || sig == SIGKILL || sig == SIGSTOP {
            return Err(Errno::EINVAL);
        }
        let mut t = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(std::mem::replace(&mut t[sig as usize], action))
    }
}

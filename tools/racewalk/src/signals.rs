//! Signals from outside: the guest's, or the end of a recording.

use crate::exit;
use anyhow::Context;
use nix::sys::signal::{SigSet, Signal};
use racewalk_linux::system::{Ending, System};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Signals that others send to racewalk and that are the guest's.
pub struct Outside(SigSet);

impl Outside {
    const ALL: [Signal; 7] = [
        Signal::SIGHUP,
        Signal::SIGINT,
        Signal::SIGQUIT,
        Signal::SIGUSR1,
        Signal::SIGUSR2,
        Signal::SIGALRM,
        Signal::SIGTERM,
    ];

    /// Keeps them from this thread and those that it starts. What was ignored when racewalk was started, as under nohup, stays so.
    pub fn block() -> Outside {
        let ignored = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let ignored = ignored.lines().find_map(|l| l.strip_prefix("SigIgn:"));
        let ignored = ignored.and_then(|m| u64::from_str_radix(m.trim(), 16).ok()).unwrap_or(0);
        let taken = Self::ALL.into_iter().filter(|&s| ignored & 1 << (s as u32 - 1) == 0);
        let set: SigSet = taken.collect();
        let _ = set.thread_block();
        Outside(set)
    }

    /// From here on the guest gets them; their numbers are the same on all of Linux's architectures.
    pub fn give_to(self, sys: Arc<System>) -> std::io::Result<()> {
        let wait = move || {
            while let Ok(s) = self.0.wait() {
                sys.signal_from_outside(s as u32)
            }
        };
        std::thread::Builder::new().name("signals".into()).spawn(wait).map(drop)
    }
}

/// Calls `f` when SIGINT or SIGTERM comes, the first time; the second ends racewalk. Whether one came.
pub fn on_interrupt(f: impl Fn() + Send + 'static) -> anyhow::Result<Arc<AtomicBool>> {
    let came = Arc::new(AtomicBool::new(false));
    let told = came.clone();
    ctrlc::set_handler(move || {
        if told.swap(true, Ordering::SeqCst) {
            std::process::exit((exit::SIGNAL_BASE + 2).into())
        }
        f()
    })
    .context("handle interrupts")?;
    Ok(came)
}

/// How a run ends that was interrupted.
pub fn interrupted() -> Ending {
    Ending::Killed { signal: 2, text: "interrupted".into() }
}

//! Sending signals: to a task, to the process, and telling those who are to take them.

use super::{Info, bit};
use crate::errno::Errno;
use crate::system::System;
use crate::task::TaskShared;
use racewalk_cpu::signal;

impl System {
    /// Sends a signal to one task. Refused only if its queue is full.
    pub(crate) fn signal_task(&self, t: &TaskShared, info: Info) -> Result<(), Errno> {
        let sig = info.signal();
        if self.actions.get(sig).ignores(sig) && t.mask() & bit(sig) == 0 {
            return Ok(());
        }
        if !t.pending.add(info) {
            return Err(Errno::EAGAIN);
        }
        if t.mask() & bit(sig) == 0 {
            self.notify(t);
        }
        Ok(())
    }

    /// Sends a signal to the process: some task that does not block it takes it.
    pub(crate) fn signal_process(&self, info: Info) -> Result<(), Errno> {
        let sig = info.signal();
        let blocked = self.tasks().iter().all(|t| t.mask() & bit(sig) != 0);
        if self.actions.get(sig).ignores(sig) && !blocked {
            return Ok(());
        }
        if !self.pending.add(info) {
            return Err(Errno::EAGAIN);
        }
        self.notify_any(bit(sig));
        Ok(())
    }

    /// Sends a signal to the process that somebody outside sent to the emulator.
    pub fn signal_from_outside(&self, sig: u32) {
        // Pending already: it comes once.
        let _ = self.signal_process(Info::outside(sig));
    }

    /// Tells, for each signal of `set`, a task that does not block it: the first task before others.
    pub(crate) fn notify_any(&self, set: u64) {
        let tasks: Vec<_> = self.tasks().clone();
        let mut left = set;
        for t in tasks {
            if left & !t.mask() != 0 {
                left &= t.mask();
                self.notify(&t);
            }
        }
    }

    fn notify(&self, t: &TaskShared) {
        t.give_notice();
        for c in 0..self.cpus.count() {
            self.cpus.kick(c, signal::SIGNAL);
        }
    }

    /// Drops pending instances of a signal that is ignored from now on.
    pub(crate) fn drop_signal(&self, sig: u32) {
        self.pending.drop_all(sig);
        for t in self.tasks().iter() {
            t.pending.drop_all(sig);
        }
    }
}

//! What is looked at when the process has ended.

use crate::system::System;
use racewalk_mm::MmError;

impl System {
    /// When the process has ended: takes its space down, and gives all that was found. With the sanitizer, what is left
    /// over is found too.
    pub fn findings(&self) -> Vec<MmError> {
        let k = &self.kernel;
        if self.sanitizes && !k.has_findings() {
            let down = (0..self.cpus.count())
                .try_for_each(|cpu| self.mm.detach(cpu))
                .and_then(|()| self.mm.exit())
                .and_then(|()| {
                    k.rcu_barrier();
                    k.shutdown()
                });
            if down.is_ok() && !k.has_findings() {
                k.check_leaks();
            }
        }
        k.take_findings()
    }
}

//! The test hypercall, under the sanitizer or for a recording.
//!
//! `DIAGNOSE` with code 0x500 is no instruction of problem state on any machine; where the run is watched it lets a
//! guest ask for what no system call does. R1 names the function, R3 holds an address, the answer is left in R1:
//!
//! | R1 | what | answer |
//! |---|---|---|
//! | 1 | retract the page table of the segment at R3, as khugepaged does | 1 if there was one to retract, else 0 |
//! | 2 | wait until the callbacks queued so far have run | 0 |
//! | 3 | mark this place, in a recording, with the number in R3 | 0 |
//!
//! Anything else answers −1. Without `--sanitize` there is only the mark, and only where a recording is made.

use crate::observe::Note;
use crate::task::Task;

/// The code of the hypercall.
const CODE: u64 = 0x500;
/// DIAGNOSE.
const DIAG: u8 = 0x83;

impl Task {
    /// Whether the privileged instruction at the program counter was the hypercall; then it is done.
    pub(crate) fn hypercall(&mut self, len: u8) -> bool {
        if !self.sys.sanitizes && !self.sys.observer.is_some() {
            return false;
        }
        let pc = self.pc();
        let Some(i) = self.instruction(pc).filter(|i| i.len() == 4 && i[0] == DIAG) else { return false };
        let (r1, r3, b2) = (i[1] >> 4, i[1] & 15, i[2] >> 4);
        let base = if b2 == 0 { 0 } else { self.gpr(b2) };
        if base.wrapping_add((i[2] as u64 & 15) << 8 | i[3] as u64) & 0xffff != CODE {
            return false;
        }
        let answer = match self.gpr(r1) {
            3 => {
                let value = self.gpr(r3);
                self.note(|| Note::Mark(value));
                0
            }
            // What changes page tables is for runs that ask for it.
            _ if !self.sys.sanitizes => return false,
            1 => match self.sys.mm.retract_segment(self.gpr(r3)) {
                Ok(done) => done as u64,
                Err(_) => u64::MAX,
            },
            2 => {
                self.sys.kernel.rcu_barrier();
                0
            }
            _ => u64::MAX,
        };
        self.set_gpr(r1, answer);
        self.set_pc(pc.wrapping_add(len as u64));
        true
    }
}

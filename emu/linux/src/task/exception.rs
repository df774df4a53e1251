//! Exceptions of guest code, and the signals that they become.

use super::Task;
use crate::signal::{self, Info, Interruption};
use crate::system::Ending;
use racewalk_isa::s390x::{PRIVILEGED, S390x};
use racewalk_isa::{Arch, Exc};

impl Task {
    pub(super) fn exception(&mut self, exc: Exc, fault: Option<racewalk_cpu::Fault>, len: u8) {
        let pc = self.pc();
        match (exc, fault) {
            (Exc::ACCESS, Some(f)) => {
                if let Err(s) = self.sys.mm.handle_fault(&f) {
                    let what = format!("{} at {:#x} ({})", f.access, f.vaddr.0, f.reason.name());
                    let text = self.explain(&what, &s.why);
                    let info = Info::fault(s.number, s.code as i32, s.addr);
                    let int =
                        Interruption { code: f.reason.code() as u64, teid: f.teid().unwrap_or_default() };
                    self.force(&info, text, int);
                }
            }
            (Exc::CANCELLED, _) => std::panic::resume_unwind(Box::new(racewalk_sched::Cancelled)),
            _ if exc == PRIVILEGED && self.hypercall(len) => {}
            _ => match program_signal(exc) {
                Some((signal, code, interruption, what)) => {
                    let mapping = self.sys.mm.describe(pc);
                    let text = self.explain(what, &mapping);
                    if interruption == 7 {
                        self.set_dxc(exc.0.get() as u8);
                    }
                    // The old PSW points behind the instruction, si_addr at it.
                    self.set_pc(pc.wrapping_add(len as u64));
                    let int = Interruption { code: interruption, teid: 0 };
                    self.force(&Info::fault(signal, code, pc), text, int);
                }
                None => {
                    let text = self.explain("not modelled: an exception raised", "");
                    self.sys.finish(Ending::Failed(text));
                }
            },
        }
    }

    /// One line about what the current instruction did wrong.
    pub(crate) fn explain(&mut self, what: &str, mapping: &str) -> String {
        let pc = self.pc();
        // Where fetching is forbidden, reading may not be.
        let bytes = self.instruction(pc);
        let first = bytes.as_ref().map(|b| b[0]);
        let insn = match bytes {
            Some(bytes) => {
                let hex: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
                format!("{} [{hex}]", S390x::text(&S390x::decode(pc, &bytes)))
            }
            None => "an instruction that cannot be read".into(),
        };
        let mut said = format!("{what} by {insn} at {pc:#x}");
        if !mapping.is_empty() {
            said += &format!("; {mapping}");
        }
        if first.is_some_and(|b| matches!(b, 0xe6 | 0xe7)) {
            said += "; vector instructions are not modelled, build with -march=zEC12 or older";
        }
        said
    }

    /// The bytes of the instruction at `pc`, read as data.
    pub(crate) fn instruction(&self, pc: u64) -> Option<Vec<u8>> {
        let mut first = [0; 2];
        self.copy_in(pc, &mut first).ok()?;
        let mut bytes = vec![0; S390x::insn_len(first)];
        self.copy_in(pc, &mut bytes).ok()?;
        Some(bytes)
    }
}

/// The signal for a program interruption: number, si_code, interruption code, what to say. Linux
/// `arch/s390/kernel/traps.c` gives the mapping.
fn program_signal(exc: Exc) -> Option<(u32, i32, u64, &'static str)> {
    let e = |code: u16| Exc::program(code);
    Some(match exc {
        x if x == e(1) => (signal::SIGILL, 1, 1, "illegal instruction"),
        x if x == e(2) => (signal::SIGILL, 5, 2, "privileged instruction"),
        x if x == e(3) => (signal::SIGILL, 2, 3, "EXECUTE of EXECUTE"),
        x if x == e(6) => (signal::SIGILL, 2, 6, "specification exception"),
        x if x == e(8) => (signal::SIGFPE, 2, 8, "fixed-point overflow"),
        x if x == e(9) => (signal::SIGFPE, 1, 9, "fixed-point division by zero or overflow"),
        x if x == e(0xa) => (signal::SIGFPE, 2, 0xa, "decimal overflow"),
        x if x == e(0xb) => (signal::SIGFPE, 1, 0xb, "decimal division by zero"),
        x if x == Exc::NOT_MODELLED => return None,
        Exc(n) if n.get() >> 16 == 4 => match n.get() & 0xff {
            0 => (signal::SIGILL, 2, 7, "data exception"),
            // Not an IEEE exception, or one that LFAS or SFASR simulates: no code.
            0xff => (signal::SIGFPE, 0, 7, "compare and trap"),
            d if d & 3 != 0 => (signal::SIGFPE, 0, 7, "simulated IEEE exception"),
            // Floating-point traps: the data-exception code says which.
            d if d & 0x80 != 0 => (signal::SIGFPE, 7, 7, "IEEE invalid operation"),
            d if d & 0x40 != 0 => (signal::SIGFPE, 3, 7, "IEEE division by zero"),
            d if d & 0x20 != 0 => (signal::SIGFPE, 4, 7, "IEEE overflow"),
            d if d & 0x10 != 0 => (signal::SIGFPE, 5, 7, "IEEE underflow"),
            d if d & 0x08 != 0 => (signal::SIGFPE, 6, 7, "IEEE inexact result"),
            _ => (signal::SIGFPE, 0, 7, "quantum exception"),
        },
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `do_fp_trap` in Linux `arch/s390/kernel/traps.c`: no code unless the two low bits of the data-exception code
    /// are zero. Seen to fail when a simulated exception had the code of a real one.
    #[test]
    fn codes_of_data_exceptions() {
        let found = |dxc| program_signal(Exc::data(dxc)).map(|s| (s.0, s.1));
        assert_eq!(found(0), Some((signal::SIGILL, 2)));
        for (dxc, code) in [(0x80, 7), (0x40, 3), (0x28, 4), (0x1c, 5), (0x08, 6), (0x04, 0)] {
            assert_eq!(found(dxc), Some((signal::SIGFPE, code)), "{dxc:#x}");
        }
        for dxc in [0x83, 0x43, 0x23, 0x13, 0x0b, 0x07, 0xff] {
            assert_eq!(found(dxc), Some((signal::SIGFPE, 0)), "{dxc:#x}");
        }
    }
}

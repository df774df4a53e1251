//! Delivery of signals: which one, its frame, restarting calls, and the way back.

use super::frame::{AltStack, REGISTERS, plain, restore, rt, save};
use super::{
    Action, Default, Info, SA_NODEFER, SA_ONSTACK, SA_RESETHAND, SA_RESTART, SA_RESTORER, SA_SIGINFO,
};
use super::{SIGSEGV, bit, default_action, name};
use crate::errno::{Errno, SysResult};
use crate::system::Ending;
use crate::task::Task;
use racewalk_isa::s390x::state;

/// A call that a signal cut short: what it answered, and how to make it again.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Interrupted {
    pub(crate) errno: Errno,
    /// Address of the SVC (or of the EXECUTE of it).
    pub(crate) pc: u64,
    /// General register 2 before the call.
    pub(crate) r2: u64,
}

/// What non-SA_SIGINFO handlers get in registers 4 and 5 of a signal that an instruction caused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, std::default::Default)]
pub(crate) struct Interruption {
    /// The program-interruption code.
    pub(crate) code: u64,
    /// The translation-exception identification.
    pub(crate) teid: u64,
}

/// The breaking-event address: branches are not recorded, so it is what Linux says before the first one.
const LAST_BREAK: u64 = 1;
/// SVC sigreturn and SVC rt_sigreturn.
const SVC_SIGRETURN: u16 = 0x0a77;
const SVC_RT_SIGRETURN: u16 = 0x0aad;

/// The code of the `[vdso]` page: what handlers without a restorer of their own return to.
pub(crate) const VDSO_CODE: [u16; 2] = [SVC_SIGRETURN, SVC_RT_SIGRETURN];

impl Task {
    /// Takes the next signal that is not blocked.
    fn next_signal(&mut self) -> Option<Info> {
        self.shared.forget_notice();
        let free = !self.mask();
        let mut info = self.shared.pending.take(free).or_else(|| self.sys.pending.take(free));
        if let Some(i) = &mut info {
            self.sys.timers.note_taken(i);
        }
        self.review_signals();
        info
    }

    /// Takes pending signals before guest code goes on, and ends or restarts a call that one cut short.
    pub(crate) fn take_signals(&mut self) {
        while self.shared.noticed() && !self.ended() && !self.sys.ending() {
            let Some(info) = self.next_signal() else { break };
            let sig = info.signal();
            let a = self.sys.actions.get(sig);
            if a.ignores(sig) {
                continue;
            }
            match (a.handler, default_action(sig)) {
                (0, Default::Stop) => {
                    let text = format!("not modelled: stopping on {}", name(sig));
                    return self.sys.finish(Ending::Failed(text));
                }
                (0, _) => {
                    let mapping = self.sys.mm.describe(self.pc());
                    let sender = if info.is_from_outside() { "from outside" } else { "by the program" };
                    let text = self.explain(&format!("sent {sender}; it would go on"), &mapping);
                    return self.sys.finish(Ending::Killed { signal: sig, text });
                }
                _ => self.deliver(&info, a, Interruption::default()),
            }
        }
        if let Some(call) = self.interrupted.take() {
            self.make_again(call);
        }
        if let Some(mask) = self.saved_mask.take() {
            self.set_mask(mask);
        }
    }

    fn make_again(&mut self, call: Interrupted) {
        self.set_pc(call.pc);
        self.set_gpr(2, call.r2);
    }

    /// Raises a signal that an instruction caused; `text` says so if it ends the process.
    pub(crate) fn force(&mut self, info: &Info, text: String, int: Interruption) {
        let sig = info.signal();
        let a = self.sys.actions.get(sig);
        let blocked = self.mask() & bit(sig) != 0;
        // A blocked or ignored synchronous signal kills all the same.
        if a.handler <= 1 || blocked {
            self.sys.finish(Ending::Killed { signal: sig, text });
        } else {
            self.deliver(info, a, int);
        }
    }

    /// Makes the task continue in a handler.
    fn deliver(&mut self, info: &Info, a: Action, int: Interruption) {
        let sig = info.signal();
        tracing::debug!(tid = self.shared.tid, ?info, handler = format_args!("{:#x}", a.handler), "signal");
        if self.sys.talk.wants_calls() {
            self.sys.talk.call(self.shared.tid, &format!("--- {info:?} ---"));
        }
        if let Some(call) = self.interrupted.take() {
            self.deadline = None;
            if call.errno == Errno::ERESTARTSYS && a.flags & SA_RESTART != 0
                || call.errno == Errno::ERESTARTNOINTR
            {
                self.make_again(call);
            }
        }
        if a.flags & SA_RESETHAND != 0 {
            self.sys.actions.reset(sig);
        }
        let mask = self.saved_mask.take().unwrap_or(self.mask());
        let done = match a.flags & SA_SIGINFO != 0 {
            true => self.push_rt_frame(info, &a, mask),
            false => self.push_plain_frame(sig, &a, mask, int),
        };
        if done.is_err() {
            if sig == SIGSEGV {
                self.sys.actions.reset(sig);
            }
            let text = format!("no room for the frame of {} below {:#x}", name(sig), self.gpr(15));
            return self.force(&Info::kernel(SIGSEGV), text, Interruption::default());
        }
        self.set_pc(a.handler);
        let own = if a.flags & SA_NODEFER != 0 { 0 } else { bit(sig) };
        self.set_mask(self.mask() | a.mask | own);
        if self.altstack.flags & AltStack::AUTODISARM != 0 {
            self.altstack = AltStack::NONE;
        }
    }

    fn push_rt_frame(&mut self, info: &Info, a: &Action, mask: u64) -> Result<(), Errno> {
        let at = self.frame_address(rt::SIZE, a.flags & SA_ONSTACK != 0).ok_or(Errno::EFAULT)?;
        let registers = save(&self.registers());
        let mut f = vec![0; rt::SIZE as usize];
        let mut put = |at: u64, b: &[u8]| f[at as usize..at as usize + b.len()].copy_from_slice(b);
        put(0, &self.gpr(15).to_be_bytes());
        put(rt::SVC, &SVC_RT_SIGRETURN.to_be_bytes());
        put(rt::INFO, info.bytes());
        put(rt::UCONTEXT + rt::UC_STACK, &self.altstack.to_bytes());
        put(rt::UCONTEXT + rt::UC_MCONTEXT, &registers);
        put(rt::UCONTEXT + rt::UC_SIGMASK, &mask.to_be_bytes());
        self.copy_out(at, &f)?;
        self.set_gpr(14, if a.flags & SA_RESTORER != 0 { a.restorer } else { self.sys.vdso + 2 });
        self.set_gpr(15, at);
        self.set_gpr(2, info.signal() as u64);
        self.set_gpr(3, at + rt::INFO);
        self.set_gpr(4, at + rt::UCONTEXT);
        self.set_gpr(5, LAST_BREAK);
        Ok(())
    }

    fn push_plain_frame(&mut self, sig: u32, a: &Action, mask: u64, int: Interruption) -> Result<(), Errno> {
        let at = self.frame_address(plain::SIZE, a.flags & SA_ONSTACK != 0).ok_or(Errno::EFAULT)?;
        let registers = save(&self.registers());
        let mut f = vec![0; plain::SIZE as usize];
        let mut put = |at: u64, b: &[u8]| f[at as usize..at as usize + b.len()].copy_from_slice(b);
        put(0, &self.gpr(15).to_be_bytes());
        put(plain::CONTEXT, &mask.to_be_bytes());
        put(plain::CONTEXT + 8, &(at + plain::REGISTERS).to_be_bytes());
        put(plain::REGISTERS, &registers);
        put(plain::SIGNO, &sig.to_be_bytes());
        put(plain::SVC, &SVC_SIGRETURN.to_be_bytes());
        self.copy_out(at, &f)?;
        self.set_gpr(14, if a.flags & SA_RESTORER != 0 { a.restorer } else { self.sys.vdso });
        self.set_gpr(15, at);
        self.set_gpr(2, sig as u64);
        self.set_gpr(3, at + plain::CONTEXT);
        if matches!(sig, 4 | 5 | 7 | 8 | 11) {
            self.set_gpr(4, int.code);
            self.set_gpr(5, int.teid);
            self.set_gpr(6, LAST_BREAK);
        }
        Ok(())
    }

    /// `rt_sigreturn`, or `sigreturn`: the registers and the mask of the frame at the stack pointer. The result goes
    /// into general register 2, where it is already.
    pub(crate) fn sigreturn(&mut self, siginfo: bool) -> SysResult {
        match self.pop_frame(siginfo) {
            Ok(()) => {}
            Err(_) => {
                let text = format!("sigreturn with a bad frame at {:#x}", self.gpr(15));
                self.force(&Info::kernel(SIGSEGV), text, Interruption::default());
            }
        }
        Ok(self.gpr(2))
    }

    fn pop_frame(&mut self, siginfo: bool) -> Result<(), Errno> {
        let at = self.gpr(15);
        let mut b = [0; REGISTERS];
        let from = |o: u64| at.wrapping_add(o);
        let mask = if siginfo {
            self.copy_in(from(rt::UCONTEXT + rt::UC_MCONTEXT), &mut b)?;
            let mut s = [0; 24];
            self.copy_in(from(rt::UCONTEXT + rt::UC_STACK), &mut s)?;
            // Only a frame that cannot be read is an error.
            let _ = self.set_altstack(AltStack::from_bytes(&s));
            self.get_u64(from(rt::UCONTEXT + rt::UC_SIGMASK))?
        } else {
            self.copy_in(from(plain::REGISTERS), &mut b)?;
            self.get_u64(from(plain::CONTEXT))?
        };
        let mut r = self.registers();
        restore(&b, &mut r)?;
        self.set_registers(&r);
        self.set_mask(mask);
        Ok(())
    }

    /// `sigaltstack`.
    pub(crate) fn set_altstack(&mut self, s: AltStack) -> Result<(), Errno> {
        let mode = s.flags & !AltStack::AUTODISARM;
        if self.stack_flags(self.gpr(15)) == AltStack::ONSTACK {
            return Err(Errno::EPERM);
        }
        self.altstack = match mode {
            AltStack::DISABLE => AltStack { sp: 0, size: 0, ..s },
            0 | AltStack::ONSTACK if s.size < AltStack::MIN => return Err(Errno::ENOMEM),
            0 | AltStack::ONSTACK => s,
            _ => return Err(Errno::EINVAL),
        };
        Ok(())
    }

    /// Notes the data-exception code where the machine does: in the floating-point control register.
    pub(crate) fn set_dxc(&mut self, dxc: u8) {
        let mut r = self.registers();
        let fpc = &mut r.slots[state::FPC as usize];
        *fpc = *fpc & !0xff00 | (dxc as u64) << 8;
        self.set_registers(&r);
    }
}

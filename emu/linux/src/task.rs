//! A task: one guest thread, its registers, and the loop that runs it.

use crate::errno::{Errno, SysResult};
use crate::file::{OpenFile, Wait};
use crate::signal::{self, Cause};
use crate::system::{Ending, System};
use racewalk_cpu::signal as cpu_signal;
use racewalk_engine::cache::Mode;
use racewalk_engine::vcpu::{Stop, Vcpu};
use racewalk_isa::s390x::{S390x, state};
use racewalk_isa::{Exc, MAX_SLOTS};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

/// Instructions that a task may run while another waits for its CPU.
const SLICE: u64 = 1 << 20;
/// The same for the engine that runs everything twice and compares, and a task's first slice: about as long a time.
const CHECK_SLICE: u64 = 1 << 16;
/// What a stay in hosted code costs of the slice, in instructions.
const KERNEL_COST: u64 = 2000;
/// How long a task that waits for a host file sleeps before it looks whether the process is ending.
const HOST_WAIT: Duration = Duration::from_millis(50);

/// What others may know of a task.
#[derive(Debug)]
pub struct TaskShared {
    /// Thread id.
    pub tid: u32,
    /// Pending signals, bit `n - 1` for signal n.
    pub pending: AtomicU64,
    sleep: AtomicUsize,
}

impl TaskShared {
    /// A task that has not run.
    pub fn new(tid: u32) -> Self {
        TaskShared { tid, pending: AtomicU64::new(0), sleep: AtomicUsize::new(0) }
    }
    /// What the task sleeps on, 0 if it does not.
    pub fn sleep_key(&self) -> usize {
        self.sleep.load(Ordering::SeqCst)
    }
}

/// Saved state of a task without a CPU.
#[derive(Clone)]
pub struct Registers {
    /// Architectural slots.
    pub slots: [u64; MAX_SLOTS],
    /// Program counter.
    pub pc: u64,
}

/// A guest thread. It is moved into the host thread or coroutine that runs it.
pub struct Task {
    /// What the process's tasks share.
    pub sys: Arc<System>,
    /// What others may know of this one.
    pub shared: Arc<TaskShared>,
    /// Registers while no CPU is held.
    saved: Box<Registers>,
    cpu: Option<(u32, Vcpu<S390x>)>,
    /// Blocked signals.
    pub mask: u64,
    /// Cleared and woken when the task ends.
    pub clear_child_tid: u64,
    /// Alternate signal stack: ss_sp, ss_flags, ss_size.
    pub altstack: (u64, u32, u64),
    ended: bool,
    /// What is left of the slice.
    slice: u64,
}

impl Task {
    /// The first task of a process.
    pub fn first(sys: Arc<System>) -> Task {
        let shared = sys.register();
        Task {
            sys,
            shared,
            saved: Box::new(Registers { slots: [0; MAX_SLOTS], pc: 0 }),
            cpu: None,
            mask: 0,
            clear_child_tid: 0,
            altstack: (0, 2, 0),
            ended: false,
            slice: CHECK_SLICE,
        }
    }

    /// A new task of the same process with the same registers.
    pub fn fork_thread(&mut self) -> Task {
        let shared = self.sys.register();
        Task {
            sys: self.sys.clone(),
            shared,
            saved: Box::new(self.registers()),
            cpu: None,
            mask: self.mask,
            clear_child_tid: 0,
            altstack: (0, 2, 0),
            ended: false,
            slice: CHECK_SLICE,
        }
    }

    /// A copy of all registers.
    pub fn registers(&self) -> Registers {
        match &self.cpu {
            Some((_, v)) => Registers { slots: v.core.slots, pc: v.core.pc },
            None => (*self.saved).clone(),
        }
    }

    fn slots(&mut self) -> &mut [u64; MAX_SLOTS] {
        match &mut self.cpu {
            Some((_, v)) => &mut v.core.slots,
            None => &mut self.saved.slots,
        }
    }

    /// General register `n`.
    pub fn gpr(&self, n: u8) -> u64 {
        let s = state::gpr(n) as usize;
        match &self.cpu {
            Some((_, v)) => v.core.slots[s],
            None => self.saved.slots[s],
        }
    }

    /// Sets general register `n`.
    pub fn set_gpr(&mut self, n: u8, v: u64) {
        self.slots()[state::gpr(n) as usize] = v;
    }

    /// Sets the thread pointer: access registers 0 (high half) and 1.
    pub fn set_thread_pointer(&mut self, tp: u64) {
        let s = self.slots();
        s[state::ar(0) as usize] = tp >> 32;
        s[state::ar(1) as usize] = tp & 0xffff_ffff;
    }

    /// The program counter.
    pub fn pc(&self) -> u64 {
        match &self.cpu {
            Some((_, v)) => v.core.pc,
            None => self.saved.pc,
        }
    }

    /// Sets the program counter.
    pub fn set_pc(&mut self, pc: u64) {
        match &mut self.cpu {
            Some((_, v)) => v.core.pc = pc,
            None => self.saved.pc = pc,
        }
    }

    /// Takes a CPU and enters hosted code on it.
    pub fn take_cpu(&mut self) {
        debug_assert!(self.cpu.is_none());
        let (n, mut v) = self.sys.pool.acquire();
        self.sys.cpus.enter_kernel(n);
        v.core.slots = self.saved.slots;
        v.core.pc = self.saved.pc;
        self.cpu = Some((n, v));
        if let Err(e) = self.sys.mm.switch_to(n) {
            self.sys.finish(Ending::Failed(e.to_string()));
        }
    }

    /// Leaves hosted code and gives the CPU back.
    pub fn drop_cpu(&mut self) {
        if let Some((n, v)) = self.cpu.take() {
            self.saved.slots = v.core.slots;
            self.saved.pc = v.core.pc;
            self.sys.cpus.exit_kernel(n);
            self.sys.pool.release((n, v));
        }
    }

    /// Sleeps without a CPU while `blocked()` holds and the process is not ending. Returns false if `timeout`
    /// expired first.
    pub fn sleep(
        &mut self,
        key: usize,
        timeout: Option<Duration>,
        mut blocked: impl FnMut() -> bool,
    ) -> bool {
        self.drop_cpu();
        self.shared.sleep.store(key, Ordering::SeqCst);
        let (sys, shared, mask) = (self.sys.clone(), self.shared.clone(), self.mask);
        let pred = || blocked() && !sys.ending() && shared.pending.load(Ordering::SeqCst) & !mask == 0;
        let in_time = match timeout {
            None => {
                racewalk_sched::wait_while(key, "task.sleep", pred);
                true
            }
            Some(t) => racewalk_sched::wait_while_timeout(key, "task.sleep", t, pred),
        };
        self.shared.sleep.store(0, Ordering::SeqCst);
        self.take_cpu();
        in_time
    }

    /// Waits without a CPU until a host file is ready, or the process is ending.
    pub fn wait_file(&mut self, file: &OpenFile, wait: Wait) -> Result<(), Errno> {
        self.drop_cpu();
        while !self.sys.ending() && !file.poll(wait, HOST_WAIT) {}
        self.take_cpu();
        self.sys.interrupted().map_or(Ok(()), Err)
    }

    /// Runs the task until it ends.
    pub fn run(mut self) {
        self.take_cpu();
        while !self.ended && !self.sys.ending() {
            self.turn();
        }
        self.finish();
        self.drop_cpu();
    }

    /// Runs guest code once and deals with why it stopped.
    fn turn(&mut self) {
        let Some((n, v)) = &mut self.cpu else { return };
        self.sys.cpus.exit_kernel(*n);
        let before = v.instructions;
        let stop = v.run(self.slice);
        let ran = v.instructions - before;
        self.slice = self.slice.saturating_sub(ran + KERNEL_COST);
        self.sys.instructions.fetch_add(ran, Ordering::Relaxed);
        self.sys.cpus.enter_kernel(*n);
        match stop {
            Stop::Quantum => {}
            Stop::Signal(bits) => {
                v.core.signal.fetch_and(!bits, Ordering::SeqCst);
                if bits & (cpu_signal::RESCHEDULE | cpu_signal::SIGNAL) != 0 {
                    self.reschedule();
                }
            }
            Stop::Syscall { number, next } => self.syscall(number, next),
            Stop::Exception { exc, fault, len } => self.exception(exc, fault, len),
            Stop::Panicked => {
                self.sys.finish(Ending::Failed("a slow path of translated code panicked".into()))
            }
            Stop::Difference => {
                let text = v.difference.take().unwrap_or_default();
                self.sys.finish(Ending::Failed(format!("the engines disagree: {text}")));
            }
        }
        self.take_signals();
        if self.slice == 0 {
            self.reschedule();
        }
    }

    fn reschedule(&mut self) {
        self.slice = if self.sys.cache.mode() == Mode::Check { CHECK_SLICE } else { SLICE };
        if self.sys.pool.contended() {
            self.drop_cpu();
            self.take_cpu();
        }
    }

    fn syscall(&mut self, number: u16, next: u64) {
        // SVC 0 takes the number from general register 1.
        let nr = if number == 0 { self.gpr(1) } else { number as u64 };
        let args = [2, 3, 4, 5, 6, 7].map(|r| self.gpr(r));
        self.set_pc(next);
        let r = crate::syscall::call(self, nr, args);
        if self.sys.talk.wants_calls() {
            let line = crate::syscall::line(nr, args, r);
            self.sys.talk.call(self.shared.tid, &line);
        }
        if !self.ended {
            self.set_gpr(2, encode(r));
        }
    }

    fn exception(&mut self, exc: Exc, fault: Option<racewalk_cpu::Fault>, len: u8) {
        let pc = self.pc();
        let cause = match (exc, fault) {
            (Exc::ACCESS, Some(f)) => match self.sys.mm.handle_fault(&f) {
                Ok(()) => return,
                Err(s) => {
                    let what = format!("{} at {:#x} ({})", f.access, f.vaddr.0, f.reason.name());
                    let text = self.explain(&what, &s.why);
                    Cause { signal: s.number, code: s.code as i32, addr: s.addr, text }
                }
            },
            (Exc::CANCELLED, _) => std::panic::resume_unwind(Box::new(racewalk_sched::Cancelled)),
            _ => match program_signal(exc, pc, len) {
                Some((signal, code, addr, what)) => {
                    let mapping = self.sys.mm.describe(pc);
                    Cause { signal, code, addr, text: self.explain(what, &mapping) }
                }
                None => {
                    let text = self.explain("not modelled: instruction", "");
                    return self.sys.finish(Ending::Failed(text));
                }
            },
        };
        self.kill(cause);
    }

    /// One line about what the current instruction did wrong.
    fn explain(&mut self, what: &str, mapping: &str) -> String {
        let pc = self.pc();
        let insn = match self.cpu.as_mut().and_then(|(_, v)| v.describe_insn()) {
            Some((bytes, text)) => {
                let hex: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
                format!("{text} [{hex}]")
            }
            None => "an instruction that cannot be fetched".into(),
        };
        let mapping = if mapping.is_empty() { String::new() } else { format!("; {mapping}") };
        format!("{what} by {insn} at {pc:#x}{mapping}")
    }

    /// Takes a synchronous signal: its default action ends the process; a handler is not modelled yet.
    fn kill(&mut self, cause: Cause) {
        let a = self.sys.actions.get(cause.signal);
        let blocked = self.mask >> (cause.signal - 1) & 1 != 0;
        if a.handler > 1 && !blocked {
            let text = format!(
                "not modelled: delivery of {} to a handler ({})",
                signal::name(cause.signal),
                cause.text
            );
            return self.sys.finish(Ending::Failed(text));
        }
        // A blocked or ignored synchronous signal kills all the same.
        self.sys.finish(Ending::Killed { signal: cause.signal, text: cause.text });
    }

    /// Takes pending signals that are not blocked.
    fn take_signals(&mut self) {
        let ready = self.shared.pending.load(Ordering::SeqCst) & !self.mask;
        if ready == 0 {
            return;
        }
        let sig = ready.trailing_zeros() + 1;
        self.shared.pending.fetch_and(!(1 << (sig - 1)), Ordering::SeqCst);
        let a = self.sys.actions.get(sig);
        match (a.handler, signal::default_action(sig)) {
            (1, _) | (0, signal::Default::Ignore) => {}
            (0, signal::Default::Terminate) => {
                let text = format!("sent by the program at {:#x}", self.pc());
                self.sys.finish(Ending::Killed { signal: sig, text });
            }
            (0, signal::Default::Stop) => {
                let text = format!("not modelled: stopping on {}", signal::name(sig));
                self.sys.finish(Ending::Failed(text));
            }
            _ => {
                let text = format!("not modelled: delivery of {} to a handler", signal::name(sig));
                self.sys.finish(Ending::Failed(text));
            }
        }
    }

    /// Makes this task end after the current call.
    pub fn end(&mut self) {
        self.ended = true;
    }

    /// What the kernel does for a task that ends: the last one ends the process.
    fn finish(&mut self) {
        if self.clear_child_tid != 0 && !self.sys.ending() {
            let addr = self.clear_child_tid;
            if self.put_u32(addr, 0).is_ok() {
                self.sys.futexes.lock().wake(addr, 1, !0);
            }
        }
    }

    /// Copies from user memory.
    pub fn copy_in(&self, addr: u64, out: &mut [u8]) -> Result<(), Errno> {
        self.sys.mm.copy_from_user(out, addr).map_err(|_| Errno::EFAULT)
    }

    /// Copies to user memory.
    pub fn copy_out(&self, addr: u64, bytes: &[u8]) -> Result<(), Errno> {
        self.sys.mm.copy_to_user(addr, bytes).map_err(|_| Errno::EFAULT)
    }

    /// Reads a word of user memory.
    pub fn get_u32(&self, addr: u64) -> Result<u32, Errno> {
        let mut b = [0; 4];
        self.copy_in(addr, &mut b)?;
        Ok(u32::from_be_bytes(b))
    }

    /// Writes a word of user memory.
    pub fn put_u32(&self, addr: u64, v: u32) -> Result<(), Errno> {
        self.copy_out(addr, &v.to_be_bytes())
    }

    /// Reads a doubleword of user memory.
    pub fn get_u64(&self, addr: u64) -> Result<u64, Errno> {
        let mut b = [0; 8];
        self.copy_in(addr, &mut b)?;
        Ok(u64::from_be_bytes(b))
    }

    /// Writes a doubleword of user memory.
    pub fn put_u64(&self, addr: u64, v: u64) -> Result<(), Errno> {
        self.copy_out(addr, &v.to_be_bytes())
    }

    /// Reads a string that ends with a zero byte, of at most 4096 bytes with it.
    pub fn get_str(&self, addr: u64) -> Result<Vec<u8>, Errno> {
        let mut s = Vec::new();
        let mut at = addr;
        while s.len() < 4096 {
            let mut b = [0; 64];
            let n = (64 - (at & 63) as usize).min(4096 - s.len());
            self.copy_in(at, &mut b[..n])?;
            if let Some(end) = b[..n].iter().position(|&c| c == 0) {
                s.extend_from_slice(&b[..end]);
                return Ok(s);
            }
            s.extend_from_slice(&b[..n]);
            at = at.wrapping_add(n as u64);
        }
        Err(Errno::ENAMETOOLONG)
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        // A task that unwinds still holds its CPU: others wait for it.
        self.drop_cpu();
    }
}

fn encode(r: SysResult) -> u64 {
    match r {
        Ok(v) => v,
        Err(e) => (e.0 as u64).wrapping_neg(),
    }
}

/// The signal for a program interruption: number, si_code, si_addr, what to say. Linux `arch/s390/kernel/traps.c`
/// gives the mapping; si_addr is the address of the instruction, which for suppressed ones Linux computes by going
/// back from the old PSW.
fn program_signal(exc: Exc, pc: u64, _len: u8) -> Option<(u32, i32, u64, &'static str)> {
    let e = |code: u16| Exc::program(code);
    Some(match exc {
        x if x == e(1) => (signal::SIGILL, 1, pc, "illegal instruction:"),
        x if x == e(2) => (signal::SIGILL, 5, pc, "privileged instruction:"),
        x if x == e(3) => (signal::SIGILL, 3, pc, "EXECUTE of EXECUTE:"),
        x if x == e(6) => (signal::SIGILL, 2, pc, "specification exception:"),
        x if x == e(8) => (signal::SIGFPE, 2, pc, "fixed-point overflow"),
        x if x == e(9) => (signal::SIGFPE, 1, pc, "fixed-point division by zero or overflow"),
        x if x == e(0xa) => (signal::SIGFPE, 2, pc, "decimal overflow"),
        x if x == e(0xb) => (signal::SIGFPE, 1, pc, "decimal division by zero"),
        x if x == Exc::NOT_MODELLED => return None,
        Exc(n) if n.get() >> 16 == 4 => match n.get() & 0xff {
            0xff => (signal::SIGTRAP, 1, pc, "compare and trap"),
            // Floating-point traps: the data-exception code says which.
            d if d & 0x80 != 0 => (signal::SIGFPE, 7, pc, "IEEE invalid operation"),
            d if d & 0x40 != 0 => (signal::SIGFPE, 3, pc, "IEEE division by zero"),
            d if d & 0x20 != 0 => (signal::SIGFPE, 4, pc, "IEEE overflow"),
            d if d & 0x10 != 0 => (signal::SIGFPE, 5, pc, "IEEE underflow"),
            d if d & 0x08 != 0 => (signal::SIGFPE, 6, pc, "IEEE inexact result"),
            _ => (signal::SIGILL, 2, pc, "data exception:"),
        },
        _ => return None,
    })
}

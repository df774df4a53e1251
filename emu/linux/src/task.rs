//! A task: one guest thread, its registers, and the loop that runs it.

mod exception;
mod user;
mod wait;

use crate::clock::Moment;
use crate::errno::{Errno, SysResult};
use crate::observe::Note;
use crate::signal::{self, AltStack, Interrupted, Queue};
use crate::system::{Ending, System};
use racewalk_cpu::signal as cpu_signal;
use racewalk_engine::cache::Mode;
use racewalk_engine::vcpu::{Stop, Vcpu};
use racewalk_isa::MAX_SLOTS;
use racewalk_isa::s390x::{S390x, state};
use rustix::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// Instructions that a task may run while another waits for its CPU.
const SLICE: u64 = 1 << 20;
/// The same for the engine that runs everything twice and compares, and a task's first slice: about as long a time.
const CHECK_SLICE: u64 = 1 << 16;
/// What a stay in hosted code costs of the slice, in instructions.
const KERNEL_COST: u64 = 2000;
/// How long an instruction takes in virtual time.
const INSTRUCTION: Duration = Duration::from_nanos(1);

/// What others may know of a task.
#[derive(Debug)]
pub struct TaskShared {
    /// Thread id.
    pub tid: u32,
    /// Signals for this task alone.
    pub(crate) pending: Queue,
    mask: AtomicU64,
    /// There may be a signal to take.
    notice: AtomicBool,
    sleep: AtomicUsize,
    /// The task is, or is about to be, in a host poll with [`bell`](Self::bell).
    polling: AtomicBool,
    /// An eventfd that ends a host poll; none if the host gives no descriptor.
    bell: OnceLock<Option<OwnedFd>>,
}

impl TaskShared {
    /// A task that has not run.
    pub fn new(tid: u32) -> Self {
        TaskShared {
            tid,
            pending: Queue::default(),
            mask: AtomicU64::new(0),
            notice: AtomicBool::new(false),
            sleep: AtomicUsize::new(0),
            polling: AtomicBool::new(false),
            bell: OnceLock::new(),
        }
    }

    /// Blocked signals.
    pub fn mask(&self) -> u64 {
        self.mask.load(Ordering::SeqCst)
    }

    /// Calls the task out of its sleep, if it sleeps, to look around.
    pub fn wake(&self) {
        let key = self.sleep.load(Ordering::SeqCst);
        if key != 0 {
            racewalk_sched::wake(key);
        }
        self.ring();
    }

    /// Calls the task out of a host poll, if it is in one.
    pub(crate) fn ring(&self) {
        if self.polling.load(Ordering::SeqCst)
            && let Some(Some(bell)) = self.bell.get()
        {
            // The counter cannot overflow before the task resets it.
            let _ = rustix::io::write(bell, &1u64.to_ne_bytes());
        }
    }

    /// Tells the task that there may be a signal for it.
    pub(crate) fn give_notice(&self) {
        self.notice.store(true, Ordering::SeqCst);
        self.wake();
    }
    pub(crate) fn forget_notice(&self) {
        self.notice.store(false, Ordering::SeqCst);
    }
    /// Whether there may be a signal to take.
    pub(crate) fn noticed(&self) -> bool {
        self.notice.load(Ordering::SeqCst)
    }
}

/// How a sleep ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Woken {
    /// What it waited for has happened.
    Done,
    /// The time is over.
    TimedOut,
    /// A signal, or the end of the process.
    Interrupted,
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
    /// The mask that comes back when no handler is entered (`rt_sigsuspend`, `ppoll`), or with the handler's frame.
    pub(crate) saved_mask: Option<u64>,
    /// The call that a signal cut short, until it is ended or made again.
    pub(crate) interrupted: Option<Interrupted>,
    /// When the sleep ends whose call is made again.
    pub(crate) deadline: Option<Moment>,
    /// Cleared and woken when the task ends.
    pub clear_child_tid: u64,
    /// Address of the list of robust futexes, zero if there is none.
    pub(crate) robust_list: u64,
    /// Alternate signal stack.
    pub(crate) altstack: AltStack,
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
            saved_mask: None,
            interrupted: None,
            deadline: None,
            clear_child_tid: 0,
            robust_list: 0,
            altstack: AltStack::NONE,
            ended: false,
            slice: CHECK_SLICE,
        }
    }

    /// A new task of the same process with the same registers.
    pub fn fork_thread(&mut self) -> Task {
        let shared = self.sys.register();
        shared.mask.store(self.mask(), Ordering::SeqCst);
        Task {
            sys: self.sys.clone(),
            shared,
            saved: Box::new(self.registers()),
            cpu: None,
            saved_mask: None,
            interrupted: None,
            deadline: None,
            clear_child_tid: 0,
            robust_list: 0,
            altstack: AltStack::NONE,
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

    /// Sets all registers.
    pub(crate) fn set_registers(&mut self, r: &Registers) {
        *self.slots() = r.slots;
        self.set_pc(r.pc);
    }

    /// Blocked signals.
    pub fn mask(&self) -> u64 {
        self.shared.mask()
    }

    /// Blocks exactly these signals; SIGKILL and SIGSTOP cannot be blocked.
    pub fn set_mask(&mut self, mask: u64) {
        let mask = mask & !signal::UNBLOCKABLE;
        let old = self.shared.mask.swap(mask, Ordering::SeqCst);
        if old == mask {
            return;
        }
        // Whoever sends reads the mask after it has queued the signal: one of us sees the other.
        self.review_signals();
        let newly = mask & !old & self.sys.pending.set();
        if newly != 0 {
            self.sys.notify_any(newly);
        }
    }

    /// Notes whether there is a signal to take.
    pub(crate) fn review_signals(&self) {
        let pending = self.shared.pending.set() | self.sys.pending.set();
        if pending & !self.mask() != 0 {
            self.shared.notice.store(true, Ordering::SeqCst);
        }
    }

    /// Whether the task ends after the current call.
    pub(crate) fn ended(&self) -> bool {
        self.ended
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
        let tid = self.shared.tid;
        self.sys.observer.note(n, || Note::Task(tid));
        if let Err(e) = self.sys.mm.switch_to(n) {
            self.sys.finish(Ending::Failed(e.to_string()));
        }
    }

    /// Tells the observer, if there is one, what happened on this task's CPU.
    pub(crate) fn note(&self, note: impl FnOnce() -> Note) {
        if let Some((n, _)) = self.cpu {
            self.sys.observer.note(n, note)
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

    /// Runs the task until it ends.
    pub fn run(mut self) {
        tracing::debug!(tid = self.shared.tid, "task starts");
        self.take_cpu();
        while !self.ended && !self.sys.ending() {
            self.turn();
        }
        self.finish();
        self.drop_cpu();
        tracing::debug!(tid = self.shared.tid, "task ends");
    }

    /// Runs guest code once and deals with why it stopped.
    fn turn(&mut self) {
        let Some((n, v)) = &mut self.cpu else { return };
        racewalk_sched::point("guest.enter");
        self.sys.kernel.check_balance("the kernel returns to the program");
        self.sys.cpus.exit_kernel(*n);
        let before = v.instructions;
        let stop = v.run(self.slice);
        let ran = v.instructions - before;
        if ran != 0 {
            // A guest may compute as long as it likes. Faults that come again before any instruction ends are a livelock.
            racewalk_sched::progress();
            // Who sleeps while others compute wakes up.
            racewalk_sched::pass_time(INSTRUCTION * ran.min(u64::from(u32::MAX)) as u32);
        }
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
        if self.sys.kernel.has_findings() {
            self.sys.finish(Ending::Found);
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
        let pc = self.pc();
        self.set_pc(next);
        let r = crate::syscall::call(self, nr, args);
        if self.sys.talk.wants_calls() {
            let line = crate::syscall::line(self, nr, args, r);
            self.sys.talk.call(self.shared.tid, &line);
        }
        let tid = self.shared.tid;
        self.note(|| Note::Call { tid, number: nr, result: encode(r) });
        if self.ended {
            return;
        }
        match r {
            Err(errno) if errno.is_restart() => {
                self.interrupted = Some(Interrupted { errno, pc, r2: args[0] });
                self.set_gpr(2, encode(Err(Errno::EINTR)));
            }
            _ => {
                self.deadline = None;
                self.set_gpr(2, encode(r));
            }
        }
    }

    /// Makes this task end after the current call.
    pub fn end(&mut self) {
        self.ended = true;
    }

    /// What the kernel does for a task that ends: the last one ends the process.
    fn finish(&mut self) {
        // Signals for the process that this task was to take go to another.
        self.shared.mask.store(!0, Ordering::SeqCst);
        let left = self.sys.pending.set();
        if left != 0 && !self.sys.ending() {
            self.sys.notify_any(left);
        }
        if !self.sys.ending() {
            self.release_robust();
        }
        if self.clear_child_tid != 0 && !self.sys.ending() {
            let addr = self.clear_child_tid;
            if self.put_u32(addr, 0).is_ok() {
                self.sys.futexes.lock().wake(addr, 1, !0);
            }
        }
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        // A task that unwinds still holds its CPU: others wait for it. The end of a controlled run may have come on the way
        // out of hosted code.
        if let Some((n, v)) = self.cpu.take() {
            if self.sys.cpus.rcu_counter(n).load(Ordering::SeqCst) & 1 == 1 {
                self.sys.cpus.exit_kernel(n);
            }
            self.sys.pool.release((n, v));
        }
    }
}

fn encode(r: SysResult) -> u64 {
    match r {
        Ok(v) => v,
        Err(e) => (e.0 as u64).wrapping_neg(),
    }
}

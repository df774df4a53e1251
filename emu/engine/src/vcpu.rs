//! The vCPU loop: dispatches blocks to the engines until something concerns the kernel.

use crate::block::{Block, Got, fetch};
use crate::cache::{Code, CodeCache, HOT, Mode};
use crate::core::Core;
use crate::interp::{Interp, Left};
use crate::x86;
use racewalk_cpu::{Fault, signal};
use racewalk_isa::{Arch, Exc};
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Why a vCPU stopped running guest code.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Stop {
    /// The quantum is used up, to the instruction.
    Quantum,
    /// Bits of [`racewalk_cpu::signal`] other than INVALIDATE are set; the receiver clears them.
    Signal(u32),
    /// A supervisor call. `core.pc` is the instruction; the kernel continues at `next`.
    Syscall {
        /// Its number operand.
        number: u16,
        /// Address behind it.
        next: u64,
    },
    /// An exception. `core.pc` is the instruction, of `len` bytes (0 if it could not be fetched).
    Exception {
        /// Which.
        exc: Exc,
        /// The fault record, for [`Exc::ACCESS`].
        fault: Option<Fault>,
        /// Bytes of the instruction.
        len: u8,
    },
    /// A slow path panicked; the emulator is at fault, not the guest.
    Panicked,
    /// The interpreter and the translator disagreed (`--engine check`); the text is in [`Vcpu::difference`].
    Difference,
}

const LOCAL: usize = 2048;

struct Local<A: Arch> {
    pc: u64,
    generation: u64,
    block: Option<Arc<Block<A>>>,
}

/// A CPU with an engine.
pub struct Vcpu<A: Arch> {
    /// The CPU's state.
    pub core: Box<Core>,
    cache: Arc<CodeCache<A>>,
    local: Box<[Local<A>]>,
    epoch: u64,
    generation: u64,
    code: Arc<Code<A>>,
    /// Instructions executed.
    pub instructions: u64,
    /// What `check` found.
    pub difference: Option<String>,
}

impl<A: Arch> Vcpu<A> {
    /// A vCPU on `core`.
    pub fn new(mut core: Box<Core>, cache: Arc<CodeCache<A>>) -> Self {
        assert!(
            core.runs.installed() || !cache.records(),
            "code that notes its runs needs somebody to note them"
        );
        core.exclusive = cache.exclusive();
        let empty = || Local { pc: 1, generation: 0, block: None };
        let generation = cache.generation();
        let code = cache.code();
        let epoch = cache.epoch();
        Vcpu {
            core,
            cache,
            local: std::iter::repeat_with(empty).take(LOCAL).collect(),
            epoch,
            generation,
            code,
            instructions: 0,
            difference: None,
        }
    }

    /// Runs guest code at `core.pc` for at most `quantum` instructions. The CPU is parked before and after.
    pub fn run(&mut self, quantum: u64) -> Stop {
        self.core.budget = quantum as i64;
        self.core.asked_at = (quantum as i64, 0);
        self.core.runs_begin(self.instructions, quantum);
        let drop = self.core.mmu.unpark();
        self.core.apply(drop);
        let stop = match catch_unwind(AssertUnwindSafe(|| self.dispatch())) {
            Ok(stop) => stop,
            Err(panic) => self.panicked(panic),
        };
        self.core.mmu.park();
        self.core.publish();
        self.instructions += quantum - self.core.budget as u64;
        stop
    }

    /// A panic below ends the run of this vCPU; the end of a controlled run is none.
    fn panicked(&mut self, panic: Box<dyn std::any::Any + Send>) -> Stop {
        let stop = match panic.is::<racewalk_sched::Cancelled>() {
            true => self.exception(Exc::CANCELLED, 0),
            false => Stop::Panicked,
        };
        // Dropping a payload may panic again.
        std::mem::forget(panic);
        stop
    }

    fn dispatch(&mut self) -> Stop {
        let mut look = true;
        loop {
            let pending = self.core.pending();
            if pending != 0 {
                if pending & signal::CODE != 0 {
                    self.core.signal.fetch_and(!signal::CODE, Ordering::SeqCst);
                    look = true;
                }
                if pending & signal::RUNS != 0 {
                    self.core.runs_full();
                }
                if pending & signal::INVALIDATE != 0 {
                    let drop = self.core.mmu.poll();
                    look |= !drop.is_empty();
                    self.core.apply(drop);
                }
                if pending & !signal::ENGINE != 0 {
                    return Stop::Signal(pending & !signal::ENGINE);
                }
            }
            if std::mem::take(&mut self.core.code_written) != 0 || look {
                look = false;
                let epoch = self.cache.epoch();
                if epoch != self.epoch {
                    self.cache.drop_stale();
                    self.core.flush_jumps();
                    self.epoch = epoch;
                }
            }
            if self.cache.generation() != self.generation {
                self.renew();
            }
            if self.core.budget <= 0 {
                return Stop::Quantum;
            }
            let block = match self.lookup() {
                Ok(b) => b,
                Err(exc) => return self.exception(exc, 0),
            };
            if self.core.pending() != 0 {
                // Something came while the lookup walked; translated code looks at its head, too.
                continue;
            }
            let n = block.insns.len();
            let whole = self.core.budget >= n as i64;
            self.core.traps_late = A::traps_late(&self.core.slots);
            let stop = match self.cache.mode() {
                _ if self.core.traps_late => self.interpret(&block, 0..n.min(self.core.budget as usize)),
                _ if !whole => self.interpret(&block, 0..self.core.budget as usize),
                Mode::Interp => self.interpret(&block, 0..n),
                Mode::Check => self.check_block(&block),
                Mode::Jit => self.enter(&block),
                Mode::Auto => {
                    if block.code.load(Ordering::Relaxed) != 0
                        || block.runs.fetch_add(1, Ordering::Relaxed) >= HOT
                    {
                        self.enter(&block)
                    } else {
                        self.interpret(&block, 0..n)
                    }
                }
            };
            if let Some(s) = stop {
                return s;
            }
        }
    }

    /// The arena was replaced.
    fn renew(&mut self) {
        self.generation = self.cache.generation();
        self.core.flush_jumps();
        self.code = self.cache.code();
    }

    fn lookup(&mut self) -> Result<Arc<Block<A>>, Exc> {
        let pc = self.core.pc;
        if pc & (A::INSN_ALIGN - 1) != 0 {
            return Err(A::MISALIGNED_PC);
        }
        let i = (pc >> 1) as usize & (LOCAL - 1);
        let l = &self.local[i];
        if l.pc == pc
            && l.generation == self.core.jump_generation
            && let Some(b) = &l.block
        {
            return Ok(b.clone());
        }
        let b = self.cache.block(&mut self.core)?;
        self.core.note_jump(pc);
        self.core.note_jump(b.next.wrapping_sub(1));
        self.local[i] = Local { pc, generation: self.core.jump_generation, block: Some(b.clone()) };
        Ok(b)
    }

    fn exception(&mut self, exc: Exc, len: u8) -> Stop {
        let fault = if exc == Exc::ACCESS { self.core.mmu.take_fault() } else { None };
        Stop::Exception { exc, fault, len }
    }

    /// Interprets some consecutive instructions of a block; those before them have been counted.
    pub(crate) fn interpret(&mut self, block: &Block<A>, range: Range<usize>) -> Option<Stop> {
        let Range { start, end } = range;
        let mut k = start;
        let watched = self.core.runs.watched();
        // What panics counts as not executed, as in translated code.
        let left = catch_unwind(AssertUnwindSafe(|| {
            while k < end {
                let i = &block.insns[k];
                if watched {
                    self.core.fetching(A::pc(i), A::len(i), (k - start) as u64);
                }
                let mut t = Interp::new(&mut self.core);
                match A::exec(&mut t, i) {
                    Ok(()) if t.left == Left::Next && t.core.code_written == 0 => k += 1,
                    Ok(()) => return Ok(Some((t.left, t.target))),
                    Err(e) => return Err(e),
                }
            }
            Ok(None)
        }));
        self.core.budget -= (k - start) as i64;
        self.core.runs.ahead = 0;
        self.core.pc = match block.insns.get(k) {
            Some(i) => A::pc(i),
            None => block.next,
        };
        match left {
            Ok(Ok(None)) => None,
            Ok(Ok(Some((left, target)))) => {
                self.core.budget -= 1;
                let i = &block.insns[k];
                self.leave(left, target, A::pc(i), A::len(i))
            }
            Ok(Err(e)) => Some(self.exception(e, A::len(&block.insns[k]))),
            Err(panic) => Some(self.panicked(panic)),
        }
    }

    /// An instruction at `pc` that has been counted left by `left`.
    fn leave(&mut self, left: Left, target: u64, pc: u64, len: u8) -> Option<Stop> {
        match left {
            Left::Next => self.core.pc = pc.wrapping_add(len as u64),
            Left::Jump | Left::EndBlock => self.core.pc = target,
            Left::Syscall(number) => {
                self.core.pc = pc;
                return Some(Stop::Syscall { number, next: target });
            }
            Left::Execute => {
                self.core.pc = pc;
                // EXECUTE and its target count as one.
                self.core.budget += 1;
                return self.execute(len);
            }
            Left::Delayed(..) => {
                self.core.pc = pc;
                return Some(self.exception(Exc::NOT_MODELLED, len));
            }
        }
        None
    }

    /// EXECUTE at `core.pc`, `len` bytes long: target and modifier are in `arg0` and `arg1`. Nothing has been counted.
    fn execute(&mut self, len: u8) -> Option<Stop> {
        let (target, modifier) = (self.core.arg0, self.core.arg1 as u8);
        let (pc, next) = (self.core.pc, self.core.pc.wrapping_add(len as u64));
        if target & (A::INSN_ALIGN - 1) != 0 {
            return Some(self.exception(A::MISALIGNED_PC, len));
        }
        let mut f = match fetch::<A>(&mut self.core, target, true, &mut |_, _| true) {
            Ok(Got::Insn(f)) => f,
            Ok(_) => return None,
            Err(e) => return Some(self.exception(e, len)),
        };
        f.bytes[1] |= modifier;
        let bytes = &f.bytes[..f.len];
        if self.core.runs.on {
            self.core.fetching(target, f.len as u8, 0);
        }
        // Relative operands count from the target; links and fall-through go behind EXECUTE.
        let mut i = A::decode(target, bytes);
        A::executed(&mut i, next);
        let mut t = Interp::new(&mut self.core);
        let r = A::exec(&mut t, &i);
        let (left, to) = (t.left, t.target);
        match r {
            Err(e) => Some(self.exception(e, len)),
            Ok(()) if left == Left::Execute => Some(self.exception(A::EXECUTE_OF_EXECUTE, len)),
            Ok(()) => {
                self.core.budget -= 1;
                match left {
                    Left::Next => self.core.pc = next,
                    other => return self.leave(other, to, pc, len),
                }
                None
            }
        }
    }

    /// The instruction at `core.pc` that translated code left: its block and its number there. Not looked up by
    /// address, which could walk.
    fn left(&self) -> Option<(Arc<Block<A>>, usize)> {
        self.code.find(self.core.left_at, self.core.pc)
    }

    /// Interprets the rest of the block that translated code left at `core.pc`: the poll comes where the block ends,
    /// as in the interpreter.
    fn rest(&mut self) -> Option<Stop> {
        let Some((block, at)) = self.left() else { return Some(Stop::Panicked) };
        self.interpret(&block, at..block.insns.len())
    }

    /// Runs translated code from `block` on, translating it first if need be.
    fn enter(&mut self, block: &Arc<Block<A>>) -> Option<Stop> {
        let code = match self.translation(block) {
            Some(c) => c,
            None => return self.interpret(block, 0..block.insns.len()),
        };
        self.core.fill_jump(block.key.pc, code);
        let mut exit = self.run_code(code);
        loop {
            return match exit {
                x86::Exit::Link { site } => {
                    if self.core.pending() != 0 || self.core.budget <= 0 {
                        return None;
                    }
                    let b = match self.lookup() {
                        Ok(b) => b,
                        Err(e) => return Some(self.exception(e, 0)),
                    };
                    let hot = self.cache.mode() != Mode::Auto
                        || b.runs.fetch_add(1, Ordering::Relaxed) >= HOT
                        || b.code.load(Ordering::Relaxed) != 0;
                    if hot && self.cache.translate(&b).is_some() {
                        self.cache.link(site, &b);
                        let code = b.code.load(Ordering::SeqCst);
                        if code != 0 && self.code.holds(code) {
                            exit = self.run_code(code);
                            continue;
                        }
                    }
                    None
                }
                other => self.after(other),
            };
        }
    }

    /// What follows an exit from translated code, other than a jump.
    pub(crate) fn after(&mut self, exit: x86::Exit) -> Option<Stop> {
        match exit {
            x86::Exit::Jump | x86::Exit::Poll | x86::Exit::Link { .. } => None,
            x86::Exit::Exc(exc) => {
                let len = self.left().map_or(0, |(b, i)| A::len(&b.insns[i]));
                Some(self.exception(exc, len))
            }
            x86::Exit::Syscall { number, next } => Some(Stop::Syscall { number, next }),
            x86::Exit::Execute { len } => self.execute(len),
            x86::Exit::Interpret => self.rest(),
            x86::Exit::Panicked => Some(Stop::Panicked),
        }
    }

    /// Code for `block` in `self.code`, translated now if need be; `None` if there is none to be had at the moment.
    pub(crate) fn translation(&mut self, block: &Arc<Block<A>>) -> Option<u64> {
        let code = match block.code.load(Ordering::SeqCst) {
            0 => self.cache.translate(block)?,
            c => c,
        };
        self.code.holds(code).then_some(code)
    }

    /// Enters translated code of `self.code`.
    pub(crate) fn run_code(&mut self, code: u64) -> x86::Exit {
        debug_assert!(self.code.holds(code));
        // SAFETY: `self.code` keeps the arena alive, and arenas are never reset. Links stay inside one arena; the
        // jump cache is filled only here, with code of `self.code`, and flushed when that changes (`renew`). All
        // blocks of the cache are of architecture `A`, as is the state.
        unsafe { x86::enter(&mut self.core, code) }
    }
}

//! The way into generated code, out of it, and from it to Rust functions and back.
//!
//! Every call from generated code keeps all registers but the flags: the trampoline stores them in a [`Frame`], the
//! Rust function finds its operands there through the description behind the call, puts its results there, and the
//! trampoline loads everything back. A function that returns something other than zero leaves generated code with
//! that number as the kind of exit. Panics end at the functions here, never in generated frames.

use super::describe::{Frame, Point, Reader, SPILLS};
use crate::core::{Core, FAST_TLB, GRANULE, GRANULE_SHIFT};
use racewalk_isa::fp::FpOp;
use racewalk_isa::vec::VecOp;
use racewalk_isa::{Access, Env, Exc, Helper, MemOp, Rmw, flags};
use std::arch::naked_asm;
use std::mem::offset_of;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Kinds of exit, in `rax` when generated code returns; `rdx` has an operand.
pub(super) mod exit {
    pub const JUMP: u64 = 0;
    pub const LINK: u64 = 1;
    pub const POLL: u64 = 2;
    pub const EXC: u64 = 3;
    pub const SYSCALL: u64 = 4;
    pub const EXECUTE: u64 = 5;
    pub const INTERPRET: u64 = 6;
    pub const PANICKED: u64 = 7;
}

/// Trampolines by number: their place in [`BOARDS`].
pub(super) mod board {
    pub const LOAD: usize = 0;
    pub const STORE: usize = 1;
    pub const CALL: usize = 2;
    pub const HELPER: usize = 3;
    pub const EXIT: usize = 4;
    pub const LINK: usize = 5;
    pub const JUMP: usize = 6;
    pub const POLL: usize = 7;
    pub const SYSCALL: usize = 8;
    pub const EXECUTE: usize = 9;
    pub const RUN_LOAD: usize = 10;
    pub const RUN_STORE: usize = 11;
    pub const RUN_FETCH: usize = 12;
}

/// The trampolines, in the order of [`board`].
pub(super) const BOARDS: [unsafe extern "C" fn(); 13] = [
    to_load,
    to_store,
    to_call,
    to_helper,
    to_exit,
    leave_link,
    leave_jump,
    leave_poll,
    leave_syscall,
    leave_execute,
    super::runs::begin_load,
    super::runs::begin_store,
    super::runs::enter_page,
];

/// Operations of [`board::CALL`]; the first byte of the description.
pub(super) mod op {
    pub const LOAD_PAIR: u8 = 0;
    pub const STORE_PAIR: u8 = 1;
    pub const RMW: u8 = 2;
    pub const CAS: u8 = 3;
    pub const CAS_PAIR: u8 = 4;
    pub const LOAD_RESERVE: u8 = 5;
    pub const STORE_CONDITIONAL: u8 = 6;
    pub const PROBE: u8 = 7;
    pub const FP: u8 = 8;
    pub const VEC: u8 = 9;
    pub const FLAGS: u8 = 10;
    pub const FP_RECORD: u8 = 11;
}

/// Descriptions of [`board::EXIT`] begin with one of these.
pub(super) mod stop {
    pub const EXC: u8 = 0;
    pub const INTERPRET: u8 = 1;
    pub const JUMP: u8 = 2;
}

/// Two numbers in `rax` and `rdx`.
#[repr(C)]
pub(super) struct Raw {
    pub kind: u64,
    pub arg: u64,
}

/// Runs generated code.
///
/// # Safety
/// `code` is the entry of a block of a live arena; `core` is exclusively ours.
#[unsafe(naked)]
pub(super) unsafe extern "C" fn enter(core: *mut Core, code: u64) -> Raw {
    naked_asm!(
        "push rbp",
        "push rbx",
        "push r12",
        "push r13",
        "push r14",
        "push r15",
        "sub rsp, {frame}",
        "mov rbx, rdi",
        "mov r15, [rbx + {budget}]",
        "jmp rsi",
        frame = const SPILLS * 8 + 8,
        budget = const offset_of!(Core, budget),
    )
}

/// The end of [`enter`]: `rax` and `rdx` are its results.
#[unsafe(naked)]
unsafe extern "C" fn leave() {
    naked_asm!(
        "mov [rbx + {budget}], r15",
        "add rsp, {frame}",
        "pop r15",
        "pop r14",
        "pop r13",
        "pop r12",
        "pop rbx",
        "pop rbp",
        "ret",
        frame = const SPILLS * 8 + 8,
        budget = const offset_of!(Core, budget),
    )
}

/// Called by a link's stub; behind the call: the link's rel32 relative to itself (4 bytes), the target (8).
#[unsafe(naked)]
unsafe extern "C" fn leave_link() {
    naked_asm!(
        "pop rcx",
        "mov rax, [rcx + 4]",
        "mov [rbx + {pc}], rax",
        "movsxd rdx, dword ptr [rcx]",
        "add rdx, rcx",
        "mov eax, {kind}",
        "jmp {leave}",
        pc = const offset_of!(Core, pc),
        kind = const exit::LINK,
        leave = sym leave,
    )
}

/// Jumped to with the target in `rax`.
#[unsafe(naked)]
unsafe extern "C" fn leave_jump() {
    naked_asm!(
        "mov [rbx + {pc}], rax",
        "mov eax, {kind}",
        "jmp {leave}",
        pc = const offset_of!(Core, pc),
        kind = const exit::JUMP,
        leave = sym leave,
    )
}

/// Called; behind the call: the number of instructions to give back (4 bytes), the address (8).
#[unsafe(naked)]
unsafe extern "C" fn leave_poll() {
    naked_asm!(
        "pop rcx",
        "movsxd rax, dword ptr [rcx]",
        "add r15, rax",
        "mov rax, [rcx + 4]",
        "mov [rbx + {pc}], rax",
        "mov eax, {kind}",
        "jmp {leave}",
        pc = const offset_of!(Core, pc),
        kind = const exit::POLL,
        leave = sym leave,
    )
}

/// Jumped to with the instruction's address in `rax` and the number in `rdx`.
#[unsafe(naked)]
unsafe extern "C" fn leave_syscall() {
    naked_asm!(
        "mov [rbx + {pc}], rax",
        "mov eax, {kind}",
        "jmp {leave}",
        pc = const offset_of!(Core, pc),
        kind = const exit::SYSCALL,
        leave = sym leave,
    )
}

/// Jumped to with the instruction's address in `rax` and its length in `rdx`.
#[unsafe(naked)]
unsafe extern "C" fn leave_execute() {
    naked_asm!(
        "mov [rbx + {pc}], rax",
        "mov eax, {kind}",
        "jmp {leave}",
        pc = const offset_of!(Core, pc),
        kind = const exit::EXECUTE,
        leave = sym leave,
    )
}

macro_rules! trampoline {
    ($name:ident, $target:path) => {
        #[unsafe(naked)]
        unsafe extern "C" fn $name() {
            naked_asm!(
                "sub rsp, 136",
                "mov [rsp], rax",
                "mov [rsp + 8], rcx",
                "mov [rsp + 16], rdx",
                "mov [rsp + 40], rbp",
                "mov [rsp + 48], rsi",
                "mov [rsp + 56], rdi",
                "mov [rsp + 64], r8",
                "mov [rsp + 72], r9",
                "mov [rsp + 80], r10",
                "mov [rsp + 88], r11",
                "mov [rsp + 96], r12",
                "mov [rsp + 104], r13",
                "mov [rsp + 112], r14",
                "mov [rsp + 120], r15",
                "mov rdi, rbx",
                "mov rsi, rsp",
                "call {target}",
                "mov r15, [rsp + 120]",
                "mov rdx, [rsp + 16]",
                "test rax, rax",
                "jne 2f",
                "mov rax, [rsp]",
                "mov rcx, [rsp + 8]",
                "mov rbp, [rsp + 40]",
                "mov rsi, [rsp + 48]",
                "mov rdi, [rsp + 56]",
                "mov r8, [rsp + 64]",
                "mov r9, [rsp + 72]",
                "mov r10, [rsp + 80]",
                "mov r11, [rsp + 88]",
                "mov r12, [rsp + 96]",
                "mov r13, [rsp + 104]",
                "mov r14, [rsp + 112]",
                "add rsp, 136",
                "ret",
                "2:",
                "add rsp, 144",
                "jmp {leave}",
                target = sym $target,
                leave = sym leave,
            )
        }
    };
}
trampoline!(to_load, load);
trampoline!(to_store, store);
trampoline!(to_call, call);
trampoline!(to_helper, helper);
trampoline!(to_exit, leave_early);

/// Why a slow path does not return to generated code.
enum Stop {
    Exc(Exc),
    /// Nothing of the instruction has happened; the interpreter has to run it.
    Interpret,
}

impl From<Exc> for Stop {
    fn from(e: Exc) -> Self {
        Stop::Exc(e)
    }
}

/// Leaves at `point`: writes the state (unless it is in place) and gives back what did not run.
fn stop(core: &mut Core, frame: &mut Frame, point: Point, state: Option<&mut Reader>, kind: u64) -> u64 {
    if let Some(state) = state {
        state.restore(core, frame)
    }
    core.pc = point.pc;
    core.left_at = frame.ret as u64;
    if kind == exit::INTERPRET {
        core.runs.skip = point.noted as u32
    }
    frame.regs[super::assembler::BUDGET] =
        frame.regs[super::assembler::BUDGET].wrapping_add(point.refund as u64);
    kind
}

fn arrive(core: &mut Core, frame: &Frame, point: Point) {
    core.budget = frame.regs[super::assembler::BUDGET].wrapping_add(point.refund as u64) as i64
}

/// The shape of all slow paths: operands, then the state's first part, then the work with panics caught.
///
/// # Safety
/// Called from a trampoline with its arguments, for a call that this translator emitted.
unsafe fn slow<T>(
    core: *mut Core,
    frame: *mut Frame,
    decode: impl FnOnce(&mut Reader, &Core, &Frame) -> T,
    run: impl FnOnce(&mut Core, &mut Frame, T) -> Result<(), Stop>,
) -> u64 {
    // SAFETY: the trampoline passes the core that `enter` was given exclusively and its own frame.
    let (core, frame) = unsafe { (&mut *core, &mut *frame) };
    // SAFETY: the caller says that the call is one of ours, and it returns.
    let mut d = unsafe { Reader::of(frame, true) };
    let args = decode(&mut d, core, frame);
    let point = d.point();
    arrive(core, frame, point);
    match catch_unwind(AssertUnwindSafe(|| run(core, frame, args))) {
        Ok(Ok(())) => 0,
        Ok(Err(Stop::Exc(e))) => {
            core.exc = e.0.get();
            stop(core, frame, point, Some(&mut d), exit::EXC)
        }
        Ok(Err(Stop::Interpret)) => stop(core, frame, point, Some(&mut d), exit::INTERPRET),
        Err(panic) => {
            // Dropping a payload may panic again.
            std::mem::forget(panic);
            stop(core, frame, point, Some(&mut d), exit::PANICKED)
        }
    }
}

fn check_aligned(m: MemOp, addr: u64) -> Result<(), Exc> {
    match m.align {
        Some(e) if addr & (m.size as u64 - 1) != 0 => Err(e),
        _ => Ok(()),
    }
}

/// Before a store of `len` bytes: faults as it would, and leaves stores to frames that have code to the interpreter.
fn before_store(core: &mut Core, m: MemOp, addr: u64, len: u64) -> Result<(), Stop> {
    check_aligned(m, addr)?;
    let mut code = core.piece(addr, Access::Store, m.space)?.told.is_some();
    let room = GRANULE - (addr & (GRANULE - 1));
    if room < len {
        // A fault in the second page names its first byte, as the interpreter's does.
        code |= core.piece(addr.wrapping_add(room), Access::Store, m.space)?.told.is_some()
    }
    if code { Err(Stop::Interpret) } else { Ok(()) }
}

unsafe extern "C" fn load(core: *mut Core, frame: *mut Frame) -> u64 {
    // SAFETY: this is the target of a trampoline.
    unsafe {
        slow(
            core,
            frame,
            |d, core, frame| (d.memop(), d.value(core, frame), d.u8()),
            |core, frame, (m, addr, dst)| {
                core.touch_rest(addr, m.size as u64, false);
                frame.regs[dst as usize & 15] = core.slow_load(m, addr)?;
                Ok(())
            },
        )
    }
}

unsafe extern "C" fn store(core: *mut Core, frame: *mut Frame) -> u64 {
    // SAFETY: this is the target of a trampoline.
    unsafe {
        slow(
            core,
            frame,
            |d, core, frame| (d.memop(), d.value(core, frame), d.value(core, frame)),
            |core, _, (m, addr, v)| {
                core.touch_rest(addr, m.size as u64, true);
                before_store(core, m, addr, m.size as u64)?;
                // The page is in the fast TLB now, so this does not translate a second time.
                core.store(MemOp { align: None, ..m }, addr, v)?;
                Ok(())
            },
        )
    }
}

/// Operands of [`call`], read before anything runs.
struct Call {
    op: u8,
    m: MemOp,
    sub: u8,
    pointer: u64,
    /// Who takes the flags of [`op::FP_RECORD`].
    record: u64,
    args: [u64; 7],
    count: usize,
    dst: [u8; 3],
}

pub(super) fn rmw_code(op: Rmw) -> u8 {
    match op {
        Rmw::Add => 0,
        Rmw::And => 1,
        Rmw::Or => 2,
        Rmw::Xor => 3,
        Rmw::Swap => 4,
    }
}

fn rmw_from(c: u8) -> Rmw {
    match c {
        0 => Rmw::Add,
        1 => Rmw::And,
        2 => Rmw::Or,
        3 => Rmw::Xor,
        _ => Rmw::Swap,
    }
}

pub(super) fn access_code(a: Access) -> u8 {
    match a {
        Access::Load => 0,
        Access::Store => 1,
        Access::Fetch => 2,
    }
}

fn access_from(c: u8) -> Access {
    match c {
        0 => Access::Load,
        1 => Access::Store,
        _ => Access::Fetch,
    }
}

fn decode_call(d: &mut Reader, core: &Core, frame: &Frame) -> Call {
    let op = d.u8();
    let mut c =
        Call { op, m: MemOp::be(8), sub: 0, pointer: 0, record: 0, args: [0; 7], count: 0, dst: [0; 3] };
    match op {
        op::FP | op::VEC => c.pointer = d.u64(),
        op::FP_RECORD => {
            c.pointer = d.u64();
            c.record = d.u64()
        }
        op::PROBE | op::FLAGS => {}
        _ => c.m = d.memop(),
    }
    c.sub = d.u8();
    if op == op::FLAGS {
        // The second byte of the kind goes where a pointer would be.
        c.pointer = d.u8() as u64
    }
    c.count = d.u8() as usize;
    for i in 0..c.count {
        c.args[i] = d.value(core, frame)
    }
    for i in 0..d.u8() as usize {
        c.dst[i] = d.u8() & 15
    }
    c
}

fn run_call(core: &mut Core, frame: &mut Frame, c: Call) -> Result<(), Stop> {
    let a = c.args;
    let m = c.m;
    let mut give = |i: usize, v: u64| frame.regs[c.dst[i] as usize] = v;
    match c.op {
        op::LOAD_PAIR => {
            core.touch_rest(a[0], 16, false);
            let (h, l) = core.load_pair(m, a[0])?;
            give(0, h);
            give(1, l)
        }
        op::STORE_PAIR => {
            core.touch_rest(a[0], 16, true);
            before_store(core, m, a[0], 16)?;
            core.store_pair(m, a[0], (a[1], a[2]))?
        }
        op::RMW => {
            core.touch_rest(a[0], m.size as u64, false);
            core.touch_rest(a[0], m.size as u64, true);
            check_aligned(m, a[0])?;
            // The interpreter's order: the load faults before the store.
            core.load(MemOp { align: None, ..m }, a[0])?;
            before_store(core, m, a[0], m.size as u64)?;
            give(0, core.rmw(m, rmw_from(c.sub), a[0], a[1])?)
        }
        op::CAS => {
            core.touch_rest(a[0], m.size as u64, true);
            before_store(core, m, a[0], m.size as u64)?;
            give(0, core.cas(m, a[0], a[1], a[2])?)
        }
        op::CAS_PAIR => {
            core.touch_rest(a[0], 16, true);
            check_aligned(m, a[0])?;
            if a[0] & 15 == 0 {
                before_store(core, m, a[0], 16)?
            }
            let (h, l) = core.cas_pair(m, a[0], (a[1], a[2]), (a[3], a[4]))?;
            give(0, h);
            give(1, l)
        }
        op::LOAD_RESERVE => {
            core.touch_rest(a[0], m.size as u64, false);
            let (h, l) = core.load_reserve(m, a[0])?;
            give(0, h);
            give(1, l)
        }
        op::STORE_CONDITIONAL => {
            // Only a reservation that fits makes it store, or fail where a store would.
            core.touch_rest(a[0], m.size as u64, true);
            let r = core.reservation;
            let unmodelled = m.size == 16 && a[0] & 15 != 0;
            check_aligned(m, a[0])?;
            if r.size == m.size && r.addr == a[0] && !unmodelled {
                match before_store(core, m, a[0], m.size as u64) {
                    Err(Stop::Exc(e)) => {
                        // As in the interpreter, a store-conditional that faults has lost its reservation.
                        core.reservation = Default::default();
                        return Err(e.into());
                    }
                    r => r?,
                }
            }
            give(0, core.store_conditional(m, a[0], (a[1], a[2]))? as u64)
        }
        op::PROBE => {
            let access = access_from(c.sub);
            Env::probe(core, a[0], a[1], access)?;
            // The addend for the accesses that follow, if one fast entry covers them all.
            let tlb = if access == Access::Store { &core.tlb_write } else { &core.tlb_read };
            let e = tlb[(a[0] >> GRANULE_SHIFT) as usize & (FAST_TLB - 1)];
            let hit = a[1] <= GRANULE && a[0].wrapping_sub(e.tag) <= GRANULE - a[1];
            give(0, if hit { e.addend } else { 0 })
        }
        op::FP => {
            let mut args = [0; 6];
            args.copy_from_slice(&a[1..]);
            // SAFETY: the address of an `FpOp` that lives as long as the arena.
            let op = unsafe { *(c.pointer as *const FpOp) };
            let (h, l, f) = racewalk_isa::fp::eval(op, a[0], args);
            give(0, h);
            give(1, l);
            give(2, f)
        }
        op::FP_RECORD => {
            let mut args = [0; 6];
            args.copy_from_slice(&a[1..]);
            // SAFETY: the address of an `FpOp` that lives as long as the arena.
            let op = unsafe { *(c.pointer as *const FpOp) };
            let (h, l, f) = racewalk_isa::fp::eval(op, a[0], args);
            if f != 0 {
                // SAFETY: the address of a `&'static Helper`.
                let record = unsafe { &*(c.record as *const Helper) };
                (record.run)(core, [f, 0, 0, 0])?;
            }
            give(0, h);
            give(1, l)
        }
        op::VEC => {
            // SAFETY: the address of a `VecOp` that lives as long as the arena.
            let op = unsafe { *(c.pointer as *const VecOp) };
            let (h, l) = racewalk_isa::vec::eval(op, (a[0], a[1]), (a[2], a[3]));
            give(0, h);
            give(1, l)
        }
        _ => {
            let (family, kind) = super::describe::flag_codes(c.sub, c.pointer as u8);
            give(0, flags::eval(family, kind, a[0], a[1]))
        }
    }
    Ok(())
}

unsafe extern "C" fn call(core: *mut Core, frame: *mut Frame) -> u64 {
    // SAFETY: this is the target of a trampoline.
    unsafe { slow(core, frame, decode_call, run_call) }
}

/// Runs a [`Helper`]. All dirty slots are in place before it runs, and stay so if it fails.
unsafe extern "C" fn helper(core: *mut Core, frame: *mut Frame) -> u64 {
    // SAFETY: the trampoline passes the core that `enter` was given exclusively and its own frame.
    let (core, frame) = unsafe { (&mut *core, &mut *frame) };
    // SAFETY: this is the target of a trampoline whose calls return.
    let mut d = unsafe { Reader::of(frame, true) };
    // SAFETY: the address of a `&'static Helper`.
    let h = unsafe { &*(d.u64() as *const Helper) };
    let mut args = [0; 4];
    let count = d.u8() as usize;
    for a in args.iter_mut().take(count) {
        *a = d.value(core, frame)
    }
    let dst = d.u8() as usize & 15;
    let point = d.point();
    arrive(core, frame, point);
    d.restore(core, frame);
    match catch_unwind(AssertUnwindSafe(|| (h.run)(core, args))) {
        Ok(Ok(v)) => {
            frame.regs[dst] = v;
            0
        }
        Ok(Err(e)) => {
            core.exc = e.0.get();
            stop(core, frame, point, None, exit::EXC)
        }
        Err(panic) => {
            std::mem::forget(panic);
            stop(core, frame, point, None, exit::PANICKED)
        }
    }
}

/// A side exit: an exception, an instruction for the interpreter, or the end of the block before its end.
unsafe extern "C" fn leave_early(core: *mut Core, frame: *mut Frame) -> u64 {
    // SAFETY: the trampoline passes the core that `enter` was given exclusively and its own frame.
    let (core, frame) = unsafe { (&mut *core, &mut *frame) };
    // SAFETY: this is the target of a trampoline whose calls do not return.
    let mut d = unsafe { Reader::of(frame, false) };
    let kind = match d.u8() {
        stop::EXC => {
            core.exc = d.u32();
            exit::EXC
        }
        stop::INTERPRET => exit::INTERPRET,
        _ => LEFT,
    };
    let point = d.point();
    stop(core, frame, point, Some(&mut d), kind)
}

/// As [`exit::JUMP`], which a trampoline cannot return: zero means "go on".
pub(super) const LEFT: u64 = 8;

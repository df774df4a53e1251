//! How a block begins, ends, and leaves early.

use super::arena::Arena;
use super::assembler::{Alu, BUDGET, RAX, RCX, RDX, Src, cc};
use super::describe::Describe;
use super::flags::Cond;
use super::trampoline::{board, stop};
use super::values::{V, Work};
use crate::core::{Core, JUMP_CACHE, JumpEntry, jump_index};
use racewalk_isa::{Exc, Helper};
use std::mem::{offset_of, size_of};
use std::ops::Range;

const JUMP_MASK: i32 = ((JUMP_CACHE - 1) * size_of::<JumpEntry>()) as i32;
const JUMPS: i32 = offset_of!(Core, jumps) as i32;
const JUMP_CODE: i32 = JUMPS + offset_of!(JumpEntry, code) as i32;
const _: () = assert!(size_of::<JumpEntry>() == 16 && offset_of!(JumpEntry, pc) == 0);

/// What is put behind the code of a block.
pub(super) enum Cold {
    /// A call that does `desc` and comes back; `jumps` lead to it (zero: none).
    Slow { jumps: [usize; 3], back: usize, board: usize, desc: Range<usize> },
    /// The description of a call elsewhere, whose displacement is at `at`.
    Desc { at: usize, desc: Range<usize> },
    /// A side exit.
    Exit { jump: usize, desc: Range<usize> },
    /// The stub of the direct jump whose rel32 is at `at`.
    Link { at: usize, target: u64 },
    /// A run of accesses begins.
    Note { jump: usize, back: usize, board: usize },
    /// Execution enters a page.
    NoteFetch { jump: usize, back: usize, left: i32 },
    /// The poll exit of the block.
    Poll { jumps: [usize; 2], count: i32, pc: u64 },
}

impl Work {
    fn rel_board(&mut self, at: usize, index: usize) {
        let d = Arena::board(index) as i64 - (self.origin + at + 4) as i64;
        self.asm.put32(at, d as i32)
    }
    /// Emits a call to a trampoline.
    pub(super) fn call_board(&mut self, index: usize) {
        let at = self.asm.call();
        self.rel_board(at, index)
    }
    fn jmp_board(&mut self, index: usize) {
        let at = self.asm.jmp();
        self.rel_board(at, index)
    }
    fn jcc_board(&mut self, c: u8, index: usize) {
        let at = self.asm.jcc(c);
        self.rel_board(at, index)
    }

    /// Emits the head of a block of `count` instructions.
    pub(super) fn head(&mut self, count: i32, pc: u64) {
        let (a, b) = self.asm.head(count, offset_of!(Core, pending) as i32);
        self.cold.push(Cold::Poll { jumps: [a, b], count, pc })
    }

    /// Emits what was put aside.
    pub(super) fn finish(&mut self) {
        let descs = std::mem::take(&mut self.descs);
        for c in std::mem::take(&mut self.cold) {
            match c {
                Cold::Slow { jumps, back, board, desc } => {
                    for j in jumps.into_iter().filter(|j| *j != 0) {
                        self.asm.bind(j)
                    }
                    self.call_board(board);
                    let at = self.asm.jmp();
                    self.asm.put32(at, back as i32 - (at as i32 + 4));
                    self.asm.raw(&descs[desc])
                }
                Cold::Desc { at, desc } => {
                    self.asm.bind(at);
                    self.asm.raw(&descs[desc])
                }
                Cold::Exit { jump, desc } => {
                    self.asm.bind(jump);
                    self.call_board(board::EXIT);
                    self.asm.raw(&descs[desc])
                }
                Cold::Link { at, target } => {
                    self.asm.bind(at);
                    let d = self.asm.len() as i32 - (at as i32 + 4);
                    self.asm.put32(at + 4, d);
                    self.call_board(board::LINK);
                    let here = self.asm.len() as i32;
                    self.asm.raw(&(at as i32 - here).to_le_bytes());
                    self.asm.raw(&target.to_le_bytes())
                }
                Cold::Note { jump, back, board } => {
                    self.asm.bind(jump);
                    self.begin_run(board, back)
                }
                Cold::NoteFetch { jump, back, left } => {
                    self.asm.bind(jump);
                    self.begin_page(left, back)
                }
                Cold::Poll { jumps, count, pc } => {
                    for j in jumps {
                        self.asm.bind(j)
                    }
                    self.call_board(board::POLL);
                    self.asm.raw(&count.to_le_bytes());
                    self.asm.raw(&pc.to_le_bytes())
                }
            }
        }
        self.descs = descs
    }

    // ---- side exits ---------------------------------------------------------------------------------------

    fn exit_on(&mut self, jump: usize, kind: &[u8], pc: u64, refund: u16) {
        let start = self.descs.len();
        self.descs.put(kind);
        self.describe_state(pc, refund);
        self.cold.push(Cold::Exit { jump, desc: start..self.descs.len() })
    }

    /// Emits an exception if `c`.
    pub(super) fn raise_if(&mut self, c: Cond, e: Exc) {
        let jump = match c {
            Cond::Const(false) => return,
            Cond::Const(true) => self.asm.jmp(),
            c => {
                let c = self.emit_cond(c);
                self.asm.jcc(c)
            }
        };
        let [a, b, c, d] = e.0.get().to_le_bytes();
        self.exit_on(jump, &[stop::EXC, a, b, c, d], self.pc, self.left)
    }

    /// Emits the exit that leaves the instruction at `pc` to the interpreter.
    pub(super) fn interpret(&mut self, pc: u64, refund: u16) {
        let jump = self.asm.jmp();
        self.exit_on(jump, &[stop::INTERPRET], pc, refund)
    }

    /// After an instruction that called something: emits the exit for stores to code.
    pub(super) fn leave_if_code_written(&mut self) {
        self.asm.test_word(offset_of!(Core, code_written) as i32);
        let jump = self.asm.jcc(cc::NE);
        self.exit_on(jump, &[stop::JUMP], self.next, self.left - 1)
    }

    /// Emits a call of a helper.
    pub(super) fn emit_helper(&mut self, h: &'static Helper, args: &[V]) -> V {
        let written = |s| h.writes.iter().any(|&(first, n)| s >= first && s - first < n);
        let (v, d) = self.fresh();
        for s in self.dirty.iter() {
            self.detach(s)
        }
        for &(first, n) in h.writes {
            for s in first..first + n {
                self.detach(s)
            }
        }
        let start = self.descs.len();
        self.descs.put(&(h as *const Helper as u64).to_le_bytes());
        self.descs.put(&[args.len().min(4) as u8]);
        for a in args.iter().take(4) {
            let l = self.loc(*a);
            self.descs.loc(l)
        }
        self.descs.put(&[d]);
        self.emit_call(board::HELPER, start);
        for s in self.dirty.iter() {
            if !written(s) {
                self.settled(s)
            }
        }
        for &(first, n) in h.writes {
            for s in first..first + n {
                self.forget(s)
            }
        }
        self.called = true;
        v
    }

    /// Emits a region that runs only if `c`.
    pub(super) fn emit_when(&mut self, c: Cond) -> usize {
        self.write_back();
        self.detach_all();
        self.begin();
        let c = self.emit_cond(c);
        self.asm.jcc(c ^ 1)
    }

    // ---- the end of a block -------------------------------------------------------------------------------

    /// Emits the continuation at `pc`, everything being written back.
    fn jump(&mut self, pc: u64, link: bool) {
        if self.called {
            self.asm.movi(RAX, pc);
            return self.jmp_board(board::JUMP);
        }
        if link {
            self.asm.align_jmp();
            let at = self.asm.jmp();
            self.asm.raw(&[0; 4]);
            self.links.push((at, pc));
            return self.cold.push(Cold::Link { at, target: pc });
        }
        let off = (jump_index(pc) * size_of::<JumpEntry>()) as i32;
        self.asm.movi(RAX, pc);
        self.asm.jump_check_at(JUMPS + off);
        self.jcc_board(cc::NE, board::JUMP);
        self.asm.jump_go_at(JUMP_CODE + off)
    }

    /// Emits the continuation at the address in `rax`, everything being written back.
    fn jump_rax(&mut self) {
        if self.called {
            return self.jmp_board(board::JUMP);
        }
        self.asm.jump_slot(JUMP_MASK);
        self.asm.jump_check(JUMPS);
        self.jcc_board(cc::NE, board::JUMP);
        self.asm.jump_go(JUMP_CODE)
    }

    pub(super) fn emit_goto(&mut self, pc: u64, link: bool) {
        self.ended = true;
        self.write_back();
        self.jump(pc, link)
    }

    pub(super) fn emit_goto_v(&mut self, t: V) {
        self.ended = true;
        self.write_back();
        self.copy_to(RAX, t);
        self.jump_rax()
    }

    /// `taken` or `fall`, with whether each may be linked.
    pub(super) fn emit_branch(&mut self, c: Cond, taken: (u64, bool), fall: (u64, bool)) {
        match c {
            Cond::Const(true) => return self.emit_goto(taken.0, taken.1),
            Cond::Const(false) => return self.emit_goto(fall.0, fall.1),
            _ => {}
        }
        self.ended = true;
        self.write_back();
        let c = self.emit_cond(c);
        let at = self.asm.jcc8(c);
        self.jump(fall.0, fall.1);
        self.asm.bind8(at);
        self.jump(taken.0, taken.1)
    }

    pub(super) fn emit_branch_v(&mut self, c: Cond, t: V, fall: (u64, bool)) {
        match c {
            Cond::Const(true) => return self.emit_goto_v(t),
            Cond::Const(false) => return self.emit_goto(fall.0, fall.1),
            _ => {}
        }
        self.ended = true;
        self.write_back();
        let c = self.emit_cond(c);
        let at = self.asm.jcc8(c ^ 1);
        self.copy_to(RAX, t);
        self.jump_rax();
        self.asm.bind8(at);
        self.jump(fall.0, fall.1)
    }

    /// Leaves with `next` to be looked up.
    pub(super) fn emit_end(&mut self, next: u64) {
        self.ended = true;
        self.write_back();
        self.asm.movi(RAX, next);
        self.jmp_board(board::JUMP)
    }

    pub(super) fn emit_syscall(&mut self, number: u16, next: u64) {
        self.ended = true;
        self.write_back();
        self.asm.movi(RAX, next);
        self.asm.store(offset_of!(Core, arg0) as i32, RAX);
        self.asm.movi(RDX, number as u64);
        self.asm.movi(RAX, self.pc);
        self.jmp_board(board::SYSCALL)
    }

    pub(super) fn emit_execute(&mut self, target: V, modifier: V) {
        self.ended = true;
        self.write_back();
        self.copy_to(RAX, target);
        self.copy_to(RCX, modifier);
        self.asm.store(offset_of!(Core, arg0) as i32, RAX);
        self.asm.store(offset_of!(Core, arg1) as i32, RCX);
        // EXECUTE and its target count once: the engine counts them.
        self.asm.alu(Alu::Add, racewalk_isa::Width::W64, BUDGET as u8, Src::I(1));
        self.asm.movi(RDX, self.next.wrapping_sub(self.pc));
        self.asm.movi(RAX, self.pc);
        self.jmp_board(board::EXECUTE)
    }
}

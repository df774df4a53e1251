//! How translated code notes the pages that it touches ([`crate::runs`]): the comparison with the last page inline, what
//! begins a run behind a call. Only in arenas made for it.

use super::assembler::{Alu, BUDGET, RAX, RCX, Src, cc};
use super::control::Cold;
use super::trampoline::board;
use super::values::{V, Work};
use crate::core::{Core, GRANULE};
use crate::runs::{CLOSED, FARTHEST, Run, Runs};
use racewalk_cpu::signal;
use racewalk_isa::Width;
use std::arch::naked_asm;
use std::mem::{offset_of, size_of};

const PAGE: usize = offset_of!(Core, runs) + offset_of!(Runs, page);
const SLOT: usize = offset_of!(Core, runs) + offset_of!(Runs, slot);
const NEXT: usize = offset_of!(Core, runs) + offset_of!(Runs, next);
const SOFT: usize = offset_of!(Core, runs) + offset_of!(Runs, soft);
const HARD: usize = offset_of!(Core, runs) + offset_of!(Runs, hard);
const FETCHED: usize = offset_of!(Core, runs) + offset_of!(Runs, fetched);
const BASE: usize = offset_of!(Core, runs) + offset_of!(Runs, base);
const LOST: usize = offset_of!(Core, runs) + offset_of!(Runs, lost);
const COUNT: usize = offset_of!(Run, count);
const _: () = assert!(size_of::<Run>() == 16 && offset_of!(Run, word) == 0);

impl Work {
    /// Emits what notes an access at `addr`, which is in the register `ra`. Changes `rax`.
    pub(super) fn note(&mut self, store: bool, ra: u8) {
        if !self.records {
            return;
        }
        // Where an instruction is left to the interpreter, what it has noted is not noted again: that has to be known.
        self.bail |= self.unsure || self.noted == u8::MAX;
        self.noted = self.noted.saturating_add(1);
        self.asm.mov(RAX, ra);
        self.asm.alu(Alu::And, Width::W64, RAX, Src::I(-(GRANULE as i32)));
        self.asm.jump_check_at(PAGE as i32);
        let jump = self.asm.jcc(cc::NE);
        let back = self.asm.len();
        self.cold.push(Cold::Note {
            jump,
            back,
            board: if store { board::RUN_STORE } else { board::RUN_LOAD },
        });
        self.asm.load(RAX, SLOT as i32);
        // inc dword [rax + count]
        self.asm.raw(&[0xff, 0x40, COUNT as u8 + if store { 4 } else { 0 }]);
    }

    /// The same for an address that is not in a register yet. Changes `rax` and `rcx`.
    pub(super) fn note_at(&mut self, store: bool, addr: V) {
        if self.records {
            let ra = self.reg(addr, RCX);
            self.note(store, ra)
        }
    }

    /// Emits what notes that execution is on the page of `pc`, before the current instruction or the head's. Changes
    /// `rax` and `rcx`.
    pub(super) fn note_fetch(&mut self, pc: u64, left: i32) {
        self.asm.movi(RAX, pc & !(GRANULE - 1));
        self.asm.jump_check_at(FETCHED as i32);
        let jump = self.asm.jcc(cc::NE);
        let back = self.asm.len();
        self.cold.push(Cold::NoteFetch { jump, back, left })
    }

    /// Emits the call behind [`Work::note`].
    pub(super) fn begin_run(&mut self, board: usize, back: usize) {
        self.call_board(board);
        let at = self.asm.jmp();
        self.asm.put32(at, back as i32 - (at as i32 + 4))
    }

    /// Emits the call behind [`Work::note_fetch`].
    pub(super) fn begin_page(&mut self, left: i32, back: usize) {
        self.asm.lea_imm(RCX, BUDGET as u8, left);
        self.begin_run(board::RUN_FETCH, back)
    }
}

macro_rules! begin {
    ($name:ident, $kind:expr) => {
        /// Begins the data run of the page in `rax`. Changes `rax` and the flags.
        #[unsafe(naked)]
        pub(super) unsafe extern "C" fn $name() {
            naked_asm!(
                "push rdx",
                "mov [rbx + {page}], rax",
                "or rax, {kind}",
                "mov rdx, [rbx + {next}]",
                "mov [rbx + {slot}], rdx",
                "mov [rdx], rax",
                "mov qword ptr [rdx + {count}], 0",
                "add rdx, {size}",
                "mov [rbx + {next}], rdx",
                "cmp rdx, [rbx + {soft}]",
                "pop rdx",
                "jae {full}",
                "ret",
                page = const PAGE,
                kind = const $kind,
                next = const NEXT,
                slot = const SLOT,
                count = const COUNT,
                size = const size_of::<Run>(),
                soft = const SOFT,
                full = sym full,
            )
        }
    };
}
begin!(begin_load, 0);
begin!(begin_store, Run::STORE);

/// Execution enters the page in `rax`; `rcx` is the budget before the instruction. Changes `rax` and the flags.
#[unsafe(naked)]
pub(super) unsafe extern "C" fn enter_page() {
    naked_asm!(
        "push rdx",
        "mov [rbx + {fetched}], rax",
        "or rax, {kind}",
        "mov rdx, [rbx + {next}]",
        "mov [rdx], rax",
        "mov rax, [rbx + {base}]",
        "sub rax, rcx",
        "mov [rdx + {count}], rax",
        "add rdx, {size}",
        "mov [rbx + {next}], rdx",
        "mov rax, rdx",
        "sub rax, [rbx + {slot}]",
        "cmp rax, {farthest}",
        "jbe 2f",
        "mov qword ptr [rbx + {page}], {closed}",
        "2:",
        "cmp rdx, [rbx + {soft}]",
        "pop rdx",
        "jae {full}",
        "ret",
        fetched = const FETCHED,
        kind = const Run::FETCH,
        next = const NEXT,
        base = const BASE,
        count = const COUNT,
        size = const size_of::<Run>(),
        slot = const SLOT,
        farthest = const FARTHEST * size_of::<Run>(),
        page = const PAGE,
        closed = const CLOSED,
        soft = const SOFT,
        full = sym full,
    )
}

/// The buffer is nearly full: the next poll gives it away. Where it is full, what comes is lost, and counted.
#[unsafe(naked)]
unsafe extern "C" fn full() {
    naked_asm!(
        "push rdx",
        "mov rdx, [rbx + {pending}]",
        "lock or dword ptr [rdx], {runs}",
        "mov rdx, [rbx + {next}]",
        "cmp rdx, [rbx + {hard}]",
        "jb 2f",
        "sub rdx, {size}",
        "mov [rbx + {next}], rdx",
        "inc dword ptr [rbx + {lost}]",
        "2:",
        "pop rdx",
        "ret",
        pending = const offset_of!(Core, pending),
        runs = const signal::RUNS,
        next = const NEXT,
        hard = const HARD,
        size = const size_of::<Run>(),
        lost = const LOST,
    )
}

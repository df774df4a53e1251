//! Memory accesses: the fast-TLB check and the access inline, everything else behind a call.

use super::assembler::{Alu, RAX, RCX, RDX, Src, cc};
use super::control::Cold;
use super::describe::Describe;
use super::trampoline::{access_code, board, op, rmw_code};
use super::values::{Probed, V, Work};
use crate::core::{Core, FAST_TLB, FastEntry, GRANULE};
use racewalk_isa::{Access, Endian, MemOp, Rmw, Width};
use std::mem::{offset_of, size_of};

/// Extracts the index of a fast-TLB entry, times its size, from an address shifted right by eight.
const TLB_MASK: i32 = ((FAST_TLB - 1) * size_of::<FastEntry>()) as i32;
const READ_ADDEND: i32 = (offset_of!(Core, tlb_read) + offset_of!(FastEntry, addend)) as i32;
const WRITE_ADDEND: i32 = (offset_of!(Core, tlb_write) + offset_of!(FastEntry, addend)) as i32;
const _: () = assert!(size_of::<FastEntry>() == 16 && GRANULE == 4096 && offset_of!(FastEntry, tag) == 0);

impl Work {
    /// Emits the check that `len` bytes at `addr` are in a half of the fast TLB. Returns the jump for a miss and the
    /// register that holds the address.
    fn check(&mut self, store: bool, len: u16, align: u8, addr: u8) -> [usize; 3] {
        let tlb = if store { offset_of!(Core, tlb_write) } else { offset_of!(Core, tlb_read) } as i32;
        let misaligned = if align > 1 {
            self.asm.test_imm(addr, align as i32 - 1);
            self.asm.jcc(cc::NE)
        } else {
            0
        };
        let miss = self.asm.tlb_check(addr, tlb, TLB_MASK, GRANULE as i32 - len as i32);
        [miss, misaligned, 0]
    }

    /// Emits what makes `rax` the addend for an access at `addr`, which is in the register `ra`: the check of the fast
    /// TLB, or just the addend of a probe that covers the access. Returns the jumps to the slow path.
    fn reach(&mut self, store: bool, m: MemOp, addr: V, ra: u8) -> [usize; 3] {
        if m.align.is_none()
            && let Some((root, offset)) = self.root(addr)
            && let Some(p) = self.probed.iter().copied().find(|p| {
                let from = offset.wrapping_sub(p.offset);
                p.store == store && p.root == root && from >= 0 && from <= p.len - m.size as i64
            })
        {
            let r = self.reg(p.addend, RAX);
            self.asm.mov(RAX, r);
            self.asm.test(Width::W64, RAX);
            return [self.asm.jcc(cc::E), 0, 0];
        }
        let align = if m.align.is_some() { m.size } else { 1 };
        let jumps = self.check(store, m.size as u16, align, ra);
        self.asm.tlb_addend(if store { WRITE_ADDEND } else { READ_ADDEND });
        jumps
    }

    /// Emits a load.
    pub(super) fn emit_load(&mut self, m: MemOp, addr: V) -> V {
        let (v, d) = self.fresh();
        if m.space != 0 {
            self.note_at(false, addr);
            let start = self.descs.len();
            self.describe_load(m, addr, d);
            self.emit_call(board::LOAD, start);
            return v;
        }
        let ra = self.reg(addr, RCX);
        self.note(false, ra);
        let jumps = self.reach(false, m, addr, ra);
        let start = self.descs.len();
        self.describe_load(m, addr, d);
        self.describe_state(self.pc, self.left);
        self.asm.guest_load(d, ra, m.size, m.signed, m.endian == Endian::Big, self.movbe);
        let desc = start..self.descs.len();
        self.cold.push(Cold::Slow { jumps, back: self.asm.len(), board: board::LOAD, desc });
        v
    }

    fn describe_load(&mut self, m: MemOp, addr: V, d: u8) {
        let at = self.loc(addr);
        self.descs.memop(m);
        self.descs.loc(at);
        self.descs.put(&[d])
    }

    /// Emits a store.
    pub(super) fn emit_store(&mut self, m: MemOp, addr: V, v: V) {
        let slow = m.space != 0;
        let (ra, rv) = if slow {
            self.note_at(true, addr);
            (0, 0)
        } else {
            let ra = self.reg(addr, RCX);
            self.note(true, ra);
            (ra, if let V::T(_) = v { self.reg(v, RDX) } else { RDX })
        };
        let start = self.descs.len();
        let (la, lv) = (self.loc(addr), self.loc(v));
        self.descs.memop(m);
        self.descs.loc(la);
        self.descs.loc(lv);
        if slow {
            return self.emit_call(board::STORE, start);
        }
        let jumps = self.reach(true, m, addr, ra);
        self.describe_state(self.pc, self.left);
        let swap = m.endian == Endian::Big;
        match v {
            V::K(k) => {
                let k = if swap { k.swap_bytes() >> (64 - 8 * m.size as u32) } else { k };
                self.asm.movi(RDX, if m.size < 8 { k & 0xffff_ffff } else { k });
                self.asm.guest_store(RDX, ra, m.size, false, self.movbe)
            }
            V::T(_) => self.asm.guest_store(rv, ra, m.size, swap, self.movbe),
        }
        let desc = start..self.descs.len();
        self.cold.push(Cold::Slow { jumps, back: self.asm.len(), board: board::STORE, desc });
    }

    /// Emits a probe: inline if the length is known. The addend it finds serves the accesses that follow in the
    /// instruction; it is zero if there is none (the range crosses pages, or the page is not in the fast TLB).
    pub(super) fn emit_probe(&mut self, addr: V, len: V, access: Access) {
        match len {
            V::K(0) => return,
            V::K(n) if n <= GRANULE && access != Access::Fetch => {
                let store = access == Access::Store;
                let (addend, d) = self.fresh();
                let ra = self.reg(addr, RCX);
                let jumps = self.check(store, n as u16, 1, ra);
                let start = self.descs.len();
                self.describe_op(op::PROBE, access_code(access));
                self.describe_call(&[addr, len], &[d]);
                self.describe_state(self.pc, self.left);
                self.asm.tlb_addend(if store { WRITE_ADDEND } else { READ_ADDEND });
                self.asm.mov(d, RAX);
                let desc = start..self.descs.len();
                self.cold.push(Cold::Slow { jumps, back: self.asm.len(), board: board::CALL, desc });
                if let Some((root, offset)) = self.root(addr) {
                    self.probed.push(Probed { root, offset, len: n as i64, store, addend })
                }
                return;
            }
            _ => {}
        }
        let start = self.descs.len();
        self.describe_op(op::PROBE, access_code(access));
        self.describe_call(&[addr, len], &[]);
        self.emit_call(board::CALL, start)
    }

    // ---- calls --------------------------------------------------------------------------------------------

    /// Describes an operation that is not a memory access.
    pub(super) fn describe_op(&mut self, op: u8, sub: u8) {
        self.descs.put(&[op, sub])
    }

    /// Describes the operands and results of an operation.
    pub(super) fn describe_call(&mut self, args: &[V], results: &[u8]) {
        self.descs.put(&[args.len() as u8]);
        for v in args {
            let l = self.loc(*v);
            self.descs.loc(l)
        }
        self.descs.put(&[results.len() as u8]);
        self.descs.put(results)
    }

    /// Ends the description that began at `start` with the state, and emits the call, here and now.
    pub(super) fn emit_call(&mut self, board: usize, start: usize) {
        self.describe_state(self.pc, self.left);
        self.call_board(board);
        // test eax, imm32: does nothing; the displacement of the description.
        self.asm.raw(&[0xa9, 0, 0, 0, 0]);
        let at = self.asm.len() - 4;
        self.cold.push(Cold::Desc { at, desc: start..self.descs.len() })
    }

    /// Emits a memory operation that is always a call, with up to two results.
    pub(super) fn emit_access<const N: usize>(&mut self, op: u8, m: MemOp, sub: u8, args: &[V]) -> [V; N] {
        let mut values = [V::K(0); N];
        let mut regs = [0; N];
        for i in 0..N {
            (values[i], regs[i]) = self.fresh()
        }
        if !matches!(op, op::STORE_PAIR | op::CAS | op::CAS_PAIR | op::STORE_CONDITIONAL) {
            self.note_at(false, args[0])
        }
        if !matches!(op, op::LOAD_PAIR | op::LOAD_RESERVE) {
            self.note_at(true, args[0])
        }
        let start = self.descs.len();
        self.descs.put(&[op]);
        self.descs.memop(m);
        self.descs.put(&[sub]);
        self.describe_call(args, &regs);
        self.emit_call(board::CALL, start);
        values
    }

    /// Emits an operation on values that is a call: `pointer` selects it.
    pub(super) fn emit_pure<const N: usize>(&mut self, op: u8, pointer: u64, args: &[V]) -> [V; N] {
        let mut values = [V::K(0); N];
        let mut regs = [0; N];
        for i in 0..N {
            (values[i], regs[i]) = self.fresh()
        }
        let start = self.descs.len();
        self.descs.put(&[op]);
        self.descs.put(&pointer.to_le_bytes());
        self.descs.put(&[0]);
        self.describe_call(args, &regs);
        self.emit_call(board::CALL, start);
        values
    }

    // ---- atomics ------------------------------------------------------------------------------------------

    /// The end of an inline atomic: what `rax` has, in the byte order and width of `m`, into `d`.
    fn take_old(&mut self, m: MemOp, d: u8) {
        if m.endian == Endian::Big {
            self.asm.bswap(RAX, m.size)
        }
        match (m.size, m.signed) {
            (4, true) => self.asm.sx(d, RAX, 32),
            (4, false) => self.asm.mov32(d, RAX),
            _ => self.asm.mov(d, RAX),
        }
    }

    /// Emits a compare and swap. Inline for aligned words and doublewords.
    pub(super) fn emit_cas(&mut self, m: MemOp, addr: V, expected: V, new: V) -> V {
        if m.space != 0 || m.size < 4 {
            let [old] = self.emit_access(op::CAS, m, 0, &[addr, expected, new]);
            return old;
        }
        let w = if m.size == 8 { Width::W64 } else { Width::W32 };
        let (v, d) = self.fresh();
        let ra = self.reg(addr, RCX);
        self.note(true, ra);
        let jumps = self.check(true, m.size as u16, m.size, ra);
        let start = self.descs.len();
        self.descs.put(&[op::CAS]);
        self.descs.memop(m);
        self.descs.put(&[0]);
        self.describe_call(&[addr, expected, new], &[d]);
        self.describe_state(self.pc, self.left);
        self.asm.host_address(WRITE_ADDEND, ra);
        self.copy_to(RAX, expected);
        self.copy_to(RCX, new);
        if m.endian == Endian::Big {
            self.asm.bswap(RAX, m.size);
            self.asm.bswap(RCX, m.size)
        }
        self.asm.host_cas(w);
        self.take_old(m, d);
        let desc = start..self.descs.len();
        self.cold.push(Cold::Slow { jumps, back: self.asm.len(), board: board::CALL, desc });
        v
    }

    /// Emits an atomic read-modify-write. Inline if aligned; the page must be in both halves of the fast TLB, since
    /// the operation reads before it writes.
    pub(super) fn emit_rmw(&mut self, m: MemOp, op: Rmw, addr: V, v: V) -> V {
        let short = match v {
            V::K(k) => k as i64 as i32 as i64 == k as i64,
            V::T(_) => true,
        };
        if m.space != 0 || m.size < 4 || (!short && op != Rmw::Swap) {
            let [old] = self.emit_access(op::RMW, m, rmw_code(op), &[addr, v]);
            return old;
        }
        let w = if m.size == 8 { Width::W64 } else { Width::W32 };
        let big = m.endian == Endian::Big;
        let (old, d) = self.fresh();
        let ra = self.reg(addr, RCX);
        let operand = match v {
            V::K(k) => Src::I(k as i32),
            V::T(_) => Src::R(self.reg(v, RDX)),
        };
        self.note(false, ra);
        self.note(true, ra);
        let [unread, misaligned, _] = self.check(false, m.size as u16, m.size, ra);
        let [unwritten, ..] = self.check(true, m.size as u16, 1, ra);
        let start = self.descs.len();
        self.descs.put(&[op::RMW]);
        self.descs.memop(m);
        self.descs.put(&[rmw_code(op)]);
        self.describe_call(&[addr, v], &[d]);
        self.describe_state(self.pc, self.left);
        self.asm.host_address(WRITE_ADDEND, ra);
        let alu = match op {
            Rmw::Add => Some(Alu::Add),
            Rmw::And => Some(Alu::And),
            Rmw::Or => Some(Alu::Or),
            Rmw::Xor => Some(Alu::Xor),
            Rmw::Swap => None,
        };
        match alu {
            None => {
                self.copy_to(RAX, v);
                if big {
                    self.asm.bswap(RAX, m.size)
                }
                self.asm.host_swap(w)
            }
            Some(alu) => {
                self.asm.host_load(w);
                let again = self.asm.len();
                self.asm.mov(RCX, RAX);
                if big {
                    self.asm.bswap(RCX, m.size)
                }
                self.asm.alu(alu, w, RCX, operand);
                if big {
                    self.asm.bswap(RCX, m.size)
                }
                self.asm.host_cas(w);
                self.asm.jcc_back(cc::NE, again)
            }
        }
        self.take_old(m, d);
        let desc = start..self.descs.len();
        let jumps = [unread, unwritten, misaligned];
        self.cold.push(Cold::Slow { jumps, back: self.asm.len(), board: board::CALL, desc });
        old
    }
}

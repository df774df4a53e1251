//! Emission helpers: one instruction each, encoded by dynasm into a plain byte vector.
//!
//! Registers are numbers as the hardware numbers them. `rbx` holds the [`Core`](crate::Core), `r15` the budget,
//! `rsp` the spill area; `rax`, `rcx` and `rdx` are free inside one operation; the rest is [`POOL`].

#![allow(clippy::useless_conversion, reason = "dynasm converts every register number")]

use super::float::Sse;
use dynasm::dynasm;
use dynasmrt::{DynasmApi, SimpleAssembler};
use racewalk_isa::Width;

/// A host register.
pub(super) type Reg = u8;
pub(super) const RAX: Reg = 0;
pub(super) const RCX: Reg = 1;
pub(super) const RDX: Reg = 2;
/// The register that counts the budget.
pub(super) const BUDGET: usize = 15;
/// Registers that hold guest values.
pub(super) const POOL: [Reg; 10] = [5, 6, 7, 8, 9, 10, 11, 12, 13, 14];

/// x86 condition codes, as encoded in the low nibble of `jcc`, `setcc` and `cmovcc`. `cc ^ 1` is the opposite.
pub(super) mod cc {
    pub const O: u8 = 0;
    pub const B: u8 = 2;
    pub const AE: u8 = 3;
    pub const E: u8 = 4;
    pub const NE: u8 = 5;
    pub const BE: u8 = 6;
    pub const A: u8 = 7;
    pub const S: u8 = 8;
    pub const P: u8 = 10;
    pub const L: u8 = 12;
    pub const GE: u8 = 13;
    pub const LE: u8 = 14;
    pub const G: u8 = 15;
}

/// Two-operand arithmetic.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Alu {
    Add,
    Or,
    And,
    Sub,
    Xor,
    Cmp,
}

/// Shifts and rotates.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Shift {
    Rol,
    Shl,
    Shr,
    Sar,
}

/// The second operand of an instruction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Src {
    R(Reg),
    I(i32),
}

/// The code of one block while it is being made.
pub(super) struct Asm {
    a: SimpleAssembler,
}

macro_rules! alu_arms {
    ($s:ident, $op:ident, $w:ident, $d:ident, $src:ident, $($v:ident $m:ident),*) => {
        match ($op, $w, $src) {
            $((Alu::$v, Width::W64, Src::R(r)) => dynasm!($s.a ; .arch x64 ; $m Rq($d), Rq(r)),
              (Alu::$v, Width::W32, Src::R(r)) => dynasm!($s.a ; .arch x64 ; $m Rd($d), Rd(r)),
              (Alu::$v, Width::W64, Src::I(i)) if i as i8 as i32 == i =>
                  dynasm!($s.a ; .arch x64 ; $m Rq($d), BYTE i as i8),
              (Alu::$v, Width::W32, Src::I(i)) if i as i8 as i32 == i =>
                  dynasm!($s.a ; .arch x64 ; $m Rd($d), BYTE i as i8),
              (Alu::$v, Width::W64, Src::I(i)) => dynasm!($s.a ; .arch x64 ; $m Rq($d), DWORD i),
              (Alu::$v, Width::W32, Src::I(i)) => dynasm!($s.a ; .arch x64 ; $m Rd($d), DWORD i),)*
            (Alu::Cmp, ..) => {}
        }
    };
}

impl Asm {
    /// An empty buffer.
    pub fn new() -> Self {
        Asm { a: SimpleAssembler { ops: Vec::with_capacity(16 << 10) } }
    }
    /// Forgets everything, keeps the memory.
    pub fn clear(&mut self) {
        self.a.ops.clear()
    }
    /// Bytes so far.
    pub fn len(&self) -> usize {
        self.a.ops.len()
    }
    /// The code.
    pub fn bytes(&self) -> &[u8] {
        &self.a.ops
    }
    /// Appends data.
    pub fn raw(&mut self, b: &[u8]) {
        self.a.ops.extend_from_slice(b)
    }
    /// Overwrites four bytes at `at`.
    pub fn put32(&mut self, at: usize, v: i32) {
        self.a.ops[at..at + 4].copy_from_slice(&v.to_le_bytes())
    }
    /// Makes the rel32 at `at` lead here.
    pub fn bind(&mut self, at: usize) {
        let d = self.len() as i32 - (at as i32 + 4);
        self.put32(at, d)
    }
    /// Makes the rel8 at `at` lead here.
    pub fn bind8(&mut self, at: usize) {
        let d = self.len() - (at + 1);
        debug_assert!(d < 128);
        self.a.ops[at] = d as u8
    }

    /// `d = k`, leaving the flags alone.
    pub fn movi(&mut self, d: Reg, k: u64) {
        if k <= u32::MAX as u64 {
            dynasm!(self.a ; .arch x64 ; mov Rd(d), DWORD k as u32 as i32)
        } else if k as i64 as i32 as i64 == k as i64 {
            dynasm!(self.a ; .arch x64 ; mov Rq(d), DWORD k as i32)
        } else {
            dynasm!(self.a ; .arch x64 ; mov Rq(d), QWORD k as i64)
        }
    }
    /// `d = s`.
    pub fn mov(&mut self, d: Reg, s: Reg) {
        if d != s {
            dynasm!(self.a ; .arch x64 ; mov Rq(d), Rq(s))
        }
    }
    /// `d = s & 0xffff_ffff`, also when `d` is `s`.
    pub fn mov32(&mut self, d: Reg, s: Reg) {
        dynasm!(self.a ; .arch x64 ; mov Rd(d), Rd(s))
    }
    /// `d = 0`; changes the flags.
    pub fn zero(&mut self, d: Reg) {
        dynasm!(self.a ; .arch x64 ; xor Rd(d), Rd(d))
    }
    /// `d = [rbx + off]`.
    pub fn load(&mut self, d: Reg, off: i32) {
        if off < 128 {
            dynasm!(self.a ; .arch x64 ; mov Rq(d), [BYTE rbx + off as i8])
        } else {
            dynasm!(self.a ; .arch x64 ; mov Rq(d), [DWORD rbx + off])
        }
    }
    /// `[rbx + off] = s`.
    pub fn store(&mut self, off: i32, s: Reg) {
        if off < 128 {
            dynasm!(self.a ; .arch x64 ; mov [BYTE rbx + off as i8], Rq(s))
        } else {
            dynasm!(self.a ; .arch x64 ; mov [DWORD rbx + off], Rq(s))
        }
    }
    /// `[rbx + off] = sign-extended k`.
    pub fn store_imm(&mut self, off: i32, k: i32) {
        if off < 128 {
            dynasm!(self.a ; .arch x64 ; mov QWORD [BYTE rbx + off as i8], DWORD k)
        } else {
            dynasm!(self.a ; .arch x64 ; mov QWORD [DWORD rbx + off], DWORD k)
        }
    }
    /// `d = [rsp + 8 * k]`.
    pub fn unspill(&mut self, d: Reg, k: u8) {
        dynasm!(self.a ; .arch x64 ; mov Rq(d), [DWORD rsp + k as i32 * 8])
    }
    /// `[rsp + 8 * k] = s`.
    pub fn spill(&mut self, k: u8, s: Reg) {
        dynasm!(self.a ; .arch x64 ; mov [DWORD rsp + k as i32 * 8], Rq(s))
    }
    /// `d op= src`.
    pub fn alu(&mut self, op: Alu, w: Width, d: Reg, src: Src) {
        match (op, src) {
            // dynasm has only the long form of this one.
            (Alu::Cmp, Src::I(i)) if i as i8 as i32 == i => {
                let wide = ((w == Width::W64) as u8) << 3;
                self.raw(&[0x40 | wide | d >> 3, 0x83, 0xf8 | d & 7, i as u8])
            }
            (Alu::Cmp, Src::I(i)) => match w {
                Width::W64 => dynasm!(self.a ; .arch x64 ; cmp Rq(d), DWORD i),
                Width::W32 => dynasm!(self.a ; .arch x64 ; cmp Rd(d), DWORD i),
            },
            (Alu::Cmp, Src::R(r)) => match w {
                Width::W64 => dynasm!(self.a ; .arch x64 ; cmp Rq(d), Rq(r)),
                Width::W32 => dynasm!(self.a ; .arch x64 ; cmp Rd(d), Rd(r)),
            },
            _ => alu_arms!(self, op, w, d, src, Add add, Or or, And and, Sub sub, Xor xor),
        }
    }
    /// Flags of `a & a`.
    pub fn test(&mut self, w: Width, a: Reg) {
        match w {
            Width::W64 => dynasm!(self.a ; .arch x64 ; test Rq(a), Rq(a)),
            Width::W32 => dynasm!(self.a ; .arch x64 ; test Rd(a), Rd(a)),
        }
    }
    /// Flags of `a & k`, 32 bits.
    pub fn test_imm(&mut self, a: Reg, k: i32) {
        dynasm!(self.a ; .arch x64 ; test Rd(a), DWORD k)
    }
    /// Carry = bit `b mod 32` of `a`.
    pub fn bt32(&mut self, a: Reg, b: Reg) {
        dynasm!(self.a ; .arch x64 ; bt Rd(a), Rd(b))
    }
    /// Carry = bit `k` of `a`.
    pub fn bt_imm(&mut self, a: Reg, k: u8) {
        dynasm!(self.a ; .arch x64 ; bt Rq(a), BYTE k as i8)
    }
    /// `d32 += carry`.
    pub fn adc0(&mut self, d: Reg) {
        dynasm!(self.a ; .arch x64 ; adc Rd(d), BYTE 0)
    }
    /// `d = a + b`.
    pub fn lea(&mut self, d: Reg, a: Reg, b: Reg) {
        dynasm!(self.a ; .arch x64 ; lea Rq(d), [Rq(a) + Rq(b)])
    }
    /// `d = a + k`.
    pub fn lea_imm(&mut self, d: Reg, a: Reg, k: i32) {
        if k as i8 as i32 == k {
            dynasm!(self.a ; .arch x64 ; lea Rq(d), [BYTE Rq(a) + k as i8])
        } else {
            dynasm!(self.a ; .arch x64 ; lea Rq(d), [DWORD Rq(a) + k])
        }
    }
    /// `d32 = a + 2 * b`.
    pub fn lea2(&mut self, d: Reg, a: Reg, b: Reg) {
        dynasm!(self.a ; .arch x64 ; lea Rd(d), [Rq(a) + Rq(b) * 2])
    }
    // ---- floating point, in xmm0 and xmm1 ------------------------------------------------------------------

    /// `xmm<x> = s`, all 64 bits.
    pub fn xmm_set(&mut self, x: u8, s: Reg) {
        dynasm!(self.a ; .arch x64 ; movq Rx(x), Rq(s))
    }
    /// `d = xmm0`: 64 bits if `wide`, else 32, zero-extended.
    pub fn xmm_get(&mut self, d: Reg, wide: bool) {
        if wide {
            dynasm!(self.a ; .arch x64 ; movq Rq(d), xmm0)
        } else {
            dynasm!(self.a ; .arch x64 ; movd Rd(d), xmm0)
        }
    }
    /// `xmm0 op= xmm<x>` (or the square root of it), double precision if `wide`, else single.
    pub fn sse(&mut self, op: Sse, wide: bool, x: u8) {
        match (op, wide) {
            (Sse::Add, true) => dynasm!(self.a ; .arch x64 ; addsd xmm0, Rx(x)),
            (Sse::Add, false) => dynasm!(self.a ; .arch x64 ; addss xmm0, Rx(x)),
            (Sse::Sub, true) => dynasm!(self.a ; .arch x64 ; subsd xmm0, Rx(x)),
            (Sse::Sub, false) => dynasm!(self.a ; .arch x64 ; subss xmm0, Rx(x)),
            (Sse::Mul, true) => dynasm!(self.a ; .arch x64 ; mulsd xmm0, Rx(x)),
            (Sse::Mul, false) => dynasm!(self.a ; .arch x64 ; mulss xmm0, Rx(x)),
            (Sse::Div, true) => dynasm!(self.a ; .arch x64 ; divsd xmm0, Rx(x)),
            (Sse::Div, false) => dynasm!(self.a ; .arch x64 ; divss xmm0, Rx(x)),
            (Sse::Sqrt, true) => dynasm!(self.a ; .arch x64 ; sqrtsd xmm0, Rx(x)),
            (Sse::Sqrt, false) => dynasm!(self.a ; .arch x64 ; sqrtss xmm0, Rx(x)),
        }
    }
    /// Compares xmm0 with xmm1: condition codes B, E, A; P if one of them is a NaN.
    pub fn ucomis(&mut self, wide: bool) {
        if wide {
            dynasm!(self.a ; .arch x64 ; ucomisd xmm0, xmm1)
        } else {
            dynasm!(self.a ; .arch x64 ; ucomiss xmm0, xmm1)
        }
    }
    /// `xmm0` = the signed integer in `s` as a double.
    pub fn xmm_integer(&mut self, s: Reg, wide: bool) {
        // The instruction keeps the upper half of xmm0, and would wait for it.
        dynasm!(self.a ; .arch x64 ; xorps xmm0, xmm0);
        if wide {
            dynasm!(self.a ; .arch x64 ; cvtsi2sd xmm0, Rq(s))
        } else {
            dynasm!(self.a ; .arch x64 ; cvtsi2sd xmm0, Rd(s))
        }
    }
    /// `xmm0` from single to double precision.
    pub fn xmm_lengthen(&mut self) {
        dynasm!(self.a ; .arch x64 ; cvtss2sd xmm0, xmm0)
    }
    /// Jumps if the number in `d` is no normal number above the smallest one: zero, subnormal, at the smallest
    /// exponent (where what was rounded may have been below it), infinite, or a NaN. Changes `rax`.
    pub fn not_normal(&mut self, d: Reg, wide: bool) -> usize {
        let (shift, mask) = if wide { (52, 0x7ff) } else { (23, 0xff) };
        self.mov(RAX, d);
        self.shift_imm(Shift::Shr, Width::W64, RAX, shift);
        self.alu(Alu::And, Width::W32, RAX, Src::I(mask));
        self.alu(Alu::Sub, Width::W32, RAX, Src::I(2));
        self.alu(Alu::Cmp, Width::W32, RAX, Src::I(mask - 3));
        self.jcc(cc::A)
    }

    /// `d op= k`.
    pub fn shift_imm(&mut self, op: Shift, w: Width, d: Reg, k: u8) {
        let k = k as i8;
        match (op, w) {
            (Shift::Rol, Width::W64) => dynasm!(self.a ; .arch x64 ; rol Rq(d), BYTE k),
            (Shift::Shl, Width::W64) => dynasm!(self.a ; .arch x64 ; shl Rq(d), BYTE k),
            (Shift::Shr, Width::W64) => dynasm!(self.a ; .arch x64 ; shr Rq(d), BYTE k),
            (Shift::Sar, Width::W64) => dynasm!(self.a ; .arch x64 ; sar Rq(d), BYTE k),
            (Shift::Rol, Width::W32) => dynasm!(self.a ; .arch x64 ; rol Rd(d), BYTE k),
            (Shift::Shl, Width::W32) => dynasm!(self.a ; .arch x64 ; shl Rd(d), BYTE k),
            (Shift::Shr, Width::W32) => dynasm!(self.a ; .arch x64 ; shr Rd(d), BYTE k),
            (Shift::Sar, Width::W32) => dynasm!(self.a ; .arch x64 ; sar Rd(d), BYTE k),
        }
    }
    /// `d op= cl`.
    pub fn shift_cl(&mut self, op: Shift, w: Width, d: Reg) {
        match (op, w) {
            (Shift::Rol, Width::W64) => dynasm!(self.a ; .arch x64 ; rol Rq(d), cl),
            (Shift::Shl, Width::W64) => dynasm!(self.a ; .arch x64 ; shl Rq(d), cl),
            (Shift::Shr, Width::W64) => dynasm!(self.a ; .arch x64 ; shr Rq(d), cl),
            (Shift::Sar, Width::W64) => dynasm!(self.a ; .arch x64 ; sar Rq(d), cl),
            (Shift::Rol, Width::W32) => dynasm!(self.a ; .arch x64 ; rol Rd(d), cl),
            (Shift::Shl, Width::W32) => dynasm!(self.a ; .arch x64 ; shl Rd(d), cl),
            (Shift::Shr, Width::W32) => dynasm!(self.a ; .arch x64 ; shr Rd(d), cl),
            (Shift::Sar, Width::W32) => dynasm!(self.a ; .arch x64 ; sar Rd(d), cl),
        }
    }
    /// `d *= s`.
    pub fn imul(&mut self, d: Reg, s: Reg) {
        dynasm!(self.a ; .arch x64 ; imul Rq(d), Rq(s))
    }
    /// `d = a * k`.
    pub fn imul_imm(&mut self, d: Reg, a: Reg, k: i32) {
        dynasm!(self.a ; .arch x64 ; imul Rq(d), Rq(a), DWORD k)
    }
    /// `rdx:rax = rax * s`.
    pub fn mul_wide(&mut self, signed: bool, s: Reg) {
        if signed {
            dynasm!(self.a ; .arch x64 ; imul Rq(s))
        } else {
            dynasm!(self.a ; .arch x64 ; mul Rq(s))
        }
    }
    /// `rax, rdx = rax / s, rax % s`; the caller has ruled out that it traps.
    pub fn div(&mut self, signed: bool, s: Reg) {
        if signed {
            dynasm!(self.a ; .arch x64 ; cqo ; idiv Rq(s))
        } else {
            dynasm!(self.a ; .arch x64 ; xor edx, edx ; div Rq(s))
        }
    }
    /// `d = -d`.
    pub fn neg(&mut self, d: Reg) {
        dynasm!(self.a ; .arch x64 ; neg Rq(d))
    }
    /// `d = sx(s, bits)`.
    pub fn sx(&mut self, d: Reg, s: Reg, bits: u8) {
        match bits {
            8 => dynasm!(self.a ; .arch x64 ; movsx Rq(d), Rb(s)),
            16 => dynasm!(self.a ; .arch x64 ; movsx Rq(d), Rw(s)),
            _ => dynasm!(self.a ; .arch x64 ; movsxd Rq(d), Rd(s)),
        }
    }
    /// `d = zx(s, bits)`.
    pub fn zx(&mut self, d: Reg, s: Reg, bits: u8) {
        match bits {
            8 => dynasm!(self.a ; .arch x64 ; movzx Rd(d), Rb(s)),
            16 => dynasm!(self.a ; .arch x64 ; movzx Rd(d), Rw(s)),
            _ => dynasm!(self.a ; .arch x64 ; mov Rd(d), Rd(s)),
        }
    }
    /// Reverses the low 2, 4 or 8 bytes of `d` (the bits above two bytes stay).
    pub fn bswap(&mut self, d: Reg, size: u8) {
        match size {
            2 => dynasm!(self.a ; .arch x64 ; rol Rw(d), 8),
            4 => dynasm!(self.a ; .arch x64 ; bswap Rd(d)),
            _ => dynasm!(self.a ; .arch x64 ; bswap Rq(d)),
        }
    }
    /// `rax` = index of the highest one of `a`, or `none` if `a` is zero.
    pub fn bsr(&mut self, a: Reg, none: Reg) {
        dynasm!(self.a ; .arch x64 ; bsr rax, Rq(a) ; cmovz rax, Rq(none))
    }
    /// The low byte of `d` (`rax`, `rcx` or `rdx`) = condition.
    pub fn setcc(&mut self, c: u8, d: Reg) {
        debug_assert!(d < 4);
        self.raw(&[0x0f, 0x90 | c, 0xc0 | d])
    }
    /// `d = s` if the condition holds.
    pub fn cmov(&mut self, c: u8, d: Reg, s: Reg) {
        self.raw(&[0x48 | (d >> 3) << 2 | s >> 3, 0x0f, 0x40 | c, 0xc0 | (d & 7) << 3 | s & 7])
    }
    /// A conditional jump forward; returns where its rel32 is.
    pub fn jcc(&mut self, c: u8) -> usize {
        self.raw(&[0x0f, 0x80 | c, 0, 0, 0, 0]);
        self.len() - 4
    }
    /// A short conditional jump forward; returns where its rel8 is.
    pub fn jcc8(&mut self, c: u8) -> usize {
        self.raw(&[0x70 | c, 0]);
        self.len() - 1
    }
    /// A short jump forward; returns where its rel8 is.
    pub fn jmp8(&mut self) -> usize {
        self.raw(&[0xeb, 0]);
        self.len() - 1
    }
    /// `jmp rel32`; returns where its rel32 is.
    pub fn jmp(&mut self) -> usize {
        self.raw(&[0xe9, 0, 0, 0, 0]);
        self.len() - 4
    }
    /// `call rel32`; returns where its rel32 is.
    pub fn call(&mut self) -> usize {
        self.raw(&[0xe8, 0, 0, 0, 0]);
        self.len() - 4
    }
    /// Pads so that the rel32 of a `jmp` emitted next is four-byte aligned.
    pub fn align_jmp(&mut self) {
        match (self.len() + 1) & 3 {
            1 => self.raw(&[0x0f, 0x1f, 0x00]),
            2 => self.raw(&[0x66, 0x90]),
            3 => self.raw(&[0x90]),
            _ => {}
        }
    }

    /// The head of a block: `budget -= n`; returns the rel32s of the two jumps to the poll exit.
    pub fn head(&mut self, n: i32, pending: i32) -> (usize, usize) {
        self.alu(Alu::Sub, Width::W64, BUDGET as u8, Src::I(n));
        let a = self.jcc(cc::S);
        self.load(RAX, pending);
        // cmp dword [rax], 0
        self.raw(&[0x83, 0x38, 0]);
        (a, self.jcc(cc::NE))
    }
    /// Compares the word `[rbx + off]` with zero.
    pub fn test_word(&mut self, off: i32) {
        // cmp dword [rbx + off], 0
        self.raw(&[0x83, 0xbb]);
        self.raw(&off.to_le_bytes());
        self.raw(&[0])
    }

    /// The fast-TLB check: `rax` becomes the byte offset of the entry, and the returned jump is taken on a miss.
    pub fn tlb_check(&mut self, addr: Reg, tlb: i32, mask: i32, limit: i32) -> usize {
        dynasm!(self.a ; .arch x64
            ; mov eax, Rd(addr)
            ; mov rdx, Rq(addr)
            ; shr eax, 8
            ; and eax, DWORD mask
            ; sub rdx, [DWORD rbx + rax + tlb]
        );
        self.alu(Alu::Cmp, Width::W64, RDX, Src::I(limit));
        self.jcc(cc::A)
    }
    /// `rax = [rbx + rax + off]`.
    pub fn tlb_addend(&mut self, off: i32) {
        dynasm!(self.a ; .arch x64 ; mov rax, [DWORD rbx + rax + off])
    }
    /// `d` = the `size` bytes at `[rax + addr]`, extended; `swap` reverses them.
    pub fn guest_load(&mut self, d: Reg, addr: Reg, size: u8, signed: bool, swap: bool, movbe: bool) {
        match (size, swap, signed) {
            (1, _, false) => dynasm!(self.a ; .arch x64 ; movzx Rd(d), BYTE [rax + Rq(addr)]),
            (1, _, true) => dynasm!(self.a ; .arch x64 ; movsx Rq(d), BYTE [rax + Rq(addr)]),
            (2, false, false) => dynasm!(self.a ; .arch x64 ; movzx Rd(d), WORD [rax + Rq(addr)]),
            (2, false, true) => dynasm!(self.a ; .arch x64 ; movsx Rq(d), WORD [rax + Rq(addr)]),
            (2, true, _) => {
                dynasm!(self.a ; .arch x64 ; movzx Rd(d), WORD [rax + Rq(addr)]);
                self.bswap(d, 2);
                if signed {
                    self.sx(d, d, 16)
                }
            }
            (4, false, true) => dynasm!(self.a ; .arch x64 ; movsxd Rq(d), DWORD [rax + Rq(addr)]),
            (4, _, _) => {
                if swap && movbe {
                    dynasm!(self.a ; .arch x64 ; movbe Rd(d), [rax + Rq(addr)])
                } else {
                    dynasm!(self.a ; .arch x64 ; mov Rd(d), [rax + Rq(addr)]);
                    if swap {
                        self.bswap(d, 4)
                    }
                }
                if signed {
                    self.sx(d, d, 32)
                }
            }
            _ => {
                if swap && movbe {
                    dynasm!(self.a ; .arch x64 ; movbe Rq(d), [rax + Rq(addr)])
                } else {
                    dynasm!(self.a ; .arch x64 ; mov Rq(d), [rax + Rq(addr)]);
                    if swap {
                        self.bswap(d, 8)
                    }
                }
            }
        }
    }
    /// The low `size` bytes of `s` to `[rax + addr]`; `swap` reverses them. Changes `rdx`.
    pub fn guest_store(&mut self, s: Reg, addr: Reg, size: u8, swap: bool, movbe: bool) {
        let mut s = s;
        if swap && size > 1 {
            if movbe {
                match size {
                    2 => dynasm!(self.a ; .arch x64 ; movbe [rax + Rq(addr)], Rw(s)),
                    4 => dynasm!(self.a ; .arch x64 ; movbe [rax + Rq(addr)], Rd(s)),
                    _ => dynasm!(self.a ; .arch x64 ; movbe [rax + Rq(addr)], Rq(s)),
                }
                return;
            }
            self.mov(RDX, s);
            self.bswap(RDX, size);
            s = RDX;
        }
        match size {
            1 => dynasm!(self.a ; .arch x64 ; mov [rax + Rq(addr)], Rb(s)),
            2 => dynasm!(self.a ; .arch x64 ; mov [rax + Rq(addr)], Rw(s)),
            4 => dynasm!(self.a ; .arch x64 ; mov [rax + Rq(addr)], Rd(s)),
            _ => dynasm!(self.a ; .arch x64 ; mov [rax + Rq(addr)], Rq(s)),
        }
    }
    /// `rdx = [rbx + rax + off] + addr`: the host address after a fast-TLB check.
    pub fn host_address(&mut self, off: i32, addr: Reg) {
        dynasm!(self.a ; .arch x64 ; mov rdx, [DWORD rbx + rax + off] ; add rdx, Rq(addr))
    }
    /// `rax = [rdx]`.
    pub fn host_load(&mut self, w: Width) {
        match w {
            Width::W64 => dynasm!(self.a ; .arch x64 ; mov rax, [rdx]),
            Width::W32 => dynasm!(self.a ; .arch x64 ; mov eax, [rdx]),
        }
    }
    /// Compare and swap of `[rdx]`: `rax` expected and old, `rcx` new.
    pub fn host_cas(&mut self, w: Width) {
        match w {
            Width::W64 => dynasm!(self.a ; .arch x64 ; lock cmpxchg [rdx], rcx),
            Width::W32 => dynasm!(self.a ; .arch x64 ; lock cmpxchg [rdx], ecx),
        }
    }
    /// Exchanges `[rdx]` with `rax`.
    pub fn host_swap(&mut self, w: Width) {
        match w {
            Width::W64 => dynasm!(self.a ; .arch x64 ; xchg [rdx], rax),
            Width::W32 => dynasm!(self.a ; .arch x64 ; xchg [rdx], eax),
        }
    }
    /// A short conditional jump back to `at`.
    pub fn jcc_back(&mut self, c: u8, at: usize) {
        let d = at as i64 - (self.len() as i64 + 2);
        debug_assert!(d >= -128);
        self.raw(&[0x70 | c, d as u8])
    }
    /// Full barrier.
    pub fn fence(&mut self) {
        dynasm!(self.a ; .arch x64 ; mfence)
    }
    /// `ecx = offset of the jump-cache entry of rax`.
    pub fn jump_slot(&mut self, mask: i32) {
        dynasm!(self.a ; .arch x64 ; mov ecx, eax ; shl ecx, 3 ; and ecx, DWORD mask)
    }
    /// Compares `rax` with `[rbx + rcx + off]`.
    pub fn jump_check(&mut self, off: i32) {
        dynasm!(self.a ; .arch x64 ; cmp rax, [DWORD rbx + rcx + off])
    }
    /// Jumps to `[rbx + rcx + off]`.
    pub fn jump_go(&mut self, off: i32) {
        dynasm!(self.a ; .arch x64 ; jmp QWORD [DWORD rbx + rcx + off])
    }
    /// Compares `rax` with `[rbx + off]`.
    pub fn jump_check_at(&mut self, off: i32) {
        dynasm!(self.a ; .arch x64 ; cmp rax, [DWORD rbx + off])
    }
    /// Jumps to `[rbx + off]`.
    pub fn jump_go_at(&mut self, off: i32) {
        dynasm!(self.a ; .arch x64 ; jmp QWORD [DWORD rbx + off])
    }
    /// The low half of `d` = that of `s` if the condition holds; the high half becomes zero.
    pub fn cmov32(&mut self, c: u8, d: Reg, s: Reg) {
        self.raw(&[0x40 | (d >> 3) << 2 | s >> 3, 0x0f, 0x40 | c, 0xc0 | (d & 7) << 3 | s & 7])
    }
}

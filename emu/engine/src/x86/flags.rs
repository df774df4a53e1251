//! Conditions and flags: kept as operands until somebody needs them.

use super::assembler::{Alu, RAX, RCX, RDX, Reg, Src, cc};
use super::trampoline::op;
use super::values::{Cur, Lazy, V, Work};
use racewalk_isa::{Cc, Family, Flag, FlagKind, Width, flags};

/// The instruction that makes the host's flags.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum How {
    /// `cmp a, b`.
    Cmp,
    /// `a + b`.
    Add,
}

/// A condition that has not been evaluated.
#[derive(Clone, Copy, Debug)]
pub enum Cond {
    /// Known while translating.
    Const(bool),
    /// A host condition code after an instruction on two values.
    Host {
        /// The instruction.
        how: How,
        /// Its width.
        w: Width,
        /// The host's condition code.
        cc: u8,
        /// First operand.
        a: V,
        /// Second operand.
        b: V,
    },
    /// Bit `v mod 32` of `table`.
    Table {
        /// The bit number.
        v: V,
        /// The bits.
        table: u32,
    },
}

pub(super) fn host_cc(c: Cc) -> u8 {
    match c {
        Cc::Eq => cc::E,
        Cc::Ne => cc::NE,
        Cc::Lt => cc::L,
        Cc::Ge => cc::GE,
        Cc::Le => cc::LE,
        Cc::Gt => cc::G,
        Cc::Ltu => cc::B,
        Cc::Geu => cc::AE,
        Cc::Leu => cc::BE,
        Cc::Gtu => cc::A,
    }
}

/// What holds for less, equal and greater (bits 4, 2 and 1): a host condition code, or a constant.
fn ordering(bits: u8, signed: bool) -> Result<u8, bool> {
    let (l, g) = if signed { (cc::L, cc::G) } else { (cc::B, cc::A) };
    Ok(match bits & 7 {
        0 => return Err(false),
        1 => g,
        2 => cc::E,
        3 => l ^ 1,
        4 => l,
        5 => cc::NE,
        6 => g ^ 1,
        _ => return Err(true),
    })
}

/// The low `w` of a constant, zero-extended.
fn cut(w: Width, k: u64) -> u64 {
    match w {
        Width::W32 => k as u32 as u64,
        Width::W64 => k,
    }
}

impl Work {
    /// Emits the comparison of `a` with `b`. Constants go to the scratch registers.
    fn compare(&mut self, w: Width, a: V, b: V, sa: Reg, sb: Reg) {
        let ra = self.reg(a, sa);
        if let V::K(k) = b
            && cut(w, k) == 0
        {
            return self.asm.test(w, ra);
        }
        let b = self.second(w, b, sb);
        self.asm.alu(Alu::Cmp, w, ra, b)
    }

    /// Emits `sa = a + b`.
    fn sum(&mut self, w: Width, a: V, b: V, sa: Reg, sb: Reg) {
        self.copy_to(sa, a);
        let b = self.second(w, b, sb);
        self.asm.alu(Alu::Add, w, sa, b)
    }

    fn second(&mut self, w: Width, b: V, scratch: Reg) -> Src {
        match (w, b) {
            (Width::W32, V::K(k)) => Src::I(k as i32),
            _ => self.src(b, scratch),
        }
    }

    /// Emits the evaluation of a condition; it holds if the returned condition code does. Changes the scratch
    /// registers. Not for constants.
    pub(super) fn emit_cond(&mut self, c: Cond) -> u8 {
        match c {
            Cond::Const(_) => {
                debug_assert!(false, "callers fold constants");
                cc::E
            }
            Cond::Host { how: How::Cmp, w, cc, a, b } => {
                self.compare(w, a, b, RDX, RCX);
                cc
            }
            Cond::Host { how: How::Add, w, cc, a, b } => {
                self.sum(w, a, b, RDX, RCX);
                cc
            }
            Cond::Table { v, table } => {
                let r = self.reg(v, RDX);
                self.asm.movi(RAX, table as u64);
                self.asm.bt32(RAX, r);
                cc::B
            }
        }
    }

    /// Defines flags.
    pub(super) fn set_flags(&mut self, f: Flag, kind: FlagKind, a: V, b: V) {
        use FlagKind::*;
        let v = match (f.family, kind, a, b) {
            (_, Value, v, _) => v,
            (family, kind, V::K(x), V::K(y)) => V::K(flags::eval(family, kind, x, y)),
            (Family::S390Cc, TestMask | TestMaskHigh, _, V::K(0)) => V::K(0),
            (Family::PpcCr, Logic(Width::W64) | TestMask | TestMaskHigh, v, _) => v,
            _ => {
                // Logic ignores its second operand: name nothing that need not be kept.
                let b = if matches!(kind, Logic(_)) { V::K(0) } else { b };
                return self.slot_lazy(f.slot, Lazy { family: f.family, kind, a, b });
            }
        };
        self.slot_set(f.slot, v)
    }

    /// The condition that flags satisfy `mask`.
    pub(super) fn test_flags(&mut self, f: Flag, mask: u8) -> Cond {
        if f.family == Family::S390Cc && mask & 15 == 0 {
            return Cond::Const(false);
        }
        if f.family == Family::S390Cc && mask & 15 == 15 {
            return Cond::Const(true);
        }
        if let Cur::Lazy(l) = self.cur[f.slot as usize] {
            let l = self.lazies[l as usize];
            let fused = match f.family {
                // A slot that was written in another family's form is no use to fuse with.
                family if family != l.family => None,
                Family::S390Cc => self.fuse_s390(l, mask),
                Family::PpcCr => fuse_ppc(l, mask),
                Family::SparcCc => fuse_sparc(l, mask),
            };
            if let Some(c) = fused {
                return c;
            }
        }
        let v = self.slot_get(f.slot);
        if let V::K(k) = v {
            return Cond::Const(flags::test(f.family, k, mask));
        }
        match f.family {
            Family::S390Cc | Family::SparcCc => {
                let table = (0..32).fold(0, |t, i| t | (flags::test(f.family, i as u64, mask) as u32) << i);
                Cond::Table { v, table }
            }
            Family::PpcCr => {
                // The mask has less, greater, equal from bit 8 down.
                let bits = (mask >> 1 & 4) | (mask & 2) | (mask >> 2 & 1);
                ordered(bits, true, Width::W64, v, V::K(0))
            }
        }
    }

    fn fuse_s390(&self, l: Lazy, mask: u8) -> Option<Cond> {
        use FlagKind::*;
        let Lazy { kind, a, b, .. } = l;
        let host = |how, w, cc| Some(Cond::Host { how, w, cc, a, b });
        // Condition codes 0, 1, 2 are equal, less, greater.
        let compared = (mask >> 2 & 2) | (mask & 4) | (mask >> 1 & 1);
        match kind {
            Cmp(w) => Some(ordered(compared, true, w, a, b)),
            CmpU(w) => Some(ordered(compared, false, w, a, b)),
            Logic(w) => Some(match mask >> 2 & 3 {
                0 => Cond::Const(false),
                1 => Cond::Host { how: How::Cmp, w, cc: cc::NE, a, b },
                2 => Cond::Host { how: How::Cmp, w, cc: cc::E, a, b },
                _ => Cond::Const(true),
            }),
            AddS(w) | SubS(w) => {
                let how = if matches!(kind, AddS(_)) { How::Add } else { How::Cmp };
                // Whether a result of zero cannot have overflowed: always for a difference; for a sum unless both
                // are the most negative number.
                let exact_zero = match (how, b) {
                    (How::Cmp, _) => true,
                    (How::Add, V::K(k)) => k.wrapping_shl(if w == Width::W32 { 32 } else { 0 }) != 1 << 63,
                    _ => false,
                };
                match mask & 15 {
                    1 => host(how, w, cc::O),
                    14 => host(how, w, cc::O ^ 1),
                    8 if exact_zero => host(how, w, cc::E),
                    7 if exact_zero => host(how, w, cc::NE),
                    _ => None,
                }
            }
            AddU(w) => match mask & 15 {
                12 => host(How::Add, w, cc::AE),
                3 => host(How::Add, w, cc::B),
                10 => host(How::Add, w, cc::E),
                5 => host(How::Add, w, cc::NE),
                _ => None,
            },
            // Codes 1, 2, 3 are less, equal, greater; 0 does not occur.
            SubU(w) => Some(ordered((mask & 4) | (mask & 2) | (mask & 1), false, w, a, b)),
            TestMask | TestMaskHigh => {
                let V::K(k) = b else { return None };
                let w = Width::W64;
                let zero = |cc| Some(Cond::Host { how: How::Cmp, w, cc, a, b: V::K(0) });
                let ones = |cc| Some(Cond::Host { how: How::Cmp, w, cc, a, b: V::K(k) });
                let mask = if kind == TestMask {
                    // Code 2 does not occur: treat it as code 1.
                    (mask & 13) | (mask >> 1 & 2)
                } else {
                    mask & 15
                };
                match mask {
                    0 => Some(Cond::Const(false)),
                    15 => Some(Cond::Const(true)),
                    8 => zero(cc::E),
                    7 => zero(cc::NE),
                    1 => ones(cc::E),
                    14 => ones(cc::NE),
                    _ => None,
                }
            }
            Value => None,
        }
    }

    /// Emits the canonical form of flags.
    pub(super) fn canonical(&mut self, l: Lazy) -> V {
        use FlagKind::*;
        let Lazy { family, kind, a, b } = l;
        if let (V::K(a), V::K(b)) = (a, b) {
            return V::K(flags::eval(family, kind, a, b));
        }
        let inline = match family {
            Family::S390Cc => !matches!((kind, b), (TestMask | TestMaskHigh, V::T(_))),
            Family::PpcCr => matches!(kind, Cmp(_) | CmpU(_)),
            Family::SparcCc => false,
        };
        let (v, d) = self.fresh();
        if !inline {
            self.call_flags(l, d);
            return v;
        }
        self.asm.zero(RAX);
        self.asm.zero(RCX);
        match kind {
            Cmp(w) | CmpU(w) => {
                self.compare(w, a, b, RDX, d);
                let signed = matches!(kind, Cmp(_));
                self.asm.setcc(if signed { cc::G } else { cc::A }, RAX);
                self.asm.setcc(if signed { cc::L } else { cc::B }, RCX);
                if family == Family::PpcCr {
                    self.asm.alu(Alu::Sub, Width::W32, RAX, Src::R(RCX));
                    self.asm.sx(d, RAX, 32)
                } else {
                    self.asm.lea2(d, RCX, RAX)
                }
            }
            Logic(w) => {
                self.compare(w, a, V::K(0), RDX, d);
                self.asm.setcc(cc::NE, RAX);
                self.asm.mov32(d, RAX)
            }
            AddS(w) | SubS(w) => {
                if matches!(kind, AddS(_)) {
                    self.sum(w, a, b, RDX, d)
                } else {
                    self.compare(w, a, b, RDX, d)
                }
                self.asm.setcc(cc::G, RAX);
                self.asm.setcc(cc::S, RCX);
                self.asm.lea2(d, RCX, RAX);
                self.asm.movi(RAX, 3);
                self.asm.cmov32(cc::O, d, RAX)
            }
            AddU(w) | SubU(w) => {
                let carry = if matches!(kind, AddU(_)) {
                    self.sum(w, a, b, RDX, d);
                    cc::B
                } else {
                    self.compare(w, a, b, RDX, d);
                    cc::AE
                };
                self.asm.setcc(carry, RAX);
                self.asm.setcc(cc::NE, RCX);
                self.asm.lea2(d, RCX, RAX)
            }
            TestMask | TestMaskHigh => {
                let V::K(k) = b else { unreachable!("not inline") };
                let w = Width::W64;
                let ra = self.reg(a, RDX);
                self.asm.test(w, ra);
                self.asm.setcc(cc::NE, RAX);
                self.compare(w, a, V::K(k), RDX, d);
                self.asm.setcc(cc::E, RCX);
                if kind == TestMask {
                    self.asm.lea2(d, RAX, RCX)
                } else {
                    // Not zero, all ones, and the leftmost selected bit each add one.
                    self.asm.alu(Alu::Add, Width::W32, RAX, Src::R(RCX));
                    self.asm.bt_imm(ra, 63 - k.leading_zeros() as u8);
                    self.asm.adc0(RAX);
                    self.asm.mov32(d, RAX)
                }
            }
            Value => unreachable!("never lazy"),
        }
        v
    }

    fn call_flags(&mut self, l: Lazy, d: Reg) {
        let start = self.descs.len();
        self.describe_flags(l);
        self.describe_call(&[l.a, l.b], &[d]);
        self.emit_call(super::trampoline::board::CALL, start);
    }

    fn describe_flags(&mut self, l: Lazy) {
        use super::describe::Describe;
        self.descs.put(&[op::FLAGS]);
        self.descs.flag_kind(l.family, l.kind)
    }
}

/// A comparison that holds for the orderings in `bits` (4 less, 2 equal, 1 greater).
fn ordered(bits: u8, signed: bool, w: Width, a: V, b: V) -> Cond {
    match ordering(bits, signed) {
        Ok(cc) => Cond::Host { how: How::Cmp, w, cc, a, b },
        Err(k) => Cond::Const(k),
    }
}

fn fuse_ppc(l: Lazy, mask: u8) -> Option<Cond> {
    let bits = (mask >> 1 & 4) | (mask & 2) | (mask >> 2 & 1);
    match l.kind {
        FlagKind::Cmp(w) => Some(ordered(bits, true, w, l.a, l.b)),
        FlagKind::CmpU(w) => Some(ordered(bits, false, w, l.a, l.b)),
        FlagKind::Logic(w) => Some(ordered(bits, true, w, l.a, V::K(0))),
        _ => None,
    }
}

fn fuse_sparc(l: Lazy, mask: u8) -> Option<Cond> {
    use FlagKind::*;
    let (how, w, b) = match l.kind {
        AddS(w) | AddU(w) => (How::Add, w, l.b),
        SubS(w) | SubU(w) | Cmp(w) | CmpU(w) => (How::Cmp, w, l.b),
        Logic(w) => (How::Cmp, w, V::K(0)),
        _ => return None,
    };
    let base = match mask & 7 {
        0 => return Some(Cond::Const(mask & 8 != 0)),
        1 => cc::E,
        2 => cc::LE,
        3 => cc::L,
        4 => cc::BE,
        5 => cc::B,
        6 => cc::S,
        _ => cc::O,
    };
    Some(Cond::Host { how, w, cc: base ^ (mask >> 3 & 1), a: l.a, b })
}

//! The [`Backend`]: instruction semantics come in, code goes out.

use super::assembler::{Alu, RAX, RCX, RDX, Shift, Src, cc};
use super::flags::{Cond, How, host_cc};
use super::trampoline::op;
use super::values::{V, Work};
use racewalk_isa::fp::FpOp;
use racewalk_isa::vec::{Lane, VecOp};
use racewalk_isa::{Access, Backend, Cc, Exc, Flag, FlagKind, Helper, Hint, MemOp, Rmw, Slot, Width};
use std::convert::Infallible;

/// The translator of one block.
pub(super) struct Translator<'a> {
    pub work: &'a mut Work,
    pub may_link: &'a dyn Fn(u64) -> bool,
}

impl Translator<'_> {
    fn link(&self, pc: u64) -> (u64, bool) {
        (pc, (self.may_link)(pc))
    }

    /// `a op b` into a new value.
    fn alu(&mut self, op: Alu, a: V, b: V) -> V {
        let w = &mut *self.work;
        w.begin();
        let (v, d) = w.fresh_copy(a);
        let b = w.src(b, RCX);
        w.asm.alu(op, Width::W64, d, b);
        v
    }

    fn shift(&mut self, op: Shift, width: Width, a: V, n: V) -> V {
        let w = &mut *self.work;
        w.begin();
        let (v, d) = w.fresh_copy(a);
        match n {
            V::K(k) => {
                let k = k as u8 & if width == Width::W64 { 63 } else { 31 };
                if k != 0 {
                    w.asm.shift_imm(op, width, d, k)
                } else if width == Width::W32 {
                    w.asm.mov32(d, d)
                }
            }
            V::T(_) => {
                w.copy_to(RCX, n);
                if width == Width::W32 {
                    // A rotation by zero would leave the high half alone.
                    w.asm.mov32(d, d)
                }
                w.asm.shift_cl(op, width, d)
            }
        }
        v
    }

    fn mul_high(&mut self, signed: bool, a: V, b: V) -> V {
        let w = &mut *self.work;
        w.begin();
        let (v, d) = w.fresh();
        let b = w.reg(b, RCX);
        w.copy_to(RAX, a);
        w.asm.mul_wide(signed, b);
        w.asm.mov(d, RDX);
        v
    }

    /// Division that never traps: what has no answer gives zero, as in the interpreter.
    fn divide(&mut self, signed: bool, remainder: bool, a: V, b: V) -> V {
        let w = &mut *self.work;
        w.begin();
        let (v, d) = w.fresh();
        w.copy_to(RCX, b);
        w.copy_to(RAX, a);
        w.asm.zero(d);
        w.asm.test(Width::W64, RCX);
        let by_zero = w.asm.jcc8(cc::E);
        let mut ends = vec![by_zero];
        if signed {
            w.asm.alu(Alu::Cmp, Width::W64, RCX, Src::I(-1));
            let ordinary = w.asm.jcc8(cc::NE);
            if !remainder {
                w.asm.neg(RAX);
                ends.push(w.asm.jcc8(cc::O));
                w.asm.mov(d, RAX);
            }
            ends.push(w.asm.jmp8());
            w.asm.bind8(ordinary);
        }
        w.asm.div(signed, RCX);
        w.asm.mov(d, if remainder { RDX } else { RAX });
        for e in ends {
            w.asm.bind8(e)
        }
        v
    }

    fn fits(k: u64) -> bool {
        k as i64 as i32 as i64 == k as i64
    }
}

macro_rules! folded {
    ($a:expr, $b:expr, |$x:ident, $y:ident| $e:expr) => {
        if let (V::K($x), V::K($y)) = ($a, $b) {
            return V::K($e);
        }
    };
}

impl Backend for Translator<'_> {
    type V = V;
    type C = Cond;
    type X = (V, V);
    type Trap = Infallible;

    fn k(&mut self, c: u64) -> V {
        V::K(c)
    }
    fn get(&mut self, s: Slot) -> V {
        self.work.begin();
        self.work.slot_get(s)
    }
    fn set(&mut self, s: Slot, v: V) {
        self.work.slot_set(s, v)
    }
    fn set_low32(&mut self, s: Slot, v: V) {
        let old = self.get(s);
        if let (V::K(o), V::K(k)) = (old, v) {
            return self.set(s, V::K((o & !0xffff_ffff) | (k & 0xffff_ffff)));
        }
        // old ^ zx32(old ^ v): the high half of old, the low half of v.
        let w = &mut *self.work;
        w.begin();
        let (r, d) = w.fresh_copy(old);
        let x = match v {
            V::K(k) => Src::I(k as i32),
            V::T(_) => Src::R(w.reg(v, RCX)),
        };
        w.asm.alu(Alu::Xor, Width::W32, d, x);
        let old = w.src(old, RCX);
        w.asm.alu(Alu::Xor, Width::W64, d, old);
        w.slot_set(s, r)
    }

    fn add(&mut self, a: V, b: V) -> V {
        folded!(a, b, |x, y| x.wrapping_add(y));
        let (a, b) = if matches!(a, V::K(_)) { (b, a) } else { (a, b) };
        let w = &mut *self.work;
        w.begin();
        match b {
            V::K(0) => a,
            V::K(k) if Self::fits(k) => {
                let ra = w.reg(a, RAX);
                let (v, d) = w.fresh();
                w.asm.lea_imm(d, ra, k as i32);
                w.derive(v, a, k as i64);
                v
            }
            V::K(_) => self.alu(Alu::Add, a, b),
            V::T(_) => {
                let a = w.reg(a, RAX);
                let b = w.reg(b, RCX);
                let (v, d) = w.fresh();
                w.asm.lea(d, a, b);
                v
            }
        }
    }
    fn sub(&mut self, a: V, b: V) -> V {
        folded!(a, b, |x, y| x.wrapping_sub(y));
        match b {
            V::K(k) => self.add(a, V::K(k.wrapping_neg())),
            _ => self.alu(Alu::Sub, a, b),
        }
    }
    fn mul(&mut self, a: V, b: V) -> V {
        folded!(a, b, |x, y| x.wrapping_mul(y));
        let (a, b) = if matches!(a, V::K(_)) { (b, a) } else { (a, b) };
        let w = &mut *self.work;
        w.begin();
        if let V::K(k) = b
            && Self::fits(k)
        {
            let a = w.reg(a, RAX);
            let (v, d) = w.fresh();
            w.asm.imul_imm(d, a, k as i32);
            return v;
        }
        let (v, d) = w.fresh_copy(a);
        let b = w.reg(b, RCX);
        w.asm.imul(d, b);
        v
    }
    fn mulhu(&mut self, a: V, b: V) -> V {
        self.mul_high(false, a, b)
    }
    fn mulhs(&mut self, a: V, b: V) -> V {
        self.mul_high(true, a, b)
    }
    fn udiv(&mut self, a: V, b: V) -> V {
        self.divide(false, false, a, b)
    }
    fn urem(&mut self, a: V, b: V) -> V {
        self.divide(false, true, a, b)
    }
    fn sdiv(&mut self, a: V, b: V) -> V {
        self.divide(true, false, a, b)
    }
    fn srem(&mut self, a: V, b: V) -> V {
        self.divide(true, true, a, b)
    }
    fn and(&mut self, a: V, b: V) -> V {
        folded!(a, b, |x, y| x & y);
        let (a, b) = if matches!(a, V::K(_)) { (b, a) } else { (a, b) };
        match b {
            V::K(u64::MAX) => a,
            V::K(0) => V::K(0),
            V::K(0xff) => self.zx(a, 8),
            V::K(0xffff) => self.zx(a, 16),
            V::K(0xffff_ffff) => self.zx(a, 32),
            V::K(k) if k <= u32::MAX as u64 => {
                let w = &mut *self.work;
                w.begin();
                let (v, d) = w.fresh_copy(a);
                w.asm.alu(Alu::And, Width::W32, d, Src::I(k as i32));
                v
            }
            _ => self.alu(Alu::And, a, b),
        }
    }
    fn or(&mut self, a: V, b: V) -> V {
        folded!(a, b, |x, y| x | y);
        let (a, b) = if matches!(a, V::K(_)) { (b, a) } else { (a, b) };
        if b == V::K(0) { a } else { self.alu(Alu::Or, a, b) }
    }
    fn xor(&mut self, a: V, b: V) -> V {
        folded!(a, b, |x, y| x ^ y);
        if a == b {
            return V::K(0);
        }
        let (a, b) = if matches!(a, V::K(_)) { (b, a) } else { (a, b) };
        if b == V::K(0) { a } else { self.alu(Alu::Xor, a, b) }
    }
    fn shl(&mut self, a: V, n: V) -> V {
        folded!(a, n, |x, y| x.wrapping_shl(y as u32));
        self.shift(Shift::Shl, Width::W64, a, n)
    }
    fn shr(&mut self, a: V, n: V) -> V {
        folded!(a, n, |x, y| x.wrapping_shr(y as u32));
        self.shift(Shift::Shr, Width::W64, a, n)
    }
    fn sar(&mut self, a: V, n: V) -> V {
        folded!(a, n, |x, y| (x as i64).wrapping_shr(y as u32) as u64);
        self.shift(Shift::Sar, Width::W64, a, n)
    }
    fn rotl(&mut self, a: V, n: V) -> V {
        folded!(a, n, |x, y| x.rotate_left(y as u32 & 63));
        self.shift(Shift::Rol, Width::W64, a, n)
    }
    fn rotl32(&mut self, a: V, n: V) -> V {
        folded!(a, n, |x, y| (x as u32).rotate_left(y as u32 & 31) as u64);
        self.shift(Shift::Rol, Width::W32, a, n)
    }
    fn sx(&mut self, a: V, bits: u8) -> V {
        if let V::K(k) = a {
            return V::K(match bits {
                8 => k as i8 as u64,
                16 => k as i16 as u64,
                _ => k as i32 as u64,
            });
        }
        let w = &mut *self.work;
        w.begin();
        let a = w.reg(a, RCX);
        let (v, d) = w.fresh();
        w.asm.sx(d, a, bits);
        v
    }
    fn zx(&mut self, a: V, bits: u8) -> V {
        if let V::K(k) = a {
            return V::K(match bits {
                8 => k as u8 as u64,
                16 => k as u16 as u64,
                _ => k as u32 as u64,
            });
        }
        let w = &mut *self.work;
        w.begin();
        let a = w.reg(a, RCX);
        let (v, d) = w.fresh();
        w.asm.zx(d, a, bits);
        v
    }
    fn bswap(&mut self, a: V) -> V {
        if let V::K(k) = a {
            return V::K(k.swap_bytes());
        }
        let w = &mut *self.work;
        w.begin();
        let (v, d) = w.fresh_copy(a);
        w.asm.bswap(d, 8);
        v
    }
    fn clz(&mut self, a: V) -> V {
        if let V::K(k) = a {
            return V::K(k.leading_zeros() as u64);
        }
        let w = &mut *self.work;
        w.begin();
        let a = w.reg(a, RCX);
        let (v, d) = w.fresh();
        // 63 ^ 127 is 64.
        w.asm.movi(d, 127);
        w.asm.bsr(a, d);
        w.asm.alu(Alu::Xor, Width::W64, RAX, Src::I(63));
        w.asm.mov(d, RAX);
        v
    }
    fn cmp(&mut self, w: Width, cc: Cc, a: V, b: V) -> Cond {
        if let (V::K(x), V::K(y)) = (a, b) {
            return Cond::Const(cc.holds(w, x, y));
        }
        Cond::Host { how: How::Cmp, w, cc: host_cc(cc), a, b }
    }
    fn sel(&mut self, c: Cond, a: V, b: V) -> V {
        match c {
            Cond::Const(true) => return a,
            Cond::Const(false) => return b,
            _ => {}
        }
        let w = &mut *self.work;
        w.begin();
        let (v, d) = w.fresh_copy(b);
        let cc = w.emit_cond(c);
        let a = w.reg(a, RAX);
        w.asm.cmov(cc, d, a);
        v
    }
    fn c2v(&mut self, c: Cond) -> V {
        if let Cond::Const(k) = c {
            return V::K(k as u64);
        }
        let w = &mut *self.work;
        w.begin();
        let (v, d) = w.fresh();
        let cc = w.emit_cond(c);
        w.asm.setcc(cc, RAX);
        w.asm.zx(d, RAX, 8);
        v
    }

    fn flags(&mut self, f: Flag, kind: FlagKind, a: V, b: V) {
        self.work.set_flags(f, kind, a, b)
    }
    fn flags_test(&mut self, f: Flag, mask: u8) -> Cond {
        self.work.begin();
        self.work.test_flags(f, mask)
    }
    fn flags_value(&mut self, f: Flag) -> V {
        self.get(f.slot)
    }

    fn load(&mut self, m: MemOp, addr: V) -> Result<V, Infallible> {
        self.work.begin();
        Ok(self.work.emit_load(m, addr))
    }
    fn store(&mut self, m: MemOp, addr: V, v: V) -> Result<(), Infallible> {
        self.work.begin();
        self.work.emit_store(m, addr, v);
        Ok(())
    }
    fn load_pair(&mut self, m: MemOp, addr: V) -> Result<(V, V), Infallible> {
        self.work.begin();
        let [h, l] = self.work.emit_access(op::LOAD_PAIR, m, 0, &[addr]);
        Ok((h, l))
    }
    fn store_pair(&mut self, m: MemOp, addr: V, v: (V, V)) -> Result<(), Infallible> {
        self.work.begin();
        let [] = self.work.emit_access(op::STORE_PAIR, m, 0, &[addr, v.0, v.1]);
        Ok(())
    }
    fn rmw(&mut self, m: MemOp, op: Rmw, addr: V, v: V) -> Result<V, Infallible> {
        self.work.begin();
        Ok(self.work.emit_rmw(m, op, addr, v))
    }
    fn cas(&mut self, m: MemOp, addr: V, expected: V, new: V) -> Result<V, Infallible> {
        self.work.begin();
        Ok(self.work.emit_cas(m, addr, expected, new))
    }
    fn cas_pair(&mut self, m: MemOp, addr: V, expected: (V, V), new: (V, V)) -> Result<(V, V), Infallible> {
        self.work.begin();
        let args = [addr, expected.0, expected.1, new.0, new.1];
        let [h, l] = self.work.emit_access(op::CAS_PAIR, m, 0, &args);
        Ok((h, l))
    }
    fn load_reserve(&mut self, m: MemOp, addr: V) -> Result<(V, V), Infallible> {
        self.work.begin();
        let [h, l] = self.work.emit_access(op::LOAD_RESERVE, m, 0, &[addr]);
        Ok((h, l))
    }
    fn store_conditional(&mut self, m: MemOp, addr: V, v: (V, V)) -> Result<V, Infallible> {
        self.work.begin();
        let [done] = self.work.emit_access(op::STORE_CONDITIONAL, m, 0, &[addr, v.0, v.1]);
        Ok(done)
    }
    fn probe(&mut self, addr: V, len: V, access: Access) -> Result<(), Infallible> {
        self.work.begin();
        self.work.emit_probe(addr, len, access);
        Ok(())
    }
    fn fence(&mut self) {
        self.work.asm.fence()
    }

    fn fp(&mut self, op: FpOp, rm: V, args: &[V]) -> (V, V, V) {
        self.work.begin();
        let mut all = [V::K(0); 7];
        all[0] = rm;
        all[1..=args.len()].copy_from_slice(args);
        let pointer = self.work.ops.fp(op);
        let [h, l, f] = self.work.emit_pure(op::FP, pointer, &all[..=args.len()]);
        (h, l, f)
    }

    fn fp_record(
        &mut self,
        op: FpOp,
        rm: V,
        quick: Cond,
        args: &[V],
        record: &'static Helper,
    ) -> Result<(V, V), Infallible> {
        self.work.begin();
        Ok(self.work.emit_fp(op, rm, quick, args, record))
    }

    fn x_get(&mut self, s: Slot) -> (V, V) {
        let h = self.get(s);
        let l = self.get(s + 1);
        (h, l)
    }
    fn x_set(&mut self, s: Slot, x: (V, V)) {
        self.set(s, x.0);
        self.set(s + 1, x.1)
    }
    fn x_make(&mut self, hi: V, lo: V) -> (V, V) {
        (hi, lo)
    }
    fn x_split(&mut self, x: (V, V)) -> (V, V) {
        x
    }
    fn x_op(&mut self, op: VecOp, a: (V, V), b: (V, V)) -> (V, V) {
        match op {
            VecOp::And => (self.and(a.0, b.0), self.and(a.1, b.1)),
            VecOp::Or => (self.or(a.0, b.0), self.or(a.1, b.1)),
            VecOp::Xor => (self.xor(a.0, b.0), self.xor(a.1, b.1)),
            VecOp::Add(Lane::G) => (self.add(a.0, b.0), self.add(a.1, b.1)),
            VecOp::Sub(Lane::G) => (self.sub(a.0, b.0), self.sub(a.1, b.1)),
            _ => {
                self.work.begin();
                let pointer = self.work.ops.vec(op);
                let [h, l] = self.work.emit_pure(op::VEC, pointer, &[a.0, a.1, b.0, b.1]);
                (h, l)
            }
        }
    }

    fn trap_if(&mut self, c: Cond, e: Exc) -> Result<(), Infallible> {
        self.work.begin();
        self.work.raise_if(c, e);
        Ok(())
    }
    fn trap(&mut self, e: Exc) -> Result<(), Infallible> {
        self.work.begin();
        self.work.raise_if(Cond::Const(true), e);
        Ok(())
    }
    fn when(
        &mut self,
        c: Cond,
        f: impl FnOnce(&mut Self) -> Result<(), Infallible>,
    ) -> Result<(), Infallible> {
        match c {
            Cond::Const(true) => return f(self),
            Cond::Const(false) => return Ok(()),
            _ => {}
        }
        let over = self.work.emit_when(c);
        let saved = self.work.save();
        let outer = std::mem::take(&mut self.work.changed);
        let noted = self.work.noted;
        let r = f(self);
        let w = &mut *self.work;
        w.unsure |= w.noted != noted;
        w.begin();
        w.write_back();
        let changed = std::mem::replace(&mut w.changed, outer);
        w.changed.union(changed);
        w.join(saved, changed);
        w.asm.bind(over);
        r
    }
    fn helper(&mut self, h: &'static Helper, args: &[V]) -> Result<V, Infallible> {
        self.work.begin();
        Ok(self.work.emit_helper(h, args))
    }

    fn late(&mut self, _: &'static Helper) -> Result<(), Infallible> {
        Ok(())
    }

    fn late_mask(&mut self, _: Slot, _: u64) -> V {
        V::K(0)
    }
    fn rotate_windows(&mut self, _by: i8) {
        self.work.bail = true
    }

    fn goto(&mut self, pc: u64, _hint: Hint) {
        self.work.begin();
        let (pc, link) = self.link(pc);
        self.work.emit_goto(pc, link)
    }
    fn branch(&mut self, c: Cond, taken: u64, fall: u64) {
        self.work.begin();
        let (taken, fall) = (self.link(taken), self.link(fall));
        self.work.emit_branch(c, taken, fall)
    }
    fn branch_v(&mut self, c: Cond, t: V, fall: u64, hint: Hint) {
        if let V::K(t) = t {
            return self.branch(c, t, fall);
        }
        let _ = hint;
        self.work.begin();
        let fall = self.link(fall);
        self.work.emit_branch_v(c, t, fall)
    }
    fn goto_v(&mut self, t: V, hint: Hint) {
        if let V::K(t) = t {
            return self.goto(t, hint);
        }
        self.work.begin();
        self.work.emit_goto_v(t)
    }
    fn delayed(&mut self, _c: Cond, _t: V, _annul: bool) {
        self.work.bail = true
    }
    fn syscall(&mut self, number: u16, next: u64) {
        self.work.begin();
        self.work.emit_syscall(number, next)
    }
    fn execute(&mut self, target: V, modifier: V) {
        self.work.begin();
        self.work.emit_execute(target, modifier)
    }
    fn end_block(&mut self, next: u64) {
        self.work.begin();
        self.work.emit_end(next)
    }
}

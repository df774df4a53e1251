//! Floating point on the host's arithmetic, where its result is exactly the guest's.
//!
//! The host rounds to nearest even and masks every exception (the default MXCSR). An operation is done inline if the
//! guest rounds so too and its "inexact" is recorded already, and if the result is a normal number above the smallest
//! one: then no other flag can be due. Zeros, subnormal results, infinities and NaNs take the exact evaluation.

use super::assembler::{RAX, RCX, RDX, cc};
use super::control::Cold;
use super::describe::Describe;
use super::flags::Cond;
use super::trampoline::{board, op};
use super::values::{V, Work};
use racewalk_isa::Helper;
use racewalk_isa::fp::{Fmt, FpOp};

/// Two-operand instructions (F2 or F3, 0F, this).
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Sse {
    Add,
    Sub,
    Mul,
    Div,
    Sqrt,
}

/// What an operation is inline.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Inline {
    /// An operation of the host; its result is looked at.
    Arith(Sse, Fmt),
    /// A comparison of operands that are not NaNs.
    Compare(Fmt),
    /// A 32-bit signed integer to a long number: exact.
    FromWord,
    /// A 64-bit signed integer to a long number.
    FromDouble,
    /// To the long format: exact.
    Lengthen,
}

fn inline(op: FpOp, rm: V) -> Option<Inline> {
    let nearest = !matches!(rm, V::K(k) if k & 7 != 0);
    Some(match op {
        FpOp::Add(f) if nearest && f != Fmt::F128 => Inline::Arith(Sse::Add, f),
        FpOp::Sub(f) if nearest && f != Fmt::F128 => Inline::Arith(Sse::Sub, f),
        FpOp::Mul(f) if nearest && f != Fmt::F128 => Inline::Arith(Sse::Mul, f),
        FpOp::Div(f) if nearest && f != Fmt::F128 => Inline::Arith(Sse::Div, f),
        FpOp::Sqrt(f) if nearest && f != Fmt::F128 => Inline::Arith(Sse::Sqrt, f),
        FpOp::Cmp { fmt, .. } if fmt != Fmt::F128 => Inline::Compare(fmt),
        FpOp::FromInt { fmt: Fmt::F64, bits: 32, signed: true } => Inline::FromWord,
        FpOp::FromInt { fmt: Fmt::F64, bits: 64, signed: true } if nearest => Inline::FromDouble,
        FpOp::Convert { from: Fmt::F32, to: Fmt::F64 } => Inline::Lengthen,
        _ => return None,
    })
}

impl Work {
    /// Emits an operation whose flags go to `record`; see `Backend::fp_record`.
    pub(super) fn emit_fp(
        &mut self,
        op: FpOp,
        rm: V,
        quick: Cond,
        args: &[V],
        record: &'static Helper,
    ) -> (V, V) {
        let touches = |s| record.reads.iter().chain(record.writes).any(|&(f, n)| s >= f && s - f < n);
        if self.dirty.iter().any(touches) {
            self.write_back()
        }
        let how = inline(op, rm).filter(|_| !matches!(quick, Cond::Const(false)));
        let result = match how {
            Some(how) => {
                let v = self.emit_inline(how, op, rm, quick, args, record);
                (v, v)
            }
            None => {
                let (h, dh) = self.fresh();
                let (l, dl) = self.fresh();
                let start = self.descs.len();
                self.describe_fp(op, rm, args, record, &[dh, dl]);
                self.emit_call(board::CALL, start);
                (h, l)
            }
        };
        for &(first, n) in record.writes {
            for s in first..first + n {
                self.forget(s)
            }
        }
        result
    }

    fn describe_fp(&mut self, op: FpOp, rm: V, args: &[V], record: &'static Helper, results: &[u8]) {
        let mut all = [V::K(0); 7];
        all[0] = rm;
        all[1..=args.len()].copy_from_slice(args);
        let pointer = self.ops.fp(op);
        self.descs.put(&[op::FP_RECORD]);
        self.descs.put(&pointer.to_le_bytes());
        self.descs.put(&(record as *const Helper as u64).to_le_bytes());
        self.descs.put(&[0]);
        self.describe_call(&all[..=args.len()], results)
    }

    fn emit_inline(
        &mut self,
        how: Inline,
        op: FpOp,
        rm: V,
        quick: Cond,
        args: &[V],
        record: &'static Helper,
    ) -> V {
        // Everything that may move values comes before the first jump to the slow path: the description holds for
        // all of them. A constant operand goes through rax behind it.
        let (v, d) = self.fresh();
        let mut regs = [None; 2];
        for (r, a) in regs.iter_mut().zip(args) {
            if let V::T(_) = a {
                *r = Some(self.reg(*a, RCX))
            }
        }
        let rounds = matches!(how, Inline::Arith(..) | Inline::FromDouble);
        let unready = match quick {
            Cond::Const(_) => 0,
            _ if !rounds => 0,
            c => {
                let c = self.emit_cond(c);
                self.asm.jcc(c ^ 1)
            }
        };
        let start = self.descs.len();
        self.describe_fp(op, rm, args, record, &[d]);
        self.describe_state(self.pc, self.left);
        let source = |w: &mut Work, i: usize| match (regs[i], args[i]) {
            (Some(r), _) => r,
            (None, V::K(k)) => {
                w.asm.movi(RAX, k);
                RAX
            }
            (None, V::T(_)) => unreachable!("every value has a register"),
        };
        let mut jumps = [unready, 0, 0];
        match how {
            Inline::Arith(sse, f) => {
                for i in 0..args.len().min(2) {
                    let r = source(self, i);
                    self.asm.xmm_set(i as u8, r)
                }
                // A square root reads and writes the same register.
                self.asm.sse(sse, f == Fmt::F64, (args.len() > 1) as u8);
                self.asm.xmm_get(d, f == Fmt::F64);
                jumps[1] = self.asm.not_normal(d, f == Fmt::F64);
            }
            Inline::Compare(f) => {
                for i in 0..2 {
                    let r = source(self, i);
                    self.asm.xmm_set(i as u8, r)
                }
                self.asm.ucomis(f == Fmt::F64);
                jumps[1] = self.asm.jcc(cc::P);
                // 0 equal, 1 less, 2 greater.
                self.asm.setcc(cc::B, RCX);
                self.asm.setcc(cc::A, RDX);
                self.asm.zx(RCX, RCX, 8);
                self.asm.zx(RDX, RDX, 8);
                self.asm.lea2(d, RCX, RDX);
            }
            Inline::FromWord | Inline::FromDouble => {
                let r = source(self, 0);
                self.asm.xmm_integer(r, how == Inline::FromDouble);
                self.asm.xmm_get(d, true);
            }
            Inline::Lengthen => {
                let r = source(self, 0);
                self.asm.xmm_set(0, r);
                self.asm.xmm_lengthen();
                self.asm.xmm_get(d, true);
                jumps[1] = self.asm.not_normal(d, true);
            }
        }
        let desc = start..self.descs.len();
        self.cold.push(Cold::Slow { jumps, back: self.asm.len(), board: board::CALL, desc });
        v
    }
}

//! A toy architecture for tests: an instruction is a list of backend calls made by a seeded generator.

use crate::core::{Mmu, Piece};
use racewalk_isa::fp::{Fmt, FpOp};
use racewalk_isa::vec::{Lane, VecOp};
use racewalk_isa::*;
use racewalk_ram::Paddr;
use std::sync::{Arc, Mutex};

/// splitmix64.
#[derive(Clone)]
pub struct Rng(pub u64);

impl Rng {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
    pub fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }
    pub fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }
    pub fn pick<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }
    /// A number that is often near a limit of some width.
    pub fn number(&mut self) -> u64 {
        let base = self.pick(&[
            0,
            0,
            1 << 63,
            1 << 31,
            1 << 32,
            i64::MAX as u64,
            i32::MAX as u64,
            i32::MIN as u64,
            u32::MAX as u64,
            1 << 7,
            1 << 15,
            u64::MAX,
        ]);
        match self.below(4) {
            0 => self.next(),
            1 => self.next() >> self.below(64),
            2 => base,
            _ => base.wrapping_add(self.below(5) as u64).wrapping_sub(2),
        }
    }
}

/// One backend call. Numbers index the values and conditions made so far.
#[derive(Clone, Copy, Debug)]
pub enum Step {
    Get(Slot),
    K(u64),
    Bin(u8, usize, usize),
    Un(u8, usize),
    Cmp(Width, Cc, usize, usize),
    Test(Flag, u8),
    FlagsValue(Flag),
    Sel(usize, usize, usize),
    C2v(usize),
    Load(MemOp, usize),
    LoadPair(MemOp, usize),
    Probe(usize, usize, Access),
    TrapIf(usize, Exc),
    Trap(Exc),
    Store(MemOp, usize, usize),
    StorePair(MemOp, usize, usize, usize),
    Rmw(MemOp, Rmw, usize, usize),
    Cas(MemOp, usize, usize, usize),
    CasPair(MemOp, usize, [usize; 4]),
    LoadReserve(MemOp, usize),
    StoreConditional(MemOp, usize, usize, usize),
    Helper(usize, [usize; 2]),
    Fp(FpOp, usize, [usize; 2]),
    XOp(VecOp, Slot, Slot),
    Fence,
    Set(Slot, usize),
    SetLow(Slot, usize),
    Flags(Flag, FlagKind, usize, usize),
    When(usize, &'static [Step]),
    Goto(u64),
    Branch(usize, u64, u64),
    BranchV(usize, usize, u64),
    GotoV(usize),
    Syscall(u16, u64),
    Execute(usize, usize),
    EndBlock(u64),
    Delayed(usize, usize),
}

#[derive(Clone, Copy, Debug)]
pub struct Insn {
    pub pc: u64,
    pub len: u8,
    pub steps: &'static [Step],
}

pub const S390: Flag = Flag { slot: 20, family: Family::S390Cc };
pub const PPC: Flag = Flag { slot: 21, family: Family::PpcCr };
pub const SPARC: Flag = Flag { slot: 22, family: Family::SparcCc };

pub static HELPERS: [Helper; 4] = [
    Helper {
        name: "sum",
        run: |e, a| {
            let v = (0..20).fold(a[0], |s, i| s.rotate_left(3) ^ e.get(i));
            e.set(5, v);
            Ok(v ^ a[1])
        },
        reads: &[(0, 20)],
        writes: &[(5, 1)],
        faults: false,
    },
    Helper {
        name: "copy",
        run: |e, a| {
            let v = e.load(MemOp::be(8), a[0])?;
            e.store(MemOp::be(4), a[1], v)?;
            e.set(6, v);
            e.set(7, a[0]);
            Ok(v)
        },
        reads: &[],
        writes: &[(6, 2)],
        faults: true,
    },
    Helper {
        name: "progress",
        run: |e, a| {
            let v = e.get(8);
            e.set(8, v.wrapping_add(a[0]));
            if a[1] & 1 != 0 { Err(Exc::program(77)) } else { Ok(v) }
        },
        reads: &[(8, 1)],
        writes: &[(8, 1)],
        faults: true,
    },
    Helper {
        name: "all",
        run: |e, a| {
            for i in 0..30 {
                let v = e.get(i);
                e.set(i, v ^ a[0])
            }
            Ok(a[1])
        },
        reads: &[(0, 30)],
        writes: &[(0, 30)],
        faults: false,
    },
];

pub fn run<B: Backend>(b: &mut B, steps: &[Step], v: &mut Vec<B::V>, c: &mut Vec<B::C>) -> Sem<B> {
    for s in steps {
        match *s {
            Step::Get(s) => v.push(b.get(s)),
            Step::K(k) => v.push(b.k(k)),
            Step::Bin(o, x, y) => {
                let (x, y) = (v[x], v[y]);
                v.push(match o {
                    0 => b.add(x, y),
                    1 => b.sub(x, y),
                    2 => b.mul(x, y),
                    3 => b.mulhu(x, y),
                    4 => b.mulhs(x, y),
                    5 => b.udiv(x, y),
                    6 => b.urem(x, y),
                    7 => b.sdiv(x, y),
                    8 => b.srem(x, y),
                    9 => b.and(x, y),
                    10 => b.or(x, y),
                    11 => b.xor(x, y),
                    12 => b.shl(x, y),
                    13 => b.shr(x, y),
                    14 => b.sar(x, y),
                    15 => b.rotl(x, y),
                    _ => b.rotl32(x, y),
                })
            }
            Step::Un(o, x) => {
                let x = v[x];
                v.push(match o {
                    0 => b.sx(x, 8),
                    1 => b.sx(x, 16),
                    2 => b.sx(x, 32),
                    3 => b.zx(x, 8),
                    4 => b.zx(x, 16),
                    5 => b.zx(x, 32),
                    6 => b.bswap(x),
                    _ => b.clz(x),
                })
            }
            Step::Cmp(w, cc, x, y) => c.push(b.cmp(w, cc, v[x], v[y])),
            Step::Test(f, m) => c.push(b.flags_test(f, m)),
            Step::FlagsValue(f) => v.push(b.flags_value(f)),
            Step::Sel(k, x, y) => v.push(b.sel(c[k], v[x], v[y])),
            Step::C2v(k) => v.push(b.c2v(c[k])),
            Step::Load(m, a) => v.push(b.load(m, v[a])?),
            Step::LoadPair(m, a) => {
                let (h, l) = b.load_pair(m, v[a])?;
                v.extend([h, l])
            }
            Step::Probe(a, n, k) => b.probe(v[a], v[n], k)?,
            Step::TrapIf(k, e) => b.trap_if(c[k], e)?,
            Step::Trap(e) => b.trap(e)?,
            Step::Store(m, a, x) => b.store(m, v[a], v[x])?,
            Step::StorePair(m, a, x, y) => b.store_pair(m, v[a], (v[x], v[y]))?,
            Step::Rmw(m, o, a, x) => v.push(b.rmw(m, o, v[a], v[x])?),
            Step::Cas(m, a, x, y) => v.push(b.cas(m, v[a], v[x], v[y])?),
            Step::CasPair(m, a, x) => {
                let (h, l) = b.cas_pair(m, v[a], (v[x[0]], v[x[1]]), (v[x[2]], v[x[3]]))?;
                v.extend([h, l])
            }
            Step::LoadReserve(m, a) => {
                let (h, l) = b.load_reserve(m, v[a])?;
                v.extend([h, l])
            }
            Step::StoreConditional(m, a, x, y) => v.push(b.store_conditional(m, v[a], (v[x], v[y]))?),
            Step::Helper(h, a) => v.push(b.helper(&HELPERS[h], &[v[a[0]], v[a[1]]])?),
            Step::Fp(o, rm, a) => {
                let (h, l, f) = b.fp(o, v[rm], &[v[a[0]], v[a[1]]]);
                v.extend([h, l, f])
            }
            Step::XOp(o, s, d) => {
                let x = b.x_get(s);
                let y = b.x_get(s + 1);
                let (h, l) = b.x_split(y);
                let y = b.x_make(l, h);
                let z = b.x_op(o, x, y);
                b.x_set(d, z)
            }
            Step::Fence => b.fence(),
            Step::Set(s, x) => b.set(s, v[x]),
            Step::SetLow(s, x) => b.set_low32(s, v[x]),
            Step::Flags(f, k, x, y) => b.flags(f, k, v[x], v[y]),
            Step::When(k, body) => {
                let (mut v, mut c2) = (v.clone(), c.clone());
                b.when(c[k], |b| run(b, body, &mut v, &mut c2))?
            }
            Step::Goto(t) => b.goto(t, Hint::Jump),
            Step::Branch(k, t, f) => b.branch(c[k], t, f),
            Step::BranchV(k, t, f) => b.branch_v(c[k], v[t], f, Hint::Jump),
            Step::GotoV(t) => b.goto_v(v[t], Hint::Return),
            Step::Syscall(n, next) => b.syscall(n, next),
            Step::Execute(t, m) => b.execute(v[t], v[m]),
            Step::EndBlock(next) => b.end_block(next),
            Step::Delayed(k, t) => b.delayed(c[k], v[t], false),
        }
    }
    Ok(())
}

#[derive(Clone, Copy)]
pub struct Toy;

impl racewalk_isa::Arch for Toy {
    type Insn = Insn;
    const NAME: &'static str = "toy";
    const SLOTS: usize = 32;
    const INSN_ALIGN: u64 = 2;
    fn insn_len(_: [u8; 2]) -> usize {
        2
    }
    fn decode(pc: u64, _: &[u8]) -> Insn {
        Insn { pc, len: 2, steps: &[] }
    }
    fn exec<B: Backend>(b: &mut B, i: &Insn) -> Sem<B> {
        run(b, i.steps, &mut Vec::new(), &mut Vec::new())
    }
    fn len(i: &Insn) -> u8 {
        i.len
    }
    fn pc(i: &Insn) -> u64 {
        i.pc
    }
    fn text(i: &Insn) -> String {
        format!("{:?}", i.steps)
    }
}

// ---- the generator ----------------------------------------------------------------------------------------

struct Gen<'a> {
    r: &'a mut Rng,
    steps: Vec<Step>,
    values: usize,
    conds: usize,
    /// Few faults, so that blocks run to their end.
    calm: bool,
}

const WIDTHS: [Width; 2] = [Width::W32, Width::W64];
const CCS: [Cc; 10] = [Cc::Eq, Cc::Ne, Cc::Lt, Cc::Ge, Cc::Le, Cc::Gt, Cc::Ltu, Cc::Geu, Cc::Leu, Cc::Gtu];

impl Gen<'_> {
    fn add(&mut self, s: Step) -> usize {
        self.steps.push(s);
        self.values += 1;
        self.values - 1
    }
    fn value(&mut self) -> usize {
        if self.values == 0 || self.r.chance(15) {
            let k = self.r.number();
            return self.add(Step::K(k));
        }
        if self.r.chance(20) {
            let s = self.r.below(24) as Slot;
            return self.add(Step::Get(s));
        }
        self.r.below(self.values)
    }
    fn flag(&mut self) -> Flag {
        self.r.pick(&[S390, S390, PPC, SPARC])
    }
    fn cond(&mut self) -> usize {
        if self.conds > 0 && self.r.chance(20) {
            return self.r.below(self.conds);
        }
        if self.r.chance(60) {
            let (f, m) = (self.flag(), self.r.below(16) as u8);
            self.steps.push(Step::Test(f, m))
        } else {
            let (x, y) = (self.value(), self.value());
            let (w, c) = (self.r.pick(&WIDTHS), self.r.pick(&CCS));
            self.steps.push(Step::Cmp(w, c, x, y))
        }
        self.conds += 1;
        self.conds - 1
    }
    fn compute(&mut self) {
        match self.r.below(12) {
            0..=5 => {
                let (x, y) = (self.value(), self.value());
                let o = self.r.below(17) as u8;
                self.add(Step::Bin(o, x, y));
            }
            6 | 7 => {
                let x = self.value();
                let o = self.r.below(8) as u8;
                self.add(Step::Un(o, x));
            }
            8 | 9 => {
                let (c, x, y) = (self.cond(), self.value(), self.value());
                self.add(Step::Sel(c, x, y));
            }
            10 => {
                let c = self.cond();
                self.add(Step::C2v(c));
            }
            _ => {
                let f = self.flag();
                self.add(Step::FlagsValue(f));
            }
        }
    }
    fn memop(&mut self, sizes: &[u8]) -> MemOp {
        MemOp {
            size: self.r.pick(sizes),
            signed: self.r.chance(40),
            endian: if self.r.chance(60) { Endian::Big } else { Endian::Little },
            align: self.r.chance(15).then(|| Exc::program(6)),
            space: if self.r.chance(5) { 1 } else { 0 },
        }
    }
    fn address(&mut self) -> usize {
        if !self.calm && self.r.chance(3) {
            return self.value();
        }
        let (x, mask) =
            (self.value(), self.r.pick(&[0xffff, 0xfff0, 0xfff8, 0x7ff8, 0x7ff0, 0x7fff, 0x3ffc]));
        let mask = if self.calm { mask & 0x7ff8 } else { mask };
        let m = self.add(Step::K(mask));
        let x = self.add(Step::Bin(9, x, m));
        let k = self.add(Step::K(BASE));
        self.add(Step::Bin(0, x, k))
    }
    fn read(&mut self) {
        match self.r.below(11) {
            0..=5 => {
                let (m, a) = (self.memop(&[1, 2, 4, 8]), self.address());
                self.add(Step::Load(m, a));
            }
            10 => {
                // Loads around a range that was probed.
                let (a, n) = (self.address(), self.r.below(40) + 1);
                let len = self.add(Step::K(n as u64));
                self.steps.push(Step::Probe(a, len, Access::Load));
                for _ in 0..self.r.below(8) {
                    let k = (self.r.below(48) as u64).wrapping_sub(4);
                    let k = self.add(Step::K(k));
                    let at = self.add(Step::Bin(0, a, k));
                    let m = self.memop(&[1, 2, 4, 8]);
                    self.add(Step::Load(m, at));
                }
            }
            6 => {
                let (m, a) = (self.memop(&[16]), self.address());
                self.steps.push(Step::LoadPair(m, a));
                self.values += 2
            }
            7 => {
                let a = self.address();
                let n = self.r.pick(&[1, 8, 16, 64, 100, 4096]);
                let n = self.add(Step::K(n));
                let k = self.r.pick(&[Access::Load, Access::Store]);
                self.steps.push(Step::Probe(a, n, k))
            }
            _ => {
                // Rarely true.
                let (x, k) = (self.value(), self.r.number());
                let k = self.add(Step::K(if self.calm { k ^ 0x1234_5678_1234 } else { k }));
                let (w, e) = (self.r.pick(&WIDTHS), Exc::program(self.r.below(9) as u16 + 1));
                self.steps.push(Step::Cmp(w, Cc::Eq, x, k));
                self.conds += 1;
                self.steps.push(Step::TrapIf(self.conds - 1, e))
            }
        }
    }
    fn write(&mut self) {
        let a = self.address();
        let (x, y) = (self.value(), self.value());
        match self.r.below(13) {
            0..=3 => {
                let m = self.memop(&[1, 2, 4, 8]);
                self.steps.push(Step::Store(m, a, x))
            }
            4 => {
                let m = self.memop(&[16]);
                self.steps.push(Step::StorePair(m, a, x, y))
            }
            5 => {
                let m = self.memop(&[4, 8]);
                let o = self.r.pick(&[Rmw::Add, Rmw::And, Rmw::Or, Rmw::Xor, Rmw::Swap]);
                self.add(Step::Rmw(m, o, a, x));
            }
            6 => {
                let m = MemOp { signed: false, ..self.memop(&[1, 2, 4, 8]) };
                // Often succeeds.
                let l = self.add(Step::Load(MemOp { align: None, ..m }, a));
                self.add(Step::Cas(m, a, l, y));
            }
            7 => {
                let m = self.memop(&[16]);
                let z = self.value();
                self.steps.push(Step::CasPair(m, a, [x, y, z, x]));
                self.values += 2
            }
            8 => {
                let m = self.memop(&[4, 8, 16]);
                self.steps.push(Step::LoadReserve(m, a));
                self.values += 2
            }
            9 => {
                let m = self.memop(&[4, 8, 16]);
                self.steps.push(Step::StoreConditional(m, a, x, y));
                self.values += 1
            }
            10 => {
                // A store of several registers.
                let n = self.r.below(15) + 2;
                let len = self.add(Step::K(8 * n as u64));
                self.steps.push(Step::Probe(a, len, Access::Store));
                let mut stores = Vec::new();
                for i in 0..n {
                    let v = self.add(Step::Get(i as Slot));
                    let k = self.add(Step::K(8 * i as u64));
                    let at = self.add(Step::Bin(0, a, k));
                    stores.push(Step::Store(MemOp::be(8), at, v))
                }
                self.steps.extend(stores)
            }
            11 => {
                let h = self.r.below(HELPERS.len());
                let b = self.address();
                self.add(Step::Helper(h, if h == 1 { [a, b] } else { [x, y] }));
            }
            _ => {
                // A conditional region that may fault.
                let c = self.cond();
                let mut inner = Gen {
                    r: self.r,
                    steps: Vec::new(),
                    values: self.values,
                    conds: self.conds,
                    calm: self.calm,
                };
                for _ in 0..inner.r.below(3) {
                    inner.read()
                }
                inner.write();
                inner.effects();
                let body = inner.steps.leak();
                self.steps.push(Step::When(c, body))
            }
        }
    }
    fn effects(&mut self) {
        for _ in 0..self.r.below(4) {
            let (x, y) = (self.value(), self.value());
            match self.r.below(10) {
                0..=3 => {
                    let s = self.r.below(20) as Slot;
                    self.steps.push(Step::Set(s, x))
                }
                4 => {
                    let s = self.r.below(20) as Slot;
                    self.steps.push(Step::SetLow(s, x))
                }
                5..=7 => {
                    let (f, w) = (self.flag(), self.r.pick(&WIDTHS));
                    let k = match self.r.below(10) {
                        0 => FlagKind::Value,
                        1 => FlagKind::Cmp(w),
                        2 => FlagKind::CmpU(w),
                        3 => FlagKind::Logic(w),
                        4 => FlagKind::AddS(w),
                        5 => FlagKind::SubS(w),
                        6 => FlagKind::AddU(w),
                        7 => FlagKind::SubU(w),
                        8 => FlagKind::TestMask,
                        _ => FlagKind::TestMaskHigh,
                    };
                    let x = if matches!(k, FlagKind::TestMask | FlagKind::TestMaskHigh) {
                        self.add(Step::Bin(9, x, y))
                    } else {
                        x
                    };
                    self.steps.push(Step::Flags(f, k, x, y))
                }
                8 => {
                    let l = self.r.pick(&[Lane::B, Lane::H, Lane::F, Lane::G]);
                    let o = self.r.pick(&[
                        VecOp::Add(l),
                        VecOp::Sub(l),
                        VecOp::CmpEq(l),
                        VecOp::And,
                        VecOp::Or,
                        VecOp::Xor,
                    ]);
                    let (s, d) = (self.r.below(18) as Slot, self.r.below(19) as Slot);
                    self.steps.push(Step::XOp(o, s, d))
                }
                _ => {
                    let c = self.cond();
                    let mut inner = Gen {
                        r: self.r,
                        steps: Vec::new(),
                        values: self.values,
                        conds: self.conds,
                        calm: self.calm,
                    };
                    for _ in 0..inner.r.below(12) {
                        inner.compute()
                    }
                    inner.effects();
                    let body = inner.steps.leak();
                    self.steps.push(Step::When(c, body))
                }
            }
        }
    }
}

/// A program: blocks one behind the other.
pub struct Program {
    pub insns: std::collections::HashMap<u64, Insn>,
    /// Start, instructions and end of each block.
    pub blocks: Vec<(u64, Vec<Insn>, u64)>,
}

/// Where programs begin, and first address of the memory they use.
pub const CODE: u64 = 0x4000_0000;
pub const BASE: u64 = 0x1_0000;
/// Pages of memory.
pub const PAGES: usize = 16;

/// What pages are for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Use {
    Plain,
    ReadOnly,
    Absent,
    Code,
}

pub fn page_use(i: usize) -> Use {
    match i {
        8 => Use::ReadOnly,
        9 | 13 => Use::Absent,
        10 | 14 => Use::Code,
        _ => Use::Plain,
    }
}

pub fn program(r: &mut Rng, blocks: usize, longest: usize) -> Program {
    let calm = r.chance(50);
    let lens: Vec<Vec<u8>> =
        (0..blocks).map(|_| (0..r.below(longest) + 1).map(|_| r.pick(&[2, 4, 6])).collect()).collect();
    let mut starts = Vec::new();
    // Some programs are where addresses need more than 32 bits.
    let mut pc = if r.chance(30) { CODE << 20 } else { CODE };
    for l in &lens {
        starts.push(pc);
        pc += l.iter().map(|l| *l as u64).sum::<u64>();
    }
    let mut p = Program { insns: Default::default(), blocks: Vec::new() };
    for (b, l) in lens.iter().enumerate() {
        let mut pc = starts[b];
        let mut insns = Vec::new();
        for (i, len) in l.iter().enumerate() {
            let last = i + 1 == l.len();
            let mut g = Gen { r, steps: Vec::new(), values: 0, conds: 0, calm };
            for _ in 0..g.r.below(4) {
                let s = g.r.below(24) as Slot;
                g.add(Step::Get(s));
            }
            for _ in 0..g.r.below(6) {
                g.compute()
            }
            if g.r.chance(5) {
                for _ in 0..40 {
                    g.compute()
                }
            }
            for _ in 0..g.r.below(3) {
                g.read()
            }
            if g.r.chance(5) {
                let f = g.r.pick(&[Fmt::F32, Fmt::F64, Fmt::F128]);
                let o = g.r.pick(&[FpOp::Add(f), FpOp::Mul(f), FpOp::Cmp { fmt: f, signal: true }]);
                let (x, y) = (g.value(), g.value());
                let rm = g.add(Step::K(0));
                g.steps.push(Step::Fp(o, rm, [x, y]));
                g.values += 3;
            }
            if g.r.chance(35) {
                g.write()
            }
            if g.r.chance(2) {
                g.steps.push(Step::Fence)
            }
            g.effects();
            let next = pc + *len as u64;
            if last {
                let (t, f) = (g.r.pick(&starts), g.r.pick(&starts));
                let end = b + 1 == blocks;
                match if end { 0 } else { g.r.below(22) } {
                    0..=2 => g.steps.push(Step::Goto(t)),
                    3..=9 => {
                        let c = g.cond();
                        g.steps.push(Step::Branch(c, t, next))
                    }
                    10..=12 => {
                        let (c, x, y) = (g.cond(), g.add(Step::K(t)), g.add(Step::K(f)));
                        let v = g.add(Step::Sel(c, x, y));
                        g.steps.push(Step::GotoV(v))
                    }
                    13 | 14 => {
                        let (c, x, y) = (g.cond(), g.add(Step::K(t)), g.add(Step::K(f)));
                        let v = g.add(Step::Sel(c, x, y));
                        let c = g.cond();
                        g.steps.push(Step::BranchV(c, v, next))
                    }
                    15 => g.steps.push(Step::Syscall(g.r.below(400) as u16, next)),
                    16 => {
                        let (x, y) = (g.value(), g.value());
                        g.steps.push(Step::Execute(x, y))
                    }
                    17 => g.steps.push(Step::EndBlock(next)),
                    18 => {
                        let (c, x) = (g.cond(), g.value());
                        g.steps.push(Step::Delayed(c, x))
                    }
                    19 => {
                        g.steps = g
                            .steps
                            .into_iter()
                            .filter(|s| matches!(s, Step::K(_)))
                            .chain([Step::Trap(Exc::program(1))])
                            .collect()
                    }
                    _ => {}
                }
            }
            let insn = Insn { pc, len: *len, steps: g.steps.leak() };
            p.insns.insert(pc, insn);
            insns.push(insn);
            pc = next;
        }
        p.blocks.push((starts[b], insns, pc));
    }
    p
}

// ---- memory -----------------------------------------------------------------------------------------------

/// The last fault: address and access.
pub type Fault = Arc<Mutex<Option<(u64, Access)>>>;

/// Bytes that CPUs share.
pub struct Memory(*mut u8);

// SAFETY: reached through raw pointers and single instructions only.
unsafe impl Send for Memory {}
// SAFETY: as above.
unsafe impl Sync for Memory {}

fn layout() -> std::alloc::Layout {
    std::alloc::Layout::from_size_align(PAGES * 4096, 4096).expect("a page is a valid alignment")
}

impl Memory {
    fn new() -> Memory {
        // SAFETY: the layout is not empty.
        let p = unsafe { std::alloc::alloc_zeroed(layout()) };
        assert!(!p.is_null());
        Memory(p)
    }
    pub fn at(&self) -> *mut u8 {
        self.0
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: allocated with the same layout.
        unsafe { std::alloc::dealloc(self.0, layout()) }
    }
}

/// Flat memory of [`PAGES`] pages at [`BASE`].
pub struct Flat {
    pub memory: Arc<Memory>,
    pub fault: Fault,
    /// Translating this page panics.
    pub explosive: Option<u64>,
}

impl Flat {
    pub fn new(r: &mut Rng) -> Flat {
        let memory = Arc::new(Memory::new());
        for i in 0..PAGES * 512 {
            // SAFETY: in bounds and aligned.
            unsafe { memory.at().cast::<u64>().add(i).write(r.number()) }
        }
        Flat { memory, fault: Fault::default(), explosive: None }
    }
}

impl Mmu for Flat {
    fn translate(&mut self, addr: u64, access: Access, _space: u8) -> Result<Piece, Exc> {
        if self.explosive == Some(addr & !0xfff) {
            panic!("the page at {addr:#x} explodes")
        }
        let i = addr.wrapping_sub(BASE) as usize / 4096;
        let kind = if i < PAGES { page_use(i) } else { Use::Absent };
        if kind == Use::Absent || kind == Use::ReadOnly && access == Access::Store {
            *self.fault.lock().unwrap() = Some((addr, access));
            return Err(Exc::ACCESS);
        }
        let offset = (addr - BASE) as usize;
        Ok(Piece {
            // SAFETY: in bounds.
            host: unsafe { self.memory.at().add(offset) },
            paddr: Paddr(offset as u64),
            cacheable: !(kind == Use::Code && access == Access::Store),
        })
    }
    fn written(&mut self, _: Paddr, _: u64) -> bool {
        true
    }
    fn clock(&mut self) -> u64 {
        42
    }
    fn cpu(&self) -> u32 {
        0
    }
}

//! Random guest programs for two CPUs.
//!
//! Each CPU runs an outer loop over a few blocks; a block is straight code or a loop of its own. Registers 0 to 5
//! hold whatever comes out of the arithmetic; the others have fixed uses, so that most accesses land where something
//! happens: shared pages, private pages, page ends, pages that are not mapped, pages of code.

use super::asm::{Asm, Hole};
use racewalk_sched::controlled::Rng;

/// First code page of a CPU.
pub const fn code_page(cpu: u32) -> u64 {
    0x10 + 4 * cpu as u64
}
/// The page of the subroutine that both CPUs call.
pub const SUBROUTINE: u64 = 0x20;
/// First of four pages that both CPUs use.
pub const SHARED: u64 = 0x30;
/// First of four pages of a CPU's own.
pub const fn private(cpu: u32) -> u64 {
    0x40 + 4 * cpu as u64
}
/// The first page that the kernel never maps.
pub const NEVER: u64 = 0x60;
/// Pages of data that purges may hit.
pub const DATA: std::ops::Range<u64> = SHARED..0x50;

/// Base of the shared pages.
const R_SHARED: u8 = 6;
/// Base of the private pages.
const R_PRIVATE: u8 = 7;
/// Counter of a block's loop.
const R_LOOP: u8 = 8;
/// Scratch address.
const R_ADDR: u8 = 9;
/// Link.
const R_LINK: u8 = 10;
/// Counter of the outer loop.
const R_OUTER: u8 = 11;
/// Near the end of a shared page.
const R_EDGE: u8 = 12;

/// Programs in memory.
pub struct Programs {
    /// Addresses and bytes.
    pub images: Vec<(u64, Vec<u8>)>,
    /// Where each CPU starts.
    pub entry: [u64; 2],
    /// Registers of each CPU at the start.
    pub registers: [[u64; 16]; 2],
}

/// A place that stores may change without making nonsense of the code.
#[derive(Clone, Copy)]
enum Spot {
    /// The low byte of an immediate.
    Immediate(u64),
    /// An RR instruction.
    Register(u64),
}

struct Writer<'a> {
    a: Asm,
    r: &'a mut Rng,
    cpu: u32,
    spots: Vec<Spot>,
    /// LARL to be led to a spot, and what it is stored there with.
    patches: Vec<Hole>,
    /// MVC and the like for EXECUTE.
    targets: Vec<Hole>,
}

impl Writer<'_> {
    fn below(&mut self, n: u64) -> u64 {
        self.r.below(n)
    }
    fn reg(&mut self) -> u8 {
        self.below(6) as u8
    }
    fn even(&mut self) -> u8 {
        2 * self.below(3) as u8
    }
    /// A base register and a displacement for `size` bytes; often at the end of a page.
    fn place(&mut self, size: u64) -> (u8, u16) {
        let b = [R_SHARED, R_PRIVATE, R_EDGE, R_SHARED, R_PRIVATE][self.below(5) as usize];
        if b == R_EDGE {
            return (b, self.below(2 * size + 16) as u16);
        }
        let d = match self.below(6) {
            0 => 4096 - size + self.below(size),
            1 => self.below(4096 - 16) & !15,
            _ => self.below(256),
        };
        (b, d as u16)
    }
    fn aligned(&mut self, size: u64) -> (u8, u16) {
        let b = [R_SHARED, R_PRIVATE][self.below(2) as usize];
        // Now and then misaligned: a specification exception.
        let odd = if self.below(20) == 0 { 2 } else { 0 };
        (b, (self.below(64) * size + odd) as u16)
    }
    fn register_form(&mut self) -> [u8; 2] {
        const OPS: [u8; 12] = [0x1a, 0x1b, 0x14, 0x16, 0x17, 0x1e, 0x1f, 0x19, 0x15, 0x18, 0x12, 0x13];
        let op = OPS[self.below(12) as usize];
        [op, self.reg() << 4 | self.reg()]
    }

    fn insn(&mut self) {
        let (p, q) = (self.reg(), self.reg());
        match self.below(34) {
            0 | 1 => {
                self.spots.push(Spot::Register(self.a.here()));
                let b = self.register_form();
                self.a.raw(&b)
            }
            2 | 3 => {
                const OPS: [u16; 12] = [
                    0xb908, 0xb909, 0xb980, 0xb90a, 0xb90b, 0xb920, 0xb921, 0xb90c, 0xb981, 0xb982, 0xb988,
                    0xb999,
                ];
                let op = OPS[self.below(12) as usize];
                self.a.rre(op, p, q)
            }
            4 | 5 => {
                const OPS: [u16; 6] = [0xa7a, 0xa7b, 0xa78, 0xa79, 0xa7e, 0xa7f];
                let op = OPS[self.below(6) as usize];
                self.spots.push(Spot::Immediate(self.a.here() + 3));
                let i = self.below(200) as i16 - 100;
                self.a.ri(op, p, i)
            }
            6..=9 => {
                const OPS: [(u16, u64); 12] = [
                    (0x58, 4),
                    (0x48, 2),
                    (0x43, 1),
                    (0x54, 4),
                    (0x5a, 4),
                    (0xe304, 8),
                    (0xe314, 4),
                    (0xe390, 1),
                    (0xe30f, 8),
                    (0xe308, 8),
                    (0xe320, 8),
                    (0xe30a, 8),
                ];
                let (op, size) = OPS[self.below(12) as usize];
                let (b, d) = self.place(size);
                if op < 0x100 { self.a.rx(op as u8, p, 0, b, d) } else { self.a.rxy(op, p, 0, b, d) }
            }
            10..=13 => {
                const OPS: [(u16, u64); 6] =
                    [(0x50, 4), (0x40, 2), (0x42, 1), (0xe324, 8), (0xe32f, 8), (0xe33e, 4)];
                let (op, size) = OPS[self.below(6) as usize];
                let (b, d) = self.place(size);
                if op < 0x100 { self.a.rx(op as u8, p, 0, b, d) } else { self.a.rxy(op, p, 0, b, d) }
            }
            14 | 15 => {
                // MVC, XC, CLC, NC, OC, TR
                let op = [0xd2, 0xd7, 0xd5, 0xd4, 0xd6, 0xdc][self.below(6) as usize];
                let len = 1 + if self.below(3) == 0 { self.below(256) } else { self.below(24) };
                let (to, mut from) = (self.place(len), self.place(len));
                if self.below(4) == 0 {
                    from = (to.0, to.1.saturating_sub(1));
                }
                self.a.ss(op, len as u16, to, from)
            }
            16 => {
                let h = self.a.ril_hole(0xc60, p);
                self.targets.push(h)
            }
            17 => {
                // MVCLE until done, cc 3 meaning "not yet".
                let (to, from) = (self.place(64), self.place(64));
                self.a.rx(0x41, 2, 0, to.0, to.1);
                self.a.rx(0x41, 4, 0, from.0, from.1);
                let (n, m) = (self.below(6000) as i16, self.below(6000) as i16);
                self.a.lghi(3, n);
                self.a.lghi(5, m);
                let again = self.a.here();
                self.a.rx(0xa8, 2, 4, 0, 0x40);
                self.a.ri_to(0xa74, 1, again)
            }
            18 => {
                // MVCL: the same in one instruction.
                let (to, from) = (self.place(64), self.place(64));
                self.a.rx(0x41, 2, 0, to.0, to.1);
                self.a.rx(0x41, 4, 0, from.0, from.1);
                let (n, m) = (self.below(5000) as i16, self.below(5000) as i16);
                self.a.lghi(3, n);
                self.a.lghi(5, m);
                self.a.rr(0x0e, 2, 4)
            }
            19 | 20 => {
                // LMG, STMG, LM, STM
                let (lo, hi) = (p.min(q), p.max(q));
                let (b, d) = self.place(8 * (hi - lo + 1) as u64);
                match self.below(4) {
                    0 => self.a.rxy(0xeb04, lo, hi, b, d),
                    1 => self.a.rxy(0xeb24, lo, hi, b, d),
                    2 => self.a.rx(0x98, lo, hi, b, d),
                    _ => self.a.rx(0x90, lo, hi, b, d),
                }
            }
            21 | 22 => {
                // CS, CSG, LAA, LAAG, LAOG, AGSI, ASI, NI
                let which = self.below(8);
                let (b, d) = self.aligned(if matches!(which, 1 | 3 | 4 | 5) { 8 } else { 4 });
                match which {
                    0 => self.a.rx(0xba, p, q, b, d),
                    1 => self.a.rxy(0xeb30, p, q, b, d),
                    2 => self.a.rxy(0xebf8, p, q, b, d),
                    3 => self.a.rxy(0xebe8, p, q, b, d),
                    4 => self.a.rxy(0xebe6, p, q, b, d),
                    5 => self.a.rxy(0xeb7a, 0, p + 1, b, d),
                    6 => self.a.rxy(0xeb6a, 0, p + 1, b, d),
                    _ => self.a.si(0x94, 0xf7, b, d),
                }
            }
            23 => {
                // LPQ, STPQ, CDSG on pairs
                let (e, f) = (self.even(), self.even());
                let (b, d) = self.aligned(16);
                match self.below(3) {
                    0 => self.a.rxy(0xe38f, e, 0, b, d),
                    1 => self.a.rxy(0xe38e, e, 0, b, d),
                    _ => self.a.rxy(0xeb3e, e, f, b, d),
                }
            }
            24 | 25 => {
                // ADBR SDBR MDBR DDBR SQDBR CDBR AEBR CDGBR CGDBR LEDBR LDEBR, and forms with storage
                const OPS: [u16; 11] =
                    [0xb31a, 0xb31b, 0xb31c, 0xb31d, 0xb315, 0xb319, 0xb30a, 0xb3a5, 0xb3a9, 0xb344, 0xb304];
                match self.below(13) {
                    11 => {
                        let (b, d) = self.place(8);
                        self.a.rxy(0xed1a, p, 0, b, d)
                    }
                    12 => {
                        let (b, d) = self.place(8);
                        self.a.rx(if q & 1 == 0 { 0x68 } else { 0x60 }, p, 0, b, d)
                    }
                    n => self.a.rre(OPS[n as usize], p, q),
                }
            }
            26 | 27 => {
                // A store into code: an immediate or an instruction that is still to be found, or bytes of a code
                // page that are not code.
                match self.below(3) {
                    0 => {
                        let at = (code_page(self.below(2) as u32) << 12) + self.below(0x600);
                        self.a.address(R_ADDR, at);
                        self.a.rx(0x50, p, 0, R_ADDR, 0)
                    }
                    _ => {
                        let h = self.a.ril_hole(0xc00, R_ADDR);
                        self.patches.push(h);
                        // What is stored depends on the spot; room for MVHHI or STC and a halfword of nothing.
                        self.a.raw(&[0; 6])
                    }
                }
            }
            28 => {
                // DSGR, DLGR, DSGFR, DR: often by zero
                let e = self.even();
                let op = [0xb90d, 0xb987, 0xb91d][self.below(3) as usize];
                if self.below(3) == 0 {
                    self.a.lghi(q, 0)
                }
                self.a.rre(op, e, q)
            }
            29 => {
                // Null, and somewhere far
                match self.below(4) {
                    0 => self.a.rx(0x58, p, 0, 0, 0x100),
                    1 => self.a.rx(0x50, p, 0, 0, 0x100),
                    2 => {
                        let far = (NEVER + self.r.below(64)) << 12;
                        self.a.address(R_ADDR, far);
                        self.a.rxy(0xe304, p, 0, R_ADDR, 8)
                    }
                    _ => {
                        // A page that is mapped at its first use.
                        let page = 0x50 + self.r.below(8);
                        self.a.address(R_ADDR, page << 12);
                        self.a.rxy(0xe324, p, 0, R_ADDR, 8)
                    }
                }
            }
            30 => {
                // A branch over an instruction
                let m = self.below(16) as u8;
                let h = self.a.ri_hole(0xa74, m);
                let b = self.register_form();
                self.a.raw(&b);
                let here = self.a.here();
                self.a.fill(h, here)
            }
            31 => {
                if self.below(3) == 0 {
                    self.a.svc(0)
                } else {
                    let (b, d) = self.place(8);
                    self.a.s(0xb205, b, d)
                }
            }
            32 => {
                let (b, d) = self.place(4);
                let m = self.below(16) as u8;
                match self.below(4) {
                    0 => self.a.rx(0xbf, p, m, b, d),
                    1 => self.a.rx(0xbe, p, m, b, d),
                    2 => self.a.si(0x91, 0x55, b, d),
                    _ => self.a.si(0x95, 0x12, b, d),
                }
            }
            _ => {
                if self.cpu != u32::MAX {
                    self.a.ril_to(0xc05, R_LINK, SUBROUTINE << 12)
                }
            }
        }
    }

    /// Ends the code: places what EXECUTE executes, and leads stores to their spots.
    fn finish(&mut self, others: &[Spot]) {
        for h in std::mem::take(&mut self.targets) {
            let here = self.a.here();
            self.a.fill(h, here);
            let len = 1 + self.below(40) as u16;
            let (to, from) = (self.place(64), self.place(64));
            match self.below(4) {
                0 => {
                    let b = self.register_form();
                    self.a.raw(&b)
                }
                1 => self.a.ss(0xd5, len, to, from),
                _ => self.a.ss(0xd2, len, to, from),
            }
        }
        let all: Vec<Spot> = self.spots.iter().chain(others).copied().collect();
        for h in std::mem::take(&mut self.patches) {
            let (code, target) = match all.get(self.below(all.len().max(1) as u64) as usize) {
                // STC p,0(R_ADDR); BCR 0,0
                Some(Spot::Immediate(at)) => ([0x42, self.reg() << 4, R_ADDR << 4, 0, 7, 0], *at),
                Some(Spot::Register(at)) => {
                    let [a, b] = self.register_form();
                    ([0xe5, 0x44, R_ADDR << 4, 0, a, b], *at)
                }
                None => ([7, 0, 7, 0, 7, 0], self.a.base),
            };
            let at = h.end();
            self.a.bytes[at..at + 6].copy_from_slice(&code);
            // LARL counts in halfwords: an odd byte is reached by the displacement.
            if target & 1 != 0 {
                self.a.bytes[at + 3] = 1;
            }
            self.a.fill(h, target & !1);
        }
    }
}

fn writer(r: &mut Rng, cpu: u32, base: u64) -> Writer<'_> {
    Writer { a: Asm::new(base), r, cpu, spots: Vec::new(), patches: Vec::new(), targets: Vec::new() }
}

/// Programs for two CPUs from a seed.
pub fn programs(r: &mut Rng) -> Programs {
    let mut spots = Vec::new();
    let mut images = Vec::new();

    let mut w = writer(r, u32::MAX, SUBROUTINE << 12);
    for _ in 0..2 + w.below(4) {
        w.insn()
    }
    w.a.rr(0x07, 15, R_LINK);
    w.finish(&[]);
    spots.extend(w.spots);
    images.push((w.a.base, w.a.bytes));

    let mut entry = [0; 2];
    let mut registers = [[0; 16]; 2];
    for cpu in 0..2 {
        // Begin near the end of the first page, so that blocks and instructions straddle it.
        let base = ((code_page(cpu) + 1) << 12) - 2 * r.below(250);
        let mut w = writer(r, cpu, base);
        let outer = 1 + w.below(4) as i16;
        w.a.lghi(R_OUTER, outer);
        let top = w.a.here();
        for _ in 0..2 + w.below(5) {
            let looped = w.below(3) != 0;
            if looped {
                let n = if w.below(4) == 0 { 40 + w.below(30) } else { 2 + w.below(6) };
                w.a.lghi(R_LOOP, n as i16);
            }
            let start = w.a.here();
            for _ in 0..1 + w.below(8) {
                w.insn()
            }
            if looped {
                w.a.ri_to(0xa77, R_LOOP, start)
            }
        }
        w.a.ri_to(0xa77, R_OUTER, top);
        w.a.svc(1);
        w.finish(&spots);
        spots.extend(&w.spots);
        entry[cpu as usize] = base;
        images.push((base, w.a.bytes));
        let regs = &mut registers[cpu as usize];
        for v in regs.iter_mut().take(6) {
            *v = if r.below(2) == 0 { r.below(100) } else { r.next_u64() }
        }
        regs[R_SHARED as usize] = (SHARED + r.below(3)) << 12;
        regs[R_PRIVATE as usize] = private(cpu) << 12;
        regs[R_EDGE as usize] = ((SHARED + 1 + r.below(3)) << 12) - 32;
    }
    Programs { images, entry, registers }
}

//! An assembler of a few lines: one method for each instruction format.

/// A label that is not placed yet: where its halfword offset is, and its size in bytes.
#[derive(Clone, Copy)]
pub struct Hole {
    at: usize,
    size: usize,
}

impl Hole {
    /// Offset of what follows the instruction.
    pub fn end(self) -> usize {
        self.at + self.size
    }
}

/// Code being written.
pub struct Asm {
    /// Address of the first byte.
    pub base: u64,
    /// The code.
    pub bytes: Vec<u8>,
}

impl Asm {
    /// Empty code at `base`.
    pub fn new(base: u64) -> Asm {
        Asm { base, bytes: Vec::new() }
    }
    /// The address of the next instruction.
    pub fn here(&self) -> u64 {
        self.base + self.bytes.len() as u64
    }
    /// Bytes as they are.
    pub fn raw(&mut self, b: &[u8]) {
        self.bytes.extend_from_slice(b)
    }
    fn half(v: i64) -> [u8; 2] {
        ((v / 2) as i16).to_be_bytes()
    }
    fn regs(a: u8, b: u8) -> u8 {
        a << 4 | b
    }
    fn bd(b: u8, d: u16) -> [u8; 2] {
        [b << 4 | (d >> 8) as u8 & 15, d as u8]
    }
    /// RR.
    pub fn rr(&mut self, op: u8, r1: u8, r2: u8) {
        self.raw(&[op, Self::regs(r1, r2)])
    }
    /// RRE.
    pub fn rre(&mut self, op: u16, r1: u8, r2: u8) {
        self.rrf(op, 0, r1, r2)
    }
    /// RRF with the third operand (or mask) before the registers; RRD with R1 there.
    pub fn rrf(&mut self, op: u16, m: u8, r1: u8, r2: u8) {
        self.raw(&[(op >> 8) as u8, op as u8, m << 4, Self::regs(r1, r2)])
    }
    /// RI: the opcode as in the manual, `0xa7b` for AGHI.
    pub fn ri(&mut self, op: u16, r1: u8, i: i16) {
        let [h, l] = i.to_be_bytes();
        self.raw(&[(op >> 4) as u8, Self::regs(r1, op as u8 & 15), h, l])
    }
    /// RI with a branch target.
    pub fn ri_to(&mut self, op: u16, r1: u8, target: u64) {
        let d = target.wrapping_sub(self.here()) as i64;
        let [h, l] = Self::half(d);
        self.raw(&[(op >> 4) as u8, Self::regs(r1, op as u8 & 15), h, l])
    }
    /// RI with a branch target to come.
    pub fn ri_hole(&mut self, op: u16, r1: u8) -> Hole {
        self.ri(op, r1, 0);
        Hole { at: self.bytes.len() - 2, size: 2 }
    }
    /// RIL with a branch or address target.
    pub fn ril_to(&mut self, op: u16, r1: u8, target: u64) {
        let d = (target.wrapping_sub(self.here()) as i64 / 2) as i32;
        self.raw(&[(op >> 4) as u8, Self::regs(r1, op as u8 & 15)]);
        self.raw(&d.to_be_bytes())
    }
    /// RIL with a target to come.
    pub fn ril_hole(&mut self, op: u16, r1: u8) -> Hole {
        self.ril_to(op, r1, self.here());
        Hole { at: self.bytes.len() - 4, size: 4 }
    }
    /// Makes a hole lead to `target`.
    pub fn fill(&mut self, h: Hole, target: u64) {
        let insn = self.base + h.at as u64 - 2;
        let d = target.wrapping_sub(insn) as i64 / 2;
        match h.size {
            2 => self.bytes[h.at..h.at + 2].copy_from_slice(&(d as i16).to_be_bytes()),
            _ => self.bytes[h.at..h.at + 4].copy_from_slice(&(d as i32).to_be_bytes()),
        }
    }
    /// RX.
    pub fn rx(&mut self, op: u8, r1: u8, x: u8, b: u8, d: u16) {
        let [p, q] = Self::bd(b, d);
        self.raw(&[op, Self::regs(r1, x), p, q])
    }
    /// RXY (and RSY, with R3 in place of the index): opcode `0xe304` for LG. Displacements below 4096.
    pub fn rxy(&mut self, op: u16, r1: u8, x: u8, b: u8, d: u16) {
        let [p, q] = Self::bd(b, d);
        self.raw(&[(op >> 8) as u8, Self::regs(r1, x), p, q, 0, op as u8])
    }
    /// SI.
    pub fn si(&mut self, op: u8, i: u8, b: u8, d: u16) {
        let [p, q] = Self::bd(b, d);
        self.raw(&[op, i, p, q])
    }
    /// S.
    pub fn s(&mut self, op: u16, b: u8, d: u16) {
        let [p, q] = Self::bd(b, d);
        self.raw(&[(op >> 8) as u8, op as u8, p, q])
    }
    /// SS with one length: `len` bytes, 1 to 256.
    pub fn ss(&mut self, op: u8, len: u16, to: (u8, u16), from: (u8, u16)) {
        let [a, b] = Self::bd(to.0, to.1);
        let [c, d] = Self::bd(from.0, from.1);
        self.raw(&[op, (len - 1) as u8, a, b, c, d])
    }
    /// LGHI.
    pub fn lghi(&mut self, r: u8, v: i16) {
        self.ri(0xa79, r, v)
    }
    /// LLILF: an address below 4 GiB.
    pub fn address(&mut self, r: u8, v: u64) {
        self.raw(&[0xc0, r << 4 | 15]);
        self.raw(&(v as u32).to_be_bytes())
    }
    /// SVC.
    pub fn svc(&mut self, n: u8) {
        self.raw(&[0x0a, n])
    }
}

//! Bytes to [`Insn`]: the opcode position by first byte, then the operand fields by format (PoP chapter 5,
//! "Instruction Formats").

use super::Insn;
use super::table::{Op, ROWS};

/// Operand layouts. Names follow the manual; letters tell its variants apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "the names are the manual's, which shows the layouts")]
pub enum Format {
    E,
    I,
    RR,
    RRm,
    RRE,
    RRF,
    RRD,
    RX,
    RXm,
    RXE,
    RXF,
    RXY,
    RXYm,
    RS,
    RSY,
    RSI,
    RSL,
    S,
    SI,
    SIY,
    SIL,
    SS,
    SSl2,
    SSF,
    SSr,
    RI,
    RIrel,
    RIm,
    RIL,
    RILrel,
    RILm,
    RIEa,
    RIEb,
    RIEc,
    RIEd,
    RIEe,
    RIEf,
    RIS,
    RRS,
}

/// One opcode: see [`super::table`].
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// Mnemonic.
    pub name: &'static str,
    /// Operand layout.
    pub format: Format,
    /// Opcode: 8 bits, or first byte and extension as 16 bits.
    pub code: u16,
    /// What it decodes to.
    pub op: Op,
}

/// The 16-bit key of an instruction: first byte, and the opcode extension wherever the first byte puts it.
const fn extension(first: u8) -> u8 {
    match first {
        0x01 | 0xb2 | 0xb3 | 0xb9 | 0xe5 => 1,
        0xa5 | 0xa7 | 0xc0 | 0xc2 | 0xc4 | 0xc6 | 0xc8 | 0xcc => 2,
        0xe3 | 0xe7 | 0xeb | 0xec | 0xed | 0xe6 => 3,
        _ => 0,
    }
}

/// The opcode bits of `row` in their places, all else zero; a shorter instruction has its bytes in front.
pub fn template(row: &Row) -> [u8; 6] {
    let mut raw = [0u8; 6];
    let Ok(code) = u8::try_from(row.code) else {
        let [first, ext] = row.code.to_be_bytes();
        raw[0] = first;
        // An extension in the low half of the second byte is four bits wide.
        raw[if extension(first) == 3 { 5 } else { 1 }] = ext;
        return raw;
    };
    raw[0] = code;
    raw
}

/// Row number + 1 for each key; 0 is no instruction.
static INDEX: [u16; 0x10000] = {
    let mut t = [0u16; 0x10000];
    let mut n = 0;
    while n < ROWS.len() {
        let c = ROWS[n].code;
        let key = if c < 0x100 { c << 8 } else { c };
        assert!(t[key as usize] == 0, "two rows have one opcode");
        t[key as usize] = n as u16 + 1;
        n += 1;
    }
    t
};

/// The row of the instruction in `bytes`, if there is one.
pub fn row(bytes: &[u8]) -> Option<&'static Row> {
    let first = *bytes.first()?;
    let at = |n: usize| bytes.get(n).copied().unwrap_or(0);
    let ext = match extension(first) {
        1 => at(1),
        2 => at(1) & 15,
        3 => at(5),
        _ => 0,
    };
    match INDEX[(first as usize) << 8 | ext as usize] {
        0 => None,
        n => Some(&ROWS[n as usize - 1]),
    }
}

/// Decodes the instruction in `bytes`, which lies at `pc`.
pub fn decode(pc: u64, bytes: &[u8]) -> Insn {
    let mut raw = [0u8; 6];
    let n = bytes.len().min(6);
    raw[..n].copy_from_slice(&bytes[..n]);
    let hi = |k: usize| raw[k] >> 4;
    let lo = |k: usize| raw[k] & 15;
    let d12 = |k: usize| (lo(k) as i32) << 8 | raw[k + 1] as i32;
    let d20 = || d12(2) | (raw[4] as i8 as i32) << 12;
    let i16at = |k: usize| i16::from_be_bytes([raw[k], raw[k + 1]]) as i64;
    let i32at2 = || i32::from_be_bytes([raw[2], raw[3], raw[4], raw[5]]) as i64;
    let rel = |halfwords: i64| pc.wrapping_add((halfwords * 2) as u64);

    let mut i = Insn {
        op: Op::illegal,
        len: n as u8,
        r1: hi(1),
        r2: 0,
        r3: 0,
        m: 0,
        m4: 0,
        x: 0,
        b: 0,
        b2: 0,
        d: 0,
        d2: 0,
        imm: 0,
        target: 0,
        pc,
        next: pc.wrapping_add(n as u64),
    };
    let Some(row) = row(bytes) else {
        i.imm = i64::from_be_bytes([0, 0, raw[0], raw[1], raw[2], raw[3], raw[4], raw[5]]);
        return i;
    };
    i.op = row.op;
    use Format::*;
    match row.format {
        E => i.r1 = 0,
        I => i.imm = raw[1] as i64,
        RR | RRm => {
            i.r2 = lo(1);
            i.m = hi(1);
        }
        RRE => {
            i.r1 = hi(3);
            i.r2 = lo(3);
        }
        RRF => {
            i.r1 = hi(3);
            i.r2 = lo(3);
            i.r3 = hi(2);
            i.m = hi(2);
            i.m4 = lo(2);
        }
        RRD => {
            i.r1 = hi(2);
            i.r3 = hi(3);
            i.r2 = lo(3);
        }
        RX | RXm | RXE => {
            i.m = hi(1);
            i.x = lo(1);
            i.b = hi(2);
            i.d = d12(2);
            if row.format == RXE {
                i.m = hi(4);
            }
        }
        RXF => {
            i.r3 = hi(1);
            i.r1 = hi(4);
            i.x = lo(1);
            i.b = hi(2);
            i.d = d12(2);
        }
        RXY | RXYm => {
            i.m = hi(1);
            i.x = lo(1);
            i.b = hi(2);
            i.d = d20();
        }
        RS | RSY => {
            i.r3 = lo(1);
            i.m = lo(1);
            i.b = hi(2);
            i.d = if row.format == RS { d12(2) } else { d20() };
        }
        RSI => {
            i.r3 = lo(1);
            i.target = rel(i16at(2));
        }
        RSL => {
            i.imm = hi(1) as i64;
            i.b = hi(2);
            i.d = d12(2);
        }
        S => {
            i.b = hi(2);
            i.d = d12(2);
        }
        SI | SIY => {
            i.imm = raw[1] as i64;
            i.b = hi(2);
            i.d = if row.format == SI { d12(2) } else { d20() };
        }
        SIL => {
            i.b = hi(2);
            i.d = d12(2);
            i.imm = i16at(4);
        }
        SS | SSl2 => {
            i.imm = raw[1] as i64;
            i.r3 = lo(1);
            i.b = hi(2);
            i.d = d12(2);
            i.b2 = hi(4);
            i.d2 = d12(4);
        }
        SSF | SSr => {
            i.r3 = if row.format == SSF { hi(1) } else { lo(1) };
            i.b = hi(2);
            i.d = d12(2);
            i.b2 = hi(4);
            i.d2 = d12(4);
        }
        RI => i.imm = i16at(2),
        RIrel | RIm => {
            i.m = hi(1);
            i.target = rel(i16at(2));
        }
        RIL => i.imm = i32at2(),
        RILrel | RILm => {
            i.m = hi(1);
            i.target = rel(i32at2());
        }
        RIEa => {
            i.imm = i16at(2);
            i.m = hi(4);
        }
        RIEb => {
            i.r2 = lo(1);
            i.target = rel(i16at(2));
            i.m = hi(4);
        }
        RIEc => {
            i.m = lo(1);
            i.target = rel(i16at(2));
            i.imm = raw[4] as i8 as i64;
        }
        RIEd => {
            i.r3 = lo(1);
            i.imm = i16at(2);
        }
        RIEe => {
            i.r3 = lo(1);
            i.target = rel(i16at(2));
        }
        RIEf => {
            i.r2 = lo(1);
            i.imm = (raw[2] as i64) << 16 | (raw[3] as i64) << 8 | raw[4] as i64;
        }
        RIS => {
            i.m = lo(1);
            i.b = hi(2);
            i.d = d12(2);
            i.imm = raw[4] as i8 as i64;
        }
        RRS => {
            i.r2 = lo(1);
            i.b = hi(2);
            i.d = d12(2);
            i.m = hi(4);
        }
    }
    i.op = simplify(&i);
    i
}

/// Folds special forms into simpler operations, so that no engine pays for the test.
fn simplify(i: &Insn) -> Op {
    match i.op {
        Op::bc | Op::brc | Op::brcl if i.m == 0 => Op::nop,
        Op::bcr if i.r2 == 0 && i.m >= 14 => Op::serialize,
        Op::bcr if i.r2 == 0 || i.m == 0 => Op::nop,
        Op::brc | Op::brcl if i.m == 15 => Op::j,
        Op::bcr if i.m == 15 => Op::br,
        op => op,
    }
}

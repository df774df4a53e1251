//! Words to [`Insn`] (V9 manual, section 6.2).

use super::{Insn, Op};

/// Decodes the instruction word in `bytes`, which lies at `pc`.
pub fn decode(pc: u64, bytes: &[u8]) -> Insn {
    let w = bytes.iter().take(4).fold(0u32, |w, &b| w << 8 | b as u32);
    let mut i = Insn {
        op: Op::Illegal,
        rd: (w >> 25 & 31) as u8,
        rs1: (w >> 14 & 31) as u8,
        rs2: (w & 31) as u8,
        immediate: w >> 13 & 1 != 0,
        imm: ((w << 19) as i32 >> 19) as i64,
        cond: (w >> 25 & 15) as u8,
        wide: w >> 21 & 1 != 0,
        annul: w >> 29 & 1 != 0,
        target: 0,
        pc,
    };
    i.op = match (w >> 30, w >> 22 & 7, w >> 19 & 63) {
        (0, 4, _) => {
            i.imm = ((w & 0x3f_ffff) as i64) << 10;
            Op::Sethi
        }
        (0, 1, _) if w >> 20 & 1 == 0 => {
            i.target = pc.wrapping_add((((w << 13) as i32 >> 13) as i64 * 4) as u64);
            Op::Bpcc
        }
        (2, _, 0x00) => Op::Add,
        (2, _, 0x10) => Op::Addcc,
        (2, _, 0x04) => Op::Sub,
        (2, _, 0x14) => Op::Subcc,
        (2, _, 0x02) => Op::Or,
        (2, _, 0x3c) => Op::Save,
        (2, _, 0x3d) => Op::Restore,
        (3, _, 0x0b) => Op::Ldx,
        (3, _, 0x0e) => Op::Stx,
        _ => Op::Illegal,
    };
    i
}

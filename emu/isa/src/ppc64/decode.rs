//! Words to [`Insn`] (Power ISA Book I, section 1.6).

use super::{Insn, Op};

/// Decodes the instruction word in `bytes`, which lies at `pc`.
pub fn decode(pc: u64, bytes: &[u8]) -> Insn {
    let w = bytes.iter().take(4).fold(0u32, |w, &b| w << 8 | b as u32);
    let (rt, ra, rb) = ((w >> 21 & 31) as u8, (w >> 16 & 31) as u8, (w >> 11 & 31) as u8);
    let si = w as i16 as i64;
    let ds = (w & 0xfffc) as i16 as i64;
    let mut i =
        Insn { op: Op::Illegal, rt, ra, rb, rc: w & 1 != 0, oe: w >> 10 & 1 != 0, imm: si, target: 0, pc };
    let relative = |i: &mut Insn, d: i64| {
        i.target = if w & 2 != 0 { d as u64 } else { pc.wrapping_add(d as u64) };
    };
    i.op = match w >> 26 {
        11 => {
            i.rb = rt >> 2;
            i.oe = rt & 1 != 0;
            Op::Cmpi
        }
        14 => Op::Addi,
        15 => {
            i.imm = si << 16;
            Op::Addis
        }
        16 => {
            relative(&mut i, ds);
            Op::Bc
        }
        18 => {
            relative(&mut i, ((w & 0x03ff_fffc) << 6) as i32 as i64 >> 6);
            Op::B
        }
        19 if w >> 1 & 0x3ff == 16 => Op::Bclr,
        31 => match w >> 1 & 0x3ff {
            276 => Op::Lqarx,
            182 if w & 1 != 0 => Op::Stqcx,
            444 => Op::Or,
            x => match x & 0x1ff {
                266 => Op::Add,
                10 => Op::Addc,
                138 => Op::Adde,
                _ => Op::Illegal,
            },
        },
        37 => Op::Stwu,
        58 | 62 => {
            i.imm = ds;
            match (w >> 26, w & 3) {
                (58, 0) => Op::Ld,
                (58, 1) => Op::Ldu,
                (62, 0) => Op::Std,
                (62, 1) => Op::Stdu,
                _ => Op::Illegal,
            }
        }
        _ => Op::Illegal,
    };
    i
}

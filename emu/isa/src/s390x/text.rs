//! Instructions as text: mnemonic and operands in assembler order, straight from the opcode table.

use super::Insn;
use super::decode::{Format, Row};
use super::table::{Op, ROWS};

/// `D(X,B)` with absent parts left out.
fn storage(d: i32, x: u8, b: u8) -> String {
    match (x, b) {
        (0, 0) => format!("{d}"),
        (0, b) => format!("{d}(%r{b})"),
        (x, 0) => format!("{d}(%r{x},0)"),
        (x, b) => format!("{d}(%r{x},%r{b})"),
    }
}

/// Mnemonic and operands of `i`.
pub fn text(i: &Insn) -> String {
    match i.op {
        Op::illegal => return format!(".insn {:#x}", i.imm),
        Op::nop => return "nop".to_owned(),
        Op::serialize => return format!("bcr {},%r0", i.m),
        Op::j => return format!("j {:#x}", i.target),
        Op::br => return format!("br %r{}", i.r2),
        _ => {}
    }
    match ROWS.iter().find(|r| r.op == i.op) {
        Some(row) => with_operands(row, i),
        None => String::new(),
    }
}

fn with_operands(row: &Row, i: &Insn) -> String {
    let floating = row.code >> 8 == 0xb3
        || row.code >> 8 == 0xed
        || matches!(row.code, 0x20..=0x3f | 0x60..=0x70 | 0x78);
    let reg = |n: u8| if floating { format!("%f{n}") } else { format!("%r{n}") };
    let (r1, r2, r3) = (reg(i.r1), reg(i.r2), reg(i.r3));
    let s = storage(i.d, i.x, i.b);
    let s2 = storage(i.d2, 0, i.b2);
    let t = i.target;
    use Format::*;
    let operands = match row.format {
        E => String::new(),
        I => format!("{}", i.imm),
        RR | RRE => format!("{r1},{r2}"),
        RRm => format!("{},{r2}", i.m),
        RRF => format!("{r1},{r2},{},{}", i.m, i.m4),
        RRD => format!("{r1},{r3},{r2}"),
        RX | RXE | RXY => format!("{r1},{s}"),
        RXm | RXYm => format!("{},{s}", i.m),
        RXF => format!("{r1},{r3},{s}"),
        RS | RSY => format!("{r1},{r3},{s}"),
        RSI | RIEe => format!("{r1},{r3},{t:#x}"),
        RSL => format!("{}({},%r{})", i.d, i.imm + 1, i.b),
        S => s,
        SI | SIY | SIL => format!("{s},{}", i.imm),
        SS => format!("{}({},%r{}),{s2}", i.d, i.imm + 1, i.b),
        SSl2 => format!("{}({},%r{}),{}({},%r{})", i.d, (i.imm >> 4) + 1, i.b, i.d2, (i.imm & 15) + 1, i.b2),
        SSr => format!("{r1},{s},{r3},{s2}"),
        SSF => format!("{s},{s2}"),
        RI | RIL => format!("{r1},{}", i.imm),
        RIrel | RILrel => format!("{r1},{t:#x}"),
        RIm | RILm => format!("{},{t:#x}", i.m),
        RIEa => format!("{r1},{},{}", i.imm, i.m),
        RIEb => format!("{r1},{r2},{},{t:#x}", i.m),
        RIEc => format!("{r1},{},{},{t:#x}", i.imm, i.m),
        RIEd => format!("{r1},{r3},{}", i.imm),
        RIEf => {
            format!("{r1},{r2},{},{},{}", i.imm >> 16 & 255, i.imm >> 8 & 255, i.imm & 255)
        }
        RIS => format!("{r1},{},{},{s}", i.imm, i.m),
        RRS => format!("{r1},{r2},{},{s}", i.m),
    };
    if operands.is_empty() { row.name.to_owned() } else { format!("{} {operands}", row.name) }
}

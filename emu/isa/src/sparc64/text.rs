//! Instructions as text.

use super::{Insn, Op};

fn name(r: u8) -> String {
    format!("%{}{}", ["g", "o", "l", "i"][r as usize >> 3 & 3], r & 7)
}

/// Mnemonic and operands of `i`.
pub fn text(i: &Insn) -> String {
    let op = format!("{:?}", i.op).to_lowercase();
    let (rd, rs1) = (name(i.rd), name(i.rs1));
    let y = if i.immediate { format!("{}", i.imm) } else { name(i.rs2) };
    match i.op {
        Op::Illegal => ".word".to_owned(),
        Op::Sethi => format!("sethi %hi({:#x}), {rd}", i.imm),
        Op::Bpcc => {
            let cc = if i.wide { "%xcc" } else { "%icc" };
            format!("bp{}{} {cc}, {:#x}", i.cond, if i.annul { ",a" } else { "" }, i.target)
        }
        Op::Ldx => format!("ldx [{rs1}+{y}], {rd}"),
        Op::Stx => format!("stx {rd}, [{rs1}+{y}]"),
        _ => format!("{op} {rs1}, {y}, {rd}"),
    }
}

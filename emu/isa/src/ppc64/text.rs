//! Instructions as text.

use super::{Insn, Op};

/// Mnemonic and operands of `i`.
pub fn text(i: &Insn) -> String {
    let (rt, ra, rb) = (i.rt, i.ra, i.rb);
    let dot = if i.rc { "." } else { "" };
    let o = if i.oe { "o" } else { "" };
    let l = if i.rc { "l" } else { "" };
    let name = format!("{:?}", i.op).to_lowercase();
    match i.op {
        Op::Illegal => ".long".to_owned(),
        Op::Addi | Op::Addis => format!("{name} r{rt},r{ra},{}", i.imm),
        Op::Add | Op::Addc | Op::Adde => format!("{name}{o}{dot} r{rt},r{ra},r{rb}"),
        Op::Or => format!("or{dot} r{ra},r{rt},r{rb}"),
        Op::Cmpi => format!("cmp{}i cr{rb},r{ra},{}", if i.oe { "d" } else { "w" }, i.imm),
        Op::Ld | Op::Ldu | Op::Std | Op::Stdu | Op::Stwu => format!("{name} r{rt},{}(r{ra})", i.imm),
        Op::Lqarx | Op::Stqcx => {
            format!("{name}{} r{rt},r{ra},r{rb}", if i.op == Op::Stqcx { "." } else { "" })
        }
        Op::B => format!("b{l} {:#x}", i.target),
        Op::Bc => format!("bc{l} {rt},{ra},{:#x}", i.target),
        Op::Bclr => format!("bclr{l} {rt},{ra}"),
    }
}

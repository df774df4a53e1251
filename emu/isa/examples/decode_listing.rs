//! Reads a disassembly listing (`s390x-linux-gnu-objdump -d`) and reports instructions that the decoder does not
//! know or whose mnemonic it calls otherwise: `objdump -d prog | cargo run --example decode_listing`.

use racewalk_isa::Arch;
use racewalk_isa::s390x::{Op, S390x};
use std::collections::BTreeMap;
use std::io::Read;

fn main() {
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text).expect("standard input is readable text");
    let (mut total, mut unknown) = (0, BTreeMap::<String, u32>::new());
    let mut names = BTreeMap::<String, String>::new();
    for line in text.lines() {
        let Some((addr, rest)) = line.split_once(":\t") else { continue };
        let Ok(pc) = u64::from_str_radix(addr.trim(), 16) else { continue };
        let Some((hex, insn)) = rest.split_once('\t') else { continue };
        let bytes: Vec<u8> = hex.split_whitespace().filter_map(|h| u8::from_str_radix(h, 16).ok()).collect();
        let name = insn.split_whitespace().next().unwrap_or("").to_owned();
        let i = S390x::decode(pc, &bytes);
        total += 1;
        if i.op == Op::illegal || bytes.len() != S390x::insn_len([bytes[0], bytes[1]]) {
            *unknown.entry(name).or_default() += 1;
        } else {
            names.entry(name).or_insert_with(|| format!("{}  |  {insn}", S390x::text(&i)));
        }
    }
    println!("{total} instructions, unknown: {unknown:?}");
    if std::env::args().any(|a| a == "-v") {
        for (n, t) in names {
            println!("{n:10} {t}");
        }
    }
}

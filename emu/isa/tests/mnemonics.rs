//! `docs/mnemonics-s390x.md` says of every opcode what becomes of it and which cases test it. This test makes the page
//! and compares; `RACEWALK_UPDATE=1 cargo test -p racewalk-isa --test mnemonics` writes it.

use racewalk_isa::s390x::table::{Op, ROWS};
use racewalk_isa::s390x::{Insn, OPERATION, PRIVILEGED, S390x};
use racewalk_isa::scan::{Terminator, scan};
use racewalk_isa::{Arch, Exc};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

/// Every implemented opcode has at least so many cases.
const MIN_CASES: usize = 3;

/// Cases in the `.ins` files, by operation and file.
type Cases = BTreeMap<String, BTreeMap<String, usize>>;

fn cases() -> Cases {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/s390x");
    let mut all = Cases::new();
    for f in std::fs::read_dir(dir).unwrap() {
        let path = f.unwrap().path();
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        for line in std::fs::read_to_string(&path).unwrap().lines() {
            let Some((code, _)) = line.split_once(';') else { continue };
            let code = code.trim();
            let bytes: Option<Vec<u8>> =
                (0..code.len() / 2).map(|k| u8::from_str_radix(&code[2 * k..2 * k + 2], 16).ok()).collect();
            let Some(bytes) = bytes.filter(|b| b.len() >= 2) else { continue };
            let len = S390x::insn_len([bytes[0], bytes[1]]);
            let Some(first) = bytes.get(..len) else { continue };
            let op = match S390x::decode(0x1000, first).op {
                // What decoding folds counts for the opcode it comes from.
                Op::nop | Op::j | Op::br | Op::serialize => folded(first),
                op => format!("{op:?}"),
            };
            *all.entry(op).or_default().entry(name.clone()).or_default() += 1;
        }
    }
    all
}

/// The mnemonic of a branch that decoding turned into something simpler.
fn folded(bytes: &[u8]) -> String {
    match (bytes[0], bytes[1] & 15) {
        (0x07, _) => "bcr",
        (0x47, _) => "bc",
        (0xa7, 4) => "brc",
        (0xc0, 4) => "brcl",
        _ => "other",
    }
    .into()
}

/// What becomes of an operation whose fields are all zero.
fn fate(op: Op) -> &'static str {
    let i = Insn {
        op,
        len: 4,
        r1: 0,
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
        target: 0x1000,
        pc: 0x1000,
        next: 0x1004,
    };
    match scan::<S390x>(&i).terminator {
        Terminator::Trap(PRIVILEGED) => "privileged-operation exception",
        Terminator::Trap(OPERATION) => "operation exception: the facility is absent",
        Terminator::Trap(Exc::NOT_MODELLED) => "not modelled",
        _ => IMPLEMENTED,
    }
}

/// What [`fate`] says of an opcode that does something.
const IMPLEMENTED: &str = "implemented";

fn page(cases: &Cases) -> String {
    let mut s = String::from(
        "# s390x instructions\n\nEvery opcode that racewalk knows, what becomes of it, and the instruction tests \
(`emu/isa/tests/s390x/*.ins`) that\nrun it: at least three for each that is implemented. Opcodes that are not here raise an operation exception;\n\
`not-modelled.md` says which facilities that concerns. Made and checked by `emu/isa/tests/mnemonics.rs`.\n\n\
| mnemonic | format | opcode | | tested by |\n|---|---|---|---|---|\n",
    );
    for r in ROWS {
        let tests: Vec<String> = cases
            .get(r.name)
            .map(|t| t.iter().map(|(file, n)| format!("{file} ({n})")).collect())
            .unwrap_or_default();
        let _ = writeln!(
            s,
            "| {} | {:?} | {:#x} | {} | {} |",
            r.name,
            r.format,
            r.code,
            fate(r.op),
            if tests.is_empty() { "—".into() } else { tests.join(", ") }
        );
    }
    s
}

#[test]
fn the_page_is_up_to_date() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/mnemonics-s390x.md");
    let page = page(&cases());
    if std::env::var_os("RACEWALK_UPDATE").is_some() {
        std::fs::write(&path, &page).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        found == page,
        "{} differs; type: RACEWALK_UPDATE=1 cargo test -p racewalk-isa --test mnemonics",
        path.display()
    );
}

/// Seen to fail: with a file of cases taken away.
#[test]
fn every_implemented_opcode_has_cases() {
    let cases = cases();
    let count = |name: &str| cases.get(name).map_or(0, |t| t.values().sum::<usize>());
    let few: Vec<String> = ROWS
        .iter()
        .filter(|r| fate(r.op) == IMPLEMENTED && count(r.name) < MIN_CASES)
        .map(|r| format!("{} has {}", r.name, count(r.name)))
        .collect();
    assert!(few.is_empty(), "wanted {MIN_CASES} cases or more in tests/s390x/*.ins: {}", few.join(", "));
}

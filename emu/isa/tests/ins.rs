//! Instruction tests as text. One line is one case:
//!
//! ```text
//! b9040012 ; r2=5 => r1=5        # lgr %r1,%r2
//! ```
//!
//! Bytes; what differs from all-zero before; what differs from *before* after. Everything not named after `=>` must
//! be unchanged. Names: `r0`..`r15`, `f0`..`f15`, `a0`..`a15`, `cc`, `fpc`, `pm`, `mem[ADDRESS]=BYTES`, and after
//! `=>` also `pc` (where it went, the instruction being at 0x1000) and `exc=CODE`, `data=DXC` or `fault=1` (an access
//! outside memory). Numbers are hexadecimal. Each case also checks that the scan saw what was written.

use racewalk_isa::oracle::{Next, Oracle};
use racewalk_isa::s390x::{S390x, state};
use racewalk_isa::scan::{Terminator, scan};
use racewalk_isa::{Arch, Exc, Slot};

const PC: u64 = 0x1000;
const SIZE: usize = 0x21000;

fn number(s: &str) -> Result<u64, String> {
    u64::from_str_radix(s, 16).map_err(|e| format!("{s}: {e}"))
}

fn bytes(s: &str) -> Result<Vec<u8>, String> {
    (0..s.len() / 2)
        .map(|k| u8::from_str_radix(&s[2 * k..2 * k + 2], 16).map_err(|e| format!("{s}: {e}")))
        .collect()
}

fn slot(name: &str) -> Result<Slot, String> {
    let indexed = |n: &str| n.parse::<u8>().map_err(|e| format!("{name}: {e}"));
    Ok(match name {
        "cc" => state::CC,
        "fpc" => state::FPC,
        "pm" => state::PMASK,
        _ => match name.split_at(1) {
            ("r", n) => state::gpr(indexed(n)?),
            ("f", n) => state::fpr(indexed(n)?),
            ("a", n) => state::ar(indexed(n)?),
            _ => return Err(format!("{name}: no such state")),
        },
    })
}

/// Applies `name=value` to the state; gives back what is not state.
fn apply<'a>(o: &mut Oracle, item: &'a str) -> Result<Option<(&'a str, u64)>, String> {
    let (name, value) = item.split_once('=').ok_or_else(|| format!("{item}: no value"))?;
    if let Some(at) = name.strip_prefix("mem[").and_then(|n| n.strip_suffix(']')) {
        let value = bytes(value)?;
        let at = number(at)?;
        o.bytes(at, value.len() as u64)
            .map_err(|_| format!("{item}: outside memory"))?
            .copy_from_slice(&value);
        return Ok(None);
    }
    if matches!(name, "pc" | "exc" | "data" | "fault") {
        return Ok(Some((name, number(value)?)));
    }
    o.slots[slot(name)? as usize] = number(value)?;
    Ok(None)
}

fn case(line: &str) -> Result<(), String> {
    let line = line.split('#').next().unwrap_or("");
    let (code, rest) = line.split_once(';').ok_or("no `;`")?;
    let (inputs, outputs) = rest.split_once("=>").ok_or("no `=>`")?;
    let code = bytes(code.trim())?;

    let mut o = Oracle::new(0, SIZE);
    o.bytes(PC, code.len() as u64).map_err(|_| "code does not fit")?.copy_from_slice(&code);
    for item in inputs.split_whitespace() {
        apply(&mut o, item)?;
    }
    let mut want = o.clone();
    let (mut pc, mut exc) = (PC + code.len() as u64, None);
    for item in outputs.split_whitespace() {
        match apply(&mut want, item)? {
            Some(("pc", v)) => pc = v,
            Some(("exc", v)) => exc = Some(Exc::program(v as u16)),
            Some(("data", v)) => exc = Some(Exc::data(v as u8)),
            Some(_) => exc = Some(Exc::ACCESS),
            None => {}
        }
    }

    let insn = S390x::decode(PC, &code);
    let text = S390x::text(&insn);
    let notes = scan::<S390x>(&insn);
    let before = o.slots;
    let got = o.step::<S390x>(PC);
    match (got, exc) {
        (Err(e), Some(want)) if e == want => {
            if !notes.may_fault && notes.terminator != Terminator::Execute {
                return Err(format!("{text}: the scan did not see that it may fault"));
            }
        }
        (Err(e), want) => return Err(format!("{text}: {e:x?} instead of {want:x?}")),
        (Ok(_), Some(want)) => return Err(format!("{text}: no {want:x?}")),
        (Ok(next), None) => {
            let went = match next {
                Next::Fall => PC + code.len() as u64,
                Next::Jump(t) | Next::Syscall { next: t, .. } => t,
                other => return Err(format!("{text}: {other:?}")),
            };
            if went != pc {
                return Err(format!("{text}: went to {went:x} instead of {pc:x}"));
            }
        }
    }
    let fpc = state::FPC as usize;
    for (s, &old) in before.iter().enumerate().take(state::SLOTS) {
        if o.slots[s] != want.slots[s] && !(s == fpc && exc.is_some()) {
            return Err(format!("{text}: slot {s} is {:x} instead of {:x}", o.slots[s], want.slots[s]));
        }
        let executes = notes.terminator == Terminator::Execute;
        if o.slots[s] != old && !executes && exc.is_none() && !notes.writes.contains(s as Slot) {
            return Err(format!("{text}: the scan did not see slot {s} written"));
        }
    }
    match o.memory.iter().zip(&want.memory).position(|(a, b)| a != b) {
        Some(at) => Err(format!(
            "{text}: memory at {at:x} is {:02x?} instead of {:02x?}",
            &o.memory[at..at + 8],
            &want.memory[at..at + 8]
        )),
        None => Ok(()),
    }
}

#[test]
fn s390x() {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/s390x");
    let (mut cases, mut failures) = (0, Vec::new());
    for entry in std::fs::read_dir(dir).expect("the test folder is there") {
        let path = entry.expect("the test folder can be listed").path();
        if path.extension().is_none_or(|e| e != "ins") {
            continue;
        }
        let text = std::fs::read_to_string(&path).expect("a test file is text");
        for (n, line) in text.lines().enumerate() {
            if line.trim().is_empty() || line.starts_with('#') {
                continue;
            }
            cases += 1;
            if let Err(e) = case(line) {
                failures.push(format!("{}:{}: {e}\n    {line}", path.display(), n + 1));
            }
        }
    }
    assert!(failures.is_empty(), "{} of {cases} failed:\n{}", failures.len(), failures.join("\n"));
    assert!(cases > 0, "no cases found");
}

//! A small differential run with a fixed seed: qemu-s390x against the interpreter, and the engines against each other.
//! `cargo xtask fuzz-isa` is the large one.

use racewalk_tests::differential::batch::Record;
use racewalk_tests::differential::campaign::{Campaign, Report};
use racewalk_tests::differential::generate::{item, mnemonics, sequence};
use racewalk_tests::differential::judge::{self, Difference, Strictness, differences, within_units};
use racewalk_tests::differential::rng::Rng;
use racewalk_tests::differential::run::{Bench, Machine};
use racewalk_tests::differential::sequence::CODE_BYTES;
use racewalk_tests::differential::values::{self, Fmt};
use racewalk_tests::{guest, paths, racewalk};
use std::process::Command;

const SEED: u64 = 20_261_121;

fn bench(test: &str) -> Bench {
    Bench {
        racewalk: racewalk(),
        guest: guest("sequences"),
        scratch: paths::scratch(test),
        image: values::image(SEED),
    }
}

fn campaign(sequences: u64, machines: [Machine; 2], strictness: Strictness) -> Campaign {
    let judged = match strictness {
        Strictness::All => Vec::new(),
        Strictness::Defined => judge::read(&paths::root()).expect("judged.toml"),
    };
    Campaign { seed: SEED, first: 0, sequences, machines, strictness, judged, stories: 3 }
}

#[track_caller]
fn none_but_judged(r: &Report) {
    let told: Vec<_> =
        r.findings.iter().map(|f| format!("{} {:?}\n{}", f.mnemonic, f.fields, f.story)).collect();
    assert!(told.is_empty(), "{} differences are not judged:\n{}", told.len(), told.join("\n"));
}

#[test]
fn qemu_agrees_but_for_what_is_judged() {
    let found = Command::new("qemu-s390x").arg("--version").output();
    assert!(found.is_ok(), "qemu-s390x is not installed; type: cargo xtask install");
    let c = campaign(2_000, [Machine::Qemu, Machine::Engine("interp")], Strictness::Defined);
    let r = c.run(&bench("differential-qemu"), |_, _| {}).expect("a run");
    none_but_judged(&r);
    // qemu 7.2 is known to lack some instructions: a run without any difference has compared nothing.
    assert!(r.judged.values().sum::<u64>() > 0, "no difference at all");
}

#[test]
fn engines_agree() {
    for engine in ["jit", "check"] {
        let c = campaign(
            if engine == "jit" { 5_000 } else { 500 },
            [Machine::Engine("interp"), Machine::Engine(engine)],
            Strictness::All,
        );
        let r = c.run(&bench(&format!("differential-{engine}")), |_, _| {}).expect("a run");
        none_but_judged(&r);
    }
}

/// Each alteration of one record is noticed, and no entry of the file excuses it in an instruction that qemu has.
#[test]
fn altered_records_are_noticed() {
    let s = sequence(SEED, 0);
    let records = bench("differential-altered").run(Machine::Engine("interp"), &[s]).expect("a run");
    let good = records[0].clone().expect("a record");
    let judged = judge::read(&paths::root()).expect("judged.toml");
    let agr = racewalk_tests::differential::generate::row("agr");
    let item = item(&mut Rng::new(1, 1), agr, [Fmt::Long; 4]);
    type Change = fn(&mut Record);
    let changes: [(&str, Change); 10] = [
        ("gr3", |r| r.state.gr[3] ^= 1 << 63),
        ("fr15", |r| r.state.fr[15] ^= 1),
        ("ar0", |r| r.state.ar[0] ^= 1),
        ("fpc", |r| r.state.fpc ^= 1 << 19),
        ("cc", |r| r.state.pm ^= 0x10),
        ("mask", |r| r.state.pm ^= 1),
        ("signal", |r| r.signal ^= 3),
        ("psw", |r| r.psw ^= 2),
        ("memory", |r| r.hash ^= 1),
        ("code", |r| r.code ^= 4),
    ];
    assert_eq!(differences(&good, &good, Strictness::All), Vec::<String>::new());
    for (name, change) in changes {
        let mut bad = good.clone();
        change(&mut bad);
        for strictness in [Strictness::All, Strictness::Defined] {
            let fields = differences(&good, &bad, strictness);
            assert_eq!(fields, [name]);
            assert!(!within_units(&item, &good, &bad, strictness));
            let start = &good.state;
            let d =
                Difference { item: &item, before: None, start, there: &good, here: &bad, fields: &fields };
            assert!(!judged.iter().any(|j| j.covers(&d)), "{name} is excused");
        }
    }
}

#[test]
fn seeds_reproduce_and_code_fits() {
    let mut seen: Vec<&str> = Vec::new();
    for n in 0..20_000 {
        let s = sequence(SEED, n);
        let code = s.code();
        assert!(
            s.start as usize + code.bytes.len() <= CODE_BYTES,
            "sequence {n} has {} bytes",
            code.bytes.len()
        );
        seen.extend(s.items.iter().map(|i| i.row.name));
        if n % 500 == 0 {
            let again = sequence(SEED, n);
            assert_eq!((again.code().bytes, again.state), (code.bytes, s.state), "sequence {n}");
            assert_ne!(sequence(SEED + 1, n).state, s.state);
        }
    }
    seen.sort_unstable();
    seen.dedup();
    let missing: Vec<_> = mnemonics().into_iter().filter(|m| seen.binary_search(m).is_err()).collect();
    assert!(missing.is_empty(), "never generated: {missing:?}");
}

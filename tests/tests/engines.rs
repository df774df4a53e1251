//! Every engine executes the same number of instructions.

use racewalk_tests::{guest, racewalk, run};
use std::process::Command;
use std::time::Duration;

fn instructions(engine: &str, name: &str, args: &[&str]) -> u64 {
    let stats = racewalk_tests::paths::scratch(&format!("engines-{engine}-{name}")).join("stats.json");
    let mut c = Command::new(racewalk());
    c.args(["run", "--engine", engine, "-E", "LANG=C", "--stats=json", "-o"]).arg(&stats);
    let r = run(c.arg(guest(name)).args(args), Duration::from_secs(60));
    r.check(r.status.is_some(), "an end");
    let text = std::fs::read_to_string(&stats).unwrap_or_else(|e| panic!("{}: {e}\n{r}", stats.display()));
    let json: serde_json::Value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"));
    json["instructions"].as_u64().unwrap_or_else(|| panic!("no instructions in {text}"))
}

#[test]
fn instruction_counts_agree() {
    let file = racewalk_tests::paths::root().join("guests/src/storm.c");
    let file = file.to_str().expect("a path in UTF-8");
    let programs: [(&str, &[&str]); 4] =
        [("hello", &["a", "bc"]), ("heap", &[]), ("echo", &[file]), ("crash", &["stack"])];
    for (name, args) in programs {
        let wanted = instructions("interp", name, args);
        assert!(wanted > 1000, "{name} executed only {wanted} instructions");
        for engine in ["interp", "jit", "auto"] {
            assert_eq!(
                instructions(engine, name, args),
                wanted,
                "{name} on {engine} (left) and interp (right)"
            );
        }
    }
}

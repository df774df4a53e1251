//! The race lab's campaigns from the command line, short: the named commands of docs/race.md are the long ones.

use racewalk_tests::run::{Run, run};
use racewalk_tests::{guest, paths, quick};
use std::process::Command;
use std::time::Duration;

fn race(args: &[&str]) -> Run {
    run(Command::new(paths::racewalk()).arg("race").args(args), Duration::from_secs(300))
}

/// Every step of the sound schemes that can be switched off is missed.
#[test]
fn mutants_are_caught() {
    let r = race(&["--mutants", "--schedules", "4000"]).expect(0);
    let text = r.text();
    let caught = text.lines().last().unwrap_or_default();
    r.check(text.lines().filter(|l| l.contains('~')).count() >= 20, "at least twenty mutants");
    r.check(caught.contains("mutants caught"), "a count");
}

/// Sound schemes on every geometry, in schedules and on threads.
#[test]
fn what_is_sound_soaks_in_silence() {
    let (seconds, schedules) = if quick() { ("0.1", "100") } else { ("0.5", "1000") };
    let r = race(&["--soak", "--seconds", seconds, "--schedules", schedules]).expect(0);
    r.check(r.text().contains("something was found in 0"), "nothing found");
    r.check(r.text().lines().count() > 20, "every sound scheme");
}

/// A workload that knows no flaw finds one, and the finding is kept and repeats.
#[test]
fn a_random_workload_finds_a_flaw() {
    let dir = paths::scratch("race-random");
    let file = dir.join("found.schedule");
    let file = file.to_str().expect("a path in UTF-8");
    let r = race(&["--random", "--scheme", "s390-nop", "--seconds", "60", "--save", file]).expect(3);
    r.check(r.text().contains("something was found in 1 of 1"), "a finding");
    run(Command::new(paths::racewalk()).args(["replay", file]), Duration::from_secs(60)).expect(3);
    // A mutant is named like a scheme and kept like one.
    let r = race(&["f-01", "--scheme", "s390-66~active-set", "--save", file]).expect(3);
    r.check(r.text().contains("a step is left out: active-set"), "the step");
    run(Command::new(paths::racewalk()).args(["replay", file]), Duration::from_secs(60)).expect(3);
    let r = race(&["f-01", "--scheme", "s390-66~nothing"]).expect(2);
    r.check(r.stderr.contains("active-set"), "the steps that there are");
}

/// A barrier that is left out shows where stores wait, by the option as by the scenario's own word, and the finding is kept.
#[test]
fn store_buffers_show_a_missing_barrier() {
    let dir = paths::scratch("race-tso");
    let (file, plain) = (dir.join("tsb.schedule"), dir.join("tsb.race"));
    let text = include_str!("../race/tso-tsb.race").replace("memory   tso\n", "");
    std::fs::write(&plain, text).expect("written");
    let (file, plain) = (file.to_str().expect("UTF-8"), plain.to_str().expect("UTF-8"));
    let mutant = ["--scheme", "sparc-conv~tsb-lock"];
    race(&[&["tso-tsb"][..], &mutant, &["--save", file]].concat()).expect(3);
    race(&[&[plain, "--schedules", "5000"][..], &mutant].concat()).expect(0);
    race(&[plain, "--schedules", "5000", "--scheme", "sparc-conv", "--tso"]).expect(0);
    let r = race(&[&[plain, "--tso", "--save", file][..], &mutant].concat()).expect(3);
    r.check(r.text().contains("memory   tso"), "the scenario as it was run");
    let r = run(Command::new(paths::racewalk()).args(["replay", file]), Duration::from_secs(60)).expect(3);
    r.check(r.text().contains("all see"), "the stores that leave buffers");
}

/// On real threads, by a guest that has its tables retracted: a flawed scheme is reported, a sound one is silent.
#[test]
fn guests_are_watched() {
    let dir = paths::scratch("watched");
    let report = dir.join("report");
    let watched = |scheme: &str, rounds: &str| {
        let mut c = Command::new(paths::racewalk());
        c.args(["run", "--cpus", "4", "--speculate", "--sanitize", "--scheme", scheme, "--report"]);
        run(c.arg(&report).arg(guest("retract")).arg(rounds), Duration::from_secs(120))
    };
    std::fs::write(&report, "of an earlier run").expect("a file");
    for scheme in ["s390-66", "s390-67", "s390-v2-maskfixed"] {
        let r = watched(scheme, "3000").expect(0);
        r.check(r.text() == "0 wrong; tables were retracted: yes\n", "nothing wrong");
        let text = std::fs::read_to_string(&report).expect("a report");
        r.check(text.is_empty(), "no report, neither of this run nor of one before");
    }
    let r = watched("s390-v1", "100000").expect(3);
    r.check(r.stderr.contains("has the report"), "where the report is");
    let text = std::fs::read_to_string(&report).expect("a report");
    assert!(text.starts_with("invariant ") && text.contains("pte_free_defer"), "{text}");
    let r = run(
        Command::new(paths::racewalk()).args(["run", "--report", "/nonexistent/report"]).arg(guest("hello")),
        Duration::from_secs(60),
    )
    .expect(2);
    r.check(r.stdout.is_empty() && r.stderr.contains("create /nonexistent/report"), "before the guest runs");
    // Where nothing watches there is no hypercall, as on any other machine.
    let r = run(Command::new(paths::racewalk()).arg("run").arg(guest("retract")), Duration::from_secs(60))
        .expect(77);
    r.check(r.stderr.contains("no test hypercall"), "what the guest says");
}

#[test]
fn a_scheme_begins() {
    let dir = paths::scratch("new-scheme");
    let frag = dir.join("mmu/mm/src/frag/s390x");
    std::fs::create_dir_all(&frag).expect("a directory");
    let new = |name: &str| {
        let mut c = Command::new(paths::racewalk());
        c.args(["new-scheme", name, "--dir"]).arg(&dir);
        run(&mut c, Duration::from_secs(10))
    };
    let r = new("s390-mine").expect(0);
    r.check(r.text().contains("mod mine;") && r.text().contains("mine::S390Mine"), "what to do next");
    let text = std::fs::read_to_string(frag.join("mine.rs")).expect("the skeleton");
    assert!(text.contains("impl<A: Arch> Frag<A> for S390Mine"), "{text}");
    // Nothing is overwritten, and names are checked.
    new("s390-mine").expect(2);
    new("S390 mine").expect(2);
    // A name without an architecture was a scheme of s390x.
    new("mine").expect(2);
    let r = new("s390-66").expect(2);
    r.check(r.stderr.contains("there is a scheme"), "that it exists");
}

#[test]
fn costs_are_compared() {
    let cost =
        |args: &[&str]| run(Command::new(paths::racewalk()).arg("cost").args(args), Duration::from_secs(60));
    let r = cost(&["--schemes", "s390-66,s390-67", "--schedules", "20", "random"]).expect(0);
    r.check(r.text().contains("s390-67") && r.text().contains("calls of call_rcu"), "a table");
    let text = cost(&["--schemes", "s390-66,s390-67", "--schedules", "5", "--format", "json", "f-01"])
        .expect(0)
        .text();
    let value = |scheme: usize, name: &str| {
        let v: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        v["schemes"][scheme]["costs"][name].as_u64().expect("a number")
    };
    // Two tables in one page: one rcu_head for both, or one for each; and the batch of upper tables when the space ends.
    assert_eq!((value(0, "deferred"), value(1, "deferred")), (2, 2), "{text}");
    assert_eq!((value(0, "call_rcu"), value(1, "call_rcu")), (2, 3), "{text}");
    // A guest's own output and status pass.
    let threads = guest("threads");
    let r = cost(&["--schemes", "s390-66", "--cpus", "2", threads.to_str().expect("UTF-8")]).expect(5);
    r.check(r.text().contains("right") && r.text().contains("times of the first, in ns"), "both");
    cost(&["--schemes", "s390-v1", "f-01"]).expect(125);
}

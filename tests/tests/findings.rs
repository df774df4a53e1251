//! Findings of the race lab as recordings: what is in them, that they repeat, and what is said of those that were changed,
//! cut or could not be written.

use racewalk_tests::run::{Run, run};
use racewalk_tests::{guest, paths};
use racewalk_trace::event::{Bytes, Event};
use racewalk_trace::meta::Meta;
use racewalk_trace::recorder::Output;
use racewalk_trace::{FileOutput, Record, Recording, Writer};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

const DEADLINE: Duration = Duration::from_secs(120);
/// A scheme with a step left out: found at once.
const MUTANT: [&str; 2] = ["--scheme", "s390-66~active-set"];

fn racewalk(args: &[&str]) -> Run {
    run(Command::new(paths::racewalk()).args(args), DEADLINE)
}

fn text(p: &Path) -> &str {
    p.to_str().expect("a path in UTF-8")
}

/// A finding of f-01 as a recording.
fn found(name: &str) -> PathBuf {
    let file = paths::scratch(name).join("found.rwt");
    racewalk(&[&["race", "f-01", "--save", text(&file)][..], &MUTANT].concat()).expect(3);
    file
}

#[test]
fn a_finding_repeats_and_its_schedule_comes_out_as_it_went_in() {
    let dir = paths::scratch("finding-repeats");
    let (scenario, file, plain) = (dir.join("mine.race"), dir.join("a.rwt"), dir.join("a.schedule"));
    let source = format!("# Of mine.\n{}", include_str!("../race/f-01.race"));
    std::fs::write(&scenario, &source).expect("a scenario");
    let save = |to: &Path| {
        racewalk(&[&["race", text(&scenario), "--save", text(to)][..], &MUTANT].concat()).expect(3)
    };
    let told = save(&file);
    save(&plain);
    // Saved again, it is the same file.
    let again = dir.join("b.rwt");
    save(&again);
    assert!(std::fs::read(&file).expect("saved") == std::fs::read(&again).expect("saved"));
    racewalk(&["trace", "diff", text(&file), text(&again)]).expect(0);
    // It needs nothing else.
    std::fs::remove_file(&scenario).expect("it was there");
    let schedule = racewalk(&["trace", "show", "--schedule", text(&file)]).expect(0);
    schedule.check(schedule.stdout == std::fs::read(&plain).expect("saved"), "the text file, byte for byte");
    let given = racewalk(&["trace", "show", "--scenario", text(&file)]).expect(0);
    given.check(given.stdout == source.as_bytes(), "the scenario as it was given");
    let by_text = racewalk(&["replay", text(&plain)]).expect(3);
    for _ in 0..20 {
        let r = racewalk(&["replay", text(&file)]).expect(3);
        r.check(r.stdout == by_text.stdout && r.stderr.contains("racewalk: as recorded: "), "the same run");
    }
    let r = racewalk(&["trace", "check", text(&file)]).expect(0);
    r.check(r.text().contains("all is well"), "a complete recording");
    let r = racewalk(&["trace", "show", text(&file)]).expect(0);
    let lines = r.text();
    let line = told.text().lines().find(|l| l.starts_with("seed ")).map(String::from).expect("a schedule");
    let head = lines.lines().take_while(|l| l.starts_with("# ")).count();
    r.check(head == 3 && lines.contains(&format!("# {line}\n")), "what was found, and the schedule");
    r.check(lines.starts_with("# mine under s390-66~active-set on s390x-2k: invariant 11 ("), "of what");
    for wanted in
        ["actor cpu 0", "operation A retract seg0 done", "purge ipte", "table_give", "found invariant 11"]
    {
        r.check(lines.contains(wanted), wanted)
    }
    let some = racewalk(&["trace", "show", "--kind", "lab", "--cpu", "1", text(&file)]).expect(0);
    let others = some.text().lines().filter(|l| !l.starts_with("# ") && !l.starts_with("cpu1 ")).count();
    some.check(others == 0 && some.text().contains("actor cpu 1"), "one CPU");
    racewalk(&["trace", "stats", text(&file)]).expect(0);
    racewalk(&["replay", "--engine", "interp", text(&file)]).expect(2);
}

/// Every format of tables, walkers of the hardware, refills by software, store buffers, and a workload that nobody wrote.
#[test]
fn findings_of_every_kind_of_machine_are_well() {
    let dir = paths::scratch("finding-kinds");
    let file = dir.join("found.rwt");
    let save = ["--save", text(&file)];
    for (what, wanted) in [
        (&["race", "f-04", "--scheme", "s390-pre"][..], "grace_period_end"),
        (&["race", "f-29", "--scheme", "sparc-late-fill"], "walk_step"),
        (&["race", "pmdfrag", "--scheme", "ppc-jason-side"], "table_alloc"),
        (&["race", "f-08", "--scheme", "ppc-jason-last-a", "--geometry", "ppc64-hash-64k"], "table_unhook"),
        (&["race", "pae", "--scheme", "gen-torn"], "entry_load"),
        (&["race", "tso-tsb", "--scheme", "sparc-conv~tsb-lock"], "walk_step"),
        (&["race", "--random", "--scheme", "s390-nop"], "operation"),
    ] {
        racewalk(&[what, &save[..]].concat()).expect(3);
        let r = racewalk(&["trace", "check", text(&file)]).expect(0);
        r.check(r.text().contains("all is well"), format!("{what:?}"));
        let r = racewalk(&["trace", "show", text(&file)]).expect(0);
        r.check(r.text().contains(wanted), wanted);
        let r = racewalk(&["replay", text(&file)]).expect(3);
        r.check(r.stderr.contains("racewalk: as recorded: "), format!("{what:?}"));
    }
}

/// Writes a recording again, with other metadata and events.
fn rewritten(from: &Path, to: &Path, meta: impl Fn(&mut Meta), event: impl Fn(Event) -> Event) {
    let r = Recording::open(from).expect("a recording");
    let mut m = r.meta.clone();
    meta(&mut m);
    let mut out = FileOutput::new(Writer::create(to, &m, None).expect("a file"));
    for (s, x) in r.merged() {
        let Ok(Record::Event { seq, instructions, event: e }) = x else { panic!("{x:?}") };
        out.event(s, seq, instructions, event(e))
    }
    out.finish(r.end.as_ref().expect("complete")).expect("written");
}

#[test]
fn a_changed_finding_is_told_from_the_run() {
    let file = found("finding-changed");
    let changed = file.with_file_name("changed.rwt");
    let replay = || racewalk(&["replay", text(&changed)]);
    rewritten(&file, &changed, |_| {}, |e| e);
    replay().expect(3);
    // Another schedule: cpu 0 to the end first, where it was preempted, or the other way round.
    let schedule = |from: &'static str, to: &'static str| {
        move |e| match e {
            Event::File { name, bytes } if &*name == "schedule" => {
                let t = String::from_utf8(bytes.0.to_vec()).expect("text");
                assert!(t.contains(from), "{t}");
                Event::File { name, bytes: Bytes(t.replace(from, to).into_bytes().into()) }
            }
            e => e,
        }
    };
    rewritten(&file, &changed, |_| {}, schedule("rw1-b", "rw1-c"));
    let r = replay().expect(4);
    r.check(r.stderr.contains("the run is not the recorded one"), "that it is another run");
    // Another scheme in the schedule than in the metadata.
    rewritten(&file, &changed, |_| {}, schedule("scheme s390-66~active-set", "scheme s390-66"));
    let r = replay().expect(4);
    r.check(
        r.stderr.contains("the scheme of the embedded schedule is s390-66, the recording's is"),
        "in what",
    );
    let r = racewalk(&["trace", "check", text(&changed)]).expect(1);
    r.check(r.text().contains("wrong: the scheme of the embedded schedule"), "the same from the check");
    // In both: then the invariant is not broken, or the schedule does not fit.
    let sound = |m: &mut Meta| m.machine.scheme = "s390-66".into();
    rewritten(&file, &changed, sound, schedule("scheme s390-66~active-set", "scheme s390-66"));
    replay().expect(4);
    // No schedule at all.
    rewritten(&file, &changed, |_| {}, schedule("racewalk-schedule 1", "racewalk-schedule 7"));
    let r = replay().expect(125);
    r.check(r.stderr.contains("version 7; wanted version 1"), "why it cannot be repeated");
    racewalk(&["trace", "check", text(&changed)]).expect(1);
    // An event of the run.
    let store = |e| match e {
        Event::EntryStore { entry, .. } => Event::EntryStore { entry, value: entry },
        e => e,
    };
    rewritten(&file, &changed, |_| {}, store);
    let r = replay().expect(4);
    let both = r.stderr.contains("\n  expected  #") && r.stderr.contains("\n  came      #");
    r.check(both && r.stderr.contains("entry_store"), "both sides of the first difference");
    // An operation that is none.
    let operation = |e| match e {
        Event::Operation { done, .. } => Event::Operation { text: "A exit".into(), done },
        e => e,
    };
    rewritten(&file, &changed, |_| {}, operation);
    let r = racewalk(&["trace", "check", text(&changed)]).expect(1);
    r.check(r.text().contains("is the operation `A exit`"), "which");
    // What was found.
    let title = |e| match e {
        Event::Found { invariant, .. } => Event::Found { invariant, title: "nothing".into() },
        e => e,
    };
    rewritten(&file, &changed, |_| {}, title);
    replay().expect(4);
    racewalk(&["trace", "check", text(&changed)]).expect(1);
}

/// Cut anywhere, or with a byte turned over: what is there is used, what is not is said.
#[test]
fn a_damaged_finding_is_reported() {
    let file = found("finding-cut");
    let whole = std::fs::read(&file).expect("saved");
    let cut = file.with_file_name("cut.rwt");
    let mut ends = std::collections::BTreeSet::new();
    for k in 0..40 {
        let n = whole.len() * k / 40;
        std::fs::write(&cut, &whole[..n]).expect("written");
        let r = racewalk(&["replay", text(&cut)]);
        r.check(matches!(r.status, Some(3 | 125)), "the finding, or why not");
        r.check(r.status != Some(3) || r.stderr.contains("as far as the recording goes"), "that it was cut");
        r.check(!r.stderr.contains("panicked") && !r.stderr.is_empty(), "a reason");
        ends.insert(r.status);
        let r = racewalk(&["trace", "show", text(&cut)]);
        r.check(matches!(r.status, Some(0 | 1 | 125)) && !r.stderr.is_empty(), "what is missing");
        let r = racewalk(&["trace", "check", text(&cut)]);
        r.check(
            r.status == Some(125) || r.text().contains("missing:") || r.text().contains("wrong:"),
            "a verdict",
        );
    }
    assert!(ends.len() == 2, "with the schedule, and without: {ends:?}");
    for k in 1..40 {
        let mut bytes = whole.clone();
        bytes[whole.len() * k / 40] ^= 0x55;
        std::fs::write(&cut, &bytes).expect("written");
        let r = racewalk(&["replay", text(&cut)]);
        r.check(matches!(r.status, Some(3 | 4 | 125)) && !r.stderr.contains("panicked"), "no panic");
        r.check(!r.stderr.contains("racewalk: as recorded: ") || r.status == Some(3), "what was compared");
    }
}

/// Where it cannot be saved the finding is told nevertheless, and how to have it again; and the search goes on with other schemes.
/// Where no file can be, nothing is looked for.
#[test]
fn a_finding_that_cannot_be_saved_is_not_lost() {
    for place in ["/nonexistent/found.rwt", "/nonexistent/found.schedule"] {
        let r = racewalk(&[&["race", "f-01", "--save", place][..], &MUTANT].concat()).expect(2);
        r.check(r.stdout.is_empty() && r.stderr.contains(place), "the place");
    }
    let told = |r: Run, place: &str| {
        for told in ["invariant 11 (", "schedule rw1-", "again: racewalk race f-01"] {
            r.check(r.text().contains(told) && r.stderr.contains(place), told)
        }
        r
    };
    told(racewalk(&[&["race", "f-01", "--save", "/dev/full"][..], &MUTANT].concat()).expect(3), "/dev/full");
    let both = ["race", "f-01", "-o", "/dev/full", "--scheme", "s390-66~active-set,s390-v1"];
    let r = told(racewalk(&both).expect(3), "/dev/full");
    r.check(r.text().contains("f-01 under s390-v1 on "), "the scheme behind it");
    let full = paths::scratch("finding-full").join("full.rwt");
    std::os::unix::fs::symlink("/dev/full", &full).expect("a link");
    told(racewalk(&[&["race", "f-01", "--save", text(&full)][..], &MUTANT].concat()).expect(3), "full.rwt");
}

/// What is for findings only says so of the recording of a guest.
#[test]
fn a_guest_has_no_embedded_schedule() {
    let file = paths::scratch("finding-guest").join("run.rwt");
    racewalk(&["trace", "-o", text(&file), text(&guest("hello"))]).expect(7);
    let r = racewalk(&["trace", "show", "--schedule", text(&file)]).expect(125);
    r.check(r.stderr.contains("a recording of a guest, not a finding"), "what it is");
}

//! Recordings of guests: replayed on other engines, cut by signals, made under finite TLBs, read after versions.
//!
//! `RACEWALK_REPLAY_SEEDS=200` repeats every guest so often (the test command: once on every number of CPUs, one guest a dozen times),
//! `RACEWALK_KILLS=200` kills so many recordings (the test command: 10).

use nix::sys::signal::Signal;
use racewalk_tests::{CPUS, Run, guest, paths, racewalk, run};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const DEADLINE: Duration = Duration::from_secs(120);

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|v| v.parse().unwrap_or_else(|_| panic!("{name}={v:?}: wanted a number")))
}

fn trace(args: &[&str]) -> Run {
    run(Command::new(racewalk()).arg("trace").args(args), DEADLINE)
}

fn text(p: &Path) -> &str {
    p.to_str().expect("a path in UTF-8")
}

/// Guests and their arguments, on `cpus` CPUs.
fn guests(cpus: &str) -> Vec<(&'static str, Vec<String>)> {
    let with = |a: &[&str]| a.iter().map(|s| s.to_string()).collect();
    let file = text(&paths::root().join("guests/src/storm.c")).to_string();
    let mut all: Vec<(&str, Vec<String>)> = vec![
        ("demo", with(&[])),
        ("hello", with(&["one", "", "three words here"])),
        ("heap", with(&[])),
        ("threads", with(&[])),
        ("signals", with(&[])),
        ("waits", with(&["long"])),
        ("traps", with(&[])),
        ("storm", with(&["1"])),
        ("marks", with(&[])),
        ("retract", with(&[])),
        ("robust", with(&[])),
        ("pie", with(&[])),
        ("echo", vec![file]),
        ("files", vec![text(&paths::scratch(&format!("recording-files-on-{cpus}"))).into()]),
        ("buffers", vec![text(&paths::scratch(&format!("recording-buffers-on-{cpus}"))).into()]),
        ("shared", vec![text(&paths::scratch(&format!("recording-shared-on-{cpus}"))).into()]),
    ];
    for how in ["null", "exec-data", "write-readonly", "stack", "illegal", "divide", "abort"] {
        all.push(("crash", with(&[how])))
    }
    all
}

/// Records a guest under one engine and repeats it under the others.
fn repeats(name: &str, args: &[String], cpus: &str, seed: u64) {
    let engines = [["auto", "interp"], ["interp", "auto"], ["jit", "interp"], ["interp", "jit"]];
    let [first, second] = engines[seed as usize % engines.len()];
    let file = paths::scratch(&format!("recording-{name}-{cpus}")).join("run.rwt");
    let mut c = Command::new(racewalk());
    c.args([
        "trace",
        "--replayable",
        "--seed",
        &seed.to_string(),
        "--cpus",
        cpus,
        "--engine",
        first,
        "--mem",
        "256M",
    ]);
    let recorded = run(c.arg("-o").arg(&file).args(["-E", "LANG=C"]).arg(guest(name)).args(args), DEADLINE);
    recorded.check(recorded.status.is_some_and(|s| !(125..=127).contains(&s)), "an end of the guest's own");
    let checked = trace(&["check", text(&file)]);
    checked.check(checked.status == Some(0), format!("a recording that is well:\n{recorded}"));
    for engine in [first, second] {
        let mut c = Command::new(racewalk());
        let again = run(c.args(["replay", "--engine", engine]).arg(&file), DEADLINE);
        let same = again.stderr.contains("as recorded:")
            && (again.status, &again.stdout) == (recorded.status, &recorded.stdout);
        again.check(same, format!("the run of seed {seed} on {cpus} CPUs under {first}:\n{recorded}"))
    }
}

/// Every guest, under every engine. A test for each number of CPUs: they run beside each other.
fn every_guest_is_repeated(cpus: &str) {
    let seeds = setting("RACEWALK_REPLAY_SEEDS");
    for (name, args) in guests(cpus) {
        let n = seeds.unwrap_or(if name == "threads" { 4 } else { 1 });
        for seed in 0..n {
            repeats(name, &args, cpus, seed + name.len() as u64)
        }
    }
}

#[test]
fn every_guest_is_repeated_on_one_cpu() {
    every_guest_is_repeated(CPUS[0])
}

#[test]
fn every_guest_is_repeated_on_two_cpus() {
    every_guest_is_repeated(CPUS[1])
}

#[test]
fn every_guest_is_repeated_on_four_cpus() {
    every_guest_is_repeated(CPUS[2])
}

/// What the host answered is in the recording: the files may be gone, and the program is in it, too.
#[test]
fn a_replay_needs_nothing_of_what_was_there() {
    let dir = paths::scratch("recording-gone");
    let (file, input, program) = (dir.join("run.rwt"), dir.join("input"), dir.join("program"));
    std::fs::write(&input, "what is to be echoed\n").expect("a file");
    std::fs::copy(guest("echo"), &program).expect("a program");
    let recorded =
        trace(&["--replayable", "--embed", "-o", text(&file), text(&program), text(&input)]).expect(0);
    std::fs::remove_file(&input).expect("it was there");
    std::fs::remove_file(&program).expect("it was there");
    let again = run(Command::new(racewalk()).arg("replay").arg(&file), DEADLINE).expect(0);
    again.check(!again.stdout.is_empty() && again.stdout == recorded.stdout, "the output of then");
}

/// Without the program in it: another program is refused, by name.
#[test]
fn another_program_is_refused() {
    let dir = paths::scratch("recording-other");
    let (file, program) = (dir.join("run.rwt"), dir.join("program"));
    std::fs::copy(guest("hello"), &program).expect("a program");
    trace(&["--replayable", "-o", text(&file), text(&program)]).expect(7);
    std::fs::copy(guest("heap"), &program).expect("a program");
    let r = run(Command::new(racewalk()).arg("replay").arg(&file), DEADLINE).expect(125);
    r.check(r.stderr.contains("it is not what was recorded") && r.stderr.contains("--embed"), "the reason");
    let free = dir.join("free.rwt");
    trace(&["-o", text(&free), text(&program)]).expect(0);
    let r = run(Command::new(racewalk()).arg("replay").arg(&free), DEADLINE).expect(125);
    r.check(r.stderr.contains("hint: `racewalk trace --replayable"), "a hint");
}

/// Time passed by other rules when these were recorded: a replay that differs says so, and one of today does not.
#[test]
fn other_rules_are_named() {
    let old = paths::root().join("tests/recordings/1.0.rwt");
    let r = run(Command::new(racewalk()).arg("replay").arg(&old), DEADLINE).expect(4);
    r.check(r.stderr.contains("revision 1 of turns and virtual time, this is revision 3"), "the revisions");
    let file = paths::scratch("recording-rules").join("run.rwt");
    trace(&["--replayable", "--embed", "-o", text(&file), text(&guest("waits"))]).expect(0);
    let r = run(Command::new(racewalk()).arg("replay").arg(&file), DEADLINE).expect(0);
    r.check(!r.stderr.contains("revision"), "nothing of revisions");
}

/// A recording whose answers were changed is another run, and the first difference is told.
#[test]
fn a_difference_is_explained() {
    let dir = paths::scratch("recording-differs");
    let (a, b) = (dir.join("a.rwt"), dir.join("b.rwt"));
    for (file, arg) in [(&a, "one"), (&b, "two")] {
        trace(&["--replayable", "-E", "LANG=C", "-o", text(file), text(&guest("hello")), arg, "more"])
            .expect(7);
    }
    let r = trace(&["diff", text(&a), text(&b)]).expect(1);
    r.check(
        r.text().contains("expected") && r.text().contains("came") && r.text().contains("record "),
        "both sides",
    );
    trace(&["diff", text(&a), text(&a)]).expect(0);
}

#[test]
fn a_replay_stops_where_it_is_told_to_or_goes_on_otherwise() {
    let file = paths::scratch("recording-until").join("run.rwt");
    trace(&["--replayable", "--cpus", "2", "-o", text(&file), text(&guest("threads"))]).expect(5);
    let replay = |args: &[&str]| run(Command::new(racewalk()).arg("replay").args(args).arg(&file), DEADLINE);
    let r = replay(&["--until", "700"]).expect(0);
    r.check(r.stderr.contains("as recorded up to event #700"), "where it stopped");
    // Under another schedule pages are read in another order, some more often, and the guest gives the same.
    for seed in 1..=20 {
        for until in ["1", "700"] {
            let r = replay(&["--until", until, "--then", &format!("random:{seed}")]).expect(5);
            r.check(r.text().ends_with("right\n"), "what the guest says")
        }
    }
    replay(&["--until", "5", "--then", "dfs:1"]).expect(2);
}

/// Under a schedule that makes the guest write more often than the recorded run did, the question is named.
#[test]
fn what_the_recording_has_no_answer_to_is_named() {
    let dir = paths::scratch("recording-unanswered");
    let (file, work) = (dir.join("run.rwt"), dir.join("work"));
    std::fs::create_dir_all(&work).expect("a directory");
    let recorded =
        trace(&["--replayable", "--cpus", "2", "-o", text(&file), text(&guest("shared")), text(&work)]);
    recorded.check(recorded.status.is_some_and(|s| s < 125), "an end of the guest's own");
    let shown = trace(&["show", "--kind", "input", text(&file)]).expect(0);
    shown.check(shown.text().contains("reply pwrite ") && !shown.text().contains("answer "), "arguments");
    let mut c = Command::new(racewalk());
    let r = run(c.args(["replay", "--until", "400", "--then", "random:1"]).arg(&file), DEADLINE).expect(4);
    r.check(r.stderr.contains("the run left the recording: the guest asks the host for "), "that it left");
    r.check(
        r.stderr.contains(text(&work)) && r.stderr.contains("the recorded run asked only"),
        "the question",
    );
}

/// Frames and their bytes survive SIGKILL; the next reader says what is missing, and a replay goes that far. Seen to fail with
/// answers of the host that were handed over a thousand at a time.
#[test]
fn a_killed_recording_reads_to_its_last_whole_frame() {
    let dir = paths::scratch("recording-killed");
    let mut far = [0; 2];
    for n in 0..setting("RACEWALK_KILLS").unwrap_or(10) {
        let (file, replayable) = (dir.join("run.rwt"), n % 2 == 1);
        let mut c = Command::new(racewalk());
        c.arg("trace").args(replayable.then_some("--replayable")).args(["--cpus", "2", "-o"]).arg(&file);
        c.arg(guest("storm")).arg("2000");
        let mut child = c.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("racewalk");
        std::thread::sleep(Duration::from_millis(30 + n * 7919 % 1500));
        child.kill().expect("it runs");
        child.wait().expect("it ends");
        if !file.exists() {
            continue;
        }
        let r = trace(&["check", text(&file)]).expect(if complete(&file) { 0 } else { 1 });
        let cut = r.text().lines().filter(|l| l.starts_with("wrong:")).all(|l| l.contains("are lost"));
        r.check(cut && r.text().contains("missing:"), "whole frames, and what is missing");
        let records = !r.text().contains(" 0 records");
        far[replayable as usize] += records as u32;
        if replayable {
            let again = run(Command::new(racewalk()).arg("replay").arg(&file), DEADLINE).expect(0);
            let said = again.stderr.contains("as recorded up to");
            again.check(
                said && again.stderr.contains("not loaded yet") != records,
                "as far as there are frames",
            );
        }
        let _ = std::fs::remove_file(&file);
    }
    assert!(far.iter().all(|n| *n > 0), "no recording got as far as records: {far:?}");
}

/// Where each frame begins: its kind, stream and length.
fn frames(bytes: &[u8]) -> Vec<(usize, u8, u32, usize)> {
    let (mut at, mut all) = (64, Vec::new());
    let number = |at: usize| bytes[at..at + 4].iter().rev().fold(0, |n, b| n << 8 | u32::from(*b));
    while bytes.len() >= at + 48 && bytes[at..].starts_with(b"RWFR") {
        let len = 48 + number(at + 36) as usize;
        all.push((at, bytes[at + 4], number(at + 8), len));
        at += len
    }
    all
}

/// Whether a file that was cut was cut between two frames.
fn complete(file: &Path) -> bool {
    let bytes = std::fs::read(file).expect("a file");
    frames(&bytes).last().is_some_and(|f| f.0 + f.3 == bytes.len())
}

/// One frame of a CPU that is damaged costs its records; one of the host's answers ends the replay there. Seen to fail with damage
/// taken for another run.
#[test]
fn a_damaged_recording_is_repeated_as_far_as_it_can_be_read() {
    let dir = paths::scratch("recording-damaged");
    let (file, bent) = (dir.join("run.rwt"), dir.join("bent.rwt"));
    let recorded = trace(&["--replayable", "-o", text(&file), text(&guest("threads"))]).expect(5);
    let bytes = std::fs::read(&file).expect("a file");
    let damaged = |stream: u32, nth: usize, args: &[&str]| {
        let all = frames(&bytes);
        let mine: Vec<_> = all.iter().filter(|f| f.1 == 2 && f.2 == stream).collect();
        let (at, _, _, len) = *mine[nth.min(mine.len() - 1)];
        let mut b = bytes.clone();
        b[at + len - 1] ^= 1;
        std::fs::write(&bent, b).expect("a file");
        (run(Command::new(racewalk()).args(args).arg(&bent), DEADLINE), format!("the damage at {at:#x}"))
    };
    let (r, place) = damaged(0, 0, &["replay"]);
    let r = r.expect(5);
    r.check(r.stderr.contains(&format!("as recorded but for {place}")), "the place");
    r.check(r.stdout == recorded.stdout, "all of the guest's output");
    let (r, place) = damaged(4294967294, 0, &["replay"]);
    let r = r.expect(0);
    r.check(r.stderr.contains(&format!("as recorded up to {place}")), "the place");
    // What comes behind the answers that are lost is not taken for them.
    let cut = &bytes[..bytes.len() - 100];
    std::fs::write(&bent, cut).expect("a file");
    for until in [&[][..], &["--until", "1000000"]] {
        let r = run(Command::new(racewalk()).arg("replay").args(until).arg(&bent), DEADLINE).expect(0);
        r.check(r.stderr.contains("as recorded up to the damage at"), "the place");
    }
}

/// One call that takes long is no livelock, on whatever page it is. Seen to fail with the lab's window.
#[test]
fn one_read_of_megabytes_is_no_livelock() {
    let file = paths::scratch("recording-long-read").join("run.rwt");
    let program = guest("echo");
    trace(&["--replayable", "-o", text(&file), text(&program), "-r", "/dev/zero", "8000000"]).expect(0);
    let r = run(Command::new(racewalk()).arg("replay").arg(&file), DEADLINE).expect(0);
    r.check(r.text() == "8000000\n", "what the guest says");
}

/// SIGINT ends the recording, not only the guest, whatever the guest does: several tasks, one that computes (seen to fail where
/// only choices among tasks looked), one that waits for the host (seen to fail where nobody woke it).
#[test]
fn an_interrupted_recording_is_complete() {
    let storm = ["storm", "60000"];
    for (replayable, guest_and_args) in
        [(false, &storm[..]), (true, &storm[..]), (true, &["echo", "-c"]), (true, &["echo"])]
    {
        let file = paths::scratch("recording-interrupted").join("run.rwt");
        let mut c = Command::new(racewalk());
        c.arg("trace").args(replayable.then_some("--replayable")).args(["--cpus", "2", "-o"]).arg(&file);
        c.arg(guest(guest_and_args[0])).args(&guest_and_args[1..]);
        c.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = c.spawn().expect("racewalk");
        std::thread::sleep(Duration::from_millis(1500));
        let pid = nix::unistd::Pid::from_raw(child.id() as i32);
        nix::sys::signal::kill(pid, Signal::SIGINT).expect("it runs");
        // Its standard input stays open meanwhile.
        let stdin = child.stdin.take();
        let until = Instant::now() + Duration::from_secs(20);
        while child.try_wait().expect("it ends").is_none() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(20))
        }
        let _ = child.kill();
        drop(stdin);
        let out = child.wait_with_output().expect("it ends");
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        assert_eq!(out.status.code(), Some(130), "{guest_and_args:?}: {said}");
        assert!(said.contains("interrupted;") && said.contains("racewalk trace show"), "{said}");
        let r = trace(&["check", text(&file)]).expect(0);
        r.check(r.text().contains("all is well"), "a complete file");
        if replayable {
            let again = run(Command::new(racewalk()).arg("replay").arg(&file), DEADLINE).expect(0);
            again.check(again.stderr.contains("up to where it was interrupted"), "the same up to there");
        }
    }
}

/// Whatever the TLB: what is recorded adds up to what the run counted, hits and misses too.
#[test]
fn the_sums_are_those_of_the_run() {
    for tlb in ["none", "infinite", "zec12", "z13", "z14"] {
        let file = paths::scratch("recording-sums").join("run.rwt");
        for engine in ["auto", "interp"] {
            trace(&[
                "--tlb",
                tlb,
                "--cpus",
                "2",
                "--engine",
                engine,
                "-o",
                text(&file),
                text(&guest("threads")),
            ])
            .expect(5);
            let r = trace(&["check", text(&file)]).expect(0);
            r.check(r.text().contains("all is well"), format!("the sums of --tlb {tlb}"));
        }
    }
}

/// A walk for every access, and nobody gives the CPU away for long: that is work, no livelock. Seen to fail with only the ends of
/// slices as progress.
#[test]
fn work_that_walks_for_every_access_is_no_livelock() {
    let file = paths::scratch("recording-walks").join("run.rwt");
    trace(&["--replayable", "--tlb", "none", "--cpus", "2", "-o", text(&file), text(&guest("heap"))])
        .expect(0);
    run(Command::new(racewalk()).arg("replay").arg(&file), DEADLINE).expect(0);
}

#[test]
fn a_selection_is_what_is_there() {
    let file = paths::scratch("recording-selection").join("run.rwt");
    let shown = |select: &[&str]| -> Vec<String> {
        let program = guest("threads");
        let mut args = vec!["--replayable", "--cpus", "2", "-o", text(&file)];
        args.extend(select);
        args.push(text(&program));
        trace(&args).expect(5);
        trace(&["check", text(&file)]).expect(0);
        let all = trace(&["show", text(&file)]).expect(0);
        let lines = all.text().lines().map(String::from).collect();
        // A replay makes the same selection.
        run(Command::new(racewalk()).arg("replay").arg(&file), DEADLINE).expect(5);
        lines
    };
    let kind =
        |l: &str| l.split_whitespace().nth(if l.contains('#') { 3 } else { 1 }).unwrap_or("").to_string();
    let all = shown(&[]);
    assert!(all.iter().any(|l| kind(l) == "run") && all.iter().any(|l| kind(l) == "table_alloc"));
    let walks = shown(&["--only", "walk"]);
    let named = |l: &String| ["walk_", "reply", "schedule"].iter().any(|k| kind(l).starts_with(k));
    assert!(walks.len() > 100 && walks.iter().all(named), "{:?}", walks.iter().find(|l| !named(l)));
    let count = |lines: &[String], k: &str| lines.iter().filter(|l| kind(l).starts_with(k)).count();
    assert_eq!(count(&walks, "walk_"), count(&all, "walk_"));
    let one = shown(&["--only-cpus", "1"]);
    assert!(one.iter().all(|l| l.starts_with("cpu1") || l.starts_with("kernel")) && count(&one, "run") > 0);
    let few = shown(&["--addresses", "0x1000000..0x1010000", "--only", "access"]);
    let page = |l: &String| {
        let p = l
            .split_whitespace()
            .nth(2)
            .and_then(|p| u64::from_str_radix(p.trim_start_matches("0x"), 16).ok());
        l.contains('#') || p.is_some_and(|p| (0x100_0000..0x101_0000).contains(&p))
    };
    assert!(few.iter().all(page), "{:?}", few.iter().find(|l| !page(l)));
    let early = shown(&["--instructions", "0..5000"]);
    assert!(count(&early, "run") > 0 && count(&early, "run") < count(&all, "run"));
}

/// The guest stores to three pages between its marks 0, 1, 2 and 3: each selection has the pages between its two marks.
#[test]
fn a_selection_between_marks_has_what_is_between_them() {
    let file = paths::scratch("recording-marks").join("run.rwt");
    let r = run(Command::new(racewalk()).arg("run").arg(guest("marks")), DEADLINE);
    r.check(r.status == Some(77), "no marks where nothing is recorded");
    for (marks, wanted) in
        [("0..1", [true, false, false]), ("1..2", [false, true, false]), ("1..3", [false, true, true])]
    {
        let r =
            trace(&["--replayable", "--marks", marks, "-o", text(&file), text(&guest("marks"))]).expect(0);
        let pages: Vec<String> = r.text().split_whitespace().map(String::from).collect();
        let shown = trace(&["show", text(&file)]).expect(0);
        for (page, wanted) in pages.iter().zip(wanted) {
            let run = format!("run {page} ");
            let has = shown.text().lines().any(|l| l.contains(&run));
            shown.check(has == wanted, format!("marks {marks}: {run}: {wanted}"));
        }
        assert_eq!(pages.len(), 3);
        run(Command::new(racewalk()).arg("replay").arg(&file), DEADLINE).expect(0);
    }
}

/// A mark that is not selected itself is a place all the same. Seen to fail with nothing recorded.
#[test]
fn marks_count_where_they_are_not_recorded() {
    let file = paths::scratch("recording-marks-only").join("run.rwt");
    let shown = |only: &[&str]| {
        let program = guest("marks");
        let r = trace(&[&["-o", text(&file)], only, &["--marks", "1..2", text(&program)]].concat()).expect(0);
        trace(&["check", text(&file)]).expect(0);
        (r.text(), trace(&["show", text(&file)]).expect(0).text())
    };
    let (pages, walks) = shown(&["--only", "walk"]);
    assert!(walks.contains("walk_done") && !walks.contains("mark"), "{walks}");
    let (_, runs) = shown(&["--only", "access"]);
    let page = pages.split_whitespace().nth(1).expect("three pages");
    assert!(runs.contains(&format!("run {page} ")), "{runs}");
    let (_, none) = shown(&["--only-cpus", "5"]);
    assert!(!none.contains("cpu0"), "{none}");
}

/// Readers say what they could not read, and their status does, too.
#[test]
fn every_reader_says_what_is_damaged_or_missing() {
    let dir = paths::scratch("recording-readers");
    let (file, cut, bent) = (dir.join("run.rwt"), dir.join("cut.rwt"), dir.join("bent.rwt"));
    trace(&["-o", text(&file), text(&guest("threads"))]).expect(5);
    let bytes = std::fs::read(&file).expect("a file");
    let all = frames(&bytes);
    let end = all.iter().find(|f| f.1 == 4).expect("it is complete");
    std::fs::write(&cut, &bytes[..end.0]).expect("a file");
    let (at, _, _, len) = *all.iter().find(|f| f.1 == 2).expect("records");
    let mut b = bytes.clone();
    b[at + len - 1] ^= 1;
    std::fs::write(&bent, b).expect("a file");
    for (args, file, status, said) in [
        (&["stats"][..], &cut, 0, "was not completed"),
        (&["diff", text(&cut)], &cut, 0, "was not completed"),
        (&["show"], &cut, 0, "was not completed"),
        (&["stats"], &bent, 1, "are lost"),
        (&["stats", "--format", "json"], &bent, 1, "are lost"),
        (&["diff", text(&bent)], &bent, 1, "are lost"),
        (&["diff", text(&file)], &bent, 1, "are lost"),
        (&["show"], &bent, 1, "are lost"),
        (&["show", "--follow"], &bent, 1, "are lost"),
    ] {
        let r = trace(&[args, &[text(file)]].concat()).expect(status);
        r.check(r.stderr.contains(said), said);
        r.check(args[0] != "diff" || r.text().starts_with("the same records"), "all that is there");
    }
    let mut other = bytes.clone();
    let kernel = all.iter().rfind(|f| f.1 == 2).expect("records");
    other[kernel.0 + 48 + 8] ^= 1;
    std::fs::write(&bent, other).expect("a file");
    trace(&["show", "--follow", text(&bent)]).expect(1);
}

/// Whatever happens to standard error, the guest goes on. Seen to end with 101, and to hang.
#[test]
fn a_standard_error_that_is_full_or_closed_is_no_failure() {
    let file = paths::scratch("recording-stderr").join("run.rwt");
    for (args, to) in [
        (format!("trace -o {}", text(&file)), "2>/dev/full"),
        ("run --log debug".into(), "2>/dev/full"),
        ("run --log debug".into(), "2>&-"),
        (format!("trace -o {}", text(&file)), "2>&-"),
    ] {
        let line = format!("{} {args} {} {to}", text(&racewalk()), text(&guest("hello")));
        run(Command::new("sh").args(["-c", &line]), DEADLINE).expect(7);
    }
    let line = format!(
        "{{ {} run --log debug {} 2>&1 >/dev/null; echo $? >&2; }} | head -c1 >/dev/null",
        text(&racewalk()),
        text(&guest("threads"))
    );
    let r = run(Command::new("sh").args(["-c", &line]), DEADLINE).expect(0);
    assert_eq!(r.stderr.trim(), "5");
}

/// Where files may not grow, the recording ends and is told of once, and the guest goes on.
#[test]
fn a_file_that_must_not_grow_ends_the_recording_only() {
    let file = paths::scratch("recording-limit").join("run.rwt");
    // Guest memory is a file, too: the limit comes when there is all of it.
    let line = format!(
        "{} trace -o {} {} 1000 & sleep 0.3; prlimit --pid $! --fsize=16384; wait $!",
        text(&racewalk()),
        text(&file),
        text(&guest("storm"))
    );
    let r = run(Command::new("sh").args(["-c", &line]), DEADLINE).expect(0);
    r.check(r.stderr.matches("the recording ends here, the guest goes on").count() == 1, "a warning");
    r.check(r.stderr.contains("trace check"), "what to type");
    let r = trace(&["check", text(&file)]);
    r.check(r.text().contains("missing: how the run ended"), "what there is");
}

#[test]
fn a_recording_that_cannot_be_written_does_not_break_the_run() {
    let r = trace(&["-o", "/dev/full", text(&guest("hello"))]);
    r.check(r.status == Some(125), "refused before the guest runs");
    r.check(r.stderr.contains("record to /dev/full"), "the file");
    let r = trace(&[text(&guest("hello"))]).expect(2);
    r.check(r.stderr.contains("hint: `racewalk trace -o FILE PROGRAM`"), "what to type");
    let r = trace(&["--engine", "check", "-o", "/dev/null", text(&guest("hello"))]).expect(2);
    r.check(r.stderr.contains("use auto, jit or interp"), "what to type");
    let r = trace(&["-o", "/dev/null", text(&guest("hello"))]).expect(7);
    r.check(!r.stderr.contains("not complete"), "nothing is missing");
    let dropping =
        ["--replayable", "--when-full", "drop", "-o", "/dev/null", text(&guest("hello"))].map(String::from);
    trace(&dropping.iter().map(|s| s.as_str()).collect::<Vec<_>>()).expect(2);
    let nothing = paths::scratch("recording-nothing").join("run.rwt");
    trace(&["-o", text(&nothing), "/nonexistent"]).expect(127);
    assert!(!nothing.exists());
}

/// Whatever is wrong with the program, what was where the recording is to be stays; the program itself is refused as that place.
/// Seen to fail with the file created first and removed when the program did not start.
#[test]
fn what_was_there_stays_if_nothing_is_recorded() {
    let dir = paths::scratch("recording-keeps");
    let (old, link, program, no_elf) =
        (dir.join("old"), dir.join("link"), dir.join("program"), dir.join("no-elf"));
    std::fs::write(&old, "what was there").expect("a file");
    std::fs::write(&no_elf, "#!/bin/false\n").expect("a file");
    std::fs::copy(guest("hello"), &program).expect("a program");
    std::os::unix::fs::symlink(&old, &link).expect("a link");
    let (hello, pipe) = (guest("hello"), dir.join("pipe"));
    for out in [&old, &link] {
        trace(&["-o", text(out), text(&no_elf)]).expect(126);
        // No machine can be built in so little address space.
        let mut c = Command::new("sh");
        c.args(["-c", "ulimit -v 1000000; exec \"$@\"", "sh"]).arg(racewalk());
        run(c.args(["trace", "--mem", "2G", "-o"]).args([out, &hello]), DEADLINE).expect(125);
        assert_eq!(std::fs::read(&old).expect("it stays"), b"what was there");
        assert!(link.is_symlink());
    }
    trace(&["-o", text(&dir.join("new")), text(&no_elf)]).expect(126);
    run(Command::new("mkfifo").arg(&pipe), DEADLINE).expect(0);
    let mut reader = Command::new("cat").arg(&pipe).stdout(Stdio::null()).spawn().expect("cat");
    trace(&["-o", text(&pipe), text(&no_elf)]).expect(126);
    reader.wait().expect("it ends");
    let twin = dir.join("twin");
    std::fs::hard_link(&program, &twin).expect("another name");
    for verb in [&["trace", "-o"][..], &["run", "--stats", "-o"]] {
        let r = run(Command::new(racewalk()).args(verb).arg(&twin).arg(&program), DEADLINE).expect(2);
        r.check(r.stderr.contains("is the program that is to run"), "the reason");
    }
    assert_eq!(std::fs::read(&program).expect("a program"), std::fs::read(&hello).expect("a program"));
    let mut names: Vec<_> =
        std::fs::read_dir(&dir).expect("a directory").map(|e| e.expect("a name").file_name()).collect();
    names.sort();
    assert_eq!(names, ["link", "no-elf", "old", "pipe", "program", "twin"]);
    // A recording takes the name from what had it: who reads that goes on.
    let before = std::fs::File::open(&old).expect("a file");
    trace(&["-o", text(&link), text(&hello)]).expect(7);
    assert!(link.is_symlink());
    trace(&["check", text(&old)]).expect(0);
    assert_eq!(std::io::read_to_string(before).expect("a file"), "what was there");
}

/// A file of every version of the format is read for ever.
#[test]
fn files_of_every_version_are_read() {
    let dir = paths::root().join("tests/recordings");
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(&dir).expect("a directory").map(|e| e.expect("a file").path()).collect();
    files.retain(|f| f.extension().is_some_and(|e| e == "rwt"));
    assert!(!files.is_empty());
    for f in files {
        let r = trace(&["check", text(&f)]).expect(0);
        r.check(r.text().contains("all is well"), "nothing wrong, nothing missing");
        let wanted = std::fs::read_to_string(f.with_extension("txt")).expect("what trace stats says");
        let r = trace(&["stats", text(&f)]).expect(0);
        r.check(r.text() == wanted, format!("as always:\n{wanted}"));
    }
}

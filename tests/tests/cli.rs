//! The command line: usage errors, examples, counters, system calls, walks.

use racewalk_tests::{Run, guest, paths, racewalk, run};
use std::collections::HashMap;
use std::process::Command;
use std::time::Duration;

const DEADLINE: Duration = Duration::from_secs(30);

fn racewalk_with(args: &[&str]) -> Run {
    run(Command::new(racewalk()).args(args), DEADLINE)
}

fn hello() -> String {
    guest("hello").to_str().expect("a path in UTF-8").to_string()
}

#[test]
fn wrong_usage_is_2() {
    let h = hello();
    let wrong: [(&[&str], &str); 14] = [
        (&[], "Usage"),
        (&["run"], "PROGRAM"),
        (&["run", "--cpus", "0", &h], "1..=64"),
        (&["run", "--cpus", "65", &h], "1..=64"),
        (&["run", "--cpus", "two", &h], "--cpus"),
        (&["run", "--mem", "much", &h], "512M"),
        (&["run", "--engine", "foo", &h], "wanted auto, interp, jit or check"),
        (&["run", "--scheme", "foo", &h], "s390-66"),
        (&["run", "--stats=xml", &h], "json"),
        (&["run", "--nonsense", &h], "--nonsense"),
        (&["--nonsense", &h], "--nonsense"),
        (&["trace", &h], "--ptw"),
        (&["trace", "--ptw"], "PROGRAM"),
        (&["demo", "--engine", "foo"], "wanted auto, interp, jit or check"),
    ];
    for (args, named) in wrong {
        let r = racewalk_with(args).expect(2);
        r.check(r.stdout.is_empty(), "nothing on standard output");
        r.check(r.stderr.contains(named), format!("{named:?} in the message"));
    }
}

#[test]
fn the_environment_gives_defaults() {
    let with = |k: &str, v: &str, args: &[&str]| {
        run(Command::new(racewalk()).env(k, v).args(args).arg(hello()), DEADLINE)
    };
    with("RACEWALK_ENGINE", "foo", &[]).expect(2);
    with("RACEWALK_ENGINE", "foo", &["--engine", "jit"]).expect(7);
    with("RACEWALK_CPUS", "0", &[]).expect(2);
    with("RACEWALK_CPUS", "3", &[]).expect(7);
}

#[test]
fn machines_that_cannot_be_built() {
    for mem in ["0", "4096", "1M"] {
        let r = racewalk_with(&["run", "--mem", mem, &hello()]).expect(2);
        r.check(r.stderr.contains("wanted a multiple of 1M, from 5M to 1024G"), "how much");
    }
    // The least that is accepted runs a program.
    racewalk_with(&["run", "--mem", "5M", &hello()]).expect(7);
}

/// The verbs that --help lists.
fn verbs() -> Vec<String> {
    let help = racewalk_with(&["--help"]).expect(0).text();
    let list = help.split("Commands:\n").nth(1).expect("a list of commands");
    let lines = list.lines().take_while(|l| !l.trim().is_empty());
    lines.filter_map(|l| l.split_whitespace().next()).filter(|v| *v != "help").map(String::from).collect()
}

/// The command lines under "Example:" or "Examples:".
fn examples(help: &str) -> Vec<String> {
    let Some((_, rest)) = help.split_once("Examples:\n").or_else(|| help.split_once("Example:\n")) else {
        return Vec::new();
    };
    rest.lines().take_while(|l| l.starts_with("  ")).map(|l| l.trim().to_string()).collect()
}

/// Every example of every help text runs, in a directory with the programs that they name.
#[test]
fn examples_in_help_run() {
    let dir = paths::scratch("examples");
    let statuses = HashMap::from([
        ("./prog", 7),
        ("./hello", 7),
        ("./threads", 5),
        // Something is found.
        ("s390-v1", 3),
        ("s390-pre,s390-61", 3),
        ("f-04.schedule", 3),
    ]);
    let save = ["race", "f-04", "--scheme", "s390-pre", "--save", "f-04.schedule"];
    run(Command::new(racewalk()).args(save).current_dir(&dir), DEADLINE).expect(3);
    // Where a checkout has its schemes.
    std::fs::create_dir_all(dir.join("mmu/mm/src/frag/s390x")).expect("a directory");
    for (name, from) in [("prog", "hello"), ("hello", "hello"), ("threads", "threads")] {
        std::fs::copy(guest(from), dir.join(name)).expect("copy a guest");
    }
    std::fs::create_dir_all(dir.join("tests/walk/s390x")).expect("a directory for a walk");
    let walk = "tests/walk/s390x/page.walk";
    std::fs::copy(paths::root().join(walk), dir.join(walk)).expect("copy a walk");
    let mut lines = examples(&racewalk_with(&["--help"]).expect(0).text());
    let verbs = verbs();
    assert!(verbs.len() >= 3, "{verbs:?}");
    for v in &verbs {
        let own = examples(&racewalk_with(&[v, "--help"]).expect(0).text());
        assert!(!own.is_empty(), "racewalk {v} --help has no examples");
        lines.extend(own);
    }
    for line in &lines {
        let mut words = line.split_whitespace();
        assert_eq!(words.next(), Some("racewalk"), "an example begins with racewalk: {line}");
        let args: Vec<&str> = words.collect();
        let status = match args[..] {
            // The guest's own, which `trace --replayable` recorded before.
            ["replay", "hello.rwt"] => 7,
            _ => args.iter().find_map(|w| statuses.get(w)).copied().unwrap_or(0),
        };
        run(Command::new(racewalk()).args(&args).current_dir(&dir), DEADLINE).expect(status);
    }
}

/// A finding from the command line: columns that fit a changelog, a file that repeats it, and what is sound stays silent.
#[test]
fn races_are_found_drawn_and_replayed() {
    let dir = paths::scratch("race");
    let at = |name: &str| dir.join(name).to_str().expect("a path in UTF-8").to_string();
    let (saved, svg) = (at("f-04.schedule"), at("f-04.svg"));
    let r = racewalk_with(&["race", "f-04", "--scheme", "s390-pre", "--save", &saved, "-o", &svg]).expect(3);
    let text = r.text();
    for wanted in ["CPU 0", "12 -> 10", "invariant 14 (broken list)", "racewalk replay"] {
        r.check(text.contains(wanted), format!("{wanted:?} in the finding"));
    }
    r.check(text.lines().filter(|l| l.contains("page X")).all(|l| l.chars().count() <= 72), "72 columns");
    let drawn = std::fs::read_to_string(&svg).expect("the drawing");
    r.check(drawn.contains("<svg") && drawn.contains("CPU 1"), "a drawing");
    let again = racewalk_with(&["replay", &saved]).expect(3);
    let from = |s: &str| s[s.find("CPU 0  ").expect("columns")..].split("\nseed ").next().map(str::to_string);
    assert_eq!(
        from(&again.text()).map(|s| s.trim_end().to_string()),
        from(&text).map(|s| s.trim_end().into())
    );
    // The same schedule under a scheme that has not the flaw is another run.
    let other =
        std::fs::read_to_string(&saved).expect("the file").replace("scheme s390-pre", "scheme s390-61");
    std::fs::write(&saved, other).expect("write");
    racewalk_with(&["replay", &saved]).expect(4);
    std::fs::write(&saved, "racewalk-schedule 9\n").expect("write");
    let r = racewalk_with(&["replay", &saved]).expect(125);
    r.check(r.stderr.contains("wanted version 1"), "the version that is wanted");
    racewalk_with(&["race", "f-04", "--scheme", "s390-61", "--schedules", "2000"]).expect(0);
    let r = racewalk_with(&["race", "f-99"]).expect(2);
    r.check(r.stderr.contains("did you mean"), "what was meant");
    let r = racewalk_with(&["race", "f-01", "--scheme", "s390-66", "--policy", "dfs:1"]).expect(0);
    r.check(r.text().contains("bounded exploration, not proof"), "what a bounded exploration is called");
}

/// Wrong use is 2 and a file that is not there 127, whatever the verb: 125 would be *skip* to `git bisect run`. Seen to fail,
/// the first five with 0, the others with 125.
#[test]
fn what_cannot_be_done_is_2_and_what_is_not_there_127() {
    let dir = paths::scratch("usage");
    let file = |name: &str, text: &str| {
        std::fs::write(dir.join(name), text).expect("a file");
        dir.join(name).to_str().expect("a path in UTF-8").to_string()
    };
    let bad = file("bad.race", "title t\ngeometry vax\n");
    let idle = file("idle.race", "title t\ngeometry s390x-2k\ncpus 1\nmm A\ncpu 0\n");
    let pages = file("pages.race", "title t\ngeometry s390x-2k\ncpus 1\nmm A\ncpu 0\n  A map seg0:1\n");
    let pre = ["race", "f-04", "--scheme", "s390-pre"];
    let with = |more: &[&'static str]| [&pre[..], more].concat();
    let cases: [(Vec<&str>, i32, &str); 27] = [
        (
            with(&["--seed", "18446744073709551615", "--schedules", "3"]),
            2,
            "--seed 18446744073709551612 at most",
        ),
        (vec!["race", &idle], 2, "idle.race: found no operation of a CPU; wanted a `cpu N` block"),
        (vec!["race", "--all", "--scheme", "s390-66", "--geometry", "pae"], 2, "nothing was run"),
        (vec!["race", "--soak", "--scheme", "s390-66", "--geometry", "pae"], 2, "none of s390-66 knows"),
        (vec!["race", &pages], 2, "pages.race:6:9: found \"seg0:1\""),
        (vec!["race", &bad], 2, "bad.race:2:10: found \"vax\"; wanted a geometry"),
        (vec!["race", "f-99"], 2, "did you mean f-29?"),
        (vec!["race", "/nonexistent/x.race"], 127, "read /nonexistent/x.race"),
        (vec!["race", "f-04", "--scheme", "s390-7"], 2, "unknown scheme \"s390-7\""),
        (vec!["race", "f-04", "--scheme", "s390-66~nothing"], 2, "active-set"),
        (vec!["race", "f-04", "--scheme", "s390-cat"], 2, "racewalk explain s390-cat"),
        (vec!["race", "f-04", "--scheme", "ppc-66"], 2, "scheme ppc-66 knows ppc64-radix-64k, "),
        (
            with(&["--geometry", "sparc64"]),
            2,
            "scenario f-04 is for s390x-2k; wanted one of these as --geometry, not sparc64",
        ),
        (
            vec!["race", "f-01", "--scheme", "s390-v1", "--geometry", "ppc64-radix-64k"],
            2,
            "scheme s390-v1 knows s390x-2k; wanted",
        ),
        (with(&["--save", "/nonexistent/f"]), 2, "write /nonexistent/f"),
        (with(&["-o", "/nonexistent/f.svg"]), 2, "write /nonexistent/f.svg"),
        (vec!["race", "--mutants", "--policy", "dfs:1"], 2, "wanted random, pct:DEPTH"),
        (vec!["explain", "F-99"], 2, "wanted a reference such as F-03b"),
        (vec!["replay", "/nonexistent/f"], 127, "read /nonexistent/f"),
        (vec!["trace", "show", "/nonexistent/f.rwt"], 127, "open /nonexistent/f.rwt"),
        (vec!["walk", "/nonexistent/x.walk"], 127, "read /nonexistent/x.walk"),
        (vec!["cost", "--schemes", "s390-7", "f-01"], 2, "unknown scheme \"s390-7\""),
        (vec!["cost", "--schemes", "ppc-66", "f-04"], 2, "scenario f-04 is for s390x-2k"),
        (vec!["cost", "--schemes", "s390-66", "/nonexistent/x.race"], 127, "read /nonexistent/x.race"),
        (vec!["new-scheme", "s390-mine", "--dir", "/nonexistent"], 2, "hint: change to its top directory"),
        (vec!["new-scheme", "mine"], 2, "wanted one that begins with s390-, ppc- or sparc-"),
        (vec!["run", "--log", "=", "/nonexistent"], 2, "read --log"),
    ];
    for (args, status, wanted) in cases {
        let r = racewalk_with(&args).expect(status);
        r.check(r.stderr.contains(wanted), format!("{wanted:?} from {args:?}"));
    }
}

/// A question whether a file can be written leaves it as it was. Seen to fail with the file left there, and with it emptied.
#[test]
fn a_file_for_findings_stays_as_it_is_without_one() {
    let dir = paths::scratch("kept");
    let at = |name: &str| dir.join(name).to_str().expect("a path in UTF-8").to_string();
    let (new, old, link) = (at("new.rwt"), at("old.schedule"), at("link"));
    std::fs::write(&old, "of before").expect("a file");
    std::os::unix::fs::symlink("of-the-link", &link).expect("a link");
    let quiet = ["race", "f-04", "--scheme", "s390-61", "--schedules", "10"];
    for save in [&new, &old, &link] {
        racewalk_with(&[&quiet[..], &["--save", save, "-o", &at("x.svg")]].concat()).expect(0);
    }
    assert_eq!(std::fs::read_to_string(&old).expect("a file"), "of before");
    let mut names: Vec<_> =
        std::fs::read_dir(&dir).expect("a directory").map(|e| e.expect("a file").file_name()).collect();
    names.sort();
    assert_eq!(names, ["link", "old.schedule"]);
}

/// A schedule is run once, and one of another run says so. Seen to fail with 20000 runs of it that found nothing.
#[test]
fn a_schedule_that_is_given_is_run_once() {
    let race = |schedule: &str, scheme: &str| {
        racewalk_with(&["race", "f-04", "--scheme", scheme, "--policy", &format!("replay:{schedule}")])
    };
    let r = race("rw1-zz9", "s390-pre").expect(4);
    r.check(
        r.text().contains("  1 schedule, the one that was given") && r.text().contains("found: nothing"),
        "one run",
    );
    r.check(
        r.text()
            .contains("another run: found 9 choices of tasks that could not run, and 0 of 9 choices behind"),
        "why",
    );
    let r = race("rw1-b200000000", "s390-pre").expect(4);
    r.check(r.text().contains("of 200000000 choices behind its end"), "what is left over");
    race("rw1-b1", "s390-pre").expect(0);
    let r = racewalk_with(&["race", "f-04", "--scheme", "s390-pre"]).expect(3);
    let text = r.text();
    let schedule =
        text.split("; schedule ").nth(1).and_then(|s| s.split_whitespace().next()).expect("a schedule");
    // The shrunk scenario is another one, so that its schedule is one of another run: whether that finds something is its affair.
    let r = race(schedule, "s390-pre");
    r.check(matches!(r.status, Some(0 | 3 | 4)), "a run");
    let file = paths::scratch("long").join("f-04.schedule");
    let path = file.to_str().expect("a path in UTF-8");
    racewalk_with(&["race", "f-04", "--scheme", "s390-pre", "--save", path]).expect(3);
    let long = std::fs::read_to_string(&file).expect("saved").replace(schedule, &format!("{schedule}b99"));
    std::fs::write(&file, long).expect("written");
    let r = racewalk_with(&["replay", path]).expect(4);
    r.check(
        r.stderr.contains("found a shorter run, of ") && r.stderr.contains("as many as the schedule has"),
        "the lengths",
    );
}

/// Seen to fail with an empty shard that found nothing, and to hang with as many threads as jobs.
#[test]
fn a_shard_without_seeds_runs_nothing() {
    let f04 = ["race", "f-04", "--scheme", "s390-61", "--jobs", "100000"];
    let r =
        racewalk_with(&[&f04[..], &["--seed", "4", "--schedules", "1", "--shard", "1/4"]].concat()).expect(0);
    r.check(
        r.text().contains("  nothing was run: shard 1/4 has none of the seeds 4 to 4\n"),
        "that nothing was run",
    );
    r.check(!r.text().contains("found"), "no word of findings");
    let r = racewalk_with(&[&f04[..], &["--seed", "5", "--schedules", "3"]].concat()).expect(0);
    r.check(r.text().contains("  3 schedules of seeds 5 to 7, shard 0/1;"), "the seeds");
}

/// What the lists of the tool name can be explained. Seen to fail with "did you mean".
#[test]
fn what_is_named_can_be_explained() {
    let list = racewalk_with(&["race", "--list"]).expect(0).text();
    let notes: Vec<&str> = list.lines().filter_map(|l| l.split("a note: racewalk explain ").nth(1)).collect();
    assert_eq!(notes, ["s390-cat", "ppc-assert", "sparc-special", "arm-adj"]);
    for n in notes {
        let r = racewalk_with(&["explain", n]).expect(0);
        r.check(r.text().contains("a note, not a scheme to select"), "what it is");
    }
    let r = racewalk_with(&["explain", "f-14", "F-28", "PPC-Jason-Side"]).expect(0);
    r.check(r.text().contains("here: not modelled:") && r.text().contains("here: modelled:"), "both");
    r.check(r.text().contains("ppc64-hash-4k"), "every geometry of a scheme");
}

/// An operation on what nobody maps is a warning.
#[test]
fn operations_that_do_nothing_are_named() {
    let file = paths::scratch("idle").join("mine.race");
    let text = "title t\ngeometry s390x-2k\ncpus 1\nmm A\n  map seg0..2:0\ncpu 0\n  A read seg1:0\n  A read seg7:0\n  A map seg9\n  A touch seg9:1\n";
    std::fs::write(&file, text).expect("a file");
    let path = file.to_str().expect("a path in UTF-8");
    let r = racewalk_with(&["race", path, "--scheme", "s390-66", "--schedules", "10"]).expect(0);
    r.check(r.stderr.contains("so they do nothing: A read seg7:0\n"), "which");
}

/// What nothing checks is a warning where it is forbidden.
#[test]
fn forbidding_what_nothing_checks_is_a_warning() {
    let file = paths::scratch("forbid").join("mine.race");
    let text = include_str!("../race/f-04.race").replace("forbid   1 13 14", "forbid   1 12 21");
    std::fs::write(&file, text).expect("a file");
    let path = file.to_str().expect("a path in UTF-8");
    let r = racewalk_with(&["race", path, "--scheme", "s390-61", "--schedules", "10"]).expect(0);
    r.check(
        r.stderr.contains("warning: mine.race forbids what nothing checks")
            && r.stderr.contains("invariant 12, 21"),
        "which",
    );
}

/// A shard of the matrix is a part of its cells, and what has no seeds has no shards.
#[test]
fn shards_of_the_matrix_are_its_cells() {
    let cells = |shard: &str| -> Vec<String> {
        let args = [
            "race",
            "--all",
            "--schedules",
            "20",
            "--seeds",
            "1",
            "--scheme",
            "s390-66,ppc-66",
            "--shard",
            shard,
        ];
        let r = racewalk_with(&args);
        // So few schedules find little of what is expected.
        r.check(matches!(r.status, Some(0 | 3)), "a matrix");
        let text = r.text();
        let rows = text.lines().filter(|l| l.contains("s390x-2k") || l.contains("ppc64-"));
        rows.map(|l| l.split_whitespace().take(3).collect::<Vec<_>>().join(" ")).collect()
    };
    let (all, mut parts) = (cells("0/1"), cells("0/3"));
    assert!(parts.len() >= all.len() / 3 && parts.len() <= all.len() / 3 + 1, "{parts:?}");
    parts.extend(cells("1/3"));
    parts.extend(cells("2/3"));
    let sorted = |mut v: Vec<String>| {
        v.sort();
        v
    };
    assert_eq!(sorted(parts), sorted(all));
    for policy in ["dfs:1", "replay:rw1-b1"] {
        let r =
            racewalk_with(&["race", "f-04", "--scheme", "s390-pre", "--policy", policy, "--shard", "0/2"]);
        let r = r.expect(2);
        r.check(r.stderr.contains("it has no seeds; wanted no --shard"), "why");
    }
}

/// Two shards together find what the whole does.
#[test]
fn shards_equal_the_whole() {
    let found = |shard: &str| -> (u64, u64) {
        let args =
            ["race", "f-04", "--scheme", "s390-pre", "--schedules", "3000", "--keep-going", "--shard", shard];
        let text = racewalk_with(&args).expect(3).text();
        let number = |before: &str, after: &str| {
            let t = &text[..text.find(after).expect(after)];
            t[t.rfind(before).expect(before) + before.len()..].trim().parse().expect("a number")
        };
        (number("\n", " schedules of seeds"), number("(broken list) in ", "\n\n"))
    };
    let (a, b, whole) = (found("0/2"), found("1/2"), found("0/1"));
    assert_eq!((a.0 + b.0, a.1 + b.1), whole);
}

#[test]
fn walks_are_shown_and_compared() {
    let dir = paths::scratch("walks");
    let file = |name: &str, text: &str| {
        let path = dir.join(name);
        std::fs::write(&path, text).expect("write a walk");
        path.to_str().expect("a path in UTF-8").to_string()
    };
    let hole = "format s390x\nset cr1 0x10000\nmem 0x10000 0x20\nload 0x1234\n";
    let r = racewalk_with(&["walk", &file("plain.walk", hole)]).expect(0);
    for wanted in ["walk_step level 1 segment [0x10000]", "I      invalid", "teid 0x1800"] {
        r.check(r.text().contains(wanted), format!("{wanted:?} in the walk"));
    }
    let r = racewalk_with(&["walk", &file("other.walk", &format!("{hole}> walk_start 0x1\n"))]).expect(1);
    r.check(r.text().contains("wanted walk_start 0x1\n"), "what the file wants");
    let r = racewalk_with(&["walk", &file("bad.walk", "format s390x\njump 1\n")]).expect(2);
    r.check(r.stderr.contains("line 2: \"jump 1\"; wanted"), "the line and what was wanted");
    let r =
        racewalk_with(&["walk", "--explain", "0x77200", "--format", "s390x", "--table", "page"]).expect(0);
    r.check(r.text().contains("PFRA   0x77000") && r.text().contains("P      DAT protection"), "the fields");
    racewalk_with(&["walk", "--explain", "0x77200", "--format", "vax"]).expect(2);
    racewalk_with(&["walk"]).expect(2);
}

#[test]
fn version() {
    let r = racewalk_with(&["--version"]).expect(0);
    assert_eq!(r.text(), format!("racewalk {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn stats_for_people() {
    let r = racewalk_with(&["run", "--cpus", "2", "--stats", &hello()]).expect(7);
    r.check(r.text().starts_with("hello from s390x"), "only the guest's output on standard output");
    for wanted in ["instructions in", "lookups", "cpu0", "cpu1", "hosted mm", "code:"] {
        r.check(r.stderr.contains(wanted), format!("{wanted:?} in the counters"));
    }
    r.check(!r.text().contains("instructions in"), "counters on standard error only");
}

#[test]
fn stats_for_programs() {
    for (name, cpus, status) in [("hello", "1", 7), ("threads", "4", 5)] {
        let path = guest(name);
        let mut c = Command::new(racewalk());
        let r = run(c.args(["run", "--cpus", cpus, "--stats=json"]).arg(path), DEADLINE).expect(status);
        r.check(r.stderr.lines().count() == 1, "one line");
        let v: serde_json::Value = serde_json::from_str(&r.stderr).unwrap_or_else(|e| panic!("{e}\n{r}"));
        let number =
            |v: &serde_json::Value, k: &str| v[k].as_u64().unwrap_or_else(|| panic!("no number {k} in {v}"));
        assert_eq!(number(&v, "version"), 1);
        assert!(number(&v, "instructions") > 1000 && v["seconds"].as_f64().is_some_and(|s| s > 0.0), "{v}");
        let list = v["cpus"].as_array().expect("a list of CPUs");
        assert_eq!(list.len().to_string(), cpus);
        let mut walks = 0;
        for c in list {
            assert_eq!(
                number(c, "tlb_lookups"),
                number(c, "tlb_hits") + number(c, "walks"),
                "lookups = hits + walks in {c}"
            );
            // A walk ends in a fill or a fault; a store to a protected page may fault after its fill, or without a walk.
            let (fills, faults) = (number(c, "tlb_fills"), number(c, "faults"));
            assert!(
                fills <= number(c, "walks") && number(c, "walks") <= fills + faults,
                "fills <= walks <= fills + faults in {c}"
            );
            assert!(
                number(c, "tlb_purged") <= number(c, "tlb_fills"),
                "purged at most what was filled in {c}"
            );
            assert!(number(c, "walk_steps") >= number(c, "walks"), "a walk has at least one step in {c}");
            walks += number(c, "walks");
        }
        assert!(walks > 0, "no walks in {v}");
        assert!(number(&v["mm"], "faults") > 0 && number(&v["code"], "blocks") > 0, "{v}");
    }
}

#[test]
fn system_calls() {
    let r = racewalk_with(&["run", "--strace", &hello()]).expect(7);
    r.check(r.stderr.lines().all(|l| l.starts_with("[1000] ")), "every line to name the task");
    r.check(
        r.stderr.contains("] write(1, \"") && r.stderr.contains("] exit_group(7) = ?"),
        "write and exit_group",
    );
    let file = paths::scratch("strace").join("calls.txt");
    let to = file.to_str().expect("a path in UTF-8");
    let s = racewalk_with(&["run", "--strace", "--stats=json", "-o", to, &hello()]).expect(7);
    s.check(s.stderr.is_empty(), "nothing on standard error with -o");
    let text = std::fs::read_to_string(&file).expect("the calls");
    let (calls, stats) = text.trim_end().rsplit_once('\n').expect("calls and counters");
    assert_eq!(calls.lines().count(), r.stderr.lines().count(), "as many calls as on standard error");
    serde_json::from_str::<serde_json::Value>(stats).expect("counters in JSON");
}

#[test]
fn output_that_cannot_be_written() {
    let r = racewalk_with(&["run", "--strace", "-o", "/no/such/directory/x", &hello()]).expect(2);
    r.check(r.stderr.starts_with("error: failed to create /no/such/directory/x"), "the file");
}

/// The walk of one CPU that is being read.
struct Walk {
    address: String,
    level: Option<u32>,
}

fn hex(s: &str) -> Option<u64> {
    u64::from_str_radix(s.strip_prefix("0x")?, 16).ok()
}

/// Checks one line; `open` is the CPU's walk that has started and not ended.
fn walk_line(words: &[&str], open: &mut Option<Walk>) -> Result<(), String> {
    let number = |s: &str| hex(s).map(|_| ()).ok_or(format!("{s:?} is no hexadecimal number"));
    let ends = |open: &mut Option<Walk>, address: &str| match open.take() {
        Some(w) if w.level.is_none() => Err("a walk without a step".to_string()),
        Some(w) if w.address != address => Err(format!("the walk is of {}", w.address)),
        Some(_) => Ok(()),
        None => Err("no walk has started".into()),
    };
    match *words {
        ["walk_start", address, "load" | "store" | "fetch", "root", root] => {
            number(address)?;
            number(root)?;
            match open.replace(Walk { address: address.into(), level: None }) {
                None => Ok(()),
                Some(w) => Err(format!("the walk of {} has not ended", w.address)),
            }
        }
        ["walk_step", "level", level, _table, at, "=", entry] => {
            number(at.trim_start_matches('[').trim_end_matches(']'))?;
            number(entry)?;
            let level: u32 = level.parse().map_err(|e| format!("level {level:?}: {e}"))?;
            let w = open.as_mut().ok_or("no walk has started")?;
            if w.level.is_some_and(|before| level + 1 != before) {
                return Err(format!("level {level} after {:?}", w.level));
            }
            w.level = Some(level);
            Ok(())
        }
        ["walk_done", address, "->", to, "4K"] | ["walk_done", address, "->", to, "4K", "protected"] => {
            number(to)?;
            match open {
                Some(w) if w.level != Some(0) => Err(format!("done at level {:?}", w.level)),
                _ => ends(open, address),
            }
        }
        ["walk_fault", address, _name, code] => {
            number(code.trim_start_matches('(').trim_end_matches(')'))?;
            ends(open, address)
        }
        // What is no walk stands between walks.
        ["tlb_fill", page] => number(page),
        ["load_asce", asce] => number(asce),
        [_purge, ..] if open.is_none() => Ok(()),
        _ => Err("not an event".into()),
    }
}

fn well_formed(text: &str) -> usize {
    let mut open: HashMap<&str, Option<Walk>> = HashMap::new();
    let mut walks = 0;
    for (n, line) in text.lines().enumerate() {
        let words: Vec<&str> = line.split(' ').collect();
        let (cpu, rest) = words.split_first().expect("split gives a word");
        let number = cpu.strip_prefix("cpu").and_then(|c| c.parse::<u32>().ok());
        assert!(number.is_some_and(|c| c < 64), "line {}: no CPU: {line}", n + 1);
        walks += usize::from(rest.first() == Some(&"walk_start"));
        if let Err(e) = walk_line(rest, open.entry(cpu).or_default()) {
            panic!("line {}: {e}: {line}", n + 1);
        }
    }
    for (cpu, w) in open {
        assert!(w.is_none(), "the last walk of {cpu} has no end");
    }
    walks
}

fn trace(name: &str, options: &[&str], status: i32) -> String {
    let mut c = Command::new(racewalk());
    c.args(["trace", "--ptw", "-E", "LANG=C"]).args(options).arg(guest(name));
    run(&mut c, DEADLINE).expect(status).stderr
}

#[test]
fn walks_are_well_formed() {
    assert!(well_formed(&trace("hello", &["--cpus", "1"], 7)) > 20);
    assert!(well_formed(&trace("threads", &["--cpus", "4"], 5)) > 50);
    let file = paths::scratch("walks").join("walks.txt");
    let to = file.to_str().expect("a path in UTF-8");
    assert_eq!(trace("hello", &["-o", to], 7), "");
    assert!(well_formed(&std::fs::read_to_string(&file).expect("the walks")) > 20);
}

#[test]
fn walks_of_one_cpu_are_the_same_every_time() {
    let options = ["--cpus", "1", "--engine", "interp"];
    for (name, status) in [("hello", 7), ("heap", 0)] {
        let first = trace(name, &options, status);
        for _ in 0..3 {
            let again = trace(name, &options, status);
            let differs = first.lines().zip(again.lines()).position(|(a, b)| a != b);
            assert!(first == again, "{name}: two traces differ, first at line {differs:?}");
        }
    }
}

/// What could not be written is no success, and no panic.
#[test]
fn a_full_disk_is_told() {
    let full = || std::fs::File::options().write(true).open("/dev/full").expect("a device");
    let demo = Command::new(racewalk()).arg("demo").stdout(full()).output().expect("racewalk");
    let said = String::from_utf8_lossy(&demo.stderr);
    assert!(demo.status.code() == Some(125) && said.contains("write to standard output"), "{said}");
    let (hello, heap) = (hello(), guest("heap").to_str().expect("a path in UTF-8").to_string());
    for what in [&["run", "--stats"][..], &["run", "--strace"], &["trace", "--ptw"]] {
        // A status of the guest's own that is none of success stays.
        let r = racewalk_with(&[what, &["-o", "/dev/full", &hello]].concat()).expect(7);
        r.check(r.stderr.contains("error: failed to write /dev/full: No space left"), "what");
        racewalk_with(&[what, &["-o", "/dev/full", &heap]].concat()).expect(125);
    }
}

/// The last of a name counts; a name there must be.
#[test]
fn variables_of_the_guest() {
    let echo = guest("echo");
    let echo = echo.to_str().expect("a path in UTF-8");
    let r = racewalk_with(&["run", "-E", "FOO=1", "-E", "FOO=2", echo, "-e", "FOO"]).expect(0);
    r.check(r.text() == "2\n", "the last one");
    for wrong in ["", "=x"] {
        let r = racewalk_with(&["run", "-E", wrong, echo]).expect(2);
        r.check(r.stderr.contains("has no name; wanted NAME or NAME=VALUE"), "why");
    }
    let r = racewalk_with(&["run", "--mem", "4M", echo]).expect(2);
    r.check(r.stderr.contains("wanted a multiple of 1M, from 5M to 1024G"), "how much");
}

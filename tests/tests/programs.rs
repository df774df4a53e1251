//! Guest programs give the output and the exit status that qemu-s390x gives, on every number of CPUs and engine.

use racewalk_tests::run::run_with;
use racewalk_tests::{CPUS, ENGINES, Run, guest, quick, racewalk, run};
use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const DEADLINE: Duration = Duration::from_secs(60);

fn qemu(name: &str, args: &[&str]) -> Run {
    let r = run(Command::new("qemu-s390x").arg(guest(name)).args(args), DEADLINE);
    r.check(r.status.is_some(), "an exit status of qemu-s390x");
    r
}

fn on(cpus: &str, engine: &str, name: &str, args: &[&str]) -> Run {
    let mut c = Command::new(racewalk());
    c.args(["run", "--cpus", cpus, "--engine", engine]).arg(guest(name)).args(args);
    run(&mut c, DEADLINE)
}

/// Runs a guest everywhere and compares it with qemu-s390x.
fn same_everywhere(name: &str, args: &[&str], times: u32) -> Run {
    let wanted = qemu(name, args);
    let status = wanted.status.expect("checked");
    for cpus in CPUS {
        for engine in ENGINES {
            for _ in 0..times {
                let got = on(cpus, engine, name, args).expect(status);
                got.check(got.stdout == wanted.stdout, format!("the output of qemu-s390x:\n{wanted}"));
                got.check(got.stderr == wanted.stderr, format!("the errors of qemu-s390x:\n{wanted}"));
            }
        }
    }
    wanted
}

#[test]
fn hello() {
    // argv[0] is not printed, the arguments are.
    let r = same_everywhere("hello", &["one", "", "three words here", "--cpus"], 1);
    assert_eq!(r.status, Some(7));
    assert!(r.text().contains("4 arguments") && r.text().contains("  4: --cpus"), "{r}");
}

#[test]
fn heap() {
    assert_eq!(same_everywhere("heap", &[], 1).status, Some(0));
}

#[test]
fn threads() {
    let r = same_everywhere("threads", &[], if quick() { 1 } else { 4 });
    assert_eq!(r.status, Some(5));
    assert!(r.text().ends_with("right\n"), "{r}");
}

#[test]
fn demo() {
    let r = run(Command::new(racewalk()).arg("demo"), Duration::from_secs(10)).expect(0);
    let text = r.text();
    for wanted in ["every value was right", "wrong values 0", "lookups", "walks", "faults", "hosted mm"] {
        r.check(text.contains(wanted), format!("{wanted:?} on standard output"));
    }
    r.check(r.stderr.is_empty(), "nothing on standard error");
    for engine in ENGINES {
        run(Command::new(racewalk()).args(["demo", "--cpus", "2", "--engine", engine]), DEADLINE).expect(0);
    }
}

#[test]
fn run_is_the_default_verb() {
    let r = run(Command::new(racewalk()).arg(guest("hello")).args(["--version", "-x"]), DEADLINE).expect(7);
    r.check(r.text().contains("1: --version") && r.text().contains("2: -x"), "the guest's own arguments");
    let r = run(Command::new(racewalk()).args(["--cpus", "2"]).arg(guest("hello")), DEADLINE).expect(7);
    r.check(r.text().contains("0 arguments"), "an option before the program to be racewalk's");
}

#[test]
fn environment() {
    let printed = |options: &[&str], name: &str| {
        let mut c = Command::new(racewalk());
        c.env("RACEWALK_TEST_A", "from the host").arg("run").args(options);
        let r = run(c.arg(guest("echo")).args(["-e", name]), DEADLINE);
        (r.status, r.text())
    };
    let set = |s: &str| (Some(0), format!("{s}\n"));
    assert_eq!(printed(&[], "RACEWALK_TEST_A"), set("from the host"));
    assert_eq!(printed(&["-E", "B=2=3"], "B"), set("2=3"));
    assert_eq!(printed(&["-E", "B="], "B"), set(""));
    assert_eq!(printed(&["-E", "B=1", "-E", "RACEWALK_TEST_A"], "RACEWALK_TEST_A"), set("from the host"));
    // With any -E, nothing else is passed on.
    assert_eq!(printed(&["-E", "B=1"], "RACEWALK_TEST_A"), (Some(1), String::new()));
    assert_eq!(printed(&["-E", "RACEWALK_TEST_UNSET"], "RACEWALK_TEST_UNSET"), (Some(1), String::new()));
}

#[test]
fn standard_input_passes_through() {
    let mut input: Vec<u8> = (0..200_000u32).map(|i| (i.wrapping_mul(i) >> 5) as u8).collect();
    for engine in ENGINES {
        let mut c = Command::new(racewalk());
        let r = run_with(c.args(["run", "--engine", engine]).arg(guest("echo")), &input, DEADLINE).expect(0);
        assert!(r.stdout == input, "{} bytes went in; {} other bytes came out", input.len(), r.stdout.len());
    }
    input.clear();
    let r = run_with(Command::new(racewalk()).arg(guest("echo")), &input, DEADLINE).expect(0);
    r.check(r.stdout.is_empty(), "no output for no input");
}

#[test]
fn host_files_are_read() {
    let file = racewalk_tests::paths::root().join("guests/src/storm.c");
    let wanted = std::fs::read(&file).expect("the source of the storm guest");
    let read = |path: &Path| run(Command::new(racewalk()).arg(guest("echo")).arg(path), DEADLINE);
    let r = read(&file).expect(0);
    assert!(r.stdout == wanted, "{} bytes wanted\n{r}", wanted.len());
    let r = read(Path::new("no/such/file")).expect(2);
    assert_eq!(r.stderr, "echo: open no/such/file: No such file or directory\n");
    let r = read(Path::new("/")).expect(4);
    r.check(r.stdout.is_empty(), "nothing read from a directory");
}

#[test]
fn much_output() {
    let wanted = qemu("echo", &["-y", "300000"]);
    let got = on("1", "auto", "echo", &["-y", "300000"]).expect(0);
    assert!(got.stdout == wanted.stdout, "{} bytes wanted\n{got}", wanted.stdout.len());
}

#[test]
fn a_pipe_closed_early_is_sigpipe() {
    for engine in ENGINES {
        let mut c = Command::new(racewalk());
        c.args(["run", "--engine", engine]).arg(guest("echo")).args(["-y", "100000000"]);
        let mut child = c.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("start racewalk");
        let mut some = [0; 100];
        let mut out = child.stdout.take().expect("a pipe");
        out.read_exact(&mut some).expect("the first output");
        assert!(some.starts_with(b"line 0\nline 1\n"), "{}", String::from_utf8_lossy(&some));
        drop(out);
        let started = Instant::now();
        let status = loop {
            if let Some(s) = child.try_wait().expect("wait for racewalk") {
                break s;
            }
            if started.elapsed() > DEADLINE {
                child.kill().expect("kill racewalk");
                panic!("racewalk run --engine {engine} echo -y: still running after its output was closed");
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        assert_eq!(status.code(), Some(128 + 13), "engine {engine}");
        let mut said = String::new();
        child.stderr.take().expect("a pipe").read_to_string(&mut said).expect("standard error");
        assert!(said.contains("SIGPIPE") && said.lines().count() == 1, "{said}");
    }
}

/// What others send to racewalk is the guest's: its handler runs, or the signal ends it, and its counters are printed.
#[test]
fn signals_from_outside_are_the_guests() {
    use nix::sys::signal::{Signal, kill};
    let run = |ignored: bool, how: &str, sent: &[Signal]| {
        let mut c = Command::new(if ignored { "nohup".into() } else { racewalk() });
        c.args(ignored.then(racewalk));
        c.args(["run", "--stats"]).arg(guest("echo")).arg(how);
        c.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = c.spawn().expect("start racewalk");
        let mut out = std::io::BufReader::new(child.stdout.take().expect("a pipe"));
        let mut said = String::new();
        match how {
            "-s" => drop(std::io::BufRead::read_line(&mut out, &mut said).expect("a line")),
            _ => std::thread::sleep(Duration::from_millis(500)),
        }
        for s in sent {
            kill(nix::unistd::Pid::from_raw(child.id() as i32), *s).expect("it runs");
            std::thread::sleep(Duration::from_millis(50));
        }
        let started = Instant::now();
        while child.try_wait().expect("wait").is_none() && started.elapsed() < DEADLINE {
            std::thread::sleep(Duration::from_millis(5));
        }
        let _ = child.kill();
        out.read_to_string(&mut said).expect("standard output");
        let end = child.wait_with_output().expect("it has ended");
        let errors = String::from_utf8_lossy(&end.stderr).into_owned();
        assert!(errors.contains(" instructions in "), "counters of {how} {sent:?}: {errors}");
        (said, end.status.code(), errors)
    };
    let (said, status, _) = run(false, "-s", &[Signal::SIGTERM]);
    assert_eq!((&*said, status), ("waiting\nsignal 15, code 0\n", Some(5)));
    let (said, status, _) = run(true, "-s", &[Signal::SIGHUP, Signal::SIGTERM]);
    assert_eq!((&*said, status), ("waiting\nsignal 15, code 0\n", Some(5)), "SIGHUP is ignored under nohup");
    // Not SIGINT, which shells let programs in the background ignore.
    let (_, status, errors) = run(false, "-c", &[Signal::SIGTERM]);
    assert!(
        status == Some(143) && errors.contains("killed by SIGTERM: sent from outside"),
        "{status:?} {errors}"
    );
}

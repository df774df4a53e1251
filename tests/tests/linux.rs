//! What Linux gives a program: signals, files, mappings of files, position-independent executables. Programs that
//! test themselves print the same and leave the same files as under qemu-s390x, except where qemu-s390x is wrong.

use racewalk_tests::paths::scratch;
use racewalk_tests::{CPUS, ENGINES, Run, guest, racewalk, run};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

const DEADLINE: Duration = Duration::from_secs(60);

fn qemu(name: &str, args: &[&str]) -> Run {
    let r = run(Command::new("qemu-s390x").arg(guest(name)).args(args), DEADLINE);
    r.check(r.status.is_some(), "an exit status of qemu-s390x");
    r
}

fn on(options: &[&str], name: &str, args: &[&str]) -> Run {
    run(Command::new(racewalk()).arg("run").args(options).arg(guest(name)).args(args), DEADLINE)
}

/// Runs a guest on every engine and number of CPUs; `mend` puts right what qemu-s390x does not do as Linux.
fn same(name: &str, args: &[&str], mend: impl Fn(String) -> String) -> Run {
    let wanted = qemu(name, args);
    let text = mend(wanted.text());
    for engine in ENGINES {
        for cpus in CPUS {
            let got = on(&["--engine", engine, "--cpus", cpus], name, args);
            got.check(
                got.status == wanted.status && got.text() == text,
                format!("the status of\n{wanted}\nand\n{text}"),
            );
            got.check(got.stderr.is_empty(), "no message");
        }
    }
    wanted
}

#[test]
fn signals() {
    for part in ["registers", "plain", "masks", "altstack", "threads", "ignored"] {
        same("signals", &[part], |t| t);
    }
}

/// Real time: on a busy machine a timer may fire twice where once is usual, under either emulator. Once in a few
/// attempts all must agree.
#[test]
fn timers() {
    let attempt = || std::panic::catch_unwind(|| same("signals", &["timers"], |t| t)).is_ok();
    if !(0..4).any(|_| attempt()) {
        same("signals", &["timers"], |t| t);
    }
}

#[test]
fn codes_and_addresses_of_faults() {
    same("signals", &["faults"], |t| {
        // qemu-s390x has no address for SIGBUS, and no code for privileged instructions.
        t.lines()
            .map(|l| match l {
                l if l.contains("Bus error") => {
                    "  Bus error code 2 signo 7 addr +4096 cc/mask 7050001\n".into()
                }
                l => format!("{l}\n"),
            })
            .collect::<String>()
            .replace(
                "privileged instruction\n  Illegal instruction code 1",
                "privileged instruction\n  Illegal instruction code 5",
            )
    });
}

#[test]
fn waits() {
    assert_eq!(same("waits", &[], |t| t).status, Some(0));
}

/// Against text: qemu-s390x leaves robust mutexes of a thread that ends as they are.
#[test]
fn robust_mutexes() {
    let wanted = "\
waiter: Owner died
0: free, then Success
1: Owner died, consistent 0, then Success
2: free, then Success
3: Owner died, then State not recoverable
4: Owner died, consistent 0, then Success
";
    for engine in ENGINES {
        for cpus in CPUS {
            let got = on(&["--engine", engine, "--cpus", cpus], "robust", &[]);
            got.check(got.status == Some(0) && got.text() == wanted, format!("status 0 and\n{wanted}"));
        }
    }
}

#[test]
fn position_independent() {
    assert_eq!(same("pie", &[], |t| t).status, Some(6));
}

/// The files of a directory.
fn contents(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    std::fs::read_dir(dir)
        .expect("a directory")
        .map(|e| e.expect("an entry"))
        .map(|e| (e.file_name().to_string_lossy().into_owned(), std::fs::read(e.path()).expect("a file")))
        .collect()
}

/// Runs a guest in an empty directory under qemu-s390x and everywhere else.
fn same_files(name: &str, mend: impl Fn(String) -> String) {
    let dir = scratch(name);
    let path = dir.to_str().expect("a path of text");
    let wanted = qemu(name, &[path]);
    let (text, files) = (mend(wanted.text()), contents(&dir));
    for engine in ENGINES {
        for cpus in CPUS {
            scratch(name);
            let got = on(&["--engine", engine, "--cpus", cpus], name, &[path]);
            got.check(
                got.status == wanted.status && got.text() == text,
                format!("the status of\n{wanted}\nand\n{text}"),
            );
            got.check(got.stderr.is_empty(), "no message");
            got.check(contents(&dir) == files, "the files that qemu-s390x leaves");
        }
    }
}

#[test]
fn files() {
    // qemu-s390x does not show the heap in its maps.
    same_files("files", |t| t.replace("stack 1 heap 0", "stack 1 heap 1"));
}

#[test]
fn shared_mappings() {
    same_files("shared", |t| t);
}

/// Against text: qemu-s390x takes memory for all or nothing. The text is what the program prints when it is built for
/// x86-64, but for sizes that are negative: s390x has no `access_ok`, which would say EFAULT.
#[test]
fn memory_that_ends_too_early() {
    let wanted = include_str!("linux/buffers.txt");
    for engine in ENGINES {
        for cpus in CPUS {
            let dir = scratch("buffers");
            let dir = dir.to_str().expect("a path of text");
            let got = on(&["--engine", engine, "--cpus", cpus], "buffers", &[dir]);
            got.check(got.status == Some(0) && got.text() == wanted, format!("status 0 and\n{wanted}"));
            got.check(got.stderr.is_empty(), "no message");
        }
    }
}

#[test]
fn status_flags_that_are_not_modelled_are_named() {
    let dir = scratch("flags");
    let r = on(&[], "buffers", &[dir.to_str().expect("a path of text"), "unmodelled"]).expect(0);
    r.check(r.text().matches("-1 EINVAL").count() == 2 && r.text().ends_with("= 0\n"), "no flag that is set");
    for flag in ["O_DIRECT", "O_ASYNC"] {
        let warning = format!("not modelled: fcntl(F_SETFL) of {flag}");
        r.check(r.stderr.contains(&warning), warning);
    }
}

#[test]
fn calls_are_printed_with_their_arguments() {
    let dir = scratch("strace");
    let r = on(&["--strace"], "files", &[dir.to_str().expect("a path of text")]);
    for call in [
        "mkdir(\"d\", 0777) = 0",
        "mkdir(\"d\", 0777) = -1 EEXIST",
        "openat(AT_FDCWD, \"d/f\", 0xc2, 0666) = 3",
        "write(3, \"hello, world\", 12) = 12",
        "exit_group(9)",
    ] {
        r.check(r.stderr.contains(call), call);
    }
}

/// Not compared with qemu-s390x, which delivers no results with these exceptions and lacks PLO.
#[test]
fn exceptions_after_completion() {
    let wanted = "\
masked                 signal 0 code 0 length 0 cc 0 dxc 00 result 000000000000ae06
fixed-point overflow   signal 8 code 2 length 2 cc 3 dxc 00 result 0000000080000000
no overflow            signal 0 code 0 length 0 cc 0 dxc 00 result 000000007ffffff1
all masked             signal 0 code 0 length 0 cc 0 dxc 00 result 40b1850000000000
overflow               signal 8 code 4 length 4 cc 0 dxc 20 result 5cf8000000000000
underflow              signal 8 code 5 length 4 cc 0 dxc 10 result 22f8000000000000
inexact                signal 8 code 6 length 4 cc 0 dxc 0c result 3fd3333333333334
exact                  signal 0 code 0 length 0 cc 0 dxc 00 result 3ff8000000000000
invalid                signal 8 code 7 length 4 cc 0 dxc 80 result 0000000000000000
rounded overflow       signal 8 code 4 length 4 cc 0 dxc 28 result 7838000000000000
feenableexcept         signal 8 code 6 length 4 cc 0 dxc 08 result 3fd5555555555555
link 0
plo 80000 240000 csst 80000 1
";
    for engine in ENGINES {
        for cpus in CPUS {
            let got = on(&["--engine", engine, "--cpus", cpus], "traps", &[]);
            got.check(got.status == Some(0) && got.text() == wanted, format!("status 0 and\n{wanted}"));
        }
    }
}

//! A guest that does something fatal exits with 128+n, and one line says where, by which instruction, in which
//! mapping.

use racewalk_tests::{ENGINES, guest, racewalk, run};
use std::process::Command;
use std::time::Duration;

const DEADLINE: Duration = Duration::from_secs(60);

/// How the guest dies, the status, the signal, and what the line must contain: address, instruction, mapping.
const CASES: [(&str, i32, &str, &[&str]); 8] = [
    ("null", 139, "SIGSEGV", &["store at 0x0 ", "mvhi 0,", "nothing is mapped"]),
    ("read-null", 139, "SIGSEGV", &["load at 0x8 ", "l %r", "nothing is mapped"]),
    ("write-readonly", 139, "SIGSEGV", &["store at 0x10", "mvi ", "read-only", "r-xp"]),
    ("stack", 139, "SIGSEGV", &["store at 0x3ff", "(%r15)", "stack would exceed its limit", "[stack]"]),
    ("exec-data", 139, "SIGSEGV", &["fetch at 0x10", "by br %r14 [07fe]", "rw-p"]),
    ("illegal", 132, "SIGILL", &["illegal instruction", "[0000]", "r-xp"]),
    ("divide", 136, "SIGFPE", &["by ds", "r-xp"]),
    ("abort", 134, "SIGABRT", &["sent by the program", "r-xp"]),
];

#[test]
fn deaths_are_explained() {
    for (how, status, signal, wanted) in CASES {
        let native = run(Command::new("qemu-s390x").arg(guest("crash")).arg(how), DEADLINE).expect(status);
        for engine in ENGINES {
            let mut c = Command::new(racewalk());
            c.args(["run", "--engine", engine]).arg(guest("crash")).arg(how);
            let r = run(&mut c, DEADLINE).expect(status);
            r.check(r.stdout == native.stdout, "the output of qemu-s390x");
            r.check(r.stderr.lines().count() == 1, "exactly one line on standard error");
            r.check(r.stderr.contains(signal), signal);
            for w in wanted {
                r.check(r.stderr.contains(w), format!("{w:?} in the message"));
            }
            // The instruction: its text, its bytes in brackets, and where it is.
            let instruction = r.stderr.contains(" by ") && r.stderr.contains("] at 0x");
            r.check(instruction, "the instruction and its address");
        }
    }
}

#[test]
fn a_guest_that_does_not_die() {
    run(Command::new(racewalk()).arg(guest("crash")), DEADLINE).expect(2);
}

//! Four threads that map, touch, protect and unmap neighbouring ranges while four others read them: no wrong value,
//! no hang, and every task gets a CPU. `cargo xtask storm` and `cargo xtask acceptance` run many more.

use racewalk_tests::{CPUS, ENGINES, guest, quick, racewalk, run};
use std::process::Command;
use std::time::Duration;

#[test]
fn storms() {
    for cpus in CPUS {
        for engine in ENGINES {
            // `check` runs everything twice.
            let times = if quick() || engine == "check" { 1 } else { 3 };
            for _ in 0..times {
                let mut c = Command::new(racewalk());
                c.args(["run", "--cpus", cpus, "--engine", engine]).arg(guest("storm")).arg("500");
                let r = run(&mut c, Duration::from_secs(60)).expect(0);
                r.check(r.text() == "right\n", "right");
            }
        }
    }
}

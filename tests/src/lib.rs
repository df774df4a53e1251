//! Helpers shared by the whole-program tests and by `cargo xtask`: where things are, guest programs, and running
//! programs with a deadline.
#![forbid(unsafe_code)]

pub mod differential;
pub mod guests;
pub mod paths;
pub mod run;

pub use paths::{guest, racewalk};
pub use run::{Run, run};

/// The numbers of CPUs that whole programs run on.
pub const CPUS: [&str; 3] = ["1", "2", "4"];

/// Every engine.
pub const ENGINES: [&str; 4] = ["interp", "jit", "auto", "check"];

/// Whether `cargo xtask test --quick` runs the tests: fewer repetitions, the same cases.
pub fn quick() -> bool {
    std::env::var_os(QUICK).is_some()
}

/// The environment variable behind [`quick`].
pub const QUICK: &str = "RACEWALK_TEST_QUICK";

//! Project tasks: `cargo xtask --help`.
#![forbid(unsafe_code)]

mod acceptance;
mod bare;
mod bench;
mod fuzz;
mod guests;
mod install;
mod recordings;
mod test;
mod torture;

use anyhow::Context;
use clap::{Parser, Subcommand};
use std::path::PathBuf;
use std::process::{Command, ExitCode};

/// Project tasks of racewalk.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Install with apt what building and testing guests needs, if it is missing.
    Install,
    /// Build every guest program into target/guests, and compare the freestanding ones with guests/bin.
    Guests(guests::Args),
    /// The test command: install, guests, fmt, clippy, build, all tests. Stops at the first failure.
    Test(test::Args),
    /// Run the storm guest on every number of CPUs and engine, many times, and print a table.
    Storm(acceptance::StormArgs),
    /// The long campaign: threads, storms and, given a suite, the compute benchmark; prints a table.
    Acceptance(acceptance::Args),
    /// Run gcc's c-torture/execute tests and compare with qemu-s390x.
    Torture(torture::Args),
    /// Compare the walkers with another machine's MMU: a bare-metal guest makes generated accesses under qemu-system.
    BareMetal(bare::Args),
    /// Compare CPU time with qemu-s390x on a benchmark suite, runs alternating.
    Bench(bench::Args),
    /// Compare what recorded and unrecorded runs cost on a benchmark suite; prints a table.
    Recordings(recordings::Args),
    /// Run random instruction sequences on two machines; exit status 1 if they differ and nobody judged it.
    FuzzIsa(fuzz::Args),
}

/// Where things are; found once at the start, for a build may replace this executable.
struct Dirs {
    root: PathBuf,
    guests: PathBuf,
    racewalk: PathBuf,
}

/// A step of a task that ended with a status of its own, which becomes ours.
#[derive(Debug)]
struct Failed {
    what: String,
    code: u8,
}

impl std::fmt::Display for Failed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} (exit status {})", self.what, self.code)
    }
}

impl std::error::Error for Failed {}

/// Runs a command; an exit status other than 0 is an error that carries it.
fn succeed(c: &mut Command, what: &str) -> anyhow::Result<()> {
    let s = c.status().with_context(|| format!("start {}", c.get_program().display()))?;
    if s.success() {
        return Ok(());
    }
    let code = s.code().and_then(|c| u8::try_from(c).ok()).unwrap_or(1);
    Err(Failed { what: what.into(), code }.into())
}

/// Cargo in the project's root.
fn cargo(d: &Dirs, args: &[&str]) -> Command {
    let mut c = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    c.args(args).current_dir(&d.root);
    c
}

fn perform(task: &Task) -> anyhow::Result<()> {
    let d = Dirs {
        root: racewalk_tests::paths::root(),
        guests: racewalk_tests::paths::guest_dir()?,
        racewalk: racewalk_tests::paths::profile_dir()?.join("racewalk"),
    };
    match task {
        Task::Install => install::install(),
        Task::Guests(a) => guests::guests(&d, a),
        Task::Test(a) => test::test(&d, a),
        Task::Storm(a) => acceptance::storm(&d, a),
        Task::Acceptance(a) => acceptance::acceptance(&d, a),
        Task::Torture(a) => torture::torture(&d, a),
        Task::BareMetal(a) => bare::bare(&d, a),
        Task::Bench(a) => bench::bench(&d, a),
        Task::Recordings(a) => recordings::recordings(&d, a),
        Task::FuzzIsa(a) => fuzz::fuzz(&d, a),
    }
}

fn main() -> ExitCode {
    let Err(e) = perform(&Cli::parse().task) else { return ExitCode::SUCCESS };
    eprintln!("error: failed: {e}");
    for cause in e.chain().skip(1) {
        eprintln!("  because: {cause}");
    }
    ExitCode::from(e.downcast_ref::<Failed>().map_or(1, |f| f.code))
}

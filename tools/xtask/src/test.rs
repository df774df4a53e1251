//! `cargo xtask test`: the test command.

use crate::{Dirs, cargo, guests, install, succeed, torture};
use std::time::Instant;

/// `cargo xtask test`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Fewer repetitions of the same cases.
    #[arg(long)]
    pub quick: bool,
}

/// Runs every step; stops at the first that fails. All of it is built in release, so that one build serves.
pub fn test(d: &Dirs, a: &Args) -> anyhow::Result<()> {
    let started = Instant::now();
    install::install()?;
    guests::guests(d, &guests::Args { update: false })?;
    let steps: [(&str, &[&str]); 4] = [
        ("the formatting differs; type: cargo fmt --all", &["fmt", "--all", "--check"]),
        (
            "clippy complains",
            &["clippy", "--workspace", "--all-targets", "--release", "--", "-D", "warnings"],
        ),
        ("the build failed", &["build", "--release", "--workspace"]),
        ("tests failed", &["test", "--workspace", "--release"]),
    ];
    for (failure, args) in steps {
        let step = Instant::now();
        println!("xtask: cargo {}", args.join(" "));
        let mut c = cargo(d, args);
        if a.quick {
            c.env(racewalk_tests::QUICK, "1");
        }
        succeed(&mut c, failure)?;
        println!("xtask: cargo {} took {:.0} s", args[0], step.elapsed().as_secs_f64());
    }
    torture::torture(d, &torture::Args::quarter())?;
    println!("xtask: all tests passed in {:.0} s", started.elapsed().as_secs_f64());
    Ok(())
}

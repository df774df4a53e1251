//! The racewalk command.
#![forbid(unsafe_code)]

#[macro_use]
mod talk;

mod cli;
mod cost;
mod demo;
pub mod exit;
mod finding;
mod matrix;
mod mutants;
mod new_scheme;
mod progress;
mod race;
mod random;
mod record;
mod recorded;
mod replay;
mod report;
mod run;
mod signals;
mod soak;
mod tape;
mod trace;
mod walk;

use clap::Parser;
use nix::sys::signal::{SigSet, Signal};
use std::process::ExitCode;

fn main() -> ExitCode {
    // Where a file may not grow any more, writing to it is an error, not the end of racewalk. Threads inherit this.
    let mut too_large = SigSet::empty();
    too_large.add(Signal::SIGXFSZ);
    let _ = too_large.thread_block();
    let cli = match cli::Cli::try_parse_from(cli::with_default_verb(std::env::args_os())) {
        Ok(c) => c,
        Err(e) => {
            let usage = e.use_stderr();
            // A closed pipe is no reason to fail.
            let _ = e.print();
            return ExitCode::from(if usage { exit::USAGE } else { 0 });
        }
    };
    let result = match cli.verb {
        cli::Verb::Run(r) => run::run(&r.machine, &r.program, false),
        cli::Verb::Trace(t) => match (&t.verb, &t.machine.output) {
            (Some(v), _) => trace::trace(v),
            (None, Some(path)) if !t.ptw => record::record(&t, path),
            (None, None) if !t.ptw => {
                eprintln!(
                    "error: trace has nowhere to write to\nhint: `racewalk trace -o FILE PROGRAM` records, `racewalk trace --ptw PROGRAM` prints walks"
                );
                Ok(exit::USAGE)
            }
            (None, _) => run::run(&t.machine, &t.program, true),
        },
        cli::Verb::Demo(d) => demo::demo(&d),
        cli::Verb::Walk(w) => walk::walk(&w),
        cli::Verb::Race(r) => race::race(&r),
        cli::Verb::Replay(r) => replay::replay(&r),
        cli::Verb::Explain(e) => race::explain(&e),
        cli::Verb::Cost(c) => cost::cost(&c),
        cli::Verb::NewScheme(n) => new_scheme::new_scheme(&n),
    };
    match result {
        Ok(code) => ExitCode::from(code),
        Err(e) => {
            talk::complain(&e);
            ExitCode::from(exit::of(&e))
        }
    }
}

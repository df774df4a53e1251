//! A whole Linux program under a controlled schedule: the guest's threads, the hosted mm, the walkers and RCU.

use racewalk_engine::cache::Mode;
use racewalk_linux::system::{Ending, Options, System, Talk};
use racewalk_mm::Scheme;
use racewalk_sched::controlled::{Config, Outcome, Policy, Random, Replay, RoundRobin};
use racewalk_walk::tlb::config::TlbConfig;
use std::path::Path;
use std::sync::Arc;

struct Quiet;

impl Talk for Quiet {
    fn call(&self, _: u32, _: &str) {}
    fn wants_calls(&self) -> bool {
        false
    }
    fn warn(&self, line: &str) {
        panic!("no warning is due: {line}")
    }
}

/// Runs a guest; returns the schedule, the instructions and the counters of the mm.
fn run(args: &[&str], mode: Mode, policy: &mut dyn Policy) -> (Outcome, u64, Vec<(&'static str, u64)>) {
    run_with(args, mode, policy, Config::default())
}

fn run_with(
    args: &[&str],
    mode: Mode,
    policy: &mut dyn Policy,
    mut config: Config,
) -> (Outcome, u64, Vec<(&'static str, u64)>) {
    let options = Options {
        program: Path::new(env!("CARGO_MANIFEST_DIR")).join("../../guests/bin/s390x").join(args[0]),
        args: args.iter().map(Into::into).collect(),
        env: Vec::new(),
        cpus: 2,
        memory: 64 << 20,
        mode,
        scheme: Scheme::default().into(),
        sanitize: true,
        measure: false,
        speculate: true,
        tlb: TlbConfig::infinite(),
        code_bytes: 4 << 20,
        observer: Default::default(),
        tape: Default::default(),
        known_as: None,
    };
    let (sys, first) = System::start(&options, Arc::new(Quiet)).unwrap();
    config.max_points = 100_000_000;
    config.stack = 1 << 20;
    let (ending, outcome) = sys.run_controlled(first, config, policy);
    assert_eq!(ending, Ending::Exited(0));
    assert!(!sys.kernel.has_findings(), "{:?}", sys.kernel.take_findings());
    let instructions = sys.instructions.load(std::sync::atomic::Ordering::SeqCst);
    (outcome, instructions, sys.kernel.stats().list())
}

/// Under random schedules, and each again on another engine.
fn repeats(args: &[&str]) {
    for seed in [1, 2] {
        let first = run(args, Mode::Interp, &mut Random::new(seed));
        let mut replay = Replay::new(first.0.schedule.clone(), RoundRobin::default());
        let again = run(args, Mode::Auto, &mut replay);
        assert_eq!(replay.diverged, 0, "seed {seed}");
        assert!(first == again, "seed {seed}: {} and {} points", first.0.points, again.0.points);
    }
}

/// The guest checks its own values; the same seed gives the same run, and its schedule gives it again on another
/// engine.
#[test]
fn a_program_runs_under_a_schedule_and_again() {
    repeats(&["demo"]);
}

/// Pipes, eventfd, epoll, poll, timers and futexes: who waits, and for how long, is the schedule's business. The guest
/// sleeps for hours and measures it, which takes none of the host's time.
#[test]
fn waits_and_time_are_part_of_the_schedule() {
    repeats(&["waits", "long"]);
}

/// A guest computes for longer than what counts as a livelock, which a window a twenty-fifth of the usual one shows with a
/// short guest. Seen to fail when quanta are not said to be progress.
#[test]
fn a_guest_that_computes_is_no_livelock() {
    let mut config = Config::default();
    config.livelock = 800;
    let (outcome, ..) = run_with(&["demo"], Mode::Interp, &mut RoundRobin::default(), config);
    assert!(outcome.points > 500_000, "{} points", outcome.points);
}

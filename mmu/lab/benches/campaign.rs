//! What a campaign costs on one core, sanitizer on: `cargo bench -p racewalk-lab`. A reset is a run that ends at its first
//! scheduling point: the machine put back to where the race begins, its tasks made, and all given back. Words after `--` choose
//! rows: `-- f-01 ppc` gives those whose scenario and scheme, as printed, have them all; `-- runs=1000` makes so many runs
//! instead of measuring for a time, as a tool that counts instructions needs.

use racewalk_lab::library;
use racewalk_lab::machine::Machine;
use racewalk_lab::scenario::Scenario;
use racewalk_lab::target::{RunOptions, Target};
use racewalk_sched::controlled::PolicySpec;
use std::time::{Duration, Instant};

/// How often each number is measured; the median and the best are printed, since others may use the machine.
const TIMES: usize = 7;
/// For how long.
const TIME: Duration = Duration::from_millis(400);

/// Seconds that this thread has run, where the host tells; else since `start`. Others may use the core, too.
fn seconds(start: Instant) -> f64 {
    let told = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let ns = told.and_then(|t| t.split(' ').next()?.parse::<u64>().ok());
    ns.map_or_else(|| start.elapsed().as_secs_f64(), |ns| ns as f64 / 1e9)
}

/// What one measurement of runs with random schedules gave.
struct Rates {
    points: f64,
    schedules: f64,
}

/// Measures [`TIMES`] times, sorted by speed.
fn runs(scenario: &Scenario, scheme: &str, options: &RunOptions, limit: Option<u64>) -> Vec<Rates> {
    let mut policies = PolicySpec::Random.runs(1);
    let mut runner = Machine.prepare(scenario, scheme, options).expect("a scheme of the catalogue");
    let mut all: Vec<Rates> = Vec::new();
    for _ in 0..if limit.is_some() { 1 } else { TIMES } {
        let (mut n, mut points, start) = (0, 0, Instant::now());
        let before = seconds(start);
        while limit.map_or(start.elapsed() < TIME, |l| n < l)
            && let Some(policy) = policies.policy()
        {
            let r = runner.run(policy).expect("a scenario of the library");
            (n, points) = (n + 1, points + r.outcome.points);
        }
        let took = seconds(start) - before;
        all.push(Rates { points: points as f64 / took, schedules: n as f64 / took });
    }
    all.sort_by(|a, b| a.schedules.total_cmp(&b.schedules));
    all
}

fn main() {
    let mut options = RunOptions::default();
    options.states = false;
    let mut at_once = options.clone();
    at_once.max_points = 1;
    let words: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with("--")).collect();
    let limit = words.iter().find_map(|w| w.strip_prefix("runs=")?.parse().ok());
    println!(
        "{:9} {:18} {:6} {:>10} {:>12} {:>9}",
        "scenario", "scheme", "of 7", "M points/s", "schedules/s", "reset us"
    );
    for (name, scheme) in
        [("f-01", "s390-66"), ("f-04", "s390-61"), ("f-24", "s390-v2-maskfixed"), ("f-01", "ppc-v2")]
    {
        if !words.iter().all(|w| w.contains('=') || name.contains(w.as_str()) || scheme.contains(w.as_str()))
        {
            continue;
        }
        let scenario = library::scenario(name).expect("of the library").expect("it parses");
        let all = runs(&scenario, scheme, &options, limit);
        let resets = runs(&scenario, scheme, &at_once, limit);
        for (what, i) in [("median", all.len() / 2), ("best", all.len() - 1)] {
            println!(
                "{name:9} {scheme:18} {what:6} {:10.2} {:12.0} {:9.1}",
                all[i].points / 1e6,
                all[i].schedules,
                1e6 / resets[i].schedules
            );
        }
    }
}

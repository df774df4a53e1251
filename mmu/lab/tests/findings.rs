//! Findings are shrunk to what cannot be left out, and repeat byte for byte.

use racewalk_lab::columns::Columns;
use racewalk_lab::finding::Finding;
use racewalk_lab::library;
use racewalk_lab::machine::Machine;
use racewalk_lab::scenario::Geometry;
use racewalk_lab::target::{RunOptions, Target};
use racewalk_sched::controlled::{PolicySpec, Replay, Stay};
use racewalk_sched::shrink::without;

fn find(name: &str, scheme: &str, geometry: Geometry) -> Finding {
    let scenario = library::scenario(name).unwrap().unwrap();
    let mut options = RunOptions::default();
    options.geometry = Some(geometry);
    let mut runner = Machine.prepare(&scenario, scheme, &options).unwrap();
    let mut runs = "pct:3".parse::<PolicySpec>().unwrap().runs(7);
    for _ in 0..60_000 {
        let p = runs.policy().unwrap();
        let r = runner.run(p).unwrap();
        runs.ran(&r.outcome);
        if let Some(f) = r.findings.first() {
            let (schedule, rule) = (r.outcome.schedule.clone(), f.rule);
            return Finding { scenario, scheme: scheme.into(), geometry, schedule, rule };
        }
    }
    panic!("{name} under {scheme}: nothing was found");
}

const FOUND: [(&str, &str, Geometry); 5] = [
    ("f-01", "ppc-v1", Geometry::Ppc64Radix64k),
    ("f-04", "s390-pre", Geometry::S390x2k),
    ("f-08-half", "s390-gerald-final", Geometry::S390x2k),
    ("f-25", "s390-v2-mmlock", Geometry::S390x2k),
    ("f-26", "s390-hhtail", Geometry::S390x2k),
];

/// Seen to fail with the minimiser's answer replaced by what it was given.
#[test]
fn shrunk_findings_are_minimal() {
    for (name, scheme, geometry) in FOUND {
        let f = find(name, scheme, geometry).shrink(&Machine).unwrap();
        let mut options = RunOptions::default();
        options.geometry = Some(geometry);
        let broken =
            |r: &racewalk_lab::target::RunResult| r.findings.first().is_some_and(|x| x.rule == f.rule);
        let again =
            Machine.run(&f.scenario, scheme, &mut Replay::new(f.schedule.clone(), Stay), &options).unwrap();
        assert!(broken(&again), "{name}: the shrunk finding is none");
        for n in 0..again.outcome.preemptions.len() {
            let s = without(&again.outcome, n);
            let r = Machine.run(&f.scenario, scheme, &mut Replay::new(s, Stay), &options).unwrap();
            assert!(
                !broken(&r) || r.outcome.preemptions.len() >= again.outcome.preemptions.len(),
                "{name}: preemption {n} of {} is not needed",
                again.outcome.preemptions.len()
            );
        }
        for part in f.scenario.removable() {
            let Some(s) = f.scenario.without(part) else { continue };
            let mut runner = Machine.prepare(&s, scheme, &options).unwrap();
            let mut runs = "pct:3".parse::<PolicySpec>().unwrap().runs(1);
            for _ in 0..200 {
                let r = runner.run(runs.policy().unwrap()).unwrap();
                assert!(!broken(&r), "{name}: {part:?} is not needed");
            }
        }
    }
}

/// `RACEWALK_REPLAYS` repeats of each (the test command: a dozen), and through a file.
#[test]
fn findings_repeat_byte_for_byte() {
    let times = std::env::var("RACEWALK_REPLAYS").ok().and_then(|n| n.parse().ok()).unwrap_or(12);
    for (name, scheme, geometry) in FOUND {
        let f = find(name, scheme, geometry);
        let tell = |f: &Finding| {
            let r = f.repeat(&Machine).unwrap();
            Columns::of(&r.events).text() + &r.findings[0].text
        };
        let first = tell(&f);
        let file = f.to_file(7, &first).unwrap();
        for _ in 0..times {
            assert_eq!(tell(&Finding::from_file(&file).unwrap()), first, "{name}");
        }
    }
}

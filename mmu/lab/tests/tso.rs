//! Total store order: what is sound stays silent, and a barrier that is left out shows where stores wait, and only there.
//! `RACEWALK_CELL_SCHEDULES` is the number of schedules for a silent cell.

use racewalk_lab::finding::Finding;
use racewalk_lab::library;
use racewalk_lab::machine::{Machine, geometries};
use racewalk_lab::matrix::Expectation;
use racewalk_lab::scenario::{Geometry, Memory, Scenario};
use racewalk_lab::target::{RunOptions, RunResult, Target};
use racewalk_mm::{Scheme, Variant};
use racewalk_sched::controlled::PolicySpec;

/// Runs under as many schedules, to the first that shows something; how many stores left buffers by themselves.
fn runs(
    s: &Scenario,
    scheme: &str,
    geometry: Geometry,
    policy: &str,
    schedules: u64,
) -> (Option<(u64, RunResult)>, u64) {
    let mut options = RunOptions::default();
    options.geometry = Some(geometry);
    options.states = false;
    let mut runs = policy.parse::<PolicySpec>().unwrap().runs(1);
    let mut drains = 0;
    for n in 0..schedules {
        let r = Machine.run(s, scheme, runs.policy().unwrap(), &options).unwrap();
        runs.ran(&r.outcome);
        drains += r.outcome.labels.iter().find(|l| l.0 == "tso.drain").map_or(0, |l| l.1);
        if !r.findings.is_empty() {
            return (Some((n, r)), drains);
        }
    }
    (None, drains)
}

/// Seen to fail with a flush that began before its barrier (16).
#[test]
fn silent_cells_stay_silent() {
    let n = std::env::var("RACEWALK_CELL_SCHEDULES").ok().and_then(|n| n.parse().ok()).unwrap_or(40);
    let matrix = library::matrix().unwrap();
    let (mut cells, mut drains) = (0, 0);
    for s in library::scenarios().unwrap() {
        let s = Scenario { memory: Memory::Tso, ..s };
        for scheme in Scheme::catalogue().filter(|x| x.available()) {
            if !matches!(matrix.cell(&s.name, scheme.name()), Some(Expectation::Silent)) {
                continue;
            }
            for g in geometries(scheme).into_iter().filter(|g| s.geometries.contains(g)) {
                cells += 1;
                // Under PCT stores wait long, under random choice some leave at every step.
                for policy in ["pct:3", "random"] {
                    let (found, drained) = runs(&s, scheme.name(), g, policy, n);
                    drains += drained;
                    let found = found.map(|(_, r)| format!("{}\n{}", r.outcome.schedule, r.findings[0].text));
                    assert_eq!(found, None, "{} under {scheme} on {}", s.name, g.word());
                }
            }
        }
    }
    assert!(cells >= 100 && drains >= 10_000, "{cells} cells, {drains} drains");
}

fn first(s: &Scenario, scheme: &str) -> Option<(u64, RunResult)> {
    runs(s, scheme, Geometry::Sparc64, "pct:3", 6_000).0
}

/// Seen to fail with the fence taken whatever the mutant says.
#[test]
fn a_missing_barrier_shows_only_under_tso() {
    let tso = library::scenario("tso-tsb").unwrap().unwrap();
    assert_eq!(tso.memory, Memory::Tso);
    let sc = Scenario { memory: Memory::Sc, ..tso.clone() };
    for scheme in ["sparc-conv", "sparc-rcu"] {
        let mutant = format!("{scheme}~tsb-lock");
        assert!(mutant.parse::<Variant>().unwrap().without.unwrap().row().tso);
        assert!(first(&sc, &mutant).is_none(), "{mutant}: its store is seen at once");
        assert!(first(&tso, scheme).is_none(), "{scheme}: the lock is a barrier");
        let (_, r) = first(&tso, &mutant).expect("the TSB keeps what the PTE had");
        assert_eq!(r.findings[0].rule, 24, "{}", r.findings[0].text);
    }
}

/// The memory model is kept with the scenario.
#[test]
fn a_finding_repeats_from_its_file() {
    let scenario = library::scenario("tso-tsb").unwrap().unwrap();
    let scheme = "sparc-conv~tsb-lock".to_string();
    let (seed, r) = first(&scenario, &scheme).expect("found above too");
    let geometry = Geometry::Sparc64;
    let found = Finding { scenario, scheme, geometry, schedule: r.outcome.schedule, rule: 24 };
    let small = found.shrink(&Machine).unwrap();
    let text = small.to_file(seed, "").unwrap();
    assert!(text.contains("\nline memory   tso\n"), "{text}");
    let again = Finding::from_file(&text).unwrap();
    assert_eq!(again.scenario.memory, Memory::Tso);
    let r = again.repeat(&Machine).unwrap();
    assert_eq!(r.findings[0].rule, 24);
    let told: Vec<&str> = r.events.iter().map(|e| e.label.as_str()).collect();
    assert!(told.contains(&"tso.drain"), "{told:?}");
}

//! Runs of a prepared scenario show what runs on machines booted for them show.

use super::*;
use crate::target::Runner;
use crate::{library, workload};
use racewalk_mm::MUTANTS;
use racewalk_sched::Label;
use racewalk_sched::controlled::{End, Random, Rng, RoundRobin, Situation, Stay, TaskId};
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

/// How a run goes: to its end, or cut short.
#[derive(Clone, Copy, Debug)]
struct Case {
    seed: u64,
    /// Points after which it is ended.
    limit: u64,
    /// The decision at which it panics.
    panics: Option<u64>,
}

/// Panics when it has decided often enough: usually on the stack of a task.
struct Panics {
    left: u64,
    random: Random,
}

impl Policy for Panics {
    fn choose(&mut self, runnable: &[TaskId], current: Option<TaskId>, label: Label) -> TaskId {
        self.random.choose(runnable, current, label)
    }
    fn decide(&mut self, at: &Situation<'_>) -> Option<TaskId> {
        if self.left == 0 {
            // As `panic` does, without a message on the terminal.
            resume_unwind(Box::new("as planned"));
        }
        self.left -= 1;
        self.random.decide(at)
    }
}

fn policy(case: Case) -> Box<dyn Policy> {
    match (case.panics, case.seed % 4) {
        (Some(left), _) => Box::new(Panics { left, random: Random::new(case.seed) }),
        (None, 0) => Box::new(Stay),
        (None, 1) => Box::new(RoundRobin::default()),
        (None, _) => Box::new(Random::new(case.seed)),
    }
}

/// All that a run shows, as text; and how it ended.
fn told(run: impl FnOnce() -> Result<RunResult, LabError>) -> (String, &'static str) {
    match catch_unwind(AssertUnwindSafe(run)) {
        Err(_) => ("the policy panicked outside tasks".into(), "panic"),
        Ok(Err(e)) => (format!("{e:?}"), "error"),
        Ok(Ok(r)) => {
            let end = match (r.findings.is_empty(), &r.outcome.end) {
                (_, End::Panicked(..)) => "panicked",
                (_, End::Limit) => "limit",
                (_, End::Deadlock(_) | End::LostWakeup(..) | End::Livelock(_)) => "stuck",
                (false, _) => "found",
                (true, _) => "silent",
            };
            (format!("{} {r:?}", r.outcome.schedule), end)
        }
    }
}

#[derive(Default)]
struct Comparison(BTreeMap<&'static str, u32>);

impl Comparison {
    /// Runs that go in any way, in any order, prepared ones on one runner for each limit, and each on a machine of its own.
    fn runs(&mut self, scenario: &Scenario, scheme: &str, geometry: Geometry, n: usize) {
        let mut options = RunOptions::default().with_events();
        (options.geometry, options.counters) = (Some(geometry), true);
        let mut rng = Rng(scenario.name.len() as u64 ^ (scheme.len() as u64) << 8);
        let mut runners: BTreeMap<u64, Box<dyn Runner + '_>> = BTreeMap::new();
        for _ in 0..n {
            let (seed, limit) = (rng.below(1000), [40, 100_000, 100_000][rng.below(3) as usize]);
            let panics = (rng.below(8) == 0).then(|| rng.below(30));
            let case = Case { seed, limit, panics };
            options.max_points = case.limit;
            let fresh = told(|| Machine.run(scenario, scheme, &mut *policy(case), &options));
            let runner =
                runners.entry(limit).or_insert_with(|| Machine.prepare(scenario, scheme, &options).unwrap());
            let again = told(|| runner.run(&mut *policy(case)));
            assert_eq!(again, fresh, "{} {scheme} {geometry:?}: {case:?}", scenario.name);
            *self.0.entry(fresh.1).or_default() += 1;
        }
    }
}

/// What is told of the set-up and of what comes after the race names no host thread.
#[test]
fn a_run_is_the_same_on_every_thread() {
    let options = RunOptions::default().with_events();
    let mut found = 0;
    for scenario in library::scenarios().unwrap() {
        let Ok(mut runner) = Machine.prepare(&scenario, "s390-nop", &options) else { continue };
        let mut runs = || (0..40).map(|n| told(|| runner.run(&mut Random::new(n)))).collect::<Vec<_>>();
        let here = runs();
        let there = std::thread::scope(|s| s.spawn(&mut runs).join().unwrap());
        assert_eq!(here, there);
        found += here.iter().filter(|r| r.1 == "found").count();
    }
    assert!(found > 0, "no run had findings");
}

/// Every scenario under every scheme on every geometry, the sound schemes' mutants, and workloads that nobody wrote.
///
/// Seen to fail with any one part of a checkpoint not put back: guest memory, page records, either slab, the allocator,
/// counters, the sanitizer's books, TLBs and registers, a scheme's own, objects that are mapped and what is linked to them,
/// and who runs where.
#[test]
fn a_prepared_run_is_a_fresh_run() {
    let mut c = Comparison::default();
    let scenarios = library::scenarios().unwrap();
    for scheme in Scheme::catalogue().filter(|s| s.available()) {
        let there = geometries(scheme);
        for s in &scenarios {
            for &g in there.iter().filter(|g| s.geometries.contains(g)) {
                c.runs(s, scheme.name(), g, 8);
            }
        }
        for &g in &there {
            (0..12).for_each(|seed| c.runs(&workload::scenario(seed, g, 4), scheme.name(), g, 4));
        }
    }
    let mutants = MUTANTS.iter().flat_map(|r| r.schemes.iter().map(move |s| format!("{s}~{}", r.name)));
    for (i, name) in mutants.enumerate() {
        let variant: Variant = name.parse().unwrap();
        for g in geometries(variant.scheme) {
            scenarios
                .iter()
                .skip(i % 5)
                .step_by(5)
                .filter(|s| s.geometries.contains(&g))
                .for_each(|s| c.runs(s, &name, g, 4));
        }
    }
    let Comparison(ends) = c;
    println!("{ends:?}");
    for end in ["silent", "found", "limit", "panicked", "panic"] {
        assert!(ends.get(end).is_some_and(|&n| n >= 50), "{end}: {ends:?}");
    }
}

fn parsed(text: &str) -> Scenario {
    Scenario::parse("here", &format!("title here\ngeometry s390x-2k ppc64-radix-64k\n{text}")).unwrap()
}

fn found(text: &str, scheme: &str) -> (RunResult, String) {
    let scenario = parsed(text);
    let options = RunOptions::default().with_events();
    let r = Machine.run(&scenario, scheme, &mut Stay, &options).unwrap();
    let report = r.findings.first().map(|f| f.text.clone()).unwrap_or_default();
    (r, report)
}

/// A report is about one page, whatever else there is: how it came, all that was done with it, and nothing of other pages.
#[test]
fn a_report_tells_the_story_of_its_page() {
    let mut text = "cpus 1\nmm A\n  map seg0:0\n  map seg1:0\n  map seg2..40:0\ncpu 0\n".to_string();
    text += "  A touch seg20:1\n  A read seg21:1\n  A retract seg0\n  A retract seg1\n";
    let (_, report) = found(&text, "s390-v1");
    let has = |what: &str| assert!(report.contains(what), "no {what:?} in\n{report}");
    ["  table    0x4000, ", "  life     handed out #", " alloc page 0x4000\n", " alloc table 0x4800 "]
        .iter()
        .for_each(|w| has(w));
    [" pte_free_defer 0x4000\n", " of page 0x4000\n", "names    ", " T0 is table 0x4000\n"]
        .iter()
        .for_each(|w| has(w));
    ["T1 is table 0x4800\n", "X is page 0x4000\n", "thread 1 is set-up"].iter().for_each(|w| has(w));
    let steps = |what: &str| report.lines().filter(|l| l.starts_with("  #") && l.contains(what)).count();
    assert_eq!(steps(" call_rcu "), 2, "{report}");
    assert_eq!(steps(" operation "), 2, "the others did nothing there:\n{report}");
    for other in ["page 0x5000", "table 0x5000", "0x5800", "at 0x6", "events before or between"] {
        assert!(!report.contains(other), "{other:?} in\n{report}");
    }
}

/// Where there is much of it, what a walker loaded goes before what happened to the table.
#[test]
fn details_are_left_out_before_steps() {
    let mut text = "cpus 1\nmm A\n  map seg0:0\n  map seg1:0\ncpu 0\n".to_string();
    text += &"  A touch seg0:1..30\n  A madvise seg0\n".repeat(5);
    text += "  A retract seg0\n  A retract seg1\n";
    let (_, report) = found(&text, "s390-v1");
    for what in [" alloc page 0x4000\n", " alloc table 0x4000 ", " hook 0x4000 ", " events before or between"]
    {
        assert!(report.contains(what), "no {what:?} in\n{report}");
    }
    assert!(report.lines().filter(|l| l.starts_with("  #")).count() == 80, "{report}");
}

/// What a scheme or a list finds by itself has its story too.
#[test]
fn every_finding_has_evidence() {
    let text = "cpus 1\nmm A\n  map seg0:0\ncpu 0\n  A retract seg0\n";
    let (r, report) = found(text, "ppc-66");
    assert_eq!(r.findings[0].rule, 25, "{report}");
    for what in ["freed with Active set", "  life     ", " pte_free_defer 0x", " pte_frag_destroy: count of "]
    {
        assert!(report.contains(what), "no {what:?} in\n{report}");
    }
    let heads: Vec<_> = r.events.iter().filter(|e| e.cpu.is_none()).map(|e| e.task.as_str()).collect();
    assert!(heads.contains(&"set-up and teardown") && !heads.contains(&"cpu 0"), "{heads:?}");
}

/// Callbacks of two CPUs whose grace period ends at the same time run in either order, and beside each other.
#[test]
fn callbacks_of_several_cpus_are_not_ordered() {
    let text = "cpus 2\nmm A\n  map seg0:0\n  map seg1:0\ncpu 0\n  A retract seg0\ncpu 1\n  A retract seg1\n";
    let scenario = parsed(text);
    let options = RunOptions::default().with_events();
    let mut runner = Machine.prepare(&scenario, "s390-67", &options).unwrap();
    let mut seen: BTreeMap<Vec<&str>, u32> = BTreeMap::new();
    for seed in 0..400 {
        let r = runner.run(&mut Random::new(seed)).unwrap();
        assert!(r.findings.is_empty(), "{:?}", r.findings);
        // Those of one grace period.
        let ends = r.events.split(|e| e.label == "gp.end");
        let part = ends.map(|p| p.iter().filter(|e| e.label == "callback").collect::<Vec<_>>());
        for p in part.filter(|p| p.len() == 2) {
            let queued = |head: &str| {
                let of = r.events.iter().find(|e| e.label == "call_rcu" && e.text.ends_with(head));
                if of.unwrap().cpu == Some(0) { "0" } else { "1" }
            };
            let order = p.iter().map(|e| queued(e.text.trim_start_matches("callback")));
            let apart = if p[0].task == p[1].task { "one after the other" } else { "by two" };
            *seen.entry(order.chain([apart]).collect()).or_default() += 1;
        }
    }
    for order in [["0", "1", "by two"], ["1", "0", "by two"], ["0", "1", "one after the other"]] {
        assert!(seen.contains_key(&order[..]), "{seen:?}");
    }
}

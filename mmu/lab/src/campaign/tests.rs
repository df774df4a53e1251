//! Campaigns over a small target with a race of its own: each CPU adds one to a counter.

use super::*;
use crate::columns::Columns;
use crate::target::{Event, RunResult, Runner, confirm, replay};
use racewalk_sched::controlled::{self, Config, Random};
use racewalk_sched::{Lock, point};
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};

/// `plain` loads and stores, `locked` does so under a lock, `hidden` depends on how often it was run.
#[derive(Default)]
struct Counter {
    runs: AtomicU64,
}

#[derive(Default)]
struct Shared {
    value: u64,
    events: Vec<Event>,
    states: Vec<u64>,
}

impl Shared {
    fn event(&mut self, cpu: u32, label: &str, text: String) {
        let seq = self.events.len() as u64;
        self.states.push(seq << 32 | self.value << 8 | cpu as u64);
        self.events.push(Event {
            seq,
            cpu: Some(cpu),
            task: format!("cpu {cpu}"),
            label: label.into(),
            text,
        });
    }
}

impl Target for Counter {
    fn schemes(&self) -> Vec<String> {
        ["plain", "locked", "hidden"].map(String::from).into()
    }

    fn prepare(
        &self,
        scenario: &Scenario,
        scheme: &str,
        options: &RunOptions,
    ) -> Result<Box<dyn Runner + '_>, LabError> {
        let known = self.schemes();
        if !known.iter().any(|s| s == scheme) {
            return Err(LabError::Scheme { scheme: scheme.into(), known });
        }
        let (scheme, options) = (scheme.into(), options.clone());
        Ok(Box::new(Counting { counter: self, cpus: scenario.cpus, scheme, options }))
    }
}

struct Counting<'a> {
    counter: &'a Counter,
    cpus: u32,
    scheme: String,
    options: RunOptions,
}

impl Runner for Counting<'_> {
    fn run(&mut self, policy: &mut dyn Policy) -> Result<RunResult, LabError> {
        let Counting { counter, cpus, scheme, options } = self;
        let extra = if scheme == "hidden" { counter.runs.fetch_add(1, Ordering::Relaxed) } else { 0 };
        let locked = scheme == "locked";
        let shared = Rc::new(RefCell::new(Shared::default()));
        let (cpus, at) = (*cpus, shared.clone());
        let outcome = controlled::run(Config::default(), policy, move || {
            let lock = Rc::new(Lock::new());
            for cpu in 0..cpus {
                let (at, lock) = (at.clone(), lock.clone());
                controlled::spawn(format!("cpu {cpu}"), move || {
                    let held = locked.then(|| lock.lock("counter.lock"));
                    point("counter.load");
                    let seen = at.borrow().value;
                    at.borrow_mut().event(cpu, "counter.load", format!("loads {}", seen + extra));
                    point("counter.store");
                    at.borrow_mut().value = seen + 1;
                    at.borrow_mut().event(cpu, "counter.store", format!("stores {}", seen + 1));
                    drop(held);
                });
            }
        });
        let shared = shared.take();
        let lost = cpus as u64 - shared.value;
        let finding = || Finding {
            rule: 7,
            title: "an update was lost".into(),
            text: format!("{lost} of {cpus} were"),
            event: None,
        };
        Ok(RunResult {
            outcome,
            findings: (lost > 0).then(finding).into_iter().collect(),
            events: if options.events { shared.events } else { vec![] },
            states: if options.states { shared.states } else { vec![] },
            counters: vec![],
        })
    }
}

fn scenario() -> Scenario {
    let text = "title Lost updates\ngeometry pae\ncpus 3\nmm A\n";
    Scenario::parse("counter", text).unwrap_or_else(|e| panic!("{e}"))
}

fn random(seed: u64) -> Box<dyn Policy> {
    Box::new(Random::new(seed))
}

fn campaign(scheme: &str, plan: &Plan) -> Report {
    run(&Counter::default(), &scenario(), scheme, &RunOptions::default(), plan, &random, |_| ())
        .unwrap_or_else(|e| panic!("{e}"))
}

/// Seen to fail with the lock of `locked` left out.
#[test]
fn finds_the_lost_update_and_not_where_there_is_none() {
    let plan = Plan::new(0..500);
    let plain = campaign("plain", &plan);
    assert_eq!((plain.schedules, plain.ends.finished), (500, 500));
    // Only orders in which no CPU comes between another's load and store lose nothing.
    assert!(plain.hits.len() > 250 && plain.hits.len() < 500, "{}", plain.hits.len());
    assert_eq!(plain.rules[&7].schedules, plain.hits.len() as u64);
    assert_eq!(plain.rules[&7].first_seed, plain.hits[0]);
    assert_eq!(plain.median_needed(&plan.seeds), Some(1));
    assert!(plain.points >= 500 * 6);
    let locked = campaign("locked", &plan);
    assert_eq!((locked.hits.len(), &locked.first, locked.rules.len()), (0, &None, 0));
    assert_eq!(locked.median_needed(&plan.seeds), None);
    // With the lock the counter tells where everybody is: the states are those of 3! orders of CPUs.
    assert_eq!(locked.states.count(), Ok(3 * 2 * 3));
    assert!(plain.states.count() > locked.states.count());
}

/// Each seed is in one shard, and each shard knows how many it has. Seen to fail with `wait` left out of `first`.
#[test]
fn shards_divide_the_seeds() {
    for range in [0..0, 0..1, 5..6, 3..100, u64::MAX - 10..u64::MAX] {
        for of in 1..=12 {
            let shards = (0..of).map(|index| Shard { index, of });
            let mut all: Vec<_> = shards
                .flat_map(|s| {
                    let seeds: Vec<_> = s.seeds(&range).collect();
                    assert_eq!(s.count(&range), seeds.len() as u64, "{s} of {range:?}");
                    assert!(seeds.iter().all(|x| x % of == s.index), "{s} of {range:?}");
                    seeds
                })
                .collect();
            all.sort_unstable();
            assert!(all.into_iter().eq(range.clone()), "{of} shards of {range:?}");
        }
    }
}

/// Seen to fail with a shard's index left out of account.
#[test]
fn shards_and_threads_make_the_same_whole() {
    let plan = Plan { jobs: 1, max_states: 16, ..Plan::new(100..413) };
    let whole = campaign("plain", &plan);
    assert_eq!(campaign("plain", &Plan { jobs: 4, ..plan.clone() }), whole);
    for of in [1, 2, 7] {
        let shards = (0..of).map(|index| {
            let shard = format!("{index}/{of}").parse().unwrap_or_else(|e| panic!("{e}"));
            campaign("plain", &Plan { shard, ..plan.clone() })
        });
        let merged = shards.reduce(Report::merge).unwrap_or_else(|| panic!("no shards"));
        assert_eq!(merged, whole, "{of} shards");
    }
}

/// Seen to fail with the whole batch taken into the report.
#[test]
fn stopping_at_the_first_finding_is_the_same_on_any_number_of_threads() {
    let lucky = campaign("plain", &Plan::new(0..500));
    let quiet: Vec<u64> = (0..500).filter(|s| !lucky.hits.contains(s)).collect();
    let seeds = quiet[0]..500;
    let of = |jobs| campaign("plain", &Plan { jobs, stop_at_first: true, ..Plan::new(seeds.clone()) });
    let one = of(1);
    assert_eq!(of(3), one);
    let first = one.first.unwrap_or_else(|| panic!("nothing found"));
    assert_eq!(one.hits, [first.seed]);
    assert_eq!(one.schedules, first.seed - seeds.start + 1);
    assert!(one.schedules >= 2);
}

/// Seen to fail with divergence left out of `replay`, its length, and events out of `confirm`.
#[test]
fn a_found_schedule_replays_and_a_wrong_one_does_not() {
    let (target, scenario, options) = (Counter::default(), scenario(), RunOptions::default());
    let report = campaign("plain", &Plan { stop_at_first: true, ..Plan::new(0..100) });
    let first = report.first.unwrap_or_else(|| panic!("nothing found"));
    let again =
        confirm(&target, &scenario, "plain", &first.schedule, &options).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(again.findings, first.findings);
    assert_eq!(again.outcome.schedule, first.schedule);
    assert_eq!(again.events.len(), 6);
    let text = Columns::of(&again.events).text();
    assert!(text.contains("CPU 2") && text.contains("stores 1"), "{text}");

    let mut wrong = first.schedule.clone();
    wrong.choices[1] = 77;
    let e = replay(&target, &scenario, "plain", &wrong, &options).map(|_| ()).unwrap_err();
    assert!(matches!(e, LabError::Diverged { diverged: 1.., .. }), "{e}");
    let mut long = first.schedule.clone();
    long.choices.push(1);
    let e = replay(&target, &scenario, "plain", &long, &options).map(|_| ()).unwrap_err().to_string();
    let has = long.choices.len();
    assert!(e.contains(&format!("found a shorter run, of {} choices; wanted one of {has},", has - 1)), "{e}");
    long.choices.truncate(1);
    let e = replay(&target, &scenario, "plain", &long, &options).map(|_| ()).unwrap_err().to_string();
    assert!(e.contains("found a longer run, of ") && e.contains("; wanted one of 1,"), "{e}");
    let e = confirm(&target, &scenario, "hidden", &first.schedule, &options).map(|_| ()).unwrap_err();
    assert!(e.to_string().ends_with("two runs differ in events; wanted the same"), "{e}");
}

/// No thread is started that has nothing to do. Seen to fail with `jobs` threads, whatever the work.
#[test]
fn threads_are_no_more_than_the_work() {
    for (jobs, work, threads) in [(300, 3, 3), (2, 3, 2), (5, 0, 1), (0, 1, 1)] {
        let pool = pool(jobs, work).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(pool.current_num_threads(), threads, "{jobs} jobs for {work}");
    }
}

/// Seen to fail with `done` not counted.
#[test]
fn progress_and_errors() {
    let plan = Plan::new(0..1000);
    let mut seen = Vec::new();
    let options = RunOptions::default();
    let report = run(&Counter::default(), &scenario(), "locked", &options, &plan, &random, |p| seen.push(*p));
    assert_eq!(report.map(|r| r.schedules).unwrap_or(0), 1000);
    assert!(seen.windows(2).all(|w| w[0].done < w[1].done && w[0].elapsed <= w[1].elapsed));
    assert_eq!(seen.last().map(|p| (p.done, p.total)), Some((1000, 1000)));
    let p = Progress { done: 50, total: 100, found: 2, elapsed: Duration::from_millis(250) };
    assert_eq!(p.to_string(), "50/100 schedules, 200/s, 2 with findings");
    let e = run(&Counter::default(), &scenario(), "lock", &options, &plan, &random, |_| ()).unwrap_err();
    assert_eq!(e.to_string(), "found scheme \"lock\"; wanted one of plain, locked, hidden");
    for bad in ["3/3", "4/3", "1", "a/b", "1/0", "1/2/3"] {
        assert!(bad.parse::<Shard>().is_err(), "{bad}");
    }
    assert_eq!("2/4".parse::<Shard>().map(|s| s.to_string()).unwrap_or_default(), "2/4");
}

/// The median against counting from each start. Seen to fail with `div_ceil` taken for rounding down.
#[test]
fn median_is_that_of_all_starts() {
    let mut rng = racewalk_sched::controlled::Rng(1);
    for _ in 0..2000 {
        let (start, n) = (rng.below(5), rng.below(30));
        let range = start..start + n;
        let report = Report { hits: range.clone().filter(|_| rng.below(4) == 0).collect(), ..Report::new(2) };
        let needed = |s: u64| report.hits.iter().find(|h| **h >= s).map_or(u64::MAX, |h| h - s + 1);
        let mut all: Vec<_> = range.clone().map(needed).collect();
        all.sort_unstable();
        let middle = all.len().div_ceil(2).checked_sub(1).map(|i| all[i]).filter(|&m| m != u64::MAX);
        assert_eq!(report.median_needed(&range), middle, "{range:?} {:?}", report.hits);
    }
}

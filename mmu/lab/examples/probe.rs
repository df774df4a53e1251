//! Runs one scenario under one scheme many times: `probe SCENARIO|FILE SCHEME RUNS POLICY [show]`; with `seeds`, up to RUNS
//! times from each of a hundred seeds, until the first finding.
use racewalk_lab::machine::Machine;
use racewalk_lab::target::{RunOptions, Target};
use racewalk_sched::controlled::PolicySpec;
fn main() {
    let a: Vec<String> = std::env::args().collect();
    let s = match std::fs::read_to_string(&a[1]) {
        Ok(text) => racewalk_lab::scenario::Scenario::parse(&a[1], &text).unwrap(),
        Err(_) => racewalk_lab::library::scenario(&a[1]).unwrap().unwrap(),
    };
    let n: u64 = a[3].parse().unwrap();
    let spec: PolicySpec = a.get(4).map_or("random", |p| p).parse().unwrap();
    let t = std::time::Instant::now();
    let mut o = RunOptions::default();
    o.states = false;
    if a.get(5).is_some_and(|x| x == "seeds") {
        let first = |seed| {
            let mut runs = spec.runs(seed);
            let mut runner = Machine.prepare(&s, &a[2], &o).unwrap();
            (1..=n).find(|_| {
                let r = runner.run(runs.policy().unwrap()).unwrap();
                runs.ran(&r.outcome);
                !r.findings.is_empty()
            })
        };
        let after: Vec<u64> = (1..=100).filter_map(first).collect();
        let most = after.iter().max();
        println!(
            "{} {}: caught from {} of 100 seeds, after {most:?} schedules at most",
            a[1],
            a[2],
            after.len()
        );
        return;
    }
    let (mut points, mut found) = (0, 0);
    let mut runner = Machine.prepare(&s, &a[2], &o).unwrap();
    let mut runs = spec.runs(1);
    let mut count = 0;
    while count < n {
        let Some(p) = runs.policy() else { break };
        let r = runner.run(p).unwrap();
        runs.ran(&r.outcome);
        count += 1;
        points += r.outcome.points;
        if !r.findings.is_empty() {
            if found == 0 && a.len() > 5 {
                let r = racewalk_lab::target::replay(&Machine, &s, &a[2], &r.outcome.schedule, &o).unwrap();
                println!("{}", racewalk_lab::columns::Columns::of(&r.events).text());
                println!("{}: {}", r.outcome.schedule, r.findings[0].text);
            }
            found += 1;
        }
    }
    let e = t.elapsed().as_secs_f64();
    println!(
        "{} {}: {found}/{count} found, {:.0} schedules/s, {:.2} M points/s, {:.1} points a run",
        a[1],
        a[2],
        count as f64 / e,
        points as f64 / e / 1e6,
        points as f64 / count as f64
    );
}

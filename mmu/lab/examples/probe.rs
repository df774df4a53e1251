use racewalk_lab::machine::Machine;
use racewalk_lab::target::{RunOptions, Target};
use racewalk_sched::controlled::Random;
fn main() {
    let a: Vec<String> = std::env::args().collect();
    let s = racewalk_lab::library::scenario(&a[1]).unwrap().unwrap();
    let n: u64 = a[3].parse().unwrap();
    let t = std::time::Instant::now();
    let mut o = RunOptions::default();
    o.states = a.len() > 5;
    let mut points = 0;
    let mut found = 0;
    for seed in 0..n {
        let r = Machine.run(&s, &a[2], &mut Random::new(seed), &o).unwrap();
        points += r.outcome.points;
        if !r.findings.is_empty() {
            if found == 0 && a.len() > 4 {
                let r = Machine.run(&s, &a[2], &mut Random::new(seed), &o.clone().with_events()).unwrap();
                println!("{}", racewalk_lab::columns::Columns::of(&r.events).text());
                println!("seed {seed}: {}", r.findings[0].text);
            }
            found += 1;
        }
    }
    let e = t.elapsed().as_secs_f64();
    println!(
        "{} {}: {found}/{n} found, {:.0} schedules/s, {:.2} M points/s, {:.1} points a run",
        a[1],
        a[2],
        n as f64 / e,
        points as f64 / e / 1e6,
        points as f64 / n as f64
    );
}

//! `cargo xtask storm` and `cargo xtask acceptance`: long campaigns over every number of CPUs and engine.

use crate::{Dirs, bench, cargo, guests, install, succeed};
use anyhow::bail;
use racewalk_tests::run::{Run, run};
use racewalk_tests::{CPUS, ENGINES};
use std::path::PathBuf;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// `cargo xtask storm`.
#[derive(Debug, clap::Args)]
pub struct StormArgs {
    /// How long one run's storm lasts.
    #[arg(long, default_value_t = 0.5)]
    pub seconds: f64,
    /// Runs for each number of CPUs and engine [default: 20, or 1 of storms of 10 s and more].
    #[arg(long)]
    pub runs: Option<u32>,
    /// Runs at the same time.
    #[arg(long, default_value_t = 1)]
    pub jobs: u32,
    /// Only on this number of CPUs; may be repeated.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=64))]
    pub cpus: Vec<u32>,
    /// Only on this engine; may be repeated.
    #[arg(long, value_name = "ENGINE", value_parser = clap::builder::PossibleValuesParser::new(ENGINES))]
    pub engine: Vec<String>,
}

impl StormArgs {
    /// Where to run; everywhere, unless told.
    fn places(&self) -> Places {
        let mut p = Places::default();
        if !self.cpus.is_empty() {
            p.cpus = self.cpus.iter().map(u32::to_string).collect();
        }
        if !self.engine.is_empty() {
            p.engines.clone_from(&self.engine);
        }
        p
    }
}

/// The numbers of CPUs and the engines of a campaign.
struct Places {
    cpus: Vec<String>,
    engines: Vec<String>,
}

impl Default for Places {
    fn default() -> Places {
        Places { cpus: CPUS.map(String::from).into(), engines: ENGINES.map(String::from).into() }
    }
}

/// `cargo xtask acceptance`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Runs of each guest for each number of CPUs and engine.
    #[arg(long, default_value_t = 200)]
    pub runs: u32,
    /// Runs at the same time.
    #[arg(long, default_value_t = 1)]
    pub jobs: u32,
    /// Also compare the compute benchmark of this suite (see `bench`) with qemu-s390x.
    #[arg(long, value_name = "DIR")]
    pub suite: Option<PathBuf>,
}

/// The most CPU time the compute benchmark may take, in qemu-s390x's.
const MAX_RATIO: f64 = 2.0;

/// What every run of a campaign starts and must give.
struct Campaign<'a> {
    guest: &'a str,
    argument: Option<String>,
    status: i32,
    stdout: Vec<u8>,
    deadline: Duration,
}

impl Campaign<'_> {
    /// Runs on each number of CPUs and engine; prints a row for each. Returns the number of failures.
    fn run(&self, d: &Dirs, places: &Places, runs: u32, jobs: u32) -> u32 {
        println!(
            "\n{:<10}{:>6}{:>8}{:>8}{:>8}{:>11}{:>11}",
            "guest", "cpus", "engine", "runs", "failed", "median s", "longest s"
        );
        let mut failures = 0;
        for cpus in &places.cpus {
            for engine in &places.engines {
                let one = || {
                    let mut c = Command::new(&d.racewalk);
                    c.args(["run", "--cpus", cpus, "--engine", engine]);
                    c.arg(d.guests.join(self.guest)).args(&self.argument);
                    run(&mut c, self.deadline)
                };
                let done = all(runs, jobs, one);
                let bad: Vec<&Run> = done
                    .iter()
                    .filter(|r| r.status != Some(self.status) || r.stdout != self.stdout)
                    .collect();
                let mut took: Vec<f64> = done.iter().map(|r| r.took.as_secs_f64()).collect();
                took.sort_by(f64::total_cmp);
                let (median, longest) = (took.get(took.len() / 2), took.last());
                println!(
                    "{:<10}{cpus:>6}{engine:>8}{:>8}{:>8}{:>11.3}{:>11.3}",
                    self.guest,
                    done.len(),
                    bad.len(),
                    median.unwrap_or(&0.0),
                    longest.unwrap_or(&0.0)
                );
                if let Some(r) = bad.first() {
                    println!("the first failure; wanted status {}\n{r}\n", self.status);
                }
                failures += bad.len() as u32;
            }
        }
        failures
    }
}

/// `runs` results of `one`, `jobs` at a time.
fn all(runs: u32, jobs: u32, one: impl Fn() -> Run + Sync) -> Vec<Run> {
    let (next, done) = (AtomicU32::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|s| {
        for _ in 0..jobs.max(1) {
            s.spawn(|| {
                while next.fetch_add(1, Ordering::Relaxed) < runs {
                    let r = one();
                    if let Ok(mut d) = done.lock() {
                        d.push(r);
                    }
                }
            });
        }
    });
    done.into_inner().unwrap_or_default()
}

fn prepare(d: &Dirs) -> anyhow::Result<()> {
    install::install()?;
    guests::guests(d, &guests::Args { update: false })?;
    succeed(&mut cargo(d, &["build", "--release", "--package", "racewalk"]), "the build failed")
}

fn storms(d: &Dirs, places: &Places, seconds: f64, runs: u32, jobs: u32) -> anyhow::Result<u32> {
    if !(seconds > 0.0 && seconds <= 86_400.0) {
        bail!("--seconds {seconds}; wanted more than 0 and at most 86400");
    }
    let c = Campaign {
        guest: "storm",
        argument: Some(format!("{:.0}", (seconds * 1000.0).max(1.0))),
        status: 0,
        stdout: b"right\n".to_vec(),
        deadline: Duration::from_secs_f64(60.0 + 10.0 * seconds),
    };
    Ok(c.run(d, places, runs, jobs))
}

/// `cargo xtask storm`.
pub fn storm(d: &Dirs, a: &StormArgs) -> anyhow::Result<()> {
    prepare(d)?;
    let runs = a.runs.unwrap_or(if a.seconds < 10.0 { 20 } else { 1 });
    match storms(d, &a.places(), a.seconds, runs, a.jobs)? {
        0 => Ok(()),
        n => bail!("{n} storms failed"),
    }
}

/// `cargo xtask acceptance`.
pub fn acceptance(d: &Dirs, a: &Args) -> anyhow::Result<()> {
    let started = Instant::now();
    prepare(d)?;
    let native = run(Command::new("qemu-s390x").arg(d.guests.join("threads")), Duration::from_secs(60));
    let Some(status) = native.status else { bail!("qemu-s390x hangs:\n{native}") };
    let threads = Campaign {
        guest: "threads",
        argument: None,
        status,
        stdout: native.stdout,
        deadline: Duration::from_secs(60),
    };
    let places = Places::default();
    let mut failures = threads.run(d, &places, a.runs, a.jobs);
    failures += storms(d, &places, 0.5, a.runs, a.jobs)?;
    if let Some(suite) = &a.suite {
        let ratio = bench::ratio(d, suite, 5, "compute")?;
        println!("\ncompute: {ratio:.2} times the CPU time of qemu-s390x; wanted at most {MAX_RATIO}");
        failures += u32::from(ratio > MAX_RATIO);
    }
    println!("\n{failures} failures in {:.0} s", started.elapsed().as_secs_f64());
    if failures != 0 {
        bail!("{failures} failures");
    }
    Ok(())
}

//! `cargo xtask recordings`: what recordings cost, beside other tools.

use crate::{Dirs, bench, cargo, install, succeed};
use anyhow::{Context, ensure};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// `cargo xtask recordings`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A directory with the suite: build.sh, which builds $B/bin/suite-s390x.
    #[arg(long, value_name = "DIR")]
    pub suite: PathBuf,
    /// Pairs of runs for each benchmark; the median is printed.
    #[arg(short = 'n', long, default_value_t = 3)]
    pub pairs: u32,
    /// Instead of measuring: record under each of these model TLBs, and check the counts of hits and misses.
    #[arg(long, value_name = "PRESET,...", value_delimiter = ',')]
    pub tlb: Vec<String>,
    /// Benchmarks.
    #[arg(default_values_t = ["compute", "memmix", "threads", "conflict"].map(String::from))]
    pub names: Vec<String>,
}

/// Wall and CPU time of a command that must succeed.
fn time(c: &mut Command) -> anyhow::Result<(Duration, Duration)> {
    let before = children()?;
    let began = Instant::now();
    let s = c.stdout(Stdio::null()).stderr(Stdio::null()).status().context("start racewalk")?;
    ensure!(s.success(), "{c:?} ended with {s}");
    Ok((began.elapsed(), children()? - before))
}

/// CPU time of all children that ended.
fn children() -> anyhow::Result<Duration> {
    let u = nix::sys::resource::getrusage(nix::sys::resource::UsageWho::RUSAGE_CHILDREN)?;
    let t = |v: nix::sys::time::TimeVal| Duration::new(v.tv_sec() as u64, v.tv_usec() as u32 * 1000);
    Ok(t(u.user_time()) + t(u.system_time()))
}

fn median(mut v: Vec<f64>) -> f64 {
    v.sort_by(f64::total_cmp);
    v[v.len() / 2]
}

fn cpus(benchmark: &str) -> &'static str {
    if benchmark == "threads" { "4" } else { "1" }
}

/// What `trace stats` says of a file.
fn stats(d: &Dirs, file: &Path) -> anyhow::Result<Value> {
    let mut c = Command::new(&d.racewalk);
    let out = c.args(["trace", "stats", "--format", "json"]).arg(file).output().context("start racewalk")?;
    ensure!(out.status.success(), "{c:?} ended with {}", out.status);
    serde_json::from_slice(&out.stdout).context("read the counts")
}

/// The sum of a count over all streams.
fn sum(stats: &Value, of: impl Fn(&Value) -> &Value) -> u64 {
    stats["streams"].as_object().into_iter().flatten().filter_map(|(_, s)| of(s).as_u64()).sum()
}

/// Records every benchmark under every model TLB. `trace check` counts hits, misses, walks and fills again, CPU by CPU, and
/// compares them with what the run counted.
fn tlbs(d: &Dirs, a: &Args, suite: &Path, file: &Path) -> anyhow::Result<()> {
    println!(
        "{:<10} {:<10} {:>12} {:>12} {:>12} {:>12}",
        "what", "TLB", "lookups", "hits", "misses", "walks"
    );
    for name in &a.names {
        for tlb in &a.tlb {
            let mut traced = Command::new(&d.racewalk);
            let traced = traced.args(["trace", "--tlb", tlb, "--cpus", cpus(name), "-o"]);
            time(traced.arg(file).arg(suite).arg(name))?;
            time(Command::new(&d.racewalk).args(["trace", "check"]).arg(file)).with_context(|| {
                format!("{name} under {tlb}: what was recorded is not what the run counted")
            })?;
            let v = stats(d, file)?;
            let lookups = sum(&v, |s| &s["events"]["tlb_lookup"]);
            let (hits, walks) = (sum(&v, |s| &s["hits"]), sum(&v, |s| &s["events"]["walk_start"]));
            println!("{name:<10} {tlb:<10} {lookups:>12} {hits:>12} {:>12} {walks:>12}", lookups - hits);
        }
    }
    println!("\nhits + misses and walks of every CPU: as the run counted them");
    Ok(())
}

/// Measures and prints the table.
pub fn recordings(d: &Dirs, a: &Args) -> anyhow::Result<()> {
    succeed(&mut cargo(d, &["build", "--release", "--package", "racewalk"]), "the build failed")?;
    install::install()?;
    let scratch = bench::build(d, &a.suite)?;
    let (suite, file) = (scratch.join("bin/suite-s390x"), scratch.join("bench.rwt"));
    if !a.tlb.is_empty() {
        return tlbs(d, a, &suite, &file);
    }
    println!(
        "{:<24} {:>12} {:>10} {:>9} {:>9} {:>10}",
        "what", "accesses", "bytes/acc", "wall", "CPU", "M acc/s"
    );
    for name in &a.names {
        let cpus = cpus(name);
        let (mut wall, mut cpu, mut seconds) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..a.pairs {
            let mut plain = Command::new(&d.racewalk);
            let p = time(plain.args(["run", "--cpus", cpus]).arg(&suite).arg(name))?;
            let mut traced = Command::new(&d.racewalk);
            let t = time(traced.args(["trace", "--cpus", cpus, "-o"]).arg(&file).arg(&suite).arg(name))?;
            wall.push(t.0.as_secs_f64() / p.0.as_secs_f64());
            cpu.push(t.1.as_secs_f64() / p.1.as_secs_f64());
            seconds.push(t.0.as_secs_f64())
        }
        let v = stats(d, &file)?;
        let (accesses, bytes) =
            (sum(&v, |s| &s["loads"]) + sum(&v, |s| &s["stores"]), v["bytes"].as_u64().unwrap_or(0));
        println!(
            "{:<24} {accesses:>12} {:>10.3} {:>8.2}x {:>8.2}x {:>10.1}",
            format!("racewalk trace {name}"),
            bytes as f64 / accesses as f64,
            median(wall),
            median(cpu),
            accesses as f64 / median(seconds) / 1e6
        );
    }
    println!("{:<24} {:>12} {:>10} {:>9} {:>9} {:>10}", "valgrind lackey", "", "14", "", "", "0.9");
    println!("{:<24} {:>12} {:>10} {:>9} {:>9} {:>10}", "QEMU plugin, binary", "", "16", "", "", "53");
    println!(
        "\nwall and CPU: recorded divided by unrecorded, medians of {} pairs; the last two rows are earlier",
        a.pairs
    );
    println!("measurements of those tools on other programs, for the order of magnitude");
    Ok(())
}

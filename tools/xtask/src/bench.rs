//! `cargo xtask bench`: CPU time against qemu-s390x, one sitting, runs alternating.

use crate::{Dirs, cargo, install, succeed};
use anyhow::{Context, bail, ensure};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// `cargo xtask bench`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A directory with the suite: build.sh, which builds $B/bin/suite-s390x, and compare.py.
    #[arg(long, value_name = "DIR")]
    pub suite: PathBuf,
    /// Pairs of runs for each benchmark.
    #[arg(short = 'n', long, default_value_t = 3)]
    pub pairs: u32,
    /// Benchmarks; all without any.
    pub names: Vec<String>,
}

/// Builds the suite and prints its comparison.
pub fn bench(d: &Dirs, a: &Args) -> anyhow::Result<()> {
    succeed(&mut cargo(d, &["build", "--release", "--package", "racewalk"]), "the build failed")?;
    install::install()?;
    print!("{}", compare(d, &a.suite, a.pairs, &a.names)?);
    Ok(())
}

/// Builds a suite. Where: its programs are in `bin`.
pub fn build(d: &Dirs, suite: &Path) -> anyhow::Result<PathBuf> {
    let scratch = d.guests.with_file_name("bench");
    std::fs::create_dir_all(&scratch).with_context(|| format!("create {}", scratch.display()))?;
    succeed(
        Command::new("sh").arg(suite.join("build.sh")).env("B", &scratch).stdout(Stdio::null()),
        "the suite was not built",
    )?;
    Ok(scratch)
}

/// The text that compare.py prints. A wrong checksum is an error.
fn compare(d: &Dirs, suite: &Path, pairs: u32, names: &[String]) -> anyhow::Result<String> {
    let scratch = build(d, suite)?;
    ensure!(
        install::find("python3").is_some(),
        "python3 is missing; type as root: apt-get install -y python3"
    );
    let out = Command::new("python3")
        .arg(suite.join("compare.py"))
        .args(["s390x", &format!("'{}' run {{}}", d.racewalk.display()), "qemu-s390x {}"])
        .args(["-n", &pairs.to_string()])
        .args(names)
        .env("B", &scratch)
        .stderr(Stdio::inherit())
        .output()
        .context("start python3")?;
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    if !out.status.success() {
        bail!("the comparison ended with {}; a checksum is wrong or a run failed:\n{text}", out.status);
    }
    Ok(text)
}

/// CPU time of one benchmark divided by that of qemu-s390x.
pub fn ratio(d: &Dirs, suite: &Path, pairs: u32, name: &str) -> anyhow::Result<f64> {
    let text = compare(d, suite, pairs, &[name.to_string()])?;
    parse(&text, name).with_context(|| format!("no ratio of {name} in what compare.py prints:\n{text}"))
}

/// The fourth column of the line that begins with the name.
fn parse(text: &str, name: &str) -> Option<f64> {
    let mut lines = text.lines().map(str::split_whitespace);
    lines.find_map(|mut w| (w.next() == Some(name)).then(|| w.nth(2)).flatten()?.parse().ok())
}

#[cfg(test)]
mod tests {
    #[test]
    fn ratios() {
        let text = "start-up ms  A 4.0  B 5.0\nbench  A ms  B ms  A/B\ncompute      120.0      100.0     1.20     1.0  1.0  \n";
        assert_eq!(super::parse(text, "compute"), Some(1.2));
        assert_eq!(super::parse(text, "float"), None);
    }
}

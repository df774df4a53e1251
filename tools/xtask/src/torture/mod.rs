//! `cargo xtask torture`: gcc's own execution tests, compiled for s390x, under racewalk and under qemu-s390x.
//!
//! Every test says by its exit status whether the program was right. `tests/torture/s390x-O2.txt` lists the tests that
//! must pass, so that fewer cannot pass for all.

mod suite;

use crate::{Dirs, install};
use anyhow::{Context, bail, ensure};
use racewalk_tests::ENGINES;
use racewalk_tests::guests::COMPILER;
use racewalk_tests::run::run;
use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use suite::{Builder, Test, hash};

const QEMU: &str = "qemu-s390x";
/// The longest that one test may run.
const DEADLINE: Duration = Duration::from_secs(60);

/// `cargo xtask torture`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The compiler's option for optimization, as --opt=-O2.
    #[arg(long, default_value = "-O2", allow_hyphen_values = true)]
    pub opt: String,
    /// racewalk's engine.
    #[arg(long, default_value = "auto", value_parser = clap::builder::PossibleValuesParser::new(ENGINES))]
    pub engine: String,
    /// Tests at the same time [default: the number of processors].
    #[arg(long)]
    pub jobs: Option<usize>,
    /// Only one part of several of about the same size: K/N.
    #[arg(long, value_name = "K/N", default_value = "1/1")]
    pub part: Part,
    /// Only tests whose names contain this.
    #[arg(long, value_name = "NAME")]
    pub filter: Option<String>,
    /// Write the list of tests that must pass: those that pass under qemu-s390x.
    #[arg(long, conflicts_with_all = ["part", "filter"])]
    pub update: bool,
    /// Without a list of tests that must pass there is nothing to run.
    #[arg(skip)]
    pub needs_list: bool,
}

impl Args {
    /// What the test command runs.
    pub fn quarter() -> Args {
        let part = Part { k: 1, n: 4 };
        Args {
            opt: "-O2".into(),
            engine: "auto".into(),
            jobs: None,
            part,
            filter: None,
            update: false,
            needs_list: true,
        }
    }
}

/// Part `k` of `n`, counted from 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Part {
    k: u64,
    n: u64,
}

impl Part {
    /// By the hash of the name, so that a test stays where it is when others come and go.
    fn contains(self, name: &str) -> bool {
        hash(name) % self.n == self.k - 1
    }
}

impl std::str::FromStr for Part {
    type Err = String;
    fn from_str(s: &str) -> Result<Part, String> {
        let number = |s: &str| s.parse::<u64>().map_err(|e| e.to_string());
        let (k, n) = s.split_once('/').ok_or("wanted K/N, such as 1/4")?;
        match (number(k)?, number(n)?) {
            (k, n) if 1 <= k && k <= n => Ok(Part { k, n }),
            _ => Err("wanted K/N with K from 1 to N".into()),
        }
    }
}

/// What became of a test.
enum Outcome {
    NotCompiled(String),
    /// Exit statuses; `None` if it had to be killed.
    Ran {
        wanted: Option<i32>,
        got: Option<i32>,
    },
}

fn status(s: Option<i32>) -> String {
    s.map_or_else(|| "hangs".into(), |s| format!("status {s}"))
}

/// One campaign.
struct Campaign<'a> {
    d: &'a Dirs,
    builder: Builder,
    engine: &'a str,
    /// Which qemu-s390x the verdicts are of.
    qemu: String,
    compiled: AtomicUsize,
}

impl Campaign<'_> {
    /// Exit status under qemu-s390x, kept from an earlier run if there was one.
    fn verdict(&self, t: &Test, exe: &Path, work: &Path) -> anyhow::Result<Option<i32>> {
        let kept = self.builder.dir.join(format!("{}.qemu", t.name));
        if let Ok(text) = std::fs::read_to_string(&kept)
            && let Some(status) = text.strip_prefix(&self.qemu).and_then(|s| s.trim().parse().ok())
        {
            return Ok(Some(status));
        }
        let r = run(Command::new(QEMU).arg(exe).current_dir(work), DEADLINE);
        if let Some(s) = r.status {
            std::fs::write(&kept, format!("{}\n{s}\n", self.qemu))
                .with_context(|| format!("write {}", kept.display()))?;
        }
        Ok(r.status)
    }

    fn one(&self, t: &Test, work: &Path) -> anyhow::Result<Outcome> {
        let (exe, now) = self.builder.build(t)?;
        self.compiled.fetch_add(usize::from(now), Ordering::Relaxed);
        let exe = match exe {
            Ok(exe) => exe,
            Err(reason) => return Ok(Outcome::NotCompiled(reason)),
        };
        let wanted = match t.status {
            None => self.verdict(t, &exe, work)?,
            known => known,
        };
        let mut c = Command::new(&self.d.racewalk);
        c.args(["run", "--engine", self.engine]).arg(&exe).current_dir(work);
        Ok(Outcome::Ran { wanted, got: run(&mut c, DEADLINE).status })
    }

    /// Every test, `jobs` at a time, in the order of `tests`.
    fn all<'t>(&self, tests: &'t [Test], jobs: usize) -> anyhow::Result<Vec<(&'t Test, Outcome)>> {
        let (next, done) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
        std::thread::scope(|s| {
            for job in 0..jobs.max(1) {
                let (next, done) = (&next, &done);
                s.spawn(move || {
                    // Tests write files where they run.
                    let work = self.builder.dir.join(format!("work-{}-{job}", std::process::id()));
                    let made =
                        std::fs::create_dir_all(&work).with_context(|| format!("create {}", work.display()));
                    if let Err(e) = made {
                        done.lock().unwrap_or_else(|e| e.into_inner()).push((0, Err(e)));
                        return;
                    }
                    loop {
                        let n = next.fetch_add(1, Ordering::Relaxed);
                        let Some(t) = tests.get(n) else { break };
                        let r = self.one(t, &work);
                        done.lock().unwrap_or_else(|e| e.into_inner()).push((n, r));
                    }
                    // What is left over harms nobody.
                    let _ = std::fs::remove_dir_all(&work);
                });
            }
        });
        let mut done = done.into_inner().unwrap_or_else(|e| e.into_inner());
        done.sort_by_key(|d| d.0);
        done.into_iter()
            .map(|(n, r)| {
                let t = tests.get(n).context("no tests were selected")?;
                Ok((t, r.with_context(|| format!("run {}", t.name))?))
            })
            .collect()
    }
}

/// The list of a level of optimization, if there is one.
fn list_path(d: &Dirs, opt: &str) -> PathBuf {
    d.root.join(format!("tests/torture/s390x{opt}.txt"))
}

fn read_list(path: &Path) -> anyhow::Result<Option<BTreeSet<String>>> {
    let text = match std::fs::read_to_string(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        r => r.with_context(|| format!("read {}", path.display()))?,
    };
    let names = text.lines().filter(|l| !l.starts_with('#') && !l.is_empty());
    let names: BTreeSet<String> = names.map(String::from).collect();
    ensure!(
        !names.is_empty(),
        "{} names no tests; see git log, or type: cargo xtask torture --update",
        path.display()
    );
    Ok(Some(names))
}

/// What a campaign comes to.
#[derive(Default)]
struct Report {
    /// Tests that must pass; without any, those do that pass under qemu-s390x.
    listed: BTreeSet<String>,
    passed: usize,
    failures: usize,
    /// Those that pass under qemu-s390x.
    good: Vec<String>,
    talk: Vec<String>,
}

impl Report {
    fn failed(&mut self, name: &str, why: &str) {
        self.failures += 1;
        self.talk.push(format!("FAILED {name}: {why}"));
    }

    /// What says nothing about racewalk is set apart, unless it was said to pass.
    fn apart(&mut self, name: &str, why: &str) {
        if self.listed.contains(name) {
            self.failed(name, why);
        } else {
            self.talk.push(format!("apart: {name}: {why}"));
        }
    }

    fn add(&mut self, name: &str, o: &Outcome) {
        match o {
            Outcome::NotCompiled(why) => self.apart(name, &format!("not compiled: {why}")),
            Outcome::Ran { wanted: Some(0), got } => {
                self.good.push(name.into());
                if *got != Some(0) {
                    self.failed(name, &format!("{} instead of status 0", status(*got)));
                } else if self.listed.is_empty() || self.listed.contains(name) {
                    self.passed += 1;
                } else {
                    self.talk.push(format!("passes, though not in the list: {name}"));
                }
            }
            Outcome::Ran { wanted, got } => {
                let (q, r) = (status(*wanted), status(*got));
                self.apart(name, &format!("{q} under {QEMU}, {r} under racewalk"));
            }
        }
    }
}

/// Installs, extracts, compiles, runs, compares and prints. A listed test that does not pass is an error.
pub fn torture(d: &Dirs, a: &Args) -> anyhow::Result<()> {
    install::install()?;
    let mut build = crate::cargo(d, &["build", "--release", "--package", "racewalk"]);
    crate::succeed(&mut build, "the build failed")?;
    let started = Instant::now();
    let target = d.guests.ancestors().nth(2).context("the guests' directory has no parent")?;
    let scratch = target.join("torture");
    let source = suite::extract(&scratch)?;
    let builder = Builder::new(&scratch, &source, &a.opt)?;
    let selected =
        |name: &str| a.part.contains(name) && a.filter.as_ref().is_none_or(|f| name.contains(f.as_str()));
    let mut tests = suite::tests(&source)?;
    tests.retain(|t| selected(&t.name));
    let controls = suite::controls(&builder.dir)?;
    let path = list_path(d, &a.opt);
    let list = if a.update { None } else { read_list(&path)? };
    ensure!(list.is_some() || !a.needs_list, "{} is missing", path.display());
    let mut missing = list.unwrap_or_default();
    missing.retain(|n| selected(n));
    let listed = missing.clone();
    ensure!(!tests.is_empty() || !listed.is_empty(), "no test is selected");

    let jobs = a.jobs.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
    let c = Campaign {
        d,
        builder,
        engine: &a.engine,
        qemu: suite::version(QEMU)?,
        compiled: AtomicUsize::new(0),
    };
    let mut r = Report { listed, ..Report::default() };
    for (t, o) in c.all(&tests, jobs)? {
        missing.remove(&t.name);
        r.add(&t.name, &o);
    }
    for name in &missing {
        r.failed(name, "the suite has no such test");
    }
    for (t, o) in c.all(&controls, jobs)? {
        let Outcome::Ran { wanted, got } = o else { bail!("{} is not compiled", t.name) };
        if wanted != got {
            r.failed(&t.name, &format!("{} instead of {}", status(got), status(wanted)));
        }
    }
    println!(
        "torture: {} of {} tests that must pass do ({}, engine {}, part {}/{}); {} compiled now; {:.0} s",
        r.passed,
        if r.listed.is_empty() { r.good.len() } else { r.listed.len() },
        a.opt,
        a.engine,
        a.part.k,
        a.part.n,
        c.compiled.load(Ordering::Relaxed),
        started.elapsed().as_secs_f64()
    );
    for line in &r.talk {
        println!("  {line}");
    }
    if a.update {
        let mut text = format!(
            "# Tests of gcc's c-torture/execute that must pass with {}: those that pass under\n# {}, compiled by\n# {}.\n\
             # Made by cargo xtask torture --update.\n",
            a.opt,
            c.qemu,
            suite::version(COMPILER)?
        );
        for name in &r.good {
            writeln!(text, "{name}")?;
        }
        std::fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
        println!("torture: wrote {}", path.display());
    } else if r.listed.is_empty() && a.filter.is_none() {
        println!("torture: there is no {}; compared with {QEMU} only", path.display());
    }
    if r.failures != 0 {
        bail!("{} torture tests failed", r.failures);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listed_test_must_pass() {
        let ran = |wanted, got| Outcome::Ran { wanted: Some(wanted), got: Some(got) };
        let listed = || BTreeSet::from(["a".to_string()]);
        let report = |name: &str, o: Outcome| {
            let mut r = Report { listed: listed(), ..Report::default() };
            r.add(name, &o);
            (r.passed, r.failures)
        };
        assert_eq!(report("a", ran(0, 0)), (1, 0));
        assert_eq!(report("a", ran(0, 139)), (0, 1));
        assert_eq!(report("a", ran(134, 134)), (0, 1));
        assert_eq!(report("a", ran(134, 0)), (0, 1));
        assert_eq!(report("a", Outcome::Ran { wanted: Some(0), got: None }), (0, 1));
        assert_eq!(report("a", Outcome::NotCompiled("error".into())), (0, 1));
        assert_eq!(report("b", ran(0, 0)), (0, 0));
        assert_eq!(report("b", ran(0, 1)), (0, 1));
        assert_eq!(report("b", ran(1, 1)), (0, 0));
        assert_eq!(report("b", Outcome::NotCompiled("error".into())), (0, 0));
    }

    #[test]
    fn parts_are_the_whole() {
        let names: Vec<String> = (0..1000).map(|n| format!("pr{n}-1")).collect();
        let mut sizes = Vec::new();
        for name in &names {
            let n = (1..=4).filter(|&k| Part { k, n: 4 }.contains(name)).count();
            assert_eq!(n, 1, "{name} is in {n} quarters");
        }
        for k in 1..=4 {
            sizes.push(names.iter().filter(|n| Part { k, n: 4 }.contains(n)).count());
        }
        assert!(sizes.iter().all(|s| (180..=320).contains(s)), "{sizes:?}");
        assert_eq!("2/3".parse(), Ok(Part { k: 2, n: 3 }));
        for bad in ["", "1", "0/4", "5/4", "1/0", "a/b", "-1/4"] {
            assert!(bad.parse::<Part>().is_err(), "{bad}");
        }
    }
}

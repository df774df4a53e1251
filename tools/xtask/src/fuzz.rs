//! `cargo xtask fuzz-isa`: random instruction sequences on two machines.

use crate::Dirs;
use anyhow::{Context, bail, ensure};
use racewalk_tests::differential::campaign::{Campaign, Report};
use racewalk_tests::differential::judge::{self, Strictness};
use racewalk_tests::differential::run::{Bench, Machine};
use racewalk_tests::differential::values;
use racewalk_tests::guests::manifest;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Instant;

/// What the sequences are compared with.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum Against {
    /// The interpreter against qemu-s390x.
    Qemu,
    /// The translator against the interpreter.
    Engines,
    /// `--engine check` against the interpreter.
    Check,
}

/// `cargo xtask fuzz-isa`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// How many sequences.
    #[arg(long, default_value_t = 100_000)]
    pub sequences: u64,
    /// Which sequences: the same seed gives the same.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Index of the first sequence.
    #[arg(long, default_value_t = 0)]
    pub first: u64,
    /// What they are compared with.
    #[arg(long, value_enum, default_value_t = Against::Qemu)]
    pub against: Against,
    /// Write the story of each difference that is not judged into this directory.
    #[arg(long, value_name = "DIR")]
    pub save: Option<PathBuf>,
    /// Most differences to tell in full.
    #[arg(long, default_value_t = 20)]
    pub stories: usize,
}

/// Runs a campaign and prints what came of it.
pub fn fuzz(d: &Dirs, a: &Args) -> anyhow::Result<()> {
    ensure!(
        d.racewalk.is_file(),
        "{} is missing; type: cargo build --release --package racewalk",
        d.racewalk.display()
    );
    let guest = d.guests.join("sequences");
    std::fs::create_dir_all(&d.guests).with_context(|| format!("create {}", d.guests.display()))?;
    let list = manifest(&d.root)?;
    let source =
        list.iter().find(|g| g.name == "sequences").context("find the guest sequences in the manifest")?;
    source.build(&d.root, &guest)?;
    let scratch = racewalk_tests::paths::profile_dir()?.join("fuzz-isa");
    std::fs::create_dir_all(&scratch).with_context(|| format!("create {}", scratch.display()))?;
    let bench = Bench { racewalk: d.racewalk.clone(), guest, scratch, image: values::image(a.seed) };
    let (machines, strictness) = match a.against {
        Against::Qemu => ([Machine::Qemu, Machine::Engine("interp")], Strictness::Defined),
        Against::Engines => ([Machine::Engine("interp"), Machine::Engine("jit")], Strictness::All),
        Against::Check => ([Machine::Engine("interp"), Machine::Engine("check")], Strictness::All),
    };
    let judged = if a.against == Against::Qemu { judge::read(&d.root)? } else { Vec::new() };
    let c = Campaign {
        seed: a.seed,
        first: a.first,
        sequences: a.sequences,
        machines,
        strictness,
        judged,
        stories: a.stories,
    };
    let started = Instant::now();
    let report = c.run(&bench, |done, r| {
        if done % 50_000 == 0 {
            eprintln!(
                "xtask: {done} sequences, {} differences not judged, {:.0} s",
                r.findings.len(),
                started.elapsed().as_secs_f64()
            );
        }
    })?;
    if let Some(dir) = &a.save {
        std::fs::create_dir_all(dir).with_context(|| format!("create {}", dir.display()))?;
        for f in report.findings.iter().filter(|f| !f.story.is_empty()) {
            let path = dir.join(format!("{}-{}-{}.txt", f.mnemonic, a.seed, f.index));
            std::fs::write(&path, &f.story).with_context(|| format!("write {}", path.display()))?;
        }
    }
    print(&c, &report, started.elapsed().as_secs_f64());
    match report.findings.len() {
        0 => Ok(()),
        n => bail!("{n} differences are not judged"),
    }
}

fn print(c: &Campaign, r: &Report, seconds: f64) {
    for f in r.findings.iter().filter(|f| !f.story.is_empty()) {
        println!("{}", f.story);
    }
    let mut by: BTreeMap<&str, BTreeMap<String, u64>> = BTreeMap::new();
    for f in &r.findings {
        *by.entry(f.mnemonic).or_default().entry(f.fields.join(" ")).or_default() += 1;
    }
    for (m, fields) in by {
        for (f, n) in fields {
            println!("not judged: {m:<8} {n:>6}  {f}");
        }
    }
    for (n, times) in &r.judged {
        let j = &c.judged[*n];
        println!("judged: {times:>6}  {} ({} is right): {}", j.mnemonics.join(" "), j.right, j.why);
    }
    let (least, times) = r.least();
    println!("machines      {} and {}", c.machines[0], c.machines[1]);
    println!("seed          {}, from sequence {}", c.seed, c.first);
    println!("sequences     {}", c.sequences);
    println!("instructions  {}", r.instructions);
    println!("mnemonics     {}; the least, {least}, executed {times} times", r.executed.len());
    println!("judged        {} differences by {} entries", r.judged.values().sum::<u64>(), r.judged.len());
    println!("not judged    {}", r.findings.len());
    println!("time          {seconds:.1} s");
}

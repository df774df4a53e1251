//! Running batches on qemu-s390x and on racewalk.

use super::batch::{self, Record};
use super::sequence::Sequence;
use crate::run::{Run, run};
use anyhow::{Context, bail};
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// What executes sequences.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Machine {
    /// qemu-s390x, CPU model `max`.
    Qemu,
    /// racewalk with this engine.
    Engine(&'static str),
}

impl std::fmt::Display for Machine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Machine::Qemu => f.write_str("qemu-s390x"),
            Machine::Engine(e) => write!(f, "racewalk --engine {e}"),
        }
    }
}

/// Where the programs are, and what the data area holds.
#[derive(Clone, Debug)]
pub struct Bench {
    /// The racewalk command.
    pub racewalk: PathBuf,
    /// The guest `sequences`.
    pub guest: PathBuf,
    /// Directory for batch files.
    pub scratch: PathBuf,
    /// The data area.
    pub image: Vec<u8>,
}

/// What became of a sequence; the text says how the machine itself failed.
pub type Outcome = Result<Record, String>;

static NEXT: AtomicU32 = AtomicU32::new(0);

impl Bench {
    fn once(&self, m: Machine, all: &[Sequence]) -> anyhow::Result<Run> {
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let file = self.scratch.join(format!("batch-{}-{n}", std::process::id()));
        std::fs::write(&file, batch::write(&self.image, all)?)
            .with_context(|| format!("write {}", file.display()))?;
        let mut c = match m {
            Machine::Qemu => {
                let mut c = Command::new("qemu-s390x");
                c.args(["-cpu", "max"]);
                c
            }
            Machine::Engine(e) => {
                let mut c = Command::new(&self.racewalk);
                c.args(["run", "--engine", e, "--mem", "256M"]);
                c
            }
        };
        let r = run(c.arg(&self.guest).arg(&file), Duration::from_secs(30 + all.len() as u64 / 250));
        std::fs::remove_file(&file).with_context(|| format!("remove {}", file.display()))?;
        Ok(r)
    }

    /// Runs sequences; one outcome each. When the machine fails, the batch is halved until what fails is found.
    pub fn run(&self, m: Machine, all: &[Sequence]) -> anyhow::Result<Vec<Outcome>> {
        if all.is_empty() {
            return Ok(Vec::new());
        }
        let r = self.once(m, all)?;
        let records = batch::read(&r.stdout).unwrap_or_default();
        if r.status == Some(0) && records.len() == all.len() {
            return Ok(records.into_iter().map(Ok).collect());
        }
        if r.status == Some(2) && r.stderr.contains("sequences") {
            bail!("the guest cannot run:\n{r}");
        }
        if let [_] = all {
            let said = r.stderr.lines().find(|l| l.len() > 3).unwrap_or_default();
            let status = r.status.map_or("no end".into(), |s| format!("status {s}"));
            return Ok(vec![Err(format!("{m} ended with {status}: {said}"))]);
        }
        let (a, b) = all.split_at(all.len() / 2);
        let mut all = self.run(m, a)?;
        all.extend(self.run(m, b)?);
        Ok(all)
    }

    /// Runs sequences on two machines at a time.
    pub fn both(&self, m: [Machine; 2], all: &[Sequence]) -> anyhow::Result<[Vec<Outcome>; 2]> {
        std::thread::scope(|s| {
            let other = s.spawn(|| self.run(m[1], all));
            let one = self.run(m[0], all)?;
            let two =
                other.join().map_err(|_| anyhow::anyhow!("the thread that runs {} panicked", m[1]))??;
            Ok([one, two])
        })
    }
}

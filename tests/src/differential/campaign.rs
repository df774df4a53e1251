//! A run of many sequences on two machines: who differs, at which instruction, in how few operands.

use super::batch::Record;
use super::generate;
use super::judge::{Difference, Judged, Strictness, differences, within_units};
use super::run::{Bench, Machine, Outcome};
use super::sequence::Sequence;
use super::shrink;
use std::collections::BTreeMap;

/// Sequences in one launch of a machine.
const BATCH: u64 = 5000;

/// What to run.
#[derive(Clone, Debug)]
pub struct Campaign {
    /// Seed: the same seed gives the same sequences.
    pub seed: u64,
    /// Index of the first sequence.
    pub first: u64,
    /// How many.
    pub sequences: u64,
    /// The machine that is believed, and the one under test.
    pub machines: [Machine; 2],
    /// How records are compared.
    pub strictness: Strictness,
    /// Known differences.
    pub judged: Vec<Judged>,
    /// Differences that nobody judged to shrink and tell in full; the rest are counted.
    pub stories: usize,
}

/// A difference that is not judged.
#[derive(Clone, Debug)]
pub struct Finding {
    /// Which sequence it came from.
    pub index: u64,
    /// The instruction.
    pub mnemonic: &'static str,
    /// What differs.
    pub fields: Vec<String>,
    /// Everything, as text; empty if it was only counted.
    pub story: String,
}

/// What came of it.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Instructions in all sequences.
    pub instructions: u64,
    /// For each mnemonic how often it was certainly executed, as an instruction under test.
    pub executed: BTreeMap<&'static str, u64>,
    /// Judged differences: by entry, the number.
    pub judged: BTreeMap<usize, u64>,
    /// Judged differences by mnemonic.
    pub judged_mnemonics: BTreeMap<&'static str, u64>,
    /// The others.
    pub findings: Vec<Finding>,
}

impl Report {
    /// The mnemonic that was executed least, and how often.
    pub fn least(&self) -> (&'static str, u64) {
        let least = self.executed.iter().min_by_key(|(_, n)| **n);
        least.map_or(("", 0), |(m, n)| (m, *n))
    }
}

/// One sequence that went differently, cut at the instruction that did.
#[derive(Clone, Debug)]
pub struct Cut {
    /// The sequence up to that instruction.
    pub sequence: Sequence,
    /// The record before it.
    pub before: Option<Record>,
    /// What became of it on both machines.
    pub outcomes: [Outcome; 2],
}

/// What a cut shows.
pub enum Shown {
    /// The machines agree, as far as anything is defined.
    Nothing,
    /// A judged difference: the entry.
    Judged(usize),
    /// This differs.
    Differs(Vec<String>),
}

impl Campaign {
    /// Compares what became of a sequence whose last item is the one in question.
    pub fn look(&self, c: &Cut) -> Shown {
        let (Some(item), [a, b]) = (c.sequence.items.last(), &c.outcomes) else { return Shown::Nothing };
        let (a, b) = match (a, b) {
            (Ok(a), Ok(b)) => (a, b),
            (Err(_), Err(_)) => return Shown::Nothing,
            (Err(_), Ok(_)) if let Some(n) = self.judged.iter().position(|j| j.covers_end(item)) => {
                return Shown::Judged(n);
            }
            _ => return Shown::Differs(vec!["machine".into()]),
        };
        let fields = differences(a, b, self.strictness);
        if fields.is_empty() || within_units(item, a, b, self.strictness) {
            return Shown::Nothing;
        }
        let before = c.before.as_ref();
        let start = before.map_or(&c.sequence.state, |b| &b.state);
        let d = Difference { item, before, start, there: a, here: b, fields: &fields };
        match self.judged.iter().position(|j| j.covers(&d)) {
            Some(n) => Shown::Judged(n),
            None => Shown::Differs(fields),
        }
    }

    /// Cuts each sequence at the first instruction that the machines execute differently.
    fn cut(&self, bench: &Bench, all: &[Sequence]) -> anyhow::Result<Vec<Option<Cut>>> {
        let prefixes: Vec<_> = all.iter().flat_map(|s| (1..=s.items.len()).map(|n| s.prefix(n))).collect();
        let [a, b] = bench.both(self.machines, &prefixes)?;
        let mut outcomes = prefixes.into_iter().zip(a.into_iter().zip(b));
        let mut cuts = Vec::new();
        for s in all {
            let mut found: Option<Cut> = None;
            let mut before = None;
            for (sequence, (a, b)) in outcomes.by_ref().take(s.items.len()) {
                if found.is_some() {
                    continue;
                }
                let same =
                    matches!((&a, &b), (Ok(a), Ok(b)) if differences(a, b, self.strictness).is_empty());
                if same {
                    before = a.ok();
                } else {
                    found = Some(Cut { sequence, before: before.take(), outcomes: [a, b] });
                }
            }
            cuts.push(found);
        }
        Ok(cuts)
    }

    /// Runs it. `progress` is called after each batch with the number of sequences done.
    pub fn run(&self, bench: &Bench, mut progress: impl FnMut(u64, &Report)) -> anyhow::Result<Report> {
        let mut report = Report::default();
        for m in generate::mnemonics() {
            report.executed.insert(m, 0);
        }
        let mut done = 0;
        while done < self.sequences {
            let n = BATCH.min(self.sequences - done);
            let indices: Vec<u64> = (0..n).map(|k| self.first + done + k).collect();
            let all: Vec<_> = indices.iter().map(|&k| generate::sequence(self.seed, k)).collect();
            let [a, b] = bench.both(self.machines, &all)?;
            let mut differing = Vec::new();
            for ((index, s), (a, b)) in indices.into_iter().zip(all).zip(a.into_iter().zip(b)) {
                report.instructions += s.instructions() as u64;
                if let Ok(a) = &a {
                    count(&s, a, &mut report.executed);
                }
                let same =
                    matches!((&a, &b), (Ok(a), Ok(b)) if differences(a, b, self.strictness).is_empty());
                if !same {
                    differing.push((index, s));
                }
            }
            self.explain(bench, differing, &mut report)?;
            done += n;
            progress(done, &report);
        }
        Ok(report)
    }

    /// Finds the instructions behind differing sequences. One that is judged is taken out, and the rest runs again.
    fn explain(
        &self,
        bench: &Bench,
        mut todo: Vec<(u64, Sequence)>,
        report: &mut Report,
    ) -> anyhow::Result<()> {
        while !todo.is_empty() {
            let sequences: Vec<_> = todo.iter().map(|(_, s)| s.clone()).collect();
            let cuts = self.cut(bench, &sequences)?;
            let mut again = Vec::new();
            for ((index, mut s), cut) in todo.into_iter().zip(cuts) {
                let Some(cut) = cut else { continue };
                let at = cut.sequence.items.len() - 1;
                let mnemonic = s.items[at].row.name;
                match self.look(&cut) {
                    Shown::Nothing => {}
                    Shown::Judged(n) => {
                        *report.judged.entry(n).or_default() += 1;
                        *report.judged_mnemonics.entry(mnemonic).or_default() += 1;
                    }
                    Shown::Differs(fields) => {
                        let told = |f: &&Finding| f.mnemonic == mnemonic && !f.story.is_empty();
                        let few = report.findings.iter().filter(told).count() < 2;
                        let total = report.findings.iter().filter(|f| !f.story.is_empty()).count();
                        let story = match few && total < self.stories {
                            true => shrink::story(self, bench, cut, index)?,
                            false => String::new(),
                        };
                        report.findings.push(Finding { index, mnemonic, fields, story });
                    }
                }
                s.items.remove(at);
                if !s.items.is_empty() {
                    again.push((index, s));
                }
            }
            todo = again;
        }
        Ok(())
    }
}

/// Counts what was certainly executed: up to the first branch, and up to the instruction that a signal ended.
fn count(s: &Sequence, r: &Record, executed: &mut BTreeMap<&'static str, u64>) {
    let code = s.code();
    // The PSW is behind an instruction that was completed or suppressed.
    let last = if matches!(r.signal, 7 | 11) { r.psw } else { r.psw.wrapping_sub(1) };
    for (i, at) in s.items.iter().zip(&code.at) {
        if r.signal != 0 && at[i.test.min(at.len() - 1)] > last {
            break;
        }
        *executed.entry(i.row.name).or_default() += 1;
        if i.branches() {
            break;
        }
    }
}

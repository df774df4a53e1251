//! What differs between two records, and whether that is a difference somebody has understood and written down.

use super::batch::Record;
use super::condition;
use super::sequence::{Item, State};
use anyhow::{Context, ensure};
use serde::Deserialize;
use std::path::Path;

/// Most judged differences the file may hold.
pub const MOST: usize = 15;

/// One judged difference.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Judged {
    /// The mnemonics it is about.
    pub mnemonics: Vec<String>,
    /// What may differ: names as [`differences`] gives them; `gr*` stands for all that begin so.
    pub fields: Vec<String>,
    /// The signal there, if it must be this one (0: none).
    pub qemu: Option<u32>,
    /// The signal here, if it must be this one (0: none).
    pub racewalk: Option<u32>,
    /// A further condition: see [`condition::condition`].
    pub when: Option<String>,
    /// The section of the *Principles of Operation* that decides.
    pub section: String,
    /// Which machine is right.
    pub right: String,
    /// Why they differ.
    pub why: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    judged: Vec<Judged>,
}

/// Reads `tests/differential/judged.toml`.
pub fn read(root: &Path) -> anyhow::Result<Vec<Judged>> {
    let path = root.join("tests/differential/judged.toml");
    let text = std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    let f: File = toml::from_str(&text).with_context(|| format!("understand {}", path.display()))?;
    ensure!(
        f.judged.len() <= MOST,
        "{} has {} entries; wanted at most {MOST}",
        path.display(),
        f.judged.len()
    );
    for j in &f.judged {
        ensure!(
            j.when.as_deref().is_none_or(condition::is_condition),
            "{}: no condition is called {:?}",
            path.display(),
            j.when
        );
    }
    Ok(f.judged)
}

/// One instruction that two machines executed differently from the same state.
#[derive(Clone, Debug)]
pub struct Difference<'a> {
    /// The instruction.
    pub item: &'a Item,
    /// The record before it; none if it was the first.
    pub before: Option<&'a Record>,
    /// The registers before it and what sets its operands up.
    pub start: &'a State,
    /// There.
    pub there: &'a Record,
    /// Here.
    pub here: &'a Record,
    /// What differs.
    pub fields: &'a [String],
}

/// How strictly records are compared.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Strictness {
    /// Everything: two engines.
    All,
    /// What the architecture and Linux define: another implementation.
    Defined,
}

/// Names of what differs: `signal`, `code`, `address`, `psw`, `gr0`, …, `fr0`, …, `ar0`, …, `fpc`, `cc`, `mask`,
/// `memory`; `machine` stands for a machine that ended itself.
pub fn differences(a: &Record, b: &Record, s: Strictness) -> Vec<String> {
    let mut all = Vec::new();
    let mut note = |differs: bool, name: &str| {
        if differs {
            all.push(name.to_string());
        }
    };
    // Linux gives the page of an access exception only.
    let address =
        |r: &Record| if s == Strictness::Defined && r.signal == 11 { r.address & !4095 } else { r.address };
    note(a.signal != b.signal, "signal");
    note(a.code != b.code, "code");
    note(address(a) != address(b), "address");
    note(a.psw != b.psw, "psw");
    let (x, y) = (&a.state, &b.state);
    for n in 0..16 {
        note(x.gr[n] != y.gr[n], &format!("gr{n}"));
        note(x.fr[n] != y.fr[n], &format!("fr{n}"));
        note(x.ar[n] != y.ar[n], &format!("ar{n}"));
    }
    note(x.fpc != y.fpc, "fpc");
    note(x.pm >> 4 != y.pm >> 4, "cc");
    note(x.pm & 15 != y.pm & 15, "mask");
    note(a.hash != b.hash || a.changed != b.changed, "memory");
    all
}

/// Whether `fields` say nothing: an access exception within an instruction that works in units.
pub fn within_units(item: &Item, a: &Record, b: &Record, s: Strictness) -> bool {
    let access = |r: &Record| matches!(r.signal, 7 | 11);
    s == Strictness::Defined && item.units && access(a) && access(b) && a.psw == b.psw
}

impl Judged {
    /// Whether it explains that the machine there ended within an item.
    pub fn covers_end(&self, i: &Item) -> bool {
        self.mnemonics.iter().any(|m| m == i.subject.name)
            && self.fields.iter().any(|f| f == "machine")
            && self.when.as_deref().is_some_and(|w| condition::explains_end(w, i))
    }

    /// Whether it explains a difference, all of it.
    pub fn covers(&self, d: &Difference) -> bool {
        let field = |f: &String| {
            self.fields.iter().any(|p| match p.strip_suffix('*') {
                Some(stem) => f.starts_with(stem),
                None => p == f,
            })
        };
        self.mnemonics.iter().any(|m| m == d.item.subject.name || m == "*")
            && d.fields.iter().all(field)
            && self.qemu.is_none_or(|s| s == d.there.signal)
            && self.racewalk.is_none_or(|s| s == d.here.signal)
            && self.when.as_deref().is_none_or(|w| condition::condition(w, d))
    }
}

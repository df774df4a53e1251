//! Which schemes each scenario is expected to break.

use crate::nearest;
use crate::scenario::{Geometry, MAX_RULE, Scenario};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};

/// The most schedules a cell may ask for.
pub const MAX_BUDGET: u64 = 100_000;
/// The reason of cells whose scheme knows none of the scenario's geometries.
pub const GEOMETRY: &str = "geometry";

/// What is known of a scheme itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// No interleaving breaks it.
    Sound,
    /// Some interleaving breaks it.
    Flawed,
}

/// A scheme of the matrix.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Scheme {
    /// One line about it.
    pub title: String,
    /// Whether it is sound.
    pub status: Status,
    /// Geometries it knows.
    pub geometries: Vec<Geometry>,
}

/// What a scenario is expected to show of a scheme.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Expectation {
    /// A finding of one of these invariants.
    Caught(Vec<u8>),
    /// No finding.
    Silent,
    /// It cannot be run; the word is one of [`Matrix::reasons`].
    NotApplicable(String),
    /// Nobody has said, and why.
    Open(String),
}

impl Expectation {
    /// Whether what a campaign found is what was expected; `None` if nothing was. A finding of other invariants than
    /// those of a `Caught` is not what was expected.
    pub fn met(&self, found: &BTreeSet<u8>) -> Option<bool> {
        match self {
            Expectation::Caught(rules) => Some(rules.iter().any(|r| found.contains(r))),
            Expectation::Silent => Some(found.is_empty()),
            Expectation::NotApplicable(_) | Expectation::Open(_) => None,
        }
    }
}

/// A scenario's row.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Row {
    /// Preemptions that are needed.
    pub depth: u32,
    /// Schedules to run for each scheme.
    pub budget: u64,
    /// A cell for each scheme.
    pub cells: BTreeMap<String, Expectation>,
}

/// The matrix.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Matrix {
    /// Words for why a cell is not applicable, and what they mean.
    pub reasons: BTreeMap<String, String>,
    /// Schemes by id.
    pub schemes: BTreeMap<String, Scheme>,
    /// Rows by the name of the scenario.
    pub rows: BTreeMap<String, Row>,
}

/// A matrix that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum MatrixError {
    /// It is not TOML, or not of this form.
    #[error("the matrix does not read as TOML of its form: {0}")]
    Toml(#[from] toml::de::Error),
    /// A part contradicts another or names what is not there.
    #[error("matrix, {at}: found {found}; wanted {wanted}")]
    Part {
        /// Which part.
        at: String,
        /// What is there.
        found: String,
        /// What should be.
        wanted: String,
    },
}

fn part<T>(at: &str, found: impl Into<String>, wanted: impl Into<String>) -> Result<T, MatrixError> {
    Err(MatrixError::Part { at: at.into(), found: found.into(), wanted: wanted.into() })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    reasons: BTreeMap<String, String>,
    scheme: BTreeMap<String, SchemeText>,
    scenario: BTreeMap<String, RowText>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SchemeText {
    title: String,
    status: Status,
    geometry: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct RowText {
    depth: u32,
    budget: u64,
    #[serde(default)]
    silent: Vec<String>,
    #[serde(default)]
    caught: BTreeMap<String, Vec<u8>>,
    #[serde(default)]
    open: BTreeMap<String, String>,
    #[serde(default)]
    not_applicable: BTreeMap<String, Vec<String>>,
}

impl Matrix {
    /// Reads a matrix for exactly these scenarios.
    pub fn parse(text: &str, scenarios: &[Scenario]) -> Result<Matrix, MatrixError> {
        let file: File = toml::from_str(text)?;
        if !file.reasons.contains_key(GEOMETRY) {
            return part("[reasons]", "no word `geometry`", "one: cells get it without being listed");
        }
        let mut schemes = BTreeMap::new();
        for (id, s) in file.scheme {
            let known = |w: &String| Geometry::from_word(w).ok_or_else(|| w.clone());
            match s.geometry.iter().map(known).collect::<Result<Vec<_>, _>>() {
                Ok(g) if !g.is_empty() => {
                    schemes.insert(id, Scheme { title: s.title, status: s.status, geometries: g })
                }
                Ok(_) => return part(&format!("scheme {id}"), "no geometry", "at least one"),
                Err(w) => return part(&format!("scheme {id}"), format!("geometry {w:?}"), geometries()),
            };
        }
        let mut m = Matrix { reasons: file.reasons, schemes, rows: BTreeMap::new() };
        for s in scenarios {
            if !file.scenario.contains_key(&s.name) {
                return part(&format!("scenario {}", s.name), "nothing", "a row for it");
            }
        }
        for (name, text) in file.scenario {
            let Some(scenario) = scenarios.iter().find(|s| s.name == name) else {
                let near = nearest(&name, scenarios.iter().map(|s| s.name.as_str()));
                let wanted = near.map_or("a scenario's name".into(), |n| format!("a scenario, perhaps {n}"));
                return part(&format!("scenario {name}"), "no scenario of that name", wanted);
            };
            let row = m.row(scenario, text)?;
            m.rows.insert(name, row);
        }
        Ok(m)
    }

    fn row(&self, scenario: &Scenario, text: RowText) -> Result<Row, MatrixError> {
        let at = format!("scenario {}", scenario.name);
        if !(1..=MAX_BUDGET).contains(&text.budget) {
            return part(&at, format!("budget {}", text.budget), format!("1 to {MAX_BUDGET}"));
        }
        let mut given = Vec::new();
        given.extend(text.silent.into_iter().map(|s| (s, Expectation::Silent)));
        given.extend(text.open.into_iter().map(|(s, why)| (s, Expectation::Open(why))));
        for (s, rules) in text.caught {
            if rules.is_empty() || rules.iter().any(|r| !(1..=MAX_RULE).contains(r)) {
                return part(&at, format!("{s} caught by {rules:?}"), format!("invariants 1 to {MAX_RULE}"));
            }
            given.push((s, Expectation::Caught(rules)));
        }
        for (reason, list) in text.not_applicable {
            if !self.reasons.contains_key(&reason) || reason == GEOMETRY {
                let words: Vec<_> =
                    self.reasons.keys().map(String::as_str).filter(|r| *r != GEOMETRY).collect();
                return part(&at, format!("reason {reason:?}"), format!("one of {}", words.join(", ")));
            }
            given.extend(list.into_iter().map(|s| (s, Expectation::NotApplicable(reason.clone()))));
        }
        let mut cells = BTreeMap::new();
        for (id, cell) in given {
            let Some(scheme) = self.schemes.get(&id) else {
                let near = nearest(&id, self.schemes.keys().map(String::as_str));
                let wanted =
                    near.map_or("a scheme of the matrix".into(), |n| format!("a scheme, perhaps {n}"));
                return part(&at, format!("scheme {id:?}"), wanted);
            };
            if !scheme.knows(scenario) {
                return part(
                    &at,
                    format!("a cell for {id}"),
                    "none: it knows none of the scenario's geometries",
                );
            }
            // On a machine that hides its walkers nothing is sound.
            let may = scheme.status == Status::Flawed || scenario.machine.refill_hidden;
            if !may && matches!(cell, Expectation::Caught(_)) {
                return part(&at, format!("{id} caught"), "another expectation, or status = \"flawed\"");
            }
            if cells.insert(id.clone(), cell).is_some() {
                return part(&at, format!("two cells for {id}"), "one");
            }
        }
        for (id, scheme) in &self.schemes {
            if !scheme.knows(scenario) {
                cells.insert(id.clone(), Expectation::NotApplicable(GEOMETRY.into()));
            } else if !cells.contains_key(id) {
                return part(&at, format!("no cell for {id}"), "caught, silent, open or not-applicable");
            }
        }
        Ok(Row { depth: text.depth, budget: text.budget, cells })
    }

    /// The cell of a scenario and a scheme.
    pub fn cell(&self, scenario: &str, scheme: &str) -> Option<&Expectation> {
        self.rows.get(scenario)?.cells.get(scheme)
    }

    /// Schemes that a scenario is expected to catch.
    pub fn caught(&self, scenario: &str) -> Vec<&str> {
        self.of(scenario, |e| matches!(e, Expectation::Caught(_)))
    }

    /// Schemes that it is expected to be silent about.
    pub fn silent(&self, scenario: &str) -> Vec<&str> {
        self.of(scenario, |e| *e == Expectation::Silent)
    }

    /// Schemes of which nobody knows.
    pub fn open(&self, scenario: &str) -> Vec<&str> {
        self.of(scenario, |e| matches!(e, Expectation::Open(_)))
    }

    fn of(&self, scenario: &str, want: impl Fn(&Expectation) -> bool) -> Vec<&str> {
        let cells = self.rows.get(scenario).into_iter().flat_map(|r| &r.cells);
        cells.filter(|(_, e)| want(e)).map(|(s, _)| s.as_str()).collect()
    }

    /// Invariants that some cell of a scenario expects.
    pub fn rules(&self, scenario: &str) -> BTreeSet<u8> {
        let cells = self.rows.get(scenario).into_iter().flat_map(|r| r.cells.values());
        let rules = cells.filter_map(|e| if let Expectation::Caught(r) = e { Some(r) } else { None });
        rules.flatten().copied().collect()
    }
}

impl Scheme {
    /// Whether it can be run on one of the scenario's geometries.
    pub fn knows(&self, scenario: &Scenario) -> bool {
        self.geometries.iter().any(|g| scenario.geometries.contains(g))
    }
}

fn geometries() -> String {
    format!("one of {}", Geometry::ALL.map(Geometry::word).join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::library;

    /// Seen to fail with f-04's cell of s390-pre taken to `silent`: nothing else catches that scheme.
    #[test]
    fn every_flaw_is_caught_and_every_scenario_passes_something_sound() {
        let m = library::matrix().unwrap_or_else(|e| panic!("{e}"));
        let scenarios = library::scenarios().unwrap_or_else(|e| panic!("{e}"));
        let hidden = |n: &str| scenarios.iter().any(|s| s.name == n && s.machine.refill_hidden);
        for (id, s) in &m.schemes {
            let caught = m.rows.keys().filter(|r| !hidden(r)).any(|r| m.caught(r).contains(&id.as_str()));
            assert_eq!(caught, s.status == Status::Flawed, "{id}");
        }
        for scenario in &scenarios {
            let n = scenario.name.as_str();
            let row = &m.rows[n];
            assert_eq!(row.cells.len(), m.schemes.len(), "{n}");
            let sound = m.silent(n).iter().any(|s| m.schemes[*s].status == Status::Sound);
            let all_open =
                row.cells.values().all(|e| matches!(e, Expectation::Open(_) | Expectation::NotApplicable(_)));
            assert!(sound || all_open || hidden(n), "{n} has no sound scheme to be silent about");
            // What a scenario is about is what it catches, if it catches anything by design.
            let rules = m.rules(n);
            let about = scenario.forbid.is_empty() || rules.iter().any(|r| scenario.forbid.contains(r));
            assert!(about || rules.is_empty(), "{n}: none of {rules:?} is forbidden");
        }
    }

    /// Seen to fail with any finding taken for the one that was expected.
    #[test]
    fn expectations_are_met_or_not() {
        let found = |rules: &[u8]| rules.iter().copied().collect::<BTreeSet<_>>();
        let caught = Expectation::Caught(vec![4, 10]);
        assert_eq!(
            [&[][..], &[5], &[10, 5]].map(|r| caught.met(&found(r))),
            [Some(false), Some(false), Some(true)]
        );
        assert_eq!([&[][..], &[5]].map(|r| Expectation::Silent.met(&found(r))), [Some(true), Some(false)]);
        assert_eq!(Expectation::Open("why".into()).met(&found(&[5])), None);
    }

    /// Seen to fail with the check of sound schemes left out.
    #[test]
    fn errors_say_what_is_wrong() {
        let scenarios = [Scenario::parse("x", "title t\ngeometry sparc64\ncpus 1\nmm A\n")
            .unwrap_or_else(|e| panic!("{e}"))];
        let head = "[reasons]\ngeometry=\"g\"\nno-defer=\"d\"\n[scheme.good]\ntitle=\"t\"\nstatus=\"sound\"\n\
            geometry=[\"sparc64\"]\n[scheme.other]\ntitle=\"t\"\nstatus=\"flawed\"\ngeometry=[\"pae\"]\n";
        let row = "[scenario.x]\ndepth=0\nbudget=1\n";
        assert!(Matrix::parse(&format!("{head}{row}silent=[\"good\"]"), &scenarios).is_ok());
        let cases = [
            (format!("{head}[scenario.x]\ndepth=0\nbudget=100001\n"), "budget 100001; wanted 1 to 100000"),
            (format!("{head}{row}"), "no cell for good"),
            (format!("{head}{row}silent=[\"god\"]"), "scheme \"god\"; wanted a scheme, perhaps good"),
            (format!("{head}{row}silent=[\"good\",\"good\"]"), "two cells for good"),
            (format!("{head}{row}silent=[\"good\",\"other\"]"), "a cell for other; wanted none"),
            (format!("{head}{row}caught.good=[4]"), "good caught; wanted another expectation"),
            (format!("{head}{row}caught.good=[29]"), "good caught by [29]"),
            (format!("{head}{row}not-applicable.why=[\"good\"]"), "reason \"why\"; wanted one of no-defer"),
            (format!("{head}{row}loud=[\"good\"]"), "unknown field `loud`"),
            (head.to_string() + "[scenario]\n", "scenario x: found nothing; wanted a row"),
            (format!("{head}{row}silent=[\"good\"]\n[scenario.xx]\ndepth=0\nbudget=1\n"), "perhaps x"),
            (head.replace("pae", "pea") + row, "scheme other: found geometry \"pea\""),
            ("[reasons]\n[scheme]\n[scenario]".into(), "no word `geometry`"),
        ];
        for (text, want) in cases {
            let e = Matrix::parse(&text, &scenarios).map(|_| ()).unwrap_err().to_string();
            assert!(e.contains(want), "{want}: {e}");
        }
    }
}

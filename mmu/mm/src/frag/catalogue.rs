//! The catalogue of schemes (hosted-mm A): what can be selected, what is a note.

use crate::arch::Arch;
use crate::error::MmError;
use std::fmt;
use std::str::FromStr;

/// What the project has of a row of the catalogue.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Status {
    /// Can be selected.
    Selectable,
    /// Not in this version.
    Later,
    /// A design that is described, with the reason why it is not run.
    Note(&'static str),
}

/// A row of the catalogue.
#[derive(Debug, PartialEq, Eq)]
pub struct Row {
    /// The preset's name: the id in lower case.
    pub name: &'static str,
    /// The id in hosted-mm A.
    pub row: &'static str,
    /// What it does, in a line.
    pub what: &'static str,
    /// The known flaw: interleavings of hosted-mm A.9 and what goes wrong. None: sound, as far as known.
    pub flaw: Option<&'static str>,
    /// Whether it can be selected.
    pub status: Status,
}

use Status::{Later, Note, Selectable};

const fn sound(name: &'static str, row: &'static str, what: &'static str, status: Status) -> Row {
    Row { name, row, what, flaw: None, status }
}

const fn flawed(
    name: &'static str,
    row: &'static str,
    what: &'static str,
    flaw: &'static str,
    status: Status,
) -> Row {
    Row { name, row, what, flaw: Some(flaw), status }
}

/// The catalogue as a table in Markdown, for the documentation.
pub fn table() -> String {
    let mut out = String::from("| preset | row | what it does | flaw | |\n|---|---|---|---|---|\n");
    for r in CATALOGUE {
        let status = match r.status {
            Selectable => "",
            Later => "not in this version",
            Note(why) => why,
        };
        out += &format!(
            "| `{}` | {} | {} | {} | {status} |\n",
            r.name,
            r.row,
            r.what,
            r.flaw.unwrap_or("none known")
        );
    }
    out
}

/// The catalogue.
pub const CATALOGUE: &[Row] = &[
    sound(
        "s390-61",
        "S390-61",
        "PP/AA byte, no pte_free_defer: retract sends a cross call and frees",
        Selectable,
    ),
    flawed(
        "s390-pre",
        "S390-pre",
        "page_table_free clears only A",
        "F-04: page freed while it is unlinked",
        Selectable,
    ),
    flawed(
        "s390-nop",
        "S390-noP",
        "page_table_alloc looks only at A",
        "F-05: a pending half is handed out",
        Selectable,
    ),
    flawed(
        "s390-v1",
        "S390-v1",
        "the ordinary free, deferred by page->rcu_head",
        "F-01, F-02, F-03a",
        Selectable,
    ),
    flawed(
        "s390-rush",
        "S390-rush",
        "list node inside the free half",
        "F-03b: written before flush and grace period",
        Selectable,
    ),
    flawed(
        "s390-v2",
        "S390-v2",
        "HH bits, global list lock, as posted",
        "F-24: the second deferral leaks",
        Selectable,
    ),
    sound("s390-v2-maskfixed", "S390-v2", "the same with the mask shifted (our correction)", Selectable),
    flawed(
        "s390-v2g",
        "S390-v2G",
        "HH bits; a page that pte_free_defer was at is never listed again",
        "F-24: the second deferral leaks",
        Selectable,
    ),
    flawed(
        "s390-v2-mmlock",
        "F-25",
        "HH bits with the space's lock in the callback (ours)",
        "F-25: the space is gone",
        Selectable,
    ),
    sound("s390-v2+1", "S390-v2+1", "lock and list in a type-safe object", Selectable),
    flawed(
        "s390-hhtail",
        "S390-HHtail",
        "waiting pages at the end of the list",
        "F-26: a usable page is passed over",
        Selectable,
    ),
    sound("s390-1bit", "S390-1bit", "one bit for each half at a time: A, H, P", Selectable),
    flawed(
        "s390-gerald-final",
        "S390-gerald-final",
        "only the last step is deferred",
        "F-08: reuse or free inside the grace period",
        Selectable,
    ),
    flawed(
        "s390-free-rcu",
        "S390-free-rcu",
        "defers by tlb_remove_table",
        "F-13: the fallback is a cross call",
        Selectable,
    ),
    sound("s390-66", "S390-66", "Active pages are not used again; landed in 6.6", Selectable),
    sound("s390-67", "S390-67", "one table to a page; landed in 6.7", Selectable),
    flawed(
        "s390-thp",
        "S390-THP",
        "s390-66 with a collapse that leaves readers to RCU, without the lock that makes its deposits safe",
        "F-27: a table is written to, and used again, inside the grace period",
        Selectable,
    ),
    flawed(
        "s390-cat",
        "S390-cat",
        "alternatives: xarray, bitmasks, pools, waterfall",
        "F-25",
        Note(
            "callbacks are not ordered, so putting the mm on RCU too does not make it outlive its tables' callbacks",
        ),
    ),
    sound(
        "ppc-frag",
        "PPC-frag",
        "bump allocator, a count to a page; fragments are not used again",
        Selectable,
    ),
    flawed("ppc-v1", "PPC-v1", "call_rcu of page->rcu_head for each fragment", "F-01", Selectable),
    sound("ppc-v2", "PPC-v2", "deferrals counted in the upper half of the count", Selectable),
    flawed(
        "ppc-jason-side",
        "PPC-jason-side",
        "side structure with bitmaps, as written",
        "F-06: the condition is inverted",
        Selectable,
    ),
    flawed(
        "ppc-jason-side-fixed",
        "PPC-jason-side",
        "the same corrected (ours), still with one bitmap of pending fragments",
        "F-06: a late deferral shares the grace period of an earlier one",
        Selectable,
    ),
    sound("ppc-nheads", "PPC-nheads", "one rcu_head to a fragment", Selectable),
    flawed(
        "ppc-jason-last-a",
        "PPC-jason-last-a",
        "call_rcu on the last fragment, destructor before",
        "F-07",
        Selectable,
    ),
    flawed(
        "ppc-jason-last-b",
        "PPC-jason-last-b",
        "call_rcu on the last fragment, in pte_free_defer only",
        "F-08",
        Selectable,
    ),
    sound("ppc-jason-last-c", "PPC-jason-last-c", "call_rcu in every last pte_fragment_free", Selectable),
    sound(
        "ppc-66-fixed",
        "PPC-66",
        "Active page, call_rcu on the last fragment; landed in 6.6, with the later fix",
        Selectable,
    ),
    flawed(
        "ppc-66",
        "PPC-destroy",
        "the same before the fix of pte_frag_destroy",
        "F-21: freed with Active set",
        Selectable,
    ),
    flawed(
        "ppc-oldref",
        "PPC-oldref",
        "fragments counted in the page's own reference count",
        "F-22",
        Selectable,
    ),
    sound(
        "ppc-pmdfrag",
        "PPC-pmdfrag",
        "ppc-66-fixed, and PMD tables cut from pages as PTE tables are",
        Selectable,
    ),
    flawed(
        "ppc-assert",
        "PPC-assert",
        "assert_pte_locked",
        "an assertion, no scheme",
        Note("accepts an empty PMD entry, else asserts that the lock of the mapped table is held"),
    ),
    sound("sparc-conv", "SPARC-conv", "one table to a page, call_rcu", Selectable),
    flawed(
        "sparc-quick",
        "SPARC-quick",
        "per-CPU lists of freed tables",
        "no delay for lockless walkers",
        Selectable,
    ),
    sound("sparc-rcu", "SPARC-rcu", "tables freed by tlb_remove_table", Selectable),
    flawed(
        "sparc-late-fill",
        "F-29",
        "sparc-conv with a miss handler that does not read the PTE again before it fills the TSB (a candidate)",
        "F-29: a stale TTE enters the TSB after its flush",
        Selectable,
    ),
    sound(
        "sparc-special",
        "SPARC-special",
        "_PAGE_SPECIAL and pte_special()",
        Note("a bit of the entry; pte_special() must not return it truncated to int"),
    ),
    sound(
        "arm-adj",
        "ARM-adj",
        "adjust_pte() maps without the lock and takes its own",
        Note("returns if there is no table; arm is not one of the architectures"),
    ),
    flawed(
        "gen-torn",
        "PAE",
        "gen-defer, entries of two words read one word after the other with nothing to guard it",
        "a torn entry: half old, half new",
        Selectable,
    ),
    sound("gen-defer", "GEN-defer", "one table to a page, call_rcu of page->rcu_head", Selectable),
];

/// A scheme of the catalogue.
#[derive(Clone, Copy)]
pub struct Scheme(&'static Row);

impl PartialEq for Scheme {
    fn eq(&self, o: &Scheme) -> bool {
        self.0.name == o.0.name
    }
}
impl Eq for Scheme {}

impl Default for Scheme {
    /// What landed in Linux 6.6 for s390 (hosted-mm B.2).
    fn default() -> Scheme {
        "s390-66".parse().expect("in the catalogue")
    }
}

impl Scheme {
    /// The name.
    pub fn name(self) -> &'static str {
        self.0.name
    }
    /// Its row.
    pub fn row(self) -> &'static Row {
        self.0
    }
    /// The whole catalogue.
    pub fn catalogue() -> impl Iterator<Item = Scheme> {
        CATALOGUE.iter().map(Scheme)
    }
    /// Whether this version models it.
    pub fn available(self) -> bool {
        self.0.status == Selectable
    }
    /// Whether an architecture has code for it.
    pub fn runs_on<A: Arch>(self) -> bool {
        A::frag(self).is_some()
    }
    pub(crate) fn list_available() -> String {
        let v: Vec<&str> = Self::catalogue().filter(|s| s.available()).map(Scheme::name).collect();
        v.join(", ")
    }
}

impl fmt::Debug for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Scheme {
    type Err = MmError;
    fn from_str(s: &str) -> Result<Scheme, MmError> {
        let found = CATALOGUE.iter().find(|c| c.name.eq_ignore_ascii_case(s));
        found.map(Scheme).ok_or_else(|| {
            MmError::Config(format!("unknown scheme {s:?} (available: {})", Scheme::list_available()))
        })
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_documentation_has_the_table() {
        let table = super::table();
        assert!(
            include_str!("../../../../docs/schemes.md").contains(&table),
            "docs/schemes.md is to have:\n{table}"
        );
    }
}

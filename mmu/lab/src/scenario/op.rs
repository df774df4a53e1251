//! The operations of a scenario: one table that the parser, the printer and the documentation share.

use super::Span;
use std::fmt;
use std::ops::Range;

/// What an operation is given besides the mm it works on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Operand {
    /// Nothing.
    None,
    /// The mm itself, as in `switch B`: such operations have no mm before them.
    Mm,
    /// `seg0`.
    Segment,
    /// `seg0` for the whole segment, `seg0:3` or `seg0:1..4` for pages of it.
    SegmentOrPages,
    /// `seg0:3` or `seg0:1..4`.
    Pages,
    /// The same, and `load` (if nothing is said) or `store`.
    Access,
}

impl Operand {
    /// How it is written, for messages and the table of operations.
    pub fn syntax(self) -> &'static str {
        match self {
            Operand::None => "",
            Operand::Mm => "MM",
            Operand::Segment => "SEG",
            Operand::SegmentOrPages => "SEG|SEG:PAGES",
            Operand::Pages => "SEG:PAGES",
            Operand::Access => "SEG:PAGES [load|store]",
        }
    }
}

macro_rules! operations {
    ($($name:ident $word:literal $subject:literal $operand:ident $section:literal $doc:literal;)*) => {
        /// An operation. Those that work on an mm are written `MM WORD OPERAND`, the others `WORD OPERAND`.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub enum Verb {
            $(#[doc = $doc] #[doc = concat!(" Reference: ", $section, ".")] $name,)*
        }

        impl Verb {
            /// All of them, in the order of the table.
            pub const ALL: &'static [Verb] = &[$(Verb::$name),*];
            /// The word in a scenario.
            pub fn word(self) -> &'static str {
                match self { $(Verb::$name => $word),* }
            }
            /// Whether the name of an mm stands before it.
            pub fn on_mm(self) -> bool {
                match self { $(Verb::$name => $subject),* }
            }
            /// What it is given.
            pub fn operand(self) -> Operand {
                match self { $(Verb::$name => Operand::$operand),* }
            }
            /// Where the reference describes it.
            pub fn section(self) -> &'static str {
                match self { $(Verb::$name => $section),* }
            }
            /// What it does.
            pub fn doc(self) -> &'static str {
                match self { $(Verb::$name => $doc),* }
            }
        }
    };
}

operations! {
    Touch "touch" true Access "A.8 W1, W2" "Accesses pages as the guest does: through the TLB, with faults.";
    Map "map" true Segment "C.7" "Maps a file there (mmap); no page is touched and no table made.";
    Unmap "unmap" true SegmentOrPages "C.1, C.7" "Unmaps (munmap): unlinks the VMA from its file, zaps the pages, frees the tables that are left empty through mmu_gather.";
    Retract "retract" true Segment "C.4" "Retracts the table (retract_page_tables): i_mmap lock for reading, pmdp_collapse_flush, pte_free_defer.";
    RetractIpi "retract-ipi" true Segment "A.5 KH-old" "Retracts the table as 6.1 does: mmap and i_mmap locks for writing, pmdp_collapse_flush, an IPI to all, pte_free at once.";
    Alloc "alloc" true Segment "B.1, B.4" "Makes a table and hooks it (pte_alloc); one that lost the race is freed at once.";
    Read "read" true Pages "A.8 W4, C.5" "Reads entries without a lock (pte_offset_map), as a walk along the file's VMAs does: i_mmap lock for reading.";
    Lock "lock" true Pages "A.8 W5, C.5" "Reads entries under the table's lock (pte_offset_map_lock), as a fault does: mmap lock for reading.";
    Gup "gup" true Pages "A.8 W3, C.3" "Gets the pages without a lock (gup_fast), interrupts off.";
    Refill "refill" true Pages "A.8 W2" "Refills the TLB in software (hash_page, the sparc64 miss handler), at trap level.";
    Walk "walk" true Pages "A.8 W1" "Translates by the CPU's own walker; a fault ends it.";
    Madvise "madvise" true Segment "C.6" "Zaps the segment (madvise DONTNEED). Its table stays: no scheme reclaims empty tables.";
    Switch "switch" false Mm "C.2 rule 3" "Loads another mm on this CPU.";
    Exit "exit" true None "C.7" "The process ends: unmaps everything, frees the mm.";
    RcuBarrier "rcu-barrier" false None "A.7" "Waits until all callbacks queued so far have run.";
    ReadAnon "read-anon" true Pages "A.8 W4, C.5" "Reads entries without a lock as a walk along the anon_vma does: anon_vma lock for reading.";
    HugeMap "huge-map" true Segment "B.5, C.4" "Maps anonymous memory by a huge page: collapse_huge_page, where there is a table, which is deposited; else as a first fault.";
    Split "split" true Segment "B.5" "Splits the segment's huge page (split_huge_pmd): a deposited table is withdrawn, filled and hooked.";
    GetPage "get-page" true Segment "F-22" "Takes a speculative reference (unless it is zero) on the frame last taken for the segment's table.";
    PutPage "put-page" true Segment "F-22" "Drops what this CPU's get-page took; nothing if that took none.";
}

impl Verb {
    /// The operation of that word.
    pub fn from_word(word: &str) -> Option<Verb> {
        Verb::ALL.iter().copied().find(|v| v.word() == word)
    }
    /// Whether it works through the context that the CPU has loaded, so that its mm must be the loaded one.
    pub fn needs_loaded(self) -> bool {
        matches!(self, Verb::Touch | Verb::Refill | Verb::Walk)
    }
    /// Whether it makes a huge page, or wants one.
    pub fn maps_huge(self) -> bool {
        matches!(self, Verb::HugeMap | Verb::Split)
    }
    /// Whether it needs a segment that can be a huge page.
    pub fn needs_huge(self) -> bool {
        matches!(self, Verb::Retract | Verb::RetractIpi | Verb::HugeMap | Verb::Split)
    }
}

/// All operations as a table in Markdown: how each is written, what it does, where the reference describes it.
pub fn table() -> String {
    let mut out = String::from("| operation | what it does | reference |\n|---|---|---|\n");
    for v in Verb::ALL {
        let written = format!("{}{} {}", if v.on_mm() { "MM " } else { "" }, v.word(), v.operand().syntax());
        let written = written.trim().replace('|', "\\|");
        out += &format!("| `{written}` | {} | {} |\n", v.doc(), v.section());
    }
    out
}

/// A segment, or pages of it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Place {
    /// The segment's number: segment n lies at n times what a PTE table maps.
    pub segment: u32,
    /// Pages in it; the whole segment if there are none here. The end is not included.
    pub pages: Option<Span>,
}

impl Place {
    /// The pages, at most `in_segment` of them.
    pub fn range(&self, in_segment: u32) -> Range<u32> {
        self.pages.map_or(0..in_segment, |(a, b)| a..b)
    }
}

/// `3` or `1..4`.
pub(super) fn span((a, b): Span) -> String {
    if b == a + 1 { a.to_string() } else { format!("{a}..{b}") }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "seg{}", self.segment)?;
        self.pages.map_or(Ok(()), |p| write!(f, ":{}", span(p)))
    }
}

/// One operation with what it is given.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Op {
    /// What is done.
    pub verb: Verb,
    /// The mm it works on, or `switch` loads: its index in [`Scenario::mms`](super::Scenario::mms).
    pub mm: Option<usize>,
    /// Where, if the verb wants that.
    pub place: Option<Place>,
    /// Whether a `touch` stores.
    pub store: bool,
}

impl Op {
    /// As it is written in a scenario with these mms.
    pub(super) fn write(&self, f: &mut impl fmt::Write, mms: &[super::Mm]) -> fmt::Result {
        let name = self.mm.and_then(|m| mms.get(m)).map_or("", |m| &m.name);
        if self.verb.on_mm() {
            write!(f, "{name} ")?;
        }
        f.write_str(self.verb.word())?;
        if self.verb.operand() == Operand::Mm {
            write!(f, " {name}")?;
        }
        if let Some(p) = &self.place {
            write!(f, " {p}")?;
        }
        if self.store { f.write_str(" store") } else { Ok(()) }
    }
}

//! The kinds of events and their fields: one table, which writing, reading, printing and the format's page come from.

use crate::error::Malformed;
use crate::wire::{Input, Names, NamesRead, put};
use std::fmt;
use std::sync::Arc;

/// A number that is printed in hexadecimal: an address, an entry, a register.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash, PartialOrd, Ord)]
pub struct Hex(pub u64);

impl fmt::Display for Hex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

/// The side of an access.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Side {
    /// A load.
    Load,
    /// A store.
    Store,
    /// An instruction fetch.
    Fetch,
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Side::Load => "load",
            Side::Store => "store",
            Side::Fetch => "fetch",
        })
    }
}

/// Bytes, printed by their number.
#[derive(Clone, PartialEq, Eq, Debug, Default, Hash)]
pub struct Bytes(pub Arc<[u8]>);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

/// A field.
trait Field: Sized {
    /// Its type, as the format's page calls it.
    const TYPE: &'static str;
    fn put(&self, out: &mut Vec<u8>, names: &mut Names);
    fn get(i: &mut Input, names: &mut NamesRead, field: &'static str) -> Result<Self, Malformed>;
    fn show(&self, name: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result;
}

impl Field for Hex {
    const TYPE: &'static str = "hex";
    fn put(&self, out: &mut Vec<u8>, _: &mut Names) {
        put(out, self.0)
    }
    fn get(i: &mut Input, _: &mut NamesRead, _: &'static str) -> Result<Self, Malformed> {
        Ok(Hex(i.number()?))
    }
    fn show(&self, name: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, " {name} {self}")
    }
}

impl Field for u64 {
    const TYPE: &'static str = "number";
    fn put(&self, out: &mut Vec<u8>, _: &mut Names) {
        put(out, *self)
    }
    fn get(i: &mut Input, _: &mut NamesRead, _: &'static str) -> Result<Self, Malformed> {
        i.number()
    }
    fn show(&self, name: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, " {name} {self}")
    }
}

impl Field for bool {
    const TYPE: &'static str = "yes or no";
    fn put(&self, out: &mut Vec<u8>, _: &mut Names) {
        out.push(*self as u8)
    }
    fn get(i: &mut Input, _: &mut NamesRead, field: &'static str) -> Result<Self, Malformed> {
        match i.byte()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Malformed::Field(field)),
        }
    }
    fn show(&self, name: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self { write!(f, " {name}") } else { Ok(()) }
    }
}

impl Field for Side {
    const TYPE: &'static str = "side";
    fn put(&self, out: &mut Vec<u8>, _: &mut Names) {
        out.push(*self as u8)
    }
    fn get(i: &mut Input, _: &mut NamesRead, field: &'static str) -> Result<Self, Malformed> {
        match i.byte()? {
            0 => Ok(Side::Load),
            1 => Ok(Side::Store),
            2 => Ok(Side::Fetch),
            _ => Err(Malformed::Field(field)),
        }
    }
    fn show(&self, _: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, " {self}")
    }
}

impl Field for Arc<str> {
    const TYPE: &'static str = "text";
    fn put(&self, out: &mut Vec<u8>, names: &mut Names) {
        names.put(out, self)
    }
    fn get(i: &mut Input, names: &mut NamesRead, _: &'static str) -> Result<Self, Malformed> {
        names.get(i)
    }
    fn show(&self, _: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, " {self}")
    }
}

impl Field for Bytes {
    const TYPE: &'static str = "bytes";
    fn put(&self, out: &mut Vec<u8>, _: &mut Names) {
        put(out, self.0.len() as u64);
        out.extend_from_slice(&self.0)
    }
    fn get(i: &mut Input, _: &mut NamesRead, _: &'static str) -> Result<Self, Malformed> {
        let n = i.number()?;
        Ok(Bytes(i.take(n)?.into()))
    }
    fn show(&self, name: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, " {name} {self}")
    }
}

/// What `trace show --kind` and the selection at the source call a group of kinds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, PartialOrd, Ord)]
pub enum Group {
    /// Runs of accesses, and entries of execution into pages.
    Access,
    /// Walks and what they came to.
    Walk,
    /// The model TLB: lookups, fills, evictions.
    Tlb,
    /// Invalidations, cross calls and grace periods.
    Flush,
    /// Page tables and their memory.
    Mm,
    /// The guest: marks, context registers.
    Guest,
    /// What comes from outside, and the schedule. Always there in a replayable recording.
    Input,
    /// The race lab: actors, operations, findings.
    Lab,
}

impl Group {
    /// All groups.
    pub const ALL: [Group; 8] = [
        Group::Access,
        Group::Walk,
        Group::Tlb,
        Group::Flush,
        Group::Mm,
        Group::Guest,
        Group::Input,
        Group::Lab,
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Group::Access => "access",
            Group::Walk => "walk",
            Group::Tlb => "tlb",
            Group::Flush => "flush",
            Group::Mm => "mm",
            Group::Guest => "guest",
            Group::Input => "input",
            Group::Lab => "lab",
        }
    }
}

impl std::str::FromStr for Group {
    type Err = String;
    fn from_str(s: &str) -> Result<Group, String> {
        Group::ALL.into_iter().find(|g| g.name() == s).ok_or_else(|| {
            let all: Vec<_> = Group::ALL.iter().map(|g| g.name()).collect();
            format!("kind {s:?}; wanted one of {}", all.join(", "))
        })
    }
}

/// A kind of event, for the format's page.
#[derive(Clone, Copy, Debug)]
pub struct KindInfo {
    /// Its number in a frame.
    pub number: u8,
    /// Its name, as it is printed.
    pub name: &'static str,
    /// Its group.
    pub group: Group,
    /// Names and types of its fields.
    pub fields: &'static [(&'static str, &'static str)],
    /// What it says.
    pub about: &'static str,
}

macro_rules! events {
    ($($(#[doc = $doc:literal])+ $number:literal $group:ident $kind:ident $name:literal
       { $($(#[doc = $fdoc:literal])+ $field:ident: $ty:ty),* $(,)? })*) => {
        /// Something that happened.
        #[derive(Clone, PartialEq, Eq, Debug, Hash)]
        pub enum Event {
            $($(#[doc = $doc])+ $kind { $($(#[doc = $fdoc])+ $field: $ty),* },)*
        }

        /// All kinds, by number.
        pub const KINDS: &[KindInfo] = &[$(KindInfo {
            number: $number,
            name: $name,
            group: Group::$group,
            fields: &[$((stringify!($field), <$ty as Field>::TYPE)),*],
            about: concat!($($doc),+),
        }),*];

        impl Event {
            /// The kind.
            pub fn kind(&self) -> &'static KindInfo {
                let number: u8 = match self { $(Event::$kind { .. } => $number,)* };
                // Numbers are ascending and few.
                let at = KINDS.partition_point(|k| k.number < number);
                &KINDS[at]
            }

            pub(crate) fn put(&self, out: &mut Vec<u8>, names: &mut Names) {
                match self {
                    $(Event::$kind { $($field),* } => {
                        out.push($number);
                        $(Field::put($field, out, names);)*
                    })*
                }
            }

            pub(crate) fn get(i: &mut Input, names: &mut NamesRead) -> Result<Event, Malformed> {
                Ok(match i.byte()? {
                    $($number => Event::$kind { $($field: Field::get(i, names, stringify!($field))?),* },)*
                    k => return Err(Malformed::Kind(k)),
                })
            }
        }

        impl fmt::Display for Event {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self {
                    $(Event::$kind { $($field),* } => {
                        f.write_str($name)?;
                        $(Field::show($field, stringify!($field), f)?;)*
                        Ok(())
                    })*
                }
            }
        }
    };
}

events! {
    /// A walk begins.
    1 Walk WalkStart "walk_start" {
        /// Address to translate.
        vaddr: Hex,
        /// For what.
        access: Side,
        /// What designates the root: an ASCE, a process-table entry, a context.
        root: Hex,
    }
    /// A table entry was fetched.
    2 Walk WalkStep "walk_step" {
        /// The level, 0 at the leaf, 255 for what designates the root.
        level: u64,
        /// The table, in the architecture's terms.
        table: Arc<str>,
        /// Physical address of the entry.
        entry_addr: Hex,
        /// The entry.
        entry: Hex,
    }
    /// A walk found a translation.
    3 Walk WalkDone "walk_done" {
        /// Address that was translated.
        vaddr: Hex,
        /// Where it leads.
        paddr: Hex,
        /// log2 of the size of the page.
        shift: u64,
        /// Stores are forbidden.
        protected: bool,
    }
    /// A walk ended with an exception.
    4 Walk WalkFault "walk_fault" {
        /// Address that was translated.
        vaddr: Hex,
        /// The exception, in the architecture's terms.
        name: Arc<str>,
        /// Its number in the architecture's own numbering.
        code: Hex,
    }
    /// A purge, or the end of the run, ended a walk between two of its steps.
    5 Walk WalkOvertaken "walk_overtaken" {}
    /// The model TLB was asked. Only of models that replace entries.
    8 Tlb Lookup "tlb_lookup" {
        /// The page.
        page: Hex,
        /// For what.
        access: Side,
        /// Whether it had it.
        hit: bool,
    }
    /// The model TLB took a page in.
    9 Tlb Fill "tlb_fill" {
        /// The page.
        page: Hex,
    }
    /// The model TLB lost a page to another.
    10 Tlb Evict "tlb_evict" {
        /// The page.
        page: Hex,
        /// log2 of its size.
        shift: u64,
    }
    /// This CPU asked all CPUs to purge translations.
    16 Flush Purge "purge" {
        /// With which instruction.
        by: Arc<str>,
        /// What goes.
        what: Arc<str>,
    }
    /// The purge is complete: no CPU uses any more what went.
    17 Flush Purged "purged" {
        /// With which instruction.
        by: Arc<str>,
    }
    /// A cross call was sent, and every CPU took it.
    18 Flush CrossCall "cross_call" {}
    /// A grace period of RCU began.
    19 Flush GraceBegin "grace_period_begin" {}
    /// A grace period of RCU ended.
    20 Flush GraceEnd "grace_period_end" {}
    /// The mm began to flush translations of a space.
    21 Flush Flush "flush" {
        /// The space.
        mm: Hex,
        /// The address; all of them if none is given.
        at: Hex,
        /// Everything is flushed.
        all: bool,
    }
    /// That flush is complete on every CPU.
    22 Flush Flushed "flushed" {
        /// The space.
        mm: Hex,
        /// The address; all of them if none is given.
        at: Hex,
        /// Everything was flushed.
        all: bool,
    }
    /// A page table was handed out.
    32 Mm TableAlloc "table_alloc" {
        /// Its address.
        table: Hex,
        /// How often the address had been handed out before.
        generation: u64,
    }
    /// An entry points to the table from now on.
    33 Mm TableHook "table_hook" {
        /// The table.
        table: Hex,
        /// The entry.
        entry: Hex,
        /// The entry's level, from the top.
        level: u64,
        /// First address that the table translates.
        va: Hex,
    }
    /// The entry that pointed to the table is empty.
    34 Mm TableUnhook "table_unhook" {
        /// The table.
        table: Hex,
        /// The entry.
        entry: Hex,
    }
    /// The table was given back.
    35 Mm TableGive "table_give" {
        /// The table.
        table: Hex,
        /// Through what: pte_free, tlb_remove_table, pte_free_defer.
        by: Arc<str>,
    }
    /// The table's memory left those who keep tables, or is about to be handed out again.
    36 Mm TableGone "table_gone" {
        /// The table.
        table: Hex,
    }
    /// A page of tables was allocated.
    37 Mm PageAlloc "page_alloc" {
        /// The page.
        page: Hex,
    }
    /// A page of tables was freed.
    38 Mm PageFree "page_free" {
        /// The page.
        page: Hex,
    }
    /// The state of a page of fragments changed.
    39 Mm Fragments "fragments" {
        /// The page.
        page: Hex,
        /// Before: a byte of bits, or a count.
        old: Hex,
        /// After.
        new: Hex,
        /// By what.
        by: Arc<str>,
    }
    /// `call_rcu`.
    40 Mm CallRcu "call_rcu" {
        /// The head.
        head: Hex,
    }
    /// A callback of RCU runs.
    41 Mm Callback "rcu_callback" {
        /// The head.
        head: Hex,
    }
    /// Software holds a pointer to a table.
    42 Mm Holds "holds" {
        /// The table.
        table: Hex,
        /// Which walker.
        class: Arc<str>,
    }
    /// Software loaded an entry.
    43 Mm EntryLoad "entry_load" {
        /// The entry.
        entry: Hex,
        /// Its value.
        value: Hex,
        /// Which walker.
        class: Arc<str>,
    }
    /// Software stored an entry.
    44 Mm EntryStore "entry_store" {
        /// The entry.
        entry: Hex,
        /// Its value.
        value: Hex,
    }
    /// Something else of the mm, in words.
    45 Mm MmNote "mm" {
        /// The words.
        text: Arc<str>,
    }
    /// What names the address space was loaded.
    64 Guest Context "context" {
        /// The register.
        register: Arc<str>,
        /// Its value.
        value: Hex,
    }
    /// The guest marked a place.
    65 Guest Mark "mark" {
        /// The mark.
        value: u64,
    }
    /// A task runs on the CPU from now on.
    66 Guest Task "task" {
        /// Its number.
        tid: u64,
    }
    /// A system call and what it gave.
    67 Guest Call "call" {
        /// The task.
        tid: u64,
        /// Its number.
        number: u64,
        /// The result; the top values are negated error numbers.
        result: Hex,
    }
    /// What the host's clock says, now and then; in no replayable recording.
    68 Guest Time "time" {
        /// Nanoseconds since the recording began.
        ns: u64,
    }
    /// What the host answered.
    80 Input Answer "answer" {
        /// The question.
        call: Arc<str>,
        /// The answer, as `emu/linux` writes it.
        bytes: Bytes,
    }
    /// A part of the schedule.
    81 Input Schedule "schedule" {
        /// Its text.
        text: Arc<str>,
    }
    /// What the host answered to a question with arguments. Since version 1.1, in the place of `answer`.
    82 Input Reply "reply" {
        /// The question.
        call: Arc<str>,
        /// Its arguments, in words that are the same under every schedule.
        about: Arc<str>,
        /// The answer.
        bytes: Bytes,
    }
    /// A file that belongs to what was recorded. Since version 1.1.
    83 Input File "file" {
        /// Which: `schedule`, `scenario`.
        name: Arc<str>,
        /// All of it.
        bytes: Bytes,
    }
    /// Records were lost here, because the writer could not follow and the user chose not to wait for it.
    96 Input Lost "lost" {
        /// Runs of accesses.
        runs: u64,
        /// Events.
        events: u64,
    }
    /// What follows in this stream is done by this actor of a scenario. Since version 1.1.
    112 Lab Actor "actor" {
        /// Its name.
        name: Arc<str>,
    }
    /// An operation of a scenario begins, or is done. Since version 1.1.
    113 Lab Operation "operation" {
        /// As the scenario writes it.
        text: Arc<str>,
        /// It is done.
        done: bool,
    }
    /// An invariant did not hold. Since version 1.1.
    114 Lab Found "found" {
        /// Its number.
        invariant: u64,
        /// What was found.
        title: Arc<str>,
    }
    /// A line of the report of what was found. Since version 1.1.
    115 Lab Evidence "evidence" {
        /// The line.
        text: Arc<str>,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `docs/recordings.md` has every kind with its fields, in this form.
    #[test]
    fn the_formats_page_has_every_kind() {
        let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/recordings.md"))
            .expect("the format's page");
        let listed = page.lines().filter(|l| l.starts_with("| ") && l.contains(" | `"));
        let listed: Vec<&str> = listed.collect();
        let wanted = |k: &KindInfo| {
            let fields: Vec<_> = k.fields.iter().map(|(n, t)| format!("{n} ({t})")).collect();
            let fields = if fields.is_empty() { "none".into() } else { fields.join(", ") };
            format!("| {} | `{}` | {} | {fields} | {} |", k.number, k.name, k.group.name(), k.about.trim())
        };
        let rows: Vec<String> = KINDS.iter().map(wanted).collect();
        let missing: Vec<_> = rows.iter().filter(|r| !listed.contains(&r.as_str())).cloned().collect();
        assert!(missing.is_empty(), "not there:\n{}", missing.join("\n"));
        assert!(KINDS.windows(2).all(|w| w[0].number < w[1].number));
    }
}

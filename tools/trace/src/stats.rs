//! Counts over a recording.

use crate::event::{Event, KINDS};
use crate::reader::{Damage, Recording};
use crate::record::Record;
use crate::stream;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

/// What a stream has.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct StreamStats {
    /// Records.
    pub records: u64,
    /// Runs of data accesses.
    pub runs: u64,
    /// Loads in them.
    pub loads: u64,
    /// Stores in them.
    pub stores: u64,
    /// Entries of execution into pages.
    pub enters: u64,
    /// Instructions completed, as far as the records say.
    pub instructions: u64,
    /// Different data pages.
    pub data_pages: u64,
    /// Different pages of instructions.
    pub code_pages: u64,
    /// Lookups in a model TLB that hit; events of the kind `tlb_lookup` are all lookups.
    pub hits: u64,
    /// Events by kind.
    pub events: BTreeMap<&'static str, u64>,
}

/// How long page tables live, in events of all streams from their allocation to their end.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Lives {
    /// Tables that were given back.
    pub ended: u64,
    /// Tables that were there at the end.
    pub left: u64,
    /// Events in the shortest, the median and the longest life.
    pub events: [u64; 3],
}

/// Counts over a recording.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct TraceStats {
    /// Bytes of the file.
    pub bytes: u64,
    /// By stream.
    pub streams: BTreeMap<String, StreamStats>,
    /// Walks by the entries they fetched.
    pub walk_depths: BTreeMap<u64, u64>,
    /// Translation exceptions by name.
    pub faults: BTreeMap<String, u64>,
    /// Purges by instruction.
    pub purges: BTreeMap<String, u64>,
    /// Page tables.
    pub tables: Lives,
    /// How many parts could not be read.
    pub damage: u64,
    /// Which.
    #[serde(skip)]
    pub damaged: Vec<Damage>,
}

impl TraceStats {
    /// Counts all of it.
    pub fn of(r: &Recording) -> TraceStats {
        let mut t = TraceStats { bytes: r.size(), damaged: r.damage.clone(), ..TraceStats::default() };
        let mut born: BTreeMap<u64, u64> = BTreeMap::new();
        let mut lives = Vec::new();
        // By table, in the order of all events.
        let mut tables: Vec<(u64, u64, bool)> = Vec::new();
        for s in r.streams() {
            let mut n = StreamStats::default();
            let (mut data, mut code) = (BTreeSet::new(), BTreeSet::new());
            let mut last = u64::MAX;
            let mut depth = 0;
            for x in r.records(s) {
                let x = match x {
                    Ok(x) => x,
                    Err(d) => {
                        t.damaged.push(d);
                        continue;
                    }
                };
                n.records += 1;
                match &x {
                    Record::Run { page, loads, stores, .. } => {
                        n.runs += 1;
                        n.loads += *loads as u64;
                        n.stores += *stores as u64;
                        if *page != last {
                            last = *page;
                            data.insert(*page);
                        }
                    }
                    Record::Enter { page, instructions } => {
                        n.enters += 1;
                        n.instructions = *instructions;
                        code.insert(*page);
                    }
                    Record::Event { seq, instructions, event } => {
                        n.instructions = n.instructions.max(*instructions);
                        *n.events.entry(event.kind().name).or_default() += 1;
                        match event {
                            Event::Lookup { hit, .. } => n.hits += *hit as u64,
                            Event::WalkStart { .. } => depth = 0,
                            Event::WalkStep { .. } => depth += 1,
                            Event::WalkDone { .. } => *t.walk_depths.entry(depth).or_default() += 1,
                            Event::WalkFault { name, .. } => {
                                *t.walk_depths.entry(depth).or_default() += 1;
                                *t.faults.entry(name.to_string()).or_default() += 1
                            }
                            Event::Purge { by, .. } => *t.purges.entry(by.to_string()).or_default() += 1,
                            Event::TableAlloc { table, .. } => tables.push((*seq, table.0, true)),
                            Event::TableGone { table } => tables.push((*seq, table.0, false)),
                            _ => {}
                        }
                    }
                }
            }
            n.data_pages = data.len() as u64;
            n.code_pages = code.len() as u64;
            t.streams.insert(stream::name(s), n);
        }
        tables.sort_unstable();
        for (seq, table, alloc) in tables {
            if alloc {
                born.insert(table, seq);
            } else if let Some(from) = born.remove(&table) {
                lives.push(seq - from)
            }
        }
        t.damage = t.damaged.len() as u64;
        lives.sort_unstable();
        t.tables = Lives {
            ended: lives.len() as u64,
            left: born.len() as u64,
            events: match lives[..] {
                [] => [0; 3],
                _ => [lives[0], lives[lives.len() / 2], lives[lives.len() - 1]],
            },
        };
        t
    }

    /// As text; the same for the same file.
    pub fn text(&self) -> String {
        let mut s = String::new();
        let mut accesses = 0;
        for (name, n) in &self.streams {
            accesses += n.loads + n.stores;
            let _ = writeln!(
                s,
                "{name}: {} records, {} instructions\n  data   {} loads and {} stores in {} runs, {} pages\n  code   {} entries, {} pages",
                n.records, n.instructions, n.loads, n.stores, n.runs, n.data_pages, n.enters, n.code_pages
            );
            for k in KINDS {
                if let Some(c) = n.events.get(k.name) {
                    let _ = writeln!(s, "  {:<20} {c}", k.name);
                }
            }
            if n.hits != 0 {
                let _ = writeln!(s, "  {:<20} {}", "lookups that hit", n.hits);
            }
        }
        let mut list = |title: &str, all: Vec<(String, u64)>| {
            if !all.is_empty() {
                let _ = writeln!(s, "{title}");
                for (k, n) in all {
                    let _ = writeln!(s, "  {k:<20} {n}");
                }
            }
        };
        list("walks by entries fetched", self.walk_depths.iter().map(|(k, n)| (k.to_string(), *n)).collect());
        list("faults", self.faults.clone().into_iter().collect());
        list("purges by instruction", self.purges.clone().into_iter().collect());
        if self.tables.ended + self.tables.left > 0 {
            let [least, median, most] = self.tables.events;
            let _ = writeln!(
                s,
                "page tables: {} ended, {} left; events in a life: {least} to {most}, median {median}",
                self.tables.ended, self.tables.left
            );
        }
        let _ = write!(s, "{} bytes", self.bytes);
        if accesses > 0 {
            let _ = write!(
                s,
                ", {:.3} for each of {accesses} data accesses",
                self.bytes as f64 / accesses as f64
            );
        }
        s.push('\n');
        if self.damage > 0 {
            let _ = writeln!(s, "{} parts could not be read", self.damage);
        }
        s
    }
}

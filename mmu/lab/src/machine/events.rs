//! What the sanitizer logged, told with names in place of addresses.

use super::race::HELPER;
use crate::scenario::{Op, Scenario};
use crate::target::Event;
use racewalk_mm::arch::Arch;
use racewalk_mm::layout;
use racewalk_mm::sanitizer::{Actor, Class, Event as Logged, Give, What};
use racewalk_ram::{Kva, PAGE_SIZE, Paddr, Pfn};
use racewalk_sched::NO_CPU;
use std::collections::{BTreeMap, HashSet};

/// Who sets the machine up, and takes it down after the race.
const OUTSIDE: &str = "set-up and teardown";

/// Names for tables and pages, in the order in which they appear.
struct Names<A: Arch> {
    tables: BTreeMap<u64, String>,
    pages: BTreeMap<u64, String>,
    arch: std::marker::PhantomData<A>,
}

impl<A: Arch> Names<A> {
    fn of(log: &[Logged]) -> Self {
        let mut n = Names { tables: BTreeMap::new(), pages: BTreeMap::new(), arch: std::marker::PhantomData };
        let span = A::LEVELS[A::LEVELS.len() - 2].span();
        let mut upper = 0;
        // A table is called after the segment that it first translates.
        for e in log {
            if let What::Hook { table, va, level, .. } = e.what
                && !n.tables.contains_key(&table.0)
            {
                let name = if level + 2 == A::LEVELS.len() {
                    format!("T{}", va.0 / span)
                } else {
                    upper += 1;
                    format!("U{upper}")
                };
                n.tables.insert(table.0, name);
            }
            if let What::PageAlloc(p) = e.what
                && !n.pages.contains_key(&p.0)
            {
                let i = n.pages.len();
                let letter = char::from(b"XYZVWSRQ"[i % 8]);
                let name = if i < 8 { letter.to_string() } else { format!("{letter}{}", i / 8) };
                n.pages.insert(p.0, name);
            }
        }
        n
    }
    fn table(&self, t: Paddr) -> String {
        self.tables.get(&t.0).cloned().unwrap_or_else(|| format!("{:#x}", t.0))
    }
    fn page(&self, p: Pfn) -> String {
        self.pages.get(&p.0).map_or_else(|| format!("{:#x}", p.paddr().0), |n| format!("page {n}"))
    }
    fn entry(&self, at: Paddr) -> String {
        match self.tables.range(..=at.0).next_back() {
            Some((&t, n)) if at.0 - t < PAGE_SIZE * 4 => format!("{n}[{}]", (at.0 - t) / 8),
            _ => format!("{:#x}", at.0),
        }
    }
    fn head(&self, head: Kva) -> String {
        match layout::about(head) {
            // In the direct map: a table's own memory, or a batch.
            Some(at) if layout::direct(at) == head => {
                self.tables.get(&at.0).cloned().unwrap_or_else(|| format!("batch {:#x}", at.0))
            }
            Some(at) => self.page(at.pfn()),
            None => format!("{:#x}", head.0),
        }
    }
    fn class(c: Class) -> &'static str {
        match c {
            Class::W1 => "walk",
            Class::W2 => "refill",
            Class::W3 => "gup_fast",
            Class::W4 => "reader",
            Class::W5 => "locker",
        }
    }

    fn tell(&self, what: &What, scenario: &Scenario, ops: &[Op]) -> (String, String) {
        let op = |n: u32| ops.get(n as usize).map_or(String::new(), |o| scenario.op_text(o));
        let va = |v: &Option<racewalk_ram::Vaddr>| v.map_or("all".into(), |v| format!("{:#x}", v.0));
        let (label, text) = match what {
            What::Op(n) => ("op", format!("{}:", op(*n))),
            What::OpDone(n) => ("op.done", format!("{} done", op(*n))),
            What::Alloc { table, .. } => ("alloc", format!("alloc {}", self.table(*table))),
            What::Hook { table, .. } => ("hook", format!("hook {}", self.table(*table))),
            What::Unhook { table, .. } => ("unhook", format!("unhook {}", self.table(*table))),
            What::Given { table, how } => (
                "give",
                match how {
                    Give::Now => format!("pte_free({})", self.table(*table)),
                    Give::Gather => format!("tlb_remove_table({})", self.table(*table)),
                    Give::Defer => format!("pte_free_defer({})", self.table(*table)),
                },
            ),
            What::Gone { table } => ("gone", format!("{} is gone", self.table(*table))),
            What::PageAlloc(p) => ("page.alloc", format!("alloc {}", self.page(*p))),
            What::PageFree(p) => ("page.free", format!("free {}", self.page(*p))),
            What::Byte { page, old, new, by } => {
                ("byte", format!("{by}: {} {old:02x} -> {new:02x}", self.page(*page)))
            }
            What::Count { page, old, new, by } => {
                ("count", format!("{by}: {} {old:#x} -> {new:#x}", self.page(*page)))
            }
            What::CallRcu(h) => ("call_rcu", format!("call_rcu({})", self.head(*h))),
            What::Callback(h) => ("callback", format!("callback({})", self.head(*h))),
            What::GpStart => ("gp.start", "grace period begins".into()),
            What::GpEnd => ("gp.end", "grace period ends".into()),
            What::Flush { va: v, .. } => ("flush", format!("flush {}", va(v))),
            What::Flushed { va: v, .. } => ("flushed", format!("flushed {}", va(v))),
            What::Deposit { table, taken: false } => ("deposit", format!("deposit {}", self.table(*table))),
            What::Deposit { table, taken: true } => ("withdraw", format!("withdraw {}", self.table(*table))),
            What::Huge { entry, maps: true } => ("huge", format!("{} := a huge page", self.entry(*entry))),
            What::Huge { entry, maps: false } => {
                ("huge.clear", format!("{} is no huge page", self.entry(*entry)))
            }
            What::Ipi => ("ipi", "cross call done".into()),
            What::Holds { class, table } => {
                ("holds", format!("{} holds {}", Self::class(*class), self.table(*table)))
            }
            What::Load { class, entry, value } => {
                ("load", format!("{} loads {} = {value:#x}", Self::class(*class), self.entry(*entry)))
            }
            What::Drained { entry, value } => {
                ("tso.drain", format!("all see {} = {value:#x}", self.entry(*entry)))
            }
            What::Store { entry, value } => ("store", format!("{} := {value:#x}", self.entry(*entry))),
            What::Listed(n) => ("list_add", format!("list_add({})", self.head(*n))),
            What::Unlisted(n) => ("list_del", format!("list_del({})", self.head(*n))),
            What::Enter(c) => ("enter", format!("{} begins", Self::class(*c))),
            What::Leave(c) => ("leave", format!("{} ends", Self::class(*c))),
            What::LockGone(p) => ("dtor", format!("dtor of {}", self.page(*p))),
        };
        (label.into(), text)
    }
}

/// The race's events, from the first operation on.
pub(super) fn tell<A: Arch>(scenario: &Scenario, log: &[Logged], tasks: &[String], ops: &[Op]) -> Vec<Event> {
    let names = Names::<A>::of(log);
    let first = log.iter().position(|e| matches!(e.what, What::Op(_))).unwrap_or(0);
    log[first..]
        .iter()
        .map(|e| {
            let (label, text) = names.tell(&e.what, scenario, ops);
            Event {
                seq: e.seq,
                cpu: (e.cpu != NO_CPU).then_some(e.cpu),
                task: match e.task {
                    Actor::Task(n) => tasks.get(n as usize).map_or(HELPER, |t| t).to_string(),
                    Actor::Thread(_) => OUTSIDE.into(),
                },
                label,
                text,
            }
        })
        .collect()
}

/// What the columns call the tables, pages and tasks of a report.
pub(super) fn legend<A: Arch>(log: &[Logged], tasks: &[String], report: &str) -> String {
    let names = Names::<A>::of(log);
    let words: HashSet<&str> = report.split(|c: char| !c.is_ascii_alphanumeric()).collect();
    let told = |at: u64| words.contains(format!("{at:#x}").as_str());
    let mut all: Vec<String> = Vec::new();
    let tables = names.tables.iter().filter(|(at, _)| told(**at));
    all.extend(tables.map(|(at, name)| format!("{name} is table {at:#x}")));
    let pages = names.pages.iter().map(|(pfn, name)| (Pfn(*pfn).paddr().0, name)).filter(|p| told(p.0));
    all.extend(pages.map(|(at, name)| format!("{name} is page {at:#x}")));
    let acts =
        |who: &str| report.split(who).skip(1).any(|rest| !rest.starts_with(|c: char| c.is_ascii_digit()));
    let numbered = tasks.iter().enumerate().map(|(n, t)| (Actor::Task(n as u32).to_string(), t.as_str()));
    let numbered = numbered.chain([(Actor::Thread(1).to_string(), OUTSIDE)]);
    all.extend(numbered.filter(|(who, _)| acts(who)).map(|(who, name)| format!("{who} is {name}")));
    let heads = std::iter::once("names").chain(std::iter::repeat(""));
    heads.zip(all).map(|(head, l)| format!("  {head:<8} {l}\n")).collect()
}

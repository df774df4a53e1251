//! What a report tells of a table or a page: its life, who holds it, and which events belong to its story.

use super::{Life, State, Table, WAITS, Walk};
use crate::layout;
use crate::sanitizer::event::{Actor, Event, Give, What};
use crate::sanitizer::report::Report;
use racewalk_ram::{Kva, Paddr};
use std::ops::Range;

/// Events of a report at most.
const MOST: usize = 80;

/// What an event is to a story.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    /// Nothing.
    None,
    /// What a walker or a CPU did there, which is left out where there is much of it.
    Detail,
    /// A step in the life of the table or its page.
    Step,
    /// An operation begins or ends: told if the task took part in the story during it.
    Operation,
}

/// What the story is about.
struct Subject<'a> {
    /// The table and its pages.
    bytes: Range<u64>,
    table: Option<&'a Table>,
    /// Tasks of its holders.
    tasks: Vec<Actor>,
    /// Something there was unhooked, or is deferred: flushes and grace periods belong to the story from here on.
    unhooked: bool,
    deferred: bool,
}

impl Subject<'_> {
    fn has(&self, at: Paddr) -> bool {
        self.bytes.contains(&at.0)
    }

    /// A head or a node in its memory, or in the record of its page.
    fn has_node(&self, node: Kva) -> bool {
        layout::about(node).is_some_and(|at| self.has(at))
    }

    fn part(&mut self, e: &Event) -> Part {
        use Part::*;
        let step = |it: bool| if it { Step } else { None };
        let detail = |it: bool| if it { Detail } else { None };
        match e.what {
            What::Unhook { table, .. } => {
                self.unhooked |= self.has(table);
                step(self.has(table))
            }
            What::Given { table, .. } => {
                self.deferred |= self.has(table);
                step(self.has(table))
            }
            What::Alloc { table, .. }
            | What::Hook { table, .. }
            | What::Gone { table }
            | What::Deposit { table, .. } => step(self.has(table)),
            What::PageAlloc(p) | What::PageFree(p) | What::LockGone(p) => step(self.has(p.paddr())),
            What::Byte { page, .. } | What::Count { page, .. } => step(self.has(page.paddr())),
            What::CallRcu(head) if self.has_node(head) => {
                self.deferred = true;
                Step
            }
            What::Callback(head) if self.has_node(head) => Step,
            // A batch of tables is in a page of its own, which does not tell what was in it.
            What::CallRcu(head) | What::Callback(head) => {
                detail(self.deferred && layout::about(head).is_some_and(|at| layout::direct(at) == head))
            }
            What::Listed(node) | What::Unlisted(node) => step(self.has_node(node)),
            What::GpStart | What::GpEnd => step(self.deferred),
            What::Flush { mm, va } | What::Flushed { mm, va } => {
                let start = self.table.and_then(|t| t.hook).map(|h| h.1);
                let covers = self.table.is_none_or(|t| t.mm == mm) && (va.is_none() || va == start);
                step(self.unhooked && covers)
            }
            What::Huge { entry, .. } => step(self.table.and_then(|t| t.hook).is_some_and(|h| h.0 == entry)),
            What::Ipi => detail(self.unhooked),
            What::Holds { table, .. } => detail(self.has(table)),
            What::Load { entry, .. } | What::Store { entry, .. } | What::Drained { entry, .. } => {
                detail(self.has(entry))
            }
            What::Enter(_) | What::Leave(_) => detail(self.tasks.contains(&e.task)),
            What::Op(_) | What::OpDone(_) => Operation,
        }
    }
}

/// Of an event in a report that is about no place.
fn part_of_all(e: &Event) -> Part {
    match e.what {
        What::Load { .. } | What::Store { .. } | What::Drained { .. } | What::Holds { .. } => Part::None,
        What::Enter(_) | What::Leave(_) | What::Gone { .. } => Part::None,
        _ => Part::Step,
    }
}

/// Operations that have nothing of the story between their begin and their end are no part of it.
fn choose_operations(story: &mut [(Event, Part)]) {
    let mut inside: Vec<Actor> = Vec::new();
    let mut told = vec![false; story.len()];
    // From the last: what a task did belongs to the operation that began before.
    for (i, (e, part)) in story.iter().enumerate().rev() {
        match (part, e.what) {
            (Part::Operation, What::Op(_)) => {
                told[i] = inside.contains(&e.task);
                inside.retain(|t| *t != e.task);
            }
            (Part::Step | Part::Detail, _) if !inside.contains(&e.task) => inside.push(e.task),
            _ => {}
        }
    }
    for ((_, part), told) in story.iter_mut().zip(told) {
        if *part == Part::Operation {
            *part = if told { Part::Step } else { Part::None };
        }
    }
}

impl State {
    /// When what happened to a table, as positions in the history.
    pub(super) fn life(&self, t: &Table) -> String {
        let mut s = format!("handed out #{}", t.handed_out);
        if t.hook.is_some() {
            s += &format!(", hooked #{}", t.hooked);
        }
        if !matches!(t.life, Life::Fresh | Life::Hooked) && t.hook.is_some() {
            s += &match t.unhooked {
                WAITS => ", its unhook in a store buffer".into(),
                at => format!(", unhooked #{at}"),
            };
            s += if t.flushed { ", flushed" } else { ", not flushed" };
        }
        s += &match t.life {
            Life::Fresh => ", never hooked".into(),
            Life::Hooked | Life::Detached => String::new(),
            Life::Deposited => ", deposited".into(),
            Life::Given(Give::Now) => format!(", given back by pte_free #{}", t.given),
            Life::Given(Give::Gather) => format!(", given to tlb_remove_table #{}", t.given),
            Life::Given(Give::Defer) => format!(", given to pte_free_defer #{}", t.given),
        };
        s
    }

    /// Which events tell about a table or a page; with how many more there are or were.
    fn story(&self, about: Option<(Paddr, Option<&Table>)>, tasks: Vec<Actor>) -> (Vec<Event>, u64) {
        let page = self.format.page;
        let mut subject = about.map(|(at, table)| {
            // An address may be anything that an entry held.
            let last = at.0.saturating_add(table.map_or(1, |t| t.bytes) - 1);
            let end = (last | (page - 1)).saturating_add(1);
            Subject { bytes: at.0 & !(page - 1)..end, table, tasks, unhooked: false, deferred: false }
        });
        let mut story: Vec<(Event, Part)> = self
            .log
            .iter()
            .map(|e| (*e, subject.as_mut().map_or_else(|| part_of_all(e), |s| s.part(e))))
            .filter(|(_, part)| *part != Part::None)
            .collect();
        choose_operations(&mut story);
        story.retain(|(_, part)| *part != Part::None);
        let all = story.len();
        // The last ones matter most, and steps more than details.
        for part in [Part::Detail, Part::Step] {
            let mut much = story.len().saturating_sub(MOST);
            story.retain(|(_, p)| {
                let goes = *p == part && much != 0;
                much -= goes as usize;
                !goes
            });
        }
        let left_out = self.dropped + (all - story.len()) as u64;
        (story.into_iter().map(|(e, _)| e).collect(), left_out)
    }

    /// A report about a table (or an address), its holders and their story.
    pub(crate) fn report(&self, rule: u8, found: String, about: Option<Paddr>) -> Box<Report> {
        let table = about.and_then(|at| self.covering(at));
        let holders: Vec<&Walk> = match table {
            Some((at, _)) => self.walks.iter().filter(|w| w.holds.iter().any(|h| h.0 == at)).collect(),
            None => Vec::new(),
        };
        let tasks = holders.iter().map(|w| w.task).collect();
        let subject = about.map(|at| (table.map_or(at, |t| t.0), table.map(|t| t.1)));
        let (history, left_out) = self.story(subject, tasks);
        Box::new(Report {
            rule,
            found,
            table: table.map(|(at, t)| self.describe(at, t)),
            life: table.map(|(_, t)| self.life(t)),
            holders: holders.iter().map(|w| w.name()).collect(),
            history,
            left_out,
        })
    }
}

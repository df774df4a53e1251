//! The books of the sanitizer: every table's life, every walk, every flush and grace period, and what must hold
//! between them (hosted-mm D).

use super::deposits::Counts;
use super::event::{Class, Event, Give, What};
use super::report::Report;
use crate::page::Pages;
use crate::sorted::Sorted;
use racewalk_cpu::CpuEvent;
use racewalk_ram::{Kva, Paddr, Pfn, Vaddr};
use racewalk_sched::{controlled, this_cpu};
use racewalk_walk::event::WalkEvent;
use std::collections::{BTreeMap, HashSet, VecDeque};
use std::thread::ThreadId;

/// What the sanitizer knows of an architecture.
#[derive(Clone, Copy)]
pub(crate) struct Format {
    /// Hardware walks the tables.
    pub(crate) walked: bool,
    /// The class of the walks that the processors report: their own, or the trap handler's.
    pub(crate) walker: Class,
    /// Number of levels.
    pub(crate) levels: usize,
    /// The table that an entry of an upper level points to.
    pub(crate) next_table: fn(usize, u64) -> Option<Paddr>,
    /// Whether an entry of a level maps nothing.
    pub(crate) clear: fn(usize, u64) -> bool,
    /// What a level's tables are called.
    pub(crate) level_name: fn(usize) -> &'static str,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Life {
    Fresh,
    Hooked,
    Detached,
    /// Kept for a huge page's split.
    Deposited,
    Given(Give),
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Table {
    bytes: u64,
    level: usize,
    mm: Kva,
    generation: u64,
    pub(super) life: Life,
    /// Where it hangs or hung, and the first address it translates.
    pub(super) hook: Option<(Paddr, Vaddr)>,
    /// Position at which its entry was seen empty by all; [`WAITS`]: not yet.
    unhooked: u64,
    /// A covering invalidation that began after the unhook is complete.
    flushed: bool,
    given: u64,
}

#[derive(Clone, Debug)]
struct Walk {
    id: u64,
    class: Class,
    cpu: u32,
    task: u64,
    began: u64,
    /// Tables that a pointer was loaded to, with the generation they had then.
    holds: Vec<(Paddr, u64)>,
}

impl Walk {
    fn name(&self) -> String {
        format!("{} of cpu {} (task {}), since #{}", self.class, self.cpu as i32, self.task, self.began)
    }
}

/// Bytes of PTE tables.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Usage {
    /// Handed out and not given back.
    pub in_use: u64,
    /// Given back, and neither handed out again nor freed.
    pub pending: u64,
    /// The most in use at one time.
    pub in_use_peak: u64,
    /// The most pending at one time.
    pub pending_peak: u64,
}

impl Usage {
    fn take(&mut self, bytes: u64) {
        self.in_use += bytes;
        self.in_use_peak = self.in_use_peak.max(self.in_use);
    }
    fn give(&mut self, bytes: u64) {
        self.in_use -= bytes;
        self.pending += bytes;
        self.pending_peak = self.pending_peak.max(self.pending);
    }
}

/// Of an unhook that waits in a store buffer.
const WAITS: u64 = u64::MAX;

/// The state.
#[derive(Clone)]
pub(crate) struct State {
    format: Format,
    /// Threads of free runs, in the order in which they were first seen.
    threads: Vec<ThreadId>,
    seq: u64,
    pub(crate) log: VecDeque<Event>,
    log_limit: usize,
    dropped: u64,
    pub(crate) watcher: Option<std::sync::Arc<dyn super::Watcher>>,
    /// By address.
    tables: Sorted<Table>,
    generations: Sorted<u64>,
    walks: Vec<Walk>,
    /// The lists of walks that have ended, for the next ones.
    spare: Vec<Vec<(Paddr, u64)>>,
    queued: Sorted<()>,
    listed: Sorted<()>,
    /// Position when the running grace period began, and when the last complete one did.
    gp_began: u64,
    grace: u64,
    /// Position after which a purge of each CPU was sent.
    purges: Sorted<u64>,
    /// Spaces that are exiting: no software walker can find their tables any more.
    exiting: Sorted<()>,
    /// Lists of deposited tables, by the address of their heads.
    pub(super) deposits: BTreeMap<u64, Counts>,
    pub(crate) usage: Usage,
    /// Doublewords that stores wait for in store buffers, and how many.
    waiting: BTreeMap<u64, u64>,
    hash: u64,
    codes: Vec<(u64, u64)>,
    pub(crate) states: Option<HashSet<u64>>,
}

pub(crate) type Check = Result<(), Box<Report>>;

fn mix(mut z: u64) -> u64 {
    z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}

impl State {
    pub(crate) fn new(format: Format, log_limit: usize, states: bool) -> State {
        State {
            format,
            threads: Vec::new(),
            seq: 0,
            log: VecDeque::new(),
            log_limit,
            dropped: 0,
            watcher: None,
            tables: Sorted::default(),
            generations: Sorted::default(),
            walks: Vec::new(),
            spare: Vec::new(),
            queued: Sorted::default(),
            listed: Sorted::default(),
            gp_began: 0,
            grace: 0,
            purges: Sorted::default(),
            exiting: Sorted::default(),
            deposits: BTreeMap::new(),
            usage: Usage::default(),
            waiting: BTreeMap::new(),
            hash: 0,
            codes: Vec::new(),
            states: states.then(HashSet::new),
        }
    }

    /// Makes it what it was when `was` was cloned from it.
    pub(crate) fn go_back(&mut self, was: &State) {
        let State {
            format: _,
            threads: _,
            seq,
            log,
            log_limit: _,
            dropped,
            watcher: _,
            tables,
            generations,
            walks,
            spare: _,
            queued,
            listed,
            gp_began,
            grace,
            purges,
            exiting,
            deposits,
            usage,
            waiting,
            hash,
            codes,
            states,
        } = was;
        // Whoever comes first is the thread that did what has been done: a run does not depend on the thread that it is on.
        self.threads.clear();
        (self.seq, self.gp_began, self.grace) = (*seq, *gp_began, *grace);
        (self.usage, self.hash) = (*usage, *hash);
        // Events were only added, unless older ones had to go for them.
        match self.dropped == *dropped {
            true => self.log.truncate(log.len()),
            false => self.log.clone_from(log),
        }
        self.dropped = *dropped;
        self.tables.clone_from(tables);
        self.generations.clone_from(generations);
        self.walks.clone_from(walks);
        self.queued.clone_from(queued);
        self.listed.clone_from(listed);
        self.purges.clone_from(purges);
        self.exiting.clone_from(exiting);
        self.deposits.clone_from(deposits);
        self.waiting.clone_from(waiting);
        self.codes.clone_from(codes);
        self.states.clone_from(states);
    }

    /// Logs.
    pub(crate) fn note(&mut self, what: What) -> u64 {
        self.note_of(this_cpu(), what)
    }

    fn note_of(&mut self, cpu: u32, what: What) -> u64 {
        self.seq += 1;
        if let Some(w) = &self.watcher {
            w.happened(cpu, &what);
        }
        if self.log.len() == self.log_limit {
            self.log.pop_front();
            self.dropped += 1;
        }
        let task = self.task();
        self.log.push_back(Event { seq: self.seq, cpu, task, what });
        self.seq
    }

    /// The number of the task that runs; in a free run that of the thread, counted from 1.
    fn task(&mut self) -> u64 {
        if let Some(t) = controlled::current() {
            return u64::from(t);
        }
        let me = std::thread::current().id();
        let known = self.threads.iter().position(|t| *t == me);
        1 + known.unwrap_or_else(|| {
            self.threads.push(me);
            self.threads.len() - 1
        }) as u64
    }

    /// One part of the state has a new value.
    pub(crate) fn code(&mut self, key: u64, code: u64) {
        let Some(states) = &mut self.states else { return };
        let of = |code: u64| if code == 0 { 0 } else { mix(mix(key) ^ code) };
        match self.codes.iter_mut().find(|c| c.0 == key) {
            Some(c) => {
                self.hash ^= of(c.1) ^ of(code);
                c.1 = code;
            }
            None => {
                self.hash ^= of(code);
                self.codes.push((key, code));
            }
        }
        states.insert(self.hash);
    }

    pub(super) fn table_code(&mut self, at: u64) {
        let code = match self.tables.get(at).map(|t| (t.life, t.flushed)) {
            None => 0,
            Some((Life::Fresh, _)) => 1,
            Some((Life::Hooked, _)) => 2,
            Some((Life::Detached, f)) => 3 + f as u64,
            Some((Life::Deposited, f)) => 11 + f as u64,
            Some((Life::Given(g), f)) => 5 + 2 * g as u64 + f as u64,
        };
        self.code(at, code);
    }

    fn covering(&self, at: Paddr) -> Option<(Paddr, &Table)> {
        let (a, t) = self.tables.at_or_below(at.0)?;
        (at.0 < a + t.bytes).then_some((Paddr(a), t))
    }

    fn describe(&self, at: Paddr, t: &Table) -> String {
        let name = (self.format.level_name)(t.level);
        let life = match t.life {
            Life::Fresh => "never hooked",
            Life::Hooked => "hooked",
            Life::Detached => "unhooked",
            Life::Deposited => "deposited",
            Life::Given(Give::Now) => "given back by pte_free",
            Life::Given(Give::Gather) => "given to tlb_remove_table",
            Life::Given(Give::Defer) => "given to pte_free_defer",
        };
        let va = t.hook.map_or(String::new(), |(_, va)| format!(" for {:#x}", va.0));
        format!(
            "{:#x}, {name}, {} bytes{va}, generation {}, {life}{}",
            at.0,
            t.bytes,
            t.generation,
            if t.flushed { ", flushed" } else { "" }
        )
    }

    /// A report about a table (or an address), its holders and their story.
    pub(crate) fn report(&self, rule: u8, found: String, about: Option<Paddr>) -> Box<Report> {
        let table = about.and_then(|at| self.covering(at));
        let holders: Vec<&Walk> = match (about, table) {
            (_, Some((at, _))) => self.walks.iter().filter(|w| w.holds.iter().any(|h| h.0 == at)).collect(),
            _ => Vec::new(),
        };
        let tasks: Vec<u64> = holders.iter().map(|w| w.task).collect();
        let at = table.map(|t| t.0).or(about);
        let page = at.map(|a| a.0 >> 12);
        let matters = |e: &&Event| {
            let about_it = match (e.what.table(), e.what.page(), at) {
                (Some(t), _, Some(at)) => t == at || t.0 >> 12 == at.0 >> 12,
                (_, Some(p), _) => page.is_none_or(|g| g & !0xf <= p.0 && p.0 <= g),
                _ => false,
            };
            about_it
                || match e.what {
                    What::Load { entry, .. } | What::Store { entry, .. } => {
                        at.is_some_and(|a| a.0 >> 12 == entry.0 >> 12)
                    }
                    What::Enter(_) | What::Leave(_) => tasks.contains(&e.task),
                    What::Hook { .. } | What::Unhook { .. } | What::Alloc { .. } | What::Given { .. } => {
                        at.is_none()
                    }
                    What::Holds { .. } | What::Gone { .. } => false,
                    _ => true,
                }
        };
        let history: Vec<Event> = self.log.iter().filter(matters).copied().collect();
        // The last ones matter most.
        let skip = history.len().saturating_sub(80);
        Box::new(Report {
            rule,
            found,
            table: table.map(|(at, t)| self.describe(at, t)),
            holders: holders.iter().map(|w| w.name()).collect(),
            history: history[skip..].to_vec(),
            dropped: self.dropped + skip as u64,
        })
    }

    pub(super) fn bad<T>(&self, rule: u8, found: String, about: Paddr) -> Result<T, Box<Report>> {
        Err(self.report(rule, found, Some(about)))
    }

    // ---- tables

    pub(crate) fn alloc(&mut self, table: Paddr, bytes: u64, level: usize, mm: Kva) -> Check {
        self.gone(table, true)?;
        if let Some((at, t)) = self.covering(table) {
            let found = format!("{:#x} is handed out inside {}", table.0, self.describe(at, t));
            return self.bad(5, found, at);
        }
        let generation = self.generations.get(table.0).copied().unwrap_or(0) + 1;
        self.generations.insert(table.0, generation);
        self.note(What::Alloc { table, generation });
        let t = Table {
            bytes,
            level,
            mm,
            generation,
            life: Life::Fresh,
            hook: None,
            unhooked: 0,
            flushed: false,
            given: 0,
        };
        self.tables.insert(table.0, t);
        if level == self.format.levels - 1 {
            self.usage.take(bytes);
        }
        self.table_code(table.0);
        Ok(())
    }

    pub(super) fn table(&mut self, table: Paddr, doing: &str) -> Result<&mut Table, Box<Report>> {
        if !self.tables.contains(table.0) {
            return self.bad(1, format!("{doing} of {:#x}, which is no table", table.0), table);
        }
        Ok(self.tables.get_mut(table.0).expect("looked up above"))
    }

    pub(crate) fn hook(&mut self, table: Paddr, entry: Paddr, va: Vaddr) -> Check {
        let life = self.table(table, "hooking")?.life;
        if !matches!(life, Life::Fresh | Life::Detached) {
            let what = match life {
                Life::Hooked => "hooked already",
                Life::Deposited => "deposited",
                _ => "given back already",
            };
            return self.bad(23, format!("a table is hooked that is {what}"), table);
        }
        let t = self.table(table, "hooking")?;
        (t.life, t.hook, t.flushed) = (Life::Hooked, Some((entry, va)), false);
        let level = self.table(table, "hooking")?.level - 1;
        self.note(What::Hook { table, entry, level, va });
        self.table_code(table.0);
        Ok(())
    }

    pub(crate) fn unhook(&mut self, table: Paddr, entry: Paddr) -> Check {
        let seq = self.note(What::Unhook { table, entry });
        let seq = if self.waiting.contains_key(&entry.0) { WAITS } else { seq };
        let t = self.table(table, "unhooking")?;
        if t.life != Life::Hooked {
            return self.bad(23, "a table is unhooked that was not hooked".into(), table);
        }
        (t.life, t.unhooked) = (Life::Detached, seq);
        self.table_code(table.0);
        Ok(())
    }

    pub(crate) fn give(&mut self, table: Paddr, how: Give) -> Check {
        let seq = self.note(What::Given { table, how });
        let t = self.table(table, "giving back")?;
        match t.life {
            Life::Given(_) => return self.bad(5, "a table is given back twice".into(), table),
            Life::Hooked => {
                return self.bad(16, "a table is given back while it is hooked".into(), table);
            }
            Life::Deposited => {
                return self.bad(15, "a table is given back while it is deposited".into(), table);
            }
            Life::Fresh | Life::Detached => {}
        }
        (t.life, t.given) = (Life::Given(how), seq);
        let (bytes, level) = (t.bytes, t.level);
        if level == self.format.levels - 1 {
            self.usage.give(bytes);
        }
        self.table_code(table.0);
        Ok(())
    }

    /// The space's mappings are out of everybody's reach.
    pub(crate) fn exit(&mut self, mm: Kva) {
        self.exiting.insert(mm.0, ());
    }

    fn holders(&self, at: Paddr, t: &Table) -> impl Iterator<Item = &Walk> {
        self.walks.iter().filter(move |w| w.holds.contains(&(at, t.generation)))
    }

    /// A full grace period lies between then and now.
    fn grace_since(&self, then: u64) -> bool {
        self.grace > then
    }

    /// The table's memory is used for something else from here on; `reuse`: for a table at the same place.
    fn gone(&mut self, at: Paddr, reuse: bool) -> Check {
        let Some(t) = self.tables.get(at.0) else { return Ok(()) };
        let doing = if reuse { "handed out again" } else { "freed" };
        let Life::Given(how) = t.life else {
            let rule = if reuse { 5 } else { 13 };
            return self.bad(rule, format!("a table is {doing} that nobody gave back"), at);
        };
        if let Some(w) = self.holders(at, t).find(|w| w.class == Class::W1) {
            return self.bad(2, format!("the table is {doing} under a {}", w.name()), at);
        }
        if self.format.walked && t.hook.is_some() && !t.flushed {
            let found =
                format!("the table is {doing}, but no invalidation that covers it came after its unhook");
            return self.bad(16, found, at);
        }
        let rule = if reuse { 8 } else { 3 };
        if let Some(w) = self.holders(at, t).next() {
            return self.bad(rule, format!("the table is {doing} under a reader: {}", w.name()), at);
        }
        if how == Give::Defer && !self.grace_since(t.given) && !self.exiting.contains(t.mm.0) {
            let found =
                format!("the table is {doing}, but no grace period lies between pte_free_defer and now");
            return self.bad(rule, found, at);
        }
        if t.level == self.format.levels - 1 {
            self.usage.pending -= t.bytes;
        }
        self.note(What::Gone { table: at });
        self.tables.remove(at.0);
        self.table_code(at.0);
        Ok(())
    }

    /// `len` bytes go back to the frame allocator.
    pub(crate) fn freed(&mut self, at: Paddr, len: u64) -> Check {
        let inside: Vec<u64> = self.tables.range(at.0, at.0 + len).iter().map(|t| t.0).collect();
        if inside.is_empty() {
            return Ok(());
        }
        self.note(What::PageFree(at.pfn()));
        for a in inside {
            self.gone(Paddr(a), false)?;
        }
        if !self.listed.range(kva_of(at), kva_of(at) + len).is_empty()
            || self.listed.contains(Pages::lru(at.pfn()).0)
        {
            return self.bad(14, "the page is freed while a list runs through it".into(), at);
        }
        Ok(())
    }

    /// Software stores a doubleword of memory.
    pub(crate) fn store(&mut self, at: Paddr, value: u64) -> Check {
        let Some((table, t)) = self.covering(at) else { return Ok(()) };
        let (level, life, hooked) = (t.level, t.life, t.hook.is_some());
        let clear = (self.format.clear)(level, value);
        // A table that was never hooked has no readers.
        let exposed = hooked
            && match life {
                Life::Fresh | Life::Hooked => false,
                // The collapse that unhooked it keeps readers out, and waits for those who were inside.
                Life::Detached | Life::Deposited => {
                    (self.format.walked && !t.flushed) || self.holders(table, t).next().is_some()
                }
                Life::Given(_) => {
                    (self.format.walked && !t.flushed)
                        || !self.grace_since(t.given)
                        || self.holders(table, t).next().is_some()
                }
            };
        self.note(What::Store { entry: at, value });
        if exposed && !clear {
            let found = format!(
                "{value:#x} is stored at {:#x} of an unhooked table that walkers may still be inside",
                at.0
            );
            return self.bad(9, found, table);
        }
        Ok(())
    }

    /// A store to a doubleword went into a store buffer. What is stored to an entry is no fact before all see it: an
    /// invalidation that begins earlier does not cover it.
    pub(crate) fn buffered(&mut self, at: Paddr) {
        *self.waiting.entry(at.0).or_insert(0) += 1;
        for (_, t) in self.tables.iter_mut() {
            if t.life == Life::Detached && t.hook.is_some_and(|h| h.0 == at) {
                t.unhooked = WAITS;
            }
        }
    }

    /// It left the buffer.
    pub(crate) fn drained(&mut self, cpu: u32, at: Paddr, value: u64) {
        if self.covering(at).is_some() {
            self.note_of(cpu, What::Drained { entry: at, value });
        }
        let Some(n) = self.waiting.get_mut(&at.0) else { return };
        *n -= 1;
        if *n != 0 {
            return;
        }
        self.waiting.remove(&at.0);
        let seq = self.seq;
        for (_, t) in self.tables.iter_mut() {
            if t.unhooked == WAITS && t.hook.is_some_and(|h| h.0 == at) {
                t.unhooked = seq;
            }
        }
    }

    // ---- invalidations and cross calls

    pub(crate) fn flush_done(&mut self, mm: Kva, va: Option<Vaddr>, began: u64) {
        self.note(What::Flushed { mm, va });
        let format = self.format;
        let mut changed = Vec::new();
        for (at, t) in self.tables.iter_mut() {
            let covered = match (va, t.hook) {
                (None, _) => true,
                // Of an address: the PTE table that it is translated by.
                (Some(va), Some((_, start))) => t.level == format.levels - 1 && start == va,
                (Some(_), None) => false,
            };
            let unhooked = !matches!(t.life, Life::Fresh | Life::Hooked) && t.hook.is_some();
            if t.mm == mm && covered && unhooked && t.unhooked < began && !t.flushed {
                t.flushed = true;
                changed.push(*at);
            }
        }
        for at in changed {
            self.table_code(at);
        }
    }

    // ---- walkers

    /// A software walker begins.
    pub(crate) fn enter(&mut self, class: Class) -> u64 {
        let id = self.note(What::Enter(class));
        let (task, holds) = (self.task(), self.spare.pop().unwrap_or_default());
        let w = Walk { id, class, cpu: this_cpu(), task, began: id, holds };
        self.walks.push(w);
        id
    }

    pub(crate) fn leave(&mut self, id: u64) {
        if let Some(i) = self.walks.iter().position(|w| w.id == id) {
            let w = self.walks.swap_remove(i);
            self.note(What::Leave(w.class));
            self.keep(w);
        }
    }

    fn keep(&mut self, mut walk: Walk) {
        walk.holds.clear();
        self.spare.push(walk.holds);
    }

    /// The section became one of another class: `pte_offset_map` that went on to take the lock.
    pub(crate) fn reclass(&mut self, id: u64, class: Class) {
        if let Some(w) = self.walks.iter_mut().find(|w| w.id == id) {
            w.class = class;
        }
    }

    /// The walker has a pointer to a table now.
    pub(crate) fn hold(&mut self, id: u64, table: Paddr) {
        let generation = self.tables.get(table.0).map_or(0, |t| t.generation);
        if let Some(w) = self.walks.iter_mut().find(|w| w.id == id) {
            w.holds.push((table, generation));
            let class = w.class;
            self.note(What::Holds { class, table });
        }
    }

    /// Software reads an entry that no walk is about.
    pub(crate) fn touch(&self, entry: Paddr) -> Check {
        match self.covering(entry) {
            Some(_) => Ok(()),
            None => {
                self.bad(1, format!("software reads {:#x}, where no table is (any more)", entry.0), entry)
            }
        }
    }

    /// The walker loaded an entry.
    pub(crate) fn load(&mut self, id: u64, entry: Paddr, value: u64) -> Check {
        let Some(i) = self.walks.iter().position(|w| w.id == id) else { return Ok(()) };
        self.loaded(i, entry, value)
    }

    fn loaded(&mut self, walk: usize, entry: Paddr, value: u64) -> Check {
        let w = &self.walks[walk];
        let (class, cpu) = (w.class, w.cpu);
        self.note_of(cpu, What::Load { class, entry, value });
        let w = &self.walks[walk];
        let Some((at, t)) = self.covering(entry) else {
            let found = format!("{} reads {:#x}, where no table is (any more)", w.name(), entry.0);
            let about = w.holds.iter().rev().find(|h| entry.0 >= h.0.0).map_or(entry, |h| h.0);
            return self.bad(1, found, about);
        };
        if let Some(&(_, had)) = w.holds.iter().rev().find(|h| h.0 == at)
            && had != t.generation
        {
            let found = format!(
                "{} reads {:#x}: the table has generation {}, its pointer was to generation {had}",
                w.name(),
                entry.0,
                t.generation
            );
            return self.bad(1, found, at);
        }
        let (level, generation) = (t.level, t.generation);
        if class == self.format.walker {
            let next = (level < self.format.levels - 1)
                .then(|| (self.format.next_table)(level, value))
                .flatten()
                .map(|next| (next, self.tables.get(next.0).map_or(0, |t| t.generation)));
            let w = &mut self.walks[walk];
            if !w.holds.contains(&(at, generation)) {
                w.holds.push((at, generation));
            }
            if let Some(next) = next {
                w.holds.push(next);
                self.note_of(cpu, What::Holds { class, table: next.0 });
            }
        }
        Ok(())
    }

    /// An event of the hardware.
    pub(crate) fn hardware(&mut self, cpu: u32, event: &CpuEvent) -> Check {
        let task = self.task();
        let class = self.format.walker;
        let mine = |w: &Walk| w.class == class && w.cpu == cpu && w.task == task;
        match event {
            CpuEvent::Walk(WalkEvent::Start { .. }) => {
                self.walks.retain(|w| !mine(w));
                let began = self.note_of(cpu, What::Enter(class));
                let holds = self.spare.pop().unwrap_or_default();
                let w = Walk { id: began, class, cpu, task, began, holds };
                self.walks.push(w);
            }
            CpuEvent::Walk(WalkEvent::Step { entry_addr, entry, .. }) => {
                // A walk that a complete purge has ended is not known any more.
                if let Some(i) = self.walks.iter().position(mine) {
                    return self.loaded(i, *entry_addr, *entry);
                }
            }
            CpuEvent::Walk(WalkEvent::Done { .. } | WalkEvent::Fault { .. }) | CpuEvent::Overtaken => {
                if let Some(i) = self.walks.iter().position(mine) {
                    let w = self.walks.swap_remove(i);
                    self.note_of(cpu, What::Leave(class));
                    self.keep(w);
                }
            }
            CpuEvent::Purge { .. } => {
                self.purges.insert(u64::from(cpu), self.seq);
            }
            CpuEvent::Purged { .. } => {
                let sent = self.purges.get(u64::from(cpu)).copied().unwrap_or(0);
                self.walks.retain(|w| w.class != Class::W1 || w.began > sent);
            }
            CpuEvent::Store { addr, value } => {
                self.note_of(cpu, What::Store { entry: *addr, value: *value });
            }
            CpuEvent::Lookup { .. } | CpuEvent::Evict { .. } => {}
            CpuEvent::Fill { .. } | CpuEvent::Load { .. } => {}
        }
        Ok(())
    }

    // ---- RCU and lists

    pub(crate) fn call_rcu(&mut self, head: Kva, page: Option<Pfn>) -> Check {
        self.note(What::CallRcu(head));
        let about = page.map(|p| p.paddr());
        if self.listed.contains(head.0) {
            let found = format!("call_rcu on {:#x}, whose words link a list", head.0);
            return Err(self.report(4, found, about));
        }
        if !self.queued.insert(head.0, ()) {
            return Err(self.report(4, format!("call_rcu on {:#x}, which is queued already", head.0), about));
        }
        self.code(head.0, 1);
        Ok(())
    }

    pub(crate) fn callback(&mut self, head: Kva) {
        self.queued.remove(head.0);
        self.note(What::Callback(head));
        self.code(head.0, 0);
    }

    pub(crate) fn gp_start(&mut self) {
        self.gp_began = self.note(What::GpStart);
    }

    pub(crate) fn gp_end(&mut self) {
        self.grace = self.gp_began;
        self.note(What::GpEnd);
    }

    pub(crate) fn list_add(&mut self, node: Kva) -> Check {
        self.note(What::Listed(node));
        if self.queued.contains(node.0) {
            return Err(self.report(
                4,
                format!("{:#x} is linked into a list while call_rcu has it", node.0),
                None,
            ));
        }
        if !self.listed.insert(node.0, ()) {
            return Err(self.report(14, format!("{:#x} is linked into a list twice", node.0), None));
        }
        self.code(node.0, 2);
        Ok(())
    }

    pub(crate) fn list_del(&mut self, node: Kva) -> Check {
        if self.queued.contains(node.0) {
            return Err(self.report(
                4,
                format!("{:#x} is taken off a list while call_rcu has it", node.0),
                None,
            ));
        }
        if self.listed.remove(node.0).is_some() {
            self.note(What::Unlisted(node));
            self.code(node.0, 0);
        }
        Ok(())
    }

    /// A word outside the lists and RCU's own code is stored.
    pub(crate) fn overwrites(&self, at: Kva) -> Check {
        match self.queued.at_or_below(at.0) {
            Some((head, _)) if at.0 < head + 16 => Err(self.report(
                4,
                format!("the queued rcu_head at {head:#x} is overwritten at {:#x}", at.0),
                None,
            )),
            _ => Ok(()),
        }
    }

    /// The destructor made a table's lock unusable.
    pub(crate) fn lock_gone(&mut self, page: Pfn, len: u64) -> Check {
        self.note(What::LockGone(page));
        let at = page.paddr().0;
        let early = self.tables.range(at, at + len).iter().find(|(_, t)| {
            t.life == Life::Given(Give::Defer) && !self.grace_since(t.given) && !self.exiting.contains(t.mm.0)
        });
        if let Some(&(a, _)) = early {
            let found = "the destructor frees the lock of a deferred table before its grace period".into();
            return self.bad(11, found, Paddr(a));
        }
        Ok(())
    }

    /// Tables that were handed out and did not come to an end.
    pub(crate) fn remaining(&self) -> Vec<String> {
        self.tables.iter().filter(|(_, t)| t.mm != Kva(0)).map(|(a, t)| self.describe(Paddr(*a), t)).collect()
    }
}

fn kva_of(at: Paddr) -> u64 {
    crate::layout::direct(at).0
}

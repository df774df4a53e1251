//! The books of the sanitizer: every table's life, every walk, every flush and grace period, and what must hold
//! between them (hosted-mm D).

mod rcu;
mod story;
mod tables;
mod walks;

use super::deposits::Counts;
use super::event::{Actor, Class, Event, Give, What};
use super::report::Report;
use crate::sorted::Sorted;
use racewalk_ram::{Kva, Paddr, Vaddr};
use racewalk_sched::{NO_CPU, controlled, this_cpu};
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
    /// Bytes of a page.
    pub(crate) page: u64,
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
    /// Position at which it was handed out.
    handed_out: u64,
    /// Where it hangs or hung, and the first address it translates.
    pub(super) hook: Option<(Paddr, Vaddr)>,
    /// Position at which it was hooked there.
    hooked: u64,
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
    task: Actor,
    began: u64,
    /// Tables that a pointer was loaded to, with the generation they had then.
    holds: Vec<(Paddr, u64)>,
}

impl Walk {
    fn name(&self) -> String {
        let on = match self.cpu {
            NO_CPU => String::new(),
            cpu => format!("cpu {cpu}, "),
        };
        format!("{} of {on}{}, since #{}", self.class, self.task, self.began)
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

    /// Who runs.
    fn task(&mut self) -> Actor {
        if let Some(t) = controlled::current() {
            return Actor::Task(t);
        }
        let me = std::thread::current().id();
        let known = self.threads.iter().position(|t| *t == me);
        let n = known.unwrap_or_else(|| {
            self.threads.push(me);
            self.threads.len() - 1
        });
        Actor::Thread(1 + n as u32)
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
        let va = t.hook.map_or(String::new(), |(_, va)| format!(" for {:#x}", va.0));
        format!("{:#x}, {name}, {} bytes{va}, generation {}", at.0, t.bytes, t.generation)
    }

    pub(super) fn bad<T>(&self, rule: u8, found: String, about: Paddr) -> Result<T, Box<Report>> {
        Err(self.report(rule, found, Some(about)))
    }
}

//! All states of the fragment protocols (hosted-mm B.1 to B.4): the code of each scheme itself, run by actors that for ever
//! take and give back tables of one space, end grace periods and run callbacks.
//!
//! A state is what the schemes keep (bytes, counters, flags, lists, queued callbacks), which tables are held, where each
//! actor is in its operation and what it read there. Actors, and pages, are told apart by that alone. Actors change places
//! at locks, at each atomic access to a byte, counter or flag, and at list operations as a whole, which nobody sees halfway:
//! lists are guarded by a lock, and the one look without it reads one word.
//!
//! Every table that is gathered or deferred has a reader inside until the next end of a grace period: a page that is freed,
//! or a table that is handed out again, before that is a finding, as is everything that the schemes themselves find wrong,
//! and what is left when nobody has anything to do.

mod counters;
mod deposits;
mod ppc64;
mod s390x;
mod world;

use crate::arch::Arch;
use crate::buddy::Failures;
use crate::kernel::{Config, Kernel};
use crate::memory::Saved;
use crate::mm::Mm;
use crate::page::FrameKind;
use racewalk_cpu::Cpus;
use racewalk_ram::{Pfn, Ram};
use racewalk_sched::controlled::{Situation, spawn};
use racewalk_sched::search::{Order, Search, SearchConfig, explore_by};
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};
use world::{PageState, World};

/// What is searched.
struct Options<A: Arch> {
    scheme: &'static str,
    /// How many operations may be under way at once.
    actors: usize,
    /// Pages of tables that may exist at once.
    pages: u64,
    /// Whether there is memory for batches.
    batches: bool,
    order: Order,
    /// What happens before.
    setup: fn(&Kernel<A>, &Arc<Mm<A>>),
    /// Whether the space may end.
    exits: bool,
    /// Whether nothing is missing or left of a page when nobody has anything to do, given the tables of it that are held.
    settled: fn(&World<A>, Pfn, &PageState, held: u64) -> bool,
}

impl<A: Arch> Clone for Options<A> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<A: Arch> Copy for Options<A> {}

/// What a search found.
struct Found {
    states: BTreeSet<PageState>,
    findings: BTreeSet<String>,
    search: Search,
    took: Duration,
}

impl Found {
    /// Prints it; `states` are the pages' in the words of the table.
    fn print<A: Arch>(&self, o: &Options<A>, states: &BTreeSet<String>) {
        let s = &self.search;
        println!(
            "{}, {} actors, {} pages: {} states, {} steps, {} runs, {:?}; {} states of a page: {}",
            o.scheme,
            o.actors,
            o.pages,
            s.states,
            s.transitions,
            s.runs,
            self.took,
            states.len(),
            states.iter().map(String::as_str).collect::<Vec<_>>().join(" ")
        );
        for f in &self.findings {
            println!("    {f}");
        }
        assert!(s.complete, "{:?}, diverged: {}", s.end, s.diverged);
    }

    /// What is found is this, each by how its text begins, and nothing else.
    fn finds(&self, wanted: &[&str]) {
        let wrong = |f: &&String| !wanted.iter().any(|w| f.starts_with(w));
        let more: Vec<_> = self.findings.iter().filter(wrong).collect();
        let missing: Vec<_> =
            wanted.iter().filter(|w| !self.findings.iter().any(|f| f.starts_with(**w))).collect();
        assert!(more.is_empty() && missing.is_empty(), "more: {more:#?}, missing: {missing:#?}");
    }
}

/// Labels at which actors change places: all but those of what lies inside a list operation, the allocator or RCU, and
/// those of the search's own making and unmaking.
fn branch(label: &'static str) -> bool {
    const INSIDE: [&str; 8] = [
        "kmem.load",
        "kmem.store",
        "page.alloc",
        "page.free",
        "pte.dtor",
        "rcu.call",
        "rcu.callback",
        "active",
    ];
    !INSIDE.contains(&label)
}

/// Searches all states.
fn search<A: Arch>(options: Options<A>) -> Found {
    let began = Instant::now();
    let config = Config {
        scheme: options.scheme.parse().unwrap(),
        reserved: (2 * racewalk_ram::PAGE_SIZE).max(1 << A::PAGE_SHIFT),
        max_mms: 4,
        ..Config::default()
    };
    let ram = Arc::new(Ram::new((80 << A::PAGE_SHIFT).max(1 << 20)).unwrap());
    let cpus = Cpus::new(ram.clone(), 1);
    let first = Kernel::<A>::new(ram, cpus, config).unwrap();
    let mm = first.mm_create().unwrap();
    (options.setup)(&first, &mm);
    let batches = if options.batches { u64::MAX } else { 0 };
    let limits = [(FrameKind::PteTables, options.pages), (FrameKind::TableBatch, batches)];
    first.set_failures(Failures::Beyond(limits.into()));
    let saved: Rc<Saved> = Rc::new(first.memory().save());
    let seen: Rc<RefCell<BTreeSet<PageState>>> = Rc::default();
    let findings: Rc<RefCell<BTreeSet<String>>> = Rc::default();
    let world: Rc<RefCell<Option<Rc<World<A>>>>> = Rc::default();
    let (w, k, space) = (world.clone(), first.clone(), mm.clone());
    let (states, found) = (seen.clone(), findings.clone());
    let main = move || {
        if let Some(old) = w.borrow_mut().take() {
            old.kernel.halt();
        }
        k.memory().restore(&saved);
        let kernel = k.again().unwrap();
        let mm = space.again(kernel.clone());
        let world = Rc::new(World::new(kernel, mm, options));
        for me in 0..options.actors {
            let world = world.clone();
            spawn("actor", move || world.act(me));
        }
        *w.borrow_mut() = Some(world);
    };
    let mut config = SearchConfig::default();
    (config.order, config.stack, config.max_depth) = (options.order, 64 << 10, u32::MAX);
    // Ten times what the largest needs: broken code may have states without end.
    config.max_states = 500_000;
    config.branch = Some(branch);
    let w = world.clone();
    // `main` has run when the first state is asked for.
    let key = move |at: Option<&Situation<'_>>| match (&*w.borrow(), at) {
        (Some(w), Some(at)) => w.key(at, &mut states.borrow_mut(), &mut found.borrow_mut()),
        _ => 0,
    };
    let search = explore_by(config, key, main, |_| {});
    if let Some(w) = world.borrow_mut().take() {
        w.kernel.halt();
    }
    first.halt();
    Found { states: seen.take(), findings: findings.take(), search, took: began.elapsed() }
}

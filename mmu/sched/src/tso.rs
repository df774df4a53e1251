//! Total store order: stores wait in a buffer of their CPU before others see them, as on x86, SPARC (TSO) and s390x.
//!
//! A CPU's stores leave its buffer in order. Its loads see its own latest store first; a fence or an atomic operation
//! empties the buffer. When a store leaves by itself is the schedule's choice: a background task for each CPU drains it,
//! and every drain is a scheduling point, `tso.drain`. A fence empties the buffer in one step: that others see a part of
//! it before, drains show.
//!
//! [`StoreBuffers`] are the buffers. Code that does not hand them around uses those of the run that it is part of
//! ([`install`]): [`store`], [`load`], [`fence`], [`after`]. Outside such a run these cost one test and do nothing. Tasks
//! that hold no CPU have no buffer.

use crate::controlled::{self, spawn_background};
use crate::{point, this_cpu, wait_while, wake_now};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

/// The memory behind the buffers: cells of 8 bytes, each known by a key such as its address. Called without a
/// scheduling point on the way.
pub trait Cells {
    /// The value of a cell.
    fn load(&self, key: u64) -> u64;
    /// Writes a cell.
    fn store(&self, key: u64, value: u64);
    /// Replaces a cell's value by `f` of it, in one step; returns the old one.
    fn update(&self, key: u64, f: &mut dyn FnMut(u64) -> u64) -> u64;
    /// A store of `cpu` has left its buffer: the cell holds `value` now.
    fn drained(&self, cpu: u32, key: u64, value: u64) {
        let _ = (cpu, key, value);
    }
}

impl<C: Cells + ?Sized> Cells for Rc<C> {
    fn load(&self, key: u64) -> u64 {
        (**self).load(key)
    }
    fn store(&self, key: u64, value: u64) {
        (**self).store(key, value)
    }
    fn update(&self, key: u64, f: &mut dyn FnMut(u64) -> u64) -> u64 {
        (**self).update(key, f)
    }
    fn drained(&self, cpu: u32, key: u64, value: u64) {
        (**self).drained(cpu, key, value)
    }
}

/// Stores that a buffer holds; one more, and the oldest leaves first.
pub const CAPACITY: usize = 32;

/// What waits in a buffer.
enum Entry {
    /// A store of the bits of `mask`.
    Store { key: u64, value: u64, mask: u64 },
    /// To be done when everything before it has left.
    Then(Box<dyn FnOnce()>),
}

impl std::fmt::Debug for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Entry::Store { key, value, .. } => write!(f, "{key:#x}={value:#x}"),
            Entry::Then(_) => f.write_str("then"),
        }
    }
}

/// What waits of one CPU, the oldest first.
#[derive(Debug, Default)]
struct Buffer {
    // Never borrowed across a scheduling point.
    entries: RefCell<VecDeque<Entry>>,
}

impl Buffer {
    fn key(&self) -> usize {
        std::ptr::from_ref(self) as usize
    }
    fn is_empty(&self) -> bool {
        self.entries.borrow().is_empty()
    }
}

/// Memory seen through one store buffer for each CPU.
#[derive(Debug)]
pub struct StoreBuffers<C> {
    cells: C,
    cpus: Vec<Buffer>,
    buffered: Cell<bool>,
}

impl<C: Cells> StoreBuffers<C> {
    /// For `cpus` CPUs; everything goes straight to `cells` until the drains are spawned.
    pub fn new(cells: C, cpus: u32) -> Self {
        let cpus = (0..cpus).map(|_| Buffer::default()).collect();
        StoreBuffers { cells, cpus, buffered: Cell::new(false) }
    }

    /// The memory, past the buffers.
    pub fn cells(&self) -> &C {
        &self.cells
    }

    /// Stores wait in the buffers from now on, for the rest of the controlled run that the caller is part of.
    ///
    /// # Panics
    /// Outside a controlled run.
    pub fn spawn_drains(self: &Rc<Self>)
    where
        C: 'static,
    {
        self.buffered.set(true);
        for cpu in 0..self.cpus.len() {
            let me = self.clone();
            spawn_background(format!("drain {cpu}"), move || {
                let buffer = &me.cpus[cpu];
                loop {
                    wait_while(buffer.key(), "tso.idle", || buffer.is_empty());
                    point("tso.drain");
                    me.drain_one(cpu);
                    crate::forget();
                }
            });
        }
    }

    fn buffer(&self, cpu: u32) -> Option<&Buffer> {
        if self.buffered.get() { self.cpus.get(cpu as usize) } else { None }
    }

    /// One store, and what waits directly behind it.
    fn drain_one(&self, cpu: usize) -> bool {
        let pop = |only_then: bool| {
            let mut entries = self.cpus[cpu].entries.borrow_mut();
            let then = matches!(entries.front(), Some(Entry::Then(_)));
            if then || !only_then { entries.pop_front() } else { None }
        };
        let oldest = pop(false);
        let any = oldest.is_some();
        self.apply(cpu, oldest);
        while let Some(then) = pop(true) {
            self.apply(cpu, Some(then));
        }
        any
    }

    fn apply(&self, cpu: usize, entry: Option<Entry>) {
        match entry {
            Some(Entry::Store { key, value, mask }) => {
                let value =
                    if mask == u64::MAX { value } else { self.cells.load(key) & !mask | value & mask };
                self.cells.store(key, value);
                self.cells.drained(cpu as u32, key, value);
            }
            Some(Entry::Then(f)) => f(),
            None => {}
        }
    }

    /// A store by `cpu`. A CPU without a buffer stores straight to memory.
    pub fn store(&self, cpu: u32, key: u64, value: u64) {
        if !self.store_bits(cpu, key, value, u64::MAX) {
            self.cells.store(key, value);
        }
    }

    /// A store of the bits of `mask` by `cpu`, if it has a buffer.
    fn store_bits(&self, cpu: u32, key: u64, value: u64, mask: u64) -> bool {
        let Some(b) = self.buffer(cpu) else { return false };
        let stores = b.entries.borrow().iter().filter(|e| matches!(e, Entry::Store { .. })).count();
        if stores == CAPACITY {
            self.drain_one(cpu as usize);
        }
        b.entries.borrow_mut().push_back(Entry::Store { key, value, mask });
        wake_now(b.key());
        true
    }

    /// A load by `cpu`.
    pub fn load(&self, cpu: u32, key: u64) -> u64 {
        self.over(cpu, key, self.cells.load(key))
    }

    /// What `cpu` sees of a cell in which others see `memory`.
    fn over(&self, cpu: u32, key: u64, memory: u64) -> u64 {
        let Some(b) = self.buffer(cpu) else { return memory };
        b.entries.borrow().iter().fold(memory, |seen, e| match *e {
            Entry::Store { key: k, value, mask } if k == key => seen & !mask | value & mask,
            _ => seen,
        })
    }

    /// Empties the buffer of `cpu`: what it stored before is seen by all.
    pub fn fence(&self, cpu: u32) {
        if self.buffer(cpu).is_some() {
            while self.drain_one(cpu as usize) {}
        }
    }

    /// An atomic operation by `cpu`, which is a fence: the cell becomes `f` of its value; the old value.
    pub fn update(&self, cpu: u32, key: u64, mut f: impl FnMut(u64) -> u64) -> u64 {
        self.fence(cpu);
        self.cells.update(key, &mut f)
    }

    /// Does `f` when everything that `cpu` has stored is in memory: now, if nothing waits.
    fn after(&self, cpu: u32, f: Box<dyn FnOnce()>) {
        match self.buffer(cpu) {
            Some(b) if !b.is_empty() => b.entries.borrow_mut().push_back(Entry::Then(f)),
            _ => f(),
        }
    }

    /// Stores that wait, by CPU, the oldest first: a part of the state that a search must know.
    pub fn waiting(&self) -> Vec<Vec<(u64, u64)>> {
        let of = |b: &Buffer| {
            let entries = b.entries.borrow();
            let stores = entries.iter().filter_map(|e| match *e {
                Entry::Store { key, value, .. } => Some((key, value)),
                Entry::Then(_) => None,
            });
            stores.collect()
        };
        self.cpus.iter().map(of).collect()
    }
}

/// Buffers whose memory is known at run time.
type Ambient = Rc<StoreBuffers<Rc<dyn Cells>>>;

thread_local! {
    static ENABLED: Cell<bool> = const { Cell::new(false) };
    /// Those of the run.
    static RUN: RefCell<Option<Ambient>> = const { RefCell::new(None) };
}

/// Stores of the controlled run that the caller is part of wait in buffers from now on, in front of `cells`, to its end.
///
/// # Panics
/// Outside a controlled run.
pub fn install(cells: Rc<dyn Cells>, cpus: u32) {
    assert!(controlled::active(), "store buffers outside a controlled run");
    let buffers = Rc::new(StoreBuffers::new(cells, cpus));
    buffers.spawn_drains();
    RUN.set(Some(buffers));
    ENABLED.set(true);
}

/// The run is over. What waits is lost: who wants it ends its tasks with a [`fence`].
pub(crate) fn uninstall() {
    ENABLED.set(false);
    drop(RUN.take());
}

/// Whether the run that the caller is part of has store buffers.
#[inline(always)]
pub fn enabled() -> bool {
    ENABLED.get()
}

#[cold]
fn buffers() -> Option<Ambient> {
    RUN.with_borrow(|r| r.clone())
}

/// A store of the bits of `mask` by the current CPU: false if it has no buffer, and the caller stores to memory.
#[inline(always)]
#[must_use]
pub fn store(key: u64, value: u64, mask: u64) -> bool {
    enabled() && buffers().is_some_and(|b| b.store_bits(this_cpu(), key, value, mask))
}

/// What the current CPU sees of a cell that holds `memory`.
#[inline(always)]
pub fn load(key: u64, memory: u64) -> u64 {
    if enabled() { buffers().map_or(memory, |b| b.over(this_cpu(), key, memory)) } else { memory }
}

/// The current CPU's stores are seen by all: a barrier, or the part of an atomic operation that comes first.
#[inline(always)]
pub fn fence() {
    if enabled() {
        fence_of(this_cpu());
    }
}

/// Those of `cpu`: something that was done there, such as an interrupt, is a fence.
#[inline(always)]
pub fn fence_of(cpu: u32) {
    if enabled()
        && let Some(b) = buffers()
    {
        b.fence(cpu);
    }
}

/// Wakes who waits for `key` when everything that the current CPU has stored is in memory, if that is not so now.
pub(crate) fn wake_later(key: usize) -> bool {
    let cpu = this_cpu();
    match buffers() {
        Some(b) if b.buffer(cpu).is_some_and(|b| !b.is_empty()) => {
            b.after(cpu, Box::new(move || wake_now(key)));
            true
        }
        _ => false,
    }
}

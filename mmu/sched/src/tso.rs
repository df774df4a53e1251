//! Total store order: stores wait in a buffer of their CPU before others see them, as on x86, SPARC (TSO) and s390x.
//!
//! A CPU's stores leave its buffer in order. Its loads see its own latest store first; a fence or an atomic operation
//! empties the buffer. When a store leaves by itself is the schedule's choice: a background task for each CPU
//! ([`StoreBuffers::spawn_drains`]). Without them, and in free mode, everything goes straight to memory.
//!
//! Who waits for a store must be woken after it has left: [`StoreBuffers::fence`] before [`wake`].

use crate::controlled::spawn_background;
use crate::{point, wait_while, wake};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The memory behind the buffers: cells of 8 bytes, each known by a key such as its address. Called without a
/// scheduling point on the way.
pub trait Cells {
    /// The value of a cell.
    fn load(&self, key: u64) -> u64;
    /// Writes a cell.
    fn store(&self, key: u64, value: u64);
    /// Replaces a cell's value by `f` of it, in one step; returns the old one.
    fn update(&self, key: u64, f: &mut dyn FnMut(u64) -> u64) -> u64;
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
}

/// Stores of one CPU, the oldest first: key and value.
#[derive(Debug, Default)]
struct Buffer {
    // Never held across a scheduling point, so never waited for in a controlled run.
    stores: Mutex<VecDeque<(u64, u64)>>,
}

impl Buffer {
    fn stores(&self) -> MutexGuard<'_, VecDeque<(u64, u64)>> {
        self.stores.lock().unwrap_or_else(PoisonError::into_inner)
    }
    fn key(&self) -> usize {
        std::ptr::from_ref(self) as usize
    }
}

/// Memory seen through one store buffer for each CPU.
#[derive(Debug)]
pub struct StoreBuffers<C> {
    cells: C,
    cpus: Vec<Buffer>,
    buffered: AtomicBool,
}

impl<C: Cells> StoreBuffers<C> {
    /// For `cpus` CPUs; everything goes straight to `cells` until the drains are spawned.
    pub fn new(cells: C, cpus: u32) -> Self {
        let cpus = (0..cpus).map(|_| Buffer::default()).collect();
        StoreBuffers { cells, cpus, buffered: AtomicBool::new(false) }
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
        self.buffered.store(true, Ordering::Relaxed);
        for cpu in 0..self.cpus.len() {
            let me = self.clone();
            spawn_background(format!("drain {cpu}"), move || {
                let buffer = &me.cpus[cpu];
                loop {
                    wait_while(buffer.key(), "tso.idle", || buffer.stores().is_empty());
                    point("tso.drain");
                    me.drain_one(cpu);
                    crate::forget();
                }
            });
        }
    }

    fn buffer(&self, cpu: u32) -> Option<&Buffer> {
        if self.buffered.load(Ordering::Relaxed) { self.cpus.get(cpu as usize) } else { None }
    }

    fn drain_one(&self, cpu: usize) -> bool {
        let mut stores = self.cpus[cpu].stores();
        let oldest = stores.pop_front();
        if let Some((key, value)) = oldest {
            self.cells.store(key, value);
        }
        oldest.is_some()
    }

    /// A store by `cpu`. A CPU without a buffer stores straight to memory.
    pub fn store(&self, cpu: u32, key: u64, value: u64) {
        match self.buffer(cpu) {
            Some(b) => {
                b.stores().push_back((key, value));
                wake(b.key());
            }
            None => self.cells.store(key, value),
        }
    }

    /// A load by `cpu`.
    pub fn load(&self, cpu: u32, key: u64) -> u64 {
        let own = self.buffer(cpu).and_then(|b| b.stores().iter().rev().find(|s| s.0 == key).map(|s| s.1));
        own.unwrap_or_else(|| self.cells.load(key))
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

    /// Stores that wait, by CPU, the oldest first: a part of the state that a search must know.
    pub fn waiting(&self) -> Vec<Vec<(u64, u64)>> {
        self.cpus.iter().map(|b| b.stores().iter().copied().collect()).collect()
    }
}

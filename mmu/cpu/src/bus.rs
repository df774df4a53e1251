//! The invalidation bus: purges reach every TLB, and return when nobody uses what was purged.
//!
//! A CPU is *running* while it executes guest code or a bracketed user access, else *parked*. A purge is applied to
//! the model TLB of a parked CPU at once, and to that of a running CPU when it polls or parks, which the initiator
//! waits for: until then the CPU may use what it translated before. The engine drops the same from its fast TLB at
//! the same boundary, so the fast TLB is a subset of the model TLB at every moment, and whether an engine asks the
//! model or its fast TLB makes no difference. The initiator waits parked itself: two never wait for each other.

use crate::event::CpuEvent;
use crate::held::Held;
use crate::speculative::Recent;
use crate::{Cpu, Cpus, signal};
use racewalk_ram::Vaddr;
use racewalk_sched::{NO_CPU, this_cpu, tso, wait_while, wake};
use racewalk_walk::hardware::Hardware;
use racewalk_walk::tlb::config::TlbConfig;
use racewalk_walk::tlb::{Purge, Target, Tlb, WalkCache};
use std::sync::atomic::Ordering;
use std::sync::{MutexGuard, PoisonError};

/// Ranges that the fast TLB is to drop which may pile up for a parked CPU before they become "everything".
const FAST_QUEUE: usize = 32;

/// What an engine's fast TLB must drop before the CPU goes on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FastDrop {
    /// Every page that shares a byte with one of these ranges, given by first address and length.
    pub ranges: Vec<(Vaddr, u64)>,
    /// Everything.
    pub all: bool,
    /// Every entry for stores: some frame has code now.
    pub stores: bool,
}

impl FastDrop {
    /// Whether there is nothing to drop.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty() && !self.all && !self.stores
    }
    fn queue(&mut self, start: Vaddr, len: u64) {
        if self.all {
        } else if self.ranges.len() >= FAST_QUEUE {
            self.ranges.clear();
            self.all = true;
        } else {
            self.ranges.push((start, len));
        }
    }
}

/// CPUs that still use what was purged, each with the purge it must have passed a boundary after.
#[derive(Debug, Default)]
#[must_use = "nothing is promised before it is completed"]
pub struct Pending(Vec<(usize, u64)>);

impl Pending {
    /// Both: one wait may serve several purges, as `tlbsync` does.
    pub fn and(mut self, other: Pending) -> Pending {
        self.0.extend(other.0);
        self
    }
}

/// What a CPU's gate guards. Never held across a scheduling point.
#[derive(Debug)]
pub(crate) struct Gate<H: Hardware> {
    /// Purges so far. A speculative walk that began before the last one may not fill the TLB.
    pub(crate) seq: u64,
    /// The CPU is inside guest code or a bracketed access.
    running: bool,
    /// Purges that wait for the boundary of a running CPU. Their initiators wait too, so there are few.
    pending: Vec<Purge>,
    /// The last purge whose use this CPU is known to have ended.
    acked: u64,
    /// Purges that the engine's fast TLB has not seen yet.
    fast: FastDrop,
    /// The registers that steer translation.
    pub(crate) context: H::Context,
    pub(crate) tlb: Tlb<H::Leaf>,
    pub(crate) walk_cache: WalkCache,
    /// What was translated last since the boundary, where the TLB may lose it.
    pub(crate) held: Held<H::Leaf>,
    /// Where the speculative walker looks around.
    pub(crate) recent: Recent,
}

impl<H: Hardware> Clone for Gate<H> {
    fn clone(&self) -> Self {
        let Gate { seq, running, pending, acked, fast, context, tlb, walk_cache, held, recent } = self;
        Gate {
            seq: *seq,
            running: *running,
            pending: pending.clone(),
            acked: *acked,
            fast: fast.clone(),
            context: context.clone(),
            tlb: tlb.clone(),
            walk_cache: walk_cache.clone(),
            held: held.clone(),
            recent: recent.clone(),
        }
    }

    /// Keeps what memory it has.
    fn clone_from(&mut self, from: &Self) {
        let Gate { seq, running, pending, acked, fast, context, tlb, walk_cache, held, recent } = from;
        (self.seq, self.running, self.acked) = (*seq, *running, *acked);
        self.pending.clone_from(pending);
        self.fast.ranges.clone_from(&fast.ranges);
        (self.fast.all, self.fast.stores) = (fast.all, fast.stores);
        self.context.clone_from(context);
        self.tlb.clone_from(tlb);
        self.walk_cache.clone_from(walk_cache);
        self.held.clone_from(held);
        self.recent.clone_from(recent);
    }
}

impl<H: Hardware> Gate<H> {
    /// What a lookup or a fill drove out of the model goes from the fast TLB too, at the CPU's next boundary.
    /// Whether there was anything.
    pub(crate) fn drop_evicted(&mut self) -> bool {
        for e in self.tlb.evicted() {
            self.fast.queue(e.tag.page, 1 << e.tag.shift);
        }
        !self.tlb.evicted().is_empty()
    }

    pub(crate) fn new(config: &TlbConfig) -> Self {
        Gate {
            seq: 0,
            running: false,
            pending: Vec::new(),
            acked: 0,
            fast: FastDrop::default(),
            context: H::Context::default(),
            tlb: Tlb::new(config),
            walk_cache: WalkCache::new(config),
            held: Held::default(),
            recent: Recent::default(),
        }
    }
    /// Purges the model TLB; the fast TLB is to drop the same.
    fn apply(&mut self, purge: &Purge) -> usize {
        let fast = &mut self.fast;
        if purge.target != Target::Translations {
            self.walk_cache.purge(purge);
        }
        match purge.span() {
            Some((start, len)) => {
                fast.queue(start, len);
                self.tlb.purge(purge, |_| {})
            }
            None if *purge == Purge::ALL => {
                fast.all = true;
                self.tlb.purge(purge, |_| {})
            }
            None => self.tlb.purge(purge, |e| fast.queue(e.tag.page, 1 << e.tag.shift)),
        }
    }
    /// A purge reaches the CPU: now, or at its next boundary. Returns how many entries went now.
    fn purge(&mut self, purge: &Purge) -> usize {
        if self.running {
            self.pending.push(*purge);
            return 0;
        }
        self.apply(purge)
    }
    /// A boundary: whether there were purges, and how many entries they took.
    fn ack(&mut self) -> (bool, usize) {
        let news = self.acked != self.seq;
        self.acked = self.seq;
        self.held.clear();
        let mut gone = 0;
        for p in std::mem::take(&mut self.pending) {
            gone += self.apply(&p);
        }
        (news, gone)
    }
}

impl<H: Hardware> Cpu<H> {
    pub(crate) fn gate(&self) -> MutexGuard<'_, Gate<H>> {
        self.gate.lock().unwrap_or_else(PoisonError::into_inner)
    }
    fn key(&self) -> usize {
        std::ptr::from_ref(&self.gate) as usize
    }
    /// Passes a boundary: applies the purges that waited for it.
    fn boundary(&self, g: &mut Gate<H>) -> bool {
        let (news, gone) = g.ack();
        self.stats.purged.add(gone as u64);
        news
    }
}

impl<H: Hardware> Cpus<H> {
    /// The CPU begins to execute guest code. Returns what its fast TLB must drop before it does.
    #[must_use]
    pub fn unpark(&self, cpu: u32) -> FastDrop {
        tso::fence_of(cpu);
        let c = &self.cpus[cpu as usize];
        let mut g = c.gate();
        debug_assert!(!g.running, "cpu {cpu} is running already");
        g.running = true;
        c.boundary(&mut g);
        c.signal.fetch_and(!signal::INVALIDATE, Ordering::SeqCst);
        std::mem::take(&mut g.fast)
    }

    /// The CPU stops executing guest code.
    pub fn park(&self, cpu: u32) {
        let c = &self.cpus[cpu as usize];
        let mut g = c.gate();
        debug_assert!(g.running, "cpu {cpu} is parked already");
        g.running = false;
        let news = c.boundary(&mut g);
        drop(g);
        if news {
            wake(c.key());
        }
    }

    /// A boundary in guest code: no translation made before is used after. Returns what the fast TLB must drop.
    #[must_use]
    pub fn poll(&self, cpu: u32) -> FastDrop {
        let c = &self.cpus[cpu as usize];
        let mut g = c.gate();
        debug_assert!(g.running, "cpu {cpu} polls while parked");
        c.signal.fetch_and(!signal::INVALIDATE, Ordering::SeqCst);
        let news = c.boundary(&mut g);
        let fast = std::mem::take(&mut g.fast);
        drop(g);
        if news {
            wake(c.key());
        }
        fast
    }

    /// What the fast TLB must drop now, since translations drove it out of the model: between boundaries nothing else does.
    #[must_use]
    pub fn take_evicted(&self, cpu: u32) -> FastDrop {
        let mut g = self.cpus[cpu as usize].gate();
        let FastDrop { ranges, all, .. } = &mut g.fast;
        FastDrop { ranges: std::mem::take(ranges), all: std::mem::take(all), stores: false }
    }

    /// Runs `f` as a bracketed access of hosted code on `cpu`: the CPU counts as running meanwhile.
    pub(crate) fn bracket<R>(&self, cpu: u32, f: impl FnOnce() -> R) -> R {
        tso::fence_of(cpu);
        struct Parked<'a, H: Hardware>(&'a Cpus<H>, u32);
        impl<H: Hardware> Drop for Parked<'_, H> {
            fn drop(&mut self) {
                self.0.park(self.1)
            }
        }
        {
            // Unlike `unpark`, what the fast TLB must drop stays queued for the engine.
            let c = &self.cpus[cpu as usize];
            let mut g = c.gate();
            debug_assert!(!g.running, "a user access from guest mode on cpu {cpu}");
            g.running = true;
            c.boundary(&mut g);
        }
        let _parked = Parked(self, cpu);
        f()
    }

    /// Purges on every CPU and waits for those that run: an invalidation that is complete when its instruction is. `va`
    /// is what the instruction was given, for the event.
    pub fn purge(&self, by: &'static str, va: Option<Vaddr>, purge: Purge) {
        let pending = self.post(by, va, purge);
        self.complete(by, pending);
    }

    /// Sends a purge to every CPU and returns at once. CPUs that run go on using what they have until their next
    /// boundary; nothing is promised before [`complete`](Self::complete).
    pub fn post(&self, by: &'static str, va: Option<Vaddr>, purge: Purge) -> Pending {
        let me = this_cpu();
        let pending = self.broadcast(|c, g| {
            let gone = g.purge(&purge);
            c.stats.purged.add(gone as u64);
        });
        if let Some(c) = self.cpus.get(me as usize) {
            c.stats.purges_sent.bump();
            self.emit(me, || CpuEvent::Purge { by, va, purge });
        } else if let Some(w) = self.watch.get() {
            w.event(me, &CpuEvent::Purge { by, va, purge });
        }
        pending
    }

    /// Returns when no CPU uses any more what was purged.
    pub fn complete(&self, by: &'static str, pending: Pending) {
        self.wait(pending);
        let me = this_cpu();
        if me != NO_CPU {
            self.emit(me, || CpuEvent::Purged { by });
        } else if let Some(w) = self.watch.get() {
            w.event(me, &CpuEvent::Purged { by });
        }
    }

    /// The cross call with which kernels purge on all CPUs where no instruction reaches them: each takes it once it has
    /// interrupts on, purges all that is listed, and is waited for. The addresses are for the events.
    pub fn cross_purge(&self, by: &'static str, purges: &[(Option<Vaddr>, Purge)]) {
        self.ipi_all();
        let sent = purges.iter().map(|&(va, purge)| self.post(by, va, purge));
        let pending = sent.fold(Pending::default(), Pending::and);
        self.complete(by, pending);
    }

    /// Purges on this CPU only.
    pub fn purge_here(&self, purge: &Purge) {
        self.purge_on(this_cpu(), purge);
    }

    /// Purges on one CPU, on whose behalf the caller acts.
    pub fn purge_on(&self, cpu: u32, purge: &Purge) {
        if let Some(c) = self.cpus.get(cpu as usize) {
            tso::fence();
            let mut g = c.gate();
            g.seq += 1;
            let gone = g.purge(purge);
            c.stats.purged.add(gone as u64);
            c.signal.fetch_or(signal::INVALIDATE, Ordering::SeqCst);
        }
    }

    /// Takes fast write access to memory away from every CPU, and returns when none uses it any more: code is about
    /// to be made from a frame that somebody may be storing to. The model TLBs keep what they have.
    pub fn revoke_fast_stores(&self) {
        let pending = self.broadcast(|_, g| g.fast.stores = true);
        self.wait(pending);
    }

    /// Applies `f` to every gate; says which CPUs must pass a boundary before it has taken effect.
    fn broadcast(&self, f: impl Fn(&Cpu<H>, &mut Gate<H>)) -> Pending {
        let me = this_cpu();
        tso::fence();
        let mut wait: Vec<(usize, u64)> = Vec::new();
        for (i, c) in self.cpus.iter().enumerate() {
            let mut g = c.gate();
            g.seq += 1;
            f(c, &mut g);
            c.signal.fetch_or(signal::INVALIDATE, Ordering::SeqCst);
            if g.running {
                debug_assert!(i as u32 != me || me == NO_CPU, "a purge from inside guest code");
                wait.push((i, g.seq));
            }
        }
        Pending(wait)
    }

    fn wait(&self, pending: Pending) {
        if !pending.0.is_empty()
            && let Some(c) = self.cpus.get(this_cpu() as usize)
        {
            c.stats.waits.bump();
        }
        for (i, seq) in pending.0 {
            let c = &self.cpus[i];
            wait_while(c.key(), "purge.wait", || {
                let g = c.gate();
                g.running && g.acked < seq
            });
        }
    }
}

//! RCU: readers, grace periods, callbacks.
//!
//! A grace period ends when every reader that was inside [`Kernel::rcu_read_lock`] at its start has left, and every
//! CPU that was in hosted code at its start has left it, or passed a voluntary quiescent point, or went on to
//! sleep. Guest mode is quiescent, and a hardware walk is not a reader (`DESIGN` §4): what hardware walkers may
//! hold is covered by invalidation alone.
//!
//! Callbacks are heads of two doublewords (`next`, `func`) in kernel memory: the `lru` words of a page record, or
//! the first words of a batch page. They are listed for the CPU that queued them and run by whoever calls
//! [`Kernel::rcu_poll`] or helps him ([`Kernel::rcu_poll_with`]): each list in its order, lists beside each other.

#[cfg(test)]
pub(crate) mod by_hand;

use crate::arch::Arch;
use crate::error::{MmError, Result, broken_at};
use crate::kernel::Kernel;
use crate::layout::{self, Place};
use crate::mutant::Step;
use crate::sanitizer::{Class, Sanitizer};
use crate::sorted::Sorted;
use racewalk_ram::{Kva, Paddr};
use racewalk_sched::{NO_CPU, atomic_depth, point, this_cpu, tso, wait_while_timeout, wake};
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

/// Host locks, held for one operation: each is one step of a schedule, since the kernel does it with interrupts off.
fn held<T>(m: &std::sync::Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    m.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Functions that a callback may name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RcuFunc {
    /// `tlb_remove_table_rcu`: frees all tables of a batch page, then the batch page.
    TlbRemoveTable,
    /// A callback of the fragment scheme, by a number of its own.
    Scheme(u8),
}

impl RcuFunc {
    /// Number of the kernel function: 1, or 16 and above for schemes.
    fn id(self) -> u16 {
        match self {
            RcuFunc::TlbRemoveTable => 1,
            RcuFunc::Scheme(n) => 16 + n as u16,
        }
    }
    fn from_kva(kva: Kva) -> Result<RcuFunc> {
        match layout::place(kva, 0, "an RCU callback function")? {
            Place::Text(1) => Ok(RcuFunc::TlbRemoveTable),
            Place::Text(n @ 16..=255) => Ok(RcuFunc::Scheme((n - 16) as u8)),
            _ => Err(MmError::Wild { kva, wanted: "an RCU callback function" }),
        }
    }
}

/// A singly linked list of callback heads.
#[derive(Debug, Default, Clone, Copy)]
struct Chain {
    head: Kva,
    tail: Kva,
    len: u64,
}

#[derive(Clone, Debug, Default)]
struct Callbacks {
    next: Chain,
    wait: Chain,
    done: Chain,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum Phase {
    #[default]
    Idle,
    /// Waits for readers left over on the side that is about to be used.
    Before,
    /// Waits for readers on the old side and for CPUs.
    After,
}

#[derive(Clone, Debug, Default)]
struct GracePeriod {
    phase: Phase,
    /// CPUs still waited for: number, counter and voluntary points at the start.
    cpus: Vec<(u32, u64, u64)>,
}

/// The state of RCU.
#[derive(Debug)]
pub(crate) struct Rcu {
    readers: [AtomicU64; 2],
    side: AtomicU64,
    gp: std::sync::Mutex<GracePeriod>,
    completed: AtomicU64,
    wanted: AtomicU64,
    /// Per CPU; the last one is for tasks that hold no CPU.
    lists: Box<[std::sync::Mutex<Callbacks>]>,
    quiescent: Box<[AtomicU64]>,
    /// Heads that are queued, to find double use (invariant 4). A host lock, held for one operation.
    queued: std::sync::Mutex<Sorted<()>>,
    running: AtomicU64,
    /// Heads on all lists: with none there is nothing to look for on them.
    heads: AtomicU64,
    /// Changes whenever something happened that a driver of grace periods may be waiting for.
    news: AtomicU64,
}

/// Holds the RCU read lock. Nests, and may be carried to another CPU.
#[derive(Debug)]
#[must_use]
pub struct RcuReader<'a> {
    rcu: &'a Rcu,
    side: usize,
    /// The section in the sanitizer's books.
    scope: Option<(&'a Sanitizer, u64)>,
}

impl RcuReader<'_> {
    /// The section goes on as one of another class.
    pub(crate) fn reclass(&self, class: Class) {
        if let Some((s, id)) = self.scope {
            s.state().reclass(id, class);
        }
    }
    /// A pointer to `table` was loaded.
    pub(crate) fn hold(&self, table: Paddr) {
        if let Some((s, id)) = self.scope {
            s.state().hold(id, table);
        }
    }
    /// An entry was loaded through such a pointer.
    pub(crate) fn loaded(&self, entry: Paddr, value: u64) -> Result<()> {
        match self.scope {
            Some((s, id)) => s.load(id, entry, value),
            None => Ok(()),
        }
    }
}

impl Drop for RcuReader<'_> {
    fn drop(&mut self) {
        if let Some((s, id)) = self.scope {
            s.state().leave(id);
        }
        racewalk_sched::atomic_leave();
        // A grace period waits for this reader: what it has stored is seen by who goes on after it.
        if self.rcu.side.load(SeqCst) & 1 != self.side as u64 {
            tso::fence();
        }
        // Without a grace period wanted nobody waits for readers; one that begins from here on looks at the count.
        if self.rcu.readers[self.side].fetch_sub(1, SeqCst) == 1
            && self.rcu.wanted.load(SeqCst) > self.rcu.completed.load(SeqCst)
        {
            self.rcu.tell();
        }
    }
}

/// What is left to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RcuState {
    /// No callback waits and no grace period is under way.
    Idle,
    /// A grace period waits for readers or CPUs, or callbacks wait for one.
    Waiting,
}

impl Rcu {
    pub(crate) fn new(cpus: u32) -> Rcu {
        let n = cpus as usize + 1;
        Rcu {
            readers: Default::default(),
            side: AtomicU64::new(0),
            gp: Default::default(),
            completed: AtomicU64::new(0),
            wanted: AtomicU64::new(0),
            lists: std::iter::repeat_with(Default::default).take(n).collect(),
            quiescent: std::iter::repeat_with(AtomicU64::default).take(n).collect(),
            queued: Default::default(),
            running: AtomicU64::new(0),
            heads: AtomicU64::new(0),
            news: AtomicU64::new(0),
        }
    }

    /// Another in the same state. Nothing runs meanwhile.
    pub(crate) fn copy(&self) -> Rcu {
        let copy = |n: &AtomicU64| AtomicU64::new(n.load(SeqCst));
        Rcu {
            readers: std::array::from_fn(|i| copy(&self.readers[i])),
            side: copy(&self.side),
            gp: std::sync::Mutex::new(held(&self.gp).clone()),
            completed: copy(&self.completed),
            wanted: copy(&self.wanted),
            lists: self.lists.iter().map(|l| std::sync::Mutex::new(held(l).clone())).collect(),
            quiescent: self.quiescent.iter().map(copy).collect(),
            queued: std::sync::Mutex::new(self.queued().clone()),
            running: copy(&self.running),
            heads: copy(&self.heads),
            news: copy(&self.news),
        }
    }

    fn key(&self) -> usize {
        std::ptr::from_ref(&self.completed) as usize
    }

    fn tell(&self) {
        self.news.fetch_add(1, SeqCst);
        wake(self.key());
    }

    fn local(&self) -> usize {
        (this_cpu() as usize).min(self.lists.len() - 1)
    }

    fn queued(&self) -> std::sync::MutexGuard<'_, Sorted<()>> {
        held(&self.queued)
    }
}

impl<A: Arch> Kernel<A> {
    /// Begins an RCU read-side section.
    pub fn rcu_read_lock(&self) -> RcuReader<'_> {
        point("rcu.read_lock");
        let side = (self.rcu.side.load(SeqCst) & 1) as usize;
        self.rcu.readers[side].fetch_add(1, SeqCst);
        racewalk_sched::atomic_enter();
        let scope = self.sanitizer().map(|s| (s, s.state().enter(Class::W4)));
        RcuReader { rcu: &self.rcu, side, scope }
    }

    /// Says that the CPU of the current task passes a quiescent state though it stays in hosted code: the task
    /// sleeps, or is a kernel thread between two pieces of work.
    pub fn rcu_note_quiescent(&self) {
        let cpu = this_cpu();
        if cpu != NO_CPU {
            tso::fence();
            self.rcu.quiescent[cpu as usize].fetch_add(1, SeqCst);
            wake(std::ptr::from_ref(self.cpus.rcu_counter(cpu)) as usize);
        }
    }

    /// `might_sleep`: the current task must be in no section that forbids it (invariant 27).
    pub(crate) fn may_sleep(&self, what: &str) {
        let depth = atomic_depth();
        if depth != 0 {
            self.report(self.memory().atomic(what, depth));
        }
    }

    /// The current task goes back to its program: no section may be open (invariant 27).
    pub fn check_balance(&self, what: &str) {
        let depth = atomic_depth();
        if depth != 0 && !self.has_findings() {
            while racewalk_sched::atomic_leave() {}
            self.report(self.memory().atomic(what, depth));
        }
    }

    /// Runs `take`, which takes a lock that sleeps: the CPU is quiescent meanwhile, as it is when it runs somebody else.
    pub(crate) fn sleeping<R>(&self, take: impl FnOnce() -> R) -> R {
        self.may_sleep("a lock that sleeps is taken");
        let cpu = this_cpu();
        let hosted = cpu < self.cpus.count() && self.cpus.rcu_counter(cpu).load(SeqCst) & 1 == 1;
        if hosted {
            self.cpus.exit_kernel(cpu);
        }
        let r = take();
        if hosted {
            self.cpus.enter_kernel(cpu);
        }
        r
    }

    /// Queues `func` for the head at `head`, to run after a grace period. A head that is queued already is
    /// invariant 4 of hosted-mm D.
    pub(crate) fn call_rcu(&self, head: Kva, func: RcuFunc) -> Result<()> {
        point("rcu.call");
        if let Some(s) = self.sanitizer() {
            let page = self.kmem.pages.frame_of(head, 8).ok();
            s.call_rcu(head, page)?;
        }
        if !self.rcu.queued().insert(head.0, ()) {
            return broken_at(4, head, format!("call_rcu on the head at {head:?}, which is queued already"));
        }
        self.stats.rcu_calls.bump();
        self.kmem.poke(head, 0, "an rcu_head")?;
        self.kmem.poke(Kva(head.0 + 8), layout::text(func.id()).0, "an rcu_head")?;
        {
            let mut l = held(&self.rcu.lists[self.rcu.local()]);
            self.chain_push(&mut l.next, head)?;
            self.rcu.heads.fetch_add(1, SeqCst);
        }
        self.rcu.tell();
        Ok(())
    }

    fn chain_push(&self, c: &mut Chain, head: Kva) -> Result<()> {
        if c.len == 0 {
            c.head = head;
        } else {
            self.kmem.poke(c.tail, head.0, "an rcu_head")?;
        }
        c.tail = head;
        c.len += 1;
        Ok(())
    }

    fn chain_append(&self, to: &mut Chain, from: &mut Chain) -> Result<()> {
        let f = std::mem::take(from);
        if f.len == 0 {
            return Ok(());
        }
        if to.len == 0 {
            *to = f;
        } else {
            self.kmem.poke(to.tail, f.head.0, "an rcu_head")?;
            to.tail = f.tail;
            to.len += f.len;
        }
        Ok(())
    }

    fn rcu_start(&self, gp: &mut GracePeriod) -> Result<bool> {
        let mut any = self.rcu.wanted.load(SeqCst) > self.rcu.completed.load(SeqCst);
        let lists = if self.rcu.heads.load(SeqCst) == 0 { &[] } else { &*self.rcu.lists };
        for (cpu, l) in (0..).zip(lists) {
            let mut l = held(l);
            let Callbacks { next, wait, .. } = &mut *l;
            if next.len != 0 {
                // The queueing CPU has taken part in the start of the grace period: what it did before is seen.
                tso::fence_of(cpu);
            }
            self.chain_append(wait, next)?;
            any |= wait.len != 0;
        }
        if any {
            // After this, whoever is not counted below cannot have seen what the callbacks will free.
            std::sync::atomic::fence(SeqCst);
            tso::fence();
            gp.cpus.clear();
            for cpu in 0..self.cpus.count() {
                let c = self.cpus.rcu_counter(cpu).load(SeqCst);
                if c & 1 == 1 {
                    gp.cpus.push((cpu, c, self.rcu.quiescent[cpu as usize].load(SeqCst)));
                }
            }
            gp.phase = Phase::Before;
            if let Some(s) = self.sanitizer() {
                s.state().gp_start();
            }
        }
        Ok(any)
    }

    fn rcu_end(&self, gp: &mut GracePeriod) -> Result<()> {
        // Before any callback can be run, which another thread does as soon as it is on the list.
        if let Some(s) = self.sanitizer() {
            s.state().gp_end();
        }
        for l in &self.rcu.lists {
            let mut l = held(l);
            let Callbacks { wait, done, .. } = &mut *l;
            self.chain_append(done, wait)?;
        }
        gp.phase = Phase::Idle;
        self.rcu.completed.fetch_add(1, SeqCst);
        self.stats.rcu_grace_periods.bump();
        self.rcu.tell();
        Ok(())
    }

    /// One look at the grace period: false if it can go no further now.
    fn rcu_advance(&self) -> Result<bool> {
        point("rcu.gp");
        let rcu = &self.rcu;
        let mut gp = held(&rcu.gp);
        let side = (rcu.side.load(SeqCst) & 1) as usize;
        match gp.phase {
            Phase::Idle => self.rcu_start(&mut gp),
            Phase::Before if rcu.readers[side ^ 1].load(SeqCst) == 0 => {
                rcu.side.fetch_xor(1, SeqCst);
                gp.phase = Phase::After;
                Ok(true)
            }
            Phase::After => {
                gp.cpus.retain(|&(cpu, counter, noted)| {
                    self.cpus.rcu_counter(cpu).load(SeqCst) == counter
                        && rcu.quiescent[cpu as usize].load(SeqCst) == noted
                });
                let busy = !gp.cpus.is_empty() || rcu.readers[side ^ 1].load(SeqCst) != 0;
                if busy && self.takes(Step::GraceWait) {
                    return Ok(false);
                }
                self.rcu_end(&mut gp)?;
                Ok(true)
            }
            Phase::Before => Ok(false),
        }
    }

    /// Gets help for the callbacks that can be run, if those of several CPUs can.
    fn rcu_get_help(&self, help: &mut dyn FnMut(usize)) {
        if self.rcu.heads.load(SeqCst) == 0 {
            return;
        }
        let mut done = (0..self.rcu.lists.len()).filter(|&n| held(&self.rcu.lists[n]).done.len != 0).skip(1);
        if let Some(second) = done.next() {
            help(second);
            done.for_each(help);
            point("rcu.softirq");
        }
    }

    fn rcu_run_done(&self) -> Result<u64> {
        let mut n = 0;
        if self.rcu.heads.load(SeqCst) == 0 {
            return Ok(0);
        }
        for l in &self.rcu.lists {
            n += self.rcu_run_list(l)?;
        }
        if n != 0 {
            self.rcu.tell();
        }
        Ok(n)
    }

    fn rcu_run_list(&self, list: &std::sync::Mutex<Callbacks>) -> Result<u64> {
        let chain = {
            let mut l = held(list);
            // Counted before they leave the list, so that a barrier sees them in one place or the other.
            self.rcu.running.fetch_add(l.done.len, SeqCst);
            self.rcu.heads.fetch_sub(l.done.len, SeqCst);
            std::mem::take(&mut l.done)
        };
        let r = self.rcu_run(chain);
        self.rcu.running.fetch_sub(chain.len, SeqCst);
        r.map(|()| chain.len)
    }

    fn rcu_run(&self, chain: Chain) -> Result<()> {
        let mut head = chain.head;
        for i in 0..chain.len {
            let next = Kva(self.kmem.peek(head, "an rcu_head")?);
            let func = RcuFunc::from_kva(Kva(self.kmem.peek(Kva(head.0 + 8), "an rcu_head")?))?;
            if (i + 1 == chain.len) != (head == chain.tail) {
                return broken_at(4, head, format!("the callback list is cut or closed at {head:?}"));
            }
            if self.rcu.queued().remove(head.0).is_none() {
                return broken_at(4, head, format!("the callback at {head:?} runs though it is not queued"));
            }
            self.stats.rcu_callbacks.bump();
            if let Some(s) = self.sanitizer() {
                s.state().callback(head);
            }
            point("rcu.callback");
            match func {
                RcuFunc::TlbRemoveTable => self.tlb_remove_table_rcu(head)?,
                RcuFunc::Scheme(n) => self.frag.callback(self, n, head)?,
            }
            head = next;
        }
        Ok(())
    }

    fn rcu_pending(&self) -> bool {
        // In this order: what leaves a list to be run is counted as running before.
        self.rcu.heads.load(SeqCst) != 0 || self.rcu.running.load(SeqCst) != 0
    }

    /// Does what can be done now: advances the grace period and runs callbacks whose grace period is over. Counts
    /// as a quiescent point of the CPU it runs on, so it may not be called inside a read-side section that is not
    /// marked by [`rcu_read_lock`](Self::rcu_read_lock).
    pub fn rcu_poll(&self) -> RcuState {
        self.rcu_poll_with(&mut |_| {})
    }

    /// The same. If several CPUs have callbacks to run, `help` is called with the number of each but the first, before any of
    /// them runs: whoever passes it to [`rcu_help`](Self::rcu_help) runs them beside the caller, as softirqs of several CPUs do.
    pub fn rcu_poll_with(&self, help: &mut dyn FnMut(usize)) -> RcuState {
        self.rcu_note_quiescent();
        let r: Result<()> = (|| {
            while self.rcu_advance()? || {
                self.rcu_get_help(help);
                self.rcu_run_done()? != 0
            } {}
            Ok(())
        })();
        if let Err(e) = r {
            self.report(e);
        }
        if self.rcu_pending() || self.rcu.wanted.load(SeqCst) > self.rcu.completed.load(SeqCst) {
            RcuState::Waiting
        } else {
            RcuState::Idle
        }
    }

    /// Runs the callbacks of one CPU whose grace period is over; behind the last CPU's number are those of tasks without one.
    pub fn rcu_help(&self, cpu: usize) {
        let Some(list) = self.rcu.lists.get(cpu) else { return };
        match self.rcu_run_list(list) {
            Ok(0) => {}
            Ok(_) => self.rcu.tell(),
            Err(e) => self.report(e),
        }
    }

    /// Sleeps until a grace period may go on or begin, at most `timeout`. For the kernel thread that drives it:
    /// `news` is what [`rcu_news`](Self::rcu_news) said before the last poll.
    pub fn rcu_wait(&self, news: u64, timeout: Duration) {
        let cpu = {
            let gp = held(&self.rcu.gp);
            gp.cpus.first().copied().filter(|_| gp.phase == Phase::After)
        };
        match cpu {
            Some((cpu, counter, noted)) => {
                let now = self.cpus.rcu_counter(cpu);
                wait_while_timeout(std::ptr::from_ref(now) as usize, "rcu.wait_cpu", timeout, || {
                    now.load(SeqCst) == counter && self.rcu.quiescent[cpu as usize].load(SeqCst) == noted
                });
            }
            None => {
                wait_while_timeout(self.rcu.key(), "rcu.wait", timeout, || {
                    self.rcu.news.load(SeqCst) == news
                });
            }
        }
    }

    /// Makes whoever waits in [`rcu_wait`](Self::rcu_wait) look again.
    pub fn rcu_kick(&self) {
        self.rcu.tell();
    }

    /// A number that changes when there may be something to do for [`rcu_poll`](Self::rcu_poll).
    pub fn rcu_news(&self) -> u64 {
        self.rcu.news.load(SeqCst)
    }

    /// Returns after a grace period that began after the call. May sleep: not inside a read-side section.
    pub fn synchronize_rcu(&self) {
        let idle = held(&self.rcu.gp).phase == Phase::Idle;
        let target = self.rcu.completed.load(SeqCst) + if idle { 1 } else { 2 };
        self.rcu.wanted.fetch_max(target, SeqCst);
        self.rcu_drive(|| self.rcu.completed.load(SeqCst) >= target);
    }

    /// Returns after all callbacks queued so far have run.
    pub fn rcu_barrier(&self) {
        self.rcu_drive(|| !self.rcu_pending());
    }

    fn rcu_drive(&self, done: impl Fn() -> bool) {
        self.may_sleep("a grace period is waited for");
        tso::fence();
        loop {
            let news = self.rcu_news();
            self.rcu_poll();
            if done() || self.has_findings() {
                return;
            }
            self.rcu_wait(news, Duration::from_millis(1));
        }
    }
}

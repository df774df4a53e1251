//! The CPUs as batons: a task that runs guest or hosted code holds one; a task that sleeps holds none.

use racewalk_engine::vcpu::Vcpu;
use racewalk_isa::Arch;
use racewalk_sched::{wait_while, wake};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

struct State<A: Arch> {
    idle: VecDeque<(u32, Vcpu<A>)>,
    /// How many more may be held.
    room: u32,
    /// Tickets of the tasks that wait, first come first served.
    queue: VecDeque<u64>,
    next: u64,
}

impl<A: Arch> State<A> {
    /// The CPU that has been idle longest.
    fn take(&mut self) -> Option<(u32, Vcpu<A>)> {
        if self.room == 0 {
            return None;
        }
        let c = self.idle.pop_front()?;
        self.room -= 1;
        Some(c)
    }
}

/// All CPUs of a machine that no task holds.
pub struct Pool<A: Arch> {
    // A host lock: never held across a scheduling point.
    state: Mutex<State<A>>,
    waiting: AtomicU32,
}

impl<A: Arch> Pool<A> {
    /// A pool of idle CPUs, numbered in order. At most `limit` of them are held at one time.
    pub fn new(cpus: Vec<Vcpu<A>>, limit: u32) -> Self {
        let idle: VecDeque<_> = cpus.into_iter().enumerate().map(|(i, c)| (i as u32, c)).collect();
        let room = limit.min(idle.len() as u32);
        Pool {
            state: Mutex::new(State { idle, room, queue: VecDeque::new(), next: 0 }),
            waiting: AtomicU32::new(0),
        }
    }

    fn state(&self) -> MutexGuard<'_, State<A>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn key(&self) -> usize {
        std::ptr::from_ref(&self.waiting) as usize
    }

    /// Takes a CPU, waiting for one if all are held.
    pub fn acquire(&self) -> (u32, Vcpu<A>) {
        let ticket = {
            let mut s = self.state();
            if s.queue.is_empty()
                && let Some(c) = s.take()
            {
                racewalk_sched::set_this_cpu(c.0);
                return c;
            }
            let t = s.next;
            s.next += 1;
            s.queue.push_back(t);
            self.waiting.fetch_add(1, Ordering::SeqCst);
            t
        };
        let mut got = None;
        wait_while(self.key(), "pool.wait", || {
            let mut s = self.state();
            if s.queue.front() == Some(&ticket)
                && let Some(c) = s.take()
            {
                s.queue.pop_front();
                got = Some(c);
            }
            got.is_none()
        });
        self.waiting.fetch_sub(1, Ordering::SeqCst);
        // Another CPU may have become free for the next in the queue while we were its head.
        wake(self.key());
        let c = got.expect("the wait ends only with a CPU");
        racewalk_sched::set_this_cpu(c.0);
        c
    }

    /// Gives a CPU back.
    pub fn release(&self, cpu: (u32, Vcpu<A>)) {
        racewalk_sched::set_this_cpu(racewalk_sched::NO_CPU);
        let mut s = self.state();
        s.idle.push_back(cpu);
        s.room += 1;
        drop(s);
        wake(self.key());
    }

    /// Whether some task waits for a CPU.
    pub fn contended(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) != 0
    }

    /// Looks at each idle CPU.
    pub fn each_idle(&self, mut f: impl FnMut(u32, &mut Vcpu<A>)) {
        for (n, c) in &mut self.state().idle {
            f(*n, c);
        }
    }
}

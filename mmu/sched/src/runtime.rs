//! What a controlled run knows between two scheduling points: the tasks, who can run, what was chosen. It runs on
//! the stack of whichever task reached a point; [`crate::co`] changes stacks.

use crate::controlled::{Config, End, Observer, Outcome, Preemption};
use crate::label::{LabelId, Labels};
use crate::livelock::Livelock;
use crate::policy::{Policy, Situation, TaskId};
use crate::rng::mix;
use crate::schedule::{Schedule, VALUE};
use crate::{CONTROLLED, Label, NO_CPU};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

/// What a task is told when it goes on.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Resume {
    Go,
    TimedOut,
    /// Look at the condition once more: nobody else can run.
    Probe,
    Cancel,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    Runnable(Resume),
    Blocked { key: usize, until: Option<Duration> },
    Done,
}

pub(crate) struct Slot {
    pub(crate) name: Arc<str>,
    pub(crate) status: Status,
    pub(crate) background: bool,
    /// The CPU it held when it last stopped.
    pub(crate) cpu: u32,
    /// Sections in which it must not sleep.
    pub(crate) atomic: u32,
    /// The label where it is.
    pub(crate) at: LabelId,
    /// Points since it last said [`crate::forget`].
    since: u64,
    /// What it has read since then.
    observed: u64,
}

pub(crate) type Body = Box<dyn FnOnce()>;

pub(crate) struct Core<'a> {
    config: Config,
    policy: &'a mut dyn Policy,
    observer: Option<&'a mut dyn Observer>,
    /// The policy is asked at every point, even where only one task can run.
    every: bool,
    pub(crate) slots: Vec<Slot>,
    /// Spawned and not yet given a stack, in order of number.
    pub(crate) pending: VecDeque<Body>,
    /// Who can run, ascending; the running task is among them.
    runnable: Vec<TaskId>,
    blocked: Vec<TaskId>,
    /// Foreground tasks that can run, and that have not ended.
    ready: usize,
    live: usize,
    pub(crate) current: TaskId,
    last: Option<TaskId>,
    last_label: Label,
    next: Option<TaskId>,
    /// Points at which [`Core::settle`] must look: the limit, or at once.
    stop_at: u64,
    end: Option<End>,
    cancelled: bool,
    /// All foreground tasks have ended; what waits in the background is told to end too.
    closing: bool,
    probing: Option<TaskId>,
    /// Tasks below this number still waited when they looked again.
    probed: TaskId,
    choices: Vec<u32>,
    preemptions: Vec<Preemption>,
    pub(crate) points: u64,
    pub(crate) now: Duration,
    labels: Labels,
    livelock: Livelock,
}

impl<'a> Core<'a> {
    pub(crate) fn new(
        config: Config,
        policy: &'a mut dyn Policy,
        observer: Option<&'a mut dyn Observer>,
    ) -> Self {
        Core {
            every: policy.every_point(),
            stop_at: config.max_points,
            livelock: Livelock::new(config.livelock),
            config,
            policy,
            observer,
            slots: Vec::with_capacity(8),
            pending: VecDeque::with_capacity(8),
            runnable: Vec::with_capacity(8),
            blocked: Vec::with_capacity(8),
            ready: 0,
            live: 0,
            current: 0,
            last: None,
            last_label: "start",
            next: None,
            end: None,
            cancelled: false,
            closing: false,
            probing: None,
            probed: 0,
            choices: Vec::with_capacity(128),
            preemptions: Vec::with_capacity(32),
            points: 0,
            now: Duration::ZERO,
            labels: Labels::new(),
        }
    }

    /// A new task; it can run at once.
    pub(crate) fn add(&mut self, name: Arc<str>, background: bool, body: Body) -> TaskId {
        let id = self.slots.len() as TaskId;
        let at = self.labels.count("start", 0);
        let stopping = self.closing || self.end.is_some();
        let how = if stopping { Resume::Cancel } else { Resume::Go };
        let status = Status::Runnable(how);
        self.slots.push(Slot { name, status, background, cpu: NO_CPU, atomic: 0, at, since: 0, observed: 0 });
        self.pending.push_back(body);
        self.runnable.push(id);
        self.live += !background as usize;
        self.ready += !background as usize;
        self.livelock.add();
        id
    }

    /// The running task is at a point. Who goes on, if that is decided already; otherwise [`Core::next`] must decide.
    #[inline]
    pub(crate) fn reached(&mut self, label: Label) -> Option<TaskId> {
        self.passed(label);
        if self.points >= self.stop_at || self.ready == 0 {
            return None;
        }
        let t = self.decide()?;
        self.next = Some(t).filter(|&t| t != self.current);
        Some(t)
    }

    #[inline]
    fn passed(&mut self, label: Label) {
        self.points += 1;
        let id = self.labels.count(label, 1);
        let t = self.current;
        let slot = &mut self.slots[t as usize];
        (slot.at, slot.since) = (id, slot.since + 1);
        (self.last, self.last_label) = (Some(t), label);
        if self.every {
            slot.cpu = crate::this_cpu();
        }
        if let Some(o) = &mut self.observer {
            o.reached(t, label);
        }
        if !slot.background && self.livelock.passed(t, id) {
            self.check_livelock();
        }
    }

    #[cold]
    fn check_livelock(&mut self) {
        let tasks = || self.runnable.iter().filter(|&&t| !self.slots[t as usize].background);
        if self.livelock.is_one(tasks().copied()) {
            let at = |&t: &TaskId| {
                let s = &self.slots[t as usize];
                (s.name.to_string(), self.labels.text(s.at))
            };
            let tasks = tasks().map(at).collect();
            self.stop(End::Livelock(tasks));
        }
    }

    /// The running task has done something that counts.
    pub(crate) fn progress(&mut self) {
        if !self.slots[self.current as usize].background {
            self.livelock.progress();
        }
    }

    /// The running task waits for `key`. `again`: it was woken and still waits, which leaves it where it was.
    pub(crate) fn block(&mut self, key: usize, label: Label, until: Option<Duration>, again: bool) {
        let t = self.current;
        if self.probing.take() != Some(t) {
            let (since, slot) = (self.slots[t as usize].since, t as usize);
            self.passed(label);
            if again {
                self.slots[slot].since = since;
            }
            self.progress();
        }
        if matches!(self.slots[t as usize].status, Status::Runnable(Resume::Cancel)) {
            return;
        }
        self.slots[t as usize].status = Status::Blocked { key, until };
        self.not_runnable(t);
        self.blocked.push(t);
    }

    fn not_runnable(&mut self, t: TaskId) {
        if let Ok(i) = self.runnable.binary_search(&t) {
            self.runnable.remove(i);
            self.ready -= !self.slots[t as usize].background as usize;
        }
    }

    fn make_runnable(&mut self, t: TaskId, how: Resume) {
        self.slots[t as usize].status = Status::Runnable(how);
        if let Err(i) = self.runnable.binary_search(&t) {
            self.runnable.insert(i, t);
            self.ready += !self.slots[t as usize].background as usize;
        }
        self.blocked.retain(|&b| b != t);
    }

    /// Whoever waits for `key` can run.
    pub(crate) fn wake(&mut self, key: usize) {
        let mut i = 0;
        while i < self.blocked.len() {
            let t = self.blocked[i];
            match self.slots[t as usize].status {
                Status::Blocked { key: k, .. } if k == key => self.make_runnable(t, Resume::Go),
                _ => i += 1,
            }
        }
    }

    /// Time passes while a task runs: waits whose time is up end.
    pub(crate) fn pass(&mut self, time: Duration) {
        self.now = self.now.saturating_add(time);
        let mut i = 0;
        while i < self.blocked.len() {
            let t = self.blocked[i];
            match self.slots[t as usize].status {
                Status::Blocked { until: Some(u), .. } if u <= self.now => {
                    self.make_runnable(t, Resume::TimedOut)
                }
                _ => i += 1,
            }
        }
    }

    /// Task `t` has returned.
    pub(crate) fn ended(&mut self, t: TaskId, result: Result<(), String>) {
        self.points += 1;
        self.progress();
        self.last = None;
        let slot = &mut self.slots[t as usize];
        (slot.status, slot.since, slot.observed) = (Status::Done, 0, 0);
        self.live -= !slot.background as usize;
        if let Err(m) = result
            && !matches!(self.end, Some(End::Panicked(..)))
        {
            let name = slot.name.to_string();
            self.stop(End::Panicked(name, m));
        }
        self.not_runnable(t);
    }

    fn stop(&mut self, end: End) {
        self.end = Some(end);
        self.stop_at = 0;
    }

    pub(crate) fn cancel(&mut self) {
        self.cancelled = true;
        self.stop_at = 0;
    }

    /// The running task, asked to look again, would go on: a wakeup is missing.
    pub(crate) fn lost_wakeup(&mut self, label: Label) {
        self.probing = None;
        let name = self.slots[self.current as usize].name.to_string();
        self.stop(End::LostWakeup(name, label));
    }

    /// Who runs next, how, on which CPU, and in how many sections; `None` when all have returned.
    pub(crate) fn next(&mut self) -> Option<(TaskId, Resume, (u32, u32))> {
        let t = match self.next.take() {
            Some(t) => t,
            None => self.settle()?,
        };
        let slot = &mut self.slots[t as usize];
        let Status::Runnable(how) = slot.status else { unreachable!("chosen from the runnable ones") };
        if how != Resume::Cancel {
            slot.status = Status::Runnable(Resume::Go);
        }
        if t != self.current || self.points == 0 {
            let from = (self.points != 0).then_some(self.current);
            if let Some(o) = &mut self.observer {
                o.switched(from, t, self.last_label);
            }
        }
        self.current = t;
        Some((t, how, (slot.cpu, slot.atomic)))
    }

    fn settle(&mut self) -> Option<TaskId> {
        loop {
            if self.end.is_none() && !self.closing {
                if self.cancelled {
                    self.stop(End::Cancelled);
                } else if self.points >= self.config.max_points {
                    self.stop(End::Limit);
                } else if self.live == 0 && self.runnable.is_empty() {
                    (self.closing, self.stop_at) = (true, 0);
                }
            }
            if self.end.is_some() || self.closing {
                return self.tell_all();
            }
            if self.ready == 0 && self.live != 0 {
                if let Some(t) = self.idle() {
                    return Some(t);
                }
                continue;
            }
            self.probed = 0;
            if let Some(t) = self.decide() {
                return Some(t);
            }
        }
    }

    /// The run ends: everybody is told, in order of number, until all have returned.
    fn tell_all(&mut self) -> Option<TaskId> {
        for t in 0..self.slots.len() as TaskId {
            match self.slots[t as usize].status {
                Status::Done | Status::Runnable(Resume::Cancel) => {}
                _ => self.make_runnable(t, Resume::Cancel),
            }
        }
        self.runnable.first().copied()
    }

    /// No foreground task can run: time passes until the first timeout expires. Without one each waiting task looks
    /// once more; if all still wait, it is a deadlock.
    fn idle(&mut self) -> Option<TaskId> {
        let until = |s: &Slot| match s.status {
            Status::Blocked { until, .. } => until,
            _ => None,
        };
        let timed = self.slots.iter().enumerate().filter_map(|(i, s)| until(s).map(|u| (u, i as TaskId)));
        if let Some((u, t)) = timed.min() {
            self.now = self.now.max(u);
            self.make_runnable(t, Resume::TimedOut);
            return None;
        }
        let waits = |s: &Slot| !s.background && matches!(s.status, Status::Blocked { .. });
        let first = (self.probed..self.slots.len() as TaskId).find(|&t| waits(&self.slots[t as usize]));
        if let Some(t) = first {
            self.probed = t + 1;
            self.make_runnable(t, Resume::Probe);
            self.probing = Some(t);
            return Some(t);
        }
        let waiting = self.slots.iter().filter(|s| waits(s));
        let waiting = waiting.map(|s| (s.name.to_string(), self.labels.text(s.at))).collect();
        self.stop(End::Deadlock(waiting));
        None
    }

    /// Asks the policy, if there is a choice. `None`: it wants the run to end.
    #[inline]
    fn decide(&mut self) -> Option<TaskId> {
        let alone = self.runnable.len() == 1;
        if alone && !self.every {
            return Some(self.runnable[0]);
        }
        let can_run = |slots: &[Slot], t: TaskId| matches!(slots.get(t as usize), Some(s) if matches!(s.status, Status::Runnable(_)));
        let current = self.last.filter(|&t| can_run(&self.slots, t));
        let label = if self.last.is_some() { self.last_label } else { "start" };
        let at = Situation {
            runnable: &self.runnable,
            current,
            label,
            slots: &self.slots,
            labels: &self.labels,
            now: self.now,
        };
        // The policy is no task: what it calls finds free mode.
        let inside = CONTROLLED.replace(false);
        let t = self.policy.decide(&at);
        CONTROLLED.set(inside);
        let Some(t) = t else {
            self.cancel();
            return None;
        };
        if Some(t) != current {
            assert!(can_run(&self.slots, t), "the policy chose task {t}, wanted one of {:?}", self.runnable);
            if let Some(task) = current.filter(|&c| !self.slots[c as usize].background) {
                self.preemptions.push(Preemption { at: self.choices.len(), task });
            }
        }
        if !alone {
            self.choices.push(t);
        }
        Some(t)
    }

    /// A choice among `n` values.
    pub(crate) fn choose(&mut self, n: u32, label: Label) -> u32 {
        if n == 1 || self.stop_at == 0 {
            return 0;
        }
        let inside = CONTROLLED.replace(false);
        let v = self.policy.pick(n, label);
        CONTROLLED.set(inside);
        assert!(v < n, "the policy picked value {v} at {label}, wanted one below {n}");
        self.choices.push(VALUE | v);
        self.observe(u64::from(v));
        v
    }

    pub(crate) fn observe(&mut self, value: u64) {
        let o = &mut self.slots[self.current as usize].observed;
        *o = mix(o.rotate_left(1) ^ value);
    }

    pub(crate) fn forget(&mut self) {
        let s = &mut self.slots[self.current as usize];
        (s.since, s.observed) = (0, 0);
    }

    pub(crate) fn into_outcome(self) -> Outcome {
        Outcome {
            end: self.end.unwrap_or(End::Finished),
            schedule: Schedule { choices: self.choices },
            points: self.points,
            preemptions: self.preemptions,
            labels: self.labels.into_counts(),
        }
    }
}

impl Situation<'_> {
    /// Whether task `t` runs in the background.
    pub fn is_background(&self, t: TaskId) -> bool {
        self.slots.get(t as usize).is_some_and(|s| s.background)
    }

    /// A hash of every task's [local state](Self::local), in order of number. It is the same in every process.
    pub fn local_state(&self) -> u64 {
        (0..self.slots.len() as TaskId).fold(0, |h, t| mix(h.rotate_left(5) ^ self.local(t)))
    }

    /// Tasks so far, ended ones included.
    pub fn tasks(&self) -> TaskId {
        self.slots.len() as TaskId
    }

    /// Where task `t` is.
    ///
    /// # Panics
    /// If there is no such task.
    pub fn label_of(&self, t: TaskId) -> Label {
        self.labels.text(self.slots[t as usize].at)
    }

    /// A hash of task `t`'s local state: where it is, how it got there since it last called [`forget`](crate::forget),
    /// what it observed meanwhile, its CPU and what is left of its timeout.
    ///
    /// # Panics
    /// If there is no such task.
    pub fn local(&self, t: TaskId) -> u64 {
        let s = &self.slots[t as usize];
        let status = match s.status {
            Status::Runnable(Resume::TimedOut) => 1,
            Status::Runnable(_) => 0,
            Status::Blocked { until: None, .. } => 2,
            Status::Blocked { until: Some(u), .. } => {
                mix(u.saturating_sub(self.now).as_nanos() as u64 | 1 << 63)
            }
            Status::Done => return 3,
        };
        let label = self.labels.text(s.at).bytes().fold(0, |l, b| mix(l ^ u64::from(b)));
        [label, s.since, s.observed, u64::from(s.cpu)]
            .iter()
            .fold(mix(status), |h, &v| mix(h.rotate_left(5) ^ v))
    }
}

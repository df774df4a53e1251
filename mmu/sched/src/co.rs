//! The coroutines behind a controlled run. The only file of this crate with `unsafe`: it keeps a pointer to the
//! running coroutine's yielder so that a scheduling point deep in the stack can switch.
#![allow(unsafe_code, reason = "one of the three places the design names")]

use crate::controlled::{Config, End, Outcome, Policy, TaskId};
use crate::schedule::Schedule;
use crate::{CONTROLLED, Cancelled, Label, set_this_cpu, this_cpu};
use corosensei::stack::DefaultStack;
use corosensei::{Coroutine, CoroutineResult, Yielder};
use std::cell::{Cell, RefCell};
use std::time::Duration;

/// What a task is told when it goes on.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Resume {
    Go,
    TimedOut,
    Cancel,
}

/// What a task says when it stops.
enum Pause {
    At(Label),
    Blocked { key: usize, label: Label, until: Option<Duration> },
}

type Task = Coroutine<Resume, Pause, Result<(), String>, DefaultStack>;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Status {
    Runnable(Resume),
    Blocked { key: usize, label: Label, until: Option<Duration> },
    Running,
    Done,
}

struct Slot {
    name: String,
    status: Status,
    task: Option<Task>,
    cpu: u32,
    background: bool,
}

struct Spawned {
    name: String,
    f: Box<dyn FnOnce()>,
    background: bool,
}

#[derive(Default)]
struct Shared {
    /// Tasks spawned since the scheduler last looked.
    spawned: Vec<Spawned>,
    next_id: TaskId,
    /// Keys woken since the scheduler last looked.
    woken: Vec<usize>,
    cancelled: bool,
}

thread_local! {
    static YIELDER: Cell<*const Yielder<Resume, Pause>> = const { Cell::new(std::ptr::null()) };
    static NOW: Cell<Duration> = const { Cell::new(Duration::ZERO) };
    static CURRENT: Cell<TaskId> = const { Cell::new(0) };
    static SHARED: RefCell<Shared> = RefCell::default();
    static STACKS: RefCell<Vec<DefaultStack>> = const { RefCell::new(Vec::new()) };
}

fn pause(p: Pause) -> Resume {
    let y = YIELDER.get();
    assert!(!y.is_null(), "a scheduling point outside a task");
    // SAFETY: `run` sets YIELDER just before it resumes a task and the task's entry sets it to its own yielder,
    // which lives on that task's stack until the task returns; only the task that runs now can get here.
    let r = unsafe { (*y).suspend(p) };
    // Other tasks ran meanwhile and left theirs.
    YIELDER.set(y);
    r
}

#[inline(never)]
pub(crate) fn switch(label: Label) -> Result<(), Cancelled> {
    if std::thread::panicking() {
        return Ok(());
    }
    match pause(Pause::At(label)) {
        Resume::Cancel => Err(Cancelled),
        _ => Ok(()),
    }
}

pub(crate) fn block(key: usize, label: Label) -> Result<(), Cancelled> {
    match pause(Pause::Blocked { key, label, until: None }) {
        Resume::Cancel => Err(Cancelled),
        _ => Ok(()),
    }
}

pub(crate) fn block_timeout(key: usize, label: Label, until: Duration) -> Result<bool, Cancelled> {
    match pause(Pause::Blocked { key, label, until: Some(until) }) {
        Resume::Cancel => Err(Cancelled),
        Resume::TimedOut => Ok(false),
        Resume::Go => Ok(true),
    }
}

pub(crate) fn wake(key: usize) {
    SHARED.with_borrow_mut(|s| s.woken.push(key));
}

pub(crate) fn now() -> Duration {
    NOW.get()
}

pub(crate) fn cancel() {
    SHARED.with_borrow_mut(|s| s.cancelled = true);
}

pub(crate) fn current() -> TaskId {
    CURRENT.get()
}

pub(crate) fn spawn(name: String, f: Box<dyn FnOnce()>, background: bool) -> TaskId {
    assert!(CONTROLLED.get(), "spawn outside a controlled run");
    SHARED.with_borrow_mut(|s| {
        s.spawned.push(Spawned { name, f, background });
        s.next_id += 1;
        s.next_id - 1
    })
}

fn make(f: Box<dyn FnOnce()>, stack: usize) -> Task {
    let stack = STACKS
        .with_borrow_mut(|v| v.pop())
        .unwrap_or_else(|| DefaultStack::new(stack).expect("the host gives a coroutine stack"));
    Coroutine::with_stack(stack, |yielder: &Yielder<Resume, Pause>, first: Resume| {
        YIELDER.set(yielder);
        if first == Resume::Cancel {
            return Ok(());
        }
        match std::panic::catch_unwind(std::panic::AssertUnwindSafe(f)) {
            Ok(()) => Ok(()),
            Err(p) if p.is::<Cancelled>() => Ok(()),
            Err(p) => Err(message(p.as_ref())),
        }
    })
}

fn message(p: &(dyn std::any::Any + Send)) -> String {
    p.downcast_ref::<&str>()
        .map(|s| s.to_string())
        .or_else(|| p.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without a message".into())
}

pub(crate) fn run(config: Config, policy: &mut dyn Policy, main: Box<dyn FnOnce()>) -> Outcome {
    assert!(!CONTROLLED.get(), "a controlled run inside a controlled run");
    let mut slots: Vec<Slot> = Vec::new();
    let first = Spawned { name: "main".into(), f: main, background: false };
    SHARED.set(Shared { spawned: vec![first], next_id: 1, ..Shared::default() });
    NOW.set(Duration::ZERO);
    let host_cpu = this_cpu();
    let mut choices = Vec::new();
    let mut points = 0;
    let mut last: Option<(TaskId, Label)> = None;
    let mut runnable: Vec<TaskId> = Vec::new();
    let mut end = None;
    loop {
        let (spawned, woken, cancelled) = SHARED
            .with_borrow_mut(|s| (std::mem::take(&mut s.spawned), std::mem::take(&mut s.woken), s.cancelled));
        for Spawned { name, f, background } in spawned {
            let (task, status) = (Some(make(f, config.stack)), Status::Runnable(Resume::Go));
            slots.push(Slot { name, status, task, cpu: crate::NO_CPU, background });
        }
        for s in slots.iter_mut() {
            if let Status::Blocked { key, .. } = s.status
                && woken.contains(&key)
            {
                s.status = Status::Runnable(Resume::Go);
            }
        }
        if end.is_none() && cancelled {
            end = Some(End::Cancelled);
        }
        if end.is_none() && points >= config.max_points {
            end = Some(End::Limit);
        }
        if end.is_some() {
            // Everybody is told, in order of number, until all have returned.
            for s in slots.iter_mut() {
                if !matches!(s.status, Status::Done) {
                    s.status = Status::Runnable(Resume::Cancel);
                }
            }
        }
        runnable.clear();
        runnable.extend(
            (0..slots.len() as u32).filter(|&i| matches!(slots[i as usize].status, Status::Runnable(_))),
        );
        let rest = |s: &Slot| matches!(s.status, Status::Done);
        if slots.iter().all(rest) {
            break;
        }
        let idle = runnable.iter().all(|&i| slots[i as usize].background);
        if idle && !slots.iter().all(|s| s.background || rest(s)) {
            // Nothing can run: time passes until the first timeout expires; without one it is a deadlock.
            let timed = slots.iter_mut().filter_map(|s| match s.status {
                Status::Blocked { until: Some(t), .. } => Some((t, s)),
                _ => None,
            });
            if let Some((t, s)) = timed.min_by_key(|(t, _)| *t) {
                NOW.set(NOW.get().max(t));
                s.status = Status::Runnable(Resume::TimedOut);
                continue;
            }
            let waiting = slots.iter().filter_map(|s| match s.status {
                Status::Blocked { label, .. } => Some((s.name.clone(), label)),
                _ => None,
            });
            end = Some(End::Deadlock(waiting.collect()));
            continue;
        }
        let t = if end.is_some() || runnable.len() == 1 {
            runnable[0]
        } else {
            let (current, label) = match last {
                Some((t, l)) => (Some(t).filter(|t| runnable.contains(t)), l),
                None => (None, "start"),
            };
            let t = policy.choose(&runnable, current, label);
            assert!(runnable.contains(&t), "the policy chose a task that cannot run");
            choices.push(t);
            t
        };
        let slot = &mut slots[t as usize];
        let Status::Runnable(how) = slot.status else { unreachable!("chosen from the runnable ones") };
        slot.status = Status::Running;
        CURRENT.set(t);
        set_this_cpu(slot.cpu);
        CONTROLLED.set(true);
        let task = slot.task.as_mut().expect("a task that can run exists");
        let result = task.resume(how);
        CONTROLLED.set(false);
        slot.cpu = this_cpu();
        set_this_cpu(host_cpu);
        points += 1;
        match result {
            CoroutineResult::Yield(Pause::At(label)) => {
                last = Some((t, label));
                slot.status =
                    Status::Runnable(if how == Resume::Cancel { Resume::Cancel } else { Resume::Go });
            }
            CoroutineResult::Yield(Pause::Blocked { key, label, until }) => {
                last = Some((t, label));
                slot.status = Status::Blocked { key, label, until };
            }
            CoroutineResult::Return(r) => {
                last = None;
                slot.status = Status::Done;
                if let Some(task) = slot.task.take() {
                    STACKS.with_borrow_mut(|v| v.push(task.into_stack()));
                }
                if let Err(m) = r
                    && !matches!(end, Some(End::Panicked(..)))
                {
                    end = Some(End::Panicked(slot.name.clone(), m));
                }
            }
        }
    }
    Outcome { end: end.unwrap_or(End::Finished), schedule: Schedule { choices }, points }
}

#[cfg(test)]
mod tests {
    use crate::controlled::*;
    use crate::{Mutex, point, virtual_now, wait_while, wait_while_timeout, wake};
    use std::cell::RefCell;
    use std::rc::Rc;
    use std::sync::Arc;

    fn trace(policy: &mut dyn Policy) -> (Vec<u32>, Outcome) {
        let log = Rc::new(RefCell::new(Vec::new()));
        let l = log.clone();
        let out = run(Config::default(), policy, move || {
            for t in 0..3 {
                let l = l.clone();
                spawn(format!("t{t}"), move || {
                    for _ in 0..4 {
                        point("test");
                        l.borrow_mut().push(t);
                    }
                });
            }
        });
        let v = log.borrow().clone();
        (v, out)
    }

    #[test]
    fn replay_repeats_a_random_run() {
        for seed in 0..50 {
            let (a, out) = trace(&mut Random::new(seed));
            assert_eq!(out.end, End::Finished);
            let s = out.schedule.to_string().parse().unwrap();
            let mut replay = Replay::new(s, RoundRobin::default());
            let (b, again) = trace(&mut replay);
            assert_eq!((a, out), (b, again));
            assert_eq!(replay.diverged, 0);
        }
    }

    #[test]
    fn locks_exclude_and_deadlocks_are_named() {
        for seed in 0..20 {
            let out = run(Config::default(), &mut Random::new(seed), || {
                let m = Arc::new(Mutex::new(0));
                for _ in 0..3 {
                    let m = m.clone();
                    spawn("adder", move || {
                        let mut g = m.lock("m");
                        let v = *g;
                        point("inside");
                        *g = v + 1;
                    });
                }
                spawn("checker", move || {
                    let key = std::ptr::from_ref(&*m) as usize;
                    for _ in 0..100 {
                        if *m.lock("m") == 3 {
                            wake(key);
                            return;
                        }
                    }
                    wait_while(key, "never", || true);
                });
            });
            assert!(matches!(&out.end, End::Finished | End::Deadlock(_)), "{out:?}");
        }
        let out = run(Config::default(), &mut RoundRobin::default(), || {
            spawn("stuck", || wait_while(1, "nobody wakes this", || true));
        });
        assert_eq!(out.end, End::Deadlock(vec![("stuck".into(), "nobody wakes this")]));
    }

    #[test]
    fn limits_cancel_and_panics_are_reported() {
        let c = Config { max_points: 100, ..Config::default() };
        let out = run(c, &mut RoundRobin::default(), || {
            loop {
                point("forever")
            }
        });
        assert_eq!(out.end, End::Limit);
        let out = run(c, &mut RoundRobin::default(), || {
            spawn("bystander", || {
                loop {
                    point("forever")
                }
            });
            spawn("bad", || panic!("as it should"));
        });
        assert_eq!(out.end, End::Panicked("bad".into(), "as it should".into()));
    }

    /// Seen to fail with the first waiter in place of the first timeout, and without background tasks.
    #[test]
    fn time_passes_when_all_wait() {
        let log = Rc::new(RefCell::new(Vec::new()));
        let l = log.clone();
        let out = run(Config::default(), &mut RoundRobin::default(), move || {
            let left = Rc::new(std::cell::Cell::new(3));
            for seconds in [30, 10, 20] {
                let (l, left) = (l.clone(), left.clone());
                spawn(format!("sleeper {seconds}"), move || {
                    let t = std::time::Duration::from_secs(seconds);
                    assert!(!wait_while_timeout(seconds as usize, "sleep", t, || true));
                    l.borrow_mut().push(virtual_now().unwrap().as_secs());
                    left.set(left.get() - 1);
                });
            }
            spawn_background("walker", move || {
                while left.get() != 0 {
                    point("rest");
                }
            });
        });
        assert_eq!(out.end, End::Finished);
        assert_eq!(*log.borrow(), [10, 20, 30]);
        assert_eq!(virtual_now(), None);
    }
}

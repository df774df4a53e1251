//! The coroutines behind a controlled run. The only file of this crate with `unsafe`: it keeps pointers to the run
//! and to the running coroutine's yielder so that a scheduling point deep in the stack can switch.
#![allow(unsafe_code, reason = "one of the three places the design names")]

use crate::controlled::{Config, Observer, Outcome};
use crate::policy::{Policy, TaskId};
use crate::runtime::{Body, Core, Resume};
use crate::{CONTROLLED, Cancelled, Label, atomic_depth, set_atomic_depth, set_this_cpu, this_cpu};
use corosensei::stack::DefaultStack;
use corosensei::{Coroutine, CoroutineResult, Yielder};
use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::time::Duration;

type Task = Coroutine<Resume, (), Result<(), String>, DefaultStack>;

thread_local! {
    static YIELDER: Cell<*const Yielder<Resume, ()>> = const { Cell::new(std::ptr::null()) };
    /// The run of this thread. Not null while CONTROLLED is set.
    static CORE: Cell<*const RefCell<Core<'static>>> = const { Cell::new(std::ptr::null()) };
    /// Stacks of tasks that have ended, all of one size, for the next ones.
    static STACKS: RefCell<(usize, Vec<DefaultStack>)> = const { RefCell::new((0, Vec::new())) };
}

#[inline]
fn with<T>(f: impl FnOnce(&mut Core<'_>) -> T) -> T {
    let core = CORE.get();
    assert!(!core.is_null(), "a scheduling point outside a controlled run");
    // SAFETY: `run` keeps the core alive and in place until it has set CORE back to null. The lifetime is that of
    // the policy and the observer, which `run` has borrowed for as long; `f` cannot keep it.
    f(&mut unsafe { &*core }.borrow_mut())
}

fn pause() -> Resume {
    let y = YIELDER.get();
    assert!(!y.is_null(), "a scheduling point outside a task");
    // SAFETY: a task's entry sets YIELDER to its own yielder, which lives on that task's stack until the task
    // returns, and whoever comes back from `suspend` sets it again: it belongs to the task that runs.
    let r = unsafe { (*y).suspend(()) };
    // Other tasks ran meanwhile and left theirs.
    YIELDER.set(y);
    r
}

#[inline(never)]
pub(crate) fn switch(label: Label) -> Result<(), Cancelled> {
    if std::thread::panicking() {
        return Ok(());
    }
    let stays = with(|c| c.reached(label) == Some(c.current));
    if stays {
        return Ok(());
    }
    match pause() {
        Resume::Cancel => Err(Cancelled),
        _ => Ok(()),
    }
}

/// Waits for `key`. True if it was woken only to look once more.
pub(crate) fn block(key: usize, label: Label, again: bool) -> Result<bool, Cancelled> {
    with(|c| c.block(key, label, None, again));
    match pause() {
        Resume::Cancel => Err(Cancelled),
        r => Ok(r == Resume::Probe),
    }
}

/// Waits for `key`, true, or until a time, false.
pub(crate) fn block_timeout(
    key: usize,
    label: Label,
    until: Duration,
    again: bool,
) -> Result<bool, Cancelled> {
    with(|c| c.block(key, label, Some(until), again));
    match pause() {
        Resume::Cancel => Err(Cancelled),
        r => Ok(r != Resume::TimedOut),
    }
}

pub(crate) fn lost_wakeup(label: Label) -> Cancelled {
    with(|c| c.lost_wakeup(label));
    Cancelled
}

pub(crate) fn wake(key: usize) {
    with(|c| c.wake(key));
}

pub(crate) fn now() -> Duration {
    with(|c| c.now)
}

pub(crate) fn pass(time: Duration) {
    with(|c| c.pass(time));
}

pub(crate) fn points() -> u64 {
    with(|c| c.points)
}

pub(crate) fn cancel() {
    if CONTROLLED.get() {
        with(|c| c.cancel());
    }
}

pub(crate) fn current() -> TaskId {
    with(|c| c.current)
}

pub(crate) fn progress() {
    with(|c| c.progress());
}

pub(crate) fn choose(n: u32, label: Label) -> u32 {
    with(|c| c.choose(n, label))
}

pub(crate) fn observe(value: u64) {
    with(|c| c.observe(value));
}

pub(crate) fn forget() {
    with(|c| c.forget());
}

pub(crate) fn spawn(name: Arc<str>, f: Body, background: bool) -> TaskId {
    assert!(CONTROLLED.get(), "spawn outside a controlled run");
    with(|c| c.add(name, background, f))
}

fn make(f: Body, size: usize) -> Task {
    let pooled = STACKS.with_borrow_mut(|(of, v)| if *of == size { v.pop() } else { None });
    let stack = pooled.unwrap_or_else(|| DefaultStack::new(size).expect("the host gives a coroutine stack"));
    Coroutine::with_stack(stack, |yielder: &Yielder<Resume, ()>, first: Resume| {
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

fn keep_stack(stack: DefaultStack, size: usize) {
    STACKS.with_borrow_mut(|(of, v)| {
        if *of != size {
            v.clear();
            *of = size;
        }
        v.push(stack);
    });
}

fn message(p: &(dyn std::any::Any + Send)) -> String {
    p.downcast_ref::<&str>()
        .map(|s| s.to_string())
        .or_else(|| p.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without a message".into())
}

/// Makes a run the one of this thread until it is dropped.
struct Entered {
    cpu: u32,
    atomic: u32,
}

impl Drop for Entered {
    fn drop(&mut self) {
        CONTROLLED.set(false);
        crate::tso::uninstall();
        CORE.set(std::ptr::null());
        set_this_cpu(self.cpu);
        set_atomic_depth(self.atomic);
    }
}

pub(crate) fn run<'a>(
    config: Config,
    policy: &'a mut dyn Policy,
    observer: Option<&'a mut dyn Observer>,
    main: Body,
) -> Outcome {
    assert!(CORE.get().is_null(), "a controlled run inside a controlled run");
    let core = RefCell::new(Core::new(config, policy, observer));
    core.borrow_mut().add("main".into(), false, main);
    let entered = Entered { cpu: this_cpu(), atomic: atomic_depth() };
    CORE.set(std::ptr::from_ref(&core).cast());
    let mut tasks: Vec<Option<Task>> = Vec::with_capacity(8);
    loop {
        let next = core.borrow_mut().next();
        let Some((t, how, (cpu, atomic))) = next else { break };
        let t = t as usize;
        while tasks.len() <= t {
            let body = core.borrow_mut().pending.pop_front().expect("one for each number");
            tasks.push(Some(make(body, config.stack)));
        }
        let task = tasks[t].as_mut().expect("a task that can run exists");
        set_this_cpu(cpu);
        set_atomic_depth(atomic);
        CONTROLLED.set(true);
        let result = task.resume(how);
        CONTROLLED.set(false);
        {
            let slot = &mut core.borrow_mut().slots[t];
            (slot.cpu, slot.atomic) = (this_cpu(), atomic_depth());
        }
        if let CoroutineResult::Return(r) = result {
            if let Some(task) = tasks[t].take() {
                keep_stack(task.into_stack(), config.stack);
            }
            core.borrow_mut().ended(t as TaskId, r);
        }
    }
    drop(entered);
    core.into_inner().into_outcome()
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

    /// Two wait, the third waits in a loop for time to pass. Seen to fail with waits left alone by `pass`.
    #[test]
    fn time_that_a_task_lets_pass_ends_waits() {
        let log = Rc::new(RefCell::new(Vec::new()));
        let l = log.clone();
        let out = run(Config::default(), &mut Random::new(3), move || {
            for seconds in [20, 10] {
                let l = l.clone();
                spawn(format!("sleeper {seconds}"), move || {
                    let t = std::time::Duration::from_secs(seconds);
                    assert!(!wait_while_timeout(seconds as usize, "sleep", t, || true));
                    l.borrow_mut().push(seconds);
                });
            }
            while l.borrow().len() < 2 {
                crate::pass_time(std::time::Duration::from_secs(1));
                point("spin");
            }
        });
        assert_eq!((out.end, &*log.borrow()), (End::Finished, &vec![10, 20]));
    }

    /// Whether some seed ends so.
    fn seeds(n: u64, main: fn(), ends: fn(&End) -> bool) -> bool {
        (0..n).any(|s| ends(&run(Config::default(), &mut Random::new(s), main).end))
    }

    /// The setter forgets to wake. Seen to fail when waiting tasks are not asked once more.
    #[test]
    fn a_lost_wakeup_is_no_deadlock() {
        fn flag(wakes: bool) {
            let flag = Rc::new(std::cell::Cell::new(false));
            let f = flag.clone();
            spawn("waiter", move || wait_while(7, "flag.wait", || !f.get()));
            spawn("setter", move || {
                point("set");
                flag.set(true);
                if wakes {
                    wake(7);
                }
            });
        }
        assert!(
            seeds(20, || flag(false), |e| *e == End::LostWakeup("waiter".into(), "flag.wait")),
            "some schedule lets the waiter wait first"
        );
        assert!(!seeds(50, || flag(true), |e| *e != End::Finished));
        let out = run(Config::default(), &mut RoundRobin::default(), || {
            let m = [Rc::new(crate::Lock::new()), Rc::new(crate::Lock::new())];
            for (name, a, b) in [("ab", 0, 1), ("ba", 1, 0)] {
                let m = m.clone();
                spawn(name, move || {
                    let _first = m[a].lock("first");
                    let _second = m[b].lock("second");
                });
            }
        });
        assert_eq!(out.end, End::Deadlock(vec![("ab".into(), "second"), ("ba".into(), "second")]));
    }

    /// Each waits for the other's flag by looking again. Seen to fail with the window never checked.
    #[test]
    fn circles_are_livelocks() {
        let out = run(Config::default(), &mut RoundRobin::default(), || {
            spawn_background("walker", || (0..200_000).for_each(|_| point("rest")));
            for (name, label) in [("a", "a.spin"), ("b", "b.spin")] {
                spawn(name, move || {
                    loop {
                        point(label);
                    }
                });
            }
        });
        assert_eq!(out.end, End::Livelock(vec![("a".into(), "a.spin"), ("b".into(), "b.spin")]));
        // A third of the points are the walker's, which do not count.
        assert!((29_900..30_200).contains(&out.points), "{}", out.points);
    }

    /// They look like it: one computes and says so, one waits for a task that its policy starves, one ends within the
    /// window. Seen to fail without `progress`, and without the question who had his turns.
    #[test]
    fn what_gets_somewhere_is_no_livelock() {
        let limit = Config { max_points: 100_000, ..Config::default() };
        let out = run(limit, &mut RoundRobin::default(), || {
            spawn("long", || {
                (0..90_000).for_each(|_| {
                    point("compute");
                    crate::progress();
                })
            });
        });
        assert_eq!(out.end, End::Finished);
        let out = run(limit, &mut Stay, || {
            let flag = Rc::new(std::cell::Cell::new(false));
            let f = flag.clone();
            spawn("spinner", move || {
                while !f.get() {
                    point("spin")
                }
            });
            spawn("starved", move || flag.set(true));
        });
        assert_eq!(out.end, End::Limit);
        let out = run(limit, &mut RoundRobin::default(), || (0..19_999).for_each(|_| point("short")));
        assert_eq!(out.end, End::Finished);
    }

    #[test]
    fn labels_and_switches_are_seen() {
        #[derive(Default)]
        struct Seen(Vec<(Option<u32>, u32, &'static str)>, u64);
        impl Observer for Seen {
            fn switched(&mut self, from: Option<u32>, to: u32, label: &'static str) {
                self.0.push((from, to, label));
            }
            fn reached(&mut self, _: u32, _: &'static str) {
                self.1 += 1;
            }
        }
        let mut seen = Seen::default();
        let out = run_observed(Config::default(), &mut RoundRobin::default(), &mut seen, || {
            for _ in 0..2 {
                spawn("t", || {
                    point("x");
                    point("y");
                });
            }
        });
        assert_eq!(out.labels, [("x", 2), ("y", 2)]);
        assert_eq!(seen.1, 4);
        let switches = [(None, 0, "start"), (Some(0), 1, "start"), (Some(1), 2, "x"), (Some(2), 1, "x")];
        assert_eq!(seen.0[..4], switches);
        assert_eq!(out.preemptions[0], Preemption { at: 1, task: 1 });
    }

    /// What waits in the background ends when the others have. Seen to fail with nobody told.
    #[test]
    fn background_tasks_may_wait() {
        let ended = Rc::new(std::cell::Cell::new(false));
        let e = ended.clone();
        let out = run(Config::default(), &mut RoundRobin::default(), move || {
            spawn_background("server", move || {
                let _told = Told(e);
                wait_while(1, "serve", || true);
            });
            struct Told(Rc<std::cell::Cell<bool>>);
            impl Drop for Told {
                fn drop(&mut self) {
                    self.0.set(true);
                }
            }
        });
        assert_eq!(out.end, End::Finished);
        assert!(ended.get());
    }
}

//! Takes what a machine of the race lab says. Its tasks are on one thread and its runs are short: all is kept until the
//! run is over, and then given away in the order in which it happened.

use crate::convert;
use crate::event::Event;
use crate::recorder::Output;
use crate::stream;
use racewalk_cpu::{CpuEvent, Sink};
use racewalk_mm::sanitizer::{Watcher, What};
use racewalk_sched::controlled::current;
use racewalk_sched::{NO_CPU, this_cpu};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Events after which what there is goes to the file, so that one that is cut reads up to about there.
const SETTLE: u64 = 256;

enum Said {
    Event(Event),
    /// An operation of the scenario, by its number; done or not.
    Operation(u32, bool),
}

struct Taken {
    stream: u32,
    /// The task that did it; none before and after the race.
    task: Option<u32>,
    said: Said,
}

/// What was said.
#[derive(Default)]
pub struct LabRecorder {
    taken: Mutex<Vec<Taken>>,
}

impl std::fmt::Debug for LabRecorder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LabRecorder")
    }
}

impl LabRecorder {
    /// One that heard nothing yet.
    pub fn new() -> Arc<LabRecorder> {
        Arc::default()
    }

    fn take(&self, stream: u32, said: Said) {
        let taken = Taken { stream, task: current(), said };
        self.taken.lock().unwrap_or_else(PoisonError::into_inner).push(taken)
    }

    /// Gives it away: `first`, what was said, `last`; `first` and `last` in the stream of what no CPU does. The scenario's
    /// tasks and operations have these names, by number. How many events that were.
    pub fn give(
        &self,
        first: Vec<Event>,
        last: Vec<Event>,
        tasks: &[String],
        ops: &[String],
        out: &mut impl Output,
    ) -> u64 {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let mut given = Given { out, seq: 0 };
        for e in first {
            given.event(stream::KERNEL, e)
        }
        given.out.settle(true);
        let mut actors: BTreeMap<u32, Arc<str>> = BTreeMap::new();
        let mut raced = false;
        let named = |names: &[String], n: u32, what: &str| -> Arc<str> {
            names.get(n as usize).map_or_else(|| format!("{what} {n}").into(), |n| n.as_str().into())
        };
        for t in taken.drain(..) {
            raced |= t.task.is_some();
            let actor: Arc<str> = match t.task {
                Some(n) => named(tasks, n, "task"),
                None if raced => "after the race".into(),
                None => "set-up".into(),
            };
            if actors.get(&t.stream) != Some(&actor) {
                actors.insert(t.stream, actor.clone());
                given.event(t.stream, Event::Actor { name: actor })
            }
            let event = match t.said {
                Said::Event(e) => e,
                Said::Operation(n, done) => Event::Operation { text: named(ops, n, "operation"), done },
            };
            given.event(t.stream, event)
        }
        for e in last {
            given.event(stream::KERNEL, e)
        }
        given.seq
    }
}

struct Given<'a, O> {
    out: &'a mut O,
    seq: u64,
}

impl<O: Output> Given<'_, O> {
    fn event(&mut self, stream: u32, e: Event) {
        self.seq += 1;
        self.out.event(stream, self.seq, 0, e);
        if self.seq.is_multiple_of(SETTLE) {
            self.out.settle(true)
        }
    }
}

/// The stream of what a CPU does. A task that holds no CPU, or another, is its speculative walker.
fn of_cpu(cpu: u32) -> u32 {
    if current().is_some() && this_cpu() != cpu { stream::WALKERS + cpu } else { cpu }
}

impl Sink for LabRecorder {
    fn event(&self, cpu: u32, event: &CpuEvent) {
        self.take(of_cpu(cpu), Said::Event(convert::cpu(event)))
    }
}

impl Watcher for LabRecorder {
    fn happened(&self, cpu: u32, what: &What) {
        let said = match *what {
            What::Op(n) => Said::Operation(n, false),
            What::OpDone(n) => Said::Operation(n, true),
            _ => match convert::mm(what) {
                Some(e) => Said::Event(e),
                None => return,
            },
        };
        let stream = match what {
            _ if cpu == NO_CPU => stream::KERNEL,
            // It leaves the CPU's own buffer.
            What::Drained { .. } => cpu,
            _ => of_cpu(cpu),
        };
        self.take(stream, said)
    }
}

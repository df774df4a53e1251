//! One run: the scenario's CPUs, walkers and the RCU thread as tasks of one schedule, and what is told of it.

use super::events;
use super::ops::Cpu;
use super::world::{Shared, page};
use crate::scenario::{Memory, Op, Scenario};
use crate::target::{Finding, RunOptions, RunResult};
use racewalk_mm::arch::Arch;
use racewalk_mm::sanitizer::invariant;
use racewalk_mm::{Kernel, Mm, MmError};
use racewalk_sched::controlled::{self, End, Outcome, Policy};
use racewalk_sched::{NO_CPU, set_this_cpu, tso};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

/// Who runs callbacks beside the grace-period thread.
pub(super) const HELPER: &str = "rcu of another CPU";

/// Bytes of stack for a task: the hosted mm needs no more, and less is touched anew.
const STACK: usize = 64 << 10;

/// What is the same in every run of a scenario.
pub(super) struct Race {
    scenario: Scenario,
    /// The operations of all programs.
    ops: Vec<Op>,
    /// What each task does, by number; task 0 starts the others.
    tasks: Vec<(Arc<str>, Task)>,
}

#[derive(Clone)]
enum Task {
    Main,
    /// The operations with these numbers.
    Program {
        cpu: u32,
        ops: Range<usize>,
    },
    /// The scenario's walker with this number.
    Walker(usize),
    Rcu,
}

impl Race {
    pub(super) fn new(scenario: &Scenario) -> Race {
        let mut ops: Vec<Op> = Vec::new();
        let mut tasks: Vec<(Arc<str>, Task)> = vec![("main".into(), Task::Main)];
        for p in &scenario.programs {
            let first = ops.len();
            ops.extend(p.ops.iter().cloned());
            let task = Task::Program { cpu: p.cpu, ops: first..ops.len() };
            tasks.push((format!("cpu {}", p.cpu).into(), task));
        }
        for (i, w) in scenario.walkers.iter().enumerate() {
            tasks.push((format!("walker {i} of cpu {}", w.cpu).into(), Task::Walker(i)));
        }
        tasks.push(("rcu".into(), Task::Rcu));
        Race { scenario: scenario.clone(), ops, tasks }
    }

    pub(super) fn scenario(&self) -> &Scenario {
        &self.scenario
    }

    /// What a task does on a machine.
    fn perform<A: Arch>(&self, task: &Task, shared: &Shared<A>) {
        match task {
            Task::Main => {}
            Task::Program { cpu, ops } => {
                set_this_cpu(*cpu);
                Cpu::new(shared, *cpu).run(&self.ops[ops.clone()], ops.start as u32);
                tso::fence();
                shared.one_less();
            }
            Task::Walker(n) => {
                let w = &self.scenario.walkers[*n];
                let pages = w.place.range(A::LEVELS[A::LEVELS.len() - 1].entries() as u32);
                'all: for _ in 0..w.times {
                    for p in pages.clone() {
                        let va = page::<A>(w.place.segment, p);
                        if shared.kernel.cpus().speculate(w.cpu, va).is_err() {
                            break 'all;
                        }
                    }
                }
                shared.one_less();
            }
            Task::Rcu => {
                let k = &shared.kernel;
                rcu(shared, &mut |cpu| {
                    let k = k.clone();
                    controlled::spawn(HELPER, move || k.rcu_help(cpu));
                })
            }
        }
    }

    /// Runs it once on a machine that is set up. The machine is left halted, for whatever it is good.
    pub(super) fn run<A: Arch>(
        self: &Arc<Race>,
        kernel: Arc<Kernel<A>>,
        mms: Vec<Arc<Mm<A>>>,
        policy: &mut dyn Policy,
        options: &RunOptions,
    ) -> RunResult {
        // All but main and RCU's.
        let left = AtomicUsize::new(self.tasks.len() - 2);
        let shared = Arc::new(Shared { kernel: kernel.clone(), mms, left });
        let mut limits = controlled::Config::default();
        limits.max_points = options.max_points;
        limits.stack = STACK;
        let (race, all) = (self.clone(), shared.clone());
        let outcome = controlled::run(limits, policy, move || {
            for (n, (name, _)) in race.tasks.iter().enumerate().skip(1) {
                let (race, shared) = (race.clone(), all.clone());
                controlled::spawn(name.clone(), move || race.perform(&race.tasks[n].1, &shared));
            }
            if race.scenario.memory == Memory::Tso {
                all.kernel.buffer_stores();
            }
        });
        set_this_cpu(NO_CPU);
        let mut findings = Vec::new();
        if let Some(f) = bad_end(&outcome) {
            findings.push(f);
        } else if outcome.end == End::Finished && !kernel.has_findings() {
            teardown(&shared);
        }
        findings.extend(kernel.take_findings().into_iter().map(|e| of_error(&e)));
        let mut events = Vec::new();
        if options.events {
            let log = kernel.sanitizer().map(|s| s.events()).unwrap_or_default();
            let tasks = self.task_names();
            events = events::tell::<A>(&self.scenario, &log, &tasks, &self.ops);
            for f in &mut findings {
                f.event = events.last().map(|e| e.seq);
                f.text.push_str(&events::legend::<A>(&log, &tasks, &f.text));
            }
        }
        let states = kernel.sanitizer().map(|s| s.take_states()).unwrap_or_default();
        let mut states: Vec<u64> = states.into_iter().collect();
        states.sort_unstable();
        let counters = if options.counters { kernel.cost() } else { Vec::new() };
        kernel.halt();
        RunResult { outcome, findings, events, states, counters }
    }

    /// Names of its tasks, by number; those that come later are [`HELPER`].
    pub(super) fn task_names(&self) -> Vec<String> {
        let drains = if self.scenario.memory == Memory::Tso { self.scenario.cpus } else { 0 };
        let drains = (0..drains).map(|cpu| format!("drain {cpu}"));
        self.tasks.iter().map(|t| t.0.to_string()).chain(drains).collect()
    }

    /// Its operations as the scenario writes them, by number.
    pub(super) fn op_texts(&self) -> Vec<String> {
        self.ops.iter().map(|o| self.scenario.op_text(o)).collect()
    }
}

/// The grace-period thread: drives grace periods and runs callbacks until everybody else has ended. `help` gets help for
/// callbacks of several CPUs.
pub(super) fn rcu<A: Arch>(shared: &Shared<A>, help: &mut dyn FnMut(usize)) {
    let k = &shared.kernel;
    loop {
        let news = k.rcu_news();
        k.rcu_poll_with(help);
        if shared.left.load(SeqCst) == 0 || k.has_findings() {
            return;
        }
        k.rcu_wait(news, Duration::from_secs(1));
    }
}

/// After the race: all callbacks, the end of every process, all callbacks again; then nothing may be left.
pub(super) fn teardown<A: Arch>(shared: &Shared<A>) {
    let k = &shared.kernel;
    k.set_failures(racewalk_mm::Failures::None);
    k.rcu_barrier();
    for cpu in 0..k.cpus().count() {
        for mm in &shared.mms {
            if mm.detach(cpu).is_err() {
                return;
            }
        }
    }
    for mm in &shared.mms {
        if mm.exit().is_err() {
            return;
        }
    }
    k.rcu_barrier();
    if !k.has_findings() && k.shutdown().is_ok() {
        k.check_leaks();
    }
}

fn bad_end(outcome: &Outcome) -> Option<Finding> {
    let tasks = |v: &[(String, racewalk_sched::Label)]| {
        v.iter().map(|(t, l)| format!("{t} at {l}")).collect::<Vec<_>>().join(", ")
    };
    let (title, text) = match &outcome.end {
        End::Finished | End::Cancelled => return None,
        End::Deadlock(v) => ("deadlock".into(), tasks(v)),
        End::Livelock(v) => ("livelock".into(), tasks(v)),
        End::LostWakeup(t, l) => ("lost wakeup".into(), format!("{t} waits at {l} for what has come")),
        End::Limit => ("the run did not end".into(), format!("after {} scheduling points", outcome.points)),
        End::Panicked(t, m) => (format!("task {t} panicked"), m.clone()),
    };
    Some(Finding { rule: 28, title, text, event: None })
}

pub(super) fn of_error(e: &MmError) -> Finding {
    let text = e.to_string();
    let rule = e.rule().unwrap_or(0);
    let title = match e {
        MmError::Found(r) => r.found.clone(),
        _ => text.lines().next().unwrap_or(invariant(rule)).to_string(),
    };
    Finding { rule, title, text, event: None }
}

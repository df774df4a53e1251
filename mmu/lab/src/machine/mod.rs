//! Scenarios on the real mm: a machine for each run, its CPUs, walkers and the RCU thread as tasks of one schedule.

mod events;
mod free;
mod ops;
mod setup;

pub use free::{Free, Freed};

use crate::scenario::{Geometry, Memory, Op, Scenario, SetupKind, Verb};
use crate::target::{Finding, LabError, RunOptions, RunResult, Target};
use ops::Cpu;
use racewalk_cpu::{Cpus, TrapLevel};
use racewalk_mm::arch::{Arch, Hpt, Pae, Radix, S390x, Sparc64};
use racewalk_mm::sanitizer::{self, invariant};
use racewalk_mm::{Kernel, Measure, Mm, MmError, PmdLocks, Scheme, Variant};
use racewalk_ram::{PAGE_SIZE, Paddr, Ram, Vaddr};
use racewalk_sched::controlled::{self, End, Outcome, Policy};
use racewalk_sched::{NO_CPU, set_this_cpu, tso};
use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

/// Bytes of stack for a task: the hosted mm needs no more, and less is touched anew.
const STACK: usize = 64 << 10;

/// The mm as a target.
#[derive(Clone, Copy, Debug, Default)]
pub struct Machine;

/// Geometries that a scheme has code for.
pub fn geometries(scheme: Scheme) -> Vec<Geometry> {
    Geometry::ALL.into_iter().filter(|&g| knows(g, scheme)).collect()
}

fn knows(geometry: Geometry, scheme: Scheme) -> bool {
    match geometry {
        Geometry::S390x2k => scheme.runs_on::<S390x>(),
        Geometry::Ppc64Radix64k => scheme.runs_on::<Radix<16>>(),
        Geometry::Ppc64Radix4k => scheme.runs_on::<Radix<12>>(),
        Geometry::Sparc64 => scheme.runs_on::<Sparc64>(),
        Geometry::Ppc64Hash64k => scheme.runs_on::<Hpt<16>>(),
        Geometry::Ppc64Hash4k => scheme.runs_on::<Hpt<12>>(),
        Geometry::Pae => scheme.runs_on::<Pae>(),
    }
}

impl Target for Machine {
    fn schemes(&self) -> Vec<String> {
        Scheme::catalogue().filter(|s| s.available()).map(|s| s.name().into()).collect()
    }

    fn run(
        &self,
        scenario: &Scenario,
        scheme: &str,
        policy: &mut dyn Policy,
        options: &RunOptions,
    ) -> Result<RunResult, LabError> {
        let found = scheme.parse::<Variant>().ok().filter(|v| v.scheme.available());
        let Some(variant) = found else {
            return Err(LabError::Scheme { scheme: scheme.into(), known: self.schemes() });
        };
        let scheme = variant.scheme;
        let wanted = options.geometry.map_or_else(|| scenario.geometries.clone(), |g| vec![g]);
        let Some(&geometry) = wanted.iter().find(|&&g| knows(g, scheme)) else {
            let (scenario, scheme) = (scenario.name.clone(), scheme.name().into());
            return Err(LabError::Geometry { scenario, scheme, wanted });
        };
        match geometry {
            Geometry::S390x2k => run::<S390x>(scenario, variant, policy, options),
            Geometry::Ppc64Radix64k => run::<Radix<16>>(scenario, variant, policy, options),
            Geometry::Ppc64Radix4k => run::<Radix<12>>(scenario, variant, policy, options),
            Geometry::Ppc64Hash64k => run::<Hpt<16>>(scenario, variant, policy, options),
            Geometry::Ppc64Hash4k => run::<Hpt<12>>(scenario, variant, policy, options),
            Geometry::Sparc64 => run::<Sparc64>(scenario, variant, policy, options),
            Geometry::Pae => run::<Pae>(scenario, variant, policy, options),
        }
    }
}

thread_local! {
    /// Memories of earlier runs, zeroed.
    static MEMORIES: RefCell<Vec<Arc<Ram>>> = const { RefCell::new(Vec::new()) };
}

/// A zeroed memory of `size` bytes.
fn memory(size: u64) -> Result<Arc<Ram>, MmError> {
    let kept = MEMORIES.with_borrow_mut(|m| {
        let i = m.iter().position(|r| r.size() == size)?;
        Some(m.swap_remove(i))
    });
    match kept {
        Some(r) => Ok(r),
        None => Ok(Arc::new(Ram::new(size)?)),
    }
}

/// Keeps a memory whose first `used` bytes were used for a later run.
fn keep(ram: Arc<Ram>, used: Paddr) {
    // Somebody may still hold it: a run that panicked.
    if Arc::strong_count(&ram) == 1 && ram.fill(Paddr(0), 0, used.0).is_ok() {
        MEMORIES.with_borrow_mut(|m| m.push(ram));
    }
}

/// What all tasks of a run share.
struct Shared<A: Arch> {
    kernel: Arc<Kernel<A>>,
    mms: Vec<Arc<Mm<A>>>,
    /// CPUs and walkers that have not ended.
    left: AtomicUsize,
}

impl<A: Arch> Shared<A> {
    fn one_less(&self) {
        if self.left.fetch_sub(1, SeqCst) == 1 {
            self.kernel.rcu_kick();
        }
    }
}

/// Where segment `n` begins.
fn segment<A: Arch>(n: u32) -> Vaddr {
    Vaddr(n as u64 * A::LEVELS[A::LEVELS.len() - 2].span())
}

/// Page `page` of segment `n`.
fn page<A: Arch>(n: u32, page: u32) -> Vaddr {
    Vaddr(segment::<A>(n).0 + ((page as u64) << A::PAGE_SHIFT))
}

/// Memory that a scenario fits in: what its set-up touches, what its operations may, and tables. Few sizes, so that
/// memories are used again; small ones, since every run has new records for all of it.
fn size<A: Arch>(scenario: &Scenario) -> u64 {
    let span = |s: crate::scenario::Span| (s.1 - s.0) as u64;
    let setup = scenario.mms.iter().flat_map(|m| &m.setup);
    let touched: u64 = setup.map(|s| span(s.segments) * (1 + s.pages.map_or(0, span))).sum();
    let ops = scenario.programs.iter().flat_map(|p| &p.ops);
    let more: u64 = ops.map(|o| 2 + o.place.as_ref().and_then(|p| p.pages).map_or(0, span)).sum();
    let made = scenario.mms.iter().flat_map(|m| &m.setup).filter(|s| s.kind == SetupKind::Huge);
    let huge = made.map(|s| span(s.segments)).sum::<u64>()
        + scenario.programs.iter().flat_map(|p| &p.ops).filter(|o| o.verb == Verb::HugeMap).count() as u64;
    // One more, since they are aligned.
    let huge = if huge == 0 { 0 } else { (huge + 1) * A::LEVELS[A::LEVELS.len() - 1].entries() };
    let pages = (80 + touched + more + huge).next_power_of_two();
    (pages << A::PAGE_SHIFT).next_multiple_of(1 << 20)
}

/// A machine with a sanitizer that watches it.
fn boot<A: Arch>(
    ram: &Arc<Ram>,
    variant: Variant,
    cpus: u32,
    machine: crate::scenario::Options,
    options: &RunOptions,
) -> Result<Arc<Kernel<A>>, MmError> {
    let mut config = racewalk_mm::Config::default();
    config.scheme = variant.scheme;
    config.without = variant.without;
    if machine.pmd_locks_space {
        config.pmd_locks = PmdLocks::Space;
    }
    if machine.refill_hidden {
        config.trap_level = TrapLevel::Hidden;
    }
    config.reserved = (2 * PAGE_SIZE).max(1 << A::PAGE_SHIFT);
    config.max_mms = 8;
    config.mmap_min_addr = 0;
    config.measure = if options.counters { Measure::Points } else { Measure::Off };
    config.sanitize = Some(sanitizer::Options { log: 1 << 14, states: options.states });
    Kernel::<A>::new(ram.clone(), Cpus::new(ram.clone(), cpus), config)
}

fn run<A: Arch>(
    scenario: &Scenario,
    variant: Variant,
    policy: &mut dyn Policy,
    options: &RunOptions,
) -> Result<RunResult, LabError> {
    let setup_failed =
        |e: MmError| LabError::Setup { scenario: scenario.name.clone(), problem: e.to_string() };
    let ram = memory(size::<A>(scenario)).map_err(setup_failed)?;
    let kernel = boot::<A>(&ram, variant, scenario.cpus, scenario.machine, options).map_err(setup_failed)?;
    let mms = match setup::make(scenario, &kernel) {
        Ok(mms) => mms,
        Err(e) => {
            let found = kernel.take_findings();
            kernel.halt();
            if found.is_empty() {
                return Err(setup_failed(e));
            }
            // It is a finding of every schedule, the empty one included.
            let outcome = controlled::run(controlled::Config::default(), policy, || {});
            let findings = found.iter().map(of_error).collect();
            return Ok(RunResult {
                outcome,
                findings,
                events: Vec::new(),
                states: Vec::new(),
                counters: Vec::new(),
            });
        }
    };
    let shared = Arc::new(Shared { kernel: kernel.clone(), mms, left: AtomicUsize::new(0) });
    let mut names: Vec<String> = vec!["main".into()];
    let mut ops: Vec<Op> = Vec::new();
    // Made before the run, spawned in it: task n is the n-th of them.
    let mut tasks: Vec<(String, Box<dyn FnOnce()>)> = Vec::new();
    for p in &scenario.programs {
        let first = ops.len() as u32;
        ops.extend(p.ops.iter().cloned());
        let (shared, program, cpu) = (shared.clone(), p.ops.clone(), p.cpu);
        let name = format!("cpu {cpu}");
        tasks.push((
            name,
            Box::new(move || {
                set_this_cpu(cpu);
                Cpu::new(&shared, cpu).run(&program, first);
                tso::fence();
                shared.one_less();
            }),
        ));
    }
    for (i, w) in scenario.walkers.iter().enumerate() {
        let (shared, w) = (shared.clone(), w.clone());
        tasks.push((
            format!("walker {i} of cpu {}", w.cpu),
            Box::new(move || {
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
            }),
        ));
    }
    shared.left.store(tasks.len(), SeqCst);
    {
        let shared = shared.clone();
        tasks.push(("rcu".into(), Box::new(move || rcu(&shared))));
    }
    names.extend(tasks.iter().map(|t| t.0.clone()));
    names.extend((0..scenario.cpus).map(|cpu| format!("drain {cpu}")));
    let mut limits = controlled::Config::default();
    limits.max_points = options.max_points;
    limits.stack = STACK;
    let (buffered, k) = (scenario.memory == Memory::Tso, kernel.clone());
    let outcome = controlled::run(limits, policy, move || {
        for (name, f) in tasks {
            controlled::spawn(name, f);
        }
        if buffered {
            k.buffer_stores();
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
    let log = kernel.sanitizer().map(|s| s.events()).unwrap_or_default();
    let events = if options.events { events::tell::<A>(scenario, &log, &names, &ops) } else { Vec::new() };
    for f in &mut findings {
        f.event = events.last().map(|e| e.seq);
    }
    let mut states: Vec<u64> =
        kernel.sanitizer().map(|s| s.take_states().into_iter().collect()).unwrap_or_default();
    states.sort_unstable();
    let counters = if options.counters { kernel.cost() } else { Vec::new() };
    let used = kernel.high_water();
    kernel.halt();
    drop(shared);
    drop(kernel);
    keep(ram, used);
    Ok(RunResult { outcome, findings, events, states, counters })
}

/// The grace-period thread: drives grace periods and runs callbacks until everybody else has ended.
fn rcu<A: Arch>(shared: &Shared<A>) {
    let k = &shared.kernel;
    loop {
        let news = k.rcu_news();
        k.rcu_poll();
        if shared.left.load(SeqCst) == 0 || k.has_findings() {
            return;
        }
        k.rcu_wait(news, Duration::from_secs(1));
    }
}

/// After the race: all callbacks, the end of every process, all callbacks again; then nothing may be left.
fn teardown<A: Arch>(shared: &Shared<A>) {
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

fn of_error(e: &MmError) -> Finding {
    let text = e.to_string();
    let rule = e.rule().unwrap_or(0);
    let title = match e {
        MmError::Found(r) => r.found.clone(),
        _ => text.lines().next().unwrap_or(invariant(rule)).to_string(),
    };
    Finding { rule, title, text, event: None }
}

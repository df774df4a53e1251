//! One machine running one process: everything its tasks share, and how it starts and ends.

use crate::clock::GuestClock;
use crate::elf::{self, ElfError};
use crate::errno::Errno;
use crate::file::Files;
use crate::futex::Futexes;
use crate::host;
use crate::observe::Observed;
use crate::pagecache::PageCache;
use crate::pool::Pool;
use crate::signal::{Actions, Queue};
use crate::task::{Task, TaskShared};
use crate::timer::Timers;
use racewalk_cpu::{Cpus, signal};
use racewalk_engine::Core;
use racewalk_engine::cache::{CodeCache, Mode};
use racewalk_engine::mmu::PortMmu;
use racewalk_engine::vcpu::Vcpu;
use racewalk_isa::s390x::S390x;
use racewalk_mm::{Kernel, Measure, Mm, Variant};
use racewalk_ram::Ram;
use racewalk_sched::controlled;
use racewalk_walk::tlb::config::TlbConfig;
use rustix::fd::OwnedFd;
use rustix::fs::OFlags;
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Process id of the guest; its threads count up from there.
pub const FIRST_PID: u32 = 1000;

/// How to run a program.
#[derive(Clone, Debug)]
pub struct Options {
    /// The program.
    pub program: PathBuf,
    /// argv[0] and the arguments.
    pub args: Vec<OsString>,
    /// The environment, `NAME=value`.
    pub env: Vec<OsString>,
    /// CPUs.
    pub cpus: u32,
    /// Guest memory in bytes.
    pub memory: u64,
    /// How instructions are executed.
    pub mode: Mode,
    /// The page-table memory scheme, whole or without a step.
    pub scheme: Variant,
    /// Whether the sanitizer watches, and the test hypercall is there.
    pub sanitize: bool,
    /// Whether it is measured how long locks are held.
    pub measure: bool,
    /// Whether each CPU's speculative walker runs beside it, on a host thread of its own.
    pub speculate: bool,
    /// The TLBs and walk caches of each CPU.
    pub tlb: TlbConfig,
    /// Bytes of translated code before the cache is emptied.
    pub code_bytes: usize,
    /// What the host answers in a controlled run, taken down or played.
    pub tape: host::Taped,
    /// What the program is called, if it is not where it was.
    pub known_as: Option<PathBuf>,
    /// Who takes down what the machine does. It is watched by the sanitizer then, as with `sanitize`.
    pub observer: Observed,
}

/// Takes lines of `--strace` and warnings.
pub trait Talk: Send + Sync {
    /// A system call with its result; only called if [`wants_calls`](Talk::wants_calls).
    fn call(&self, task: u32, line: &str);
    /// Whether calls are wanted.
    fn wants_calls(&self) -> bool;
    /// Something the user should know, once.
    fn warn(&self, line: &str);
}

/// How the guest ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It exited with this status.
    Exited(u8),
    /// A signal killed it; the text says where and why.
    Killed {
        /// Signal number.
        signal: u32,
        /// One line: address, instruction, mapping.
        text: String,
    },
    /// The emulator cannot go on: something is not modelled, or a bug.
    Failed(String),
    /// An invariant of the mm was broken: [`System::findings`] tells.
    Found,
}

/// Why the guest did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The program is not one that racewalk runs.
    #[error(transparent)]
    Elf(#[from] ElfError),
    /// The machine could not be built.
    #[error("build a machine of {cpus} CPUs and {memory:#x} bytes: {reason}")]
    Machine {
        /// CPUs asked for.
        cpus: u32,
        /// Bytes asked for.
        memory: u64,
        /// What failed.
        reason: String,
    },
    /// The program does not fit the address space, or memory ran out.
    #[error("load {}: {reason}", path.display())]
    Load {
        /// Program.
        path: PathBuf,
        /// What failed.
        reason: String,
    },
}

/// How long the RCU thread sleeps when nothing is pending.
const RCU_WAIT: std::time::Duration = std::time::Duration::from_millis(5);
/// The same in virtual time, which a guest's sleep may let pass by the hour.
const RCU_WAIT_CONTROLLED: std::time::Duration = std::time::Duration::from_secs(1);

/// How long a speculative walker rests after a burst of walks.
const SPECULATION_PAUSE: std::time::Duration = std::time::Duration::from_micros(100);

const NOT_ENDING: u32 = 0;
const ENDING: u32 = 1;

/// What the tasks of a process share.
pub struct System {
    /// The processors.
    pub cpus: Arc<Cpus>,
    /// The hosted kernel's memory management.
    pub kernel: Arc<Kernel>,
    /// The address space.
    pub mm: Arc<Mm>,
    /// CPUs that no task holds.
    pub pool: Pool<S390x>,
    /// Decoded and translated code.
    pub cache: Arc<CodeCache<S390x>>,
    /// Descriptors.
    pub files: Files,
    /// Futexes.
    pub futexes: Futexes,
    /// Signal actions.
    pub actions: Actions,
    /// Signals for the process as a whole.
    pub(crate) pending: Queue,
    /// Interval and POSIX timers.
    pub(crate) timers: Timers,
    /// Where the `[vdso]` page is.
    pub(crate) vdso: u64,
    /// Where talk goes.
    pub talk: Arc<dyn Talk>,
    /// The program, for /proc/self/exe.
    pub program: PathBuf,
    /// argv, for /proc.
    pub(crate) args: Vec<OsString>,
    /// The environment it was started with, for /proc.
    pub(crate) env: Vec<OsString>,
    /// The auxiliary vector, for /proc.
    pub(crate) auxv: std::sync::OnceLock<Vec<u8>>,
    /// The first stack pointer.
    pub(crate) stack_top: AtomicU64,
    /// The name that `prctl` changes.
    pub(crate) comm: Mutex<Vec<u8>>,
    /// Soft and hard resource limits.
    pub(crate) limits: Mutex<[(u64, u64); 16]>,
    /// What changes of pipes and their like are announced through.
    pub(crate) changes: Arc<crate::object::Changes>,
    /// Mapped files.
    pub(crate) page_cache: PageCache,
    cwd: Mutex<Arc<OwnedFd>>,
    /// File-mode creation mask.
    pub umask: AtomicU32,
    /// State of the guest's random numbers: the same in every run.
    pub random: Mutex<racewalk_sched::controlled::Rng>,
    /// When it started.
    pub started: std::time::Instant,
    /// Instructions of tasks that gave their CPU back.
    pub instructions: AtomicU64,
    tasks: Mutex<Vec<Arc<TaskShared>>>,
    next_tid: AtomicU32,
    live: AtomicU32,
    speculates: bool,
    /// The test hypercall is there.
    pub(crate) sanitizes: bool,
    /// What the host answers in a controlled run.
    tape: host::Taped,
    /// Who takes down what happens.
    pub(crate) observer: Observed,
    exit_status: AtomicU32,
    ending: AtomicU32,
    end: Mutex<Option<Ending>>,
    warned: Mutex<std::collections::HashSet<String>>,
}

impl System {
    /// Builds the machine and loads the program. Returns the system with its first task.
    pub fn start(o: &Options, talk: Arc<dyn Talk>) -> Result<(Arc<System>, Task), StartError> {
        let _playing = host::Playing::new(&o.tape);
        let exe = elf::open(&o.program)?;
        let machine = |reason: String| StartError::Machine { cpus: o.cpus, memory: o.memory, reason };
        let ram = Arc::new(Ram::new(o.memory).map_err(|e| machine(e.to_string()))?);
        let cpus = Cpus::with_tlbs(ram.clone(), o.cpus, &o.tlb);
        let mut config = racewalk_mm::Config::default();
        config.scheme = o.scheme.scheme;
        config.without = o.scheme.without;
        config.measure = if o.measure { Measure::Nanoseconds } else { Measure::Off };
        config.sanitize = (o.sanitize || o.observer.is_some()).then(Default::default);
        config.stack_limit = crate::syscall::STACK_LIMIT;
        let kernel = Kernel::new(ram, cpus.clone(), config).map_err(|e| machine(e.to_string()))?;
        let mut runs: Vec<_> = (0..o.cpus).map(|n| o.observer.0.as_ref().and_then(|w| w.runs(n))).collect();
        let cache = match runs.iter().all(Option::is_some) {
            true => CodeCache::<S390x>::recording(cpus.clone(), o.mode, o.code_bytes),
            false => CodeCache::<S390x>::new(cpus.clone(), o.mode, o.code_bytes),
        };
        let cache = cache.map_err(|e| machine(e.to_string()))?;
        if let Some(w) = &o.observer.0 {
            cpus.trace_to(w.sink());
            if let Some(s) = kernel.sanitizer() {
                s.watch(w.watcher())
            }
        }
        let clock = Arc::new(GuestClock);
        let mut vcpu = |n: u32| {
            let mmu = PortMmu::new(cpus.clone(), n, clock.clone());
            let mut core = Core::new(Box::new(mmu), cpus.signal_word(n));
            if let Some(w) = &o.observer.0 {
                core.tell_position(w.position(n))
            }
            if let Some(sink) = runs[n as usize].take() {
                core.record_runs(sink)
            }
            Vcpu::new(core, cache.clone())
        };
        // To compare the engines, each block runs twice: nobody may see the first time.
        let limit = if o.mode == Mode::Check { 1 } else { o.cpus };
        let pool = Pool::new((0..o.cpus).map(&mut vcpu).collect(), limit);
        let cwd = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let cwd = host::ask("open", "the working directory", || {
            rustix::fs::open(".", cwd, rustix::fs::Mode::empty())
        })
        .map_err(|e| machine(format!("open the working directory: {e}")))?;
        let name = o.known_as.as_ref().unwrap_or(&o.program).file_name().unwrap_or_default().as_bytes();
        let comm = name[..name.len().min(15)].to_vec();
        let mm = kernel.mm_create().map_err(|e| machine(e.to_string()))?;
        let sys = Arc::new(System {
            cpus,
            kernel,
            mm,
            pool,
            cache,
            files: Files::standard(1024),
            futexes: Futexes::default(),
            actions: Actions::default(),
            pending: Queue::default(),
            timers: Timers::default(),
            vdso: crate::load::VDSO,
            talk,
            program: match &o.known_as {
                Some(p) => p.clone(),
                None => std::fs::canonicalize(&o.program).unwrap_or_else(|_| o.program.clone()),
            },
            args: o.args.clone(),
            env: o.env.clone(),
            auxv: std::sync::OnceLock::new(),
            stack_top: AtomicU64::new(0),
            comm: Mutex::new(comm),
            limits: Mutex::new(crate::syscall::first_limits()),
            changes: Arc::default(),
            page_cache: PageCache::default(),
            cwd: Mutex::new(Arc::new(cwd)),
            umask: AtomicU32::new(host::ask_simply("umask", "", || {
                rustix::process::umask(rustix::fs::Mode::empty()).bits()
            })),
            random: Mutex::new(racewalk_sched::controlled::Rng(0x7261_6365_7761_6c6b)),
            started: std::time::Instant::now(),
            instructions: AtomicU64::new(0),
            tasks: Mutex::new(Vec::new()),
            next_tid: AtomicU32::new(FIRST_PID),
            live: AtomicU32::new(0),
            speculates: o.speculate,
            sanitizes: o.sanitize,
            observer: o.observer.clone(),
            tape: o.tape.clone(),
            exit_status: AtomicU32::new(0),
            ending: AtomicU32::new(NOT_ENDING),
            end: Mutex::new(None),
            warned: Mutex::default(),
        });
        let mut task = Task::first(sys.clone());
        task.load(&exe, &o.args, &o.env)
            .map_err(|reason| StartError::Load { path: o.program.clone(), reason })?;
        Ok((sys, task))
    }

    /// Runs the first task, and whatever it clones, on host threads; returns how the process ended.
    pub fn run_free(self: &Arc<Self>, first: Task) -> Ending {
        self.spawn(first);
        // Ends grace periods and runs callbacks; it needs no CPU, for it touches no user memory.
        let done = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let rcu = {
            let (sys, kernel, done) = (self.clone(), self.kernel.clone(), done.clone());
            std::thread::Builder::new().name("rcu".into()).spawn(move || {
                while !done.load(Ordering::SeqCst) {
                    let news = kernel.rcu_news();
                    kernel.rcu_poll();
                    kernel.rcu_wait(news, RCU_WAIT);
                    if kernel.has_findings() {
                        sys.finish(Ending::Found);
                    }
                }
            })
        };
        let walkers = self.speculate(&done);
        let key = std::ptr::from_ref(&self.live) as usize;
        racewalk_sched::wait_while(key, "process.wait", || self.live.load(Ordering::SeqCst) != 0);
        // The last task may have ended the process without saying so.
        self.ending.store(ENDING, Ordering::SeqCst);
        self.timers.look();
        self.sync_files();
        done.store(true, Ordering::SeqCst);
        for w in walkers {
            let _ = w.join();
        }
        if !rcu.is_ok_and(|t| t.join().is_ok()) {
            self.end().get_or_insert(Ending::Failed("the RCU thread failed".into()));
        }
        self.end().clone().unwrap_or(Ending::Exited(self.exit_status.load(Ordering::SeqCst) as u8))
    }

    /// Runs the same in one controlled schedule: every task of the guest, the RCU thread and the speculative walkers
    /// are coroutines on this host thread, and `policy` decides who goes on at each scheduling point. Time is virtual.
    /// What comes from outside (host files) is not part of the schedule.
    pub fn run_controlled(
        self: &Arc<Self>,
        first: Task,
        config: controlled::Config,
        policy: &mut dyn controlled::Policy,
    ) -> (Ending, controlled::Outcome) {
        let _playing = host::Playing::new(&self.tape);
        let sys = self.clone();
        let outcome = controlled::run(config, policy, move || {
            sys.spawn(first);
            let s = sys.clone();
            controlled::spawn("rcu", move || {
                while s.live() != 0 {
                    let news = s.kernel.rcu_news();
                    s.kernel.rcu_poll();
                    s.kernel.rcu_wait(news, RCU_WAIT_CONTROLLED);
                    if s.kernel.has_findings() {
                        s.finish(Ending::Found);
                    }
                }
            });
            for cpu in (0..sys.cpus.count()).filter(|_| sys.speculates) {
                let s = sys.clone();
                let mut w = racewalk_cpu::SpeculativeWalker::new(cpu, 1);
                controlled::spawn_background(format!("walker {cpu}"), move || {
                    while s.live() != 0 && w.step(&s.cpus).is_ok() {
                        racewalk_sched::point("walker.rest");
                    }
                });
            }
        });
        if outcome.end == controlled::End::Finished {
            self.sync_files();
        }
        let ended = self.end().clone();
        let ending = match (&outcome.end, ended) {
            (controlled::End::Finished, e) => {
                e.unwrap_or(Ending::Exited(self.exit_status.load(Ordering::SeqCst) as u8))
            }
            (end, _) => Ending::Failed(format!("the controlled run ended early: {end:?}")),
        };
        (ending, outcome)
    }

    /// Starts the speculative walkers, if they are wanted.
    fn speculate(&self, done: &Arc<std::sync::atomic::AtomicBool>) -> Vec<std::thread::JoinHandle<()>> {
        let walker = |cpu| {
            let (cpus, done) = (self.cpus.clone(), done.clone());
            let mut w = racewalk_cpu::SpeculativeWalker::new(cpu, 1);
            std::thread::Builder::new()
                .name(format!("walker {cpu}"))
                .spawn(move || {
                    while !done.load(Ordering::SeqCst) {
                        for _ in 0..64 {
                            let _ = w.step(&cpus);
                        }
                        std::thread::sleep(SPECULATION_PAUSE);
                    }
                })
                .ok()
        };
        let cpus = if self.speculates { self.cpus.count() } else { 0 };
        (0..cpus).filter_map(walker).collect()
    }

    /// When every task has ended: gives the observer what the CPUs have not given it yet.
    pub fn flush_runs(&self) {
        self.pool.each_idle(|_, v| v.core.flush_runs())
    }

    /// Instructions of each CPU, when every task has ended.
    pub fn instructions_by_cpu(&self) -> Vec<u64> {
        let mut all = vec![0; self.cpus.count() as usize];
        self.pool.each_idle(|n, v| all[n as usize] = v.instructions);
        all
    }

    /// What the process exits with if no task calls exit_group: the status of the last task.
    pub fn set_exit_status(&self, status: u8) {
        self.exit_status.store(status as u32, Ordering::SeqCst);
    }

    /// Starts a task: a host thread in free mode, a coroutine in a controlled run.
    pub fn spawn(self: &Arc<Self>, task: Task) {
        self.live.fetch_add(1, Ordering::SeqCst);
        let sys = self.clone();
        let name = format!("guest {}", task.shared.tid);
        if racewalk_sched::controlled::active() {
            racewalk_sched::controlled::spawn(name, move || sys.run_task(task));
            return;
        }
        let spawned = std::thread::Builder::new().name(name).spawn(move || sys.run_task(task));
        if let Err(e) = spawned {
            self.finish(Ending::Failed(format!("the host gives no thread: {e}")));
            self.retire();
        }
    }

    fn run_task(self: Arc<Self>, task: Task) {
        let shared = task.shared.clone();
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| task.run()));
        let cancelled = match result {
            Ok(()) => None,
            Err(p) if p.is::<racewalk_sched::Cancelled>() => Some(p),
            Err(p) => {
                let what = p
                    .downcast_ref::<&str>()
                    .map(|s| s.to_string())
                    .or_else(|| p.downcast_ref::<String>().cloned())
                    .unwrap_or_default();
                self.finish(Ending::Failed(format!("task {} panicked: {what}", shared.tid)));
                None
            }
        };
        self.tasks().retain(|t| !Arc::ptr_eq(t, &shared));
        self.retire();
        if let Some(p) = cancelled {
            std::panic::resume_unwind(p);
        }
    }

    fn retire(&self) {
        if self.live.fetch_sub(1, Ordering::SeqCst) == 1 {
            racewalk_sched::wake(std::ptr::from_ref(&self.live) as usize);
        }
    }

    pub(crate) fn tasks(&self) -> MutexGuard<'_, Vec<Arc<TaskShared>>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end(&self) -> MutexGuard<'_, Option<Ending>> {
        self.end.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A task id, and its entry in the list of tasks.
    pub fn register(&self) -> Arc<TaskShared> {
        let t = Arc::new(TaskShared::new(self.next_tid.fetch_add(1, Ordering::SeqCst)));
        self.tasks().push(t.clone());
        t
    }

    /// The task with this id.
    pub fn task(&self, tid: u32) -> Option<Arc<TaskShared>> {
        self.tasks().iter().find(|t| t.tid == tid).cloned()
    }

    /// Tasks that have not ended.
    pub fn live(&self) -> u32 {
        self.live.load(Ordering::SeqCst)
    }

    /// Ends the process: the first ending counts. Every task is called out of guest code and out of its sleep.
    pub fn finish(&self, ending: Ending) {
        tracing::info!(?ending, "the process ends");
        self.end().get_or_insert(ending);
        self.ending.store(ENDING, Ordering::SeqCst);
        for c in 0..self.cpus.count() {
            self.cpus.kick(c, signal::SIGNAL);
        }
        let tasks: Vec<_> = self.tasks().clone();
        for t in tasks {
            t.wake();
        }
        self.timers.look();
    }

    /// Calls tasks out of the host's polls, to find that the run is to end ([`host::Tape::ends`]). From any thread.
    pub fn look_around(&self) {
        self.tasks().iter().for_each(|t| t.ring())
    }

    /// Whether the process is ending.
    pub fn ending(&self) -> bool {
        self.ending.load(Ordering::SeqCst) != NOT_ENDING
    }

    /// Warns once of each thing.
    pub fn warn_once(&self, text: String) {
        let mut w = self.warned.lock().unwrap_or_else(PoisonError::into_inner);
        if !w.contains(&text) {
            self.talk.warn(&text);
            w.insert(text);
        }
    }

    /// Fills `out` from the guest's random numbers.
    pub fn fill_random(&self, out: &mut [u8]) {
        let mut r = self.random.lock().unwrap_or_else(PoisonError::into_inner);
        for c in out.chunks_mut(8) {
            let v = r.next_u64().to_le_bytes();
            c.copy_from_slice(&v[..c.len()]);
        }
    }

    /// The working directory.
    pub(crate) fn cwd(&self) -> Arc<OwnedFd> {
        self.cwd.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Changes the working directory.
    pub(crate) fn set_cwd(&self, fd: OwnedFd) {
        *self.cwd.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(fd);
    }

    /// Thread ids of all tasks.
    pub fn tids(&self) -> Vec<u32> {
        self.tasks().iter().map(|t| t.tid).collect()
    }

    /// Warns that something is not modelled and what it answers, once of each thing.
    pub(crate) fn not_modelled<T>(&self, what: impl std::fmt::Display, e: Errno) -> Result<T, Errno> {
        self.warn_once(format!("not modelled: {what}: {}", e.name()));
        Err(e)
    }
}

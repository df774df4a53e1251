//! `racewalk trace -o FILE`: a recording of a run.

use crate::cli::{Trace, WhenFull};
use crate::exit;
use crate::run;
use crate::talk::{Calls, Output};
use crate::tape::{Tape, Until};
use anyhow::Context;
use racewalk_cpu::Sink;
use racewalk_engine::cache::Mode;
use racewalk_engine::runs::{Position, RunSink};
use racewalk_linux::host::Taped;
use racewalk_linux::observe::{Note, Observed, Observer};
use racewalk_linux::system::{Ending, Options, System, Talk};
use racewalk_mm::sanitizer::Watcher;
use racewalk_ram::{Paddr, Ram};
use racewalk_sched::NO_CPU;
use racewalk_sched::controlled::{self, Outcome, Turns};
use racewalk_trace::event::{Event, Hex};
use racewalk_trace::meta::{CpuCounts, EndNote, GuestMeta, MachineMeta, Meta, Replayable};
use racewalk_trace::recorder::{self, Recorder};
use racewalk_trace::{FileOutput, Writer};
use std::io::IsTerminal;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Gives a recorder what a system says.
struct Taking(Arc<Recorder>);

impl Observer for Taking {
    fn position(&self, cpu: u32) -> Arc<Position> {
        self.0.position(cpu)
    }
    fn runs(&self, cpu: u32) -> Option<Box<dyn RunSink>> {
        self.0.wants_runs().then(|| self.0.runs(cpu))
    }
    fn sink(&self) -> Arc<dyn Sink> {
        self.0.clone()
    }
    fn watcher(&self) -> Arc<dyn Watcher> {
        self.0.clone()
    }
    fn note(&self, cpu: u32, note: Note) {
        let event = match note {
            Note::Mark(value) => Event::Mark { value },
            Note::Task(tid) => Event::Task { tid: tid as u64 },
            Note::Call { tid, number, result } => {
                Event::Call { tid: tid as u64, number, result: Hex(result) }
            }
        };
        self.0.event(cpu, event)
    }
}

/// A recorder as an observer.
pub fn observer(r: &Arc<Recorder>) -> Observed {
    Observed(Some(Arc::new(Taking(r.clone()))))
}

/// What is recorded, and the program's bytes.
pub fn meta(t: &Trace, o: &Options) -> anyhow::Result<(Meta, Vec<u8>)> {
    let image = std::fs::read(&o.program).with_context(|| format!("read {}", o.program.display()))?;
    let m = &t.machine;
    let meta = Meta {
        racewalk: env!("CARGO_PKG_VERSION").into(),
        machine: MachineMeta {
            arch: "s390x".into(),
            cpus: o.cpus,
            memory: o.memory,
            scheme: o.scheme.to_string(),
            tlb: m.tlb.0.clone(),
            engine: engine(o.mode).into(),
            speculate: o.speculate,
            sanitize: o.sanitize,
        },
        guest: Some(GuestMeta {
            path: std::fs::canonicalize(&o.program).unwrap_or_else(|_| o.program.clone()),
            args: o.args.clone(),
            env: o.env.clone(),
            size: image.len() as u64,
            blake3: blake3::hash(&image).to_hex().to_string(),
            embedded: t.embed,
        }),
        selection: t.selection(),
        replayable: t.replayable.then_some(Replayable { seed: t.seed }),
        finding: None,
    };
    Ok((meta, image))
}

/// An engine's name on the command line.
pub fn engine(m: Mode) -> &'static str {
    match m {
        Mode::Auto => "auto",
        Mode::Interp => "interp",
        Mode::Jit => "jit",
        Mode::Check => "check",
    }
}

/// What the run's own counters say at its end.
pub fn counts(sys: &System) -> Vec<CpuCounts> {
    let by_cpu = sys.instructions_by_cpu();
    let one = |(n, instructions): (usize, u64)| {
        let s = sys.cpus.stats(n as u32);
        CpuCounts {
            instructions,
            lookups: s.lookups.get(),
            hits: s.hits.get(),
            walks: s.walks.get(),
            steps: s.steps.get(),
            fills: s.fills.get(),
            purges: s.purges_sent.get(),
        }
    };
    by_cpu.into_iter().enumerate().map(one).collect()
}

/// How a run ended, in words.
pub fn ended(e: &Ending) -> String {
    match e {
        Ending::Exited(s) => format!("exited with status {s}"),
        Ending::Killed { signal, text } => format!("killed by signal {signal}: {text}"),
        Ending::Failed(text) => format!("the emulator failed: {text}"),
        Ending::Found => "an invariant was broken".into(),
    }
}

/// Says nothing of a guest's calls.
pub struct Quiet;

impl Talk for Quiet {
    fn call(&self, _: u32, _: &str) {}
    fn wants_calls(&self) -> bool {
        false
    }
    fn warn(&self, line: &str) {
        eprintln!("racewalk: warning: {line}")
    }
}

/// Limits of a run whose CPUs take turns.
pub fn limits() -> controlled::Config {
    let mut config = controlled::Config::default();
    config.max_points = u64::MAX;
    config.stack = 1 << 20;
    config
}

/// Bytes of the schedule in one event.
const PART: usize = 32 << 10;

/// Puts the schedule of a run behind its events.
pub fn schedule(r: &Recorder, outcome: &Outcome) {
    let text = outcome.schedule.to_string();
    for part in text.as_bytes().chunks(PART) {
        r.event(NO_CPU, Event::Schedule { text: String::from_utf8_lossy(part).into() })
    }
}

/// BLAKE3 of the memory that was used, in hexadecimal.
pub fn memory(sys: &System) -> String {
    memory_of(sys.cpus.ram(), sys.kernel.high_water())
}

/// BLAKE3 of memory up to where it was used, in hexadecimal.
pub fn memory_of(ram: &Ram, end: Paddr) -> String {
    let mut hash = blake3::Hasher::new();
    let mut page = [0; 4096];
    let mut at = Paddr(0);
    while at.0 < end.0 && ram.read(at, &mut page).is_ok() {
        hash.update(&page);
        at = at.offset(4096)
    }
    hash.finalize().to_hex().to_string()
}

/// Runs a program and records it; returns racewalk's exit status.
pub fn record(t: &Trace, path: &Path) -> anyhow::Result<u8> {
    if t.machine.engine == Mode::Check {
        anyhow::bail!(
            "record with --engine check: it runs everything twice, which a recording has no place for; use auto, jit or interp"
        )
    }
    if t.replayable && t.when_full == WhenFull::Drop {
        eprintln!("error: a replayable recording drops nothing\nhint: leave --when-full away");
        return Ok(exit::USAGE);
    }
    let output = Arc::new(Output::open(None)?);
    let talk = Arc::new(Calls { output: output.clone(), strace: t.machine.strace });
    let mut o = run::options(&t.machine, &t.program);
    let (meta, image) = match meta(t, &o) {
        Ok(x) => x,
        // Starting it says what is wrong with it.
        Err(e) => match System::start(&o, talk) {
            Err(e) => return run::refuse(e),
            Ok(_) => return Err(e),
        },
    };
    let written = Arc::new(AtomicU64::new(0));
    let writer = Writer::create(path, &meta, t.embed.then_some(&image[..]))
        .context(format!("record to {}", path.display()))?
        .telling(written.clone());
    let when_full = match t.when_full {
        WhenFull::Wait => recorder::WhenFull::Wait,
        WhenFull::Drop => recorder::WhenFull::Drop,
    };
    let file = FileOutput::new(writer);
    let (recorder, drain) =
        Recorder::start(o.cpus, meta.selection.clone(), when_full, !t.replayable, None, file)
            .context("start the recording thread")?;
    o.observer = observer(&recorder);
    let stop = Arc::<AtomicBool>::default();
    if t.replayable {
        o.tape = Taped(Some(Tape::recording(recorder.clone(), stop.clone())));
    }
    let (sys, first) = match System::start(&o, talk) {
        Ok(x) => x,
        Err(e) => {
            recorder.finish();
            let _ = drain.wait();
            let _ = std::fs::remove_file(path);
            return run::refuse(e);
        }
    };
    let (halt, free, turns) = (stop.clone(), sys.clone(), t.replayable);
    let interrupted = run::on_interrupt(move || match turns {
        true => halt.store(true, Ordering::SeqCst),
        false => free.finish(run::interrupted()),
    })?;
    let progress = Progress::start(path, written);
    let ending = if t.replayable {
        let mut policy =
            Until::new(Box::new(Turns::new(t.seed)), None, Arc::default(), stop.clone(), recorder.clone());
        let (ending, outcome) = sys.run_controlled(first, limits(), &mut policy);
        let finished = outcome.end == controlled::End::Finished;
        if finished {
            schedule(&recorder, &outcome)
        }
        if interrupted.load(Ordering::SeqCst) && !finished { run::interrupted() } else { ending }
    } else {
        sys.run_free(first)
    };
    progress.stop();
    sys.flush_runs();
    let (lost_runs, lost_events) = recorder.lost();
    recorder.finish();
    let stopped = interrupted.load(Ordering::SeqCst);
    let end = EndNote {
        how: ended(&ending),
        status: run::code(&ending),
        cpus: counts(&sys),
        memory: (t.replayable && !stopped).then(|| memory(&sys)),
        interrupted: stopped,
        lost_runs,
        lost_events,
    };
    if let Some(format) = t.machine.stats {
        output.put(&run::stats(&sys, format));
    }
    let done = drain.wait().and_then(|out| out.finish(&end));
    match done {
        Ok(bytes) => {
            eprintln!(
                "racewalk: {}{} has {}; `racewalk trace show {1}` prints it",
                if stopped { "interrupted; " } else { "" },
                path.display(),
                size(bytes)
            );
            if lost_runs + lost_events > 0 {
                eprintln!(
                    "racewalk: warning: {lost_runs} runs of accesses and {lost_events} events were dropped; --when-full wait loses none"
                )
            }
        }
        // The guest's own result stands.
        Err(e) => eprintln!(
            "racewalk: warning: the recording is not complete: {e}; `racewalk trace check {}` says what there is",
            path.display()
        ),
    }
    run::conclude(&sys, &ending, t.machine.report.as_deref())
}

/// Bytes for people.
pub fn size(n: u64) -> String {
    match n {
        n if n < 10_000 => format!("{n} bytes"),
        n if n < 10_000_000 => format!("{:.1} KiB", n as f64 / 1024.0),
        n => format!("{:.1} MiB", n as f64 / 1048576.0),
    }
}

/// A line on the terminal, while a recording is made.
struct Progress {
    done: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Progress {
    fn start(path: &Path, written: Arc<AtomicU64>) -> Progress {
        let done = Arc::new(AtomicBool::new(false));
        if !std::io::stderr().is_terminal() {
            return Progress { done, thread: None };
        }
        let (over, began, name) = (done.clone(), Instant::now(), path.display().to_string());
        let thread = std::thread::spawn(move || {
            while !over.load(Ordering::SeqCst) {
                std::thread::park_timeout(Duration::from_millis(500));
                let bytes = size(written.load(Ordering::Relaxed));
                eprint!("\r\x1b[Krecording {name}: {:.0} s, {bytes} ", began.elapsed().as_secs_f64())
            }
            eprint!("\r\x1b[K")
        });
        Progress { done, thread: Some(thread) }
    }

    fn stop(mut self) {
        self.done.store(true, Ordering::SeqCst);
        if let Some(t) = self.thread.take() {
            t.thread().unpark();
            let _ = t.join();
        }
    }
}

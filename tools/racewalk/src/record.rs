//! `racewalk trace -o FILE`: a recording of a run.

use crate::cli::{Trace, WhenFull};
use crate::run;
use crate::talk::{Calls, Output};
use anyhow::Context;
use racewalk_cpu::Sink;
use racewalk_engine::cache::Mode;
use racewalk_engine::runs::{Position, RunSink};
use racewalk_linux::observe::{Note, Observed, Observer};
use racewalk_linux::system::{Ending, Options, System};
use racewalk_mm::sanitizer::Watcher;
use racewalk_trace::event::{Event, Hex};
use racewalk_trace::meta::{CpuCounts, EndNote, GuestMeta, MachineMeta, Meta};
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
    fn runs(&self, cpu: u32) -> Option<(Box<dyn RunSink>, Arc<Position>)> {
        self.0.wants_runs().then(|| (self.0.runs(cpu), self.0.position(cpu)))
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
        guest: GuestMeta {
            path: std::fs::canonicalize(&o.program).unwrap_or_else(|_| o.program.clone()),
            args: o.args.clone(),
            env: o.env.clone(),
            size: image.len() as u64,
            blake3: blake3::hash(&image).to_hex().to_string(),
            embedded: t.embed,
        },
        selection: t.selection(),
        replayable: None,
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

/// Runs a program and records it; returns racewalk's exit status.
pub fn record(t: &Trace, path: &Path) -> anyhow::Result<u8> {
    if t.machine.engine == Mode::Check {
        anyhow::bail!(
            "record with --engine check: it runs everything twice, which a recording has no place for; use auto, jit or interp"
        )
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
    let (recorder, drain) =
        Recorder::start(o.cpus, meta.selection.clone(), when_full, true, FileOutput::new(writer))
            .context("start the recording thread")?;
    o.observer = observer(&recorder);
    let (sys, first) = match System::start(&o, talk) {
        Ok(x) => x,
        Err(e) => {
            recorder.finish();
            let _ = drain.wait();
            let _ = std::fs::remove_file(path);
            return run::refuse(e);
        }
    };
    let interrupted = run::stop_on_interrupt(&sys)?;
    let progress = Progress::start(path, written);
    let ending = sys.run_free(first);
    progress.stop();
    sys.flush_runs();
    let (lost_runs, lost_events) = recorder.lost();
    recorder.finish();
    let end = EndNote {
        how: ended(&ending),
        status: run::code(&ending),
        cpus: counts(&sys),
        memory: None,
        lost_runs,
        lost_events,
    };
    if let Some(format) = t.machine.stats {
        output.put(&run::stats(&sys, format));
    }
    let done = drain.wait().and_then(|out| out.finish(&end));
    match done {
        Ok(bytes) => {
            let stopped = if interrupted.load(Ordering::SeqCst) { "interrupted; " } else { "" };
            eprintln!(
                "racewalk: {stopped}{} has {}; `racewalk trace show {0}` prints it",
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

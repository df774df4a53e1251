//! What a recording says of a run, for the run that is recorded and for the one that repeats it.

use racewalk_cpu::Sink;
use racewalk_engine::cache::Mode;
use racewalk_engine::runs::{Position, RunSink};
use racewalk_linux::observe::{Note, Observed, Observer};
use racewalk_linux::system::{Ending, System, Talk};
use racewalk_mm::sanitizer::Watcher;
use racewalk_ram::{Paddr, Ram};
use racewalk_sched::NO_CPU;
use racewalk_sched::controlled::{self, Outcome};
use racewalk_trace::event::{Event, Hex};
use racewalk_trace::meta::CpuCounts;
use racewalk_trace::recorder::Recorder;
use std::sync::Arc;

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
    // A guest may do what it likes for as long as it likes: one call that reads megabytes goes round and round, too.
    config.livelock = 0;
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

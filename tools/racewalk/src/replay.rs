//! `racewalk replay`: a recording run again, and held against what was recorded.

use crate::cli::Replay;
use crate::exit::{self, unopened, usage};
use crate::recorded::{self, Quiet, observer};
use crate::run;
use crate::signals;
use crate::tape::{Tape, Until};
use anyhow::Context;
use racewalk_engine::cache::Mode;
use racewalk_linux::host::Taped;
use racewalk_linux::system::{Options, System};
use racewalk_sched::controlled::{Policy, Random, Replay as Again, Turns};
use racewalk_sched::schedule::Schedule;
use racewalk_trace::answers::Answers;
use racewalk_trace::compare::{Compare, Limit};
use racewalk_trace::event::Event;
use racewalk_trace::meta::{GuestMeta, REVISION};
use racewalk_trace::recorder::{Recorder, WhenFull};
use racewalk_trace::{Record, Recording, stream};
use racewalk_walk::tlb::config::{Kind, TlbConfig};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// As many as `--cpus` gives at most.
const MOST_CPUS: u32 = 64;

/// Repeats what the file has.
pub fn replay(args: &Replay) -> anyhow::Result<u8> {
    let mut head = [0; 4];
    let read = std::fs::File::open(&args.file).and_then(|mut f| std::io::Read::read(&mut f, &mut head));
    if read.map_err(unopened("read", &args.file)).context("replay")? == 4 && head == *b"\x89RWT" {
        return recording(args);
    }
    if args.engine.is_some() || args.until.is_some() {
        eprintln!(
            "error: {} is no recording; --engine, --until and --then are for recordings",
            args.file.display()
        );
        return Ok(exit::USAGE);
    }
    crate::race::replay(args)
}

fn recording(args: &Replay) -> anyhow::Result<u8> {
    let what = || format!("replay {}", args.file.display());
    let mut r = Recording::open(&args.file).with_context(what)?;
    r.verify();
    if r.meta.finding.is_some() {
        return crate::finding::replay(args, r);
    }
    let r = Arc::new(r);
    let (Some(replayable), Some(guest)) = (r.meta.replayable.clone(), &r.meta.guest) else {
        eprintln!(
            "error: {} is a recording of a free run, whose CPUs did not take turns\nhint: `racewalk trace --replayable -o FILE PROGRAM` makes one that can be repeated",
            args.file.display()
        );
        return Ok(exit::FAILURE);
    };
    if args.engine == Some(Mode::Check) {
        return Err(usage(
            "replay with --engine check, which runs everything twice; use auto, interp or jit",
        ));
    }
    for d in &r.damage {
        eprintln!("racewalk: warning: {d}")
    }
    let image = Image::of(&r, guest).with_context(what)?;
    let mut o = options(&r, guest, args.engine, &image.path).with_context(what)?;
    let interrupted = r.end.as_ref().filter(|e| e.interrupted);
    // Where a run was cut short: recordings of before do not say.
    let asked = interrupted.and_then(|e| e.asked).filter(|_| args.then.is_none());
    let limit = match (args.until, &r.end) {
        (Some(n), _) => Limit::Event(n),
        (None, Some(_)) if interrupted.is_none() || asked.is_some() => match r.damage[..] {
            [] => Limit::Whole,
            _ => Limit::Readable,
        },
        (None, _) => Limit::Prefix,
    };
    // How far it is a recording of the run.
    let extent = match (r.damage.first(), &r.end) {
        (Some(d), _) => Some(format!("the damage at {:#x}", d.at)),
        (None, None) => Some("where the recording ends".into()),
        (None, Some(_)) => interrupted.map(|_| "where it was interrupted".into()),
    };
    let (stop, past) = (Arc::<AtomicBool>::default(), Arc::<AtomicBool>::default());
    let until = args.until.map(|n| (n, past.clone()));
    let compare = Compare::new(r.clone(), limit, stop.clone());
    let selection = r.meta.selection.clone();
    let (recorder, drain) = Recorder::start(o.cpus, selection, WhenFull::Wait, false, until, compare)
        .context("start the comparing thread")?;
    let tape = Tape::playing(
        recorder.clone(),
        Answers::new(r.clone()),
        stop.clone(),
        args.then.map(|_| past.clone()),
    );
    o.tape = Taped(Some(tape.clone()));
    o.observer = observer(&recorder);
    let (sys, first) = match System::start(&o, Arc::new(Quiet)) {
        Ok(x) => x,
        Err(e) => {
            return match (tape.unanswered(), extent) {
                (Some(u), Some(extent)) if u.ends => {
                    eprintln!(
                        "racewalk: as recorded up to {extent}, where the program is not loaded yet: {}",
                        u.said
                    );
                    Ok(0)
                }
                (Some(u), _) => {
                    eprintln!("error: the run is not the recorded one: {}", u.said);
                    Ok(exit::DIVERGED)
                }
                (None, _) => run::refuse(e),
            };
        }
    };
    let halt = stop.clone();
    let now_interrupted = signals::on_interrupt(move || halt.store(true, Ordering::SeqCst))?;
    let turns = Turns::new(replayable.seed);
    let first_policy: Box<dyn Policy> = match schedule(&r).filter(|_| extent.is_none()) {
        Some(s) => Box::new(Again::new(s, turns)),
        None => Box::new(turns),
    };
    let second = args.then.map(|seed| Box::new(Random::new(seed)) as Box<dyn Policy>);
    let mut policy =
        Until::new(first_policy, second, past.clone(), stop.clone(), recorder.clone()).asked_until(asked);
    let (ending, outcome) = sys.run_controlled(first, recorded::limits(), &mut policy);
    sys.flush_runs();
    let finished = outcome.end == racewalk_sched::controlled::End::Finished;
    if finished {
        recorded::schedule(&recorder, &outcome)
    }
    recorder.finish();
    let compare = drain.wait().with_context(what)?;
    if now_interrupted.load(Ordering::SeqCst) {
        return Ok(run::status(&signals::interrupted()));
    }
    let (events, same) = (recorder.events(), compare.same());
    let differs = |text: String| {
        eprintln!("error: the run is not the recorded one: {text}");
        if replayable.revision != REVISION {
            eprintln!(
                "hint: it was recorded under revision {} of turns and virtual time, this is revision {REVISION}; the racewalk that recorded it ({}) repeats it",
                replayable.revision, r.meta.racewalk
            )
        }
        Ok(exit::DIVERGED)
    };
    // What the tape says explains best what came of it.
    if let Some(d) = compare.verdict() {
        let why = tape.unanswered().map_or(String::new(), |u| format!("\n{}", u.said));
        return differs(format!("{d}{why}"));
    }
    if args.until.is_some() && past.load(Ordering::SeqCst) {
        if args.then.is_none() {
            eprintln!("racewalk: as recorded up to event #{}", args.until.unwrap_or(0));
            return Ok(0);
        }
        if let Some(u) = tape.unanswered() {
            eprintln!("racewalk: the run left the recording: {}", u.said);
            return Ok(exit::DIVERGED);
        }
        return run::conclude(&sys, &ending, None);
    }
    if let Some(u) = tape.unanswered().filter(|u| extent.is_none() || !u.ends) {
        return differs(u.said);
    }
    if let Some(extent) = extent.as_ref().filter(|_| !finished || r.end.is_none()) {
        eprintln!("racewalk: as recorded up to {extent}: {same} records");
        return Ok(0);
    }
    if let Some(end) = &r.end {
        let (now, how) = (recorded::counts(&sys), recorded::ended(&ending));
        if (&how, run::code(&ending)) != (&end.how, end.status) {
            return differs(format!("it ended otherwise\n  expected  {}\n  came      {how}", end.how));
        }
        for (cpu, (a, b)) in end.cpus.iter().zip(&now).enumerate() {
            if a.instructions != b.instructions {
                return differs(format!(
                    "cpu{cpu} ran {} instructions, recorded are {}",
                    b.instructions, a.instructions
                ));
            }
        }
        let memory = recorded::memory(&sys);
        if end.memory.as_ref().is_some_and(|m| *m != memory) {
            return differs("guest memory is another one at the end, after the same events".into());
        }
    }
    match extent {
        None => eprintln!("racewalk: as recorded: {events} events, instructions and memory"),
        Some(extent) => {
            eprintln!("racewalk: as recorded but for {extent}: {same} records, instructions and memory")
        }
    }
    run::conclude(&sys, &ending, None)
}

/// The guest's program, where it can be opened.
struct Image {
    path: PathBuf,
    _file: Option<std::fs::File>,
}

impl Image {
    /// From the recording, or from where it was, if it is still the same.
    fn of(r: &Recording, g: &GuestMeta) -> anyhow::Result<Image> {
        if let Some(bytes) = r.image() {
            let fd = rustix::fs::memfd_create("racewalk-program", rustix::fs::MemfdFlags::CLOEXEC)
                .context("keep the program in memory")?;
            let mut file = std::fs::File::from(fd);
            std::io::Write::write_all(&mut file, &bytes).context("keep the program in memory")?;
            let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file)).into();
            return Ok(Image { path, _file: Some(file) });
        }
        let bytes = std::fs::read(&g.path).with_context(|| {
            format!(
                "read {}, which is not in the recording (`trace --embed` puts it there)",
                g.path.display()
            )
        })?;
        let now = blake3::hash(&bytes).to_hex();
        if now.as_str() != g.blake3 {
            anyhow::bail!(
                "run {}: it is not what was recorded (BLAKE3 {now}, wanted {}); `trace --embed` keeps the program in the recording",
                g.path.display(),
                g.blake3
            )
        }
        Ok(Image { path: g.path.clone(), _file: None })
    }
}

fn options(
    r: &Recording,
    guest: &GuestMeta,
    engine: Option<Mode>,
    program: &Path,
) -> anyhow::Result<Options> {
    let m = &r.meta.machine;
    if m.arch != "s390x" {
        anyhow::bail!("run a guest of {}: not modelled", m.arch)
    }
    if !(1..=MOST_CPUS).contains(&m.cpus) {
        anyhow::bail!("run {} CPUs, as its metadata says; wanted 1 to {}", m.cpus, MOST_CPUS)
    }
    let recorded: Mode = m.engine.parse().map_err(anyhow::Error::msg)?;
    let tlb =
        TlbConfig::parse(&m.tlb, Path::new("the recording's TLB")).context("read the recording's TLB")?;
    let mode = engine.unwrap_or(recorded);
    if mode != recorded && tlb.kind == Kind::Finite {
        return Err(usage(format!(
            "replay with --engine {}: the TLB replaces entries, and engines ask such TLBs a different number of times; wanted {}",
            recorded::engine(mode),
            m.engine
        )));
    }
    Ok(Options {
        program: program.into(),
        args: guest.args.clone(),
        env: guest.env.clone(),
        cpus: m.cpus,
        memory: m.memory,
        mode,
        scheme: m.scheme.parse().map_err(|e| anyhow::anyhow!("{e}"))?,
        sanitize: m.sanitize,
        measure: false,
        speculate: m.speculate,
        tlb,
        code_bytes: run::CODE_BYTES,
        tape: Taped::default(),
        known_as: Some(guest.path.clone()),
        observer: Default::default(),
    })
}

/// The schedule, if the recording has it.
fn schedule(r: &Recording) -> Option<Schedule> {
    let mut text = String::new();
    for x in r.records(stream::KERNEL) {
        if let Record::Event { event: Event::Schedule { text: t }, .. } = x.ok()? {
            text += &t
        }
    }
    text.parse().ok()
}

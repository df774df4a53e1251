//! `racewalk trace -o FILE`: a recording of a run.

use crate::cli::{Trace, WhenFull};
use crate::exit::{self, usage};
use crate::progress::{Progress, size};
use crate::recorded::{Quiet, counts, ended, engine, limits, memory, observer, schedule};
use crate::run;
use crate::signals;
use crate::talk::{Calls, Output};
use crate::tape::{Tape, Until};
use anyhow::Context;
use racewalk_engine::cache::Mode;
use racewalk_linux::host::Taped;
use racewalk_linux::system::{Options, System};
use racewalk_sched::controlled::{self, Turns};
use racewalk_trace::meta::{EndNote, GuestMeta, MachineMeta, Meta, REVISION, Replayable};
use racewalk_trace::recorder::{self, Recorder};
use racewalk_trace::{FileOutput, Place, Writer, same_file};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// What is recorded, and the program's bytes.
fn meta(t: &Trace, o: &Options) -> anyhow::Result<(Meta, Vec<u8>)> {
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
        replayable: t.replayable.then_some(Replayable { seed: t.seed, revision: REVISION }),
        finding: None,
    };
    Ok((meta, image))
}

/// Runs a program and records it; returns racewalk's exit status.
pub fn record(t: &Trace, path: &Path) -> anyhow::Result<u8> {
    if t.machine.engine == Mode::Check {
        return Err(usage(
            "record with --engine check: it runs everything twice, which a recording has no place for; use auto, jit or interp",
        ));
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
    let what = || format!("record to {}", path.display());
    if same_file(path, &o.program) {
        return Ok(run::refuse_output(path));
    }
    let place = Place::open(path).with_context(what)?;
    if place.is_there()
        && let Err(e) = System::start(&o, Arc::new(Quiet))
    {
        return run::refuse(e);
    }
    run::no_report_yet(&t.machine)?;
    let written = Arc::new(AtomicU64::new(0));
    let writer = Writer::begin(&place, &meta, t.embed.then_some(&image[..]))
        .with_context(what)?
        .telling(written.clone());
    let when_full = match t.when_full {
        WhenFull::Wait => recorder::WhenFull::Wait,
        WhenFull::Drop => recorder::WhenFull::Drop,
    };
    let (name, told) = (path.display().to_string(), Arc::<AtomicBool>::default());
    let tells = told.clone();
    let file = FileOutput::new(writer).telling(move |e| {
        tells.store(true, Ordering::SeqCst);
        eprintln!("racewalk: warning: the recording ends here, the guest goes on: write {name}: {e}")
    });
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
            return run::refuse(e);
        }
    };
    place.keep().with_context(what)?;
    let (halt, system, turns) = (stop.clone(), sys.clone(), t.replayable);
    let interrupted = signals::on_interrupt(move || match turns {
        true => {
            halt.store(true, Ordering::SeqCst);
            system.look_around()
        }
        false => system.finish(signals::interrupted()),
    })?;
    let progress = Progress::start(path, written);
    let mut asked = None;
    let (ending, stopped) = if t.replayable {
        let mut policy =
            Until::new(Box::new(Turns::new(t.seed)), None, Arc::default(), stop.clone(), recorder.clone());
        let (ending, outcome) = sys.run_controlled(first, limits(), &mut policy);
        let finished = outcome.end == controlled::End::Finished;
        if finished {
            schedule(&recorder, &outcome)
        }
        let stopped = interrupted.load(Ordering::SeqCst) && outcome.end == controlled::End::Cancelled;
        asked = stopped.then(|| policy.asked());
        (if stopped { signals::interrupted() } else { ending }, stopped)
    } else {
        let ending = sys.run_free(first);
        // The guest may have been over before.
        let stopped = interrupted.load(Ordering::SeqCst) && ending == signals::interrupted();
        (ending, stopped)
    };
    progress.stop();
    sys.flush_runs();
    let (lost_runs, lost_events) = recorder.lost();
    recorder.finish();
    let end = EndNote {
        how: ended(&ending),
        status: run::code(&ending),
        cpus: counts(&sys),
        memory: (t.replayable && !stopped).then(|| memory(&sys)),
        interrupted: stopped,
        asked,
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
        Err(e) => {
            if !told.load(Ordering::SeqCst) {
                eprintln!("racewalk: warning: the recording is not complete: {e}")
            }
            eprintln!("racewalk: `racewalk trace check {}` says what there is", path.display())
        }
    }
    run::conclude(&sys, &ending, t.machine.report.as_deref())
}

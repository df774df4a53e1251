//! `racewalk run` and `racewalk trace`.

use crate::cli::{Machine, StatsFormat};
use crate::exit::{self, unopened, usage};
use crate::report::Report;
use crate::signals::Outside;
use crate::talk::{Calls, Output, StandardError, Walks};
use anyhow::Context;
use racewalk_linux::signal;
use racewalk_linux::system::{Ending, Options, StartError, System};
use racewalk_mm::MmError;
use racewalk_trace::same_file;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Bytes of translated code before the cache starts over.
pub const CODE_BYTES: usize = 128 << 20;

/// The guest's environment: ours, or what -E says.
pub fn environment(wanted: &[String]) -> Vec<OsString> {
    let ours = || std::env::vars_os().map(|(k, v)| join(k, v));
    if wanted.is_empty() {
        return ours().collect();
    }
    // The last of a name counts, where the first was.
    let mut all: Vec<(&str, OsString)> = Vec::new();
    for s in wanted {
        let (name, value) = match s.split_once('=') {
            Some((name, value)) => (name, Some(value.into())),
            None => (&**s, std::env::var_os(s)),
        };
        let Some(value) = value else { continue };
        match all.iter_mut().find(|v| v.0 == name) {
            Some(v) => v.1 = value,
            None => all.push((name, value)),
        }
    }
    all.into_iter().map(|(name, value)| join(name.into(), value)).collect()
}

fn join(mut k: OsString, v: OsString) -> OsString {
    k.push("=");
    k.push(v);
    k
}

/// Options of a machine and a program.
pub fn options(m: &Machine, program: &[OsString]) -> Options {
    let path = PathBuf::from(&program[0]);
    Options {
        program: path,
        args: program.to_vec(),
        env: environment(&m.env),
        cpus: m.cpus,
        memory: m.mem,
        mode: m.engine,
        scheme: m.scheme,
        sanitize: m.sanitize,
        measure: false,
        speculate: m.speculate,
        tlb: m.tlb.1.clone(),
        code_bytes: CODE_BYTES,
        observer: Default::default(),
        tape: Default::default(),
        known_as: None,
    }
}

/// Turns the start-up error of a program into a message and an exit code.
pub fn refuse(e: StartError) -> anyhow::Result<u8> {
    let code = match &e {
        StartError::Elf(x) if x.not_found() => exit::NOT_FOUND,
        StartError::Elf(_) | StartError::Load { .. } => exit::NOT_RUNNABLE,
        StartError::Machine { .. } => exit::FAILURE,
    };
    let (what, hint) = match &e {
        StartError::Elf(x) if x.not_found() => ("run", "give a path such as ./prog; PATH is not searched"),
        StartError::Elf(_) => {
            ("run", "racewalk runs s390x ELF files linked with s390x-linux-gnu-gcc -static")
        }
        StartError::Load { .. } => ("run", "try a larger --mem, or fewer arguments and variables (-E)"),
        StartError::Machine { .. } => ("start", "try a smaller --mem or fewer --cpus"),
    };
    eprintln!("error: failed to {what}: {e}\nhint: {hint}");
    Ok(code)
}

/// Says that `-o` names the program itself; gives the exit status.
pub fn refuse_output(path: &Path) -> u8 {
    eprintln!(
        "error: -o {} is the program that is to run, and would be written over\nhint: give -o another name",
        path.display()
    );
    exit::USAGE
}

/// Runs a program; returns racewalk's exit status.
pub fn run(m: &Machine, program: &[OsString], walks: bool) -> anyhow::Result<u8> {
    if let Some(filter) = &m.log {
        let filter = tracing_subscriber::EnvFilter::try_new(filter)
            .map_err(|e| usage(format!("read --log {filter:?}: {e}")))?;
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(|| StandardError).init();
    }
    let o = options(m, program);
    if let Some(path) = m.output.as_deref().filter(|p| same_file(p, &o.program)) {
        return Ok(refuse_output(path));
    }
    let output = Arc::new(Output::open(m.output.as_deref())?);
    no_report_yet(m)?;
    let talk = Arc::new(Calls { output: output.clone(), strace: m.strace });
    let ours = Outside::block();
    let (sys, first) = match System::start(&o, talk) {
        Ok(x) => x,
        Err(e) => return refuse(e),
    };
    ours.give_to(sys.clone()).context("watch for signals")?;
    if walks {
        sys.cpus.trace_to(Arc::new(Walks::new(output.clone(), o.cpus)));
    }
    let ending = sys.run_free(first);
    if let Some(format) = m.stats {
        output.put(&stats(&sys, format));
    }
    let written = output.finish();
    let status = conclude(&sys, &ending, m.report.as_deref())?;
    let Err(e) = written else { return Ok(status) };
    let to = m.output.as_ref().map_or("standard error".into(), |p| p.display().to_string());
    eprintln!("error: failed to write {to}: {e}");
    // A guest that failed is not taken for one that did not.
    Ok(if status == 0 { exit::FAILURE } else { status })
}

/// Empties the file of `--report`, so that it says nothing of an earlier run.
pub fn no_report_yet(m: &Machine) -> anyhow::Result<()> {
    let Some(path) = &m.report else { return Ok(()) };
    std::fs::File::create(path).map(drop).map_err(unopened("create", path))
}

/// Counters of a run.
pub fn stats(sys: &System, format: StatsFormat) -> String {
    let r = Report::of(sys);
    match format {
        StatsFormat::Text => r.text(),
        StatsFormat::Json => r.json(),
    }
}

/// After a run: says what was found, or how the guest ended, and gives the exit status.
pub fn conclude(sys: &System, ending: &Ending, report: Option<&Path>) -> anyhow::Result<u8> {
    let found = sys.findings();
    if found.is_empty() {
        return Ok(status(ending));
    }
    told(&found, report);
    Ok(exit::FOUND)
}

/// Says what was found: all of it in the file, else on standard error.
fn told(found: &[MmError], report: Option<&Path>) {
    let text: Vec<String> = found.iter().map(|f| f.to_string().trim_end().to_string() + "\n").collect();
    let written = report.map(|path| (path, std::fs::write(path, text.join("\n"))));
    if let Some((path, Ok(()))) = written {
        let first = text[0].lines().next().unwrap_or_default();
        return eprintln!("racewalk: {first}; {} has the report", path.display());
    }
    if let Some((path, Err(e))) = written {
        eprintln!("racewalk: warning: write {}: {e}", path.display());
    }
    eprint!("racewalk: {}", text.join("racewalk: "))
}

/// The exit status that an ending leads to.
pub fn code(ending: &Ending) -> u8 {
    match ending {
        Ending::Exited(s) => *s,
        Ending::Killed { signal, .. } => exit::SIGNAL_BASE.saturating_add(*signal as u8),
        Ending::Found => exit::FOUND,
        Ending::Failed(_) => exit::FAILURE,
    }
}

/// Says how the guest ended, if not by exiting, and gives the exit status.
pub fn status(ending: &Ending) -> u8 {
    match ending {
        Ending::Killed { signal: n, text } => {
            eprintln!("racewalk: guest killed by {}: {text}", signal::name(*n))
        }
        Ending::Failed(text) => eprintln!("error: failed to go on: {text}"),
        Ending::Exited(_) | Ending::Found => {}
    }
    code(ending)
}

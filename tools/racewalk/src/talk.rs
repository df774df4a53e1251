//! Where everything goes that is not the guest's own output.

use crate::exit::unopened;
use anyhow::Context;
use racewalk_cpu::{CpuEvent, Sink};
use racewalk_linux::system::Talk;
use racewalk_walk::event::WalkEvent;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

/// Standard error, which may be closed or full: that is no reason to fail.
pub struct StandardError;

impl Write for StandardError {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let _ = std::io::stderr().write_all(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

// The library's macros of these names panic where standard error cannot be written.
macro_rules! eprint {
    ($($t:tt)*) => {{
        let _ = std::io::Write::write_fmt(&mut std::io::stderr().lock(), format_args!($($t)*));
    }};
}
macro_rules! eprintln {
    ($($t:tt)*) => { eprint!("{}\n", format_args!($($t)*)) };
}

/// A destination shared by all CPUs: standard error, or the file of `-o`.
pub struct Output(Mutex<Box<dyn Write + Send>>);

impl Output {
    /// Standard error, or `path`.
    pub fn open(path: Option<&Path>) -> anyhow::Result<Output> {
        let w: Box<dyn Write + Send> = match path {
            Some(p) => {
                let f = File::create(p).map_err(unopened("create", p))?;
                Box::new(BufWriter::new(f))
            }
            None => Box::new(std::io::stderr()),
        };
        Ok(Output(Mutex::new(w)))
    }

    /// Writes text. A destination that fails does not stop the guest.
    pub fn put(&self, text: &str) {
        let mut w = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = w.write_all(text.as_bytes());
    }

    /// Completes the file.
    pub fn finish(&self) -> std::io::Result<()> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).flush()
    }
}

/// Writes data to standard output. A closed pipe is no failure: the reader has seen enough.
pub fn print(text: &str) -> anyhow::Result<()> {
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => Err(e).context("write to standard output"),
        _ => Ok(()),
    }
}

/// Says what failed, and why.
pub fn complain(e: &anyhow::Error) {
    let because: String = e.chain().skip(1).map(|c| format!("\n  because: {c}")).collect();
    eprintln!("error: failed to {e}{because}");
}

/// Asks that a file can be written, before there is something to write: an error now, and no trace of the question.
pub fn writable(path: &Path) -> anyhow::Result<()> {
    let there = std::fs::metadata(path);
    if there.as_ref().is_ok_and(|m| !m.is_file() && !m.is_dir()) {
        // A pipe would wait for its reader.
        return Ok(());
    }
    let open = File::options().write(true).create(true).truncate(false).open(path);
    open.map_err(unopened("write", path))?;
    if there.is_err() {
        // What a link names, not the link.
        let made = std::fs::canonicalize(path).unwrap_or_else(|_| path.into());
        std::fs::remove_file(made).map_err(unopened("write", path))?;
    }
    Ok(())
}

/// System calls and warnings.
pub struct Calls {
    /// Where calls go.
    pub output: std::sync::Arc<Output>,
    /// Whether they are wanted.
    pub strace: bool,
}

impl Talk for Calls {
    fn call(&self, task: u32, line: &str) {
        self.output.put(&format!("[{task}] {line}\n"));
    }
    fn wants_calls(&self) -> bool {
        self.strace
    }
    fn warn(&self, line: &str) {
        eprintln!("racewalk: warning: {line}");
    }
}

/// Events of the MMUs as text, a line each; the lines of one walk stay together.
pub struct Walks {
    output: std::sync::Arc<Output>,
    pending: Box<[Mutex<String>]>,
}

impl Walks {
    /// For `cpus` CPUs.
    pub fn new(output: std::sync::Arc<Output>, cpus: u32) -> Self {
        Walks { output, pending: (0..cpus).map(|_| Mutex::default()).collect() }
    }
}

impl Sink for Walks {
    fn event(&self, cpu: u32, event: &CpuEvent) {
        let mut p = self.pending[cpu as usize].lock().unwrap_or_else(PoisonError::into_inner);
        let _ = writeln!(p, "cpu{cpu} {event}");
        if !matches!(event, CpuEvent::Walk(WalkEvent::Start { .. } | WalkEvent::Step { .. })) {
            self.output.put(&p);
            p.clear();
        }
    }
}

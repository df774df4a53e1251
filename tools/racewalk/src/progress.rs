//! The line on the terminal while a recording is made.

use std::io::IsTerminal;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Bytes for people.
pub fn size(n: u64) -> String {
    match n {
        n if n < 10_000 => format!("{n} bytes"),
        n if n < 10_000_000 => format!("{:.1} KiB", n as f64 / 1024.0),
        n => format!("{:.1} MiB", n as f64 / 1048576.0),
    }
}

/// A line on the terminal, while a recording is made.
pub struct Progress {
    done: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Progress {
    pub fn start(path: &Path, written: Arc<AtomicU64>) -> Progress {
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

    pub fn stop(mut self) {
        self.done.store(true, Ordering::SeqCst);
        if let Some(t) = self.thread.take() {
            t.thread().unpark();
            let _ = t.join();
        }
    }
}

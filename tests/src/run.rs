//! Running a program with a deadline, so that a hang is a failure that says what ran.

use std::fmt;
use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// What became of a program.
#[derive(Clone, Debug)]
pub struct Run {
    /// The command line.
    pub command: String,
    /// Exit status as a shell gives it (128+n for a signal); `None` if the deadline passed and it was killed.
    pub status: Option<i32>,
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error.
    pub stderr: String,
    /// Wall time.
    pub took: Duration,
}

impl Run {
    /// Standard output as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Panics, printing everything, unless the status is `wanted`.
    #[track_caller]
    pub fn expect(self, wanted: i32) -> Run {
        assert_eq!(self.status, Some(wanted), "exit status (left) is not the one wanted (right)\n{self}");
        self
    }

    /// Panics, printing everything, unless `good`.
    #[track_caller]
    pub fn check(&self, good: bool, wanted: impl fmt::Display) {
        assert!(good, "wanted: {wanted}\n{self}");
    }
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "command: {}", self.command)?;
        match self.status {
            Some(s) => writeln!(f, "status:  {s} after {:.3} s", self.took.as_secs_f64())?,
            None => writeln!(f, "status:  HUNG; killed after {:.3} s", self.took.as_secs_f64())?,
        }
        writeln!(f, "stdout ({} bytes):\n{}", self.stdout.len(), clip(&self.text()))?;
        write!(f, "stderr:\n{}", clip(&self.stderr))
    }
}

/// At most the first few thousand characters.
fn clip(s: &str) -> String {
    match s.char_indices().nth(4000) {
        Some((n, _)) => format!("{} … ({} bytes more)", &s[..n], s.len() - n),
        None => s.to_string(),
    }
}

fn collect(mut from: impl Read + Send + 'static) -> JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut all = Vec::new();
        // What came before an error is worth printing.
        let _ = from.read_to_end(&mut all);
        all
    })
}

/// Runs a command to its end with nothing on standard input. Panics if it cannot be started.
#[track_caller]
pub fn run(c: &mut Command, deadline: Duration) -> Run {
    run_with(c, b"", deadline)
}

/// Runs a command with `input` on standard input.
#[track_caller]
pub fn run_with(c: &mut Command, input: &[u8], deadline: Duration) -> Run {
    let words = std::iter::once(c.get_program()).chain(c.get_args());
    let command = words.map(|w| w.to_string_lossy()).collect::<Vec<_>>().join(" ");
    let started = Instant::now();
    c.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = c.spawn().unwrap_or_else(|e| panic!("start {command}: {e}"));
    let (Some(mut stdin), Some(out), Some(err)) =
        (child.stdin.take(), child.stdout.take(), child.stderr.take())
    else {
        panic!("{command} has no pipes");
    };
    let input = input.to_vec();
    let feeder = std::thread::spawn(move || {
        // A program need not read all of it.
        let _ = stdin.write_all(&input);
    });
    let (out, err) = (collect(out), collect(err));
    let status = loop {
        match child.try_wait() {
            Ok(Some(s)) => break s.code().or(s.signal().map(|n| 128 + n)),
            Ok(None) if started.elapsed() > deadline => {
                // It may have ended just now, which is as good.
                let _ = child.kill();
                let _ = child.wait();
                break None;
            }
            Ok(None) => std::thread::sleep(Duration::from_millis(if started.elapsed().as_millis() < 50 {
                1
            } else {
                5
            })),
            Err(e) => panic!("wait for {command}: {e}"),
        }
    };
    let took = started.elapsed();
    let read = |t: JoinHandle<Vec<u8>>| t.join().unwrap_or_default();
    let r = Run {
        command,
        status,
        stdout: read(out),
        stderr: String::from_utf8_lossy(&read(err)).into_owned(),
        took,
    };
    let _ = feeder.join();
    r
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_output_and_deadlines() {
        let sh = |s: &str, t| run(Command::new("sh").args(["-c", s]), Duration::from_millis(t));
        let r = sh("echo out; echo err >&2; exit 7", 10_000).expect(7);
        assert_eq!((r.text().as_str(), r.stderr.as_str()), ("out\n", "err\n"));
        sh("kill -9 $$", 10_000).expect(137);
        let hung = sh("echo begun; exec sleep 100", 200);
        assert_eq!(hung.status, None);
        assert!(hung.to_string().contains("HUNG") && hung.to_string().contains("begun"), "{hung}");
        let cat = run_with(&mut Command::new("cat"), &[b'x'; 300_000], Duration::from_secs(10)).expect(0);
        assert_eq!(cat.stdout.len(), 300_000);
    }
}

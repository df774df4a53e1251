//! Bare-metal guests under qemu-system as a black box: another MMU makes the same accesses over the same tables.
//!
//! A guest is one assembly file (`guests/bare/ARCH/cases.S`) that is linked with a file of cases, makes them one by one
//! and leaves a record of each in memory, which is read through the monitor when the guest says that it has done.

use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// A machine without an operating system.
pub struct Machine {
    /// Prefix of the cross tools.
    pub tools: &'static str,
    /// Flags for the compiler.
    pub flags: &'static [&'static str],
    /// The emulator and its arguments, without the image.
    pub qemu: &'static [&'static str],
    /// The image is the bare bytes, as firmware is, not an ELF file.
    pub raw: bool,
    /// The option before the image.
    pub image_option: &'static str,
    /// Name under `guests/bare`.
    pub arch: &'static str,
}

/// What `done` holds when the guest has made its cases.
pub const DONE: u64 = 0x5ca1_ab1e_5ca1_ab1e;

/// Whatever went wrong, with what to do about it.
type Outcome<T> = Result<T, String>;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("the project's root").to_path_buf()
}

fn run(c: &mut Command) -> Outcome<String> {
    let hint = "; cargo xtask bare-metal installs what is missing";
    let out = c.output().map_err(|e| format!("start {}: {e}{hint}", c.get_program().display()))?;
    if out.status.success() {
        Ok(String::from_utf8_lossy(&out.stdout).into_owned())
    } else {
        Err(format!("{c:?} ended with {}: {}", out.status, String::from_utf8_lossy(&out.stderr)))
    }
}

impl Machine {
    /// Makes the cases (bytes as the guest has them); gives back `length` bytes of results.
    pub fn make(&self, cases: &[u8], length: u64, limit: Duration) -> Outcome<Vec<u8>> {
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(self.arch);
        let file = |name: &str| dir.join(name);
        std::fs::create_dir_all(&dir).map_err(|e| format!("create {}: {e}", dir.display()))?;
        std::fs::write(file("cases.bin"), cases).map_err(|e| format!("write the cases: {e}"))?;
        let source = root().join("guests/bare").join(self.arch).join("cases.S");
        run(Command::new(format!("{}-gcc", self.tools))
            .args(self.flags)
            .args(["-nostdlib", "-static", "-no-pie", "-Wl,--build-id=none", "-o", "guest"])
            .arg(&source)
            .current_dir(&dir))?;
        let symbols = run(Command::new(format!("{}-nm", self.tools)).arg(file("guest")))?;
        let symbol = |name: &str| -> Outcome<u64> {
            let line = symbols.lines().find(|l| l.ends_with(&format!(" {name}")));
            let hex = line.and_then(|l| l.split(' ').next()).ok_or_else(|| format!("no symbol {name}"))?;
            u64::from_str_radix(hex, 16).map_err(|e| format!("address of {name}: {e}"))
        };
        let mut image = file("guest");
        if self.raw {
            image = file("guest.bin");
            run(Command::new(format!("{}-objcopy", self.tools))
                .args(["-O", "binary"])
                .args([&file("guest"), &image]))?;
        }
        let mut q = Qemu::start(self, &image)?;
        let deadline = Instant::now() + limit;
        while q.doubleword(symbol("done")?)? != DONE {
            if Instant::now() > deadline {
                return Err(format!("the guest has not done after {limit:?}: {}", q.ask("info registers")?));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let out = file("results.bin");
        q.ask(&format!("pmemsave {:#x} {length} {:?}", symbol("results")?, out))?;
        q.ask("info status")?;
        std::fs::read(&out).map_err(|e| format!("read {}: {e}", out.display()))
    }
}

/// A case as the guest gets it, and what our walker makes of it.
pub struct Prepared<G> {
    /// The guest's bytes.
    pub bytes: Vec<u8>,
    /// Our outcome.
    pub expected: G,
}

/// How one architecture's comparison goes.
pub struct Comparison<C, G> {
    /// The machine.
    pub machine: Machine,
    /// Bytes of a result.
    pub result: usize,
    /// A case as the machine can make it; `None` for what the guest cannot do without harm to itself.
    pub prepare: fn(&C) -> Option<Prepared<G>>,
    /// The machine's outcome from the bytes of its result, and what was expected of it.
    pub gave: fn(&[u8], &G) -> G,
    /// An outcome's name, for the counts.
    pub outcome: fn(&G) -> String,
    /// Differences that are the machine's (ours, theirs), each with what the manual says. Empty where it is not judged.
    pub judged: fn(&C, &G, &G) -> Vec<&'static str>,
}

impl<C: Debug, G: Debug + PartialEq> Comparison<C, G> {
    /// Makes generated cases on the machine, as many as `RACEWALK_BARE_CASES` says and from `RACEWALK_BARE_SEED`; panics
    /// with the first differences that are not judged.
    pub fn run(&self, cases: impl Strategy<Value = C>, adapted: fn(C) -> C) {
        let number = |name: &str, default: u64| match std::env::var(name) {
            Ok(n) => n.parse().unwrap_or_else(|_| panic!("{name}={n}: wanted a number")),
            Err(_) => default,
        };
        let wanted = number("RACEWALK_BARE_CASES", 2_500) as usize;
        let mut seed = [0; 32];
        seed[..8].copy_from_slice(&number("RACEWALK_BARE_SEED", 1).to_le_bytes());
        let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &seed);
        let mut runner = TestRunner::new_with_rng(Config::default(), rng);
        let mut made = Vec::new();
        while made.len() < wanted {
            let case = adapted(cases.new_tree(&mut runner).expect("a case").current());
            if let Some(p) = (self.prepare)(&case) {
                made.push((case, p));
            }
        }
        let bytes: Vec<u8> = made.iter().flat_map(|(_, p)| p.bytes.iter().copied()).collect();
        let results = self
            .machine
            .make(&bytes, (made.len() * self.result) as u64, Duration::from_secs(60))
            .unwrap_or_else(|e| panic!("bare-metal comparison of {}: {e}", self.machine.arch));
        let mut wrong = Vec::new();
        let mut reasons = BTreeMap::<&str, u32>::new();
        let mut outcomes = BTreeMap::<String, u32>::new();
        for ((case, p), r) in made.iter().zip(results.chunks(self.result)) {
            let theirs = (self.gave)(r, &p.expected);
            *outcomes.entry((self.outcome)(&theirs)).or_default() += 1;
            if theirs == p.expected {
                continue;
            }
            let known = (self.judged)(case, &p.expected, &theirs);
            if known.is_empty() {
                wrong.push(format!("{case:x?}\n  racewalk {:x?}\n  the machine {theirs:x?}", p.expected));
            }
            known.into_iter().for_each(|why| *reasons.entry(why).or_default() += 1);
        }
        println!("{} cases, {} differences, outcomes {outcomes:?}", made.len(), wrong.len());
        for (why, n) in reasons {
            println!("  {n} judged: {why}");
        }
        let first = wrong[..wrong.len().min(12)].join("\n");
        assert!(wrong.is_empty(), "{} differ; the first:\n{first}", wrong.len());
    }
}

/// A running emulator with its monitor.
struct Qemu {
    child: Child,
    stdin: ChildStdin,
    lines: Receiver<String>,
}

impl Drop for Qemu {
    fn drop(&mut self) {
        // It is ours to end, whatever state it is in.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Qemu {
    fn start(m: &Machine, image: &Path) -> Outcome<Qemu> {
        let mut child = Command::new(m.qemu[0])
            .args(&m.qemu[1..])
            .args(["-display", "none", "-serial", "none", "-no-reboot", "-monitor", "stdio", m.image_option])
            .arg(image)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|e| format!("start {}: {e}; cargo xtask bare-metal installs it", m.qemu[0]))?;
        let stdin = child.stdin.take().ok_or("no standard input")?;
        let out = child.stdout.take().ok_or("no standard output")?;
        let (send, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                if send.send(line).is_err() {
                    return;
                }
            }
        });
        Ok(Qemu { child, stdin, lines })
    }

    /// Gives the monitor a command; what it says.
    fn ask(&mut self, command: &str) -> Outcome<String> {
        // An unknown command is answered by name: that ends the answer to the one before.
        const MARK: &str = "end-of-answer";
        write!(self.stdin, "{command}\n{MARK}\n").map_err(|e| format!("ask the monitor: {e}"))?;
        self.stdin.flush().map_err(|e| format!("ask the monitor: {e}"))?;
        let mut answer = String::new();
        loop {
            match self.lines.recv_timeout(Duration::from_secs(20)) {
                Ok(line) if line.contains("unknown command") && line.contains(MARK) => return Ok(answer),
                Ok(line) if line.starts_with("(qemu)") => {}
                Ok(line) => answer += &format!("{line}\n"),
                Err(RecvTimeoutError::Timeout) => return Err(format!("no answer to {command:?}: {answer}")),
                Err(RecvTimeoutError::Disconnected) => return Err(format!("the emulator ended: {answer}")),
            }
        }
    }

    fn doubleword(&mut self, at: u64) -> Outcome<u64> {
        let answer = self.ask(&format!("xp /1gx {at:#x}"))?;
        let hex = answer
            .lines()
            .find_map(|l| l.split("0x").nth(1))
            .ok_or_else(|| format!("no value in {answer:?}"))?;
        u64::from_str_radix(hex.trim(), 16).map_err(|e| format!("{answer:?}: {e}"))
    }
}

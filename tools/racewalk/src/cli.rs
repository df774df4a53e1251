//! The command line.

use clap::builder::BoolishValueParser;
use clap::{Args, Parser, Subcommand, ValueEnum};
use racewalk_engine::cache::Mode;
use racewalk_lab::campaign::Shard;
use racewalk_lab::scenario::Geometry;
use racewalk_mm::Variant;
use racewalk_sched::controlled::PolicySpec;
use racewalk_trace::event::Group;
use racewalk_trace::select::Selection;
use racewalk_walk::event::PageSize;
use racewalk_walk::tlb::config::{ConfigError, TlbConfig};
use racewalk_walk::tlb::presets;
use std::ffi::OsString;
use std::path::PathBuf;

/// Runs s390x Linux programs on emulated CPUs whose MMUs walk real page tables.
#[derive(Debug, Parser)]
#[command(
    name = "racewalk",
    version,
    after_help = "Everything after the program is the guest's own. `run` is the default verb.\n\n\
Examples:\n  racewalk demo\n  racewalk run --cpus 4 --stats ./prog arg\n  racewalk trace --ptw -o walks.txt ./prog"
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// Verbs.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Run a program.
    #[command(
        after_help = "Exit status: the guest's own; 2 wrong usage, 125 the emulator failed, 126 not a runnable ELF file, \
127 not found, 128+n the guest was killed by signal n.\n\n\
Examples:\n  racewalk run ./hello\n  racewalk run --cpus 4 --engine interp --strace ./threads\n  racewalk run --tlb z13 --stats ./hello"
    )]
    Run(Run),
    /// Run a program and write down what its MMU does.
    #[command(
        args_conflicts_with_subcommands = true,
        subcommand_negates_reqs = true,
        after_help = "Exit status: as of `run`.\n\n\
Examples:\n  racewalk trace --replayable -o hello.rwt ./hello\n  racewalk trace show hello.rwt\n  racewalk trace -o walks.rwt --only walk,flush --cpus 4 ./threads\n  racewalk trace --ptw ./hello"
    )]
    Trace(Box<Trace>),
    /// Run the built-in multi-threaded guest and summarise what its MMU did. Needs nothing installed.
    #[command(after_help = "Example:\n  racewalk demo")]
    Demo(Demo),
    /// Show page-table walks from text files step by step, with each entry's bits named; decode entries.
    #[command(
        after_help = "Exit status: 0; 1 if a walk gives something else than its file says; 2 wrong usage, or a file cannot be \
read or understood; 127 a file is not there.\n\n\
Examples:\n  racewalk walk --list\n  racewalk walk --explain 0x77200 --format s390x --table page\n  racewalk walk tests/walk/s390x/page.walk"
    )]
    Walk(Walk),
    /// Find the interleavings of walkers and frees that break a way of freeing page tables.
    #[command(
        after_help = "Exit status: 0 nothing found; 3 something found, or with --all a cell that is not as expected; \
4 a schedule of --policy replay: that is of another run; 2 wrong usage; 127 the file is not there; 125 a failure.\n\n\
Examples:\n  racewalk race --list\n  racewalk race f-01 --scheme s390-v1\n  racewalk race f-04 --scheme s390-pre,s390-61 --policy pct:3 --schedules 5000\n  racewalk race f-01 --scheme s390-66 --policy dfs:1"
    )]
    Race(Race),
    /// Repeat a recording of `trace --replayable`, or a finding that `race --save` wrote.
    #[command(
        after_help = "Exit status of a recording: the guest's own, if the run is the recorded one; 4 if it is another. \
Of a finding: 3 it is there again; 4 the run is another one. 125 the file is no such thing, or damaged; 127 it is not there.\n\n\
Examples:\n  racewalk replay hello.rwt\n  racewalk replay --engine interp --until 1200 hello.rwt\n  racewalk replay f-04.schedule"
    )]
    Replay(Replay),
    /// Tell the story of an interleaving, a scenario or a scheme, with sources.
    #[command(after_help = "Examples:\n  racewalk explain F-03b\n  racewalk explain s390-66")]
    Explain(Explain),
    /// Compare what schemes cost: table memory in use and pending, reuse, grace periods, cross calls, times under locks.
    #[command(
        after_help = "Exit status: 0; the guest's own; 2 wrong usage; 125 if the workload breaks an invariant.\n\n\
Examples:\n  racewalk cost --schemes s390-66,s390-67 f-01\n  racewalk cost --schemes s390-61,s390-v2-maskfixed,s390-66 random\n  \
racewalk cost --schemes s390-66,s390-67 --cpus 2 ./threads"
    )]
    Cost(Cost),
    /// Write the skeleton of a scheme into a checkout of the source.
    #[command(
        after_help = "Exit status: 0; 2 if there is one of that name, or no checkout.\n\nExample:\n  racewalk new-scheme s390-mine"
    )]
    NewScheme(NewScheme),
}

/// The names of all verbs, for the default one.
pub const VERBS: [&str; 10] =
    ["run", "trace", "demo", "walk", "race", "replay", "explain", "cost", "new-scheme", "help"];

/// How a machine is built and what it tells.
#[derive(Clone, Debug, Args)]
pub struct Machine {
    /// Emulated CPUs.
    #[arg(long, default_value_t = 1, env = "RACEWALK_CPUS", value_parser = clap::value_parser!(u32).range(1..=64))]
    pub cpus: u32,
    /// Guest memory: bytes, or with K, M or G.
    #[arg(long, default_value = "2G", env = "RACEWALK_MEM", value_parser = memory)]
    pub mem: u64,
    /// auto (tiered), interp, jit, or check (both, compared).
    #[arg(long, default_value = "auto", env = "RACEWALK_ENGINE", value_parser = |s: &str| s.parse::<Mode>())]
    pub engine: Mode,
    /// How page-table memory is allocated, deferred and freed.
    #[arg(long, default_value = "s390-66", env = "RACEWALK_SCHEME", value_parser = |s: &str| s.parse::<Variant>().map_err(|e| e.to_string()))]
    pub scheme: Variant,
    /// Watch every page table and walker; a broken invariant ends the run with status 3. Gives the guest the test
    /// hypercall of docs/race.md.
    #[arg(long, env = "RACEWALK_SANITIZE", value_parser = BoolishValueParser::new())]
    pub sanitize: bool,
    /// Write what was found here instead of to standard error; empty if nothing is.
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
    /// The TLBs and walk caches of each CPU: a preset, or a TOML file as docs/tlb.md describes it.
    #[arg(long, default_value = "infinite", env = "RACEWALK_TLB", value_name = "PRESET|FILE", value_parser = tlb)]
    pub tlb: (String, TlbConfig),
    /// Set or, without `=`, pass on an environment variable of the guest. Without any -E the guest gets ours.
    #[arg(short = 'E', value_name = "NAME[=VALUE]", value_parser = variable)]
    pub env: Vec<String>,
    /// Let each CPU's speculative walker run beside it, walking near what the CPU translated lately.
    #[arg(long, env = "RACEWALK_SPECULATE", value_parser = BoolishValueParser::new())]
    pub speculate: bool,
    /// Print each system call.
    #[arg(long)]
    pub strace: bool,
    /// Print counters at the end.
    #[arg(long, value_name = "FORMAT", num_args = 0..=1, require_equals = true, default_missing_value = "text")]
    pub stats: Option<StatsFormat>,
    /// Write --strace, --stats and walks here instead of to standard error.
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// What the emulator says of itself (tracing filter, such as debug).
    #[arg(long, value_name = "FILTER", env = "RACEWALK_LOG")]
    pub log: Option<String>,
}

/// How counters are printed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum StatsFormat {
    /// For people.
    Text,
    /// One JSON object.
    Json,
}

/// `racewalk run`.
#[derive(Debug, Args)]
pub struct Run {
    #[command(flatten)]
    #[allow(missing_docs, reason = "documented at its type")]
    pub machine: Machine,
    /// The program and its arguments.
    #[arg(required = true, trailing_var_arg = true, value_name = "PROGRAM")]
    pub program: Vec<OsString>,
}

/// `racewalk trace`.
#[derive(Debug, Args)]
pub struct Trace {
    #[command(flatten)]
    #[allow(missing_docs, reason = "documented at its type")]
    pub machine: Machine,
    /// Every page-table walk with its steps, TLB fills, purges and context loads, as text.
    #[arg(long)]
    pub ptw: bool,
    #[command(flatten)]
    #[allow(missing_docs, reason = "documented at its type")]
    pub select: Select,
    /// Put the program into the recording.
    #[arg(long)]
    pub embed: bool,
    /// Let the CPUs take turns, so that `racewalk replay` can repeat the run exactly. Time is virtual then.
    #[arg(long)]
    pub replayable: bool,
    /// What the turns of --replayable come from.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// When the disk cannot follow: let the guest wait, or drop and count what does not fit.
    #[arg(long, default_value = "wait")]
    pub when_full: WhenFull,
    #[command(subcommand)]
    #[allow(missing_docs, reason = "documented at its type")]
    pub verb: Option<TraceVerb>,
    /// The program and its arguments.
    #[arg(required = true, trailing_var_arg = true, value_name = "PROGRAM")]
    pub program: Vec<OsString>,
}

impl Trace {
    /// What goes into the recording.
    pub fn selection(&self) -> Selection {
        let s = &self.select;
        Selection {
            kinds: s.only.clone(),
            cpus: s.only_cpus.clone(),
            addresses: s.addresses,
            instructions: s.instructions,
            marks: s.marks,
        }
    }
}

/// What of a run goes into a recording.
#[derive(Clone, Debug, Args)]
pub struct Select {
    /// Only these kinds of records: access, walk, tlb, flush, mm, guest.
    #[arg(long, value_name = "KINDS", value_delimiter = ',', value_parser = |s: &str| s.parse::<Group>())]
    pub only: Vec<Group>,
    /// Only these CPUs, and what no CPU does.
    #[arg(long, value_name = "CPUS", value_delimiter = ',')]
    pub only_cpus: Vec<u32>,
    /// Only accesses, walks and fills of these virtual addresses.
    #[arg(long, value_name = "FROM..TO", value_parser = range)]
    pub addresses: Option<(u64, u64)>,
    /// Only what each CPU does between these counts of instructions.
    #[arg(long, value_name = "FROM..TO", value_parser = range)]
    pub instructions: Option<(u64, u64)>,
    /// Only from the guest's mark of the first number to that of the second.
    #[arg(long, value_name = "FROM..TO", value_parser = range)]
    pub marks: Option<(u64, u64)>,
}

/// What happens when a recording cannot follow.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum WhenFull {
    /// The guest waits.
    Wait,
    /// Records are dropped and counted.
    Drop,
}

/// What to do with a recording.
#[derive(Debug, Subcommand)]
pub enum TraceVerb {
    /// Print its records.
    Show(Show),
    /// Count what is in it.
    Stats(TraceStats),
    /// Read all of it and say what is damaged, contradictory or missing.
    #[command(
        after_help = "Exit status: 0 nothing is wrong; 1 something is; 125 it cannot be read at all; 127 it is not there."
    )]
    Check {
        /// The recording.
        file: PathBuf,
    },
    /// Say where two recordings differ first.
    #[command(
        after_help = "Exit status: 0 they have the same records; 1 they do not; 125 one cannot be read; 127 one is not there."
    )]
    Diff {
        /// The first.
        a: PathBuf,
        /// The second.
        b: PathBuf,
    },
}

/// `racewalk trace show`.
#[derive(Debug, Args)]
#[command(
    after_help = "Exit status: 0; 1 a part could not be read; 125 it cannot be read at all; 127 it is not there."
)]
pub struct Show {
    /// The recording.
    pub file: PathBuf,
    /// Only these kinds of records: access, walk, tlb, flush, mm, guest, input, lab.
    #[arg(long, value_name = "KINDS", value_delimiter = ',', value_parser = |s: &str| s.parse::<Group>())]
    pub kind: Vec<Group>,
    /// Only these CPUs.
    #[arg(long, value_name = "CPUS", value_delimiter = ',')]
    pub cpu: Vec<u32>,
    /// Print so many records at most.
    #[arg(long, value_name = "N")]
    pub limit: Option<u64>,
    /// Go on while the file grows, until it is complete; in the order in which it was written.
    #[arg(long)]
    pub follow: bool,
    /// Of a finding of `race --save`: print its schedule file and nothing else, byte for byte what a text file would have.
    #[arg(long, conflicts_with_all = ["kind", "cpu", "limit", "follow"])]
    pub schedule: bool,
    /// Of a finding: print the scenario in which it was looked for and nothing else, as it was given.
    #[arg(long, conflicts_with_all = ["kind", "cpu", "limit", "follow", "schedule"])]
    pub scenario: bool,
}

/// `racewalk trace stats`.
#[derive(Debug, Args)]
pub struct TraceStats {
    /// The recording.
    pub file: PathBuf,
    /// For people, or one JSON object.
    #[arg(long, default_value = "text")]
    pub format: StatsFormat,
}

/// `racewalk demo`.
#[derive(Debug, Args)]
pub struct Demo {
    /// Emulated CPUs.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub cpus: u32,
    /// auto, interp, jit, or check.
    #[arg(long, default_value = "auto", value_parser = |s: &str| s.parse::<Mode>())]
    pub engine: Mode,
}

/// `racewalk walk`.
#[derive(Debug, Args)]
#[command(arg_required_else_help = true)]
pub struct Walk {
    /// Decode this entry: as the kind of --table, or as every kind.
    #[arg(long, value_name = "ENTRY")]
    pub explain: Vec<String>,
    /// Only this format.
    #[arg(long, value_name = "NAME", requires = "explain")]
    pub format: Option<String>,
    /// Only this kind of entry.
    #[arg(long, value_name = "NAME", requires = "explain")]
    pub table: Option<String>,
    /// List the formats with their registers and kinds of entries.
    #[arg(long)]
    pub list: bool,
    /// Files of walks; docs/walk.md describes them.
    #[arg(value_name = "FILE.walk")]
    pub files: Vec<PathBuf>,
}

/// `racewalk race`.
#[derive(Debug, Args)]
#[command(arg_required_else_help = true)]
pub struct Race {
    /// A scenario of the library (`--list`), or a file; docs/scenarios.md describes them.
    #[arg(value_name = "SCENARIO|FILE.race")]
    pub what: Option<String>,
    /// List scenarios, schemes, geometries and policies.
    #[arg(long)]
    pub list: bool,
    /// Every scheme in every scenario of the library, beside what is expected.
    #[arg(long, group = "mode", conflicts_with = "what")]
    pub all: bool,
    /// The sound schemes without one of their steps each, which must be noticed.
    #[arg(long, group = "mode", conflicts_with = "what")]
    pub mutants: bool,
    /// Random workloads instead of a scenario, --seconds for each scheme; without --scheme: the flawed ones.
    #[arg(long, group = "mode", conflicts_with = "what")]
    pub random: bool,
    /// Random workloads on every sound scheme and geometry: --schedules controlled, --seconds on threads.
    #[arg(long, group = "mode", conflicts_with = "what")]
    pub soak: bool,
    /// Time limit of --random, time on threads of --soak.
    #[arg(long, default_value_t = 60.0, value_parser = seconds)]
    pub seconds: f64,
    /// Most CPUs of a random workload; CPUs on threads.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(2..=64))]
    pub cpus: u32,
    /// Schemes, separated by commas; `all`: every one that fits the scenario.
    #[arg(long, value_name = "NAMES")]
    pub scheme: Option<String>,
    /// Only this geometry.
    #[arg(long, value_name = "NAME", value_parser = geometry)]
    pub geometry: Option<Geometry>,
    /// Stores of the kernel wait in buffers (total store order), whatever the scenarios say.
    #[arg(long)]
    pub tso: bool,
    /// Who goes on: random, pct:DEPTH, dfs:PREEMPTIONS, round-robin, stay, replay:SCHEDULE.
    #[arg(long, default_value = "pct:3", value_parser = |s: &str| s.parse::<PolicySpec>().map_err(|e| e.to_string()))]
    pub policy: PolicySpec,
    /// Schedules for each scheme; with --all, for each silent cell.
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub schedules: u64,
    /// With --all: seeds for each cell that is caught; 95 of 100 must find something within the cell's budget.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    pub seeds: u64,
    /// With --all: a table, or one JSON object to a line.
    #[arg(long, default_value = "text")]
    pub format: StatsFormat,
    /// The first seed; each schedule has one of its own.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Only a part of the seeds (of the cells with --all, of the mutants with --mutants): those that leave I when divided by N,
    /// from 0/N to (N-1)/N.
    #[arg(long, default_value = "0/1", value_name = "I/N", value_parser = |s: &str| s.parse::<Shard>().map_err(|e| e.to_string()))]
    pub shard: Shard,
    /// Host threads, no more than schedules; 0: as many as there are CPUs.
    #[arg(long, default_value_t = 0)]
    pub jobs: usize,
    /// Go on after the first finding, and count.
    #[arg(long)]
    pub keep_going: bool,
    /// Write the shrunk finding here, for `racewalk replay`: as a recording if the name ends in .rwt, else as text.
    #[arg(long, value_name = "FILE")]
    pub save: Option<PathBuf>,
    /// Draw the shrunk finding here: .svg, or else HTML.
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

/// `racewalk replay`.
#[derive(Debug, Args)]
pub struct Replay {
    /// A recording of `trace --replayable`, or a finding of `race --save`.
    pub file: PathBuf,
    /// Another engine than the recording's: auto, interp, jit.
    #[arg(long, value_parser = |s: &str| s.parse::<Mode>())]
    pub engine: Option<Mode>,
    /// Stop at the event of this number, which `trace show` prints behind #.
    #[arg(long, value_name = "EVENT")]
    pub until: Option<u64>,
    /// Behind --until, go on under another schedule: random:SEED.
    #[arg(long, value_name = "random:SEED", requires = "until", value_parser = then)]
    pub then: Option<u64>,
}

fn then(s: &str) -> Result<u64, String> {
    let seed = s.strip_prefix("random:").and_then(|n| n.parse().ok());
    seed.ok_or_else(|| format!("{s:?}; wanted random:SEED, such as random:7"))
}

/// `racewalk explain`.
#[derive(Debug, Args)]
pub struct Explain {
    /// An interleaving such as F-03b, a scenario, or a scheme.
    #[arg(required = true)]
    pub what: Vec<String>,
}

/// `racewalk cost`.
#[derive(Debug, Args)]
#[command(arg_required_else_help = true)]
pub struct Cost {
    /// The schemes, separated by commas.
    #[arg(long, value_name = "NAMES")]
    pub schemes: String,
    /// Only this geometry; else the workload's first that the scheme knows.
    #[arg(long, value_name = "NAME", value_parser = geometry)]
    pub geometry: Option<Geometry>,
    /// Schedules, or random workloads. The first schedule is one without preemption.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub schedules: u64,
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// For a guest program: emulated CPUs.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub cpus: u32,
    /// For a guest program: memory; bytes, or with K, M or G.
    #[arg(long, default_value = "2G", value_parser = size)]
    pub mem: u64,
    /// For a guest program: auto, interp, jit, or check.
    #[arg(long, default_value = "auto", value_parser = |s: &str| s.parse::<Mode>())]
    pub engine: Mode,
    /// How the numbers are printed.
    #[arg(long, default_value = "text")]
    pub format: StatsFormat,
    /// A scenario of `race --list`, a FILE.race, `random`, or a guest program with its arguments.
    #[arg(required = true, trailing_var_arg = true, value_name = "WORKLOAD")]
    pub workload: Vec<OsString>,
}

/// `racewalk new-scheme`.
#[derive(Debug, Args)]
pub struct NewScheme {
    /// Its name: s390, ppc or sparc, a hyphen, and what you call it.
    pub name: String,
    /// The checkout.
    #[arg(long, default_value = ".")]
    pub dir: PathBuf,
}

fn seconds(s: &str) -> Result<f64, String> {
    match s.parse::<f64>() {
        Ok(x) if x > 0.0 && x <= 1e6 => Ok(x),
        _ => Err("wanted seconds, more than 0 and at most 1000000".into()),
    }
}

fn tlb(s: &str) -> Result<(String, TlbConfig), String> {
    let config = presets::find(s).map_err(|e| match e {
        ConfigError::Unknown { .. } => match racewalk_lab::nearest(s, presets::names()) {
            Some(meant) => format!("did you mean {meant:?}? {e}"),
            None => e.to_string(),
        },
        _ => e.to_string(),
    })?;
    match config.lacks(PAGE) {
        Some(side) => Err(format!(
            "no array for {side} accesses holds pages of {PAGE}, which s390x programs have; such as zec12, z13 and z14 do"
        )),
        // Its text, for who wants to repeat the run.
        None => match presets::text(s).map(String::from).ok_or(()).or_else(|()| std::fs::read_to_string(s)) {
            Ok(text) => Ok((text, config)),
            Err(_) => Ok((s.into(), config)),
        },
    }
}

/// The pages of s390x.
const PAGE: PageSize = PageSize(12);

fn geometry(s: &str) -> Result<Geometry, String> {
    Geometry::from_word(s).ok_or_else(|| {
        let all: Vec<_> = Geometry::ALL.iter().map(|g| g.word()).collect();
        format!("geometry {s:?}; wanted one of {}", all.join(", "))
    })
}

/// `FROM..TO`, either of which may be missing; hexadecimal with 0x.
fn range(s: &str) -> Result<(u64, u64), String> {
    let bad = || format!("range {s:?}; wanted FROM..TO, such as 0x10000..0x20000 or 1000..");
    let number = |t: &str, none: u64| match t {
        "" => Some(none),
        t => match t.strip_prefix("0x") {
            Some(hex) => u64::from_str_radix(hex, 16).ok(),
            None => t.parse().ok(),
        },
    };
    let (from, to) = s.split_once("..").ok_or_else(bad)?;
    match (number(from, 0), number(to, u64::MAX)) {
        (Some(a), Some(b)) if a < b => Ok((a, b)),
        _ => Err(bad()),
    }
}

fn size(s: &str) -> Result<u64, String> {
    let bad = || format!("size {s:?}; wanted bytes, or a number with K, M or G, such as 512M");
    let (digits, unit) = match s.char_indices().last() {
        Some((i, 'k' | 'K')) => (&s[..i], 1 << 10),
        Some((i, 'm' | 'M')) => (&s[..i], 1 << 20),
        Some((i, 'g' | 'G')) => (&s[..i], 1 << 30),
        _ => (s, 1),
    };
    let n: u64 = digits.parse().map_err(|_| bad())?;
    n.checked_mul(unit).ok_or_else(bad)
}

/// A variable of the guest's environment.
fn variable(s: &str) -> Result<String, String> {
    match s.split('=').next() {
        None | Some("") => Err(format!("variable {s:?} has no name; wanted NAME or NAME=VALUE")),
        Some(_) => Ok(s.into()),
    }
}

/// Guest memory: what the hosted kernel needs for itself at least.
fn memory(s: &str) -> Result<u64, String> {
    const MIB: u64 = 1 << 20;
    let n = size(s)?;
    if !(5 * MIB..=MIB << 20).contains(&n) || n % MIB != 0 {
        return Err(format!("{n} bytes; wanted a multiple of 1M, from 5M to 1024G"));
    }
    Ok(n)
}

/// Inserts the default verb if the first word is none.
pub fn with_default_verb(args: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut v: Vec<OsString> = args.collect();
    let implied = match v.get(1).and_then(|a| a.to_str()) {
        None => v.len() > 1,
        Some("-h" | "--help" | "-V" | "--version") => false,
        Some(a) => !VERBS.contains(&a),
    };
    if implied {
        v.insert(1, "run".into());
    }
    v
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn definition_is_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    #[test]
    fn run_is_the_default_and_the_rest_is_the_guests() {
        let words = |s: &str| with_default_verb(s.split(' ').map(OsString::from));
        let Verb::Run(r) = Cli::parse_from(words("racewalk --cpus 2 ./p --cpus 7 -x")).verb else { panic!() };
        assert_eq!((r.machine.cpus, r.program.len()), (2, 4));
        assert!(matches!(Cli::parse_from(words("racewalk demo")).verb, Verb::Demo(_)));
        // An option that racewalk does not have is no program.
        assert!(Cli::try_parse_from(words("racewalk run --nonsense ./p")).is_err());
        assert!(Cli::try_parse_from(words("racewalk run -x ./p")).is_err());
    }

    #[test]
    fn sizes() {
        assert_eq!(size("2G"), Ok(2 << 30));
        assert_eq!(size("4096"), Ok(4096));
        assert_eq!(memory("5M"), Ok(5 << 20));
        for few in ["0", "1K", "4M", "5121K", "2048G"] {
            assert!(memory(few).unwrap_err().contains("wanted a multiple of 1M, from 5M to 1024G"));
        }
        assert!(size("").is_err() && size("x").is_err() && size("99999999999999G").is_err());
    }
}

//! What was recorded, and how it ended: the first and the last frame of a recording, as JSON.

use crate::select::Selection;
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::path::PathBuf;

/// The machine.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct MachineMeta {
    /// The instruction set.
    pub arch: String,
    /// Emulated CPUs.
    pub cpus: u32,
    /// Bytes of guest memory.
    pub memory: u64,
    /// The scheme of page-table memory.
    pub scheme: String,
    /// The TLBs, as a TOML text that `--tlb` reads.
    pub tlb: String,
    /// The engine. A replay may use another.
    pub engine: String,
    /// Speculative walkers run beside the CPUs.
    pub speculate: bool,
    /// The sanitizer ends the run where an invariant is broken.
    pub sanitize: bool,
}

/// The guest program.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct GuestMeta {
    /// Where it was.
    pub path: PathBuf,
    /// argv.
    pub args: Vec<OsString>,
    /// The environment.
    pub env: Vec<OsString>,
    /// Bytes of the file.
    pub size: u64,
    /// BLAKE3 of the file, in hexadecimal.
    pub blake3: String,
    /// The file is in the recording.
    pub embedded: bool,
}

/// How a replayable run was scheduled.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Replayable {
    /// The seed that the turns come from.
    pub seed: u64,
    /// Which revision of turns and virtual time made the run ([`REVISION`]); recordings before revision 2 do not say.
    #[serde(default = "first_revision")]
    pub revision: u32,
}

/// The revision of how CPUs take turns and how virtual time passes: raised when a seed no longer gives the same run.
/// Revision 1: time passed only when nobody could run. 2: it passes with instructions and reads of a clock, too.
/// 3: reads look at the memory they fill before they ask the host.
pub const REVISION: u32 = 3;

fn first_revision() -> u32 {
    1
}

/// What the race lab found.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct FindingMeta {
    /// The scenario's name.
    pub scenario: String,
    /// Format of tables and size of pages, as `race --list` calls it.
    pub geometry: String,
    /// The number of the invariant that breaks.
    pub invariant: u8,
    /// What breaks it, in words.
    pub title: String,
    /// The seed of the schedule that found it, before it was shrunk.
    pub seed: u64,
}

/// What was recorded.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Meta {
    /// The racewalk that wrote it.
    pub racewalk: String,
    /// The machine.
    pub machine: MachineMeta,
    /// The guest; none in a finding of the race lab.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guest: Option<GuestMeta>,
    /// What of the run is in the recording.
    pub selection: Selection,
    /// Present if `racewalk replay` can repeat it.
    #[serde(default)]
    pub replayable: Option<Replayable>,
    /// Present if it is a finding of the race lab, which `racewalk replay` repeats.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finding: Option<FindingMeta>,
}

/// Counters of one CPU, as the run reported them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct CpuCounts {
    /// Instructions.
    pub instructions: u64,
    /// Lookups of the model TLB.
    pub lookups: u64,
    /// Of those, hits.
    pub hits: u64,
    /// Walks begun.
    pub walks: u64,
    /// Table entries fetched.
    pub steps: u64,
    /// Translations taken in.
    pub fills: u64,
    /// Purges of all CPUs asked for.
    pub purges: u64,
}

/// How a run ended.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct EndNote {
    /// In words.
    pub how: String,
    /// The exit status of the command.
    pub status: u8,
    /// Counters by CPU.
    pub cpus: Vec<CpuCounts>,
    /// BLAKE3 of guest memory at the end, in hexadecimal, where the recording is replayable.
    pub memory: Option<String>,
    /// Somebody interrupted it.
    #[serde(default)]
    pub interrupted: bool,
    /// How often the schedule was asked, of a replayable run that was interrupted: a replay ends there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked: Option<u64>,
    /// Runs of accesses that were lost.
    pub lost_runs: u64,
    /// Events that were lost.
    pub lost_events: u64,
}

//! Recordings of what an MMU did: the file format, its writer, its readers.
//!
//! A recording is a header, independent zstd frames of about 1 MiB with checksums, and an index. Each CPU has a stream of
//! records: runs of accesses to one page, entries of execution into pages, and events between them. `docs/recordings.md`
//! is the format's page.
//!
//! - [`recorder`] takes what a machine says, on the threads of its CPUs, and hands it to a thread that writes;
//! - [`lab`] takes what a machine of the race lab says;
//! - [`reader`] gives records back, as far as a file is whole, and names what is not;
//! - [`compare`](mod@compare) holds a run against a recording, record by record.
#![forbid(unsafe_code)]

pub mod answers;
pub mod check;
pub mod compare;
mod convert;
pub mod diff;
mod error;
pub mod event;
pub mod frame;
pub mod lab;
pub mod meta;
mod place;
pub mod reader;
pub mod record;
pub mod recorder;
pub mod select;
pub mod stats;
mod wire;
mod writer;

pub use error::{FrameError, Malformed, TraceError};
pub use place::{Place, same_file};
pub use reader::Recording;
pub use record::Record;
pub use writer::{FileOutput, Writer};

/// The format's major version: readers refuse others.
pub const MAJOR: u16 = 1;
/// The format's minor version: readers of a later one read files of earlier ones.
pub const MINOR: u16 = 1;

/// Streams that belong to no CPU's instructions. A CPU's stream has its number.
pub mod stream {
    /// The first of the speculative walkers: the walker of CPU n is this plus n.
    pub const WALKERS: u32 = 0x1_0000;
    /// What is done on no CPU: grace periods, the schedule, what comes from outside.
    pub const KERNEL: u32 = 0xffff_fffe;
    /// No stream.
    pub const NONE: u32 = 0xffff_ffff;

    /// Its name.
    pub fn name(stream: u32) -> String {
        match stream {
            KERNEL => "kernel".into(),
            NONE => "-".into(),
            w if w >= WALKERS => format!("walker{}", w - WALKERS),
            cpu => format!("cpu{cpu}"),
        }
    }
}

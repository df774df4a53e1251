//! What can be wrong with a recording.

use std::path::PathBuf;

/// Why bytes inside a frame could not be understood.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Malformed {
    /// They end in the middle of a record.
    #[error("it ends inside a record")]
    Short,
    /// A variable-length number of more than 64 bits.
    #[error("a number has more than 64 bits")]
    Number,
    /// A string that is too long, no UTF-8, or refers to none.
    #[error("a string is not one")]
    Text,
    /// A kind of record that this version does not have.
    #[error("a record has the unknown kind {0}")]
    Kind(u8),
    /// A field with a value that it cannot have.
    #[error("the field {0} has a value it cannot have")]
    Field(&'static str),
    /// The records are not as many as the frame's header says.
    #[error("it holds {found} records, its header says {said}")]
    Count {
        /// Found.
        found: u64,
        /// In the header.
        said: u64,
    },
    /// There are more.
    #[error("it holds more than the {0} records that its header says")]
    More(
        /// In the header.
        u32,
    ),
    /// Bytes are left over behind the last record.
    #[error("bytes are left over behind the last record")]
    Rest,
}

/// Why a frame could not be read.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum FrameError {
    /// No frame begins here.
    #[error("no frame begins here")]
    Magic,
    /// The header does not match its checksum.
    #[error("its header is damaged")]
    Header,
    /// The file ends inside it.
    #[error("the file ends {missing} bytes before the frame does")]
    Cut {
        /// Bytes that are missing.
        missing: u64,
    },
    /// Those before it are lost.
    #[error("the {0} records before it are lost")]
    Gap(
        /// How many.
        u64,
    ),
    /// The contents do not match their checksum.
    #[error("its contents are damaged (checksum {found:#010x}, wanted {wanted:#010x})")]
    Checksum {
        /// Of what is there.
        found: u32,
        /// In the header.
        wanted: u32,
    },
    /// The contents do not decompress.
    #[error("its contents do not decompress to the {wanted} bytes that its header says")]
    Decompress {
        /// Wanted bytes.
        wanted: u32,
    },
    /// The contents are no records.
    #[error("its contents are not what they should be: {0}")]
    Malformed(#[from] Malformed),
}

/// Why a file is no recording, or cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// The file cannot be read or written.
    #[error("{what} {}: {source}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// The host's reason.
        source: std::io::Error,
    },
    /// The file is something else.
    #[error("{} is no recording: it begins with {found:02x?}, wanted {wanted:02x?}", path.display())]
    Magic {
        /// The file.
        path: PathBuf,
        /// Its first bytes.
        found: Vec<u8>,
        /// Those of a recording.
        wanted: [u8; 8],
    },
    /// It ends within the header.
    #[error("{} has {found} bytes; the header of a recording has {wanted}", path.display())]
    Short {
        /// The file.
        path: PathBuf,
        /// Bytes.
        found: u64,
        /// Bytes of a header.
        wanted: u64,
    },
    /// It is not the file any more that was read.
    #[error("{} was replaced or cut while it was read: {problem}", path.display())]
    Changed {
        /// The file.
        path: PathBuf,
        /// In what way.
        problem: String,
    },
    /// A version that this one cannot read.
    #[error(
        "{} is a recording of version {major}.{minor}; this racewalk reads versions {}.0 to {}.{}; use racewalk {by}, which wrote it",
        path.display(), crate::MAJOR, crate::MAJOR, crate::MINOR
    )]
    Version {
        /// The file.
        path: PathBuf,
        /// The file's version.
        major: u16,
        /// The same.
        minor: u16,
        /// The version of racewalk that wrote it.
        by: String,
    },
    /// The file has no first frame that says what was recorded.
    #[error("{} does not say what was recorded: {problem}", path.display())]
    Meta {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
}

impl TraceError {
    /// For `map_err`.
    pub(crate) fn io(
        what: &'static str,
        path: &std::path::Path,
    ) -> impl FnOnce(std::io::Error) -> TraceError + use<> {
        let path = path.to_path_buf();
        move |source| TraceError::Io { what, path, source }
    }
}

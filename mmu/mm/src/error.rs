//! What can go wrong in the hosted mm.

pub use crate::errno::Errno;
use crate::sanitizer::Report;
use racewalk_ram::{Kva, RamError};

/// An error of the hosted mm.
#[derive(Debug, thiserror::Error)]
pub enum MmError {
    /// What the system call answers to the guest.
    #[error("{op}: {why} ({errno})")]
    Sys {
        /// The operation, such as `"mmap"`.
        op: &'static str,
        /// The number.
        errno: Errno,
        /// Which rule was broken.
        why: &'static str,
    },
    /// User memory could not be reached.
    #[error("user address {addr:#x} cannot be accessed (EFAULT)")]
    UserFault {
        /// The first address that failed.
        addr: u64,
    },
    /// No free frames, or an injected failure.
    #[error("no free block of order {order} for {what} (ENOMEM)")]
    NoMemory {
        /// log2 of the frames wanted.
        order: u32,
        /// What it was for.
        what: &'static str,
    },
    /// A pointer in guest kernel memory that points nowhere sensible: a report, not a guest error.
    #[error("wild kernel pointer {kva:#x}: wanted {wanted}")]
    Wild {
        /// The pointer.
        kva: Kva,
        /// What should have been there.
        wanted: &'static str,
    },
    /// A pointer to an object that was freed since: a report.
    #[error("stale kernel pointer {kva:#x}: the slot is at generation {now:#x}")]
    Stale {
        /// The pointer; its generation is in bits 32–47.
        kva: Kva,
        /// The slot's generation and liveness word.
        now: u64,
    },
    /// A broken invariant (numbers as in hosted-mm D; 0 for rules without a number): a report.
    #[error("invariant {rule} broken: {text}")]
    Broken {
        /// The number in the list of invariants.
        rule: u8,
        /// What was found.
        text: String,
        /// Where, if that is one place: in the direct map, or the record of a page.
        about: Option<Kva>,
    },
    /// What the sanitizer found.
    #[error("{0}")]
    Found(Box<Report>),
    /// A finding that has been noted already; see [`Kernel::take_findings`](crate::Kernel::take_findings).
    #[error("{0}")]
    Reported(String),
    /// Something that this version does not model.
    #[error("not modelled: {what}")]
    NotModelled {
        /// What it is.
        what: String,
        /// What the guest is told.
        errno: Errno,
    },
    /// The machine cannot be set up this way.
    #[error("mm configuration: {0}")]
    Config(String),
    /// Guest memory refused an access.
    #[error(transparent)]
    Ram(#[from] RamError),
}

impl MmError {
    /// The number that a system call answers.
    pub fn errno(&self) -> Errno {
        match self {
            MmError::Sys { errno, .. } | MmError::NotModelled { errno, .. } => *errno,
            MmError::UserFault { .. } => Errno::EFAULT,
            MmError::NoMemory { .. } => Errno::ENOMEM,
            MmError::Config(_) => Errno::EINVAL,
            MmError::Wild { .. }
            | MmError::Stale { .. }
            | MmError::Broken { .. }
            | MmError::Found(_)
            | MmError::Reported(_)
            | MmError::Ram(_) => Errno::EIO,
        }
    }

    /// Whether this says that the mm itself is broken (a finding), rather than that the guest asked for
    /// something it cannot have.
    pub fn is_finding(&self) -> bool {
        matches!(
            self,
            MmError::Wild { .. }
                | MmError::Stale { .. }
                | MmError::Broken { .. }
                | MmError::Found(_)
                | MmError::Ram(_)
        )
    }

    /// The same about what is at `kva`, if it is a broken invariant that names no place.
    pub(crate) fn at(mut self, kva: Kva) -> MmError {
        if let MmError::Broken { about, .. } = &mut self {
            about.get_or_insert(kva);
        }
        self
    }

    /// The invariant that a finding breaks (hosted-mm D; 24 and above are the project's own).
    pub fn rule(&self) -> Option<u8> {
        match self {
            MmError::Broken { rule, .. } => Some(*rule),
            MmError::Found(r) => Some(r.rule),
            MmError::Wild { .. } => Some(14),
            MmError::Stale { .. } => Some(22),
            MmError::Ram(_) => Some(1),
            _ => None,
        }
    }
}

/// What the mm answers.
pub type Result<T, E = MmError> = std::result::Result<T, E>;

pub(crate) fn sys<T>(op: &'static str, errno: Errno, why: &'static str) -> Result<T> {
    Err(MmError::Sys { op, errno, why })
}

pub(crate) fn broken<T>(rule: u8, text: impl Into<String>) -> Result<T> {
    Err(MmError::Broken { rule, text: text.into(), about: None })
}

/// A broken invariant about what is at `about`.
pub(crate) fn broken_at<T>(rule: u8, about: Kva, text: impl Into<String>) -> Result<T> {
    Err(MmError::Broken { rule, text: text.into(), about: Some(about) })
}

//! What system calls answer.

pub use racewalk_mm::Errno;

/// A system call's result: a value, or an error.
pub type SysResult = Result<u64, Errno>;

//! What can go wrong with guest memory.

use crate::Paddr;

/// An error of the guest memory.
#[derive(Debug, thiserror::Error)]
pub enum RamError {
    /// An access outside the configured memory: an addressing exception to the guest.
    #[error("physical address {addr:#x} ({len} bytes) lies outside the {size:#x} bytes of guest memory")]
    Addressing {
        /// First byte of the access.
        addr: Paddr,
        /// Bytes.
        len: u64,
        /// Configured memory in bytes.
        size: u64,
    },
    /// An access that must be aligned and is not.
    #[error("physical address {addr:#x} is no multiple of {len}")]
    Alignment {
        /// First byte of the access.
        addr: Paddr,
        /// Bytes, and the alignment wanted.
        len: u64,
    },
    /// The host would not give the mapping.
    #[error("map {size:#x} bytes of guest memory: {source}")]
    Map {
        /// Wanted bytes.
        size: u64,
        /// The host's reason.
        source: std::io::Error,
    },
    /// A memory size that is not a positive multiple of 1 MiB.
    #[error("guest memory of {size:#x} bytes; wanted a multiple of 1 MiB from 1 MiB to 1 TiB")]
    Size {
        /// Found.
        size: u64,
    },
}

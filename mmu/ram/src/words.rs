//! A large zeroed array of atomic words whose host memory is used as it is touched.

use crate::RamError;
use memmap2::{MmapMut, MmapOptions};
use std::sync::atomic::AtomicU64;

/// `n` atomic words, zero at the start.
pub struct Words {
    memory: Memory,
    n: usize,
}

enum Memory {
    /// A few, on the heap: making them costs no system call.
    Few(Box<[AtomicU64]>),
    /// Never used through its own `Deref`: all access is through the atomics below.
    Many(MmapMut),
}

/// Words that are kept on the heap at most: 256 KiB.
const FEW: usize = 1 << 15;

impl std::fmt::Debug for Words {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Words({})", self.n)
    }
}

impl Words {
    /// Maps `n` words.
    pub fn new(n: usize) -> Result<Words, RamError> {
        if n <= FEW {
            let few = (0..n).map(|_| AtomicU64::new(0)).collect();
            return Ok(Words { memory: Memory::Few(few), n });
        }
        let size = n as u64 * 8;
        let map = MmapOptions::new()
            .len(n.max(1) * 8)
            .no_reserve_swap()
            .map_anon()
            .map_err(|source| RamError::Map { size, source })?;
        Ok(Words { memory: Memory::Many(map), n })
    }

    /// All of them.
    #[inline]
    pub fn as_slice(&self) -> &[AtomicU64] {
        match &self.memory {
            Memory::Few(words) => words,
            // SAFETY: the mapping is page-aligned, lives as long as `self`, holds `n` initialised (zero) words, and is
            // reached through atomics only.
            Memory::Many(map) => unsafe {
                std::slice::from_raw_parts(map.as_ptr().cast::<AtomicU64>(), self.n)
            },
        }
    }
}

//! A large zeroed array of atomic words whose host memory is used as it is touched.

use crate::RamError;
use memmap2::{MmapMut, MmapOptions};
use std::sync::atomic::AtomicU64;

/// `n` atomic words, zero at the start.
pub struct Words {
    // Never used through its own `Deref`: all access is through the atomics below.
    map: MmapMut,
    n: usize,
}

impl std::fmt::Debug for Words {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Words({})", self.n)
    }
}

impl Words {
    /// Maps `n` words.
    pub fn new(n: usize) -> Result<Words, RamError> {
        let size = n as u64 * 8;
        let map = MmapOptions::new()
            .len(n.max(1) * 8)
            .no_reserve_swap()
            .map_anon()
            .map_err(|source| RamError::Map { size, source })?;
        Ok(Words { map, n })
    }

    /// All of them.
    #[inline]
    pub fn as_slice(&self) -> &[AtomicU64] {
        // SAFETY: the mapping is page-aligned, lives as long as `self`, holds `n` initialised (zero) words, and is
        // reached through atomics only.
        unsafe { std::slice::from_raw_parts(self.map.as_ptr().cast::<AtomicU64>(), self.n) }
    }
}

//! The mapping and its checked accessors.

use crate::code::CodeBits;
use crate::{Paddr, Pfn, RamError, raw};
use memmap2::{MmapOptions, MmapRaw};

/// log2 of the frame size.
pub const PAGE_SHIFT: u32 = 12;
/// The frame size in bytes.
pub const PAGE_SIZE: u64 = 1 << PAGE_SHIFT;
/// No memory is smaller.
const SMALLEST: u64 = 1 << 20;

/// The guest's physical memory: absolute addresses 0 to [`size`](Ram::size), zero at the start.
pub struct Ram {
    map: MmapRaw,
    size: u64,
    code: CodeBits,
}

impl std::fmt::Debug for Ram {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Ram({:#x} bytes)", self.size)
    }
}

macro_rules! accessors {
    ($load:ident, $store:ident, $ty:ty, $ld:ident, $st:ident) => {
        #[doc = concat!("Loads a big-endian `", stringify!($ty), "`.")]
        #[inline]
        pub fn $load(&self, addr: Paddr) -> Result<$ty, RamError> {
            let p = self.host(addr, size_of::<$ty>() as u64)?;
            // SAFETY: `host` checked that all bytes lie inside the live mapping.
            Ok(<$ty>::from_be(unsafe { raw::$ld(p) }))
        }
        #[doc = concat!("Stores a big-endian `", stringify!($ty), "`.")]
        #[inline]
        pub fn $store(&self, addr: Paddr, v: $ty) -> Result<(), RamError> {
            let p = self.host(addr, size_of::<$ty>() as u64)?;
            // SAFETY: as above.
            unsafe { raw::$st(p, v.to_be()) };
            self.written(addr, size_of::<$ty>() as u64);
            Ok(())
        }
    };
}

impl Ram {
    /// Maps `size` bytes (a multiple of 1 MiB) of zeroed memory. Host memory is used as frames are touched.
    pub fn new(size: u64) -> Result<Ram, RamError> {
        if size & 0xf_ffff != 0 || !(SMALLEST..=1 << 40).contains(&size) {
            return Err(RamError::Size { size });
        }
        let map = MmapOptions::new()
            .len(size as usize)
            .no_reserve_swap()
            .map_anon()
            .map(MmapRaw::from)
            .map_err(|source| RamError::Map { size, source })?;
        Ok(Ram { map, size, code: CodeBits::new((size >> PAGE_SHIFT) as usize) })
    }

    /// Bytes of memory.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The host address of guest physical address 0, for the engines' translated accesses.
    pub fn base(&self) -> *mut u8 {
        self.map.as_mut_ptr()
    }

    /// The host address of `len` bytes at `addr`, or the addressing error.
    #[inline]
    pub fn host(&self, addr: Paddr, len: u64) -> Result<*mut u8, RamError> {
        // For the lengths of single accesses, known where this is inlined, one comparison says it all.
        let inside = if len <= SMALLEST {
            addr.0 <= self.size - len
        } else {
            len <= self.size && addr.0 <= self.size - len
        };
        if !inside {
            return Err(RamError::Addressing { addr, len, size: self.size });
        }
        Ok(self.map.as_mut_ptr().wrapping_add(addr.0 as usize))
    }

    accessors!(load_u16, store_u16, u16, ld16, st16);
    accessors!(load_u32, store_u32, u32, ld32, st32);
    accessors!(load_u64, store_u64, u64, ld64, st64);

    /// Loads a byte.
    #[inline]
    pub fn load_u8(&self, addr: Paddr) -> Result<u8, RamError> {
        let p = self.host(addr, 1)?;
        // SAFETY: checked by `host`.
        Ok(unsafe { raw::ld8(p) })
    }

    /// Stores a byte.
    #[inline]
    pub fn store_u8(&self, addr: Paddr, v: u8) -> Result<(), RamError> {
        let p = self.host(addr, 1)?;
        // SAFETY: checked by `host`.
        unsafe { raw::st8(p, v) };
        self.written(addr, 1);
        Ok(())
    }

    /// Atomic compare and swap of a big-endian doubleword; returns the old value.
    #[inline]
    pub fn cas_u64(&self, addr: Paddr, expected: u64, new: u64) -> Result<u64, RamError> {
        let p = self.host(addr, 8)?;
        // SAFETY: checked by `host`.
        let old = u64::from_be(unsafe { raw::cas64(p, expected.to_be(), new.to_be()) });
        if old == expected {
            self.written(addr, 8);
        }
        Ok(old)
    }

    /// Loads sixteen bytes at a multiple of 16 as one single-copy atomic access, as two big-endian doublewords.
    #[inline]
    pub fn load_pair(&self, addr: Paddr) -> Result<[u64; 2], RamError> {
        if addr.0 & 15 != 0 {
            return Err(RamError::Alignment { addr, len: 16 });
        }
        let p = self.host(addr, 16)?;
        // SAFETY: checked by `host`; the mapping is page-aligned, so the host address is aligned too.
        let (low, high) = unsafe { raw::ld128(p) };
        Ok([u64::from_be(low), u64::from_be(high)])
    }

    /// Reads bytes; no order among them.
    pub fn read(&self, addr: Paddr, out: &mut [u8]) -> Result<(), RamError> {
        let p = self.host(addr, out.len() as u64)?;
        // SAFETY: checked by `host`.
        unsafe { raw::read(p, out) };
        Ok(())
    }

    /// Writes bytes; no order among them.
    pub fn write(&self, addr: Paddr, bytes: &[u8]) -> Result<(), RamError> {
        let p = self.host(addr, bytes.len() as u64)?;
        // SAFETY: checked by `host`.
        unsafe { raw::write(p, bytes) };
        self.written(addr, bytes.len() as u64);
        Ok(())
    }

    /// Fills `len` bytes with `byte`.
    pub fn fill(&self, addr: Paddr, byte: u8, len: u64) -> Result<(), RamError> {
        let p = self.host(addr, len)?;
        // SAFETY: checked by `host`.
        unsafe { raw::fill(p, byte, len as usize) };
        self.written(addr, len);
        Ok(())
    }

    /// Stores `v` (big-endian, like [`store_u64`](Self::store_u64)) into each of `n` doublewords from `addr`, a multiple of 8.
    pub fn fill_u64(&self, addr: Paddr, v: u64, n: u64) -> Result<(), RamError> {
        let len = n.saturating_mul(8);
        let p = self.host(addr, len)?;
        // SAFETY: checked by `host`.
        unsafe { raw::fill64(p, v.to_be(), n as usize) };
        self.written(addr, len);
        Ok(())
    }

    /// Copies a whole frame (copy on write, migration).
    pub fn copy_frame(&self, to: Pfn, from: Pfn) -> Result<(), RamError> {
        let d = self.host(to.paddr(), PAGE_SIZE)?;
        let s = self.host(from.paddr(), PAGE_SIZE)?;
        // SAFETY: both checked by `host`.
        unsafe { raw::copy_up(d, s, PAGE_SIZE as usize) };
        self.written(to.paddr(), PAGE_SIZE);
        Ok(())
    }

    /// Which frames hold translated code; see [`CodeBits`].
    pub fn code(&self) -> &CodeBits {
        &self.code
    }

    /// Every writer calls this after it stored: code made from those bytes is stale from here on.
    #[inline]
    pub fn written(&self, addr: Paddr, len: u64) {
        self.code.written(addr, len);
    }
}

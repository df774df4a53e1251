//! Memory for translated code: one memory file mapped twice, once to write and once to run.

use super::trampoline;
use racewalk_isa::fp::FpOp;
use racewalk_isa::vec::VecOp;
use rustix::fs::MemfdFlags;
use rustix::mm::{MapFlags, ProtFlags};
use std::io;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, Mutex};

/// The largest arena: every jump inside it must fit a signed 32-bit displacement.
const MAX_BYTES: usize = 1 << 30;
/// Bytes of one entry of the table of trampolines at the start of the arena.
const BOARD: usize = 16;

/// Code memory with bump allocation. Its first bytes are a table of jumps to the trampolines, so that generated
/// code reaches them with 32-bit displacements wherever the program text is.
pub struct Arena {
    write: *mut u8,
    run: *mut u8,
    size: usize,
    used: usize,
    floor: usize,
    records: bool,
    pub(super) work: Option<Box<super::values::Work>>,
    pub(super) ops: Arc<Ops>,
}

/// Operation selectors that generated code points at. They live as long as the arena.
#[derive(Default)]
#[allow(clippy::vec_box, reason = "generated code has the addresses")]
pub(super) struct Ops {
    fp: Mutex<Vec<Box<FpOp>>>,
    vec: Mutex<Vec<Box<VecOp>>>,
}

impl Ops {
    /// The address of a copy of `op`.
    pub fn fp(&self, op: FpOp) -> u64 {
        intern(&self.fp, op)
    }
    /// The address of a copy of `op`.
    pub fn vec(&self, op: VecOp) -> u64 {
        intern(&self.vec, op)
    }
}

// SAFETY: the two mappings are owned and stay where they are; writes to bytes that others may run go through
// atomics, all other writes need `&mut Arena`.
unsafe impl Send for Arena {}
// SAFETY: as above; `&Arena` gives only `patch` and `unpatch`, which are atomic.
unsafe impl Sync for Arena {}

impl std::fmt::Debug for Arena {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Arena({} of {} bytes)", self.used, self.size)
    }
}

impl Arena {
    /// Maps an arena of `bytes` (rounded up to pages, at most 1 GiB).
    pub fn new(bytes: usize) -> io::Result<Arena> {
        let size = bytes.clamp(64 << 10, MAX_BYTES).next_multiple_of(4096);
        let fd = rustix::fs::memfd_create("racewalk-code", MemfdFlags::CLOEXEC)?;
        rustix::fs::ftruncate(&fd, size as u64)?;
        let map = |prot| {
            // SAFETY: a fresh shared mapping of our own file at an address the kernel picks.
            unsafe { rustix::mm::mmap(std::ptr::null_mut(), size, prot, MapFlags::SHARED, &fd, 0) }
        };
        let write = map(ProtFlags::READ | ProtFlags::WRITE)?.cast::<u8>();
        let run = match map(ProtFlags::READ | ProtFlags::EXEC) {
            Ok(p) => p.cast::<u8>(),
            Err(e) => {
                // SAFETY: mapped above, nobody has seen it.
                let _ = unsafe { rustix::mm::munmap(write.cast(), size) };
                return Err(e.into());
            }
        };
        let mut arena =
            Arena { write, run, size, used: 0, floor: 0, records: false, work: None, ops: Arc::default() };
        for target in trampoline::BOARDS {
            let mut b = [0xcc; BOARD];
            // jmp [rip + 2]; two bytes of padding; the address.
            b[..6].copy_from_slice(&[0xff, 0x25, 2, 0, 0, 0]);
            b[8..].copy_from_slice(&(target as usize as u64).to_le_bytes());
            arena.append(&b);
        }
        arena.floor = arena.used;
        Ok(arena)
    }

    /// Code that is translated from now on notes the pages that it touches: every core that runs it has somebody to
    /// give its runs to.
    pub fn record(&mut self) {
        self.records = true
    }

    pub(super) fn records(&self) -> bool {
        self.records
    }

    /// Bytes in use.
    pub fn used(&self) -> usize {
        self.used
    }

    /// Bytes in all.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Host addresses at which its code runs.
    pub fn range(&self) -> std::ops::Range<u64> {
        self.run as u64..self.run as u64 + self.size as u64
    }

    /// Forgets all code. No CPU may be inside any of it, nor keep an address of it.
    pub fn reset(&mut self) {
        self.used = self.floor
    }

    /// Offset of a trampoline's jump.
    pub(super) const fn board(index: usize) -> usize {
        index * BOARD
    }

    /// Where the next code goes: its offset.
    pub(super) fn next(&self) -> usize {
        self.used.next_multiple_of(16)
    }

    /// Host address at which the code at `offset` runs.
    pub(super) fn address(&self, offset: usize) -> u64 {
        self.run as u64 + offset as u64
    }

    /// Appends code at [`Arena::next`]; false if it does not fit.
    pub(super) fn append(&mut self, code: &[u8]) -> bool {
        let at = self.next();
        if code.len() > self.size - at.min(self.size) {
            return false;
        }
        // SAFETY: in bounds of the writable mapping; nobody runs these bytes yet and `&mut self` excludes writers.
        unsafe { std::ptr::copy_nonoverlapping(code.as_ptr(), self.write.add(at), code.len()) };
        self.used = at + code.len();
        true
    }

    fn offset(&self, address: u64, len: usize) -> usize {
        let at = address.wrapping_sub(self.run as u64) as usize;
        assert!(at <= self.used && self.used - at >= len, "address {address:#x} is not in the code arena");
        at
    }

    fn word(&self, offset: usize) -> &AtomicI32 {
        // SAFETY: in bounds (the callers checked), four-byte aligned by construction of link sites, and only ever
        // written through this atomic once the code can run.
        unsafe { AtomicI32::from_ptr(self.write.add(offset).cast()) }
    }

    /// Makes the direct jump at `site` go to `code`. Other CPUs may be running it.
    pub fn patch(&self, site: u64, code: u64) {
        let at = self.offset(site, 8);
        assert!(at.is_multiple_of(4), "address {site:#x} is not a link");
        self.offset(code, 1);
        self.word(at).store((code as i64 - (site as i64 + 4)) as i32, Ordering::Release)
    }

    /// Makes the direct jump at `site` leave generated code again.
    pub fn unpatch(&self, site: u64) {
        let at = self.offset(site, 8);
        assert!(at.is_multiple_of(4), "address {site:#x} is not a link");
        // The word behind a link holds its first displacement and never changes.
        let home = self.word(at + 4).load(Ordering::Relaxed);
        self.word(at).store(home, Ordering::Release)
    }
}

#[allow(clippy::vec_box, reason = "generated code has the addresses")]
fn intern<T: PartialEq>(all: &Mutex<Vec<Box<T>>>, op: T) -> u64 {
    let mut all = all.lock().unwrap_or_else(|e| e.into_inner());
    let i = all.iter().position(|o| **o == op).unwrap_or_else(|| {
        all.push(Box::new(op));
        all.len() - 1
    });
    &raw const *all[i] as u64
}

impl Drop for Arena {
    fn drop(&mut self) {
        // SAFETY: both mappings are ours; whoever entered code of this arena promised that it is alive meanwhile.
        unsafe {
            let _ = rustix::mm::munmap(self.write.cast(), self.size);
            let _ = rustix::mm::munmap(self.run.cast(), self.size);
        }
    }
}

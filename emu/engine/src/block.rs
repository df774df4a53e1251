//! Blocks: straight runs of decoded instructions.

use crate::core::{Core, GRANULE};
use racewalk_isa::scan::Terminator;
use racewalk_isa::{Arch, Exc};
use racewalk_ram::{Paddr, Pfn, raw};
use std::sync::atomic::{AtomicU32, AtomicU64};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Instructions a block may have.
pub const MAX_BLOCK: usize = 64;

/// What a block was made from: code is the same only if both agree.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Key {
    /// Virtual address of the first instruction.
    pub pc: u64,
    /// Its physical address.
    pub paddr: Paddr,
}

/// A block. Its first instruction may cross into the next page, and is then its only one.
pub struct Block<A: Arch> {
    /// Where it is.
    pub key: Key,
    /// The instructions; only the last may transfer control.
    pub insns: Box<[A::Insn]>,
    /// The address behind the last instruction.
    pub next: u64,
    /// The frame of a page-crossing instruction's second part.
    pub second: Option<Pfn>,
    /// How often it was interpreted.
    pub runs: AtomicU32,
    /// Host address of its translation, zero if none.
    pub code: AtomicU64,
    /// Patched jumps that lead here, to be unpatched when the block goes.
    pub(crate) incoming: Mutex<Vec<u64>>,
}

impl<A: Arch> Block<A> {
    /// The patched jumps that lead here.
    pub fn incoming(&self) -> MutexGuard<'_, Vec<u64>> {
        self.incoming.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a direct jump from this block to `target` may be patched: within one page, because a page keeps its
    /// translation as a whole. The block at `target` must not lie in a second page either, see
    /// [`CodeCache::link`](crate::cache::CodeCache::link).
    pub fn may_link(&self, target: u64) -> bool {
        self.second.is_none() && (target ^ self.key.pc) & !(GRANULE - 1) == 0
    }
}

/// What [`fetch`] got.
#[derive(Clone, Copy, Debug)]
pub enum Got {
    /// An instruction.
    Insn(Fetched),
    /// `mark` refused.
    Refused,
    /// The instruction crosses into the next page, which was not wanted and is not touched.
    Crosses,
}

/// Fetches the bytes of the instruction at `pc` through the MMU. Returns them with their number, the physical
/// address of the first, and the frame of a part in the next page, which is entered only if `cross` allows it.
/// `mark` is told every physical range before it is read and may refuse to go on.
pub fn fetch<A: Arch>(
    core: &mut Core,
    pc: u64,
    cross: bool,
    mark: &mut dyn FnMut(Paddr, u64) -> bool,
) -> Result<Got, Exc> {
    let first = core.fetch_piece(pc)?;
    let room = GRANULE - (pc & (GRANULE - 1));
    if !mark(first.paddr, room.min(2)) {
        return Ok(Got::Refused);
    }
    let mut bytes = [0; 8];
    // SAFETY: instructions are at even addresses, so two bytes are in the granule that was translated; the
    // translation holds until the next poll.
    unsafe { raw::read(first.host, &mut bytes[..2]) };
    let len = A::insn_len([bytes[0], bytes[1]]);
    let here = (len as u64).min(room) as usize;
    if here < len && !cross {
        return Ok(Got::Crosses);
    }
    if here > 2 {
        if !mark(first.paddr, here as u64) {
            return Ok(Got::Refused);
        }
        // SAFETY: `here` bytes lie in the same granule.
        unsafe { raw::read(first.host, &mut bytes[..here]) };
    }
    let mut second = None;
    if here < len {
        let rest = core.fetch_piece(pc.wrapping_add(here as u64))?;
        if !mark(rest.paddr, (len - here) as u64) {
            return Ok(Got::Refused);
        }
        // SAFETY: the rest begins a granule of its own.
        unsafe { raw::read(rest.host, &mut bytes[here..len]) };
        second = Some(rest.paddr.pfn());
    }
    Ok(Got::Insn(Fetched { bytes, len, paddr: first.paddr, second }))
}

/// Instruction bytes.
#[derive(Clone, Copy, Debug)]
pub struct Fetched {
    /// The bytes, `len` of them.
    pub bytes: [u8; 8],
    /// How many.
    pub len: usize,
    /// Physical address of the first.
    pub paddr: Paddr,
    /// Frame of the second part, if the instruction crosses pages.
    pub second: Option<Pfn>,
}

/// Decodes the block at `pc`. `None` if `mark` refused. No page is entered that the first instruction does not
/// enter: a walk for what may never be executed would depend on when blocks are made.
pub fn build<A: Arch>(
    core: &mut Core,
    pc: u64,
    mark: &mut dyn FnMut(Paddr, u64) -> bool,
) -> Result<Option<Block<A>>, Exc> {
    let mut insns = Vec::new();
    let mut at = pc;
    let mut paddr = Paddr(0);
    let mut second = None;
    loop {
        let f = match fetch::<A>(core, at, insns.is_empty(), mark) {
            Ok(Got::Insn(f)) => f,
            Ok(Got::Refused) => return Ok(None),
            Ok(Got::Crosses) => break,
            // Only the first instruction's fault is this block's: the others may never be reached.
            Err(e) if insns.is_empty() => return Err(e),
            Err(_) => break,
        };
        if insns.is_empty() {
            paddr = f.paddr;
        }
        let i = A::decode(at, &f.bytes[..f.len]);
        insns.push(i);
        at = at.wrapping_add(f.len as u64);
        second = f.second;
        let notes = racewalk_isa::scan::scan::<A>(&i);
        let ends = notes.terminator != Terminator::None || notes.rotates;
        if ends || second.is_some() || at & (GRANULE - 1) == 0 || insns.len() == MAX_BLOCK {
            break;
        }
    }
    Ok(Some(Block {
        key: Key { pc, paddr },
        insns: insns.into_boxed_slice(),
        next: at,
        second,
        runs: AtomicU32::new(0),
        code: AtomicU64::new(0),
        incoming: Mutex::new(Vec::new()),
    }))
}

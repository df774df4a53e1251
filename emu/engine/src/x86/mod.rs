//! T1: the single-pass x86-64 translator.
//!
//! A block is translated in one pass over its instructions: their semantics run on a [`Backend`] that emits code.
//! Guest registers are cached in host registers within a block and stored at its ends. Whatever may leave the block
//! in its middle (accesses that miss the fast TLB, traps) goes through out-of-line calls that carry a description of
//! where every changed register is, so that the state is exact without code for it.
//!
//! The budget is in a host register while generated code runs. During a slow path `core.budget` is what the
//! interpreter's would be: all instructions before the current one have been counted.
//!
//! [`Backend`]: racewalk_isa::Backend

mod arena;
mod assembler;
mod backend;
mod control;
mod describe;
mod flags;
mod float;
mod memory;
mod runs;
mod trampoline;
mod values;

#[cfg(test)]
mod tests;

pub use arena::Arena;

use crate::core::{Core, GRANULE_SHIFT};
use racewalk_isa::{Arch, Exc};
use trampoline::exit;

/// A direct jump that can be patched to go to translated code.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Link {
    /// Guest address it goes to.
    pub target: u64,
    /// What to pass to [`Arena::patch`].
    pub site: u64,
}

/// A translated block.
#[derive(Clone, Debug)]
pub struct Translated {
    /// What to pass to [`enter`], to [`Arena::patch`], or to put in the jump cache.
    pub entry: u64,
    /// Bytes of host code and descriptions.
    pub bytes: usize,
    /// Its direct jumps.
    pub links: Vec<Link>,
}

/// The arena has no room for the block.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the code arena is full")]
pub struct ArenaFull;

/// Why generated code returned. Instructions are counted up to the one that [`Core::pc`] names, that one excluded,
/// except where noted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Exit {
    /// `core.pc` is the next instruction; it has to be looked up.
    Jump,
    /// The same, through a direct jump that is not patched.
    Link {
        /// The jump, see [`Link::site`].
        site: u64,
    },
    /// The block at `core.pc` did not start: the budget does not cover it, or something is pending.
    Poll,
    /// The instruction at `core.pc` did not complete.
    Exc(Exc),
    /// A supervisor call at `core.pc`, which has been counted.
    Syscall {
        /// Its number.
        number: u16,
        /// Where it continues.
        next: u64,
    },
    /// EXECUTE at `core.pc`: target in `core.arg0`, modifier in `core.arg1`; not counted.
    Execute {
        /// Its bytes.
        len: u8,
    },
    /// The interpreter has to run the instruction at `core.pc`; nothing of it has happened.
    Interpret,
    /// A slow path panicked in the instruction at `core.pc`.
    Panicked,
}

/// Translates the block at `pc`: at least one instruction, consecutive, only the last of which may transfer control;
/// otherwise it continues at `next`. Direct jumps to targets for which `may_link` holds become links.
pub fn translate<A: Arch>(
    arena: &mut Arena,
    pc: u64,
    insns: &[A::Insn],
    next: u64,
    may_link: &dyn Fn(u64) -> bool,
) -> Result<Translated, ArenaFull> {
    let mut work = match arena.work.take() {
        Some(w) => w,
        None => Box::new(values::Work::new(arena.ops.clone())),
    };
    let (insns, next) = match insns.get(MAX_INSNS) {
        Some(i) => (&insns[..MAX_INSNS], A::pc(i)),
        None => (insns, next),
    };
    let origin = arena.next();
    let mut whole = insns.len();
    // An instruction that cannot be translated ends the block: the second try stops before it.
    work.records = arena.records();
    while let Err(k) = emit::<A>(&mut work, origin, pc, insns, whole, next, may_link) {
        whole = k;
    }
    let bytes = work.asm.len();
    let done = arena.append(work.asm.bytes());
    let entry = arena.address(origin);
    let links = work.links.iter().map(|&(at, target)| Link { target, site: entry + at as u64 }).collect();
    arena.work = Some(work);
    if done { Ok(Translated { entry, bytes, links }) } else { Err(ArenaFull) }
}

/// Longest block; what is longer continues in another one.
const MAX_INSNS: usize = 4096;

/// Emits the first `whole` instructions, and an exit to the interpreter for the one after them if there is one.
/// Fails with the number of an instruction that cannot be translated.
fn emit<A: Arch>(
    work: &mut values::Work,
    origin: usize,
    pc: u64,
    insns: &[A::Insn],
    whole: usize,
    next: u64,
    may_link: &dyn Fn(u64) -> bool,
) -> Result<(), usize> {
    let count = insns.len().min(whole + 1);
    work.reset(origin);
    work.head(count as i32, pc);
    let mut ended = false;
    let mut page = None;
    for (k, i) in insns[..whole].iter().enumerate() {
        work.pc = A::pc(i);
        work.next = work.pc.wrapping_add(A::len(i) as u64);
        work.left = (count - k) as u16;
        work.called = false;
        work.ended = false;
        for at in [work.pc, work.next.wrapping_sub(1)] {
            if work.records && page.replace(at >> GRANULE_SHIFT) != Some(at >> GRANULE_SHIFT) {
                work.note_fetch(at, (count - k) as i32)
            }
        }
        let mut t = backend::Translator { work, may_link };
        let Ok(()) = A::exec(&mut t, i);
        if work.bail {
            return Err(k);
        }
        ended = work.ended;
        if work.called && !ended {
            work.leave_if_code_written()
        }
        work.end_insn();
    }
    if let Some(i) = insns.get(whole) {
        work.interpret(A::pc(i), 1)
    } else if !ended {
        work.called = false;
        work.emit_goto(next, may_link(next))
    }
    work.finish();
    Ok(())
}

/// Runs translated code until it exits.
///
/// # Safety
/// `code` is the [`Translated::entry`] of a block in an arena that stays alive, and is not reset, until this returns;
/// so is everything that links and the jump cache of `core` lead to. The blocks belong to the architecture whose
/// state `core` holds. If the arena's code notes its runs, `core` has somebody to give them to.
pub unsafe fn enter(core: &mut Core, code: u64) -> Exit {
    // SAFETY: the caller vouches for the code; `core` is exclusively ours.
    let raw = unsafe { trampoline::enter(core, code) };
    match raw.kind {
        exit::JUMP | trampoline::LEFT => Exit::Jump,
        exit::LINK => Exit::Link { site: raw.arg },
        exit::POLL => Exit::Poll,
        exit::EXC => match std::num::NonZeroU32::new(core.exc) {
            Some(e) => Exit::Exc(Exc(e)),
            None => Exit::Panicked,
        },
        exit::SYSCALL => Exit::Syscall { number: raw.arg as u16, next: core.arg0 },
        exit::EXECUTE => Exit::Execute { len: raw.arg as u8 },
        exit::INTERPRET => Exit::Interpret,
        _ => Exit::Panicked,
    }
}

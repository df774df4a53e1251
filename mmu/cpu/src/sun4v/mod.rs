//! The hypervisor of sun4v behind the port: the MMU's hypercalls, each for the CPU that makes it and no other. The caller
//! is kernel code on that CPU. Nothing is changed by a call that is refused, except that one for TSBs has taken away
//! those that there were, as the hypervisor that OpenSPARC published does it.

use crate::{Access, Cpus};
use racewalk_walk::sparc64::sun4v::descriptor::{TSBS, TsbDescriptor, configs};
use racewalk_walk::sparc64::sun4v::geometry::Config;
use racewalk_walk::sparc64::sun4v::hypercall::{FAST_TRAP, MAP_ADDR_TRAP, Sides, UNMAP_ADDR_TRAP, number};
use racewalk_walk::sparc64::sun4v::invalidate::{self, Demap};
use racewalk_walk::sparc64::sun4v::permanent::{map_permanent, unmap_permanent};
use racewalk_walk::sparc64::sun4v::{Context, Refused, map_addr};
use racewalk_walk::sparc64::{Fault, Leaf, Sun4v};
use racewalk_walk::tlb::{Entry, Purge, Spaces};

/// What a hypercall leaves in registers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Returned {
    /// %o0: 0, or why it was refused ([`Refused`]).
    pub status: u64,
    /// %o1, where the call gives something.
    pub value: u64,
}

/// To what address a fault area is aligned, and how long it is, in bytes.
const AREA: (u64, u64) = (0x40, 0x80);
/// The least that instructions are aligned to.
const INSTRUCTION: u64 = 4;

impl Cpus<Sun4v> {
    /// A hypercall of `cpu`: software trap `trap` with %o5 = `function` (of the traps for fast calls alone) and %o0 to %o4.
    /// Functions that are not the MMU's do not exist here.
    pub fn hypercall(&self, cpu: u32, trap: u8, function: u64, args: [u64; 5]) -> Returned {
        match self.call(cpu, trap, function, args) {
            Ok(value) => Returned { status: 0, value },
            Err(why) => Returned { status: why.status(), value: 0 },
        }
    }

    fn call(&self, cpu: u32, trap: u8, function: u64, args: [u64; 5]) -> Result<u64, Refused> {
        let c = self.context(cpu);
        let [a0, a1, a2, a3, _] = args;
        match (trap, function) {
            (MAP_ADDR_TRAP, _) => {
                let (entry, sides) = map_addr(&c, [a0, a1, a2, a3])?;
                self.replace(cpu, &overlapped(&entry), entry, sides);
            }
            (UNMAP_ADDR_TRAP, _) => {
                self.demap(cpu, invalidate::unmap_addr(c.partition, &c.model, [a0, a1, a2])?)
            }
            (FAST_TRAP, number::TSB_CTX0) => self.configure(cpu, a0, a1, |c| &mut c.zero)?,
            (FAST_TRAP, number::TSB_CTXNON0) => self.configure(cpu, a0, a1, |c| &mut c.nonzero)?,
            (FAST_TRAP, number::DEMAP_PAGE) => {
                self.demap(cpu, invalidate::demap_page(c.partition, &c.model, args)?)
            }
            (FAST_TRAP, number::DEMAP_CONTEXT) => {
                self.demap(cpu, invalidate::demap_context(c.partition, [a0, a1, a2, a3])?)
            }
            (FAST_TRAP, number::DEMAP_ALL) => {
                self.demap(cpu, invalidate::demap_all(c.partition, [a0, a1, a2])?)
            }
            (FAST_TRAP, number::MAP_PERMANENT) => {
                let m = self.change(cpu, |c| map_permanent(c, [a0, a1, a2, a3]))?;
                self.replace(cpu, &m.purge(c.partition), m.entry(c.partition), m.sides);
            }
            (FAST_TRAP, number::UNMAP_PERMANENT) => {
                if let Some(purge) = self.change(cpu, |c| unmap_permanent(c, [a0, a1, a2]))? {
                    self.purge_on(cpu, &purge);
                }
            }
            (FAST_TRAP, number::FAULT_AREA_CONF) => return self.change(cpu, |c| fault_area(c, a0)),
            (FAST_TRAP, number::FAULT_AREA_INFO) => return Ok(c.fault_area),
            (FAST_TRAP, number::ENABLE) => self.change(cpu, |c| enable(c, a0 != 0, a1))?,
            _ => return Err(Refused::BadTrap),
        }
        Ok(0)
    }

    /// Changes what is loaded on a CPU.
    fn change<R>(&self, cpu: u32, f: impl FnOnce(&mut Context) -> R) -> R {
        f(&mut self.cpus[cpu as usize].gate().context)
    }

    /// `mmu_tsb_ctx0` and `mmu_tsb_ctxnon0`: `count` descriptors at real address `list`.
    fn configure(
        &self,
        cpu: u32,
        count: u64,
        list: u64,
        class: impl Fn(&mut Context) -> &mut [Config; TSBS],
    ) -> Result<(), Refused> {
        self.change(cpu, |c| *class(c) = Default::default());
        let c = self.context(cpu);
        let descriptors = self.descriptors(&c, count, list)?;
        let tsbs = configs(&descriptors, &c)?;
        self.change(cpu, |c| *class(c) = tsbs);
        Ok(())
    }

    fn descriptors(&self, c: &Context, count: u64, list: u64) -> Result<Vec<TsbDescriptor>, Refused> {
        let count = usize::try_from(count).ok().filter(|&n| n <= TSBS).ok_or(Refused::Invalid)?;
        if count == 0 {
            return Ok(Vec::new());
        }
        if !list.is_multiple_of(TsbDescriptor::ALIGNMENT) {
            return Err(Refused::BadAlignment);
        }
        let bytes = count as u64 * TsbDescriptor::BYTES;
        let at = c.real_memory(list, bytes).ok_or(Refused::NoRealAddress)?;
        // A range may promise memory that the machine does not have.
        let word = |i: u64| self.ram.load_u64(at.offset(i * 8)).map_err(|_| Refused::NoRealAddress);
        (0..count as u64)
            .map(|d| {
                Ok(TsbDescriptor::from_words([
                    word(d * 4)?,
                    word(d * 4 + 1)?,
                    word(d * 4 + 2)?,
                    word(d * 4 + 3)?,
                ]))
            })
            .collect()
    }

    /// The TLB models here take what a demap names from both sides, whichever it asks for.
    fn demap(&self, cpu: u32, demap: Demap) {
        self.purge_on(cpu, &demap.purge);
    }

    /// Enters a translation in place of what it overlaps.
    fn replace(&self, cpu: u32, purge: &Purge, entry: Entry<Leaf>, sides: Sides) {
        self.purge_on(cpu, purge);
        let seq = self.cpus[cpu as usize].gate().seq;
        let va = entry.tag.page;
        if sides.data {
            self.enter(cpu, va, Access::Load, entry, seq);
        }
        if sides.instruction {
            self.enter(cpu, va, Access::Fetch, entry, seq);
        }
    }

    /// Writes what the guest is to know of a fault of `cpu` into its fault area; false if it has none, or of errors that
    /// are not the guest's.
    pub fn report_fault(&self, cpu: u32, fault: &Fault) -> bool {
        let c = self.context(cpu);
        let (Some(f), true) = (fault.fault_area(), c.fault_area != 0) else { return false };
        let Some(area) = c.real_memory(c.fault_area, AREA.1) else { return false };
        let half = area.offset(f.offset);
        let words = [(0, f.fault_type), (8, f.address), (16, f.context)];
        words.iter().all(|&(at, value)| self.ram.store_u64(half.offset(at), value).is_ok())
    }
}

/// What a new entry of a context takes the place of.
fn overlapped(entry: &Entry<Leaf>) -> Purge {
    Purge {
        spaces: Spaces::one(entry.tag.space),
        range: Some((entry.tag.page, entry.tag.last())),
        spare_locked: true,
        ..Purge::default()
    }
}

/// `mmu_fault_area_conf`: the area that there was.
fn fault_area(c: &mut Context, ra: u64) -> Result<u64, Refused> {
    if !ra.is_multiple_of(AREA.0) {
        return Err(Refused::BadAlignment);
    }
    if ra != 0 && c.real_memory(ra, AREA.1).is_none() {
        return Err(Refused::NoRealAddress);
    }
    Ok(std::mem::replace(&mut c.fault_area, ra))
}

/// `mmu_enable`: the caller goes on at `target`, a real address if translation goes off.
fn enable(c: &mut Context, on: bool, target: u64) -> Result<(), Refused> {
    if !target.is_multiple_of(INSTRUCTION) {
        return Err(Refused::BadAlignment);
    }
    if (c.state.fetch_mmu || c.state.data_mmu) == on {
        return Err(Refused::Invalid);
    }
    if !on && c.real_memory(target, INSTRUCTION).is_none() {
        return Err(Refused::NoRealAddress);
    }
    (c.state.fetch_mmu, c.state.data_mmu) = (on, on);
    Ok(())
}

#[cfg(test)]
mod tests;

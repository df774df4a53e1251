//! sun4u: TLB lookup, Linux's miss handler, and the access once more.

use crate::sparc64::{Case, Issue, Slow, agree, all, bit, bits, case, issue};
use crate::{Words, judge, tables};
use racewalk_ram::{Paddr, Vaddr};
use racewalk_walk::sparc64::sun4u::{self, Kernel, TagAccess};
use racewalk_walk::sparc64::{Fault, Machine, Reason};
use racewalk_walk::tlb::InfiniteTlb;
use racewalk_walk::{Access, WalkStop};

/// sun4u, with a TLB that is a list.
struct Machine4u<'a> {
    words: &'a Words,
    c: &'a sun4u::Context,
    kernel: &'a Kernel,
    case: &'a Case,
    i: Issue,
}

impl Machine4u<'_> {
    fn trap(&self, tt: u64, ft: u64, e: bool) -> Slow {
        let case = self.case;
        let (va, fetch) = (case.va, case.access == Access::Fetch);
        let mut registers = Vec::new();
        let flag = |b: bool, n: u32| if b { 1u64 << n } else { 0 };
        if matches!(tt, 0x08 | 0x30 | 0x34 | 0x37 | 0x6c) {
            registers.push(
                1 + flag(bit(case.sfsr, 0), 1)
                    + flag(case.access == Access::Store, 2)
                    + flag(self.i.supervisor, 3)
                    + (self.i.ct << 4)
                    + flag(e, 6)
                    + (ft << 7)
                    + (self.i.asi << 16)
                    + flag(self.i.no_fault, 24),
            );
        }
        // Registers have 44 bits of an address and repeat the topmost.
        let sign = if bit(va, 43) { u64::MAX - ((1 << 44) - 1) } else { 0 };
        let va = sign + bits(va, 43, 0);
        if matches!(tt, 0x30 | 0x34 | 0x37 | 0x6c) {
            registers.push(va);
        }
        if matches!(tt, 0x08 | 0x30 | 0x64 | 0x68 | 0x6c) {
            let register = if fetch { self.c.instruction_tsb } else { self.c.data_tsb }.0;
            registers.push((bits(va, 63, 13) << 13) + self.i.context0);
            registers.push((self.i.context0 << 48) + bits(va, 63, 22));
            registers.push(pointer(register, bits(va, 63, 13), 0));
            registers.push(pointer(register, bits(va, 63, 16), 1));
        }
        Slow::Trap(tt, registers)
    }

    /// Matches and checks one TTE as the TLB has it.
    fn check(&self, tte: u64) -> Slow {
        let (case, va) = (self.case, self.case.va);
        let data = case.access != Access::Fetch;
        let size = bits(tte, 62, 61) + if bit(tte, 48) { 4 } else { 0 };
        let page_bits = if size > 5 { 13 } else { 13 + 3 * size as u32 };
        let mut ft = 0;
        if bit(tte, 2) && self.i.user {
            ft += 0x01;
        }
        if data && bit(tte, 3) && self.i.no_fault {
            ft += 0x02;
        }
        if data && self.i.atomic && !bit(tte, 5) {
            ft += 0x04;
        }
        if data && bit(tte, 60) && !self.i.no_fault {
            ft += 0x10;
        }
        let e = data && bit(tte, 3);
        if ft != 0 {
            return self.trap(if data { 0x30 } else { 0x08 }, ft, e);
        }
        if case.access == Access::Store && !bit(tte, 1) {
            return self.trap(0x6c, 0, e);
        }
        let frame = bits(tte, 42, page_bits) << page_bits;
        Slow::Found(frame + bits(va, page_bits - 1, 0), page_bits, vec![])
    }

    fn access(&self) -> Slow {
        let (case, va) = (self.case, self.case.va);
        let fetch = case.access == Access::Fetch;
        if self.i.bypass && self.i.atomic && matches!(self.i.asi, 0x15 | 0x1d) {
            return self.trap(0x30, 0x04, true);
        }
        if self.i.bypass {
            return Slow::Found(bits(va, 42, 0), 13, vec![]);
        }
        let above = bits(va, 63, 43);
        if above != 0 && above != (1 << 21) - 1 {
            return self.trap(if fetch { 0x08 } else { 0x30 }, 0x20, false);
        }
        // The one TLB entry of the case.
        if let Some((tag, tte)) = case.entry
            && bit(tte, 63)
        {
            let size = bits(tte, 62, 61) + if bit(tte, 48) { 4 } else { 0 };
            let page_bits = if size > 5 { 13 } else { 13 + 3 * size as u32 };
            let context = bit(tte, 0) || bits(tag, 12, 0) == self.i.context0;
            if context && bits(tag, 63, page_bits) == bits(va, 63, page_bits) {
                return self.check(tte);
            }
        }
        match self.handler() {
            Ok(tte) => self.check(tte),
            Err(tt) => self.trap(tt, 0, false),
        }
    }

    /// The software handler: the TTE, or the trap that stands.
    fn handler(&self) -> Result<u64, u64> {
        let va = self.case.va;
        let fetch = self.case.access == Access::Fetch;
        let miss = if fetch { 0x64 } else { 0x68 };
        if self.i.context0 == 0 {
            return Err(miss);
        }
        let load = |at: u64| self.words.get(&at).copied().ok_or(0x32u64);
        let register = if fetch { self.c.instruction_tsb } else { self.c.data_tsb }.0;
        let tag = bits(va, 63, 22);
        let mut tsbs = vec![pointer(register, bits(va, 63, 13), 0)];
        tsbs.extend(self.kernel.huge_tsb.map(|t| pointer(t.0, bits(va, 63, 22), 0)));
        let mut tte = None;
        for at in &tsbs {
            let pair = (load(*at)?, load(at + 8)?);
            if pair.0 == tag {
                tte = Some(pair.1);
                break;
            }
        }
        if tte.is_none() {
            let mut table = self.kernel.pgd.0;
            let mut entry = 0;
            for (high, low) in [(52, 43), (42, 33), (32, 23), (22, 13)] {
                entry = load(table + 8 * bits(va, high, low))?;
                if entry == 0 {
                    return Err(miss);
                }
                if low == 23 && bit(entry, 56) {
                    entry = entry - (bits(entry, 22, 22) << 22) + (bits(va, 22, 22) << 22);
                    break;
                }
                table = entry;
            }
            if !bit(entry, 63) {
                return Err(miss);
            }
            tte = Some(entry);
        }
        let tte = tte.expect("found");
        if fetch && !bit(tte, 12) {
            return Err(miss);
        }
        // A TTE that is not valid enters nothing: the retried access misses again.
        if bit(tte, 63) { Ok(tte) } else { Err(miss) }
    }
}

/// A TSB pointer of sun4u, by the formula for common and split TSBs.
fn pointer(register: u64, number: u64, half: u64) -> u64 {
    let n = bits(register, 2, 0) as u32;
    let entry = 16 * bits(number, 8 + n, 0);
    if bit(register, 12) {
        (bits(register, 63, 14 + n) << (14 + n)) + (half << (13 + n)) + entry
    } else {
        (bits(register, 63, 13 + n) << (13 + n)) + entry
    }
}

pub fn registers_4u(f: &Fault, c: &sun4u::Context, sfsr: u64) -> Vec<u64> {
    let mut r: Vec<u64> = f.sfsr(sfsr).into_iter().chain(f.sfar()).collect();
    if let Some(tag) = f.tag_access().map(TagAccess) {
        let tsb = c.tsb(f.request.access);
        r.extend([tag.0, tag.target().0, tsb.pointer_8k(tag).0, tsb.pointer_64k(tag).0]);
    }
    r
}

#[test]
fn sun4u() {
    // Two entries that match are no case of one entry.
    judge(case(), &all(Machine::Sun4u, &[Reason::MultipleHit]), |case, seen| {
        let (words, c, kernel) = case.sun4u();
        let slow = match issue(case, false) {
            Ok(i) => Machine4u { words: &words, c: &c, kernel: &kernel, case, i }.access(),
            Err((tt, ft, i)) => {
                Machine4u { words: &words, c: &c, kernel: &kernel, case, i }.trap(tt, ft, false)
            }
        };
        let (memory, va) = (tables(&words), Vaddr(case.va));
        let mut tlb = InfiniteTlb::new();
        if let Some((tag, tte)) = case.entry {
            let e = sun4u::walk::data_in(TagAccess(tag), sun4u::Tte(tte), Paddr(0));
            e.into_iter().for_each(|e| tlb.fill(e));
        }
        let request = c.request(va, case.access, &case.operand).map_err(WalkStop::Fault);
        let walked = request.and_then(|r| sun4u::translate(&memory, &c, &kernel, &mut tlb, &r, va));
        let fast = match walked {
            Ok(t) => {
                seen("found");
                Slow::Found(t.paddr.0, t.shift as u32, vec![])
            }
            Err(WalkStop::Fault(f)) => {
                seen(f.trap().name);
                Slow::Trap(f.trap().number as u64, registers_4u(&f, &c, case.sfsr))
            }
            // Nobody releases a lock that a case begins with.
            Err(WalkStop::Cancelled) => return Ok(()),
        };
        agree(slow, fast)
    });
}

//! sun4v: the tablewalk of UltraSPARC T2 as its sources wire it.

use crate::sparc64::{Case, Issue, Slow, agree, all, bit, bits, case, issue};
use crate::{Words, judge, tables};
use racewalk_ram::Vaddr;
use racewalk_walk::sparc64::{Machine, Reason, sun4v};
use racewalk_walk::{Access, WalkStop};

struct Machine4v<'a> {
    words: &'a Words,
    c: &'a sun4v::Context,
    case: &'a Case,
    i: Issue,
}

impl Machine4v<'_> {
    fn trap(&self, tt: u64) -> Slow {
        let fetch = self.case.access == Access::Fetch;
        let (guest, kind) = match tt {
            0x34 => (0x34, 14),
            0x37 => (0x37, 12),
            0x64 | 0x68 => (tt, 1),
            0x6c => (tt, 2),
            0x09 | 0x31 => (tt, 3),
            0x71 | 0x72 => return Slow::Trap(tt, vec![0x7f]),
            _ => {
                let kind = match tt {
                    0x2a | 0x2b | 0x3e | 0x3f => 4,
                    0x08 | 0x15 => 5,
                    0x0b => 6,
                    0x0c | 0x17 => 7,
                    0x30 => 8,
                    0x0d | 0x2e => 9,
                    0x14 => 10,
                    0x16 => 11,
                    _ => unreachable!(),
                };
                (if fetch { 0x08 } else { 0x30 }, kind)
            }
        };
        let va = self.case.va;
        let address = if kind <= 3 { bits(va, 63, 13) << 13 } else { va };
        Slow::Trap(tt, vec![guest, kind, address, self.i.context0])
    }

    fn to_physical(&self, ra: u64) -> Option<u64> {
        let r = self.c.ranges.iter().find(|r| {
            bit(r.range, 63) && (bits(r.range, 26, 0)..=bits(r.range, 53, 27)).contains(&bits(ra, 63, 13))
        })?;
        Some((ra + (bits(r.offset, 39, 13) << 13)) % (1 << 40))
    }

    fn access(&self) -> Slow {
        let (case, c) = (self.case, self.c);
        let va = case.va;
        let fetch = case.access == Access::Fetch;
        let by_side = |instruction: u64, data: u64| self.trap(if fetch { instruction } else { data });
        if self.i.bypass {
            return match self.to_physical(bits(va, 63, 13) << 13) {
                Some(pa) => Slow::Found(pa + bits(va, 12, 0), 13, vec![]),
                None => by_side(0x3e, 0x3f),
            };
        }
        let top = c.model.va_bits as u32 - 1;
        let above = bits(va, 63, top);
        if above != 0 && above != bits(u64::MAX, 63, top) {
            return by_side(0x0d, 0x2e);
        }
        let zero = self.i.context0 == 0;
        let mut walked = false;
        for config in if zero { &c.zero } else { &c.nonzero } {
            let config = config.0;
            if !bit(config, 63) {
                continue;
            }
            walked = true;
            // {base[39:13+size], VPN[8+size:0], 0000}
            let (size, smallest) = (bits(config, 3, 0) as u32, bits(config, 6, 4) as u32);
            let vpn = bits(va, 47, 13 + 3 * smallest);
            let pointer = (bits(config, 39, 13 + size) << (13 + size)) + 16 * bits(vpn, 8 + size, 0);
            let (Some(&tag), Some(&tte)) = (self.words.get(&pointer), self.words.get(&(pointer + 8))) else {
                return by_side(0x71, 0x72);
            };
            let page = bits(tte, 3, 0) as u32;
            if !bit(tte, 63) || page > 7 || page < smallest || !bit(c.model.page_sizes as u64, page) {
                continue;
            }
            if bits(tag, 63, 61) != 0 || bits(tag, 47, 42) != 0 {
                continue;
            }
            let page_bits = 13 + 3 * page;
            let compared = page_bits.max(22);
            if bits(tag, 41, compared - 22) != bits(va, 63, compared) {
                continue;
            }
            let (use0, use1) = (bit(config, 62), bit(config, 61));
            if bits(tag, 60, 48) != self.i.context0 && (zero || !(use0 || use1)) {
                continue;
            }
            if fetch && !bit(tte, 7) {
                return self.trap(0x0b);
            }
            let field = bits(tte, 55, 13) << 13;
            let address = if bit(config, 8) {
                match self.to_physical(field) {
                    Some(pa) => pa,
                    None => return by_side(0x2a, 0x2b),
                }
            } else {
                bits(field, c.model.pa_bits as u32 - 1, 0)
            };
            let (p, w, nfo, e, cp) = (bit(tte, 8), bit(tte, 6), bit(tte, 62), bit(tte, 11), bit(tte, 10));
            if p && self.i.user {
                return by_side(0x08, 0x15);
            }
            if !fetch && self.i.atomic && !cp {
                return self.trap(0x16);
            }
            if nfo && !self.i.no_fault {
                return by_side(0x0c, 0x17);
            }
            if e && self.i.no_fault {
                return self.trap(0x30);
            }
            if case.access == Access::Store && !w {
                return self.trap(0x6c);
            }
            let context = match (zero, use0, use1) {
                (false, false, true) => self.i.context1,
                _ => self.i.context0,
            };
            let frame = address - bits(address, page_bits - 1, 0);
            return Slow::Found(frame + bits(va, page_bits - 1, 0), page_bits, vec![context]);
        }
        if walked { by_side(0x09, 0x31) } else { by_side(0x64, 0x68) }
    }
}

#[test]
fn sun4v() {
    judge(case(), &all(Machine::Sun4v, &[Reason::MultipleHit]), |case, seen| {
        let (words, c) = case.sun4v();
        let slow = match issue(case, true) {
            Ok(i) => Machine4v { words: &words, c: &c, case, i }.access(),
            Err((tt, _, i)) => Machine4v { words: &words, c: &c, case, i }.trap(tt),
        };
        let (memory, va) = (tables(&words), Vaddr(case.va));
        let walked = c.request(&memory, va, case.access, &case.operand).and_then(|r| {
            let t = sun4v::walk(&memory, &c, &r, va)?;
            Ok((t, r.untranslated))
        });
        let fast = match walked {
            Ok((t, bypass)) => {
                seen("found");
                Slow::Found(t.paddr.0, t.shift as u32, if bypass { vec![] } else { vec![t.context as u64] })
            }
            Err(WalkStop::Fault(f)) => {
                seen(f.trap().name);
                let mut registers = vec![f.guest_trap() as u64];
                registers
                    .extend(f.fault_area().into_iter().flat_map(|a| [a.fault_type, a.address, a.context]));
                Slow::Trap(f.trap().number as u64, registers)
            }
            Err(WalkStop::Cancelled) => return Err("cancelled without a schedule".into()),
        };
        agree(slow, fast)
    });
}

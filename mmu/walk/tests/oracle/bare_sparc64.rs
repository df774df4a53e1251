//! sun4u under qemu-system-sparc64 (UltraSPARC-IIi): data accesses by one TLB entry. A case is 96 bytes: kind (0 load, 1
//! store, 2 compare and swap), address, ASI, Tag Access and TTE of the entry, primary and secondary context, TSB register,
//! SFSR, PSTATE, where the access should lead (all ones: nowhere), and 8 bytes of nothing. A result is 64: trap type (0:
//! none), SFSR, SFAR, Tag Access, Tag Target, both TSB pointers, and what a load found or a store left.

use crate::bare::{Comparison, DONE, Machine, Prepared};
use crate::sparc64::{Case, as_4u, case};
use racewalk_ram::{Paddr, Vaddr};
use racewalk_walk::Access;
use racewalk_walk::sparc64::sun4u::geometry::in_range;
use racewalk_walk::sparc64::sun4u::walk::data_in;
use racewalk_walk::sparc64::sun4u::{TagAccess, Tte, lookup};
use racewalk_walk::tlb::InfiniteTlb;

/// Memory in which every doubleword holds its address.
const FILL: u64 = 0x100_0000;
const FILL_BYTES: u64 = 0x100_0000;
const NONE: u64 = u64::MAX;
const RESULT: usize = 64;

const MACHINE: Machine = Machine {
    tools: "sparc64-linux-gnu",
    flags: &["-Wl,-N", "-Wl,-Ttext=0xffd00000"],
    qemu: &["qemu-system-sparc64", "-M", "sun4u", "-m", "128", "-nodefaults"],
    image_option: "-bios",
    raw: false,
    arch: "sparc64",
};

/// What one access gave: by our walker, or by the other machine.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Gave {
    Value(u64),
    /// Trap type; SFSR and SFAR where they are set; Tag Access, Tag Target and the pointers where they are.
    Trap(u64, Option<[u64; 2]>, Option<[u64; 4]>),
}

/// The case as this machine makes it: a data access of eight bytes with a named big-endian ASI for single accesses, and an
/// entry in memory that exists.
fn adapted(mut c: Case) -> Case {
    // Where the other machine has no hole, stores would leave marks that nobody knows of.
    if c.access == Access::Fetch || !in_range(Vaddr(c.va)) {
        c.access = Access::Load;
        c.operand.atomic = false;
    }
    c.state.trap_level = 0;
    c.state.data_mmu = true;
    c.operand.bytes = 8;
    // FV alone: what a store leaves of the other bits without it is not said.
    c.sfsr &= 1;
    // What is left of generated ASIs; most accesses go by the primary one.
    c.operand.asi = Some(match c.operand.asi {
        Some(asi @ (0x80..=0x83 | 0x10 | 0x11 | 0x04 | 0x14)) => asi,
        Some(asi @ 0x84..=0x87) => asi,
        Some(asi) if asi & 3 == 0 => 0x82,
        _ => 0x80,
    });
    if c.operand.asi == Some(0x14) {
        c.va = FILL | c.va & (FILL_BYTES - 8);
    }
    // The entry: by preference that of the case, else one that the TSB would have.
    let context = match c.operand.asi {
        Some(0x81 | 0x83 | 0x11) => c.state.secondary[0],
        Some(0x04) => 0,
        _ => c.state.primary[0],
    };
    let (tte, tag_flip, tte_flip) = c.ttes[0];
    let (tag, tte) = c.entry.unwrap_or((c.va & !0x1fff | context as u64, as_4u(tte)));
    let tag = if tag_flip.is_power_of_two() && tag_flip < 1 << 40 { tag ^ tag_flip } else { tag };
    // No inverted endianness; no sizes that this processor does not have.
    let tte = (tte ^ tte_flip) & !(Tte::IE | Tte::SIZE_2 | Tte::PA) | FILL | tte & (FILL_BYTES - 1) & Tte::PA;
    c.entry = Some((tag, tte));
    c
}

fn prepare(c: &Case) -> Prepared<Gave> {
    let (_, context, _) = c.sun4u();
    let va = Vaddr(c.va);
    let (tag, tte) = c.entry.expect("adapted");
    let mut tlb = InfiniteTlb::new();
    data_in(TagAccess(tag), Tte(tte), Paddr(0)).into_iter().for_each(|e| tlb.fill(e));
    let result = context
        .request(va, c.access, &c.operand)
        .and_then(|r| lookup(&context, &r, va, |key| tlb.lookup(key)));
    let tsb = context.tsb(c.access);
    let (leads, expected) = match result {
        Ok(t) if c.access == Access::Load => (t.paddr.0, Gave::Value(t.paddr.0)),
        Ok(t) => (t.paddr.0, Gave::Value(DONE)),
        Err(f) => {
            let status = f.sfsr(c.sfsr).zip(f.sfar()).map(|(sfsr, sfar)| [sfsr, sfar]);
            let tags = f.tag_access().map(TagAccess);
            let tags = tags.map(|t| [t.0, t.target().0, tsb.pointer_8k(t).0, tsb.pointer_64k(t).0]);
            (NONE, Gave::Trap(f.trap().number as u64, status, tags))
        }
    };
    let kind = match (c.access, c.operand.atomic) {
        (Access::Load, _) => 0,
        (_, false) => 1,
        (_, true) => 2,
    };
    let asi = c.operand.asi.expect("adapted") as u64;
    let [primary, secondary] = [c.state.primary[0] as u64, c.state.secondary[0] as u64];
    let pstate = if c.state.privileged { 4 } else { 0 };
    let fields = [kind, c.va, asi, tag, tte, primary, secondary, tsb.0, c.sfsr, pstate, leads, 0];
    Prepared { bytes: fields.iter().flat_map(|f| f.to_be_bytes()).collect(), expected }
}

/// What the machine did, as far as `expected` asks.
fn gave(result: &[u8], expected: &Gave) -> Gave {
    let field = |n: usize| u64::from_be_bytes(result[n * 8..n * 8 + 8].try_into().expect("eight bytes"));
    if field(0) == 0 {
        return Gave::Value(field(7));
    }
    let (status, tags) = match expected {
        Gave::Trap(_, status, tags) => (status.is_some(), tags.is_some()),
        Gave::Value(_) => (true, true),
    };
    let status = status.then(|| [field(1), field(2)]);
    Gave::Trap(field(0), status, tags.then(|| [field(3), field(4), field(5), field(6)]))
}

/// Where qemu 7.2 is known to differ from the UltraSPARC-I User's Manual ("U", by page). Each is one thing that it does or
/// leaves out; what remains must agree.
mod known {
    pub const ASI: &str = "U 58: SFSR<23:16> has the ASI; qemu leaves it zero";
    pub const ACTION: &str = "JPS1 tables F-2, F-10: privileged_action sets SFSR and SFAR; qemu leaves them";
    pub const HOLE: &str =
        "U 49, 59: VA<63:44> that do not repeat bit 43 raise data_access_exception; qemu has no hole";
    pub const NO_FAULT_STORE: &str = "U 59: a store by a no-fault ASI raises data_access_exception, FT 8; qemu raises data_access_error (0x32)";
    pub const ATOMIC: &str = "U 59: FT 4, an atomic access to a page that is not cacheable; qemu makes it";
    pub const SFAR: &str = "U 61: SFAR has the address; qemu often has the page's";
    pub const EXTENDED: &str = "U 61: SFAR has VA<43:0>, sign-extended; qemu has all of the address";
    pub const WRITE: &str =
        "U 59: SFSR.W is set by atomic load-stores; qemu takes compare and swap for a load";
    pub const SIDE_EFFECT: &str = "U 59: SFSR.E has E of the page; qemu leaves it zero";
    pub const ALIGNMENT: &str = "U 49: mem_address_not_aligned sets SFSR and SFAR; qemu leaves them for ASIs other than the primary one";
    pub const ORDER: &str = "U 159: mem_address_not_aligned has priority 10, privileged_action 11, data_access_exception 12; qemu looks at the \
         ASI first";
    pub const NO_FAULT_ONLY: &str =
        "U 42: no-fault loads of an NFO page are translated; qemu refuses them too";
}

/// The known differences that make the one outcome the other; `None` if they do not.
fn judged(c: &Case, ours: &Gave, theirs: &Gave) -> Option<Vec<&'static str>> {
    let mut why = Vec::new();
    let (_, tte) = c.entry?;
    let no_fault = matches!(c.operand.asi, Some(0x82 | 0x83));
    let Gave::Trap(tt, status, _) = ours else {
        let refused = matches!(theirs, Gave::Trap(0x30, Some([sfsr, _]), _) if sfsr >> 7 & 0x7f == 0x10);
        return (tte & Tte::NFO != 0 && no_fault && refused).then(|| vec![known::NO_FAULT_ONLY]);
    };
    let fault_type = status.map_or(0, |[sfsr, _]| sfsr >> 7 & 0x7f);
    match (tt, fault_type) {
        // The lookup that it makes instead may end in any way.
        (0x30, 0x20) => return Some(vec![known::HOLE]),
        (0x30, 0x08) => {
            return matches!(theirs, Gave::Trap(0x32, ..)).then(|| vec![known::NO_FAULT_STORE]);
        }
        (0x34, _) => match (theirs, c.operand.asi) {
            (Gave::Trap(0x34, Some([sfsr, _]), _), Some(0x81..)) if *sfsr == c.sfsr => {
                return Some(vec![known::ALIGNMENT]);
            }
            (Gave::Trap(0x37, ..), Some(..0x80)) if !c.state.privileged => return Some(vec![known::ORDER]),
            (Gave::Trap(0x32, ..), _) if no_fault && c.access == Access::Store => {
                return Some(vec![known::ORDER, known::NO_FAULT_STORE]);
            }
            _ => {}
        },
        _ => {}
    }
    let mut adjusted = ours.clone();
    if fault_type & 0x04 != 0 {
        why.push(known::ATOMIC);
        let mut plain = c.clone();
        plain.operand.atomic = false;
        // The guest was not told where this leads: it compares, swaps nothing and reports nothing.
        adjusted = match prepare(&plain).expected {
            Gave::Value(_) => Gave::Value(0),
            trap => trap,
        };
    }
    if let (Gave::Trap(tt, Some([sfsr, sfar]), _), Gave::Trap(_, Some(seen), _)) = (&mut adjusted, theirs) {
        if *tt == 0x37 {
            why.push(known::ACTION);
            [*sfsr, *sfar] = *seen;
        }
        let mut missing = |bits: u64, name| {
            if *sfsr & bits != 0 && seen[0] & bits == 0 {
                why.push(name);
                *sfsr &= !bits;
            }
        };
        missing(0xff_0000, known::ASI);
        missing(1 << 6, known::SIDE_EFFECT);
        if c.operand.atomic {
            missing(1 << 2, known::WRITE);
        }
        if no_fault
            && tte & Tte::NFO != 0
            && *tt == 0x30
            && seen[0] & 0x10 << 7 != 0
            && *sfsr & 0x10 << 7 == 0
        {
            why.push(known::NO_FAULT_ONLY);
            *sfsr |= 0x10 << 7;
        }
        if !in_range(Vaddr(c.va)) && seen[1] == c.va {
            why.push(known::EXTENDED);
            *sfar = c.va;
        }
        if *sfar & !0x1fff == seen[1] && *sfar != seen[1] {
            why.push(known::SFAR);
            *sfar = seen[1];
        }
    }
    (adjusted == *theirs).then_some(why)
}

#[test]
#[ignore = "runs a machine: cargo xtask bare-metal --arch sparc64"]
fn bare_metal_sparc64() {
    let comparison = Comparison {
        machine: MACHINE,
        result: RESULT,
        prepare: |case| Some(prepare(case)),
        gave,
        outcome: |g| match g {
            Gave::Value(_) => "done".into(),
            Gave::Trap(tt, ..) => format!("{tt:#x}"),
        },
        judged: |case, ours, theirs| judged(case, ours, theirs).unwrap_or_default(),
    };
    comparison.run(case(), adapted);
}

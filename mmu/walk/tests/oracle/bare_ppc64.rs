//! Radix trees under qemu-system-ppc64. A case is 512 bytes: kind (0 load, 1 store, 2 fetch), effective address, MSR of the
//! access, PIDR, LPIDR, AMR, IAMR, where the access should lead (all ones: not known), PTCR, the number of entries, and up
//! to 27 pairs of an entry's address and its value. A result is 80: vector, DSISR, DAR, HDSISR, HDAR, ASDR, SRR1, HSRR1, what
//! was read, nothing.

use crate::Words;
use crate::bare::{Comparison, DONE, Machine, Prepared};
use crate::ppc64_radix::{Case, cases};
use racewalk_ram::{Paddr, Vaddr};
use racewalk_walk::ppc64::radix::walk;
use racewalk_walk::ppc64::{Context, Reason, Update};
use racewalk_walk::{Access, EntryStop, TableMemory, WalkStop};
use std::cell::{Cell, RefCell};

const MEMORY: u64 = 2 << 30;
/// Above the image; all memory from here on that is no entry is zero.
const WORLD: u64 = 0x2000_0000;
const NONE: u64 = u64::MAX;
const ENTRIES: usize = 27;
const RESULT: usize = 80;
/// A hypervisor call: the instruction that a fetch finds.
const CALL: u32 = 0xc00;
/// Bits of (H)SRR1 that tell a cause.
const SRR1_CAUSE: u64 = 0x783f_0000;
const ASDR_REAL: u64 = 0x0fff_ffff_ffff_f000;

const MACHINE: Machine = Machine {
    tools: "powerpc64-linux-gnu",
    flags: &["-mcpu=power9", "-Wl,-Ttext=0"],
    qemu: &["qemu-system-ppc64", "-M", "powernv9", "-m", "2G", "-nodefaults"],
    raw: true,
    image_option: "-bios",
    arch: "ppc64",
};

/// The guest's memory: what it holds before the access, and what the walk makes of it.
struct Memory {
    words: RefCell<Words>,
    /// The walk read what is not known here: the image, or nothing.
    unknown: Cell<bool>,
}

impl Memory {
    fn known(&self, at: u64) -> bool {
        let known = (WORLD..MEMORY).contains(&at) && at.is_multiple_of(8);
        if !known {
            self.unknown.set(true);
        }
        known
    }
}

impl TableMemory for Memory {
    fn load_entry(&self, addr: Paddr) -> Result<u64, EntryStop> {
        match self.known(addr.0) {
            true => Ok(self.words.borrow().get(&addr.0).copied().unwrap_or(0)),
            false => Err(EntryStop::Addressing),
        }
    }
    fn cas_entry(&self, addr: Paddr, expected: u64, new: u64) -> Result<u64, EntryStop> {
        let old = self.load_entry(addr)?;
        if old == expected {
            self.words.borrow_mut().insert(addr.0, new);
        }
        Ok(old)
    }
    // This format reads doublewords only.
    fn load_pair(&self, _: Paddr) -> Result<[u64; 2], EntryStop> {
        Err(EntryStop::Addressing)
    }
    fn load_word(&self, _: Paddr) -> Result<u32, EntryStop> {
        Err(EntryStop::Addressing)
    }
    fn store_byte(&self, _: Paddr, _: u8) -> Result<(), EntryStop> {
        Err(EntryStop::Addressing)
    }
}

/// What one access gave: by our walker, or by the other machine.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Gave {
    /// The doubleword that a load found; that a store or a fetch left its mark where it should.
    Value(u64),
    /// An interrupt with its registers.
    Interrupt(u32, Vec<(&'static str, u64)>),
}

/// The case as this machine makes it: in hypervisor state; in problem state only fetches, for there instructions are
/// translated as well.
fn adapted(mut c: Case) -> Case {
    c.world = WORLD;
    c.hv = true;
    c.on = true;
    c.narrow = false;
    // This machine sets R and C itself.
    c.update = Update::Atomic;
    c.pr &= c.access == Access::Fetch;
    c.ea &= !7;
    if matches!(c.ea >> 62, 1 | 2) {
        // qemu 7.2 takes the tables of a partition's process as real ones in hypervisor state. By ISA 3.0B Book III 6.7.10
        // they are guest real in whatever state. Quadrants 1 and 2 are compared for LPID 0 only.
        c.lpid = 0;
    }
    c
}

/// The bytes of a case and what our walker makes of it; `None` for what the guest cannot do without harm to itself.
fn prepare(case: &Case) -> Option<Prepared<Gave>> {
    let (words, context) = (case.build(), case.context());
    if words.len() > ENTRIES || words.keys().any(|at| !(WORLD..MEMORY).contains(at)) {
        return None;
    }
    let memory = Memory { words: RefCell::new(words.clone()), unknown: Cell::new(false) };
    let va = Vaddr(case.ea);
    let result = walk(&memory, &context.radix(va, case.access), va, case.access);
    if memory.unknown.get() {
        return None;
    }
    let mut leads = NONE;
    let expected = match result {
        Ok(t) => {
            leads = t.paddr.0;
            if !memory.known(leads) || words.contains_key(&leads) {
                return None;
            }
            match case.access {
                Access::Load => Gave::Value(leads),
                Access::Store => Gave::Value(DONE),
                Access::Fetch => Gave::Value(0),
            }
        }
        Err(WalkStop::Fault(f)) if f.reason == Reason::Addressing => return None,
        Err(WalkStop::Fault(f)) => Gave::Interrupt(f.vector(), f.registers()),
        Err(WalkStop::Cancelled) => return None,
    };
    let (kind, translated) = match case.access {
        Access::Load => (0, Context::MSR_DR),
        Access::Store => (1, Context::MSR_DR),
        Access::Fetch => (2, Context::MSR_IR),
    };
    let own = Context::MSR_SF | Context::MSR_HV | (context.msr & Context::MSR_PR);
    // Problem state implies both.
    let both = if case.pr { Context::MSR_IR | Context::MSR_DR } else { 0 };
    let msr = own | translated | both;
    let c = &context;
    let n = words.len() as u64;
    let mut fields = vec![kind, case.ea, msr, c.pidr, c.lpidr, c.amr, c.iamr, leads, c.ptcr, n];
    fields.extend(words.iter().flat_map(|(&at, &v)| [at, v]));
    fields.resize(64, 0);
    Some(Prepared { bytes: fields.iter().flat_map(|f| f.to_be_bytes()).collect(), expected })
}

fn gave(result: &[u8], expected: &Gave) -> Gave {
    let field = |n: usize| u64::from_be_bytes(result[n * 8..n * 8 + 8].try_into().expect("eight bytes"));
    let vector = field(0) as u32;
    let registers = match vector {
        0 | CALL => return Gave::Value(field(8)),
        0x300 => vec![("dsisr", field(1)), ("dar", field(2))],
        0x380 => vec![("dar", field(2))],
        0x400 => vec![("srr1", field(6) & SRR1_CAUSE)],
        0xe00 => vec![("hdsisr", field(3)), ("hdar", field(4)), ("asdr", field(5) & ASDR_REAL)],
        0xe20 => vec![("hsrr1", field(7) & SRR1_CAUSE), ("asdr", field(5) & ASDR_REAL)],
        _ => Vec::new(),
    };
    // Where nothing is to be shown in ASDR, nothing is compared.
    let shown = |r: &str| matches!(expected, Gave::Interrupt(_, e) if e.iter().any(|(n, _)| *n == r));
    Gave::Interrupt(vector, registers.into_iter().filter(|(n, _)| *n != "asdr" || shown(n)).collect())
}

/// Differences that are the other machine's, with what the manual says.
fn judged(case: &Case, ours: &Gave) -> Option<&'static str> {
    let Gave::Interrupt(_, registers) = ours else { return None };
    let cause = registers.first().map_or(0, |(_, cause)| *cause);
    let real = registers.iter().find(|(n, _)| *n == "asdr").map_or(0, |(_, asdr)| *asdr);
    let has = |reason: Reason| cause & reason.cause() as u64 != 0;
    if has(Reason::UnsupportedMmu) && case.leaf_in_root() {
        return Some(
            "a leaf in the root would be a page of 512G, and the POWER9 user manual 4.10.4.1 has pages of 4K, 64K, 2M \
             and 1G: unsupported MMU configuration; qemu 7.2 maps it",
        );
    }
    if has(Reason::NoTranslation) && real >> 52 != 0 {
        return Some(
            "a guest real address of more than 52 bits is beyond the partition's tree (ISA 3.0B Book III 6.7.10, RTS): \
             no translation; qemu 7.2 ignores the upper bits",
        );
    }
    None
}

#[test]
#[ignore = "runs a machine: cargo xtask bare-metal --arch ppc64"]
fn bare_metal_ppc64() {
    let comparison = Comparison {
        machine: MACHINE,
        result: RESULT,
        prepare,
        gave,
        outcome: |g| match g {
            Gave::Value(_) => "done".into(),
            Gave::Interrupt(vector, _) => format!("{vector:#x}"),
        },
        judged: |case, ours, _| judged(case, ours).into_iter().collect(),
    };
    comparison.run(cases(), adapted);
}

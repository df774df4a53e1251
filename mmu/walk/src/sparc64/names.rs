//! Registers and bits of SPARC translation by name, for people and for `.walk` files.

use super::context::{CONTEXT, Operand, State};
use super::fault::{Fault, Machine, Reason};
use super::sun4u::{self, Kernel, TagAccess, TagTarget, Tsb};
use super::sun4v::geometry::{PA_BITS_MIN, VA_BITS_MIN};
use super::sun4v::{self, Config};
use crate::event::WalkEvent;
use crate::text::{Field, Format, Register, Table, Tables};
use crate::tlb::InfiniteTlb;
use crate::{Access, TableMemory, WalkStop};
use racewalk_ram::{Paddr, Vaddr};
use std::cell::RefCell;

const TAG_4V: &[Field] = &[
    Field::new("context", sun4v::Tag::CONTEXT, "context"),
    Field::new("VA", sun4v::Tag::VA, "VA[63:22]"),
    Field::new("zero", sun4v::Tag::RESERVED, "not zero: the entry hits nothing"),
];

const TTE_4V: &[Field] = &[
    Field::new("V", sun4v::Tte::V, "valid"),
    Field::new("NFO", sun4v::Tte::NFO, "for no-fault loads only"),
    Field::new("soft2", sun4v::Tte::SOFT2, "free for software"),
    Field::address("RA", sun4v::Tte::RA, "real address, or physical where the TSB says so"),
    Field::new("IE", sun4v::Tte::IE, "invert endianness"),
    Field::new("E", sun4v::Tte::E, "side effect"),
    Field::new("CP", sun4v::Tte::CP, "cacheable, physically indexed"),
    Field::new("CV", sun4v::Tte::CV, "cacheable, virtually indexed"),
    Field::new("P", sun4v::Tte::P, "privileged"),
    Field::new("EP", sun4v::Tte::EP, "executable"),
    Field::new("W", sun4v::Tte::W, "writable"),
    Field::new("soft", sun4v::Tte::SOFT, "free for software"),
    Field::new("size", sun4v::Tte::SIZE, "0 8K, 1 64K, 2 512K, 3 4M, 4 32M, 5 256M, 6 2G, 7 16G"),
];

const CONFIG: &[Field] = &[
    Field::new("enable", Config::ENABLE, "the TSB is walked"),
    Field::new(
        "use0",
        Config::USE_CONTEXT_0,
        "tags' contexts do not count; entries are of context register 0",
    ),
    Field::new(
        "use1",
        Config::USE_CONTEXT_1,
        "tags' contexts do not count; entries are of context register 1",
    ),
    Field::address("base", Config::BASE, "where it is"),
    Field::new("RA", Config::RA_NOT_PA, "TTEs have real addresses"),
    Field::new("page", Config::PAGE_SIZE, "smallest page size, by which it is indexed"),
    Field::new("size", Config::SIZE, "512 << n entries"),
];

const TAG_4U: &[Field] = &[
    Field::new("G", TagTarget::G, "global"),
    Field::new("context", TagTarget::CONTEXT, "context"),
    Field::new("lock", TagTarget::LINUX_LOCK, "Linux: being written"),
    Field::new("inv", TagTarget::LINUX_INVALID, "Linux: invalid"),
    Field::new("VA", TagTarget::VA, "VA[63:22]"),
];

const TTE_4U: &[Field] = &[
    Field::new("V", sun4u::Tte::V, "valid"),
    Field::new("size", sun4u::Tte::SIZE, "0 8K, 1 64K, 2 512K, 3 4M"),
    Field::new("NFO", sun4u::Tte::NFO, "for no-fault loads only"),
    Field::new("IE", sun4u::Tte::IE, "invert endianness"),
    Field::new("soft2", sun4u::Tte::SOFT2, "free for software; Linux: bit 56 is a page of 8M"),
    Field::new("size2", sun4u::Tte::SIZE_2, "page size, high bit: 4 32M, 5 256M"),
    Field::address("PA", sun4u::Tte::PA, "physical address"),
    Field::new(
        "soft",
        sun4u::Tte::SOFT,
        "free for software; Linux: bit 12 executable, 11 modified, 10 accessed, 9 readable, 8 writable, 7 present",
    ),
    Field::new("L", sun4u::Tte::L, "locked"),
    Field::new("CP", sun4u::Tte::CP, "cacheable, physically indexed"),
    Field::new("CV", sun4u::Tte::CV, "cacheable, virtually indexed"),
    Field::new("E", sun4u::Tte::E, "side effect"),
    Field::new("P", sun4u::Tte::P, "privileged"),
    Field::new("W", sun4u::Tte::W, "writable"),
    Field::new("G", sun4u::Tte::G, "global"),
];

const TABLE_4U: &[Field] =
    &[Field::address("table", u64::MAX, "physical address of the next table; zero: none")];

const TSB_4U: &[Field] = &[
    Field::address("base", Tsb::BASE, "where it is"),
    Field::new("split", Tsb::SPLIT, "a second half is for 64K pages"),
    Field::new("size", Tsb::SIZE, "512 << n entries, or half of them"),
];

const fn table(name: &'static str, about: &'static str, fields: fn(u64) -> &'static [Field]) -> Table {
    Table { name, about, register: false, fields }
}

const TABLES_4V: &[Table] = &[
    Table {
        name: "tsb-config",
        about: "TSB configuration register (ASI 0x54)",
        register: true,
        fields: |_| CONFIG,
    },
    table("tsb-0", "TSB entry, tag", |_| TAG_4V),
    table("tsb-1", "TSB entry, data (TTE)", |_| TTE_4V),
];

const TABLES_4U: &[Table] = &[
    Table {
        name: "tsb-register",
        about: "TSB register (ASI 0x50, 0x58)",
        register: true,
        fields: |_| TSB_4U,
    },
    table("tsb-0", "TSB entry, tag", |_| TAG_4U),
    table("tsb-1", "TSB entry, data (TTE)", |_| TTE_4U),
    table("huge-tsb-0", "entry of the TSB of huge pages, tag", |_| TAG_4U),
    table("huge-tsb-1", "entry of the TSB of huge pages, data (TTE)", |_| TTE_4U),
    table("pgd", "Linux page global directory entry", |_| TABLE_4U),
    table("pud", "Linux page upper directory entry", |_| TABLE_4U),
    table("pmd", "Linux page middle directory entry", |e| {
        if e & sun4u::Tte::LINUX_HUGE != 0 { TTE_4U } else { TABLE_4U }
    }),
    table("pte", "Linux page-table entry (a TTE)", |_| TTE_4U),
];

const fn register(name: &'static str, about: &'static str) -> Register {
    Register { name, about }
}

const PRIVILEGED: Register = register("privileged", "PSTATE.PRIV");
const TL: Register = register("tl", "trap level; above 0 accesses are in the nucleus context");
const ASI: Register = register("asi", "the ASI that loads and stores name; above 0xff: none (default)");
const BYTES: Register = register("bytes", "size of loads and stores (default 1)");
const ATOMIC: Register = register("atomic", "1 if stores are atomic load-stores");

const REGISTERS_4U: &[Register] = &[
    PRIVILEGED,
    TL,
    ASI,
    BYTES,
    ATOMIC,
    register("primary", "primary context register"),
    register("secondary", "secondary context register"),
    register("lsu", "LSU control: IM (bit 2) and DM (bit 3) turn the MMUs on (default 0xc)"),
    register("itsb", "instruction TSB register"),
    register("dtsb", "data TSB register"),
    register("sfsr", "what the SFSR holds before the access"),
    register("tag-access", "Tag Access register, for data-in"),
    register("data-in", "enters a TTE into the TLB under Tag Access"),
    register("pgd", "the miss handler's page directory (physical address)"),
    register("huge-tsb", "the miss handler's TSB of huge pages; 0: none (default)"),
];

const REGISTERS_4V: &[Register] = &[
    PRIVILEGED,
    TL,
    ASI,
    BYTES,
    ATOMIC,
    register("primary0", "primary context register 0; sets 1 too"),
    register("primary1", "primary context register 1"),
    register("secondary0", "secondary context register 0; sets 1 too"),
    register("secondary1", "secondary context register 1"),
    register("mmu", "0 if the MMU is off: addresses are real"),
    register("zero0", "TSB configuration 0 for context zero"),
    register("zero1", "TSB configuration 1 for context zero"),
    register("zero2", "TSB configuration 2 for context zero"),
    register("zero3", "TSB configuration 3 for context zero"),
    register("nonzero0", "TSB configuration 0 for other contexts"),
    register("nonzero1", "TSB configuration 1 for other contexts"),
    register("nonzero2", "TSB configuration 2 for other contexts"),
    register("nonzero3", "TSB configuration 3 for other contexts"),
    register("range0", "real range 0: enable (63), last page (53-27), first page (26-0)"),
    register("range1", "real range 1"),
    register("range2", "real range 2"),
    register("range3", "real range 3"),
    register("offset0", "physical offset of real range 0"),
    register("offset1", "physical offset of real range 1"),
    register("offset2", "physical offset of real range 2"),
    register("offset3", "physical offset of real range 3"),
    register("page-sizes", "page sizes that exist, bit n for size n (default 0xff; UltraSPARC T2 0x2b)"),
    register("va-bits", "bits of a virtual address (default 53; UltraSPARC T2 48)"),
    register("pa-bits", "bits of a physical address (default 56; UltraSPARC T2 40)"),
];

/// The registers that both machines have.
fn set_common(state: &mut State, operand: &mut Operand, name: &str, value: u64) -> bool {
    match name {
        "privileged" => state.privileged = value != 0,
        "tl" => state.trap_level = value as u8,
        "asi" => operand.asi = u8::try_from(value).ok(),
        "bytes" => operand.bytes = value as u8,
        "atomic" => operand.atomic = value != 0,
        _ => return false,
    }
    true
}

fn context(value: u64) -> u16 {
    value as u16 & CONTEXT
}

/// The names of the traps of a machine, without those for `except`.
fn faults(machine: Machine, except: &[Reason]) -> Vec<&'static str> {
    let mut names: Vec<_> = Reason::ALL
        .iter()
        .filter(|r| !except.contains(r))
        .flat_map(|r| [r.trap(machine, Access::Fetch), r.trap(machine, Access::Load)])
        .flatten()
        .map(|t| t.name)
        .collect();
    names.sort_unstable();
    names.dedup();
    names
}

/// sun4u as text deals with it: the TLB, Linux's miss handler, and the TLB again.
#[derive(Clone, Debug, Default)]
pub struct Sun4u {
    context: sun4u::Context,
    operand: Operand,
    kernel: Kernel,
    sfsr: u64,
    tag_access: u64,
    // Accesses enter what they find.
    tlb: RefCell<InfiniteTlb<super::Leaf>>,
}

impl Format for Sun4u {
    fn name(&self) -> &'static str {
        "sun4u"
    }
    fn about(&self) -> &'static str {
        "SPARC V9 with a software-filled TLB (UltraSPARC-III), and Linux's miss handler"
    }
    fn registers(&self) -> &'static [Register] {
        REGISTERS_4U
    }
    fn set(&mut self, name: &str, value: u64) -> bool {
        let c = &mut self.context;
        match name {
            "primary" => c.state.primary = [context(value); 2],
            "secondary" => c.state.secondary = [context(value); 2],
            "lsu" => (c.state.fetch_mmu, c.state.data_mmu) = (value & 4 != 0, value & 8 != 0),
            "itsb" => c.instruction_tsb = Tsb(value),
            "dtsb" => c.data_tsb = Tsb(value),
            "sfsr" => self.sfsr = value,
            "tag-access" => self.tag_access = value,
            "data-in" => {
                let e = sun4u::walk::data_in(TagAccess(self.tag_access), sun4u::Tte(value), Paddr(0));
                e.into_iter().for_each(|e| self.tlb.get_mut().fill(e));
            }
            "pgd" => self.kernel.pgd = Paddr(value),
            "huge-tsb" => self.kernel.huge_tsb = (value != 0).then_some(Tsb(value)),
            _ => return set_common(&mut c.state, &mut self.operand, name, value),
        }
        true
    }
    fn walk(&self, memory: &Tables, va: Vaddr, access: Access) -> Vec<(&'static str, u64)> {
        let c = &self.context;
        let walked = match c.request(va, access, &self.operand) {
            Ok(r) => sun4u::translate(memory, c, &self.kernel, &mut self.tlb.borrow_mut(), &r, va),
            Err(f) => {
                let trap = f.trap();
                memory.event(WalkEvent::Fault { vaddr: va, name: trap.name, code: trap.number as u32 });
                Err(WalkStop::Fault(f))
            }
        };
        match walked {
            Ok(t) => vec![("pa", t.paddr.0)],
            Err(WalkStop::Cancelled) => Vec::new(),
            Err(WalkStop::Fault(f)) => self.report(&f),
        }
    }
    fn tables(&self) -> &'static [Table] {
        TABLES_4U
    }
    fn faults(&self) -> Vec<&'static str> {
        faults(Machine::Sun4u, &[])
    }
}

impl Sun4u {
    /// The registers that a trap finds set.
    fn report(&self, f: &Fault) -> Vec<(&'static str, u64)> {
        let mut r = vec![("tt", f.trap().number as u64)];
        r.extend(f.sfsr(self.sfsr).map(|sfsr| ("sfsr", sfsr)));
        r.extend(f.sfar().map(|sfar| ("sfar", sfar)));
        if let Some(tag) = f.tag_access().map(TagAccess) {
            let tsb = self.context.tsb(f.request.access);
            r.extend([("tag-access", tag.0), ("tag-target", tag.target().0)]);
            r.extend([("tsb-8k", tsb.pointer_8k(tag).0), ("tsb-64k", tsb.pointer_64k(tag).0)]);
        }
        r
    }
}

/// sun4v as text deals with it: one hardware tablewalk.
#[derive(Clone, Debug, Default)]
pub struct Sun4v {
    context: sun4v::Context,
    operand: Operand,
}

impl Format for Sun4v {
    fn name(&self) -> &'static str {
        "sun4v"
    }
    fn about(&self) -> &'static str {
        "SPARC under a hypervisor, with hardware tablewalk (UltraSPARC T2)"
    }
    fn registers(&self) -> &'static [Register] {
        REGISTERS_4V
    }
    fn set(&mut self, name: &str, value: u64) -> bool {
        let c = &mut self.context;
        if !REGISTERS_4V.iter().any(|r| r.name == name) {
            return false;
        }
        // Register numbers are one digit, of the names above.
        let (kind, n) = match name.char_indices().last().and_then(|(at, d)| Some((at, d.to_digit(10)?))) {
            Some((at, n)) => (&name[..at], n as usize),
            None => (name, 0),
        };
        match kind {
            // A store to register 0 sets both.
            "primary" if n == 0 => c.state.primary = [context(value); 2],
            "primary" => c.state.primary[1] = context(value),
            "secondary" if n == 0 => c.state.secondary = [context(value); 2],
            "secondary" => c.state.secondary[1] = context(value),
            "mmu" => (c.state.fetch_mmu, c.state.data_mmu) = (value != 0, value != 0),
            "zero" => c.zero[n] = Config(value),
            "nonzero" => c.nonzero[n] = Config(value),
            "range" => c.ranges[n].range = value,
            "offset" => c.ranges[n].offset = value,
            "page-sizes" => c.model.page_sizes = value as u8,
            "va-bits" => c.model.va_bits = value.clamp(VA_BITS_MIN as u64, 64) as u8,
            "pa-bits" => c.model.pa_bits = value.clamp(PA_BITS_MIN as u64, 56) as u8,
            _ => return set_common(&mut c.state, &mut self.operand, name, value),
        }
        true
    }
    fn walk(&self, memory: &Tables, va: Vaddr, access: Access) -> Vec<(&'static str, u64)> {
        let c = &self.context;
        let walked = c.request(memory, va, access, &self.operand).and_then(|r| {
            let t = sun4v::walk(memory, c, &r, va)?;
            Ok(if r.untranslated { Vec::new() } else { vec![("context", t.context as u64)] })
        });
        match walked {
            Ok(report) => report,
            Err(WalkStop::Cancelled) => Vec::new(),
            Err(WalkStop::Fault(f)) => {
                let mut r = vec![("tt", f.trap().number as u64), ("guest-tt", f.guest_trap() as u64)];
                if let Some(a) = f.fault_area() {
                    r.extend([
                        ("fault-type", a.fault_type),
                        ("fault-address", a.address),
                        ("fault-context", a.context),
                    ]);
                }
                r
            }
        }
    }
    fn tables(&self) -> &'static [Table] {
        TABLES_4V
    }
    fn faults(&self) -> Vec<&'static str> {
        // There is no TLB here that could hold two.
        faults(Machine::Sun4v, &[Reason::MultipleHit])
    }
}

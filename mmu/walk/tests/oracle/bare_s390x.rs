//! s390x under qemu-system-s390x. A case is 128 bytes: kind (0 load, 1 store, 2 fetch), virtual address, CR0, ASCE, five
//! pairs of an entry's address (all ones: none) and its value, where the access should lead (all ones: not known), and
//! 8 bytes of nothing. A result is 40: program-interruption code, TEID, old PSW address, what was read, nothing.

use crate::Words;
use crate::bare::{Comparison, Machine, Prepared};
use crate::s390x::{Case, cases};
use racewalk_ram::{Paddr, Vaddr};
use racewalk_walk::s390x::{Reason, walk};
use racewalk_walk::{Access, EntryStop, TableMemory, WalkStop};
use std::cell::Cell;

const MEMORY: u64 = 3 << 30;
/// The guest's own place; below it every doubleword that is no entry holds its address.
const IMAGE: std::ops::Range<u64> = 0x7f_0000..0x200_0000;
const PREFIX_AREA: u64 = 0x2000;
const NONE: u64 = u64::MAX;
const SVC: u64 = 0x0a42;

const MACHINE: Machine = Machine {
    tools: "s390x-linux-gnu",
    flags: &["-march=z13", "-Wl,-Ttext=0x800000"],
    qemu: &[
        "qemu-system-s390x",
        "-M",
        "s390-ccw-virtio",
        "-cpu",
        "max",
        "-m",
        "3G",
        "-action",
        "panic=pause",
    ],
    raw: false,
    image_option: "-kernel",
    arch: "s390x",
};

/// The guest's memory: what it holds before the access.
struct Memory<'a> {
    words: &'a Words,
    /// The walk read something that is not known here: the prefix area or the guest itself.
    unknown: Cell<bool>,
}

impl Memory<'_> {
    fn doubleword(&self, at: u64) -> Option<u64> {
        if let Some(&v) = self.words.get(&at) {
            return Some(v);
        }
        if at < PREFIX_AREA || IMAGE.contains(&at) {
            self.unknown.set(true);
        }
        (at < MEMORY).then_some(if at < IMAGE.start { at } else { 0 })
    }
}

impl TableMemory for Memory<'_> {
    fn load_entry(&self, addr: Paddr) -> Result<u64, EntryStop> {
        self.doubleword(addr.0).ok_or(EntryStop::Addressing)
    }
    // This format reads doublewords only and writes nothing.
    fn cas_entry(&self, _: Paddr, _: u64, _: u64) -> Result<u64, EntryStop> {
        Err(EntryStop::Addressing)
    }
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
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Gave {
    /// The doubleword that a load found, or that a store or a fetch left its mark where it should.
    Value(u64),
    /// An exception; the TEID where one is stored.
    Exception(u16, Option<u64>),
}

/// The case as this machine makes it: no enhanced DAT, no prefix, DAT on, aligned, in the space that the guest uses for it.
fn adapted(mut c: Case) -> Case {
    c.dat = true;
    c.prefix = 0;
    // This machine has no enhanced DAT (query-cpu-model-expansion of qemu 7.2, model max: edat false).
    c.facilities = [false, false, true];
    c.va &= !7;
    c.psw_mode = if c.access == Access::Fetch { 3 } else { 2 };
    c
}

/// The bytes of a case and what our walker makes of it; `None` for what the guest cannot do without harm to itself.
fn prepare(case: &Case) -> Option<Prepared<Gave>> {
    let (words, context) = case.build();
    let memory = Memory { words: &words, unknown: Cell::new(false) };
    let va = Vaddr(case.va);
    let result =
        context.controls(&memory, va, case.access, 0).and_then(|c| walk(&memory, &c, va, case.access));
    if memory.unknown.get() {
        return None;
    }
    let mut leads = NONE;
    let expected = match result {
        Ok(t) if t.paddr.0 >= MEMORY => Gave::Exception(Reason::Addressing.code(), None),
        Ok(t) => {
            let at = t.paddr.0;
            let before = memory.doubleword(at);
            if memory.unknown.get() {
                return None;
            }
            leads = at;
            match case.access {
                Access::Load => Gave::Value(before.unwrap_or_default()),
                Access::Store => Gave::Value(crate::bare::DONE),
                Access::Fetch => Gave::Value(SVC),
            }
        }
        Err(WalkStop::Fault(f)) => Gave::Exception(f.reason.code(), f.teid()),
        Err(WalkStop::Cancelled) => return None,
    };
    // A store that leads to one of the entries would have to be undone there.
    if case.access != Access::Load && words.contains_key(&leads) {
        return None;
    }
    let kind = match case.access {
        Access::Load => 0,
        Access::Store => 1,
        Access::Fetch => 2,
    };
    let asce = if case.access == Access::Fetch { context.cr[13] } else { context.cr[7] };
    // The guest needs the secondary-space control for itself.
    let cr0 = context.cr[0] | 0x0400_0000;
    let mut fields = vec![kind, case.va, cr0, asce];
    for (&at, &v) in &words {
        fields.extend([at, v]);
    }
    fields.resize(14, NONE);
    fields.extend([leads, 0]);
    Some(Prepared { bytes: fields.iter().flat_map(|f| f.to_be_bytes()).collect(), expected })
}

fn gave(result: &[u8]) -> Gave {
    let field = |n: usize| u64::from_be_bytes(result[n * 8..n * 8 + 8].try_into().expect("eight bytes"));
    match field(0) as u16 {
        0 => Gave::Value(field(3)),
        code => {
            let stored = matches!(code, 0x04 | 0x10 | 0x11 | 0x38..=0x3b);
            Gave::Exception(code, stored.then_some(field(1)))
        }
    }
}

/// Differences that are the other machine's, with what the manual says.
fn judged(case: &Case, theirs: &Gave) -> Option<&'static str> {
    let fetch_at_zero = case.access == Access::Fetch && case.va == 0;
    (fetch_at_zero && *theirs == Gave::Exception(0x05, None)).then_some(
        "an instruction at virtual address 0 is fetched like any other: SA22-7832 chapter 3, \"Dynamic Address \
         Translation\", makes no exception for it; qemu 7.2 reports addressing",
    )
}

#[test]
#[ignore = "runs a machine: cargo xtask bare-metal --arch s390x"]
fn bare_metal_s390x() {
    let comparison = Comparison {
        machine: MACHINE,
        result: 40,
        prepare,
        gave: |r, _| gave(r),
        outcome: |g| match g {
            Gave::Value(_) => "done".into(),
            Gave::Exception(code, _) => format!("{code:#x}"),
        },
        judged: |case, _, theirs| judged(case, theirs).into_iter().collect(),
    };
    comparison.run(cases(), adapted);
}

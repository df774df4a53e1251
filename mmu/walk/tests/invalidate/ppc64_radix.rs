//! `tlbie` and `tlbiel` of radix translations (ISA 3.0B Book III 6.9.3.3). The list has the state that each translation was
//! made in; the space it is tagged with is the one that an access in such a state is looked up in.

use crate::list::{Fate, Part, Tally, compare, compare_parts, models};
use proptest::prelude::*;
use racewalk_ram::{Asid, Paddr, Vaddr};
use racewalk_walk::ppc64::invalidate::{Effect, Operands, Refused, Structures, tlbie, tlbiel};
use racewalk_walk::ppc64::{Context, Mode, radix};
use racewalk_walk::tlb::{Entry, Tag};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Made {
    /// Through the tree of a process, and in a partition that of the partition too.
    Process { lpid: u64, pid: u64 },
    /// Of a guest real address, through the partition's tree.
    GuestReal { lpid: u64 },
    /// Of a hypervisor real address: nothing of it is in a table.
    HypervisorReal,
}

#[derive(Clone, Copy, Debug)]
struct Formed {
    made: Made,
    va: u64,
    shift: u8,
}

fn space(m: Made) -> Asid {
    let c = match m {
        Made::Process { lpid, pid } => {
            radix::Controls { mode: Mode::Virtual, lpid, pid, ..Default::default() }
        }
        Made::GuestReal { lpid } => radix::Controls { mode: Mode::GuestReal, lpid, ..Default::default() },
        Made::HypervisorReal => radix::Controls { mode: Mode::HypervisorReal, ..Default::default() },
    };
    c.space()
}

const LPIDS: [u64; 4] = [0, 3, 5, 0xfff];
const PIDS: [u64; 3] = [0, 7, 0xf_ffff];

fn address() -> impl Strategy<Value = u64> {
    let base = prop_oneof![3 => Just(0u64), 1 => Just(0x7fff_f000_0000), 1 => Just(3 << 62)];
    (base, prop_oneof![0..20u64, 510..514u64, 0x3fffe..0x40002u64]).prop_map(|(b, page)| b + (page << 12))
}

fn formed() -> impl Strategy<Value = Formed> {
    let (lpid, pid) = (prop::sample::select(&LPIDS[..]), prop::sample::select(&PIDS[..]));
    let made = (lpid, pid, 0..10u8).prop_map(|(lpid, pid, kind)| match kind {
        0 => Made::GuestReal { lpid },
        1 => Made::HypervisorReal,
        _ => Made::Process { lpid, pid },
    });
    let shift = prop::sample::select(&[12u8, 12, 16, 21, 30][..]);
    (made, address(), shift).prop_map(|(made, va, shift)| Formed { made, va, shift })
}

/// The instruction by its fields.
#[derive(Clone, Copy, Debug)]
struct Op {
    local: bool,
    ric: u8,
    prs: bool,
    is: u64,
    va: u64,
    ap: u64,
    lpid: u64,
    pid: u64,
    set: u64,
}

/// The thread that executes it.
#[derive(Clone, Copy, Debug)]
struct Thread {
    hypervisor: bool,
    problem: bool,
    shootdown: bool,
    lpidr: u64,
}

fn page_shift(ap: u64) -> Option<u8> {
    [Some(12), Some(21), Some(30), None, None, Some(16), None, None][ap as usize]
}

/// The exceptions and invalid forms, the first in this order.
fn refused(t: Thread, o: Op) -> Option<Refused> {
    if t.problem {
        return Some(Refused::Privileged);
    }
    // A partition may shoot down translations of its own processes on its own thread, and with GTSE on others.
    if !t.hypervisor && !(o.prs && (o.local || t.shootdown)) {
        return Some(Refused::HypervisorPrivileged);
    }
    match (o.ric, o.is) {
        (3, _) => Some(Refused::NotModelled("not modelled: tlbie of a group of translations (RIC = 3)")),
        (1, 0) => Some(Refused::InvalidForm),
        (_, 1) if !o.prs => Some(Refused::InvalidForm),
        (_, 0) if page_shift(o.ap).is_none() => Some(Refused::InvalidForm),
        _ => None,
    }
}

/// The partition meant: RS names it for `tlbie` in hypervisor state, else it is the thread's own.
fn partition(t: Thread, o: Op) -> u64 {
    if o.local || !t.hypervisor { t.lpidr } else { o.lpid }
}

/// What is meant of the translations of a space, wherever they are: IS by its wording.
fn named(t: Thread, o: Op, made: Made) -> Fate {
    let lpid = partition(t, o);
    let all = o.is == 3 && t.hypervisor;
    match (made, o.prs) {
        (Made::HypervisorReal, _) => Fate::Stays.or_may(all),
        // Process-scoped.
        (Made::GuestReal { .. }, true) => Fate::Stays,
        (Made::Process { lpid: l, pid: p }, true) => {
            Fate::named(all || (l == lpid && (o.is >= 2 || p == o.pid)))
        }
        // Partition-scoped: of the translations of processes those that a partition's tree is part of.
        (Made::GuestReal { lpid: l }, false) => Fate::named(all || l == lpid),
        (Made::Process { lpid: l, .. }, false) => match l {
            0 => Fate::Stays.or_may(all || lpid == 0),
            _ => Fate::named(all || l == lpid),
        },
    }
}

fn wording(t: Thread, o: Op, f: &Formed) -> Fate {
    if o.ric == 1 {
        return Fate::Stays;
    }
    let whose = named(t, o, f.made);
    if o.is != 0 {
        return whose;
    }
    let shift = page_shift(o.ap).expect("else refused");
    let (small, large) = (f.shift.min(shift), f.shift.max(shift));
    let overlaps = f.va >> large == o.va >> large;
    let own = partition(t, o) == 0;
    match (f.made, o.prs) {
        // By effective address. A host's page has the size that AP names; a partition's may be kept in pieces.
        (Made::Process { .. }, true) if own => named_if(whose, f.shift == shift && overlaps),
        (Made::Process { .. }, true) => {
            named_if(whose, small == f.shift && overlaps).or_may(whose == Fate::Goes && overlaps)
        }
        // By guest real address, which joined translations do not tell: the model takes all of the partition.
        (Made::GuestReal { .. }, false) => {
            named_if(whose, f.shift == shift && overlaps).or_may(whose == Fate::Goes)
        }
        _ => Fate::Stays.or_may(whose != Fate::Stays),
    }
}

fn named_if(whose: Fate, too: bool) -> Fate {
    Fate::named(whose == Fate::Goes && too)
}

/// Upper parts of walks: RIC = 1 and 2, by IS; one page (RIC = 2, IS = 0) takes those that lead to it.
fn of_part(t: Thread, o: Op, made: Made, part: &Part) -> Fate {
    if o.ric == 0 {
        return Fate::Stays;
    }
    let whose = named(t, o, made);
    if o.is != 0 {
        return whose;
    }
    if !o.prs {
        return Fate::Stays.or_may(whose != Fate::Stays);
    }
    let shift = page_shift(o.ap).expect("else refused").max(part.shift);
    named_if(whose, part.va.0 >> shift == o.va >> shift)
}

fn execute(t: Thread, o: Op) -> Result<Effect, Refused> {
    let bit = |is: bool, b: u64| if is { b } else { 0 };
    let msr = bit(t.hypervisor, Context::MSR_HV) | bit(t.problem, Context::MSR_PR) | Context::MSR_SF;
    let lpcr = Context::LPCR_HR | bit(t.shootdown, Context::LPCR_GTSE);
    let c = Context { msr, lpcr, lpidr: t.lpidr, ..Context::default() };
    // RB: EPN, or the set; IS in bits 52-53, AP in bits 56-58. RS: PID and LPID.
    let place = if o.is == 0 { o.va & !0xfff } else { o.set << 12 };
    let (rb, rs) = (place | o.is << 10 | o.ap << 5, o.pid << 32 | o.lpid);
    let operands = Operands { rb, rs, ric: o.ric, prs: o.prs, radix: true };
    if o.local { tlbiel(&c, operands) } else { tlbie(&c, operands) }
}

/// Seen to fail: with the pages of a partition by exact size, with IS = 2 of process scope that took guest real addresses,
/// with RIC = 0 that took upper parts, with the LPID of RS for `tlbiel`, with IS = 3 of every partition for a guest.
#[test]
fn what_goes_is_what_the_manual_names() {
    let models = models(&["power9-radix", "power10-radix"], "[\"4K\", \"64K\", \"2M\", \"1G\"]");
    let (entries, uppers) = (Tally::default(), Tally::default());
    let (lpid, pid) = (prop::sample::select(&LPIDS[..]), prop::sample::select(&PIDS[..]));
    let ap = prop_oneof![8 => prop::sample::select(&[0u64, 5, 1, 2][..]), 1 => 0..8u64];
    let ric = prop_oneof![9 => 0..3u8, 1 => Just(3u8)];
    let op = (any::<bool>(), ric, prop::bool::weighted(0.7), 0..4u64, address(), ap, lpid, pid, 0..128u64);
    let op = op.prop_map(|(local, ric, prs, is, va, ap, lpid, pid, set)| Op {
        local,
        ric,
        prs,
        is,
        va,
        ap,
        lpid,
        pid,
        set,
    });
    let often = || prop::bool::weighted(0.8);
    let thread = (often(), prop::bool::weighted(0.05), often(), prop::sample::select(&LPIDS[..]));
    let thread = thread.prop_map(|(hypervisor, problem, shootdown, lpidr)| Thread {
        hypervisor,
        problem,
        shootdown,
        lpidr,
    });
    let parts = prop::collection::vec((formed(), prop::sample::select(&[21u8, 30, 39][..])), 1..30);
    crate::check((prop::collection::vec(formed(), 1..40), parts, thread, op), |(list, parts, t, o)| {
        let done = execute(t, o);
        if let Some(r) = refused(t, o) {
            prop_assert_eq!(done, Err(r));
            return Ok(());
        }
        let e = done.expect("nothing is wrong");
        prop_assert_eq!(e.local, o.local);
        prop_assert_eq!(e.set, (o.local && o.is != 0).then_some(o.set as u16));
        let structures = Structures { process: o.ric == 2 && o.prs, partition: o.ric == 2 && !o.prs };
        prop_assert_eq!(e.structures, structures);
        let made = |f: &Formed| {
            let tag = Tag {
                space: space(f.made),
                global: false,
                page: Vaddr(f.va >> f.shift << f.shift),
                shift: f.shift,
            };
            Entry { tag, frame: Paddr(0), from: Paddr(0), locked: false, leaf: () }
        };
        let tlb: Vec<_> = list.iter().map(made).collect();
        compare(&models, &tlb, &[e.purge], |i| wording(t, o, &list[i]), &entries)?;
        // Only walks through the trees of processes leave upper parts.
        let is_process = |f: &Formed| matches!(f.made, Made::Process { .. });
        let mine: Vec<(Made, Part)> = parts
            .iter()
            .filter(|(f, _)| is_process(f))
            .map(|(f, shift)| (f.made, Part { space: space(f.made), va: Vaddr(f.va), shift: *shift }))
            .collect();
        let list: Vec<Part> = mine.iter().map(|p| p.1).collect();
        compare_parts(&list, &[e.purge], |i| of_part(t, o, mine[i].0, &mine[i].1), &uppers)
    });
    entries.shows_something();
    uppers.shows_something();
}

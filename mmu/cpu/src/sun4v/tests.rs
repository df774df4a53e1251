//! Every effect and every error of the hypercalls, as a guest sees them.

use super::*;
use racewalk_ram::{Paddr, Ram, Vaddr};
use racewalk_walk::WalkStop;
use racewalk_walk::sparc64::sun4v::{Model, RealRange, Tag, Tte};
use racewalk_walk::sparc64::{Reason, State};
use std::sync::Arc;

/// Real memory of 4M is at 8M in physical memory.
const OFFSET: u64 = 0x80_0000;
const LIST: u64 = 0x2000;
const TSB: u64 = 0x4000;
const AREA_AT: u64 = 0x8040;
const VA: Vaddr = Vaddr(0x1234_6000);
const FRAME: u64 = 0x10_0000;
const CONTEXT: u64 = 5;
const TTE: u64 = Tte::V | FRAME | Tte::CP | Tte::EP | Tte::W;
const DESCRIPTOR: TsbDescriptor = TsbDescriptor {
    index_size: 0,
    ways: 1,
    entries: 512,
    context: TsbDescriptor::BY_TAG,
    sizes: 1,
    base: TSB,
    reserved: 0,
};

const OK: u64 = 0;
const ENORADDR: u64 = 2;
const EBADPGSZ: u64 = 4;
const EBADTSB: u64 = 5;
const EINVAL: u64 = 6;
const EBADTRAP: u64 = 7;
const EBADALIGN: u64 = 8;
const ENOTSUPPORTED: u64 = 13;
const ENOMAP: u64 = 14;
const ETOOMANY: u64 = 15;

fn machine(cpus: u32) -> Arc<Cpus<Sun4v>> {
    let m = Cpus::new(Arc::new(Ram::new(16 << 20).unwrap()), cpus);
    for cpu in 0..cpus {
        m.load(cpu, |c| {
            let state = State { privileged: true, primary: [CONTEXT as u16; 2], ..State::default() };
            *c = Context { state, partition: 1, model: Model::T2, ..Context::default() };
            c.ranges[0] = RealRange::new(0, 0x3f_e000, OFFSET);
        });
    }
    let entry = TSB + (VA.0 >> 13 & 511) * 16;
    store(&m, entry, Tag::new(VA, CONTEXT as u16).0);
    store(&m, entry + 8, TTE);
    describe(&m, 0, DESCRIPTOR);
    m
}

fn store(m: &Cpus<Sun4v>, ra: u64, value: u64) {
    m.ram.store_u64(Paddr(ra + OFFSET), value).unwrap();
}

fn describe(m: &Cpus<Sun4v>, at: u64, d: TsbDescriptor) {
    for (i, w) in (0..).zip(d.words()) {
        store(m, LIST + at * 32 + i * 8, w);
    }
}

/// The status of a fast call.
fn call(m: &Cpus<Sun4v>, cpu: u32, function: u64, args: &[u64]) -> u64 {
    let mut all = [0; 5];
    all[..args.len()].copy_from_slice(args);
    m.hypercall(cpu, FAST_TRAP, function, all).status
}

fn translate(m: &Cpus<Sun4v>, cpu: u32, va: Vaddr, access: Access) -> Result<u64, Reason> {
    let _ = m.unpark(cpu);
    let t = m.translate(cpu, va, access);
    m.park(cpu);
    match t {
        Ok(t) => Ok(t.paddr.0),
        Err(WalkStop::Fault(f)) => Err(f.reason),
        Err(WalkStop::Cancelled) => panic!("no controlled run"),
    }
}

fn in_context(m: &Cpus<Sun4v>, cpu: u32, context: u16) {
    m.load(cpu, |c| c.state.primary = [context; 2]);
}

/// Seen to fail with the configuration given to all CPUs.
#[test]
fn tsbs_of_one_cpu_and_one_class() {
    let m = machine(2);
    assert_eq!(translate(&m, 0, VA, Access::Load), Err(Reason::Miss), "no TSB yet");
    assert_eq!(call(&m, 0, number::TSB_CTXNON0, &[1, LIST]), OK);
    assert_eq!(translate(&m, 0, VA, Access::Load), Ok(FRAME + OFFSET));
    assert_eq!(translate(&m, 1, VA, Access::Load), Err(Reason::Miss));
    in_context(&m, 0, 0);
    assert_eq!(translate(&m, 0, VA, Access::Load), Err(Reason::Miss), "none for context 0");
    store(&m, TSB + (VA.0 >> 13 & 511) * 16, Tag::new(VA, 0).0);
    assert_eq!(call(&m, 0, number::TSB_CTX0, &[1, LIST]), OK);
    assert_eq!(translate(&m, 0, VA, Access::Load), Ok(FRAME + OFFSET));
    // The second of two descriptors has it.
    describe(&m, 0, TsbDescriptor { base: TSB + 0x2000, ..DESCRIPTOR });
    describe(&m, 1, DESCRIPTOR);
    assert_eq!(call(&m, 1, number::TSB_CTX0, &[2, LIST]), OK);
    in_context(&m, 1, 0);
    assert_eq!(translate(&m, 1, VA, Access::Load), Ok(FRAME + OFFSET));
    // A list of none takes them away; the TLB keeps what it has.
    assert_eq!(call(&m, 0, number::TSB_CTX0, &[0, 0]), OK);
    assert_eq!(translate(&m, 0, VA, Access::Load), Ok(FRAME + OFFSET));
    assert_eq!(call(&m, 0, number::DEMAP_ALL, &[0, 0, 3]), OK);
    assert_eq!(translate(&m, 0, VA, Access::Load), Err(Reason::Miss));
}

#[test]
fn tsbs_that_are_refused() {
    let m = machine(1);
    let of = |d: TsbDescriptor| {
        describe(&m, 0, d);
        call(&m, 0, number::TSB_CTX0, &[1, LIST])
    };
    assert_eq!(of(TsbDescriptor { index_size: 4, sizes: 16, ..DESCRIPTOR }), EBADPGSZ);
    assert_eq!(of(TsbDescriptor { ways: 2, ..DESCRIPTOR }), EBADTSB);
    assert_eq!(of(TsbDescriptor { entries: 511, ..DESCRIPTOR }), EBADTSB);
    assert_eq!(of(TsbDescriptor { context: 2, ..DESCRIPTOR }), EINVAL);
    assert_eq!(of(TsbDescriptor { base: 0x40_0000, ..DESCRIPTOR }), ENORADDR);
    assert_eq!(of(TsbDescriptor { base: TSB + 0x1000, ..DESCRIPTOR }), EBADALIGN);
    for function in [number::TSB_CTX0, number::TSB_CTXNON0] {
        assert_eq!(call(&m, 0, function, &[5, LIST]), EINVAL);
        assert_eq!(call(&m, 0, function, &[1, LIST + 4]), EBADALIGN);
        assert_eq!(call(&m, 0, function, &[1, 0x40_0000 - 16]), ENORADDR, "its end");
        assert_eq!(call(&m, 0, function, &[1, u64::MAX - 7]), ENORADDR);
    }
    m.load(0, |c| c.ranges[1] = RealRange::new(0x1000_0000, 0x1001_e000, 0x1000_0000));
    assert_eq!(call(&m, 0, number::TSB_CTX0, &[1, 0x1000_0000]), ENORADDR, "no such memory in the machine");
    // What was refused has taken away what there was.
    describe(&m, 0, DESCRIPTOR);
    assert_eq!(call(&m, 0, number::TSB_CTXNON0, &[1, LIST]), OK);
    assert_ne!(m.context(0).nonzero, [Config(0); TSBS]);
    assert_eq!(call(&m, 0, number::TSB_CTXNON0, &[5, LIST]), EINVAL);
    assert_eq!(m.context(0).nonzero, [Config(0); TSBS]);
}

/// Seen to fail with a demap that purged every CPU.
#[test]
fn demaps_reach_the_own_cpu() {
    let m = machine(2);
    let fresh = || {
        for cpu in 0..2 {
            assert_eq!(call(&m, cpu, number::TSB_CTXNON0, &[1, LIST]), OK);
            assert_eq!(translate(&m, cpu, VA, Access::Load), Ok(FRAME + OFFSET));
            assert_eq!(call(&m, cpu, number::TSB_CTXNON0, &[0, 0]), OK);
        }
    };
    let gone = |cpu| translate(&m, cpu, VA, Access::Load) == Err(Reason::Miss);
    let page = [0, 0, VA.0 + 8, CONTEXT, 3];
    for (function, args) in [
        (number::DEMAP_PAGE, &page[..]),
        (number::DEMAP_CONTEXT, &[0, 0, CONTEXT, 3][..]),
        (number::DEMAP_ALL, &[0, 0, 3][..]),
    ] {
        fresh();
        assert_eq!(call(&m, 0, function, args), OK);
        assert!(gone(0) && !gone(1), "{function:#x}");
    }
    fresh();
    assert_eq!(m.hypercall(0, UNMAP_ADDR_TRAP, 0, [VA.0, CONTEXT, 3, 0, 0]).status, OK);
    assert!(gone(0) && !gone(1));
    fresh();
    assert_eq!(call(&m, 0, number::DEMAP_PAGE, &[0, 0, VA.0 + 0x2000, CONTEXT, 3]), OK);
    assert_eq!(call(&m, 0, number::DEMAP_CONTEXT, &[0, 0, CONTEXT + 1, 3]), OK);
    for (function, args, status) in [
        (number::DEMAP_PAGE, [1, 0, VA.0, CONTEXT, 3], ENOTSUPPORTED),
        (number::DEMAP_PAGE, [0, 0, 1 << 50, CONTEXT, 3], EINVAL),
        (number::DEMAP_CONTEXT, [0, 1, CONTEXT, 3, 0], ENOTSUPPORTED),
        (number::DEMAP_CONTEXT, [0, 0, 0x2000, 3, 0], EINVAL),
        (number::DEMAP_ALL, [1, 0, 3, 0, 0], ENOTSUPPORTED),
        (number::DEMAP_ALL, [0, 0, 0, 0, 0], EINVAL),
    ] {
        assert_eq!(call(&m, 0, function, &args), status, "{function:#x} {args:x?}");
    }
    assert!(!gone(0), "none of these named it");
    assert_eq!(m.hypercall(0, UNMAP_ADDR_TRAP, 0, [VA.0, CONTEXT, 4, 0, 0]).status, EINVAL);
}

/// Seen to fail with permanent mappings that only the TLB knew, when it is one that locks nothing.
#[test]
fn permanent_mappings_survive() {
    for tlb in ["infinite", "none", "t2"] {
        let of = racewalk_walk::tlb::presets::find(tlb).unwrap();
        let plain = machine(1);
        let m = Cpus::<Sun4v>::with_tlbs(plain.ram.clone(), 2, &of);
        for cpu in 0..2 {
            let c = plain.context(0);
            m.load(cpu, |to| *to = c);
            in_context(&m, cpu, 0);
        }
        let page = Vaddr(0x2000);
        assert_eq!(call(&m, 0, number::MAP_PERMANENT, &[page.0, 0, TTE, 1]), OK);
        for (function, args) in
            [(number::DEMAP_ALL, &[0, 0, 3][..]), (number::DEMAP_CONTEXT, &[0, 0, 0, 3][..])]
        {
            assert_eq!(call(&m, 0, function, args), OK);
            assert_eq!(translate(&m, 0, page, Access::Store), Ok(FRAME + OFFSET), "{tlb}");
        }
        assert!(translate(&m, 1, page, Access::Load).is_err(), "the other CPU has none");
        in_context(&m, 0, CONTEXT as u16);
        assert!(translate(&m, 0, page, Access::Load).is_err(), "it is of context 0");
        in_context(&m, 0, 0);
        assert_eq!(call(&m, 0, number::UNMAP_PERMANENT, &[page.0, 0, 1]), OK);
        assert!(translate(&m, 0, page, Access::Load).is_err(), "{tlb}");
        assert_eq!(call(&m, 0, number::UNMAP_PERMANENT, &[page.0, 0, 1]), ENOMAP);
        assert_eq!(call(&m, 0, number::UNMAP_PERMANENT, &[page.0, 1, 1]), EINVAL);
        assert_eq!(call(&m, 0, number::MAP_PERMANENT, &[page.0, 0, TTE | 2, 1]), EBADPGSZ);
        assert_eq!(call(&m, 0, number::MAP_PERMANENT, &[page.0, 0, TTE | 0x40_0000, 1]), ENORADDR);
        assert_eq!(call(&m, 0, number::MAP_PERMANENT, &[page.0, 5, TTE, 1]), EINVAL);
        for i in 0..8 {
            assert_eq!(call(&m, 0, number::MAP_PERMANENT, &[i << 13, 0, TTE, 3]), OK);
        }
        assert_eq!(call(&m, 0, number::MAP_PERMANENT, &[8 << 13, 0, TTE, 3]), ETOOMANY);
    }
}

#[test]
fn mappings_by_trap_do_not_last() {
    let m = machine(1);
    let map = |args: [u64; 5]| m.hypercall(0, MAP_ADDR_TRAP, 0, args).status;
    assert_eq!(map([VA.0 + 0x10, CONTEXT, TTE, 3, 0]), OK);
    assert_eq!(translate(&m, 0, VA, Access::Fetch), Ok(FRAME + OFFSET));
    // In place of what was there, also of another size.
    assert_eq!(map([VA.0, CONTEXT, (TTE & !Tte::RA) | 3, 3, 0]), OK);
    assert_eq!(translate(&m, 0, VA, Access::Load), Ok((VA.0 & 0x3f_ffff) + OFFSET));
    assert_eq!(call(&m, 0, number::DEMAP_ALL, &[0, 0, 3]), OK);
    assert_eq!(translate(&m, 0, VA, Access::Load), Err(Reason::Miss));
    assert_eq!(map([1 << 60, CONTEXT, TTE, 3, 0]), EINVAL);
    assert_eq!(map([VA.0, 0x2000, TTE, 3, 0]), EINVAL);
    assert_eq!(map([VA.0, CONTEXT, TTE, 0, 0]), EINVAL);
    assert_eq!(map([VA.0, CONTEXT, TTE & !Tte::V, 3, 0]), EINVAL);
    assert_eq!(map([VA.0, CONTEXT, TTE | 7, 3, 0]), EBADPGSZ);
    assert_eq!(map([VA.0, CONTEXT, TTE | 0x40_0000, 3, 0]), ENORADDR);
}

#[test]
fn the_fault_area_tells_the_guest() {
    let m = machine(1);
    let conf = |ra: u64| m.hypercall(0, FAST_TRAP, number::FAULT_AREA_CONF, [ra, 0, 0, 0, 0]);
    let fault = |access| {
        let _ = m.unpark(0);
        let f = m.translate(0, VA, access);
        m.park(0);
        match f {
            Err(WalkStop::Fault(f)) => f,
            other => panic!("{other:?}"),
        }
    };
    assert!(!m.report_fault(0, &fault(Access::Load)), "there is no area yet");
    assert_eq!(conf(AREA_AT), Returned { status: OK, value: 0 });
    assert_eq!(conf(AREA_AT + 8).status, EBADALIGN);
    assert_eq!(conf(0x40_0000 - 0x40).status, ENORADDR, "its second half");
    assert_eq!(m.hypercall(0, FAST_TRAP, number::FAULT_AREA_INFO, [0; 5]).value, AREA_AT);
    let word = |at: u64| m.ram.load_u64(Paddr(AREA_AT + OFFSET + at)).unwrap();
    assert!(m.report_fault(0, &fault(Access::Store)));
    assert_eq!([word(0x40), word(0x48), word(0x50)], [1, VA.0, CONTEXT]);
    assert_eq!(word(0), 0);
    assert!(m.report_fault(0, &fault(Access::Fetch)));
    assert_eq!([word(0), word(8), word(0x10)], [1, VA.0, CONTEXT]);
    assert_eq!(conf(0), Returned { status: OK, value: AREA_AT });
    assert!(!m.report_fault(0, &fault(Access::Load)));
}

#[test]
fn translation_off_and_on() {
    let m = machine(1);
    let enable = |on: u64, target: u64| call(&m, 0, number::ENABLE, &[on, target]);
    assert_eq!(enable(1, 0x1000), EINVAL, "it is on");
    assert_eq!(enable(0, 0x1002), EBADALIGN);
    assert_eq!(enable(0, 0x40_0000), ENORADDR);
    assert_eq!(enable(0, 0x1000), OK);
    assert_eq!(translate(&m, 0, Vaddr(0x2008), Access::Load), Ok(0x2008 + OFFSET), "a real address");
    assert_eq!(enable(0, 0x1000), EINVAL);
    assert_eq!(enable(2, u64::MAX - 3), OK, "any but zero; the target is virtual");
    assert_eq!(translate(&m, 0, Vaddr(0x2008), Access::Load), Err(Reason::Miss));
    assert_eq!(call(&m, 0, 0x14, &[]), EBADTRAP);
    assert_eq!(m.hypercall(0, 0x85, 0, [0; 5]).status, EBADTRAP);
}

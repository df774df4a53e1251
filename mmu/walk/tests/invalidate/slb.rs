//! SLB instructions (ISA 3.0B Book III 6.9.3.2), one after the other: the list has what each entry was given, and is
//! searched from end to end. What leaves the caches of translations by effective address is held to the same list.

use proptest::prelude::*;
use racewalk_ram::Vaddr;
use racewalk_walk::ppc64::Context;
use racewalk_walk::ppc64::hash::{Slb, SlbMiss};
use racewalk_walk::ppc64::invalidate::{Lookaside, Refused, slbia, slbie, slbieg, slbmte};
use std::cell::Cell;

/// An entry: its words in fields.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Line {
    /// Address bits 0-35.
    esid: u64,
    valid: bool,
    terabyte: bool,
    class: bool,
    vsid: u64,
    /// Base page of 64K; else 4K.
    large: bool,
}

impl Line {
    fn shift(&self) -> u32 {
        if self.terabyte { 40 } else { 28 }
    }
    fn translates(&self, va: u64) -> bool {
        self.valid && self.esid << 28 >> self.shift() == va >> self.shift()
    }
    /// The VSID word of `slbmte`.
    fn word(&self) -> u64 {
        let place = if self.terabyte { 24 } else { 12 };
        let bit = |is: bool, b: u64| if is { b } else { 0 };
        self.vsid << place | bit(self.terabyte, 1 << 62) | bit(self.class, 0x80) | bit(self.large, 0x110)
    }
}

#[derive(Clone, Debug)]
enum Op {
    Mte(u64, Line),
    /// Address, B, C.
    Ie(u64, bool, bool),
    /// The same with PID and LPID.
    Ieg(u64, bool, bool, u64, u64),
    Ia(u8),
}

const ESIDS: [u64; 6] = [0, 1, 0x1000, 0x1001, 0xc_0000_0000, 0xf_ffff_ffff];

fn line() -> impl Strategy<Value = Line> {
    let esid = prop::sample::select(&ESIDS[..]);
    (esid, prop::bool::weighted(0.9), any::<bool>(), any::<bool>(), 1..1000u64, any::<bool>()).prop_map(
        |(esid, valid, terabyte, class, vsid, large)| Line { esid, valid, terabyte, class, vsid, large },
    )
}

fn ops() -> impl Strategy<Value = Op> {
    let address = || (prop::sample::select(&ESIDS[..]), 0..1u64 << 28).prop_map(|(e, at)| e << 28 | at);
    let id = || prop::sample::select(&[0u64, 5, 7][..]);
    prop_oneof![
        6 => (0..34u64, line()).prop_map(|(n, l)| Op::Mte(n, l)),
        2 => (address(), any::<bool>(), any::<bool>()).prop_map(|(a, b, c)| Op::Ie(a, b, c)),
        1 => (address(), any::<bool>(), any::<bool>(), id(), id()).prop_map(|(a, b, c, p, l)| Op::Ieg(a, b, c, p, l)),
        1 => (0..9u8).prop_map(Op::Ia)
    ]
}

/// `slbie` by its wording: the entry whose ESID, size and class are those of RB; how many there are.
fn invalidate(list: &mut [Line], va: u64, terabyte: bool, class: bool) -> u64 {
    let mut gone = 0;
    for l in list {
        if l.translates(va >> 28 << 28) && (l.terabyte, l.class) == (terabyte, class) {
            l.valid = false;
            gone += 1;
        }
    }
    gone
}

/// Which entries `slbia` takes, by IH.
fn taken(ih: u8, n: usize, l: &Line) -> bool {
    match ih {
        3 => l.class,
        4 => true,
        7 => false,
        _ => n != 0,
    }
}

fn rb(va: u64, terabyte: bool, class: bool) -> u64 {
    va >> 28 << 28 | u64::from(terabyte) << 25 | u64::from(class) << 27
}

fn segment(va: u64, terabyte: bool) -> Lookaside {
    let bytes = 1u64 << if terabyte { 40 } else { 28 };
    let first = va / bytes * bytes;
    Lookaside(Vaddr(first), Vaddr(first + (bytes - 1)))
}

fn agree(slb: &Slb, list: &[Line]) -> Result<(), TestCaseError> {
    for (n, l) in list.iter().enumerate() {
        let wanted = l.esid << 28 | u64::from(l.valid) << 27;
        prop_assert_eq!((slb.slbmfee(n as u64), slb.slbmfev(n as u64)), (Some(wanted), Some(l.word())));
    }
    for va in ESIDS.map(|e| e << 28 | 0x123_4567) {
        let found: Vec<&Line> = list.iter().filter(|l| l.translates(va)).collect();
        let wanted = match found[..] {
            [] => Err(SlbMiss::None),
            [l] => Ok((l.vsid, l.terabyte, if l.large { 16 } else { 12 })),
            _ => Err(SlbMiss::Multiple),
        };
        let got = slb.lookup(Vaddr(va)).map(|s| (s.vsid, s.size.shift() == 40, s.base));
        prop_assert_eq!(got, wanted);
        let read = slb.slbfee(va);
        prop_assert_eq!(
            read,
            match found[..] {
                [] => Ok(None),
                [l] => Ok(Some(l.word())),
                _ => Err(SlbMiss::Multiple),
            }
        );
    }
    Ok(())
}

/// Seen to fail: with `slbie` that ignored the class, `slbia` that took entry 0, `slbieg` of every process, segments of 1T
/// found by 36 bits.
#[test]
fn the_buffer_is_the_list() {
    let (gone, left) = (Cell::new(0u64), Cell::new(0u64));
    crate::check(prop::collection::vec(ops(), 1..60), |ops| {
        let mut c = Context { lpcr: 0, lpidr: 5, pidr: 7, slb: Slb::new(32), ..Context::default() };
        let empty = Line { esid: 0, valid: false, terabyte: false, class: false, vsid: 0, large: false };
        let mut list = [empty; 32];
        for op in &ops {
            match *op {
                Op::Mte(n, l) => {
                    let valid = u64::from(l.valid) << 27;
                    let entry = slbmte(&mut c, l.word(), l.esid << 28 | valid | n);
                    prop_assert_eq!(entry, (n < 32).then_some(Lookaside::ALL));
                    if n < 32 {
                        list[n as usize] = l;
                    }
                }
                Op::Ie(va, b, class) => {
                    prop_assert_eq!(slbie(&mut c, rb(va, b, class)), segment(va, b));
                    gone.set(gone.get() + invalidate(&mut list, va, b, class));
                }
                Op::Ieg(va, b, class, pid, lpid) => {
                    let sent = slbieg(&c, pid << 32 | lpid, rb(va, b, class)).expect("hypervisor state");
                    let mine = (pid, lpid) == (7, 5);
                    prop_assert_eq!(sent.apply(&mut c), mine.then(|| segment(va, b)));
                    if mine {
                        gone.set(gone.get() + invalidate(&mut list, va, b, class));
                    }
                }
                Op::Ia(ih @ (5 | 8)) => prop_assert_eq!(slbia(&mut c, ih), Err(Refused::InvalidForm)),
                Op::Ia(ih) => {
                    prop_assert_eq!(slbia(&mut c, ih), Ok(Lookaside::ALL));
                    for (_, l) in list.iter_mut().enumerate().filter(|(n, l)| taken(ih, *n, l)) {
                        l.valid = false;
                    }
                }
            }
            left.set(left.get() + list.iter().filter(|l| l.valid).count() as u64);
            agree(&c.slb, &list)?;
        }
        Ok(())
    });
    assert!(gone.get() > 100 && left.get() > 1000, "{} went, {} stayed", gone.get(), left.get());
}

//! Random calls against a plain map of pages.

use super::{ANON, FIXED, RW};
use crate::testing::{assert_clean, boot_with};
use crate::*;
use racewalk_sched::controlled::Rng;
use racewalk_sched::{NO_CPU, set_this_cpu};
use std::collections::BTreeMap;
use std::ops::Range;

/// Pages `BASE..BASE + PAGES`: two and a half segments, across a region border.
const BASE: u64 = 0x7_ffec;
const PAGES: u64 = 640;
const HEAP: u64 = 0x1000;

#[derive(Default)]
struct Model {
    pages: BTreeMap<u64, (Prot, u64)>,
    brk: u64,
}

impl Model {
    fn map(&mut self, r: Range<u64>, prot: Prot) {
        for p in r {
            self.pages.insert(p, (prot, 0));
        }
    }
    fn unmap(&mut self, r: Range<u64>) {
        for p in r {
            self.pages.remove(&p);
        }
    }
    fn protect(&mut self, r: Range<u64>, prot: Prot) -> bool {
        for p in r {
            match self.pages.get_mut(&p) {
                Some(x) => x.0 = prot,
                None => return false,
            }
        }
        true
    }
    fn discard(&mut self, r: Range<u64>) -> bool {
        let mut all = true;
        for p in r {
            match self.pages.get_mut(&p) {
                Some(x) => x.1 = 0,
                None => all = false,
            }
        }
        all
    }
    fn one_mapping(&self, mut r: Range<u64>) -> bool {
        let first = self.pages.get(&r.start).map(|p| p.0);
        first.is_some() && r.all(|p| self.pages.get(&p).map(|p| p.0) == first)
    }
    fn remap(&mut self, old: Range<u64>, new: Range<u64>) -> Option<Errno> {
        if !self.pages.contains_key(&old.start) {
            return Some(Errno::EFAULT);
        }
        if old.end > new.start && new.end > old.start {
            return Some(Errno::EINVAL);
        }
        self.unmap(new.clone());
        let len = (old.end - old.start).min(new.end - new.start);
        self.unmap(old.start + len..old.end);
        if !self.one_mapping(old.start..old.start + len) {
            return Some(Errno::EFAULT);
        }
        let prot = self.pages[&old.start].0;
        self.map(new.clone(), prot);
        for i in 0..len {
            let p = self.pages.remove(&(old.start + i)).unwrap();
            self.pages.insert(new.start + i, p);
        }
        None
    }
}

fn check(r: Result<()>, want: Option<Errno>, what: &str) {
    assert_eq!(r.err().map(|e| e.errno()), want, "{what}");
}

fn run(seed: u64, config: Config, on_cpu: bool) {
    set_this_cpu(if on_cpu { 0 } else { NO_CPU });
    let (k, _) = boot_with(2, config);
    let mm = k.mm_create().unwrap();
    if on_cpu {
        mm.switch_to(0).unwrap();
    }
    let mut rng = Rng(seed);
    let mut m = Model { brk: HEAP, ..Model::default() };
    mm.set_brk_start(HEAP << 12);
    let at = |p: u64| p << 12;
    for step in 0..400 {
        let a = BASE + rng.below(PAGES);
        let most = if rng.below(4) == 0 { 400 } else { 12 };
        let n = 1 + rng.below(most).min(BASE + PAGES - a - 1);
        let r = a..a + n;
        let prot = [RW, RW, RW, Prot::READ, Prot::NONE, Prot(7)][rng.below(6) as usize];
        match rng.below(16) {
            0..4 => {
                check(mm.mmap(at(a), at(n), prot, FIXED, None).map(drop), None, "mmap");
                m.map(r, prot);
            }
            4..6 => {
                check(mm.munmap(at(a), at(n)), None, "munmap");
                m.unmap(r);
            }
            6..8 => {
                let want = (!m.protect(r, prot)).then_some(Errno::ENOMEM);
                check(mm.mprotect(at(a), at(n), prot), want, "mprotect");
            }
            8 => {
                let want = (!m.discard(r)).then_some(Errno::ENOMEM);
                check(mm.madvise(at(a), at(n), madv::DONTNEED), want, "madvise");
            }
            9 => {
                let to = BASE + rng.below(PAGES - 20);
                let len = 1 + rng.below(20);
                let want = m.remap(r, to..to + len);
                check(mm.mremap(at(a), at(n), at(len), 3, at(to)).map(drop), want, "mremap");
            }
            10 => {
                let new = HEAP + rng.below(40);
                assert_eq!(mm.brk(at(new)).unwrap(), at(new));
                for p in m.brk..new {
                    m.pages.insert(p, (RW, 0));
                }
                m.unmap(new..m.brk.max(new));
                m.brk = new;
            }
            11 => {
                let b = mm.mmap(0, at(n), prot, ANON, None).unwrap();
                let len = at(n) - 4096 * rng.below(2);
                m.map(b >> 12..(b + at(n)) >> 12, prot);
                if len != 0 {
                    mm.munmap(b, len).unwrap();
                    m.unmap(b >> 12..(b + len) >> 12);
                }
            }
            _ => {
                for p in r {
                    if rng.below(2) == 0 {
                        let v = rng.next_u64() | 1;
                        let can = m.pages.get(&p).is_some_and(|x| x.0.contains(Prot::WRITE));
                        assert_eq!(mm.put_user_u64(at(p) + 8, v).is_ok(), can, "write, step {step}");
                        if can {
                            m.pages.get_mut(&p).unwrap().1 = v;
                        }
                    } else {
                        let want = m.pages.get(&p).filter(|x| x.0 != Prot::NONE).map(|x| x.1);
                        assert_eq!(mm.get_user_u64(at(p) + 8).ok(), want, "read of {p:#x}, step {step}");
                    }
                }
            }
        }
    }
    for (&p, &(prot, v)) in &m.pages {
        let want = (prot != Prot::NONE).then_some(v);
        assert_eq!(mm.get_user_u64(at(p) + 8).ok(), want, "page {p:#x} at the end");
    }
    let lines: u64 = mm.maps().lines().count() as u64;
    let mut runs = 0;
    let mut last = None;
    for (&p, x) in &m.pages {
        runs += (last != Some((p.wrapping_sub(1), x.0))) as u64;
        last = Some((p, x.0));
    }
    assert_eq!(lines, runs);
    mm.exit().unwrap();
    assert_clean(&k);
}

#[test]
fn random_calls_agree_with_the_model() {
    for seed in 0..60 {
        let gather = if seed % 3 == 0 { GatherMode::Batched } else { GatherMode::NoGather };
        let unhook = if seed % 5 == 0 { Unhook::Idte } else { Unhook::Store };
        let config = Config { gather, unhook, reserved: 1 << 20, ..Config::default() };
        run(seed, config, seed % 2 == 0);
    }
}

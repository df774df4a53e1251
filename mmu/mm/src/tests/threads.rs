//! Host threads, each on a CPU of its own.

use super::{FIXED, RW};
use crate::testing::{assert_clean, boot, boot_with, guest};
use crate::*;
use racewalk_sched::controlled::Rng;
use racewalk_sched::set_this_cpu;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

/// Runs `f(cpu)` on each CPU with `mm` loaded, and a kernel thread that drives RCU meanwhile.
fn on_all(mm: &Arc<Mm>, n: u32, f: impl Fn(u32) + Sync) {
    let left = AtomicU64::new(n as u64);
    std::thread::scope(|s| {
        for cpu in 0..n {
            let (f, left) = (&f, &left);
            s.spawn(move || {
                set_this_cpu(cpu);
                mm.switch_to(cpu).unwrap();
                f(cpu);
                mm.detach(cpu).unwrap();
                left.fetch_sub(1, SeqCst);
            });
        }
        s.spawn(|| {
            while left.load(SeqCst) != 0 {
                let news = mm.kernel().rcu_news();
                mm.kernel().rcu_poll();
                mm.kernel().rcu_wait(news, Duration::from_millis(1));
            }
        });
    });
}

#[test]
fn neighbours_in_one_segment() {
    let (k, cpus) = boot(4);
    let mm = k.mm_create().unwrap();
    on_all(&mm, 4, |cpu| {
        let mut rng = Rng(cpu as u64);
        for round in 0..150u64 {
            // Interleaved ranges: everybody shares page tables with everybody.
            let a = 0x4000_0000 + cpu as u64 * 0x4_0000 + rng.below(8) * 0x4000;
            let n = 1 + rng.below(6);
            cpus.enter_kernel(cpu);
            mm.mmap(a, n << 12, RW, FIXED, None).unwrap();
            cpus.exit_kernel(cpu);
            for i in 0..n {
                assert_eq!(guest(&mm, cpu, a + (i << 12), None), Ok(0), "fresh memory is zero");
                guest(&mm, cpu, a + (i << 12), Some(round << 8 | cpu as u64)).unwrap();
            }
            for i in 0..n {
                assert_eq!(guest(&mm, cpu, a + (i << 12), None), Ok(round << 8 | cpu as u64));
            }
            cpus.enter_kernel(cpu);
            assert_eq!(mm.get_user_u64(a).unwrap(), round << 8 | cpu as u64);
            mm.munmap(a, n << 12).unwrap();
            cpus.exit_kernel(cpu);
            assert!(guest(&mm, cpu, a, None).is_err());
        }
    });
    mm.exit().unwrap();
    assert_clean(&k);
    assert!(k.stats().flush_ipte.get() > 0 && k.stats().rcu_grace_periods.get() > 0);
}

#[test]
fn one_page_and_everybody_wants_it() {
    let (k, cpus) = boot(4);
    let mm = k.mm_create().unwrap();
    let a = mm.mmap(0x4000_0000, 0x20_0000, RW, FIXED, None).unwrap();
    let sum = AtomicU64::new(0);
    on_all(&mm, 4, |cpu| {
        let mut rng = Rng(cpu as u64 + 10);
        for i in 0..400u64 {
            let va = a + rng.below(4) * 0x8_0000 + cpu as u64 * 8;
            match rng.below(8) {
                0 => {
                    cpus.enter_kernel(cpu);
                    mm.madvise(va & !0xfff, 4096, madv::DONTNEED).unwrap();
                    cpus.exit_kernel(cpu);
                }
                1 => {
                    cpus.enter_kernel(cpu);
                    mm.mprotect(va & !0xfff, 4096, Prot::READ).unwrap();
                    mm.mprotect(va & !0xfff, 4096, RW).unwrap();
                    cpus.exit_kernel(cpu);
                }
                // A write may meet the moment of read-only protection.
                2..5 => drop(guest(&mm, cpu, va, Some(i << 8 | cpu as u64))),
                _ => {
                    let v = guest(&mm, cpu, va, None).unwrap();
                    assert!(v == 0 || v & 0xff == cpu as u64, "only this CPU writes here: {v:#x}");
                    sum.fetch_add(v, SeqCst);
                }
            }
        }
    });
    mm.exit().unwrap();
    assert_clean(&k);
}

#[test]
fn shared_tables_are_retracted_under_faults_and_without_memory() {
    for fail in [false, true] {
        let (k, cpus) = boot_with(3, Config { reserved: 1 << 20, ..Config::default() });
        if fail {
            k.set_failures(Failures::Chance { num: 1, den: 2, seed: 3, only: Some(Gfp::Nowait) });
        }
        let mm = k.mm_create().unwrap();
        let a = mm.mmap(0x4000_0000, 0x20_0000, RW, MapFlags(0x31), None).unwrap();
        on_all(&mm, 3, |cpu| {
            // The third goes on until it has met a table: it may have had the machine for itself so far.
            let met = || cpu != 2 || k.stats().tables_deferred.get() > 0;
            for i in (0..10_000u64).take_while(|&i| i < 200 || !met()) {
                let va = a + (i % 2) * 0x10_0000 + cpu as u64 * 8;
                if cpu == 2 {
                    cpus.enter_kernel(cpu);
                    mm.retract_segment(va).unwrap();
                    let b = 0x5000_0000 + (i << 20);
                    mm.mmap(b, 4096, RW, FIXED, None).unwrap();
                    mm.put_user_u8(b, 1).unwrap();
                    mm.munmap(b, 4096).unwrap();
                    cpus.exit_kernel(cpu);
                } else {
                    guest(&mm, cpu, va, Some(i)).unwrap();
                    assert_eq!(guest(&mm, cpu, va, None), Ok(i), "the page cache keeps it");
                }
            }
        });
        let s = k.stats();
        assert!(s.tables_deferred.get() > 0);
        assert_eq!(s.flush_ipi.get() > 0, fail);
        mm.exit().unwrap();
        k.set_failures(Failures::None);
        assert_clean(&k);
    }
}

#[test]
fn spaces_come_and_go_on_all_cpus() {
    let (k, cpus) = boot(3);
    std::thread::scope(|s| {
        for cpu in 0..3 {
            let (k, cpus) = (&k, &cpus);
            s.spawn(move || {
                set_this_cpu(cpu);
                for i in 0..40u64 {
                    cpus.enter_kernel(cpu);
                    let mm = k.mm_create().unwrap();
                    mm.switch_to(cpu).unwrap();
                    let a = mm.mmap(0, 0x3000, RW, MapFlags(0x22), None).unwrap();
                    cpus.exit_kernel(cpu);
                    guest(&mm, cpu, a, Some(i)).unwrap();
                    assert_eq!(guest(&mm, cpu, a + 0x1000, None), Ok(0));
                    assert_eq!(guest(&mm, cpu, a, None), Ok(i));
                    cpus.enter_kernel(cpu);
                    if i % 2 == 0 {
                        mm.exit().unwrap();
                    } else {
                        mm.detach(cpu).unwrap();
                    }
                    k.rcu_poll();
                    cpus.exit_kernel(cpu);
                }
            });
        }
    });
    assert_clean(&k);
}

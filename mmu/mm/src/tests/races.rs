//! Controlled runs: every step of hosted code and of the walkers may be interrupted by every other task.

use super::{FIXED, RW};
use crate::rcu::RcuFunc;
use crate::testing::{Join, WalkCheck, assert_clean, boot, guest, run_controlled, walk_only};
use crate::*;
use racewalk_ram::{Pfn, Vaddr};
use racewalk_sched::{point, set_this_cpu};
use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

const A: u64 = 0x4000_0000;

/// Runs `tasks` on CPUs 0, 1, .. of one space, a task that drives RCU, and speculative walkers of `walk`; then looks
/// for findings and leaks.
fn race(seeds: u64, walk: u64, setup: fn(&Arc<Mm>), tasks: &'static [fn(&Arc<Mm>, u32)]) {
    for seed in 0..seeds {
        run_controlled(seed, move || {
            let n = tasks.len() as u32;
            let (k, cpus) = boot(n);
            let mm = k.mm_create().unwrap();
            setup(&mm);
            let speculate = seed % 2 == 0;
            if !speculate {
                cpus.trace_to(Arc::new(WalkCheck(Arc::downgrade(&k))));
            }
            let join = Rc::new(Join::default());
            for (cpu, task) in tasks.iter().enumerate() {
                let (mm, cpu) = (mm.clone(), cpu as u32);
                join.spawn("program", move || {
                    set_this_cpu(cpu);
                    mm.switch_to(cpu).unwrap();
                    task(&mm, cpu);
                    mm.detach(cpu).unwrap();
                });
                let cpus = cpus.clone();
                if speculate {
                    join.spawn("speculative walker", move || {
                        for _ in 0..3 {
                            let _ = cpus.speculate(cpu, Vaddr(walk));
                        }
                    });
                }
            }
            let kt = k.clone();
            join.spawn("rcu", move || {
                for _ in 0..10 {
                    kt.rcu_poll();
                }
            });
            join.wait();
            mm.exit().unwrap();
            drop(mm);
            assert_clean(&k);
        });
    }
}

fn kernel<R>(mm: &Arc<Mm>, cpu: u32, f: impl FnOnce() -> R) -> R {
    mm.kernel().cpus().enter_kernel(cpu);
    let r = f();
    mm.kernel().cpus().exit_kernel(cpu);
    r
}

#[test]
fn two_first_writes_make_one_page() {
    race(
        150,
        A,
        |mm| assert_eq!(mm.mmap(A, 0x1000, RW, FIXED, None).unwrap(), A),
        &[
            |mm, cpu| {
                guest(mm, cpu, A, Some(1)).unwrap();
                assert_eq!(guest(mm, cpu, A, None), Ok(1));
            },
            |mm, cpu| {
                guest(mm, cpu, A + 8, Some(2)).unwrap();
                assert_eq!(guest(mm, cpu, A + 8, None), Ok(2));
            },
            |mm, cpu| {
                let v = kernel(mm, cpu, || mm.get_user_u64(A).unwrap());
                assert!(v <= 1);
                assert!(mm.counters().rss_anon <= 1);
            },
        ],
    );
}

#[test]
fn after_a_copy_on_write_nobody_reads_the_old_page() {
    thread_local!(static WRITTEN: Cell<bool> = const { Cell::new(false) });
    race(
        150,
        A,
        |mm| {
            WRITTEN.set(false);
            mm.mmap(A, 0x1000, RW, FIXED, None).unwrap();
            assert_eq!(mm.get_user_u64(A).unwrap(), 0, "the zero page is mapped");
        },
        &[
            |mm, cpu| {
                guest(mm, cpu, A, Some(7)).unwrap();
                WRITTEN.set(true);
            },
            |mm, cpu| {
                loop {
                    let before = WRITTEN.get();
                    let v = guest(mm, cpu, A, None).unwrap();
                    assert!(v == 7 || (v == 0 && !before));
                    if before {
                        break;
                    }
                }
            },
        ],
    );
}

#[test]
fn a_frame_is_not_seen_after_munmap() {
    const SECRET: u64 = 0x5ec2e7;
    race(
        200,
        A,
        |mm| assert_eq!(mm.mmap(A, 0x1000, RW, FIXED, None).unwrap(), A),
        &[
            |mm, cpu| {
                guest(mm, cpu, A, Some(1)).unwrap();
                kernel(mm, cpu, || mm.munmap(A, 0x1000).unwrap());
                kernel(mm, cpu, || mm.mmap(A + 0x10_0000, 0x2000, RW, FIXED, None).unwrap());
                guest(mm, cpu, A + 0x10_0000, Some(SECRET)).unwrap();
                guest(mm, cpu, A + 0x10_1000, Some(SECRET)).unwrap();
            },
            |mm, cpu| {
                for _ in 0..4 {
                    match guest(mm, cpu, A, None) {
                        Ok(v) => assert!(v <= 1, "read {v:#x} through a mapping that is gone"),
                        Err(s) => assert_eq!(s.code, signo::SEGV_MAPERR),
                    }
                }
            },
        ],
    );
}

#[test]
fn cpus_attach_and_leave_during_an_unmap() {
    thread_local!(static DONE: Cell<bool> = const { Cell::new(false) });
    race(
        300,
        A,
        |mm| {
            DONE.set(false);
            mm.mmap(A, 0x4000, RW, FIXED, None).unwrap();
            mm.put_user_u64(A, 1).unwrap();
            mm.put_user_u64(A + 0x3000, 1).unwrap();
        },
        &[
            |mm, cpu| {
                kernel(mm, cpu, || mm.munmap(A, 0x2000).unwrap());
                kernel(mm, cpu, || mm.munmap(A + 0x2000, 0x2000).unwrap());
                DONE.set(true);
            },
            |mm, cpu| {
                while !DONE.get() {
                    for a in [A, A + 0x3000] {
                        let before = DONE.get();
                        let r = guest(mm, cpu, a, None);
                        assert!(!before || r.is_err());
                    }
                    mm.detach(cpu).unwrap();
                    mm.switch_to(cpu).unwrap();
                }
            },
        ],
    );
}

#[test]
fn tables_are_freed_without_batches() {
    thread_local!(static DONE: Cell<bool> = const { Cell::new(false) });
    race(
        300,
        A,
        |mm| {
            DONE.set(false);
            mm.kernel().set_failures(Failures::Chance { num: 1, den: 1, seed: 0, only: Some(Gfp::Nowait) });
            mm.mmap(A, 0x1000, RW, FIXED, None).unwrap();
        },
        &[
            |mm, cpu| {
                guest(mm, cpu, A, Some(1)).unwrap();
                kernel(mm, cpu, || mm.munmap(A, 0x1000).unwrap());
                DONE.set(true);
            },
            |mm, cpu| {
                while !DONE.get() {
                    walk_only(mm, cpu, A);
                }
            },
        ],
    );
}

#[test]
fn walkers_are_in_a_table_that_is_retracted() {
    thread_local!(static DONE: Cell<bool> = const { Cell::new(false) });
    race(
        300,
        A,
        |mm| {
            DONE.set(false);
            mm.mmap(A, 0x20_0000, RW, MapFlags(0x31), None).unwrap();
        },
        &[
            |mm, cpu| {
                for _ in 0..2 {
                    kernel(mm, cpu, || mm.put_user_u64(A, 1).unwrap());
                    kernel(mm, cpu, || mm.retract_segment(A).unwrap());
                    mm.kernel().rcu_barrier();
                }
                DONE.set(true);
            },
            |mm, cpu| {
                while !DONE.get() {
                    walk_only(mm, cpu, A);
                }
            },
        ],
    );
}

#[test]
fn halves_of_one_page_come_and_go() {
    // Neighbouring segments: their tables are halves of one page.
    race(
        150,
        A + 0x10_0000,
        |_| {},
        &[
            |mm, cpu| {
                for _ in 0..2 {
                    kernel(mm, cpu, || mm.mmap(A, 0x1000, RW, FIXED, None).unwrap());
                    guest(mm, cpu, A, Some(1)).unwrap();
                    kernel(mm, cpu, || mm.munmap(A, 0x1000).unwrap());
                }
            },
            |mm, cpu| {
                for _ in 0..2 {
                    let a = A + 0x10_0000;
                    kernel(mm, cpu, || mm.mmap(a, 0x1000, RW, FIXED, None).unwrap());
                    guest(mm, cpu, a, Some(2)).unwrap();
                    assert_eq!(guest(mm, cpu, a, None), Ok(2));
                    kernel(mm, cpu, || mm.munmap(a, 0x1000).unwrap());
                }
            },
        ],
    );
}

#[test]
fn retract_under_faults() {
    race(
        150,
        A,
        |mm| {
            mm.mmap(A, 0x20_0000, RW, MapFlags(0x31), None).unwrap();
            mm.put_user_u64(A + 0x10_0000, 1).unwrap();
        },
        &[
            |mm, cpu| {
                for i in 0..3 {
                    guest(mm, cpu, A, Some(i)).unwrap();
                    assert_eq!(guest(mm, cpu, A, None), Ok(i));
                }
            },
            |mm, cpu| {
                for _ in 0..2 {
                    kernel(mm, cpu, || mm.retract_segment(A).unwrap());
                    kernel(mm, cpu, || mm.retract_segment(A + 0x10_0000).unwrap());
                }
            },
            |mm, cpu| assert_eq!(guest(mm, cpu, A + 0x10_0000, None), Ok(1)),
        ],
    );
}

#[test]
fn protection_is_gone_when_mprotect_returns() {
    thread_local!(static DONE: Cell<bool> = const { Cell::new(false) });
    race(
        150,
        A,
        |mm| {
            DONE.set(false);
            mm.mmap(A, 0x1000, RW, FIXED, None).unwrap();
            mm.put_user_u64(A, 1).unwrap();
        },
        &[
            |mm, cpu| {
                kernel(mm, cpu, || mm.mprotect(A, 0x1000, Prot::READ).unwrap());
                DONE.set(true);
            },
            |mm, cpu| {
                loop {
                    let before = DONE.get();
                    let r = guest(mm, cpu, A, Some(9));
                    assert!(!before || r.is_err(), "a store after mprotect returned");
                    if before {
                        break;
                    }
                }
            },
        ],
    );
}

#[test]
fn mremap_moves_under_readers() {
    race(
        100,
        A,
        |mm| {
            mm.mmap(A, 0x2000, RW, FIXED, None).unwrap();
            mm.put_user_u64(A, 3).unwrap();
        },
        &[
            |mm, cpu| {
                let to = A + 0x30_0000;
                kernel(mm, cpu, || mm.mremap(A, 0x2000, 0x2000, 3, to).unwrap());
                assert_eq!(guest(mm, cpu, to, None), Ok(3));
            },
            |mm, cpu| {
                for _ in 0..3 {
                    assert!(guest(mm, cpu, A, None).is_err_and(|s| s.code == 1) || !mm.maps().is_empty());
                }
            },
        ],
    );
}

#[test]
fn a_space_ends_while_another_cpu_runs_it() {
    for seed in 0..100 {
        run_controlled(seed, || {
            let (k, cpus) = boot(2);
            let mm = k.mm_create().unwrap();
            mm.mmap(A, 0x1000, RW, FIXED, None).unwrap();
            let join = Rc::new(Join::default());
            let (a, b, c) = (mm.clone(), mm.clone(), cpus.clone());
            join.spawn("last thread", move || {
                set_this_cpu(0);
                a.switch_to(0).unwrap();
                let _ = guest(&a, 0, A, Some(1));
                kernel(&a, 0, || a.exit().unwrap());
            });
            join.spawn("lazy", move || {
                set_this_cpu(1);
                // The space may be gone by now, which its words say.
                if b.switch_to(1).is_ok() {
                    let _ = guest(&b, 1, A, None);
                    b.detach(1).unwrap();
                }
            });
            join.spawn("speculative walker", move || {
                for _ in 0..4 {
                    let _ = c.speculate(1, Vaddr(A));
                }
            });
            join.wait();
            drop(mm);
            k.rcu_barrier();
            // The lazy task may have been told that the space was stale, which is a finding of its own making.
            k.take_findings();
            assert!(k.ledger().is_empty(), "{:?}", k.ledger());
        });
    }
}

/// Readers hold a table that is published, an updater unpublishes and defers one table after the other.
fn rcu_run(seed: u64, hosted: bool) {
    run_controlled(seed, move || {
        let (k, cpus) = boot(2);
        let mm = k.mm_create().unwrap();
        let published: Rc<Cell<Option<(Pfn, u64)>>> = Rc::default();
        let done = Rc::new(Cell::new(false));
        let alive = |k: &Kernel, (page, generation)| {
            k.pages().generation(page).unwrap() == generation
                && k.pages().kind(page).unwrap() == FrameKind::PteTables
        };
        let join = Rc::new(Join::default());
        for t in 0..2 {
            let (k, cpus, p, done) = (k.clone(), cpus.clone(), published.clone(), done.clone());
            join.spawn("reader", move || {
                while !done.get() {
                    let outer = (!hosted).then(|| k.rcu_read_lock());
                    if hosted && t == 0 {
                        set_this_cpu(1);
                        cpus.enter_kernel(1);
                    }
                    if !hosted || t == 0 {
                        let held = p.get();
                        for _ in 0..30 {
                            point("reader");
                            let inner = (!hosted).then(|| k.rcu_read_lock());
                            assert!(held.is_none_or(|h| alive(&k, h)), "freed under a reader");
                            drop(inner);
                        }
                    }
                    drop(outer);
                    if hosted && t == 0 {
                        cpus.exit_kernel(1);
                    }
                    point("quiescent");
                }
            });
        }
        let (ku, m) = (k.clone(), mm.clone());
        join.spawn("updater", move || {
            set_this_cpu(0);
            for i in 0..4 {
                let table = ku.frag.alloc(&ku, m.kva()).unwrap();
                let id = (table.pfn(), ku.pages().generation(table.pfn()).unwrap());
                published.set(Some(id));
                for _ in 0..20 {
                    point("published");
                }
                published.set(None);
                ku.frag.free_defer(&ku, &m, table).unwrap();
                if i % 2 == 0 {
                    ku.synchronize_rcu();
                    ku.rcu_barrier();
                    assert!(!alive(&ku, id), "a grace period has passed");
                }
            }
            done.set(true);
        });
        let kp = k.clone();
        join.spawn("rcu", move || {
            for _ in 0..40 {
                kp.rcu_poll();
            }
        });
        join.wait();
        drop(mm);
        assert_clean(&k);
    });
}

#[test]
fn callbacks_wait_for_readers() {
    (0..150).for_each(|seed| rcu_run(seed, false));
}

#[test]
fn callbacks_wait_for_cpus_in_hosted_code() {
    (0..150).for_each(|seed| rcu_run(seed, true));
}

#[test]
fn a_head_is_queued_once() {
    let (k, _) = boot(1);
    let mm = k.mm_create().unwrap();
    let table = k.frag.alloc(&k, mm.kva()).unwrap();
    let head = page::Pages::lru(table.pfn());
    k.kmem.list_del_init(head).unwrap();
    k.call_rcu(head, RcuFunc::Scheme(0)).unwrap();
    let e = k.call_rcu(head, RcuFunc::Scheme(0)).unwrap_err();
    assert!(e.to_string().contains("invariant 4"), "{e}");
    // A head that somebody writes over is found when its turn comes (F-03a).
    k.kmem.poke(racewalk_ram::Kva(head.0 + 8), 0x400, "test").unwrap();
    k.rcu_poll();
    let found = k.take_findings();
    assert!(
        found[0].to_string().contains("wild kernel pointer 0x400: wanted an RCU callback function"),
        "{found:?}"
    );
}

//! Store buffers under the mm: what waits, who sees it, and what empties the buffer.

use crate::kernel::Kernel;
use crate::lockword;
use crate::page::{Pages, word};
use crate::rcu::RcuFunc;
use crate::testing::boot;
use racewalk_ram::{Kva, Paddr, Pfn, Vaddr};
use racewalk_sched::controlled::{self, End, Stay};
use racewalk_sched::set_this_cpu;
use std::sync::Arc;

/// A frame and a record that nobody uses.
const AT: Paddr = Paddr(0x90_0000);
const RECORD: Pfn = Pfn(0x905);

/// What CPU `cpu` sees at `AT` and in the record's list words.
fn seen(k: &Kernel, cpu: u32) -> [u64; 2] {
    set_this_cpu(cpu);
    let v = [k.load_u64(AT).unwrap(), k.kmem.peek(Pages::lru(RECORD), "a test").unwrap()];
    set_this_cpu(0);
    v
}

/// Runs `f` on CPU 0, in hosted code, with buffers, and nobody else.
fn alone(f: impl FnOnce(&Arc<Kernel>) + 'static) {
    let out = controlled::run(Default::default(), &mut Stay, move || {
        let (k, cpus) = boot(3);
        k.buffer_stores();
        set_this_cpu(0);
        cpus.enter_kernel(0);
        f(&k);
        cpus.exit_kernel(0);
    });
    assert_eq!(out.end, End::Finished);
}

/// Seen to fail with lists past the buffers.
#[test]
fn the_own_cpu_sees_what_waits_and_the_hardware_does_not() {
    alone(|k| {
        k.store_u64(AT, 1).unwrap();
        k.kmem.store(Pages::lru(RECORD), 2, "a test").unwrap();
        k.store_u32(AT.offset(4), 5).unwrap();
        assert_eq!((seen(k, 0), seen(k, 1)), ([5, 2], [0, 0]));
        assert_eq!(k.load_u32(AT.offset(4)).unwrap(), 5);
        assert_eq!(k.ram().load_u64(AT).unwrap(), 0, "what walkers load");
        assert!(k.store_u64(Paddr(1 << 40), 1).is_err(), "refused at once");
        assert!(k.kmem.poke(Kva(8), 1, "a test").is_err());
        assert_eq!(k.xchg_u64(AT, 7).unwrap(), 5, "after the fence");
        assert_eq!((seen(k, 0), seen(k, 1)), ([7, 2], [7, 2]));
    });
}

/// Each empties the buffer, or does not. Seen to fail with a lock that does not.
#[test]
fn what_empties_a_buffer() {
    type Op = fn(&Arc<Kernel>);
    let fences: &[(&str, Op)] = &[
        ("a lock", |k| lockword::lock(k.kmem.pages.bare_word(RECORD, word::PTL).unwrap(), "test").unwrap()),
        ("a sleeping lock", |k| drop(k.active[1].lock("test"))),
        ("an atomic operation on a record", |k| drop(k.kmem.pages.set_flag(RECORD, 0))),
        ("compare and swap", |k| drop(k.cas_u64(AT.offset(8), 0, 0))),
        ("an invalidation", |k| _ = k.cpus.ipte(Paddr(0x91_0000), Vaddr(0))),
        ("a cross call", |k| k.cpus.ipi_all()),
        ("a context", |k| k.cpus.load_asce(0, 0)),
        ("leaving hosted code", |k| {
            k.cpus.exit_kernel(0);
            k.cpus.enter_kernel(0)
        }),
        ("a cross call that arrives", |k| {
            set_this_cpu(1);
            k.cpus.ipi_all();
            set_this_cpu(0);
        }),
        ("a quiescent state", |k| k.rcu_note_quiescent()),
        ("the start of its flush", |k| _ = k.flush_begins(Kva(0), None)),
    ];
    let others: &[(&str, Op)] = &[
        ("a load", |k| drop(k.load_u64(AT))),
        ("a reader section", |k| drop(k.rcu_read_lock())),
        ("interrupts off", |k| {
            k.cpus.irq_off(0);
            k.cpus.irq_on(0)
        }),
        ("a lock of another CPU", |k| {
            set_this_cpu(2);
            drop(k.active[1].lock("test"));
            set_this_cpu(0);
        }),
    ];
    for (list, after) in [(fences, 1), (others, 0)] {
        for &(name, op) in list {
            alone(move |k| {
                k.store_u64(AT, 1).unwrap();
                assert_eq!(seen(k, 1), [0, 0], "{name}: it waits");
                op(k);
                assert_eq!(seen(k, 1), [after, 0], "{name}");
            });
        }
    }
}

/// A grace period begins after what the CPU has stored that queued a callback for it, whoever begins it. Seen to fail
/// without that.
#[test]
fn a_grace_period_begins_after_the_queueing_cpus_stores() {
    alone(|k| {
        k.store_u64(AT, 1).unwrap();
        k.call_rcu(Pages::lru(RECORD), RcuFunc::Scheme(0)).unwrap();
        assert_eq!(seen(k, 1)[0], 0);
        set_this_cpu(1);
        k.rcu_poll();
        assert_eq!(k.load_u64(AT).unwrap(), 1);
        set_this_cpu(0);
        assert_eq!(k.stats().rcu_grace_periods.get(), 0, "CPU 0 is still in hosted code");
    });
}

/// A clear that waits is no clear: a flush of another CPU before it does not cover the table. Seen to fail with an unhook
/// that counts when it is stored.
#[test]
fn an_unhook_counts_when_all_see_it() {
    for waits in [true, false] {
        alone(move |k| {
            let (table, entry) = (Paddr(0x92_0000), Paddr(0x93_0000));
            let s = k.sanitizer().unwrap();
            s.alloc(Paddr(0x93_0000), 0x4000, 1, Kva(9)).unwrap();
            s.alloc(table, 0x800, 2, Kva(9)).unwrap();
            s.hook(table, entry, Vaddr(0)).unwrap();
            k.store_u64(entry, 0x20).unwrap();
            s.unhook(table, entry).unwrap();
            if !waits {
                racewalk_sched::tso::fence();
            }
            set_this_cpu(1);
            let flush = k.flush_begins(Kva(9), None);
            k.flush_ends(Kva(9), None, flush);
            set_this_cpu(0);
            s.give(table, crate::sanitizer::Give::Now).unwrap();
            assert_eq!(s.freed(table, 0x1000).is_err(), waits);
            assert_eq!(k.ram().load_u64(entry).unwrap() != 0, !waits);
        });
    }
}

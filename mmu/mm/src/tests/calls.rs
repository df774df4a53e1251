//! One call at a time: what it answers and what it leaves.

use super::{ANON, FIXED, RW};
use crate::arch::{Arch, S390x};
use crate::testing::{boot, boot_with};
use crate::*;
use racewalk_cpu::Access;
use racewalk_ram::Vaddr;
use racewalk_sched::set_this_cpu;
use racewalk_walk::WalkStop;
use racewalk_walk::s390x::Reason;
use std::sync::Arc;

const TASK_SIZE: u64 = S390x::TASK_SIZE;

fn errno<T: std::fmt::Debug>(r: Result<T>) -> &'static str {
    r.unwrap_err().errno().name()
}

fn on_cpu(f: impl FnOnce(&Arc<Kernel>, &Arc<Mm>)) {
    set_this_cpu(0);
    let (k, cpus) = boot(2);
    cpus.enter_kernel(0);
    let free = k.free_frames();
    let mm = k.mm_create().unwrap();
    mm.switch_to(0).unwrap();
    f(&k, &mm);
    mm.exit().unwrap();
    k.rcu_barrier();
    assert!(k.ledger().is_empty(), "{:?}", k.ledger());
    assert_eq!(k.stats().table_bytes.get(), 0);
    drop(mm);
    assert!(k.take_findings().is_empty());
    assert_eq!(k.ledger(), Ledger::default());
    assert_eq!(k.free_frames(), free);
}

#[test]
fn demand_zero_and_write() {
    on_cpu(|k, mm| {
        let a = mm.mmap(0, 0x10000, RW, ANON, None).unwrap();
        assert_eq!(a, TASK_SIZE - (128 << 20) - 0x10000);
        assert_eq!(mm.get_user_u64(a + 0xffc).unwrap(), 0);
        assert_eq!((k.stats().faults_zero_page.get(), mm.counters().rss_anon), (2, 0));
        mm.put_user_u32(a + 4, 0x1234_5678).unwrap();
        assert_eq!(mm.get_user_u64(a).unwrap(), 0x1234_5678);
        assert_eq!(k.stats().faults_write_protect.get(), 1, "the zero page is not written");
        mm.put_user_u8(a + 0x5000, 1).unwrap();
        assert_eq!((k.stats().faults_anonymous.get(), mm.counters().rss_anon), (1, 2));
        assert_eq!(mm.mincore(a, 0x6000).unwrap(), [true, true, false, false, false, true]);
        assert_eq!(mm.cmpxchg_user_u32(a + 4, 1, 2).unwrap(), 0x1234_5678);
        assert_eq!(mm.cmpxchg_user_u32(a + 4, 0x1234_5678, 2).unwrap(), 0x1234_5678);
        assert_eq!(mm.load_user_u32(a + 4).unwrap(), 2);
        mm.copy_to_user(a + 0x1ffa, b"across pages\0").unwrap();
        assert_eq!(mm.read_cstr(a + 0x1ffa, 100).unwrap(), b"across pages");
        assert_eq!(mm.read_cstr(a + 0x1ffa, 6).unwrap(), b"across");
        mm.clear_user(a + 0x1ffa, 8).unwrap();
        assert_eq!(mm.get_user_u8(a + 0x2002).unwrap(), b'a');
        mm.munmap(a, 0x10000).unwrap();
        assert_eq!(mm.counters(), MmCounters::default());
        assert!(matches!(mm.get_user_u8(a), Err(MmError::UserFault { addr }) if addr == a));
    });
}

#[test]
fn without_a_cpu_the_tables_are_looked_up() {
    set_this_cpu(racewalk_sched::NO_CPU);
    let (k, _) = boot(1);
    let mm = k.mm_create().unwrap();
    let a = mm.mmap(0, 0x3000, RW, ANON, None).unwrap();
    mm.copy_to_user(a + 0xffe, &[1, 2, 3, 4]).unwrap();
    assert_eq!(mm.get_user_u32(a + 0xffe).unwrap(), 0x0102_0304);
    mm.mprotect(a, 0x3000, Prot::READ).unwrap();
    assert!(mm.put_user_u8(a, 1).is_err());
    assert_eq!(mm.get_user_u8(a + 0x2000).unwrap(), 0);
    drop(mm);
    k.rcu_barrier();
    assert!(k.ledger().is_empty());
}

#[test]
fn error_numbers() {
    on_cpu(|k, mm| {
        assert_eq!(errno(mm.mmap(0, 0, RW, ANON, None)), "EINVAL");
        assert_eq!(errno(mm.mmap(0, u64::MAX, RW, ANON, None)), "ENOMEM");
        assert_eq!(errno(mm.mmap(0, 1 << 43, RW, ANON, None)), "ENOMEM");
        assert_eq!(errno(mm.mmap(0, 4096, RW, MapFlags(0x20), None)), "EINVAL");
        assert_eq!(errno(mm.mmap(0, 4096, RW, MapFlags(2), None)), "ENODEV");
        assert_eq!(errno(mm.mmap(0x123, 4096, RW, FIXED, None)), "EINVAL");
        assert_eq!(errno(mm.mmap(0, 4096, RW, FIXED, None)), "EPERM");
        assert_eq!(errno(mm.mmap(TASK_SIZE, 4096, RW, FIXED, None)), "ENOMEM");
        let noreplace = MapFlags(0x10_0022);
        assert_eq!(mm.mmap(0x100_0000, 0x3000, RW, noreplace, None).unwrap(), 0x100_0000);
        assert_eq!(errno(mm.mmap(0x100_2000, 0x3000, RW, noreplace, None)), "EEXIST");
        assert_eq!(mm.mmap(0x100_1000, 0x1000, RW, ANON, None).unwrap() >> 40, 3, "the hint is taken");
        assert_eq!(mm.mmap(0x200_0001, 0x1000, RW, ANON, None).unwrap(), 0x200_1000);
        assert_eq!(errno(mm.munmap(1, 4096)), "EINVAL");
        assert_eq!(errno(mm.munmap(0, 0)), "EINVAL");
        assert_eq!(errno(mm.munmap(TASK_SIZE, 4096)), "EINVAL");
        mm.munmap(0x5000_0000, 4096).unwrap();
        assert_eq!(errno(mm.mprotect(0x100_0001, 1, RW)), "EINVAL");
        assert_eq!(errno(mm.mprotect(0x100_0000, 1, Prot(0x10))), "EINVAL");
        assert_eq!(errno(mm.mprotect(0x100_0000, 0x4000, Prot::READ)), "ENOMEM");
        assert!(mm.put_user_u8(0x100_2000, 0).is_err(), "changed up to the hole");
        mm.mprotect(0x5000_0000, 0, RW).unwrap();
        assert_eq!(errno(mm.madvise(1, 0, madv::DONTNEED)), "EINVAL");
        assert_eq!(errno(mm.madvise(0x100_0000, 0x4000, madv::DONTNEED)), "ENOMEM");
        assert_eq!(errno(mm.madvise(0x100_0000, 0x1000, 99)), "EINVAL");
        assert_eq!(errno(mm.mremap(0x5000_0000, 4096, 8192, 0, 0)), "EFAULT");
        assert_eq!(errno(mm.mremap(0x100_0000, 4096, 0, 0, 0)), "EINVAL");
        assert_eq!(errno(mm.mremap(0x100_0000, 4096, 8192, mremap::FIXED, 0)), "EINVAL");
        assert_eq!(errno(mm.mremap(0x100_0000, 0x1000, 0x2000, 0, 0)), "ENOMEM");
        assert_eq!(errno(mm.mremap(0x100_0000, 0x8000, 0x9000, 1, 0)), "EFAULT");
        let file = FileObject::new(k, Arc::new(Bytes { name: "/f".into(), data: vec![7; 5000] }));
        assert_eq!(errno(mm.mmap(0, 4096, RW, MapFlags(2), Some((file.clone(), 1)))), "EINVAL");
        assert_eq!(errno(mm.mmap(0, 4096, RW, MapFlags(1), Some((file, 0)))), "EACCES");
    });
}

/// A file that is written back to.
struct Disk(std::sync::Mutex<Vec<u8>>);

impl crate::Backing for Disk {
    fn read_page(&self, index: u64, buf: &mut [u8]) -> std::result::Result<(), Errno> {
        let d = self.0.lock().unwrap();
        let part = d.get(index as usize * 4096..).ok_or(Errno::EIO)?;
        let n = part.len().min(4096);
        buf[..n].copy_from_slice(&part[..n]);
        Ok(())
    }
    fn write_page(&self, index: u64, bytes: &[u8]) -> std::result::Result<(), Errno> {
        self.0.lock().unwrap()[index as usize * 4096..][..bytes.len()].copy_from_slice(bytes);
        Ok(())
    }
    fn size(&self) -> u64 {
        self.0.lock().unwrap().len() as u64
    }
    fn name(&self) -> String {
        "/disk".into()
    }
}

#[test]
fn shared_file_mappings_are_written_back() {
    on_cpu(|k, mm| {
        let disk = Arc::new(Disk(std::sync::Mutex::new(vec![1; 9000])));
        let on_disk = |i: usize| disk.0.lock().unwrap()[i];
        let file = FileObject::new(k, disk.clone());
        let a = mm.mmap_file(0, 0x3000, RW, MapFlags(1), Some((file.clone(), 0)), true).unwrap();
        assert_eq!(mm.get_user_u8(a).unwrap(), 1);
        mm.put_user_u8(a, 2).unwrap();
        mm.put_user_u8(a + 8999, 3).unwrap();
        mm.put_user_u8(a + 9001, 4).unwrap();
        assert_eq!((on_disk(0), on_disk(8999)), (1, 1));
        mm.msync(a, 0x1000, true).unwrap();
        assert_eq!((on_disk(0), on_disk(8999)), (2, 1));
        // A store after that counts too.
        mm.put_user_u8(a, 5).unwrap();
        file.update(4094, &[6, 7, 8]).unwrap();
        assert_eq!(mm.get_user_u8(a + 4096).unwrap(), 1, "a page that is not cached is read from the file");
        assert_eq!(mm.get_user_u8(a + 4095).unwrap(), 7);
        mm.munmap(a, 0x3000).unwrap();
        drop(file);
        assert_eq!((on_disk(0), on_disk(8999), on_disk(4095)), (5, 3, 7));
        assert_eq!(disk.0.lock().unwrap().len(), 9000);
    });
}

#[test]
fn truncated_objects_lose_their_pages() {
    on_cpu(|k, mm| {
        let disk = Arc::new(Disk(std::sync::Mutex::new(vec![1; 0x3000])));
        let file = FileObject::new(k, disk.clone());
        let a = mm.mmap_file(0, 0x3000, RW, MapFlags(1), Some((file.clone(), 0)), true).unwrap();
        for i in 0..3 {
            mm.put_user_u8(a + i * 0x1000 + 0x900, 9).unwrap();
        }
        disk.0.lock().unwrap().truncate(0x1800);
        file.truncate(0x1800).unwrap();
        mm.truncate_object(&file, 0x1800).unwrap();
        assert_eq!(mm.get_user_u8(a + 0x900).unwrap(), 9);
        assert_eq!(mm.get_user_u8(a + 0x1900).unwrap(), 0, "behind the end of the file");
        assert!(mm.get_user_u8(a + 0x2900).is_err());
    });
}

#[test]
fn files_private_and_shared() {
    on_cpu(|k, mm| {
        let data: Vec<u8> = (0..9000u32).map(|i| (i / 7) as u8).collect();
        let file = FileObject::new(k, Arc::new(Bytes { name: "/bin/prog".into(), data: data.clone() }));
        let a = mm.mmap(0, 0x4000, RW, MapFlags(2), Some((file.clone(), 0))).unwrap();
        let mut buf = vec![0; 9000];
        mm.copy_from_user(&mut buf, a).unwrap();
        assert_eq!(buf, data);
        assert_eq!(mm.get_user_u64(a + 9000).unwrap(), 0, "zeros behind the end in its page");
        let s = mm.fault_in(Vaddr(a + 0x3000), Access::Load).unwrap_err();
        assert_eq!((s.number, s.code, s.addr), (signo::SIGBUS, signo::BUS_ADRERR, a + 0x3000));
        assert!(s.why.contains("/bin/prog"), "{s}");
        mm.put_user_u8(a, 99).unwrap();
        assert_eq!(k.stats().cow_copies.get(), 1);
        let b = mm.mmap(0, 0x3000, Prot::READ, MapFlags(1), Some((file, 0x1000))).unwrap();
        assert_eq!(mm.get_user_u8(b).unwrap(), data[0x1000]);
        assert_eq!(errno(mm.mprotect(b, 0x1000, RW)), "EACCES");
        assert_eq!(mm.get_user_u8(a + 1).unwrap(), data[1], "the rest of the page was copied");
        // Shared anonymous memory keeps its contents without its tables.
        let s = mm.mmap(0x4000_0000, 0x30_0000, RW, MapFlags(0x21), None).unwrap();
        mm.put_user_u32(s + 0x10_0000, 5).unwrap();
        assert!(mm.retract_segment(s + 0x10_0000).unwrap());
        assert!(!mm.retract_segment(s + 0x10_0000).unwrap());
        assert_eq!(k.stats().tables_deferred.get(), 1);
        mm.madvise(s, 0x30_0000, madv::DONTNEED).unwrap();
        assert_eq!(mm.get_user_u32(s + 0x10_0000).unwrap(), 5);
        let t = mm.mremap(s + 0x10_0000, 0, 0x1000, 1, 0).unwrap();
        mm.put_user_u32(t, 6).unwrap();
        assert_eq!(mm.get_user_u32(s + 0x10_0000).unwrap(), 6, "both show the same page");
    });
}

#[test]
fn brk_stack_and_maps() {
    on_cpu(|_, mm| {
        mm.set_brk_start(0x100_0123);
        assert_eq!(mm.brk(0).unwrap(), 0x100_1000);
        assert_eq!(mm.brk(0x100_3100).unwrap(), 0x100_3100);
        mm.put_user_u64(0x100_3ff8, 1).unwrap();
        assert_eq!(mm.brk(0x100_2000).unwrap(), 0x100_2000);
        assert!(mm.put_user_u64(0x100_2ff8, 1).is_err());
        mm.mmap(0x100_5000, 4096, RW, FIXED, None).unwrap();
        assert_eq!(mm.brk(0x100_6000).unwrap(), 0x100_2000, "something is in the way");
        let top = mm.map_stack(0x2000).unwrap();
        mm.put_user_u64(top - 0x8000, 1).unwrap();
        mm.put_user_u64(top - (8 << 20), 1).unwrap();
        assert!(mm.put_user_u64(top - (8 << 20) - 8, 1).is_err());
        let s = mm.fault_in(Vaddr(top - (9 << 20) + 5), Access::Store).unwrap_err();
        assert_eq!((s.number, s.code, s.addr & 0xfff), (signo::SIGSEGV, signo::SEGV_MAPERR, 0));
        assert!(s.why.contains("limit") && s.why.contains("[stack]"), "{s}");
        let want = "01001000-01002000 rw-p 00000000 00:00 0                                  [heap]\n\
                    01005000-01006000 rw-p 00000000 00:00 0 \n\
                    3ffff800000-40000000000 rw-p 00000000 00:00 0                            [stack]\n";
        assert_eq!(mm.maps(), want);
        assert!(mm.describe(0x100_1008).contains("[heap]"));
    });
}

#[test]
fn protection_and_reuse() {
    on_cpu(|k, mm| {
        let a = mm.mmap(0, 0x3000, RW, ANON, None).unwrap();
        mm.put_user_u8(a, 1).unwrap();
        mm.mprotect(a, 0x1000, Prot::READ).unwrap();
        let s = mm.fault_in(Vaddr(a), Access::Store).unwrap_err();
        assert_eq!((s.number, s.code), (signo::SIGSEGV, signo::SEGV_ACCERR));
        mm.mprotect(a, 0x1000, Prot::NONE).unwrap();
        assert!(mm.get_user_u8(a).is_err());
        mm.mprotect(a, 0x1000, RW).unwrap();
        mm.put_user_u8(a + 1, 2).unwrap();
        assert_eq!(mm.get_user_u16(a).unwrap(), 0x0102);
        assert_eq!((k.stats().cow_copies.get(), k.stats().cow_reused.get()), (0, 1));
        assert_eq!(mm.maps().lines().count(), 1, "merged again");
        let fetch = || k.cpus().user_piece(Vaddr(a), Access::Fetch, |_| ());
        let Err(WalkStop::Fault(f)) = fetch() else { panic!("the page is not executable") };
        let s = mm.handle_fault(&f).unwrap_err();
        assert_eq!((f.reason, s.number, s.code), (Reason::InstructionExecution, 11, signo::SEGV_ACCERR));
        mm.mprotect(a, 0x1000, Prot::READ | Prot::EXEC).unwrap();
        assert_eq!(mm.handle_fault(&f), Ok(()), "somebody allowed it meanwhile");
        assert!(fetch().is_ok());
    });
}

#[test]
fn mremap_moves_pages() {
    on_cpu(|k, mm| {
        // Across a segment border, between the two halves of one table page, and onto the same lock.
        let a = mm.mmap(0x100_e000, 0x4000, RW, FIXED, None).unwrap();
        for i in 0..4 {
            mm.put_user_u64(a + i * 4096, 100 + i).unwrap();
        }
        let copies = k.stats().cow_copies.get();
        assert_eq!(mm.mremap(a, 0x4000, 0x6000, 0, 0).unwrap(), a, "in place");
        mm.mmap(a + 0x6000, 4096, RW, FIXED, None).unwrap();
        let b = mm.mremap(a, 0x6000, 0x8000, mremap::MAYMOVE, 0).unwrap();
        assert_ne!(a, b);
        for i in 0..8 {
            let want = if i < 4 { 100 + i } else { 0 };
            assert_eq!(mm.get_user_u64(b + i * 4096).unwrap(), want);
        }
        assert!(mm.get_user_u8(a).is_err());
        let c = mm.mremap(b + 0x1000, 0x2000, 0x1000, 3, 0x11f_f000).unwrap();
        assert_eq!(mm.get_user_u64(c).unwrap(), 101);
        assert!(mm.get_user_u64(b + 0x1000).is_err() && mm.get_user_u64(b + 0x2000).is_err());
        assert_eq!(mm.mremap(b + 0x4000, 0x4000, 0x1000, 0, 0).unwrap(), b + 0x4000);
        assert!(mm.get_user_u64(b + 0x5000).is_err());
        assert_eq!(k.stats().cow_copies.get(), copies);
        // Without memory for the new tables everything stays where it was.
        k.set_failures(Failures::Chance { num: 1, den: 1, seed: 0, only: Some(Gfp::Kernel) });
        assert_eq!(errno(mm.mremap(c, 0x1000, 0x2000, 3, 0x9000_0000)), "ENOMEM");
        k.set_failures(Failures::None);
        assert_eq!(mm.get_user_u64(c).unwrap(), 101);
        assert!(!mm.maps().contains("90000000-"));
    });
}

#[test]
fn out_of_memory_is_a_signal_and_nothing_is_lost() {
    set_this_cpu(0);
    let (k, _) = boot(1);
    let free = k.free_frames();
    for n in 1..40 {
        k.set_failures(Failures::Nth { n, only: None });
        // Findings, and leaks at the end, are what this looks for.
        let _ = k.mm_create().and_then(|mm| {
            mm.switch_to(0)?;
            let a = mm.mmap(0, 0x10_0000, RW, ANON, None)?;
            for i in 0..6 {
                if mm.put_user_u8(a + i * 0x2_0000, 1).is_err() {
                    let s = mm.fault_in(Vaddr(a + 0x8_0000), Access::Store);
                    assert!(s.is_ok(), "only one allocation fails");
                }
            }
            let b = mm.mremap(a, 0x8_0000, 0x10_0000, 1, 0)?;
            mm.get_user_u8(b + 0x9_0000)?;
            mm.munmap(b, 0x4_0000)?;
            mm.exit()
        });
        k.set_failures(Failures::None);
        k.rcu_barrier();
        assert!(k.take_findings().is_empty());
        for cpu in 0..1 {
            // An mm whose creator failed half-way may still be attached.
            let left = k.active[cpu].lock("test").clone();
            if let Some(mm) = left {
                mm.exit().unwrap();
            }
        }
        k.rcu_barrier();
        assert!(k.ledger().is_empty(), "allocation {n}: {:?}", k.ledger());
        assert_eq!(k.free_frames(), free);
    }
    // Real exhaustion.
    let mm = k.mm_create().unwrap();
    let a = mm.mmap(0, 64 << 20, RW, ANON, None).unwrap();
    let s = (0..).find_map(|i| mm.fault_in(Vaddr(a + i * 4096), Access::Store).err()).unwrap();
    assert_eq!(s.number, signo::SIGKILL);
    assert!(s.why.contains("no free block"), "{s}");
    mm.exit().unwrap();
    k.rcu_barrier();
    assert_eq!(k.free_frames(), free);
}

#[test]
fn setups_that_cannot_be() {
    let ram = Arc::new(racewalk_ram::Ram::new(16 << 20).unwrap());
    let cpus = racewalk_cpu::Cpus::new(ram.clone(), 1);
    let with = |c: Config| Kernel::<S390x>::new(ram.clone(), cpus.clone(), c).unwrap_err().to_string();
    let e = with(Config { scheme: "ppc-v1".parse().unwrap(), ..Config::default() });
    assert!(e.starts_with("not modelled: scheme ppc-v1 on s390x-2k (available: s390-61, "), "{e}");
    assert!(with(Config { reserved: 16 << 20, ..Config::default() }).contains("reserved"));
    assert!(with(Config { reserved: 5, ..Config::default() }).contains("reserved"));
    let many = racewalk_cpu::Cpus::new(ram.clone(), MAX_CPUS + 1);
    assert!(Kernel::<S390x>::new(ram, many, Config::default()).is_err());
}

#[test]
fn the_other_gather_and_unhook_axes() {
    for gather in [GatherMode::NoGather, GatherMode::Batched] {
        for unhook in [Unhook::Store, Unhook::Idte] {
            set_this_cpu(0);
            let (k, _) = boot_with(2, Config { gather, unhook, reserved: 1 << 20, ..Config::default() });
            let mm = k.mm_create().unwrap();
            mm.switch_to(0).unwrap();
            let a = mm.mmap(0, 8 << 20, RW, MapFlags(0x8022), None).unwrap();
            assert_eq!(mm.counters().rss_anon, 2048);
            mm.munmap(a, 8 << 20).unwrap();
            assert_eq!(k.ledger().anon, 0);
            mm.exit().unwrap();
            k.rcu_barrier();
            assert!(k.ledger().is_empty() && !k.has_findings());
        }
    }
}

/// Invariant 27: who is inside a section that forbids sleeping does not sleep, and leaves it before the program goes on.
#[test]
fn sections_are_counted() {
    let (k, _) = boot(1);
    let mm = k.mm_create().unwrap();
    let rule = || k.take_findings().iter().filter_map(|f| f.rule()).collect::<Vec<_>>();
    {
        let _reader = k.rcu_read_lock();
        let _ = mm.munmap(0x10_0000, 0x1000);
    }
    assert_eq!(rule(), [27], "mmap_lock under rcu_read_lock");
    let reader = k.rcu_read_lock();
    assert!(k.alloc_zeroed("a page").unwrap_err().is_finding());
    k.check_balance("the test returns");
    assert_eq!(rule(), [27], "a section is open");
    std::mem::forget(reader);
    k.check_balance("the test returns");
    assert_eq!(rule(), [], "told once");
    let word = std::sync::atomic::AtomicU64::new(1);
    assert!(crate::lockword::unlock(&word, "nobody's").unwrap_err().is_finding());
}

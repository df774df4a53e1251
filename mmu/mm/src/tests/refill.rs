//! Translations that software fills: what is in the TSB, and who takes it out.

use crate::arch::{Arch, Sparc64};
use crate::buddy::{Failures, Gfp};
use crate::*;
use racewalk_cpu::{Access, Cpus};
use racewalk_ram::{Paddr, Ram, Vaddr};
use racewalk_sched::{NO_CPU, set_this_cpu};
use racewalk_walk::WalkStop;
use racewalk_walk::sparc64::sun4u::entry::{TagAccess, TagTarget};
use std::sync::Arc;

const VA: u64 = 0x80_0000;
const PAGE: u64 = 8192;

fn boot() -> Arc<Kernel<Sparc64>> {
    let ram = Arc::new(Ram::new(16 << 20).unwrap());
    let config = Config {
        scheme: "sparc-conv".parse().unwrap(),
        reserved: 1 << 20,
        max_mms: 16,
        sanitize: Some(Default::default()),
        ..Config::default()
    };
    Kernel::new(ram.clone(), Cpus::new(ram, 1), config).unwrap()
}

/// Maps two anonymous pages on CPU 0, which the caller runs on.
fn space(k: &Arc<Kernel<Sparc64>>) -> Arc<Mm<Sparc64>> {
    set_this_cpu(0);
    k.cpus().enter_kernel(0);
    let mm = k.mm_create().unwrap();
    let flags = MapFlags::FIXED | MapFlags::PRIVATE | MapFlags::ANONYMOUS;
    mm.mmap(VA, 2 * PAGE, Prot::READ | Prot::WRITE, flags, None).unwrap();
    mm.switch_to(0).unwrap();
    mm
}

/// Tag and TTE of the TSB entry that an address has.
fn tsb(k: &Kernel<Sparc64>, va: u64) -> (u64, u64) {
    let c = k.cpus().context(0);
    let at = c.data_tsb.pointer_8k(TagAccess::new(Vaddr(va), c.state.primary[0]));
    (k.ram().load_u64(at).unwrap(), k.ram().load_u64(Paddr(at.0 + 8)).unwrap())
}

/// What a program's load or store comes to.
fn access(k: &Kernel<Sparc64>, mm: &Mm<Sparc64>, va: u64, access: Access) -> Option<Paddr> {
    k.cpus().exit_kernel(0);
    let _ = k.cpus().unpark(0);
    let r = Sparc64::translate(k, 0, Vaddr(va), access);
    k.cpus().park(0);
    k.cpus().enter_kernel(0);
    match r {
        Ok(t) => Some(t.paddr),
        Err(WalkStop::Fault(f)) => mm.handle_fault(&f).is_ok().then_some(()).and(None),
        Err(WalkStop::Cancelled) => None,
    }
}

fn end(k: &Kernel<Sparc64>, mm: &Mm<Sparc64>) {
    mm.exit().unwrap();
    k.cpus().exit_kernel(0);
    set_this_cpu(NO_CPU);
    k.rcu_barrier();
    assert!(k.take_findings().is_empty());
    assert_eq!(k.ledger(), Ledger::default());
}

/// Seen to fail without the flush of the TSB: invariant 24.
#[test]
fn the_handler_fills_the_tsb_and_a_change_empties_it() {
    let k = boot();
    let mm = space(&k);
    let tag = VA >> 22;
    assert_eq!(access(&k, &mm, VA, Access::Load), None, "a fault first");
    let zero = access(&k, &mm, VA, Access::Load).unwrap();
    assert_eq!(zero, k.zero_page.paddr());
    assert_eq!(tsb(&k, VA).0, tag);
    // The copy takes the entry out; the next miss enters the new one.
    assert_eq!(access(&k, &mm, VA, Access::Store), None);
    assert_eq!(tsb(&k, VA).0, TagTarget::LINUX_INVALID);
    let own = access(&k, &mm, VA, Access::Store).unwrap();
    assert_ne!(own, zero);
    assert_eq!((tsb(&k, VA).0, tsb(&k, VA).1 & 0x1fff_ffff_e000), (tag, own.0));
    mm.mprotect(VA, PAGE, Prot::READ).unwrap();
    assert_eq!(tsb(&k, VA).0, TagTarget::LINUX_INVALID);
    assert_eq!(access(&k, &mm, VA, Access::Load), Some(own));
    mm.munmap(VA, PAGE).unwrap();
    assert_eq!(tsb(&k, VA).0, TagTarget::LINUX_INVALID);
    end(&k, &mm);
}

/// Hosted code that accesses user memory misses like the program. Seen to fail with the CPU counted as entered twice.
#[test]
fn copies_to_user_memory_miss_too() {
    let k = boot();
    let mm = space(&k);
    mm.put_user_u64(VA + PAGE - 4, 0x1122_3344_5566_7788).unwrap();
    assert_eq!(mm.get_user_u64(VA + PAGE - 4).unwrap(), 0x1122_3344_5566_7788);
    assert_eq!((tsb(&k, VA).0, tsb(&k, VA + PAGE).0), (VA >> 22, VA >> 22));
    assert!(mm.put_user_u8(VA + 2 * PAGE, 1).is_err());
    end(&k, &mm);
}

/// Seen to fail with the top table left behind.
#[test]
fn a_space_without_memory_for_its_tsb_is_not_made() {
    let k = boot();
    let free = k.free_frames();
    k.set_failures(Failures::Nth { n: 2, only: Some(Gfp::Kernel) });
    assert!(k.mm_create().is_err());
    k.set_failures(Failures::None);
    assert_eq!((k.free_frames(), k.ledger()), (free, Ledger::default()));
    assert!(k.take_findings().is_empty());
}

/// Contexts have 13 bits.
#[test]
fn more_spaces_than_contexts_are_refused() {
    let ram = Arc::new(Ram::new(16 << 20).unwrap());
    let scheme = "sparc-conv".parse().unwrap();
    let config = Config { scheme, max_mms: 8192, ..Config::default() };
    let e = Kernel::<Sparc64>::new(ram.clone(), Cpus::new(ram, 1), config).unwrap_err();
    assert!(e.to_string().contains("at most 8191"), "{e}");
}

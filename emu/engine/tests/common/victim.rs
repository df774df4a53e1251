//! vCPUs that access a few pages all the time, and look whether what they get may be.
//!
//! The *canary*: a page is taken away by an acknowledged purge and its frame filled with [`CANARY`]. From then on
//! nobody may read the frame, execute it or store to it through what was translated before. Pages never hold that
//! byte otherwise. The same story with the rule broken on purpose must be found out, else a test shows nothing.

use super::asm::Asm;
use super::{FIRST_FRAME, Machine};
use racewalk_cpu::FastDrop;
use racewalk_engine::cache::CodeCache;
use racewalk_engine::mmu::PortMmu;
use racewalk_engine::vcpu::{Stop, Vcpu};
use racewalk_engine::{Mmu, Piece};
use racewalk_isa::s390x::S390x;
use racewalk_isa::s390x::state::gpr;
use racewalk_isa::{Access, Exc};
use racewalk_ram::Paddr;
use racewalk_sched::controlled::{self, Rng};
use racewalk_sched::point;
use racewalk_walk::s390x::Reason;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// What a frame is filled with when nobody may use it. As an instruction it is an operation exception.
pub const CANARY: u8 = 0xca;
/// What data pages hold at the start; what is stored and ORed makes no canary of it.
const GOOD: u8 = 0x11;
pub const CODE: u64 = 0x10;
pub const HOT: u64 = 0x30;
pub const HOT_PAGES: u64 = 6;
/// The first private page of the first CPU; the others follow.
const OWN: u64 = 0x40;

/// How the rule of the completion is kept.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Rule {
    Kept,
    /// The frame is reused before the purge is complete.
    NotWaited,
    /// The engine is not told what its fast TLB must drop.
    Withheld,
}

/// How a run ends.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum How {
    Finish,
    /// The step limit is reached here.
    Limit(u64),
    /// Somebody cancels after so many purges.
    Cancel(u64),
    /// The MMU of a CPU panics at its n-th call.
    Panic(u32, i64),
}

/// Between an engine and its MMU: drops what it should pass on, or panics.
struct Meddler {
    inner: PortMmu,
    withhold: bool,
    fuse: i64,
    findings: Arc<Findings>,
}

impl Mmu for Meddler {
    fn translate(&mut self, addr: u64, access: Access, space: u8) -> Result<Piece, Exc> {
        self.fuse -= 1;
        if self.fuse == 0 {
            // Unwinds like a panic without printing like one.
            std::panic::resume_unwind(Box::new("the fuse has blown"));
        }
        let f = &self.findings;
        f.deepest.fetch_max(f.inside.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        let r = self.inner.translate(addr, access, space);
        f.inside.fetch_sub(1, Ordering::SeqCst);
        r
    }
    fn written(&mut self, paddr: Paddr, len: u64) -> bool {
        self.inner.written(paddr, len)
    }
    fn clock(&mut self) -> u64 {
        self.inner.clock()
    }
    fn cpu(&self) -> u32 {
        self.inner.cpu()
    }
    fn unpark(&mut self) -> FastDrop {
        self.pass(PortMmu::unpark)
    }
    fn poll(&mut self) -> FastDrop {
        self.pass(PortMmu::poll)
    }
    fn park(&mut self) {
        self.inner.park()
    }
    fn take_fault(&mut self) -> Option<racewalk_cpu::Fault> {
        self.inner.take_fault()
    }
}

impl Meddler {
    fn pass(&mut self, f: impl FnOnce(&mut PortMmu) -> FastDrop) -> FastDrop {
        let drop = f(&mut self.inner);
        if self.withhold { FastDrop::default() } else { drop }
    }
}

/// What went wrong and what happened, over all tasks of a run.
#[derive(Default, Debug)]
pub struct Findings {
    /// A vCPU read the canary.
    pub read: AtomicU64,
    /// A vCPU executed it.
    pub executed: AtomicU64,
    /// A store landed in it.
    pub overwritten: AtomicU64,
    /// vCPUs inside a translation now, and the most at one time.
    pub inside: AtomicU32,
    pub deepest: AtomicU32,
    pub panicked: AtomicU32,
    pub cancelled: AtomicU32,
    /// Frames moved, and by what.
    pub moves: AtomicU64,
    pub ipte: AtomicU64,
    pub idte_entry: AtomicU64,
    pub idte_asce: AtomicU64,
    pub instructions: AtomicU64,
    /// The first other thing that should not be.
    pub strange: Mutex<Option<String>>,
}

impl Findings {
    /// Whether somebody used what was taken away.
    pub fn bad(&self) -> bool {
        let n = |a: &AtomicU64| a.load(Ordering::SeqCst);
        n(&self.read) + n(&self.executed) + n(&self.overwritten) != 0
    }
    fn strange(&self, what: String) {
        self.strange.lock().expect("no panic while held").get_or_insert(what);
    }
}

/// A loop of groups: some accesses to hot pages, then a look at what was loaded. Several accesses in one block, so
/// that a walk for one comes between a translation and its next use.
fn guest(r: &mut Rng) -> Vec<u8> {
    let mut a = Asm::new(((CODE + 1) << 12) - 2 * r.below(120));
    let start = a.here();
    let mut bad = Vec::new();
    for _ in 0..2 + r.below(4) {
        let mut loaded = Vec::new();
        for _ in 0..2 + r.below(6) {
            let b = 6 + r.below(HOT_PAGES) as u8;
            let d = 8 * r.below(500) as u16;
            match r.below(10) {
                0..=3 => {
                    let to = 1 + r.below(4) as u8;
                    a.rxy(0xe304, to, 0, b, d);
                    loaded.push(to)
                }
                4 | 5 => a.rxy(0xe324, 5, 0, b, d),
                6 => a.rxy(0xebe6, 0, 5, b, d),
                7 => a.rxy(0xeb30, 0, 5, b, d),
                8 => a.ss(0xd2, 24, (14, 0), (b, d & 0xff8)),
                _ => a.rxy(0xeb24, 0, 5, b, d),
            }
        }
        a.rxy(0xe304, 0, 0, 14, 0);
        loaded.push(0);
        for l in loaded {
            a.rre(0xb921, l, 13);
            bad.push(a.ri_hole(0xa74, 8));
        }
        // Nothing that is kept may look like a canary.
        a.lghi(0, 0x11)
    }
    a.ri_to(0xa77, 12, start);
    a.svc(0);
    for h in bad {
        let here = a.here();
        a.fill(h, here)
    }
    a.svc(2);
    let mut page = vec![0; 0x2000];
    let at = (start - (CODE << 12)) as usize;
    page[at..at + a.bytes.len()].copy_from_slice(&a.bytes);
    page.extend_from_slice(&start.to_be_bytes());
    page
}

/// How many of each: the storms are CPUs of their own, after the vCPUs.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Size {
    /// vCPUs.
    pub cpus: u32,
    /// Storms, each with hot pages of its own.
    pub storms: u32,
}

/// The machine, and where the guest program starts.
pub fn machine(r: &mut Rng, size: Size) -> (Machine, u64) {
    let pages = OWN + u64::from(size.cpus);
    let m = Machine::new(size.cpus + size.storms, |p| p != 0 && p < pages);
    let code = guest(r);
    m.put(CODE << 12, &code[..0x2000]);
    m.ram().fill(Paddr((FIRST_FRAME + HOT) << 12), GOOD, (pages - HOT) << 12).expect("in memory");
    let start = u64::from_be_bytes(code[0x2000..].try_into().expect("eight bytes"));
    (m, start)
}

/// A vCPU that is about to run the program.
pub fn vcpu(
    m: &Machine,
    cache: &Arc<CodeCache<S390x>>,
    (cpu, start): (u32, u64),
    (rule, how): (Rule, How),
    findings: &Arc<Findings>,
) -> Vcpu<S390x> {
    let fuse = match how {
        How::Panic(c, n) if c == cpu => n,
        _ => 0,
    };
    let mut v = m.vcpu_with(cpu, cache, |inner| {
        Box::new(Meddler { inner, withhold: rule == Rule::Withheld, fuse, findings: findings.clone() })
    });
    v.core.pc = start;
    for i in 0..HOT_PAGES {
        v.core.slots[gpr(6 + i as u8) as usize] = (HOT + i) << 12;
    }
    v.core.slots[gpr(5) as usize] = 0x2222_2222_2222_2222;
    v.core.slots[gpr(13) as usize] = u64::from_be_bytes([CANARY; 8]);
    v.core.slots[gpr(14) as usize] = (OWN + cpu as u64) << 12;
    v.core.slots[gpr(12) as usize] = 1 << 40;
    v
}

/// Runs a vCPU once and judges why it stopped; false when it is over.
pub fn turn(m: &Machine, v: &mut Vcpu<S390x>, quantum: u64, f: &Findings) -> bool {
    let before = v.instructions;
    let stop = v.run(quantum);
    f.instructions.fetch_add(v.instructions - before, Ordering::Relaxed);
    match stop {
        Stop::Quantum => true,
        Stop::Signal(_) => true,
        Stop::Syscall { number: 2, .. } => {
            f.read.fetch_add(1, Ordering::SeqCst);
            false
        }
        Stop::Exception { fault: Some(fault), .. }
            if matches!(fault.reason, Reason::Page | Reason::Segment) =>
        {
            // The storm makes the page valid again, if it goes on.
            let page = fault.vaddr.0 >> 12;
            if controlled::active() {
                point("fault")
            } else if m.entry(page).invalid() || m.segment().invalid() {
                std::thread::yield_now()
            }
            true
        }
        Stop::Exception { exc: Exc::CANCELLED, .. } => {
            f.cancelled.fetch_add(1, Ordering::SeqCst);
            false
        }
        Stop::Exception { exc, .. } if exc == Exc::program(1) => {
            f.executed.fetch_add(1, Ordering::SeqCst);
            false
        }
        Stop::Panicked => {
            f.panicked.fetch_add(1, Ordering::SeqCst);
            false
        }
        other => {
            f.strange(format!("{other:?} at {:#x}", v.core.pc));
            false
        }
    }
}

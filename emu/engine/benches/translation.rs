//! What translation costs: CPU time to decode, scan and translate one guest instruction, over a million that all
//! differ. The promise is at most 1 µs with half of them common ones and the other half drawn from all opcodes alike,
//! 128-bit floating point included.

use racewalk_engine::x86::{self, ArenaFull};
use racewalk_isa::Arch;
use racewalk_isa::s390x::table::ROWS;
use racewalk_isa::s390x::{S390x, decode};
use racewalk_isa::scan::{Terminator, scan};
use racewalk_sched::controlled::Rng;

fn main() {
    let each = translation(1_000_000, 2, 3);
    println!(
        "half of them common ones     {each:6.0} ns   at most 1000 {}",
        if each <= 1000.0 { "met" } else { "NOT met" }
    );
    println!("all opcodes alike            {:6.0} ns", translation(200_000, 1, 3));
}

/// Nanoseconds of this thread's CPU time.
fn cpu_time() -> u64 {
    let t = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    t.tv_sec as u64 * 1_000_000_000 + t.tv_nsec as u64
}

/// What compilers emit most.
const COMMON: &str = "l lg lgf llgc llgh lgh st stg stc sth sty la lay larl lgr lr lgfr llgfr lghi lhi llill aghi ahi \
                      agr ar ag sgr sr algr slgr cgr cr clgr cghi chi cg clg clgfi ltgr ltr sllg srlg srag sllk nr ngr \
                      or ogr xgr nill risbg llgcr llgtr msgr mvi mvghi mvhi tm cli cgfi agfi locgr ld std adbr mdbr";

/// Straight-line code with any operands: every `rare`-th instruction has any opcode that does not end a block, the
/// others are common ones.
fn straight(count: usize, rare: usize) -> Vec<Vec<u8>> {
    let mut r = Rng(1);
    let mut all = Vec::with_capacity(count);
    let common: Vec<_> = ROWS.iter().filter(|x| COMMON.split(' ').any(|n| n == x.name)).collect();
    assert!(common.len() > 60);
    while all.len() < count {
        let row = match all.len() % rare {
            0 => &ROWS[r.below(ROWS.len() as u64) as usize],
            _ => common[r.below(common.len() as u64) as usize],
        };
        let mut b = r.next_u64().to_be_bytes();
        b[0] = if row.code < 0x100 { row.code as u8 } else { (row.code >> 8) as u8 };
        let ext = row.code as u8;
        if row.code >= 0x100 {
            match b[0] {
                0xb2 | 0xb3 | 0xb9 | 0xe5 | 0x01 => b[1] = ext,
                0xe3 | 0xe7 | 0xeb..=0xed | 0xe6 => b[5] = ext,
                _ => b[1] = b[1] & 0xf0 | ext & 15,
            }
        }
        let len = S390x::insn_len([b[0], b[1]]);
        let i = decode::decode(0, &b[..len]);
        if i.op == row.op && scan::<S390x>(&i).terminator == Terminator::None {
            all.push(b[..len].to_vec());
        }
    }
    all
}

/// Nanoseconds a guest instruction, the best of `tries`.
fn translation(count: usize, rare: usize, tries: u32) -> f64 {
    let code = straight(count, rare);
    let mut best = u64::MAX;
    let mut bytes = 0;
    for _ in 0..tries {
        let mut arena = x86::Arena::new(64 << 20).expect("room for code");
        bytes = 0;
        let start = cpu_time();
        let mut pc = 0x10_0000;
        for block in code.chunks(48) {
            let mut insns = Vec::with_capacity(block.len());
            let first = pc;
            for b in block {
                let i = S390x::decode(pc, b);
                assert_eq!(scan::<S390x>(&i).terminator, Terminator::None);
                insns.push(i);
                pc += b.len() as u64;
            }
            loop {
                match x86::translate::<S390x>(&mut arena, first, &insns, pc, &|_| true) {
                    Ok(t) => {
                        bytes += t.bytes;
                        break;
                    }
                    Err(ArenaFull) => arena = x86::Arena::new(64 << 20).expect("room for code"),
                }
            }
        }
        best = best.min(cpu_time() - start);
    }
    println!("{:.0} host bytes a guest instruction", bytes as f64 / count as f64);
    best as f64 / count as f64
}

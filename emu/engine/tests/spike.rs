//! Invalidation with 64 vCPUs: all of them translate and walk while two storms purge by IPTE and IDTE and reuse the
//! frames; under a schedule, cancelled or broken anywhere, and as host threads.
//!
//! `RACEWALK_SEEDS` and `RACEWALK_STORM_SECONDS` make it longer (`CONTRIBUTING.md`).

mod common;

use common::setting;
use common::storm::{controlled_storm, every_way, explain, free_storm, resident};
use common::victim::{Findings, How, Rule, Size};
use racewalk_sched::controlled::End;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const SPIKE: Size = Size { cpus: 64, storms: 2 };
/// What 64 vCPUs, their stacks, caches and tables may grow by, once as many have run before.
const GROWTH: u64 = 64 << 20;

fn n(a: &AtomicU64) -> u64 {
    a.load(Ordering::SeqCst)
}

/// Nobody used what was taken away, and nothing else happened that should not.
fn sound(f: &Findings) -> bool {
    !f.bad() && f.strange.lock().expect("no panic while held").is_none()
}

#[test]
fn under_schedules() {
    let (first, count) = (setting("RACEWALK_FIRST", 0), setting("RACEWALK_SEEDS", 200));
    let (mut warm, mut deepest, mut points) = (0, 0, 0);
    let (mut panicked, mut cancelled) = (0, 0);
    let (mut ipte, mut idte) = (0, 0);
    for seed in first..first + count {
        let how = every_way(SPIKE, seed);
        let (f, o) = controlled_storm(SPIKE, seed, Rule::Kept, how);
        let why = || explain("spike", seed, Rule::Kept, how, &f, &o);
        let ended = match how {
            How::Limit(_) => matches!(o.end, End::Limit | End::Finished),
            How::Cancel(_) => matches!(o.end, End::Cancelled | End::Finished),
            _ => o.end == End::Finished,
        };
        assert!(sound(&f) && ended, "{}", why());
        deepest = deepest.max(f.deepest.load(Ordering::SeqCst));
        panicked += f.panicked.load(Ordering::SeqCst);
        cancelled += f.cancelled.load(Ordering::SeqCst);
        ipte += n(&f.ipte);
        idte += n(&f.idte_entry) + n(&f.idte_asce);
        points += o.points;
        if seed == first + count / 4 {
            warm = resident();
        }
    }
    let grown = resident().saturating_sub(warm);
    println!(
        "{count} runs: {ipte} IPTE, {idte} IDTE, {panicked} panics, {cancelled} vCPUs cancelled inside a walk, up to \
         {deepest} in walks at once, {points} points; resident memory grew by {grown} bytes"
    );
    assert!(grown < GROWTH, "resident memory grew by {grown} bytes");
    if count >= 100 {
        assert_eq!(deepest, SPIKE.cpus, "all vCPUs were inside walks at once");
        assert!(u64::from(panicked) > count / 16, "the MMU panicked in too few runs");
        assert!(u64::from(cancelled) > count, "too few vCPUs were cancelled inside a walk");
        assert!(ipte > count && idte > count, "too few purges");
    }
}

/// The canary can die here too.
#[test]
fn a_broken_rule_is_found() {
    for rule in [Rule::NotWaited, Rule::Withheld] {
        let found = (0..20).filter(|&s| controlled_storm(SPIKE, s, rule, How::Finish).0.bad()).count();
        println!("{rule:?}: found in {found} of 20 runs");
        assert!(found > 10, "{rule:?} was found in {found} of 20 runs only");
    }
}

#[test]
fn as_threads() {
    let before = resident();
    let time = Duration::from_secs(setting("RACEWALK_STORM_SECONDS", 2));
    let f = free_storm(SPIKE, Rule::Kept, time);
    let grown = resident().saturating_sub(before);
    println!("{f:?}; resident memory grew by {grown} bytes");
    assert!(sound(&f), "{f:?}");
    assert!(grown < GROWTH, "resident memory grew by {grown} bytes");
    assert!(n(&f.ipte) > 5 && n(&f.idte_entry) > 0 && n(&f.idte_asce) > 0, "too few purges: {f:?}");
    assert!(n(&f.instructions) > 10_000, "{f:?}");
    let broken = || free_storm(SPIKE, Rule::Withheld, Duration::from_millis(500)).bad();
    assert!((0..20).any(|_| broken()), "a broken rule was never found");
}

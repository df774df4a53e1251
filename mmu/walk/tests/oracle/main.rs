//! Each walker against a slow one: the same tables, the same access, and the same outcome must come of both.
//!
//! The slow walkers follow the manuals' wording, step by step, on plain maps, and share no code with the walkers they
//! judge. Cases are generated so that most walks go deep, with every field of every entry wrong now and then; a
//! difference is shrunk to few entries. `RACEWALK_WALK_CASES=1000000` makes that many cases a format.

mod bare;
mod bare_ppc64;
mod bare_s390x;
mod bare_sparc64;
mod pae;
mod ppc64_hash;
mod ppc64_radix;
mod s390x;
mod sparc64;
mod sun4u;
mod sun4v;

use proptest::test_runner::{Config, TestRunner};
use racewalk_walk::text::Tables;
use std::collections::BTreeMap;

/// Doublewords by address, for the slow walkers.
pub type Words = BTreeMap<u64, u64>;

/// The same memory for the walker under test.
pub fn tables(words: &Words) -> Tables {
    let t = Tables::default();
    for (&a, &v) in words {
        t.set(a, v);
    }
    t
}

/// How many cases a format gets.
fn cases() -> u32 {
    match std::env::var("RACEWALK_WALK_CASES") {
        Ok(n) => n.parse().unwrap_or_else(|_| panic!("RACEWALK_WALK_CASES={n}: wanted a number")),
        Err(_) => 20_000,
    }
}

/// Runs `same` on generated cases, always the same ones; shrinks and shows the first that fails. Then wants to have
/// seen every outcome that `all` names: a generator that never reaches a fault proves nothing about it.
pub fn judge<S: proptest::strategy::Strategy>(
    strategy: S,
    all: &[&str],
    same: impl Fn(&S::Value, &mut dyn FnMut(&str)) -> Result<(), String>,
) {
    let config =
        Config { cases: cases(), failure_persistence: None, max_shrink_iters: 100_000, ..Config::default() };
    let rng = proptest::test_runner::TestRng::deterministic_rng(proptest::test_runner::RngAlgorithm::ChaCha);
    let seen = std::cell::RefCell::new(BTreeMap::<String, u64>::new());
    let result = TestRunner::new_with_rng(config, rng).run(&strategy, |case| {
        same(&case, &mut |outcome| *seen.borrow_mut().entry(outcome.to_string()).or_default() += 1)
            .map_err(proptest::test_runner::TestCaseError::fail)
    });
    if let Err(e) = result {
        panic!("{e}");
    }
    let seen = seen.into_inner();
    println!("{} cases: {seen:?}", cases());
    let missing: Vec<_> = all.iter().filter(|o| !seen.contains_key(**o)).collect();
    assert!(missing.is_empty(), "no case ended with {missing:?}; seen {seen:?}");
}

//! What invalidations remove, for every format: the manual's wording applied to a list of what was formed, against what
//! each instruction's purge takes from each TLB model and walk cache.
//!
//! The manuals let any entry go at any time; these models keep theirs. So each property has two bounds: what the manual
//! names must go, and beyond it only what the model says it takes too ([`Fate::May`]), which the rules below write out.
//!
//! `RACEWALK_TLB_CASES=100000` makes that many cases of each property.

mod list;
mod pae;
mod ppc64_hash;
mod ppc64_radix;
mod s390x;
mod slb;
mod sun4u;
mod sun4v;

use proptest::strategy::Strategy;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner};

/// Runs `holds` on generated cases, always the same ones; shrinks the first that fails.
fn check<S: Strategy>(strategy: S, holds: impl Fn(S::Value) -> Result<(), TestCaseError>) {
    let cases = match std::env::var("RACEWALK_TLB_CASES") {
        Ok(n) => n.parse().unwrap_or_else(|_| panic!("RACEWALK_TLB_CASES={n}: wanted a number")),
        Err(_) => 1_000,
    };
    let config = Config { cases, failure_persistence: None, max_shrink_iters: 20_000, ..Config::default() };
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    if let Err(e) = TestRunner::new_with_rng(config, rng).run(&strategy, holds) {
        panic!("{e}");
    }
}

//! TLB models: against a naive one, against stack distances, against the infinite TLB; their configurations; walk caches.
//!
//! `RACEWALK_TLB_CASES=100000` makes that many cases of each property.

mod against_naive;
mod config;
mod naive;
mod policies;
mod presets;
mod stack_distance;
mod walkcache;

use proptest::strategy::Strategy;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner};
use racewalk_ram::{Asid, Paddr, Vaddr};
use racewalk_walk::tlb::config::TlbConfig;
use racewalk_walk::tlb::{Entry, Key, Tag};
use std::path::Path;

/// Runs `holds` on generated cases, always the same ones; shrinks the first that fails.
fn check<S: Strategy>(strategy: S, holds: impl Fn(S::Value) -> Result<(), TestCaseError>) {
    let cases = match std::env::var("RACEWALK_TLB_CASES") {
        Ok(n) => n.parse().unwrap_or_else(|_| panic!("RACEWALK_TLB_CASES={n}: wanted a number")),
        Err(_) => 2_000,
    };
    let config = Config { cases, failure_persistence: None, max_shrink_iters: 100_000, ..Config::default() };
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    if let Err(e) = TestRunner::new_with_rng(config, rng).run(&strategy, holds) {
        panic!("{e}");
    }
}

fn parse(text: &str) -> TlbConfig {
    TlbConfig::parse(text, Path::new("test.toml")).unwrap_or_else(|e| panic!("{e}"))
}

/// One array that serves both sides.
fn one_array(entries: u32, ways: &str, sizes: &str, replacement: &str) -> TlbConfig {
    parse(&format!(
        "kind = \"finite\"\n[[level]]\n[[level.array]]\nname = \"a\"\nside = \"unified\"\nentries = {entries}\n\
         ways = {ways}\nsizes = {sizes}\nreplacement = \"{replacement}\"\n"
    ))
}

fn key(va: u64) -> Key {
    Key { va: Vaddr(va), space: Asid(1), other: None, globals: true }
}

fn entry(page: u64, shift: u8) -> Entry<u32> {
    Entry {
        tag: Tag { space: Asid(1), global: false, page: Vaddr(page << shift), shift },
        frame: Paddr(page << shift),
        from: Paddr(0x1_0000 + page * 8),
        locked: false,
        leaf: page as u32,
    }
}

//! Fully associative LRU against stack distances (Mattson et al., IBM Systems Journal 9(2), 1970): a reference hits in
//! a TLB of n entries exactly if fewer than n other pages were used since the last use of its page. One pass over a
//! stack gives the hits of all sizes at once.

use crate::{check, entry, key, one_array};
use proptest::prelude::*;
use racewalk_walk::tlb::{Lookup, Side, Tlb};

/// Hits of TLBs with 1 to `most` entries.
fn by_stack(trace: &[u64], most: usize) -> Vec<u64> {
    let mut stack: Vec<u64> = Vec::new();
    let mut at_distance = vec![0; most + 1];
    for page in trace {
        if let Some(distance) = stack.iter().position(|p| p == page) {
            stack.remove(distance);
            at_distance[distance.min(most)] += 1;
        }
        stack.insert(0, *page);
    }
    let mut sum = 0;
    at_distance[..most]
        .iter()
        .map(|n| {
            sum += n;
            sum
        })
        .collect()
}

fn by_model(trace: &[u64], entries: usize) -> u64 {
    let mut t: Tlb<u32> = Tlb::new(&one_array(entries as u32, "\"full\"", "[\"4K\"]", "lru"));
    for &page in trace {
        if t.lookup(Side::Data, &key(page << 12)) == Lookup::Miss {
            t.fill(Side::Data, entry(page, 12));
        }
    }
    let s = t.stats()[0].total;
    assert_eq!(s.accesses, trace.len() as u64);
    assert_eq!(s.misses, s.fills);
    s.hits
}

fn same(trace: &[u64], most: usize) {
    let expected = by_stack(trace, most);
    let got: Vec<u64> = (1..=most).map(|n| by_model(trace, n)).collect();
    assert_eq!(got, expected);
}

#[test]
fn random_traces() {
    let skewed = (0..60u64, 0..60u64).prop_map(|(a, b)| a * b / 60);
    let page = prop_oneof![0..20u64, skewed, any::<u64>().prop_map(|n| n >> 44)];
    check(prop::collection::vec(page, 0..150), |trace| {
        same(&trace, 24);
        Ok(())
    });
}

#[test]
fn patterned_traces() {
    let cyclic = |n: u64| (0..2000).map(|i| i % n).collect::<Vec<_>>();
    let there_and_back = (0..2000).map(|i: u64| if i % 200 < 100 { i % 100 } else { 99 - i % 100 });
    // A matrix by columns, with a stack page between.
    let columns = (0..64 * 40).flat_map(|i: u64| [i % 64, 1 << 30]);
    let strided = (0..3000).map(|i: u64| i * 37 % 211);
    for n in [63, 64, 65] {
        same(&cyclic(n), 80);
        assert_eq!(
            by_model(&cyclic(n), 64),
            if n <= 64 { 2000 - n } else { 0 },
            "one page too many misses always"
        );
    }
    same(&there_and_back.collect::<Vec<_>>(), 110);
    same(&columns.collect::<Vec<_>>(), 80);
    same(&strided.collect::<Vec<_>>(), 230);
}

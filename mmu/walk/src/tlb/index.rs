//! Finding slots by a hashed key: chains through the slots, so that nothing is allocated after the array is made.

const END: u32 = u32::MAX;

/// Chains of slots that have keys with the same hash. Who follows one compares what it wants to find.
#[derive(Clone, Debug)]
pub(super) struct Index {
    heads: Vec<u32>,
    next: Vec<u32>,
    /// 64 less log2 of the number of chains.
    shift: u32,
}

impl Index {
    pub(super) fn new(slots: u32) -> Index {
        let bits = (slots * 2).next_power_of_two().trailing_zeros().max(1);
        Index { heads: vec![END; 1 << bits], next: vec![END; slots as usize], shift: 64 - bits }
    }

    #[inline]
    fn chain(&self, key: u64) -> usize {
        (key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> self.shift) as usize
    }

    pub(super) fn insert(&mut self, key: u64, slot: u32) {
        let c = self.chain(key);
        self.next[slot as usize] = std::mem::replace(&mut self.heads[c], slot);
    }

    /// Takes `slot`, which was inserted under `key`, out.
    pub(super) fn remove(&mut self, key: u64, slot: u32) {
        let c = self.chain(key);
        let after = self.next[slot as usize];
        if self.heads[c] == slot {
            self.heads[c] = after;
            return;
        }
        let mut at = self.heads[c];
        while at != END {
            let next = &mut self.next[at as usize];
            if *next == slot {
                *next = after;
                return;
            }
            at = *next;
        }
        debug_assert!(false, "slot {slot} is not in its chain");
    }

    /// Slots that may have `key`.
    #[inline]
    pub(super) fn find(&self, key: u64) -> impl Iterator<Item = u32> + '_ {
        let mut at = self.heads[self.chain(key)];
        std::iter::from_fn(move || {
            let slot = at;
            (slot != END).then(|| {
                at = self.next[slot as usize];
                slot
            })
        })
    }
}

//! Which trees POWER9 and POWER10 support (POWER9 user manual 4.10.4.1, POWER10 5.10.6.1; reference ppc64-mmu §1.2), and how
//! an address divides in them.

use racewalk_ram::Vaddr;

/// Bits of an address that a tree translates.
pub const TREE_BITS: u32 = 52;
/// Levels, root first. The walk's events number them from the leaf.
pub const LEVELS: u32 = 4;
/// log2 of the bytes that one entry covers, by the number of its table from the root, with tables for pages of 4K.
pub const SHIFTS: [u32; 4] = [39, 30, 21, 12];
/// Bits of an effective address behind its quadrant.
const BEHIND_QUADRANT: u64 = (1 << 62) - 1;

/// Whether a table with 2^`bits` entries may stand at `depth`, 0 for the root, where `left` bits are to be translated.
#[inline]
pub fn supported(depth: u32, left: u32, bits: u32) -> bool {
    match depth {
        0 => left == TREE_BITS && bits == 13,
        1 | 2 => bits == 9,
        // Pages of 4K or 64K.
        3 => bits == 9 || bits == 5,
        _ => false,
    }
}

/// Whether a leaf may stand at `depth`: pages of 1G, 2M, and 64K or 4K.
#[inline]
pub fn may_be_leaf(depth: u32) -> bool {
    depth > 0
}

/// The bits that are left to translate in a table at `depth`.
#[inline]
pub fn left_at(depth: u32) -> u32 {
    if depth == 0 { TREE_BITS } else { SHIFTS[depth as usize - 1] }
}

/// The part of an effective address that a tree translates; `None` if the tree does not reach it.
#[inline]
pub fn offset(va: Vaddr) -> Option<u64> {
    let offset = va.0 & BEHIND_QUADRANT;
    (offset >> TREE_BITS == 0).then_some(offset)
}

/// The index of `address` in a table with 2^`bits` entries, each of which covers 2^`shift` bytes.
#[inline]
pub fn index(address: u64, shift: u32, bits: u32) -> u64 {
    address >> shift & ((1 << bits) - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_two_trees() {
        let trees = [[13, 9, 9, 9], [13, 9, 9, 5]];
        for t in trees {
            let mut left = TREE_BITS;
            for (depth, bits) in t.into_iter().enumerate() {
                assert_eq!(left, left_at(depth as u32));
                assert!(supported(depth as u32, left, bits));
                left -= bits;
            }
            assert!(left == 12 || left == 16);
        }
        assert!(
            !supported(0, 52, 12) && !supported(0, 51, 13) && !supported(1, 39, 5) && !supported(4, 12, 9)
        );
        assert_eq!(offset(Vaddr(0xc00f_ffff_ffff_ffff)), Some((1 << 52) - 1));
        assert_eq!(offset(Vaddr(0xc010_0000_0000_0000)), None);
    }
}

//! Which trees POWER9 and POWER10 support (POWER9 user manual 4.10.4.1, POWER10 5.10.6.1; reference ppc64-mmu §1.2), and how
//! an address divides in them.

use racewalk_ram::Vaddr;

/// Bits of an address that a tree translates.
pub const TREE_BITS: u32 = 52;
/// Levels, root first. The walk's events number them from the leaf.
pub const LEVELS: u32 = 4;
/// Bits of an effective address behind its quadrant.
const BEHIND_QUADRANT: u64 = (1 << 62) - 1;

/// The widths that a table at `depth`, 0 for the root, can have, with log2 of the bytes that its entries then cover: from
/// the `bits` that its designation tells, `None` if they are not supported.
#[inline(always)]
pub fn width(depth: u32, bits: u32) -> Option<(u32, u32)> {
    match (depth, bits) {
        (0, 13) => Some((13, 39)),
        (1, 9) => Some((9, 30)),
        (2, 9) => Some((9, 21)),
        // Pages of 4K, and of 64K.
        (3, 9) => Some((9, 12)),
        (3, 5) => Some((5, 16)),
        _ => None,
    }
}

/// Whether a leaf may stand at `depth`: pages of 1G, 2M, and 64K or 4K.
#[inline]
pub fn may_be_leaf(depth: u32) -> bool {
    depth > 0
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
        for tree in [[13, 9, 9, 9], [13, 9, 9, 5]] {
            let mut left = TREE_BITS;
            for (depth, bits) in (0..).zip(tree) {
                left -= bits;
                assert_eq!(width(depth, bits), Some((bits, left)));
            }
        }
        assert_eq!([width(0, 12), width(1, 5), width(2, 13), width(3, 13), width(4, 9)], [None; 5]);
        assert_eq!(offset(Vaddr(0xc00f_ffff_ffff_ffff)), Some((1 << 52) - 1));
        assert_eq!(offset(Vaddr(0xc010_0000_0000_0000)), None);
    }
}

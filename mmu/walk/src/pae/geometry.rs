//! How a 32-bit linear address divides: 2, 9, 9 and 12 bits.

use racewalk_ram::Vaddr;

/// Page-directory-pointer-table entries.
pub const PDPT_ENTRIES: usize = 4;
/// Bytes that a page-directory entry covers, as log2.
pub const PDE_SHIFT: u8 = 21;
/// Bytes of a small page, as log2.
pub const PTE_SHIFT: u8 = 12;

/// The 32 bits that are an address; others are not looked at.
#[inline]
pub const fn linear(va: Vaddr) -> u64 {
    va.0 & 0xffff_ffff
}
/// The number of the PDPTE register.
#[inline]
pub const fn pdpt_index(va: Vaddr) -> usize {
    (linear(va) >> 30) as usize
}
/// The index into the page directory.
#[inline]
pub const fn pde_index(va: Vaddr) -> u64 {
    va.0 >> PDE_SHIFT & 511
}
/// The index into the page table.
#[inline]
pub const fn pte_index(va: Vaddr) -> u64 {
    va.0 >> PTE_SHIFT & 511
}

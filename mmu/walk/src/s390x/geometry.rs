//! How a virtual address divides into indexes (SA22-7832, "Translation Tables").

use super::entry::TableType;
use racewalk_ram::Vaddr;

/// Entries of a full region or segment table.
pub const CRST_ENTRIES: u64 = 2048;
/// Bytes of a full region or segment table.
pub const CRST_BYTES: u64 = CRST_ENTRIES * 8;
/// Entries of a page table.
pub const PAGE_TABLE_ENTRIES: u64 = 256;
/// Bytes of a page table.
pub const PAGE_TABLE_BYTES: u64 = PAGE_TABLE_ENTRIES * 8;
/// Bytes that one segment-table entry covers.
pub const SEGMENT_BYTES: u64 = 1 << SEGMENT_SHIFT;

/// log2 of the bytes that a segment-table entry covers.
pub const SEGMENT_SHIFT: u32 = 20;
/// log2 of the bytes that a region-third entry covers.
pub const REGION_3_SHIFT: u32 = 31;

/// Bits of an index into a region or segment table.
pub const INDEX_BITS: u32 = 11;

/// Shift of a table's index within the virtual address.
pub const fn shift(table: TableType) -> u32 {
    SEGMENT_SHIFT + INDEX_BITS * table as u32
}

/// The 11-bit index into a region or segment table.
pub const fn index(table: TableType, va: Vaddr) -> u64 {
    va.0 >> shift(table) & (CRST_ENTRIES - 1)
}

/// Which quarter of a region or segment table the index is in: what TF and TL are compared with.
pub const fn quarter(table: TableType, va: Vaddr) -> u64 {
    index(table, va) >> (INDEX_BITS - 2)
}

/// Whether the address has a bit to the left of a table's index.
pub const fn beyond(table: TableType, va: Vaddr) -> bool {
    // In two shifts: a region-first index begins at bit 0, where one would be as wide as the address.
    va.0 >> shift(table) >> INDEX_BITS != 0
}

/// The 8-bit index into a page table.
pub const fn page_index(va: Vaddr) -> u64 {
    va.0 >> 12 & (PAGE_TABLE_ENTRIES - 1)
}

/// Bytes that a table of this type covers when full.
pub const fn span(table: TableType) -> u128 {
    1u128 << (shift(table) + INDEX_BITS)
}

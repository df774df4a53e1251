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

/// Shift of a table's index within the virtual address.
pub const fn shift(table: TableType) -> u32 {
    match table {
        TableType::Segment => SEGMENT_SHIFT,
        TableType::Region3 => REGION_3_SHIFT,
        TableType::Region2 => 42,
        TableType::Region1 => 53,
    }
}

/// The 11-bit index into a region or segment table.
pub const fn index(table: TableType, va: Vaddr) -> u64 {
    va.0 >> shift(table) & (CRST_ENTRIES - 1)
}

/// The 8-bit index into a page table.
pub const fn page_index(va: Vaddr) -> u64 {
    va.0 >> 12 & (PAGE_TABLE_ENTRIES - 1)
}

/// Bytes that a table of this type covers when full.
pub const fn span(table: TableType) -> u128 {
    1u128 << (shift(table) + 11)
}

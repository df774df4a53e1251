//! What each invalidation purges (SA22-7832 chapter 10: IPTE, IDTE, CSP, PTLB).

use super::entry::Asce;
use racewalk_ram::Vaddr;

/// A purge, as the TLBs of all CPUs see it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Purge {
    /// IPTE: translations of one page formed from a page-table entry. The architecture identifies them by page-table
    /// origin and index; purging every space's entry for the page is allowed and what is done here.
    Page(Vaddr),
    /// IDTE with an entry address: all that was formed through one region or segment entry, which covers `len`
    /// bytes from `start`.
    Range {
        /// First address.
        start: Vaddr,
        /// Bytes.
        len: u64,
    },
    /// IDTE clearing by ASCE: all translations of one space.
    Asce(Asce),
    /// PTLB, CSP: everything.
    All,
}

/// Which instruction asked for it, for events and statistics.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, PartialOrd, Ord)]
pub enum Instruction {
    /// INVALIDATE PAGE TABLE ENTRY.
    Ipte,
    /// INVALIDATE DAT TABLE ENTRY.
    Idte,
    /// COMPARE AND SWAP AND PURGE.
    Csp,
    /// PURGE TLB.
    Ptlb,
}

impl Instruction {
    /// Mnemonic.
    pub fn name(self) -> &'static str {
        match self {
            Instruction::Ipte => "ipte",
            Instruction::Idte => "idte",
            Instruction::Csp => "csp",
            Instruction::Ptlb => "ptlb",
        }
    }
}

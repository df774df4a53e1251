//! Mutants: the mm without one of its steps. A check that no mutant trips is no check, so each of these must be caught
//! where the whole scheme is silent. A mutant is written behind its scheme: `s390-66~active-set`.

use crate::error::MmError;
use crate::frag::Scheme;
use std::fmt;
use std::str::FromStr;

/// A step that can be left out.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Step {
    /// The invalidation of unhooked tables, before their grace period (`tlb_table_flush`) and at the end of the gather.
    TableFlush,
    /// The invalidation of `tlb_remove_table` without memory.
    TableFlushNow,
    /// The cross call of `tlb_remove_table` without memory.
    TableIpi,
    /// The grace period of a batch.
    TableGrace,
    /// `pmdp_collapse_flush`: the invalidation of the entry that points to the table.
    CollapseFlush,
    /// Retracting without `pte_free_defer`: the cross call.
    RetractIpi,
    /// Retracting without `pte_free_defer`: `i_mmap` for writing.
    RetractLock,
    /// `pte_offset_map_lock`: the second look at the PMD entry.
    MapLockRecheck,
    /// A grace period waits for readers and CPUs.
    GraceWait,
    /// `gup_fast`: interrupts off.
    GupIrqOff,
    /// A fault's second look at the entry under its lock.
    InstallRecheck,
    /// `pte_alloc`: the second look at the PMD entry under its lock.
    PmdRecheck,
    /// Radix: the flush of walk caches for unhooked tables (RIC=2).
    WalkCache,
    /// s390x: `mm->context.lock` around byte and list.
    ContextLock,
    /// s390x, `page_table_free`: the P bit.
    PendingFree,
    /// s390x, `page_table_free_rcu`: the P bit.
    PendingFreeRcu,
    /// s390x, `page_table_alloc`: the look at P bits.
    PendingLook,
    /// s390x: a page without an allocated half leaves the list.
    ListDelEmpty,
    /// s390x, `page_table_alloc`: a page that is full leaves the list.
    ListDelFull,
    /// `pte_free_defer`: Active is set.
    ActiveSet,
    /// s390x: a page that is Active is not listed again.
    ActiveLook,
    /// Active is cleared before the page is freed.
    ActiveClear,
    /// The grace period of an Active page.
    ActiveGrace,
    /// s390x with HH bits: the callback queues the page for the other half.
    SecondHalf,
    /// `__tlb_remove_table` with HH bits: the second look, under the lock, whether the other half is still allocated.
    FinishRecheck,
    /// Power: the fragments of a fresh page are counted beforehand.
    FragCount,
    /// Power: `page_table_lock` around the cursor.
    CursorLock,
    /// Power, `pte_frag_destroy`: the fragments that were never handed out are given back.
    FragRest,
    /// Tables of a page of their own: the grace period of `pte_free_defer`.
    DeferGrace,
    /// Power, PMD tables: the fragments of a fresh page are counted beforehand.
    PmdFragCount,
    /// Power, `pmd_frag_destroy`: the fragments that were never handed out are given back.
    PmdFragRest,
    /// A collapse: `anon_vma` for writing.
    CollapseRmap,
    /// A collapse: the cross call behind the flush (`tlb_remove_table_sync_one`).
    CollapseIpi,
    /// Unmapping a huge page: its deposited table is withdrawn.
    ZapWithdraw,
    /// `pgtable_trans_huge_withdraw`: the words that linked the table are emptied.
    WithdrawClear,
    /// sparc64, `flush_tsb_user`: `mm->context.lock`, whose atomic operation comes between the store of the PTE and the look
    /// at the TSB.
    TsbLock,
}

/// A step by name, and the sound schemes that have it.
#[derive(Debug)]
pub struct Row {
    /// Which.
    pub step: Step,
    /// Its name behind the `~`.
    pub name: &'static str,
    /// Schemes in which leaving it out is a flaw.
    pub schemes: &'static [&'static str],
    /// It is a flaw only where stores wait in buffers.
    pub tso: bool,
}

const fn row(step: Step, name: &'static str, schemes: &'static [&'static str]) -> Row {
    Row { step, name, schemes, tso: false }
}

/// One that only total store order shows.
const fn buffered(step: Step, name: &'static str, schemes: &'static [&'static str]) -> Row {
    Row { step, name, schemes, tso: true }
}

/// All mutants.
pub const MUTANTS: &[Row] = &[
    row(Step::TableFlush, "table-flush", &["s390-66", "ppc-66-fixed", "gen-defer"]),
    row(Step::TableFlushNow, "table-flush-now", &["s390-66", "ppc-66-fixed", "gen-defer"]),
    row(Step::TableIpi, "table-ipi", &["s390-66", "s390-67", "ppc-66-fixed"]),
    row(Step::TableGrace, "table-grace", &["s390-66", "s390-67", "ppc-66-fixed"]),
    row(Step::CollapseFlush, "collapse-flush", &["s390-61", "s390-66", "ppc-66-fixed"]),
    row(Step::RetractIpi, "retract-ipi", &["s390-61", "ppc-frag"]),
    row(Step::RetractLock, "retract-lock", &["s390-61", "ppc-frag"]),
    row(Step::MapLockRecheck, "map-lock-recheck", &["s390-66", "ppc-66-fixed", "gen-defer"]),
    row(Step::GraceWait, "grace-wait", &["s390-66", "s390-67", "ppc-66-fixed"]),
    row(Step::GupIrqOff, "gup-irq-off", &["s390-61", "ppc-frag", "s390-67"]),
    row(Step::InstallRecheck, "install-recheck", &["s390-66"]),
    row(Step::PmdRecheck, "pmd-recheck", &["s390-66", "ppc-66-fixed"]),
    row(Step::WalkCache, "walk-cache", &["ppc-66-fixed", "gen-defer"]),
    row(Step::ContextLock, "context-lock", &["s390-61", "s390-66"]),
    row(Step::PendingFree, "pending-free", &["s390-61", "s390-66"]),
    row(Step::PendingFreeRcu, "pending-free-rcu", &["s390-61", "s390-66", "s390-v2-maskfixed"]),
    row(Step::PendingLook, "pending-look", &["s390-61", "s390-66"]),
    row(Step::ListDelEmpty, "list-del-empty", &["s390-61", "s390-66", "s390-v2-maskfixed"]),
    row(Step::ListDelFull, "list-del-full", &["s390-61", "s390-66", "s390-v2-maskfixed"]),
    row(Step::ActiveSet, "active-set", &["s390-66", "ppc-66-fixed"]),
    row(Step::ActiveLook, "active-look", &["s390-66"]),
    row(Step::ActiveClear, "active-clear", &["s390-66", "ppc-66-fixed"]),
    row(Step::ActiveGrace, "active-grace", &["s390-66", "ppc-66-fixed"]),
    row(Step::SecondHalf, "second-half", &["s390-v2-maskfixed", "s390-v2+1"]),
    row(Step::FinishRecheck, "finish-recheck", &["s390-v2-maskfixed", "s390-v2+1"]),
    row(Step::FragCount, "frag-count", &["ppc-frag", "ppc-66-fixed"]),
    row(Step::CursorLock, "cursor-lock", &["ppc-frag", "ppc-66-fixed"]),
    row(Step::FragRest, "frag-rest", &["ppc-frag", "ppc-66-fixed"]),
    row(Step::DeferGrace, "defer-grace", &["s390-67", "gen-defer"]),
    row(Step::PmdFragCount, "pmd-frag-count", &["ppc-pmdfrag"]),
    row(Step::PmdFragRest, "pmd-frag-rest", &["ppc-pmdfrag"]),
    row(Step::CollapseRmap, "collapse-rmap", &["s390-66", "ppc-66-fixed", "sparc-conv"]),
    row(Step::CollapseIpi, "collapse-ipi", &["s390-66", "ppc-66-fixed"]),
    row(Step::ZapWithdraw, "zap-withdraw", &["s390-66", "ppc-66-fixed", "sparc-conv"]),
    row(Step::WithdrawClear, "withdraw-clear", &["s390-66"]),
    buffered(Step::TsbLock, "tsb-lock", &["sparc-conv", "sparc-rcu"]),
];

impl Step {
    /// Its row.
    pub fn row(self) -> &'static Row {
        MUTANTS.iter().find(|r| r.step == self).expect("every step has a row, which a test asserts")
    }
}

/// A scheme, whole or without a step.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Variant {
    /// The scheme.
    pub scheme: Scheme,
    /// The step that is left out.
    pub without: Option<Step>,
}

impl From<Scheme> for Variant {
    fn from(scheme: Scheme) -> Variant {
        Variant { scheme, without: None }
    }
}

impl fmt::Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.scheme.name())?;
        self.without.map_or(Ok(()), |s| write!(f, "~{}", s.row().name))
    }
}

impl FromStr for Variant {
    type Err = MmError;
    fn from_str(s: &str) -> Result<Variant, MmError> {
        let Some((scheme, step)) = s.split_once('~') else { return Ok(s.parse::<Scheme>()?.into()) };
        let Some(row) = MUTANTS.iter().find(|r| r.name == step) else {
            let names: Vec<_> = MUTANTS.iter().map(|r| r.name).collect();
            return Err(MmError::Config(format!(
                "step {step:?} behind the scheme cannot be left out; wanted one of {}",
                names.join(", ")
            )));
        };
        Ok(Variant { scheme: scheme.parse()?, without: Some(row.step) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_parse_and_come_back() {
        for (i, r) in MUTANTS.iter().enumerate() {
            assert_eq!(r.step as usize, i, "{} stands in the order of the enum", r.name);
            assert!(!r.schemes.is_empty());
            for s in r.schemes {
                let text = format!("{s}~{}", r.name);
                let v: Variant = text.parse().unwrap();
                assert!(v.scheme.available() && v.scheme.row().flaw.is_none(), "{text}");
                assert_eq!(v.to_string(), text);
            }
        }
        // No step is without a row.
        assert_eq!(Step::TsbLock as usize + 1, MUTANTS.len());
        assert_eq!("s390-66".parse::<Variant>().unwrap(), Scheme::default().into());
        let e = "s390-66~flush".parse::<Variant>().unwrap_err().to_string();
        assert!(e.contains("table-flush") && e.contains("\"flush\""), "{e}");
        assert!("s390-99~table-flush".parse::<Variant>().is_err());
    }
}

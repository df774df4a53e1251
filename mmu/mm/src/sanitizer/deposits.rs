//! Deposited tables in the books: as many as huge pages (hosted-mm D, invariant 15).

use super::event::What;
use super::state::{Check, Life, State};
use racewalk_ram::{Kva, Paddr};

/// What is on a list of deposited tables, and what needs it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Counts {
    tables: u64,
    huge: u64,
}

impl State {
    /// A table joins the list of `head`.
    pub(crate) fn deposit(&mut self, table: Paddr, head: Kva) -> Check {
        self.note(What::Deposit { table, taken: false });
        let t = self.table(table, "depositing")?;
        if !matches!(t.life, Life::Fresh | Life::Detached) {
            return self.bad(15, "a table is deposited that is in use, or was given back".into(), table);
        }
        t.life = Life::Deposited;
        self.deposits.entry(head.0).or_default().tables += 1;
        self.table_code(table.0);
        Ok(())
    }

    /// It is taken from there.
    pub(crate) fn withdraw(&mut self, table: Paddr, head: Kva) -> Check {
        self.note(What::Deposit { table, taken: true });
        let t = self.table(table, "withdrawing")?;
        if t.life != Life::Deposited {
            return self.bad(15, "a table is withdrawn that was not deposited".into(), table);
        }
        t.life = if t.hook.is_some() { Life::Detached } else { Life::Fresh };
        let counts = self.deposits.entry(head.0).or_default();
        counts.tables = counts.tables.saturating_sub(1);
        self.table_code(table.0);
        Ok(())
    }

    /// A PMD entry whose tables are deposited at `head` maps a huge page, or does no more. Its table has come or gone by
    /// then, and the lock is still held.
    pub(crate) fn huge(&mut self, head: Kva, entry: Paddr, maps: bool) -> Check {
        self.note(What::Huge { entry, maps });
        let counts = self.deposits.entry(head.0).or_default();
        counts.huge = if maps { counts.huge + 1 } else { counts.huge.saturating_sub(1) };
        let Counts { tables, huge } = *counts;
        if tables != huge {
            let found = format!("{tables} tables are deposited for {huge} huge pages");
            return self.bad(15, found, entry);
        }
        Ok(())
    }
}

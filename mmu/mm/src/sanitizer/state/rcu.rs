//! Callbacks, grace periods and the lists that run through tables and page records.

use super::{Check, Life, State};
use crate::sanitizer::event::{Give, What};
use racewalk_ram::{Kva, Paddr, Pfn};

impl State {
    pub(crate) fn call_rcu(&mut self, head: Kva, page: Option<Pfn>) -> Check {
        self.note(What::CallRcu(head));
        let about = page.map(|p| p.paddr());
        if self.listed.contains(head.0) {
            let found = format!("call_rcu on {:#x}, whose words link a list", head.0);
            return Err(self.report(4, found, about));
        }
        if !self.queued.insert(head.0, ()) {
            return Err(self.report(4, format!("call_rcu on {:#x}, which is queued already", head.0), about));
        }
        self.code(head.0, 1);
        Ok(())
    }

    pub(crate) fn callback(&mut self, head: Kva) {
        self.queued.remove(head.0);
        self.note(What::Callback(head));
        self.code(head.0, 0);
    }

    pub(crate) fn gp_start(&mut self) {
        self.gp_began = self.note(What::GpStart);
    }

    pub(crate) fn gp_end(&mut self) {
        self.grace = self.gp_began;
        self.note(What::GpEnd);
    }

    pub(crate) fn list_add(&mut self, node: Kva) -> Check {
        self.note(What::Listed(node));
        if self.queued.contains(node.0) {
            return Err(self.report(
                4,
                format!("{:#x} is linked into a list while call_rcu has it", node.0),
                None,
            ));
        }
        if !self.listed.insert(node.0, ()) {
            return Err(self.report(14, format!("{:#x} is linked into a list twice", node.0), None));
        }
        self.code(node.0, 2);
        Ok(())
    }

    pub(crate) fn list_del(&mut self, node: Kva) -> Check {
        if self.queued.contains(node.0) {
            return Err(self.report(
                4,
                format!("{:#x} is taken off a list while call_rcu has it", node.0),
                None,
            ));
        }
        if self.listed.remove(node.0).is_some() {
            self.note(What::Unlisted(node));
            self.code(node.0, 0);
        }
        Ok(())
    }

    /// A word outside the lists and RCU's own code is stored.
    pub(crate) fn overwrites(&self, at: Kva) -> Check {
        match self.queued.at_or_below(at.0) {
            Some((head, _)) if at.0 < head + 16 => Err(self.report(
                4,
                format!("the queued rcu_head at {head:#x} is overwritten at {:#x}", at.0),
                None,
            )),
            _ => Ok(()),
        }
    }

    /// The destructor made a table's lock unusable.
    pub(crate) fn lock_gone(&mut self, page: Pfn, len: u64) -> Check {
        self.note(What::LockGone(page));
        let at = page.paddr().0;
        let early = self.tables.range(at, at + len).iter().find(|(_, t)| {
            t.life == Life::Given(Give::Defer) && !self.grace_since(t.given) && !self.exiting.contains(t.mm.0)
        });
        if let Some(&(a, _)) = early {
            let found = "the destructor frees the lock of a deferred table before its grace period".into();
            return self.bad(11, found, Paddr(a));
        }
        Ok(())
    }
}

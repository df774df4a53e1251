//! RCU driven by a test: a grace period ends when it says so, and callbacks run in any order.

use super::{Chain, RcuFunc, held};
use crate::arch::Arch;
use crate::error::{Result, broken};
use crate::kernel::Kernel;
use racewalk_ram::Kva;
use std::sync::atomic::Ordering::SeqCst;

/// A queued callback.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Queued {
    pub(crate) head: Kva,
    pub(crate) func: RcuFunc,
    /// Its grace period is over.
    pub(crate) done: bool,
}

impl<A: Arch> Kernel<A> {
    /// All callbacks of tasks that hold no CPU, in the order of their lists.
    pub(crate) fn rcu_queued(&self) -> Result<Vec<Queued>> {
        let l = held(&self.rcu.lists[self.rcu.lists.len() - 1]);
        let mut all = Vec::new();
        for (chain, done) in [(l.done, true), (l.next, false)] {
            let mut head = chain.head;
            for i in 0..chain.len {
                let func = RcuFunc::from_kva(Kva(self.kmem.peek(Kva(head.0 + 8), "an rcu_head")?))?;
                if (i + 1 == chain.len) != (head == chain.tail) {
                    return broken(4, format!("the callback list is cut or closed at {head:?}"));
                }
                all.push(Queued { head, func, done });
                head = Kva(self.kmem.peek(head, "an rcu_head")?);
            }
        }
        Ok(all)
    }

    /// Every reader has left: a grace period for all that is queued.
    pub(crate) fn rcu_grace_period(&self) -> Result<()> {
        let mut l = held(&self.rcu.lists[self.rcu.lists.len() - 1]);
        let super::Callbacks { next, done, .. } = &mut *l;
        self.chain_append(done, next)
    }

    /// Runs one callback whose grace period is over.
    pub(crate) fn rcu_run_one(&self, which: Kva) -> Result<()> {
        let chain = {
            let mut l = held(&self.rcu.lists[self.rcu.lists.len() - 1]);
            let (mut at, mut before) = (l.done.head, None);
            while at != which {
                if at == l.done.tail {
                    return broken(4, format!("the callback at {which:?} is not queued"));
                }
                before = Some(at);
                at = Kva(self.kmem.peek(at, "an rcu_head")?);
            }
            let after = Kva(self.kmem.peek(which, "an rcu_head")?);
            match before {
                Some(b) => self.kmem.poke(b, after.0, "an rcu_head")?,
                None => l.done.head = after,
            }
            if which == l.done.tail {
                l.done.tail = before.unwrap_or_default();
            }
            l.done.len -= 1;
            self.rcu.heads.fetch_sub(1, SeqCst);
            Chain { head: which, tail: which, len: 1 }
        };
        self.rcu_run(chain)
    }
}

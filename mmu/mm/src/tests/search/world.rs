//! What actors do, and what is known of a state.

use super::Options;
use crate::arch::Arch;
use crate::error::{MmError, Result, broken};
use crate::gather::TableBatch;
use crate::kernel::Kernel;
use crate::layout::{self, Place};
use crate::lockword;
use crate::mm::{Mm, mmw};
use crate::page::{FrameKind, flag, word};
use crate::rcu::RcuFunc;
use crate::rcu::by_hand::Queued;
use racewalk_ram::{Kva, Paddr, Pfn};
use racewalk_sched::controlled::{Rng, Situation};
use racewalk_sched::{choose, forget, step};
use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;

/// What the schemes keep of a page of tables.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct PageState {
    /// The PP/AA byte.
    pub(super) byte: u8,
    /// `pt_frag_refcount`, or `pt_mm`.
    pub(super) count: u64,
    pub(super) active: bool,
    pub(super) listed: bool,
    /// Callbacks of the scheme for it are queued.
    pub(super) queued: u8,
}

/// What an actor may do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Op {
    Alloc,
    Free(Paddr),
    /// `pte_free_tlb` and the end of its gather.
    Gather(Paddr),
    Defer(Paddr),
    /// All readers have left.
    GracePeriod,
    Callback(Queued, Paddr),
    /// The space ends.
    Exit,
}

impl Op {
    /// Which kind of operation, and on which table.
    fn code(self) -> (u64, Option<Paddr>) {
        match self {
            Op::Alloc => (1, None),
            Op::Free(t) => (2, Some(t)),
            Op::Gather(t) => (3, Some(t)),
            Op::Defer(t) => (4, Some(t)),
            Op::GracePeriod => (5, None),
            Op::Callback(q, t) => (6 + 16 * func(q.func), Some(t)),
            Op::Exit => (7, None),
        }
    }
}

fn func(f: RcuFunc) -> u64 {
    match f {
        RcuFunc::TlbRemoveTable => 0,
        RcuFunc::Scheme(n) => 1 + u64::from(n),
    }
}

fn hash(values: impl IntoIterator<Item = u64>) -> u64 {
    values.into_iter().fold(7, |h: u64, v| Rng(h.rotate_left(5) ^ v).next_u64())
}

/// The machine of a run.
pub(super) struct World<A: Arch> {
    pub(super) kernel: Arc<Kernel<A>>,
    mm: Arc<Mm<A>>,
    options: Options<A>,
    /// Tables in use.
    held: RefCell<BTreeSet<u64>>,
    /// Tables with readers inside, though given back.
    read: RefCell<BTreeSet<u64>>,
    /// What each actor does.
    ops: RefCell<Vec<Option<Op>>>,
    exited: Cell<bool>,
    /// What is wrong: nothing goes on.
    broken: RefCell<Option<String>>,
}

/// A finding without the addresses, which differ.
fn text(e: &MmError) -> String {
    let all = e.to_string();
    let long =
        |w: &&str| !w.contains("0x") || w.trim_matches(|c: char| !c.is_ascii_alphanumeric()).len() <= 4;
    let words: Vec<&str> = all.split_whitespace().filter(long).collect();
    format!("{}: {}", e.rule().unwrap_or(0), words.join(" "))
}

impl<A: Arch> World<A> {
    pub(super) fn new(kernel: Arc<Kernel<A>>, mm: Arc<Mm<A>>, options: Options<A>) -> Self {
        World {
            kernel,
            mm,
            options,
            held: RefCell::default(),
            read: RefCell::default(),
            ops: RefCell::new(vec![None; options.actors]),
            exited: Cell::new(false),
            broken: RefCell::new(None),
        }
    }

    /// Actor `me`, for ever.
    pub(super) fn act(&self, me: usize) {
        loop {
            if self.broken.borrow().is_none()
                && let Err(e) = self.one(me)
                && e.is_finding()
            {
                self.broken.borrow_mut().get_or_insert(text(&e));
            }
            self.ops.borrow_mut()[me] = None;
            forget();
            if step("idle").is_err() {
                return;
            }
        }
    }

    fn one(&self, me: usize) -> Result<()> {
        let can = self.enabled()?;
        if can.is_empty() {
            return Ok(());
        }
        let op = can[choose(can.len(), "operation")];
        // Which one is part of the state by itself.
        forget();
        self.ops.borrow_mut()[me] = Some(op);
        let (k, mm) = (&*self.kernel, self.mm.kva());
        let given = |t: Paddr| {
            self.held.borrow_mut().remove(&t.0);
            self.read.borrow_mut().insert(t.0);
        };
        match op {
            Op::Alloc => {
                let t = k.pte_table_alloc(mm)?;
                if self.read.borrow().contains(&t.0) {
                    return broken(8, "a table is handed out again while readers are inside");
                }
                if !self.held.borrow_mut().insert(t.0) {
                    return broken(13, "a table in use is handed out");
                }
            }
            Op::Free(t) => {
                self.held.borrow_mut().remove(&t.0);
                k.pte_table_free(mm, t)?;
            }
            Op::Gather(t) => {
                if self.options.batches {
                    given(t);
                } else {
                    // The cross call ends what runs with interrupts off, and there are no other readers (hosted-mm C.1).
                    self.held.borrow_mut().remove(&t.0);
                }
                let mut batch = TableBatch::new(&self.mm);
                k.pte_table_free_rcu(mm, t, &mut batch)?;
                batch.flush(k)?;
            }
            Op::Defer(t) => {
                given(t);
                k.pte_table_free_defer(&self.mm, t)?;
            }
            Op::GracePeriod => {
                self.read.borrow_mut().clear();
                k.rcu_grace_period()?;
            }
            Op::Callback(q, _) => k.rcu_run_one(q.head)?,
            Op::Exit => {
                self.exited.set(true);
                // Its mappings left the rmap, under locks that readers from there hold (hosted-mm F-21, C.7).
                self.read.borrow_mut().clear();
                k.frag.mm_exit(k, mm)?;
            }
        }
        Ok(())
    }

    fn enabled(&self) -> Result<Vec<Op>> {
        let mut can = Vec::new();
        let busy = |f: fn(&Op) -> bool| self.ops.borrow().iter().flatten().any(f);
        if !self.exited.get() {
            can.push(Op::Alloc);
        }
        for &t in &*self.held.borrow() {
            can.extend([Op::Free(Paddr(t)), Op::Gather(Paddr(t))]);
            if self.kernel.frag.defers() {
                can.push(Op::Defer(Paddr(t)));
            }
        }
        let queued = self.kernel.rcu_queued()?;
        // Whoever holds the lock has bottom halves off, and is a reader like others.
        let free = self.kernel.frag.lock(&self.kernel, self.mm.kva())?.load(SeqCst) == 0;
        if free && (queued.iter().any(|q| !q.done) || !self.read.borrow().is_empty()) {
            can.push(Op::GracePeriod);
        }
        for q in queued.into_iter().filter(|q| q.done) {
            can.push(Op::Callback(q, self.target(q)?));
        }
        let user = |op: &Op| !matches!(op, Op::Callback(..));
        if self.options.exits && !self.exited.get() && self.held.borrow().is_empty() && !busy(user) {
            can.push(Op::Exit);
        }
        Ok(can)
    }

    /// What a callback is about: a table, its tag, or a page.
    fn target(&self, q: Queued) -> Result<Paddr> {
        let kmem = &self.kernel.kmem;
        Ok(match layout::place(q.head, kmem.pages.frames(), "an rcu_head")? {
            Place::Direct(batch) => Paddr(kmem.peek(Kva(batch.0 + 24), "a table batch")?),
            Place::TypeSafe { .. } => Paddr(kmem.type_safe.words(q.head)?[3].load(SeqCst)),
            _ => kmem.pages.frame_of(q.head, 8)?.paddr(),
        })
    }

    fn page(&self, t: Paddr) -> u64 {
        t.0 & !(self.kernel.page_size() - 1)
    }

    /// Bytes of a page that the cursor has yet to hand out.
    pub(super) fn left(&self, page: Pfn) -> u64 {
        let at = self.mm.words().map_or(0, |w| w[mmw::FRAG_CURSOR].load(SeqCst));
        if self.page(Paddr(at)) == page.paddr().0 { page.paddr().0 + self.kernel.page_size() - at } else { 0 }
    }

    /// Pages on the list, by address.
    fn list(&self) -> Result<Vec<u64>> {
        let kmem = &self.kernel.kmem;
        let head = Kva(self.mm.kva().0 + mmw::PGTABLE_LIST as u64 * 8);
        let mut all = Vec::new();
        let mut node = Kva(kmem.peek(head, "a list node")?);
        while node != head {
            let page = match layout::place(node, kmem.pages.frames(), "a list node")? {
                Place::Direct(at) => self.page(at),
                _ => kmem.pages.frame_of(node, 8)?.paddr().0,
            };
            if all.len() == 8 || kmem.pages.kind(Paddr(page).pfn())? != FrameKind::PteTables {
                return broken(14, "a freed page is on the list");
            }
            all.push(page);
            node = Kva(kmem.peek(node, "a list node")?);
        }
        Ok(all)
    }

    /// The hash of a state, whose pages go to `seen`, and what is wrong with it to `found`.
    pub(super) fn key(
        &self,
        at: &Situation<'_>,
        seen: &mut BTreeSet<PageState>,
        found: &mut BTreeSet<String>,
    ) -> u64 {
        let wrong = self.broken.borrow().clone();
        let key = match wrong {
            Some(text) => Err(text),
            None => self.look(at, seen).map_err(|e| text(&e)),
        };
        key.unwrap_or_else(|text| {
            let key = hash(text.bytes().map(u64::from));
            *self.broken.borrow_mut() = Some(text.clone());
            found.insert(text);
            key
        })
    }

    fn look(&self, at: &Situation<'_>, seen: &mut BTreeSet<PageState>) -> Result<u64> {
        let pages = &self.kernel.kmem.pages;
        let size = self.kernel.page_size();
        let frames = (0..self.kernel.high_water().0 / size).map(|n| Paddr(n * size).pfn());
        let (held, read, ops) = (self.held.borrow(), self.read.borrow(), self.ops.borrow());
        let (queued, list) = (self.kernel.rcu_queued()?, self.list()?);
        let targets = queued.iter().map(|&q| self.target(q)).collect::<Result<Vec<_>>>()?;
        for &t in &*read {
            if pages.kind(Paddr(self.page(Paddr(t))).pfn())? != FrameKind::PteTables {
                return broken(3, "a page is freed while readers are inside a table");
            }
        }
        let idle = ops.iter().all(Option::is_none);
        let labels = || (1..at.tasks()).map(|t| at.label_of(t));
        let in_list = labels().any(|l| matches!(l, "list.add" | "list.del"));
        let words = self.mm.words()?;
        let mut known: Vec<(u64, u64)> = Vec::new();
        for p in frames {
            if pages.kind(p)? != FrameKind::PteTables {
                continue;
            }
            let page = p.paddr().0;
            let mine =
                |s: &BTreeSet<u64>| s.range(page..page + size).map(|t| t - page).fold(0, |h, t| hash([h, t]));
            let mut q: Vec<u64> = queued
                .iter()
                .zip(&targets)
                .filter(|(_, t)| self.page(**t) == page)
                .map(|(q, t)| hash([func(q.func), q.done.into(), t.0 - page]))
                .collect();
            q.sort();
            let word = |w| pages.word(p, w).map(|w| w.load(SeqCst));
            let state = PageState {
                byte: pages.table_byte(p)?,
                count: word(word::PT_MM)?,
                active: pages.flags(p)? & flag::ACTIVE != 0,
                listed: list.contains(&page),
                queued: queued
                    .iter()
                    .zip(&targets)
                    .filter(|(q, t)| self.page(**t) == page && q.func != RcuFunc::TlbRemoveTable)
                    .count() as u8,
            };
            let n = held.range(page..page + size).count() as u64;
            if word(word::PTL)? == lockword::DEAD && read.range(page..page + size).next().is_some() {
                return broken(11, "a lock is destroyed while readers are inside its table");
            }
            if idle && queued.is_empty() && !(self.options.settled)(self, p, &state, n) {
                return broken(
                    10,
                    format!("left for ever: {:02x}, count {:#x}", state.byte, state.count & 0xff),
                );
            }
            if !in_list && !self.being_made(p, state.byte) {
                seen.insert(state);
            }
            let place = list.iter().position(|&l| l == page).map_or(0, |i| i as u64 + 1);
            let own = [word(word::COUNTS)?, word(word::FLAGS)?, state.count, word(word::PTL)?];
            let whole = [place, self.left(p), mine(&held), mine(&read)];
            known.push((hash(own.into_iter().chain(whole).chain(q)), page));
        }
        known.sort();
        let gone = targets.iter().filter(|t| !known.iter().any(|k| k.1 == self.page(**t))).count();
        let own =
            [known.len() as u64, words[mmw::EXTRA_REFS].load(SeqCst), self.exited.get().into(), gone as u64];
        let with = |known: &[(u64, u64)]| {
            let number = |t: Paddr| {
                let n = known.iter().position(|k| k.1 == self.page(t));
                n.map_or(0, |n| (n as u64 + 1) << 32 | (t.0 - self.page(t)))
            };
            let mut actors: Vec<u64> = ops
                .iter()
                .enumerate()
                .map(|(me, op)| {
                    op.map_or(0, |op| {
                        let (code, t) = op.code();
                        hash([code, t.map_or(0, number), at.local(me as u32 + 1)])
                    })
                })
                .collect();
            actors.sort();
            hash(own.into_iter().chain(known.iter().map(|k| k.0)).chain(actors))
        };
        let key = with(&known);
        Ok(match known[..] {
            // Pages that look the same may have either order.
            [a, b] if a.0 == b.0 => key.min(with(&[b, a])),
            _ => key,
        })
    }

    /// Whether a half is allocated that nobody has got yet: the page is not listed before it is on its first list.
    fn being_made(&self, p: Pfn, byte: u8) -> bool {
        let held = self.held.borrow();
        let ops = self.ops.borrow();
        (0..2u64).any(|half| {
            let t = Paddr(p.paddr().0 + half * 2048);
            let giving =
                ops.iter().flatten().any(|op| op.code().1 == Some(t) && !matches!(op, Op::Callback(..)));
            byte >> half & 1 != 0 && !held.contains(&t.0) && !giving
        })
    }
}

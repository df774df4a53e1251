//! Events of the machine's parts as events of a recording.

use crate::event::{Event, Hex, Side};
use racewalk_cpu::{Access, CpuEvent};
use racewalk_mm::sanitizer::{Class, Give, What};
use racewalk_walk::event::WalkEvent;
use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

thread_local! {
    static NAMES: RefCell<HashMap<&'static str, Arc<str>>> = RefCell::default();
}

/// A name that is said often.
fn name(s: &'static str) -> Arc<str> {
    NAMES.with_borrow_mut(|n| n.entry(s).or_insert_with(|| s.into()).clone())
}

fn side(a: Access) -> Side {
    match a {
        Access::Load => Side::Load,
        Access::Store => Side::Store,
        Access::Fetch => Side::Fetch,
    }
}

/// What a CPU's MMU did.
pub(crate) fn cpu(e: &CpuEvent) -> Event {
    match *e {
        CpuEvent::Walk(WalkEvent::Start { vaddr, access, root }) => {
            Event::WalkStart { vaddr: Hex(vaddr.0), access: side(access), root: Hex(root) }
        }
        CpuEvent::Walk(WalkEvent::Step { level, table, entry_addr, entry }) => Event::WalkStep {
            level: level.0 as u64,
            table: name(table),
            entry_addr: Hex(entry_addr.0),
            entry: Hex(entry),
        },
        CpuEvent::Walk(WalkEvent::Done { vaddr, paddr, shift, protected }) => {
            Event::WalkDone { vaddr: Hex(vaddr.0), paddr: Hex(paddr.0), shift: shift as u64, protected }
        }
        CpuEvent::Walk(WalkEvent::Fault { vaddr, name: n, code }) => {
            Event::WalkFault { vaddr: Hex(vaddr.0), name: name(n), code: Hex(code as u64) }
        }
        CpuEvent::Overtaken => Event::WalkOvertaken {},
        CpuEvent::Lookup { page, access, hit } => {
            Event::Lookup { page: Hex(page.0), access: side(access), hit }
        }
        CpuEvent::Evict { page, shift } => Event::Evict { page: Hex(page.0), shift: shift as u64 },
        CpuEvent::Fill { page } => Event::Fill { page: Hex(page.0) },
        CpuEvent::Purge { by, va, purge } => {
            let what = match va {
                Some(va) => format!("{:#x} {purge}", va.0),
                None => purge.to_string(),
            };
            Event::Purge { by: name(by), what: what.into() }
        }
        CpuEvent::Purged { by } => Event::Purged { by: name(by) },
        CpuEvent::Store { addr, value } => Event::EntryStore { entry: Hex(addr.0), value: Hex(value) },
        CpuEvent::Load { register, value } => Event::Context { register: name(register), value: Hex(value) },
    }
}

fn class(c: Class) -> Arc<str> {
    name(match c {
        Class::W1 => "hardware",
        Class::W2 => "refill",
        Class::W3 => "gup_fast",
        Class::W4 => "pte_offset_map",
        Class::W5 => "pte_offset_map_lock",
    })
}

/// What the mm did; nothing for what the hardware's own events say.
pub(crate) fn mm(w: &What) -> Option<Event> {
    let at = |va: Option<racewalk_ram::Vaddr>| (Hex(va.map_or(0, |v| v.0)), va.is_none());
    Some(match *w {
        What::Alloc { table, generation } => Event::TableAlloc { table: Hex(table.0), generation },
        What::Hook { table, entry, level, va } => {
            Event::TableHook { table: Hex(table.0), entry: Hex(entry.0), level: level as u64, va: Hex(va.0) }
        }
        What::Unhook { table, entry } => Event::TableUnhook { table: Hex(table.0), entry: Hex(entry.0) },
        What::Given { table, how } => Event::TableGive {
            table: Hex(table.0),
            by: name(match how {
                Give::Now => "pte_free",
                Give::Gather => "tlb_remove_table",
                Give::Defer => "pte_free_defer",
            }),
        },
        What::Gone { table } => Event::TableGone { table: Hex(table.0) },
        What::PageAlloc(p) => Event::PageAlloc { page: Hex(p.paddr().0) },
        What::PageFree(p) => Event::PageFree { page: Hex(p.paddr().0) },
        What::Byte { page, old, new, by } => Event::Fragments {
            page: Hex(page.paddr().0),
            old: Hex(old as u64),
            new: Hex(new as u64),
            by: name(by),
        },
        What::Count { page, old, new, by } => {
            Event::Fragments { page: Hex(page.paddr().0), old: Hex(old), new: Hex(new), by: name(by) }
        }
        What::CallRcu(h) => Event::CallRcu { head: Hex(h.0) },
        What::Callback(h) => Event::Callback { head: Hex(h.0) },
        What::GpStart => Event::GraceBegin {},
        What::GpEnd => Event::GraceEnd {},
        What::Flush { mm, va } => {
            let (at, all) = at(va);
            Event::Flush { mm: Hex(mm.0), at, all }
        }
        What::Flushed { mm, va } => {
            let (at, all) = at(va);
            Event::Flushed { mm: Hex(mm.0), at, all }
        }
        What::Ipi => Event::CrossCall {},
        What::Holds { class: Class::W1, .. } | What::Load { class: Class::W1, .. } => return None,
        What::Enter(Class::W1) | What::Leave(Class::W1) => return None,
        What::Holds { class: c, table } => Event::Holds { table: Hex(table.0), class: class(c) },
        What::Load { class: c, entry, value } => {
            Event::EntryLoad { entry: Hex(entry.0), value: Hex(value), class: class(c) }
        }
        What::Store { entry, value } => Event::EntryStore { entry: Hex(entry.0), value: Hex(value) },
        _ => Event::MmNote { text: w.to_string().into() },
    })
}

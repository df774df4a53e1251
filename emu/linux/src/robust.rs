//! Robust futexes (set_robust_list(2)): what a task still holds when it ends is marked and its next owner woken.

use crate::errno::Errno;
use crate::task::Task;

/// Bytes of `struct robust_list_head`: the first entry, the offset of the futex word from an entry, the entry that is
/// being taken or released.
pub(crate) const HEAD_BYTES: u64 = 24;
/// Entries that are looked at, as a list may be a circle.
const MOST: u32 = 2048;

const TID: u32 = 0x3fff_ffff;
const OWNER_DIED: u32 = 0x4000_0000;
const WAITERS: u32 = 0x8000_0000;

impl Task {
    /// Goes through the task's list. What cannot be read ends the walk: the program's own fault.
    pub(crate) fn release_robust(&mut self) {
        let head = std::mem::take(&mut self.robust_list);
        if head != 0 {
            let _ = self.walk_robust(head);
        }
    }

    fn walk_robust(&self, head: u64) -> Result<(), Errno> {
        let mut entry = self.get_u64(head)?;
        let offset = self.get_u64(head.wrapping_add(8))?;
        let pending = self.get_u64(head.wrapping_add(16))?;
        // Bit 63 of an entry says that it is a priority-inheritance futex.
        let word = |entry: u64| (entry & !1).wrapping_add(offset);
        for _ in 0..MOST {
            if entry & !1 == head {
                break;
            }
            // Read before the owner is marked: then the list may change.
            let next = self.get_u64(entry & !1);
            if entry & !1 != pending & !1 {
                self.owner_died(word(entry), entry & 1 != 0, false)?;
            }
            entry = next?;
        }
        if pending & !1 != 0 {
            self.owner_died(word(pending), pending & 1 != 0, true)?;
        }
        Ok(())
    }

    fn owner_died(&self, addr: u64, pi: bool, pending: bool) -> Result<(), Errno> {
        if addr & 3 != 0 {
            return Err(Errno::EINVAL);
        }
        let mut old = self.get_u32(addr)?;
        loop {
            if pending && !pi && old == 0 {
                // Released, but the wake-up may not have been made.
                self.sys.futexes.lock().wake(addr, 1, !0);
                return Ok(());
            }
            if old & TID != self.shared.tid {
                return Ok(());
            }
            let new = old & WAITERS | OWNER_DIED;
            let seen = self.sys.mm.cmpxchg_user_u32(addr, old, new).map_err(|_| Errno::EFAULT)?;
            if seen == old {
                break;
            }
            old = seen;
        }
        if !pi && old & WAITERS != 0 {
            self.sys.futexes.lock().wake(addr, 1, !0);
        }
        Ok(())
    }
}

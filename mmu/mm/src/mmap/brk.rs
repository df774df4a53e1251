//! The heap: brk.

use super::page_align;
use crate::arch::Arch;
use crate::error::Result;
use crate::mm::Mm;
use crate::vma::{Contents, Prot, VmFlags, Vma};

impl<A: Arch> Mm<A> {
    /// Where the heap begins: behind the program's data. Rounded up to a page.
    pub fn set_brk_start(&self, addr: u64) {
        let mut space = self.mmap_write();
        space.start_brk = (addr + Self::IN_PAGE) & !Self::IN_PAGE;
        space.brk = space.start_brk;
    }

    /// `brk(2)`: moves the end of the heap to `addr` if that can be done; answers where it is.
    pub fn brk(&self, addr: u64) -> Result<u64> {
        self.kernel().note(self.do_brk(addr))
    }

    fn do_brk(&self, addr: u64) -> Result<u64> {
        let mut space = self.mmap_write();
        let old = space.brk;
        if addr < space.start_brk {
            return Ok(old);
        }
        let (Some(new_end), Some(old_end)) = (page_align::<A>(addr), page_align::<A>(old)) else {
            return Ok(old);
        };
        if new_end < old_end {
            match self.do_munmap(&mut space, new_end, old_end - new_end) {
                Err(e) if e.is_finding() => return Err(e),
                Err(_) => return Ok(old),
                Ok(()) => {}
            }
        } else if new_end > old_end {
            let full = space.vmas.len() > self.kernel().config().max_map_count;
            if new_end > A::TASK_SIZE || full || !space.vmas.fits(old_end, new_end - old_end) {
                return Ok(old);
            }
            space.vmas.insert(Vma {
                start: old_end,
                end: new_end,
                prot: Prot::READ | Prot::WRITE,
                flags: VmFlags(0),
                contents: Contents::Anonymous,
                name: None,
            });
        }
        space.brk = addr;
        Ok(addr)
    }
}

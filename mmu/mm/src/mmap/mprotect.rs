//! mprotect.

use super::page_align;
use crate::arch::Arch;
use crate::error::{Errno, Result, sys};
use crate::mm::Mm;
use crate::vma::{Prot, VmFlags};

impl<A: Arch> Mm<A> {
    /// `mprotect(2)`. Up to the first hole the change is made even when the answer is ENOMEM.
    pub fn mprotect(&self, addr: u64, len: u64, prot: Prot) -> Result<()> {
        self.kernel().note(self.do_mprotect(addr, len, prot))
    }

    fn do_mprotect(&self, addr: u64, len: u64, prot: Prot) -> Result<()> {
        const OP: &str = "mprotect";
        // PROT_SEM (8) is accepted and means nothing; PROT_GROWSDOWN and PROT_GROWSUP are not modelled.
        if prot.0 & !0xf != 0 {
            return sys(OP, Errno::EINVAL, "unknown protection bits");
        }
        let prot = Prot(prot.0 & 7);
        if addr & Self::IN_PAGE != 0 {
            return sys(OP, Errno::EINVAL, "the address is not a multiple of the page size");
        }
        if len == 0 {
            return Ok(());
        }
        let end = page_align::<A>(len).and_then(|l| addr.checked_add(l)).filter(|&e| e > addr);
        let Some(end) = end else { return sys(OP, Errno::ENOMEM, "the length overflows") };
        let mut space = self.mmap_write();
        let mut at = addr;
        while at < end {
            let Some(v) = space.vmas.find(at) else { return sys(OP, Errno::ENOMEM, "a part is not mapped") };
            if v.flags.contains(VmFlags::NO_MAY_WRITE) && prot.contains(Prot::WRITE) {
                return sys(OP, Errno::EACCES, "the mapping may not be written");
            }
            let stop = v.end.min(end);
            if v.prot != prot {
                if space.vmas.len() + space.vmas.cuts(at, stop) > self.kernel().config().max_map_count {
                    return sys(OP, Errno::ENOMEM, "too many mappings");
                }
                for mut part in space.vmas.remove(at, stop) {
                    part.prot = prot;
                    self.kernel().change_protection(self, &part, part.start, part.end)?;
                    space.vmas.insert(part);
                }
                A::flush_mm_lazy(self.kernel(), self)?;
            }
            at = stop;
        }
        Ok(())
    }
}

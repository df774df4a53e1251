//! Copies between hosted code and user memory, page by page, with demand paging inside.

use crate::arch::{Arch, FaultInfo, PteFormat};
use crate::error::{MmError, Result};
use crate::mm::Mm;
use racewalk_cpu::Access;
use racewalk_ram::{Paddr, RamError, Vaddr};
use racewalk_sched::{point, this_cpu};
use racewalk_walk::WalkStop;

macro_rules! scalars {
    ($($get:ident, $put:ident, $ty:ty);*) => {$(
        #[doc = concat!("Reads a big-endian `", stringify!($ty), "`; no alignment needed, atomic if aligned or not.")]
        pub fn $get(&self, addr: u64) -> Result<$ty> {
            let mut b = [0; size_of::<$ty>()];
            self.copy_from_user(&mut b, addr)?;
            Ok(<$ty>::from_be_bytes(b))
        }
        #[doc = concat!("Writes a big-endian `", stringify!($ty), "`.")]
        pub fn $put(&self, addr: u64, v: $ty) -> Result<()> {
            self.copy_to_user(addr, &v.to_be_bytes())
        }
    )*};
}

impl<A: Arch> Mm<A> {
    /// Runs `f` on the absolute address of `va`, a byte that may be accessed so; resolves faults first. On a CPU
    /// that runs this space it is a hardware access; elsewhere the tables are looked up under their lock.
    fn user_page<R>(
        &self,
        va: u64,
        access: Access,
        mut f: impl FnMut(Paddr) -> Result<R, RamError>,
    ) -> Result<R> {
        let k = self.kernel();
        loop {
            point("uaccess");
            let cpu = this_cpu();
            let fault = if cpu < k.cpus.count() && A::is_loaded(&k.cpus, cpu, self.context()) {
                match A::user_piece(k, Vaddr(va), access, &mut f) {
                    Ok(r) => return Ok(r?),
                    Err(WalkStop::Fault(fault)) if k.note(A::refill(self, &fault))? => continue,
                    Err(WalkStop::Fault(fault)) => A::fault(&fault),
                    // The next scheduling point unwinds.
                    Err(WalkStop::Cancelled) => continue,
                }
            } else {
                if let Some(r) = self.remote_page(va, access, &mut f)? {
                    return Ok(r);
                }
                FaultInfo { vaddr: Vaddr(va), need: access.into(), corrupt: false }
            };
            self.resolve(&fault).map_err(|_| MmError::UserFault { addr: va })?;
        }
    }

    fn remote_page<R>(
        &self,
        va: u64,
        access: Access,
        f: &mut impl FnMut(Paddr) -> Result<R, RamError>,
    ) -> Result<Option<R>> {
        let k = self.kernel();
        let Some(pmd) = k.pmd_offset(self, Vaddr(va))? else { return Ok(None) };
        let Some(l) = k.pte_map_lock(pmd, Vaddr(va))? else { return Ok(None) };
        let pte = l.load()?;
        if !pte.valid() || (access == Access::Store && !pte.stores()) {
            return Ok(None);
        }
        Ok(Some(f(pte.frame().paddr().offset(va & (k.page_size() - 1)))?))
    }

    fn pieces(addr: u64, len: usize) -> impl Iterator<Item = (u64, std::ops::Range<usize>)> {
        let page = 1u64 << A::PAGE_SHIFT;
        let mut at = 0;
        std::iter::from_fn(move || {
            (at < len).then(|| {
                let a = addr.wrapping_add(at as u64);
                let n = ((page - (a & (page - 1))) as usize).min(len - at);
                at += n;
                (a, at - n..at)
            })
        })
    }

    /// Copies from user memory. On [`MmError::UserFault`] the bytes before the address are valid.
    pub fn copy_from_user(&self, out: &mut [u8], addr: u64) -> Result<()> {
        let ram = self.kernel().ram.clone();
        for (a, r) in Self::pieces(addr, out.len()) {
            let part = &mut out[r];
            self.user_page(a, Access::Load, |p| ram.read(p, part))?;
        }
        Ok(())
    }

    /// How many bytes from `addr` on, at most `len`, can be stored to: pages are brought in as by stores.
    pub fn fault_in_writable(&self, addr: u64, len: usize) -> usize {
        Self::pieces(addr, len)
            .take_while(|(a, _)| self.user_page(*a, Access::Store, |_| Ok(())).is_ok())
            .map(|(_, r)| r.len())
            .sum()
    }

    /// Copies to user memory. On [`MmError::UserFault`] the bytes before the address are written.
    pub fn copy_to_user(&self, addr: u64, bytes: &[u8]) -> Result<()> {
        let ram = self.kernel().ram.clone();
        for (a, r) in Self::pieces(addr, bytes.len()) {
            self.user_page(a, Access::Store, |p| ram.write(p, &bytes[r.clone()]))?;
        }
        Ok(())
    }

    /// Zeroes user memory.
    pub fn clear_user(&self, addr: u64, len: u64) -> Result<()> {
        let ram = self.kernel().ram.clone();
        let Ok(len) = usize::try_from(len) else { return Err(MmError::UserFault { addr }) };
        for (a, r) in Self::pieces(addr, len) {
            self.user_page(a, Access::Store, |p| ram.fill(p, 0, r.len() as u64))?;
        }
        Ok(())
    }

    /// Reads a string up to its zero byte (not included), at most `max` bytes; without a zero byte among them the
    /// answer has `max` bytes.
    pub fn read_cstr(&self, addr: u64, max: usize) -> Result<Vec<u8>> {
        let mut s = Vec::new();
        for (a, r) in Self::pieces(addr, max) {
            let from = s.len();
            s.resize(from + r.len(), 0);
            self.copy_from_user(&mut s[from..], a)?;
            if let Some(n) = s[from..].iter().position(|&b| b == 0) {
                s.truncate(from + n);
                break;
            }
        }
        Ok(s)
    }

    scalars! {
        get_user_u8, put_user_u8, u8;
        get_user_u16, put_user_u16, u16;
        get_user_u32, put_user_u32, u32;
        get_user_u64, put_user_u64, u64
    }

    /// Loads an aligned big-endian word as one access (futex).
    pub fn load_user_u32(&self, addr: u64) -> Result<u32> {
        if addr & 3 != 0 {
            return Err(MmError::UserFault { addr });
        }
        let ram = self.kernel().ram.clone();
        self.user_page(addr, Access::Load, |p| ram.load_u32(p))
    }

    /// Atomic compare and swap of an aligned big-endian word (futex); returns the old value. Unaligned addresses
    /// fault.
    pub fn cmpxchg_user_u32(&self, addr: u64, expected: u32, new: u32) -> Result<u32> {
        if addr & 3 != 0 {
            return Err(MmError::UserFault { addr });
        }
        let ram = self.kernel().ram.clone();
        let shift = if addr & 4 == 0 { 32 } else { 0 };
        self.user_page(addr, Access::Store, |p| {
            let p = Paddr(p.0 & !7);
            let mut old = ram.load_u64(p)?;
            loop {
                let word = (old >> shift) as u32;
                if word != expected {
                    return Ok(word);
                }
                let want = old & !(0xffff_ffff << shift) | (new as u64) << shift;
                match ram.cas_u64(p, old, want)? {
                    seen if seen == old => return Ok(word),
                    seen => old = seen,
                }
            }
        })
    }
}

//! Guest memory accesses of one CPU: the fast-TLB path, and everything that misses it.
//!
//! The interpreter calls these directly; translated code has the fast path inline and comes here on a miss, so
//! both make the same accesses in the same order.

use crate::core::{Core, FAST_TLB, GRANULE, GRANULE_SHIFT, Piece};
use racewalk_isa::{Access, Endian, Env, Exc, MemOp, Rmw, Slot};
use racewalk_ram::{Paddr, raw};

/// Puts a loaded little-endian host value of `m.size` bytes into a guest value.
#[inline(always)]
fn extend(m: MemOp, v: u64) -> u64 {
    match (m.size, m.signed) {
        (1, false) => v as u8 as u64,
        (1, true) => v as i8 as u64,
        (2, false) => v as u16 as u64,
        (2, true) => v as i16 as u64,
        (4, false) => v as u32 as u64,
        (4, true) => v as i32 as u64,
        _ => v,
    }
}

/// Reads `size` bytes at a host address as a number in the byte order of `m`.
///
/// # Safety
/// `p` points to `m.size` bytes of guest memory.
#[inline(always)]
unsafe fn host_load(m: MemOp, p: *const u8) -> u64 {
    // SAFETY: the caller vouches for the bytes.
    unsafe {
        match (m.size, m.endian) {
            (1, _) => raw::ld8(p) as u64,
            (2, Endian::Big) => raw::ld16(p).swap_bytes() as u64,
            (2, Endian::Little) => raw::ld16(p) as u64,
            (4, Endian::Big) => raw::ld32(p).swap_bytes() as u64,
            (4, Endian::Little) => raw::ld32(p) as u64,
            (_, Endian::Big) => raw::ld64(p).swap_bytes(),
            (_, Endian::Little) => raw::ld64(p),
        }
    }
}

/// Writes the low `size` bytes of `v` at a host address in the byte order of `m`.
///
/// # Safety
/// `p` points to `m.size` bytes of guest memory.
#[inline(always)]
unsafe fn host_store(m: MemOp, p: *mut u8, v: u64) {
    // SAFETY: the caller vouches for the bytes.
    unsafe {
        match (m.size, m.endian) {
            (1, _) => raw::st8(p, v as u8),
            (2, Endian::Big) => raw::st16(p, (v as u16).swap_bytes()),
            (2, Endian::Little) => raw::st16(p, v as u16),
            (4, Endian::Big) => raw::st32(p, (v as u32).swap_bytes()),
            (4, Endian::Little) => raw::st32(p, v as u32),
            (_, Endian::Big) => raw::st64(p, v.swap_bytes()),
            (_, Endian::Little) => raw::st64(p, v),
        }
    }
}

fn order(m: MemOp, size: u8, v: u64) -> u64 {
    match (m.endian, size) {
        (Endian::Little, _) | (_, 1) => v,
        (Endian::Big, 2) => (v as u16).swap_bytes() as u64,
        (Endian::Big, 4) => (v as u32).swap_bytes() as u64,
        (Endian::Big, _) => v.swap_bytes(),
    }
}

/// Where an access goes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reached {
    /// Host address of the byte asked for.
    pub host: *mut u8,
    /// A store must be told to the MMU, with this physical address: the frame has code, or had when it was asked.
    pub told: Option<Paddr>,
}

impl Core {
    /// Loads through the fast TLB, or slowly.
    #[inline(always)]
    pub fn load(&mut self, m: MemOp, addr: u64) -> Result<u64, Exc> {
        let e = self.tlb_read[(addr >> GRANULE_SHIFT) as usize & (FAST_TLB - 1)];
        if addr.wrapping_sub(e.tag) <= GRANULE - m.size as u64 && m.align.is_none() && m.space == 0 {
            // SAFETY: a fast entry that hits translates the whole access; it is dropped before its frame changes
            // hands (invalidations complete only after this CPU's next poll).
            return Ok(extend(m, unsafe { host_load(m, addr.wrapping_add(e.addend) as *const u8) }));
        }
        self.slow_load(m, addr)
    }

    /// Stores through the fast TLB, or slowly.
    #[inline(always)]
    pub fn store(&mut self, m: MemOp, addr: u64, v: u64) -> Result<(), Exc> {
        let e = self.tlb_write[(addr >> GRANULE_SHIFT) as usize & (FAST_TLB - 1)];
        if addr.wrapping_sub(e.tag) <= GRANULE - m.size as u64 && m.align.is_none() && m.space == 0 {
            // SAFETY: as in `load`.
            unsafe { host_store(m, addr.wrapping_add(e.addend) as *mut u8, v) };
            return Ok(());
        }
        self.slow_store(m, addr, v)
    }

    /// Where the byte at `addr` is, and the rest of its granule: through the fast TLB, or slowly. Translated code has
    /// the first part inline, so the MMU is asked in the same cases.
    pub(crate) fn piece(&mut self, addr: u64, access: Access, space: u8) -> Result<Reached, Exc> {
        let tlb = if access == Access::Store { &self.tlb_write } else { &self.tlb_read };
        let e = tlb[(addr >> GRANULE_SHIFT) as usize & (FAST_TLB - 1)];
        if access != Access::Fetch && space == 0 && addr.wrapping_sub(e.tag) < GRANULE {
            return Ok(Reached { host: addr.wrapping_add(e.addend) as *mut u8, told: None });
        }
        let mut p = self.ask(addr, access, space)?;
        if let Some(u) = &mut self.undo
            && access == Access::Store
        {
            if u.recording() {
                u.save(&p);
                p.cacheable = false;
            } else if u.hit_frame(p.paddr) {
                p.cacheable = false;
            }
        }
        if p.cacheable && space == 0 {
            self.fill(addr, access, &p);
        }
        Ok(Reached { host: p.host, told: (!p.cacheable).then_some(p.paddr) })
    }

    /// A schedule takes walks that come again and again for a livelock, unless it hears that instructions end. A change of the
    /// budget says that a block begins, the second one that the first block has ended.
    fn get_on(&mut self) {
        let (budget, changes) = self.asked_at;
        if self.budget != budget {
            self.asked_at = (self.budget, changes.saturating_add(1));
            if changes > 0 {
                racewalk_sched::progress();
            }
        }
    }

    /// Asks the MMU.
    fn ask(&mut self, addr: u64, access: Access, space: u8) -> Result<Piece, Exc> {
        self.get_on();
        self.publish();
        let asked = self.mmu.translate(addr, access, space);
        self.heard();
        let p = asked?;
        self.follow_evictions();
        Ok(p)
    }

    fn aligned(&self, m: MemOp, addr: u64) -> Result<(), Exc> {
        match m.align {
            Some(e) if addr & (m.size as u64 - 1) != 0 => Err(e),
            _ => Ok(()),
        }
    }

    fn crosses(addr: u64, len: u64) -> bool {
        (addr & (GRANULE - 1)) + len > GRANULE
    }

    fn stored(&mut self, p: &Reached, len: u64) {
        if let Some(paddr) = p.told {
            let mut hit = self.mmu.written(paddr, len);
            if let Some(u) = &mut self.undo {
                hit = u.wrote(paddr, hit);
            }
            if hit {
                self.code_written = 1;
            }
        }
    }

    /// A load that is not in the fast TLB, crosses granules, or has an alignment rule.
    #[inline(never)]
    pub fn slow_load(&mut self, m: MemOp, addr: u64) -> Result<u64, Exc> {
        self.aligned(m, addr)?;
        let size = m.size as u64;
        if !Self::crosses(addr, size) {
            let p = self.piece(addr, Access::Load, m.space)?;
            // SAFETY: `translate` vouches for the rest of the granule until the next poll.
            return Ok(extend(m, unsafe { host_load(m, p.host) }));
        }
        let mut bytes = [0; 8];
        self.read_space(addr, &mut bytes[..m.size as usize], m.space)?;
        let v = u64::from_le_bytes(bytes);
        Ok(extend(m, order(m, m.size, v)))
    }

    /// A store that is not in the fast TLB, crosses granules, has an alignment rule, or hits a frame with code.
    #[inline(never)]
    pub fn slow_store(&mut self, m: MemOp, addr: u64, v: u64) -> Result<(), Exc> {
        self.aligned(m, addr)?;
        let size = m.size as u64;
        if !Self::crosses(addr, size) {
            let p = self.piece(addr, Access::Store, m.space)?;
            // SAFETY: as in `slow_load`.
            unsafe { host_store(m, p.host, v) };
            self.stored(&p, size);
            return Ok(());
        }
        let bytes = order(m, m.size, v).to_le_bytes();
        self.write_space(addr, &bytes[..m.size as usize], m.space)
    }

    fn pieces(
        &mut self,
        addr: u64,
        len: u64,
        access: Access,
        space: u8,
    ) -> Result<(Reached, usize, Option<Reached>), Exc> {
        debug_assert!((1..=GRANULE).contains(&len));
        let first = self.piece(addr, access, space)?;
        let room = (GRANULE - (addr & (GRANULE - 1))).min(len) as usize;
        if room as u64 == len {
            return Ok((first, room, None));
        }
        let second = self.piece(addr.wrapping_add(room as u64), access, space)?;
        Ok((first, room, Some(second)))
    }

    fn read_space(&mut self, addr: u64, out: &mut [u8], space: u8) -> Result<(), Exc> {
        let (mut addr, mut out) = (addr, out);
        while !out.is_empty() {
            let n = out.len().min(GRANULE as usize);
            let (chunk, rest) = out.split_at_mut(n);
            let (a, room, b) = self.pieces(addr, n as u64, Access::Load, space)?;
            // SAFETY: each piece covers the rest of its granule until the next poll.
            unsafe {
                raw::read(a.host, &mut chunk[..room]);
                if let Some(b) = b {
                    raw::read(b.host, &mut chunk[room..]);
                }
            }
            addr = addr.wrapping_add(n as u64);
            out = rest;
        }
        Ok(())
    }

    fn write_space(&mut self, addr: u64, bytes: &[u8], space: u8) -> Result<(), Exc> {
        if bytes.is_empty() {
            return Ok(());
        }
        let (a, room, b) = self.pieces(addr, bytes.len() as u64, Access::Store, space)?;
        // SAFETY: as above.
        unsafe {
            raw::write(a.host, &bytes[..room]);
            if let Some(b) = &b {
                raw::write(b.host, &bytes[room..]);
            }
        }
        self.stored(&a, room as u64);
        if let Some(b) = &b {
            self.stored(b, bytes.len() as u64 - room as u64);
        }
        Ok(())
    }

    /// Loads 16 bytes: `(high, low)` in the byte order of `m`. Single-copy atomic if aligned.
    pub fn load_pair(&mut self, m: MemOp, addr: u64) -> Result<(u64, u64), Exc> {
        self.aligned(m, addr)?;
        let (first, second) = if addr & 15 == 0 {
            let p = self.piece(addr, Access::Load, m.space)?;
            // SAFETY: sixteen aligned bytes in one granule.
            unsafe { raw::ld128(p.host) }
        } else {
            let mut b = [0; 16];
            self.read_space(addr, &mut b, m.space)?;
            let v = u128::from_le_bytes(b);
            (v as u64, (v >> 64) as u64)
        };
        Ok(pair_order(m, (first, second)))
    }

    /// Stores 16 bytes; single-copy atomic if aligned.
    pub fn store_pair(&mut self, m: MemOp, addr: u64, v: (u64, u64)) -> Result<(), Exc> {
        self.aligned(m, addr)?;
        let (first, second) = pair_order(m, v);
        if addr & 15 != 0 {
            let b = (first as u128 | (second as u128) << 64).to_le_bytes();
            return self.write_space(addr, &b, m.space);
        }
        let p = self.piece(addr, Access::Store, m.space)?;
        // SAFETY: sixteen aligned bytes in one granule.
        unsafe { raw::st128(p.host, (first, second)) };
        self.stored(&p, 16);
        Ok(())
    }

    /// Atomic compare and swap; returns the old value, extended as `m` says. An operand that crosses granules (no
    /// architecture here allows one without an alignment rule) is not atomic as a whole.
    pub fn cas(&mut self, m: MemOp, addr: u64, expected: u64, new: u64) -> Result<u64, Exc> {
        self.aligned(m, addr)?;
        if Self::crosses(addr, m.size as u64) {
            self.probe(addr, m.size as u64, Access::Store)?;
            let old = self.slow_load(MemOp { signed: false, ..m }, addr)?;
            if old == extend(MemOp { signed: false, ..m }, expected) {
                self.slow_store(m, addr, new)?;
            }
            return Ok(old);
        }
        let p = self.piece(addr, Access::Store, m.space)?;
        let (e, n) = (order(m, m.size, expected), order(m, m.size, new));
        // SAFETY: the piece covers the access, which stays inside its granule.
        let old = unsafe {
            match m.size {
                1 => raw::cas8(p.host, e as u8, n as u8) as u64,
                2 => raw::cas16(p.host, e as u16, n as u16) as u64,
                4 => raw::cas32(p.host, e as u32, n as u32) as u64,
                _ => raw::cas64(p.host, e, n),
            }
        };
        self.stored(&p, m.size as u64);
        Ok(extend(m, order(m, m.size, old)))
    }

    /// Atomic compare and swap of 16 aligned bytes; returns the old `(high, low)`.
    pub fn cas_pair(
        &mut self,
        m: MemOp,
        addr: u64,
        expected: (u64, u64),
        new: (u64, u64),
    ) -> Result<(u64, u64), Exc> {
        self.aligned(m, addr)?;
        if addr & 15 != 0 {
            return Err(Exc::NOT_MODELLED);
        }
        let p = self.piece(addr, Access::Store, m.space)?;
        // SAFETY: sixteen aligned bytes in one granule.
        let old = unsafe { raw::cas128(p.host, pair_order(m, expected), pair_order(m, new)) };
        self.stored(&p, 16);
        Ok(pair_order(m, old))
    }

    /// Atomic read-modify-write of 4 or 8 bytes; returns the old value, extended as `m` says.
    pub fn rmw(&mut self, m: MemOp, op: Rmw, addr: u64, v: u64) -> Result<u64, Exc> {
        self.aligned(m, addr)?;
        let plain = MemOp { align: None, signed: false, ..m };
        let mut old = self.load(plain, addr)?;
        // A load that passed and a store that faults leave nothing behind: the CAS below is the only effect.
        loop {
            let new = op.apply(old, v);
            let seen = self.cas(plain, addr, old, new)?;
            if seen == old {
                return Ok(extend(m, old));
            }
            old = seen;
        }
    }

    /// Load-reserve of 4, 8 or 16 bytes.
    pub fn load_reserve(&mut self, m: MemOp, addr: u64) -> Result<(u64, u64), Exc> {
        let value = if m.size == 16 { self.load_pair(m, addr)? } else { (0, self.slow_load(m, addr)?) };
        self.reservation = crate::core::Reservation { addr, size: m.size, value };
        Ok(value)
    }

    /// Store-conditional by value: succeeds if the reservation is for this address and size and memory still holds
    /// the value that was seen.
    pub fn store_conditional(&mut self, m: MemOp, addr: u64, v: (u64, u64)) -> Result<bool, Exc> {
        self.aligned(m, addr)?;
        let r = std::mem::take(&mut self.reservation);
        if r.size != m.size || r.addr != addr {
            self.probe(addr, m.size as u64, Access::Store)?;
            return Ok(false);
        }
        Ok(if m.size == 16 {
            self.cas_pair(m, addr, r.value, v)? == r.value
        } else {
            let plain = MemOp { signed: false, ..m };
            self.cas(plain, addr, r.value.1, v.1)? == extend(plain, r.value.1)
        })
    }
}

fn pair_order(m: MemOp, (a, b): (u64, u64)) -> (u64, u64) {
    match m.endian {
        // (low address, high address) in host order <-> (high, low): its own inverse.
        Endian::Big => (a.swap_bytes(), b.swap_bytes()),
        Endian::Little => (b, a),
    }
}

impl Env for Core {
    fn get(&self, s: Slot) -> u64 {
        self.slots[s as usize]
    }
    fn set(&mut self, s: Slot, v: u64) {
        self.slots[s as usize] = v
    }
    fn load(&mut self, m: MemOp, addr: u64) -> Result<u64, Exc> {
        self.touch(addr, m.size as u64, false);
        Core::load(self, m, addr)
    }
    fn store(&mut self, m: MemOp, addr: u64, v: u64) -> Result<(), Exc> {
        self.touch(addr, m.size as u64, true);
        Core::store(self, m, addr, v)
    }
    fn probe(&mut self, addr: u64, len: u64, access: Access) -> Result<(), Exc> {
        if len == 0 {
            return Ok(());
        }
        let tlb = if access == Access::Store { &self.tlb_write } else { &self.tlb_read };
        let e = tlb[(addr >> GRANULE_SHIFT) as usize & (FAST_TLB - 1)];
        if access != Access::Fetch && len <= GRANULE && addr.wrapping_sub(e.tag) <= GRANULE - len {
            return Ok(());
        }
        self.pieces(addr, len, access, 0).map(|_| ())
    }
    fn read(&mut self, addr: u64, out: &mut [u8]) -> Result<(), Exc> {
        if !out.is_empty() {
            self.touch(addr, out.len() as u64, false)
        }
        let e = self.tlb_read[(addr >> GRANULE_SHIFT) as usize & (FAST_TLB - 1)];
        let n = out.len() as u64;
        if n <= GRANULE && addr.wrapping_sub(e.tag) <= GRANULE - n {
            // SAFETY: as in `load`.
            unsafe { raw::read(addr.wrapping_add(e.addend) as *const u8, out) };
            return Ok(());
        }
        self.read_space(addr, out, 0)
    }
    fn write(&mut self, addr: u64, bytes: &[u8]) -> Result<(), Exc> {
        if !bytes.is_empty() {
            self.touch(addr, bytes.len() as u64, true)
        }
        let e = self.tlb_write[(addr >> GRANULE_SHIFT) as usize & (FAST_TLB - 1)];
        let n = bytes.len() as u64;
        if n <= GRANULE && addr.wrapping_sub(e.tag) <= GRANULE - n {
            // SAFETY: as in `load`.
            unsafe { raw::write(addr.wrapping_add(e.addend) as *mut u8, bytes) };
            return Ok(());
        }
        self.write_space(addr, bytes, 0)
    }
    fn cas(&mut self, m: MemOp, addr: u64, expected: (u64, u64), new: (u64, u64)) -> Result<(u64, u64), Exc> {
        self.touch(addr, m.size as u64, true);
        if m.size == 16 {
            return Core::cas_pair(self, m, addr, expected, new);
        }
        Core::cas(self, m, addr, expected.1, new.1).map(|old| (0, old))
    }
    fn exclusively(
        &mut self,
        f: fn(&mut dyn Env, [u64; 4]) -> Result<u64, Exc>,
        args: [u64; 4],
    ) -> Result<u64, Exc> {
        let lock = self.exclusive.clone();
        let _held = lock.lock("cpu.exclusive");
        let done = f(self, args)?;
        // An instruction has ended: guests that take turns at these, as long as they like, are no livelock.
        racewalk_sched::progress();
        Ok(done)
    }
    fn end_block(&mut self) {
        self.code_written = 1
    }
    fn clock(&mut self) -> u64 {
        match &mut self.undo {
            Some(u) => u.clock(|| self.mmu.clock()),
            None => self.mmu.clock(),
        }
    }
    fn cpu(&self) -> u32 {
        self.mmu.cpu()
    }
}

/// The physical address of an instruction's first byte and, if it crosses into another granule, of the rest.
#[derive(Clone, Copy, Debug)]
pub struct FetchPiece {
    /// Host address.
    pub host: *const u8,
    /// Physical address.
    pub paddr: Paddr,
}

impl Core {
    /// Translates `pc` for an instruction fetch, through the fetch half of the fast TLB.
    #[inline]
    pub fn fetch_piece(&mut self, pc: u64) -> Result<FetchPiece, Exc> {
        let i = (pc >> GRANULE_SHIFT) as usize & 63;
        let e = self.tlb_fetch[i];
        if pc.wrapping_sub(e.tag) < GRANULE {
            return Ok(FetchPiece {
                host: pc.wrapping_add(e.addend) as *const u8,
                paddr: self.fetch_frames[i].paddr().offset(pc & (GRANULE - 1)),
            });
        }
        let p = self.ask(pc, Access::Fetch, 0)?;
        self.fill(pc, Access::Fetch, &p);
        Ok(FetchPiece { host: p.host, paddr: p.paddr })
    }
}

//! User memory as system calls see it.

use super::Task;
use crate::errno::Errno;
use racewalk_mm::MmError;

/// How many of `len` bytes from `addr` on a copy has done.
fn copied(r: Result<(), MmError>, addr: u64, len: usize) -> usize {
    match r {
        Ok(()) => len,
        Err(MmError::UserFault { addr: at }) => len.min(at.wrapping_sub(addr) as usize),
        Err(_) => 0,
    }
}

impl Task {
    /// Copies from user memory.
    pub fn copy_in(&self, addr: u64, out: &mut [u8]) -> Result<(), Errno> {
        self.sys.mm.copy_from_user(out, addr).map_err(|_| Errno::EFAULT)
    }

    /// Copies what can be read of `out.len()` bytes of user memory. How many.
    pub(crate) fn copy_in_some(&self, addr: u64, out: &mut [u8]) -> usize {
        copied(self.sys.mm.copy_from_user(out, addr), addr, out.len())
    }

    /// How many bytes of user memory can be stored to, of `len`. Asked before something is taken that a failing copy
    /// would lose.
    pub(crate) fn room(&self, addr: u64, len: usize) -> usize {
        self.sys.mm.fault_in_writable(addr, len)
    }

    /// Copies to user memory.
    pub fn copy_out(&self, addr: u64, bytes: &[u8]) -> Result<(), Errno> {
        self.sys.mm.copy_to_user(addr, bytes).map_err(|_| Errno::EFAULT)
    }

    /// Copies to user memory what can be stored. How many bytes.
    pub(crate) fn copy_out_some(&self, addr: u64, bytes: &[u8]) -> usize {
        copied(self.sys.mm.copy_to_user(addr, bytes), addr, bytes.len())
    }

    /// Reads a word of user memory.
    pub fn get_u32(&self, addr: u64) -> Result<u32, Errno> {
        let mut b = [0; 4];
        self.copy_in(addr, &mut b)?;
        Ok(u32::from_be_bytes(b))
    }

    /// Writes a word of user memory.
    pub fn put_u32(&self, addr: u64, v: u32) -> Result<(), Errno> {
        self.copy_out(addr, &v.to_be_bytes())
    }

    /// Reads a doubleword of user memory.
    pub fn get_u64(&self, addr: u64) -> Result<u64, Errno> {
        let mut b = [0; 8];
        self.copy_in(addr, &mut b)?;
        Ok(u64::from_be_bytes(b))
    }

    /// Writes a doubleword of user memory.
    pub fn put_u64(&self, addr: u64, v: u64) -> Result<(), Errno> {
        self.copy_out(addr, &v.to_be_bytes())
    }

    /// Reads a string that ends with a zero byte, of at most 4096 bytes with it.
    pub fn get_str(&self, addr: u64) -> Result<Vec<u8>, Errno> {
        let mut s = Vec::new();
        let mut at = addr;
        while s.len() < 4096 {
            let mut b = [0; 64];
            let n = (64 - (at & 63) as usize).min(4096 - s.len());
            self.copy_in(at, &mut b[..n])?;
            if let Some(end) = b[..n].iter().position(|&c| c == 0) {
                s.extend_from_slice(&b[..end]);
                return Ok(s);
            }
            s.extend_from_slice(&b[..n]);
            at = at.wrapping_add(n as u64);
        }
        Err(Errno::ENAMETOOLONG)
    }
}

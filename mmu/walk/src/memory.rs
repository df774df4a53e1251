//! Guest memory as a walker sees it where nobody schedules or observes: each access is one atomic access.

use crate::sparc64::sun4u::miss::KernelMemory;
use crate::{EntryStop, TableMemory};
use racewalk_ram::{Paddr, Ram, RamError};

fn outside(_: RamError) -> EntryStop {
    EntryStop::Addressing
}

impl TableMemory for Ram {
    #[inline]
    fn load_entry(&self, addr: Paddr) -> Result<u64, EntryStop> {
        self.load_u64(addr).map_err(outside)
    }
    #[inline]
    fn cas_entry(&self, addr: Paddr, expected: u64, new: u64) -> Result<u64, EntryStop> {
        self.cas_u64(addr, expected, new).map_err(outside)
    }
    #[inline]
    fn load_pair(&self, addr: Paddr) -> Result<[u64; 2], EntryStop> {
        Ram::load_pair(self, addr).map_err(outside)
    }
    #[inline]
    fn load_word(&self, addr: Paddr) -> Result<u32, EntryStop> {
        self.load_u32(addr).map_err(outside)
    }
    #[inline]
    fn store_byte(&self, addr: Paddr, byte: u8) -> Result<(), EntryStop> {
        self.store_u8(addr, byte).map_err(outside)
    }
}

impl KernelMemory for Ram {
    #[inline]
    fn store_entry(&self, addr: Paddr, value: u64) -> Result<(), EntryStop> {
        self.store_u64(addr, value).map_err(outside)
    }
    fn spin(&self, _tag: Paddr) -> Result<(), EntryStop> {
        std::hint::spin_loop();
        Ok(())
    }
}

//! TSB descriptors: what a guest tells its hypervisor of its TSBs, and the registers that this becomes.

use super::geometry::Config;
use super::hypercall::Refused;
use super::walk::Context;

/// TSBs of each class that a CPU has registers for.
pub const TSBS: usize = 4;

/// One of 32 bytes in the guest's memory, big-endian.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TsbDescriptor {
    /// Bytes 0-1: the page size that indexes it, the smallest in it.
    pub index_size: u16,
    /// Bytes 2-3: its ways.
    pub ways: u16,
    /// Bytes 4-7: its entries of 16 bytes.
    pub entries: u32,
    /// Bytes 8-11: the context register whose translations these are, whatever the tags say; [`Self::BY_TAG`]: the
    /// contexts are in the tags.
    pub context: u32,
    /// Bytes 12-15: the page sizes in it, bit n for size n. The tablewalk takes any from `index_size` on.
    pub sizes: u32,
    /// Bytes 16-23: the real address.
    pub base: u64,
    /// Bytes 24-31.
    pub reserved: u64,
}

impl TsbDescriptor {
    /// Its size in memory, in bytes.
    pub const BYTES: u64 = 32;
    /// To what address an array of them is aligned.
    pub const ALIGNMENT: u64 = 8;
    /// `context`: tags are compared with the context.
    pub const BY_TAG: u32 = u32::MAX;
    const CONTEXT_REGISTERS: u32 = 2;
    const ENTRIES_MIN: u32 = 512;
    const ENTRIES_MAX: u32 = 512 << 15;
    const ENTRY_BYTES: u64 = 16;

    /// From its four doublewords.
    pub fn from_words(words: [u64; 4]) -> TsbDescriptor {
        let [sizes, contexts, base, reserved] = words;
        TsbDescriptor {
            index_size: (sizes >> 48) as u16,
            ways: (sizes >> 32) as u16,
            entries: sizes as u32,
            context: (contexts >> 32) as u32,
            sizes: contexts as u32,
            base,
            reserved,
        }
    }

    /// Its four doublewords.
    pub fn words(&self) -> [u64; 4] {
        [
            u64::from(self.index_size) << 48 | u64::from(self.ways) << 32 | u64::from(self.entries),
            u64::from(self.context) << 32 | u64::from(self.sizes),
            self.base,
            self.reserved,
        ]
    }

    /// The register of a CPU in `c` that makes the tablewalk use this TSB, whose TTEs have real addresses.
    pub fn config(&self, c: &Context) -> Result<Config, Refused> {
        let size =
            u8::try_from(self.index_size).ok().filter(|&s| c.model.has(s)).ok_or(Refused::BadPageSize)?;
        if self.sizes & ((2 << size) - 1) != 1 << size {
            return Err(Refused::Invalid);
        }
        let range = Self::ENTRIES_MIN..=Self::ENTRIES_MAX;
        if self.ways != 1 || !self.entries.is_power_of_two() || !range.contains(&self.entries) {
            return Err(Refused::BadTsb);
        }
        if self.context != Self::BY_TAG && self.context >= Self::CONTEXT_REGISTERS || self.reserved != 0 {
            return Err(Refused::Invalid);
        }
        let bytes = u64::from(self.entries) * Self::ENTRY_BYTES;
        let base = c.real_memory(self.base, bytes).ok_or(Refused::NoRealAddress)?;
        if self.base & (bytes - 1) != 0 {
            return Err(Refused::BadAlignment);
        }
        let register = match self.context {
            0 => Config::USE_CONTEXT_0,
            1 => Config::USE_CONTEXT_1,
            _ => 0,
        };
        let log2 = (self.entries / Self::ENTRIES_MIN).trailing_zeros() as u8;
        Ok(Config(Config::new(base, size, log2).0 | Config::RA_NOT_PA | register))
    }
}

/// The registers for a list of descriptors, all of them or none.
pub fn configs(list: &[TsbDescriptor], c: &Context) -> Result<[Config; TSBS], Refused> {
    let mut all = [Config(0); TSBS];
    if list.len() > TSBS {
        return Err(Refused::Invalid);
    }
    for (to, d) in all.iter_mut().zip(list) {
        *to = d.config(c)?;
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sparc64::sun4v::geometry::{Model, RealRange};
    use racewalk_ram::Paddr;

    const GOOD: TsbDescriptor = TsbDescriptor {
        index_size: 0,
        ways: 1,
        entries: 1024,
        context: TsbDescriptor::BY_TAG,
        sizes: 0b0000_1011,
        base: 0x40_0000,
        reserved: 0,
    };

    fn context() -> Context {
        let mut c = Context { model: Model::T2, ..Context::default() };
        c.ranges[1] = RealRange::new(0x40_0000, 0x7f_e000, 0x1000_0000);
        c
    }

    #[test]
    fn a_descriptor_becomes_a_register() {
        assert_eq!(TsbDescriptor::from_words(GOOD.words()), GOOD);
        assert_eq!(GOOD.words()[..2], [0x0000_0001_0000_0400, 0xffff_ffff_0000_000b]);
        let c = context();
        let of = |d: TsbDescriptor| d.config(&c).unwrap();
        let plain = Config(Config::new(Paddr(0x1040_0000), 0, 1).0 | Config::RA_NOT_PA);
        assert_eq!(of(GOOD), plain);
        assert_eq!(of(TsbDescriptor { context: 0, ..GOOD }).0, plain.0 | Config::USE_CONTEXT_0);
        assert_eq!(of(TsbDescriptor { context: 1, ..GOOD }).0, plain.0 | Config::USE_CONTEXT_1);
        let large = of(TsbDescriptor { index_size: 3, sizes: 0b10_1000, entries: 512, ..GOOD });
        assert_eq!((large.page_size(), large.index_bits()), (3, 9));
        let all = configs(&[GOOD, GOOD], &c).unwrap();
        assert_eq!(all, [plain, plain, Config(0), Config(0)]);
    }

    /// Seen to fail with each of these tests left out.
    #[test]
    fn each_error() {
        let c = context();
        let of = |d: TsbDescriptor| d.config(&c).unwrap_err();
        assert_eq!(
            of(TsbDescriptor { index_size: 2, sizes: 4, ..GOOD }),
            Refused::BadPageSize,
            "T2 has no 512K"
        );
        assert_eq!(of(TsbDescriptor { index_size: 8, ..GOOD }), Refused::BadPageSize);
        assert_eq!(of(TsbDescriptor { index_size: 0x100, ..GOOD }), Refused::BadPageSize);
        assert_eq!(of(TsbDescriptor { sizes: 0b1010, ..GOOD }), Refused::Invalid, "its own is missing");
        assert_eq!(of(TsbDescriptor { index_size: 1, ..GOOD }), Refused::Invalid, "a smaller one is there");
        for ways in [0, 2] {
            assert_eq!(of(TsbDescriptor { ways, ..GOOD }), Refused::BadTsb);
        }
        for entries in [0, 256, 1000, 512 << 16] {
            assert_eq!(of(TsbDescriptor { entries, ..GOOD }), Refused::BadTsb, "{entries}");
        }
        assert_eq!(of(TsbDescriptor { context: 2, ..GOOD }), Refused::Invalid);
        assert_eq!(of(TsbDescriptor { reserved: 1, ..GOOD }), Refused::Invalid);
        assert_eq!(of(TsbDescriptor { base: 0x3f_c000, ..GOOD }), Refused::NoRealAddress);
        assert_eq!(of(TsbDescriptor { base: 0x7f_e000, ..GOOD }), Refused::NoRealAddress, "its end");
        assert_eq!(of(TsbDescriptor { base: 0x40_2000, ..GOOD }), Refused::BadAlignment);
        assert_eq!(configs(&[GOOD; 5], &c), Err(Refused::Invalid));
        assert_eq!(configs(&[GOOD, TsbDescriptor { ways: 4, ..GOOD }], &c), Err(Refused::BadTsb));
    }
}

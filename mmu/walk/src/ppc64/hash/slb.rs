//! The segment lookaside buffer (ISA 3.0B Book III 6.7.8.1 and 6.9.3.2; reference ppc64-mmu §1.3). A lookup tests all entries at
//! once, as the hardware does: an entry is a bit in a word, and for each four bits of an ESID there is a table of the entries
//! that have them.

use racewalk_ram::Vaddr;

/// Size of a segment: the B field.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash)]
pub enum SegmentSize {
    /// 256M.
    #[default]
    M256 = 0,
    /// 1T.
    T1 = 1,
}

impl SegmentSize {
    /// log2 of the bytes.
    pub const fn shift(self) -> u32 {
        match self {
            SegmentSize::M256 => 28,
            SegmentSize::T1 => 40,
        }
    }
    /// From the B field; 2 and 3 are reserved.
    pub fn from_bits(b: u64) -> Option<SegmentSize> {
        match b {
            0 => Some(SegmentSize::M256),
            1 => Some(SegmentSize::T1),
            _ => None,
        }
    }
}

/// ESID in RB of the SLB instructions (bits 0-35).
pub const ESID: u64 = !0xfff_ffff;
/// V in RB of `slbmte` (bit 36).
pub const RB_V: u64 = 0x800_0000;
/// The index in RB (bits 52-63).
pub const RB_INDEX: u64 = 0xfff;
/// B in RB of `slbie` and `slbieg` (bits 37-38).
pub const RB_B: u64 = 3 << 25;
/// C in RB of `slbie` and `slbieg` (bit 36).
pub const RB_C: u64 = 0x800_0000;

/// B in the VSID word (bits 0-1).
pub const VSID_B: u64 = 3 << 62;
/// VSID (bits 2-51), of segments of 1T without the last 12 bits.
pub const VSID: u64 = 0x3fff_ffff_ffff_f000;
/// Ks (bit 52): the key of privileged accesses.
pub const VSID_KS: u64 = 0x800;
/// Kp (bit 53): the key of accesses in problem state.
pub const VSID_KP: u64 = 0x400;
/// N (bit 54): no execute.
pub const VSID_N: u64 = 0x200;
/// L (bit 55), with LP: the base page size.
pub const VSID_L: u64 = 0x100;
/// C (bit 56): class.
pub const VSID_C: u64 = 0x80;
/// LP (bits 58-59).
pub const VSID_LP: u64 = 0x30;

/// A segment as an entry describes it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Segment {
    /// Virtual segment id: 50 bits, of segments of 1T 38.
    pub vsid: u64,
    /// Its size.
    pub size: SegmentSize,
    /// log2 of its base page size.
    pub base: u8,
    /// The entry's VSID word.
    pub word: u64,
}

impl Segment {
    /// What the VSID word describes; `None` if B, or L with LP, is reserved.
    pub fn from_word(word: u64) -> Option<Segment> {
        let size = SegmentSize::from_bits((word & VSID_B) >> 62)?;
        let base = match word & (VSID_L | VSID_LP) {
            0x000 => 12,
            0x110 => 16,
            0x100 => 24,
            0x120 => 34,
            _ => return None,
        };
        let shift = if size == SegmentSize::T1 { 24 } else { 12 };
        Some(Segment { vsid: (word & VSID) >> shift, size, base, word })
    }
}

/// Why no segment was found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SlbMiss {
    /// No entry, or one with reserved values.
    None,
    /// Several entries.
    Multiple,
}

/// Most entries that a buffer can have.
const MOST: usize = 64;
/// Groups of four bits of an ESID.
const GROUPS: usize = 9;

/// The buffer of one thread.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Slb {
    len: usize,
    /// ESID and V, as `slbmfee` returns them.
    esid: [u64; MOST],
    /// The VSID words.
    vsid: [u64; MOST],
    /// The same, decoded.
    segments: [Option<Segment>; MOST],
    /// For each group of four bits from the left, and each value: the valid entries that have it, or do not care.
    matching: [[u64; 16]; GROUPS],
}

impl Default for Slb {
    fn default() -> Self {
        Slb::new(32)
    }
}

impl Slb {
    /// An empty buffer with `entries` entries, 64 at most: 32 on POWER7 to POWER9, 64 on the 970.
    pub fn new(entries: usize) -> Slb {
        let len = entries.clamp(1, MOST);
        Slb { len, esid: [0; MOST], vsid: [0; MOST], segments: [None; MOST], matching: [[0; 16]; GROUPS] }
    }

    /// How many entries it has.
    pub fn entries(&self) -> usize {
        self.len
    }

    fn put(&mut self, n: usize, esid: u64, vsid: u64) {
        (self.esid[n], self.vsid[n]) = (esid, vsid);
        self.segments[n] = Segment::from_word(vsid);
        let bit = 1u64 << n;
        // The last three groups of a segment of 1T are inside it.
        let groups = if (vsid & VSID_B) >> 62 == SegmentSize::T1 as u64 { GROUPS - 3 } else { GROUPS };
        for (g, values) in self.matching.iter_mut().enumerate() {
            let own = (esid >> (60 - 4 * g)) as usize & 15;
            for (value, set) in values.iter_mut().enumerate() {
                let fits = esid & RB_V != 0 && (g >= groups || value == own);
                *set = if fits { *set | bit } else { *set & !bit };
            }
        }
    }

    /// The entries that translate `va`, a bit each.
    #[inline]
    fn find(&self, va: Vaddr) -> u64 {
        let mut found = u64::MAX;
        for (g, values) in self.matching.iter().enumerate() {
            found &= values[(va.0 >> (60 - 4 * g)) as usize & 15];
        }
        found
    }

    /// The segment of `va`.
    #[inline]
    pub fn lookup(&self, va: Vaddr) -> Result<&Segment, SlbMiss> {
        let found = self.find(va);
        if found & found.wrapping_sub(1) != 0 {
            return Err(SlbMiss::Multiple);
        }
        match self.segments.get(found.trailing_zeros() as usize) {
            Some(Some(s)) => Ok(s),
            _ => Err(SlbMiss::None),
        }
    }

    /// `slbmte RS,RB`: fills the entry that RB numbers; whether there is one.
    pub fn slbmte(&mut self, rs: u64, rb: u64) -> bool {
        let n = (rb & RB_INDEX) as usize;
        if n >= self.len {
            return false;
        }
        self.put(n, rb & (ESID | RB_V), rs & !0x4f);
        true
    }

    /// `slbmfee RT,RB`: ESID and V of the entry that RB numbers.
    pub fn slbmfee(&self, rb: u64) -> Option<u64> {
        let n = (rb & RB_INDEX) as usize;
        (n < self.len).then(|| self.esid[n])
    }

    /// `slbmfev RT,RB`: the VSID word of the entry that RB numbers.
    pub fn slbmfev(&self, rb: u64) -> Option<u64> {
        let n = (rb & RB_INDEX) as usize;
        (n < self.len).then(|| self.vsid[n])
    }

    /// `slbfee. RT,RB`: the VSID word of the entry for the ESID in RB, which goes with CR0\[EQ\] = 1; zero and EQ = 0 if there
    /// is none. Several entries are a machine check.
    pub fn slbfee(&self, rb: u64) -> Result<Option<u64>, SlbMiss> {
        let found = self.find(Vaddr(rb & ESID));
        match found.count_ones() {
            0 => Ok(None),
            1 => Ok(Some(self.vsid[found.trailing_zeros() as usize])),
            _ => Err(SlbMiss::Multiple),
        }
    }

    /// `slbie RB`: the entry whose ESID, B and C are those of RB is made invalid; how many were.
    pub fn slbie(&mut self, rb: u64) -> usize {
        let found = self.find(Vaddr(rb & ESID));
        let same = |v: u64| (v & VSID_B) >> 62 == (rb & RB_B) >> 25 && (v & VSID_C != 0) == (rb & RB_C != 0);
        self.drop(|n, v| found >> n & 1 != 0 && same(v))
    }

    /// `slbia IH`: which entries are made invalid depends on IH; how many were. 0, 1, 2 and 6 spare entry 0 and differ in the
    /// lookaside information that goes; 3 (ISA 3.0) takes class 1, 4 all, 7 none.
    pub fn slbia(&mut self, ih: u8) -> usize {
        match ih {
            3 => self.drop(|_, v| v & VSID_C != 0),
            4 => self.drop(|_, _| true),
            7 => 0,
            _ => self.drop(|n, _| n != 0),
        }
    }

    fn drop(&mut self, wanted: impl Fn(usize, u64) -> bool) -> usize {
        let mut gone = 0;
        for n in 0..self.len {
            if self.esid[n] & RB_V != 0 && wanted(n, self.vsid[n]) {
                self.put(n, self.esid[n] & !RB_V, self.vsid[n]);
                gone += 1;
            }
        }
        gone
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Entries 0 (256M at 0xc..0, class 0), 1 (256M at 0x1000_0000, class 1) and 2 (1T at 0x100_0000_0000, class 1).
    fn three() -> Slb {
        let mut s = Slb::default();
        assert!(s.slbmte(0x7 << 12 | VSID_KS, 0xc000_0000_0000_0000 | RB_V));
        assert!(s.slbmte(0x8 << 12 | VSID_C, 0x1000_0000 | RB_V | 1));
        assert!(s.slbmte(1 << 62 | 0x9 << 24 | VSID_C | 0x110, 0x100_0000_0000 | RB_V | 2));
        s
    }

    #[test]
    fn segments_are_found_by_their_size() {
        let s = three();
        let vsid = |va| s.lookup(Vaddr(va)).map(|s| (s.vsid, s.base));
        assert_eq!(vsid(0xc000_0000_0fff_ffff), Ok((7, 12)));
        assert_eq!(vsid(0xc000_0000_1000_0000), Err(SlbMiss::None));
        assert_eq!((vsid(0x1fff_ffff), vsid(0x2000_0000)), (Ok((8, 12)), Err(SlbMiss::None)));
        assert_eq!((vsid(0x1ff_ffff_ffff), vsid(0x200_0000_0000)), (Ok((9, 16)), Err(SlbMiss::None)));
    }

    #[test]
    fn two_entries_for_one_address_are_a_multiple_hit() {
        let mut s = three();
        assert!(s.slbmte(0x8 << 12, 0x1_0510_0000 | RB_V | 31));
        assert!(s.slbmte(0x8 << 12, 0x100_1000_0000 | RB_V | 30));
        assert_eq!(s.lookup(Vaddr(0x100_1234_5678)), Err(SlbMiss::Multiple));
        assert_eq!(s.slbfee(0x100_1000_0000), Err(SlbMiss::Multiple));
        assert!(!s.slbmte(0, RB_V | 32));
    }

    #[test]
    fn entries_are_read_back() {
        let s = three();
        assert_eq!((s.slbmfee(1), s.slbmfev(1)), (Some(0x1000_0000 | RB_V), Some(0x8 << 12 | VSID_C)));
        assert_eq!((s.slbmfee(3), s.slbmfee(32)), (Some(0), None));
        assert_eq!(s.slbfee(0x1000_0000), Ok(Some(0x8 << 12 | VSID_C)));
        assert_eq!(s.slbfee(0x2000_0000), Ok(None));
    }

    #[test]
    fn invalidations_take_what_they_name() {
        let after = |f: &dyn Fn(&mut Slb) -> usize| {
            let mut s = three();
            let gone = f(&mut s);
            let left = (0..3).filter(|n| s.slbmfee(*n).unwrap() & RB_V != 0).collect::<Vec<_>>();
            assert_eq!(gone + left.len(), 3);
            left
        };
        assert_eq!(after(&|s| s.slbie(0x1000_0000 | RB_C)), [0, 2]);
        assert_eq!(after(&|s| s.slbie(0x1000_0000)), [0, 1, 2], "another class");
        assert_eq!(after(&|s| s.slbie(0x100_0000_0000 | RB_C | 1 << 25)), [0, 1]);
        assert_eq!(after(&|s| s.slbie(0x100_0000_0000 | RB_C)), [0, 1, 2], "another size");
        for ih in [0, 1, 2, 6] {
            assert_eq!(after(&|s| s.slbia(ih)), [0]);
        }
        assert_eq!((after(&|s| s.slbia(3)), after(&|s| s.slbia(7))), (vec![0], vec![0, 1, 2]));
        assert_eq!(after(&|s| s.slbia(4)), [] as [u64; 0]);
    }
}

//! Radix trees in the words of Power ISA 3.0B Book III chapter 6, with bits numbered as there.

use crate::{Words, judge, tables};
use proptest::prelude::*;
use racewalk_ram::Vaddr;
use racewalk_walk::ppc64::radix::walk;
use racewalk_walk::ppc64::{Context, Denied, Fault, Mode, Reason, Update};
use racewalk_walk::text::Tables;
use racewalk_walk::{Access, WalkStop};

/// Bits `first` to `last` of a doubleword, bit 0 leftmost.
fn bits(x: u64, first: u32, last: u32) -> u64 {
    (x << first) >> (first + 63 - last)
}

fn bit(x: u64, n: u32) -> bool {
    bits(x, n, n) == 1
}

/// An interrupt's vector and registers.
type Interrupt = (u32, Vec<(&'static str, u64)>);
/// How an access ends: where it leads and log2 of the page, or an interrupt.
type End = Result<(u64, u32), Interrupt>;

/// Bit `n` of a 64-bit register, as DSISR and SRR1 are described.
const fn b(n: u32) -> u64 {
    1 << (63 - n)
}
const NO_TRANSLATION: u64 = b(33);
const NO_EXECUTE: u64 = b(35);
const PROTECTED: u64 = b(36);
const STORE: u64 = b(38);
const UNSUPPORTED: u64 = b(44);
const NOT_RECORDED: u64 = b(45);
const IN_TABLE: u64 = b(46);

struct Machine<'a> {
    words: Words,
    context: &'a Context,
    ea: u64,
    access: Access,
}

impl Machine<'_> {
    fn word(&self, at: u64) -> Result<u64, Interrupt> {
        self.words.get(&at).copied().ok_or((0x200, Vec::new()))
    }

    /// A storage interrupt of the partition's operating system.
    fn storage(&self, cause: u64) -> Interrupt {
        match self.access {
            Access::Fetch => (0x400, vec![("srr1", cause)]),
            Access::Store => (0x300, vec![("dsisr", cause | STORE), ("dar", self.ea)]),
            Access::Load => (0x300, vec![("dsisr", cause), ("dar", self.ea)]),
        }
    }

    /// One of the hypervisor, for an implicit or the explicit access.
    fn hypervisor(&self, cause: u64, kind: Access, gra: Option<u64>) -> Interrupt {
        let (vector, mut r) = match kind {
            Access::Fetch => (0xe20, vec![("hsrr1", cause)]),
            Access::Store => (0xe00, vec![("hdsisr", cause | STORE), ("hdar", self.ea)]),
            Access::Load => (0xe00, vec![("hdsisr", cause), ("hdar", self.ea)]),
        };
        r.extend(gra.map(|g| ("asdr", bits(g, 4, 51) << 12)));
        (vector, r)
    }

    /// The entry that maps an address of 52 bits: its value, its own address, and log2 of its page. `locate` gives the real
    /// address of an entry of the tree; `fail` the interrupt for a cause.
    fn leaf(
        &mut self,
        root: u64,
        address: u64,
        fail: &dyn Fn(&Self, u64) -> Interrupt,
        locate: &dyn Fn(&mut Self, u64) -> Result<u64, Interrupt>,
    ) -> Result<(u64, u64, u32), Interrupt> {
        // The address from its leftmost bit on is used up level by level.
        let (mut used, mut designator) = (12, root);
        for (level, widths) in [&[13][..], &[9], &[9], &[9, 5]].into_iter().enumerate() {
            let width = bits(designator, 59, 63);
            if !widths.contains(&width) {
                return Err(fail(self, UNSUPPORTED));
            }
            let index = bits(address, used, used + width as u32 - 1);
            used += width as u32;
            // The table is aligned to its size, 2^(width + 3).
            let table = bits(designator, 4, 60 - width as u32) << (width + 3);
            let at = table + 8 * index;
            let real = locate(self, at)?;
            let entry = self.word(real)?;
            if !bit(entry, 0) {
                return Err(fail(self, NO_TRANSLATION));
            }
            if bit(entry, 1) {
                return if level == 0 { Err(fail(self, UNSUPPORTED)) } else { Ok((entry, at, 64 - used)) };
            }
            designator = entry;
        }
        Err(fail(self, UNSUPPORTED))
    }

    fn size_is_52(root: u64) -> bool {
        bits(root, 1, 2) * 8 + bits(root, 56, 58) + 31 == 52
    }

    fn denied(pte: u64, kind: Access, no_load: bool, no_store: bool, no_fetch: bool, nothing: bool) -> u64 {
        let (read, write, execute) = (bit(pte, 61) || bit(pte, 62), bit(pte, 62), bit(pte, 63));
        match kind {
            Access::Fetch if bits(pte, 58, 59) == 2 || nothing || no_fetch || !execute => NO_EXECUTE,
            Access::Load if nothing || no_load || !read => PROTECTED,
            Access::Store if nothing || no_store || !write => PROTECTED,
            _ => 0,
        }
    }

    fn recorded(pte: u64, kind: Access) -> u64 {
        pte | b(55) | if kind == Access::Store { b(56) } else { 0 }
    }

    /// Partition-scoped translation: the real address and log2 of the page.
    fn partition_scoped(&mut self, root: u64, gra: u64, kind: Access, table: bool) -> End {
        let more = if table { IN_TABLE } else { 0 };
        let fail = move |m: &Self, cause| m.hypervisor(cause | more, kind, Some(gra));
        if !Self::size_is_52(root) || bits(root, 59, 63) != 13 {
            return Err(fail(self, UNSUPPORTED));
        }
        if bits(gra, 0, 11) != 0 {
            return Err(fail(self, NO_TRANSLATION));
        }
        let (pte, at, size) = self.leaf(root, gra, &fail, &|_, at| Ok(at))?;
        match Self::denied(pte, kind, false, false, false, false) {
            0 => {}
            cause => return Err(fail(self, cause)),
        }
        let after = Self::recorded(pte, kind);
        if after != pte {
            if self.context.update == Update::Interrupt {
                return Err(fail(self, NOT_RECORDED));
            }
            self.words.insert(at, after);
        }
        Ok((Self::join(pte, gra, size), size))
    }

    /// Page address from the entry, the rest from the address.
    fn join(pte: u64, address: u64, size: u32) -> u64 {
        let rpn = bits(pte, 7, 51) << 12;
        rpn / (1 << size) * (1 << size) + address % (1 << size)
    }

    fn translate(&mut self) -> End {
        let c = self.context;
        let (hv, pr) = (bit(c.msr, 3), bit(c.msr, 49));
        let on = bit(c.msr, if self.access == Access::Fetch { 58 } else { 59 });
        let ea = self.ea;
        let quadrant = bits(ea, 0, 1);
        let lpid = match (on, hv, quadrant) {
            (false, true, _) => {
                let offset = if bit(ea, 0) { 0 } else { c.hrmor };
                return Ok((bits(ea | offset, 4, 63), 12));
            }
            (true, true, 0 | 3) => 0,
            (true, false, 1 | 2) => {
                return Err(match self.access {
                    Access::Fetch => (0x480, Vec::new()),
                    _ => (0x380, vec![("dar", ea)]),
                });
            }
            _ => bits(c.lpidr, 52, 63),
        };
        if on && bits(ea, 2, 11) != 0 {
            return Err(match self.access {
                Access::Fetch => (0x480, Vec::new()),
                _ => (0x380, vec![("dar", ea)]),
            });
        }
        let pid = if quadrant < 2 { bits(c.pidr, 44, 63) } else { 0 };
        let entries = 1u64 << (bits(c.ptcr, 59, 63) + 8);
        if lpid >= entries || (lpid == 0 && !hv) {
            return Err(self.hypervisor(UNSUPPORTED, self.access, None));
        }
        let at = (bits(c.ptcr, 4, 51) << 12) + 16 * lpid;
        let (tree, processes) = (self.word(at)?, self.word(at + 8)?);
        if !bit(tree, 0) {
            return Err(self.hypervisor(UNSUPPORTED, self.access, None));
        }
        if !on {
            return self.partition_scoped(tree, bits(ea, 4, 63), self.access, false);
        }
        let base = bits(processes, 4, 51) << 12;
        let bytes = 4096u64 << bits(processes, 59, 63);
        if !base.is_multiple_of(bytes) {
            return Err(self.storage(UNSUPPORTED));
        }
        if pid >= bytes / 16 {
            return Err(self.storage(NO_TRANSLATION));
        }
        let locate = move |m: &mut Self, at: u64| match lpid {
            0 => Ok(at),
            _ => m.partition_scoped(tree, at, Access::Load, true).map(|(real, _)| real),
        };
        // The process table's own address is translated whatever the partition.
        let (at, _) = self.partition_scoped(tree, base + 16 * pid, Access::Load, true)?;
        let root = self.word(at)?;
        if !Self::size_is_52(root) || bits(root, 59, 63) != 13 {
            return Err(self.storage(UNSUPPORTED));
        }
        let address = bits(ea, 12, 63);
        let (pte, at, size) = self.leaf(root, address, &|m, cause| m.storage(cause), &locate)?;
        let privileged = bit(pte, 60);
        let key = !pr && !privileged;
        let cause = Self::denied(
            pte,
            self.access,
            key && bit(c.amr, 1),
            key && bit(c.amr, 0),
            key && bit(c.iamr, 1),
            pr && privileged,
        );
        if cause != 0 {
            return Err(self.storage(cause));
        }
        let after = Self::recorded(pte, self.access);
        if after != pte {
            if c.update == Update::Interrupt {
                return Err(self.storage(NOT_RECORDED));
            }
            let real = match lpid {
                0 => at,
                _ => self.partition_scoped(tree, at, Access::Store, true)?.0,
            };
            // The entry may have been the one that the store's own R and C went to.
            let now = self.word(real)?;
            if now != pte {
                return self.translate();
            }
            self.words.insert(real, after);
        }
        let gra = Self::join(pte, address, size);
        match lpid {
            0 => Ok((gra, size)),
            _ => {
                self.partition_scoped(tree, gra, self.access, false).map(|(ra, other)| (ra, size.min(other)))
            }
        }
    }
}

/// A case: registers, an address, and a path of entries with its mistakes.
#[derive(Clone, Debug)]
pub struct Case {
    /// Where everything is but a partition's memory.
    pub world: u64,
    pub hv: bool,
    pub pr: bool,
    pub on: bool,
    pub narrow: bool,
    pub lpid: u64,
    pid: u64,
    masks: (u64, u64),
    pub update: Update,
    pub ea: u64,
    pub access: Access,
    /// Depth of the process's leaf, and whether its last table has 2^5 entries.
    depth: usize,
    small: bool,
    leaf: u64,
    /// For each of six pieces of 2M of guest real memory: mapped by a table of 4K (1), 64K (2), or by a page of 2M.
    pieces: [u8; 6],
    piece_bits: u64,
    piece_wrong: (usize, u64),
    /// Bits that are inverted, by number of the entry as they are made.
    flips: Vec<(usize, u32)>,
    outside: Option<usize>,
}

const PTCR: u64 = 0x1_0000;
const PROCESSES: u64 = 0x8_0000;
const PIECE: u64 = 0x20_0000;
const FRAMES: u64 = 0x4000_0000;
const RADIX_52: u64 = 0x4000_0000_0000_00ad;

impl Case {
    pub fn context(&self) -> Context {
        let on = if self.on { b(58) | b(59) } else { 0 };
        let msr = if self.narrow { 0 } else { b(0) } | if self.hv { b(3) } else { 0 } | on;
        let msr = msr | if self.pr { b(49) } else { 0 };
        let (amr, iamr) = self.masks;
        let (lpidr, pidr, update) = (self.lpid, self.pid, self.update);
        Context {
            msr,
            ptcr: self.world + PTCR,
            lpidr,
            pidr,
            hrmor: 0x100_0000,
            amr,
            iamr,
            update,
            ..Context::default()
        }
    }

    /// Whether a root, the process's or the partition's, has a leaf: made so, or by a mistake in an entry.
    pub fn leaf_in_root(&self) -> bool {
        let roots = [self.world + PIECE, FRAMES + PIECE, self.world + 0x100_0000];
        self.build().iter().any(|(at, e)| roots.contains(&(at & !0xffff)) && bit(*e, 1))
    }

    pub fn build(&self) -> Words {
        let quadrant = self.ea >> 62;
        let lpid = if self.hv && self.on && (quadrant == 0 || quadrant == 3) { 0 } else { self.lpid };
        let pid = if quadrant < 2 { self.pid } else { 0 };
        let ea = if self.narrow { self.ea & 0xffff_ffff } else { self.ea };
        // Where the process's tables are, and what its entries say of that.
        let (offset, base) = if lpid == 0 { (self.world, self.world) } else { (FRAMES, 0) };
        let mut list = vec![
            (self.world + PTCR + 16 * lpid, b(0) | RADIX_52 | (self.world + 0x100_0000)),
            (self.world + PTCR + 16 * lpid + 8, PROCESSES),
            (FRAMES + PROCESSES + 16 * pid, RADIX_52 | (base + PIECE)),
        ];
        // Tables of the process: one a piece, from the second piece on. The page is in the last.
        let mut used = 12;
        for depth in 0..=self.depth {
            let width = [13, 9, 9, if self.small { 5 } else { 9 }][depth];
            let index = bits(ea, used, used + width - 1);
            used += width;
            let at = offset + PIECE * (depth as u64 + 1) + 8 * index;
            let next = match depth {
                2 if self.small => 5,
                _ => 9,
            };
            let entry = match depth == self.depth {
                true => b(0) | b(1) | (self.leaf ^ base),
                false => b(0) | (base + PIECE * (depth as u64 + 2)) | next,
            };
            list.push((at, entry));
        }
        list.push((self.world + 0x100_0000, b(0) | (self.world + 0x110_0000) | 9));
        list.push((self.world + 0x110_0000, b(0) | (self.world + 0x120_0000) | 9));
        for (i, kind) in self.pieces.iter().enumerate() {
            let at = self.world + 0x120_0000 + 8 * i as u64;
            let host = FRAMES + PIECE * i as u64;
            let mut permissions = self.piece_bits;
            if self.piece_wrong.0 == i {
                permissions = self.piece_wrong.1;
            }
            let table = self.world + 0x130_0000 + 0x1000 * i as u64;
            let (width, shift) = match kind {
                1 => (9, 12),
                2 => (5, 16),
                _ => {
                    list.push((at, b(0) | b(1) | host | permissions));
                    continue;
                }
            };
            list.push((at, b(0) | table | width));
            // Only the entries that the walk can want.
            let mut wanted: Vec<u64> =
                list.iter().filter(|(a, _)| a / PIECE == host / PIECE).map(|(a, _)| a % PIECE).collect();
            wanted.extend([PROCESSES + 16 * pid, self.leaf % PIECE]);
            wanted.push(ea % PIECE);
            for w in wanted {
                let page = w >> shift;
                list.push((table + 8 * page, b(0) | b(1) | (host + (page << shift)) | permissions));
            }
        }
        for &(n, bit) in &self.flips {
            let n = n % list.len();
            list[n].1 ^= b(bit);
        }
        if let Some(n) = self.outside {
            list.remove(n % list.len());
        }
        list.into_iter().collect()
    }
}

pub fn cases() -> impl Strategy<Value = Case> {
    let mostly = |p: f64| prop::bool::weighted(p);
    let access = prop_oneof![Just(Access::Load), Just(Access::Store), Just(Access::Fetch)];
    let lpid = prop_oneof![10 => Just(5u64), 3 => Just(0u64), 1 => Just(0x100), 1 => Just(0xff)];
    let pid = prop_oneof![8 => Just(1u64), 2 => Just(0u64), 1 => Just(0x100), 1 => Just(0xff)];
    let mask = || prop_oneof![6 => Just(0u64), 1 => (0u64..4).prop_map(|m| m << 62), 1 => any::<u64>()];
    let update = prop_oneof![Just(Update::Interrupt), Just(Update::Atomic)];
    let index = || prop_oneof![6 => 0u64..4, 1 => Just(511u64), 1 => 0u64..512];
    let quadrant = prop_oneof![5 => Just(0u64), 2 => Just(3u64), 1 => Just(1), 1 => Just(2)];
    let beyond = prop_oneof![12 => Just(0u64), 1 => 0u64..0x400];
    let root = prop_oneof![6 => 0u64..4, 1 => 0u64..0x2000];
    let ea = (quadrant, beyond, (root, index(), index(), index()), 0u64..0x1000).prop_map(
        |(q, beyond, (a, b, c, d), byte)| {
            q << 62 | beyond << 52 | a << 39 | b << 30 | c << 21 | d << 12 | byte
        },
    );
    let depth = prop_oneof![1 => Just(0usize), 2 => Just(1), 4 => Just(2), 12 => Just(3)];
    let flags = || {
        prop_oneof![
            6 => Just(0x187u64),
            2 => (0u64..16).prop_map(|e| 0x180 | e),
            1 => Just(0x107), 1 => Just(0x087), 1 => Just(0x007), 1 => Just(0x1a7),
            1 => 0u64..0x200
        ]
    };
    let frame = prop_oneof![6 => Just(5 * PIECE), 3 => (0u64..6).prop_map(|i| i * PIECE + 0x3000),
        1 => (0u64..1 << 45).prop_map(|f| f << 12)];
    let leaf = (flags(), frame).prop_map(|(f, page)| f | page);
    let bit = prop_oneof![2 => 0u32..64,
        5 => prop::sample::select(vec![0u32, 1, 2, 55, 56, 58, 59, 60, 61, 62, 63])];
    let flips = prop_oneof![3 => Just(Vec::new()), 2 => prop::collection::vec((0usize..24, bit), 1..3)];
    (
        (mostly(0.4), mostly(0.4), mostly(0.93), mostly(0.05), lpid, pid, (mask(), mask()), update),
        (ea, access, depth, mostly(0.3), leaf),
        (any::<[bool; 12]>(), flags(), (0usize..24, flags())),
        (flips, prop::option::weighted(0.05, 0usize..24)),
    )
        .prop_map(|(registers, path, partition, (flips, outside))| {
            let (hv, pr, on, narrow, lpid, pid, masks, update) = registers;
            let (ea, access, depth, small, leaf) = path;
            let (kinds, piece_bits, piece_wrong) = partition;
            let pieces = std::array::from_fn(|i| kinds[i] as u8 + kinds[i + 6] as u8);
            Case {
                world: 0,
                hv,
                pr,
                on,
                narrow,
                lpid,
                pid,
                masks,
                update,
                ea,
                access,
                depth,
                small,
                leaf,
                pieces,
                piece_bits,
                piece_wrong,
                flips,
                outside,
            }
        })
}

fn told(f: &Fault) -> End {
    Err((f.vector(), f.registers()))
}

fn contents(t: &Tables) -> Words {
    t.contents().into_iter().collect()
}

fn compare(case: &Case, seen: &mut dyn FnMut(&str)) -> Result<(), String> {
    let context = case.context();
    let memory = tables(&case.build());
    let va = context.effective(Vaddr(case.ea));
    let slow = |words: Words, access| {
        let mut m = Machine { words, context: &context, ea: va.0, access };
        let end = m.translate();
        (end, m.words)
    };
    let (manual, after) = slow(contents(&memory), case.access);
    let c = context.radix(va, case.access);
    let walked = walk(&memory, &c, va, case.access);
    let fast = match &walked {
        Ok(t) => Ok((t.paddr.0, t.shift as u32)),
        Err(WalkStop::Fault(f)) => told(f),
        Err(WalkStop::Cancelled) => return Err("cancelled without a schedule".into()),
    };
    let scope = |hypervisor| if hypervisor { "hypervisor: " } else { "" };
    match &walked {
        Ok(t) => seen(if t.leaf.partition.is_some() { "found in a partition" } else { "found" }),
        Err(WalkStop::Fault(f)) => seen(&format!("{}{}", scope(f.hypervisor), f.reason.name())),
        Err(WalkStop::Cancelled) => {}
    }
    if manual != fast {
        return Err(format!("by the manual {manual:x?}, the walker {fast:x?}"));
    }
    if after != contents(&memory) {
        return Err(format!(
            "by the manual memory is then {after:x?}, the walker left {:x?}",
            contents(&memory)
        ));
    }
    // What a TLB keeps must answer every further access as a walk does.
    let Ok(t) = walked else { return Ok(()) };
    if c.mode == Mode::HypervisorReal {
        return Ok(());
    }
    let entry = t.tlb_entry(&c, va);
    for access in Access::ALL {
        let kept = match c.check(&entry.leaf, va, access) {
            Ok(()) => Ok((entry.paddr(va).0, t.shift as u32)),
            Err(Denied::Fault(f)) => told(&f),
            Err(Denied::Walk) => continue,
        };
        let (manual, _) = slow(contents(&memory), access);
        if manual != kept {
            return Err(format!("{access} by the manual {manual:x?}, by the TLB {kept:x?}"));
        }
    }
    Ok(())
}

#[test]
fn ppc64_radix() {
    let mut all: Vec<_> = Reason::RADIX.iter().map(|r| r.name().to_string()).collect();
    // Of the hypervisor's, all but those that only the process has.
    let own = [Reason::Segment, Reason::Addressing];
    all.extend(
        Reason::RADIX.iter().filter(|r| !own.contains(r)).map(|r| format!("hypervisor: {}", r.name())),
    );
    all.extend(["found".to_string(), "found in a partition".to_string()]);
    judge(cases(), &all.iter().map(String::as_str).collect::<Vec<_>>(), compare);
}

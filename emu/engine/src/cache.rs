//! The code cache: every block of the machine, shared by its CPUs.

use crate::block::{Block, Key, build};
use crate::core::Core;
use crate::x86::{Arena, ArenaFull};
use racewalk_cpu::{Cpus, signal};
use racewalk_isa::{Arch, Exc};
use racewalk_ram::Pfn;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockWriteGuard};

/// How instructions are executed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Mode {
    /// Tiered: the interpreter first, translated code for blocks that run often.
    #[default]
    Auto,
    /// The interpreter only.
    Interp,
    /// Translated code from the first execution.
    Jit,
    /// Both, block by block, compared.
    Check,
}

impl std::str::FromStr for Mode {
    type Err = String;
    fn from_str(s: &str) -> Result<Mode, String> {
        Ok(match s {
            "auto" => Mode::Auto,
            "interp" => Mode::Interp,
            "jit" => Mode::Jit,
            "check" => Mode::Check,
            _ => return Err(format!("engine {s:?}; wanted auto, interp, jit or check")),
        })
    }
}

/// Interpreted runs of a block before it is translated in [`Mode::Auto`].
pub const HOT: u32 = 32;

/// Counters of the cache.
#[derive(Debug, Default)]
pub struct CacheStats {
    /// Blocks decoded.
    pub blocks: AtomicU64,
    /// Blocks translated.
    pub translated: AtomicU64,
    /// Guest instructions translated.
    pub insns: AtomicU64,
    /// Host bytes of translated code.
    pub bytes: AtomicU64,
    /// Blocks dropped because their bytes were written.
    pub dropped: AtomicU64,
    /// Times the code arena was full and replaced.
    pub flushes: AtomicU64,
}

/// An arena and where it is. A CPU holds on to it while it runs code from it.
pub struct Code<A: Arch> {
    // A host lock: never held across a scheduling point.
    arena: Mutex<Arena>,
    range: std::ops::Range<u64>,
    /// What was translated: entry and block, by entry. Code is only ever added at the end.
    blocks: Mutex<Vec<(u64, Arc<Block<A>>)>>,
}

impl<A: Arch> Code<A> {
    fn new(bytes: usize, records: bool) -> std::io::Result<Arc<Self>> {
        let mut arena = Arena::new(bytes)?;
        if records {
            arena.record()
        }
        let range = arena.range();
        Ok(Arc::new(Code { arena: Mutex::new(arena), range, blocks: Mutex::default() }))
    }

    /// The block whose translation a host address of this arena belongs to, and the number of its instruction at
    /// `pc`. The block may have left the cache since.
    pub fn find(&self, address: u64, pc: u64) -> Option<(Arc<Block<A>>, usize)> {
        let t = self.blocks.lock().unwrap_or_else(PoisonError::into_inner);
        let i = t.partition_point(|b| b.0 <= address).checked_sub(1)?;
        let block = t[i].1.clone();
        let at = block.insns.iter().position(|x| A::pc(x) == pc)?;
        Some((block, at))
    }

    fn arena(&self) -> MutexGuard<'_, Arena> {
        self.arena.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a host address is in this arena.
    pub fn holds(&self, address: u64) -> bool {
        self.range.contains(&address)
    }
}

struct Table<A: Arch> {
    blocks: HashMap<Key, Arc<Block<A>>>,
    by_frame: HashMap<Pfn, Vec<Key>>,
}

/// The blocks of one machine.
pub struct CodeCache<A: Arch> {
    cpus: Arc<Cpus>,
    mode: Mode,
    /// Translated code notes the pages that it touches.
    records: bool,
    table: RwLock<Table<A>>,
    code: Mutex<Arc<Code<A>>>,
    arena_bytes: usize,
    /// Counts replacements of the arena.
    generation: AtomicU64,
    /// Of the machine, see [`Core::exclusive`].
    exclusive: Arc<racewalk_sched::Lock>,
    /// Counters.
    pub stats: CacheStats,
}

impl<A: Arch> CodeCache<A> {
    /// An empty cache with room for `arena_bytes` of translated code.
    pub fn new(cpus: Arc<Cpus>, mode: Mode, arena_bytes: usize) -> std::io::Result<Arc<Self>> {
        Self::with(cpus, mode, arena_bytes, false)
    }

    /// The same, whose CPUs all note the pages that they touch ([`Core::record_runs`]).
    pub fn recording(cpus: Arc<Cpus>, mode: Mode, arena_bytes: usize) -> std::io::Result<Arc<Self>> {
        Self::with(cpus, mode, arena_bytes, true)
    }

    fn with(cpus: Arc<Cpus>, mode: Mode, arena_bytes: usize, records: bool) -> std::io::Result<Arc<Self>> {
        Ok(Arc::new(CodeCache {
            cpus,
            mode,
            records,
            table: RwLock::new(Table { blocks: HashMap::new(), by_frame: HashMap::new() }),
            code: Mutex::new(Code::new(arena_bytes, records)?),
            arena_bytes,
            generation: AtomicU64::new(0),
            exclusive: Arc::default(),
            stats: CacheStats::default(),
        }))
    }

    /// The lock behind [`racewalk_isa::Env::exclusively`].
    pub(crate) fn exclusive(&self) -> Arc<racewalk_sched::Lock> {
        self.exclusive.clone()
    }

    /// How instructions are executed.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Whether its CPUs note the pages that they touch.
    pub fn records(&self) -> bool {
        self.records
    }

    /// The port.
    pub fn cpus(&self) -> &Arc<Cpus> {
        &self.cpus
    }

    /// Changes whenever code became stale. A CPU compares it where the architecture lets it see other CPUs' stores
    /// to its code: when it begins to run, when it is told, and after its own stores to code. Not between any two
    /// blocks: how often that is depends on the engine.
    #[inline]
    pub fn epoch(&self) -> u64 {
        self.cpus.ram().code().epoch()
    }

    /// Changes whenever the arena was replaced; a CPU compares it between blocks.
    #[inline]
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::SeqCst)
    }

    /// The arena that new code goes to. A CPU holds on to it while it runs code from it.
    pub fn code(&self) -> Arc<Code<A>> {
        self.code.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The block at `core.pc`, found or made. Called between blocks.
    pub fn block(&self, core: &mut Core) -> Result<Arc<Block<A>>, Exc> {
        loop {
            let pc = core.pc;
            let paddr = core.fetch_piece(pc)?.paddr;
            let key = Key { pc, paddr };
            {
                let t = self.table.read().unwrap_or_else(PoisonError::into_inner);
                if let Some(b) = t.blocks.get(&key) {
                    if let Some(second) = b.second {
                        // The second page may have another frame by now.
                        let b = b.clone();
                        drop(t);
                        let edge = (pc | (crate::core::GRANULE - 1)).wrapping_add(1);
                        if core.fetch_piece(edge)?.paddr.pfn() == second {
                            return Ok(b);
                        }
                        self.remove(&mut self.table_mut(), &[key]);
                        continue;
                    }
                    return Ok(b.clone());
                }
            }
            if let Some(b) = self.make(core, pc)? {
                return Ok(b);
            }
        }
    }

    /// Decodes and enters the block at `pc`; `None` if somebody wrote to it meanwhile, or fast stores had to be
    /// revoked: then translations made before are void and the caller starts over.
    fn make(&self, core: &mut Core, pc: u64) -> Result<Option<Arc<Block<A>>>, Exc> {
        let code = self.cpus.ram().code();
        let epoch = code.epoch();
        let mut revoke = false;
        let built = build::<A>(core, pc, &mut |paddr, len| {
            revoke |= code.mark(paddr, len);
            !revoke
        });
        if revoke {
            core.publish();
            core.mmu.park();
            let revoked = racewalk_sched::controlled::catch(|| self.cpus.revoke_fast_stores());
            let drop = core.mmu.unpark();
            core.heard();
            core.apply(drop);
            return revoked.map(|()| None).map_err(|_| Exc::CANCELLED);
        }
        let Some(block) = built? else { return Ok(None) };
        let block = Arc::new(block);
        let mut t = self.table.write().unwrap_or_else(PoisonError::into_inner);
        if code.epoch() != epoch {
            return Ok(None);
        }
        if let Some(b) = t.blocks.get(&block.key) {
            return Ok(Some(b.clone()));
        }
        t.by_frame.entry(block.key.paddr.pfn()).or_default().push(block.key);
        if let Some(f) = block.second {
            t.by_frame.entry(f).or_default().push(block.key);
        }
        t.blocks.insert(block.key, block.clone());
        self.stats.blocks.fetch_add(1, Ordering::Relaxed);
        Ok(Some(block))
    }

    /// Drops blocks whose bytes were written since the last call, by any CPU, and tells the other CPUs.
    pub fn drop_stale(&self) {
        {
            // Taken under the table's lock: who finds nothing left to drop finds the table without it, too.
            let mut t = self.table_mut();
            let frames = self.cpus.ram().code().take_stale();
            if frames.is_empty() {
                return;
            }
            let keys: Vec<Key> = frames.iter().filter_map(|f| t.by_frame.remove(f)).flatten().collect();
            self.remove(&mut t, &keys);
        }
        self.kick(signal::CODE);
    }

    fn kick(&self, bits: u32) {
        let me = racewalk_sched::this_cpu();
        for c in (0..self.cpus.count()).filter(|&c| c != me) {
            self.cpus.kick(c, bits);
        }
    }

    fn table_mut(&self) -> RwLockWriteGuard<'_, Table<A>> {
        self.table.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn remove(&self, t: &mut Table<A>, keys: &[Key]) {
        let code = self.code();
        for k in keys {
            if let Some(b) = t.blocks.remove(k) {
                self.stats.dropped.fetch_add(1, Ordering::Relaxed);
                b.code.store(0, Ordering::SeqCst);
                for site in b.incoming().drain(..) {
                    if code.holds(site) {
                        code.arena().unpatch(site);
                    }
                }
            }
        }
    }

    /// Host address of the translation of `block`, made now if there is none. `None` when the arena was full and has
    /// been replaced: everything is forgotten and the caller starts over.
    pub fn translate(&self, block: &Arc<Block<A>>) -> Option<u64> {
        let mut slot = self.code.lock().unwrap_or_else(PoisonError::into_inner);
        let have = block.code.load(Ordering::SeqCst);
        if have != 0 {
            return Some(have);
        }
        let link = |t: u64| self.mode != Mode::Check && block.may_link(t);
        let made =
            crate::x86::translate::<A>(&mut slot.arena(), block.key.pc, &block.insns, block.next, &link);
        match made {
            Ok(t) => {
                self.stats.translated.fetch_add(1, Ordering::Relaxed);
                self.stats.insns.fetch_add(block.insns.len() as u64, Ordering::Relaxed);
                self.stats.bytes.fetch_add(t.bytes as u64, Ordering::Relaxed);
                slot.blocks.lock().unwrap_or_else(PoisonError::into_inner).push((t.entry, block.clone()));
                block.code.store(t.entry, Ordering::SeqCst);
                Some(t.entry)
            }
            Err(ArenaFull) => {
                // Without memory for code the interpreter goes on.
                *slot = Code::new(self.arena_bytes, self.records).ok()?;
                drop(slot);
                let mut t = self.table_mut();
                for b in t.blocks.values() {
                    b.code.store(0, Ordering::SeqCst);
                    b.incoming().clear();
                }
                t.blocks.clear();
                t.by_frame.clear();
                self.stats.flushes.fetch_add(1, Ordering::Relaxed);
                self.generation.fetch_add(1, Ordering::SeqCst);
                // A poll that drops nothing, so that they leave the old arena.
                self.kick(signal::INVALIDATE);
                None
            }
        }
    }

    /// Patches the jump at `site`, which is in the current arena, to lead to `block`. Not to one that has a second
    /// page: that page's translation may go while the first one's, which the jump is bound to, stays.
    pub fn link(&self, site: u64, block: &Block<A>) {
        if block.second.is_some() {
            return;
        }
        let arena = self.code();
        // Under the table's lock a block is either still known, or its incoming list has been drained for good.
        let t = self.table.read().unwrap_or_else(PoisonError::into_inner);
        let code = block.code.load(Ordering::SeqCst);
        if arena.holds(site) && arena.holds(code) && t.blocks.contains_key(&block.key) {
            block.incoming().push(site);
            arena.arena().patch(site, code);
        }
    }
}

//! Records of a stream, and how a frame's worth of them is written: in four columns, which compress apart.
//!
//! Runs of accesses are what nearly all records are. A page that was touched lately is named by its place in a table
//! of 64; another one by its distance from the last that was not there.

use crate::error::Malformed;
use crate::event::Event;
use crate::wire::{Input, Names, NamesRead, put, unzigzag, zigzag};
use std::fmt;

/// log2 of the size of the pages that runs are of.
pub const PAGE_SHIFT: u32 = 12;

/// One record of a stream.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Record {
    /// Consecutive data accesses to one page. They may go on in the next run if an event came between.
    Run {
        /// First address of the page (4 KiB).
        page: u64,
        /// The first of them is a store.
        store_first: bool,
        /// Loads.
        loads: u32,
        /// Stores.
        stores: u32,
    },
    /// Execution enters a page. A data run that has begun before may go on after it.
    Enter {
        /// First address of the page (4 KiB).
        page: u64,
        /// Instructions that the CPU has completed.
        instructions: u64,
    },
    /// An event.
    Event {
        /// Its place among the events of all streams.
        seq: u64,
        /// Instructions that the CPU has completed.
        instructions: u64,
        /// What happened.
        event: Event,
    },
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Record::Run { page, store_first, loads, stores } => {
                write!(f, "run {page:#x}")?;
                let parts = [(*loads, "load"), (*stores, "store")];
                let order = if *store_first { [1, 0] } else { [0, 1] };
                for (n, what) in order.map(|i| parts[i]).into_iter().filter(|p| p.0 > 0) {
                    write!(f, " {n} {what}{}", if n == 1 { "" } else { "s" })?
                }
                Ok(())
            }
            Record::Enter { page, instructions } => write!(f, "enter {page:#x} after {instructions}"),
            Record::Event { seq, instructions, event } => write!(f, "#{seq} @{instructions} {event}"),
        }
    }
}

/// Places in the table of pages.
const PLACES: usize = 64;

#[inline]
fn place(page: u64) -> usize {
    // Neighbouring pages, and pages at the same place of different regions, go apart.
    (page ^ page >> 6 ^ page >> 15) as usize & (PLACES - 1)
}

mod tag {
    /// Data runs that begin with a load: plus the place.
    pub const LOAD: u8 = 0;
    /// Data runs that begin with a store: plus the place.
    pub const STORE: u8 = 64;
    /// Entries into a page: plus the place.
    pub const ENTER: u8 = 128;
    /// The same three for a page that is in no place: plus 0, 1 or 2.
    pub const NEW: u8 = 192;
    pub const EVENT: u8 = 200;
}

/// What both directions remember from record to record within a frame.
#[derive(Debug)]
struct Memory {
    places: [u64; PLACES],
    page: u64,
    instructions: u64,
    seq: u64,
}

impl Memory {
    fn new() -> Self {
        Memory { places: [u64::MAX; PLACES], page: 0, instructions: 0, seq: 0 }
    }
}

/// A frame's worth of records being written.
#[derive(Debug)]
pub(crate) struct Columns {
    tags: Vec<u8>,
    counts: Vec<u8>,
    pages: Vec<u8>,
    events: Vec<u8>,
    names: Names,
    memory: Memory,
    records: u32,
    /// Sequence number of the first event.
    first_seq: Option<u64>,
}

impl Columns {
    pub fn new() -> Self {
        Columns {
            tags: Vec::with_capacity(1 << 20),
            counts: Vec::with_capacity(1 << 20),
            pages: Vec::new(),
            events: Vec::new(),
            names: Names::default(),
            memory: Memory::new(),
            records: 0,
            first_seq: None,
        }
    }

    pub fn records(&self) -> u32 {
        self.records
    }

    pub fn first_seq(&self) -> u64 {
        self.first_seq.unwrap_or(0)
    }

    /// Bytes so far.
    pub fn len(&self) -> usize {
        self.tags.len() + self.counts.len() + self.pages.len() + self.events.len()
    }

    #[inline]
    fn page(&mut self, kind: u8, page: u64) {
        let page = page >> PAGE_SHIFT;
        let at = place(page);
        if self.memory.places[at] == page {
            return self.tags.push(kind + at as u8);
        }
        self.memory.places[at] = page;
        self.tags.push(tag::NEW + kind / 64);
        put(&mut self.pages, zigzag(page.wrapping_sub(self.memory.page) as i64));
        self.memory.page = page
    }

    /// Adds a data run.
    #[inline]
    pub fn run(&mut self, page: u64, store_first: bool, loads: u32, stores: u32) {
        self.page(if store_first { tag::STORE } else { tag::LOAD }, page);
        let (first, other) = if store_first { (stores, loads) } else { (loads, stores) };
        put(&mut self.counts, (first as u64) << 1 | (other != 0) as u64);
        if other != 0 {
            put(&mut self.counts, other as u64)
        }
        self.records += 1
    }

    /// Adds an entry into a page.
    #[inline]
    pub fn enter(&mut self, page: u64, instructions: u64) {
        self.page(tag::ENTER, page);
        self.clock(instructions);
        self.records += 1
    }

    fn clock(&mut self, instructions: u64) {
        put(&mut self.counts, zigzag(instructions.wrapping_sub(self.memory.instructions) as i64));
        self.memory.instructions = instructions
    }

    /// Adds an event.
    pub fn event(&mut self, seq: u64, instructions: u64, event: &Event) {
        self.tags.push(tag::EVENT);
        self.clock(instructions);
        put(&mut self.events, zigzag(seq.wrapping_sub(self.memory.seq) as i64));
        self.memory.seq = seq;
        self.first_seq.get_or_insert(seq);
        event.put(&mut self.events, &mut self.names);
        self.records += 1
    }

    /// The frame's contents; starts over.
    pub fn take(&mut self) -> Vec<u8> {
        let all = [&mut self.tags, &mut self.counts, &mut self.pages, &mut self.events];
        let mut out = Vec::with_capacity(16 + all.iter().map(|c| c.len()).sum::<usize>());
        all.iter().for_each(|c| out.extend_from_slice(&(c.len() as u32).to_le_bytes()));
        for c in all {
            out.append(c)
        }
        self.names = Names::default();
        self.memory = Memory::new();
        self.records = 0;
        self.first_seq = None;
        out
    }
}

/// The records of a frame's contents.
#[derive(Debug)]
pub(crate) struct ColumnsRead<'a> {
    tags: Input<'a>,
    counts: Input<'a>,
    pages: Input<'a>,
    events: Input<'a>,
    names: NamesRead,
    memory: Memory,
}

impl<'a> ColumnsRead<'a> {
    pub fn new(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let mut all = Input::new(bytes);
        let mut lengths = [0; 4];
        for n in &mut lengths {
            let mut b = [0; 4];
            b.copy_from_slice(all.take(4)?);
            *n = u32::from_le_bytes(b) as u64
        }
        let mut column = |n: u64| all.take(n).map(Input::new);
        let [t, c, p, e] = lengths;
        let read = ColumnsRead {
            tags: column(t)?,
            counts: column(c)?,
            pages: column(p)?,
            events: column(e)?,
            names: NamesRead::default(),
            memory: Memory::new(),
        };
        if all.is_empty() { Ok(read) } else { Err(Malformed::Rest) }
    }

    fn clock(&mut self) -> Result<u64, Malformed> {
        let d = unzigzag(self.counts.number()?);
        self.memory.instructions = self.memory.instructions.wrapping_add(d as u64);
        Ok(self.memory.instructions)
    }

    fn count(&mut self) -> Result<u32, Malformed> {
        u32::try_from(self.counts.number()?).map_err(|_| Malformed::Number)
    }

    /// The next record; none behind the last.
    pub fn next(&mut self) -> Result<Option<Record>, Malformed> {
        if self.tags.is_empty() {
            let rest = [&self.counts, &self.pages, &self.events].iter().any(|c| !c.is_empty());
            return if rest { Err(Malformed::Rest) } else { Ok(None) };
        }
        let t = self.tags.byte()?;
        if t == tag::EVENT {
            let instructions = self.clock()?;
            let d = unzigzag(self.events.number()?);
            self.memory.seq = self.memory.seq.wrapping_add(d as u64);
            let event = Event::get(&mut self.events, &mut self.names)?;
            return Ok(Some(Record::Event { seq: self.memory.seq, instructions, event }));
        }
        let (kind, page) = if t < tag::NEW {
            let page = self.memory.places[t as usize & (PLACES - 1)];
            if page == u64::MAX {
                return Err(Malformed::Field("page"));
            }
            (t / 64, page)
        } else if t < tag::NEW + 3 {
            let page = self.memory.page.wrapping_add(unzigzag(self.pages.number()?) as u64);
            if page >> (64 - PAGE_SHIFT) != 0 {
                return Err(Malformed::Field("page"));
            }
            self.memory.page = page;
            self.memory.places[place(page)] = page;
            (t - tag::NEW, page)
        } else {
            return Err(Malformed::Kind(t));
        };
        let page = page << PAGE_SHIFT;
        if kind == 2 {
            return Ok(Some(Record::Enter { page, instructions: self.clock()? }));
        }
        let first = self.counts.number()?;
        let other = if first & 1 != 0 { self.count()? } else { 0 };
        let first = u32::try_from(first >> 1).map_err(|_| Malformed::Number)?;
        let store_first = kind == 1;
        let (loads, stores) = if store_first { (other, first) } else { (first, other) };
        Ok(Some(Record::Run { page, store_first, loads, stores }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Bytes, Hex, Side};
    use proptest::prelude::*;

    fn any_event() -> impl Strategy<Value = Event> {
        let text =
            prop_oneof!["[a-z]{0,12}".prop_map(|s| s.into()), Just::<std::sync::Arc<str>>("page".into())];
        prop_oneof![
            (any::<u64>(), any::<u64>()).prop_map(|(a, b)| Event::WalkStart {
                vaddr: Hex(a),
                access: Side::Store,
                root: Hex(b)
            }),
            (0..5u64, text.clone(), any::<u64>(), any::<u64>()).prop_map(|(level, table, a, b)| {
                Event::WalkStep { level, table, entry_addr: Hex(a), entry: Hex(b) }
            }),
            (any::<u64>(), any::<bool>()).prop_map(|(p, hit)| Event::Lookup {
                page: Hex(p),
                access: Side::Fetch,
                hit
            }),
            (text, proptest::collection::vec(any::<u8>(), 0..200))
                .prop_map(|(call, b)| Event::Answer { call, bytes: Bytes(b.into()) }),
            Just(Event::CrossCall {}),
        ]
    }

    fn any_record() -> impl Strategy<Value = Record> {
        let page =
            prop_oneof![0..100u64, any::<u64>().prop_map(|p| p >> PAGE_SHIFT)].prop_map(|p| p << PAGE_SHIFT);
        prop_oneof![
            8 => (page.clone(), any::<bool>(), any::<u32>(), prop_oneof![Just(0), any::<u32>()])
                .prop_map(|(page, store_first, loads, stores)| Record::Run { page, store_first, loads, stores }),
            4 => (page, any::<u64>()).prop_map(|(page, instructions)| Record::Enter { page, instructions }),
            1 => (any::<u64>(), any::<u64>(), any_event())
                .prop_map(|(seq, instructions, event)| Record::Event { seq, instructions, event }),
        ]
    }

    fn put_all(c: &mut Columns, all: &[Record]) {
        for r in all {
            match r {
                Record::Run { page, store_first, loads, stores } => {
                    c.run(*page, *store_first, *loads, *stores)
                }
                Record::Enter { page, instructions } => c.enter(*page, *instructions),
                Record::Event { seq, instructions, event } => c.event(*seq, *instructions, event),
            }
        }
    }

    proptest! {
        /// Records come back as they were, from a second frame of the same writer too.
        #[test]
        fn records_come_back(a in proptest::collection::vec(any_record(), 0..200), b in proptest::collection::vec(any_record(), 0..50)) {
            let mut c = Columns::new();
            for all in [a, b] {
                put_all(&mut c, &all);
                prop_assert_eq!(c.records() as usize, all.len());
                let bytes = c.take();
                let mut r = ColumnsRead::new(&bytes).unwrap();
                let mut seen = Vec::new();
                while let Some(x) = r.next().unwrap() {
                    seen.push(x)
                }
                prop_assert_eq!(seen, all);
            }
        }

        /// Whatever the bytes are, reading ends, without a panic.
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300), cut in 0usize..20) {
            let mut all = bytes;
            for (i, n) in [40u32, 20, 10, 0].into_iter().enumerate().take(cut) {
                if all.len() >= 16 { all[i * 4..i * 4 + 4].copy_from_slice(&n.to_le_bytes()) }
            }
            if let Ok(mut r) = ColumnsRead::new(&all) {
                while let Ok(Some(_)) = r.next() {}
            }
        }
    }

    #[test]
    fn alternating_pages_take_two_bytes_a_run() {
        let mut c = Columns::new();
        for i in 0..1000u64 {
            let stores = (i % 2) as u32;
            c.run((i % 3) << 16, stores == 1, 1 - stores, stores)
        }
        assert!(c.len() < 2100, "{}", c.len());
    }
}

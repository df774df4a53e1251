//! Files that are cut, bent or overwritten: everything whole is given, the rest named, and nothing panics.
//!
//! `RACEWALK_DAMAGE_SECONDS=3600` goes on changing bytes at random for that long (the test command: 2 seconds).

use racewalk_sched::controlled::Rng;
use racewalk_trace::event::{Event, Hex, Side};
use racewalk_trace::meta::{CpuCounts, EndNote, GuestMeta, MachineMeta, Meta};
use racewalk_trace::reader::Index;
use racewalk_trace::recorder::Output;
use racewalk_trace::{FileOutput, Record, Recording, Writer, check, diff, stats};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

fn meta() -> Meta {
    Meta {
        racewalk: "0".into(),
        machine: MachineMeta {
            arch: "s390x".into(),
            cpus: 2,
            memory: 1 << 24,
            scheme: "s390-66".into(),
            tlb: "kind = \"infinite\"".into(),
            engine: "auto".into(),
            speculate: false,
            sanitize: false,
        },
        guest: Some(GuestMeta {
            path: "guest".into(),
            args: vec!["guest".into()],
            env: Vec::new(),
            size: 5,
            blake3: blake3::hash(b"image").to_hex().to_string(),
            embedded: true,
        }),
        selection: Default::default(),
        replayable: None,
        finding: None,
    }
}

fn scratch(name: &str) -> PathBuf {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("damage");
    std::fs::create_dir_all(&dir).expect("a directory for files");
    dir.join(format!("{name}-{}.rwt", std::process::id()))
}

/// A recording of several frames a stream, and its records by stream.
fn sample(path: &Path) -> Vec<Vec<Record>> {
    let mut out = FileOutput::new(Writer::create(path, &meta(), Some(b"image")).expect("a file"));
    let mut all = vec![Vec::new(), Vec::new()];
    let mut r = Rng(7);
    for seq in 0..400u64 {
        let s = (seq % 2) as u32;
        for _ in 0..r.below(40) {
            let (page, store) = (r.below(300) << 12, r.below(3) == 0);
            let (loads, stores) = (r.below(5) as u32 + !store as u32, r.below(5) as u32 + store as u32);
            out.run(s, page, store, loads, stores);
            all[s as usize].push(Record::Run { page, store_first: store, loads, stores })
        }
        out.enter(s, seq << 12, seq * 100);
        all[s as usize].push(Record::Enter { page: seq << 12, instructions: seq * 100 });
        let start = Event::WalkStart { vaddr: Hex(seq << 12), access: Side::Load, root: Hex(1) };
        let fault = Event::WalkFault { vaddr: Hex(seq << 12), name: "page".into(), code: Hex(17) };
        for (k, event) in [start, fault].into_iter().enumerate() {
            out.event(s, 2 * seq + k as u64 + 1, seq * 100, event.clone());
            all[s as usize].push(Record::Event {
                seq: 2 * seq + k as u64 + 1,
                instructions: seq * 100,
                event,
            })
        }
        if seq % 40 == 39 {
            out.settle(true)
        }
    }
    let end = EndNote { how: "exited with status 0".into(), ..EndNote::default() };
    out.finish(&end).expect("complete");
    all
}

fn records(r: &Recording, s: u32) -> Vec<Record> {
    r.records(s).filter_map(Result::ok).collect()
}

/// How many CPUs a file speaks of is no reason to take memory.
#[test]
fn four_thousand_million_cpus_are_checked() {
    let (path, mut all) = (scratch("cpus"), meta());
    all.machine.cpus = u32::MAX;
    let w = Writer::create(&path, &all, Some(b"image")).expect("a file");
    w.finish(&EndNote::default()).expect("complete");
    let r = Recording::open(&path).expect("a recording");
    assert_eq!((r.meta.machine.cpus, use_all(&r)), (u32::MAX, 0));
}

/// Everything that a reader does, for what must not panic.
fn use_all(r: &Recording) -> usize {
    let c = check::check(r);
    let t = stats::TraceStats::of(r);
    let _ = (t.text(), r.image());
    c.wrong.len() + r.merged().count()
}

#[test]
fn what_was_written_comes_back() {
    let path = scratch("whole");
    let all = sample(&path);
    let r = Recording::open(&path).expect("a recording");
    assert!(r.index == Index::Good && r.damage.is_empty() && r.image().as_deref() == Some(b"image"));
    assert_eq!((r.meta.clone(), r.streams()), (meta(), vec![0, 1]));
    for s in [0, 1] {
        assert_eq!(records(&r, s), all[s as usize]);
    }
    let seqs: Vec<u64> = r
        .merged()
        .filter_map(|(_, x)| match x {
            Ok(Record::Event { seq, .. }) => Some(seq),
            _ => None,
        })
        .collect();
    assert_eq!(seqs, (1..=800).collect::<Vec<_>>(), "all events, in the order of all streams");
    let c = check::check(&r);
    // Sums are those of no run.
    assert_eq!(c.wrong, Vec::<String>::new());
    assert_eq!(c.missing, Vec::<String>::new());
    assert_eq!(diff::diff(Arc::new(Recording::open(&path).unwrap()), &r), Ok(None));
}

/// A prefix of what was written, frame by frame.
fn is_prefix(r: &Recording, all: &[Vec<Record>]) -> bool {
    (0..2).all(|s| all[s as usize].starts_with(&records(r, s)))
}

/// Cut before, at and behind every boundary of a frame: all frames before are there.
#[test]
fn a_file_that_is_cut_reads_to_its_last_whole_frame() {
    let path = scratch("cut");
    let all = sample(&path);
    let bytes = std::fs::read(&path).unwrap();
    let whole = Recording::open(&path).unwrap();
    assert!(whole.frames.len() > 20);
    let other = scratch("cut-short");
    for (n, f) in whole.frames.iter().enumerate() {
        for d in [-1i64, 0, 1, 4, 47, 48, 49] {
            let len = (f.at as i64 + d) as usize;
            if len >= bytes.len() {
                continue;
            }
            std::fs::write(&other, &bytes[..len]).unwrap();
            let r = match Recording::open(&other) {
                Ok(r) => r,
                // Without the first frame nothing says what it is.
                Err(e) => {
                    assert!(n <= 1, "{e} at {len}");
                    continue;
                }
            };
            let mut here = n;
            if d < 0 {
                here = here.saturating_sub(1)
            }
            assert_eq!(r.frames, whole.frames[..here], "cut at {len}");
            assert!(is_prefix(&r, &all) && r.index == Index::Missing);
            assert_eq!(r.damage.len(), (d != 0) as usize, "{:?}", r.damage);
            use_all(&r);
        }
    }
}

/// One bit of the header, of the first byte of the contents and of the last, of every frame: the others are there.
#[test]
fn a_bit_that_is_wrong_costs_one_frame() {
    let path = scratch("bits");
    sample(&path);
    let bytes = std::fs::read(&path).unwrap();
    let whole = Recording::open(&path).unwrap();
    let other = scratch("bits-bent");
    let mut r = Rng(3);
    for f in whole.frames.iter().skip(1) {
        let len = 48 + f.header.stored as usize;
        for at in [0, 4, 9, 20, 36, 44, 48, len - 1] {
            let mut b = bytes.clone();
            b[f.at as usize + at] ^= 1 << r.below(8);
            std::fs::write(&other, &b).unwrap();
            let bent = Recording::open(&other).unwrap();
            let (frames, damage) = bent.examine();
            assert_eq!(
                frames.len() + 1,
                whole.frames.len(),
                "byte {at} of the frame at {:#x}: {damage:?}",
                f.at
            );
            assert_eq!(damage.len(), 1, "{damage:?}");
            assert_eq!((damage[0].at, damage[0].len), (f.at, len as u64));
            assert!(use_all(&bent) > 0 || f.header.records == 0);
            assert!(!check::check(&bent).wrong.is_empty())
        }
    }
}

/// One bit of the file's header or of its trailer: all records are there, and it is not well. Seen to fail with checksums that
/// nobody looked at.
#[test]
fn a_bit_that_is_wrong_at_either_end_is_told() {
    let path = scratch("ends");
    let all = sample(&path);
    let bytes = std::fs::read(&path).unwrap();
    let other = scratch("ends-bent");
    for at in (0..64).chain(bytes.len() - 24..bytes.len()) {
        let mut b = bytes.clone();
        b[at] ^= 1 << (at % 8);
        std::fs::write(&other, &b).unwrap();
        let bent = Recording::open(&other).unwrap();
        assert!((0..2).all(|s| records(&bent, s) == all[s as usize]), "byte {at}");
        let c = check::check(&bent);
        assert!(c.wrong.len() == 1 && c.wrong[0].contains("are lost"), "byte {at}: {c:?}");
    }
}

/// A frame as anybody can make it, with its checksums right.
fn made_up(kind: u8, stream: u32, records: u32, contents: &[u8]) -> Vec<u8> {
    let stored = zstd::bulk::compress(contents, 1).unwrap();
    let mut b = [*b"RWFR", [kind, 0, 0, 0], stream.to_le_bytes(), records.to_le_bytes()].concat();
    b.extend([0; 16]);
    b.extend((contents.len() as u32).to_le_bytes());
    b.extend((stored.len() as u32).to_le_bytes());
    b.extend(crc32fast::hash(&stored).to_le_bytes());
    b.extend(crc32fast::hash(&b).to_le_bytes());
    b.extend(stored);
    b
}

/// What a file says of itself is believed only as far as it is long. Seen to fail with frames that may overlap, and with records
/// counted when all are there.
#[test]
fn claims_are_no_reason_to_take_memory() {
    let path = scratch("claims");
    sample(&path);
    let whole = Recording::open(&path).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    let first = whole.frames[2].at as usize;
    let other = scratch("claims-made-up");
    let open = |behind: &[u8]| {
        std::fs::write(&other, [&bytes[..first], behind].concat()).unwrap();
        Recording::open(&other).unwrap()
    };
    // 33 million runs in a frame that says it has one, and one that says how many it has.
    let n = (32u32 << 20) - 100;
    let mut contents: Vec<u8> = [n, n, 1, 0].iter().flat_map(|n| n.to_le_bytes()).collect();
    contents.push(192);
    contents.resize(16 + n as usize, 0);
    contents.resize(16 + 2 * n as usize, 2);
    contents.push(0);
    let r = open(&made_up(2, 0, 1, &contents));
    assert!(check::check(&r).wrong[0].contains("more than the 1 records"), "{:?}", check::check(&r));
    let r = open(&made_up(2, 0, n, &contents));
    assert!(r.frames.len() == 2 && check::check(&r).wrong[0].contains("its header is damaged"));
    // A million frames, all at one place.
    let mut index = vec![0xc0, 0x84, 0x3d, 64];
    index.resize(3 + 1_000_000, 0);
    let mut behind = made_up(5, u32::MAX, 0, &index);
    let mut trailer = [&b"RWINDEX\n"[..], &(first as u64).to_le_bytes()].concat();
    trailer.extend(crc32fast::hash(&trailer).to_le_bytes());
    trailer.extend([0; 4]);
    behind.extend(trailer);
    let r = open(&behind);
    assert_eq!((r.index, r.frames.len()), (Index::Wrong, 3));
    assert!(check::check(&r).wrong[0].contains("the index names other frames"));
    // More of a program than it has.
    let r = open(&made_up(3, 0, 0, &contents));
    assert!(r.image().is_none());
}

/// Counters that contradict each other are wrong, no panic.
#[test]
fn more_hits_than_lookups_are_wrong() {
    let path = scratch("hits");
    let mut out = FileOutput::new(Writer::create(&path, &meta(), None).expect("a file"));
    out.event(0, 1, 0, Event::Lookup { page: Hex(0), access: Side::Load, hit: true });
    let cpus = vec![CpuCounts { lookups: 1, hits: 2, ..CpuCounts::default() }];
    out.finish(&EndNote { cpus, ..EndNote::default() }).expect("complete");
    let c = check::check(&Recording::open(&path).unwrap());
    assert!(c.wrong.iter().any(|w| w.contains("2 hits in 1 lookups")), "{c:?}");
}

/// Where records were dropped, and where a frame is damaged, walks may have lost their beginnings; what was dropped has to add up.
#[test]
fn walks_without_beginnings_are_well_behind_what_is_lost() {
    let path = scratch("dropped");
    let mut out = FileOutput::new(Writer::create(&path, &meta(), None).expect("a file"));
    let done = Event::WalkDone { vaddr: Hex(0), paddr: Hex(0), shift: 12, protected: false };
    out.event(0, 1, 0, Event::Lost { runs: 3, events: 4 });
    out.event(0, 2, 0, done.clone());
    let end = |lost_events| EndNote { lost_runs: 3, lost_events, ..EndNote::default() };
    out.finish(&end(4)).expect("complete");
    assert_eq!(check::check(&Recording::open(&path).unwrap()).wrong, Vec::<String>::new());
    let mut out = FileOutput::new(Writer::create(&path, &meta(), None).expect("a file"));
    out.event(0, 1, 0, Event::Lost { runs: 3, events: 4 });
    out.finish(&end(5)).expect("complete");
    let c = check::check(&Recording::open(&path).unwrap());
    assert!(c.wrong.iter().any(|w| w.contains("4 events are said to be lost")), "{c:?}");
    let mut out = FileOutput::new(Writer::create(&path, &meta(), None).expect("a file"));
    out.event(0, 1, 0, done);
    out.finish(&EndNote::default()).expect("complete");
    let c = check::check(&Recording::open(&path).unwrap());
    assert!(c.wrong.iter().any(|w| w.contains("the end of a walk that has not begun")), "{c:?}");
}

/// Cut or replaced while it is read: errors, no signal. Seen to die by SIGBUS.
#[test]
fn a_file_that_changes_while_it_is_read_is_told() {
    let path = scratch("changes");
    sample(&path);
    let mut r = Recording::open(&path).unwrap();
    r.grow().unwrap();
    sample(&path);
    assert!(r.records(0).all(|x| x.is_ok()), "the old file is there as long as it is read");
    assert!(r.grow().unwrap_err().to_string().contains("another file has its name now"));
    let mut r = Recording::open(&path).unwrap();
    std::fs::File::options().write(true).open(&path).unwrap().set_len(0).unwrap();
    assert!(use_all(&r) > 0 && r.records(0).all(|x| x.is_err()));
    assert!(r.grow().unwrap_err().to_string().contains("now it has 0"));
}

/// Bytes changed, cut, doubled anywhere: it is read or refused.
#[test]
fn whatever_the_bytes_are_nothing_panics() {
    let seconds = std::env::var("RACEWALK_DAMAGE_SECONDS").ok().and_then(|s| s.parse().ok()).unwrap_or(2);
    let path = scratch("any");
    sample(&path);
    let bytes = std::fs::read(&path).unwrap();
    let other = scratch("any-bent");
    let (mut r, end) = (Rng(11), Instant::now() + Duration::from_secs(seconds));
    let mut files = 0;
    while Instant::now() < end || files < 50 {
        let mut b = bytes.clone();
        for _ in 0..=r.below(12) {
            let at = r.below(b.len() as u64) as usize;
            match r.below(5) {
                0 => b.truncate(at.max(80)),
                1 => b[at] = r.next_u64() as u8,
                2 => {
                    let n = (r.below(64) as usize).min(b.len() - at);
                    let from = r.below((b.len() - n) as u64 + 1) as usize;
                    b.copy_within(from..from + n, at)
                }
                3 => {
                    let n = (r.below(200) as usize).min(b.len() - at);
                    b.drain(at..at + n);
                }
                _ => b[at] ^= 1 << r.below(8),
            }
            if b.is_empty() {
                b.push(0)
            }
        }
        std::fs::write(&other, &b).unwrap();
        if let Ok(x) = Recording::open(&other) {
            use_all(&x);
        }
        files += 1
    }
    println!("{files} files")
}

#[test]
fn what_is_no_recording_is_said() {
    let path = scratch("none");
    for (bytes, wanted) in [
        (&b""[..], "is no recording: it begins with []"),
        (b"\x89RWT\r\n\x1a\n", "has 8 bytes; the header of a recording has 64"),
        (b"\x89PNG\r\n\x1a\n", "is no recording: it begins with [89, 50, 4e"),
        (b"\x7fELF and so on, long enough for a header of sixty-four bytes, or so", "is no recording"),
    ] {
        std::fs::write(&path, bytes).unwrap();
        let e = Recording::open(&path).unwrap_err().to_string();
        assert!(e.contains(wanted), "{e}");
    }
    sample(&path);
    let mut b = std::fs::read(&path).unwrap();
    b[8] = 9;
    let crc = crc32fast::hash(&b[..60]).to_le_bytes();
    b[60..64].copy_from_slice(&crc);
    std::fs::write(&path, &b).unwrap();
    let e = Recording::open(&path).unwrap_err().to_string();
    assert!(
        e.contains(&format!("version 9.{}", racewalk_trace::MINOR)) && e.contains("use racewalk 0.1.0"),
        "{e}"
    );
    assert!(
        Recording::open(Path::new("/nonexistent")).unwrap_err().to_string().contains("open /nonexistent")
    );
}

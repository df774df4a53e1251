//! A recording whose frames are sound, checksums and all, and hold other contents than were written: what is behind the
//! checksums is tested, too. The input is a list of changes to a good recording: the number of a frame, a place in it, how
//! many bytes, and the bytes. A place in the first 36 bytes is one of the frame's header, behind its magic number.
#![no_main]

use libfuzzer_sys::fuzz_target;
use racewalk_trace::{Recording, check, stats};
use std::sync::OnceLock;

/// Lengths that docs/recordings.md gives.
const FILE_HEADER: usize = 64;
const FRAME_HEADER: usize = 48;

static GOOD: &[u8] = include_bytes!("../../recordings/1.0.rwt");

/// A frame's header and its contents.
type Frame = (Vec<u8>, Vec<u8>);

fn word(b: &[u8], at: usize) -> usize {
    u32::from_le_bytes(b[at..at + 4].try_into().expect("four bytes")) as usize
}

/// All frames but the index, which no longer fits.
fn frames() -> Vec<Frame> {
    let (mut at, mut all) = (FILE_HEADER, Vec::new());
    while GOOD[at..].starts_with(b"RWFR") {
        let header = &GOOD[at..at + FRAME_HEADER];
        let stored = &GOOD[at + FRAME_HEADER..][..word(header, 36)];
        let contents = zstd::bulk::decompress(stored, word(header, 32)).expect("a good frame");
        all.push((header.to_vec(), contents));
        at += FRAME_HEADER + stored.len();
    }
    all.pop();
    all
}

fn change(frames: &mut [Frame], mut data: &[u8]) {
    while let [frame, low, high, n, rest @ ..] = data {
        let (bytes, rest) = rest.split_at((*n as usize).min(rest.len()));
        data = rest;
        let at = u16::from_le_bytes([*low, *high]) as usize;
        let n = frames.len();
        let (header, contents) = &mut frames[*frame as usize % n];
        for (i, b) in bytes.iter().enumerate().map(|(i, b)| (at + i, b)) {
            match i {
                0..28 => header[4 + i] = *b,
                28..36 => {}
                _ if i - 36 < contents.len() => contents[i - 36] = *b,
                _ => contents.push(*b),
            }
        }
    }
}

fuzz_target!(|data: &[u8]| {
    static FRAMES: OnceLock<Vec<Frame>> = OnceLock::new();
    let mut frames = FRAMES.get_or_init(frames).clone();
    change(&mut frames, data);
    let mut file = GOOD[..FILE_HEADER].to_vec();
    for (mut header, contents) in frames {
        let stored = zstd::bulk::compress(&contents, 1).expect("it fits into memory");
        header[32..36].copy_from_slice(&(contents.len() as u32).to_le_bytes());
        header[36..40].copy_from_slice(&(stored.len() as u32).to_le_bytes());
        header[40..44].copy_from_slice(&crc32fast::hash(&stored).to_le_bytes());
        let crc = crc32fast::hash(&header[..44]);
        header[44..].copy_from_slice(&crc.to_le_bytes());
        file.extend(header);
        file.extend(stored);
    }
    let path = std::env::temp_dir().join(format!("racewalk-contents-{}.rwt", std::process::id()));
    std::fs::write(&path, file).expect("a file");
    if let Ok(r) = Recording::open(&path) {
        check::check(&r);
        let _ = stats::TraceStats::of(&r).text();
        let _ = (r.image(), r.merged().count());
    }
});

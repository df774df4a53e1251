//! The files between this side and the guest `sequences`. All numbers are big-endian.
//!
//! A *batch*: the eight bytes `RWSEQ`, 0, 0, version (1); number of sequences and 0 (4 bytes each); the data area
//! ([`IMAGE_BYTES`]). Then for each sequence: a *state*; offset of the code from [`CODE`], length of the code,
//! number of patches, 0 (2 bytes each); for each patch its offset in the data area and length (2 bytes each) and
//! its bytes; the code.
//!
//! A *state*: 16 general registers, 16 floating-point registers (8 bytes each), 16 access registers, the FPC, condition code
//! and program mask as in bits 34 to 39 of INSERT PROGRAM MASK (4 bytes each).
//!
//! What comes back is one *record* of [`RECORD_BYTES`] for each sequence: the state after it; signal (0: it came to
//! its end) and si_code (4 bytes each); si_addr, the PSW's address, a hash of all changed bytes (8 bytes each); the
//! number of changed bytes, 0 (4 bytes each); for the first [`SHOWN`] of them offset (2 bytes), byte, 0.
//!
//! [`CODE`]: super::sequence::CODE

use super::sequence::{Sequence, State};
use super::values::IMAGE_BYTES;
use anyhow::{Context, ensure};

/// Changed bytes that a record shows.
pub const SHOWN: usize = 1024;
/// Bytes of a state.
const STATE_BYTES: usize = 328;
/// Bytes of a record.
pub const RECORD_BYTES: usize = STATE_BYTES + 40 + 4 * SHOWN;

/// What a sequence left.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Record {
    /// Registers.
    pub state: State,
    /// The signal that ended it; 0 if none did.
    pub signal: u32,
    /// The signal's si_code.
    pub code: u32,
    /// The signal's si_addr.
    pub address: u64,
    /// Address in the PSW when the signal came.
    pub psw: u64,
    /// FNV-1a over offsets and values of all changed bytes.
    pub hash: u64,
    /// How many bytes of the data area changed.
    pub changed: u32,
    /// The first of them: offset and new value.
    pub bytes: Vec<(u16, u8)>,
}

fn put_state(out: &mut Vec<u8>, s: &State) {
    s.gr.iter().chain(&s.fr).for_each(|v| out.extend(v.to_be_bytes()));
    s.ar.iter().chain([&s.fpc, &s.pm]).for_each(|v| out.extend(v.to_be_bytes()));
}

/// A batch file over the data area `image`.
pub fn write(image: &[u8], all: &[Sequence]) -> anyhow::Result<Vec<u8>> {
    ensure!(image.len() == IMAGE_BYTES, "the data area has {} bytes; wanted {IMAGE_BYTES}", image.len());
    let mut out = b"RWSEQ\0\0\x01".to_vec();
    out.extend((all.len() as u32).to_be_bytes());
    out.extend([0; 4]);
    out.extend(image);
    for s in all {
        let code = s.code().bytes;
        put_state(&mut out, &s.state);
        for n in [s.start as usize, code.len(), s.patches.len(), 0] {
            out.extend(u16::try_from(n).context("lay out a sequence")?.to_be_bytes());
        }
        for p in &s.patches {
            out.extend(p.at.to_be_bytes());
            out.extend((p.bytes.len() as u16).to_be_bytes());
            out.extend(&p.bytes);
        }
        out.extend(code);
    }
    Ok(out)
}

/// The records in a guest's output; a part of a record at the end is an error.
pub fn read(output: &[u8]) -> anyhow::Result<Vec<Record>> {
    let chunks = output.chunks_exact(RECORD_BYTES);
    ensure!(
        chunks.remainder().is_empty(),
        "the output ends within a record: {} bytes; a record has {RECORD_BYTES}",
        output.len()
    );
    Ok(chunks.map(record).collect())
}

fn record(raw: &[u8]) -> Record {
    let word = |at: usize| raw[at..at + 4].iter().fold(0u32, |v, &b| v << 8 | b as u32);
    let double = |at: usize| (word(at) as u64) << 32 | word(at + 4) as u64;
    let state = State {
        gr: std::array::from_fn(|n| double(8 * n)),
        fr: std::array::from_fn(|n| double(128 + 8 * n)),
        ar: std::array::from_fn(|n| word(256 + 4 * n)),
        fpc: word(320),
        pm: word(324),
    };
    let changed = word(STATE_BYTES + 32);
    let bytes = (0..SHOWN.min(changed as usize)).map(|n| {
        let v = word(STATE_BYTES + 40 + 4 * n);
        ((v >> 16) as u16, (v >> 8) as u8)
    });
    Record {
        state,
        signal: word(STATE_BYTES),
        code: word(STATE_BYTES + 4),
        address: double(STATE_BYTES + 8),
        psw: double(STATE_BYTES + 16),
        hash: double(STATE_BYTES + 24),
        changed,
        bytes: bytes.collect(),
    }
}

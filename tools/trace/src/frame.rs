//! The file's header and the frames behind it, as bytes. `docs/recordings.md` has the layout.

use crate::error::FrameError;

/// First bytes of a recording. Like those of PNG: text conversions and cut-off top bits are noticed.
pub(crate) const MAGIC: [u8; 8] = *b"\x89RWT\r\n\x1a\n";
/// Bytes of the file's header.
pub(crate) const FILE_HEADER: usize = 64;
/// Bytes of a frame's header.
pub(crate) const FRAME_HEADER: usize = 48;
/// Last bytes of a complete file: this, and where the frame of the index is.
pub(crate) const TRAILER_MAGIC: [u8; 8] = *b"RWINDEX\n";
/// Bytes of the trailer.
pub(crate) const TRAILER: usize = 24;
const FRAME_MAGIC: [u8; 4] = *b"RWFR";
/// No frame is larger, compressed or not.
pub(crate) const LARGEST: u32 = 64 << 20;
/// Nor has one more records: each takes bytes of the MiB behind which the writer begins the next.
pub(crate) const MOST_RECORDS: u32 = 1 << 20;

/// What a frame holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FrameKind {
    /// What was recorded, as JSON. The first frame.
    Meta,
    /// Records of a stream.
    Stream,
    /// A part of the guest's program.
    Image,
    /// How it ended, as JSON. Behind all records.
    End,
    /// Where the other frames are.
    Index,
}

impl FrameKind {
    fn number(self) -> u8 {
        match self {
            FrameKind::Meta => 1,
            FrameKind::Stream => 2,
            FrameKind::Image => 3,
            FrameKind::End => 4,
            FrameKind::Index => 5,
        }
    }
    fn of(n: u8) -> Option<FrameKind> {
        [FrameKind::Meta, FrameKind::Stream, FrameKind::Image, FrameKind::End, FrameKind::Index]
            .into_iter()
            .find(|k| k.number() == n)
    }
}

/// A frame's header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FrameHeader {
    /// What it holds.
    pub kind: FrameKind,
    /// Which stream: a CPU, or one of [`crate::stream`].
    pub stream: u32,
    /// Records in it.
    pub records: u32,
    /// Number of its first record in the stream.
    pub first: u64,
    /// Sequence number of its first event, 0 if it has none.
    pub seq: u64,
    /// Bytes of the contents.
    pub raw: u32,
    /// Bytes in the file, compressed.
    pub stored: u32,
    /// CRC-32 of those.
    pub crc: u32,
}

fn u32_at(b: &[u8], at: usize) -> u32 {
    let mut x = [0; 4];
    x.copy_from_slice(&b[at..at + 4]);
    u32::from_le_bytes(x)
}

fn u64_at(b: &[u8], at: usize) -> u64 {
    let mut x = [0; 8];
    x.copy_from_slice(&b[at..at + 8]);
    u64::from_le_bytes(x)
}

impl FrameHeader {
    /// As bytes.
    pub(crate) fn bytes(&self) -> [u8; FRAME_HEADER] {
        let mut b = [0; FRAME_HEADER];
        b[..4].copy_from_slice(&FRAME_MAGIC);
        b[4] = self.kind.number();
        b[8..12].copy_from_slice(&self.stream.to_le_bytes());
        b[12..16].copy_from_slice(&self.records.to_le_bytes());
        b[16..24].copy_from_slice(&self.first.to_le_bytes());
        b[24..32].copy_from_slice(&self.seq.to_le_bytes());
        b[32..36].copy_from_slice(&self.raw.to_le_bytes());
        b[36..40].copy_from_slice(&self.stored.to_le_bytes());
        b[40..44].copy_from_slice(&self.crc.to_le_bytes());
        let crc = crc32fast::hash(&b[..44]);
        b[44..].copy_from_slice(&crc.to_le_bytes());
        b
    }

    /// From bytes, at least [`FRAME_HEADER`] of them.
    pub(crate) fn parse(b: &[u8]) -> Result<FrameHeader, FrameError> {
        if b.len() < FRAME_HEADER {
            return Err(FrameError::Cut { missing: (FRAME_HEADER - b.len()) as u64 });
        }
        if b[..4] != FRAME_MAGIC {
            return Err(FrameError::Magic);
        }
        if u32_at(b, 44) != crc32fast::hash(&b[..44]) {
            return Err(FrameError::Header);
        }
        let h = FrameHeader {
            kind: FrameKind::of(b[4]).ok_or(FrameError::Header)?,
            stream: u32_at(b, 8),
            records: u32_at(b, 12),
            first: u64_at(b, 16),
            seq: u64_at(b, 24),
            raw: u32_at(b, 32),
            stored: u32_at(b, 36),
            crc: u32_at(b, 40),
        };
        if h.raw > LARGEST || h.stored > LARGEST || h.records > MOST_RECORDS {
            return Err(FrameError::Header);
        }
        Ok(h)
    }

    /// Compresses contents into a frame: header and stored bytes.
    pub(crate) fn pack(
        kind: FrameKind,
        stream: u32,
        (records, first, seq): (u32, u64, u64),
        contents: &[u8],
        compressor: &mut zstd::bulk::Compressor,
    ) -> std::io::Result<(FrameHeader, Vec<u8>)> {
        let stored = compressor.compress(contents)?;
        let crc = crc32fast::hash(&stored);
        let (raw, len) = (contents.len() as u32, stored.len() as u32);
        Ok((FrameHeader { kind, stream, records, first, seq, raw, stored: len, crc }, stored))
    }

    /// Whether the stored bytes are those that were written.
    pub(crate) fn verify(&self, stored: &[u8]) -> Result<(), FrameError> {
        match crc32fast::hash(stored) {
            found if found == self.crc => Ok(()),
            found => Err(FrameError::Checksum { found, wanted: self.crc }),
        }
    }

    /// The contents, from the stored bytes.
    pub(crate) fn unpack(&self, stored: &[u8]) -> Result<Vec<u8>, FrameError> {
        self.verify(stored)?;
        match zstd::bulk::decompress(stored, self.raw as usize) {
            Ok(c) if c.len() == self.raw as usize => Ok(c),
            _ => Err(FrameError::Decompress { wanted: self.raw }),
        }
    }
}

/// The file's header.
pub(crate) fn file_header() -> [u8; FILE_HEADER] {
    let mut b = [0; FILE_HEADER];
    b[..8].copy_from_slice(&MAGIC);
    b[8..10].copy_from_slice(&crate::MAJOR.to_le_bytes());
    b[10..12].copy_from_slice(&crate::MINOR.to_le_bytes());
    b[12..16].copy_from_slice(&(FILE_HEADER as u32).to_le_bytes());
    let by = env!("CARGO_PKG_VERSION").as_bytes();
    let n = by.len().min(40);
    b[16..16 + n].copy_from_slice(&by[..n]);
    let crc = crc32fast::hash(&b[..60]);
    b[60..].copy_from_slice(&crc.to_le_bytes());
    b
}

/// What a file's header says.
pub(crate) enum FileHeader {
    /// Not a recording, or no one can say.
    Damaged,
    /// One of this version.
    Good { minor: u16 },
    /// One of another.
    Version { major: u16, minor: u16, by: String },
}

pub(crate) fn parse_file_header(b: &[u8; FILE_HEADER]) -> FileHeader {
    if b[..8] != MAGIC || u32_at(b, 60) != crc32fast::hash(&b[..60]) {
        return FileHeader::Damaged;
    }
    let (major, minor) = (u16::from_le_bytes([b[8], b[9]]), u16::from_le_bytes([b[10], b[11]]));
    let by = String::from_utf8_lossy(&b[16..56]).trim_end_matches('\0').to_string();
    match major == crate::MAJOR && minor <= crate::MINOR {
        true => FileHeader::Good { minor },
        false => FileHeader::Version { major, minor, by },
    }
}

/// The trailer.
pub(crate) fn trailer(index: u64) -> [u8; TRAILER] {
    let mut b = [0; TRAILER];
    b[..8].copy_from_slice(&TRAILER_MAGIC);
    b[8..16].copy_from_slice(&index.to_le_bytes());
    let crc = crc32fast::hash(&b[..16]);
    b[16..20].copy_from_slice(&crc.to_le_bytes());
    b
}

/// Where the index is, if these bytes are a trailer.
pub(crate) fn parse_trailer(b: &[u8]) -> Option<u64> {
    let good = b.len() == TRAILER
        && b[..8] == TRAILER_MAGIC
        && u32_at(b, 16) == crc32fast::hash(&b[..16])
        && b[20..] == [0; 4];
    good.then(|| u64_at(b, 8))
}

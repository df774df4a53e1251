//! Recordings being read: as far as the file is whole, with what is not named.

use crate::error::{FrameError, Malformed, TraceError};
use crate::event::Event;
use crate::frame::{self, FILE_HEADER, FRAME_HEADER, FileHeader, FrameHeader, FrameKind, TRAILER};
use crate::meta::{EndNote, Meta};
use crate::record::{ColumnsRead, Record};
use crate::stream;
use crate::wire::Input;
use racewalk_ram::MappedFile;
use std::collections::VecDeque;
use std::fmt;
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A part of a file that cannot be read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Damage {
    /// Where in the file it begins.
    pub at: u64,
    /// Bytes, up to the next whole frame or the end.
    pub len: u64,
    /// The stream, records and number of the first record that were there, if the header says.
    pub lost: Option<(u32, u32, u64)>,
    /// Why.
    pub why: FrameError,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "bytes {:#x} to {:#x} are lost: {}", self.at, self.at + self.len, self.why)?;
        match self.lost {
            Some((stream, n, first)) if n > 0 => {
                write!(f, "; {n} records of {} from number {first}", crate::stream::name(stream))
            }
            _ => Ok(()),
        }
    }
}

/// A frame of a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FrameRef {
    /// Where it begins.
    pub at: u64,
    /// Its header.
    pub header: FrameHeader,
}

/// What became of a file's index.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Index {
    /// It was there.
    Good,
    /// It was not: the recording was not completed.
    Missing,
    /// It names what is not there.
    Wrong,
}

/// A file that is read through its mapping, as far as it still is as long as it was.
#[derive(Debug)]
struct Source {
    file: File,
    map: MappedFile,
}

impl Source {
    fn open(path: &Path) -> Result<Source, TraceError> {
        let file = File::open(path).map_err(TraceError::io("open", path))?;
        let map = MappedFile::new(&file).map_err(TraceError::io("map", path))?;
        Ok(Source { file, map })
    }

    fn len(&self) -> u64 {
        self.map.len()
    }

    /// Copies bytes from `at` on: as many as there are and fit. Returns how many.
    fn read(&self, at: u64, out: &mut [u8]) -> usize {
        // What somebody has cut off meanwhile must not be touched.
        let now = self.file.metadata().map_or(0, |m| m.len());
        let n = now.saturating_sub(at).min(out.len() as u64) as usize;
        self.map.read(at, &mut out[..n])
    }
}

/// An open recording.
#[derive(Debug)]
pub struct Recording {
    path: PathBuf,
    file: Source,
    /// The version in the header.
    pub minor: u16,
    /// What was recorded.
    pub meta: Meta,
    /// How it ended; nothing if it was not completed.
    pub end: Option<EndNote>,
    /// Its frames, in the order of the file.
    pub frames: Vec<FrameRef>,
    /// What was found unreadable when it was opened.
    pub damage: Vec<Damage>,
    /// Whether the frames are those of the index.
    pub index: Index,
    /// The file's header is damaged.
    header: Option<Damage>,
}

impl Recording {
    /// Opens a file. Where the index is missing or wrong, the file is gone through frame by frame.
    pub fn open(path: &Path) -> Result<Recording, TraceError> {
        let file = Source::open(path)?;
        let (minor, header) = header(&file, path)?;
        let (frames, mut damage, index) = match indexed(&file) {
            Ok(frames) => (frames, Vec::new(), Index::Good),
            Err(index) => {
                let (frames, damage) = scan(&file, FILE_HEADER as u64);
                (frames, damage, index)
            }
        };
        damage.splice(0..0, header.clone());
        let first = frames.iter().find(|f| f.header.kind == FrameKind::Meta);
        let problem = |problem: String| TraceError::Meta { path: path.into(), problem };
        let first = first.ok_or_else(|| problem("it has no whole frame that does".into()))?;
        let text = contents(&file, first).map_err(|e| problem(e.to_string()))?;
        let meta = serde_json::from_slice(&text).map_err(|e| problem(e.to_string()))?;
        let end = end(&file, &frames);
        Ok(Recording { path: path.into(), file, minor, meta, end, frames, damage, index, header })
    }

    /// The file's name.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes of the file.
    pub fn size(&self) -> u64 {
        self.file.len()
    }

    /// Goes through the whole file without its index, and verifies every frame: what is damaged.
    pub fn examine(&self) -> (Vec<FrameRef>, Vec<Damage>) {
        let (frames, mut damage) = scan(&self.file, FILE_HEADER as u64);
        damage.splice(0..0, self.header.clone());
        (frames, damage)
    }

    /// Goes through the whole file without its index: from now on `frames` has those that are whole, `damage` all others.
    pub fn verify(&mut self) {
        (self.frames, self.damage) = self.examine();
        self.end = end(&self.file, &self.frames)
    }

    /// Where the frames end that were whole when it was opened.
    fn end_of_frames(&self) -> u64 {
        let last = self.frames.last();
        last.map_or(FILE_HEADER as u64, |f| f.at + (FRAME_HEADER + f.header.stored as usize) as u64)
    }

    /// Looks at a file that grows: adds the frames that have become whole, what before them is damaged, and how it ended. What is
    /// behind the last whole frame is damage, too, as long as it is not whole.
    pub fn grow(&mut self) -> Result<(), TraceError> {
        let problem = |problem| TraceError::Changed { path: self.path.clone(), problem };
        let now = Source::open(&self.path)?;
        let id = |s: &Source| s.file.metadata().map(|m| (m.dev(), m.ino())).ok();
        if id(&now) != id(&self.file) {
            return Err(problem("another file has its name now".into()));
        }
        let from = self.end_of_frames();
        if now.len() < self.file.len() {
            return Err(problem(format!("it had {} bytes, now it has {}", self.file.len(), now.len())));
        }
        self.file = now;
        let (more, damage) = scan(&self.file, from);
        self.frames.extend(more);
        self.damage.retain(|d| d.at < from);
        self.damage.extend(damage);
        self.end = end(&self.file, &self.frames);
        Ok(())
    }

    /// Of `damage`, what will not become whole as the file grows.
    pub fn damage_for_good(&self) -> impl Iterator<Item = &Damage> {
        let last = if self.end.is_some() { u64::MAX } else { self.end_of_frames() };
        self.damage.iter().filter(move |d| d.at < last)
    }

    /// A frame's contents.
    pub fn contents(&self, f: &FrameRef) -> Result<Vec<u8>, FrameError> {
        contents(&self.file, f)
    }

    /// The guest's program, if it is in the file whole.
    pub fn image(&self) -> Option<Vec<u8>> {
        let g = self.meta.guest.as_ref().filter(|g| g.embedded)?;
        let parts = || self.frames.iter().filter(|f| f.header.kind == FrameKind::Image);
        if parts().map(|f| u64::from(f.header.raw)).sum::<u64>() != g.size {
            return None;
        }
        let mut all = Vec::new();
        for f in parts() {
            all.extend(self.contents(f).ok()?)
        }
        (blake3::hash(&all).to_hex().as_str() == g.blake3).then_some(all)
    }

    /// The embedded file of this name, in the first record that has it. Nothing if none can be read.
    pub fn file(&self, name: &str) -> Option<Arc<[u8]>> {
        self.records(stream::KERNEL).filter_map(Result::ok).find_map(|r| match r {
            Record::Event { event: Event::File { name: n, bytes }, .. } if &*n == name => Some(bytes.0),
            _ => None,
        })
    }

    /// The streams that have records.
    pub fn streams(&self) -> Vec<u32> {
        let of = |f: &FrameRef| (f.header.kind == FrameKind::Stream).then_some(f.header.stream);
        let mut all: Vec<u32> = self.frames.iter().filter_map(of).collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    /// The records of a stream, in order. A damaged frame gives its damage, and then the next frame follows.
    pub fn records(&self, stream: u32) -> Records<'_> {
        let frames = self.frames.iter();
        let mine = frames.filter(move |f| f.header.kind == FrameKind::Stream && f.header.stream == stream);
        Records { recording: self, frames: mine.copied().collect(), waiting: VecDeque::new() }
    }

    /// The records of all streams: events by their sequence numbers, each behind the runs of its stream that came
    /// before it.
    pub fn merged(&self) -> Merged<'_> {
        let streams = self.streams().into_iter().map(|s| (s, self.records(s), VecDeque::new(), 0)).collect();
        Merged { streams, group: VecDeque::new() }
    }

    /// The records of a frame; none if it has none.
    pub fn frame(&self, f: &FrameRef) -> Result<Vec<Record>, FrameError> {
        if f.header.kind == FrameKind::Stream { self.frame_records(f) } else { Ok(Vec::new()) }
    }

    /// The records of a stream's frame, or the frame as damage.
    pub fn records_of(&self, f: &FrameRef) -> Result<Vec<Record>, Damage> {
        self.frame_records(f).map_err(|why| {
            let len = (FRAME_HEADER + f.header.stored as usize) as u64;
            let lost = Some((f.header.stream, f.header.records, f.header.first));
            Damage { at: f.at, len, lost, why }
        })
    }

    /// The records of a stream's frame.
    pub(crate) fn frame_records(&self, f: &FrameRef) -> Result<Vec<Record>, FrameError> {
        let bytes = self.contents(f)?;
        let mut read = ColumnsRead::new(&bytes)?;
        let said = f.header.records;
        let mut all = Vec::new();
        while let Some(r) = read.next()? {
            if all.len() == said as usize {
                return Err(Malformed::More(said).into());
            }
            all.push(r)
        }
        match all.len() {
            n if n == said as usize => Ok(all),
            n => Err(Malformed::Count { found: n as u64, said: said.into() }.into()),
        }
    }
}

/// How the run ended, if the file says.
fn end(file: &Source, frames: &[FrameRef]) -> Option<EndNote> {
    let f = frames.iter().rfind(|f| f.header.kind == FrameKind::End)?;
    serde_json::from_slice(&contents(file, f).ok()?).ok()
}

/// The minor version, and the damage if nothing but the frames says that it is a recording.
fn header(file: &Source, path: &Path) -> Result<(u16, Option<Damage>), TraceError> {
    let mut b = [0; FILE_HEADER];
    let n = file.read(0, &mut b);
    let starts = frame::MAGIC.starts_with(&b[..n.min(8)]);
    if n < FILE_HEADER && n > 0 && starts {
        return Err(TraceError::Short { path: path.into(), found: n as u64, wanted: FILE_HEADER as u64 });
    }
    match frame::parse_file_header(&b) {
        FileHeader::Good { minor } => Ok((minor, None)),
        FileHeader::Version { major, minor, by } => {
            Err(TraceError::Version { path: path.into(), major, minor, by })
        }
        FileHeader::Damaged if n == FILE_HEADER && header_at(file, n as u64).is_ok() => {
            let why = FrameError::Header;
            Ok((crate::MINOR, Some(Damage { at: 0, len: FILE_HEADER as u64, lost: None, why })))
        }
        FileHeader::Damaged if starts && n > 0 => {
            Err(TraceError::Meta { path: path.into(), problem: "its first 64 bytes are damaged".into() })
        }
        FileHeader::Damaged => {
            Err(TraceError::Magic { path: path.into(), found: b[..n.min(8)].into(), wanted: frame::MAGIC })
        }
    }
}

fn header_at(file: &Source, at: u64) -> Result<FrameHeader, FrameError> {
    let mut b = [0; FRAME_HEADER];
    let n = file.read(at, &mut b);
    FrameHeader::parse(&b[..n])
}

fn stored(file: &Source, f: &FrameRef) -> Result<Vec<u8>, FrameError> {
    let mut b = vec![0; f.header.stored as usize];
    let n = file.read(f.at + FRAME_HEADER as u64, &mut b);
    if n < b.len() {
        return Err(FrameError::Cut { missing: (b.len() - n) as u64 });
    }
    Ok(b)
}

fn contents(file: &Source, f: &FrameRef) -> Result<Vec<u8>, FrameError> {
    f.header.unpack(&stored(file, f)?)
}

/// The frames that the index names, if there is an index and they are where it says.
fn indexed(file: &Source) -> Result<Vec<FrameRef>, Index> {
    let at = file.len().checked_sub(TRAILER as u64).ok_or(Index::Missing)?;
    let mut b = [0; TRAILER];
    file.read(at, &mut b);
    let at = frame::parse_trailer(&b).ok_or(Index::Missing)?;
    named(file, at).ok_or(Index::Wrong)
}

/// The frames that the index at `at` names.
fn named(file: &Source, at: u64) -> Option<Vec<FrameRef>> {
    let index = FrameRef { at, header: header_at(file, at).ok()? };
    if index.header.kind != FrameKind::Index {
        return None;
    }
    let bytes = contents(file, &index).ok()?;
    let mut i = Input::new(&bytes);
    let n = i.number().ok()?;
    let mut frames: Vec<FrameRef> = Vec::new();
    let (mut at, mut behind) = (0u64, FILE_HEADER as u64);
    for _ in 0..n {
        at = at.checked_add(i.number().ok()?)?;
        // Frames do not overlap: there are no more of them than the file has room for.
        if at < behind {
            return None;
        }
        let header = header_at(file, at).ok()?;
        behind = at + (FRAME_HEADER + header.stored as usize) as u64;
        frames.push(FrameRef { at, header })
    }
    frames.push(index);
    i.is_empty().then_some(frames)
}

/// All whole frames from `at` on, and what is between them.
fn scan(file: &Source, mut at: u64) -> (Vec<FrameRef>, Vec<Damage>) {
    let (mut frames, mut damage) = (Vec::new(), Vec::new());
    while at < file.len() {
        if at + TRAILER as u64 == file.len() {
            let mut b = [0; TRAILER];
            file.read(at, &mut b);
            if frame::parse_trailer(&b).is_some() {
                break;
            }
        }
        let good = header_at(file, at).and_then(|header| {
            let f = FrameRef { at, header };
            // Whole means that its contents are, too; they are unpacked where they are read.
            header.verify(&stored(file, &f)?).map(|()| f)
        });
        match good {
            Ok(f) => {
                at += (FRAME_HEADER + f.header.stored as usize) as u64;
                frames.push(f)
            }
            Err(why) => {
                let header = header_at(file, at).ok();
                let lost = header.map(|h| (h.stream, h.records, h.first));
                let next = next_frame(file, at + 1);
                damage.push(Damage { at, len: next - at, lost, why });
                at = next
            }
        }
    }
    (frames, damage)
}

/// Where the next frame header, or the trailer, is that matches its checksum; the end of the file if there is none.
fn next_frame(file: &Source, mut at: u64) -> u64 {
    let mut b = vec![0; 1 << 16];
    loop {
        let n = file.read(at, &mut b);
        if n < 4 {
            return file.len();
        }
        for k in 0..n - 3 {
            let here = at + k as u64;
            let trailer = b[k..].starts_with(&frame::TRAILER_MAGIC) && here + TRAILER as u64 == file.len();
            if trailer || (b[k..].starts_with(b"RWFR") && header_at(file, here).is_ok()) {
                return here;
            }
        }
        // What may begin in the last bytes is looked at again.
        at += n as u64 - 3
    }
}

/// The records of one stream.
#[derive(Debug)]
pub struct Records<'a> {
    recording: &'a Recording,
    frames: VecDeque<FrameRef>,
    waiting: VecDeque<Record>,
}

impl Records<'_> {
    /// Reads the next frame. False behind the last.
    fn refill(&mut self) -> Result<bool, Damage> {
        let Some(f) = self.frames.pop_front() else { return Ok(false) };
        self.waiting = self.recording.records_of(&f)?.into();
        Ok(true)
    }
}

impl Iterator for Records<'_> {
    type Item = Result<Record, Damage>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(r) = self.waiting.pop_front() {
                return Some(Ok(r));
            }
            match self.refill() {
                Ok(true) => {}
                Ok(false) => return None,
                Err(d) => return Some(Err(d)),
            }
        }
    }
}

type Queued = VecDeque<Result<Record, Damage>>;

/// The records of all streams.
#[derive(Debug)]
pub struct Merged<'a> {
    /// Stream, its records, its next group, and the sequence number that the group ends with.
    streams: Vec<(u32, Records<'a>, Queued, u64)>,
    /// What comes next.
    group: VecDeque<(u32, Result<Record, Damage>)>,
}

impl Merged<'_> {
    /// Makes sure that the stream has a group: runs up to an event, or what is left of a frame. False at its end.
    fn prepare(s: &mut (u32, Records<'_>, Queued, u64)) -> bool {
        while s.2.is_empty() {
            match s.1.next() {
                None => return false,
                Some(Err(d)) => s.2.push_back(Err(d)),
                Some(Ok(r)) => {
                    let mut next = Some(r);
                    while let Some(r) = next.take() {
                        let event = match &r {
                            Record::Event { seq, .. } => Some(*seq),
                            _ => None,
                        };
                        s.2.push_back(Ok(r));
                        match event {
                            Some(seq) => s.3 = seq,
                            None => next = s.1.waiting.pop_front(),
                        }
                    }
                }
            }
        }
        true
    }
}

impl Iterator for Merged<'_> {
    type Item = (u32, Result<Record, Damage>);

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(x) = self.group.pop_front() {
            return Some(x);
        }
        self.streams.retain_mut(Self::prepare);
        let s = self.streams.iter_mut().min_by_key(|s| s.3)?;
        let stream = s.0;
        self.group = s.2.drain(..).map(|r| (stream, r)).collect();
        self.group.pop_front()
    }
}

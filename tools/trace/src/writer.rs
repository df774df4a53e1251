//! A recording being written: frames at the end of a file, the index when it is complete.

use crate::error::TraceError;
use crate::event::Event;
use crate::frame::{self, FRAME_HEADER, FrameHeader, FrameKind};
use crate::meta::{EndNote, Meta};
use crate::place::Place;
use crate::record::Columns;
use crate::recorder::Output;
use crate::stream;
use crate::wire::put;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Contents of a frame before it is cut.
const FRAME: usize = 1 << 20;
/// How hard zstd tries.
const LEVEL: i32 = 1;
/// Bytes of the guest's program in one frame.
const IMAGE: usize = 1 << 20;

/// A file that grows by whole frames: whatever ends the writer leaves a file that reads up to there.
pub struct Writer {
    file: File,
    path: PathBuf,
    at: u64,
    written: Arc<AtomicU64>,
    frames: Vec<(u64, FrameHeader)>,
    compressor: zstd::bulk::Compressor<'static>,
    streams: Vec<Stream>,
    /// The stream that was written to last, and where it is.
    last: (u32, usize),
}

struct Stream {
    id: u32,
    columns: Columns,
    /// Number of the first record in the columns.
    first: u64,
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Writer({}, {} frames)", self.path.display(), self.frames.len())
    }
}

impl Writer {
    /// Creates the file with what is recorded, and the guest's program if it is to be in it.
    pub fn create(path: &Path, meta: &Meta, image: Option<&[u8]>) -> Result<Writer, TraceError> {
        let place = Place::open(path)?;
        let writer = Writer::begin(&place, meta, image)?;
        place.keep()?;
        Ok(writer)
    }

    /// The same, at a place that is to be kept.
    pub fn begin(place: &Place, meta: &Meta, image: Option<&[u8]>) -> Result<Writer, TraceError> {
        let path = &*place.path;
        let file = place.file.try_clone().map_err(TraceError::io("open", path))?;
        if place.is_there() && file.metadata().is_ok_and(|m| m.is_file()) {
            file.set_len(0).map_err(TraceError::io("empty", path))?
        }
        let compressor = zstd::bulk::Compressor::new(LEVEL).map_err(TraceError::io("compress for", path))?;
        let mut w = Writer {
            file,
            path: path.to_path_buf(),
            at: 0,
            written: Arc::default(),
            frames: Vec::new(),
            compressor,
            streams: Vec::new(),
            last: (stream::NONE, 0),
        };
        let begin = |w: &mut Writer| {
            w.bytes(&frame::file_header())?;
            let text = serde_json::to_vec(meta)?;
            w.frame(FrameKind::Meta, 0, (0, 0, 0), &text)?;
            for part in image.unwrap_or_default().chunks(IMAGE) {
                w.frame(FrameKind::Image, 0, (0, 0, 0), part)?
            }
            Ok(())
        };
        begin(&mut w).map_err(TraceError::io("write", path))?;
        Ok(w)
    }

    /// From now on `written` has the size of the file.
    pub fn telling(mut self, written: Arc<AtomicU64>) -> Writer {
        self.written = written;
        self
    }

    fn bytes(&mut self, b: &[u8]) -> io::Result<()> {
        self.file.write_all(b)?;
        self.at += b.len() as u64;
        self.written.store(self.at, Ordering::Relaxed);
        Ok(())
    }

    fn frame(
        &mut self,
        kind: FrameKind,
        stream: u32,
        records: (u32, u64, u64),
        contents: &[u8],
    ) -> io::Result<()> {
        let (h, stored) = FrameHeader::pack(kind, stream, records, contents, &mut self.compressor)?;
        // In one piece, so that a killed writer leaves at most one frame that is not whole.
        let mut all = Vec::with_capacity(FRAME_HEADER + stored.len());
        all.extend_from_slice(&h.bytes());
        all.extend_from_slice(&stored);
        let at = self.at;
        self.bytes(&all)?;
        self.frames.push((at, h));
        Ok(())
    }

    #[inline]
    fn columns(&mut self, stream: u32) -> &mut Stream {
        // Records come in batches of one stream.
        if self.last.0 != stream {
            self.last = (stream, self.place(stream))
        }
        &mut self.streams[self.last.1]
    }

    fn place(&mut self, stream: u32) -> usize {
        self.streams.iter().position(|s| s.id == stream).unwrap_or_else(|| {
            self.streams.push(Stream { id: stream, columns: Columns::new(), first: 0 });
            self.streams.len() - 1
        })
    }

    /// The columns that records of `stream` go to. [`cut`](Self::cut) afterwards.
    pub(crate) fn records(&mut self, stream: u32) -> &mut Columns {
        &mut self.columns(stream).columns
    }

    /// Writes a frame of `stream` if there is enough for one.
    pub(crate) fn cut(&mut self, stream: u32) -> io::Result<()> {
        if self.columns(stream).columns.len() < FRAME { Ok(()) } else { self.flush(stream) }
    }

    /// Writes what there is of `stream`, behind the host's answers: a file that is cut has those that its records need.
    pub(crate) fn flush(&mut self, stream: u32) -> io::Result<()> {
        if stream != stream::KERNEL && self.streams.iter().any(|s| s.id == stream::KERNEL) {
            self.flush(stream::KERNEL)?
        }
        let s = self.columns(stream);
        let (n, first, seq) = (s.columns.records(), s.first, s.columns.first_seq());
        if n == 0 {
            return Ok(());
        }
        s.first += n as u64;
        let contents = s.columns.take();
        self.frame(FrameKind::Stream, stream, (n, first, seq), &contents)
    }

    /// Writes what there is of all streams.
    pub(crate) fn flush_all(&mut self) -> io::Result<()> {
        let all: Vec<u32> = self.streams.iter().map(|s| s.id).collect();
        all.into_iter().try_for_each(|s| self.flush(s))
    }

    /// Completes the file.
    pub fn finish(mut self, end: &EndNote) -> Result<u64, TraceError> {
        let path = self.path.clone();
        self.complete(end).map_err(TraceError::io("write", &path))
    }

    fn complete(&mut self, end: &EndNote) -> io::Result<u64> {
        self.flush_all()?;
        self.frame(FrameKind::End, stream::NONE, (0, 0, 0), &serde_json::to_vec(end)?)?;
        let mut index = Vec::new();
        put(&mut index, self.frames.len() as u64);
        let mut last = 0;
        for (at, _) in &self.frames {
            put(&mut index, at - last);
            last = *at
        }
        let at = self.at;
        self.frame(FrameKind::Index, stream::NONE, (0, 0, 0), &index)?;
        self.bytes(&frame::trailer(at))?;
        match self.file.sync_data() {
            // A pipe, or a device that keeps nothing.
            Err(e) if e.kind() == io::ErrorKind::InvalidInput => Ok(self.at),
            r => r.map(|()| self.at),
        }
    }
}

/// Is told of an error.
type OnError = Box<dyn Fn(&io::Error) + Send>;

/// Gives records to a file. A file that cannot be written any more ends the recording, never the run.
pub struct FileOutput {
    writer: Writer,
    failed: Option<io::Error>,
    on_error: Option<OnError>,
}

impl std::fmt::Debug for FileOutput {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "FileOutput({:?}, {:?})", self.writer, self.failed)
    }
}

impl FileOutput {
    /// Into a file that was created.
    pub fn new(writer: Writer) -> FileOutput {
        FileOutput { writer, failed: None, on_error: None }
    }

    /// Calls `f` when the file cannot be written any more.
    pub fn telling(mut self, f: impl Fn(&io::Error) + Send + 'static) -> FileOutput {
        self.on_error = Some(Box::new(f));
        self
    }

    fn attempt(&mut self, f: impl FnOnce(&mut Writer) -> io::Result<()>) {
        if self.failed.is_none()
            && let Err(e) = f(&mut self.writer)
        {
            // Nothing of what is left is written.
            self.writer.streams = Vec::new();
            self.writer.last = (stream::NONE, 0);
            if let Some(tell) = &self.on_error {
                tell(&e)
            }
            self.failed = Some(e)
        }
    }

    /// Completes the file. Gives its size; an error if anything could not be written, with all before it in the file.
    pub fn finish(self, end: &EndNote) -> Result<u64, TraceError> {
        match self.failed {
            Some(e) => Err(TraceError::io("write", &self.writer.path)(e)),
            None => self.writer.finish(end),
        }
    }
}

impl Output for FileOutput {
    #[inline]
    fn run(&mut self, stream: u32, page: u64, store_first: bool, loads: u32, stores: u32) {
        self.attempt(|w| {
            w.records(stream).run(page, store_first, loads, stores);
            w.cut(stream)
        })
    }
    #[inline]
    fn enter(&mut self, stream: u32, page: u64, instructions: u64) {
        self.attempt(|w| {
            w.records(stream).enter(page, instructions);
            w.cut(stream)
        })
    }
    fn event(&mut self, stream: u32, seq: u64, instructions: u64, event: Event) {
        self.attempt(|w| {
            w.records(stream).event(seq, instructions, &event);
            w.cut(stream)
        })
    }
    fn settle(&mut self, now: bool) {
        if now {
            self.attempt(Writer::flush_all)
        }
    }
}

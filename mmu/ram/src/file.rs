//! A file that is read through a mapping.

use crate::raw;
use memmap2::{MmapOptions, MmapRaw};
use std::fs::File;
use std::io;

/// A read-only mapping of a whole file. Others may write to the file meanwhile: bytes are copied out, never borrowed.
/// A file that others cut while it is mapped ends the process when what is gone is read (SIGBUS), as with every
/// mapping.
#[derive(Debug)]
pub struct MappedFile {
    map: Option<MmapRaw>,
    len: u64,
}

impl MappedFile {
    /// Maps what the file holds now.
    pub fn new(file: &File) -> io::Result<MappedFile> {
        let len = file.metadata()?.len();
        // An empty mapping is an error of the host.
        let map = if len == 0 { None } else { Some(MmapOptions::new().map_raw_read_only(file)?) };
        Ok(MappedFile { map, len })
    }

    /// Bytes.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether the file was empty.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Copies bytes from `at` on: as many as there are and fit. Returns how many.
    pub fn read(&self, at: u64, out: &mut [u8]) -> usize {
        let Some(map) = &self.map else { return 0 };
        let n = self.len.saturating_sub(at).min(out.len() as u64) as usize;
        if n > 0 {
            // SAFETY: the `n` bytes at `at` lie in the live mapping, which has `len` bytes.
            unsafe { raw::read(map.as_ptr().add(at as usize), &mut out[..n]) }
        }
        n
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn reads_what_is_there() {
        let mut f = unnamed();
        assert_eq!(MappedFile::new(&f).unwrap().read(0, &mut [0; 4]), 0);
        f.write_all(b"recording").unwrap();
        let m = MappedFile::new(&f).unwrap();
        let mut b = [0; 6];
        assert_eq!((m.len(), m.read(3, &mut b)), (9, 6));
        assert_eq!(&b, b"ording");
        assert_eq!((m.read(7, &mut b), m.read(9, &mut b), m.read(u64::MAX, &mut b)), (2, 0, 0));
    }

    /// A file without a name.
    fn unnamed() -> File {
        let path = std::env::temp_dir().join(format!("racewalk-ram-{}", std::process::id()));
        let f = File::options().read(true).write(true).create(true).truncate(true).open(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        f
    }
}

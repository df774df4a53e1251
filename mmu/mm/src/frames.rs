//! Guest memory that knows which of its frames have been written to, so that only those are put back or zeroed.
//!
//! Code bits tell: a frame is marked as if code were made from it, and the first write to it takes the mark away and lists
//! the frame. Machines that use this run no translated code.

use crate::error::{MmError, Result};
use racewalk_ram::{PAGE_SIZE, Paddr, Pfn, Ram};
use std::sync::Arc;

/// Zeroed memory of `size` bytes (a multiple of 1 MiB) that notes which frames are written to.
///
/// # Errors
/// The size is none that memory can have, or the host has no memory.
pub fn blank(size: u64) -> Result<Arc<Ram>> {
    let ram = Ram::new(size)?;
    (0..size / PAGE_SIZE).for_each(|f| watch(&ram, Pfn(f)));
    Ok(Arc::new(ram))
}

/// Makes memory that was [blank] blank again: zeroes what was written to.
///
/// # Errors
/// None that memory which exists gives.
pub fn wipe(ram: &Ram) -> Result<()> {
    for f in ram.code().take_stale() {
        ram.fill(f.paddr(), 0, PAGE_SIZE)?;
        watch(ram, f);
    }
    Ok(())
}

/// Asks to be told when a frame is written to.
fn watch(ram: &Ram, f: Pfn) {
    ram.code().mark(Paddr(f.0 * PAGE_SIZE), PAGE_SIZE);
}

/// Bytes that are put back as one.
const PIECE: usize = 64;
/// Most pieces that are kept one by one.
const FEW: usize = 16;

/// What was in a frame.
#[derive(Clone, Debug)]
enum Contents {
    Zero,
    /// These pieces, by their place in the frame; zero between them. Most tables have few entries.
    Pieces(Vec<(u64, [u8; PIECE])>),
    All(Box<[u8]>),
}

impl Contents {
    fn of(frame: &[u8]) -> Contents {
        let (pieces, _) = frame.as_chunks::<PIECE>();
        let used = pieces.iter().zip(0u64..).filter(|(p, _)| p.iter().any(|&b| b != 0));
        let used: Vec<_> = used.map(|(p, n)| (n * PIECE as u64, *p)).collect();
        match used.len() {
            0 => Contents::Zero,
            1..=FEW => Contents::Pieces(used),
            _ => Contents::All(frame.into()),
        }
    }

    fn put(&self, ram: &Ram, at: Paddr) -> Result<()> {
        match self {
            Contents::Zero => ram.fill(at, 0, PAGE_SIZE)?,
            Contents::Pieces(pieces) => {
                ram.fill(at, 0, PAGE_SIZE)?;
                for (offset, bytes) in pieces {
                    ram.write(at.offset(*offset), bytes)?;
                }
            }
            Contents::All(bytes) => ram.write(at, bytes)?,
        }
        Ok(())
    }
}

/// What was in blank memory that has been written to.
#[derive(Debug)]
pub(crate) struct Frames {
    /// By frame.
    contents: Vec<Contents>,
    written: Vec<Pfn>,
}

impl Frames {
    /// # Errors
    /// The memory was never blank.
    pub(crate) fn take(ram: &Ram) -> Result<Frames> {
        let written = ram.code().take_stale();
        let mut contents = vec![Contents::Zero; (ram.size() / PAGE_SIZE) as usize];
        for &f in &written {
            let mut frame = vec![0; PAGE_SIZE as usize];
            ram.read(f.paddr(), &mut frame)?;
            contents[f.0 as usize] = Contents::of(&frame);
            watch(ram, f);
        }
        match (0..contents.len() as u64).find(|&f| !ram.code().has_code(Pfn(f))) {
            None => Ok(Frames { contents, written }),
            Some(f) => Err(MmError::Config(format!("a checkpoint of memory whose frame {f} is not watched"))),
        }
    }

    /// Of every frame whether it was zero.
    pub(crate) fn zero(&self) -> impl Iterator<Item = bool> {
        self.contents.iter().map(|c| matches!(c, Contents::Zero))
    }

    /// Puts back what was written to since the last of `take`, `restore` and [`wipe`].
    pub(crate) fn restore(&mut self, ram: &Ram) -> Result<()> {
        ram.code().swap_stale(&mut self.written);
        for &f in &self.written {
            self.contents[f.0 as usize].put(ram, f.paddr())?;
            watch(ram, f);
        }
        Ok(())
    }

    /// Makes the memory blank again.
    pub(crate) fn wipe(&self, ram: &Ram) -> Result<()> {
        let written = self.contents.iter().enumerate().filter(|c| !matches!(c.1, Contents::Zero));
        for (f, _) in written {
            ram.fill(Pfn(f as u64).paddr(), 0, PAGE_SIZE)?;
        }
        wipe(ram)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ram: &Ram, a: u64) -> u64 {
        ram.load_u64(Paddr(a)).unwrap()
    }

    /// Seen to fail without the mark after each way of putting a frame back.
    #[test]
    fn memory_comes_back_as_often_as_wanted() {
        let ram = blank(1 << 20).unwrap();
        ram.store_u64(Paddr(0x3008), 7).unwrap();
        ram.fill(Paddr(0x7000), 0x20, 0x900).unwrap();
        let mut frames = Frames::take(&ram).unwrap();
        for _ in 0..3 {
            ram.store_u64(Paddr(0x3ff8), 8).unwrap();
            ram.cas_u64(Paddr(0x3008), 7, 9).unwrap();
            ram.fill(Paddr(0x4ff0), 0xff, 32).unwrap();
            ram.fill(Paddr(0x7000), 0, 0x1000).unwrap();
            frames.restore(&ram).unwrap();
            let words = [0x3008, 0x3ff8, 0x4ff8, 0x5000, 0x78f8, 0x7900].map(|a| at(&ram, a));
            assert_eq!(words, [7, 0, 0, 0, 0x2020_2020_2020_2020, 0]);
        }
        ram.store_u64(Paddr(0x6000), 8).unwrap();
        frames.wipe(&ram).unwrap();
        assert!((0..1 << 17).all(|i| at(&ram, i * 8) == 0));
        ram.store_u64(Paddr(0x6000), 8).unwrap();
        wipe(&ram).unwrap();
        assert_eq!(at(&ram, 0x6000), 0);
    }

    #[test]
    fn memory_that_nobody_watches_is_no_checkpoint() {
        assert!(Frames::take(&Ram::new(1 << 20).unwrap()).is_err());
    }
}

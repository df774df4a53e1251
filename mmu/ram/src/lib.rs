//! Guest physical memory.
//!
//! One anonymous mapping holds all of it ([`Ram`]). Nobody ever sees it as `&[u8]`: a vCPU may write any byte at
//! any time, so every access goes through instructions of our own ([`raw`]) that the compiler neither splits nor
//! assumes anything about. The checked accessors of [`Ram`] take physical addresses and report what was out of
//! range; `raw` takes host addresses and is for the engines, which have already translated.

mod addr;
mod code;
mod error;
mod file;
mod memory;
pub mod raw;
mod words;

pub use addr::{Asid, Kva, Paddr, Pfn, Raddr, Vaddr};
pub use code::CodeBits;
pub use error::RamError;
pub use file::MappedFile;
pub use memory::{PAGE_SHIFT, PAGE_SIZE, Ram};
pub use words::Words;

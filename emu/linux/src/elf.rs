//! ELF executables: what is accepted, and exact reports of what is not.
//!
//! Every check names the file, the field, what was found and what was wanted. Nothing is read beyond the headers;
//! segments are mapped from the file as the guest touches them.

use goblin::container::{Container, Ctx, Endian};
use goblin::elf::program_header::{PF_X, PT_DYNAMIC, PT_GNU_STACK, PT_INTERP, PT_LOAD, PT_PHDR, PT_TLS};
use goblin::elf64::header::{
    EI_CLASS, EI_DATA, EI_VERSION, ELFCLASS64, ELFDATA2MSB, ELFMAG, ET_DYN, ET_EXEC,
};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// e_machine of s390x.
pub const EM_S390: u16 = 22;
const EHDR: usize = 64;
const PHDR: usize = 56;
/// Program headers that are read; Linux allows a page of them.
const MAX_PHDRS: u64 = 4096 / PHDR as u64;
/// Where a position-independent executable is loaded: two thirds up the address space, as Linux does.
const LOAD_BIAS: u64 = 0x2aa_0000_0000;
/// Loadable segments lie below this address.
const MAX_ADDR: u64 = 1 << 42;

/// A file that cannot be run, and why.
#[derive(Debug, thiserror::Error)]
pub enum ElfError {
    /// The file cannot be opened or read.
    #[error("{}: {source}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// The host's reason.
        source: std::io::Error,
    },
    /// A header field is not what racewalk runs.
    #[error("{}: {field} (file offset {offset:#x}): found {found}, wanted {wanted}", path.display())]
    Field {
        /// Which file.
        path: PathBuf,
        /// Name of the field as in elf(5).
        field: String,
        /// Where it is.
        offset: u64,
        /// What it holds.
        found: String,
        /// What would be right.
        wanted: String,
    },
}

impl ElfError {
    /// Whether the file does not exist (exit 127), as opposed to not being runnable (126).
    pub fn not_found(&self) -> bool {
        matches!(self, ElfError::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound)
    }
}

/// A loadable segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Virtual address.
    pub vaddr: u64,
    /// Bytes in memory.
    pub memsz: u64,
    /// File offset.
    pub offset: u64,
    /// Bytes in the file.
    pub filesz: u64,
    /// PF_R 4, PF_W 2, PF_X 1.
    pub flags: u32,
}

/// A checked executable.
#[derive(Clone, Debug)]
pub struct Executable {
    /// Its path as given.
    pub path: PathBuf,
    /// The open file.
    pub file: Arc<File>,
    /// Entry point.
    pub entry: u64,
    /// Virtual address of the program headers, for AT_PHDR; 0 if no segment holds them.
    pub phdr: u64,
    /// Their number.
    pub phnum: u16,
    /// Loadable segments, ascending.
    pub segments: Vec<Segment>,
    /// The stack may be executed: PT_GNU_STACK says so, or is missing.
    pub executable_stack: bool,
}

struct Check<'a> {
    path: &'a Path,
}

impl Check<'_> {
    fn field<T>(
        &self,
        field: impl Into<String>,
        offset: u64,
        found: impl Into<String>,
        wanted: impl Into<String>,
    ) -> Result<T, ElfError> {
        Err(ElfError::Field {
            path: self.path.into(),
            field: field.into(),
            offset,
            found: found.into(),
            wanted: wanted.into(),
        })
    }
}

fn machine_name(m: u16) -> String {
    let name = match m {
        3 => "i386",
        8 => "mips",
        20 => "ppc",
        21 => "ppc64",
        22 => "s390",
        40 => "arm",
        43 => "sparcv9",
        62 => "x86-64",
        183 => "aarch64",
        243 => "riscv",
        _ => return format!("{m}"),
    };
    format!("{m} ({name})")
}

/// Opens and checks `path`.
pub fn open(path: &Path) -> Result<Executable, ElfError> {
    let io = |source| ElfError::Io { path: path.into(), source };
    let file = File::open(path).map_err(io)?;
    let meta = file.metadata().map_err(io)?;
    let c = Check { path };
    if !meta.is_file() {
        return c.field("file type", 0, "not a regular file", "an ELF executable");
    }
    let size = meta.len();
    let mut head = [0u8; EHDR];
    let got = read_up_to(&file, &mut head, 0).map_err(io)?;
    if got < 4 || &head[..4] != ELFMAG {
        let found = match &head[..got.min(4)] {
            [b'#', b'!', ..] => "a script (#!)".to_string(),
            [] => "an empty file".to_string(),
            b => format!("bytes {b:02x?}"),
        };
        return c.field("e_ident magic", 0, found, "7f 45 4c 46 (an ELF file)");
    }
    if got < EHDR {
        return c.field(
            "ELF header",
            0,
            format!("{got} bytes"),
            format!("{EHDR} bytes; the file is truncated"),
        );
    }
    if head[EI_CLASS] != ELFCLASS64 {
        return c.field("e_ident[EI_CLASS]", 4, format!("{}", head[EI_CLASS]), "2 (64-bit)");
    }
    if head[EI_DATA] != ELFDATA2MSB {
        let found =
            if head[EI_DATA] == 1 { "1 (little-endian)".into() } else { format!("{}", head[EI_DATA]) };
        return c.field("e_ident[EI_DATA]", 5, found, "2 (big-endian)");
    }
    if head[EI_VERSION] != 1 {
        return c.field("e_ident[EI_VERSION]", 6, format!("{}", head[EI_VERSION]), "1");
    }
    // EI_OSABI 0 (System V) or 3 (GNU/Linux: the file uses STT_GNU_IFUNC).
    if !matches!(head[7], 0 | 3) {
        return c.field("e_ident[EI_OSABI]", 7, format!("{}", head[7]), "0 (System V) or 3 (Linux)");
    }
    let u16_at = |o: usize| u16::from_be_bytes([head[o], head[o + 1]]);
    let u64_at = |o: usize| u64::from_be_bytes(head[o..o + 8].try_into().unwrap_or_default());
    let machine = u16_at(18);
    if machine != EM_S390 {
        return c.field("e_machine", 18, machine_name(machine), "22 (s390)");
    }
    let kind = u16_at(16);
    let bias = if kind == ET_DYN { LOAD_BIAS } else { 0 };
    if kind != ET_EXEC && kind != ET_DYN {
        let found = match kind {
            1 => "1 (relocatable object)".into(),
            4 => "4 (core file)".into(),
            k => format!("{k}"),
        };
        return c.field("e_type", 16, found, "2 or 3 (a statically linked executable)");
    }
    let version = u32::from_be_bytes(head[20..24].try_into().unwrap_or_default());
    if version != 1 {
        return c.field("e_version", 20, format!("{version}"), "1");
    }
    if u16_at(52) as usize != EHDR {
        return c.field("e_ehsize", 52, format!("{}", u16_at(52)), format!("{EHDR}"));
    }
    if u16_at(54) as usize != PHDR {
        return c.field("e_phentsize", 54, format!("{}", u16_at(54)), format!("{PHDR}"));
    }
    let (phoff, phnum, entry) = (u64_at(32), u16_at(56), u64_at(24));
    if phnum == 0 || phnum as u64 > MAX_PHDRS {
        return c.field("e_phnum", 56, format!("{phnum}"), format!("1 to {MAX_PHDRS}"));
    }
    let table = phnum as u64 * PHDR as u64;
    if phoff.checked_add(table).is_none_or(|end| end > size) {
        return c.field(
            "e_phoff",
            32,
            format!("{phoff:#x}"),
            format!("{table} bytes of program headers within the {size} bytes of the file"),
        );
    }
    let mut bytes = vec![0u8; table as usize];
    if read_up_to(&file, &mut bytes, phoff).map_err(io)? < bytes.len() {
        return c.field("program headers", phoff, "end of file", format!("{table} bytes"));
    }
    let ctx = Ctx::new(Container::Big, Endian::Big);
    let headers = match goblin::elf::ProgramHeader::parse(&bytes, 0, phnum as usize, ctx) {
        Ok(h) => h,
        Err(e) => return c.field("program headers", phoff, e.to_string(), format!("{phnum} entries")),
    };
    let mut segments: Vec<Segment> = Vec::new();
    let mut phdr = 0;
    let mut executable_stack = true;
    let mut dynamic = false;
    for (i, h) in headers.iter().enumerate() {
        let at = phoff + i as u64 * PHDR as u64;
        match h.p_type {
            PT_INTERP => {
                return c.field(
                    format!("program header {i} p_type"),
                    at,
                    "PT_INTERP (dynamically linked)",
                    "a statically linked executable; link with -static",
                );
            }
            PT_PHDR => phdr = h.p_vaddr,
            PT_DYNAMIC => dynamic = true,
            PT_GNU_STACK => executable_stack = h.p_flags & PF_X != 0,
            PT_TLS if h.p_filesz > h.p_memsz => {
                return c.field(
                    format!("program header {i} p_filesz (PT_TLS)"),
                    at + 32,
                    format!("{:#x}", h.p_filesz),
                    format!("at most p_memsz, {:#x}", h.p_memsz),
                );
            }
            PT_LOAD => {
                segment(&c, i, at, h, size, bias, segments.last())?;
                if h.p_memsz != 0 {
                    segments.push(Segment {
                        vaddr: h.p_vaddr,
                        memsz: h.p_memsz,
                        offset: h.p_offset,
                        filesz: h.p_filesz,
                        flags: h.p_flags & 7,
                    });
                }
            }
            _ => {}
        }
    }
    if kind == ET_DYN && !dynamic {
        let found = "3 (position-independent), without a PT_DYNAMIC program header";
        return c.field("e_type", 16, found, "2 (an executable), or an executable that relocates itself");
    }
    if segments.is_empty() {
        return c.field("program headers", phoff, "no PT_LOAD segment with memory", "at least one");
    }
    if entry & 1 != 0 || !segments.iter().any(|s| s.flags & 1 != 0 && entry.wrapping_sub(s.vaddr) < s.memsz) {
        return c.field("e_entry", 24, format!("{entry:#x}"), "an even address in an executable segment");
    }
    if phdr == 0 {
        phdr = segments
            .iter()
            .find(|s| phoff >= s.offset && phoff + table <= s.offset + s.filesz)
            .map_or(0, |s| s.vaddr + (phoff - s.offset));
    }
    if bias != 0 {
        // Without a segment that holds the program headers there is nothing to tell the program.
        phdr = if phdr == 0 { 0 } else { phdr + bias };
        segments.iter_mut().for_each(|s| s.vaddr += bias);
    }
    let entry = entry.wrapping_add(bias);
    Ok(Executable { path: path.into(), file: Arc::new(file), entry, phdr, phnum, segments, executable_stack })
}

fn segment(
    c: &Check<'_>,
    i: usize,
    at: u64,
    h: &goblin::elf::ProgramHeader,
    size: u64,
    bias: u64,
    last: Option<&Segment>,
) -> Result<(), ElfError> {
    let name = |f: &str| format!("program header {i} {f}");
    if h.p_filesz > h.p_memsz {
        let wanted = format!("at most p_memsz, {:#x}", h.p_memsz);
        return c.field(name("p_filesz"), at + 32, format!("{:#x}", h.p_filesz), wanted);
    }
    if h.p_offset.checked_add(h.p_filesz).is_none_or(|end| end > size) {
        return c.field(
            name("p_offset + p_filesz"),
            at + 8,
            format!("{:#x} + {:#x}", h.p_offset, h.p_filesz),
            format!("at most the file's {size:#x} bytes"),
        );
    }
    let end = h.p_vaddr.checked_add(h.p_memsz).and_then(|end| end.checked_add(bias));
    if end.is_none_or(|end| end > MAX_ADDR) {
        return c.field(
            name("p_vaddr + p_memsz"),
            at + 16,
            format!("{:#x} + {:#x}", h.p_vaddr, h.p_memsz),
            format!("at most {:#x}", MAX_ADDR - bias),
        );
    }
    if h.p_align > 1 && !h.p_align.is_power_of_two() {
        return c.field(name("p_align"), at + 48, format!("{:#x}", h.p_align), "0 or a power of two");
    }
    if (h.p_vaddr ^ h.p_offset) & 0xfff != 0 {
        return c.field(
            name("p_vaddr"),
            at + 16,
            format!("{:#x}", h.p_vaddr),
            format!("the same offset within a 4 KiB page as p_offset, {:#x}", h.p_offset),
        );
    }
    if h.p_memsz != 0 && h.p_vaddr + bias < 0x1000 {
        return c.field(name("p_vaddr"), at + 16, format!("{:#x}", h.p_vaddr), "at least 0x1000");
    }
    if let Some(l) = last {
        let end = (l.vaddr + l.memsz + 0xfff) & !0xfff;
        if h.p_vaddr & !0xfff < end {
            return c.field(
                name("p_vaddr"),
                at + 16,
                format!("{:#x}", h.p_vaddr),
                format!("ascending segments that share no page; the one before ends at {end:#x}"),
            );
        }
    }
    Ok(())
}

fn read_up_to(file: &File, buf: &mut [u8], offset: u64) -> std::io::Result<usize> {
    let mut n = 0;
    while n < buf.len() {
        match file.read_at(&mut buf[n..], offset + n as u64) {
            Ok(0) => break,
            Ok(k) => n += k,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(n)
}

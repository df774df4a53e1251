//! Loading: mapping the segments of an executable, and the first stack.

use crate::elf::Executable;
use crate::errno::Errno;
use crate::host;
use crate::task::Task;
use racewalk_mm::{Backing, FileObject, MapFlags, Prot};
use std::ffi::OsString;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

const PAGE: u64 = 4096;
/// Bytes mapped for the stack at first; it grows.
const STACK: u64 = 128 << 10;
/// Where the `[vdso]` page is: above all other mappings but the stack.
pub(crate) const VDSO: u64 = <racewalk_mm::arch::S390x as racewalk_mm::arch::Arch>::TASK_SIZE - (64 << 20);
/// Linux allows arguments and environment a quarter of the stack limit.
const MAX_STRINGS: usize = (crate::syscall::STACK_LIMIT / 4) as usize;

/// AT_HWCAP: ESAN3, ZARCH, STFLE, LDISP, EIMM, ETF3EH, HIGH_GPRS. Not MSA, DFP, TE, VXRS: absent, as STFLE says.
const HWCAP: u64 = 0x1 | 0x2 | 0x4 | 0x10 | 0x20 | 0x100 | 0x200;

/// A host file as something the mm maps.
pub struct HostFile {
    // A host lock: never held across a scheduling point.
    file: Mutex<(Arc<File>, bool)>,
    name: String,
}

impl HostFile {
    /// `file`, known to the guest as `name`; it may be open for writing.
    pub fn new(file: Arc<File>, name: String, writable: bool) -> Arc<Self> {
        Arc::new(HostFile { file: Mutex::new((file, writable)), name })
    }

    /// Gives it a descriptor of the same file that may be written, if it has none yet.
    pub(crate) fn make_writable(&self, file: Arc<File>) {
        let mut f = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        if !f.1 {
            *f = (file, true);
        }
    }

    fn file(&self) -> Arc<File> {
        self.file.lock().unwrap_or_else(PoisonError::into_inner).0.clone()
    }
}

impl Backing for HostFile {
    fn read_page(&self, index: u64, buf: &mut [u8]) -> Result<(), racewalk_mm::Errno> {
        let file = self.file();
        let mut n = 0;
        while n < buf.len() {
            let at = index * PAGE + n as u64;
            match host::fill("pread", format_args!("{} at {at}", self.name), &mut buf[n..], |b| {
                rustix::io::pread(&*file, b, at)
            }) {
                Ok(0) => break,
                Ok(k) => n += k,
                Err(rustix::io::Errno::INTR) => {}
                Err(_) => return Err(racewalk_mm::Errno::EIO),
            }
        }
        Ok(())
    }
    fn write_page(&self, index: u64, bytes: &[u8]) -> Result<(), racewalk_mm::Errno> {
        let file = self.file();
        let mut n = 0;
        while n < bytes.len() {
            let at = index * PAGE + n as u64;
            match host::ask("pwrite", format_args!("{} {} at {at}", self.name, bytes.len() - n), || {
                rustix::io::pwrite(&*file, &bytes[n..], at)
            }) {
                Ok(0) => return Err(racewalk_mm::Errno::EIO),
                Ok(k) => n += k,
                Err(rustix::io::Errno::INTR) => {}
                Err(_) => return Err(racewalk_mm::Errno::EIO),
            }
        }
        Ok(())
    }
    fn size(&self) -> u64 {
        host::ask("fstat", &self.name, || rustix::fs::fstat(&*self.file())).map_or(0, |s| s.st_size as u64)
    }
    fn name(&self) -> String {
        self.name.clone()
    }
    fn id(&self) -> (u32, u32, u64) {
        match host::ask("fstat", &self.name, || rustix::fs::fstat(&*self.file())) {
            Ok(s) => (rustix::fs::major(s.st_dev), rustix::fs::minor(s.st_dev), s.st_ino),
            Err(_) => (0, 0, 0),
        }
    }
}

fn prot(flags: u32) -> Prot {
    let mut p = Prot::NONE;
    for (bit, q) in [(4, Prot::READ), (2, Prot::WRITE), (1, Prot::EXEC)] {
        if flags & bit != 0 {
            p = p | q;
        }
    }
    p
}

impl Task {
    /// Maps `exe`, builds its stack and sets the registers for its first instruction.
    pub fn load(&mut self, exe: &Executable, args: &[OsString], env: &[OsString]) -> Result<(), String> {
        self.take_cpu();
        let r = self.load_here(exe, args, env);
        self.drop_cpu();
        r
    }

    fn load_here(&mut self, exe: &Executable, args: &[OsString], env: &[OsString]) -> Result<(), String> {
        let mm = self.sys.mm.clone();
        let name = self.sys.program.to_string_lossy().into_owned();
        let object = FileObject::new(&self.sys.kernel, HostFile::new(exe.file.clone(), name, false));
        let mut end = 0;
        for s in &exe.segments {
            tracing::debug!(at = format_args!("{:#x}", s.vaddr), bytes = s.memsz, flags = s.flags, "segment");
            let at = format!("map the segment at {:#x}", s.vaddr);
            let fail = |e: racewalk_mm::MmError| format!("{at}: {e}");
            let (first, last) = (s.vaddr & !(PAGE - 1), (s.vaddr + s.memsz).next_multiple_of(PAGE));
            let filled = if s.filesz == 0 { first } else { (s.vaddr + s.filesz).next_multiple_of(PAGE) };
            let fixed = MapFlags::PRIVATE | MapFlags::FIXED_NOREPLACE;
            if filled > first {
                let file = Some((object.clone(), s.offset & !(PAGE - 1)));
                mm.mmap(first, filled - first, prot(s.flags), fixed, file).map_err(fail)?;
                let tail = s.vaddr + s.filesz;
                if s.memsz > s.filesz && s.flags & 2 != 0 && tail < filled {
                    mm.clear_user(tail, filled - tail).map_err(fail)?;
                }
            }
            if last > filled {
                mm.mmap(filled, last - filled, prot(s.flags), fixed | MapFlags::ANONYMOUS, None)
                    .map_err(fail)?;
            }
            end = last;
        }
        mm.set_brk_start(end);
        let code = crate::signal::VDSO_CODE.iter().flat_map(|c| c.to_be_bytes()).collect();
        let vdso = FileObject::new(
            &self.sys.kernel,
            Arc::new(racewalk_mm::Bytes { name: "[vdso]".into(), data: code }),
        );
        mm.map_special(VDSO, PAGE, Prot::READ | Prot::EXEC, vdso, "[vdso]")
            .map_err(|e| format!("map the vdso: {e}"))?;
        let sp = self.build_stack(exe, args, env)?;
        tracing::info!(program = %exe.path.display(), entry = format_args!("{:#x}", exe.entry), stack = format_args!("{sp:#x}"), "loaded");
        self.set_gpr(15, sp);
        self.set_pc(exe.entry);
        Ok(())
    }

    /// Writes strings, argv, envp and the auxiliary vector below the top of the stack; returns the stack pointer,
    /// which points at argc.
    fn build_stack(&mut self, exe: &Executable, args: &[OsString], env: &[OsString]) -> Result<u64, String> {
        let total: usize = args.iter().chain(env).map(|s| s.len() + 9).sum();
        if total > MAX_STRINGS {
            return Err(format!(
                "arguments and environment need {total} bytes; at most {MAX_STRINGS} fit the stack"
            ));
        }
        let top = self.sys.mm.map_stack(STACK).map_err(|e| format!("map the stack: {e}"))?;
        if exe.executable_stack {
            let all = Prot::READ | Prot::WRITE | Prot::EXEC;
            self.sys
                .mm
                .mprotect(top - STACK, STACK, all)
                .map_err(|e| format!("make the stack executable: {e}"))?;
        }
        let efault = |e: Errno| format!("write the stack: {}", e.name());
        let mut sp = top;
        let mut push = |t: &Task, bytes: &[u8]| -> Result<u64, String> {
            sp -= bytes.len() as u64;
            t.copy_out(sp, bytes).map_err(efault)?;
            Ok(sp)
        };
        let text = |s: &[u8]| [s, b"\0"].concat();
        push(self, &[0; 8])?;
        let execfn = push(self, &text(self.sys.program.as_os_str().as_bytes()))?;
        let platform = push(self, b"z196\0")?;
        let mut random = [0; 16];
        self.sys.fill_random(&mut random);
        let random = push(self, &random)?;
        let mut strings = |t: &Task, list: &[OsString]| -> Result<Vec<u64>, String> {
            list.iter().map(|s| push(t, &text(s.as_bytes()))).collect()
        };
        let envp = strings(self, env)?;
        let argv = strings(self, args)?;
        let ids = [
            host::ask_simply("getuid", "", || rustix::process::getuid().as_raw()),
            host::ask_simply("geteuid", "", || rustix::process::geteuid().as_raw()),
            host::ask_simply("getgid", "", || rustix::process::getgid().as_raw()),
            host::ask_simply("getegid", "", || rustix::process::getegid().as_raw()),
        ]
        .map(u64::from);
        let auxv: [(u64, u64); 18] = [
            (3, exe.phdr),         // AT_PHDR
            (4, 56),               // AT_PHENT
            (5, exe.phnum as u64), // AT_PHNUM
            (6, PAGE),             // AT_PAGESZ
            (7, 0),                // AT_BASE
            (8, 0),                // AT_FLAGS
            (9, exe.entry),        // AT_ENTRY
            (11, ids[0]),          // AT_UID
            (12, ids[1]),          // AT_EUID
            (13, ids[2]),          // AT_GID
            (14, ids[3]),          // AT_EGID
            (15, platform),        // AT_PLATFORM
            (16, HWCAP),           // AT_HWCAP
            (17, 100),             // AT_CLKTCK
            (23, 0),               // AT_SECURE
            (25, random),          // AT_RANDOM
            (31, execfn),          // AT_EXECFN
            (0, 0),                // AT_NULL
        ];
        let mut words = vec![argv.len() as u64];
        words.extend(&argv);
        words.push(0);
        words.extend(&envp);
        words.push(0);
        words.extend(auxv.iter().flat_map(|&(k, v)| [k, v]));
        let bytes: Vec<u8> = words.iter().flat_map(|w| w.to_be_bytes()).collect();
        let lowest = argv.last().or(envp.last()).copied().unwrap_or(random);
        let sp = (lowest - bytes.len() as u64) & !15;
        self.copy_out(sp, &bytes).map_err(efault)?;
        let vector = auxv.iter().flat_map(|&(k, v)| [k, v]).flat_map(|w| w.to_be_bytes()).collect();
        // Set once: a program is loaded once.
        let _ = self.sys.auxv.set(vector);
        self.sys.stack_top.store(sp, Ordering::SeqCst);
        Ok(sp)
    }
}

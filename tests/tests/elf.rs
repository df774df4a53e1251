//! Malformed and foreign files are refused: exit 126 and one message with file, field, found and wanted; never a
//! panic, much memory or much time.

use nix::sys::resource::{UsageWho, getrusage};
use racewalk_tests::{guest, paths, racewalk, run};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// The most memory that refusing a file may take, in KiB.
const MAX_RSS: i64 = 64 << 10;
/// The longest it may take.
const DEADLINE: Duration = Duration::from_secs(1);

const PT_LOAD: u32 = 1;
const PT_INTERP: u32 = 3;
const PT_TLS: u32 = 7;

/// An ELF file that is changed field by field.
#[derive(Clone)]
struct Elf(Vec<u8>);

impl Elf {
    fn put(mut self, at: usize, bytes: &[u8]) -> Elf {
        self.0[at..at + bytes.len()].copy_from_slice(bytes);
        self
    }
    fn u8(self, at: usize, v: u8) -> Elf {
        self.put(at, &[v])
    }
    fn u16(self, at: usize, v: u16) -> Elf {
        self.put(at, &v.to_be_bytes())
    }
    fn u32(self, at: usize, v: u32) -> Elf {
        self.put(at, &v.to_be_bytes())
    }
    fn u64(self, at: usize, v: u64) -> Elf {
        self.put(at, &v.to_be_bytes())
    }
    fn cut(mut self, len: usize) -> Elf {
        self.0.truncate(len);
        self
    }
    fn get(&self, at: usize) -> u64 {
        u64::from_be_bytes(self.0[at..at + 8].try_into().expect("8 bytes"))
    }
    fn phnum(&self) -> usize {
        u16::from_be_bytes([self.0[56], self.0[57]]) as usize
    }
    /// File offset of program header `i`.
    fn header(&self, i: usize) -> usize {
        self.get(32) as usize + 56 * i
    }
    /// File offset of the `n`th program header of a type.
    fn find(&self, kind: u32, n: usize) -> usize {
        (0..self.phnum())
            .map(|i| self.header(i))
            .filter(|&at| self.0[at..at + 4] == kind.to_be_bytes())
            .nth(n)
            .unwrap_or_else(|| panic!("the good file has no program header {n} of type {kind}"))
    }
    /// Changes one field of the `n`th PT_LOAD.
    fn load(self, n: usize, field: Field, v: u64) -> Elf {
        let at = self.find(PT_LOAD, n) + field as usize;
        self.u64(at, v)
    }
    fn loaded(&self, n: usize, field: Field) -> u64 {
        self.get(self.find(PT_LOAD, n) + field as usize)
    }
}

/// Offsets of doublewords in a program header.
#[derive(Clone, Copy)]
enum Field {
    Offset = 8,
    Vaddr = 16,
    Filesz = 32,
    Memsz = 40,
    Align = 48,
}

/// Gives each malformed file away: its name, its content, and what the message must name as the field. They are not
/// kept: a child counts as large as its parent was when it started.
fn cases(good: &Elf, give: &mut impl FnMut(&str, &[u8], &str)) {
    use Field::*;
    let g = || good.clone();
    let mut add = |name: &str, e: Elf, field: &str| give(name, &e.0, field);

    // Identification and the ELF header.
    add("magic-0", g().u8(0, 0), "magic");
    add("magic-3", g().u8(3, b'G'), "magic");
    add("class-32", g().u8(4, 1), "EI_CLASS");
    add("class-0", g().u8(4, 0), "EI_CLASS");
    add("class-255", g().u8(4, 255), "EI_CLASS");
    add("little-endian", g().u8(5, 1), "EI_DATA");
    add("data-0", g().u8(5, 0), "EI_DATA");
    add("ident-version-0", g().u8(6, 0), "EI_VERSION");
    add("ident-version-2", g().u8(6, 2), "EI_VERSION");
    add("osabi-freebsd", g().u8(7, 9), "EI_OSABI");
    add("type-none", g().u16(16, 0), "e_type");
    add("type-relocatable", g().u16(16, 1), "e_type");
    add("type-shared", g().u16(16, 3), "e_type");
    add("type-core", g().u16(16, 4), "e_type");
    add("type-huge", g().u16(16, 0xffff), "e_type");
    add("machine-x86-64", g().u16(18, 62), "e_machine");
    add("machine-ppc64", g().u16(18, 21), "e_machine");
    add("machine-0", g().u16(18, 0), "e_machine");
    add("machine-alpha-s390", g().u16(18, 0xa390), "e_machine");
    add("version-0", g().u32(20, 0), "e_version");
    add("version-huge", g().u32(20, u32::MAX), "e_version");
    add("ehsize-0", g().u16(52, 0), "e_ehsize");
    add("ehsize-huge", g().u16(52, 0xffff), "e_ehsize");
    add("phentsize-0", g().u16(54, 0), "e_phentsize");
    add("phentsize-32-bit", g().u16(54, 32), "e_phentsize");
    add("phentsize-huge", g().u16(54, 0xffff), "e_phentsize");
    add("phnum-0", g().u16(56, 0), "e_phnum");
    add("phnum-74", g().u16(56, 74), "e_phnum");
    add("phnum-extended", g().u16(56, 0xffff), "e_phnum");
    add("phoff-end", g().u64(32, good.0.len() as u64), "e_phoff");
    add("phoff-last-byte", g().u64(32, good.0.len() as u64 - 1), "e_phoff");
    add("phoff-beyond", g().u64(32, 1 << 40), "e_phoff");
    add("phoff-wrapping", g().u64(32, u64::MAX - 55), "e_phoff");
    add("phoff-max", g().u64(32, u64::MAX), "e_phoff");
    add("entry-odd", g().u64(24, good.get(24) | 1), "e_entry");
    add("entry-0", g().u64(24, 0), "e_entry");
    add("entry-max", g().u64(24, u64::MAX - 1), "e_entry");
    add("entry-in-data", g().u64(24, good.loaded(1, Vaddr) & !1), "e_entry");
    add("entry-after-code", g().u64(24, (good.loaded(0, Vaddr) + good.loaded(0, Memsz) + 2) & !1), "e_entry");
    let code = good.find(PT_LOAD, 0);
    add("no-executable-segment", g().u32(code + 4, 4), "e_entry");

    // Files that end too early: after every byte of the headers.
    let headers = 64 + 56 * good.phnum();
    for n in 0..headers {
        let field = match n {
            0..4 => "magic",
            4..64 => "ELF header",
            _ => "e_phoff",
        };
        add(&format!("cut-{n}"), g().cut(n), field);
    }
    for n in [headers, 4096, good.loaded(0, Filesz) as usize - 1] {
        add(&format!("cut-{n}"), g().cut(n), "p_offset + p_filesz");
    }

    // Segments.
    add("filesz-over-memsz", g().load(0, Filesz, good.loaded(0, Memsz) + 1), "p_filesz");
    add("memsz-0", g().load(1, Memsz, 0), "p_filesz");
    add("filesz-max", g().load(0, Filesz, u64::MAX).load(0, Memsz, u64::MAX), "p_offset + p_filesz");
    let beyond = good.0.len() as u64 + 1 - good.loaded(1, Offset);
    add("segment-beyond-file", g().load(1, Filesz, beyond).load(1, Memsz, beyond), "p_offset + p_filesz");
    add("offset-beyond-file", g().load(1, Offset, 1 << 40), "p_offset + p_filesz");
    add("offset-wrapping", g().load(1, Offset, u64::MAX - 8), "p_offset + p_filesz");
    add("offset-max", g().load(1, Offset, u64::MAX), "p_offset + p_filesz");
    add("vaddr-wrapping", g().load(1, Vaddr, u64::MAX - 8), "p_vaddr + p_memsz");
    add("vaddr-last-page", g().load(1, Vaddr, 0u64.wrapping_sub(0x1000)), "p_vaddr + p_memsz");
    add("vaddr-huge", g().load(1, Vaddr, 1 << 62), "p_vaddr + p_memsz");
    add("memsz-max", g().load(1, Memsz, u64::MAX), "p_vaddr + p_memsz");
    add("memsz-wrapping", g().load(1, Memsz, u64::MAX - good.loaded(1, Vaddr) + 1), "p_vaddr + p_memsz");
    add("memsz-enormous", g().load(1, Memsz, 1 << 60), "p_vaddr + p_memsz");
    add("memsz-half-of-everything", g().load(1, Memsz, 1 << 63), "p_vaddr + p_memsz");
    add("misaligned-vaddr", g().load(1, Vaddr, good.loaded(1, Vaddr) + 8), "p_vaddr");
    add("misaligned-offset", g().load(1, Offset, good.loaded(1, Offset) - 8), "p_vaddr");
    add("align-3", g().load(0, Align, 3), "p_align");
    add("align-4097", g().load(0, Align, 4097), "p_align");
    add("align-max", g().load(0, Align, u64::MAX), "p_align");
    add("page-0", g().load(0, Vaddr, 0), "p_vaddr");
    let same = good.loaded(0, Vaddr) + (good.loaded(1, Vaddr) & 0xfff);
    add("overlapping", g().load(1, Vaddr, same), "p_vaddr");
    add("overlapping-in-last-page", g().load(1, Vaddr, good.loaded(1, Vaddr) - 0x1000), "p_vaddr");
    add("descending", g().load(0, Vaddr, (good.loaded(1, Vaddr) + 0x10_0000) & !0xfff), "p_vaddr");
    let inside = good.loaded(1, Vaddr) - good.loaded(0, Vaddr) + 1;
    add("overlapping-by-memsz", g().load(0, Memsz, inside), "p_vaddr");
    let other = g().u32(good.find(PT_LOAD, 0), 0x6fff_ffff).u32(good.find(PT_LOAD, 1), 0);
    add("no-load", other, "program headers");
    add("dynamic", g().u32(good.find(4, 0), PT_INTERP), "PT_INTERP");
    let tls = good.find(PT_TLS, 0);
    add(
        "tls-filesz-over-memsz",
        g().u64(tls + Filesz as usize, good.get(tls + Memsz as usize) + 1),
        "p_filesz (PT_TLS)",
    );
    add("tls-filesz-max", g().u64(tls + Filesz as usize, u64::MAX), "p_filesz (PT_TLS)");

    // Each field of each program header, made a PT_LOAD, with values that none can have.
    for i in 0..good.phnum() {
        let at = good.header(i);
        add(&format!("header-{i}-interp"), g().u32(at, PT_INTERP), "PT_INTERP");
        let load = g().u32(at, PT_LOAD);
        for (name, field, v, wanted) in [
            ("offset", Offset, u64::MAX, "p_offset + p_filesz"),
            ("offset-sign", Offset, 1 << 63, "p_offset + p_filesz"),
            ("filesz", Filesz, u64::MAX, "p_filesz"),
            ("filesz-sign", Filesz, 1 << 63, "p_filesz"),
            ("vaddr", Vaddr, u64::MAX, "p_vaddr"),
            ("vaddr-sign", Vaddr, 1 << 63, "p_vaddr"),
            ("memsz", Memsz, u64::MAX, "p_vaddr + p_memsz"),
            ("align", Align, 0x1800, "p_align"),
        ] {
            // A segment of no bytes of the file is nowhere in it.
            let e = load.clone().u64(at + Memsz as usize, good.get(at + Memsz as usize).max(1));
            let e = e.u64(at + field as usize, v);
            add(&format!("header-{i}-{name}"), e, wanted);
        }
    }

    add("empty", Elf(Vec::new()), "magic");
    add("script", Elf(b"#!/bin/sh\nexit 0\n".to_vec()), "magic");
    add("text", Elf(b"not a program\n".to_vec()), "magic");
    add("zeroes", Elf(vec![0; 5000]), "magic");
    add("magic-only", Elf(b"\x7fELF".to_vec()), "ELF header");
}

/// The peak of the largest program that this process has waited for, in KiB: it only grows.
fn peak() -> i64 {
    getrusage(UsageWho::RUSAGE_CHILDREN).expect("resource usage of children").max_rss()
}

fn refused(path: &Path, field: &str) {
    let r = run(Command::new(racewalk()).arg("run").arg(path), DEADLINE).expect(126);
    r.check(r.stdout.is_empty(), "nothing on standard output");
    r.check(!r.stderr.contains("panicked"), "no panic");
    r.check(r.stderr.starts_with("error: failed to "), "a message that begins with error: failed to");
    r.check(r.stderr.contains("\nhint: "), "a hint");
    for wanted in [path.to_str().expect("a path in UTF-8"), field, ": found ", ", wanted "] {
        r.check(r.stderr.contains(wanted), format!("{wanted:?} in the message"));
    }
    r.check(peak() < MAX_RSS, format!("less than {MAX_RSS} KiB resident; it took {}", peak()));
}

// One test: the peak is that of all children of this process, so nothing else may run beside it.
#[test]
fn malformed_files_are_refused() {
    let good = Elf(std::fs::read(guest("hello")).expect("the hello guest"));
    let dir = paths::scratch("elf");
    let place = |name: &str, bytes: &[u8]| -> PathBuf {
        let path = dir.join(name);
        std::fs::write(&path, bytes).unwrap_or_else(|e| panic!("write {}: {e}", path.display()));
        path
    };
    let mut count = 0;
    cases(&good, &mut |name, bytes, field| {
        assert!(bytes != good.0, "{name} is the good file");
        let path = place(name, bytes);
        refused(&path, field);
        std::fs::remove_file(&path).unwrap_or_else(|e| panic!("remove {}: {e}", path.display()));
        count += 1;
    });
    println!("{count} malformed files, at most {} KiB", peak());
    assert!(count >= 400, "only {count} files");
    refused(&dir, "file type");
    refused(Path::new("/dev/null"), "file type");
    refused(Path::new("/dev/zero"), "file type");
    let host = std::env::current_exe().expect("this executable");
    refused(&host, "EI_DATA");

    // Any byte of the headers may be wrong: whatever becomes of the program, it is not a failure of the emulator.
    let mut ran = 0;
    for at in 0..64 + 56 * good.phnum() {
        let path = place("inverted", &good.clone().u8(at, !good.0[at]).0);
        let r = run(Command::new(racewalk()).arg("run").arg(&path), DEADLINE);
        if r.status == Some(126) {
            refused(&path, "");
        } else {
            // It dies of a signal, glibc gives up (127), or it does as ever where nobody looks.
            let fine = matches!(r.status, Some(7 | 127 | 129..=192));
            r.check(fine, format!("126, 7, 127 or death by signal with byte {at} inverted"));
            r.check(!r.stderr.contains("panicked"), "no panic");
            r.check(peak() < MAX_RSS, format!("less than {MAX_RSS} KiB resident; it took {}", peak()));
            ran += 1;
        }
    }
    println!("{ran} of the files with one byte inverted were run");
    assert!(ran > 20, "section headers, physical addresses and flags are nothing to refuse a file for");

    let missing = dir.join("missing");
    let r = run(Command::new(racewalk()).arg("run").arg(&missing), DEADLINE).expect(127);
    r.check(r.stderr.contains(missing.to_str().expect("a path in UTF-8")), "the file in the message");
    r.check(r.stderr.contains("\nhint: "), "a hint");
    run(Command::new(racewalk()).arg("run").arg("no-such-command").arg("x"), DEADLINE).expect(127);

    // The file that all were made from does run: what was refused was refused for the change.
    run(Command::new(racewalk()).arg(place("good", &good.0)), Duration::from_secs(10)).expect(7);
    // Neither are these wrong: no section headers, an alignment of 0.
    let odd = good.clone().u64(40, 0).u16(60, 0).u16(62, 0).load(0, Field::Align, 0);
    run(Command::new(racewalk()).arg(place("sectionless", &odd.0)), Duration::from_secs(10)).expect(7);
    // More memory than the machine has, not touched, is refused or runs; it neither panics nor takes long.
    let large = good.clone().load(1, Field::Memsz, 1 << 40);
    let r = run(Command::new(racewalk()).arg(place("tebibyte", &large.0)), DEADLINE);
    r.check(matches!(r.status, Some(7 | 126)), "status 7 or 126");
    r.check(!r.stderr.contains("panicked"), "no panic");
    r.check(peak() < MAX_RSS, format!("less than {MAX_RSS} KiB resident; it took {}", peak()));
}

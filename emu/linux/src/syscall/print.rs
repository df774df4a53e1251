//! How `--strace` prints calls: `arguments.txt` says what each argument is.

use super::{Args, name};
use crate::errno::SysResult;
use crate::signal;
use crate::task::Task;
use std::collections::HashMap;
use std::fmt::Write;
use std::sync::OnceLock;

/// Bytes of a buffer that are shown.
const SHOWN: u64 = 32;
/// Bytes of a path that are shown.
const SHOWN_PATH: usize = 256;

struct Signature {
    arguments: Vec<&'static str>,
    result: &'static str,
}

fn signatures() -> &'static HashMap<&'static str, Signature> {
    static TABLE: OnceLock<HashMap<&'static str, Signature>> = OnceLock::new();
    TABLE.get_or_init(|| {
        let lines = include_str!("arguments.txt").lines().filter(|l| !l.starts_with('#'));
        lines
            .filter_map(|l| {
                let mut columns = l.split('\t');
                let name = columns.next()?;
                let arguments = columns.next().unwrap_or_default().split_whitespace().collect();
                let result = columns.next().unwrap_or_default().trim_start_matches('=');
                Some((name, Signature { arguments, result }))
            })
            .collect()
    })
}

fn quoted(bytes: &[u8], more: bool) -> String {
    let mut s = String::from("\"");
    for &b in bytes {
        match b {
            b'"' | b'\\' => s.extend(['\\', b as char]),
            b'\n' => s.push_str("\\n"),
            b'\t' => s.push_str("\\t"),
            b' '..=b'~' => s.push(b as char),
            _ => {
                let _ = write!(s, "\\x{b:02x}");
            }
        }
    }
    s.push_str(if more { "\"..." } else { "\"" });
    s
}

fn pointer(v: u64) -> String {
    if v == 0 { "NULL".into() } else { format!("{v:#x}") }
}

/// A decimal argument: what fits 32 bits is one that programs pass as an int.
fn decimal(v: u64) -> String {
    if v >> 32 == 0 { (v as i32).to_string() } else { (v as i64).to_string() }
}

fn buffer(t: &Task, at: u64, len: u64) -> String {
    let mut b = vec![0; len.min(SHOWN) as usize];
    match t.copy_in(at, &mut b) {
        Ok(()) => quoted(&b, len > SHOWN),
        Err(_) => pointer(at),
    }
}

fn argument(t: &Task, kind: &str, a: &[u64], r: &SysResult) -> String {
    match kind {
        "d" => decimal(a[0]),
        "o" if a[0] == 0 => "0".into(),
        "o" => format!("0{:o}", a[0]),
        "p" => pointer(a[0]),
        "fd" if a[0] as i32 == -100 => "AT_FDCWD".into(),
        "fd" => (a[0] as i32).to_string(),
        "sig" => signal::name(a[0] as u32),
        "s" => match t.get_str(a[0]) {
            Ok(s) => quoted(&s[..s.len().min(SHOWN_PATH)], s.len() > SHOWN_PATH),
            Err(_) => pointer(a[0]),
        },
        "in" => buffer(t, a[0], a.get(1).copied().unwrap_or_default()),
        "out" => match r {
            Ok(n) => buffer(t, a[0], *n),
            Err(_) => pointer(a[0]),
        },
        _ => format!("{:#x}", a[0]),
    }
}

/// A call with its arguments and its result. A call that is not in the table shows all six argument registers.
pub(crate) fn line(t: &Task, nr: u64, a: Args, r: SysResult) -> String {
    let name = name(nr).map_or_else(|| format!("syscall_{nr}"), String::from);
    let signature = signatures().get(name.as_str());
    let args: Vec<String> = match signature {
        Some(s) => s.arguments.iter().enumerate().map(|(i, k)| argument(t, k, &a[i..], &r)).collect(),
        None => a.iter().map(|v| format!("{v:#x}")).collect(),
    };
    let mut s = format!("{name}({}) = ", args.join(", "));
    let _ = match r {
        _ if t.ended() => write!(s, "?"),
        Ok(v) if signature.is_some_and(|s| s.result == "p") => write!(s, "{v:#x}"),
        Ok(v) => write!(s, "{}", v as i64),
        Err(e) if e.is_restart() => write!(s, "? {}", e.name()),
        Err(e) => write!(s, "-1 {}", e.name()),
    };
    s
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_names_calls_and_kinds() {
        for (name, s) in signatures() {
            assert!(include_str!("s390x.txt").lines().any(|l| l.split('\t').nth(1) == Some(name)), "{name}");
            assert!(s.arguments.len() <= 6);
            for k in &s.arguments {
                assert!(["d", "x", "o", "p", "s", "fd", "sig", "in", "out"].contains(k), "{name}: {k}");
            }
        }
    }

    #[test]
    fn text_is_quoted() {
        assert_eq!(quoted(b"a\"b\\\n\x01", true), "\"a\\\"b\\\\\\n\\x01\"...");
    }
}

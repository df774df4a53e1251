//! What happened, drawn with a column for each CPU or actor, time going down.
//!
//! [`Columns::text`] fits in 72 columns, so that it can be pasted into a changelog; [`Columns::svg`] and
//! [`Columns::html`] are files that need nothing else.

mod svg;
#[cfg(test)]
mod tests;
mod text;

use crate::target::Event;

/// Columns of the text at most.
pub const WIDTH: usize = 72;

/// Events, sorted into columns.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Columns {
    /// Who has a column: CPUs first, in order, then the actors without a CPU by first appearance.
    heads: Vec<String>,
    /// For each event its column and what it says; adjacent ones that are the same are one.
    rows: Vec<Row>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
struct Row {
    column: usize,
    text: String,
    /// How often it happened in a row.
    times: u64,
    seq: u64,
}

impl Row {
    fn text(&self) -> String {
        if self.times == 1 { self.text.clone() } else { format!("{} ({} times)", self.text, self.times) }
    }
}

impl Columns {
    /// Columns of these events. What cannot be printed is shown as dots.
    pub fn of(events: &[Event]) -> Columns {
        let mut events: Vec<_> = events.iter().collect();
        events.sort_by_key(|e| e.seq);
        let mut cpus: Vec<_> = events.iter().filter_map(|e| e.cpu).collect();
        cpus.sort_unstable();
        cpus.dedup();
        let mut heads: Vec<_> = cpus.iter().map(|c| format!("CPU {c}")).collect();
        let mut rows: Vec<Row> = Vec::new();
        for e in events {
            let head = e.cpu.map_or_else(|| clean(&e.task), |c| format!("CPU {c}"));
            let column = heads.iter().position(|h| *h == head).unwrap_or_else(|| {
                heads.push(head);
                heads.len() - 1
            });
            let text = clean(if e.text.is_empty() { &e.label } else { &e.text });
            match rows.last_mut() {
                Some(last) if last.column == column && last.text == text => last.times += 1,
                _ => rows.push(Row { column, text, times: 1, seq: e.seq }),
            }
        }
        Columns { heads, rows }
    }

    /// Who has a column.
    pub fn heads(&self) -> &[String] {
        &self.heads
    }
}

/// Control characters, those that turn the direction of text, and what XML does not allow.
fn unprintable(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
        || c as u32 & 0xfffe == 0xfffe
}

fn clean(text: &str) -> String {
    text.chars().map(|c| if unprintable(c) { '.' } else { c }).collect()
}

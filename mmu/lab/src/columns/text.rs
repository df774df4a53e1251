//! As text.

use super::{Columns, WIDTH};
use unicode_width::UnicodeWidthStr;

/// Spaces between columns.
const GAP: usize = 2;
/// A column narrower than this is not worth having: the columns are then drawn under each other's names.
const NARROWEST: usize = 12;

impl Columns {
    /// The columns in at most [`WIDTH`] columns of a terminal. With more columns than fit side by side, one is drawn for
    /// all and each event begins with the actor's name.
    pub fn text(&self) -> String {
        let n = self.heads.len();
        if n == 0 {
            return String::new();
        }
        let fits = (WIDTH - GAP * (n - 1)) / n;
        if n > WIDTH / (NARROWEST + GAP) || fits < NARROWEST {
            return self.list();
        }
        let widths = self.widths(n);
        let mut out = String::new();
        let names = self.heads.iter().zip(&widths).map(|(h, w)| wrapped(h, *w)).collect::<Vec<_>>();
        let deepest = names.iter().map(Vec::len).max().unwrap_or(0);
        for i in 0..deepest {
            let cells: Vec<_> = names.iter().map(|n| n.get(i).map_or("", String::as_str)).collect();
            line(&mut out, &cells, &widths);
        }
        let rules: Vec<_> = widths.iter().map(|w| "-".repeat(*w)).collect();
        line(&mut out, &rules.iter().map(String::as_str).collect::<Vec<_>>(), &widths);
        for row in &self.rows {
            for (i, text) in wrapped(&row.text(), widths[row.column]).iter().enumerate() {
                // What goes on from the line above is set in by one, where there is room.
                let text = if i == 0 { text.clone() } else { format!(" {text}") };
                let mut cells = vec![""; n];
                cells[row.column] = &text;
                line(&mut out, &cells, &widths);
            }
        }
        out
    }

    /// As wide as their contents where that fits; what narrow columns leave goes to the wide ones.
    fn widths(&self, n: usize) -> Vec<usize> {
        let mut want: Vec<_> = self.heads.iter().map(|h| h.width()).collect();
        for row in &self.rows {
            want[row.column] = want[row.column].max(row.text().width());
        }
        let mut widths = vec![0; n];
        let mut order: Vec<_> = (0..n).collect();
        order.sort_by_key(|&c| want[c]);
        let mut left = WIDTH - GAP * (n - 1);
        for (i, &c) in order.iter().enumerate() {
            widths[c] = want[c].min(left / (n - i)).max(1);
            left -= widths[c];
        }
        widths
    }

    fn list(&self) -> String {
        let name = self.heads.iter().map(|h| h.width()).max().unwrap_or(0).min(WIDTH / 3);
        let mut out = String::new();
        let widths = [name, WIDTH - GAP - name];
        for row in &self.rows {
            let heads = wrapped(&self.heads[row.column], name);
            let texts = wrapped(&row.text(), widths[1]);
            for i in 0..heads.len().max(texts.len()) {
                let cell = |v: &[String]| v.get(i).cloned().unwrap_or_default();
                let text = if i == 0 { cell(&texts) } else { format!(" {}", cell(&texts)) };
                line(&mut out, &[&cell(&heads), &text], &widths);
            }
        }
        out
    }
}

/// Lines of at most `width`; all but the first one shorter, for the space before them. Words that are longer are cut.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let later = if width > 1 { " " } else { "" };
    let options = textwrap::Options::new(width)
        .subsequent_indent(later)
        .word_splitter(textwrap::WordSplitter::NoHyphenation);
    let lines = textwrap::wrap(text, options);
    lines.iter().map(|l| l.trim().to_owned()).collect()
}

fn line(out: &mut String, cells: &[&str], widths: &[usize]) {
    let mut text = String::new();
    let mut at = 0;
    for (cell, width) in cells.iter().zip(widths) {
        text += &" ".repeat(at - text.width().min(at));
        text += cell;
        at += width + GAP;
    }
    *out += text.trim_end();
    *out += "\n";
}

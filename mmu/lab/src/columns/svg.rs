//! As a picture, and as a page around it.

use super::Columns;
use std::fmt::Write;

/// Pixels: of a column, of a row, above the first row, of a character at the font's size.
const COLUMN: usize = 260;
const ROW: usize = 22;
const TOP: usize = 40;
const CHARACTER: usize = 7;

const STYLE: &str = "text{font:12px ui-monospace,monospace;fill:#222}.h{font-weight:bold}.s{fill:#888}\
    line{stroke:#ccc}rect{fill:#eef3fb;stroke:#9db4d8}\
    @media(prefers-color-scheme:dark){text{fill:#ddd}.s{fill:#888}line{stroke:#444}rect{fill:#233044;stroke:#456}}";

impl Columns {
    /// A picture of its own: no scripts, no fonts, nothing that is fetched. Events have tooltips with their whole text.
    pub fn svg(&self) -> String {
        let room = (COLUMN - 24) / CHARACTER;
        // A line of text for each row of the picture.
        let boxes: Vec<_> =
            self.rows.iter().map(|r| (r, textwrap::wrap(&r.text(), room).len().max(1))).collect();
        let width = 60 + COLUMN * self.heads.len();
        let height = TOP + 10 + boxes.iter().map(|(_, lines)| lines * (ROW - 6) + 10).sum::<usize>();
        let mut out = String::new();
        // Writing to a String cannot fail.
        let _ = writeln!(
            out,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" \
             height=\"{height}\" role=\"img\"><style>{STYLE}</style>"
        );
        for (i, head) in self.heads.iter().enumerate() {
            let x = 60 + COLUMN * i;
            let _ = writeln!(out, "<text class=\"h\" x=\"{x}\" y=\"20\">{}</text>", escaped(head));
            let _ = writeln!(out, "<line x1=\"{0}\" y1=\"28\" x2=\"{0}\" y2=\"{height}\"/>", x + 6);
        }
        let mut y = TOP;
        for (row, lines) in boxes {
            let (x, h) = (60 + COLUMN * row.column, lines * (ROW - 6) + 6);
            let text = row.text();
            let _ = writeln!(out, "<g><title>{}</title>", escaped(&text));
            let _ = writeln!(out, "<text class=\"s\" x=\"4\" y=\"{}\">{}</text>", y + 14, row.seq);
            let _ = writeln!(
                out,
                "<rect x=\"{x}\" y=\"{y}\" width=\"{}\" height=\"{h}\" rx=\"3\"/>",
                COLUMN - 12
            );
            for (i, line) in textwrap::wrap(&text, room).iter().enumerate() {
                let _ = writeln!(
                    out,
                    "<text x=\"{}\" y=\"{}\">{}</text>",
                    x + 6,
                    y + 14 + i * (ROW - 6),
                    escaped(line)
                );
            }
            out += "</g>\n";
            y += h + 4;
        }
        out + "</svg>\n"
    }

    /// A page with the picture.
    pub fn html(&self, title: &str) -> String {
        format!(
            "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{0}</title></head>\n<body><h1 \
             style=\"font:bold 18px sans-serif\">{0}</h1>\n{1}</body></html>\n",
            escaped(title),
            self.svg()
        )
    }
}

fn escaped(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut out, c| {
        match c {
            '&' => out += "&amp;",
            '<' => out += "&lt;",
            '>' => out += "&gt;",
            '"' => out += "&quot;",
            c => out.push(c),
        }
        out
    })
}

use super::*;
use proptest::prelude::*;
use unicode_width::UnicodeWidthStr;

fn event(seq: u64, cpu: Option<u32>, task: &str, text: &str) -> Event {
    Event { seq, cpu, task: task.into(), label: "label".into(), text: text.into() }
}

fn f_03a() -> Vec<Event> {
    vec![
        event(0, Some(0), "khugepaged", "retract_page_tables: PMD of seg0 cleared"),
        event(1, Some(0), "khugepaged", "flush of seg0 complete on CPUs 0 and 1"),
        event(2, Some(1), "app", "page_table_alloc: first page of the list is X, byte 0x01"),
        event(3, Some(0), "khugepaged", "call_rcu(X.rcu_head): writes the words of X.lru"),
        event(4, Some(1), "app", "list_del(X.lru) <- 0x000003ff8000a1c8_0x0000000000123450_and_more"),
        event(5, None, "rcu \"gp\" & co", ""),
        event(6, None, "rcu \"gp\" & co", ""),
    ]
}

/// Seen to fail with the indentation of later lines left out.
#[test]
fn golden() {
    let c = Columns::of(&f_03a());
    assert_eq!(c.heads(), ["CPU 0", "CPU 1", "rcu \"gp\" & co"]);
    assert_eq!(c.text(), include_str!("../golden/columns.txt"));
    assert_eq!(c.svg(), include_str!("../golden/columns.svg"));
    let page = c.html("F-03a <rcu_head over lru>");
    assert!(page.contains("<title>F-03a &lt;rcu_head over lru&gt;</title>") && page.contains(&c.svg()));
    let many: Vec<_> =
        (0..9).map(|i| event(i, Some(i as u32), "t", "an event that says something, in words")).collect();
    assert_eq!(Columns::of(&many).text(), include_str!("../golden/columns-list.txt"));
    assert_eq!(Columns::of(&[]).text(), "");
    let backwards: Vec<_> = f_03a().into_iter().rev().collect();
    assert_eq!(Columns::of(&backwards), c);
    let odd = Columns::of(&[event(0, None, "a\nb", "\u{1b}[31m \u{202e}x\u{ffff}")]);
    assert_eq!(odd.rows[0].text(), ".[31m .x.");
    assert_eq!(odd.heads(), ["a.b"]);
}

fn any_events() -> impl Strategy<Value = Vec<Event>> {
    let cpu = proptest::option::of(0u32..9);
    proptest::collection::vec((cpu, "[a-z]{1,9}|\\PC{0,30}", "[ -~]{0,90}|\\PC{0,60}"), 0..20).prop_map(|v| {
        v.into_iter().zip(0..).map(|((cpu, task, text), seq)| event(seq, cpu, &task, &text)).collect()
    })
}

proptest! {
    /// Every line fits, and no character of an event is lost. Seen to fail with words that are too long left whole.
    #[test]
    fn fits_and_loses_nothing(events in any_events()) {
        let c = Columns::of(&events);
        let text = c.text();
        for line in text.lines() {
            prop_assert!(line.width() <= WIDTH, "{}: {line:?}", line.width());
        }
        // Side by side each line has one cell, so an event's words stand one after the other.
        let squeeze = |t: &str| t.split_whitespace().collect::<String>();
        if c.heads.len() <= 5 {
            for r in &c.rows {
                prop_assert!(squeeze(&text).contains(&squeeze(&r.text())), "{:?} in\n{}", r.text(), text);
            }
        }
    }

    /// The picture is well-formed as far as angle brackets go: every `<` begins a tag that is closed. Seen
    /// to fail with `<` not escaped.
    #[test]
    fn picture_escapes(events in any_events()) {
        let svg = Columns::of(&events).svg();
        for tag in ["svg", "g", "title", "text", "style"] {
            let open = svg.matches(&format!("<{tag}>")).count() + svg.matches(&format!("<{tag} ")).count();
            prop_assert_eq!(open, svg.matches(&format!("</{tag}>")).count(), "{}", tag);
        }
        let tags = ["<svg", "</svg", "<g>", "</g>", "<title", "</title", "<text", "</text", "<style", "</style", "<rect", "<line"];
        let known: usize = tags.iter().map(|t| svg.matches(t).count()).sum();
        prop_assert_eq!(svg.matches('<').count(), known);
    }
}

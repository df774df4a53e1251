//! Schedule files, the stored one among them: it must stay readable for ever.

use proptest::prelude::*;
use racewalk_sched::schedule::{Choice, Schedule};
use racewalk_sched::schedule_file::{FileProblem, ScheduleFile};

const STORED: &str = include_str!("schedule-1.txt");

#[test]
fn version_1_is_read() {
    let f: ScheduleFile = STORED.parse().unwrap();
    assert_eq!(f.get("scheme"), Some("s390-66"));
    assert_eq!(f.get("note"), Some("a value may have spaces, = and # in it"));
    assert_eq!(f.get("colour"), None);
    let (value, until) = (|v| Choice::Value(v).code(), Choice::Until(1).code());
    let mut choices = vec![0, 0, 1, 1, 1, value(1), 2, value(0), value(0), value(0), until];
    choices.extend([0; 7]);
    assert_eq!(f.schedule.choices, choices);
    assert_eq!(f.steps, ["1 main start", "2 walker pte.load"]);
    assert_eq!(f.to_text().unwrap(), STORED);
}

#[test]
fn errors_name_the_line() {
    type Case = (&'static str, usize, fn(&FileProblem) -> bool);
    let cases: &[Case] = &[
        ("", 1, |p| matches!(p, FileProblem::CutShort(_))),
        ("hello\n", 1, |p| matches!(p, FileProblem::NotAScheduleFile(_))),
        ("racewalk-schedule 2\n\nrw1-\n", 1, |p| p.to_string() == "version 2; wanted version 1"),
        ("racewalk-schedule 1\nscheme x\nSeed 1\n\nrw1-\n", 3, |p| matches!(p, FileProblem::Header(_))),
        ("racewalk-schedule 1\nscheme x\n", 3, |p| matches!(p, FileProblem::CutShort(_))),
        ("racewalk-schedule 1\nscheme x\n\n", 4, |p| matches!(p, FileProblem::CutShort(_))),
        ("racewalk-schedule 1\n\nrw1-1\n", 3, |p| matches!(p, FileProblem::Schedule(_))),
        ("racewalk-schedule 1\n\nrw1-a1\nrw1-b1\n", 4, |p| matches!(p, FileProblem::Trailing(_))),
    ];
    for (text, line, is) in cases {
        let e = text.parse::<ScheduleFile>().unwrap_err();
        assert!(e.line == *line && is(&e.problem), "{text:?}: {e}");
    }
    let f = ScheduleFile::new(Schedule::default()).with("seed", 1).with("note", "two\nlines");
    assert_eq!(f.to_text().unwrap_err().line, 3);
}

proptest! {
    /// Whatever is written is read back.
    #[test]
    fn round_trip(
        header in prop::collection::vec(("[a-z0-9_-]{1,8}", "[ -~]{0,20}"), 0..5),
        tasks in prop::collection::vec((0u32..800, 0u8..3), 0..40),
        steps in prop::collection::vec("[ -~]{0,20}", 0..5),
    ) {
        let code = |&(v, kind): &(u32, u8)| match kind {
            0 => Choice::Task(v / 100),
            1 => Choice::Until(v),
            _ => Choice::Value(v / 100),
        }.code();
        let schedule = Schedule { choices: tasks.iter().map(code).collect() };
        let f = ScheduleFile { header, schedule, steps };
        let text = f.to_text().unwrap();
        prop_assert_eq!(text.parse::<ScheduleFile>().unwrap(), f);
    }

    /// No text makes the reader panic.
    #[test]
    fn any_text(body in "(racewalk-schedule 1\n)?[ -~\n]{0,80}", schedule in "rw1-[a-c0-9=*+]{0,30}") {
        let _ = body.parse::<ScheduleFile>();
        if let Ok(s) = schedule.parse::<Schedule>() {
            prop_assert_eq!(s.to_string().parse::<Schedule>(), Ok(s));
        }
    }
}

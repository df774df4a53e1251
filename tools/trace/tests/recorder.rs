//! What a recorder counts when the writer cannot follow.

use racewalk_sched::NO_CPU;
use racewalk_trace::event::Event;
use racewalk_trace::recorder::{Output, Recorder, WhenFull};
use racewalk_trace::select::Selection;
use std::sync::mpsc::{Receiver, channel};

/// Takes the first event only when it is told to.
struct Slow {
    gate: Option<Receiver<()>>,
    events: u64,
    lost: (u64, u64),
}

impl Output for Slow {
    fn run(&mut self, _: u32, _: u64, _: bool, _: u32, _: u32) {}
    fn enter(&mut self, _: u32, _: u64, _: u64) {}
    fn event(&mut self, _: u32, _: u64, _: u64, event: Event) {
        if let Some(gate) = self.gate.take() {
            gate.recv().expect("somebody opens it")
        }
        match event {
            Event::Lost { runs, events } => self.lost = (self.lost.0 + runs, self.lost.1 + events),
            _ => self.events += 1,
        }
    }
    fn settle(&mut self, _: bool) {}
}

/// Everything is either there or said to be lost, once: what says that something was lost may be lost itself. Seen to fail with
/// such an event counted as one, and what it said forgotten.
#[test]
fn what_is_lost_adds_up() {
    let (open, gate) = channel();
    let output = Slow { gate: Some(gate), events: 0, lost: (0, 0) };
    let (recorder, drain) =
        Recorder::start(1, Selection::default(), WhenFull::Drop, false, None, output).expect("a thread");
    let all = 64 << 10;
    for _ in 0..all {
        recorder.event(NO_CPU, Event::CrossCall {})
    }
    open.send(()).expect("it waits");
    recorder.finish();
    let out = drain.wait().expect("it ends");
    assert_eq!(out.lost, recorder.lost());
    assert!(out.lost.1 > 10 << 10 && out.lost.0 == 0, "{:?}", out.lost);
    assert_eq!(out.events + out.lost.1, all);
}

//! Finds runs in which every task goes round in circles.

use crate::label::LabelId;
use crate::policy::TaskId;

/// What one task did since the last progress.
#[derive(Clone, Default)]
struct Visits {
    /// Which progress that was.
    epoch: u64,
    /// One bit for each label.
    seen: u128,
    /// Foreground points when it last ran.
    at: u64,
}

/// Counts foreground points since the last progress, and since a task last came to a label that was new to it.
pub(crate) struct Livelock {
    window: u64,
    points: u64,
    epoch: u64,
    progress_at: u64,
    new_at: u64,
    check_at: u64,
    tasks: Vec<Visits>,
}

impl Livelock {
    /// `window` 0: never finds one.
    pub(crate) fn new(window: u64) -> Self {
        let check_at = if window == 0 { u64::MAX } else { window };
        Livelock {
            window,
            points: 0,
            epoch: 1,
            progress_at: 0,
            new_at: 0,
            check_at,
            tasks: Vec::with_capacity(8),
        }
    }

    pub(crate) fn add(&mut self) {
        self.tasks.push(Visits::default());
    }

    #[inline]
    pub(crate) fn progress(&mut self) {
        self.epoch += 1;
        self.progress_at = self.points;
    }

    /// Foreground task `t` is at a label. Whether it is time to call [`Livelock::is_one`].
    #[inline]
    pub(crate) fn passed(&mut self, t: TaskId, label: LabelId) -> bool {
        self.points += 1;
        let v = &mut self.tasks[t as usize];
        if v.epoch != self.epoch {
            (v.epoch, v.seen) = (self.epoch, 0);
        }
        v.at = self.points;
        // Beyond 128 labels every visit counts as new: no livelock is reported that is not one.
        let bit = 1u128.checked_shl(label).unwrap_or(0);
        if v.seen & bit == 0 {
            v.seen |= bit;
            self.new_at = self.points;
        }
        self.points >= self.check_at
    }

    /// Whether nothing has happened for a window: no progress, for half of it no new label, and each of `runnable`
    /// had its turns (a schedule that starves a task shows nothing about the program).
    pub(crate) fn is_one(&mut self, mut runnable: impl Iterator<Item = TaskId>) -> bool {
        let quiet =
            self.points - self.progress_at >= self.window && self.points - self.new_at >= self.window / 2;
        self.check_at = match quiet {
            true => self.points + self.window / 4 + 1,
            false => (self.progress_at + self.window).max(self.new_at + self.window / 2).max(self.points + 1),
        };
        let recent = self.points - self.window / 2;
        quiet
            && runnable
                .all(|t| self.tasks[t as usize].at > recent && self.tasks[t as usize].epoch == self.epoch)
    }
}

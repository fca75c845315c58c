//! Which sessions take what: several have a share of the threads each, and one has all of them, for rows that come alone.
//!
//! Side by side, each on its own threads, sessions compute more rows a second than one that has all threads: the kernels of a
//! small model are too short to be spread. Few rows are answered sooner by all threads.

/// The threads of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::serve) enum Lane {
    /// Its share of them, beside others.
    Shared,
    /// All of them. It computes when no other does, and none does beside it.
    Whole,
}

#[derive(Debug)]
pub(super) struct Lanes {
    /// Sessions that compute side by side. Where they are several there is one with all threads too.
    sessions: usize,
    /// Those of them that compute.
    busy: usize,
    whole_is_busy: bool,
}

impl Lanes {
    pub(super) fn new(sessions: usize) -> Self {
        Self { sessions, busy: 0, whole_is_busy: false }
    }

    /// Those that compute side by side.
    pub(super) fn sessions(&self) -> usize {
        self.sessions
    }

    /// Whether a session that has nothing to do may take from so many rows that wait.
    pub(super) fn may_take(&self, lane: Lane, waiting: usize) -> bool {
        match lane {
            Lane::Shared => waiting > 0 && !self.whole_is_busy,
            Lane::Whole => waiting > 0 && self.is_for_whole(waiting),
        }
    }

    /// Which sessions to wake for so many rows that wait, and how many of them.
    pub(super) fn to_wake(&self, waiting: usize) -> (Lane, usize) {
        if self.is_for_whole(waiting) {
            (Lane::Whole, waiting.min(1))
        } else if self.whole_is_busy {
            (Lane::Shared, 0)
        } else {
            (Lane::Shared, waiting.min(self.free()))
        }
    }

    /// Whether nothing is computed, and so few rows wait that one for each session would leave at least half the threads idle.
    fn is_for_whole(&self, waiting: usize) -> bool {
        2 * waiting <= self.sessions && self.busy == 0 && !self.whole_is_busy
    }

    /// Sessions side by side that compute nothing.
    pub(super) fn free(&self) -> usize {
        self.sessions - self.busy
    }

    /// Whether less than half of them compute.
    pub(super) fn are_mostly_idle(&self) -> bool {
        2 * self.busy < self.sessions
    }

    pub(super) fn took(&mut self, lane: Lane) {
        match lane {
            Lane::Shared => {
                debug_assert!(self.busy < self.sessions);
                self.busy += 1;
            }
            Lane::Whole => self.whole_is_busy = true,
        }
    }

    pub(super) fn computed(&mut self, lane: Lane) {
        match lane {
            Lane::Shared => self.busy -= 1,
            Lane::Whole => self.whole_is_busy = false,
        }
    }
}

//! Which sessions take what, and when one is free: several have a share of the threads each, and one has all of them, for rows
//! that come alone.
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
    /// What those of them that compute have taken, in any order. In tokens, padding and passes included.
    busy: Vec<usize>,
    /// The same of the one with all threads.
    whole: Option<usize>,
}

impl Lanes {
    pub(super) fn new(sessions: usize) -> Self {
        Self { sessions, busy: Vec::new(), whole: None }
    }

    /// Those that compute side by side.
    pub(super) fn sessions(&self) -> usize {
        self.sessions
    }

    /// Whether a session that has nothing to do may take from so many rows that wait.
    pub(super) fn may_take(&self, lane: Lane, waiting: usize) -> bool {
        match lane {
            Lane::Shared => waiting > 0 && self.whole.is_none(),
            Lane::Whole => waiting > 0 && self.is_for_whole(waiting),
        }
    }

    /// Which sessions to wake for so many rows that wait, and how many of them.
    pub(super) fn to_wake(&self, waiting: usize) -> (Lane, usize) {
        if self.is_for_whole(waiting) {
            (Lane::Whole, waiting.min(1))
        } else if self.whole.is_some() {
            (Lane::Shared, 0)
        } else {
            (Lane::Shared, waiting.min(self.free()))
        }
    }

    /// Whether nothing is computed, and so few rows wait that one for each session would leave at least half the threads idle.
    fn is_for_whole(&self, waiting: usize) -> bool {
        2 * waiting <= self.sessions && self.busy.is_empty() && self.whole.is_none()
    }

    /// Sessions side by side that compute nothing.
    pub(super) fn free(&self) -> usize {
        self.sessions - self.busy.len()
    }

    /// Whether less than half the threads compute.
    pub(super) fn are_mostly_idle(&self) -> bool {
        self.whole.is_none() && 2 * self.busy.len() < self.sessions
    }

    /// What a session will have computed, of what is taken and of so much that waits, when one of them has nothing left but
    /// what comes afterwards.
    pub(super) fn until_free(&self, waiting: f64) -> f64 {
        let mut taken = vec![0; self.free()];
        taken.extend(&self.busy);
        taken.sort_unstable();
        let mut first = waiting;
        // The sessions that are free first divide it among them; those that have more than that for each take none of it.
        let shares = taken.iter().zip(1..).map(|(taken, sessions)| {
            first += *taken as f64;
            first / f64::from(sessions)
        });
        // All threads compute that batch before others begin: as fast, at best, as sessions side by side would.
        shares.fold(f64::INFINITY, f64::min) + self.whole.unwrap_or(0) as f64 / self.sessions as f64
    }

    pub(super) fn took(&mut self, lane: Lane, cost: usize) {
        match lane {
            Lane::Shared => {
                debug_assert!(self.free() > 0);
                self.busy.push(cost);
            }
            Lane::Whole => self.whole = Some(cost),
        }
    }

    /// A session has computed a batch that it took at this cost.
    pub(super) fn computed(&mut self, lane: Lane, cost: usize) {
        match lane {
            Lane::Shared => {
                let place = self.busy.iter().position(|taken| *taken == cost).expect("it was taken");
                self.busy.swap_remove(place);
            }
            Lane::Whole => self.whole = None,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_long_batch_keeps_one_session_busy_and_not_the_others() {
        let mut lanes = Lanes::new(2);
        assert_eq!(lanes.until_free(0.0), 0.0);
        lanes.took(Lane::Shared, 100);
        assert_eq!([0.0, 60.0, 100.0, 140.0].map(|waiting| lanes.until_free(waiting)), [0.0, 60.0, 100.0, 120.0]);
        lanes.took(Lane::Shared, 30);
        assert_eq!([0.0, 60.0, 100.0].map(|waiting| lanes.until_free(waiting)), [30.0, 90.0, 115.0]);
        lanes.computed(Lane::Shared, 100);
        lanes.computed(Lane::Shared, 30);
        lanes.took(Lane::Whole, 40);
        assert_eq!([0.0, 60.0].map(|waiting| lanes.until_free(waiting)), [20.0, 50.0]);
    }

    proptest! {
        /// Rows of one token, handed one by one to whichever session is free first.
        #[test]
        fn it_is_when_sessions_that_take_row_by_row_have_one_free(
            taken in prop::collection::vec(0_usize..50, 1..9), idle in 0_usize..3, waiting in 0_usize..200,
        ) {
            let sessions = taken.len() + idle;
            let mut lanes = Lanes::new(sessions);
            for cost in &taken {
                lanes.took(Lane::Shared, *cost);
            }
            let mut ends = [taken, vec![0; idle]].concat();
            for _ in 0..waiting {
                *ends.iter_mut().min().unwrap() += 1;
            }
            let free = *ends.iter().min().unwrap() as f64;
            prop_assert!((free..=free + 1.0).contains(&lanes.until_free(waiting as f64)));
        }
    }
}

//! How long requests may wait.
//!
//! A queue that is full when a rush begins would stay full for all of it, and make every request that is taken in wait for
//! as long as any may. So once a small one has been refused the rest may wait for a part of the time only, until the sessions
//! have nothing to do, or for a while: a rush may be over though they are never idle.

use std::time::{Duration, Instant};

use crate::serve::patience::{TIMES_ITS_OWN, with_its_own};

/// The part of the time for which requests may wait in a rush.
const IN_A_RUSH: u32 = 4;
/// After so long it is seen anew whether there is a rush.
const LONGEST_RUSH: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub(super) struct Admission {
    most: Duration,
    rush_began: Option<Instant>,
}

impl Admission {
    pub(super) fn new(most: Duration) -> Self {
        Self { most, rush_began: None }
    }

    /// How long a request of one row may wait now.
    pub(super) fn wait(&self) -> Duration {
        self.wait_with(Duration::ZERO)
    }

    /// The same for one whose rows but the longest take so long.
    pub(super) fn wait_with(&self, rest: Duration) -> Duration {
        let most = with_its_own(self.most, rest);
        if self.is_rush() { most / IN_A_RUSH } else { most }
    }

    /// Notes that a request was refused whose rows but the longest take so long. Those that may wait for more than twice as long as
    /// a row alone tell nothing of it.
    pub(super) fn refused(&mut self, rest: Duration) {
        if rest <= self.most / TIMES_ITS_OWN && !self.is_rush() {
            self.rush_began = Some(Instant::now());
        }
    }

    /// Notes that nothing waits, and that sessions have nothing to do.
    pub(super) fn drained(&mut self) {
        self.rush_began = None;
    }

    fn is_rush(&self) -> bool {
        self.rush_began.is_some_and(|began| began.elapsed() < LONGEST_RUSH)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rush_begins_with_a_small_request_that_is_refused_and_ends_once_the_queue_has_drained_or_in_time() {
        let ms = Duration::from_millis;
        let mut admission = Admission::new(ms(100));
        let all = |admission: &Admission| [0, 10, 200].map(|rest| admission.wait_with(ms(rest)).as_millis());
        assert_eq!(all(&admission), [100, 180, 1700]);
        admission.refused(ms(13));
        assert_eq!(admission.wait(), ms(100));
        admission.refused(ms(12));
        assert_eq!(all(&admission), [25, 45, 425]);
        admission.drained();
        assert_eq!(all(&admission), [100, 180, 1700]);
        admission.refused(ms(0));
        admission.rush_began = Instant::now().checked_sub(LONGEST_RUSH);
        assert_eq!(all(&admission), [100, 180, 1700]);
        assert_eq!(Admission::new(Duration::MAX).wait_with(Duration::MAX), Duration::MAX);
    }
}

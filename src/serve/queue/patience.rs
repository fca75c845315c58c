//! How long requests may wait.
//!
//! A queue that is full when a rush begins would stay full for all of it, and make every request that is taken in wait for
//! as long as any may. So once one has been refused the rest may wait for a part of the time only, until the queue has drained.

use std::time::Duration;

/// A request may wait for as many times what its rows after the first take: else large ones would have one client at a time.
const TIMES_THE_REST: u32 = 8;
/// The part of the time for which requests may wait in a rush.
const IN_A_RUSH: u32 = 4;

#[derive(Debug)]
pub(super) struct Patience {
    most: Duration,
    is_rush: bool,
}

impl Patience {
    pub(super) fn new(most: Duration) -> Self {
        Self { most, is_rush: false }
    }

    /// How long a request of one row may wait now.
    pub(super) fn now(&self) -> Duration {
        self.with(Duration::ZERO)
    }

    /// The same for one whose rows after the first take so long.
    pub(super) fn with(&self, rest: Duration) -> Duration {
        let most = self.most.saturating_add(rest.saturating_mul(TIMES_THE_REST));
        if self.is_rush { most / IN_A_RUSH } else { most }
    }

    /// Notes that a request was refused whose rows after the first take so long. Large ones tell nothing of the others.
    pub(super) fn refused(&mut self, rest: Duration) {
        self.is_rush |= rest <= self.most;
    }

    /// Notes that nothing waits, and that sessions have nothing to do.
    pub(super) fn drained(&mut self) {
        self.is_rush = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rush_begins_with_a_small_request_that_is_refused_and_ends_once_the_queue_has_drained() {
        let ms = Duration::from_millis;
        let mut patience = Patience::new(ms(100));
        let all = |patience: &Patience| [0, 10, 200].map(|rest| patience.with(ms(rest)).as_millis());
        assert_eq!(all(&patience), [100, 180, 1700]);
        patience.refused(ms(101));
        assert_eq!(patience.now(), ms(100));
        patience.refused(ms(100));
        assert_eq!(all(&patience), [25, 45, 425]);
        patience.drained();
        assert_eq!(all(&patience), [100, 180, 1700]);
        assert_eq!(Patience::new(Duration::MAX).with(Duration::MAX), Duration::MAX);
    }
}

//! How fast work goes lately: how long what waits will take, and how much can be done in a time.

use std::time::Duration;

/// How much the last piece of work counts.
pub(super) const LAST: f64 = 0.2;

/// In units of whatever is counted, by so many workers.
#[derive(Debug)]
pub(super) struct Rate {
    workers: usize,
    /// What one worker does a second; unknown before the first piece of work.
    per_sec: Option<f64>,
}

impl Rate {
    pub(super) fn new(workers: usize) -> Self {
        Self { workers, per_sec: None }
    }

    /// Notes what one worker took for so much. Of nothing, it tells nothing.
    pub(super) fn note(&mut self, units: usize, time: Duration) {
        if units > 0 {
            let last = units as f64 / time.as_secs_f64().max(1e-6);
            let before = self.per_sec.unwrap_or(last);
            self.per_sec = Some(before + LAST * (last - before));
        }
    }

    /// How long all workers will take for so much; no time where nothing is known.
    pub(super) fn time_of(&self, units: f64) -> Duration {
        let secs = self.per_sec.map_or(0.0, |of_one| units / (of_one * self.workers as f64));
        Duration::try_from_secs_f64(secs).unwrap_or(Duration::MAX)
    }

    /// How much one worker does in a time; everything where nothing is known.
    pub(super) fn units_in(&self, secs: f64) -> usize {
        self.per_sec.map_or(usize::MAX, |of_one| (of_one * secs) as usize)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_work_in_any_time_leaves_a_rate_that_can_be_asked(
            noted in prop::collection::vec((any::<usize>(), any::<u64>()), 0..10),
            workers in 1_usize..64,
            units in any::<usize>(),
        ) {
            let mut rate = Rate::new(workers);
            for (units, nanos) in noted {
                rate.note(units, Duration::from_nanos(nanos));
            }
            prop_assert_eq!(rate.time_of(0.0), Duration::ZERO);
            prop_assert!(rate.time_of(units as f64) <= rate.time_of(2.0 * units as f64));
            prop_assert!(rate.units_in(1.0) <= rate.units_in(2.0));
        }
    }

    #[test]
    fn work_of_nothing_tells_nothing() {
        let mut rate = Rate::new(2);
        rate.note(0, Duration::from_secs(1));
        assert_eq!((rate.time_of(5.0), rate.units_in(5.0)), (Duration::ZERO, usize::MAX));
        rate.note(100, Duration::from_secs(1));
        rate.note(0, Duration::from_secs(1));
        assert_eq!((rate.time_of(100.0), rate.units_in(1.0)), (Duration::from_millis(500), 100));
    }
}

//! How long a request may wait that takes long itself.

use std::time::Duration;

/// A request may wait for as many times what it takes itself: else large ones would have one client at a time.
pub(super) const TIMES_ITS_OWN: u32 = 8;

/// How long a request may wait that takes so long itself, where one that takes no time may wait for `most`.
pub(super) fn with_its_own(most: Duration, own: Duration) -> Duration {
    most.saturating_add(own.saturating_mul(TIMES_ITS_OWN))
}

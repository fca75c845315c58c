//! The count of a request, however it ends.

use std::sync::Arc;
use std::time::Instant;

use super::app::App;
use super::metrics::InFlight;

/// What proxies write where a client hung up before its answer; no client gets to see it.
const CLIENT_GONE: u16 = 499;

/// A request under way. Dropped, it is counted: a server whose client has gone drops what it does for it.
pub(super) struct Counted {
    app: Arc<App>,
    route: String,
    /// That of the answer, once there is one.
    pub(super) status: u16,
    started: Instant,
    _in_flight: InFlight,
}

impl Counted {
    pub(super) fn new(app: Arc<App>, route: String) -> Self {
        let in_flight = app.metrics.begin();
        Self { app, route, status: CLIENT_GONE, started: Instant::now(), _in_flight: in_flight }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.app.metrics.request(&self.route, self.status, self.started.elapsed());
    }
}

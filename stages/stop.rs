//! Being asked to stop: the engine sends SIGTERM and waits; a stage that keeps its state does so and ends.

use std::fmt;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};

use signal_hook::consts::SIGTERM;

static REQUESTED: LazyLock<Arc<AtomicBool>> = LazyLock::new(Arc::default);

/// From now on SIGTERM is noted instead of ending the process. For stages that look at [`requested`].
pub(crate) fn watch() -> io::Result<()> {
    signal_hook::flag::register(SIGTERM, REQUESTED.clone()).map(drop)
}

pub(crate) fn requested() -> bool {
    REQUESTED.load(Ordering::Relaxed)
}

/// The error of a stage that stopped as it was asked to; it says how far the stage came.
#[derive(Debug)]
pub(crate) struct Stopped(pub(crate) String);

impl fmt::Display for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Stopped {}

//! A file that has no name until it is whole.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result};
use tempfile::TempPath;

/// The file as it is written, and its name to be. Shared with whoever removes it when the program is told to stop.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pending(Arc<Mutex<Option<(TempPath, PathBuf)>>>);

impl Pending {
    pub(super) fn set(&self, written: TempPath, name: PathBuf) {
        *self.lock() = Some((written, name));
    }

    /// Gives the file its name, if there is one.
    pub(super) fn persist(&self) -> Result<()> {
        // Held to the end: whoever discards comes before or after.
        let mut pending = self.lock();
        let Some((written, name)) = pending.take() else { return Ok(()) };
        written.persist(&name).with_context(|| format!("writing `{}`", name.display()))
    }

    pub(crate) fn discard(&self) {
        self.lock().take();
    }

    fn lock(&self) -> MutexGuard<'_, Option<(TempPath, PathBuf)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

//! A file that has no name until it is whole.

use std::fs::{File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result};
use tempfile::{Builder, TempPath};

/// The file as it is written, and its name to be. Shared with whoever removes it when the program is told to stop.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pending(Arc<Mutex<Option<(TempPath, PathBuf)>>>);

impl Pending {
    /// Makes the file, in the folder where it will have its name.
    pub(super) fn create(&self, name: &Path) -> io::Result<File> {
        let folder = name.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        // As any new file, not only for its owner as temporary ones are.
        let anybody = Permissions::from_mode(0o666);
        // Held to the end: whoever discards finds no file, or this one.
        let mut pending = self.lock();
        let (file, written) = Builder::new().permissions(anybody).tempfile_in(folder)?.into_parts();
        *pending = Some((written, name.to_owned()));
        Ok(file)
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

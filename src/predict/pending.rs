//! A file that has no name of its own until it is whole.

use std::ffi::{OsStr, OsString};
use std::fs::{File, Permissions};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use anyhow::{Context, Result};
use tempfile::{Builder, TempPath};

use super::target::folder;
use crate::mutex::lock;

/// Of a name, so much stands in that of the file as it is written: a system's names have 255 bytes at most.
const NAME_BYTES: usize = 200;

/// The file as it is written, and its name to be. Dropped, it takes with it what is not whole.
#[derive(Debug, Default)]
pub(crate) struct Pending(Shared);

type Shared = Arc<Mutex<Option<(TempPath, PathBuf)>>>;

impl Pending {
    /// Makes the file, in the folder where it will have its name.
    pub(super) fn create(&self, name: &Path) -> io::Result<File> {
        // As any new file, not only for its owner as temporary ones are.
        let anybody = Permissions::from_mode(0o666);
        let prefix = prefix(name);
        // Held to the end: whoever discards finds no file, or this one.
        let mut pending = lock(&self.0);
        let (file, written) =
            Builder::new().prefix(&prefix).permissions(anybody).tempfile_in(folder(name))?.into_parts();
        *pending = Some((written, name.to_owned()));
        Ok(file)
    }

    /// Gives the file its name, if there is one.
    pub(super) fn persist(&self) -> Result<()> {
        // Held to the end: whoever discards comes before or after.
        let mut pending = lock(&self.0);
        let Some((written, name)) = pending.take() else { return Ok(()) };
        let written = written.persist(&name).map_err(|error| error.error);
        written.with_context(|| format!("writing `{}`", name.display()))
    }

    /// Removes the file, for when the program is told to stop.
    pub(crate) fn discarder(&self) -> impl Fn() + Send + 'static {
        let pending = self.0.clone();
        move || drop(lock(&pending).take())
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        lock(&self.0).take();
    }
}

/// Hidden, and telling what it will be and whose it is.
fn prefix(name: &Path) -> OsString {
    let name = name.file_name().unwrap_or_default().as_bytes();
    let mut prefix = OsString::from(".");
    prefix.push(OsStr::from_bytes(&name[..name.len().min(NAME_BYTES)]));
    prefix.push(".bam-");
    prefix
}

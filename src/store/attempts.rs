//! Artifacts in the making: a folder `tmp/<fingerprint>.<letters>/` for each attempt.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use bam_contract::digest::Fingerprint;
use bam_contract::job::Job;
use tempfile::TempDir;

use super::{Asked, LOG, Lock, Pending, Store};

const FOLDER: &str = "tmp";

impl Store {
    /// Begins an artifact that is locked: an empty folder to write to, which goes away unless it is committed. It is this
    /// attempt's own, for what is left of an earlier one may still be writing into the one it had.
    pub(crate) fn begin(&self, kind: &str, fingerprint: Fingerprint, lock: Lock) -> Result<Pending> {
        let beginning = || format!("beginning an artifact in `{}`", self.shown.join(FOLDER).display());
        let folder = self.folder_for(fingerprint).with_context(beginning)?;
        Pending::create(folder, self.folder(kind, fingerprint), lock).with_context(beginning)
    }

    /// Removes an artifact that is locked; out of the store in one step, so that no half of it can be found there.
    pub(super) fn take_away(&self, kind: &str, fingerprint: Fingerprint) -> Result<()> {
        let folder = self.folder(kind, fingerprint);
        let removing = || format!("removing `{}`", self.shown(&folder).display());
        let doomed = self.folder_for(fingerprint).with_context(removing)?;
        // A folder may take the place of an empty one.
        fs::rename(&folder, doomed.path()).with_context(removing)?;
        doomed.close().with_context(removing)
    }

    fn folder_for(&self, fingerprint: Fingerprint) -> Result<TempDir> {
        let tmp = self.folder_in_root(FOLDER)?;
        Ok(tempfile::Builder::new().prefix(&format!("{fingerprint}.")).tempdir_in(tmp)?)
    }

    /// Removes what was being made by processes that are gone.
    pub(crate) fn sweep(&self) {
        for folder in self.attempts() {
            let Some(fingerprint) = fingerprint_of(&folder) else { continue };
            // The lock is held while it is removed, so that nobody begins meanwhile.
            if let Ok(Asked::Held(_lock)) = self.lock(fingerprint) {
                _ = fs::remove_dir_all(folder);
            }
        }
    }

    /// The log of a stage's worker that is under way.
    pub(super) fn log_under_way(&self, stage: &str) -> Option<PathBuf> {
        let is_of = |folder: &PathBuf| Job::read(&folder.join("job.json")).is_ok_and(|job| job.stage == stage);
        self.attempts().find(is_of).map(|folder| folder.join(LOG)).filter(|log| self.is_under_way(log))
    }

    /// Whether a log is of a worker that is under way: whose engine still holds the lock of what it makes.
    pub(crate) fn is_under_way(&self, log: &Path) -> bool {
        let folder = log.parent().filter(|folder| folder.starts_with(self.root.join(FOLDER)));
        log.exists() && folder.and_then(fingerprint_of).is_some_and(|fingerprint| self.is_locked(fingerprint))
    }

    fn attempts(&self) -> impl Iterator<Item = PathBuf> {
        fs::read_dir(self.root.join(FOLDER)).into_iter().flatten().flatten().map(|entry| entry.path())
    }
}

/// Whose attempt a folder is.
fn fingerprint_of(folder: &Path) -> Option<Fingerprint> {
    let name = folder.file_name()?.to_str()?;
    name.split('.').next()?.parse().ok()
}

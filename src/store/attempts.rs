//! Artifacts in the making: a folder `tmp/<fingerprint>.<letters>/` for each attempt.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::{Asked, LOG, Lock, Owner, Pending, SUBMITTED, Store};
use anyhow::{Context, Result};
use bam_contract::digest::Fingerprint;
use bam_contract::job::Job;

pub(super) const ATTEMPTS: &str = "tmp";

/// An attempt's folder, which goes when this is dropped, unless it is to be left.
#[derive(Debug)]
pub(super) struct Attempt {
    path: PathBuf,
    is_left: Cell<bool>,
}

impl Attempt {
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn leave(&self, is_left: bool) {
        self.is_left.set(is_left);
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if !self.is_left.get() {
            _ = fs::remove_dir_all(&self.path);
        }
    }
}

impl Store {
    /// Begins an artifact that is locked: an empty folder to write to, which goes away unless it is committed. It is this
    /// attempt's own, for what is left of an earlier one may still be writing into the one it had.
    pub(crate) fn begin(&self, kind: &str, fingerprint: Fingerprint, lock: Lock) -> Result<Pending> {
        let beginning = || format!("beginning an artifact in `{}`", self.shown.join(ATTEMPTS).display());
        let path = self.folder_for(fingerprint).with_context(beginning)?;
        let folder = Attempt { path, is_left: Cell::new(false) };
        Pending::create(folder, self.folder(kind, fingerprint), lock).with_context(beginning)
    }

    /// Attempts at an artifact that were submitted to a cluster by runs that are gone.
    pub(crate) fn left(&self, fingerprint: Fingerprint) -> Vec<PathBuf> {
        let is_of = |folder: &PathBuf| fingerprint_of(folder) == Some(fingerprint) && is_submitted(folder);
        self.attempts().filter(is_of).collect()
    }

    /// All attempts that were submitted, with what each makes.
    pub(super) fn submitted(&self) -> Vec<(PathBuf, Fingerprint)> {
        let submitted = self.attempts().filter(|folder| is_submitted(folder));
        submitted.filter_map(|folder| fingerprint_of(&folder).map(|fingerprint| (folder, fingerprint))).collect()
    }

    /// The same of a pipeline, where no process waits for them: with the stages' names.
    pub(crate) fn left_of(&self, owner: &Owner) -> Vec<(PathBuf, String)> {
        let submitted = self.submitted().into_iter().filter(|(_, made)| !self.is_locked(*made));
        let jobs = submitted.filter_map(|(folder, _)| Some((Job::read(&folder.join("job.json")).ok()?, folder)));
        let own = jobs.filter(|(job, _)| self.owner(&job.pipeline) == *owner);
        own.map(|(job, folder)| (folder, job.stage)).collect()
    }

    /// What jobs that were submitted read: it stays for them, though no process holds it.
    pub(crate) fn read_by_jobs(&self) -> BTreeSet<Fingerprint> {
        let jobs = self.submitted().into_iter().filter_map(|(folder, _)| Job::read(&folder.join("job.json")).ok());
        jobs.flat_map(|job| job.inputs).filter_map(|input| fingerprint_of(&input.path)).collect()
    }

    /// Goes on with an attempt at an artifact that is locked.
    pub(crate) fn take_over(&self, attempt: PathBuf, kind: &str, fingerprint: Fingerprint, lock: Lock) -> Pending {
        let attempt = Attempt { path: attempt, is_left: Cell::new(true) };
        Pending::take_over(attempt, self.folder(kind, fingerprint), lock)
    }

    /// Removes an artifact that is locked; out of the store in one step, so that no half of it can be found there.
    pub(super) fn take_away(&self, kind: &str, fingerprint: Fingerprint) -> Result<()> {
        let folder = self.folder(kind, fingerprint);
        if matches!(folder.try_exists(), Ok(false)) {
            return Ok(());
        }
        let removing = || format!("removing `{}`", self.shown(&folder).display());
        let doomed = self.folder_for(fingerprint).with_context(removing)?;
        // A folder may take the place of an empty one.
        fs::rename(&folder, &doomed).with_context(removing)?;
        fs::remove_dir_all(&doomed).with_context(removing)
    }

    fn folder_for(&self, fingerprint: Fingerprint) -> Result<PathBuf> {
        let tmp = self.folder_in_root(ATTEMPTS)?;
        // For all who may read the store; the user's umask applies.
        let permissions = fs::Permissions::from_mode(0o777);
        let mut folder = tempfile::Builder::new();
        Ok(folder.prefix(&format!("{fingerprint}.")).permissions(permissions).tempdir_in(tmp)?.keep())
    }

    /// Removes what was being made by processes that are gone, but for logs; what a cluster may still be making stays.
    pub(crate) fn sweep(&self) {
        for folder in self.attempts().filter(|folder| !is_submitted(folder)) {
            let Some(fingerprint) = fingerprint_of(&folder) else { continue };
            // The lock is held while it is removed, so that nobody begins meanwhile.
            if let Ok(Asked::Held(_lock)) = self.lock(fingerprint) {
                _ = self.end_attempt(&folder);
            }
        }
    }

    /// Removes an attempt whose process is gone, but for its log.
    pub(super) fn end_attempt(&self, folder: &Path) -> io::Result<()> {
        let log = folder.join(LOG);
        if let Ok(job) = Job::read(&folder.join("job.json")) {
            let owner = self.owner(&job.pipeline);
            if self.is_last_word(&owner, &job.stage, &log) {
                self.keep_stopped(&owner, &job.stage, &log);
            }
        }
        match fs::remove_dir_all(folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed,
        }
    }

    /// Stages of a pipeline that processes which are gone were making.
    pub(crate) fn cut_off_of(&self, owner: &Owner) -> BTreeSet<String> {
        let jobs = self.cut_off().filter_map(|(folder, _)| Job::read(&folder.join("job.json")).ok());
        jobs.filter(|job| self.owner(&job.pipeline) == *owner).map(|job| job.stage).collect()
    }

    /// Attempts whose processes are gone, with what each was to make.
    pub(super) fn cut_off(&self) -> impl Iterator<Item = (PathBuf, Fingerprint)> {
        let named =
            self.attempts().filter_map(|folder| fingerprint_of(&folder).map(|fingerprint| (folder, fingerprint)));
        named.filter(|(folder, fingerprint)| !is_submitted(folder) && !self.is_locked(*fingerprint))
    }

    /// The log of a stage's worker that is under way.
    pub(super) fn log_under_way(&self, stage: &str) -> Option<PathBuf> {
        self.attempts_of(stage).map(|folder| folder.join(LOG)).find(|log| self.is_under_way(log))
    }

    /// Folders of attempts at a stage of that name, under way or left by processes that are gone.
    pub(super) fn attempts_of(&self, stage: &str) -> impl Iterator<Item = PathBuf> {
        self.attempts().filter(move |folder| Job::read(&folder.join("job.json")).is_ok_and(|job| job.stage == stage))
    }

    /// Whether a log is of a worker that is under way: whose engine still holds the lock of what it makes.
    pub(crate) fn is_under_way(&self, log: &Path) -> bool {
        let folder = log.parent().filter(|folder| folder.starts_with(self.root.join(ATTEMPTS)));
        log.exists() && folder.and_then(fingerprint_of).is_some_and(|fingerprint| self.is_locked(fingerprint))
    }

    fn attempts(&self) -> impl Iterator<Item = PathBuf> {
        fs::read_dir(self.root.join(ATTEMPTS)).into_iter().flatten().flatten().map(|entry| entry.path())
    }
}

/// Whether a cluster may be making it, as far as can be told: what may not be looked at is another user's.
fn is_submitted(folder: &Path) -> bool {
    folder.join(SUBMITTED).try_exists().unwrap_or(true)
}

/// Whose attempt a folder is.
fn fingerprint_of(folder: &Path) -> Option<Fingerprint> {
    let name = folder.file_name()?.to_str()?;
    name.split('.').next()?.parse().ok()
}

//! What is kept of stages that ended without an artifact, till a later run makes it good: `failed/<pipeline>/<stage>/` has why, and the
//! log of the worker; `stopped/<pipeline>/<stage>/` the log of one that was stopped or killed.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use bam_contract::fault::hint_of;
use serde::{Deserialize, Serialize};

use super::{LAST, LOG, Owner, Pending, Store};

pub(super) const FAILED: &str = "failed";
pub(super) const STOPPED: &str = "stopped";
const WHY: &str = "failure.json";

/// Why a stage failed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Failure {
    /// From the outermost in.
    pub(crate) causes: Vec<String>,
    pub(crate) hint: Option<String>,
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        let hint = hint_of(&error).map(ToOwned::to_owned);
        Self { causes: error.chain().map(ToString::to_string).collect(), hint }
    }
}

impl Failure {
    /// All causes on one line.
    pub(crate) fn line(&self) -> String {
        self.causes.join(": ").split_whitespace().collect::<Vec<_>>().join(" ")
    }
}

/// What a stage that is not under way has left.
#[derive(Debug, Default)]
pub(crate) struct LastWords {
    pub(crate) log: Option<PathBuf>,
    pub(crate) failure: Option<Failure>,
}

impl Store {
    /// Keeps why a stage failed, and the log of its worker where there was one; returns where.
    ///
    /// # Errors
    /// When the log can't be kept. Why it failed is told all the same, so that this may be lost.
    pub(crate) fn keep_failure(
        &self,
        owner: &Owner,
        stage: &str,
        failure: &Failure,
        pending: Option<&Pending>,
    ) -> Result<Option<PathBuf>> {
        self.forget_end(owner, stage);
        let name = format!("{FAILED}/{}/{stage}", owner.name());
        let folder = self.folder_in_root(&name);
        // Before the log is there: who follows it looks for this when it has moved.
        if let (Ok(_), Ok(why)) = (&folder, serde_json::to_vec(failure)) {
            _ = self.write(&format!("{name}/{WHY}"), &why);
        }
        let Some(pending) = pending else { return Ok(None) };
        let log = folder?.join(LOG);
        take_log(&pending.log(), &log).with_context(|| format!("keeping `{}`", self.shown(&log).display()))?;
        Ok(Some(log))
    }

    /// Why a stage of this pipeline failed, if it did when it was last run.
    pub(crate) fn failure(&self, owner: &Owner, stage: &str) -> Option<Failure> {
        read_failure(&self.kept_of(FAILED, owner, stage))
    }

    /// The log that a failed stage of this pipeline left.
    pub(crate) fn failed_log(&self, owner: &Owner, stage: &str) -> Option<PathBuf> {
        Some(self.kept_of(FAILED, owner, stage).join(LOG)).filter(|log| log.exists())
    }

    /// Keeps the log of a worker that was stopped or killed, in the place of how the stage ended before. It is lost where it
    /// can't be kept.
    pub(crate) fn keep_stopped(&self, owner: &Owner, stage: &str, log: &Path) {
        self.forget_end(owner, stage);
        if let Ok(folder) = self.folder_in_root(&format!("{STOPPED}/{}/{stage}", owner.name())) {
            _ = take_log(log, &folder.join(LOG));
        }
    }

    /// Whether a stage of this pipeline was stopped or killed when it was last run.
    pub(crate) fn was_stopped(&self, owner: &Owner, stage: &str) -> bool {
        self.kept_of(STOPPED, owner, stage).exists()
    }

    /// Forgets how a stage ended that a later run made good.
    pub(crate) fn forget_end(&self, owner: &Owner, stage: &str) {
        for folder in [FAILED, STOPPED] {
            let kept = self.kept_of(folder, owner, stage);
            if fs::remove_dir_all(&kept).is_ok() {
                // The pipeline's own, if that was the last.
                _ = kept.parent().map(fs::remove_dir);
            }
        }
    }

    /// Whether nothing newer than that log is known of how a stage of this pipeline ended.
    pub(super) fn is_last_word(&self, owner: &Owner, stage: &str, log: &Path) -> bool {
        let changed = |path: &Path| fs::symlink_metadata(path).and_then(|metadata| metadata.modified()).ok();
        let others = [FAILED, STOPPED, LAST].map(|folder| changed(&self.kept_of(folder, owner, stage)));
        others.into_iter().flatten().max() <= changed(log)
    }

    /// What a stage of that name has left when it was last run, of whatever pipeline.
    pub(crate) fn last_words(&self, stage: &str) -> LastWords {
        let latest = self.latest_link(stage);
        let changed = |path: &Path| fs::symlink_metadata(path).and_then(|metadata| metadata.modified()).ok();
        let made = self.latest(stage).and_then(|(_, manifest)| manifest).map(|manifest| {
            let made = UNIX_EPOCH + Duration::from_secs(manifest.provenance.finished_unix_secs);
            made.max(changed(&latest.join(LOG)).unwrap_or(UNIX_EPOCH))
        });
        let failed = self.kept_of_any(FAILED, stage).map(|folder| (changed(&folder), folder));
        let stopped = self.attempts_of(stage).chain(self.kept_of_any(STOPPED, stage));
        let stopped = stopped.map(|folder| (changed(&folder.join(LOG)), folder));
        let ends: Vec<(Option<SystemTime>, PathBuf)> =
            [(made, latest)].into_iter().chain(failed).chain(stopped).collect();
        let Some((Some(_), last)) = ends.into_iter().max_by_key(|(time, _)| *time) else {
            return LastWords::default();
        };
        LastWords { log: Some(last.join(LOG)).filter(|log| log.exists()), failure: read_failure(&last) }
    }
}

fn read_failure(folder: &Path) -> Option<Failure> {
    serde_json::from_slice(&fs::read(folder.join(WHY)).ok()?).ok()
}

/// Moves a log, and gives back the room that was kept for its last words.
fn take_log(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to)?;
    let log = fs::File::options().write(true).open(to)?;
    log.set_len(log.metadata()?.len())
}

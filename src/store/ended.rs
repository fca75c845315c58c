//! What is kept of stages that ended without an artifact, till a later run makes it good: `failed/<stage>/` has why, and the log of the
//! worker; `stopped/<stage>/` the log of one that was stopped or killed.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use bam_contract::fault::hint_of;
use serde::{Deserialize, Serialize};

use super::{LOG, Pending, Store};

const FAILED: &str = "failed";
const STOPPED: &str = "stopped";
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

/// A failure as it is kept: pipelines of one folder may have stages of one name.
#[derive(Serialize, Deserialize)]
struct Kept {
    /// The pipeline file; from the folder that the store lies in, where it is below that.
    pipeline: PathBuf,
    #[serde(flatten)]
    failure: Failure,
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
        pipeline: &Path,
        stage: &str,
        failure: &Failure,
        pending: Option<&Pending>,
    ) -> Result<Option<PathBuf>> {
        self.forget(FAILED, stage);
        self.forget(STOPPED, stage);
        let name = format!("{FAILED}/{stage}");
        let folder = self.folder_in_root(&name);
        let kept = Kept { pipeline: self.near(pipeline), failure: failure.clone() };
        // Before the log is there: who follows it looks for this when it has moved.
        if let (Ok(_), Ok(why)) = (&folder, serde_json::to_vec(&kept)) {
            _ = self.write(&format!("{name}/{WHY}"), &why);
        }
        let Some(pending) = pending else { return Ok(None) };
        let log = folder?.join(LOG);
        take_log(&pending.log(), &log).with_context(|| format!("keeping `{}`", self.shown(&log).display()))?;
        Ok(Some(log))
    }

    /// Why a stage of this pipeline failed, if it did when it was last run.
    pub(crate) fn failure(&self, pipeline: &Path, stage: &str) -> Option<Failure> {
        let kept = self.kept(stage)?;
        (kept.pipeline == self.near(pipeline)).then_some(kept.failure)
    }

    /// The log that a failed stage left.
    pub(crate) fn failed_log(&self, stage: &str) -> Option<PathBuf> {
        Some(self.root.join(FAILED).join(stage).join(LOG)).filter(|log| log.exists())
    }

    /// Keeps the log of a worker that was stopped or killed, if it said anything. It is lost where it can't be kept.
    pub(crate) fn keep_stopped(&self, stage: &str, log: &Path) {
        if fs::metadata(log).is_ok_and(|metadata| metadata.len() > 0)
            && let Ok(folder) = self.folder_in_root(&format!("{STOPPED}/{stage}"))
        {
            _ = take_log(log, &folder.join(LOG));
        }
    }

    /// Forgets how a stage ended that a later run made good: a failure only if it was of this pipeline.
    pub(crate) fn forget_end(&self, pipeline: &Path, stage: &str) {
        let folder = self.root.join(FAILED).join(stage);
        // A folder without a record, as an earlier version left it, is anybody's.
        if folder.exists() && self.kept(stage).is_none_or(|kept| kept.pipeline == self.near(pipeline)) {
            self.forget(FAILED, stage);
        }
        self.forget(STOPPED, stage);
    }

    /// What a stage of that name has left when it was last run, of whatever pipeline.
    pub(crate) fn last_words(&self, stage: &str) -> LastWords {
        let (failed, stopped) = (self.root.join(FAILED).join(stage), self.root.join(STOPPED).join(stage));
        let latest = self.latest_link(stage);
        let changed = |path: &Path| fs::symlink_metadata(path).and_then(|metadata| metadata.modified()).ok();
        let made = self.latest(stage).and_then(|(_, manifest)| manifest).map(|manifest| {
            let made = UNIX_EPOCH + Duration::from_secs(manifest.provenance.finished_unix_secs);
            made.max(changed(&latest.join(LOG)).unwrap_or(UNIX_EPOCH))
        });
        let mut ends: Vec<(Option<SystemTime>, PathBuf)> = vec![(made, latest), (changed(&failed), failed.clone())];
        let stopped = self.attempts_of(stage).chain([stopped]);
        ends.extend(stopped.map(|folder| (changed(&folder.join(LOG)), folder)));
        let Some((Some(_), last)) = ends.into_iter().max_by_key(|(time, _)| *time) else {
            return LastWords::default();
        };
        let failure = (last == failed).then(|| self.kept(stage).map(|kept| kept.failure)).flatten();
        LastWords { log: Some(last.join(LOG)).filter(|log| log.exists()), failure }
    }

    fn kept(&self, stage: &str) -> Option<Kept> {
        serde_json::from_slice(&fs::read(self.root.join(FAILED).join(stage).join(WHY)).ok()?).ok()
    }

    fn forget(&self, how: &str, stage: &str) {
        _ = fs::remove_dir_all(self.root.join(how).join(stage));
    }

    /// A pipeline file's path that stays when its folder is moved with the store.
    fn near(&self, pipeline: &Path) -> PathBuf {
        let home = self.root.parent().unwrap_or(&self.root);
        pipeline.strip_prefix(home).unwrap_or(pipeline).to_owned()
    }
}

/// Moves a log, and gives back the room that was kept for its last words.
fn take_log(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to)?;
    let log = fs::File::options().write(true).open(to)?;
    log.set_len(log.metadata()?.len())
}

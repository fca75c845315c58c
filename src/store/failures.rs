//! What is kept of stages that failed: why, and the log of the worker, till a later run makes it good.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use bam_contract::fault::hint_of;
use serde::{Deserialize, Serialize};

use super::{LOG, Pending, Store};

const FOLDER: &str = "failed";
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

impl Store {
    /// Keeps why a stage failed, and the log of its worker where there was one; returns where.
    ///
    /// # Errors
    /// When the log can't be kept. Why it failed is told all the same, so that this may be lost.
    pub(crate) fn keep_failure(
        &self,
        stage: &str,
        failure: &Failure,
        pending: Option<&Pending>,
    ) -> Result<Option<PathBuf>> {
        self.forget_failure(stage);
        let name = format!("{FOLDER}/{stage}");
        let folder = self.folder_in_root(&name);
        // Before the log is there: who follows it looks for this when it has moved.
        if let (Ok(_), Ok(why)) = (&folder, serde_json::to_vec(failure)) {
            _ = self.write(&format!("{name}/{WHY}"), &why);
        }
        let Some(pending) = pending else { return Ok(None) };
        let log = folder?.join(LOG);
        fs::rename(pending.log(), &log).with_context(|| format!("keeping `{}`", self.shown(&log).display()))?;
        Ok(Some(log))
    }

    /// Why a stage failed, if it did when it was last run.
    pub(crate) fn failure(&self, stage: &str) -> Option<Failure> {
        serde_json::from_slice(&fs::read(self.root.join(FOLDER).join(stage).join(WHY)).ok()?).ok()
    }

    /// The log of a stage's last run, if that failed.
    pub(crate) fn failed_log(&self, stage: &str) -> Option<PathBuf> {
        let log = self.root.join(FOLDER).join(stage).join(LOG);
        log.exists().then_some(log)
    }

    /// Forgets a failure that a later run made good.
    pub(crate) fn forget_failure(&self, stage: &str) {
        let _ = fs::remove_dir_all(self.root.join(FOLDER).join(stage));
    }
}

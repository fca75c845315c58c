//! What is kept about runs: their records, and their stages' logs.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::Result;
use bam_contract::digest::Fingerprint;
use serde_json::Value;

use super::{Owner, Store};

/// The outcome of a run that goes on.
pub(crate) const RUNNING: &str = "running";
/// And of one whose process is gone.
pub(crate) const KILLED: &str = "killed";

impl Store {
    /// Keeps the record of a run under its name. While the file that is returned stays open, a run that is `running` by its
    /// record is; later it must have been killed.
    pub(crate) fn save_run(&self, name: &str, record: &[u8]) -> Result<File> {
        self.folder_in_root("runs")?;
        self.put(&format!("runs/{name}.json"), record, |file| file.try_lock().map_err(Into::into))
    }

    /// Records of all runs, the last one first; those that can't be read are left out.
    pub(crate) fn runs(&self) -> impl Iterator<Item = Value> {
        self.run_paths().into_iter().rev().filter_map(|path| read_run(&path).ok())
    }

    /// The record of the last run of a pipeline, if it was one of the last hundred.
    pub(crate) fn last_run(&self, owner: &Owner) -> Option<Value> {
        self.runs().take(100).find(|run| run["owner"] == owner.name())
    }

    /// Whether a run is under way that has not come to a stage yet.
    pub(crate) fn is_yet_to_start(&self, stage: &str) -> bool {
        let is_among = |list: &Value, name: fn(&Value) -> &Value| {
            list.as_array().is_some_and(|list| list.iter().any(|item| name(item) == stage))
        };
        let is_to_come = |run: Value| {
            is_among(&run["planned"], |name| name) && !is_among(&run["stages"], |settled| &settled["stage"])
        };
        self.runs_under_way().any(is_to_come) && self.log_under_way(stage).is_none()
    }

    /// What runs that are under way have made or found so far, and may still need.
    pub(crate) fn named_by_runs_under_way(&self) -> BTreeSet<Fingerprint> {
        let stages = self.runs_under_way().flat_map(|run| run["stages"].as_array().cloned().unwrap_or_default());
        stages.filter_map(|stage| stage["fingerprint"].as_str()?.parse().ok()).collect()
    }

    /// Their records alone are read.
    fn runs_under_way(&self) -> impl Iterator<Item = Value> {
        let records = self.run_paths().into_iter().filter(|path| is_held(path)).filter_map(|path| read_run(&path).ok());
        records.filter(|run| run["outcome"] == RUNNING)
    }

    /// By time.
    fn run_paths(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.root.join("runs")).into_iter().flatten().flatten();
        let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
        paths.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
        paths.sort();
        paths
    }

    /// The log of a stage's worker: of the one under way, else of the last, however it ended.
    pub(crate) fn log_of(&self, stage: &str) -> Option<PathBuf> {
        self.log_under_way(stage).or_else(|| self.last_words(stage).log)
    }
}

/// Whether the process that writes a record goes on.
pub(super) fn is_held(path: &Path) -> bool {
    File::open(path).is_ok_and(|file| file.try_lock_shared().is_err())
}

fn read_run(path: &Path) -> Result<Value> {
    let mut file = File::open(path)?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    let mut run: Value = serde_json::from_slice(&bytes)?;
    if run["outcome"] == RUNNING && file.try_lock_shared().is_ok() {
        run["outcome"] = KILLED.into();
    }
    Ok(run)
}

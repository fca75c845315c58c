//! What is kept about runs: their records, and their stages' logs.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;
use bam_contract::job::Job;
use serde_json::Value;

use super::{LOG, Store};

impl Store {
    /// Keeps the record of a run under its time.
    pub(crate) fn save_run(&self, time: &str, record: &[u8]) -> Result<()> {
        self.folder_in_root("runs")?;
        self.write(&format!("runs/{time}.json"), record)
    }

    /// Records of all runs, the last one first; those that can't be read are left out.
    pub(crate) fn runs(&self) -> Vec<Value> {
        let mut paths = self.run_paths();
        paths.reverse();
        paths.iter().filter_map(|path| serde_json::from_slice(&fs::read(path).ok()?).ok()).collect()
    }

    /// The record of the last run.
    pub(crate) fn last_run(&self) -> Option<Value> {
        serde_json::from_slice(&fs::read(self.run_paths().pop()?).ok()?).ok()
    }

    /// By time.
    fn run_paths(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.root.join("runs")).into_iter().flatten().flatten();
        let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
        paths.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
        paths.sort();
        paths
    }

    /// The log of a stage's worker: of the one under way, else of the last, failed or not.
    pub(crate) fn log_of(&self, stage: &str) -> Option<PathBuf> {
        let entries = fs::read_dir(self.root.join("tmp")).into_iter().flatten().flatten();
        let mut under_way = entries
            .map(|entry| entry.path())
            .filter(|folder| Job::read(&folder.join("job.json")).is_ok_and(|job| job.stage == stage));
        let latest = || Some(self.latest_link(stage).join(LOG)).filter(|log| log.exists());
        under_way.next().map(|folder| folder.join(LOG)).or_else(|| self.failed_log(stage)).or_else(latest)
    }

    /// Whether that log is of a worker under way.
    pub(crate) fn is_running(&self, log: &Path) -> bool {
        log.starts_with(self.root.join("tmp")) && log.exists()
    }
}

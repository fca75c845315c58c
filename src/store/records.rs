//! What is kept about runs: their records, and their stages' logs.

use std::fs;
use std::path::PathBuf;

use anyhow::Result;
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
        let latest = || Some(self.latest_link(stage).join(LOG)).filter(|log| log.exists());
        self.log_under_way(stage).or_else(|| self.failed_log(stage)).or_else(latest)
    }
}

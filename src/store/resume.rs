//! States of unfinished stages: `resume/<fingerprint>/`, which the worker writes, with a note of whose they are.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use bam_contract::digest::Fingerprint;
use bam_contract::job::STATE_FILE;
use bam_contract::manifest::Key;
use serde::{Deserialize, Serialize};

use super::{Store, refresh};

pub(super) const NOTE: &str = "stage.json";

/// Whose state it is.
#[derive(Debug, Serialize, Deserialize)]
struct Note {
    stage: String,
    key: Key,
}

impl Store {
    /// Where a stage keeps the state that it can go on from, whether there or not.
    pub(crate) fn resume_folder(&self, fingerprint: Fingerprint) -> PathBuf {
        self.root.join("resume").join(fingerprint.to_string())
    }

    /// Notes whose state that folder is to hold.
    pub(crate) fn note_resume(&self, stage: &str, key: &Key) -> Result<()> {
        // Another host may have removed the stage's own a moment ago, which a network file system may not show yet.
        refresh(&self.folder_in_root("resume")?);
        let folder = format!("resume/{}", key.fingerprint());
        self.folder_in_root(&folder)?;
        let note = Note { stage: stage.to_owned(), key: key.clone() };
        self.write(&format!("{folder}/{NOTE}"), &serde_json::to_vec(&note).context("noting whose state it is")?)
    }

    /// Whether there is a state that a stage can go on from.
    pub(crate) fn has_state(&self, fingerprint: Fingerprint) -> bool {
        self.resume_folder(fingerprint).join(STATE_FILE).exists()
    }

    /// Keys of unfinished states of a stage of that name.
    pub(crate) fn unfinished(&self, stage: &str) -> Vec<Key> {
        let entries = fs::read_dir(self.root.join("resume")).into_iter().flatten().flatten();
        let note = |folder: PathBuf| -> Option<Note> {
            folder.join(STATE_FILE).exists().then_some(())?;
            serde_json::from_slice(&fs::read(folder.join(NOTE)).ok()?).ok()
        };
        let notes = entries.filter_map(|entry| note(entry.path())).filter(|note| note.stage == stage);
        notes.map(|note| note.key).collect()
    }

    /// Removes the state of a stage that is done.
    pub(crate) fn forget_resume(&self, fingerprint: Fingerprint) {
        _ = fs::remove_dir_all(self.resume_folder(fingerprint));
    }
}

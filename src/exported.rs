//! What runs have exported.

use std::fs;
use std::path::PathBuf;
use std::time::SystemTime;

use bam_contract::artifact::ArtifactKind;
use bam_contract::digest::Fingerprint;
use bam_contract::stage::KINDS;
use serde_json::Value;

use crate::run::Outcome;
use crate::store::{Store, read_manifest};

/// The model that the last run of a pipeline exported, of those runs that ended well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Exported {
    pub(crate) folder: PathBuf,
    /// Whose run it was, as records name pipeline files.
    owner: String,
}

impl Exported {
    /// Of whichever pipeline ran last.
    pub(crate) fn last(store: &Store) -> Option<Self> {
        Self::last_of(store, |_| true)
    }

    /// The same pipeline's, now.
    pub(crate) fn renewed(&self, store: &Store) -> Option<Self> {
        Self::last_of(store, |owner| owner == self.owner)
    }

    /// By the runs' records: `latest/` moves on while a run goes on, and stays there when a later stage, such as `score`, fails.
    fn last_of(store: &Store, fits: impl Fn(&str) -> bool) -> Option<Self> {
        let of_run = |run: Value| {
            let owner = run["owner"].as_str().filter(|owner| fits(owner))?;
            let stages = run["stages"].as_array()?.iter().rev();
            let mut fingerprints = stages.filter_map(|stage| stage["fingerprint"].as_str()?.parse().ok());
            let folder = fingerprints.find_map(|fingerprint| folder_of_model(store, fingerprint))?;
            Some(Self { folder, owner: owner.to_owned() })
        };
        store.runs().filter(|run| run["outcome"] == Outcome::Done.name()).find_map(of_run)
    }
}

fn folder_of_model(store: &Store, fingerprint: Fingerprint) -> Option<PathBuf> {
    let is_model =
        |folder: &PathBuf| read_manifest(folder).is_ok_and(|manifest| manifest.artifact == ArtifactKind::OnnxModel);
    KINDS.iter().map(|kind| store.folder(kind.name, fingerprint)).find(is_model)
}

/// When a run's record was last written.
pub(crate) fn runs_changed(store: &Store) -> Option<SystemTime> {
    fs::metadata(store.root().join("runs")).ok()?.modified().ok()
}

//! What runs have exported.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::time::SystemTime;

use bam_contract::artifact::ArtifactKind;
use bam_contract::digest::Fingerprint;
use bam_contract::stage::KINDS;
use serde_json::Value;

use crate::run::Outcome;
use crate::store::{Store, file_of, read_manifest};

/// Runs that are looked through for stages that refused a model.
const RUNS: usize = 100;

/// The model that the last run of a pipeline exported, of those runs that ended well; but for models that a stage refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Exported {
    pub(crate) folder: PathBuf,
    /// Whose run it was, as records name pipeline files.
    owner: String,
    /// Stages that exported models beside it.
    others: Vec<String>,
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

    /// Where it comes from: the pipeline's file, as far as it is known, and what else was exported there.
    pub(crate) fn origin(&self) -> String {
        let pipeline = file_of(&self.owner).map_or_else(|| self.owner.clone(), |file| file.display().to_string());
        match self.others.as_slice() {
            [] => format!("`{pipeline}`"),
            others => format!("`{pipeline}`, which exported {} too", others.join(", ")),
        }
    }

    /// By the runs' records: `latest/` moves on while a run goes on, and stays there when a later stage, such as `score`, fails.
    fn last_of(store: &Store, fits: impl Fn(&str) -> bool) -> Option<Self> {
        let of_run = |run: Value| {
            let owner = run["owner"].as_str().filter(|owner| fits(owner))?;
            let mut models = made_by(&run).into_iter().filter_map(|fingerprint| {
                let (folder, stage) = model_of(store, fingerprint)?;
                (!is_refused(store, owner, fingerprint)).then_some((folder, stage))
            });
            let (folder, _) = models.next()?;
            let others = models.map(|(_, stage)| format!("`{stage}`")).collect();
            Some(Self { folder, owner: owner.to_owned(), others })
        };
        store.runs().filter(ended_well).find_map(of_run)
    }
}

fn ended_well(run: &Value) -> bool {
    run["outcome"] == Outcome::Done.name()
}

fn stages(run: &Value) -> impl Iterator<Item = &Value> {
    run["stages"].as_array().into_iter().flatten()
}

/// What a run made or found there, from the end of the plan on. Records have stages as they ended, which is chance.
fn made_by(run: &Value) -> Vec<Fingerprint> {
    let made = |stage: &Value| Some((stage["index"].as_u64()?, stage["fingerprint"].as_str()?.parse().ok()?));
    let mut made: Vec<(u64, Fingerprint)> = stages(run).filter_map(made).collect();
    made.sort_by_key(|(index, _)| Reverse(*index));
    made.into_iter().map(|(_, fingerprint)| fingerprint).collect()
}

/// Whether a stage that reads the model, such as `score`, failed when a run with this model last came to it. A run of a part of
/// the pipeline may have left that stage out since, and ended well; where all of it did, no stage is left that refuses the model.
fn is_refused(store: &Store, owner: &str, model: Fingerprint) -> bool {
    let name = model.to_string();
    let has_model = |run: &Value| run["owner"] == owner && stages(run).any(|stage| stage["fingerprint"] == name);
    let mut judged = BTreeSet::new();
    for run in store.runs().take(RUNS).filter(has_model) {
        if ended_well(&run) && run["targets"].as_array().is_some_and(Vec::is_empty) {
            return false;
        }
        for stage in stages(&run).filter(|stage| stage["event"] == "failed" || stage["fingerprint"].is_string()) {
            let reads_it =
                || stage["inputs"].as_array().is_some_and(|inputs| inputs.iter().any(|input| *input == name));
            let is_last_word = judged.insert(stage["stage"].to_string());
            if is_last_word && stage["event"] == "failed" && reads_it() {
                return true;
            }
        }
    }
    false
}

/// An exported model's folder, and the stage that made it.
fn model_of(store: &Store, fingerprint: Fingerprint) -> Option<(PathBuf, String)> {
    KINDS.iter().map(|kind| store.folder(kind.name, fingerprint)).find_map(|folder| {
        let manifest = read_manifest(&folder).ok().filter(|manifest| manifest.artifact == ArtifactKind::OnnxModel)?;
        Some((folder, manifest.stage))
    })
}

/// When a run's record was last written.
pub(crate) fn runs_changed(store: &Store) -> Option<SystemTime> {
    fs::metadata(store.root().join("runs")).ok()?.modified().ok()
}

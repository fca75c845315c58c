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
/// Other models that are told.
const MOST_TOLD: usize = 3;

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
            others if others.len() > MOST_TOLD => {
                let more = others.len() - MOST_TOLD;
                format!("`{pipeline}`, which exported {} and {more} more too", others[..MOST_TOLD].join(", "))
            }
            others => format!("`{pipeline}`, which exported {} too", others.join(", ")),
        }
    }

    /// By the runs' records: `latest/` moves on while a run goes on, and stays there when a later stage, such as `score`, fails.
    fn last_of(store: &Store, fits: impl Fn(&str) -> bool) -> Option<Self> {
        let of_run = |run: Value| {
            let owner = run["owner"].as_str().filter(|owner| fits(owner))?;
            let is_model = |(fingerprint, _): &(Fingerprint, String)| folder_of_model(store, *fingerprint).is_some();
            let models: Vec<_> = made_by(&run).into_iter().filter(is_model).collect();
            let (chosen, _) = *models.iter().find(|(fingerprint, _)| !is_refused(store, owner, *fingerprint))?;
            let others = models.into_iter().filter(|(fingerprint, _)| *fingerprint != chosen);
            let others = others.map(|(_, stage)| format!("`{stage}`")).collect();
            Some(Self { folder: folder_of_model(store, chosen)?, owner: owner.to_owned(), others })
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

/// What a run made or found there, by the run's names of stages, from the end of the plan on. Records have stages as they ended,
/// which is chance.
fn made_by(run: &Value) -> Vec<(Fingerprint, String)> {
    let made = |stage: &Value| {
        let fingerprint = stage["fingerprint"].as_str()?.parse().ok()?;
        Some((stage["index"].as_u64()?, fingerprint, stage["stage"].as_str()?.to_owned()))
    };
    let mut made: Vec<_> = stages(run).filter_map(made).collect();
    made.sort_by_key(|(index, ..)| Reverse(*index));
    made.into_iter().map(|(_, fingerprint, stage)| (fingerprint, stage)).collect()
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

fn folder_of_model(store: &Store, fingerprint: Fingerprint) -> Option<PathBuf> {
    let is_model =
        |folder: &PathBuf| read_manifest(folder).is_ok_and(|manifest| manifest.artifact == ArtifactKind::OnnxModel);
    KINDS.iter().map(|kind| store.folder(kind.name, fingerprint)).find(is_model)
}

/// When a run's record was last written.
pub(crate) fn runs_changed(store: &Store) -> Option<SystemTime> {
    fs::metadata(store.root().join("runs")).ok()?.modified().ok()
}

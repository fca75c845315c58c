//! Where a model comes from, and how well it did.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{PoisonError, RwLock};

use bam_contract::artifact::scores::Scores;
use bam_contract::digest::Fingerprint;
use bam_contract::manifest::Manifest;
use bam_contract::metric::Metric;
use bam_contract::task::Split;

use crate::store::{Store, read_manifest};

#[derive(Debug)]
pub(super) struct About {
    pub(super) fingerprint: Fingerprint,
    /// What its folder says of how it was made, where it does.
    manifest: Option<Manifest>,
    dev_scores: RwLock<Vec<DevScore>>,
}

/// A metric on a task's dev split, from a `score` stage.
#[derive(Debug)]
struct DevScore {
    task: String,
    metric: Metric,
    value: f64,
}

impl About {
    pub(super) fn new(folder: &Path, fingerprint: Fingerprint, store: &Store) -> Self {
        let manifest = read_manifest(folder).ok().filter(|manifest| manifest.fingerprint == fingerprint);
        let about = Self { fingerprint, manifest, dev_scores: RwLock::default() };
        about.look_for_scores(store);
        about
    }

    /// `onnx (fd59ccc9)`
    pub(super) fn name(&self) -> String {
        format!("{} ({})", self.stage().unwrap_or("model"), self.fingerprint.short())
    }

    /// The stage that made it, where its folder tells.
    pub(super) fn stage(&self) -> Option<&str> {
        self.manifest.as_ref().map(|manifest| manifest.stage.as_str())
    }

    /// A task's scores by metric; none where no `score` stage has scored this very model.
    pub(super) fn dev_scores(&self, task: &str) -> BTreeMap<&'static str, f64> {
        let scores = self.dev_scores.read().unwrap_or_else(PoisonError::into_inner);
        scores.iter().filter(|score| score.task == task).map(|score| (score.metric.name(), score.value)).collect()
    }

    /// A model is scored after it is made, when it may be served already.
    pub(super) fn look_for_scores(&self, store: &Store) {
        if let Some(model) = &self.manifest {
            *self.dev_scores.write().unwrap_or_else(PoisonError::into_inner) = dev_scores(model, store);
        }
    }
}

/// What the newest `score` stage says that read these very bytes.
fn dev_scores(model: &Manifest, store: &Store) -> Vec<DevScore> {
    let slot = format!("models.{}", model.stage);
    let mut scored = store.all_of("score");
    scored.retain(|(_, manifest)| manifest.key.inputs.get(&slot) == Some(&model.content));
    scored.sort_by_key(|(_, manifest)| manifest.provenance.finished_unix_secs);
    let scores = scored.last().and_then(|(folder, _)| Scores::read(folder).ok()).unwrap_or_default();
    let of_model = scores.scores.into_iter().filter(|score| score.model == model.stage && score.split == Split::Dev);
    of_model
        .flat_map(|score| {
            let task = score.task;
            score.metrics.into_iter().map(move |(metric, value)| DevScore { task: task.clone(), metric, value })
        })
        .collect()
}

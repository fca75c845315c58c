//! Scores: metrics of models on tasks, in `scores.json`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::digest::Fingerprint;
use crate::metric::Metric;
use crate::task::Split;

const FILE: &str = "scores.json";

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Scores {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<Fingerprint>,
    pub scores: Vec<Score>,
    /// Greatest difference of an ONNX model's logits from its checkpoint's, by model and task.
    pub logit_differences: Vec<LogitDifference>,
}

/// Metrics of one model on one split of one task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Score {
    /// Name of the stage that made the model.
    pub model: String,
    pub task: String,
    pub split: Split,
    pub rows: usize,
    /// In `[-1, 1]`, the task's first metric first.
    pub metrics: Vec<(Metric, f64)>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LogitDifference {
    pub model: String,
    pub task: String,
    pub split: Split,
    pub rows: usize,
    pub max_abs_difference: f64,
}

impl Scores {
    pub fn read(folder: &Path) -> Result<Self> {
        let path = folder.join(FILE);
        let text = fs::read_to_string(&path).with_context(|| format!("reading `{}`", path.display()))?;
        serde_json::from_str(&text).with_context(|| format!("`{}` holds no scores", path.display()))
    }

    pub fn write(&self, folder: &Path) -> Result<()> {
        let path = folder.join(FILE);
        let text = serde_json::to_string_pretty(self)? + "\n";
        fs::write(&path, text).with_context(|| format!("writing `{}`", path.display()))
    }

    /// The first metric of each model by task, on the dev split: `(task, metric) -> model -> value`.
    pub fn headline(&self) -> BTreeMap<(&str, Metric, usize), BTreeMap<&str, f64>> {
        let mut table = BTreeMap::<_, BTreeMap<_, _>>::new();
        for score in self.scores.iter().filter(|score| score.split == Split::Dev) {
            if let Some((metric, value)) = score.metrics.first() {
                table
                    .entry((score.task.as_str(), *metric, score.rows))
                    .or_default()
                    .insert(score.model.as_str(), *value);
            }
        }
        table
    }
}

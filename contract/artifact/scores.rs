//! Scores: metrics of models on tasks, in `scores.json`; how fast ONNX models were, in `speeds.json`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::digest::Fingerprint;
use crate::metric::Metric;
use crate::stage::GraphPrecision;
use crate::task::Split;

const FILE: &str = "scores.json";
/// A record, not content: it holds what was timed, and no stage reads it.
pub const SPEEDS: &str = "speeds.json";

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Scores {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<Fingerprint>,
    pub scores: Vec<Score>,
    /// Greatest difference of an ONNX model's logits from its checkpoint's, by model and task.
    pub logit_differences: Vec<LogitDifference>,
    /// The ONNX models among them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub variants: Vec<Variant>,
    /// Dev rows a second of ONNX models, on the threads that `score` had.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub rows_per_second: BTreeMap<String, f64>,
}

/// An ONNX model, beside the checkpoint that it was exported from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Variant {
    pub model: String,
    /// None where another program wrote it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub precision: Option<GraphPrecision>,
    /// Size of its graph's file.
    pub bytes: u64,
    /// By task and split. Empty where no checkpoint is known.
    pub losses: Vec<Loss>,
}

/// How much of a task's first metric a model has lost.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Loss {
    pub task: String,
    pub split: Split,
    pub rows: usize,
    pub metric: Metric,
    /// Of the checkpoint, and of the model.
    pub values: [f64; 2],
}

impl Loss {
    /// In points of 100; below 0 for a gain.
    pub fn points(&self) -> f64 {
        (self.values[0] - self.values[1]) * 100.0
    }
}

impl Variant {
    /// Whether it must answer as its checkpoint does, and not only nearly.
    pub fn is_exact(&self) -> bool {
        self.precision.is_none_or(|precision| precision == GraphPrecision::Fp32)
    }

    /// Where it has lost most.
    pub fn greatest_loss(&self) -> Option<&Loss> {
        self.losses.iter().max_by(|one, other| one.points().total_cmp(&other.points()))
    }
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
        let mut scores: Self =
            serde_json::from_str(&text).with_context(|| format!("`{}` holds no scores", path.display()))?;
        let path = folder.join(SPEEDS);
        if path.is_file() {
            let text = fs::read_to_string(&path).with_context(|| format!("reading `{}`", path.display()))?;
            scores.rows_per_second =
                serde_json::from_str(&text).with_context(|| format!("`{}` holds no speeds", path.display()))?;
        }
        Ok(scores)
    }

    pub fn write(&self, folder: &Path) -> Result<()> {
        let content = Self { rows_per_second: BTreeMap::new(), ..self.clone() };
        write_json(&folder.join(FILE), &content)?;
        if self.rows_per_second.is_empty() { Ok(()) } else { write_json(&folder.join(SPEEDS), &self.rows_per_second) }
    }

    /// Differences of the models that must answer as their checkpoints do.
    pub fn exact_differences(&self) -> impl Iterator<Item = &LogitDifference> {
        let is_exact = |model: &str| self.variants.iter().all(|variant| variant.model != model || variant.is_exact());
        self.logit_differences.iter().filter(move |difference| is_exact(&difference.model))
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

fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    let text = serde_json::to_string_pretty(value)? + "\n";
    fs::write(path, text).with_context(|| format!("writing `{}`", path.display()))
}

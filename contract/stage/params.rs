//! Parameters of each stage kind, with their defaults and their limits.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Result;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::StageRef;
use crate::external::External;
use crate::fault::Fault;
use crate::task::{Split, TaskSpec};
use crate::tasks;

/// Parameters of `data`: a task's files (`from`), or a task written by grammar (`grammar`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DataParams {
    /// Name of a built-in task, or of one under `tasks:`.
    pub task: String,
    /// Folder the task's files lie in (the GLUE folder, for its tasks).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<PathBuf>,
    /// Other file names for some splits, such as `{train: MNLI/train-partial.tsv}`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub files: BTreeMap<Split, String>,
    /// Write the rows by the built-in grammar instead of reading files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grammar: Option<GrammarRows>,
    /// Keep at most this many rows of each split, from its start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
    /// The task's definition; filled in from the built-in table or from `tasks:`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(skip)]
    pub definition: Option<TaskSpec>,
}

/// How many rows the grammar writes, and from which seed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GrammarRows {
    /// Rows of the train split.
    pub train: usize,
    /// Rows of the dev split.
    pub dev: usize,
    /// Rows of the test split.
    #[serde(default)]
    pub test: usize,
    /// Seed of the rows; by default the pipeline's.
    #[serde(default)]
    pub seed: u64,
}

impl DataParams {
    /// The task's definition, which planning fills in before the stage is hashed or run.
    ///
    /// # Errors
    /// When it was not filled in and no built-in task has the name.
    pub fn definition(&self) -> Result<TaskSpec> {
        let spec = self.definition.clone().or_else(|| tasks::builtin(&self.task));
        spec.ok_or_else(|| {
            let hint = match crate::fault::closest(&self.task, tasks::names()) {
                Some(name) => format!("did you mean `{name}`?"),
                None => "define it under `tasks:`".to_owned(),
            };
            Fault::new(format!("no task `{}`", self.task), hint).into()
        })
    }

    /// File of each split, plain or gzipped; splits of the test kind may be missing.
    pub fn source_files(&self) -> Result<BTreeMap<Split, PathBuf>> {
        let mut spec = self.definition()?;
        spec.files.extend(self.files.clone());
        let from = self.from.as_deref().unwrap_or(Path::new("."));
        if !from.is_dir() {
            let hint = "name the data folder with `from:`, for example `--set vars.glue=DIR`";
            return Err(Fault::new(format!("data folder `{}` does not exist", from.display()), hint).into());
        }
        let mut found = BTreeMap::new();
        for (split, file) in &spec.files {
            let plain = from.join(file);
            let gzipped = PathBuf::from(format!("{}.gz", plain.display()));
            match [plain.clone(), gzipped].into_iter().find(|path| path.is_file()) {
                Some(path) => {
                    found.insert(*split, path);
                }
                // GLUE's test sets carry no labels and are often left out; only `submit` needs them.
                None if split.is_test() && spec.files.len() > 1 => {}
                None => return Err(self.missing(*split, &plain)),
            }
        }
        Ok(found)
    }

    fn missing(&self, split: Split, path: &Path) -> anyhow::Error {
        let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let near = path.parent().and_then(|folder| folder.read_dir().ok()).and_then(|entries| {
            let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
            names.filter(|name| name.starts_with(&stem)).min()
        });
        let hint = match near {
            Some(name) => {
                let folder = path.parent().and_then(Path::file_name).unwrap_or_default().to_string_lossy().into_owned();
                let name = name.strip_suffix(".gz").unwrap_or(&name);
                format!("`{name}` lies beside it; to use that, say `files: {{{split}: {folder}/{name}}}`")
            }
            None => format!("the task `{}` needs it; is `from:` the right folder?", self.task),
        };
        Fault::new(format!("{split} file `{}` does not exist, plain or gzipped", path.display()), hint).into()
    }

    pub(super) fn external(&self) -> Result<Vec<External>> {
        if self.grammar.is_some() {
            return Ok(Vec::new());
        }
        Ok(self.source_files()?.iter().map(|(split, path)| External::new(format!("from/{split}"), path)).collect())
    }

    pub(super) fn mistakes(&self) -> Vec<(&'static str, String)> {
        let mut mistakes = Vec::new();
        match (&self.from, &self.grammar) {
            (Some(_), Some(_)) => mistakes.push(("grammar", "give either `from` or `grammar`, not both".to_owned())),
            (None, None) => mistakes.push(("task", "give `from` (a folder) or `grammar` (rows to write)".to_owned())),
            (None, Some(rows)) => {
                if !tasks::GRAMMAR_TASKS.contains(&self.task.as_str()) {
                    let known = tasks::GRAMMAR_TASKS.join(", ");
                    mistakes.push(("task", format!("the grammar writes {known}; not `{}`", self.task)));
                }
                if rows.train == 0 || rows.dev == 0 {
                    mistakes.push(("grammar", "`train` and `dev` need at least one row each".to_owned()));
                }
            }
            (Some(_), None) => {}
        }
        if self.limit == Some(0) {
            mistakes.push(("limit", "keeps no rows; give at least 1".to_owned()));
        }
        match self.definition() {
            Ok(spec) => mistakes.extend(spec.mistakes().into_iter().map(|mistake| ("task", mistake))),
            Err(error) => mistakes.push(("task", error.to_string())),
        }
        mistakes
    }
}

/// Parameters of `tokenize`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TokenizeParams {
    /// The `data` stage that makes the rows.
    pub examples: StageRef,
    /// Hugging Face folder whose tokenizer is used (`tokenizer.json`, or `vocab.txt`).
    pub encoder: PathBuf,
    /// Most tokens in a row, `[CLS]` and `[SEP]` included; a pair too long loses tokens from its longer side.
    #[serde(default = "defaults::max_tokens")]
    pub max_tokens: usize,
    /// Write both orders of each training pair of a symmetric task, as separate rows.
    #[serde(default = "defaults::yes")]
    pub both_orders: bool,
}

impl TokenizeParams {
    pub(super) fn mistakes(&self) -> Vec<(&'static str, String)> {
        let too_few = self.max_tokens < 5;
        too_few.then(|| ("max_tokens", "needs at least 5: [CLS] a [SEP] b [SEP]".to_owned())).into_iter().collect()
    }
}

/// Parameters of `train`. Teacher and student alike: one task or many, with teachers or without.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TrainParams {
    /// One `tokenize` stage per task.
    pub tokens: Vec<StageRef>,
    /// Predictions of teachers, at most one per task; a task without one learns from its labels alone.
    #[serde(default)]
    pub teachers: Vec<StageRef>,
    /// Hugging Face folder to start from (config.json, model.safetensors, tokenizer).
    pub encoder: PathBuf,
    /// Keep only the encoder's first layers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layers: Option<usize>,
    /// Passes over the training rows; `epochs x rows / batch` steps in all.
    #[serde(default = "defaults::epochs")]
    pub epochs: f64,
    /// Greatest learning rate, reached at the end of the warm-up.
    #[serde(default = "defaults::learning_rate")]
    pub learning_rate: f64,
    /// Examples per optimizer step.
    #[serde(default = "defaults::batch")]
    pub batch: usize,
    /// Share of the steps over which the learning rate rises from 0.
    #[serde(default = "defaults::warmup")]
    pub warmup: f64,
    /// Learning rate of each layer relative to the one above it; the heads have the full rate.
    #[serde(default = "defaults::layer_decay")]
    pub layer_decay: f64,
    /// Decoupled weight decay, on all but biases and `LayerNorm`.
    #[serde(default = "defaults::weight_decay")]
    pub weight_decay: f64,
    /// Adam's bias correction; BERT's and the paper's optimizer go without.
    #[serde(default = "defaults::yes")]
    pub bias_correction: bool,
    /// Greatest global norm of the gradient.
    #[serde(default = "defaults::clip_norm")]
    pub clip_norm: f64,
    /// Share of the gold label in the target over the training; without teachers it changes nothing.
    #[serde(default)]
    pub anneal: Anneal,
    /// Tasks are drawn with probability proportional to `rows ^ sampling`.
    #[serde(default = "defaults::sampling")]
    pub sampling: f64,
    /// How the losses of a batch's examples become one.
    #[serde(default)]
    pub reduction: Reduction,
    /// What follows the linear layer of a regression head.
    #[serde(default)]
    pub regression_output: RegressionOutput,
    /// Which state becomes the checkpoint.
    #[serde(default)]
    pub keep: Keep,
    /// Number format of the matrix products; weights, sums and moments stay in fp32.
    #[serde(default)]
    pub precision: Precision,
    /// Seed of heads, sampling and dropout; by default the pipeline's.
    #[serde(default)]
    pub seed: u64,
}

/// λ, the gold label's share of the target at progress `p` of the training.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Anneal {
    /// λ = p: from the teacher alone to the label alone (teacher annealing).
    #[default]
    Linear,
    /// λ = (1 - cos πp) / 2.
    Cosine,
    /// λ stays as given; 0 is pure distillation.
    Fixed(f64),
}

impl Anneal {
    /// λ at progress `p` in `[0, 1)`.
    pub fn gold_share(self, progress: f64) -> f64 {
        match self {
            Self::Linear => progress,
            Self::Cosine => (1.0 - (std::f64::consts::PI * progress).cos()) / 2.0,
            Self::Fixed(share) => share,
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Reduction {
    #[default]
    Mean,
    /// As the paper's code does; a clip of 1.0 then binds nearly always.
    Sum,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RegressionOutput {
    #[default]
    Linear,
    Sigmoid,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Keep {
    /// The weights after the last step.
    #[default]
    Last,
    /// The weights of the epoch with the best mean dev metric.
    Best,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    /// bf16 on GPUs and on processors with instructions for it, fp32 on others; recorded with what was made.
    #[default]
    Auto,
    Fp32,
    Bf16,
}

impl TrainParams {
    pub(super) fn mistakes(&self) -> Vec<(&'static str, String)> {
        let mut mistakes = Vec::new();
        let mut need = |right: bool, name: &'static str, what: &str| {
            if !right {
                mistakes.push((name, what.to_owned()));
            }
        };
        need(!self.tokens.is_empty(), "tokens", "needs at least one `tokenize` stage");
        need(self.layers != Some(0), "layers", "keeps no layer; give at least 1");
        need(self.epochs > 0.0 && self.epochs.is_finite(), "epochs", "must be above 0");
        need(self.learning_rate > 0.0 && self.learning_rate < 1.0, "learning_rate", "must lie between 0 and 1");
        need(self.batch > 0, "batch", "must be at least 1");
        need((0.0..=1.0).contains(&self.warmup), "warmup", "is a share of the steps, 0 to 1");
        need(self.layer_decay > 0.0 && self.layer_decay <= 1.0, "layer_decay", "must be above 0 and at most 1");
        need((0.0..1.0).contains(&self.weight_decay), "weight_decay", "must be at least 0 and below 1");
        need(self.clip_norm > 0.0, "clip_norm", "must be above 0");
        need((0.0..=10.0).contains(&self.sampling), "sampling", "is an exponent, 0 (uniform) to 10");
        if let Anneal::Fixed(share) = self.anneal {
            need((0.0..=1.0).contains(&share), "anneal", "a fixed share of the gold label lies in 0 to 1");
        }
        mistakes
    }
}

/// Parameters of `predict`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PredictParams {
    /// The `train` stage whose model it is.
    pub model: StageRef,
    /// The `tokenize` stage whose rows are predicted.
    pub tokens: StageRef,
    /// Splits to predict; by default all that the tokens have.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub splits: Vec<Split>,
    /// Number format of the matrix products.
    #[serde(default)]
    pub precision: Precision,
}

/// Parameters of `export`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExportParams {
    /// The `train` stage whose model it is.
    pub model: StageRef,
}

/// Parameters of `score`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ScoreParams {
    /// Checkpoints and ONNX models; each is scored on the tasks it has a head for.
    pub models: Vec<StageRef>,
    /// The `tokenize` stages whose dev rows are scored, one per task.
    pub tokens: Vec<StageRef>,
    /// Greatest allowed difference of an ONNX model's logits from those of its checkpoint under libtorch.
    #[serde(default = "defaults::tolerance")]
    pub tolerance: f64,
}

impl ScoreParams {
    pub(super) fn mistakes(&self) -> Vec<(&'static str, String)> {
        let mut mistakes = Vec::new();
        if self.models.is_empty() {
            mistakes.push(("models", "needs at least one model".to_owned()));
        }
        if self.tokens.is_empty() {
            mistakes.push(("tokens", "needs at least one `tokenize` stage".to_owned()));
        }
        if self.tolerance.is_nan() || self.tolerance <= 0.0 {
            mistakes.push(("tolerance", "must be above 0".to_owned()));
        }
        mistakes
    }
}

mod defaults {
    pub(super) fn yes() -> bool {
        true
    }
    pub(super) fn max_tokens() -> usize {
        128
    }
    pub(super) fn epochs() -> f64 {
        3.0
    }
    pub(super) fn learning_rate() -> f64 {
        5e-5
    }
    pub(super) fn batch() -> usize {
        32
    }
    pub(super) fn warmup() -> f64 {
        0.1
    }
    pub(super) fn layer_decay() -> f64 {
        1.0
    }
    pub(super) fn weight_decay() -> f64 {
        0.01
    }
    pub(super) fn clip_norm() -> f64 {
        1.0
    }
    pub(super) fn sampling() -> f64 {
        0.75
    }
    pub(super) fn tolerance() -> f64 {
        1e-4
    }
}

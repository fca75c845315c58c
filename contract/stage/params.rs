//! Parameters of each stage kind but `train`, with their defaults and their limits.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::Result;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::train::Precision;
use super::{Fold, StageRef, without_default};
use crate::external::External;
use crate::fault::{Fault, closest};
use crate::task::{Split, TaskSpec};
use crate::tasks;

/// Parameters of `data`: a task's files (`from`), or a task written by grammar (`grammar`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DataParams {
    /// Name of a built-in task, or of one under `tasks:`.
    pub task: String,
    /// Folder the task's files lie in (the GLUE folder, for its tasks); or `hub:owner/name@revision`, a data set of the
    /// Hugging Face hub.
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
    #[schemars(transform = without_default)]
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
            let hint = match closest(&self.task, tasks::names()) {
                Some(name) => format!("did you mean `{name}`?"),
                None => "define it under `tasks:`".to_owned(),
            };
            Fault::new(format!("no task `{}`", self.task), hint).into()
        })
    }

    /// Name of each split's file below `from`.
    pub fn files(&self) -> Result<BTreeMap<Split, String>> {
        let mut files = self.definition()?.files;
        files.extend(self.files.clone());
        Ok(files)
    }

    /// GLUE's test sets carry no labels and are often left out; only `submit` needs them. What the user names must be there.
    pub fn may_lack(&self, split: Split, file: &str) -> bool {
        let of_glue = tasks::builtin(&self.task).map(|task| task.files).filter(|files| files.len() > 1);
        split.is_test() && of_glue.is_some_and(|files| files.get(&split).is_some_and(|own| own == file))
    }

    /// File of each split, plain or gzipped; GLUE's test files may be missing.
    pub fn source_files(&self) -> Result<BTreeMap<Split, PathBuf>> {
        let files = self.files()?;
        let from = self.from.as_deref().unwrap_or(Path::new("."));
        if !from.is_dir() {
            // Where `make data` puts what the recipes read.
            let hint = if from.starts_with(".deps/data") {
                "`make data` fetches the recipes' data; `from:` names the folder"
            } else {
                "`from:` names the data folder"
            };
            return Err(Fault::new(format!("data folder `{}` does not exist", from.display()), hint).into());
        }
        let mut found = BTreeMap::new();
        for (split, file) in &files {
            let plain = from.join(file);
            let gzipped = PathBuf::from(format!("{}.gz", plain.display()));
            match [plain.clone(), gzipped].into_iter().find(|path| path.is_file()) {
                Some(path) => {
                    found.insert(*split, path);
                }
                None if self.may_lack(*split, file) => {}
                None => return Err(self.missing(*split, file, &plain)),
            }
        }
        Ok(found)
    }

    fn missing(&self, split: Split, file: &str, path: &Path) -> anyhow::Error {
        let beside = path.parent().and_then(|folder| folder.read_dir().ok());
        let mut names: Vec<String> = beside.map_or_else(Vec::new, |entries| {
            entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect()
        });
        names.sort();
        let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let own = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let near = names.iter().find(|name| name.starts_with(&stem)).map(String::as_str);
        let near = near.or_else(|| closest(&own, names.iter().map(String::as_str)));
        let hint = match near {
            Some(name) => {
                let name = name.strip_suffix(".gz").unwrap_or(name);
                let file = Path::new(file).with_file_name(name);
                format!("`{name}` lies beside it; to use that, say `files: {{{split}: {}}}`", file.display())
            }
            None => format!("the task `{}` needs it; is `from:` the right folder?", self.task),
        };
        let whose = if split == Split::All { "data".to_owned() } else { split.to_string() };
        Fault::new(format!("{whose} file `{}` does not exist, plain or gzipped", path.display()), hint).into()
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

/// What a pair takes whose texts are a word piece each.
pub const FEWEST_TOKENS: usize = 5;

/// Parameters of `tokenize`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TokenizeParams {
    /// The `data` stage that makes the rows.
    pub examples: StageRef,
    /// Hugging Face folder whose tokenizer is used (`tokenizer.json`, or `vocab.txt`); or `hub:owner/name@revision`.
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
        let too_few = self.max_tokens < FEWEST_TOKENS;
        let message = || format!("needs at least {FEWEST_TOKENS}: [CLS] a [SEP] b [SEP]");
        too_few.then(|| ("max_tokens", message())).into_iter().collect()
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
    /// Predict only the train rows of this fold, which a `train` stage left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fold: Option<Fold>,
}

impl PredictParams {
    pub(super) fn mistakes(&self) -> Vec<(&'static str, String)> {
        let Some(fold) = self.fold else { return Vec::new() };
        let mut mistakes: Vec<_> = fold.mistake().map(|mistake| ("fold", mistake)).into_iter().collect();
        if self.splits.iter().any(|split| *split != Split::Train) {
            mistakes.push(("splits", "a fold is a part of the `train` rows alone".to_owned()));
        }
        mistakes
    }
}

/// Parameters of `ensemble`: predictions of one task, made one table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EnsembleParams {
    /// Tables of the same rows; with `join`, of different ones.
    pub predictions: Vec<StageRef>,
    /// What is averaged over the tables; a regression's values are what they are either way.
    #[serde(default)]
    pub average: Average,
    /// Put tables of different rows one after the other instead, such as the parts that folds left out.
    #[serde(default)]
    pub join: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Average {
    /// Written as log-probabilities, which are logits of the mean.
    #[default]
    Probabilities,
    Logits,
}

impl EnsembleParams {
    pub(super) fn mistakes(&self) -> Vec<(&'static str, String)> {
        let too_few = self.predictions.is_empty();
        too_few.then(|| ("predictions", "needs at least one table".to_owned())).into_iter().collect()
    }
}

/// Parameters of `export`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExportParams {
    /// The `train` stage whose model it is.
    pub model: StageRef,
    /// Number format of the encoder's matrices and word embeddings; all else stays fp32.
    #[serde(default)]
    pub precision: GraphPrecision,
}

/// How an exported graph holds its large weights.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum GraphPrecision {
    /// As the checkpoint does; answers are its answers.
    #[default]
    Fp32,
    /// Half the size. They are widened when the model is loaded, so it is as fast as fp32.
    Fp16,
    /// A quarter of the size, and faster: products are of whole numbers, by scales of each output and of each input's
    /// range. Whether a head bears it, `score` tells.
    Int8,
}

impl fmt::Display for GraphPrecision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Fp32 => "fp32",
            Self::Fp16 => "fp16",
            Self::Int8 => "int8",
        })
    }
}

/// Parameters of `score`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ScoreParams {
    /// Checkpoints and ONNX models; each is scored on the tasks it has a head for.
    pub models: Vec<StageRef>,
    /// The `tokenize` stages whose dev rows are scored, one per task.
    pub tokens: Vec<StageRef>,
    /// Greatest allowed difference of an fp32 ONNX model's logits from those of its checkpoint under libtorch.
    #[serde(default = "defaults::tolerance")]
    pub tolerance: f64,
    /// How much of a task's first metric an ONNX model of any precision may lose against its checkpoint, in points of 100.
    #[serde(default = "defaults::max_drop")]
    pub max_drop: f64,
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
        if self.max_drop.is_nan() || self.max_drop < 0.0 {
            mistakes.push(("max_drop", "is a number of points, at least 0".to_owned()));
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
    pub(super) fn tolerance() -> f64 {
        1e-4
    }
    pub(super) fn max_drop() -> f64 {
        1.0
    }
}

//! What a task is: its name, its files and columns, its labels in order, its metrics.

mod spelling;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::fault::Fault;
use crate::metric::Metric;
use spelling::Spelling;

/// One task, as a row of the built-in table or under `tasks:` of a pipeline file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TaskSpec {
    /// Name of the task; filled in from its place under `tasks:`.
    #[serde(default)]
    pub name: String,
    /// File per split, relative to the data stage's `from`; `all` is split by `split`.
    pub files: BTreeMap<Split, String>,
    /// File format; by default told by the file's ending.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<Format>,
    /// Where the fields are in a file's rows.
    pub columns: Columns,
    /// Where they are in the test files, when that differs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test_columns: Option<Columns>,
    /// Class names in the order of their indices. Exclusive with `range`.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "spelling::words")]
    #[schemars(with = "Vec<Spelling>")]
    pub labels: Vec<String>,
    /// How the file spells each class, when not by its name.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "spelling::words")]
    #[schemars(with = "Vec<Spelling>")]
    pub spelled: Vec<String>,
    /// Ascending bounds that cut a numeric column into the classes: a value below `cuts[0]` is class 0,
    /// one at or above it and below `cuts[1]` class 1, and so on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cuts: Vec<f64>,
    /// Least and greatest value of a regression task, which is trained on `(y - min) / (max - min)`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub range: Option<[f64; 2]>,
    /// Whether the order of the two texts carries no meaning, so that both orders may be trained on.
    #[serde(default)]
    pub symmetric: bool,
    /// Leave out rows with more or fewer columns than the first one, with a warning, instead of failing
    /// there: QQP as released has a few questions with line breaks in them.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    #[schemars(extend("default" = false))]
    pub skip_broken: bool,
    /// Metrics of the task, the one that chooses the best checkpoint first.
    pub metrics: Vec<Metric>,
    /// Shares of a seeded split of the file `all`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub split: Option<SplitShares>,
    /// The task whose head answers this one, for a diagnostic set without training rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head: Option<String>,
}

/// Columns of a file's rows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Columns {
    /// Whether the first line names the columns (TSV and CSV).
    #[serde(default = "yes")]
    pub header: bool,
    /// The text, or the first of a pair: a column's name, or its number from 1.
    pub text: Column,
    /// The second text of a pair.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pair: Option<Column>,
    /// The label; a file without it is unlabelled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<Column>,
}

fn yes() -> bool {
    true
}

/// A column by its name, or by its number counted from 1.
#[derive(Clone, Debug, PartialEq)]
pub enum Column {
    Name(String),
    Number(usize),
}

impl fmt::Display for Column {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => write!(f, "`{name}`"),
            Self::Number(number) => write!(f, "{number}"),
        }
    }
}

impl Serialize for Column {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Name(name) => serializer.serialize_str(name),
            Self::Number(number) => serializer.serialize_u64(*number as u64),
        }
    }
}

impl<'de> Deserialize<'de> for Column {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = Column;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a column's name, or its number counted from 1")
            }
            fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<Column, E> {
                Ok(Column::Name(name.to_owned()))
            }
            fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<Column, E> {
                match number {
                    0 => Err(E::invalid_value(serde::de::Unexpected::Unsigned(0), &self)),
                    number => Ok(Column::Number(number as usize)),
                }
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl JsonSchema for Column {
    fn schema_name() -> Cow<'static, str> {
        "Column".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A column by its name, or by its number counted from 1.",
            "anyOf": [{ "type": "string" }, { "type": "integer", "minimum": 1 }],
        })
    }
}

/// File formats a task's rows can come in; each may be gzipped (`.gz`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// Tab separated, no quoting.
    Tsv,
    /// Comma separated, with RFC 4180 quoting.
    Csv,
    /// One JSON object a line.
    Jsonl,
    Parquet,
}

impl Format {
    /// The format that a file's ending tells.
    ///
    /// # Errors
    /// When it tells none.
    pub fn of(path: &Path) -> Result<Self, Fault> {
        let name = path.file_name().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
        let ending = name.strip_suffix(".gz").unwrap_or(&name).rsplit('.').next().unwrap_or_default();
        match ending {
            "tsv" => Ok(Self::Tsv),
            "csv" => Ok(Self::Csv),
            "jsonl" | "ndjson" => Ok(Self::Jsonl),
            "parquet" => Ok(Self::Parquet),
            _ => {
                let message = format!("the ending of `{}` tells no format", path.display());
                Err(Fault::new(message, "say `format: tsv`, `csv`, `jsonl` or `parquet` in the task's definition"))
            }
        }
    }
}

/// Shares of a seeded split by content: a row's place depends on its texts and the seed alone, so it
/// stays where it is when other rows come or go, and equal rows never land on two sides.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SplitShares {
    /// Share of the rows that become the dev split.
    pub dev: f64,
    /// Share of the rows that become the test split.
    #[serde(default)]
    pub test: f64,
    /// Seed of the split.
    #[serde(default)]
    pub seed: u64,
}

/// A named part of a task's rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Split {
    Train,
    Dev,
    DevMismatched,
    Test,
    TestMismatched,
    /// A source file that `split` divides; no artifact holds a split of this name.
    All,
}

impl Split {
    pub const ALL_IN_ARTIFACTS: [Self; 5] =
        [Self::Train, Self::Dev, Self::DevMismatched, Self::Test, Self::TestMismatched];

    pub fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Dev => "dev",
            Self::DevMismatched => "dev_mismatched",
            Self::Test => "test",
            Self::TestMismatched => "test_mismatched",
            Self::All => "all",
        }
    }

    pub fn is_test(self) -> bool {
        matches!(self, Self::Test | Self::TestMismatched)
    }

    pub fn is_dev(self) -> bool {
        matches!(self, Self::Dev | Self::DevMismatched)
    }
}

impl fmt::Display for Split {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl TaskSpec {
    /// Outputs of the task's head: one per class, or one for a regression.
    pub fn outputs(&self) -> usize {
        if self.is_regression() { 1 } else { self.labels.len() }
    }

    pub fn is_regression(&self) -> bool {
        self.range.is_some()
    }

    pub fn is_pair(&self) -> bool {
        self.columns.pair.is_some()
    }

    /// The task whose head answers this task's rows.
    pub fn head(&self) -> &str {
        self.head.as_deref().unwrap_or(&self.name)
    }

    /// Whether a label is one of the task's: the index of a class, or a value in the range.
    pub fn has_label(&self, label: f64) -> bool {
        match self.range {
            Some([least, greatest]) => (least..=greatest).contains(&label),
            None => label.fract() == 0.0 && (0.0..self.labels.len() as f64).contains(&label),
        }
    }

    /// The columns of one split's file.
    pub fn columns_of(&self, split: Split) -> &Columns {
        self.test_columns.as_ref().filter(|_| split.is_test()).unwrap_or(&self.columns)
    }

    /// A metric of predictions against gold labels, both in the label's own terms.
    pub fn score(&self, metric: Metric, predicted: &[f64], gold: &[f64]) -> f64 {
        metric.of(predicted, gold, self.labels.len())
    }

    /// A head's outputs as a prediction in the label's own terms: the likeliest class, or the value
    /// scaled back to the task's range, which it may leave a little: cutting it off would make ties.
    pub fn prediction(&self, logits: &[f32]) -> f64 {
        if let Some([least, greatest]) = self.range {
            return f64::from(logits[0]) * (greatest - least) + least;
        }
        let mut likeliest = 0;
        for (class, logit) in logits.iter().enumerate() {
            if *logit > logits[likeliest] {
                likeliest = class;
            }
        }
        likeliest as f64
    }

    /// The task as artifacts name it: by what its rows mean, not by where they were read. The columns are the artifact's own.
    #[must_use]
    pub fn of_artifact(&self) -> Self {
        let own = |name: &str| Column::Name(name.to_owned());
        let is_labelled = self.columns.label.is_some();
        let columns = Columns {
            header: true,
            text: own("text"),
            pair: self.is_pair().then(|| own("pair")),
            label: is_labelled.then(|| own("label")),
        };
        Self {
            files: BTreeMap::new(),
            format: None,
            columns,
            test_columns: None,
            cuts: Vec::new(),
            skip_broken: false,
            split: None,
            ..self.clone()
        }
    }

    /// What a definition says wrongly, if anything; each with its own sentence.
    pub fn mistakes(&self) -> Vec<String> {
        let mut mistakes = self.mistakes_of_meaning();
        let mut say = |wrong: bool, what: &str| {
            if wrong {
                mistakes.push(format!("task `{}`: {what}", self.name));
            }
        };
        say(
            !self.cuts.is_empty() && self.cuts.len() + 1 != self.labels.len(),
            "`cuts` has one bound fewer than `labels` has classes",
        );
        say(!self.cuts.is_sorted(), "`cuts` ascend");
        say(self.files.is_empty(), "`files` names at least one file");
        say(
            self.files.contains_key(&Split::All) != self.split.is_some(),
            "`files: {all: …}` and `split: {dev: …}` go together",
        );
        say(
            self.files.contains_key(&Split::All) && self.files.len() > 1,
            "`all` is divided into the splits, so it stands alone under `files`",
        );
        say(
            self.split.is_some_and(|shares| {
                shares.dev <= 0.0
                    || !(0.0..1.0).contains(&shares.dev)
                    || !(0.0..1.0).contains(&shares.test)
                    || shares.dev + shares.test >= 1.0
            }),
            "the shares of `split` lie in 0..1 and leave rows to train on",
        );
        mistakes
    }

    /// Those that have nothing to do with where rows are read.
    pub(crate) fn mistakes_of_meaning(&self) -> Vec<String> {
        let mut mistakes = Vec::new();
        let mut say = |wrong: bool, what: &str| {
            if wrong {
                mistakes.push(format!("task `{}`: {what}", self.name));
            }
        };
        say(self.labels.is_empty() == self.range.is_none(), "give either `labels` (classes) or `range` (regression)");
        say(self.labels.len() == 1, "`labels` needs at least two classes");
        say(self.range.is_some_and(|[least, greatest]| least >= greatest), "`range` is [least, greatest]");
        say(
            !self.spelled.is_empty() && self.spelled.len() != self.labels.len(),
            "`spelled` gives one spelling per class of `labels`",
        );
        let repeats = |names: &[String]| (1..names.len()).any(|at| names[..at].contains(&names[at]));
        say(repeats(&self.labels) || repeats(&self.spelled), "each class has a name and a spelling of its own");
        say(
            ["input_ids", "attention_mask", "token_type_ids"].contains(&self.name.as_str()),
            "that is the name of an input of the exported graph; call the task otherwise",
        );
        say(
            ["bert.", "heads.", "classifier."].iter().any(|weights| self.name.starts_with(weights)),
            "so the names of weights in the exported graph begin; call the task otherwise",
        );
        say(self.metrics.is_empty(), "`metrics` needs at least one metric");
        say(
            self.metrics.iter().any(|metric| metric.is_of_classes() == self.is_regression()),
            "accuracy, f1 and matthews are for classes; pearson and spearman for regression",
        );
        say(self.symmetric && !self.is_pair(), "only a task of pairs can be `symmetric`");
        mistakes
    }
}

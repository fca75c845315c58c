//! A comparison of methods: `comparison.json`, and `trials.parquet` with the score of every trial.
//!
//! | column | type | |
//! |---|---|---|
//! | `method` | string | |
//! | `task` | string | |
//! | `metric` | string | the task's first |
//! | `trial` | int64 | from 0, in the order of the pipeline file |
//! | `score` | float64 | on the dev rows |

use std::fs;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use arrow::array::{Float64Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use serde::{Deserialize, Serialize};

use super::table;
use crate::digest::Fingerprint;
use crate::metric::Metric;

const FILE: &str = "comparison.json";
const TRIALS: &str = "trials.parquet";

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    pub fingerprint: Fingerprint,
    /// In the order of the tables: the baseline first.
    pub methods: Vec<String>,
    /// The method that the others are held against; without one, all pairs are compared.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub baseline: Option<String>,
    pub summaries: Vec<Summary>,
    pub tests: Vec<Test>,
    /// What keeps a conclusion from being drawn, in sentences.
    pub cautions: Vec<String>,
}

/// What is compared: one task, or the mean over all of them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Subject {
    Task {
        task: String,
        metric: Metric,
        rows: usize,
    },
    /// The unweighted mean over tasks of one trial of each.
    Mean {
        tasks: usize,
    },
}

/// The scores of one method's trials.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    pub method: String,
    pub subject: Subject,
    pub trials: usize,
    pub median: f64,
    pub mean: f64,
    pub least: f64,
    pub greatest: f64,
    /// First and third quartile, by linear interpolation.
    pub quartiles: [f64; 2],
}

/// Two methods held against each other: `method` against `other`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Test {
    pub method: String,
    pub other: String,
    pub subject: Subject,
    /// Of the medians.
    pub difference: f64,
    pub mann_whitney: MannWhitney,
    /// Share of pairs of trials in which the method is better, less that in which it is worse.
    pub cliffs_delta: f64,
    pub bootstrap: Bootstrap,
}

/// Whether trials of one method score higher than the other's: chance is in the seeds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MannWhitney {
    /// Of the first method: pairs in which it is better, ties counted as halves.
    pub u: f64,
    /// Two-sided.
    pub p: f64,
    /// After Holm-Bonferroni over all tests of the comparison.
    pub p_holm: f64,
    /// Whether `p` is exact; of many trials it is the normal approximation, corrected for ties and continuity.
    pub exact: bool,
    /// The least `p` that so many trials could give.
    pub least_p: f64,
}

/// How the difference of the medians varies over other dev rows: chance is in the rows, which both methods share.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Bootstrap {
    pub resamples: usize,
    /// The middle 95% of the differences.
    pub interval: [f64; 2],
    /// Two-sided.
    pub p: f64,
    /// After Holm-Bonferroni over all tests of the comparison.
    pub p_holm: f64,
}

/// One trained model's score.
#[derive(Clone, Debug, PartialEq)]
pub struct Trial {
    pub method: String,
    pub task: String,
    pub metric: Metric,
    pub trial: usize,
    pub score: f64,
}

impl Subject {
    /// `rte`, or `mean of 8 tasks`.
    pub fn name(&self) -> String {
        match self {
            Self::Task { task, .. } => task.clone(),
            Self::Mean { tasks } => format!("mean of {tasks} tasks"),
        }
    }

    pub fn metric_name(&self) -> &'static str {
        match self {
            Self::Task { metric, .. } => metric.name(),
            Self::Mean { .. } => "mean",
        }
    }
}

impl Comparison {
    pub fn read(folder: &Path) -> Result<Self> {
        let path = folder.join(FILE);
        let text = fs::read_to_string(&path).with_context(|| format!("reading `{}`", path.display()))?;
        serde_json::from_str(&text).with_context(|| format!("`{}` holds no comparison", path.display()))
    }

    pub fn write(&self, folder: &Path, trials: &[Trial]) -> Result<()> {
        let path = folder.join(FILE);
        let text = serde_json::to_string_pretty(self)? + "\n";
        fs::write(&path, text).with_context(|| format!("writing `{}`", path.display()))?;
        let text = |name: &str| Field::new(name, DataType::Utf8, false);
        let schema = Arc::new(Schema::new(vec![
            text("method"),
            text("task"),
            text("metric"),
            Field::new("trial", DataType::Int64, false),
            Field::new("score", DataType::Float64, false),
        ]));
        let batch = RecordBatch::try_new(
            schema.clone(),
            vec![
                Arc::new(StringArray::from_iter_values(trials.iter().map(|trial| &trial.method))),
                Arc::new(StringArray::from_iter_values(trials.iter().map(|trial| &trial.task))),
                Arc::new(StringArray::from_iter_values(trials.iter().map(|trial| trial.metric.name()))),
                Arc::new(Int64Array::from_iter_values(trials.iter().map(|trial| trial.trial as i64))),
                Arc::new(Float64Array::from_iter_values(trials.iter().map(|trial| trial.score))),
            ],
        )?;
        let mut writer = table::create(&folder.join(TRIALS), schema, self.fingerprint, &[])?;
        writer.write(&batch)?;
        writer.close()?;
        Ok(())
    }
}

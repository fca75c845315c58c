//! What there is to tell of a pipeline or of one run, from artifacts alone: no model is run.
//!
//! [`gather`] reads; [`html`], [`markdown`] and [`csv`] write; JSON is the [`Report`] itself.

mod answers;
mod calibration;
mod chart;
pub(crate) mod csv;
mod disagreement;
mod gather;
mod graph;
pub(crate) mod html;
pub(crate) mod markdown;
mod missing;
mod scores;
pub(crate) mod tensorboard;
mod trainings;

use bam_contract::artifact::comparison::Comparison;
use bam_contract::manifest::Manifest;
use bam_contract::metric::Metric;
use bam_contract::task::Split;
use serde::Serialize;

pub(crate) use answers::Answers;
pub(crate) use disagreement::Disagreement;
pub(crate) use gather::{Standing, gather};
pub(crate) use missing::Missing;
pub(crate) use trainings::Training;

#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) pipeline: String,
    /// `as things stand`, or the run's time and outcome.
    pub(crate) of: String,
    pub(crate) stages: Vec<StageReport>,
    pub(crate) scores: Vec<ScoreLine>,
    pub(crate) comparisons: Vec<NamedComparison>,
    pub(crate) trainings: Vec<Training>,
    pub(crate) answers: Vec<Answers>,
    pub(crate) disagreements: Vec<Disagreement>,
    pub(crate) missing: Vec<Missing>,
}

#[derive(Debug, Serialize)]
pub(crate) struct StageReport {
    pub(crate) name: String,
    pub(crate) kind: &'static str,
    /// `current`, `stale`, `ran`, `failed` …
    pub(crate) state: String,
    /// Indices of the stages that it reads.
    pub(crate) reads: Vec<usize>,
    pub(crate) manifest: Option<Manifest>,
}

#[derive(Debug, Serialize)]
pub(crate) struct NamedComparison {
    pub(crate) stage: String,
    #[serde(flatten)]
    pub(crate) comparison: Comparison,
}

/// One metric of one model on one split.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct ScoreLine {
    pub(crate) model: String,
    /// Under which tables show it: several models of a family (seeds) share one.
    #[serde(skip)]
    pub(crate) column: String,
    pub(crate) task: String,
    pub(crate) split: Split,
    pub(crate) metric: Metric,
    pub(crate) value: f64,
    pub(crate) rows: usize,
    pub(crate) interval: Option<Interval>,
}

/// In which the score would lie on other rows of the same kind, 95 times of 100.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Interval {
    pub(crate) low: f64,
    pub(crate) high: f64,
    pub(crate) method: IntervalMethod,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum IntervalMethod {
    /// Wilson's, for a share of rows.
    Wilson,
    /// Of resampled rows.
    Bootstrap,
}

impl IntervalMethod {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Wilson => "wilson",
            Self::Bootstrap => "bootstrap",
        }
    }
}

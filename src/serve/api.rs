//! The shapes of requests and answers.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::inputs::Inputs;

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PredictRequest {
    pub(super) inputs: Inputs,
    /// The tasks to answer; by default all that each input fits: tasks of pairs for a pair, the others for a text alone.
    #[serde(default)]
    #[schema(example = json!(["sentiment"]))]
    pub(super) tasks: Vec<String>,
    /// How many classes to list, the likeliest first; by default all.
    #[schema(minimum = 1)]
    pub(super) top_k: Option<usize>,
    /// Whether to give the heads' plain outputs too.
    #[serde(default)]
    pub(super) raw: bool,
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct PredictResponse {
    /// Fingerprint of the model that answered.
    pub(super) model: String,
    /// One per input, in their order.
    pub(super) results: Vec<RowResult>,
    pub(super) timings: Timings,
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct RowResult {
    pub(super) tokens: usize,
    /// Tokens cut off to fit the model.
    pub(super) lost_tokens: usize,
    /// By task.
    pub(super) tasks: BTreeMap<String, TaskResult>,
}

/// What a head says: `label` and `labels` of a classification, `value` of a regression.
#[derive(Debug, Default, Serialize, ToSchema)]
pub(super) struct TaskResult {
    /// The likeliest class.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) label: Option<String>,
    /// Classes by probability, the likeliest first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) labels: Option<Vec<LabelProbability>>,
    /// In the task's own range, which it may leave a little.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) value: Option<f64>,
    /// The head's outputs, in the order of the task's labels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) logits: Option<Vec<f32>>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct LabelProbability {
    pub(super) label: String,
    #[schema(minimum = 0, maximum = 1)]
    pub(super) probability: f64,
}

/// Milliseconds that the request took.
#[derive(Debug, Serialize, ToSchema)]
#[allow(clippy::struct_field_names, reason = "clients read the unit in each name")]
pub(super) struct Timings {
    /// To cut texts into word pieces.
    pub(super) tokenize_ms: f64,
    /// Until a session was free.
    pub(super) queue_ms: f64,
    /// In batches, which may hold others' rows too.
    pub(super) compute_ms: f64,
}

//! The artifact formats: open, create, schema and summary of each. Only these files know the columns.

pub mod checkpoint;
pub mod comparison;
pub mod encoder;
pub mod examples;
pub mod history;
pub mod onnx;
pub mod predictions;
pub mod scores;
pub mod submission;
mod table;
pub mod tokens;

use std::fmt;

use serde::{Deserialize, Serialize};

/// Name under which a file's own metadata holds the fingerprint of the computation that made it.
pub const FINGERPRINT: &str = "bam.fingerprint";
/// Name under which it holds the task, as JSON.
pub const TASK: &str = "bam.task";

/// What a stage writes; an edge of a pipeline is checked by it before anything runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ArtifactKind {
    Examples,
    Tokens,
    Checkpoint,
    Predictions,
    OnnxModel,
    Scores,
    Comparison,
    Submission,
}

impl fmt::Display for ArtifactKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Examples => "examples",
            Self::Tokens => "tokens",
            Self::Checkpoint => "a checkpoint",
            Self::Predictions => "predictions",
            Self::OnnxModel => "an ONNX model",
            Self::Scores => "scores",
            Self::Comparison => "a comparison",
            Self::Submission => "a submission",
        })
    }
}

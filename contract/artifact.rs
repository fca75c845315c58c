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
pub mod weights;

use std::fmt;
use std::path::Path;

use anyhow::Result;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use comparison::Comparison;
use examples::Examples;
use predictions::Predictions;
use scores::Scores;
use tokens::Tokens;

/// Name under which a file's own metadata holds the fingerprint of the computation that made it.
pub const FINGERPRINT: &str = "bam.fingerprint";
/// Name under which it holds the task, as JSON.
pub const TASK: &str = "bam.task";

/// What a stage writes; an edge of a pipeline is checked by it before anything runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ArtifactKind {
    Examples,
    Tokens,
    Checkpoint,
    Predictions,
    #[serde(rename = "onnx", alias = "onnx_model")]
    OnnxModel,
    Scores,
    Comparison,
    Submission,
    /// Any files: what only the user's own programs read.
    Files,
}

impl ArtifactKind {
    pub const ALL: [Self; 9] = [
        Self::Examples,
        Self::Tokens,
        Self::Checkpoint,
        Self::Predictions,
        Self::OnnxModel,
        Self::Scores,
        Self::Comparison,
        Self::Submission,
        Self::Files,
    ];

    /// Holds what a program of the user's wrote against the format that other stages rely on.
    ///
    /// # Errors
    /// The first thing that is not as it must be.
    pub fn check(self, folder: &Path) -> Result<()> {
        match self {
            Self::Examples => Examples::check(folder),
            Self::Tokens => Tokens::check(folder),
            Self::Checkpoint => checkpoint::check(folder),
            Self::Predictions => Predictions::check(folder),
            Self::OnnxModel => onnx::check(folder),
            Self::Scores => Scores::read(folder).map(drop),
            Self::Comparison => Comparison::read(folder).map(drop),
            // No stage reads one.
            Self::Submission | Self::Files => Ok(()),
        }
    }
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
            Self::Files => "files",
        })
    }
}

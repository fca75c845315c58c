//! An ONNX model: `model.onnx` with a shared encoder and all heads, the tokenizer's files, and `bam.json`.

use std::path::Path;

use anyhow::{Result, ensure};

use super::checkpoint::check_model;

/// Its inputs are `input_ids`, `attention_mask` and `token_type_ids`, int64 of shape [batch, length];
/// each task has an output of its name, float32 of shape [batch, outputs].
pub const GRAPH: &str = "model.onnx";

/// Names under which the graph's own metadata holds the tasks, as JSON, and the digest of
/// the source checkpoint's content.
pub const TASKS: &str = "bam.tasks";
pub const CHECKPOINT: &str = "bam.checkpoint";

/// Holds a model that another program wrote against the format, as far as can be told without ONNX Runtime.
pub(super) fn check(folder: &Path) -> Result<()> {
    check_model(folder)?;
    ensure!(folder.join(GRAPH).metadata()?.len() > 0, "`{GRAPH}` is empty");
    Ok(())
}

//! An ONNX model: `model.onnx` with a shared encoder and all heads, the tokenizer's files, `bam.json`, and `probes.json`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use super::checkpoint::{self, check_model};
use super::encoder::TOKENIZER_FILES;

/// Its inputs are [`INPUTS`], int64 of shape [batch, length];
/// each task has an output of its name, float32 of shape [batch, outputs].
pub const GRAPH: &str = "model.onnx";

pub const INPUTS: [&str; 3] = ["input_ids", "attention_mask", "token_type_ids"];

/// Names under which the graph's own metadata holds the tasks, as JSON, and the digest of
/// the source checkpoint's content, and the precision.
pub const TASKS: &str = "bam.tasks";
pub const CHECKPOINT: &str = "bam.checkpoint";
pub const PRECISION: &str = "bam.precision";

/// Holds a model that another program wrote against the format, as far as can be told without ONNX Runtime.
pub(super) fn check(folder: &Path) -> Result<()> {
    check_model(folder)?;
    ensure!(folder.join(GRAPH).metadata()?.len() > 0, "`{GRAPH}` is empty");
    Ok(())
}

const PROBES: &str = "probes.json";

/// All files that a model is read from. `probes.json` may be absent, and some of the tokenizer's.
pub fn files() -> impl Iterator<Item = &'static str> {
    [checkpoint::FILE, GRAPH, PROBES].into_iter().chain(TOKENIZER_FILES)
}

/// Rows that the checkpoint answered when it was exported. Whoever opens the model later asks it again first: another
/// tokenizer, another ONNX Runtime or another machine must not answer otherwise.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Probes {
    /// How far the model's answers may be from the checkpoint's; what fits depends on its precision.
    pub tolerance: f32,
    pub rows: Vec<Probe>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Probe {
    pub text: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pair: Option<String>,
    /// The row as the tokenizer cut it.
    pub input_ids: Vec<i32>,
    /// libtorch's outputs by task.
    pub logits: BTreeMap<String, Vec<f32>>,
}

impl Probes {
    /// The probes of a model; none of one that was exported without.
    pub fn read(folder: &Path) -> Result<Option<Self>> {
        let path = folder.join(PROBES);
        if !path.is_file() {
            return Ok(None);
        }
        let text = fs::read_to_string(&path).with_context(|| format!("reading `{}`", path.display()))?;
        let probes = serde_json::from_str(&text).with_context(|| format!("`{}` holds no probes", path.display()))?;
        Ok(Some(probes))
    }

    pub fn write(&self, folder: &Path) -> Result<()> {
        let path = folder.join(PROBES);
        fs::write(&path, serde_json::to_string_pretty(self)? + "\n")
            .with_context(|| format!("writing `{}`", path.display()))
    }
}

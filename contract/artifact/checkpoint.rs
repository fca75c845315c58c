//! A checkpoint: a Hugging Face folder with `bert.*` tensors, one head per task, and `bam.json`.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::digest::Fingerprint;
use crate::stage::RegressionOutput;
use crate::task::TaskSpec;

const FILE: &str = "bam.json";

/// What a model folder (checkpoint or ONNX) says beyond Hugging Face's own files.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelInfo {
    pub fingerprint: Fingerprint,
    /// One head per task, in the order of training.
    pub tasks: Vec<TaskSpec>,
    pub regression_output: RegressionOutput,
    pub max_tokens: usize,
}

impl ModelInfo {
    pub fn read(folder: &Path) -> Result<Self> {
        let path = folder.join(FILE);
        let text = fs::read_to_string(&path).with_context(|| format!("reading `{}`", path.display()))?;
        serde_json::from_str(&text).with_context(|| format!("`{}` describes no model", path.display()))
    }

    pub fn write(&self, folder: &Path) -> Result<()> {
        let path = folder.join(FILE);
        fs::write(&path, serde_json::to_string_pretty(self)? + "\n")
            .with_context(|| format!("writing `{}`", path.display()))
    }

    /// The head that answers a task's rows, if there is one.
    pub fn head(&self, task: &TaskSpec) -> Option<&TaskSpec> {
        self.tasks.iter().find(|head| head.name == task.head())
    }
}

/// Name of a head's tensors: Hugging Face's `classifier` when it is the only one.
pub fn head_prefix(tasks: &[TaskSpec], task: &TaskSpec) -> String {
    if tasks.len() == 1 { "classifier".to_owned() } else { format!("heads.{}", task.name) }
}

//! A checkpoint: a Hugging Face folder with `bert.*` tensors, one head per task, and `bam.json`.

use std::fs::{self, File};
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};

use super::{encoder, weights};
use crate::digest::{Digest, Fingerprint};
use crate::fault::Fault;
use crate::stage::{FEWEST_TOKENS, GraphPrecision, RegressionOutput};
use crate::task::TaskSpec;

pub(super) const FILE: &str = "bam.json";

/// What a model folder (checkpoint or ONNX) says beyond Hugging Face's own files.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelInfo {
    pub fingerprint: Fingerprint,
    /// One head per task, in the order of training.
    pub tasks: Vec<TaskSpec>,
    pub regression_output: RegressionOutput,
    pub max_tokens: usize,
    /// How an ONNX graph holds its large weights; a checkpoint says nothing of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub precision: Option<GraphPrecision>,
    /// Which tokenizer an export has, though its settings were given the model's limit; a checkpoint says nothing of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokenizer: Option<Digest>,
}

impl ModelInfo {
    /// # Errors
    /// When there is none, it isn't of this form, has no task, or a model that has no room for a pair.
    pub fn read(folder: &Path) -> Result<Self> {
        let path = folder.join(FILE);
        let text = fs::read_to_string(&path).with_context(|| format!("reading `{}`", path.display()))?;
        let info: Self =
            serde_json::from_str(&text).with_context(|| format!("`{}` describes no model", path.display()))?;
        ensure!(!info.tasks.is_empty(), "`{FILE}` names no task");
        let least = FEWEST_TOKENS;
        ensure!(info.max_tokens >= least, "`{FILE}`: `max_tokens: {}`, where {least} are the least", info.max_tokens);
        Ok(info)
    }

    pub fn write(&self, folder: &Path) -> Result<()> {
        let path = folder.join(FILE);
        fs::write(&path, serde_json::to_string_pretty(self)? + "\n")
            .with_context(|| format!("writing `{}`", path.display()))
    }
}

/// Holds a checkpoint that another program wrote against the format: `bam.json`, `config.json`, the tokenizer, and a
/// head of the right shape for each task.
pub(super) fn check(folder: &Path) -> Result<()> {
    let info = check_model(folder)?;
    let path = folder.join(encoder::CONFIG);
    let text = fs::read_to_string(&path).with_context(|| format!("reading `{}`", encoder::CONFIG))?;
    serde_json::from_str::<serde_json::Value>(&text).with_context(|| format!("`{}` is no JSON", encoder::CONFIG))?;
    let head = File::open(folder.join(encoder::WEIGHTS)).and_then(|mut file| weights::read(&mut file));
    let (tensors, _) = head.with_context(|| format!("reading `{}`", encoder::WEIGHTS))?;
    for task in &info.tasks {
        let name = format!("{}.weight", head_prefix(&info.tasks, task));
        let Some(head) = tensors.info(&name) else { bail!("`{}` has no tensor `{name}`", encoder::WEIGHTS) };
        let (rows, outputs) = (head.shape.first().copied().unwrap_or(0), task.outputs());
        ensure!(rows == outputs, "`{name}` has {rows} rows; task `{}` has {outputs} outputs", task.name);
    }
    Ok(())
}

/// What checkpoints and ONNX models share: `bam.json` and the tokenizer.
pub(super) fn check_model(folder: &Path) -> Result<ModelInfo> {
    let info = ModelInfo::read(folder)?;
    encoder::tokenizer_file(folder)?;
    Ok(info)
}

/// Index of the head that answers a task's rows, if the model `name` has one for it.
///
/// # Errors
/// When head and rows name their labels differently, or in another order.
pub fn head_for(heads: &[TaskSpec], task: &TaskSpec, name: &str) -> Result<Option<usize>> {
    let Some(index) = heads.iter().position(|head| head.name == task.head()) else {
        return Ok(None);
    };
    let head = &heads[index];
    ensure!(
        head.labels == task.labels && head.range == task.range,
        Fault::new(
            format!("model `{name}` names the labels of `{}` {:?}, its rows {:?}", task.name, head.labels, task.labels),
            "model and rows must come from the same task definition"
        )
    );
    Ok(Some(index))
}

/// Name of a head's tensors: Hugging Face's `classifier` when it is the only one.
pub fn head_prefix(tasks: &[TaskSpec], task: &TaskSpec) -> String {
    if tasks.len() == 1 { "classifier".to_owned() } else { format!("heads.{}", task.name) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tasks;

    #[test]
    fn a_model_has_a_task_and_room_for_a_pair() {
        let folder = tempfile::tempdir().unwrap();
        let read = |tasks: Vec<TaskSpec>, max_tokens: usize| {
            let info = serde_json::json!({
                "fingerprint": "0".repeat(64), "tasks": tasks, "regression_output": "linear", "max_tokens": max_tokens,
            });
            fs::write(folder.path().join(FILE), info.to_string()).unwrap();
            ModelInfo::read(folder.path()).map(drop).map_err(|error| format!("{error:#}"))
        };
        let task = || tasks::builtin("rte").unwrap();
        assert_eq!(read(vec![task()], 5), Ok(()));
        assert_eq!(read(vec![task()], 4).unwrap_err(), "`bam.json`: `max_tokens: 4`, where 5 are the least");
        assert_eq!(read(vec![], 5).unwrap_err(), "`bam.json` names no task");
    }

    #[test]
    fn a_head_is_found_by_name_and_must_agree_on_the_order_of_labels() {
        let heads: Vec<_> = ["rte", "mnli"].into_iter().filter_map(tasks::builtin).collect();
        let find = |task: &TaskSpec| head_for(&heads, task, "student");
        assert_eq!(find(&tasks::builtin("ax").unwrap()).unwrap(), Some(1));
        assert_eq!(find(&tasks::builtin("cola").unwrap()).unwrap(), None);
        let mut turned = tasks::builtin("mnli").unwrap();
        turned.labels.reverse();
        let error = find(&turned).unwrap_err().to_string();
        assert!(error.starts_with("model `student` names the labels of `mnli` [\"entailment\","), "{error}");
    }
}

//! Checkpoints: Hugging Face folders that `transformers` opens unchanged.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use bam_contract::artifact::checkpoint::ModelInfo;
use bam_contract::artifact::encoder::{CONFIG, TOKENIZER_FILES, WEIGHTS};
use bam_contract::fault::Fault;
use serde_json::{Map, Value, json};

use super::bert::Model;
use super::config::BertConfig;
use super::safetensors_file;

/// Where a checkpoint goes, and where its tokenizer comes from.
#[derive(Debug)]
pub(crate) struct CheckpointFiles<'a> {
    pub(crate) folder: &'a Path,
    pub(crate) tokenizer: &'a Path,
}

/// Writes config.json, model.safetensors, bam.json and the tokenizer's files.
pub(crate) fn write_checkpoint(files: &CheckpointFiles<'_>, model: &Model, info: &ModelInfo) -> Result<()> {
    let config = serde_json::to_string_pretty(&config_json(model))? + "\n";
    let path = files.folder.join(CONFIG);
    fs::write(&path, config).with_context(|| format!("writing `{}`", path.display()))?;
    safetensors_file::write(&files.folder.join(WEIGHTS), &model.parameters, info.fingerprint)?;
    info.write(files.folder)?;
    for name in TOKENIZER_FILES.into_iter().filter(|name| files.tokenizer.join(name).is_file()) {
        let from: PathBuf = files.tokenizer.join(name);
        fs::copy(&from, files.folder.join(name)).with_context(|| format!("copying `{}`", from.display()))?;
    }
    Ok(())
}

/// The encoder's own config, saying what the folder now holds: a classifier when there is one head, an encoder else.
fn config_json(model: &Model) -> Value {
    let mut config = model.config.written.clone();
    config.insert("model_type".to_owned(), json!("bert"));
    // The weights are fp32 whatever the encoder came in, and a former head's labels are not this model's.
    for stale in ["dtype", "id2label", "label2id", "problem_type", "num_labels"] {
        config.remove(stale);
    }
    config.insert("torch_dtype".to_owned(), json!("float32"));
    let [task] = model.tasks.as_slice() else {
        config.insert("architectures".to_owned(), json!(["BertModel"]));
        return Value::Object(config);
    };
    config.insert("architectures".to_owned(), json!(["BertForSequenceClassification"]));
    config.insert("classifier_dropout".to_owned(), json!(model.config.hidden_dropout_prob));
    let names = if task.is_regression() { vec![task.name.clone()] } else { task.labels.clone() };
    let problem = if task.is_regression() { "regression" } else { "single_label_classification" };
    config.insert("problem_type".to_owned(), json!(problem));
    let by_id: Map<_, _> = names.iter().enumerate().map(|(id, name)| (id.to_string(), json!(name))).collect();
    let by_label: Map<_, _> = names.iter().enumerate().map(|(id, name)| (name.clone(), json!(id))).collect();
    config.insert("id2label".to_owned(), Value::Object(by_id));
    config.insert("label2id".to_owned(), Value::Object(by_label));
    Value::Object(config)
}

/// A checkpoint says its labels twice; the two must agree, or predictions would be named wrongly.
pub(super) fn check_labels(folder: &Path, config: &BertConfig, info: &ModelInfo) -> Result<()> {
    let ([task], Some(Value::Object(by_id))) = (info.tasks.as_slice(), config.written.get("id2label")) else {
        return Ok(());
    };
    for (id, label) in task.labels.iter().enumerate() {
        let named = by_id.get(&id.to_string()).and_then(Value::as_str);
        if named != Some(label) {
            let message = format!(
                "checkpoint `{}`: label {id} of `{}` is `{label}` in bam.json and `{}` in config.json",
                folder.display(),
                task.name,
                named.unwrap_or("missing")
            );
            return Err(Fault::new(message, "train it again; one of the two files was changed").into());
        }
    }
    Ok(())
}

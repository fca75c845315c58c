//! `config.json` of a Hugging Face BERT.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use bam_contract::artifact::encoder::CONFIG;
use bam_contract::fault::Fault;
use bam_contract::stage::Layers;
use serde::Deserialize;
use serde_json::{Map, Value};

/// The fields the network is built from; `written` keeps the whole file, for the checkpoint's own.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct BertConfig {
    pub(crate) vocab_size: usize,
    pub(crate) hidden_size: usize,
    pub(crate) num_hidden_layers: usize,
    pub(crate) num_attention_heads: usize,
    pub(crate) intermediate_size: usize,
    pub(crate) max_position_embeddings: usize,
    #[serde(default = "two")]
    pub(crate) type_vocab_size: usize,
    #[serde(default = "gelu")]
    pub(crate) hidden_act: String,
    #[serde(default = "tenth")]
    pub(crate) hidden_dropout_prob: f64,
    #[serde(default = "tenth")]
    pub(crate) attention_probs_dropout_prob: f64,
    #[serde(default = "layer_norm_eps")]
    pub(crate) layer_norm_eps: f64,
    #[serde(default = "initializer_range")]
    pub(crate) initializer_range: f64,
    #[serde(skip)]
    pub(crate) written: Map<String, Value>,
}

fn two() -> usize {
    2
}
fn gelu() -> String {
    "gelu".to_owned()
}
fn tenth() -> f64 {
    0.1
}
fn layer_norm_eps() -> f64 {
    1e-12
}
fn initializer_range() -> f64 {
    0.02
}

impl BertConfig {
    pub(crate) fn read(folder: &Path) -> Result<Self> {
        let path = folder.join(CONFIG);
        let text = fs::read_to_string(&path).with_context(|| format!("reading `{}`", path.display()))?;
        let not_a_bert = || format!("`{}` is not the config of a BERT", path.display());
        let written: Map<String, Value> = serde_json::from_str(&text).with_context(not_a_bert)?;
        let model_type = written.get("model_type").and_then(Value::as_str).unwrap_or("bert");
        if model_type != "bert" {
            let message = format!("`{}` is of type `{model_type}`", path.display());
            return Err(Fault::new(message, "encoders are of type `bert`, of any size").into());
        }
        let positions = written.get("position_embedding_type").and_then(Value::as_str).unwrap_or("absolute");
        if positions != "absolute" {
            let message = format!("`{}` has position embeddings of type `{positions}`", path.display());
            return Err(Fault::new(message, "only `absolute` ones are known").into());
        }
        let mut config: Self = serde_json::from_value(Value::Object(written.clone())).with_context(not_a_bert)?;
        if !config.hidden_size.is_multiple_of(config.num_attention_heads) {
            let message = format!(
                "`{}`: hidden_size {} is not a multiple of num_attention_heads {}",
                path.display(),
                config.hidden_size,
                config.num_attention_heads
            );
            return Err(Fault::new(message, "is it the right config.json?").into());
        }
        config.written = written;
        Ok(config)
    }

    /// The same network with only some of its layers.
    pub(crate) fn keep_layers(&mut self, layers: &Layers) -> Result<()> {
        if let Some(lack) = layers.beyond(self.num_hidden_layers) {
            return Err(Fault::new(format!("`layers`: {lack}"), "name layers that the encoder has").into());
        }
        self.num_hidden_layers = layers.count();
        self.written.insert("num_hidden_layers".to_owned(), layers.count().into());
        Ok(())
    }
}

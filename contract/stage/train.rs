//! Parameters of `train`, with their defaults and their limits.

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Anneal, Fold, Layers, StageRef, without_default};

/// Parameters of `train`. Teacher and student alike: one task or many, with teachers or without.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("oneOf" = [{ "required": ["encoder"] }, { "required": ["init"] }]))]
pub struct TrainParams {
    /// One `tokenize` stage per task.
    pub tokens: Vec<StageRef>,
    /// Predictions of teachers, at most one per task; a task without one learns from its labels alone.
    #[serde(default)]
    pub teachers: Vec<StageRef>,
    /// Hugging Face folder to start from (config.json, model.safetensors, tokenizer); or `hub:owner/name@revision`, a
    /// model of the Hugging Face hub.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encoder: Option<PathBuf>,
    /// Start from the checkpoint of another `train` stage instead of from `encoder`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub init: Option<StageRef>,
    /// Whether the heads that `init` has for these tasks are kept.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("default" = "new"))]
    pub heads: Heads,
    /// Keep only the first layers (`4`), or those of a list (`[1, 3, 5]`, counted from 0).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layers: Option<Layers>,
    /// Passes over the training rows; `epochs x rows / batch` steps in all.
    #[serde(default = "defaults::epochs")]
    pub epochs: f64,
    /// Stop after so many epochs in a row whose mean dev metric is no better than the best before; the best epoch's
    /// weights are kept, whatever `keep` says. Epochs in which `unfreeze: gradual` still holds layers frozen don't count.
    /// Learning rate and λ run as if all `epochs` came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub patience: Option<usize>,
    /// Train on all train rows but those of this fold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fold: Option<Fold>,
    /// Greatest learning rate.
    #[serde(default = "defaults::learning_rate")]
    pub learning_rate: f64,
    /// Examples per optimizer step.
    #[serde(default = "defaults::batch")]
    pub batch: usize,
    /// Most tokens that go through the encoder at once. A batch that has more takes several passes, whose gradients add up
    /// (gradient accumulation), so that its activations take no more memory than those of so many tokens.
    #[serde(default = "defaults::pass_tokens", skip_serializing_if = "defaults::is_pass_tokens")]
    #[schemars(extend("default" = defaults::pass_tokens()))]
    pub pass_tokens: usize,
    /// Compute each layer again on the way back instead of keeping its activations (activation checkpointing): a third more time
    /// for a fraction of the memory.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("default" = false))]
    pub recompute: bool,
    /// Share of the steps over which the learning rate rises from 0.
    #[serde(default = "defaults::warmup")]
    pub warmup: f64,
    /// The learning rate's way over the steps.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("default" = "linear"))]
    pub schedule: ScheduleShape,
    /// Learning rate of each layer relative to the one above it; the heads have the full rate.
    #[serde(default = "defaults::layer_decay")]
    pub layer_decay: f64,
    /// Which layers are trained from when on.
    #[serde(default, skip_serializing_if = "is_default")]
    #[schemars(extend("default" = "all"))]
    pub unfreeze: Unfreeze,
    /// Decoupled weight decay, on all but biases and `LayerNorm`.
    #[serde(default = "defaults::weight_decay")]
    pub weight_decay: f64,
    /// Adam's bias correction; BERT's and the paper's optimizer go without.
    #[serde(default = "defaults::yes")]
    pub bias_correction: bool,
    /// Greatest global norm of the gradient.
    #[serde(default = "defaults::clip_norm")]
    pub clip_norm: f64,
    /// Share of the gold label in the target over the training; without teachers it changes nothing.
    #[serde(default)]
    pub anneal: Anneal,
    /// The same for single tasks, by name, where it isn't as `anneal` says.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub anneal_of: BTreeMap<String, Anneal>,
    /// T of classification: teacher's and student's logits are divided by it where they are compared, and that part
    /// of the loss is multiplied by T² (Hinton et al. 2015).
    #[serde(default = "defaults::temperature", skip_serializing_if = "defaults::is_temperature")]
    #[schemars(extend("default" = defaults::temperature()))]
    pub temperature: f64,
    /// Tasks are drawn with probability proportional to `rows ^ sampling`.
    #[serde(default = "defaults::sampling")]
    pub sampling: f64,
    /// How the losses of a batch's examples become one.
    #[serde(default)]
    pub reduction: Reduction,
    /// What follows the linear layer of a regression head.
    #[serde(default)]
    pub regression_output: RegressionOutput,
    /// Which state becomes the checkpoint.
    #[serde(default)]
    pub keep: Keep,
    /// Number format of the matrix products; weights, sums and moments stay in fp32.
    #[serde(default)]
    pub precision: Precision,
    /// Seed of heads, sampling and dropout; by default the pipeline's.
    #[serde(default)]
    #[schemars(transform = without_default)]
    pub seed: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Heads {
    /// All heads begin with random weights.
    #[default]
    New,
    /// Those of `init`, where it has one for the task.
    Keep,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ScheduleShape {
    /// Rises from 0 over the warm-up, then falls to 0, by a line that starts at step 0: right after the warm-up the
    /// rate is below its greatest, as in BERT's and the paper's code.
    #[default]
    Linear,
    /// Rises from a 32nd over the warm-up and falls back to it (`ULMFiT`; `warmup` is its `cut_frac`).
    SlantedTriangle,
    /// Stays at its greatest after the warm-up.
    Constant,
    /// Falls to 0 after the warm-up by half a cosine.
    Cosine,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Unfreeze {
    /// All layers from the first step on.
    #[default]
    All,
    /// Heads and pooler in the first epoch, and one more layer from the top in each that follows; the embeddings
    /// after the lowest layer (`ULMFiT`).
    Gradual,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Reduction {
    #[default]
    Mean,
    /// As the paper's code does; a clip of 1.0 then binds nearly always.
    Sum,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RegressionOutput {
    #[default]
    Linear,
    Sigmoid,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Keep {
    /// The weights after the last step.
    #[default]
    Last,
    /// The weights of the epoch with the best mean dev metric.
    Best,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    /// bf16 on GPUs and on processors with instructions for it, fp32 on others; recorded with what was made.
    #[default]
    Auto,
    Fp32,
    Bf16,
}

impl TrainParams {
    /// λ of a task at progress `p`.
    pub fn gold_share(&self, task: &str, progress: f64) -> f64 {
        self.anneal_of.get(task).unwrap_or(&self.anneal).gold_share(progress)
    }

    /// Whether the best epoch's weights become the checkpoint, and not the last step's.
    pub fn keeps_best(&self) -> bool {
        self.keep == Keep::Best || self.patience.is_some()
    }

    pub(super) fn mistakes(&self) -> Vec<(&'static str, String)> {
        let mut mistakes = Vec::new();
        let mut need = |right: bool, name: &'static str, what: &str| {
            if !right {
                mistakes.push((name, what.to_owned()));
            }
        };
        need(!self.tokens.is_empty(), "tokens", "needs at least one `tokenize` stage");
        match (&self.encoder, &self.init) {
            (None, None) => need(false, "encoder", "give `encoder` (a folder) or `init` (a `train` stage)"),
            (Some(_), Some(_)) => need(false, "init", "give either `encoder` or `init`, not both"),
            _ => {}
        }
        need(
            self.heads == Heads::New || self.init.is_some(),
            "heads",
            "`keep` keeps those of `init`, which isn't given",
        );
        if let Some(mistake) = self.layers.as_ref().and_then(Layers::mistake) {
            need(false, "layers", mistake);
        }
        need(self.patience != Some(0), "patience", "is a number of epochs, at least 1");
        need(self.epochs > 0.0 && self.epochs.is_finite(), "epochs", "must be above 0");
        need(self.learning_rate > 0.0 && self.learning_rate < 1.0, "learning_rate", "must lie between 0 and 1");
        need(self.batch > 0, "batch", "must be at least 1");
        need(self.pass_tokens > 0, "pass_tokens", "must be at least 1");
        need((0.0..=1.0).contains(&self.warmup), "warmup", "is a share of the steps, 0 to 1");
        need(self.layer_decay > 0.0 && self.layer_decay <= 1.0, "layer_decay", "must be above 0 and at most 1");
        need((0.0..1.0).contains(&self.weight_decay), "weight_decay", "must be at least 0 and below 1");
        need(self.clip_norm > 0.0, "clip_norm", "must be above 0");
        need((0.0..=10.0).contains(&self.sampling), "sampling", "is an exponent, 0 (uniform) to 10");
        need(
            self.temperature > 0.0 && self.temperature.is_finite(),
            "temperature",
            "divides the logits, so it must be above 0",
        );
        mistakes.extend(self.anneal.mistake().map(|mistake| ("anneal", mistake.to_owned())));
        let of_tasks = self.anneal_of.iter().filter_map(|(task, anneal)| Some((task, anneal.mistake()?)));
        mistakes.extend(of_tasks.map(|(task, mistake)| ("anneal_of", format!("`{task}`: {mistake}"))));
        mistakes.extend(self.fold.and_then(Fold::mistake).map(|mistake| ("fold", mistake)));
        mistakes
    }
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

mod defaults {
    pub(super) fn yes() -> bool {
        true
    }
    pub(super) fn epochs() -> f64 {
        3.0
    }
    pub(super) fn learning_rate() -> f64 {
        5e-5
    }
    pub(super) fn batch() -> usize {
        32
    }
    pub(super) fn pass_tokens() -> usize {
        8192
    }
    #[allow(clippy::trivially_copy_pass_by_ref, reason = "serde hands fields over by reference")]
    pub(super) fn is_pass_tokens(tokens: &usize) -> bool {
        *tokens == pass_tokens()
    }
    pub(super) fn warmup() -> f64 {
        0.1
    }
    pub(super) fn layer_decay() -> f64 {
        1.0
    }
    pub(super) fn weight_decay() -> f64 {
        0.01
    }
    pub(super) fn clip_norm() -> f64 {
        1.0
    }
    pub(super) fn sampling() -> f64 {
        0.75
    }
    pub(super) fn temperature() -> f64 {
        1.0
    }
    #[allow(clippy::trivially_copy_pass_by_ref, reason = "serde hands fields over by reference")]
    pub(super) fn is_temperature(value: &f64) -> bool {
        *value == temperature()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_may_have_a_curve_of_its_own() {
        let text = r#"{"tokens": ["t"], "encoder": "e", "anneal_of": {"rte": {"fixed": 0.5}}}"#;
        let params: TrainParams = serde_json::from_str(text).unwrap();
        assert_eq!((params.gold_share("rte", 0.2), params.gold_share("mnli", 0.2)), (0.5, 0.2));
    }

    #[test]
    fn patience_keeps_the_best_epoch() {
        let keeps_best = |more: &str| {
            let text = format!(r#"{{"tokens": ["t"], "encoder": "e"{more}}}"#);
            serde_json::from_str::<TrainParams>(&text).unwrap().keeps_best()
        };
        assert!(!keeps_best(""));
        assert!(keeps_best(r#", "keep": "best""#));
        assert!(keeps_best(r#", "patience": 2"#));
    }
}

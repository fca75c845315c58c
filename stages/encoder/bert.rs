//! BERT, with pooler and heads, by the names and formulas of Hugging Face's `BertModel`.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};
use bam_contract::artifact::checkpoint::{ModelInfo, head_prefix};
use bam_contract::artifact::encoder::WEIGHTS;
use bam_contract::stage::{Layers, Precision, RegressionOutput};
use bam_contract::task::TaskSpec;
use tch::{Device, Kind, Tensor};

use super::batch::Placement;
use super::config::BertConfig;
use super::dropout::Dropout;
use super::layers::{Activation, LayerNorm, Linear};
use super::precision::kind_on;
use super::safetensors_file::read;
use super::weights::{Leaf, Loader, Parameter, refresh};
use super::{Batch, attention, checkpoint};
use crate::libtorch;

/// A BERT with one head per task.
#[derive(Debug)]
pub(crate) struct Model {
    pub(crate) config: BertConfig,
    pub(crate) tasks: Vec<TaskSpec>,
    pub(crate) regression_output: RegressionOutput,
    pub(crate) device: Device,
    /// The encoder came without its pooler, which starts as a head does.
    pub(crate) has_new_pooler: bool,
    /// All trained tensors, in the order of the forward pass.
    pub(crate) parameters: Vec<Parameter>,
    /// What gradients are taken of: all parameters but the word embeddings.
    pub(crate) leaves: Vec<Leaf>,
    /// Word embeddings, of shape [V, D]. A batch holds few of the words: the forward pass is given their rows.
    pub(crate) words_vd: Tensor,
    embeddings: Embeddings,
    layers: Vec<Layer>,
    pooler: Linear,
    heads: Vec<Linear>,
}

#[derive(Debug)]
struct Embeddings {
    position: Tensor,
    token_type: Tensor,
    norm: LayerNorm,
}

#[derive(Debug)]
struct Layer {
    /// Query, key and value, one after the other.
    attention_input: Linear,
    attention_output: Linear,
    attention_norm: LayerNorm,
    intermediate: Linear,
    activation: Activation,
    output: Linear,
    output_norm: LayerNorm,
}

/// What a new model is made of: a pretrained encoder, or another model's, and heads.
#[derive(Debug)]
pub(crate) struct NewModel<'a> {
    /// Hugging Face folder.
    pub(crate) encoder: &'a Path,
    /// Its heads, which are kept for the tasks that have one; the other tasks' are fresh.
    pub(crate) heads: Vec<TaskSpec>,
    /// Keep only these of its layers.
    pub(crate) layers: Option<&'a Layers>,
    pub(crate) tasks: Vec<TaskSpec>,
    pub(crate) regression_output: RegressionOutput,
    /// Format of the encoder's activations and matrix products.
    pub(crate) precision: Precision,
    /// Of the heads' initial weights.
    pub(crate) seed: i64,
}

impl NewModel<'_> {
    pub(crate) fn open(self, device: Device) -> Result<Model> {
        let mut config = BertConfig::read(self.encoder)?;
        let path = self.encoder.join(WEIGHTS);
        let mut tensors: BTreeMap<_, _> =
            read(&path)?.into_iter().map(|(name, tensor)| (standard_name(&name), tensor)).collect();
        if let Some(layers) = self.layers {
            config.keep_layers(layers)?;
            tensors = renumbered(tensors, layers);
        }
        tch::manual_seed(self.seed);
        let fresh =
            |shape: [i64; 2]| Tensor::zeros(shape, (Kind::Float, Device::Cpu)).normal_(0.0, config.initializer_range);
        let width = config.hidden_size as i64;
        for task in &self.tasks {
            let (prefix, outputs) = (head_prefix(&self.tasks, task), task.outputs() as i64);
            let kept = self.heads.iter().find(|head| head.name == task.name).map(|head| head_prefix(&self.heads, head));
            let mut take = |part: &str| tensors.remove(&format!("{}.{part}", kept.as_ref()?));
            let weight = take("weight").unwrap_or_else(|| fresh([outputs, width]));
            let bias = take("bias").unwrap_or_else(|| Tensor::zeros([outputs], (Kind::Float, Device::Cpu)));
            tensors.insert(format!("{prefix}.weight"), weight);
            tensors.insert(format!("{prefix}.bias"), bias);
        }
        let has_new_pooler = !tensors.contains_key("bert.pooler.dense.weight");
        if has_new_pooler {
            // Encoders saved by masked-language-model code come without their pooler.
            tensors.insert("bert.pooler.dense.weight".to_owned(), fresh([width, width]));
            tensors.insert("bert.pooler.dense.bias".to_owned(), Tensor::zeros([width], (Kind::Float, Device::Cpu)));
        }
        let (tasks, regression_output) = (self.tasks, self.regression_output);
        let parts = Parts { config, tasks, regression_output, has_new_pooler, tensors };
        parts.build(&path, kind_on(self.precision, device), device)
    }
}

/// A tensor's name with the prefix `bert.` and the modern names of `LayerNorm`.
fn standard_name(name: &str) -> String {
    let name = name.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias");
    let is_part = ["embeddings.", "encoder.", "pooler."].iter().any(|part| name.starts_with(part));
    if is_part { format!("bert.{name}") } else { name }
}

/// The tensors of those layers alone, under the layers' new numbers, and all that are no layer's.
fn renumbered(tensors: BTreeMap<String, Tensor>, layers: &Layers) -> BTreeMap<String, Tensor> {
    const LAYER: &str = "bert.encoder.layer.";
    let renamed = |(name, tensor): (String, Tensor)| {
        let Some((number, part)) = name.strip_prefix(LAYER).and_then(|rest| rest.split_once('.')) else {
            return Some((name, tensor));
        };
        let place = layers.place(number.parse().ok()?)?;
        Some((format!("{LAYER}{place}.{part}"), tensor))
    };
    tensors.into_iter().filter_map(renamed).collect()
}

impl Model {
    /// Opens a checkpoint that a `train` stage wrote.
    pub(crate) fn open(folder: &Path, precision: Precision, device: Device) -> Result<(Self, ModelInfo)> {
        let info = ModelInfo::read(folder)?;
        let config = BertConfig::read(folder)?;
        checkpoint::check_labels(folder, &config, &info)?;
        let path = folder.join(WEIGHTS);
        let tensors = read(&path)?;
        let (tasks, regression_output) = (info.tasks.clone(), info.regression_output);
        let model = Parts { config, tasks, regression_output, has_new_pooler: false, tensors }
            .build(&path, kind_on(precision, device), device)
            .with_context(|| format!("opening the checkpoint `{}`", folder.display()))?;
        Ok((model, info))
    }

    /// Where its batches lie.
    pub(crate) fn placement(&self) -> Placement {
        // What the kernel takes, where there is one: bf16, and heads whose width is a multiple of 8, up to 256.
        let width = self.config.hidden_size / self.config.num_attention_heads;
        let fits = self.pooler.kind() == Kind::BFloat16 && width.is_multiple_of(8) && width <= 256;
        Placement {
            device: self.device,
            is_end_to_end: self.device.is_cuda() && fits && libtorch::has_attention(self.device),
        }
    }

    /// The pooled `[CLS]` vector of each row, fp32. The batch's word ids count the rows of `words_ud`.
    pub(crate) fn pooled_bd(&self, batch: &Batch, words_ud: &Tensor, dropout: &Dropout) -> Tensor {
        let embedded_td = self.embed_td(batch, words_ud, dropout);
        let all = 0..self.layers.len();
        self.pool_bd(&all.fold(embedded_td, |hidden_td, at| self.layer(at, &hidden_td, batch, dropout)))
    }

    /// What a layer, counted from 0, makes of all tokens, [T, D]; the last of each row's first one, [B, D].
    pub(crate) fn layer(&self, at: usize, hidden_td: &Tensor, batch: &Batch, dropout: &Dropout) -> Tensor {
        // The pooler reads [CLS] alone, so that the last layer need not answer for the other tokens.
        let asking = if at + 1 == self.layers.len() { Asking::First } else { Asking::All };
        self.layers[at].forward(hidden_td, asking, batch, dropout, &self.config)
    }

    /// The pooled vectors of what the last layer made, fp32.
    pub(crate) fn pool_bd(&self, first_bd: &Tensor) -> Tensor {
        self.pooler.forward(first_bd).to_kind(Kind::Float).tanh()
    }

    /// A head's outputs for pooled rows, fp32: logits of the classes, or the scaled value of a regression.
    pub(crate) fn logits_bc(&self, head: usize, pooled_bd: &Tensor, dropout: &Dropout) -> Tensor {
        let dropped_bd = dropout.apply(pooled_bd, self.config.hidden_dropout_prob);
        let outputs_bc = self.heads[head].forward(&dropped_bd);
        match self.regression_output {
            RegressionOutput::Sigmoid if self.tasks[head].is_regression() => outputs_bc.sigmoid(),
            _ => outputs_bc,
        }
    }

    /// Logits of rows as they are predicted: by whole tables, without dropout or gradients.
    pub(crate) fn predict_bc(&self, head: usize, batch: &Batch) -> Tensor {
        tch::no_grad(|| {
            let off = Dropout::off();
            self.logits_bc(head, &self.pooled_bd(batch, &self.words_vd, &off), &off)
        })
    }

    /// Sets all parameters, given in their order.
    pub(crate) fn set_weights(&mut self, weights: &[Tensor]) {
        tch::no_grad(|| {
            for (parameter, weights) in self.parameters.iter_mut().zip(weights) {
                parameter.tensor.copy_(weights);
            }
        });
        refresh(self.leaves.iter());
    }

    /// What the first layer is given, [T, D].
    pub(crate) fn embed_td(&self, batch: &Batch, words_ud: &Tensor, dropout: &Dropout) -> Tensor {
        let embed = |table: &Tensor, ids_t: &Tensor| Tensor::embedding(table, ids_t, -1, false, false);
        let embedded_td = embed(words_ud, &batch.input_ids_t)
            + embed(&self.embeddings.token_type, &batch.token_type_ids_t)
            + embed(&self.embeddings.position, &batch.position_ids_t);
        let hidden_td = self.embeddings.norm.forward(&embedded_td).to_kind(self.pooler.kind());
        dropout.apply(&hidden_td, self.config.hidden_dropout_prob)
    }
}

/// Which tokens of each row a layer answers for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asking {
    All,
    First,
}

/// What a model is built from.
struct Parts {
    config: BertConfig,
    tasks: Vec<TaskSpec>,
    regression_output: RegressionOutput,
    has_new_pooler: bool,
    tensors: BTreeMap<String, Tensor>,
}

impl Parts {
    fn build(self, path: &Path, compute: Kind, device: Device) -> Result<Model> {
        let Self { config, tasks, regression_output, has_new_pooler, tensors } = self;
        let (d, f) = (config.hidden_size as i64, config.intermediate_size as i64);
        let activation = Activation::by_name(&config.hidden_act)?;
        let (parameters, leaves) = (Vec::new(), Vec::new());
        let mut loader = Loader { tensors, path, device, compute, eps: config.layer_norm_eps, parameters, leaves };
        let words_vd = loader.table("bert.embeddings.word_embeddings.weight", &[config.vocab_size as i64, d])?;
        let embeddings = Embeddings {
            position: loader
                .plain("bert.embeddings.position_embeddings.weight", &[config.max_position_embeddings as i64, d])?,
            token_type: loader
                .plain("bert.embeddings.token_type_embeddings.weight", &[config.type_vocab_size as i64, d])?,
            norm: loader.first_norm("bert.embeddings.LayerNorm", d)?,
        };
        let mut layers = Vec::new();
        for index in 0..config.num_hidden_layers {
            let at = |part: &str| format!("bert.encoder.layer.{index}.{part}");
            let joined = ["query", "key", "value"].map(|part| at(&format!("attention.self.{part}")));
            layers.push(Layer {
                attention_input: loader.linear(&joined, d, d)?,
                attention_output: loader.linear(&[at("attention.output.dense")], d, d)?,
                attention_norm: loader.norm(&at("attention.output.LayerNorm"), d)?,
                intermediate: loader.linear(&[at("intermediate.dense")], f, d)?,
                activation,
                output: loader.linear(&[at("output.dense")], d, f)?,
                output_norm: loader.norm(&at("output.LayerNorm"), d)?,
            });
        }
        let pooler = loader.linear(&["bert.pooler.dense".to_owned()], d, d)?;
        let mut heads = Vec::new();
        for task in &tasks {
            heads.push(loader.head(head_prefix(&tasks, task), task.outputs() as i64, d)?);
        }
        let Loader { parameters, leaves, .. } = loader;
        Ok(Model {
            config,
            tasks,
            regression_output,
            device,
            has_new_pooler,
            parameters,
            leaves,
            words_vd,
            embeddings,
            layers,
            pooler,
            heads,
        })
    }
}

impl Layer {
    /// What becomes of all tokens, [T, D], or of each row's first one, [B, D].
    fn forward(
        &self,
        hidden_td: &Tensor,
        asking: Asking,
        batch: &Batch,
        dropout: &Dropout,
        config: &BertConfig,
    ) -> Tensor {
        let p = config.hidden_dropout_prob;
        let (asking_qd, context_qd) = match asking {
            Asking::All => (hidden_td.shallow_clone(), self.attend_td(hidden_td, batch, dropout, config)),
            Asking::First => {
                let first_bd = hidden_td.index_select(0, &batch.first_b);
                let context_bd = self.attend_first_bd(&first_bd, hidden_td, batch, dropout, config);
                (first_bd, context_bd)
            }
        };
        let attended_qd = self.attention_output.forward(&context_qd);
        let hidden_qd = self.attention_norm.forward(&dropout.add(&asking_qd, &attended_qd, p));

        let wide_qf = self.activation.forward(&self.intermediate.forward(&hidden_qd));
        let narrow_qd = self.output.forward(&wide_qf);
        self.output_norm.forward(&dropout.add(&hidden_qd, &narrow_qd, p))
    }

    /// Attention of all tokens.
    fn attend_td(&self, hidden_td: &Tensor, batch: &Batch, dropout: &Dropout, config: &BertConfig) -> Tensor {
        let joined_t3d = self.attention_input.forward(hidden_td);
        attention::of_all_td(&joined_t3d, batch, dropout, config)
    }

    /// Attention of each row's first token, to all of its row.
    fn attend_first_bd(
        &self,
        first_bd: &Tensor,
        hidden_td: &Tensor,
        batch: &Batch,
        dropout: &Dropout,
        config: &BertConfig,
    ) -> Tensor {
        let d = hidden_td.size()[1];
        let queries_bd = self.attention_input.part(0, d).forward(first_bd);
        let joined_t2d = self.attention_input.part(d, 2 * d).forward(hidden_td);
        attention::of_first_bd(&queries_bd, &joined_t2d, batch, dropout, config)
    }
}

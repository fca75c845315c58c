//! A BERT with its heads as ONNX nodes, in the order of the mathematics.
//!
//! Shapes: B batch, L length, D hidden width, H attention heads, F feed-forward width. Values have the names of the
//! modules that make them, always under `bert.` or a head's prefix, so that no task's name can be one of them.

use anyhow::Result;
use bam_contract::artifact::checkpoint::{ModelInfo, head_prefix};
use bam_contract::artifact::onnx::INPUTS;
use bam_contract::fault::Fault;
use bam_contract::stage::{GraphPrecision, RegressionOutput};
use safetensors::SafeTensors;

use crate::encoder::BertConfig;

use super::graph::{Graph, float, int, text};
use super::proto::{BOOL, FLOAT};
use super::weight::{Form, Steps};

/// The whole model: a shared encoder, and one output per task, `[batch, outputs]`, with the task's name.
///
/// # Errors
/// When the checkpoint lacks a tensor that the configuration calls for, or uses an activation that has no graph here.
pub(crate) fn graph<'a>(
    config: &BertConfig,
    info: &ModelInfo,
    precision: GraphPrecision,
    checkpoint: &'a SafeTensors<'a>,
) -> Result<Graph<'a>> {
    let mut bert = Bert { config, precision, graph: Graph::new("bert", checkpoint) };
    for input in INPUTS {
        bert.graph.input(input);
    }
    let mask_b11l = bert.mask();
    let mut hidden_bld = bert.embeddings()?;
    let last = config.num_hidden_layers.saturating_sub(1);
    if last > 0 {
        let mask_b1ll = bert.mask_of_all(&mask_b11l);
        for layer in 0..last {
            hidden_bld = bert.layer(layer, &hidden_bld, &hidden_bld, &mask_b1ll)?;
        }
    }
    // Only [CLS] of the last layer is looked at: the other tokens are keys and values there, never queries.
    let mut cls_b1d = bert.first_token(&hidden_bld);
    if config.num_hidden_layers > 0 {
        cls_b1d = bert.layer(last, &cls_b1d, &hidden_bld, &mask_b11l)?;
    }
    let pooled_bd = bert.pooler(&cls_b1d)?;
    for task in &info.tasks {
        let prefix = head_prefix(&info.tasks, task);
        if task.is_regression() && info.regression_output == RegressionOutput::Sigmoid {
            let linear = bert.gemm(&pooled_bd, &prefix, task.outputs(), &format!("{prefix}.linear"))?;
            bert.graph.node("Sigmoid", &[&linear], &task.name);
        } else {
            bert.gemm(&pooled_bd, &prefix, task.outputs(), &task.name)?;
        }
        bert.graph.output(&task.name, task.outputs());
    }
    Ok(bert.graph)
}

pub(super) struct Bert<'a, 'c> {
    pub(super) config: &'c BertConfig,
    pub(super) precision: GraphPrecision,
    pub(super) graph: Graph<'a>,
}

impl Bert<'_, '_> {
    /// Which tokens each query attends to: those that are no padding. [B, 1, 1, L]
    fn mask(&mut self) -> String {
        let axes = self.graph.integers("bert.mask.axes", &[1, 2]);
        let mask = self.graph.node("Unsqueeze", &["attention_mask", &axes], "bert.mask.per_query");
        self.cast(&mask, "bert.mask", BOOL)
    }

    /// The mask once more for each query, for ONNX Runtime asks for its whole shape. [B, 1, L, L]
    fn mask_of_all(&mut self, mask_b11l: &str) -> String {
        let one = self.graph.integers("bert.first", &[1]);
        let shape = vec![int("axis", 0)];
        let shape = self.graph.node_with("Concat", &[&one, &one, "bert.length", &one], "bert.mask.of_all.shape", shape);
        self.graph.node("Expand", &[mask_b11l, &shape], "bert.mask.of_all")
    }

    /// Sum of word, position and token-type embeddings, normalized. [B, L, D]
    fn embeddings(&mut self) -> Result<String> {
        let config = self.config;
        let width = config.hidden_size;
        let table = |name: &str| format!("bert.embeddings.{name}.weight");
        let words = self.words("bert.embeddings.word_embeddings")?;
        let positions = self.graph.weight(&table("position_embeddings"), &[config.max_position_embeddings, width])?;
        let length = vec![int("start", 1), int("end", 2)];
        let length = self.graph.node_with("Shape", &["input_ids"], "bert.length", length);
        let zero = self.graph.integers("bert.zero", &[0]);
        let positions =
            self.graph.node("Slice", &[&positions, &zero, &length, &zero], "bert.embeddings.position_embeddings");
        let types = self.graph.weight(&table("token_type_embeddings"), &[config.type_vocab_size, width])?;
        let types = self.graph.node("Gather", &[&types, "token_type_ids"], "bert.embeddings.token_type_embeddings");
        let sum = self.graph.node("Add", &[&words, &positions], "bert.embeddings.words_and_positions");
        let sum = self.graph.node("Add", &[&sum, &types], "bert.embeddings");
        self.norm(&sum, "bert.embeddings.LayerNorm")
    }

    /// The words' rows of their table, widened once they are looked up. [B, L, D]
    fn words(&mut self, name: &str) -> Result<String> {
        let (table, size) = (format!("{name}.weight"), [self.config.vocab_size, self.config.hidden_size]);
        let form = match self.precision {
            GraphPrecision::Fp32 => Form::Float32,
            GraphPrecision::Fp16 => Form::Float16,
            GraphPrecision::Int8 => Form::Int8(Steps::TABLE),
        };
        let weight = self.graph.table(&table, &size, form)?;
        if self.precision == GraphPrecision::Fp32 {
            return Ok(self.graph.node("Gather", &[&weight, "input_ids"], name));
        }
        let narrow = self.graph.node("Gather", &[&weight, "input_ids"], format!("{name}.narrow"));
        if self.precision == GraphPrecision::Fp16 {
            return Ok(self.cast(&narrow, name, FLOAT));
        }
        let steps = self.cast(&narrow, &format!("{name}.steps"), FLOAT);
        let scales = self.graph.scales(&table, size, Steps::TABLE, &[size[0], 1])?;
        let scales = self.graph.node("Gather", &[&scales, "input_ids"], format!("{name}.scales"));
        Ok(self.graph.node("Mul", &[&steps, &scales], name))
    }

    /// One encoder layer, for the tokens of `queries` (Q of them), which attend to those of `hidden`. [B, Q, D]
    fn layer(&mut self, layer: usize, queries_bqd: &str, hidden_bld: &str, mask_b1ql: &str) -> Result<String> {
        let (width, inner) = (self.config.hidden_size, self.config.intermediate_size);
        let name = format!("bert.encoder.layer.{layer}");
        let context_bqd = self.attention(&format!("{name}.attention.self"), queries_bqd, hidden_bld, mask_b1ql)?;

        let output = format!("{name}.attention.output");
        let attended = self.linear(&context_bqd, &format!("{output}.dense"), width, width)?;
        let attended = self.graph.node("Add", &[&attended, queries_bqd], &output);
        let attended_bqd = self.norm(&attended, &format!("{output}.LayerNorm"))?;

        let inner_bqf = self.linear(&attended_bqd, &format!("{name}.intermediate.dense"), width, inner)?;
        let inner_bqf = self.activation(&inner_bqf, &format!("{name}.intermediate"))?;
        let output = format!("{name}.output");
        let fed = self.linear(&inner_bqf, &format!("{output}.dense"), inner, width)?;
        let fed = self.graph.node("Add", &[&fed, &attended_bqd], &output);
        self.norm(&fed, &format!("{output}.LayerNorm"))
    }

    /// softmax(Q·Kᵀ / √(D/H) where the mask allows) · V, head by head, heads side by side again. [B, Q, D]
    fn attention(&mut self, name: &str, queries_bqd: &str, hidden_bld: &str, mask_b1ql: &str) -> Result<String> {
        let (width, heads) = (self.config.hidden_size, self.config.num_attention_heads as i64);
        let query = self.linear(queries_bqd, &format!("{name}.query"), width, width)?;
        let key = self.linear(hidden_bld, &format!("{name}.key"), width, width)?;
        let value = self.linear(hidden_bld, &format!("{name}.value"), width, width)?;
        let heads = vec![int("q_num_heads", heads), int("kv_num_heads", heads)];
        Ok(self.graph.node_with("Attention", &[&query, &key, &value, mask_b1ql], name, heads))
    }

    fn first_token(&mut self, hidden_bld: &str) -> String {
        let (zero, one) = (self.graph.integers("bert.zero", &[0]), self.graph.integers("bert.first", &[1]));
        self.graph.node("Slice", &[hidden_bld, &zero, &one, &one], "bert.cls")
    }

    /// tanh(dense(hidden state of [CLS])). [B, D]
    fn pooler(&mut self, cls_b1d: &str) -> Result<String> {
        let axis = self.graph.integers("bert.first", &[1]);
        let cls_bd = self.graph.node("Squeeze", &[cls_b1d, &axis], "bert.pooler.cls");
        let dense = self.gemm(&cls_bd, "bert.pooler.dense", self.config.hidden_size, "bert.pooler.dense")?;
        Ok(self.graph.node("Tanh", &[&dense], "bert.pooler"))
    }

    fn activation(&mut self, x: &str, name: &str) -> Result<String> {
        let graph = &mut self.graph;
        match self.config.hidden_act.as_str() {
            "gelu" => Ok(graph.node("Gelu", &[x], name)),
            "gelu_new" | "gelu_pytorch_tanh" => {
                Ok(graph.node_with("Gelu", &[x], name, vec![text("approximate", "tanh")]))
            }
            "relu" => Ok(graph.node("Relu", &[x], name)),
            "tanh" => Ok(graph.node("Tanh", &[x], name)),
            other => {
                let message = format!("the encoder's activation `{other}` has no ONNX form here");
                Err(Fault::new(
                    message,
                    "`hidden_act` in config.json can be gelu, gelu_new, gelu_pytorch_tanh, relu or tanh",
                )
                .into())
            }
        }
    }

    fn norm(&mut self, x: &str, name: &str) -> Result<String> {
        let width = [self.config.hidden_size];
        let scale = self.graph.weight(&format!("{name}.weight"), &width)?;
        let shift = self.graph.weight(&format!("{name}.bias"), &width)?;
        let attributes = vec![int("axis", -1), float("epsilon", self.config.layer_norm_eps as f32)];
        Ok(self.graph.node_with("LayerNormalization", &[x, &scale, &shift], name, attributes))
    }

    /// A linear layer of the encoder.
    pub(super) fn linear(&mut self, x: &str, name: &str, inputs: usize, outputs: usize) -> Result<String> {
        let (weight, product) = (format!("{name}.weight"), format!("{name}.product"));
        let product = match self.precision {
            GraphPrecision::Fp32 => {
                let weight = self.graph.matrix(&weight, inputs, outputs, Form::Float32)?;
                self.graph.node("MatMul", &[x, &weight], product)
            }
            // ONNX Runtime computes this cast once, when it loads the model.
            GraphPrecision::Fp16 => {
                let weight = self.graph.matrix(&weight, inputs, outputs, Form::Float16)?;
                let weight = self.cast(&weight, &format!("{weight}.wide"), FLOAT);
                self.graph.node("MatMul", &[x, &weight], product)
            }
            GraphPrecision::Int8 => self.product_of_steps(x, name, inputs, outputs)?,
        };
        let bias = self.graph.weight(&format!("{name}.bias"), &[outputs])?;
        Ok(self.graph.node("Add", &[&product, &bias], name))
    }

    /// x·W in whole numbers: of x by the range that it has, of W by that of each output. ONNX Runtime makes one operator
    /// of these.
    fn product_of_steps(&mut self, x: &str, name: &str, inputs: usize, outputs: usize) -> Result<String> {
        let weight = format!("{name}.weight");
        let [steps, step, zero] = self.graph.node_of_many(
            "DynamicQuantizeLinear",
            &[x],
            &format!("{x}.quantized"),
            ["steps", "step", "zero"],
        );
        let scales = self.graph.scales(&weight, [outputs, inputs], Steps::MATRIX, &[outputs])?;
        let weight = self.graph.matrix(&weight, inputs, outputs, Form::Int8(Steps::MATRIX))?;
        let sums = self.graph.node("MatMulInteger", &[&steps, &weight, &zero], format!("{name}.sums"));
        let sums = self.cast(&sums, &format!("{name}.sums.float"), FLOAT);
        let scales = self.graph.node("Mul", &[&step, &scales], format!("{name}.scales"));
        Ok(self.graph.node("Mul", &[&sums, &scales], format!("{name}.product")))
    }

    pub(super) fn cast(&mut self, x: &str, name: &str, data_type: i32) -> String {
        self.graph.node_with("Cast", &[x], name, vec![int("to", data_type.into())])
    }

    /// A linear layer on [B, D].
    fn gemm(&mut self, x_bd: &str, name: &str, outputs: usize, output: &str) -> Result<String> {
        let weight = self.graph.weight(&format!("{name}.weight"), &[outputs, self.config.hidden_size])?;
        let bias = self.graph.weight(&format!("{name}.bias"), &[outputs])?;
        Ok(self.graph.node_with("Gemm", &[x_bd, &weight, &bias], output, vec![int("transB", 1)]))
    }
}

//! A BERT with its heads as ONNX nodes, in the order of the mathematics.
//!
//! Shapes: B batch, L length, D hidden width, H attention heads, F feed-forward width. Values have the names of the
//! modules that make them, always under `bert.` or a head's prefix, so that no task's name can be one of them.

use anyhow::Result;
use bam_contract::artifact::checkpoint::{ModelInfo, head_prefix};
use bam_contract::artifact::onnx::INPUTS;
use bam_contract::fault::Fault;
use bam_contract::stage::RegressionOutput;
use safetensors::SafeTensors;

use crate::encoder::BertConfig;

use super::graph::{Graph, float, int, ints};

/// Added to the attention scores of padding: e to its power is 0 in float32, and it fits into float16 too.
const MASKED: f32 = -10_000.0;

/// The whole model: a shared encoder, and one output per task, `[batch, outputs]`, with the task's name.
///
/// # Errors
/// When the checkpoint lacks a tensor that the configuration calls for, or uses an activation that has no graph here.
pub(crate) fn graph<'a>(config: &BertConfig, info: &ModelInfo, checkpoint: &'a SafeTensors<'a>) -> Result<Graph<'a>> {
    let mut bert = Bert { config, graph: Graph::new("bert", checkpoint) };
    for input in INPUTS {
        bert.graph.input(input);
    }
    let mask_b11l = bert.mask();
    let mut hidden_bld = bert.embeddings()?;
    let last = config.num_hidden_layers.saturating_sub(1);
    for layer in 0..last {
        hidden_bld = bert.layer(layer, &hidden_bld, &hidden_bld, &mask_b11l)?;
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

struct Bert<'a, 'c> {
    config: &'c BertConfig,
    graph: Graph<'a>,
}

impl Bert<'_, '_> {
    /// What to add to attention scores: 0 for tokens, [`MASKED`] for padding. [B, 1, 1, L]
    fn mask(&mut self) -> String {
        let axes = self.graph.integers("bert.mask.axes", &[1, 2]);
        let mask = self.graph.node("Unsqueeze", &["attention_mask", &axes], "bert.mask.per_score");
        let mask =
            self.graph.node_with("Cast", &[&mask], "bert.mask.float", vec![int("to", super::proto::FLOAT.into())]);
        let one = self.graph.scalar("bert.one", 1.0);
        let padding = self.graph.node("Sub", &[&one, &mask], "bert.mask.padding");
        let masked = self.graph.scalar("bert.mask.masked", MASKED);
        self.graph.node("Mul", &[&padding, &masked], "bert.mask")
    }

    /// Sum of word, position and token-type embeddings, normalized. [B, L, D]
    fn embeddings(&mut self) -> Result<String> {
        let config = self.config;
        let width = config.hidden_size;
        let table = |name: &str| format!("bert.embeddings.{name}.weight");
        let words = self.graph.weight(&table("word_embeddings"), &[config.vocab_size, width])?;
        let words = self.graph.node("Gather", &[&words, "input_ids"], "bert.embeddings.word_embeddings");
        let positions = self.graph.weight(&table("position_embeddings"), &[config.max_position_embeddings, width])?;
        let length = vec![int("start", 1), int("end", 2)];
        let length = self.graph.node_with("Shape", &["input_ids"], "bert.length", length);
        let zero = self.graph.integers("bert.zero", &[0]);
        let positions =
            self.graph.node("Slice", &[&positions, &zero, &length, &zero], "bert.embeddings.position_embeddings");
        let types = self.graph.weight(&table("token_type_embeddings"), &[config.type_vocab_size, width])?;
        let types = self.graph.node("Gather", &[&types, "token_type_ids"], "bert.embeddings.token_type_embeddings");
        let sum = self.graph.node("Add", &[&words, &positions], "bert.embeddings.words_and_positions");
        // The slice's length is known only at run time. Saying what the sum is lets optimizers fuse what follows.
        self.graph.annotate(&sum, width);
        let sum = self.graph.node("Add", &[&sum, &types], "bert.embeddings");
        self.norm(&sum, "bert.embeddings.LayerNorm")
    }

    /// One encoder layer, for the tokens of `queries` (Q of them), which attend to those of `hidden`. [B, Q, D]
    fn layer(&mut self, layer: usize, queries_bqd: &str, hidden_bld: &str, mask_b11l: &str) -> Result<String> {
        let (width, inner) = (self.config.hidden_size, self.config.intermediate_size);
        let name = format!("bert.encoder.layer.{layer}");
        let context_bqd = self.attention(&format!("{name}.attention.self"), queries_bqd, hidden_bld, mask_b11l)?;

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

    /// softmax(Q·Kᵀ / √(D/H) + mask) · V, head by head, heads side by side again. [B, Q, D]
    fn attention(&mut self, name: &str, queries_bqd: &str, hidden_bld: &str, mask_b11l: &str) -> Result<String> {
        let per_head = self.config.hidden_size / self.config.num_attention_heads;
        let query = self.heads(queries_bqd, &format!("{name}.query"), &[0, 2, 1, 3])?;
        let key = self.heads(hidden_bld, &format!("{name}.key"), &[0, 2, 3, 1])?;
        let value = self.heads(hidden_bld, &format!("{name}.value"), &[0, 2, 1, 3])?;
        let scores_bhql = self.graph.node("MatMul", &[&query, &key], format!("{name}.products"));
        let scale = self.graph.scalar("bert.attention.scale", (per_head as f32).sqrt());
        let scores_bhql = self.graph.node("Div", &[&scores_bhql, &scale], format!("{name}.scores"));
        let scores_bhql = self.graph.node("Add", &[&scores_bhql, mask_b11l], format!("{name}.masked"));
        let shares = vec![int("axis", -1)];
        let shares_bhql = self.graph.node_with("Softmax", &[&scores_bhql], format!("{name}.probabilities"), shares);
        let context = self.graph.node("MatMul", &[&shares_bhql, &value], format!("{name}.context"));
        let order = vec![ints("perm", &[0, 2, 1, 3])];
        let context = self.graph.node_with("Transpose", &[&context], format!("{name}.context.by_token"), order);
        let shape = self.graph.integers("bert.attention.merged", &[0, 0, self.config.hidden_size as i64]);
        Ok(self.graph.node("Reshape", &[&context, &shape], name))
    }

    /// A linear layer whose outputs are split among the heads, axes then permuted from [B, L, H, D/H].
    fn heads(&mut self, input: &str, name: &str, order: &[i64]) -> Result<String> {
        let (width, heads) = (self.config.hidden_size, self.config.num_attention_heads);
        let made = self.linear(input, name, width, width)?;
        let shape = self.graph.integers("bert.attention.split", &[0, 0, heads as i64, (width / heads) as i64]);
        let split = self.graph.node("Reshape", &[&made, &shape], format!("{name}.split"));
        Ok(self.graph.node_with("Transpose", &[&split], format!("{name}.by_head"), vec![ints("perm", order)]))
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
            // x/2 · (1 + erf(x/√2)), in the form that ONNX Runtime fuses together with the bias before it.
            "gelu" => {
                let root = graph.scalar("bert.gelu.root_two", std::f32::consts::SQRT_2);
                let erf = graph.node("Div", &[x, &root], format!("{name}.gelu.scaled"));
                let erf = graph.node("Erf", &[&erf], format!("{name}.gelu.erf"));
                Ok(self.gated(x, &erf, name))
            }
            // The same with tanh(√(2/π) · (x + 0.044715·x³)) in place of erf.
            "gelu_new" | "gelu_pytorch_tanh" => {
                let three = graph.scalar("bert.gelu.three", 3.0);
                let factor = graph.scalar("bert.gelu.cubic", 0.044_715);
                let root = graph.scalar("bert.gelu.root_two_over_pi", (2.0 / std::f32::consts::PI).sqrt());
                let cube = graph.node("Pow", &[x, &three], format!("{name}.gelu.cube"));
                let cubic = graph.node("Mul", &[&cube, &factor], format!("{name}.gelu.cubic"));
                let inner = graph.node("Add", &[x, &cubic], format!("{name}.gelu.sum"));
                let inner = graph.node("Mul", &[&inner, &root], format!("{name}.gelu.scaled"));
                let tanh = graph.node("Tanh", &[&inner], format!("{name}.gelu.tanh"));
                Ok(self.gated(x, &tanh, name))
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

    /// x · (1 + gate) / 2.
    fn gated(&mut self, x: &str, gate: &str, name: &str) -> String {
        let (one, half) = (self.graph.scalar("bert.one", 1.0), self.graph.scalar("bert.gelu.half", 0.5));
        let gate = self.graph.node("Add", &[gate, &one], format!("{name}.gelu.gate"));
        let product = self.graph.node("Mul", &[x, &gate], format!("{name}.gelu.gated"));
        self.graph.node("Mul", &[&product, &half], name)
    }

    fn norm(&mut self, x: &str, name: &str) -> Result<String> {
        let width = [self.config.hidden_size];
        let scale = self.graph.weight(&format!("{name}.weight"), &width)?;
        let shift = self.graph.weight(&format!("{name}.bias"), &width)?;
        let attributes = vec![int("axis", -1), float("epsilon", self.config.layer_norm_eps as f32)];
        Ok(self.graph.node_with("LayerNormalization", &[x, &scale, &shift], name, attributes))
    }

    /// A linear layer on [B, L, inputs]: `MatMul` and `Add`, the form whose parts ONNX Runtime fuses with what follows.
    fn linear(&mut self, x: &str, name: &str, inputs: usize, outputs: usize) -> Result<String> {
        let weight = self.graph.transposed_weight(&format!("{name}.weight"), inputs, outputs)?;
        let bias = self.graph.weight(&format!("{name}.bias"), &[outputs])?;
        let product = self.graph.node("MatMul", &[x, &weight], format!("{name}.product"));
        Ok(self.graph.node("Add", &[&product, &bias], name))
    }

    /// A linear layer on [B, D].
    fn gemm(&mut self, x_bd: &str, name: &str, outputs: usize, output: &str) -> Result<String> {
        let weight = self.graph.weight(&format!("{name}.weight"), &[outputs, self.config.hidden_size])?;
        let bias = self.graph.weight(&format!("{name}.bias"), &[outputs])?;
        Ok(self.graph.node_with("Gemm", &[x_bd, &weight, &bias], output, vec![int("transB", 1)]))
    }
}

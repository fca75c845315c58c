//! The layers a BERT is made of.

use anyhow::Result;
use bam_contract::fault::Fault;
use bam_contract::stage::Precision;
use tch::{Kind, Tensor};

/// How a forward pass computes: with dropout or without, and in which number format its matrix products.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mode {
    pub(crate) train: bool,
    pub(crate) precision: Precision,
}

impl Mode {
    pub(crate) fn eval(precision: Precision) -> Self {
        Self { train: false, precision }
    }

    /// Casts an operand of a matrix product to the format it is computed in.
    pub(super) fn operand(self, tensor: &Tensor) -> Tensor {
        match self.precision {
            Precision::Fp32 => tensor.shallow_clone(),
            Precision::Bf16 => tensor.to_kind(Kind::BFloat16),
        }
    }
}

/// A trained tensor, by its Hugging Face name. Clones share the storage.
#[derive(Debug)]
pub(crate) struct Parameter {
    pub(crate) name: String,
    pub(crate) tensor: Tensor,
}

/// `x W^T + b`.
#[derive(Debug)]
pub(crate) struct Linear {
    weight: Tensor,
    bias: Tensor,
}

impl Linear {
    pub(super) fn new(weight: &Tensor, bias: &Tensor) -> Self {
        Self { weight: weight.shallow_clone(), bias: bias.shallow_clone() }
    }

    pub(super) fn forward(&self, x: &Tensor, mode: Mode) -> Tensor {
        mode.operand(x).linear(&mode.operand(&self.weight), Some(mode.operand(&self.bias)))
    }

    /// Several layers over the same input, as one matrix product.
    pub(super) fn forward_joined(layers: &[&Self], x: &Tensor, mode: Mode) -> Tensor {
        let weights: Vec<_> = layers.iter().map(|layer| mode.operand(&layer.weight)).collect();
        let biases: Vec<_> = layers.iter().map(|layer| mode.operand(&layer.bias)).collect();
        mode.operand(x).linear(&Tensor::cat(&weights, 0), Some(Tensor::cat(&biases, 0)))
    }
}

/// Layer normalization over the last dimension; always in fp32.
#[derive(Debug)]
pub(crate) struct LayerNorm {
    weight: Tensor,
    bias: Tensor,
    eps: f64,
}

impl LayerNorm {
    pub(super) fn new(weight: &Tensor, bias: &Tensor, eps: f64) -> Self {
        Self { weight: weight.shallow_clone(), bias: bias.shallow_clone(), eps }
    }

    pub(super) fn forward(&self, x: &Tensor) -> Tensor {
        x.layer_norm(self.weight.size(), Some(&self.weight), Some(&self.bias), self.eps, true)
    }
}

/// The feed-forward activation, by its Hugging Face name.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Activation {
    Gelu,
    GeluTanh,
    Relu,
    Tanh,
}

impl Activation {
    pub(super) fn by_name(name: &str) -> Result<Self> {
        match name {
            "gelu" => Ok(Self::Gelu),
            "gelu_new" | "gelu_pytorch_tanh" => Ok(Self::GeluTanh),
            "relu" => Ok(Self::Relu),
            "tanh" => Ok(Self::Tanh),
            _ => {
                let hint = "known ones: gelu, gelu_new, gelu_pytorch_tanh, relu, tanh";
                Err(Fault::new(format!("unknown `hidden_act` `{name}` in config.json"), hint).into())
            }
        }
    }

    pub(super) fn forward(self, x: &Tensor) -> Tensor {
        match self {
            Self::Gelu => x.gelu("none"),
            Self::GeluTanh => x.gelu("tanh"),
            Self::Relu => x.relu(),
            Self::Tanh => x.tanh(),
        }
    }
}

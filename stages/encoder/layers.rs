//! The layers a BERT is made of.

use anyhow::Result;
use bam_contract::fault::Fault;
use tch::{Kind, Tensor};

/// `x W^T + b`, in the format of its weights.
#[derive(Debug)]
pub(crate) struct Linear {
    weight: Tensor,
    bias: Tensor,
}

impl Linear {
    pub(super) fn new(weight: Tensor, bias: Tensor) -> Self {
        Self { weight, bias }
    }

    pub(super) fn forward(&self, x: &Tensor) -> Tensor {
        x.to_kind(self.weight.kind()).linear(&self.weight, Some(&self.bias))
    }

    /// The layer that gives `count` of its outputs, from `first` on.
    pub(super) fn part(&self, first: i64, count: i64) -> Self {
        Self { weight: self.weight.narrow(0, first, count), bias: self.bias.narrow(0, first, count) }
    }

    /// The format its products are computed in.
    pub(super) fn kind(&self) -> Kind {
        self.weight.kind()
    }
}

/// Layer normalization over the last dimension: sums in fp32, whatever format comes and goes.
#[derive(Debug)]
pub(crate) struct LayerNorm {
    weight: Tensor,
    bias: Tensor,
    eps: f64,
}

impl LayerNorm {
    pub(super) fn new(weight: Tensor, bias: Tensor, eps: f64) -> Self {
        Self { weight, bias, eps }
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

//! Trained tensors: by name for files, and as the forward pass and the optimizer use them.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Result;
use tch::{Device, Kind, Tensor};

use super::layers::{LayerNorm, Linear};
use super::safetensors_file::take;
use crate::libtorch::copy_all;

/// A trained tensor in fp32, by its Hugging Face name: a view of the storage that training updates.
#[derive(Debug)]
pub(crate) struct Parameter {
    pub(crate) name: String,
    pub(crate) tensor: Tensor,
}

/// What gradients are taken of: one parameter, or several of a kind one after the other, such as the weights of
/// query, key and value, which are one matrix product.
#[derive(Debug)]
pub(crate) struct Leaf {
    /// Name of its first parameter.
    pub(crate) name: String,
    /// fp32.
    pub(crate) master: Tensor,
    /// What the forward pass reads: the master itself, or its copy in the format of the matrix products.
    pub(crate) used: Tensor,
}

/// Brings copies up to their masters' values.
pub(crate) fn refresh<'a>(leaves: impl Iterator<Item = &'a Leaf>) {
    let copied = leaves.filter(|leaf| leaf.used.kind() != leaf.master.kind());
    let (into, from): (Vec<_>, Vec<_>) = copied.map(|leaf| (&leaf.used, &leaf.master)).unzip();
    copy_all(&into, &from);
}

/// Makes parameters and leaves of the tensors that were read.
#[derive(Debug)]
pub(super) struct Loader<'a> {
    pub(super) tensors: BTreeMap<String, Tensor>,
    pub(super) path: &'a Path,
    pub(super) device: Device,
    /// Format of the linear layers.
    pub(super) compute: Kind,
    pub(super) eps: f64,
    pub(super) parameters: Vec<Parameter>,
    pub(super) leaves: Vec<Leaf>,
}

impl Loader<'_> {
    /// A parameter that is no leaf: the forward pass is given the rows of it that it needs.
    pub(super) fn table(&mut self, name: &str, shape: &[i64]) -> Result<Tensor> {
        let tensor = take(&mut self.tensors, name, shape, self.path)?.to_device(self.device);
        self.parameters.push(Parameter { name: name.to_owned(), tensor: tensor.shallow_clone() });
        Ok(tensor)
    }

    /// A leaf of one parameter in fp32.
    pub(super) fn plain(&mut self, name: &str, shape: &[i64]) -> Result<Tensor> {
        self.leaf(&[name.to_owned()], shape, Kind::Float)
    }

    /// Of the embeddings, which come in fp32.
    pub(super) fn first_norm(&mut self, prefix: &str, width: i64) -> Result<LayerNorm> {
        self.norm_in(Kind::Float, prefix, width)
    }

    pub(super) fn norm(&mut self, prefix: &str, width: i64) -> Result<LayerNorm> {
        // The CPU's kernel takes weights in fp32 with activations in bf16, that of a GPU wants one format.
        let kind = if self.device == Device::Cpu { Kind::Float } else { self.compute };
        self.norm_in(kind, prefix, width)
    }

    fn norm_in(&mut self, kind: Kind, prefix: &str, width: i64) -> Result<LayerNorm> {
        let weight = self.leaf(&[format!("{prefix}.weight")], &[width], kind)?;
        Ok(LayerNorm::new(weight, self.leaf(&[format!("{prefix}.bias")], &[width], kind)?, self.eps))
    }

    /// Layers over the same input, which the forward pass computes as one.
    pub(super) fn linear(&mut self, prefixes: &[String], outputs: i64, inputs: i64) -> Result<Linear> {
        self.linear_in(self.compute, prefixes, outputs, inputs)
    }

    /// A head is a few rows of one product; its rounding would be the prediction's own, so it is fp32.
    pub(super) fn head(&mut self, prefix: String, outputs: i64, inputs: i64) -> Result<Linear> {
        self.linear_in(Kind::Float, &[prefix], outputs, inputs)
    }

    fn linear_in(&mut self, kind: Kind, prefixes: &[String], outputs: i64, inputs: i64) -> Result<Linear> {
        let named = |part: &str| prefixes.iter().map(|prefix| format!("{prefix}.{part}")).collect::<Vec<_>>();
        let weight = self.leaf(&named("weight"), &[outputs, inputs], kind)?;
        Ok(Linear::new(weight, self.leaf(&named("bias"), &[outputs], kind)?))
    }

    /// Joins parameters of one shape along their first dimension.
    fn leaf(&mut self, names: &[String], shape: &[i64], kind: Kind) -> Result<Tensor> {
        let parts: Vec<_> =
            names.iter().map(|name| take(&mut self.tensors, name, shape, self.path)).collect::<Result<_>>()?;
        let master = if let [only] = parts.as_slice() { only.shallow_clone() } else { Tensor::cat(&parts, 0) };
        let master = master.to_device(self.device).contiguous();
        for (index, name) in names.iter().enumerate() {
            let tensor = master.narrow(0, index as i64 * shape[0], shape[0]);
            self.parameters.push(Parameter { name: name.clone(), tensor });
        }
        // Leaves of autograd are detached: parameters stay plain views, which may be written to.
        let used = master.detach().to_kind(kind).set_requires_grad(true);
        self.leaves.push(Leaf { name: names[0].clone(), master, used: used.shallow_clone() });
        Ok(used)
    }
}

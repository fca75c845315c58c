//! The network: a BERT encoder with its pooler, and one linear head per task.
//!
//! Shapes in names: B rows of a batch, L positions, D hidden width, H attention heads, E = D / H,
//! F feed-forward width, V words of the vocabulary, U words of a batch, C outputs of a head.

mod attention;
mod batch;
mod bert;
mod checkpoint;
mod config;
pub(crate) mod device;
pub(crate) mod dropout;
mod layers;
pub(crate) mod precision;
#[cfg(test)]
pub(crate) mod reference;
#[cfg(test)]
mod reference_tests;
mod safetensors_file;
mod weights;

pub(crate) use batch::Batch;
pub(crate) use bert::{Model, NewModel};
pub(crate) use checkpoint::{CheckpointFiles, write_checkpoint};
pub(crate) use config::BertConfig;
pub(crate) use dropout::{Dropout, Mark};
pub(crate) use safetensors_file::{read_tensors, write_tensors};
#[cfg(test)]
pub(crate) use weights::Parameter;
pub(crate) use weights::{Leaf, refresh};

//! Stages as Kubernetes Jobs: manifests that people apply. Nothing here talks to a cluster.
//!
//! A Job knows nothing of other Jobs, so they come in waves: those of one wait for none but those of earlier ones.

mod gather;
mod job;
mod names;
mod waves;

pub(crate) use gather::{gather, number};
pub(crate) use job::Frame;
pub(crate) use names::legal;

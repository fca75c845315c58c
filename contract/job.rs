//! What a worker is given: everything a stage needs, and the folder it may write to.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::digest::{Digest, Fingerprint};
use crate::stage::StageSpec;

/// File in a job's `resume` folder that holds a training's state.
pub const STATE_FILE: &str = "state.safetensors";

/// A stage to compute, as the engine hands it to `bam-stage` in a JSON file.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Job {
    /// The stage's name in the pipeline, for messages only.
    pub stage: String,
    /// The pipeline file's absolute path, by which the engine keeps the log of a worker that is killed.
    #[serde(default)]
    pub pipeline: PathBuf,
    pub fingerprint: Fingerprint,
    pub spec: StageSpec,
    pub inputs: Vec<JobInput>,
    /// An existing empty folder; the only place the worker may write to.
    pub output: PathBuf,
    /// Where a stage that takes long may keep the state that it can go on from. The worker makes the folder; it is
    /// removed once the stage is done.
    pub resume: PathBuf,
    /// CPU threads the worker may keep busy.
    pub threads: usize,
    /// `cpu`, `cuda` or `cuda:0`; `auto` takes a GPU when libtorch sees one.
    pub device: String,
}

/// An artifact the stage reads.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct JobInput {
    pub slot: String,
    /// Name of the stage that made it.
    pub stage: String,
    /// Folder of the artifact.
    pub path: PathBuf,
    /// Digest of its content.
    pub digest: Digest,
}

impl Job {
    pub fn read(path: &Path) -> Result<Self> {
        let text =
            std::fs::read_to_string(path).with_context(|| format!("reading the job file `{}`", path.display()))?;
        serde_json::from_str(&text).with_context(|| format!("the job file `{}` is not a job", path.display()))
    }

    /// The input of that slot.
    pub fn input(&self, slot: &str) -> Result<&JobInput> {
        self.inputs.iter().find(|input| input.slot == slot).with_context(|| format!("the job has no input `{slot}`"))
    }

    /// The inputs of a list, such as all of `tokens.0`, `tokens.1` …, in order.
    pub fn inputs_of<'a>(&'a self, list: &'a str) -> impl Iterator<Item = &'a JobInput> {
        self.inputs.iter().filter(move |input| input.slot.strip_prefix(list).is_some_and(|rest| rest.starts_with('.')))
    }
}

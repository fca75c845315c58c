//! The state of an unfinished training, so that it can go on where it was: weights, moments, and what was measured.
//!
//! One safetensors file, `state.safetensors`, written whole or not at all. What follows from the step's number alone
//! is not in it: the sampler draws its batches again, and each step has random numbers of its own.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bam_contract::digest::{Digest, Fingerprint};
use bam_contract::job::{Job, STATE_FILE};
use serde::{Deserialize, Serialize};
use tch::Tensor;

use super::evaluate::DevScore;
use super::history::History;
use super::{Best, Training};
use crate::encoder::{read_tensors, write_tensors};

/// Raised when the file's meaning changes.
const VERSION: u32 = 1;
/// Between two savings, unless the environment says otherwise.
const SAVE_EVERY: Duration = Duration::from_mins(1);
const SAVE_EVERY_VARIABLE: &str = "BAM_SAVE_SECS";
/// How the name of a state begins that is not whole yet, and after how long without a change nobody goes on with it.
const FRESH: &str = "fresh.";
const ABANDONED: Duration = Duration::from_hours(1);
/// Saving takes at most one part in so many of the time.
const LEAST_SHARE: u32 = 20;

/// Where a training stands, besides its tensors.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Progress {
    /// Steps done.
    pub(super) steps: u64,
    pub(super) history: History,
    /// Of the last evaluation.
    pub(super) scores: Vec<DevScore>,
    /// How often the training was gone on with.
    pub(super) resumed: u32,
    /// Seconds before it last was.
    pub(super) earlier_secs: f64,
}

#[derive(Debug, Serialize, Deserialize)]
struct Header {
    version: u32,
    fingerprint: Fingerprint,
    /// Of all tensors' bytes.
    digest: Digest,
    optimizer_steps: i32,
    best_scores: Option<Vec<DevScore>>,
    progress: Progress,
}

/// Keeps the state in a stage's folder for it.
#[derive(Debug)]
pub(super) struct Keeper {
    folder: PathBuf,
    /// The file's name until it is whole.
    fresh: String,
    fingerprint: Fingerprint,
    every: Duration,
    started: Instant,
    due: Instant,
}

impl Keeper {
    pub(super) fn new(job: &Job) -> Self {
        let secs = std::env::var(SAVE_EVERY_VARIABLE).ok().and_then(|text| text.parse().ok());
        let every = secs.map_or(SAVE_EVERY, Duration::from_secs_f64);
        let now = Instant::now();
        // By a name of its own: a job that was taken to be gone may be writing here too.
        let own: Vec<_> = job.output.iter().rev().take(2).map(|part| part.to_string_lossy()).collect();
        let fresh = format!("{FRESH}{}", own.join("."));
        Self { folder: job.resume.clone(), fresh, fingerprint: job.fingerprint, every, started: now, due: now + every }
    }

    pub(super) fn is_due(&self) -> bool {
        Instant::now() >= self.due
    }

    /// Takes up a state that was kept, if there is one.
    ///
    /// # Errors
    /// When there is one that can't be used; nothing has been changed then.
    pub(super) fn restore(&self, training: &mut Training<'_>) -> Result<()> {
        let path = self.folder.join(STATE_FILE);
        if !path.exists() {
            return Ok(());
        }
        let (header, tensors) = read_tensors(&path)?;
        let header: Header = serde_json::from_str(&header).context("it is of another version")?;
        ensure!(header.version == VERSION, "it is of version {}, not {VERSION}", header.version);
        ensure!(header.fingerprint == self.fingerprint, "it is of another computation");
        ensure!(digest(tensors.iter().map(|(name, tensor)| (name.clone(), tensor))) == header.digest, "it is damaged");
        let mut parts = Parts(tensors);
        let Training { model, optimizer, best, progress, .. } = training;
        let parameters = || model.parameters.iter().map(|each| (each.name.clone(), &each.tensor));
        let weights = parts.like(WEIGHT, parameters())?;
        let moments = parts.like("", optimizer.moments(model))?;
        let of_best = match header.best_scores {
            None => None,
            Some(scores) => Some(Best { weights: parts.like(BEST, parameters())?, scores }),
        };
        model.set_weights(&weights);
        optimizer.restore(moments, header.optimizer_steps);
        *best = of_best;
        *progress = Progress { resumed: header.progress.resumed + 1, ..header.progress };
        Ok(())
    }

    /// Keeps the state as it is between two steps.
    pub(super) fn save(&mut self, training: &mut Training<'_>) -> Result<()> {
        let before = Instant::now();
        let Training { model, optimizer, best, progress, .. } = training;
        optimizer.settle(model);
        let named = |prefix: &str, name: &str| format!("{prefix}{name}");
        let parameters = &model.parameters;
        let mut tensors: BTreeMap<String, &Tensor> =
            parameters.iter().map(|each| (named(WEIGHT, &each.name), &each.tensor)).collect();
        tensors.extend(optimizer.moments(model));
        if let Some(best) = &*best {
            tensors.extend(parameters.iter().zip(&best.weights).map(|(each, best)| (named(BEST, &each.name), best)));
        }
        let header = Header {
            version: VERSION,
            fingerprint: self.fingerprint,
            digest: digest(tensors.iter().map(|(name, tensor)| (name.clone(), *tensor))),
            optimizer_steps: optimizer.steps(),
            best_scores: best.as_ref().map(|best| best.scores.clone()),
            progress: Progress {
                earlier_secs: progress.earlier_secs + self.started.elapsed().as_secs_f64(),
                ..progress.clone()
            },
        };
        let written = self.write(&serde_json::to_string(&header)?, &tensors);
        self.due = Instant::now() + self.every.max(before.elapsed() * LEAST_SHARE);
        written.with_context(|| format!("keeping the training's state in `{}`", self.folder.display()))
    }

    fn write(&self, header: &str, tensors: &BTreeMap<String, &Tensor>) -> Result<()> {
        fs::create_dir_all(&self.folder)?;
        let fresh = self.folder.join(&self.fresh);
        write_tensors(&fresh, header, tensors.iter().map(|(name, tensor)| (name.as_str(), *tensor)))?;
        File::open(&fresh)?.sync_all()?;
        fs::rename(&fresh, self.folder.join(STATE_FILE))?;
        self.clear()?;
        Ok(File::open(&self.folder)?.sync_all()?)
    }

    /// Removes states that others have begun to write, and never ended.
    fn clear(&self) -> Result<()> {
        let now = fs::metadata(self.folder.join(STATE_FILE))?.modified()?;
        for entry in fs::read_dir(&self.folder)?.flatten() {
            let age = entry.metadata().and_then(|metadata| metadata.modified()).map(|then| now.duration_since(then));
            let is_old = matches!(age, Ok(Ok(age)) if age > ABANDONED);
            if is_old && entry.file_name().to_string_lossy().starts_with(FRESH) {
                _ = fs::remove_file(entry.path());
            }
        }
        Ok(())
    }
}

const WEIGHT: &str = "weight/";
const BEST: &str = "best/";

/// Tensors of a state that was read.
struct Parts(BTreeMap<String, Tensor>);

impl Parts {
    /// Takes out those with the names and shapes of `wanted`.
    fn like<'a>(
        &mut self,
        prefix: &str,
        wanted: impl IntoIterator<Item = (String, &'a Tensor)>,
    ) -> Result<Vec<Tensor>> {
        let take = |(name, like): (String, &Tensor)| {
            let found = self.0.remove(&format!("{prefix}{name}")).filter(|found| found.size() == like.size());
            found.with_context(|| format!("it lacks `{prefix}{name}`"))
        };
        wanted.into_iter().map(take).collect()
    }
}

/// Digest of tensors with their names, in order of name.
fn digest<'a>(tensors: impl Iterator<Item = (String, &'a Tensor)>) -> Digest {
    let each = tensors.map(|(name, tensor)| {
        let count = tensor.numel();
        let mut bytes = vec![0; count * size_of::<f32>()];
        tensor.detach().to_device(tch::Device::Cpu).contiguous().copy_data_u8(&mut bytes, count);
        format!("{} {name}\n", Digest::of(&bytes))
    });
    Digest::of(each.collect::<String>().as_bytes())
}

/// What is told of a state that isn't used.
pub(super) fn unused(folder: &Path, error: &anyhow::Error) -> String {
    format!("the state kept in `{}` is not used: {error:#}; the training starts anew", folder.display())
}

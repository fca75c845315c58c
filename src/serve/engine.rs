//! A loaded model: sessions that take batches from its queue. When nobody holds it any more, they answer what is queued
//! and end.

use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use bam_contract::artifact::scores::Scores;
use bam_contract::artifact::tokens::TokenRows;
use bam_contract::digest::Fingerprint;
use bam_contract::manifest::Manifest;
use bam_contract::metric::Metric;
use bam_contract::task::Split;
use bam_inference::answer::{Answer, likeliest};
use bam_inference::model::OnnxModel;
use bam_inference::session::OnnxSession;

use super::Settings;
use super::metrics::Metrics;
use super::queue::{Queue, Row};
use crate::store::{Store, read_manifest};

#[derive(Debug)]
pub(super) struct Engine {
    pub(super) model: Arc<OnnxModel>,
    pub(super) about: About,
    pub(super) queue: Arc<Queue>,
    /// Rows that the model was tested with.
    pub(super) probes: usize,
}

/// Where a model comes from.
#[derive(Debug)]
pub(super) struct About {
    pub(super) fingerprint: Fingerprint,
    /// The stage that made it, where its folder tells.
    pub(super) stage: Option<String>,
    pub(super) dev_scores: Vec<DevScore>,
}

/// A metric on a task's dev split, from a `score` stage.
#[derive(Clone, Debug)]
pub(super) struct DevScore {
    pub(super) task: String,
    pub(super) metric: Metric,
    pub(super) value: f64,
}

impl About {
    /// `onnx (fd59ccc9)`
    pub(super) fn name(&self) -> String {
        format!("{} ({})", self.stage.as_deref().unwrap_or("model"), self.fingerprint.short())
    }
}

impl Engine {
    /// Loads the model that the folder holds now, tests it, and starts its sessions.
    pub(super) fn load(settings: &Settings, store: &Store, metrics: &Metrics) -> Result<Self> {
        let folder =
            settings.folder.canonicalize().with_context(|| format!("finding `{}`", settings.folder.display()))?;
        let model = Arc::new(OnnxModel::open(&folder)?);
        let queue = Queue::new(settings.queue_tokens, settings.batch_tokens);
        let mut sessions =
            (0..settings.sessions).map(|_| model.session(settings.threads_per_session)).collect::<Result<Vec<_>>>()?;
        let mut probes = 0;
        for session in &mut sessions {
            probes = model.test(session)?;
        }
        let about = about(&folder, model.info.fingerprint, store);
        for session in sessions {
            let worker = Worker { model: model.clone(), queue: queue.clone(), metrics: metrics.clone() };
            thread::Builder::new().name("session".to_owned()).spawn(move || worker.work(session))?;
        }
        Ok(Self { model, about, queue, probes })
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.queue.close();
    }
}

/// A session's thread.
struct Worker {
    model: Arc<OnnxModel>,
    queue: Arc<Queue>,
    metrics: Metrics,
}

impl Worker {
    fn work(&self, mut session: OnnxSession) {
        while let Some(batch) = self.queue.take() {
            let started = Instant::now();
            match self.compute(&mut session, &batch) {
                Ok(by_task) => self.answer(&batch, &by_task, started, started.elapsed()),
                Err(error) => batch.iter().for_each(|row| row.request.fail(&format!("{error:#}"))),
            }
        }
    }

    /// Outputs by head, of all rows; none of heads that nobody asked.
    fn compute(&self, session: &mut OnnxSession, batch: &[Row]) -> Result<Vec<Vec<f32>>> {
        let heads = &self.model.info.tasks;
        let asked: Vec<usize> =
            (0..heads.len()).filter(|head| batch.iter().any(|row| row.request.tasks.contains(head))).collect();
        let names: Vec<&str> = asked.iter().map(|head| heads[*head].name.as_str()).collect();
        let rows: Vec<(&TokenRows, usize)> = batch.iter().map(|row| (&row.request.rows, row.index)).collect();
        let mut by_task = vec![Vec::new(); heads.len()];
        for (head, outputs) in asked.into_iter().zip(self.model.run(session, &rows, &names)?) {
            by_task[head] = outputs;
        }
        Ok(by_task)
    }

    fn answer(&self, batch: &[Row], by_task: &[Vec<f32>], started: Instant, compute: Duration) {
        let lengths: Vec<usize> = batch.iter().map(|row| row.request.rows.tokens(row.index)).collect();
        self.metrics.batch(&lengths, compute);
        for (place, row) in batch.iter().enumerate() {
            let of_task = |head: &usize| {
                let task = &self.model.info.tasks[*head];
                let logits = by_task[*head][place * task.outputs()..(place + 1) * task.outputs()].to_vec();
                let label = match Answer::of(task, &logits) {
                    Answer::Classes(probabilities) => &task.labels[likeliest(&probabilities)],
                    Answer::Value(_) => "",
                };
                self.metrics.prediction(&task.name, label);
                logits
            };
            let logits = row.request.tasks.iter().map(of_task).collect();
            row.request.answer(row.index, logits, started, compute);
        }
    }
}

fn about(folder: &Path, fingerprint: Fingerprint, store: &Store) -> About {
    let manifest = read_manifest(folder).ok().filter(|manifest| manifest.fingerprint == fingerprint);
    let dev_scores = manifest.as_ref().map(|manifest| dev_scores(manifest, store)).unwrap_or_default();
    About { fingerprint, stage: manifest.map(|manifest| manifest.stage), dev_scores }
}

/// What the newest `score` stage says that read these very bytes.
fn dev_scores(model: &Manifest, store: &Store) -> Vec<DevScore> {
    let slot = format!("models.{}", model.stage);
    let mut scored = store.all_of("score");
    scored.retain(|(_, manifest)| manifest.key.inputs.get(&slot) == Some(&model.content));
    scored.sort_by_key(|(_, manifest)| manifest.provenance.finished_unix_secs);
    let scores = scored.last().and_then(|(folder, _)| Scores::read(folder).ok()).unwrap_or_default();
    let of_model = scores.scores.into_iter().filter(|score| score.model == model.stage && score.split == Split::Dev);
    of_model
        .flat_map(|score| {
            let task = score.task;
            score.metrics.into_iter().map(move |(metric, value)| DevScore { task: task.clone(), metric, value })
        })
        .collect()
}

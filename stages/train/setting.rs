//! For tests: training sets of two tasks, from the artifacts that a `train` stage reads.

use bam_contract::artifact::encoder::tokenizer_digest;
use bam_contract::artifact::predictions::{PredictionRows, Predictions};
use bam_contract::artifact::tokens::{TokenRows, TokenizerInfo, TokensWriter};
use bam_contract::digest::{Digest, Fingerprint};
use bam_contract::job::JobInput;
use bam_contract::stage::StageSpec;
use bam_contract::task::Split;
use rand::prelude::*;
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};
use tch::Kind;
use tempfile::TempDir;

use super::gradients::Gradients;
use super::sampler::Draw;
use super::*;
use crate::encoder::reference::{Reference, fixtures, two_tasks};

/// That of the script which made the reference.
pub(super) const GOLD_SHARE: f64 = 0.3;

/// The tokenizer's.
const MAX_TOKENS: usize = 24;
const WORDS: u32 = 300;

/// A training set of two tasks.
pub(super) struct Setting {
    pub(super) reference: Reference,
    pub(super) params: TrainParams,
    pub(super) set: TrainingSet,
    pub(super) threads: usize,
    /// How often the batch has each row.
    pub(super) copies: usize,
    _folder: TempDir,
}

/// A task's labelled rows, and what its teacher says of them.
type Taught = (TokenRows, Vec<f32>);

impl Setting {
    /// The reference's batch, all rows for each task.
    pub(super) fn new(with_teachers: bool, more: &Value) -> Self {
        let reference = Reference::read();
        let of_task = |(labels, teacher, greatest): (&str, &str, f64)| {
            let mut rows = reference.rows();
            rows.labels = floats(reference.get(labels)).into_iter().map(|label| Some(label * greatest)).collect();
            (rows, floats(reference.get(teacher)).into_iter().map(|logit| logit as f32).collect())
        };
        let taught = [("labels_classes", "teacher.nli", 1.0), ("labels_values", "teacher.sim", 5.0)].map(of_task);
        Self::of(reference, &taught, with_teachers, more)
    }

    /// Random rows of those lengths, the same for each task but for labels and teachers.
    pub(super) fn random(lengths: &[usize], seed: u64, more: &Value) -> Self {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut rows = TokenRows::default();
        for (row, length) in lengths.iter().enumerate() {
            let ids: Vec<u32> = (0..*length).map(|_| random.random_range(5..WORDS)).collect();
            let first = random.random_range(1..=*length);
            let types: Vec<u32> = (0..*length).map(|place| u32::from(place >= first)).collect();
            rows.push(row as i64, false, None, &ids, &types, 0);
        }
        let taught = two_tasks().into_iter().map(|task| {
            let mut rows = rows.clone();
            let label = |_| {
                if task.is_regression() { random.random_range(0.0..5.0) } else { f64::from(random.random_range(0..3)) }
            };
            rows.labels = (0..rows.len()).map(label).map(Some).collect();
            let logits = (0..rows.len() * task.outputs()).map(|_| random.random_range(-1.0..1.0)).collect();
            (rows, logits)
        });
        Self::of(Reference::read(), &taught.collect::<Vec<_>>(), true, more)
    }

    fn of(reference: Reference, taught: &[Taught], with_teachers: bool, more: &Value) -> Self {
        let encoder = fixtures().join("tiny-bert");
        let tokenizer = TokenizerInfo {
            digest: tokenizer_digest(&encoder).unwrap(),
            vocabulary_size: WORDS as usize,
            max_tokens: MAX_TOKENS,
            pad_id: 0,
        };
        let folder = tempfile::tempdir().unwrap();
        let mut inputs = Vec::new();
        for (index, (task, (rows, logits))) in two_tasks().iter().zip(taught).enumerate() {
            let mut add = |list: &str| {
                let path = folder.path().join(format!("{list}.{index}"));
                std::fs::create_dir(&path).unwrap();
                let (slot, stage) = (format!("{list}.{index}"), format!("{list}@{}", task.name));
                inputs.push(JobInput { slot, stage, path: path.clone(), digest: Digest::of(b"") });
                path
            };
            let fingerprint = Fingerprint::of("test");
            let mut writer = TokensWriter::create(&add("tokens"), Split::Train, task, &tokenizer, fingerprint).unwrap();
            writer.write(rows).unwrap();
            writer.finish().unwrap();
            if with_teachers {
                let TokenRows { ids, swapped, labels, .. } = rows.clone();
                let rows = PredictionRows { ids, swapped, labels, logits: logits.clone() };
                Predictions::write(&add("teachers"), Split::Train, task, rows, fingerprint).unwrap();
            }
        }
        let mut params = json!({"tokens": [], "encoder": encoder});
        params.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let params: TrainParams = serde_json::from_value(params).unwrap();
        let job = Job {
            stage: "student".to_owned(),
            pipeline: std::path::PathBuf::new(),
            fingerprint: Fingerprint::of("test"),
            spec: StageSpec::Train(Box::new(params.clone())),
            inputs,
            output: folder.path().to_owned(),
            resume: folder.path().join("resume"),
            threads: 1,
            device: "cpu".to_owned(),
        };
        let set = TrainingSet::open(&params, &job).unwrap();
        Self { reference, params, set, threads: 1, copies: 1, _folder: folder }
    }

    /// Every row for each task.
    pub(super) fn batch(&self) -> Vec<Draw> {
        let rows = |task: usize| (0..self.set.task(task).rows.len()).map(move |row| Draw { task, row });
        let once: Vec<Draw> = (0..2).flat_map(rows).collect();
        once.repeat(self.copies)
    }

    /// With nothing frozen. Annealing is linear: the label's share is the progress.
    pub(super) fn at(gold_share: f64) -> Conditions {
        Conditions { progress: gold_share, least_depth: 0, dropout: Some(1) }
    }

    pub(super) fn loss_and_gradients(&self, model: &Model, gold_share: f64) -> (f64, Gradients) {
        self.loss_and_gradients_under(model, &Self::at(gold_share))
    }

    pub(super) fn loss_and_gradients_under(&self, model: &Model, conditions: &Conditions) -> (f64, Gradients) {
        let words = word_ids(&self.set.read(self.batch()).unwrap(), self.set.pad_id());
        self.of_draws(model, self.batch(), &words, conditions)
    }

    /// Of another batch, with gradients of those words, among which are all of its own.
    pub(super) fn of_draws(
        &self,
        model: &Model,
        draws: Vec<Draw>,
        words: &[i64],
        conditions: &Conditions,
    ) -> (f64, Gradients) {
        let step = Computation {
            model: Shared(model),
            set: &self.set,
            batch: &self.set.read(draws).unwrap(),
            params: &self.params,
            conditions: *conditions,
        };
        let (loss, gradients) = step.loss_and_gradients(words, &Crew::new(self.threads, model.device).unwrap());
        (loss.double_value(&[]), gradients)
    }
}

fn floats(tensor: &Tensor) -> Vec<f64> {
    Vec::<f64>::try_from(tensor.to_kind(Kind::Double).flatten(0, -1)).unwrap()
}

//! Dev metrics during the training.

use anyhow::Result;
use bam_contract::metric::Metric;
use bam_contract::task::Split;
use serde::{Deserialize, Serialize};

use super::training_set::{TrainingSet, TrainingTask};
use crate::crew::Crew;
use crate::encoder::Model;
use crate::infer;

#[derive(Debug)]
pub(super) struct Evaluator<'a> {
    sets: Vec<DevSet<'a>>,
    pad_id: u32,
}

#[derive(Debug)]
struct DevSet<'a> {
    task: &'a TrainingTask,
    head: usize,
    labels: Vec<Option<f64>>,
}

/// A metric of a task's dev split, in [-1, 1].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct DevScore {
    /// Such as `rte/accuracy`.
    pub(super) name: String,
    pub(super) value: f64,
    /// Whether it is the task's first metric, which stands for the task.
    pub(super) is_headline: bool,
}

impl<'a> Evaluator<'a> {
    pub(super) fn open(set: &'a TrainingSet) -> Result<Self> {
        let mut sets = Vec::new();
        for (head, task) in set.all().iter().enumerate() {
            if task.tokens.splits.contains(&Split::Dev) {
                sets.push(DevSet { task, head, labels: task.tokens.labels(Split::Dev)? });
            }
        }
        Ok(Self { sets, pad_id: set.pad_id() })
    }

    pub(super) fn has_rows(&self) -> bool {
        !self.sets.is_empty()
    }

    pub(super) fn scores(&self, model: &Model, crew: &Crew) -> Result<Vec<DevScore>> {
        let of_sets = self.sets.iter().map(|set| self.scores_of(model, set, crew)).collect::<Result<Vec<_>>>()?;
        Ok(of_sets.concat())
    }

    fn scores_of(&self, model: &Model, set: &DevSet<'_>, crew: &Crew) -> Result<Vec<DevScore>> {
        let DevSet { task, head, labels } = set;
        let logits = infer::of_split(&task.tokens, Split::Dev, |rows| {
            Ok(infer::logits(model, *head, rows, self.pad_id, crew, |_| {}))
        })?;
        let score = |(index, (metric, value)): (usize, (Metric, f64))| DevScore {
            name: format!("{}/{}", task.spec.name, metric.name()),
            value,
            is_headline: index == 0,
        };
        Ok(infer::metrics(&task.spec, labels, &logits).into_iter().enumerate().map(score).collect())
    }
}

/// Mean of the tasks' first metrics; 0 where there is no dev split.
pub(super) fn mean_headline(scores: &[DevScore]) -> f64 {
    let headlines: Vec<_> = scores.iter().filter(|score| score.is_headline).map(|score| score.value).collect();
    if headlines.is_empty() { 0.0 } else { headlines.iter().sum::<f64>() / headlines.len() as f64 }
}

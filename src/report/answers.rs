//! What models answered to labelled dev rows: confusion, calibration, and how far a score may be off.

use std::path::Path;

use anyhow::Result;
use bam_contract::artifact::predictions::{PredictionRows, Predictions};
use bam_contract::metric::{Metric, confusion};
use bam_contract::resample::{draw, middle_95};
use bam_contract::task::{Split, TaskSpec};
use serde::Serialize;

use super::calibration::Calibration;
use super::gather::Sources;
use super::{Interval, IntervalMethod};

/// Draws of the bootstrap, and their seed.
const RESAMPLES: u64 = 1000;
const SEED: u64 = 1;

/// One model's answers to one dev split.
#[derive(Debug, Serialize)]
pub(crate) struct Answers {
    /// Stage of the predictions.
    #[serde(skip)]
    pub(super) at: usize,
    pub(crate) model: String,
    pub(crate) task: String,
    pub(crate) split: Split,
    pub(crate) rows: usize,
    pub(crate) labels: Vec<String>,
    /// `confusion[gold][predicted]`; none for values.
    pub(crate) confusion: Option<Vec<Vec<usize>>>,
    pub(crate) calibration: Option<Calibration>,
    #[serde(skip)]
    pub(super) spec: TaskSpec,
    #[serde(skip)]
    pub(super) table: Table,
}

/// The rows, by column.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) ids: Vec<i64>,
    pub(super) gold: Vec<f64>,
    pub(super) predicted: Vec<f64>,
    /// How good the answer is: the probability of the right class, or the error of a value, negative.
    pub(super) merit: Vec<f64>,
}

/// The answers to those dev splits that predictions hold; none where rows have no labels.
pub(super) fn read(sources: &Sources<'_>, at: usize, folder: &Path) -> Result<Vec<Answers>> {
    let predictions = Predictions::open(folder)?;
    let mut all = Vec::new();
    for split in predictions.splits.iter().copied().filter(|split| split.is_dev()) {
        let rows = predictions.read(split)?;
        let gold: Option<Vec<f64>> = rows.labels.iter().copied().collect();
        if let Some(gold) = gold.filter(|gold| !gold.is_empty()) {
            all.push(of_split(sources.model_of(at), at, split, predictions.task.clone(), rows, gold));
        }
    }
    Ok(all)
}

fn of_split(model: &str, at: usize, split: Split, spec: TaskSpec, rows: PredictionRows, gold: Vec<f64>) -> Answers {
    let outputs: Vec<&[f32]> = rows.logits.chunks(spec.outputs()).collect();
    let predicted: Vec<f64> = outputs.iter().map(|logits| spec.prediction(logits)).collect();
    let shares: Vec<Vec<f64>> = outputs.iter().map(|logits| softmax(logits)).collect();
    let merit = match spec.range {
        Some(_) => predicted.iter().zip(&gold).map(|(value, gold)| -(value - gold).abs()).collect(),
        None => shares.iter().zip(&gold).map(|(shares, class)| shares[*class as usize]).collect(),
    };
    let is_classes = !spec.is_regression();
    Answers {
        at,
        model: model.to_owned(),
        task: spec.name.clone(),
        split,
        rows: gold.len(),
        labels: spec.labels.clone(),
        confusion: is_classes.then(|| counts(spec.labels.len(), &predicted, &gold)),
        calibration: is_classes.then(|| Calibration::of(&shares, &predicted, &gold)),
        table: Table { ids: rows.ids, gold, predicted, merit },
        spec,
    }
}

fn softmax(logits: &[f32]) -> Vec<f64> {
    let most = logits.iter().copied().fold(f32::MIN, f32::max);
    let powers: Vec<f64> = logits.iter().map(|logit| f64::from(logit - most).exp()).collect();
    let sum: f64 = powers.iter().sum();
    powers.into_iter().map(|power| power / sum).collect()
}

/// Counts of all the task's classes, those too that no row has.
fn counts(classes: usize, predicted: &[f64], gold: &[f64]) -> Vec<Vec<usize>> {
    let counts = confusion(predicted, gold, classes);
    counts.iter().map(|row| row.iter().map(|count| *count as usize).collect()).collect()
}

impl Answers {
    pub(super) fn score(&self, metric: Metric) -> f64 {
        self.spec.score(metric, &self.table.predicted, &self.table.gold)
    }

    /// By scoring resampled rows.
    pub(super) fn bootstrap(&self, metric: Metric) -> Interval {
        let on_sample = |sample: u64| {
            let rows = draw(self.rows, SEED, sample);
            let pick = |values: &[f64]| rows.iter().map(|row| values[*row]).collect::<Vec<_>>();
            self.spec.score(metric, &pick(&self.table.predicted), &pick(&self.table.gold))
        };
        let scores: Vec<f64> = (0..RESAMPLES).map(on_sample).collect();
        let [low, high] = middle_95(&scores);
        Interval { low, high, method: IntervalMethod::Bootstrap }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_sum_to_one_and_do_not_overflow() {
        let shares = softmax(&[1000.0, 1000.0, 0.0]);
        assert_eq!(shares, [0.5, 0.5, 0.0]);
    }

    #[test]
    fn every_class_has_its_row_and_column() {
        assert_eq!(counts(3, &[0.0, 1.0, 1.0], &[0.0, 0.0, 1.0]), [[1, 1, 0], [0, 1, 0], [0, 0, 0]]);
    }
}

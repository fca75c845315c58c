//! The course of a training, as `history.parquet`: a row per step, dev metrics on the rows that end an epoch.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::Result;
use bam_contract::artifact::history::{HistoryColumns, write_history};
use bam_contract::digest::Fingerprint;
use serde::{Deserialize, Serialize};

use super::evaluate::{DevScore, mean_headline};

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Step {
    /// From 0.
    pub(super) index: u64,
    /// Epochs done after the step.
    pub(super) epoch: f64,
    pub(super) loss: f64,
    /// λ, the label's share of the target, 1 without teachers; some tasks may have another ([`GoldShares`]).
    pub(super) gold_share: f64,
    pub(super) learning_rate: f64,
    /// Before clipping.
    pub(super) gradient_norm: f64,
    pub(super) rows_per_sec: f64,
}

impl Step {
    /// Where the training stands, for a person.
    pub(super) fn told(&self, epochs: f64, rows_per_sec: f64) -> String {
        let Self { epoch, loss, gold_share, .. } = self;
        let (epoch, epochs) = (epoch.ceil().max(1.0), epochs.ceil());
        format!("epoch {epoch}/{epochs}  loss {loss:.3}  λ {gold_share:.2}  {rows_per_sec:.0} rows/s")
    }
}

/// λ of a task, step by step.
#[derive(Debug)]
pub(super) struct GoldShares<'a> {
    pub(super) task: &'a str,
    pub(super) of_steps: Vec<f64>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct History {
    steps: Vec<Step>,
    /// Scores after the step of that index.
    evaluations: Vec<(usize, Vec<DevScore>)>,
}

impl History {
    pub(super) fn push(&mut self, step: Step) {
        self.steps.push(step);
    }

    /// Notes the scores after the last step pushed.
    pub(super) fn evaluated(&mut self, scores: Vec<DevScore>) {
        self.evaluations.push((self.steps.len() - 1, scores));
    }

    /// How many evaluations there were since the one with the best mean, those before a step left out.
    pub(super) fn evaluations_since_best(&self, from: u64) -> usize {
        let means: Vec<_> = self.evaluations.iter().map(|(_, scores)| mean_headline(scores)).collect();
        let mut best = 0;
        for (at, mean) in means.iter().enumerate() {
            if *mean > means[best] {
                best = at;
            }
        }
        self.evaluations.iter().skip(best + 1).filter(|(step, _)| *step as u64 >= from).count()
    }

    /// The steps, with λ of tasks that have a curve of their own.
    pub(super) fn write(&self, folder: &Path, gold_shares: &[GoldShares<'_>], fingerprint: Fingerprint) -> Result<()> {
        let column = |value: fn(&Step) -> f64| self.steps.iter().map(|step| Some(value(step))).collect();
        let mut columns: HistoryColumns = vec![
            ("step".to_owned(), column(|step| step.index as f64)),
            ("epoch".to_owned(), column(|step| step.epoch)),
            ("loss".to_owned(), column(|step| step.loss)),
            ("lambda".to_owned(), column(|step| step.gold_share)),
            ("learning_rate".to_owned(), column(|step| step.learning_rate)),
            ("gradient_norm".to_owned(), column(|step| step.gradient_norm)),
            ("rows_per_second".to_owned(), column(|step| step.rows_per_sec)),
        ];
        for GoldShares { task, of_steps } in gold_shares {
            columns.push((format!("lambda/{task}"), of_steps.iter().copied().map(Some).collect()));
        }
        let names: BTreeSet<_> =
            self.evaluations.iter().flat_map(|(_, scores)| scores).map(|score| &score.name).collect();
        for name in names {
            let mut values = vec![None; self.steps.len()];
            for (step, scores) in &self.evaluations {
                values[*step] = scores.iter().find(|score| score.name == *name).map(|score| score.value);
            }
            columns.push((format!("dev/{name}"), values));
        }
        write_history(folder, &columns, fingerprint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_that_is_no_better_counts_and_a_better_one_begins_anew() {
        let mut history = History::default();
        assert_eq!(history.evaluations_since_best(0), 0);
        for (step, (value, since, since_step_2)) in
            [(0.5, 0, 0), (0.4, 1, 0), (0.5, 2, 1), (0.6, 0, 0), (0.6, 1, 1)].into_iter().enumerate()
        {
            let score = DevScore { name: "rte/accuracy".to_owned(), value, is_headline: true };
            history.evaluations.push((step, vec![score]));
            assert_eq!([0, 2].map(|from| history.evaluations_since_best(from)), [since, since_step_2], "after {value}");
        }
    }
}

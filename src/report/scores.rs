//! Scores with intervals: those that `score` stages wrote, and those that follow from dev predictions.

use bam_contract::artifact::scores::Scores;
use bam_contract::metric::Metric;
use bam_contract::stage::StageSpec;
use bam_contract::task::Split;

use super::answers::Answers;
use super::gather::Sources;
use super::{Interval, IntervalMethod, ScoreLine};
use crate::pipeline::family_of;
use crate::ui::comparison::points;
use crate::ui::scores::column;

/// Of the standard normal distribution, at 97.5%.
const Z_95: f64 = 1.959_963_984_540_054;

pub(super) fn lines(sources: &Sources<'_>, scored: &[Scores], answers: &[Answers]) -> Vec<ScoreLine> {
    let mut lines: Vec<ScoreLine> = Vec::new();
    let scores = scored.iter().flat_map(|scores| scores.scores.iter().map(move |score| (scores, score)));
    for (scores, score) in scores.filter(|(_, score)| score.split.is_dev()) {
        for (metric, value) in &score.metrics {
            add(
                &mut lines,
                ScoreLine {
                    model: score.model.clone(),
                    column: column(&score.model, scores),
                    task: score.task.clone(),
                    split: score.split,
                    metric: *metric,
                    value: *value,
                    rows: score.rows,
                    interval: None,
                },
            );
        }
    }
    for answer in answers {
        for metric in &answer.spec.metrics {
            add(
                &mut lines,
                ScoreLine {
                    model: answer.model.clone(),
                    column: family_of(&answer.model).to_owned(),
                    task: answer.task.clone(),
                    split: answer.split,
                    metric: *metric,
                    value: answer.score(*metric),
                    rows: answer.rows,
                    interval: None,
                },
            );
        }
    }
    for line in &mut lines {
        line.interval = interval(sources, line, answers);
    }
    lines
}

/// Adds a line, unless its model has been scored so before.
fn add(lines: &mut Vec<ScoreLine>, line: ScoreLine) {
    let place = |line: &ScoreLine| (line.model.clone(), line.task.clone(), line.split, line.metric);
    if !lines.iter().any(|known| place(known) == place(&line)) {
        lines.push(line);
    }
}

/// Scores of the same answers in other precisions, as of `predict` in bf16 and `score` in fp32, differ by less.
const SAME_SCORE: f64 = 0.01;

fn interval(sources: &Sources<'_>, line: &ScoreLine, answers: &[Answers]) -> Option<Interval> {
    if line.metric == Metric::Accuracy {
        return Some(wilson(line.value, line.rows));
    }
    // An exported model's answers are its checkpoint's, if it scores as that does.
    let exported = sources.pipeline.stages.iter().find_map(|stage| match &stage.spec {
        StageSpec::Export(export) if stage.name == line.model => Some(export.model.0.as_str()),
        _ => None,
    });
    let model = exported.unwrap_or(&line.model);
    let answer = answers
        .iter()
        .find(|answer| (answer.model.as_str(), &answer.task, answer.split) == (model, &line.task, line.split))?;
    ((answer.score(line.metric) - line.value).abs() < SAME_SCORE).then(|| answer.bootstrap(line.metric))
}

/// The scores as a table: a row per task and metric, a column per family of models.
#[derive(Debug)]
pub(super) struct Pivot<'a> {
    pub(super) families: Vec<&'a str>,
    pub(super) rows: Vec<Row>,
}

#[derive(Debug)]
pub(super) struct Row {
    pub(super) task: String,
    pub(super) metric: &'static str,
    pub(super) rows: usize,
    /// In the order of the families.
    pub(super) cells: Vec<Option<Cell>>,
}

/// The mean over a family's models, from the least to the greatest; the interval is that of one model.
#[derive(Debug)]
pub(super) struct Cell {
    pub(super) value: f64,
    pub(super) models: usize,
    pub(super) range: [f64; 2],
    pub(super) interval: Option<Interval>,
}

impl<'a> Pivot<'a> {
    pub(super) fn of(lines: &'a [ScoreLine]) -> Self {
        let mut families: Vec<&str> = Vec::new();
        let mut subjects = Vec::new();
        for line in lines {
            if !families.contains(&line.column.as_str()) {
                families.push(&line.column);
            }
            let subject = (&line.task, line.split, line.metric, line.rows);
            if !subjects.contains(&subject) {
                subjects.push(subject);
            }
        }
        let row = |(task, split, metric, rows): (&String, Split, Metric, usize)| {
            let of_subject = |line: &&ScoreLine| (&line.task, line.split, line.metric) == (task, split, metric);
            let cell = |family: &&str| {
                let lines: Vec<&ScoreLine> =
                    lines.iter().filter(of_subject).filter(|line| line.column == *family).collect();
                let models = lines.len();
                let value = lines.iter().map(|line| line.value).sum::<f64>() / models as f64;
                let interval = lines.first().filter(|_| models == 1).and_then(|line| line.interval);
                let values = || lines.iter().map(|line| line.value);
                let range = [values().fold(f64::MAX, f64::min), values().fold(f64::MIN, f64::max)];
                (models > 0).then_some(Cell { value, models, range, interval })
            };
            let task = if split == Split::Dev { task.clone() } else { format!("{task} {split}") };
            Row { task, metric: metric.name(), rows, cells: families.iter().map(cell).collect() }
        };
        let rows = subjects.into_iter().map(row).collect();
        Self { families, rows }
    }
}

impl Row {
    /// The best of cells that tell of as many models each, as it is shown: the mean of some and the score of one do not compare.
    /// Of equals none is best.
    pub(super) fn best(&self) -> Option<String> {
        let cells = || self.cells.iter().flatten();
        let first = cells().next()?;
        let compare = cells().all(|cell| cell.models == first.models);
        let differ = cells().any(|cell| points(cell.value) != points(first.value));
        (compare && differ).then(|| points(cells().map(|cell| cell.value).fold(f64::MIN, f64::max)))
    }
}

/// Wilson's 95% score interval of a share of rows.
fn wilson(share: f64, rows: usize) -> Interval {
    let (n, square) = (rows as f64, Z_95 * Z_95);
    let middle = (share + square / (2.0 * n)) / (1.0 + square / n);
    let half = Z_95 / (1.0 + square / n) * (share * (1.0 - share) / n + square / (4.0 * n * n)).sqrt();
    Interval { low: (middle - half).max(0.0), high: (middle + half).min(1.0), method: IntervalMethod::Wilson }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By statsmodels' `proportion_confint(successes, rows, method="wilson")`.
    #[test]
    fn wilson_equals_the_reference() {
        for (right, rows, low, high) in WILSON {
            let found = wilson(f64::from(right) / rows as f64, rows);
            assert!((found.low - low).abs() < 1e-9 && (found.high - high).abs() < 1e-9, "{right} of {rows}: {found:?}");
        }
    }

    #[test]
    fn a_mean_and_one_model_have_no_best_and_equals_have_none() {
        let cell = |value, models| Some(Cell { value, models, range: [value, value], interval: None });
        let best = |cells| Row { task: String::new(), metric: "accuracy", rows: 10, cells }.best();
        assert_eq!(best(vec![cell(0.5, 1), None, cell(0.7, 1)]).as_deref(), Some("70.0"));
        assert_eq!(best(vec![cell(0.5, 3), cell(0.4, 3)]).as_deref(), Some("50.0"));
        assert_eq!(best(vec![cell(0.1 + 0.2, 3), cell(0.3, 3), cell(0.300_01, 3)]), None, "equal as they are shown");
        assert_eq!(best(vec![cell(0.5, 3), cell(0.7, 1)]), None);
        assert_eq!(best(vec![None]), None);
        assert_eq!(best(vec![cell(0.5, 1), None, cell(0.5, 1)]), None, "equals");
    }

    const WILSON: [(u32, usize, f64, f64); 4] = [
        (0, 10, 0.0, 0.277_532_799_863),
        (170, 277, 0.555_196_887_653, 0.669_128_966_032),
        (872, 872, 0.995_613_979_240, 1.0),
        (1, 2, 0.094_531_205_734, 0.905_468_794_266),
    ];
}

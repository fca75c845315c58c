//! The table of scores: a row per task and metric, a column per family of models.

use std::collections::BTreeMap;

use bam_contract::artifact::scores::{Score, Scores};
use bam_contract::metric::Metric;
use bam_contract::task::Split;

use super::table::{Align, Table};
use crate::pipeline::family_of;

/// Two families whose difference is shown.
const COMPARED: (&str, &str) = ("teacher", "student");

/// The dev scores, in points of 100; several models of a family (seeds) are averaged.
pub(crate) fn table(scores: &Scores) -> String {
    let shown: Vec<&Score> = scores.scores.iter().filter(|score| score.split.is_dev()).collect();
    let mut families: Vec<&str> = Vec::new();
    let mut rows: Vec<(&str, Split, Metric)> = Vec::new();
    let mut cells = BTreeMap::<(&str, Split, Metric, &str), Vec<f64>>::new();
    for score in shown {
        let family = family_of(&score.model);
        if !families.contains(&family) {
            families.push(family);
        }
        for (metric, value) in &score.metrics {
            let row = (score.task.as_str(), score.split, *metric);
            if !rows.contains(&row) {
                rows.push(row);
            }
            cells.entry((row.0, row.1, row.2, family)).or_default().push(*value);
        }
    }
    rows.sort_by_key(|(task, split, _)| {
        let first = scores.scores.iter().position(|score| score.task == *task);
        (first, *split)
    });
    let compared = families.contains(&COMPARED.0) && families.contains(&COMPARED.1);
    let checked = !scores.logit_differences.is_empty();

    let mut columns = vec![("TASK".to_owned(), Align::Left), ("METRIC".to_owned(), Align::Left)];
    columns.extend(families.iter().map(|family| (family.to_uppercase(), Align::Right)));
    columns.extend(compared.then(|| ("Δ".to_owned(), Align::Right)));
    columns.extend(checked.then(|| ("ONNX max |Δlogit|".to_owned(), Align::Right)));
    let mut table = Table::new(columns);
    for (task, split, metric) in rows {
        let value = |family: &str| {
            let values = cells.get(&(task, split, metric, family))?;
            Some(values.iter().sum::<f64>() / values.len() as f64)
        };
        let name = if split == Split::Dev { task.to_owned() } else { format!("{task} {split}") };
        let mut row = vec![name, metric.name().to_owned()];
        row.extend(families.iter().map(|family| value(family).map_or_else(dash, points)));
        if compared {
            let difference = value(COMPARED.1).zip(value(COMPARED.0)).map(|(student, teacher)| student - teacher);
            row.push(difference.map_or_else(dash, |difference| format!("{:+.1}", difference * 100.0)));
        }
        if checked {
            row.push(greatest_difference(scores, task).map_or_else(dash, |most| format!("{most:.1e}")));
        }
        table.row(row);
    }
    table.render()
}

fn greatest_difference(scores: &Scores, task: &str) -> Option<f64> {
    let of_task = scores.logit_differences.iter().filter(|difference| difference.task == task);
    of_task.map(|difference| difference.max_abs_difference).reduce(f64::max)
}

fn points(value: f64) -> String {
    format!("{:.1}", value * 100.0)
}

fn dash() -> String {
    "–".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use bam_contract::artifact::scores::LogitDifference;

    #[test]
    fn families_are_columns_and_seeds_are_averaged() {
        let score = |model: &str, task: &str, metrics: &[(Metric, f64)]| Score {
            model: model.to_owned(),
            task: task.to_owned(),
            split: Split::Dev,
            rows: 100,
            metrics: metrics.to_vec(),
        };
        let scores = Scores {
            fingerprint: None,
            scores: vec![
                score("teacher@rte@1", "rte", &[(Metric::Accuracy, 0.65)]),
                score("teacher@rte@2", "rte", &[(Metric::Accuracy, 0.672)]),
                score("teacher@mrpc@1", "mrpc", &[(Metric::Accuracy, 0.8), (Metric::F1, 0.85)]),
                score("student", "rte", &[(Metric::Accuracy, 0.704)]),
                score("onnx", "rte", &[(Metric::Accuracy, 0.704)]),
            ],
            logit_differences: vec![LogitDifference {
                model: "onnx".to_owned(),
                split: Split::Dev,
                task: "rte".to_owned(),
                rows: 100,
                max_abs_difference: 1.14e-5,
            }],
        };
        console::set_colors_enabled(false);
        let expected = "\
TASK  METRIC    TEACHER  STUDENT  ONNX     Δ  ONNX max |Δlogit|
rte   accuracy     66.1     70.4  70.4  +4.3             1.1e-5
mrpc  accuracy     80.0        –     –     –                  –
mrpc  f1           85.0        –     –     –                  –
";
        assert_eq!(table(&scores), expected);
    }
}

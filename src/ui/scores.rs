//! The table of scores, a row per task and metric, a column per family of models; and that of the ONNX models among them.

use std::collections::{BTreeMap, BTreeSet};

use bam_contract::artifact::scores::{Score, Scores, Variant};
use bam_contract::metric::Metric;
use bam_contract::task::Split;

use super::table::{Align, Table};
use super::units::bytes;
use crate::pipeline::family_of;

/// Two families whose difference is shown.
const COMPARED: (&str, &str) = ("teacher", "student");

/// The tables for a person.
pub(crate) fn tables(scores: &Scores) -> String {
    // One that answers as its checkpoint does has nothing to be weighed.
    let weighed = !scores.variants.iter().all(Variant::is_exact);
    of_tasks(scores) + &if weighed { format!("\n{}", of_variants(scores)) } else { String::new() }
}

/// The dev scores, in points of 100; several models of a family (seeds) are averaged, which says of how many, but not those of
/// several precisions.
fn of_tasks(scores: &Scores) -> String {
    let shown: Vec<&Score> = scores.scores.iter().filter(|score| score.split.is_dev()).collect();
    let mut families: Vec<String> = Vec::new();
    let mut rows: Vec<(&str, Split, Metric)> = Vec::new();
    let mut cells = BTreeMap::<(&str, Split, Metric, String), Vec<f64>>::new();
    for score in shown {
        let family = column(&score.model, scores);
        if !families.contains(&family) {
            families.push(family.clone());
        }
        for (metric, value) in &score.metrics {
            let row = (score.task.as_str(), score.split, *metric);
            if !rows.contains(&row) {
                rows.push(row);
            }
            cells.entry((row.0, row.1, row.2, family.clone())).or_default().push(*value);
        }
    }
    rows.sort_by_key(|(task, split, _)| {
        let first = scores.scores.iter().position(|score| score.task == *task);
        (first, *split)
    });
    let compared = [COMPARED.0, COMPARED.1].iter().all(|name| families.iter().any(|family| family == name));
    let checked = scores.exact_differences().next().is_some();

    let mut columns = vec![("TASK".to_owned(), Align::Left), ("METRIC".to_owned(), Align::Left)];
    columns.extend(families.iter().map(|family| (family.to_uppercase(), Align::Right)));
    columns.extend(compared.then(|| ("Δ".to_owned(), Align::Right)));
    columns.extend(checked.then(|| ("ONNX max |Δlogit|".to_owned(), Align::Right)));
    let mut table = Table::new(columns);
    for (task, split, metric) in rows {
        let values = |family: &str| cells.get(&(task, split, metric, family.to_owned()));
        let value = |family: &str| values(family).map(|values| values.iter().sum::<f64>() / values.len() as f64);
        let cell = |family: &String| {
            let models = values(family).map_or(0, Vec::len);
            let shown = value(family).map_or_else(dash, points);
            if models > 1 { format!("{shown} of {models}") } else { shown }
        };
        let name = if split == Split::Dev { task.to_owned() } else { format!("{task} {split}") };
        let mut row = vec![name, metric.name().to_owned()];
        row.extend(families.iter().map(cell));
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

/// A model's family, and its precision where the family has several.
pub(crate) fn column(model: &str, scores: &Scores) -> String {
    let family = family_of(model);
    let of_family = scores.variants.iter().filter(|variant| family_of(&variant.model) == family);
    let several = of_family.map(|variant| variant.precision).collect::<BTreeSet<_>>().len() > 1;
    let precision = scores.variants.iter().find(|variant| variant.model == model).and_then(|variant| variant.precision);
    precision.filter(|_| several).map_or_else(|| family.to_owned(), |precision| format!("{family} {precision}"))
}

fn greatest_difference(scores: &Scores, task: &str) -> Option<f64> {
    let of_task = scores.exact_differences().filter(|difference| difference.task == task);
    of_task.map(|difference| difference.max_abs_difference).reduce(f64::max)
}

/// Size, speed and loss of each ONNX model.
fn of_variants(scores: &Scores) -> String {
    let columns = [("ONNX MODEL", Align::Left), ("PRECISION", Align::Left), ("SIZE", Align::Right)];
    let columns = columns.into_iter().chain([
        ("ROWS/S", Align::Right),
        ("max |Δlogit|", Align::Right),
        ("LOSES MOST", Align::Right),
        ("ON", Align::Left),
    ]);
    let mut table = Table::new(columns);
    for variant in &scores.variants {
        let speed = scores.rows_per_second.get(&variant.model).map_or_else(dash, |speed| format!("{speed:.0}"));
        let loss = variant.greatest_loss();
        table.row([
            variant.model.clone(),
            variant.precision.map_or_else(dash, |precision| precision.to_string()),
            bytes(variant.bytes),
            speed,
            difference_of(variant, scores).map_or_else(dash, |most| format!("{most:.1e}")),
            loss.map_or_else(dash, |loss| format!("{:.1}", loss.points())),
            loss.map_or_else(dash, |loss| format!("{} {}", loss.task, loss.metric.name())),
        ]);
    }
    table.render()
}

fn difference_of(variant: &Variant, scores: &Scores) -> Option<f64> {
    let of_model = scores.logit_differences.iter().filter(|difference| difference.model == variant.model);
    of_model.map(|difference| difference.max_abs_difference).reduce(f64::max)
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
    use bam_contract::artifact::scores::{LogitDifference, Loss};
    use bam_contract::stage::GraphPrecision;

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
            variants: Vec::new(),
            rows_per_second: BTreeMap::new(),
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
TASK  METRIC      TEACHER  STUDENT  ONNX     Δ  ONNX max |Δlogit|
rte   accuracy  66.1 of 2     70.4  70.4  +4.3             1.1e-5
mrpc  accuracy       80.0        –     –     –                  –
mrpc  f1             85.0        –     –     –                  –
";
        assert_eq!(tables(&scores), expected);
    }

    #[test]
    fn variants_stand_side_by_side_and_are_not_averaged() {
        use GraphPrecision::{Fp32, Int8};
        let variants = [("onnx@fp32", Fp32, 90_880_170, 0.704), ("onnx@int8", Int8, 24_075_870, 0.69)];
        let score = |(model, _, _, value): (&str, _, _, f64)| Score {
            model: model.to_owned(),
            task: "rte".to_owned(),
            split: Split::Dev,
            rows: 277,
            metrics: vec![(Metric::Accuracy, value)],
        };
        let difference = |(model, _, _, value): (&str, _, _, f64)| LogitDifference {
            model: model.to_owned(),
            task: "rte".to_owned(),
            split: Split::Dev,
            rows: 277,
            max_abs_difference: (0.7041 - value) / 10.0,
        };
        let variant = |(model, precision, bytes, value): (&str, _, _, f64)| Variant {
            model: model.to_owned(),
            precision: Some(precision),
            bytes,
            losses: vec![Loss {
                task: "rte".to_owned(),
                split: Split::Dev,
                rows: 277,
                metric: Metric::Accuracy,
                values: [0.704, value],
            }],
        };
        let scores = Scores {
            fingerprint: None,
            scores: variants.map(score).to_vec(),
            logit_differences: variants.map(difference).to_vec(),
            variants: variants.map(variant).to_vec(),
            rows_per_second: [("onnx@fp32".to_owned(), 201.3), ("onnx@int8".to_owned(), 402.0)].into(),
        };
        console::set_colors_enabled(false);
        let expected = "\
TASK  METRIC    ONNX FP32  ONNX INT8  ONNX max |Δlogit|
rte   accuracy       70.4       69.0             1.0e-5

ONNX MODEL  PRECISION      SIZE  ROWS/S  max |Δlogit|  LOSES MOST  ON
onnx@fp32   fp32       86.7 MiB     201        1.0e-5         0.0  rte accuracy
onnx@int8   int8       23.0 MiB     402        1.4e-3         1.4  rte accuracy
";
        assert_eq!(tables(&scores), expected);
    }
}

//! GLUE's metrics, as scikit-learn and scipy define them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A metric over one task's rows; every one lies in `[-1, 1]` and higher is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    Accuracy,
    /// F1 of class 1 where there are two; else the mean over the classes that occur (scikit-learn's `macro`).
    F1,
    Matthews,
    Pearson,
    Spearman,
}

impl Metric {
    pub fn name(self) -> &'static str {
        match self {
            Self::Accuracy => "accuracy",
            Self::F1 => "f1",
            Self::Matthews => "matthews",
            Self::Pearson => "pearson",
            Self::Spearman => "spearman",
        }
    }

    /// Whether the metric compares class indices; the others compare values.
    pub fn is_of_classes(self) -> bool {
        matches!(self, Self::Accuracy | Self::F1 | Self::Matthews)
    }

    /// The metric of predictions against gold labels: indices of `classes` as whole numbers, or values, for which
    /// `classes` means nothing.
    ///
    /// A correlation with a constant side is undefined; it scores 0, as a model that tells nothing apart.
    pub fn of(self, predicted: &[f64], gold: &[f64], classes: usize) -> f64 {
        assert_eq!(predicted.len(), gold.len(), "one prediction per gold label");
        match self {
            Self::Accuracy => {
                let right = predicted.iter().zip(gold).filter(|(p, g)| p == g).count();
                ratio(right as f64, gold.len() as f64)
            }
            Self::F1 => f1(&confusion(predicted, gold, classes)),
            Self::Matthews => matthews(&confusion(predicted, gold, classes)),
            Self::Pearson => pearson(predicted, gold),
            Self::Spearman => pearson(&ranks(predicted), &ranks(gold)),
        }
    }
}

/// `numerator / denominator`, 0 where the denominator is 0.
fn ratio(numerator: f64, denominator: f64) -> f64 {
    if denominator == 0.0 { 0.0 } else { numerator / denominator }
}

/// `confusion[gold][predicted]` counts.
pub fn confusion(predicted: &[f64], gold: &[f64], classes: usize) -> Vec<Vec<f64>> {
    let mut counts = vec![vec![0.0; classes]; classes];
    for (p, g) in predicted.iter().zip(gold) {
        counts[*g as usize][*p as usize] += 1.0;
    }
    counts
}

fn f1(counts: &[Vec<f64>]) -> f64 {
    let of_class = |class: usize| {
        let hits = counts[class][class];
        let predicted: f64 = counts.iter().map(|row| row[class]).sum();
        let gold: f64 = counts[class].iter().sum();
        ratio(2.0 * hits, predicted + gold)
    };
    if counts.len() == 2 {
        return of_class(1);
    }
    let occurs = |class: &usize| counts[*class].iter().chain(counts.iter().map(|row| &row[*class])).sum::<f64>() > 0.0;
    let present: Vec<_> = (0..counts.len()).filter(occurs).collect();
    ratio(present.iter().map(|class| of_class(*class)).sum(), present.len() as f64)
}

/// Matthews correlation by Gorodkin's formula, for any number of classes.
fn matthews(counts: &[Vec<f64>]) -> f64 {
    let n: f64 = counts.iter().flatten().sum();
    let right: f64 = (0..counts.len()).map(|class| counts[class][class]).sum();
    let gold_k: Vec<f64> = counts.iter().map(|row| row.iter().sum()).collect();
    let predicted_k: Vec<f64> = (0..counts.len()).map(|class| counts.iter().map(|row| row[class]).sum()).collect();
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let spread = |k: &[f64]| n * n - dot(k, k);
    ratio(right * n - dot(&gold_k, &predicted_k), (spread(&gold_k) * spread(&predicted_k)).sqrt())
}

fn pearson(a: &[f64], b: &[f64]) -> f64 {
    // By the values, as rounding of their mean makes a constant side vary.
    if is_constant(a) || is_constant(b) {
        return 0.0;
    }
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    let (mean_a, mean_b) = (mean(a), mean(b));
    let (mut cross, mut square_a, mut square_b) = (0.0, 0.0, 0.0);
    for (a, b) in a.iter().zip(b) {
        let (a, b) = (a - mean_a, b - mean_b);
        cross += a * b;
        square_a += a * a;
        square_b += b * b;
    }
    ratio(cross, square_a.sqrt() * square_b.sqrt()).clamp(-1.0, 1.0)
}

fn is_constant(values: &[f64]) -> bool {
    values.iter().all(|value| *value == values[0])
}

/// Ranks from 1; ties share the mean of their ranks.
fn ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|a, b| values[*a].total_cmp(&values[*b]));
    let mut ranks = vec![0.0; values.len()];
    for tied in order.chunk_by(|a, b| values[*a] == values[*b]).scan(0, |before, tied| {
        let first = *before;
        *before += tied.len();
        Some((first, tied))
    }) {
        let (first, rows) = tied;
        let mean_rank = first as f64 + f64::midpoint(1.0, rows.len() as f64);
        for row in rows {
            ranks[*row] = mean_rank;
        }
    }
    ranks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ties_share_the_mean_rank() {
        assert_eq!(ranks(&[3.0, 1.0, 3.0, 2.0]), [3.5, 1.0, 3.5, 2.0]);
    }

    /// Against scikit-learn's and scipy's values, dumped by `tests/fixtures/make_metrics.py`.
    #[test]
    fn metrics_equal_those_of_the_references() {
        #[derive(Deserialize)]
        struct Case {
            name: String,
            classes: usize,
            predicted: Vec<f64>,
            gold: Vec<f64>,
            expected: std::collections::BTreeMap<Metric, f64>,
        }
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/metrics.json");
        let cases: Vec<Case> = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        assert_eq!(cases.len(), 11);
        for case in cases {
            for (metric, expected) in case.expected {
                let value = metric.of(&case.predicted, &case.gold, case.classes);
                assert!((value - expected).abs() < 1e-9, "{}: {metric:?} is {value}, not {expected}", case.name);
            }
        }
    }

    #[test]
    fn undefined_metrics_are_zero() {
        for metric in [Metric::Matthews, Metric::Pearson, Metric::Spearman, Metric::F1] {
            assert_eq!(metric.of(&[0.0, 0.0, 0.0], &[0.0, 0.0, 0.0], 2).abs(), 0.0, "{metric:?}");
        }
        for metric in [Metric::Pearson, Metric::Spearman] {
            // Values whose mean is rounded.
            assert_eq!(metric.of(&[0.1; 6], &[0.7; 6], 0), 0.0, "{metric:?}");
            assert_eq!(metric.of(&[0.1; 3], &[0.1, 0.2, 0.3], 0), 0.0, "{metric:?}");
        }
    }
}

//! The ONNX models side by side as text, for the log of a stage that fails and so leaves no scores.

use bam_contract::artifact::scores::{Scores, Variant};

const HEADINGS: [&str; 6] = ["ONNX MODEL", "PRECISION", "SIZE", "ROWS/S", "max |Δlogit|", "LOST"];

/// A line per model, with all that it lost by task.
pub(super) fn table(scores: &Scores) -> String {
    let mut rows = vec![HEADINGS.map(str::to_owned)];
    rows.extend(scores.variants.iter().map(|variant| cells(variant, scores)));
    let widths: [usize; 6] =
        std::array::from_fn(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0));
    let line = |row: &[String; 6]| {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect::<Vec<_>>();
        cells.join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

fn cells(variant: &Variant, scores: &Scores) -> [String; 6] {
    let dash = || "–".to_owned();
    let differences = scores.logit_differences.iter().filter(|difference| difference.model == variant.model);
    let difference = differences.map(|difference| difference.max_abs_difference).reduce(f64::max);
    let lost: Vec<String> = variant
        .losses
        .iter()
        .map(|loss| format!("{:.1} {} {}", loss.points(), loss.task, loss.metric.name()))
        .collect();
    [
        variant.model.clone(),
        variant.precision.map_or_else(dash, |precision| precision.to_string()),
        format!("{:.1} MiB", variant.bytes as f64 / f64::from(1 << 20)),
        scores.rows_per_second.get(&variant.model).map_or_else(dash, |speed| format!("{speed:.0}")),
        difference.map_or_else(dash, |difference| format!("{difference:.1e}")),
        if lost.is_empty() { dash() } else { lost.join(", ") },
    ]
}

#[cfg(test)]
mod tests {
    use bam_contract::artifact::scores::{LogitDifference, Loss};
    use bam_contract::metric::Metric;
    use bam_contract::stage::GraphPrecision;
    use bam_contract::task::Split;

    use super::*;

    #[test]
    fn models_stand_side_by_side_with_all_that_they_lost() {
        let loss = |task: &str, after| Loss {
            task: task.to_owned(),
            split: Split::Dev,
            rows: 277,
            metric: Metric::Accuracy,
            values: [0.7, after],
        };
        let variant =
            |model: &str, precision, bytes, losses| Variant { model: model.to_owned(), precision, bytes, losses };
        let scores = Scores {
            logit_differences: vec![LogitDifference {
                model: "onnx@int8".to_owned(),
                task: "rte".to_owned(),
                split: Split::Dev,
                rows: 277,
                max_abs_difference: 0.25,
            }],
            variants: vec![
                variant("foreign", None, 1 << 19, vec![]),
                variant("onnx@int8", Some(GraphPrecision::Int8), 23 << 20, vec![loss("rte", 0.5), loss("cola", 0.7)]),
            ],
            rows_per_second: [("onnx@int8".to_owned(), 402.0)].into(),
            ..Scores::default()
        };
        assert_eq!(
            table(&scores),
            "ONNX MODEL  PRECISION  SIZE      ROWS/S  max |Δlogit|  LOST\n\
             foreign     –          0.5 MiB   –       –             –\n\
             onnx@int8   int8       23.0 MiB  402     2.5e-1        20.0 rte accuracy, 0.0 cola accuracy"
        );
    }
}

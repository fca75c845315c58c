//! Tables of a comparison: what each method scored, and which differences chance does not explain.

use bam_contract::artifact::comparison::{Comparison, Subject, Summary, Test};

use super::table::{Align, Table};

/// Cautions below a run's tables; `bam show` has all of them.
const MOST_CAUTIONS: usize = 4;

/// The tables, and below them what keeps a conclusion from being drawn. Scores in points of 100.
pub(crate) fn tables(comparison: &Comparison) -> String {
    with_cautions(comparison, comparison.cautions.iter().cloned())
}

/// The same with a few of the cautions, for the end of a run.
pub(crate) fn brief_tables(comparison: &Comparison, stage: &str) -> String {
    let (shown, more) = comparison.cautions.split_at(comparison.cautions.len().min(MOST_CAUTIONS));
    let more = (!more.is_empty()).then(|| format!("and {} more: `bam show {stage}`", more.len()));
    with_cautions(comparison, shown.iter().cloned().chain(more))
}

fn with_cautions(comparison: &Comparison, cautions: impl Iterator<Item = String>) -> String {
    let (summaries, tests) = (summaries(&comparison.summaries), tests(&comparison.tests));
    let lines: String = cautions.map(|caution| caution + "\n").collect();
    let gap = if lines.is_empty() { "" } else { "\n" };
    format!("{summaries}\n{tests}{gap}{lines}")
}

fn summaries(summaries: &[Summary]) -> String {
    let mut table = Table::new([
        ("TASK", Align::Left),
        ("METRIC", Align::Left),
        ("METHOD", Align::Left),
        ("N", Align::Right),
        ("MEDIAN", Align::Right),
        ("MEAN", Align::Right),
        ("QUARTILES", Align::Right),
        ("RANGE", Align::Right),
    ]);
    for summary in summaries {
        let [first, third] = summary.quartiles;
        table.row([
            summary.subject.name(),
            metric(&summary.subject),
            summary.method.clone(),
            summary.trials.to_string(),
            points(summary.median),
            points(summary.mean),
            format!("{} to {}", points(first), points(third)),
            format!("{} to {}", points(summary.least), points(summary.greatest)),
        ]);
    }
    table.render()
}

fn tests(tests: &[Test]) -> String {
    let mut table = Table::new([
        ("TASK", Align::Left),
        ("COMPARED", Align::Left),
        ("Δ MEDIAN", Align::Right),
        ("95% OVER ROWS", Align::Right),
        ("p ROWS", Align::Right),
        ("HOLM", Align::Right),
        ("U", Align::Right),
        ("p SEEDS", Align::Right),
        ("HOLM", Align::Right),
        ("CLIFF'S δ", Align::Right),
    ]);
    for test in tests {
        let (ranks, rows) = (&test.mann_whitney, &test.bootstrap);
        let [low, high] = rows.interval;
        table.row([
            test.subject.name(),
            format!("{} − {}", test.method, test.other),
            signed(test.difference),
            format!("{} to {}", signed(low), signed(high)),
            p_value(rows.p),
            p_value(rows.p_holm),
            ranks.u.to_string(),
            format!("{}{}", if ranks.exact { "" } else { "≈ " }, p_value(ranks.p)),
            p_value(ranks.p_holm),
            format!("{:+.2}", test.cliffs_delta),
        ]);
    }
    table.render()
}

fn metric(subject: &Subject) -> String {
    match subject {
        Subject::Task { metric, .. } => metric.name().to_owned(),
        Subject::Mean { .. } => String::new(),
    }
}

pub(crate) fn points(value: f64) -> String {
    format!("{:.1}", value * 100.0)
}

pub(crate) fn signed(value: f64) -> String {
    format!("{:+.1}", value * 100.0)
}

/// `0.041`, or `2.0e-4` where that would be 0.000.
pub(crate) fn p_value(p: f64) -> String {
    if p < 0.001 { format!("{p:.1e}") } else { format!("{p:.3}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bam_contract::artifact::comparison::{Bootstrap, MannWhitney};
    use bam_contract::digest::Fingerprint;
    use bam_contract::metric::Metric;

    #[test]
    fn all_that_a_reader_needs_is_there() {
        let subject = Subject::Task { task: "rte".to_owned(), metric: Metric::Accuracy, rows: 277 };
        let summary = |method: &str, median: f64| Summary {
            method: method.to_owned(),
            subject: subject.clone(),
            trials: 3,
            median,
            mean: median + 0.001,
            least: median - 0.02,
            greatest: median + 0.02,
            quartiles: [median - 0.01, median + 0.01],
        };
        let comparison = Comparison {
            fingerprint: Fingerprint::of("a test"),
            methods: vec!["single".to_owned(), "multi".to_owned()],
            baseline: Some("single".to_owned()),
            summaries: vec![summary("single", 0.7), summary("multi", 0.82)],
            tests: vec![Test {
                method: "multi".to_owned(),
                other: "single".to_owned(),
                subject: subject.clone(),
                difference: 0.12,
                mann_whitney: MannWhitney { u: 9.0, p: 0.1, p_holm: 0.2, exact: false, least_p: 0.1 },
                cliffs_delta: 1.0,
                bootstrap: Bootstrap { resamples: 1000, interval: [-0.004, 0.16], p: 0.0004, p_holm: 0.0008 },
            }],
            cautions: (1..=6).map(|number| format!("caution {number}")).collect(),
        };
        console::set_colors_enabled(false);
        let expected = "\
TASK  METRIC    METHOD  N  MEDIAN  MEAN     QUARTILES         RANGE
rte   accuracy  single  3    70.0  70.1  69.0 to 71.0  68.0 to 72.0
rte   accuracy  multi   3    82.0  82.1  81.0 to 83.0  80.0 to 84.0

TASK  COMPARED        Δ MEDIAN  95% OVER ROWS  p ROWS    HOLM  U  p SEEDS   HOLM  CLIFF'S δ
rte   multi − single     +12.0  -0.4 to +16.0  4.0e-4  8.0e-4  9  ≈ 0.100  0.200      +1.00

caution 1
caution 2
caution 3
caution 4
";
        assert_eq!(tables(&comparison), format!("{expected}caution 5\ncaution 6\n"));
        let brief = brief_tables(&comparison, "versus");
        assert_eq!(brief, format!("{expected}and 2 more: `bam show versus`\n"));
    }
}

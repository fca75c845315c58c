//! The report's tables as Markdown, for a README or an issue.

use super::Report;
use super::scores::{Cell, Pivot};
use crate::ui::comparison::{p_value, points, signed};
use crate::ui::units::{bytes, count, duration, plural};

pub(crate) fn text(report: &Report) -> String {
    let mut text = format!("# {}\n\n{}, {}.\n", report.pipeline, report.of, plural(report.stages.len(), "stage"));
    text += &scores(report);
    text += &comparisons(report);
    text += &calibration(report);
    text += &disagreements(report);
    text += &cost(report);
    if !report.missing.is_empty() {
        text += "\n## What is missing\n\n";
    }
    for missing in &report.missing {
        text += &format!("- {}\n", missing.what);
        text += &missing.line.as_ref().map(|line| format!("  `{line}`\n")).unwrap_or_default();
    }
    text
}

fn scores(report: &Report) -> String {
    let pivot = Pivot::of(&report.scores);
    let mut table = Table::new("Scores", &["task", "metric", "rows"], &pivot.families);
    for row in &pivot.rows {
        let cells = row.cells.iter().map(|cell| cell.as_ref().map_or_else(|| "–".to_owned(), score));
        let head = [row.task.clone(), row.metric.to_owned(), count(row.rows as u64)];
        table.row(head.into_iter().chain(cells));
    }
    table.text()
}

fn score(cell: &Cell) -> String {
    let value = points(cell.value);
    match cell.interval {
        Some(interval) => format!("{value} [{}, {}]", points(interval.low), points(interval.high)),
        None if cell.models > 1 => {
            let [least, greatest] = cell.range.map(points);
            format!("{value} (mean of {}, {least} to {greatest})", cell.models)
        }
        None => value,
    }
}

fn comparisons(report: &Report) -> String {
    let mut text = String::new();
    for named in &report.comparisons {
        let numbers = ["n", "median", "quartiles", "range"];
        let mut table = Table::new(&format!("Methods compared: {}", named.stage), &["task", "method"], &numbers);
        for summary in &named.comparison.summaries {
            let span = |low: f64, high: f64| format!("{} to {}", points(low), points(high));
            table.row([
                summary.subject.name(),
                summary.method.clone(),
                summary.trials.to_string(),
                points(summary.median),
                span(summary.quartiles[0], summary.quartiles[1]),
                span(summary.least, summary.greatest),
            ]);
        }
        text += &table.text();
        let numbers = ["Δ median", "95% over rows", "p over rows", "Holm", "U", "p over seeds", "Holm", "Cliff's δ"];
        let mut table = Table::new("Differences", &["task", "compared"], &numbers);
        for test in &named.comparison.tests {
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
        text += &table.text();
        let cautions: String = named.comparison.cautions.iter().map(|caution| format!("- {caution}\n")).collect();
        text += &if cautions.is_empty() { cautions } else { format!("\n{cautions}") };
    }
    text
}

fn calibration(report: &Report) -> String {
    let mut table = Table::new("Calibration", &["model", "task", "split"], &["rows", "ECE"]);
    for answers in &report.answers {
        if let Some(calibration) = &answers.calibration {
            let head = [answers.model.clone(), answers.task.clone(), answers.split.to_string()];
            table.row(head.into_iter().chain([count(answers.rows as u64), points(calibration.expected_error)]));
        }
    }
    table.text()
}

fn disagreements(report: &Report) -> String {
    let numbers = ["rows", "student better", "teacher better"];
    let mut table = Table::new("Student beside teacher", &["task", "student", "teacher"], &numbers);
    for each in &report.disagreements {
        let figures = [each.rows, each.student_better, each.teacher_better].map(|figure| count(figure as u64));
        table.row([each.task.clone(), each.student.clone(), each.teacher.clone()].into_iter().chain(figures));
    }
    table.text()
}

fn cost(report: &Report) -> String {
    let mut table = Table::new("Cost", &["stage", "state"], &["took", "peak memory"]);
    for stage in &report.stages {
        let made = stage.manifest.as_ref().map(|manifest| &manifest.provenance);
        let took = made.map(|made| duration(made.wall_secs)).unwrap_or_default();
        let peak = made.map(|made| bytes(made.peak_memory_bytes)).unwrap_or_default();
        table.row([stage.name.clone(), stage.state.clone(), took, peak]);
    }
    table.text()
}

/// A table under a heading; nothing where it has no rows.
struct Table {
    head: String,
    rows: String,
}

impl Table {
    /// Words stand on the left of their columns, numbers on the right.
    fn new(heading: &str, words: &[&str], numbers: &[&str]) -> Self {
        let line = |cells: &mut dyn Iterator<Item = &str>| format!("| {} |\n", cells.collect::<Vec<_>>().join(" | "));
        let names = line(&mut words.iter().chain(numbers).copied());
        let rule = line(&mut words.iter().map(|_| "---").chain(numbers.iter().map(|_| "---:")));
        Self { head: format!("\n## {heading}\n\n{names}{rule}"), rows: String::new() }
    }

    fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        let cells: Vec<String> = cells.into_iter().map(|cell| cell.replace('|', "\\|")).collect();
        self.rows += &format!("| {} |\n", cells.join(" | "));
    }

    fn text(self) -> String {
        if self.rows.is_empty() { String::new() } else { self.head + &self.rows }
    }
}

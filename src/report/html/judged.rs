//! Scores, comparisons of methods, and students beside their teachers.

use bam_contract::artifact::comparison::{Comparison, Subject};
use maud::{Markup, html};

use super::super::scores::{Cell, Pivot};
use super::super::{Disagreement, IntervalMethod, Report};
use super::{wide, with_code};
use crate::ui::comparison::{p_value, points, signed};
use crate::ui::units::count;

pub(super) fn scores(report: &Report) -> Option<Markup> {
    let pivot = Pivot::of(&report.scores);
    (!pivot.rows.is_empty()).then(|| html! {
        p.quiet {
            "Dev metrics in points of 100; the best of a row is bold where its cells differ and tell of as many models each. In brackets 95% intervals over dev rows: Wilson's for accuracy, "
            "the bootstrap's (b) for others where dev predictions are there. A cell of several models (seeds) is their mean, with the least and the greatest of them."
        }
        (wide(&html! {
            table {
                thead { tr {
                    th scope="col" { "Task" } th scope="col" { "Metric" } th.num scope="col" { "Rows" }
                    @for family in &pivot.families { th.num scope="col" { (family) } }
                } }
                tbody {
                    @for row in &pivot.rows {
                        @let best = row.best();
                        tr {
                            th scope="row" { (row.task) } td { (row.metric) } td.num { (count(row.rows as u64)) }
                            @for cell in &row.cells {
                                td class=(if cell.as_ref().is_some_and(|cell| best.as_ref() == Some(&points(cell.value))) { "num best" } else { "num" }) { (score(cell.as_ref())) }
                            }
                        }
                    }
                }
            }
        }))
    })
}

fn score(cell: Option<&Cell>) -> Markup {
    let Some(cell) = cell else { return html! { "–" } };
    html! {
        (points(cell.value))
        @if cell.models > 1 {
            small { " of " (cell.models) }
            br;
            small { (points(cell.range[0])) " to " (points(cell.range[1])) }
        }
        @if let Some(interval) = cell.interval {
            br;
            small {
                "[" (points(interval.low)) ", " (points(interval.high)) "]"
                @if interval.method == IntervalMethod::Bootstrap { " b" }
            }
        }
    }
}

pub(super) fn comparisons(report: &Report) -> Option<Markup> {
    (!report.comparisons.is_empty()).then(|| {
        html! {
            @for named in &report.comparisons {
                h3 { (named.stage) }
                (comparison(&named.comparison))
            }
        }
    })
}

fn comparison(comparison: &Comparison) -> Markup {
    html! {
        (wide(&html! {
            table {
                caption { "Scores over trials, in points of 100" }
                thead { tr {
                    th scope="col" { "Task" } th scope="col" { "Metric" } th scope="col" { "Method" } th.num scope="col" { "n" }
                    th.num scope="col" { "Median" } th.num scope="col" { "Mean" } th.num scope="col" { "Quartiles" } th.num scope="col" { "Range" }
                } }
                tbody {
                    @for summary in &comparison.summaries {
                        @let [first, third] = summary.quartiles;
                        tr {
                            th scope="row" { (summary.subject.name()) }
                            td { @if let Subject::Task { metric, .. } = &summary.subject { (metric.name()) } }
                            td { (summary.method) } td.num { (summary.trials) }
                            td.num { (points(summary.median)) } td.num { (points(summary.mean)) }
                            td.num { (points(first)) " to " (points(third)) }
                            td.num { (points(summary.least)) " to " (points(summary.greatest)) }
                        }
                    }
                }
            }
        }))
        p.quiet {
            "Differences. Over rows: paired bootstrap of dev rows. Over seeds: Mann-Whitney U, two-sided, ≈ where it is the normal approximation. "
            "Both after Holm-Bonferroni over all tests of the table."
        }
        (wide(&html! {
            table {
                thead { tr {
                    th scope="col" { "Task" } th scope="col" { "Compared" } th.num scope="col" { "Δ median" } th.num scope="col" { "95% over rows" }
                    th.num scope="col" { "p over rows" } th.num scope="col" { "Holm" } th.num scope="col" { "U" }
                    th.num scope="col" { "p over seeds" } th.num scope="col" { "Holm" } th.num scope="col" { "Cliff's δ" }
                } }
                tbody {
                    @for test in &comparison.tests {
                        @let (ranks, rows) = (&test.mann_whitney, &test.bootstrap);
                        tr {
                            th scope="row" { (test.subject.name()) }
                            td { (test.method) " − " (test.other) }
                            td.num { (signed(test.difference)) }
                            td.num { (signed(rows.interval[0])) " to " (signed(rows.interval[1])) }
                            td.num { (p_value(rows.p)) } td.num { (p_value(rows.p_holm)) } td.num { (ranks.u) }
                            td.num { @if !ranks.exact { "≈ " } (p_value(ranks.p)) } td.num { (p_value(ranks.p_holm)) }
                            td.num { (format!("{:+.2}", test.cliffs_delta)) }
                        }
                    }
                }
            }
        }))
        @if !comparison.cautions.is_empty() {
            ul { @for caution in &comparison.cautions { li { (with_code(caution)) } } }
        }
    }
}

pub(super) fn disagreements(report: &Report) -> Option<Markup> {
    (!report.disagreements.is_empty()).then(|| html! {
        p.quiet { "Dev rows that only one of the two gets right; for values, rows where one is nearer." }
        (wide(&html! {
            table {
                thead { tr {
                    th scope="col" { "Task" } th scope="col" { "Student" } th scope="col" { "Teacher" } th.num scope="col" { "Rows" }
                    th.num scope="col" { "Student better" } th.num scope="col" { "Teacher better" } th.num scope="col" { "Both right" }
                } }
                tbody {
                    @for each in &report.disagreements {
                        tr {
                            th scope="row" { (each.task) } td { (each.student) } td { (each.teacher) } td.num { (count(each.rows as u64)) }
                            td.num { (count(each.student_better as u64)) } td.num { (count(each.teacher_better as u64)) }
                            td.num { @if let Some(both) = each.both_right { (count(both as u64)) } @else { "–" } }
                        }
                    }
                }
            }
        }))
        @for each in report.disagreements.iter().filter(|each| !each.examples.is_empty()) { (examples(each)) }
    })
}

fn examples(of: &Disagreement) -> Markup {
    html! {
        details {
            summary { (of.task) ": rows on which " (of.student) " gains most" }
            (wide(&html! {
                table {
                    thead { tr { th.num scope="col" { "Row" } th scope="col" { "Text" } th scope="col" { "Label" } th scope="col" { "Student" } th scope="col" { "Teacher" } } }
                    tbody {
                        @for example in &of.examples {
                            tr {
                                th.num scope="row" { (example.id) }
                                td.text { (example.text) @if let Some(pair) = &example.pair { br; (pair) } }
                                td { (example.gold) } td { (example.student) } td { (example.teacher) }
                            }
                        }
                    }
                }
            }))
        }
    }
}

//! How models learnt, what they mistake for what, and how sure they are.

use std::collections::BTreeSet;

use maud::{Markup, html};

use super::super::chart::{self, Line};
use super::super::{Answers, Report, Training};
use super::wide;
use crate::ui::units::{count, plural};

pub(super) fn curves(report: &Report) -> Option<Markup> {
    let trained: Vec<&Training> = report.trainings.iter().filter(|training| training.steps > 0).collect();
    let tasks = |training: &Training| {
        training.dev().filter_map(|(name, _)| name.split('/').next()).collect::<BTreeSet<_>>().len()
    };
    // Of many trainings those of several tasks are what the others were for.
    let open = |training: &Training| trained.len() == 1 || tasks(training) > 1;
    (!trained.is_empty()).then(|| {
        html! {
            p.quiet { "Over steps. λ is the label's share of the target, beside the teacher's." }
            @for training in &trained {
                details open[open(training)] {
                    summary { (training.stage) ", " (plural(training.steps, "step")) }
                    .cards { (charts(training)) }
                }
            }
        }
    })
}

fn charts(training: &Training) -> Markup {
    let dev: Vec<Line<'_>> = training.dev().map(|(name, curve)| Line { name, points: &curve.points }).collect();
    let ends = dev.iter().filter_map(|line| Some(format!("{} {:.3}", line.name, line.points.last()?.1)));
    let told =
        format!("Dev metrics of {} after its last evaluation: {}", training.stage, ends.collect::<Vec<_>>().join(", "));
    let single = |name: &str, title: &str| {
        let curve = training.curve(name)?;
        let (first, last) = (curve.points.first()?, curve.points.last()?);
        let told = format!("{title} of {}, from {:.3e} to {:.3e}", training.stage, first.1, last.1);
        Some(chart::lines(title, &told, &[Line { name: title, points: &curve.points }]))
    };
    html! {
        @if !dev.is_empty() { (chart::lines("Dev metrics", &told, &dev)) }
        @if let Some(chart) = single("loss", "Loss") { (chart) }
        @if let Some(chart) = gold_shares(training) { (chart) }
        @for (name, title) in [("learning_rate", "Learning rate"), ("gradient_norm", "Gradient norm")] {
            @if let Some(chart) = single(name, title) { (chart) }
        }
    }
}

/// λ of all tasks alike, and of those that have a curve of their own.
fn gold_shares(training: &Training) -> Option<Markup> {
    let lines: Vec<Line<'_>> =
        training.gold_shares().map(|(task, curve)| Line { name: task.unwrap_or("λ"), points: &curve.points }).collect();
    let ends = lines.iter().filter_map(|line| {
        Some(format!("{} from {:.2} to {:.2}", line.name, line.points.first()?.1, line.points.last()?.1))
    });
    let told = format!("λ of {}: {}", training.stage, ends.collect::<Vec<_>>().join(", "));
    (!lines.is_empty()).then(|| chart::lines("λ", &told, &lines))
}

pub(super) fn confusion(report: &Report) -> Option<Markup> {
    let tables: Vec<Markup> = report.answers.iter().filter_map(table).collect();
    (!tables.is_empty()).then(|| html! {
        p.quiet { "Dev rows: a line is a label, a column an answer. In small print the share of the label's rows, which the shade shows too." }
        .cards { @for table in &tables { (wide(table)) } }
    })
}

fn table(answers: &Answers) -> Option<Markup> {
    let counts = answers.confusion.as_ref()?;
    let of_label = |row: &[usize]| row.iter().sum::<usize>().max(1) as f64;
    Some(html! {
        table.confusion {
            caption { (name(answers)) }
            thead { tr { th scope="col" { "Label" } @for label in &answers.labels { th.num scope="col" { (label) } } } }
            tbody {
                @for (label, row) in answers.labels.iter().zip(counts) {
                    tr {
                        th scope="row" { (label) }
                        @for cell in row {
                            @let share = *cell as f64 / of_label(row);
                            td.num style=(format!("background: rgb(var(--shade) / {:.2})", share * 0.25)) {
                                (count(*cell as u64)) br; small { (format!("{:.0}%", share * 100.0)) }
                            }
                        }
                    }
                }
            }
        }
    })
}

pub(super) fn calibration(report: &Report) -> Option<Markup> {
    let diagrams = report
        .answers
        .iter()
        .filter_map(|answers| Some(chart::reliability(&name(answers), answers.calibration.as_ref()?)));
    let diagrams: Vec<Markup> = diagrams.collect();
    (!diagrams.is_empty()).then(|| html! {
        p.quiet {
            "How often the likeliest class is right (up) where the model is so sure of it (across), in tenths; on the dashed line confidence is "
            "what it should be. ECE is the mean gap, weighted by rows, in points."
        }
        .cards { @for diagram in &diagrams { (diagram) } }
    })
}

fn name(answers: &Answers) -> String {
    let split =
        if answers.split == bam_contract::task::Split::Dev { String::new() } else { format!(" {}", answers.split) };
    format!("{} on {}{split}", answers.model, answers.task)
}

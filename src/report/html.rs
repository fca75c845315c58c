//! The report as one HTML page: no script, nothing fetched, light and dark as the reader's system is.

mod judged;
mod made;
mod models;

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::{Report, graph};
use crate::ui::units::{duration, plural};

const STYLE: &str = include_str!("html/style.css");

/// Names in a cell of what a stage reads.
const MOST_READS: usize = 4;

/// A part of the page: its anchor, its heading, and what it shows.
type Section = (&'static str, &'static str, Markup);

pub(crate) fn page(report: &Report) -> String {
    let sections: Vec<Section> = [
        Some(("pipeline", "Pipeline", pipeline(report))),
        judged::scores(report).map(|shown| ("scores", "Scores", shown)),
        judged::comparisons(report).map(|shown| ("comparison", "Methods compared", shown)),
        models::curves(report).map(|shown| ("curves", "Learning curves", shown)),
        models::confusion(report).map(|shown| ("confusion", "Confusion", shown)),
        models::calibration(report).map(|shown| ("calibration", "Calibration", shown)),
        judged::disagreements(report).map(|shown| ("student", "Where the student beats its teacher", shown)),
        Some(("cost", "Cost", made::cost(report))),
        Some(("provenance", "Settings and provenance", made::provenance(report))),
        missing(report).map(|shown| ("missing", "What is missing", shown)),
    ]
    .into_iter()
    .flatten()
    .collect();
    let title = format!("{}: report", report.pipeline);
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (title) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                header {
                    h1 { (report.pipeline) }
                    p.quiet { (report.of) " · " (plural(report.stages.len(), "stage")) }
                }
                nav aria-label="Sections" {
                    ul { @for (anchor, heading, _) in &sections { li { a href=(format!("#{anchor}")) { (heading) } } } }
                }
                main {
                    @for (anchor, heading, shown) in &sections {
                        section id=(anchor) aria-labelledby=(format!("{anchor}-heading")) {
                            h2 id=(format!("{anchor}-heading")) { (heading) }
                            (shown)
                        }
                    }
                }
            }
        }
    };
    page.into_string()
}

fn pipeline(report: &Report) -> Markup {
    let reads = |stage: &super::StageReport| {
        let mut names: Vec<&str> = stage.reads.iter().map(|at| report.stages[*at].name.as_str()).collect();
        let more = names.len().saturating_sub(MOST_READS);
        names.truncate(MOST_READS);
        if more > 0 { format!("{} and {more} more", names.join(", ")) } else { names.join(", ") }
    };
    html! {
        p.quiet { "A box is a family of stages: its kind, its state, and the seconds its artifacts took. A dashed border means that something is to be run." }
        (wide(&graph::draw(&report.stages)))
        details {
            summary { "All " (plural(report.stages.len(), "stage")) }
            (wide(&html! {
                table {
                    thead { tr { th scope="col" { "Stage" } th scope="col" { "Kind" } th scope="col" { "State" } th.num scope="col" { "Took" } th scope="col" { "What" } th scope="col" { "Reads" } } }
                    tbody {
                        @for stage in &report.stages {
                            tr {
                                th scope="row" { (stage.name) }
                                td { (stage.kind) }
                                td { (stage.state) }
                                td.num { @if let Some(made) = &stage.manifest { (duration(made.provenance.wall_secs)) } }
                                td { @if let Some(made) = &stage.manifest { (made.summary) } }
                                td.text { (reads(stage)) }
                            }
                        }
                    }
                }
            }))
        }
    }
}

fn missing(report: &Report) -> Option<Markup> {
    (!report.missing.is_empty()).then(|| html! {
        p { "This report reads artifacts and runs no model. A line, added under " code { "stages:" } " of the pipeline file, gives it more to tell; nothing that is there runs again." }
        @for missing in &report.missing {
            p { (with_code(&missing.what)) }
            @if let Some(line) = &missing.line { pre tabindex="0" { code { (line) } } }
        }
    })
}

/// Text whose names stand between backticks, as in a terminal. One that has no other after it is a backtick.
fn with_code(text: &str) -> Markup {
    let parts: Vec<&str> = text.split('`').collect();
    html! {
        @for (at, part) in parts.iter().enumerate() {
            @if at % 2 == 0 { (part) }
            @else if at + 1 < parts.len() { code { (part) } }
            @else { "`" (part) }
        }
    }
}

/// Something that scrolls sideways within the page, with a mouse, a finger or the keyboard.
fn wide(shown: &Markup) -> Markup {
    html! { div.wide tabindex="0" role="group" aria-label="This may scroll sideways" { (shown) } }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_between_backticks_are_code() {
        let shown = |text| with_code(text).into_string();
        assert_eq!(shown("2 of 2 trials of `a<b` answer"), "2 of 2 trials of <code>a&lt;b</code> answer");
        assert_eq!(shown("`a` and `b`"), "<code>a</code> and <code>b</code>");
        assert_eq!(shown("a ` alone"), "a ` alone");
    }
}

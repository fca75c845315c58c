//! Errors: what, where, why, and what to do about it.

use std::fmt::Write as _;

use bam_contract::fault::hint_of;
use console::{measure_text_width, style};

use super::story;
use crate::pipeline::{Mistake, Mistakes, Place, Source};

/// Tells an error that ends the program.
pub(crate) fn tell(error: &anyhow::Error) {
    let Some(mistakes) = error.downcast_ref::<Mistakes>() else {
        let causes: Vec<String> = error.chain().map(ToString::to_string).collect();
        return story(&failure(&causes, hint_of(error)));
    };
    let told: Vec<String> = mistakes.list.iter().map(|mistake| of_mistake(mistake, &mistakes.source)).collect();
    story(&told.join("\n\n"));
    if told.len() > 1 {
        story(&format!("\n{mistakes}; nothing was run"));
    }
}

/// Tells of something that went wrong beside the work, which goes on.
pub(crate) fn warn(error: &anyhow::Error) {
    story(&warning(&format!("{error:#}"), hint_of(error)));
}

/// A warning, and a hint.
pub(crate) fn warning(text: &str, hint: Option<&str>) -> String {
    with_hint(format!("{} {text}", style("warning:").for_stderr().yellow().bold()), hint)
}

/// A message, its causes, and a hint.
pub(crate) fn failure(causes: &[String], hint: Option<&str>) -> String {
    let mut text = String::new();
    for (depth, cause) in causes.iter().enumerate() {
        if depth == 0 {
            let _ = write!(text, "{} {cause}", heading("error:"));
        } else {
            let _ = write!(text, "\n  caused by: {cause}");
        }
    }
    with_hint(text, hint)
}

fn of_mistake(mistake: &Mistake, source: &Source) -> String {
    let mut text = format!("{} {}", heading("error:"), mistake.message);
    if let Some(place) = &mistake.place {
        let _ = write!(text, "\n  {} {}", style("-->").for_stderr().cyan(), source.show(place));
        if let Place::File { file, line, column, width } = place {
            text += &excerpt(source.line(*file, *line), *line, *column, *width);
        }
    }
    with_hint(text, mistake.hint.as_deref())
}

/// The line, and carets under what is meant.
fn excerpt(line: &str, number: usize, column: usize, width: usize) -> String {
    let number = number.to_string();
    let margin = " ".repeat(number.len());
    // Widths as shown, not characters: a caret under `テ` must be two columns on from one before it.
    let before: String = line.chars().take(column - 1).map(|c| if c == '\t' { ' ' } else { c }).collect();
    let meant: String = line.chars().skip(column - 1).take(width).collect();
    let indent = " ".repeat(measure_text_width(&before));
    let carets = style("^".repeat(measure_text_width(&meant).max(1))).for_stderr().red();
    let line = line.replace('\t', " ");
    format!("\n {margin} |\n {number} | {line}\n {margin} | {indent}{carets}")
}

fn with_hint(mut text: String, hint: Option<&str>) -> String {
    if let Some(hint) = hint {
        let _ = write!(text, "\n\n{} {hint}", style("hint:").for_stderr().green());
    }
    text
}

fn heading(word: &str) -> console::StyledObject<&str> {
    style(word).for_stderr().red().bold()
}

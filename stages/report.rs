//! What a stage says while it runs: events on standard output, one JSON object a line.

use std::cell::Cell;
use std::io::{Stdout, Write, stderr, stdout};
use std::time::{Duration, Instant};

use bam_contract::event::Event;
use serde_json::{Map, Value, json};

/// No terminal shows more than a few states a second.
const PROGRESS_EVERY: Duration = Duration::from_millis(200);

/// Warnings of one kind that are told one by one.
const MOST_WARNINGS: usize = 3;

#[derive(Debug)]
pub(crate) struct Reporter {
    output: Stdout,
    last_progress: Cell<Option<Instant>>,
}

/// What a stage has made: one line for a person, and facts for the manifest.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) summary: String,
    pub(crate) provenance: Map<String, Value>,
}

impl From<String> for Outcome {
    fn from(summary: String) -> Self {
        Self { summary, provenance: Map::new() }
    }
}

impl Outcome {
    /// With a fact for the manifest.
    pub(crate) fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.provenance.insert(name.to_owned(), value.into());
        self
    }
}

impl Default for Reporter {
    fn default() -> Self {
        Self { output: stdout(), last_progress: Cell::default() }
    }
}

impl Reporter {
    /// Says where the stage stands; calls in quick succession are dropped, but for the last of `total`.
    pub(crate) fn progress(&self, done: u64, total: u64, unit: &str, detail: impl Into<String>) {
        let recent = self.last_progress.get().is_some_and(|last| last.elapsed() < PROGRESS_EVERY);
        if recent && done < total {
            return;
        }
        self.last_progress.set(Some(Instant::now()));
        self.emit(&Event::Progress { done, total, unit: unit.to_owned(), detail: detail.into() });
    }

    pub(crate) fn metric(&self, name: &str, value: f64) {
        self.emit(&Event::Metric { name: name.to_owned(), value });
    }

    pub(crate) fn warning(&self, text: impl Into<String>) {
        self.emit(&Event::Warning { text: text.into() });
    }

    /// Warnings of one kind: a few of them, and where all of them stand.
    pub(crate) fn warnings(&self, texts: &[String], stage: &str) {
        if texts.len() > MOST_WARNINGS {
            for text in texts {
                Self::log(text);
            }
        }
        for text in few(texts, stage) {
            self.warning(text);
        }
    }

    /// For the stage's log, whose end is shown if it fails.
    pub(crate) fn log(text: &str) {
        _ = writeln!(stderr(), "{text}");
    }

    pub(crate) fn done(&self, outcome: Outcome) {
        let outcome = outcome.with("libtorch", json!(tch_version()));
        self.emit(&Event::Done { summary: outcome.summary, provenance: outcome.provenance });
    }

    pub(crate) fn stopped(&self, summary: &str) {
        self.emit(&Event::Stopped { summary: summary.to_owned() });
    }

    pub(crate) fn failed(&self, error: &anyhow::Error) {
        self.emit(&Event::failed(error));
    }

    fn emit(&self, event: &Event) {
        let line = serde_json::to_string(event).expect("an event is plain data");
        // With the engine gone there is nobody to tell; the stage ends by the signal that follows.
        _ = writeln!(self.output.lock(), "{line}");
    }
}

/// The libtorch that tch 0.24 pairs with; its build script refuses any other.
fn tch_version() -> &'static str {
    "2.11.0"
}

/// The first of many texts, and where the others are.
fn few(texts: &[String], stage: &str) -> Vec<String> {
    let (shown, more) = texts.split_at(texts.len().min(MOST_WARNINGS));
    let more = (!more.is_empty()).then(|| format!("and {} more: `bam log {stage}`", more.len()));
    shown.iter().cloned().chain(more).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_many_warnings_a_few_are_told_and_where_the_others_are() {
        let texts: Vec<String> = (1..=20).map(|number| number.to_string()).collect();
        assert_eq!(few(&texts, "scores"), ["1", "2", "3", "and 17 more: `bam log scores`"]);
        assert_eq!(few(&texts[..3], "scores"), ["1", "2", "3"]);
    }
}

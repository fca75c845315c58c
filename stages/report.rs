//! What a stage reports while it runs and when it is done.

use bam_contract::event::Event;
use serde_json::{Map, Value};

/// Prints events to standard output, one JSON object a line.
#[derive(Debug)]
pub(crate) struct Reporter;

impl Reporter {
    pub(crate) fn progress(&self, done: u64, total: u64, unit: &str, detail: impl Into<String>) {
        Self::print(&Event::Progress { done, total, unit: unit.to_owned(), detail: detail.into() });
    }

    fn print(event: &Event) {
        println!("{}", serde_json::to_string(event).expect("an event is plain data"));
    }
}

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

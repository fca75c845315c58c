//! What a worker reports: one JSON object a line on its standard output.

use serde::{Deserialize, Serialize};

use crate::fault::hint_of;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// Where the stage stands. `done` of `total` `unit`s; `detail` is for a person (loss, rows/s …).
    Progress {
        done: u64,
        total: u64,
        unit: String,
        #[serde(default)]
        detail: String,
    },
    /// A measured figure worth keeping with the run: `dev/rte/accuracy`, `rows_per_second` …
    Metric { name: String, value: f64 },
    /// Something a person should know that doesn't stop the stage.
    Warning { text: String },
    /// The stage is done: one line on what was made ("8,551 train rows"), and facts for the manifest.
    Done {
        summary: String,
        #[serde(default)]
        provenance: serde_json::Map<String, serde_json::Value>,
    },
    /// The worker was asked to stop and kept its state; `summary` says how far it came ("step 40 of 120").
    Stopped { summary: String },
    /// The stage failed: the chain of causes, outermost first.
    Failed { causes: Vec<String>, hint: Option<String> },
}

impl Event {
    /// That a stage failed, as an error tells it.
    #[must_use]
    pub fn failed(error: &anyhow::Error) -> Self {
        let causes = error.chain().map(ToString::to_string).collect();
        Self::Failed { causes, hint: hint_of(error).map(ToOwned::to_owned) }
    }

    /// The same, fit for a line of a terminal or a table: any program may have said it.
    #[must_use]
    pub fn in_plain_words(self) -> Self {
        match self {
            Self::Progress { done, total, unit, detail } => {
                Self::Progress { done, total, unit: plain(&unit), detail: plain(&detail) }
            }
            Self::Metric { name, value } => Self::Metric { name: plain(&name), value },
            Self::Warning { text } => Self::Warning { text: plain(&text) },
            Self::Done { summary, provenance } => Self::Done { summary: plain(&summary), provenance },
            Self::Stopped { summary } => Self::Stopped { summary: plain(&summary) },
            Self::Failed { causes, hint } => {
                let mut causes: Vec<String> = causes.iter().map(|cause| plain(cause)).collect();
                if causes.is_empty() {
                    causes.push("it says that it failed, and not why".to_owned());
                }
                Self::Failed { causes, hint: hint.map(|hint| plain(&hint)) }
            }
        }
    }
}

/// Text on one line, without what would move a terminal's cursor or colour it.
fn plain(text: &str) -> String {
    text.split(char::is_control).filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_left_out() {
        let said = Event::Done { summary: "two\nlines\u{1b}[2J".to_owned(), provenance: serde_json::Map::new() };
        let Event::Done { summary, .. } = said.in_plain_words() else { panic!("another event") };
        assert_eq!(summary, "two lines [2J");
        let said = Event::Failed { causes: vec![], hint: None }.in_plain_words();
        let causes = vec!["it says that it failed, and not why".to_owned()];
        assert_eq!(said, Event::Failed { causes, hint: None });
    }
}

//! What a worker reports: one JSON object a line on its standard output.

use serde::{Deserialize, Serialize};

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

//! A submission to the GLUE leaderboard: `submission.zip`, and `submission.json` on where its answers are from.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::digest::Fingerprint;
use crate::task::Split;

pub const ARCHIVE: &str = "submission.zip";
const FILE: &str = "submission.json";

/// A file of the archive.
#[derive(Debug)]
pub struct Sheet {
    pub file: &'static str,
    pub task: &'static str,
    pub split: Split,
    /// Rows of the official test set.
    pub rows: usize,
}

/// All of them, in the leaderboard's order.
#[rustfmt::skip]
pub const SHEETS: [Sheet; 11] = [
    Sheet { file: "CoLA.tsv",    task: "cola", split: Split::Test,           rows: 1063 },
    Sheet { file: "SST-2.tsv",   task: "sst2", split: Split::Test,           rows: 1821 },
    Sheet { file: "MRPC.tsv",    task: "mrpc", split: Split::Test,           rows: 1725 },
    Sheet { file: "STS-B.tsv",   task: "stsb", split: Split::Test,           rows: 1379 },
    Sheet { file: "QQP.tsv",     task: "qqp",  split: Split::Test,           rows: 390_965 },
    Sheet { file: "MNLI-m.tsv",  task: "mnli", split: Split::Test,           rows: 9796 },
    Sheet { file: "MNLI-mm.tsv", task: "mnli", split: Split::TestMismatched, rows: 9847 },
    Sheet { file: "QNLI.tsv",    task: "qnli", split: Split::Test,           rows: 5463 },
    Sheet { file: "RTE.tsv",     task: "rte",  split: Split::Test,           rows: 3000 },
    Sheet { file: "WNLI.tsv",    task: WNLI,   split: Split::Test,           rows: 146 },
    Sheet { file: "AX.tsv",      task: "ax",   split: Split::Test,           rows: 1104 },
];

/// The task that may be left out: its majority class beats what models learn from its 635 rows.
pub const WNLI: &str = "wnli";

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Submission {
    pub fingerprint: Fingerprint,
    pub answers: Vec<Answers>,
}

/// Where one file's answers are from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Answers {
    pub file: String,
    pub rows: usize,
    pub from: Source,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// Slot of the predictions.
    Predictions(String),
    /// The same answer in every row; the score is that of guessing.
    Constant(String),
}

impl Submission {
    pub fn read(folder: &Path) -> Result<Self> {
        let path = folder.join(FILE);
        let text = fs::read_to_string(&path).with_context(|| format!("reading `{}`", path.display()))?;
        serde_json::from_str(&text).with_context(|| format!("`{}` tells of no submission", path.display()))
    }

    pub fn write(&self, folder: &Path) -> Result<()> {
        let path = folder.join(FILE);
        let text = serde_json::to_string_pretty(self)? + "\n";
        fs::write(&path, text).with_context(|| format!("writing `{}`", path.display()))
    }
}

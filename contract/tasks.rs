//! The built-in tasks: GLUE's nine, its diagnostic set, and five that a grammar writes. A task is one row.

use std::collections::BTreeMap;

use crate::metric::Metric::{self, Accuracy, F1, Matthews, Pearson, Spearman};
use crate::task::{Column, Columns, Split, TaskSpec};

/// One row of the table. A column is a name, or a number where the file has no header.
struct Row {
    name: &'static str,
    folder: &'static str,
    files: &'static [(Split, &'static str)],
    text: &'static str,
    pair: Option<&'static str>,
    label: Option<&'static str>,
    labels: &'static [&'static str],
    spelled: &'static [&'static str],
    range: Option<[f64; 2]>,
    symmetric: bool,
    skip_broken: bool,
    metrics: &'static [Metric],
    /// The text's column in test files, where it is another.
    test_text: Option<&'static str>,
    /// The task whose head answers this one's rows, where it has none of its own.
    head: Option<&'static str>,
}

const THREE: &[(Split, &str)] = &[(Split::Train, "train.tsv"), (Split::Dev, "dev.tsv"), (Split::Test, "test.tsv")];
const MATCHED: &[(Split, &str)] = &[
    (Split::Train, "train.tsv"),
    (Split::Dev, "dev_matched.tsv"),
    (Split::DevMismatched, "dev_mismatched.tsv"),
    (Split::Test, "test_matched.tsv"),
    (Split::TestMismatched, "test_mismatched.tsv"),
];
const NLI: &[&str] = &["entailment", "neutral", "contradiction"];
const RTE: &[&str] = &["entailment", "not_entailment"];
const ZERO_ONE: &[&str] = &["0", "1"];
const BLANK: Row = Row {
    name: "",
    folder: "",
    files: THREE,
    text: "sentence1",
    pair: Some("sentence2"),
    label: Some("label"),
    labels: &[],
    spelled: &[],
    range: None,
    symmetric: false,
    skip_broken: false,
    metrics: &[Accuracy],
    test_text: None,
    head: None,
};

/// Label names and their order are those of the Hugging Face release of GLUE.
#[rustfmt::skip]
const TABLE: &[Row] = &[
    // CoLA's train and dev files have no header and are read by number; its test file has one.
    Row { name: "cola", folder: "CoLA", text: "4", test_text: Some("sentence"), pair: None, label: Some("2"), labels: &["unacceptable", "acceptable"], spelled: ZERO_ONE, metrics: &[Matthews], ..BLANK },
    Row { name: "sst2", folder: "SST-2", text: "sentence", pair: None, labels: &["negative", "positive"], spelled: ZERO_ONE, ..BLANK },
    Row { name: "mrpc", folder: "MRPC", text: "#1 String", pair: Some("#2 String"), label: Some("Quality"), labels: &["not_equivalent", "equivalent"], spelled: ZERO_ONE, symmetric: true, metrics: &[Accuracy, F1], ..BLANK },
    Row { name: "stsb", folder: "STS-B", label: Some("score"), range: Some([0.0, 5.0]), symmetric: true, metrics: &[Spearman, Pearson], ..BLANK },
    Row { name: "qqp", folder: "QQP", text: "question1", pair: Some("question2"), label: Some("is_duplicate"), labels: &["not_duplicate", "duplicate"], spelled: ZERO_ONE, skip_broken: true, metrics: &[Accuracy, F1], ..BLANK },
    Row { name: "mnli", folder: "MNLI", files: MATCHED, label: Some("gold_label"), labels: NLI, ..BLANK },
    Row { name: "qnli", folder: "QNLI", text: "question", pair: Some("sentence"), labels: RTE, ..BLANK },
    Row { name: "rte", folder: "RTE", labels: RTE, ..BLANK },
    Row { name: "wnli", folder: "WNLI", labels: &["not_entailment", "entailment"], spelled: ZERO_ONE, ..BLANK },
    Row { name: "ax", folder: "diagnostic", files: &[(Split::Test, "diagnostic.tsv")], label: None, labels: NLI, metrics: &[Matthews], head: Some("mnli"), ..BLANK },
    // Written by the grammar of the `data` stage; their "folder" is never read.
    Row { name: "acceptability", text: "sentence", pair: None, labels: &["unacceptable", "acceptable"], metrics: &[Matthews], ..BLANK },
    Row { name: "sentiment", text: "sentence", pair: None, labels: &["negative", "positive"], ..BLANK },
    Row { name: "paraphrase", labels: &["not_equivalent", "equivalent"], symmetric: true, metrics: &[Accuracy, F1], ..BLANK },
    Row { name: "similarity", range: Some([0.0, 5.0]), symmetric: true, metrics: &[Spearman, Pearson], ..BLANK },
    Row { name: "entailment", labels: NLI, ..BLANK },
];

/// Names of the tasks that the grammar of the `data` stage writes.
pub const GRAMMAR_TASKS: &[&str] = &["acceptability", "sentiment", "paraphrase", "similarity", "entailment"];

/// The built-in task of that name.
pub fn builtin(name: &str) -> Option<TaskSpec> {
    TABLE.iter().find(|row| row.name == name).map(Row::spec)
}

/// Names of all built-in tasks, in the table's order.
pub fn names() -> impl Iterator<Item = &'static str> {
    TABLE.iter().map(|row| row.name)
}

impl Row {
    fn spec(&self) -> TaskSpec {
        let numbered = self.text.parse::<usize>().is_ok();
        let column = |name: &str| match name.parse() {
            Ok(number) => Column::Number(number),
            Err(_) => Column::Name(name.to_owned()),
        };
        let strings = |names: &[&str]| names.iter().map(ToString::to_string).collect();
        let path =
            |file: &str| if self.folder.is_empty() { file.to_owned() } else { format!("{}/{file}", self.folder) };
        let pair = self.pair.map(column);
        let by_name = |text: &str| Columns { header: true, text: column(text), pair: pair.clone(), label: None };
        TaskSpec {
            name: self.name.to_owned(),
            files: self.files.iter().map(|(split, file)| (*split, path(file))).collect::<BTreeMap<_, _>>(),
            format: None,
            columns: Columns {
                header: !numbered,
                text: column(self.text),
                pair: pair.clone(),
                label: self.label.map(column),
            },
            test_columns: Some(by_name(self.test_text.unwrap_or(self.text))),
            labels: strings(self.labels),
            spelled: strings(self.spelled),
            cuts: Vec::new(),
            range: self.range,
            symmetric: self.symmetric,
            skip_broken: self.skip_broken,
            metrics: self.metrics.to_vec(),
            split: None,
            head: self.head.map(ToOwned::to_owned),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_sound_and_named_once() {
        let mut seen = std::collections::BTreeSet::new();
        for name in names() {
            assert_eq!(builtin(name).unwrap().mistakes(), Vec::<String>::new());
            assert!(seen.insert(name), "`{name}` stands twice");
        }
    }

    #[test]
    fn a_definition_survives_json() {
        for name in names() {
            let task = builtin(name).unwrap();
            let json = serde_json::to_string(&task).unwrap();
            assert_eq!(serde_json::from_str::<TaskSpec>(&json).unwrap(), task);
        }
    }
}

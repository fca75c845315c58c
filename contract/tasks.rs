//! The built-in tasks: GLUE's nine, its diagnostic set, and five that a grammar writes. A task is one row.

use std::collections::BTreeMap;

use crate::metric::Metric::{self, Accuracy, F1, Matthews, Pearson, Spearman};
use crate::task::{Column, Columns, Format, Split, TaskSpec};

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
    /// How the Hugging Face hub has it, where it does.
    hub: Option<OnHub>,
}

/// A task in the hub's `nyu-mll/glue`: a folder of the task's own name, with Parquet files. Columns that differ from the
/// classic download's are named here; the label's is `label` for all.
struct OnHub {
    files: &'static [(Split, &'static str)],
    text: &'static str,
    pair: Option<&'static str>,
}

const THREE: &[(Split, &str)] = &[(Split::Train, "train.tsv"), (Split::Dev, "dev.tsv"), (Split::Test, "test.tsv")];
const MATCHED: &[(Split, &str)] = &[
    (Split::Train, "train.tsv"),
    (Split::Dev, "dev_matched.tsv"),
    (Split::DevMismatched, "dev_mismatched.tsv"),
    (Split::Test, "test_matched.tsv"),
    (Split::TestMismatched, "test_mismatched.tsv"),
];
const THREE_ON_HUB: &[(Split, &str)] = &[(Split::Train, "train"), (Split::Dev, "validation"), (Split::Test, "test")];
const MATCHED_ON_HUB: &[(Split, &str)] = &[
    (Split::Train, "train"),
    (Split::Dev, "validation_matched"),
    (Split::DevMismatched, "validation_mismatched"),
    (Split::Test, "test_matched"),
    (Split::TestMismatched, "test_mismatched"),
];
const SENTENCE: Option<OnHub> = Some(OnHub { files: THREE_ON_HUB, text: "sentence", pair: None });
const SENTENCES: Option<OnHub> = Some(OnHub { files: THREE_ON_HUB, text: "sentence1", pair: Some("sentence2") });
const QUESTIONS: Option<OnHub> = Some(OnHub { files: THREE_ON_HUB, text: "question1", pair: Some("question2") });
const QUESTION: Option<OnHub> = Some(OnHub { files: THREE_ON_HUB, text: "question", pair: Some("sentence") });
const PREMISE: Option<OnHub> = Some(OnHub { files: MATCHED_ON_HUB, text: "premise", pair: Some("hypothesis") });
const DIAGNOSTIC: Option<OnHub> =
    Some(OnHub { files: &[(Split::Test, "test")], text: "premise", pair: Some("hypothesis") });
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
    hub: None,
};

/// Label names and their order are those of the Hugging Face release of GLUE.
#[rustfmt::skip]
const TABLE: &[Row] = &[
    // CoLA's train and dev files have no header and are read by number; its test file has one.
    Row { name: "cola", folder: "CoLA", text: "4", test_text: Some("sentence"), pair: None, label: Some("2"), labels: &["unacceptable", "acceptable"], spelled: ZERO_ONE, metrics: &[Matthews], hub: SENTENCE, ..BLANK },
    Row { name: "sst2", folder: "SST-2", text: "sentence", pair: None, labels: &["negative", "positive"], spelled: ZERO_ONE, hub: SENTENCE, ..BLANK },
    Row { name: "mrpc", folder: "MRPC", text: "#1 String", pair: Some("#2 String"), label: Some("Quality"), labels: &["not_equivalent", "equivalent"], spelled: ZERO_ONE, symmetric: true, metrics: &[Accuracy, F1], hub: SENTENCES, ..BLANK },
    Row { name: "stsb", folder: "STS-B", label: Some("score"), range: Some([0.0, 5.0]), symmetric: true, metrics: &[Spearman, Pearson], hub: SENTENCES, ..BLANK },
    Row { name: "qqp", folder: "QQP", text: "question1", pair: Some("question2"), label: Some("is_duplicate"), labels: &["not_duplicate", "duplicate"], spelled: ZERO_ONE, skip_broken: true, metrics: &[Accuracy, F1], hub: QUESTIONS, ..BLANK },
    Row { name: "mnli", folder: "MNLI", files: MATCHED, label: Some("gold_label"), labels: NLI, hub: PREMISE, ..BLANK },
    Row { name: "qnli", folder: "QNLI", text: "question", pair: Some("sentence"), labels: RTE, hub: QUESTION, ..BLANK },
    Row { name: "rte", folder: "RTE", labels: RTE, hub: SENTENCES, ..BLANK },
    Row { name: "wnli", folder: "WNLI", labels: &["not_entailment", "entailment"], spelled: ZERO_ONE, hub: SENTENCES, ..BLANK },
    Row { name: "ax", folder: "diagnostic", files: &[(Split::Test, "diagnostic.tsv")], label: None, labels: NLI, metrics: &[Matthews], head: Some("mnli"), hub: DIAGNOSTIC, ..BLANK },
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

/// The built-in task of that name as the hub's `nyu-mll/glue` has it. How its files spell the labels is left open: they
/// number them, and say themselves which number is which.
pub fn on_hub(name: &str) -> Option<TaskSpec> {
    let row = TABLE.iter().find(|row| row.name == name)?;
    let OnHub { files, text, pair } = row.hub.as_ref()?;
    let column = |name: &str| Column::Name(name.to_owned());
    let columns = Columns { header: true, text: column(text), pair: pair.map(column), label: Some(column("label")) };
    let path = |file: &str| format!("{name}/{file}-00000-of-00001.parquet");
    Some(TaskSpec {
        files: files.iter().map(|(split, file)| (*split, path(file))).collect(),
        format: Some(Format::Parquet),
        // Test files have the column too, with -1 in every row.
        test_columns: Some(Columns { label: None, ..columns.clone() }),
        columns,
        spelled: Vec::new(),
        skip_broken: false,
        ..row.spec()
    })
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
            let mistakes = [builtin(name), on_hub(name)].into_iter().flatten().flat_map(|task| task.mistakes());
            assert_eq!(mistakes.collect::<Vec<_>>(), [""; 0]);
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

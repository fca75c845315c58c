//! `docs/formats.md` tells each table's columns as they are.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use crate::support::Sandbox;
use crate::support::model::exported;
use arrow::datatypes::{DataType, SchemaRef};
use arrow::ipc::reader::FileReader;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

/// Names and types by the first word of a heading.
fn documented() -> BTreeMap<String, Vec<(String, String)>> {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/formats.md")).unwrap();
    let (mut tables, mut heading) = (BTreeMap::new(), String::new());
    for line in page.lines() {
        if let Some((name, _)) = line.strip_prefix("### ").and_then(|line| line.split_once(':')) {
            name.clone_into(&mut heading);
        } else if let Some(row) = line.strip_prefix("| `") {
            let mut cells = row.split('|').map(|cell| cell.trim_matches([' ', '`']).to_owned());
            let column = (cells.next().unwrap(), cells.next().unwrap());
            tables.entry(heading.clone()).or_insert_with(Vec::new).push(column);
        }
    }
    tables
}

fn schema(path: &Path) -> SchemaRef {
    let file = File::open(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    if path.extension().is_some_and(|ending| ending == "arrow") {
        return FileReader::try_new(file, None).unwrap().schema();
    }
    ParquetRecordBatchReaderBuilder::try_new(file).unwrap().schema().clone()
}

fn type_of(data: &DataType) -> String {
    match data {
        DataType::Utf8 => "string".to_owned(),
        DataType::Boolean => "bool".to_owned(),
        DataType::List(items) | DataType::FixedSizeList(items, _) => format!("list of {}", type_of(items.data_type())),
        other => other.to_string().to_lowercase(),
    }
}

/// A documented column's pattern fits a name: `dev/<task>/<metric>`, and `<task>.label`.
fn fits(pattern: &str, name: &str) -> bool {
    let parts = |text: &str| text.split(['/', '.']).map(str::to_owned).collect::<Vec<_>>();
    let (pattern, name) = (parts(pattern), parts(name));
    pattern.len() == name.len() && pattern.iter().zip(&name).all(|(of, part)| of == part || of.starts_with('<'))
}

/// Every file's columns are told, and every column that is told is in one of the files.
#[track_caller]
fn check(heading: &str, told: &[(String, String)], files: &[PathBuf]) {
    let mut found = vec![false; told.len()];
    for file in files {
        for field in schema(file).fields() {
            let at = told.iter().position(|(pattern, _)| fits(pattern, field.name()));
            let at = at.unwrap_or_else(|| panic!("{heading}: `{}` of {} isn't told", field.name(), file.display()));
            let (of, types) = (type_of(field.data_type()), &told[at].1);
            assert!(types.split(" or ").any(|told| told == of), "{heading}: `{}` is {of}, not {types}", field.name());
            found[at] = true;
        }
    }
    let absent: Vec<_> = told.iter().zip(found).filter(|(_, found)| !found).map(|((name, _), _)| name).collect();
    assert!(absent.is_empty(), "{heading}: no file has {absent:?}");
}

/// A training that anneals its tasks in two ways, predictions of it, and a comparison.
const MORE: &str = "\
seed: 17
for: { task: [sentiment, similarity], trial: [1, 2] }
stages:
  examples@task: { data:     { task: $task, grammar: { train: 32, dev: 16 } } }
  tokens@task:   { tokenize: { examples: examples@$task, encoder: ENCODER, max_tokens: 32 } }
  teacher@trial: { train:    { tokens: [tokens@*], encoder: ENCODER, epochs: 1, seed: $trial } }
  cached@task@trial: { predict: { model: teacher@$trial, tokens: tokens@$task, splits: [train, dev] } }
  student:
    train:
      tokens: [tokens@*]
      encoder: ENCODER
      teachers: [cached@sentiment@1, cached@similarity@1]
      anneal_of: { sentiment: { fixed: 0.5 } }
      epochs: 1
  comparison: { compare: { methods: { one: [cached@sentiment@*], other: [cached@sentiment@*] } } }
";

#[test]
fn columns_are_as_they_are_told() {
    let sandbox = Sandbox::new();
    sandbox.write(
        "pipeline.yaml",
        &MORE.replace("ENCODER", concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/tiny-bert")),
    );
    let said = sandbox.bam(&["run"]);
    assert_eq!(said.code, 0, "{}", said.stderr);
    let latest = |file: &str| sandbox.path(&format!("artifacts/latest/{file}"));
    let of_both = |file: &str| ["sentiment", "similarity"].map(|task| latest(&file.replace("TASK", task)));
    let told = documented();
    check("Examples", &told["Examples"], &of_both("examples@TASK/train.parquet"));
    check("Tokens", &told["Tokens"], &of_both("tokens@TASK/dev.parquet"));
    check("Predictions", &told["Predictions"], &of_both("cached@TASK@2/train.arrow"));
    check("Training", &told["Training"], &[latest("student/history.parquet")]);
    check("Trials", &told["Trials"], &[latest("comparison/trials.parquet")]);

    let model = exported();
    model.write("told.jsonl", "{\"text\": \"a day\", \"pair\": \"a night\"}\n");
    let answers = ["told.parquet", "told.arrow"];
    for file in answers {
        let said = model.bam(&["predict", "-i", "told.jsonl", "--pair", "pair", "--logits", "-o", file]);
        assert_eq!(said.code, 0, "{}", said.stderr);
    }
    check("Answers", &told["Answers"], &answers.map(|file| model.path(file)));
}

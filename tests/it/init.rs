//! `bam init`: what it writes is a pipeline without mistakes.

use std::fs::File;
use std::io::Write as _;
use std::sync::Arc;

use crate::support::Sandbox;
use arrow::array::{ArrayRef, Float64Array, RecordBatch, StringArray};
use parquet::arrow::ArrowWriter;
use serde_json::Value;

/// An entry of the pipeline file that was written.
fn written(sandbox: &Sandbox, pointer: &str) -> Value {
    let yaml: Value = serde_yaml::from_str(&sandbox.read("pipeline.yaml")).expect("YAML");
    yaml.pointer(pointer).unwrap_or_else(|| panic!("no {pointer}")).clone()
}

fn assert_plans(sandbox: &Sandbox, stages: usize) {
    let said = sandbox.bam(&["plan"]);
    assert_eq!((said.code, said.stderr.as_str()), (0, ""));
    let expected = format!("{stages} stages: 0 cached, {stages} to run");
    assert!(said.stdout.contains(&expected), "{}", said.stdout);
}

#[test]
fn without_arguments_it_is_the_default_pipeline() {
    let sandbox = Sandbox::with_fake_worker();
    let said = sandbox.bam(&["init", "--encoder", "enc"]);
    assert_eq!((said.code, said.stdout.as_str()), (0, ""));
    assert_eq!(said.stderr, "wrote `pipeline.yaml`; `bam plan pipeline.yaml` says what it would run\n");
    assert_plans(&sandbox, 23);
    // It comes from a copy, which must not fall behind.
    let tree = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("pipeline.yaml");
    let default = std::fs::read_to_string(tree).unwrap();
    assert_eq!(sandbox.read("pipeline.yaml"), default.replace(".deps/encoders/all-MiniLM-L6-v2", "enc"));
}

#[test]
fn a_pipeline_that_is_there_stays_as_it_is() {
    let sandbox = Sandbox::with_fake_worker();
    sandbox.write("pipeline.yaml", "# mine\n");
    let said = sandbox.bam(&["init", "--encoder", "enc"]);
    assert_eq!(
        (said.code, said.stderr.as_str()),
        (
            2,
            "error: `pipeline.yaml` exists already; nothing was written

hint: name another folder, `bam init DIR`, or remove the file yourself
"
        )
    );
    assert_eq!(sandbox.read("pipeline.yaml"), "# mine\n");
}

#[test]
fn classes_of_a_csv_file_are_told_by_their_names() {
    let sandbox = Sandbox::with_fake_worker();
    sandbox.write("tickets/all.csv", "id,subject,label\n1,\"a, b\",low\n2,c d e,high\n3,f g,low\n4,h i,no: \"x\"\n");
    let said = sandbox.bam(&["init", "--encoder", "enc", "--task", "urgency", "--data", "tickets/all.csv"]);
    assert_eq!((said.code, said.stdout.as_str()), (0, ""));
    assert_plans(&sandbox, 7);
    assert_eq!(written(&sandbox, "/vars/data"), "tickets");
    assert_eq!(
        written(&sandbox, "/tasks/urgency"),
        serde_json::json!({
            "files": { "all": "all.csv" }, "split": { "dev": 0.1, "test": 0.1, "seed": 1 },
            "columns": { "text": "subject", "label": "label" },
            "labels": ["high", "low", "no: \"x\""], "metrics": ["accuracy"],
        })
    );
}

/// Whatever else looks like a label.
#[test]
fn a_column_of_the_tasks_name_is_the_label() {
    let sandbox = Sandbox::with_fake_worker();
    let rows = (0..9).map(|n| format!("{n},short {n},a longer text {n},{},{n}.5\n", ["low", "mid", "high"][n % 3]));
    sandbox.write("tickets.csv", &("id,subject,body,Urgency,score\n".to_owned() + &rows.collect::<String>()));
    let said = sandbox.bam(&["init", "--encoder", "enc", "--task", "urgency", "--data", "tickets.csv"]);
    let expected = "\
wrote `pipeline.yaml`; `bam plan pipeline.yaml` says what it would run
label: `Urgency`, 3 classes; text: `body`; not read: `id`, `subject`, `score`
`--label`, `--text` and `--pair` choose other columns
";
    assert_eq!((said.code, said.stderr.as_str()), (0, expected));
    assert_eq!(written(&sandbox, "/tasks/urgency/columns"), serde_json::json!({"text": "body", "label": "Urgency"}));
    assert_eq!(written(&sandbox, "/tasks/urgency/labels"), serde_json::json!(["high", "low", "mid"]));
    assert_plans(&sandbox, 7);
}

#[test]
fn pairs_and_values_of_a_jsonl_file() {
    let sandbox = Sandbox::with_fake_worker();
    let rows = (0..30).map(|n| format!("{{\"premise\": \"p {n}\", \"hypothesis\": \"h {n}\", \"score\": {n}.5}}\n"));
    sandbox.write("rows.jsonl", &rows.collect::<String>());
    assert_eq!(sandbox.bam(&["init", "--encoder", "enc", "--task", "near", "--data", "rows.jsonl"]).code, 0);
    assert_plans(&sandbox, 7);
    assert_eq!(
        written(&sandbox, "/tasks/near/columns"),
        serde_json::json!({"text": "premise", "pair": "hypothesis", "label": "score"})
    );
    assert_eq!(written(&sandbox, "/tasks/near/range"), serde_json::json!([0, 30]));
    assert_eq!(written(&sandbox, "/tasks/near/metrics"), serde_json::json!(["spearman", "pearson"]));
}

#[test]
fn columns_of_a_gzipped_tsv_file_without_a_header_are_numbers() {
    let sandbox = Sandbox::with_fake_worker();
    let file = File::create(sandbox.path("rows.tsv.gz")).expect("a file");
    let mut packed = flate2::write::GzEncoder::new(file, flate2::Compression::fast());
    packed.write_all(b"1\ta \"quote\n0\tb\n1\tc\n").expect("it is written");
    packed.finish().expect("it is written");
    let args = ["init", "--encoder", "enc", "--task", "t", "--data", "rows.tsv.gz", "--text", "2", "--label", "1"];
    let doubted = sandbox.bam(&args);
    let warning = "warning: the header of `rows.tsv.gz` reads like a row: the label's column is named `1`";
    assert!(doubted.stderr.contains(warning), "{}", doubted.stderr);
    std::fs::remove_file(sandbox.path("pipeline.yaml")).unwrap();
    let said = sandbox.bam(&[&args[..], &["--no-header"]].concat());
    assert_eq!((said.code, said.stderr.contains("warning")), (0, false), "{}", said.stderr);
    assert_plans(&sandbox, 7);
    assert_eq!(written(&sandbox, "/tasks/t/columns"), serde_json::json!({"header": false, "text": 2, "label": 1}));
    assert_eq!(written(&sandbox, "/tasks/t/labels"), serde_json::json!(["0", "1"]));
    assert_eq!(written(&sandbox, "/tasks/t/metrics"), serde_json::json!(["accuracy", "f1"]));
}

#[test]
fn a_parquet_file_and_a_pipeline_in_another_folder() {
    let sandbox = Sandbox::with_fake_worker();
    let text: ArrayRef = Arc::new(StringArray::from(vec!["a b", "c d", "e f"]));
    let value: ArrayRef = Arc::new(Float64Array::from(vec![0.25, -1.5, 2.0]));
    let batch = RecordBatch::try_from_iter([("what", text), ("rating", value)]).expect("columns");
    let mut writer =
        ArrowWriter::try_new(File::create(sandbox.path("rows.parquet")).expect("a file"), batch.schema(), None)
            .expect("a writer");
    writer.write(&batch).expect("it is written");
    writer.close().expect("it is written");
    let args = ["init", "new/folder", "--encoder", "enc", "--task", "felt", "--data", "rows.parquet"];
    assert_eq!(sandbox.bam(&args).code, 0);
    let said = sandbox.bam(&["-C", "new/folder", "plan"]);
    assert_eq!((said.code, said.stderr.as_str()), (0, ""));
    let yaml: Value = serde_yaml::from_str(&sandbox.read("new/folder/pipeline.yaml")).expect("YAML");
    assert_eq!(yaml["tasks"]["felt"]["columns"], serde_json::json!({"text": "what", "label": "rating"}));
    assert_eq!(yaml["tasks"]["felt"]["range"], serde_json::json!([-2, 2]));
}

#[test]
fn what_cannot_be_made_a_task_is_told() {
    let sandbox = Sandbox::with_fake_worker();
    sandbox.write("rows.csv", "text,label\na,x\nb,x\n");
    sandbox.write("lost.csv", "text,label\na,x\nb,\n");
    sandbox.write("rows.doc", "text");
    sandbox.write("wide.csv", "text,label\na,x\nb, c,y\n");
    sandbox.write("semicolons.csv", "text;label\na, b;x\nb;y\n");
    sandbox.write("twice.csv", "text,label,text\na,x,c\nb,y,d\nc,y,e\n");
    std::fs::write(sandbox.path("latin.csv"), b"text,label\na,x\ncaf\xe9,y\n").unwrap();
    for (args, expected) in [
        (&["--data", "rows.csv"][..], "`label` of `rows.csv` has one value only: it is no label"),
        (&["--data", "lost.csv"], "`label` is empty in 1 row of `lost.csv`"),
        (&["--data", "rows.csv", "--text", "txt"], "`rows.csv` has no column `txt`\n\nhint: did you mean `text`?"),
        (&["--data", "none.csv"], "data file `none.csv` does not exist"),
        (&["--data", "."], "`.` is a folder\n\nhint: `--data` names one file"),
        (&["--data", "rows.doc"], "the ending of `rows.doc` tells no format\n\nhint: name it by how it is laid out"),
        (&["--data", "rows.csv", "--label", "3"], "`rows.csv` has no column 3\n\nhint: it has 2; they count from 1"),
        (&["--data", "wide.csv"], "`wide.csv:3`: 3 columns, 2 expected\n\nhint: put a text with commas"),
        (&["--data", "semicolons.csv"], "its fields seem to be separated by `;`: write the file with commas"),
        (&["--data", "latin.csv"], "`latin.csv:3`: not valid UTF-8\n\nhint: convert the file, for example with `iconv"),
        (&["--data", "twice.csv"], "`twice.csv` has more than one column `text`\n\nhint: give the column's number"),
        (&["--data", "twice.csv", "--text", "text"], "`twice.csv` has more than one column `text`"),
    ] {
        let said = sandbox.bam(&[&["init", "--encoder", "enc", "--task", "t"], args].concat());
        assert_eq!(said.code, 2, "{args:?}");
        assert!(said.stderr.contains(expected), "{}", said.stderr);
    }
    let said = sandbox.bam(&["init", "--task", "a b", "--data", "rows.csv", "--encoder", "enc"]);
    assert!(said.stderr.contains("`a b` is no name for a task"), "{}", said.stderr);
    assert_eq!(sandbox.bam(&["init", "--task", "t"]).code, 2, "a task has data");
    assert!(!sandbox.path("pipeline.yaml").exists());
}

#[test]
fn columns_given_by_number_have_the_header_of_those_given_by_name() {
    let rows = (0..9).map(|n| format!("{n},short {n},a text,{},b text\n", ["low", "mid", "high"][n % 3]));
    let table = "id,body,text,urgency,text\n".to_owned() + &rows.collect::<String>();
    for (args, columns) in [
        (&["--text", "2", "--label", "4"][..], serde_json::json!({"text": "body", "label": "urgency"})),
        (&["--text", "2"], serde_json::json!({"text": "body", "label": "urgency"})),
        // One that has its name with another goes by its number.
        (&["--text", "5", "--label", "urgency"], serde_json::json!({"text": 5, "label": "urgency"})),
    ] {
        let sandbox = Sandbox::with_fake_worker();
        sandbox.write("tickets.csv", &table);
        let start = ["init", "--encoder", "enc", "--task", "urgency", "--data", "tickets.csv"];
        let said = sandbox.bam(&[&start[..], args].concat());
        assert_eq!((said.code, said.stderr.contains("warning")), (0, false), "{}", said.stderr);
        assert_eq!(written(&sandbox, "/tasks/urgency/columns"), columns);
        assert_eq!(written(&sandbox, "/tasks/urgency/labels"), serde_json::json!(["high", "low", "mid"]));
        assert_plans(&sandbox, 7);
    }
}

#[test]
fn numbers_with_a_gap_are_no_classes_and_many_classes_are_doubted() {
    let sandbox = Sandbox::with_fake_worker();
    let numbers = |gap: &str| {
        let row = |n: usize| format!("text {n},{}\n", if n == 6 { gap.to_owned() } else { format!("{n}.5") });
        "text,score\n".to_owned() + &(0..100).map(row).collect::<String>()
    };
    let init = ["init", "--encoder", "enc", "--task", "felt", "--data", "rows.csv"];
    for gap in ["n/a", "?", "nan"] {
        sandbox.write("rows.csv", &numbers(gap));
        let said = sandbox.bam(&init);
        let expected =
            format!("error: `rows.csv:8`: `{gap}` is no number, as nearly all other values of `score` are\n");
        assert!(said.code == 2 && said.stderr.starts_with(&expected), "{}", said.stderr);
    }
    assert!(!sandbox.path("pipeline.yaml").exists());
    let names = (0..120).map(|n| format!("text {n},name {}\n", n % 60)).collect::<String>();
    sandbox.write("rows.csv", &("text,label\n".to_owned() + &names));
    let said = sandbox.bam(&init);
    let expected = "warning: `label` of `rows.csv` has 60 classes in 120 rows: is it a label?\n";
    assert!(said.code == 0 && said.stderr.starts_with(expected), "{}", said.stderr);
}

#[test]
fn completions_name_the_commands() {
    let said = Sandbox::new().bam(&["completions", "bash"]);
    assert_eq!((said.code, said.stderr.as_str()), (0, ""));
    assert!(said.stdout.contains("--folded") && said.stdout.contains("init"));
}

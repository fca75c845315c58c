//! The default experiment at a tiny size with the real worker: text in, scores out, and only what changed again.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::support::model::exported;
use crate::support::{Said, Sandbox};
use serde_json::Value;

/// Of the default pipeline, what makes it tiny; all else is as it comes.
const TINY: [&str; 5] = [
    "vars.encoder=ENCODER",
    "vars.layers=2",
    "vars.rows={ train: 48, dev: 20, seed: 1 }",
    "vars.teacher_epochs=1",
    "vars.student_epochs=2",
];
const ENCODER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/tiny-bert");

/// `bam COMMAND` of the default pipeline at a tiny size.
fn tiny(sandbox: &Sandbox, command: &str, more: &[&str]) -> Said {
    let settings = TINY.map(|setting| setting.replace("ENCODER", ENCODER));
    let settings = settings.iter().flat_map(|setting| ["--set", setting]);
    sandbox.bam(&[command].into_iter().chain(settings).chain(more.iter().copied()).collect::<Vec<_>>())
}

fn sandbox() -> Sandbox {
    let worker = Path::new(env!("CARGO_BIN_EXE_bam")).with_file_name("bam-stage");
    assert!(worker.is_file(), "`bam-stage` is not built: run `cargo build --workspace` with the same profile first");
    let sandbox = Sandbox::new();
    let default = Path::new(env!("CARGO_MANIFEST_DIR")).join("pipeline.yaml");
    sandbox.write("pipeline.yaml", &fs::read_to_string(default).unwrap());
    sandbox
}

fn succeeded(run: Said) -> Said {
    assert_eq!(run.code, 0, "{}", run.stderr);
    run
}

#[test]
fn from_text_to_scores_and_then_only_what_changed() {
    let sandbox = sandbox();
    let first = succeeded(tiny(&sandbox, "run", &["--threads", "1"]));
    assert_eq!(first.stages("RAN").len(), 23, "{}", first.stderr);
    for column in ["TASK", "METRIC", "TEACHER", "STUDENT", "ONNX"] {
        assert!(first.stdout.contains(column), "{}", first.stdout);
    }
    let made = sandbox.contents();
    assert_eq!(made.len(), 23);
    scores_are_whole(&sandbox);

    let second = succeeded(tiny(&sandbox, "run", &[]));
    assert_eq!((second.stages("RAN").len(), second.stages("CACHED").len()), (0, 23), "{}", second.stderr);
    assert_eq!(first.stdout, second.stdout);

    sandbox.edit("pipeline.yaml", "seed: 17\n", "seed: 17 # a comment reruns nothing\n");
    assert_eq!(succeeded(tiny(&sandbox, "run", &[])).stages("RAN"), [""; 0]);

    let third = succeeded(tiny(&sandbox, "run", &["--set", "vars.student_epochs=1"]));
    assert_eq!(third.stages("RAN"), ["student", "onnx", "scores"]);
    assert!(third.stderr.contains("because param epochs: 2 → 1"), "{}", third.stderr);

    // All of it again elsewhere: the same seed and number of threads give the same bytes.
    let again = self::sandbox();
    succeeded(tiny(&again, "run", &["--threads", "1"]));
    assert_eq!(again.contents(), made);
}

fn scores_are_whole(sandbox: &Sandbox) {
    let scores: Value = serde_json::from_str(&sandbox.read("artifacts/latest/scores/scores.json")).unwrap();
    // Five teachers on a task each, the student and its ONNX model on all five.
    assert_eq!(scores["scores"].as_array().unwrap().len(), 15);
    let differences = scores["logit_differences"].as_array().unwrap();
    assert_eq!(differences.len(), 5);
    for difference in differences {
        assert!(difference["max_abs_difference"].as_f64().unwrap() <= 1e-4, "{difference}");
        assert_eq!(difference["rows"], 20);
    }
}

#[test]
fn a_teacher_that_does_not_cover_the_training_rows_is_refused_before_anything_runs() {
    let sandbox = sandbox();
    sandbox.edit(
        "pipeline.yaml",
        "model: teacher@$task, tokens: tokens@$task, ",
        "model: teacher@$task, tokens: short@$task, ",
    );
    sandbox.edit(
        "pipeline.yaml",
        "  teacher@task:",
        "  few@task: { data: { task: $task, grammar: { train: 40, dev: 20, seed: 1 } } }
  short@task: { tokenize: { examples: few@$task, encoder: $encoder, max_tokens: 48, both_orders: false } }
  teacher@task:",
    );
    let run = tiny(&sandbox, "run", &[]);
    assert_eq!((run.code, sandbox.names_in("artifacts")), (2, vec![]));
    let error = "teacher `predictions@acceptability` of stage `student` predicts only the first 40 rows, but \
                 `tokens@acceptability` holds more";
    assert!(run.stderr.contains(error), "{}", run.stderr);
}

const OWN_TASK: &str = "\
name: own
vars: { encoder: ENCODER }
tasks:
  mood:
    files: { train: train.tsv, dev: dev.tsv }
    columns: { text: text, label: mood }
    labels: [sad, glad]
    metrics: [accuracy]
stages:
  examples: { data: { task: mood, from: . } }
  tokens:   { tokenize: { examples: examples, encoder: $encoder, max_tokens: 48 } }
  model:    { train: { tokens: [tokens], encoder: $encoder, epochs: 1 } }
";

#[test]
fn a_teacher_of_other_rows_is_found_out_at_the_latest_when_they_are_read() {
    for (theirs, error) in [
        ("ab\tglad\ncd\tsad\n", "teacher `predictions` predicted other examples of `mood`: row 0 has another label"),
        (
            "longer one\tsad\n",
            "teacher `predictions` doesn't cover the training rows of `mood`: 1 of 2 rows are missing, the first is id 1",
        ),
    ] {
        let sandbox = sandbox();
        let encoder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/tiny-bert");
        let pipeline = OWN_TASK.replace("ENCODER", encoder)
            + "  others:      { data: { task: mood, from: others } }
  their-tokens: { tokenize: { examples: others, encoder: $encoder, max_tokens: 48 } }
  predictions: { predict: { model: model, tokens: their-tokens } }
  student:     { train: { tokens: [tokens], teachers: [predictions], encoder: $encoder, epochs: 1 } }
";
        sandbox.write("pipeline.yaml", &pipeline);
        // Files of one size, so that the plan takes them for copies.
        for (folder, rows) in [("", "ab\tsad\ncd\tglad\n"), ("others/", theirs)] {
            sandbox.write(&format!("{folder}train.tsv"), &format!("text\tmood\n{rows}"));
            sandbox.write(&format!("{folder}dev.tsv"), "text\tmood\nfine\tglad\n");
        }
        let run = sandbox.bam(&["run"]);
        assert_eq!((run.code, run.stages("FAILED")), (1, vec!["student".to_owned()]), "{}", run.stderr);
        let hint = "hint: let it predict the same `tokenize` stage that is trained on";
        assert!(run.stderr.contains(error) && run.stderr.contains(hint), "{}", run.stderr);
    }
}

#[test]
fn a_task_of_the_users_own_and_what_can_be_wrong_with_its_files() {
    let sandbox = sandbox();
    let encoder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/tiny-bert");
    sandbox.write("pipeline.yaml", &OWN_TASK.replace("ENCODER", encoder));
    let good = "text\tmood\na bad day\tsad\na good day\tglad\n";
    sandbox.write("dev.tsv", good);
    for (train, error) in [
        ("text\tmood\nfine\tglad\nno label here\n", "`./train.tsv:3`: 1 column, 2 expected"),
        ("text\tmood\nfine\thappy\n", "`./train.tsv:2`: unknown label `happy`"),
        ("text\tmood\n", "`./train.tsv` holds no train rows"),
    ] {
        sandbox.write("train.tsv", train);
        let run = sandbox.bam(&["run"]);
        assert_eq!((run.code, run.stages("FAILED")), (1, vec!["examples".to_owned()]), "{}", run.stderr);
        assert!(run.stderr.contains(&format!("error: {error}")), "{}", run.stderr);
        assert!(run.stderr.contains("hint: "), "{}", run.stderr);
        assert_eq!(sandbox.names_in("artifacts/store"), [""; 0]);
    }
    sandbox.write("train.tsv", &format!("{good} \tglad\n"));
    let run = succeeded(sandbox.bam(&["run"]));
    assert!(run.stderr.contains("warning: examples: `./train.tsv`: 1 row without text\n"), "{}", run.stderr);
    let config: Value = serde_json::from_str(&sandbox.read("artifacts/latest/model/config.json")).unwrap();
    assert_eq!(config["id2label"], serde_json::json!({ "0": "sad", "1": "glad" }));
    assert_eq!(config["architectures"][0], "BertForSequenceClassification");

    // What a file is called is no part of what its rows say.
    fs::rename(sandbox.path("train.tsv"), sandbox.path("renamed.tsv")).unwrap();
    sandbox.edit("pipeline.yaml", "train: train.tsv", "train: renamed.tsv");
    let renamed = succeeded(sandbox.bam(&["run"]));
    assert_eq!(renamed.stages("RAN"), ["examples"], "{}", renamed.stderr);

    fs::remove_file(sandbox.path("dev.tsv")).unwrap();
    let missing = sandbox.bam(&["run"]);
    assert_eq!(missing.code, 2);
    assert!(missing.stderr.contains("dev file `./dev.tsv` does not exist, plain or gzipped"), "{}", missing.stderr);
}

#[test]
fn the_example_of_stages_of_ones_own_runs() {
    let has_pyarrow = Command::new("python3").args(["-c", "import pyarrow.parquet"]).output();
    if !has_pyarrow.is_ok_and(|output| output.status.success()) {
        println!("skipped: `python3` here has no `pyarrow`, with which the example writes Parquet files");
        return;
    }
    let sandbox = sandbox();
    let tree = Path::new(env!("CARGO_MANIFEST_DIR"));
    let run = || {
        let mut command = vec!["run".to_owned(), tree.join("pipelines/exec.yaml").display().to_string()];
        for (name, path) in [("scripts", "pipelines/exec"), ("encoder", "tests/fixtures/tiny-bert")] {
            command.extend(["--set".to_owned(), format!("vars.{name}={}", tree.join(path).display())]);
        }
        succeeded(sandbox.bam(&command))
    };
    let first = run();
    assert_eq!(first.stages("RAN").len(), 7, "{}", first.stderr);
    assert!(first.stderr.contains("500 rows of at most 6 words"), "{}", first.stderr);
    let version = &sandbox.manifest("shorten@entailment")["provenance"]["worker"]["pyarrow"];
    assert!(version.is_string(), "{version}");
    let shown = sandbox.bam(&["show", "tokens@entailment"]).stdout;
    assert!(shown.contains(" shorten@entailment ("), "{shown}");
    let again = run();
    assert_eq!(again.stages("CACHED").len(), 7, "{}", again.stderr);
}

#[test]
fn models_that_differ_are_told_side_by_side_though_they_fail() {
    let sandbox = exported();
    let pipeline = sandbox.read("pipeline.yaml");
    let strict = pipeline.replace("models: [onnx], ", "models: [onnx], tolerance: 1e-12, ");
    assert_ne!(pipeline, strict);
    sandbox.write("strict.yaml", &strict);
    let run = sandbox.bam(&["run", "strict.yaml"]);
    assert_eq!((run.code, run.stages("FAILED")), (1, vec!["scores".to_owned()]), "{}", run.stderr);
    assert!(run.stderr.contains("error: ONNX model `onnx` differs from its checkpoint by "), "{}", run.stderr);
    for part in ["  | ONNX MODEL  PRECISION  SIZE ", "  | onnx        fp32  ", " entailment accuracy\n"] {
        assert!(run.stderr.contains(part), "`{part}` in {}", run.stderr);
    }
}

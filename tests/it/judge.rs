//! `compare` and `bam report` from outside, with the real worker on a tiny model.

use std::fs::File;

use crate::support::{Said, Sandbox};
use parquet::file::reader::{FileReader as _, SerializedFileReader};
use parquet::record::{Row, RowAccessor as _};
use serde_json::Value;

/// Two methods, three seeds each, on two tasks; a student with its teachers' and its own dev predictions.
const PIPELINE: &str = "\
name: judged
seed: 17
vars: { encoder: ENCODER, rows: { train: 64, dev: 40 } }
for:  { task: [acceptability, similarity], trial: [1, 2, 3] }
stages:
  examples@task:      { data:     { task: $task, grammar: $rows } }
  tokens@task:        { tokenize: { examples: examples@$task, encoder: $encoder, max_tokens: 48 } }
  single@task@trial:  { train:    { tokens: [tokens@$task], encoder: $encoder, layers: 1, epochs: 1, seed: $trial } }
  taught@task:        { predict:  { model: single@$task@1, tokens: tokens@$task } }
  multi@trial:        { train:    { tokens: [tokens@*], teachers: [taught@*], encoder: $encoder, layers: 1, epochs: 2, seed: $trial } }
  single_dev@task@trial: { predict: { model: single@$task@$trial, tokens: tokens@$task, splits: [dev], precision: fp32 } }
  multi_dev@task@trial:  { predict: { model: multi@$trial, tokens: tokens@$task, splits: [dev], precision: fp32 } }
  onnx:               { export:   { model: multi@1 } }
  scores:             { score:    { models: [single@*@1, multi@1, onnx], tokens: [tokens@*] } }
  significance:
    compare: { methods: { single: [single_dev@*], multi: [multi_dev@*] }, baseline: single, resamples: 200 }
";

fn sandbox() -> Sandbox {
    let worker = std::path::Path::new(env!("CARGO_BIN_EXE_bam")).with_file_name("bam-stage");
    assert!(worker.is_file(), "`bam-stage` is not built: run `cargo build --workspace` with the same profile first");
    let sandbox = Sandbox::new();
    let encoder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/tiny-bert");
    sandbox.write("pipeline.yaml", &PIPELINE.replace("ENCODER", encoder));
    sandbox
}

fn succeeded(run: Said) -> Said {
    assert_eq!(run.code, 0, "{}", run.stderr);
    run
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// What a command prints, with nothing redacted.
fn printed(sandbox: &Sandbox, args: &[&str]) -> String {
    let output = sandbox.command(args).output().unwrap();
    assert!(output.status.success(), "{args:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn report(sandbox: &Sandbox) -> Value {
    json(&printed(sandbox, &["report", "--format", "json", "-o", "-"]))
}

#[test]
fn methods_are_compared_and_a_report_tells_of_all() {
    let sandbox = sandbox();
    let run = succeeded(sandbox.bam(&["run"]));
    comparison_is_whole(&sandbox, &run);
    page_is_whole(&sandbox);
    other_formats(&sandbox);
    run_by_its_time(&sandbox);
}

/// Models that have learnt nothing are told of in a few lines, with where the others stand.
#[test]
fn cautions_that_repeat_are_folded() {
    let sandbox = sandbox();
    for epochs in ["epochs: 1", "epochs: 2"] {
        sandbox.edit("pipeline.yaml", epochs, &format!("{epochs}, learning_rate: 1e-30"));
    }
    sandbox.edit("pipeline.yaml", "[single@*@1, multi@1, onnx]", "[single@*, multi@*]");
    let run = succeeded(sandbox.bam(&["run"]));
    let warnings: Vec<&str> = run.stderr.lines().filter(|line| line.contains("warning: scores: ")).collect();
    assert_eq!(warnings.len(), 4, "{}", run.stderr);
    assert!(warnings[3].ends_with("more: `bam log scores`"), "{}", warnings[3]);
    let told = |text: &str| text.lines().filter(|line| line.contains("answers all 40 dev rows of")).count();
    let log = printed(&sandbox, &["log", "scores"]);
    let more = format!("and {} more", told(&log) - 3);
    assert!(warnings[3].contains(&more), "{more}: {}", warnings[3]);

    let cautions = |text: &str| {
        let (_, below) = text.split_once("\ntoo few trials: ").expect("cautions");
        below.lines().take_while(|line| !line.is_empty()).map(ToOwned::to_owned).collect::<Vec<_>>()
    };
    let (mut brief, whole) = (cautions(&run.stdout), cautions(&printed(&sandbox, &["show", "significance"])));
    let more = format!("and {} more: `bam show significance`", whole.len() - 4);
    assert_eq!((brief.len(), brief.pop()), (5, Some(more)), "{}", run.stdout);
    assert_eq!(brief, whole[..4]);
}

/// Trials without a seed of their own are one training, which says nothing of chance.
#[test]
fn copies_of_a_training_are_no_trials() {
    let sandbox = sandbox();
    sandbox.edit("pipeline.yaml", "layers: 1, epochs: 1, seed: $trial", "layers: 1, epochs: 1");
    sandbox.edit("pipeline.yaml", "multi: [multi_dev@*] }", "multi: [single_dev@*] }");
    let run = sandbox.bam(&["run", "pipeline.yaml", "significance"]);
    assert_eq!(run.code, 1, "{}", run.stderr);
    let said = "`single_dev@acceptability@1` and `single_dev@acceptability@2` of method `multi` are the same trial, byte for byte";
    assert!(run.stderr.contains(said) || run.stderr.contains(&said.replace("multi", "single")), "{}", run.stderr);
    assert!(run.stderr.contains("hint: each trial wants a training of its own"), "{}", run.stderr);
}

fn comparison_is_whole(sandbox: &Sandbox, run: &Said) {
    for part in ["COMPARED", "multi − single", "mean of 2 tasks", "CLIFF'S δ"] {
        assert!(run.stdout.contains(part), "{part}: {}", run.stdout);
    }
    let caution = "too few trials: no Mann-Whitney p can be below 0.10, whatever the scores\n";
    assert!(run.stdout.contains(caution), "{}", run.stdout);
    let shown = succeeded(sandbox.bam(&["show", "significance"]));
    assert!(shown.stdout.contains("multi − single"), "{}", shown.stdout);
    assert!(shown.stdout.contains("trials.parquet: 12 rows, 5 columns"), "{}", shown.stdout);

    let found = json(&sandbox.read("artifacts/latest/significance/comparison.json"));
    let tests = found["tests"].as_array().unwrap();
    // Two tasks and their mean, one pair of methods.
    assert_eq!((tests.len(), found["summaries"].as_array().unwrap().len()), (3, 6));
    for summary in found["summaries"].as_array().unwrap() {
        assert_eq!(summary["trials"], 3);
        assert!(summary["least"].as_f64() <= summary["median"].as_f64());
    }
    trials_score_as_the_models_do(sandbox);
}

/// What `compare` finds for a trial is what `score` finds for the trial's model: two ways to the same figure.
fn trials_score_as_the_models_do(sandbox: &Sandbox) {
    let file = File::open(sandbox.path("artifacts/latest/significance/trials.parquet")).unwrap();
    let trials: Vec<_> =
        SerializedFileReader::new(file).unwrap().get_row_iter(None).unwrap().map(Result::unwrap).collect();
    assert_eq!(trials.len(), 12);
    let scores = json(&sandbox.read("artifacts/latest/scores/scores.json"));
    for (method, task, model) in [
        ("single", "acceptability", "single@acceptability@1"),
        ("single", "similarity", "single@similarity@1"),
        ("multi", "acceptability", "multi@1"),
        ("multi", "similarity", "multi@1"),
    ] {
        let is_it = |row: &&Row| {
            row.get_string(0).unwrap() == method && row.get_string(1).unwrap() == task && row.get_long(3).unwrap() == 0
        };
        let trial = trials.iter().find(is_it).unwrap();
        let mut of_model = scores["scores"].as_array().unwrap().iter();
        let scored = of_model.find(|score| score["model"] == model && score["task"] == task).unwrap();
        let [metric, value] = [0, 1].map(|at| &scored["metrics"][0][at]);
        assert_eq!(
            (Some(trial.get_string(2).unwrap().as_str()), Some(trial.get_double(4).unwrap())),
            (metric.as_str(), value.as_f64()),
            "{method} of {task}"
        );
    }
}

fn page_is_whole(sandbox: &Sandbox) {
    let said = succeeded(sandbox.bam(&["report"]));
    assert_eq!(said.stderr, "wrote `report.html`\n");
    let page = sandbox.read("report.html");
    for section in
        ["pipeline", "scores", "comparison", "curves", "confusion", "calibration", "student", "cost", "provenance"]
    {
        assert!(page.contains(&format!("<section id=\"{section}\"")), "{section}");
        assert!(page.contains(&format!("href=\"#{section}\"")), "{section}");
    }
    assert!(!page.contains("id=\"missing\""));
    for outside in ["http://", "https://", "src=", "@import", "url(", "<script", "<link"] {
        assert!(!page.contains(outside), "{outside}");
    }
    assert!(page.contains("prefers-color-scheme: dark") && page.contains("name=\"viewport\""));
    tags_are_closed(&page);
    // What explains a table does not scroll away with it.
    assert!(page.contains("<p class=\"quiet\">Differences. "));
    // Charts tell what they show, and headings stand in order.
    assert_eq!(page.matches("role=\"img\"").count(), page.matches("role=\"img\" aria-label=\"").count());
    assert_eq!((page.matches("<h1").count(), page.matches("<h2").count()), (1, 9));

    let report = report(sandbox);
    let pairs = report["disagreements"].as_array().unwrap();
    let example =
        pairs.iter().find_map(|pair| pair["examples"][0]["text"].as_str()).expect("a row that the student gains on");
    assert!(page.contains(&format!(">{example}<")), "`{example}` is shown");
    succeeded(sandbox.bam(&["report", "--no-examples", "-o", "private.html"]));
    assert!(!sandbox.read("private.html").contains(example));
}

fn other_formats(sandbox: &Sandbox) {
    let report = report(sandbox);
    assert_eq!(report["missing"], Value::Array(Vec::new()));
    assert_eq!(report["stages"].as_array().unwrap().len(), 30);
    // The ONNX model's correlations have its checkpoint's interval.
    let lines = report["scores"].as_array().unwrap();
    let onnx = lines.iter().find(|line| line["model"] == "onnx" && line["metric"] == "spearman").unwrap();
    let [low, value, high] =
        [&onnx["interval"]["low"], &onnx["value"], &onnx["interval"]["high"]].map(|at| at.as_f64().unwrap());
    assert!(low <= value && value <= high, "{onnx}");
    for counts in report["answers"].as_array().unwrap().iter().filter_map(|answers| answers["confusion"].as_array()) {
        let all: u64 = counts.iter().flat_map(|row| row.as_array().unwrap()).map(|cell| cell.as_u64().unwrap()).sum();
        assert_eq!(all, 40);
    }
    let pair = &report["disagreements"][0];
    let [ours, theirs, both] =
        ["student_better", "teacher_better", "both_right"].map(|name| pair[name].as_u64().unwrap());
    assert!(ours + theirs + both <= 40, "{pair}");

    let table = printed(sandbox, &["report", "--format", "csv", "-o", "-"]);
    assert!(table.starts_with("model,task,split,metric,value,low,high,interval,rows\n"), "{table}");
    assert_eq!(table.lines().count(), 1 + lines.len());
    let text = succeeded(sandbox.bam(&["report", "--format", "markdown", "-o", "-"])).stdout;
    for heading in ["# judged", "## Scores", "## Methods compared: significance", "## Calibration", "## Cost"] {
        assert!(text.contains(&format!("{heading}\n")), "{heading}: {text}");
    }
    assert!(text.contains(" | p over rows | Holm | U | p over seeds | Holm | Cliff's δ |\n"), "{text}");
    endings_choose_the_format(sandbox, &table);
    succeeded(sandbox.bam(&["report", "--format", "csv", "--tensorboard", "curves"]));
    assert_eq!(sandbox.names_in("curves").len(), 9);
    assert_eq!(sandbox.names_in("curves/multi@1").len(), 1);
    // Curves of before are replaced, whenever that training was; files of others stay.
    for name in ["events.out.tfevents.1000000000.bam", "events.out.tfevents.1000000000.host"] {
        sandbox.write(&format!("curves/multi@1/{name}"), "");
    }
    succeeded(sandbox.bam(&["report", "--format", "csv", "--tensorboard", "curves"]));
    let names = sandbox.names_in("curves/multi@1");
    assert!(names.len() == 2 && names.contains(&"events.out.tfevents.1000000000.host".to_owned()), "{names:?}");
    // Stages of other names read the same artifacts, and the curves are called by the new ones.
    let renamed = sandbox.read("pipeline.yaml").replace("multi@", "many@");
    sandbox.write("renamed.yaml", &renamed);
    succeeded(sandbox.bam(&["report", "renamed.yaml", "--format", "csv", "--tensorboard", "renamed"]));
    assert_eq!(sandbox.names_in("renamed").iter().filter(|name| name.starts_with("many@")).count(), 3);
}

fn endings_choose_the_format(sandbox: &Sandbox, table: &str) {
    for (name, starts) in [
        ("cmp.csv", "model,task,split,"),
        ("cmp.json", "{\n"),
        ("cmp.md", "# judged"),
        ("cmp.HTM", "<!DOCTYPE html>"),
        ("cmp", "<!DOCTYPE html>"),
    ] {
        succeeded(sandbox.bam(&["report", "-o", name]));
        assert!(sandbox.read(name).starts_with(starts), "{name}");
    }
    assert_eq!(sandbox.read("cmp.csv"), table);
    succeeded(sandbox.bam(&["report", "--format", "csv", "-o", "cmp.html"]));
    assert_eq!(sandbox.read("cmp.html"), table, "what is asked for wins");
    let said = sandbox.bam(&["report", "-o", "cmp.pdf"]);
    let hint = "known are .html, .htm, .md, .csv and .json; `--format` chooses for any other";
    let expected = format!("error: the ending of `cmp.pdf` tells no format\n\nhint: {hint}\n");
    assert_eq!((said.code, said.stderr), (2, expected));
    assert!(!sandbox.path("cmp.pdf").exists());
}

fn run_by_its_time(sandbox: &Sandbox) {
    let started = json(&printed(sandbox, &["runs", "--json"]))["started"].as_str().unwrap().to_owned();
    sandbox.edit("pipeline.yaml", "seed: 17\n", "seed: 18\n");
    let report = json(&printed(sandbox, &["report", &started[..16], "--format", "json", "-o", "-"]));
    assert!(report["of"].as_str().unwrap().starts_with("run of "), "{}", report["of"]);
    assert!(report["stages"].as_array().unwrap().iter().all(|stage| stage["state"] == "ran"));
}

/// Every element that is opened is closed, in order.
fn tags_are_closed(page: &str) {
    let body = &page[page.find("<body>").unwrap()..];
    let mut open: Vec<&str> = Vec::new();
    for tag in body.split('<').skip(1).map(|rest| &rest[..rest.find('>').expect("a tag's end")]) {
        let name = tag.trim_start_matches('/').split_whitespace().next().unwrap();
        match tag.strip_prefix('/') {
            Some("html") => {}
            Some(_) => assert_eq!(open.pop(), Some(name)),
            None if name == "br" => {}
            None => open.push(name),
        }
    }
    assert_eq!(open, [""; 0]);
}

#[test]
fn what_is_missing_comes_with_the_line_that_adds_it() {
    let sandbox = Sandbox::with_small_pipeline();
    sandbox.edit(
        "pipeline.yaml",
        "model: teacher@$task, tokens: tokens@$task }",
        "model: teacher@$task, tokens: tokens@$task, splits: [train] }",
    );
    let lines = |sandbox: &Sandbox| {
        let report = report(sandbox);
        let missing = report["missing"].as_array().unwrap().clone();
        let line = |missing: &Value| Some(missing["line"].as_str()?.to_owned());
        (missing[0]["what"].as_str().unwrap().to_owned(), missing.iter().filter_map(line).collect::<Vec<_>>())
    };
    let (first, added) = lines(&sandbox);
    assert_eq!(first, "11 of 11 stages have no artifact: `bam run` makes them");
    assert_eq!(
        added,
        [
            "teacher_dev@task: { predict: { model: teacher@$task, tokens: tokens@$task, splits: [dev] } }",
            "student_dev@task: { predict: { model: student, tokens: tokens@$task, splits: [dev] } }",
        ]
    );

    // The fake worker's predictions are none, which keeps nothing else from being told.
    succeeded(sandbox.bam(&["run"]));
    let (first, _) = lines(&sandbox);
    assert!(first.starts_with("`teacher@sentiment` cannot be read: opening "), "{first}");
    succeeded(sandbox.bam(&["report"]));
    let page = sandbox.read("report.html");
    assert!(page.contains("id=\"scores\"") && page.contains("id=\"missing\"") && !page.contains("id=\"curves\""));
    tags_are_closed(&page);

    // The lines do what they say, and nothing else runs again.
    let stages = sandbox.read("pipeline.yaml") + "  " + &added.join("\n  ") + "\n";
    sandbox.write("pipeline.yaml", &stages);
    let run = succeeded(sandbox.bam(&["run"]));
    assert_eq!(run.stages("RAN").len(), 4, "{}", run.stderr);
    assert_eq!(run.stages("CACHED").len(), 11);
}

/// Models that no student learns from lack as much as those that one does; and teachers may stand behind an ensemble.
#[test]
fn every_training_is_offered_the_line_that_it_lacks() {
    let sandbox = Sandbox::with_fake_worker();
    let lines = |stages: &str| {
        let head = "for: { task: [sentiment, entailment], trial: [1, 2] }\nstages:\n  examples@task: { data: { task: $task, grammar: \
                    { train: 20, dev: 10 } } }\n  tokens@task: { tokenize: { examples: examples@$task, encoder: enc } }\n";
        sandbox.write("pipeline.yaml", &format!("{head}{stages}"));
        let report = report(&sandbox);
        let missing = report["missing"].as_array().unwrap().iter();
        missing.filter_map(|missing| Some(missing["line"].as_str()?.to_owned())).collect::<Vec<_>>()
    };
    let train = "train: { tokens: [tokens@$task], encoder: enc, seed: $trial }";
    let scores = "  scores: { score: { models: [model@*], tokens: [tokens@*] } }\n";
    let of_model =
        "model_dev@task@trial: { predict: { model: model@$task@$trial, tokens: tokens@$task, splits: [dev] } }";
    assert_eq!(lines(&format!("  model@task@trial: {{ {train} }}\n{scores}")), [of_model]);

    let taught = "  says@task@trial: { predict: { model: model@$task@$trial, tokens: tokens@$task, splits: [train] } }\n  \
                  mean@task: { ensemble: { predictions: [says@$task@*] } }\n  \
                  student: { train: { tokens: [tokens@*], teachers: [mean@*], encoder: enc } }\n";
    let of_student = "student_dev@task: { predict: { model: student, tokens: tokens@$task, splits: [dev] } }";
    assert_eq!(lines(&format!("  model@task@trial: {{ {train} }}\n{taught}{scores}")), [of_model, of_student]);
}

/// A student of an ensemble that has answered training rows alone is held against each of its members.
#[test]
fn a_student_stands_beside_the_teachers_behind_an_ensemble() {
    let sandbox = sandbox();
    let taught = "  taught@task:        { predict:  { model: single@$task@1, tokens: tokens@$task } }\n";
    let says = "  says@task@trial:    { predict:  { model: single@$task@$trial, tokens: tokens@$task, splits: [train] } }\n  \
                taught@task:        { ensemble: { predictions: [says@$task@*] } }\n";
    sandbox.edit("pipeline.yaml", taught, says);
    succeeded(sandbox.bam(&["run"]));
    let report = report(&sandbox);
    let pairs = report["disagreements"].as_array().unwrap();
    let teachers = pairs.iter().filter(|pair| pair["student"] == "multi@1" && pair["task"] == "similarity");
    let teachers: Vec<&str> = teachers.map(|pair| pair["teacher"].as_str().unwrap()).collect();
    assert_eq!(teachers, ["single@similarity@1", "single@similarity@2", "single@similarity@3"]);
}

/// A teacher of several tasks has several predictions, and is one teacher.
#[test]
fn a_student_stands_once_beside_a_teacher_of_several_tasks() {
    let sandbox = sandbox();
    let stages = "  says@task:          { predict:  { model: multi@1, tokens: tokens@$task, splits: [train] } }\n  \
                  again:              { train:    { tokens: [tokens@*], teachers: [says@*], encoder: $encoder, layers: 1, epochs: 1 } }\n  \
                  again_dev@task:     { predict:  { model: again, tokens: tokens@$task, splits: [dev] } }\n  onnx:";
    sandbox.edit("pipeline.yaml", "  onnx:", stages);
    succeeded(sandbox.bam(&["run"]));
    let report = report(&sandbox);
    let pairs = report["disagreements"].as_array().unwrap().iter().filter(|pair| pair["student"] == "again");
    let pairs: Vec<_> = pairs.map(|pair| ["teacher", "task"].map(|name| pair[name].as_str().unwrap())).collect();
    assert_eq!(pairs, [["multi@1", "acceptability"], ["multi@1", "similarity"]]);
}

#[test]
fn what_is_neither_a_pipeline_nor_a_run() {
    let sandbox = Sandbox::with_fake_worker();
    let said = sandbox.bam(&["report", "2026-01-01"]);
    assert_eq!(
        (said.code, said.stderr.as_str()),
        (2, "error: no pipeline file and no run `2026-01-01`\n\nhint: `bam runs` lists the times that runs started\n")
    );
}

const JUDGED: &str = "
for: { task: [rte, cola] }
stages:
  examples@task: { data: { task: $task, from: . } }
  tokens@task: { tokenize: { examples: examples@$task, encoder: enc } }
  model: { train: { tokens: [tokens@*], encoder: enc } }
  dev@task: { predict: { model: model, tokens: tokens@$task, splits: [dev] } }
  test@task: { predict: { model: model, tokens: tokens@$task, splits: [test] } }
";

fn mistakes(stage: &str) -> Said {
    let sandbox = Sandbox::with_fake_worker();
    for split in ["train", "dev", "test"] {
        sandbox.write(&format!("RTE/{split}.tsv"), "");
        sandbox.write(&format!("CoLA/{split}.tsv"), "");
    }
    sandbox.write("pipeline.yaml", &format!("{}  {stage}\n", JUDGED.trim_start()));
    sandbox.bam(&["plan"])
}

#[test]
fn mistakes_of_a_comparison() {
    let said = mistakes(
        "versus: { compare: { methods: { a: [dev@*], b: [dev@rte, test@cola], c: [dev@rte] }, baseline: d } }",
    );
    assert_eq!(
        said.stderr,
        "\
error: stage `versus` compares `test@cola`, which predicts no dev rows
  --> pipeline.yaml:8:60
   |
 8 |   versus: { compare: { methods: { a: [dev@*], b: [dev@rte, test@cola], c: [dev@rte] }, baseline: d } }
   |                                                            ^^^^^^^^^

hint: give that `predict` stage `splits: [dev]`

error: stage `versus` has predictions of cola, but none for method `c`
  --> pipeline.yaml:8:75
   |
 8 |   versus: { compare: { methods: { a: [dev@*], b: [dev@rte, test@cola], c: [dev@rte] }, baseline: d } }
   |                                                                           ^

hint: methods are compared on the same tasks

error: `baseline` of stage `versus`: `d` is none of the methods a, b, c
  --> pipeline.yaml:8:98
   |
 8 |   versus: { compare: { methods: { a: [dev@*], b: [dev@rte, test@cola], c: [dev@rte] }, baseline: d } }
   |                                                                                                  ^

3 mistakes in `pipeline.yaml`; nothing was run
"
    );
    assert_eq!(said.code, 2);
}

/// A training counts once, as a trial and in a mean.
#[test]
fn the_same_predictions_twice_are_a_mistake() {
    let said = mistakes("versus: { compare: { methods: { a: [dev@*, dev@rte], b: [dev@*] } } }");
    assert_eq!(
        said.stderr,
        "\
error: stage `versus` has `dev@rte` twice for method `a`
  --> pipeline.yaml:8:46
   |
 8 |   versus: { compare: { methods: { a: [dev@*, dev@rte], b: [dev@*] } } }
   |                                              ^^^^^^^

hint: each trial wants a training of its own, with a seed of its own
"
    );
    let said = mistakes("mean: { ensemble: { predictions: [dev@rte, dev@rte] } }");
    assert_eq!(
        said.stderr,
        "\
error: stage `mean` has `dev@rte` twice
  --> pipeline.yaml:8:46
   |
 8 |   mean: { ensemble: { predictions: [dev@rte, dev@rte] } }
   |                                              ^^^^^^^

hint: an ensemble is of different predictions
"
    );
}

#[test]
fn mistakes_of_a_submission() {
    let said = mistakes("zip: { submit: { predictions: [test@cola, test@cola, dev@rte], filler: [cola, qpp] } }");
    assert_eq!(
        said.stderr,
        "\
error: stage `zip` has no answers for sst2, mrpc, stsb, qqp, mnli, qnli, ax
  --> pipeline.yaml:8:33
   |
 8 |   zip: { submit: { predictions: [test@cola, test@cola, dev@rte], filler: [cola, qpp] } }
   |                                 ^

hint: predict their test sets, or let one constant answer them: `filler: [sst2, mrpc, stsb, qqp, mnli, qnli, ax]`

error: stage `zip` has two predictions of `cola`: `test@cola` and `test@cola`
  --> pipeline.yaml:8:45
   |
 8 |   zip: { submit: { predictions: [test@cola, test@cola, dev@rte], filler: [cola, qpp] } }
   |                                             ^^^^^^^^^

error: stage `zip` reads `dev@rte`, which predicts no test rows
  --> pipeline.yaml:8:56
   |
 8 |   zip: { submit: { predictions: [test@cola, test@cola, dev@rte], filler: [cola, qpp] } }
   |                                                        ^^^^^^^

hint: give that `predict` stage `splits: [test]`

error: `filler` of stage `zip`: no task `qpp` on the leaderboard; did you mean `qqp`?
  --> pipeline.yaml:8:74
   |
 8 |   zip: { submit: { predictions: [test@cola, test@cola, dev@rte], filler: [cola, qpp] } }
   |                                                                          ^

error: stage `zip` has `test@cola` and `filler` for `cola`; one is enough
  --> pipeline.yaml:8:74
   |
 8 |   zip: { submit: { predictions: [test@cola, test@cola, dev@rte], filler: [cola, qpp] } }
   |                                                                          ^

5 mistakes in `pipeline.yaml`; nothing was run
"
    );
    assert_eq!(said.code, 2);
}

//! Pipelines over several axes.

use std::collections::BTreeMap;

use crate::support::Sandbox;
use serde_json::Value;

const PIPELINE: &str = "\
vars: { encoder: enc }
for: { task: [sentiment, entailment], seed: [1, 2] }
stages:
  examples@task: { data: { task: $task, grammar: { train: 20, dev: 10 } } }
  tokens@task: { tokenize: { examples: examples@$task, encoder: $encoder } }
  teacher@task@seed: { train: { tokens: [tokens@$task], encoder: $encoder, seed: $seed } }
  predictions@task@seed: { predict: { model: teacher@$task@$seed, tokens: tokens@$task } }
  student@seed: { train: { tokens: [tokens@*], teachers: [predictions@*@$seed], encoder: $encoder, seed: $seed } }
  alone: { train: { tokens: [tokens@*], encoder: $encoder } }
  scores@task: { score: { models: [teacher@$task@*, student@*], tokens: [tokens@$task] } }
  all: { score: { models: [teacher@*], tokens: [tokens@*] } }
";

/// What each stage reads, by the graph as JSON.
fn reads(sandbox: &Sandbox, extra: &[&str]) -> BTreeMap<String, Vec<String>> {
    let args = [&["graph", "--format", "json"], extra].concat();
    let said = sandbox.bam(&args);
    assert_eq!((said.code, said.stderr.as_str()), (0, ""));
    let graph: Value = serde_json::from_str(&said.stdout).expect("JSON");
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    let mut reads: BTreeMap<String, Vec<String>> =
        graph["stages"].as_array().expect("a list").iter().map(|stage| (text(&stage["stage"]), Vec::new())).collect();
    for edge in graph["edges"].as_array().expect("a list") {
        reads.get_mut(&text(&edge["to"])).expect("a stage").push(text(&edge["from"]));
    }
    reads
}

fn sandbox(pipeline: &str) -> Sandbox {
    let sandbox = Sandbox::with_fake_worker();
    sandbox.write("pipeline.yaml", pipeline);
    sandbox
}

#[test]
fn stages_stand_for_all_values_of_their_axes_and_gathers_for_those_they_leave_open() {
    let reads = reads(&sandbox(PIPELINE), &[]);
    let of = |stage: &str| reads[stage].iter().map(String::as_str).collect::<Vec<_>>();
    // 2 + 2 + 4 + 4 + 2 + 1 + 2 + 1: the product of each one's axes.
    assert_eq!(reads.len(), 18);
    assert_eq!(of("teacher@sentiment@2"), ["tokens@sentiment"]);
    assert_eq!(of("predictions@entailment@1"), ["teacher@entailment@1", "tokens@entailment"]);
    assert_eq!(
        of("student@2"),
        ["tokens@sentiment", "tokens@entailment", "predictions@sentiment@2", "predictions@entailment@2"]
    );
    assert_eq!(
        of("scores@entailment"),
        ["teacher@entailment@1", "teacher@entailment@2", "student@1", "student@2", "tokens@entailment"]
    );
    assert_eq!(
        of("all"),
        [
            "teacher@sentiment@1",
            "teacher@sentiment@2",
            "teacher@entailment@1",
            "teacher@entailment@2",
            "tokens@sentiment",
            "tokens@entailment"
        ]
    );
    // As written: a stage to a line.
    let folded = self::reads(&sandbox(PIPELINE), &["--folded"]);
    assert_eq!(folded.len(), 8);
    assert_eq!(folded["student@seed"], ["tokens@task", "predictions@task@seed"]);
}

#[test]
fn a_value_of_an_axis_is_part_of_a_stage_only_where_it_is_used() {
    let sandbox = sandbox(PIPELINE);
    sandbox.bam(&["run"]);
    sandbox.edit("pipeline.yaml", "seed: [1, 2]", "seed: [1, 2, 3]");
    let said = sandbox.bam(&["run"]);
    assert_eq!(said.stages("CACHED").len(), 2 + 2 + 4 + 4 + 2 + 1);
    let mut ran = said.stages("RAN");
    ran.sort();
    assert_eq!(
        ran,
        [
            "all",
            "predictions@entailment@3",
            "predictions@sentiment@3",
            "scores@entailment",
            "scores@sentiment",
            "student@3",
            "teacher@entailment@3",
            "teacher@sentiment@3"
        ]
    );
    // An axis that no stage uses changes nothing.
    sandbox.edit("pipeline.yaml", "seed: [1, 2, 3]", "seed: [1, 2, 3], size: [4, 5]");
    assert_eq!(sandbox.bam(&["run"]).stages("CACHED").len(), 23);
}

#[test]
fn one_member_may_be_written_out() {
    let pipeline = PIPELINE.replace(
        "  alone:",
        "  alone@sentiment@1: { train: { tokens: [tokens@sentiment], encoder: $encoder } }\n  alone:",
    );
    assert_eq!(reads(&sandbox(&pipeline), &[])["alone@sentiment@1"], ["tokens@sentiment"]);
}

/// Whatever the spelling, in the file and on the command line.
#[test]
fn a_number_in_a_reference_is_found_by_its_value() {
    let sandbox = sandbox(
        "\
for: { task: [sentiment, entailment], rate: [2e-5, 5e-5], seed: [1, 2] }
stages:
  x@task: { data: { task: $task, grammar: { train: 5, dev: 5 } } }
  t@task: { tokenize: { examples: x@$task, encoder: enc } }
  d@task@rate@seed: { train: { tokens: [t@$task], encoder: enc, learning_rate: $rate, seed: $seed } }
  extra@sentiment@5.0e-5@1: { train: { tokens: [t@sentiment], encoder: enc } }
  p: { predict: { model: d@sentiment@2e-5@1, tokens: t@sentiment } }
  all: { score: { models: [d@*@2e-5@*, d@sentiment@5.0e-5@2], tokens: [t@*] } }
",
    );
    let reads = reads(&sandbox, &[]);
    assert_eq!(reads["p"], ["d@sentiment@0.00002@1", "t@sentiment"]);
    assert_eq!(
        reads["all"],
        [
            "d@sentiment@0.00002@1",
            "d@sentiment@0.00002@2",
            "d@entailment@0.00002@1",
            "d@entailment@0.00002@2",
            "d@sentiment@0.00005@2",
            "t@sentiment",
            "t@entailment"
        ]
    );
    assert!(reads.contains_key("extra@sentiment@0.00005@1"), "{reads:?}");
    assert_eq!(sandbox.bam(&["plan", "pipeline.yaml", "d@sentiment@2e-5@1"]).code, 0);
    sandbox.edit("pipeline.yaml", "d@*@2e-5@*", "d@*@3e-5@*");
    let said = sandbox.bam(&["plan"]);
    let told = "`d@*@3e-5@*` in stage `all` gathers no stage";
    let hint = "hint: its stages are named as `d@sentiment@0.00002@1` is\n";
    assert!(said.stderr.contains(told) && said.stderr.ends_with(hint), "{}", said.stderr);
}

#[test]
fn axes_that_are_wrong() {
    let sandbox = sandbox(
        "\
vars: { what: $task }
for: { task: [sentiment], none: [] }
stages:
  x@task@task: { data: { task: $task, grammar: { train: 5, dev: 5 } } }
  y@none: { data: { task: sentiment, grammar: { train: $none, dev: 5 } } }
  z: { data: { task: $task, grammar: { train: 5, dev: 5 } } }
",
    );
    assert_eq!(
        sandbox.bam(&["plan"]).stderr,
        "\
error: unknown variable `$task` in `vars.what`
  --> pipeline.yaml:1:15
   |
 1 | vars: { what: $task }
   |               ^^^^^

hint: `$task` is an axis: its values are known in stages alone

error: axis `none` has no values
  --> pipeline.yaml:2:27
   |
 2 | for: { task: [sentiment], none: [] }
   |                           ^^^^

error: stage `x@task@task` has the axis `task` twice
  --> pipeline.yaml:4:3
   |
 4 |   x@task@task: { data: { task: $task, grammar: { train: 5, dev: 5 } } }
   |   ^^^^^^^^^^^

error: unknown variable `$task` in stage `z`
  --> pipeline.yaml:6:22
   |
 6 |   z: { data: { task: $task, grammar: { train: 5, dev: 5 } } }
   |                      ^^^^^

hint: name the stage `z@task`

4 mistakes in `pipeline.yaml`; nothing was run
"
    );
}

#[test]
fn a_part_of_a_family_is_a_target() {
    let sandbox = Sandbox::with_fake_worker();
    sandbox.write(
        "pipeline.yaml",
        "\
for: { task: [sentiment, entailment], seed: [1, 2] }
stages:
  x@task@seed: { data: { task: $task, grammar: { train: 5, dev: 5, seed: $seed } } }
",
    );
    let planned = |target: &str| -> Vec<String> {
        let said = sandbox.bam(&["plan", "--json", "pipeline.yaml", target]).stdout;
        let name = |line: &str| serde_json::from_str::<Value>(line).unwrap()["stage"].as_str().map(ToOwned::to_owned);
        said.lines().filter_map(name).collect()
    };
    assert_eq!(planned("x").len(), 4);
    assert_eq!(planned("x@sentiment"), ["x@sentiment@1", "x@sentiment@2"]);
    assert_eq!(planned("x@*@2"), ["x@sentiment@2", "x@entailment@2"]);
    assert_eq!(planned("x@entailment@1"), ["x@entailment@1"]);
    let wrong = sandbox.bam(&["plan", "pipeline.yaml", "x@sentimnt"]);
    assert_eq!(wrong.code, 2);
    assert!(wrong.stderr.starts_with("error: `pipeline.yaml` has no stage `x@sentimnt`"), "{}", wrong.stderr);
}

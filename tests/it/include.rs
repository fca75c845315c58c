//! Pipeline files that take parts of other files.

use crate::support::Sandbox;

const COMMON: &str = "\
vars: { encoder: enc, max_tokens: 128, rows: { train: 20, dev: $dev }, dev: 10 }
resources: { train: { threads: 1 } }
";

const STAGES: &str = "\
include: common.yaml
stages:
  examples@task: { data: { task: $task, grammar: $rows } }
  tokens@task: { tokenize: { examples: examples@$task, encoder: $encoder, max_tokens: $max_tokens } }
";

const MAIN: &str = "\
include: [parts/stages.yaml, parts/common.yaml]
name: small
seed: 17
vars: { dev: 11 }
for: { task: [sentiment, entailment] }
stages:
  student: { train: { tokens: [tokens@*], encoder: $encoder } }
";

fn sandbox() -> Sandbox {
    let sandbox = Sandbox::with_fake_worker();
    sandbox.write("parts/common.yaml", COMMON);
    sandbox.write("parts/stages.yaml", STAGES);
    sandbox.write("pipeline.yaml", MAIN);
    sandbox
}

/// What `bam plan` says of mistakes in a sandbox's files.
fn mistakes(sandbox: &Sandbox) -> String {
    let said = sandbox.bam(&["plan"]);
    assert_eq!((said.code, said.stdout.as_str()), (2, ""));
    said.stderr
}

#[test]
fn files_are_read_as_one_and_the_including_one_wins() {
    let sandbox = sandbox();
    let first = sandbox.bam(&["run"]);
    assert_eq!(
        first.stages("RAN"),
        ["examples@sentiment", "examples@entailment", "tokens@sentiment", "tokens@entailment", "student"]
    );
    let params = &sandbox.manifest("examples@sentiment")["key"]["params"];
    assert_eq!((&params["grammar"]["dev"], &params["grammar"]["seed"]), (&11.into(), &17.into()));

    // The same in one file is the same computation.
    sandbox.write(
        "one.yaml",
        "\
name: small
seed: 17
vars: { encoder: enc }
for: { task: [sentiment, entailment] }
stages:
  student: { train: { tokens: [tokens@*], encoder: $encoder } }
  tokens@task: { tokenize: { examples: examples@$task, encoder: $encoder } }
  examples@task: { data: { task: $task, grammar: { train: 20, dev: 11 } } }
",
    );
    assert_eq!(sandbox.bam(&["run", "one.yaml"]).stages("CACHED").len(), 5);
    sandbox.edit(
        "parts/stages.yaml",
        "include: common.yaml\n",
        "# Comments rerun nothing.\ninclude:   common.yaml\n\n",
    );
    assert_eq!(sandbox.bam(&["run"]).stages("CACHED").len(), 5);
}

#[test]
fn a_change_is_placed_in_the_file_that_it_stands_in() {
    let sandbox = sandbox();
    sandbox.bam(&["run"]);
    sandbox.edit("parts/common.yaml", "max_tokens: 128", "max_tokens: 96");
    let said = sandbox.bam(&["plan"]);
    assert_eq!(
        said.stdout,
        "\
STAGE                DECISION  LAST TIME  WHY
examples@sentiment   cached         <secs>
examples@entailment  cached         <secs>
tokens@sentiment     run            <secs>  param max_tokens: 128 → 96 (parts/common.yaml:1:35)
tokens@entailment    run            <secs>  param max_tokens: 128 → 96 (parts/common.yaml:1:35)
student              may run        <secs>  waits on tokens@sentiment and 1 more; cached if the bytes stay the same

5 stages: 2 cached, 2 to run, 1 may run, about <secs>, by runs of other settings
"
    );
    let said = sandbox.bam(&["plan", "--set", "vars.max_tokens=64"]);
    assert!(said.stdout.contains("param max_tokens: 128 → 64 (--set vars.max_tokens=64)"), "{}", said.stdout);
}

#[test]
fn mistakes_of_all_files_are_told_at_once_each_in_its_place() {
    let sandbox = sandbox();
    sandbox.edit("parts/stages.yaml", "max_tokens: $max_tokens", "max_token: 9");
    sandbox.edit("parts/common.yaml", "threads: 1", "threads: 0, time: 30s");
    sandbox.edit("pipeline.yaml", "[tokens@*]", "[token@*]");
    assert_eq!(
        mistakes(&sandbox),
        "\
error: `token@*` in stage `student` gathers no stage
  --> pipeline.yaml:7:32
   |
 7 |   student: { train: { tokens: [token@*], encoder: $encoder } }
   |                                ^^^^^^^

hint: did you mean `tokens@*`?

error: unknown parameter `max_token` in stage `tokens@task`
  --> parts/stages.yaml:4:75
   |
 4 |   tokens@task: { tokenize: { examples: examples@$task, encoder: $encoder, max_token: 9 } }
   |                                                                           ^^^^^^^^^

hint: did you mean `max_tokens`?

error: a stage needs at least 1 thread
  --> parts/common.yaml:2:32
   |
 2 | resources: { train: { threads: 0, time: <secs> } }
   |                                ^

error: a job needs at least 1 minute
  --> parts/common.yaml:2:41
   |
 2 | resources: { train: { threads: 0, time: <secs> } }
   |                                         ^^^

4 mistakes in `pipeline.yaml`; nothing was run
"
    );
}

#[test]
fn a_stage_or_a_task_is_defined_once() {
    let sandbox = sandbox();
    sandbox.edit("pipeline.yaml", "stages:\n", "stages:\n  tokens@task: { data: {} }\n");
    assert_eq!(
        mistakes(&sandbox),
        "\
error: `stages.tokens@task` is given twice; first at parts/stages.yaml:4:3
  --> pipeline.yaml:7:3
   |
 7 |   tokens@task: { data: {} }
   |   ^^^^^^^^^^^
"
    );
    // Which one is meant isn't known: its own mistakes are told, and nothing of who uses it.
    let sandbox = self::sandbox();
    sandbox.edit("parts/common.yaml", "vars:", "tasks: { mood: 1, mood: 2 }\nvars:");
    assert_eq!(
        mistakes(&sandbox),
        "\
error: `tasks.mood` is given twice; first at parts/common.yaml:1:10
  --> parts/common.yaml:1:19
   |
 1 | tasks: { mood: 1, mood: 2 }
   |                   ^^^^

error: task `mood` is the number `2`, not a mapping
  --> parts/common.yaml:1:25
   |
 1 | tasks: { mood: 1, mood: 2 }
   |                         ^

2 mistakes in `pipeline.yaml`; nothing was run
"
    );
}

#[test]
fn what_an_included_file_cannot_say() {
    let sandbox = sandbox();
    sandbox.edit("parts/common.yaml", "vars:", "seed: 3\nfor: { x: [a] }\nvars:");
    assert_eq!(
        mistakes(&sandbox),
        "\
error: `seed` belongs to the pipeline file, not to one it includes
  --> parts/common.yaml:1:1
   |
 1 | seed: 3
   | ^^^^

hint: write it in `pipeline.yaml`; included stages take their axes from there

error: `for` belongs to the pipeline file, not to one it includes
  --> parts/common.yaml:2:1
   |
 2 | for: { x: [a] }
   | ^^^

hint: write it in `pipeline.yaml`; included stages take their axes from there

2 mistakes in `pipeline.yaml`; nothing was run
"
    );
}

#[test]
fn missing_files_and_circles() {
    let sandbox = sandbox();
    sandbox.edit("parts/stages.yaml", "common.yaml", "[../parts/comon.yaml, ../pipeline.yaml, 5]");
    assert_eq!(
        mistakes(&sandbox),
        "\
error: included file `parts/../parts/comon.yaml` does not exist
  --> parts/stages.yaml:1:11
   |
 1 | include: [../parts/comon.yaml, ../pipeline.yaml, 5]
   |           ^^^^^^^^^^^^^^^^^^^

hint: the path is relative to the file that includes it

error: files include each other: pipeline.yaml → stages.yaml → pipeline.yaml
  --> parts/stages.yaml:1:32
   |
 1 | include: [../parts/comon.yaml, ../pipeline.yaml, 5]
   |                                ^^^^^^^^^^^^^^^^

error: `include` is not a file's path, or a list of them
  --> parts/stages.yaml:1:50
   |
 1 | include: [../parts/comon.yaml, ../pipeline.yaml, 5]
   |                                                  ^

3 mistakes in `pipeline.yaml`; nothing was run
"
    );
}

#[test]
fn an_included_file_that_is_no_yaml() {
    let sandbox = sandbox();
    sandbox.write("parts/common.yaml", "vars:\n  é: [1, 2\n  b: 3\n");
    assert_eq!(
        mistakes(&sandbox),
        "\
error: not YAML: did not find expected ',' or ']'
  --> parts/common.yaml:3:4
   |
 3 |   b: 3
   |    ^
"
    );
}

#[test]
fn variables_use_each_other_in_any_order_but_not_in_a_circle() {
    let sandbox = sandbox();
    sandbox.edit("pipeline.yaml", "{ dev: 11 }", "{ dev: $more, more: $rows }");
    assert_eq!(
        mistakes(&sandbox),
        "\
error: variables use each other: rows → dev → more → rows
  --> parts/common.yaml:1:46
   |
 1 | vars: { encoder: enc, max_tokens: 128, rows: { train: 20, dev: $dev }, dev: 10 }
   |                                              ^
"
    );
}

//! Bad pipeline files: every mistake is told at once, with its place, before anything runs.

use crate::support::{Said, Sandbox};

/// What `bam run` says of a pipeline file; nothing must have been made.
pub(crate) fn say(pipeline: &str) -> Said {
    let sandbox = Sandbox::with_fake_worker();
    sandbox.write("pipeline.yaml", pipeline);
    let said = sandbox.bam(&["run"]);
    assert_eq!(sandbox.names_in("artifacts"), [""; 0], "nothing was made");
    assert_eq!((said.code, said.stdout.as_str()), (2, ""));
    said
}

#[test]
fn an_unknown_parameter() {
    let said = say("\
stages:
  x: { data: { task: rte, grammar: { train: 5, dev: 5 }, limit: 3 } }
");
    assert_eq!(
        said.stderr,
        "error: `task` of stage `x`: the grammar writes acceptability, sentiment, paraphrase, similarity, entailment; not `rte`
  --> pipeline.yaml:2:22
   |
 2 |   x: { data: { task: rte, grammar: { train: 5, dev: 5 }, limit: 3 } }
   |                      ^^^
"
    );
    let said = say("\
stages:
  x:
    data:
      task: sentiment
      grammar: { train: 5, dev: 5, trian: 6 }
      limt: 3
");
    assert_eq!(
        said.stderr,
        "error: unknown parameter `trian` in stage `x`
  --> pipeline.yaml:5:36
   |
 5 |       grammar: { train: 5, dev: 5, trian: 6 }
   |                                    ^^^^^

hint: did you mean `train`?

error: unknown parameter `limt` in stage `x`
  --> pipeline.yaml:6:7
   |
 6 |       limt: 3
   |       ^^^^

hint: did you mean `limit`?

2 mistakes in `pipeline.yaml`; nothing was run
"
    );
}

#[test]
fn a_missing_stage_a_wrong_kind_and_a_wrong_type_at_once() {
    let said = say("\
vars: { n: 5 }
for: { task: [sentiment, entailment] }
stages:
  x@task: { data: { task: $task, grammar: { train: $n, dev: 5 } } }
  tokens@task: { tokenize: { examples: y@$task, encoder: enc } }
  model: { train: { tokens: [x@*], encoder: enc, epochs: three, anneal: { fixed: 2.0 } } }
  onnx: { export: {} }
");
    assert_eq!(
        said.stderr,
        "error: no stage `y@sentiment`, which stage `tokens@sentiment` reads
  --> pipeline.yaml:5:40
   |
 5 |   tokens@task: { tokenize: { examples: y@$task, encoder: enc } }
   |                                        ^^^^^^^

hint: did you mean `x@sentiment`?

error: `tokens` of stage `model` reads tokens, but stage `x@sentiment` makes examples
  --> pipeline.yaml:6:30
   |
 6 |   model: { train: { tokens: [x@*], encoder: enc, epochs: three, anneal: { fixed: 2.0 } } }
   |                              ^^^

hint: did you mean `tokens@sentiment`?

error: `tokens` of stage `model` reads tokens, but stage `x@entailment` makes examples
  --> pipeline.yaml:6:30
   |
 6 |   model: { train: { tokens: [x@*], encoder: enc, epochs: three, anneal: { fixed: 2.0 } } }
   |                              ^^^

hint: did you mean `tokens@entailment`?

error: `epochs` in stage `model` is the text \"three\", not a number
  --> pipeline.yaml:6:58
   |
 6 |   model: { train: { tokens: [x@*], encoder: enc, epochs: three, anneal: { fixed: 2.0 } } }
   |                                                          ^^^^^

error: `anneal` of stage `model`: a fixed share of the gold label lies in 0 to 1
  --> pipeline.yaml:6:73
   |
 6 |   model: { train: { tokens: [x@*], encoder: enc, epochs: three, anneal: { fixed: 2.0 } } }
   |                                                                         ^

error: missing parameter `model` in stage `onnx`
  --> pipeline.yaml:7:19
   |
 7 |   onnx: { export: {} }
   |                   ^

6 mistakes in `pipeline.yaml`; nothing was run
"
    );
}

#[test]
fn a_cycle() {
    let said = say("\
stages:
  x: { data: { task: sentiment, grammar: { train: 5, dev: 5 } } }
  t: { tokenize: { examples: x, encoder: enc } }
  a: { train: { tokens: [t], teachers: [p], encoder: enc } }
  p: { predict: { model: a, tokens: t } }
");
    assert_eq!(
        said.stderr,
        "error: stages wait for each other: a → p → a
  --> pipeline.yaml:4:41
   |
 4 |   a: { train: { tokens: [t], teachers: [p], encoder: enc } }
   |                                         ^

hint: a stage cannot read what is made from its own output
"
    );
}

#[test]
fn missing_files() {
    let said = say("\
vars: { glue: /no/such/folder }
stages:
  x: { data: { task: rte, from: $glue } }
  t: { tokenize: { examples: x, encoder: nowhere } }
");
    assert_eq!(
        said.stderr,
        "error: data folder `/no/such/folder` does not exist
  --> pipeline.yaml:1:15
   |
 1 | vars: { glue: /no/such/folder }
   |               ^^^^^^^^^^^^^^^

hint: `from:` names the data folder; `--set vars.glue=DIR` names another

error: encoder folder `nowhere` does not exist
  --> pipeline.yaml:4:42
   |
 4 |   t: { tokenize: { examples: x, encoder: nowhere } }
   |                                          ^^^^^^^

hint: `make setup` brings the default encoder; `--set stages.t.tokenize.encoder=DIR` names another

2 mistakes in `pipeline.yaml`; nothing was run
"
    );
}

#[test]
fn tasks_axes_and_variables() {
    let said = say("\
sed: 3
for: { task: [sentiment], seed: [] }
tasks:
  mood: { files: { train: a.tsv, dev: b.tsv }, columns: { text: 1 }, labels: [good], metrics: [acuracy] }
stages:
  x@tsk: { data: { task: sentimnt, grammar: { train: 5, dev: 5 } } }
  y: { data: { task: sentimnt, grammar: { train: $rows, dev: 5 } } }
  z: { dta: {} }
");
    assert_eq!(
        said.stderr,
        "error: unknown entry `sed`
  --> pipeline.yaml:1:1
   |
 1 | sed: 3
   | ^^^

hint: did you mean `seed`?

error: axis `seed` has no values
  --> pipeline.yaml:2:27
   |
 2 | for: { task: [sentiment], seed: [] }
   |                           ^^^^

error: `metrics` in task `mood` cannot be `acuracy`
  --> pipeline.yaml:4:96
   |
 4 |   mood: { files: { train: a.tsv, dev: b.tsv }, columns: { text: 1 }, labels: [good], metrics: [acuracy] }
   |                                                                                                ^^^^^^^

hint: did you mean `accuracy`?

error: axis `tsk` of stage `x@tsk` has no values
  --> pipeline.yaml:6:3
   |
 6 |   x@tsk: { data: { task: sentimnt, grammar: { train: 5, dev: 5 } } }
   |   ^^^^^

hint: did you mean `task`?

error: no task `sentimnt`, which stage `y` reads
  --> pipeline.yaml:7:22
   |
 7 |   y: { data: { task: sentimnt, grammar: { train: $rows, dev: 5 } } }
   |                      ^^^^^^^^

hint: did you mean `sentiment`?

error: unknown variable `$rows` in stage `y`
  --> pipeline.yaml:7:50
   |
 7 |   y: { data: { task: sentimnt, grammar: { train: $rows, dev: 5 } } }
   |                                                  ^^^^^

error: unknown kind `dta` of stage `z`
  --> pipeline.yaml:8:8
   |
 8 |   z: { dta: {} }
   |        ^^^

hint: did you mean `data`?

7 mistakes in `pipeline.yaml`; nothing was run
"
    );
}

#[test]
fn what_follows_from_a_mistake_is_not_told() {
    let said = say("\
for: { task: rte }
stages:
  x@task: { data: { task: $task, grammar: { train: 5, dev: 5 } } }
  t@task: { tokenize: { examples: x@$task, encoder: enc } }
  m: { train: { tokens: [t@*], encoder: enc } }
  p: { predict: { model: m, tokens: t@rte } }
");
    assert_eq!(
        said.stderr,
        "error: axis `task` is not a list of values
  --> pipeline.yaml:1:8
   |
 1 | for: { task: rte }
   |        ^^^^

hint: write `task: [a, b]`
"
    );
}

#[test]
fn two_teachers_of_one_task() {
    let said = say("\
stages:
  x: { data: { task: sentiment, grammar: { train: 5, dev: 5 } } }
  t: { tokenize: { examples: x, encoder: enc } }
  a: { train: { tokens: [t], encoder: enc } }
  p: { predict: { model: a, tokens: t } }
  q: { predict: { model: a, tokens: t, precision: bf16 } }
  s: { train: { tokens: [t], teachers: [p, q], encoder: enc } }
");
    assert_eq!(
        said.stderr,
        "error: stage `s` has two teachers for task `sentiment`: `p` and `q`
  --> pipeline.yaml:7:44
   |
 7 |   s: { train: { tokens: [t], teachers: [p, q], encoder: enc } }
   |                                            ^

hint: an `ensemble` stage makes one of them
"
    );
}

#[test]
fn overrides_that_name_nothing() {
    let sandbox = Sandbox::with_fake_worker();
    sandbox.write(
        "pipeline.yaml",
        "vars: { rows: 5 }\nstages:\n  x: { data: { task: sentiment, grammar: { train: $rows, dev: 5 } } }\n",
    );
    let said = sandbox.bam(&["plan", "--set", "vars.row=6", "--set", "stages.x.data.limt=2"]);
    assert_eq!(
        (said.code, said.stderr.as_str()),
        (
            2,
            "error: `--set vars.row=6`: `pipeline.yaml` has no `vars.row`

hint: did you mean `vars.rows`?

error: unknown parameter `limt` in stage `x`
  --> --set stages.x.data.limt=2

hint: did you mean `limit`?

2 mistakes in `pipeline.yaml`; nothing was run
"
        )
    );
    let good = sandbox.bam(&["plan", "--set", "vars.rows=6", "--set", "stages.x.data.limit=2"]);
    assert_eq!((good.code, good.stderr.as_str()), (0, ""));
}

#[test]
fn what_is_no_yaml_or_no_file() {
    assert_eq!(
        say("stages:\n  a: [1, 2\n  b: 3\n").stderr,
        "error: not YAML: did not find expected ',' or ']'
  --> pipeline.yaml:3:4
   |
 3 |   b: 3
   |    ^
"
    );
    let sandbox = Sandbox::with_fake_worker();
    let said = sandbox.bam(&["run", "none.yaml"]);
    let expected = "error: pipeline file `none.yaml` does not exist

hint: name another with `bam run FILE`, or change to its folder with `-C DIR`; `bam init` writes one
";
    assert_eq!((said.code, said.stderr.as_str()), (2, expected));
}

#[test]
fn a_variable_of_the_environment_that_is_not_set() {
    let said = say("\
vars: { rows: \"${env:BAM_TEST_ROWS}\" }
stages:
  x: { data: { task: sentiment, grammar: { train: $rows, dev: 5 } } }
");
    assert_eq!(
        said.stderr,
        "error: the environment variable `BAM_TEST_ROWS`, used in `vars.rows`, is not set
  --> pipeline.yaml:1:15
   |
 1 | vars: { rows: \"${env:BAM_TEST_ROWS}\" }
   |               ^^^^^^^^^^^^^^^^^^^^^^^

hint: set it, or write a default: `${env:BAM_TEST_ROWS:-value}`
"
    );
}

/// The mistakes' own lines, with their places.
pub(crate) fn told(said: &Said) -> Vec<String> {
    let lines: Vec<&str> = said.stderr.lines().collect();
    let mistakes = lines.iter().enumerate().filter_map(|(at, line)| Some((at, line.strip_prefix("error: ")?)));
    mistakes
        .map(|(at, message)| format!("{} {message}", lines[at + 1].trim_start_matches("  --> pipeline.yaml:")))
        .collect()
}

#[test]
fn settings_of_a_training() {
    let said = say("\
stages:
  x: { data: { task: sentiment, grammar: { train: 5, dev: 5 } } }
  t: { tokenize: { examples: x, encoder: enc } }
  a:
    train:
      tokens: [t]
      encoder: enc
      heads: keep
      layers: [2, 1]
      patience: 0
      temperature: 0
      anneal: { hold: { share: 0.5, until: 1 } }
      anneal_of: { sentiment: { fixed: 1.5 }, sentimnt: linear }
      fold: { of: 5, leave_out: 5 }
  b: { train: { tokens: [t], encoder: enc, init: a } }
  c: { train: { tokens: [t], unfreeze: slowly, schedule: linear, layers: some } }
  p: { predict: { model: a, tokens: t, fold: { of: 1, leave_out: 0 }, splits: [train, dev] } }
  e: { ensemble: { predictions: [], average: logit } }
");
    assert_eq!(
        told(&said),
        [
            "8:14 `heads` of stage `a`: `keep` keeps those of `init`, which isn't given",
            "9:15 `layers` of stage `a`: layer numbers ascend, each once",
            "10:17 `patience` of stage `a`: is a number of epochs, at least 1",
            "11:20 `temperature` of stage `a`: divides the logits, so it must be above 0",
            "12:15 `anneal` of stage `a`: `until` is a progress of the training, at least 0 and below 1",
            "13:18 `anneal_of` of stage `a`: `sentiment`: a fixed share of the gold label lies in 0 to 1",
            "13:47 `anneal_of` of stage `a` names the task `sentimnt`, which it doesn't train",
            "14:13 `fold` of stage `a`: `leave_out` is 5, but 5 folds are 0 to 4",
            "15:50 `init` of stage `b`: give either `encoder` or `init`, not both",
            "16:15 `encoder` of stage `c`: give `encoder` (a folder) or `init` (a `train` stage)",
            "16:40 `unfreeze` in stage `c` cannot be `slowly`",
            "16:74 `layers` in stage `c` is the text \"some\", not a number of layers, or a list of layer numbers from 0",
            "17:46 `fold` of stage `p`: `of` needs at least 2 folds",
            "17:79 `splits` of stage `p`: a fold is a part of the `train` rows alone",
            "18:33 `predictions` of stage `e`: needs at least one table",
            "18:46 `average` in stage `e` cannot be `logit`",
        ]
    );
    assert!(said.stderr.contains("hint: did you mean `sentiment`?"), "{}", said.stderr);
}

#[test]
fn entries_beside_a_kind() {
    let said = say("\
stages:
  x: { data: { task: sentiment, grammar: { train: 5, dev: 5 } }, resorces: { threads: 1 } }
  y: { data: { task: sentiment, grammar: { train: 5, dev: 5 } }, needs: [x] }
  z: { data: { task: sentiment, grammar: { train: 5, dev: 5 } }, tokenize: { examples: x, encoder: enc } }
");
    assert_eq!(
        told(&said),
        [
            "2:66 unknown entry `resorces` of stage `x`",
            "3:66 unknown entry `needs` of stage `y`",
            "4:3 stage `z` has 2 kinds: `data`, `tokenize`",
        ]
    );
    assert!(said.stderr.contains("hint: did you mean `resources`?"), "{}", said.stderr);
}

#[test]
fn names_that_no_file_can_have() {
    let stage = "{ data: { task: sentiment, grammar: { train: 5, dev: 5 } } }";
    let long = "n".repeat(201);
    let said = say(&format!(
        "for: {{ of: [a/b], to: [\"y\\tz\"] }}\nstages:\n  x@of: {stage}\n  y@to: {stage}\n  {long}: {stage}\n  we ird: {stage}\n"
    ));
    assert_eq!(
        told(&said),
        [
            "3:3 stage `x@a/b` has a `/` in its name, from the value of an axis".to_owned(),
            "4:3 stage `y@y\\tz` has a control character in its name".to_owned(),
            format!("5:3 stage `{long}` has a name of 201 bytes; the most are 200"),
            "6:3 `we ird` is no name for a stage".to_owned(),
        ]
    );
}

#[test]
fn values_of_axes_that_make_no_names() {
    let said = say("\
for:
  k: [a, a]
  o: [~, { b: 1 }, [c], \"\", 1, \"1\"]
stages:
  x@k: { data: { task: sentiment, grammar: { train: $k, dev: $nowhere } } }
  y@o: { data: { task: $o, grammar: { train: 5 } }, tokenize: { encoder: \"${env:BAM_NONE}\" } }
");
    assert_eq!(
        told(&said),
        [
            "2:10 axis `k` has `a` twice",
            "3:7 axis `o` has the value null",
            "3:10 axis `o` has the value {\"b\":1}",
            "3:20 axis `o` has the value [\"c\"]",
            "3:25 axis `o` has the value \"\"",
            "3:32 axis `o` has `1` twice",
            "5:53 `train` in stage `x@k` is the text \"a\", not a whole number from 0",
            "5:62 unknown variable `$nowhere` in stage `x@k`",
            "6:3 stage `y@o` has 2 kinds: `data`, `tokenize`",
            "6:74 the environment variable `BAM_NONE`, used in stage `y@o`, is not set",
        ]
    );
}

#[test]
fn what_the_libraries_say_is_told_in_plain_words() {
    let said = say("\
resources: { data: { memory: lots }, exec: { memory: -3 } }
stages:
  x: { exec: { run: python3, writes: files } }
  y: { exec: { run: [sh], writes: files, params: { a: 1 }, params: { b: 2 } } }
");
    assert_eq!(
        told(&said),
        [
            "1:30 `memory` in `resources.data` is the text \"lots\", not a size such as 2GiB",
            "1:54 `memory` in `resources.exec` is the number `-3`, not a size such as 2GiB",
            "3:21 `run` in stage `x` is the text \"python3\", not a list",
            "4:60 `stages.y.exec.params` is given twice; first at pipeline.yaml:4:42",
        ]
    );
    assert!(said.stderr.contains("hint: write `run: [python3]`"), "{}", said.stderr);
    let tab = say("stages:\n\tx: 1\n");
    assert!(tab.stderr.contains("hint: a tab stands there: YAML indents by spaces alone"), "{}", tab.stderr);
    let sandbox = Sandbox::with_fake_worker();
    for (arguments, told) in [
        (["run", "--memory", "lots"], "'lots' for '--memory <SIZE>': give a size, such as `8GiB` or `500MB`"),
        (["gc", "--keep", "lots"], "'lots' for '--keep <SIZE>': give a size, such as `8GiB` or `500MB`"),
        (
            ["gc", "--older-than", "yesterday"],
            "'yesterday' for '--older-than <TIME>': give a length of time, such as `30d` or `12h`",
        ),
    ] {
        let said = sandbox.bam(&arguments);
        assert!(said.code == 2 && said.stderr.contains(told), "{}", said.stderr);
    }
}

#[test]
fn data_of_a_recipe_that_is_not_there_and_a_value_that_is_no_number() {
    let sandbox = Sandbox::with_fake_worker();
    sandbox.write("pipeline.yaml", "vars: { n: 1 }\nstages:\n  x: { data: { task: rte, from: .deps/data/far } }\n");
    let said = sandbox.bam(&["plan"]).stderr;
    assert!(said.contains("\nhint: `make data` fetches the recipes' data; `from:` names the folder; "), "{said}");
    let said = sandbox.bam(&["plan", "--set", "vars.n=.nan"]).stderr;
    assert!(said.starts_with("error: `--set vars.n=.nan`: `.nan` is not a finite number\n"), "{said}");
}

#[test]
fn weights_that_do_not_fit_the_config_are_told_before_anything_runs() {
    let sandbox = Sandbox::with_fake_worker();
    let tiny = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tiny-bert");
    for name in ["config.json", "model.safetensors", "tokenizer_config.json", "vocab.txt"] {
        std::fs::copy(tiny.join(name), sandbox.path(&format!("enc/{name}"))).unwrap();
    }
    std::fs::remove_file(sandbox.path("enc/tokenizer.json")).unwrap();
    sandbox.write(
        "pipeline.yaml",
        "\
stages:
  z: { data: { task: sentiment, grammar: { train: 5, dev: 5 } } }
  t: { tokenize: { examples: z, encoder: enc, max_tokens: 32 } }
  m: { train: { tokens: [t], encoder: enc } }
",
    );
    assert_eq!(sandbox.bam(&["plan"]).code, 0);
    let weights = std::fs::read(sandbox.path("enc/model.safetensors")).unwrap();
    let end = weights.len();
    let cut = [
        (end - 1, format!("is cut off: it has {} of {end} bytes", end - 1)),
        (100, "is cut off: it has 100 bytes, and not all of its header".to_owned()),
    ];
    for (bytes, what) in cut {
        std::fs::write(sandbox.path("enc/model.safetensors"), &weights[..bytes]).unwrap();
        let expected = format!("4:39 `model.safetensors` of the encoder in `enc` {what}");
        assert_eq!(told(&sandbox.bam(&["run"])), [expected]);
    }
    sandbox.write("enc/model.safetensors", "version https://git-lfs.github.com/spec/v1\n");
    let expected = "4:39 `model.safetensors` of the encoder in `enc` is no safetensors file: it doesn't begin as one";
    assert_eq!(told(&sandbox.bam(&["run"])), [expected]);
    std::fs::write(sandbox.path("enc/model.safetensors"), &weights).unwrap();
    sandbox.edit("enc/config.json", "\"hidden_size\": 32", "\"hidden_size\": 64");
    let expected = "4:39 `model.safetensors` of the encoder in `enc` has word vectors of shape [406, 32], \
        but config.json tells of [406, 64]";
    assert_eq!(told(&sandbox.bam(&["run"])), [expected]);
    assert_eq!(sandbox.names_in("artifacts/store"), [""; 0]);
}

#[test]
fn files_that_are_named_must_be_there_and_be_what_they_are_called() {
    let sandbox = Sandbox::with_fake_worker();
    sandbox.write("a.tsv", "fine\tgood\n");
    sandbox.write("enc/config.json", "{\"hidden_size\": 1");
    sandbox.write(
        "pipeline.yaml",
        "\
tasks:
  mood: { files: { train: a.tsv, dev: a.tsv, test: b.tsv }, columns: { text: 1, label: 2 }, labels: [bad, good], metrics: [accuracy] }
  odd: { files: { train: a.tsv }, columns: { text: 1, label: 2 }, labels: [true, good], metrics: [accuracy] }
  bert.cls: { files: { train: a.tsv }, columns: { text: 1, label: 2 }, labels: [bad, good], metrics: [accuracy] }
stages:
  x: { data: { task: mood, from: . } }
  y: { data: { task: odd, from: . } }
  z: { data: { task: sentiment, grammar: { train: 5, dev: 5 } } }
  t: { tokenize: { examples: z, encoder: enc } }
  m: { train: { tokens: [t], encoder: enc } }
",
    );
    assert_eq!(
        told(&sandbox.bam(&["plan"])),
        [
            "3:76 `labels` in task `odd` is `true`, not text or a whole number",
            "4:3 task `bert.cls`: so the names of weights in the exported graph begin; call the task otherwise",
            "6:34 test file `./b.tsv` does not exist, plain or gzipped",
            "10:39 `config.json` of the encoder in `enc` is no JSON: EOF while parsing an object at line 1 column 17",
        ]
    );
}

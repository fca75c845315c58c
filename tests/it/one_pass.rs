//! What keeps a value or a file from being read is told with all other mistakes, and nothing of what may follow from it.

use crate::support::Sandbox;

fn mistakes(sandbox: &Sandbox, args: &[&str]) -> String {
    let said = sandbox.bam(&[&["plan"], args].concat());
    assert_eq!((said.code, said.stdout.as_str()), (2, ""));
    said.stderr
}

#[test]
fn files_numbers_and_names_that_can_not_be_taken() {
    let sandbox = Sandbox::with_fake_worker();
    sandbox.write("broken.yaml", "vars: { rows: 5\nstages:\n");
    sandbox.write(
        "pipeline.yaml",
        "\
include: [none.yaml, broken.yaml]
seed: 99999999999999999999
vars: { n: 5, n: 6, long: $words }
stages:
  x: { data: { task: mood, from: $folder, limt: 3 } }
  t: { tokenize: { examples: rows, encoder: $encoder } }
  t: { tokenize: { examples: x, encoder: enc, max_tokens: -99999999999999999999 } }
  m: { train: { tokens: [t, tokens@*], encoder: enc, epoch: $n } }
",
    );
    assert_eq!(
        mistakes(&sandbox, &["--set", "vars.rows=6", "--set", "seed=99999999999999999999"]),
        "\
error: `--set seed=99999999999999999999`: the number `99999999999999999999` does not fit in 64 bits

error: included file `none.yaml` does not exist
  --> pipeline.yaml:1:11
   |
 1 | include: [none.yaml, broken.yaml]
   |           ^^^^^^^^^

hint: the path is relative to the file that includes it

error: `seed` is the number `99999999999999999999`, which does not fit in 64 bits
  --> pipeline.yaml:2:7
   |
 2 | seed: 99999999999999999999
   |       ^^^^^^^^^^^^^^^^^^^^

hint: what is meant as text stands in quotes

error: `vars.n` is given twice; first at pipeline.yaml:3:9
  --> pipeline.yaml:3:15
   |
 3 | vars: { n: 5, n: 6, long: $words }
   |               ^

error: unknown parameter `limt` in stage `x`
  --> pipeline.yaml:5:43
   |
 5 |   x: { data: { task: mood, from: $folder, limt: 3 } }
   |                                           ^^^^

hint: did you mean `limit`?

error: `stages.t` is given twice; first at pipeline.yaml:6:3
  --> pipeline.yaml:7:3
   |
 7 |   t: { tokenize: { examples: x, encoder: enc, max_tokens: -99999999999999999999 } }
   |   ^

error: `stages.t.tokenize.max_tokens` is the number `-99999999999999999999`, which does not fit in 64 bits
  --> pipeline.yaml:7:59
   |
 7 |   t: { tokenize: { examples: x, encoder: enc, max_tokens: -99999999999999999999 } }
   |                                                           ^^^^^^^^^^^^^^^^^^^^^

hint: what is meant as text stands in quotes

error: unknown parameter `epoch` in stage `m`
  --> pipeline.yaml:8:54
   |
 8 |   m: { train: { tokens: [t, tokens@*], encoder: enc, epoch: $n } }
   |                                                      ^^^^^

hint: did you mean `epochs`?

error: not YAML: did not find expected ',' or '}'
  --> broken.yaml:2:7
   |
 2 | stages:
   |       ^

9 mistakes in `pipeline.yaml`; nothing was run
"
    );
}

#[test]
fn a_section_that_is_none() {
    let sandbox = Sandbox::with_fake_worker();
    sandbox.write(
        "pipeline.yaml",
        "\
vars: [rows]
stages:
  x: { data: { task: sentiment, grammar: { train: $rows, dev: 5 }, limt: 3 } }
",
    );
    assert_eq!(
        mistakes(&sandbox, &[]),
        "\
error: `vars` is not a mapping of names to values
  --> pipeline.yaml:1:7
   |
 1 | vars: [rows]
   |       ^

error: unknown parameter `limt` in stage `x`
  --> pipeline.yaml:3:68
   |
 3 |   x: { data: { task: sentiment, grammar: { train: $rows, dev: 5 }, limt: 3 } }
   |                                                                    ^^^^

hint: did you mean `limit`?

2 mistakes in `pipeline.yaml`; nothing was run
"
    );
}

#[test]
fn sections_that_are_given_twice_count_whole() {
    let sandbox = Sandbox::with_fake_worker();
    sandbox.write(
        "pipeline.yaml",
        "\
for: { task: [sentiment], task: [entailment] }
stages:
  x@task: { data: { task: $task, grammar: { train: 5, dev: 5 } } }
stages:
  t: { tokenize: { examples: x@sentiment, encoder: enc, max_token: 9 } }
  u: { tokenize: { examples: x@entailment, encoder: enc } }
",
    );
    assert_eq!(
        mistakes(&sandbox, &[]),
        "\
error: `for.task` is given twice; first at pipeline.yaml:1:8
  --> pipeline.yaml:1:27
   |
 1 | for: { task: [sentiment], task: [entailment] }
   |                           ^^^^

error: `stages` is given twice; first at pipeline.yaml:2:1
  --> pipeline.yaml:4:1
   |
 4 | stages:
   | ^^^^^^

error: unknown parameter `max_token` in stage `t`
  --> pipeline.yaml:5:57
   |
 5 |   t: { tokenize: { examples: x@sentiment, encoder: enc, max_token: 9 } }
   |                                                         ^^^^^^^^^

hint: did you mean `max_tokens`?

3 mistakes in `pipeline.yaml`; nothing was run
"
    );
}

#[test]
fn what_is_wrong_beside_a_cycle_is_told_with_it() {
    let sandbox = Sandbox::with_fake_worker();
    sandbox.write(
        "pipeline.yaml",
        "\
vars: { a: $b, b: $a, c: $d }
stages:
  x: { data: { task: sentiment, grammar: { train: 5, dev: 5 } } }
  t: { tokenize: { examples: x, encoder: enc } }
  a: { train: { tokens: [t], teachers: [p], encoder: enc, anneal_of: { sentimnt: linear } } }
  p: { predict: { model: a, tokens: t, splits: [test] } }
",
    );
    assert_eq!(
        mistakes(&sandbox, &[]),
        "\
error: variables use each other: a → b → a
  --> pipeline.yaml:1:12
   |
 1 | vars: { a: $b, b: $a, c: $d }
   |            ^^

error: unknown variable `$d` in `vars.c`
  --> pipeline.yaml:1:26
   |
 1 | vars: { a: $b, b: $a, c: $d }
   |                          ^^

hint: did you mean `$a`?

error: stages wait for each other: a → p → a
  --> pipeline.yaml:5:41
   |
 5 |   a: { train: { tokens: [t], teachers: [p], encoder: enc, anneal_of: { sentimnt: linear } } }
   |                                         ^

hint: a stage cannot read what is made from its own output

error: teacher `p` of stage `a` predicts no train rows
  --> pipeline.yaml:5:41
   |
 5 |   a: { train: { tokens: [t], teachers: [p], encoder: enc, anneal_of: { sentimnt: linear } } }
   |                                         ^

hint: a teacher's table needs the rows that its student trains on

error: `anneal_of` of stage `a` names the task `sentimnt`, which it doesn't train
  --> pipeline.yaml:5:72
   |
 5 |   a: { train: { tokens: [t], teachers: [p], encoder: enc, anneal_of: { sentimnt: linear } } }
   |                                                                        ^^^^^^^^

hint: did you mean `sentiment`?

error: stage `p` predicts test rows, of which it is given none
  --> pipeline.yaml:6:49
   |
 6 |   p: { predict: { model: a, tokens: t, splits: [test] } }
   |                                                 ^^^^

hint: it is given train, dev

6 mistakes in `pipeline.yaml`; nothing was run
"
    );
}

//! What stages that learn from each other must agree on, from outside: tasks, labels, rows, folds, encoders.

use std::fs::File;
use std::io::Write as _;
use std::sync::Arc;

use crate::mistakes::{say, told};
use crate::support::Sandbox;
use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use flate2::Compression;
use flate2::write::GzEncoder;
use parquet::arrow::ArrowWriter;

#[test]
fn rows_labels_and_folds_that_do_not_belong_together() {
    let said = say("\
for: { fold: [0, 1] }
tasks:
  mood: { files: { train: a.tsv, dev: b.tsv }, columns: { text: 1, pair: 2 }, labels: [bad, good], symmetric: true, metrics: [accuracy] }
stages:
  x: { data: { task: sentiment, grammar: { train: 9, dev: 5 } } }
  few: { data: { task: sentiment, grammar: { train: 9, dev: 5 }, limit: 8 } }
  turned: { data: { task: sentiment, grammar: { train: 9, dev: 5 }, definition: { name: sentiment, files: { train: a }, columns: { text: 1 }, labels: [positive, negative], metrics: [accuracy] } } }
  y: { data: { task: entailment, grammar: { train: 9, dev: 5 } } }
  t: { tokenize: { examples: x, encoder: enc } }
  tfew: { tokenize: { examples: few, encoder: enc } }
  tturned: { tokenize: { examples: turned, encoder: enc } }
  ty: { tokenize: { examples: y, encoder: enc } }
  m@fold: { train: { tokens: [t], encoder: enc, fold: { of: 3, leave_out: $fold } } }
  p@fold: { predict: { model: m@$fold, tokens: t, fold: { of: 3, leave_out: $fold } } }
  other: { predict: { model: m@0, tokens: t, fold: { of: 3, leave_out: 2 } } }
  whole: { predict: { model: m@0, tokens: t } }
  dev: { predict: { model: m@0, tokens: t, splits: [dev] } }
  short: { predict: { model: m@0, tokens: tfew } }
  strange: { predict: { model: m@0, tokens: ty } }
  labels: { predict: { model: m@0, tokens: tturned } }
  joined: { ensemble: { predictions: [p@*], join: true } }
  mixed: { ensemble: { predictions: [whole, p@0] } }
  wild: { ensemble: { predictions: [whole, strange] } }
  a: { train: { tokens: [t], teachers: [p@0], encoder: enc } }
  b: { train: { tokens: [t], teachers: [dev], encoder: enc } }
  c: { train: { tokens: [t], teachers: [short], encoder: enc } }
  d: { train: { tokens: [tturned], teachers: [whole], encoder: enc } }
  e: { train: { tokens: [ty], init: m@0, heads: keep } }
  onnx: { export: { model: m@0 } }
  score: { score: { models: [m@0, onnx], tokens: [ty] } }
  scores: { score: { models: [onnx], tokens: [t, tturned] } }
");
    assert_eq!(
        told(&said),
        [
            "15:52 stage `other` predicts fold 2 of 3, but its model `m@0` left out fold 0 of 3",
            "19:32 model `m@0` of stage `strange` has no head for `entailment`",
            "20:31 model `m@0` of stage `labels` names the labels of `sentiment` [\"negative\", \"positive\"], but they are [\"positive\", \"negative\"]",
            "21:38 stage `joined` joins 2 of 3 folds; 2 is missing",
            "22:45 `whole` and `p@0` of stage `mixed` predict different folds",
            "23:44 `whole` of stage `wild` predicts task `sentiment`, `strange` task `entailment`",
            "24:41 teacher `p@0` of stage `a` predicts fold 0 of 3 alone",
            "25:41 teacher `dev` of stage `b` predicts no train rows",
            "26:41 teacher `short` of stage `c` predicts only the first 8 rows, but `t` holds more",
            "27:47 teacher `whole` of stage `d` names the labels of `sentiment` [\"negative\", \"positive\"], but they are [\"positive\", \"negative\"]",
            "28:49 stage `e` keeps the heads of `m@0`, which has none for its tasks",
            "30:30 model `m@0` of stage `score` has a head for none of the tasks",
            "30:35 model `onnx` of stage `score` has a head for none of the tasks",
            "31:31 model `onnx` of stage `scores` names the labels of `sentiment` [\"negative\", \"positive\"], but they are [\"positive\", \"negative\"]",
            "31:50 stage `scores` has two tables of tokens for task `sentiment`: `t` and `tturned`",
        ]
    );
}

#[test]
fn encoders_that_do_not_fit() {
    let sandbox = Sandbox::with_fake_worker();
    for (folder, words) in [("small", 6), ("torn", 5)] {
        let config = format!("{{\"num_hidden_layers\": 3, \"vocab_size\": {words}, \"max_position_embeddings\": 32}}");
        sandbox.write(&format!("{folder}/config.json"), &config);
        sandbox.write(&format!("{folder}/model.safetensors"), "");
        sandbox.write(&format!("{folder}/vocab.txt"), "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\n");
    }
    sandbox.write(
        "pipeline.yaml",
        "\
stages:
  x: { data: { task: sentiment, grammar: { train: 5, dev: 5 } } }
  t: { tokenize: { examples: x, encoder: small, max_tokens: 32 } }
  long: { tokenize: { examples: x, encoder: small } }
  strange: { tokenize: { examples: x, encoder: enc, max_tokens: 32 } }
  a: { train: { tokens: [t], encoder: small, layers: 4 } }
  b: { train: { tokens: [t], encoder: small, layers: [0, 2] } }
  c: { train: { tokens: [t], init: b, layers: [0, 2] } }
  d: { train: { tokens: [long], encoder: small } }
  e: { train: { tokens: [strange], init: b } }
  f: { train: { tokens: [t], encoder: torn } }
  g: { predict: { model: b, tokens: strange } }
  onnx: { export: { model: b } }
  h: { score: { models: [onnx], tokens: [strange] } }
",
    );
    assert_eq!(
        told(&sandbox.bam(&["plan"])),
        [
            "6:54 `layers` of stage `a`: the first 4 are asked for, but there are 3",
            "8:47 `layers` of stage `c`: layer 2 is asked for, but there are 2, counted from 0",
            "9:26 `long` of stage `d` has rows of up to 128 tokens, but the encoder has 32 positions",
            "10:26 `strange` of stage `e` is tokenized by another tokenizer than that of `small`",
            "11:39 the tokenizer in `torn` has 6 pieces, the encoder 5 word vectors",
            "12:37 `strange` of stage `g` is tokenized by another tokenizer than that of its model `b`",
            "14:42 `strange` of stage `h` is tokenized by another tokenizer than that of its model `onnx`",
        ]
    );
}

#[test]
fn teachers_of_other_rows() {
    let sandbox = Sandbox::with_fake_worker();
    for (folder, first, second) in [("one", "fine", "dull"), ("alike", "fine", "dull"), ("two", "sunny", "grey")] {
        sandbox.write(&format!("{folder}/train.tsv"), &format!("text\tlabel\n{first}\tgood\n{second}\tbad\n"));
        sandbox.write(&format!("{folder}/dev.tsv"), "text\tlabel\nfine\tgood\n");
    }
    let mut pipeline = "\
tasks:
  mood: { files: { train: train.tsv, dev: dev.tsv }, columns: { text: text, label: label }, labels: [bad, good], metrics: [accuracy] }
stages:
"
    .to_owned();
    let sources = [
        ("one", "task: mood, from: one"),
        ("same", "task: mood, from: ./one"),
        ("alike", "task: mood, from: alike"),
        ("two", "task: mood, from: two"),
        ("few", "task: mood, from: one, limit: 1"),
        ("many", "task: mood, from: one, limit: 1000"),
        ("gone", "task: sentiment, grammar: { train: 9, dev: 5 }"),
        ("gfew", "task: sentiment, grammar: { train: 8, dev: 5 }"),
        ("gmany", "task: sentiment, grammar: { train: 10, dev: 5 }"),
        ("gseed", "task: sentiment, grammar: { train: 9, dev: 5, seed: 3 }"),
    ];
    for (name, data) in sources {
        pipeline += &format!("  x-{name}: {{ data: {{ {data} }} }}\n");
        pipeline += &format!("  t-{name}: {{ tokenize: {{ examples: x-{name}, encoder: enc }} }}\n");
        pipeline += &format!("  m-{name}: {{ train: {{ tokens: [t-{name}], encoder: enc }} }}\n");
        pipeline += &format!("  p-{name}: {{ predict: {{ model: m-{name}, tokens: t-{name} }} }}\n");
        let rows = if name.starts_with('g') { "gone" } else { "one" };
        let train = format!("tokens: [t-{rows}], teachers: [p-{name}], encoder: enc");
        pipeline += &format!("  s-{name}: {{ train: {{ {train} }} }}\n");
    }
    sandbox.write("pipeline.yaml", &pipeline);
    let told = told(&sandbox.bam(&["plan"]));
    let told: Vec<&str> = told.iter().filter_map(|line| Some(line.split_once(' ')?.1)).collect();
    assert_eq!(
        told,
        [
            "teacher `p-two` of stage `s-two` predicts other rows than `t-one` holds",
            "teacher `p-few` of stage `s-few` predicts only the first 1 rows, but `t-one` holds more",
            "teacher `p-gfew` of stage `s-gfew` predicts only the first 8 rows, but `t-gone` holds more",
            "teacher `p-gseed` of stage `s-gseed` predicts other rows than `t-gone` holds",
        ]
    );
}

#[test]
fn splits_that_the_rows_do_not_have() {
    let sandbox = Sandbox::with_fake_worker();
    sandbox.write("a.tsv", "fine\tgood\ndull\tbad\n");
    sandbox.write(
        "pipeline.yaml",
        "\
tasks:
  learnt: { files: { train: a.tsv }, columns: { text: 1, label: 2 }, labels: [bad, good], metrics: [accuracy] }
  judged: { files: { dev: a.tsv }, columns: { text: 1, label: 2 }, labels: [bad, good], metrics: [accuracy] }
  plain: { files: { train: a.tsv, dev: a.tsv }, columns: { text: 1 }, labels: [bad, good], metrics: [accuracy] }
  divided: { files: { all: a.tsv }, split: { dev: 0.5 }, columns: { text: 1, label: 2 }, labels: [bad, good], metrics: [accuracy] }
for: { task: [learnt, judged, divided, plain] }
stages:
  x@task: { data: { task: $task, from: . } }
  t@task: { tokenize: { examples: x@$task, encoder: enc } }
  a: { train: { tokens: [t@learnt], encoder: enc } }
  b: { train: { tokens: [t@learnt], encoder: enc, keep: best } }
  c: { train: { tokens: [t@learnt, t@judged], encoder: enc } }
  d: { train: { tokens: [t@learnt, t@divided], encoder: enc, patience: 1 } }
  e: { score: { models: [a], tokens: [t@learnt] } }
  f: { score: { models: [d], tokens: [t@learnt, t@divided] } }
  g: { predict: { model: a, tokens: t@learnt, splits: [train, dev] } }
  h: { predict: { model: d, tokens: t@divided, splits: [dev, test] } }
  i: { train: { tokens: [t@divided, t@plain], encoder: enc } }
  j: { score: { models: [i], tokens: [t@plain] } }
  again: { tokenize: { examples: x@divided, encoder: enc } }
  k: { score: { models: [d], tokens: [t@divided, again] } }
",
    );
    assert_eq!(
        told(&sandbox.bam(&["plan"])),
        [
            "11:25 stage `b` compares dev metrics (`keep: best` or `patience`), but none of its tasks has labelled dev rows",
            "12:36 stage `c` trains on `t@judged`, which has no train rows",
            "14:38 stage `e` scores dev rows, but none of its tasks has any with labels",
            "16:63 stage `g` predicts dev rows, of which it is given none",
            "17:62 stage `h` predicts test rows, of which it is given none",
            "18:37 stage `i` trains on `t@plain`, whose rows have no labels",
            "19:38 stage `j` scores dev rows, but none of its tasks has any with labels",
            "21:50 stage `k` has two tables of tokens for task `divided`: `t@divided` and `again`",
        ]
    );
}

/// As nine rows fall, the fourth of eight folds has none; of a table of unknown size nothing is said.
#[test]
fn a_fold_without_rows_is_told_before_anything_runs() {
    let said = say("\
for: { fold: [0, 1, 2, 3, 4, 5, 6, 7] }
stages:
  x: { data: { task: sentiment, grammar: { train: 9, dev: 5 } } }
  y: { data: { task: sentiment, grammar: { train: 4000, dev: 5 } } }
  t: { tokenize: { examples: x, encoder: enc } }
  u: { tokenize: { examples: y, encoder: enc } }
  m@fold: { train: { tokens: [t], encoder: enc, fold: { of: 8, leave_out: $fold } } }
  n@fold: { train: { tokens: [u], encoder: enc, fold: { of: 8, leave_out: $fold } } }
");
    assert_eq!(told(&said), ["7:55 stage `m@3` leaves out fold 3 of 8, but none of the train rows of `t` is in it"]);
}

/// The rows of small files are counted in whatever they come.
#[test]
fn a_fold_without_rows_of_a_file_is_told_too() {
    let sandbox = Sandbox::with_fake_worker();
    let mut packed = GzEncoder::new(File::create(sandbox.path("rows.tsv.gz")).unwrap(), Compression::fast());
    (0..9).for_each(|row| writeln!(packed, "text {row}\t{}", row % 2).unwrap());
    packed.finish().unwrap();
    let texts = StringArray::from_iter_values((0..9).map(|row| format!("text {row}")));
    let labels = Int64Array::from_iter_values((0..9).map(|row| row % 2));
    let columns: [(&str, ArrayRef); 2] = [("text", Arc::new(texts)), ("label", Arc::new(labels))];
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let file = File::create(sandbox.path("rows.parquet")).unwrap();
    let mut writer = ArrowWriter::try_new(file, batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    sandbox.write(
        "pipeline.yaml",
        "\
for: { fold: [0, 1, 2, 3, 4, 5, 6, 7] }
tasks:
  packed: { files: { train: rows.tsv.gz }, columns: { header: false, text: 1, label: 2 }, labels: ['0', '1'], metrics: [accuracy] }
  columnar: { files: { train: rows.parquet }, columns: { text: text, label: label }, labels: ['0', '1'], metrics: [accuracy] }
stages:
  x: { data: { task: packed, from: . } }
  y: { data: { task: columnar, from: . } }
  t: { tokenize: { examples: x, encoder: enc } }
  u: { tokenize: { examples: y, encoder: enc } }
  m@fold: { train: { tokens: [t], encoder: enc, fold: { of: 8, leave_out: $fold } } }
  n@fold: { train: { tokens: [u], encoder: enc, fold: { of: 8, leave_out: $fold } } }
",
    );
    let said = sandbox.bam(&["plan"]);
    assert_eq!(
        told(&said),
        [
            "10:55 stage `m@3` leaves out fold 3 of 8, but none of the train rows of `t` is in it",
            "11:55 stage `n@3` leaves out fold 3 of 8, but none of the train rows of `u` is in it",
        ]
    );
}

#[test]
fn teachers_that_name_labels_otherwise_are_not_averaged() {
    let said = say("\
stages:
  x: { data: { task: sentiment, grammar: { train: 9, dev: 5 } } }
  turned: { data: { task: sentiment, grammar: { train: 9, dev: 5 }, definition: { name: sentiment, files: { train: a }, columns: { text: 1 }, labels: [positive, negative], metrics: [accuracy] } } }
  t: { tokenize: { examples: x, encoder: enc } }
  u: { tokenize: { examples: turned, encoder: enc } }
  m: { train: { tokens: [t], encoder: enc } }
  n: { train: { tokens: [u], encoder: enc } }
  p: { predict: { model: m, tokens: t } }
  q: { predict: { model: n, tokens: u } }
  both: { ensemble: { predictions: [p, q] } }
");
    assert_eq!(told(&said).len(), 1, "{:?}", told(&said));
    assert!(told(&said)[0].contains("names the labels of `sentiment`"), "{:?}", told(&said));
}

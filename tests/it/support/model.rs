//! A tiny model that the real pipeline has made: once for each test program that asks for it.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::OnceLock;

use serde_json::Value;

use super::Sandbox;

/// Two tasks of single texts and two of pairs, one of them a regression.
const PIPELINE: &str = "\
name: tiny
seed: 17
vars: { encoder: ENCODER }
for:  { task: [acceptability, sentiment, similarity, entailment] }
stages:
  examples@task: { data:     { task: $task, grammar: { train: 64, dev: 16 } } }
  tokens@task:   { tokenize: { examples: examples@$task, encoder: $encoder, max_tokens: 48 } }
  student:       { train:    { tokens: [tokens@*], encoder: $encoder, epochs: 1, learning_rate: 1e-3 } }
  onnx:          { export:   { model: student } }
  scores:        { score:    { models: [onnx], tokens: [tokens@*] } }
";

pub(crate) const TEXTS_TASKS: [&str; 2] = ["acceptability", "sentiment"];
pub(crate) const PAIRS_TASKS: [&str; 2] = ["similarity", "entailment"];

/// A folder in which `bam run` has exported a model as the stage `onnx`.
pub(crate) fn exported() -> &'static Sandbox {
    static SANDBOX: OnceLock<Sandbox> = OnceLock::new();
    SANDBOX.get_or_init(|| {
        let worker = Path::new(env!("CARGO_BIN_EXE_bam")).with_file_name("bam-stage");
        assert!(
            worker.is_file(),
            "`bam-stage` is not built: run `cargo build --workspace` with the same profile first"
        );
        let sandbox = Sandbox::new();
        let encoder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/tiny-bert");
        sandbox.write("pipeline.yaml", &PIPELINE.replace("ENCODER", encoder));
        let run = sandbox.bam(&["run"]);
        assert_eq!(run.code, 0, "{}", run.stderr);
        sandbox
    })
}

/// Writes the model into `model`, with one tensor changed and without its probes, which it would fail.
pub(crate) fn write_changed(sandbox: &Sandbox, name: &str, change: impl FnOnce(&mut [f32])) {
    let from = exported().path("artifacts/latest/onnx");
    for entry in fs::read_dir(&from).unwrap().flatten().filter(|entry| entry.file_name() != "probes.json") {
        fs::create_dir_all(sandbox.path("model")).unwrap();
        fs::copy(entry.path(), sandbox.path("model").join(entry.file_name())).unwrap();
    }
    let before = tensor(&exported().path("artifacts/latest/student/model.safetensors"), name);
    let mut after = before.clone();
    change(&mut after);
    let bytes = |values: &[f32]| values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>();
    let (before, after) = (bytes(&before), bytes(&after));
    let graph = fs::read(from.join("model.onnx")).unwrap();
    let places: Vec<usize> = (0..=graph.len() - before.len()).filter(|at| graph[*at..].starts_with(&before)).collect();
    let [at] = places[..] else { panic!("{name} is at {places:?} in the graph") };
    let changed = [&graph[..at], &after, &graph[at + before.len()..]].concat();
    fs::write(sandbox.path("model/model.onnx"), changed).unwrap();
}

/// The same with a word whose every answer is NaN.
pub(crate) fn write_with_a_broken_word(sandbox: &Sandbox, word: &str) {
    let vocabulary = exported().read("artifacts/latest/onnx/vocab.txt");
    let place = vocabulary.lines().position(|piece| piece == word).unwrap();
    write_changed(sandbox, "bert.embeddings.word_embeddings.weight", |table| {
        let width = table.len() / vocabulary.lines().count();
        table[place * width..(place + 1) * width].fill(f32::NAN);
    });
}

/// A tensor of fp32 from a checkpoint.
fn tensor(checkpoint: &Path, name: &str) -> Vec<f32> {
    let bytes = fs::read(checkpoint).unwrap();
    let header_bytes = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header: BTreeMap<String, Value> = serde_json::from_slice(&bytes[8..8 + header_bytes]).unwrap();
    let place = |end: usize| header[name]["data_offsets"][end].as_u64().unwrap() as usize + 8 + header_bytes;
    bytes[place(0)..place(1)].chunks(4).map(|value| f32::from_le_bytes(value.try_into().unwrap())).collect()
}

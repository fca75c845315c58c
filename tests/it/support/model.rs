//! A tiny model that the real pipeline has made: once for each test program that asks for it.

use std::sync::OnceLock;

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
        let worker = std::path::Path::new(env!("CARGO_BIN_EXE_bam")).with_file_name("bam-stage");
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

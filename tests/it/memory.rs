//! What reads rows takes as much memory for many as for some.

use crate::support::Sandbox;

/// In fp32, for in bf16 libtorch keeps what it compiles for each shape.
const PIPELINE: &str = "\
name: rows
seed: 17
vars: { encoder: ENCODER }
for: { rows: [17000, 200000] }
stages:
  examples@rows:    { data:     { task: entailment, grammar: { train: 64, dev: $rows } } }
  tokens@rows:      { tokenize: { examples: examples@$rows, encoder: $encoder, max_tokens: 48 } }
  model:            { train:    { tokens: [few], encoder: $encoder, layers: 1 } }
  few_examples:     { data:     { task: entailment, grammar: { train: 64, dev: 16 } } }
  few:              { tokenize: { examples: few_examples, encoder: $encoder, max_tokens: 48 } }
  predictions@rows: { predict:  { model: model, tokens: tokens@$rows, precision: fp32 } }
  scores@rows:      { score:    { models: [model], tokens: [tokens@$rows] } }
";

#[test]
fn predictions_and_scores_of_any_number_of_rows_take_the_same_memory() {
    let sandbox = Sandbox::new();
    let encoder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/tiny-bert");
    sandbox.write("pipeline.yaml", &PIPELINE.replace("ENCODER", encoder));
    let run = sandbox.bam(&["run"]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    let peak = |stage: String| sandbox.manifest(&stage)["provenance"]["peak_memory_bytes"].as_u64().unwrap();
    for kind in ["predictions", "scores"] {
        let (some, many) = (peak(format!("{kind}@17000")), peak(format!("{kind}@200000")));
        // The tokens and answers of those on top would take some 60 MB.
        assert!(many < some + 25_000_000, "{kind}: {some} bytes, then {many}");
    }
}

//! int8 from outside: what is told of it, and how much a row's answer depends on the rows beside it.

use std::sync::OnceLock;

use serde_json::{Value, json};

use crate::serve::{serve_in, texts};
use crate::support::{Said, Sandbox};

/// Of a probability: docs/serving.md has what trained models differ by.
const TOLERANCE: f64 = 0.1;

/// A folder in which `bam run` has exported two heads as int8 and scored one, and what it said.
fn exported() -> &'static (Sandbox, Said) {
    static MADE: OnceLock<(Sandbox, Said)> = OnceLock::new();
    MADE.get_or_init(|| {
        let sandbox = Sandbox::new();
        let encoder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/tiny-bert");
        sandbox.write(
            "pipeline.yaml",
            &format!(
                "seed: 17\n\
                 for: {{ task: [sentiment, acceptability], precision: [int8] }}\n\
                 stages:\n  \
                   examples@task: {{ data: {{ task: $task, grammar: {{ train: 256, dev: 16 }} }} }}\n  \
                   tokens@task:   {{ tokenize: {{ examples: examples@$task, encoder: {encoder}, max_tokens: 48 }} }}\n  \
                   student:       {{ train: {{ tokens: [tokens@*], encoder: {encoder}, epochs: 3, learning_rate: 1e-3 }} }}\n  \
                   onnx@precision: {{ export: {{ model: student, precision: $precision }} }}\n  \
                   scores:        {{ score: {{ models: [onnx@*], tokens: [tokens@sentiment], max_drop: 100 }} }}\n"
            ),
        );
        let said = sandbox.bam(&["run"]);
        assert_eq!(said.code, 0, "{}", said.stderr);
        (sandbox, said)
    })
}

#[test]
fn heads_that_nothing_scores_are_told() {
    let (_, said) = exported();
    let told = "no `tokens` score `acceptability` of `onnx@int8`: what it lost there is not known";
    assert!(said.stderr.contains(told), "{}", said.stderr);
}

#[test]
fn variants_are_named_where_none_has_the_name_alone() {
    for command in ["predict", "serve"] {
        let said = exported().0.bam(&[command, "onnx"]);
        let told = "error: no artifact `onnx`\n\nhint: there are `onnx@int8`\n";
        assert_eq!((said.code, said.stderr.as_str()), (2, told));
    }
}

#[test]
fn an_answer_of_int8_depends_little_on_the_rows_beside_it() {
    // One session, so that all go together.
    let server = serve_in(&exported().0, &["--sessions", "1"]);
    let probabilities = |row: &Value| -> Vec<f64> {
        let labels = |task: &str| row["tasks"][task]["labels"].as_array().unwrap().clone();
        let mut labels = [labels("sentiment"), labels("acceptability")].concat();
        labels.sort_by_key(|label| label["label"].to_string());
        labels.iter().map(|label| label["probability"].as_f64().unwrap()).collect()
    };
    let together = server.predict(&json!({ "inputs": texts() }));
    for (text, beside_others) in texts().iter().zip(together["results"].as_array().unwrap()) {
        let alone = &server.predict(&json!({ "inputs": text }))["results"][0];
        for (alone, beside_others) in probabilities(alone).iter().zip(probabilities(beside_others)) {
            assert!((alone - beside_others).abs() <= TOLERANCE, "`{text}`: {alone} alone, {beside_others} in a batch");
        }
    }
}

//! Outputs that no checkpoint should have: models whose weights are changed by hand.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::{assert_error, serve_in};
use crate::support::Sandbox;
use crate::support::http::Server;
use crate::support::model::{TEXTS_TASKS, exported};

/// Serves the model with one tensor changed, and without its probes, which it would fail.
fn serve_changed(sandbox: &Sandbox, name: &str, change: impl FnOnce(&mut [f32])) -> Server {
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
    serve_in(sandbox, &["model"])
}

/// A tensor of fp32 from a checkpoint.
fn tensor(checkpoint: &Path, name: &str) -> Vec<f32> {
    let bytes = fs::read(checkpoint).unwrap();
    let header_bytes = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header: BTreeMap<String, Value> = serde_json::from_slice(&bytes[8..8 + header_bytes]).unwrap();
    let place = |end: usize| header[name]["data_offsets"][end].as_u64().unwrap() as usize + 8 + header_bytes;
    bytes[place(0)..place(1)].chunks(4).map(|value| f32::from_le_bytes(value.try_into().unwrap())).collect()
}

#[test]
fn extreme_logits_are_answered_as_probabilities() {
    let sandbox = Sandbox::new();
    let server = serve_changed(&sandbox, "heads.sentiment.bias", |bias| bias.copy_from_slice(&[3e38, -3e38]));
    let answer = server.predict(&json!({ "inputs": "a fine day", "tasks": ["sentiment"], "raw": true }));
    let answer = &answer["results"][0]["tasks"]["sentiment"];
    let probabilities: Vec<&Value> =
        answer["labels"].as_array().unwrap().iter().map(|label| &label["probability"]).collect();
    assert_eq!(probabilities, [1.0, 0.0]);
    let logits: Vec<f64> = answer["logits"].as_array().unwrap().iter().map(|logit| logit.as_f64().unwrap()).collect();
    assert!(logits[0] > 1e38 && logits[1] < -1e38, "{logits:?}");
    let shaped = server.post("/predict?task=sentiment", &json!({ "inputs": "a fine day", "raw_scores": true })).json();
    assert!(shaped[1]["score"].as_f64().unwrap() < -1e38, "{shaped}");
}

#[test]
fn a_row_whose_answer_is_not_a_number_fails_alone() {
    let sandbox = Sandbox::new();
    let vocabulary = exported().read("artifacts/latest/onnx/vocab.txt");
    let day = vocabulary.lines().position(|piece| piece == "day").unwrap();
    let server = serve_changed(&sandbox, "bert.embeddings.word_embeddings.weight", |table| {
        let width = table.len() / vocabulary.lines().count();
        table[day * width..(day + 1) * width].fill(f32::NAN);
    });
    let bad = server.post("/v1/predict", &json!({ "inputs": ["it rains", "a fine day"], "tasks": TEXTS_TASKS }));
    assert_eq!(bad.status, 500);
    assert_error(&bad, "internal");
    assert_eq!(bad.json()["error"]["message"], "the model's answer to input 1 is not a number");
    server.wait_until_it_says("warning: a request failed by the server's fault: the model's answer to input 1 is not");
    server.results(&json!(["it rains", "it rained"]), &TEXTS_TASKS);
}

#[test]
fn what_the_runtime_fails_at_is_told_to_the_log_alone_and_the_session_goes_on() {
    let sandbox = Sandbox::new();
    fs::create_dir(sandbox.path("model")).unwrap();
    for entry in fs::read_dir(exported().path("artifacts/latest/onnx")).unwrap().flatten() {
        fs::copy(entry.path(), sandbox.path("model").join(entry.file_name())).unwrap();
    }
    // A word that the graph has no row for.
    let mut tokenizer: Value = serde_json::from_str(&sandbox.read("model/tokenizer.json")).unwrap();
    let vocabulary = tokenizer["model"]["vocab"].as_object_mut().unwrap();
    let beyond = vocabulary.len();
    vocabulary.insert("zyzzyva".to_owned(), json!(beyond));
    sandbox.write("model/tokenizer.json", &tokenizer.to_string());
    let server = serve_in(&sandbox, &["model"]);
    let failed = server.post("/v1/predict", &json!({ "inputs": "zyzzyva", "tasks": TEXTS_TASKS }));
    assert_eq!(failed.status, 500);
    assert_error(&failed, "internal");
    assert_eq!(failed.json()["error"]["message"], "the model can't compute this; the server's log says why");
    server.wait_until_it_says("warning: a batch of 1 row can't be computed: ");
    server.wait_until_it_says("out of data bounds");
    server.results(&json!("it rains"), &TEXTS_TASKS);
    assert_eq!(server.get("/readyz").status, 200);
}

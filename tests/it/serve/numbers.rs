//! Outputs that no checkpoint should have: models whose weights are changed by hand.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use serde_json::{Value, json};

use super::{assert_error, serve_in};
use crate::support::Sandbox;
use crate::support::http::Server;
use crate::support::model::{TEXTS_TASKS, exported, write_changed, write_with_a_broken_word};

/// Serves the model with one tensor changed.
fn serve_changed(sandbox: &Sandbox, name: &str, change: impl FnOnce(&mut [f32])) -> Server {
    write_changed(sandbox, name, change);
    serve_in(sandbox, &["model"])
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
    write_with_a_broken_word(&sandbox, "day");
    let server = serve_in(&sandbox, &["model"]);
    let bad = server.post("/v1/predict", &json!({ "inputs": ["it rains", "a fine day"], "tasks": TEXTS_TASKS }));
    assert_eq!(bad.status, 500);
    assert_error(&bad, "internal");
    assert_eq!(bad.json()["error"]["message"], "the model's answer to input 1 is not a number");
    server.wait_until_it_says("warning: a request failed by the server's fault: the model's answer to input 1 is not");
    server.results(&json!(["it rains", "it rained"]), &TEXTS_TASKS);
}

/// Serves the model with the word `zyzzyva`, which the graph has no row for.
fn serve_with_a_word_too_many(sandbox: &Sandbox, args: &[&str]) -> Server {
    fs::create_dir(sandbox.path("model")).unwrap();
    for entry in fs::read_dir(exported().path("artifacts/latest/onnx")).unwrap().flatten() {
        fs::copy(entry.path(), sandbox.path("model").join(entry.file_name())).unwrap();
    }
    let mut tokenizer: Value = serde_json::from_str(&sandbox.read("model/tokenizer.json")).unwrap();
    let vocabulary = tokenizer["model"]["vocab"].as_object_mut().unwrap();
    let beyond = vocabulary.len();
    vocabulary.insert("zyzzyva".to_owned(), json!(beyond));
    sandbox.write("model/tokenizer.json", &tokenizer.to_string());
    serve_in(sandbox, &[&["model"], args].concat())
}

#[test]
fn what_the_runtime_fails_at_is_told_to_the_log_alone_and_the_session_goes_on() {
    let sandbox = Sandbox::new();
    let server = serve_with_a_word_too_many(&sandbox, &[]);
    let failed = server.post("/v1/predict", &json!({ "inputs": "zyzzyva", "tasks": TEXTS_TASKS }));
    assert_eq!(failed.status, 500);
    assert_error(&failed, "internal");
    assert_eq!(failed.json()["error"]["message"], "the model can't compute this; the server's log says why");
    server.wait_until_it_says("warning: a batch of 1 row can't be computed: ");
    server.wait_until_it_says("out of data bounds");
    server.results(&json!("it rains"), &TEXTS_TASKS);
    assert_eq!(server.get("/readyz").status, 200);
}

#[test]
fn a_row_that_cannot_be_computed_fails_none_that_goes_with_it() {
    let sandbox = Sandbox::new();
    let server = serve_with_a_word_too_many(&sandbox, &["--threads", "1"]);
    let ended = AtomicBool::new(false);
    thread::scope(|scope| {
        for client in 0..12 {
            let (server, ended) = (&server, &ended);
            scope.spawn(move || {
                let (input, status) = if client % 3 == 0 { ("zyzzyva", 500) } else { ("it rains", 200) };
                let body = json!({ "inputs": input, "tasks": TEXTS_TASKS });
                while !ended.load(Ordering::Relaxed) {
                    let answer = server.post("/v1/predict", &body);
                    assert_eq!(answer.status, status, "{input}: {}", answer.body);
                }
            });
        }
        server.wait_until_it_says("rows can't be computed together: ");
        ended.store(true, Ordering::Relaxed);
    });
}

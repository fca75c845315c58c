//! What is answered, alone and in company.

use std::thread;

use serde_json::{Value, json};

use super::{assert_alike, assert_error, pairs, serve, texts};
use crate::support::model::{PAIRS_TASKS, TEXTS_TASKS, exported};

#[test]
fn a_batch_answers_as_each_input_alone() {
    let server = serve(&["--sessions", "1"]);
    for (inputs, tasks) in [(json!(texts()), TEXTS_TASKS), (json!(pairs()), PAIRS_TASKS)] {
        let together = server.results(&inputs, &tasks);
        assert_eq!(together.len(), 40);
        for (input, result) in inputs.as_array().unwrap().iter().zip(&together) {
            assert_alike(&server.results(input, &tasks)[0], result);
        }
    }
    // The order is that of the inputs, however they were batched.
    let lengths: Vec<u64> =
        server.results(&json!(texts()), &["sentiment"]).iter().map(|row| row["tokens"].as_u64().unwrap()).collect();
    assert!(lengths[12] > lengths[1] && lengths[13] < lengths[12], "{lengths:?}");
}

#[test]
fn tasks_and_clients_together_answer_as_each_alone() {
    let server = serve(&["--threads", "2"]);
    assert_eq!(server.get("/v1/info").json()["limits"]["sessions"], 2);
    let alone: Vec<Value> = TEXTS_TASKS
        .iter()
        .flat_map(|task| server.results(&json!(texts()), &[task]))
        .chain(PAIRS_TASKS.iter().flat_map(|task| server.results(&json!(pairs()), &[task])))
        .collect();
    let part = |task: usize, row: usize| &alone[task * 40 + row]["tasks"];
    thread::scope(|scope| {
        for client in 0..8 {
            let server = &server;
            scope.spawn(move || {
                for row in (client..40).step_by(4) {
                    let mixed = json!([texts()[row], pairs()[row]]);
                    // Without a choice each input is asked all that it fits.
                    let results = server.predict(&json!({ "inputs": mixed }));
                    for (task, name) in TEXTS_TASKS.iter().enumerate() {
                        assert_alike(&results["results"][0]["tasks"][name], &part(task, row)[name]);
                    }
                    for (task, name) in PAIRS_TASKS.iter().enumerate() {
                        assert_alike(&results["results"][1]["tasks"][name], &part(2 + task, row)[name]);
                    }
                    for (result, fitting) in [(0, TEXTS_TASKS), (1, PAIRS_TASKS)] {
                        assert_eq!(results["results"][result]["tasks"].as_object().unwrap().len(), fitting.len());
                    }
                }
            });
        }
    });
}

#[test]
fn answers_say_what_was_asked_for() {
    let server = serve(&[]);
    let result = &server.predict(&json!({ "inputs": "a fine day", "tasks": ["sentiment"], "raw": true }));
    let answer = &result["results"][0]["tasks"]["sentiment"];
    let labels = answer["labels"].as_array().unwrap();
    assert_eq!(labels[0]["label"], answer["label"]);
    let probabilities: Vec<f64> = labels.iter().map(|label| label["probability"].as_f64().unwrap()).collect();
    assert!(probabilities.is_sorted_by(|a, b| a >= b), "{probabilities:?}");
    assert!((probabilities.iter().sum::<f64>() - 1.0).abs() < 1e-12, "{probabilities:?}");
    assert_eq!(answer["logits"].as_array().unwrap().len(), labels.len());
    assert_eq!(result["model"].as_str().unwrap(), exported().manifest("onnx")["fingerprint"]);

    let most_likely = server.predict(&json!({ "inputs": "a fine day", "tasks": ["sentiment"], "top_k": 1 }));
    assert_eq!(most_likely["results"][0]["tasks"]["sentiment"]["labels"].as_array().unwrap().len(), 1);

    let value = &server.results(&json!({ "text": "a", "pair": "b" }), &["similarity"])[0]["tasks"]["similarity"];
    assert!(value["value"].is_f64() && value.as_object().unwrap().len() == 1, "{value}");

    let long = "weather ".repeat(20);
    let row = &server.results(&json!(long), &["sentiment"])[0];
    let cut = &server.post("/v1/tokenize", &json!({ "inputs": long })).json()["results"][0];
    assert_eq!(row["tokens"], 48);
    assert_eq!((&row["lost_tokens"], cut["input_ids"].as_array().unwrap().len()), (&cut["lost_tokens"], 48));
    let pieces = cut["text"].as_array().unwrap();
    let lost = pieces.iter().filter(|piece| piece["lost"] == true).count();
    assert_eq!((lost as u64, pieces.len() - lost), (row["lost_tokens"].as_u64().unwrap(), 46));

    // An answer is not many times as large as its request.
    let cut = &server.post("/v1/tokenize", &json!({ "inputs": "weather ".repeat(1000) })).json()["results"][0];
    assert_eq!(cut["text"].as_array().unwrap().len(), 46 + 64);
    assert_eq!(cut["unlisted"].as_u64().unwrap() + 64, cut["lost_tokens"].as_u64().unwrap());
    assert!(cut["lost_tokens"].as_u64().unwrap() > 900, "{}", cut["lost_tokens"]);

    let known = server.post("/predict?task=sentiment", &json!({ "inputs": "a fine day" })).json();
    assert_alike(&known[0]["score"], &labels[0]["probability"]);
    assert_eq!(known[0]["label"], labels[0]["label"]);
    let batch = server.post("/predict?task=sentiment", &json!({ "inputs": [["a fine day"], ["a dull day"]] })).json();
    assert_alike(&batch[0], &known);
    assert_eq!(batch.as_array().unwrap().len(), 2);
    let pair = server.post("/predict?task=entailment", &json!({ "inputs": ["a fine day", "a day"] })).json();
    assert_eq!(pair.as_array().unwrap().len(), 3);
    let regression = |raw: bool| {
        let body = json!({ "inputs": ["a", "b"], "raw_scores": raw });
        server.post("/predict?task=similarity", &body).json()[0]["score"].clone()
    };
    let asked = json!({ "inputs": { "text": "a", "pair": "b" }, "tasks": ["similarity"], "raw": true });
    let told = &server.predict(&asked)["results"][0]["tasks"]["similarity"];
    assert_alike(&json!([regression(false), regression(true)]), &json!([told["value"], told["logits"][0]]));
}

#[test]
fn the_known_shape_cuts_only_what_it_may() {
    let server = serve(&[]);
    let long = "weather ".repeat(60);
    let ask = |truncate: &Value| {
        let mut body = json!({ "inputs": [["a fine day"], [long]], "truncation_direction": "Right" });
        if !truncate.is_null() {
            body["truncate"] = truncate.clone();
        }
        server.post("/predict?task=sentiment", &body)
    };
    for truncate in [Value::Null, json!(false)] {
        let refused = ask(&truncate);
        assert_eq!(refused.status, 413);
        assert_error(&refused, "too_long");
        let message = refused.json()["error"]["message"].clone();
        let tokens = server.results(&json!(long), &["sentiment"])[0]["lost_tokens"].as_u64().unwrap() + 48;
        assert_eq!(message, format!("input 1 has {tokens} tokens, where 48 are the most"));
    }
    let cut = ask(&json!(true));
    assert_eq!((cut.status, cut.json().as_array().unwrap().len()), (200, 2));
    assert_eq!(server.metric("bam_requests_total{route=\"/predict\",status=\"413\"}"), 2.0);
}

#[test]
fn what_is_served_is_told() {
    let server = serve(&[]);
    let tasks = server.get("/v1/tasks").json();
    let names: Vec<&str> =
        tasks["tasks"].as_array().unwrap().iter().map(|task| task["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["acceptability", "sentiment", "similarity", "entailment"]);
    let similarity = &tasks["tasks"][2];
    assert_eq!((&similarity["kind"], &similarity["pair"]), (&json!("regression"), &json!(true)));
    assert!(similarity["range"].is_array() && similarity["dev_scores"]["pearson"].is_f64(), "{similarity}");
    let info = server.get("/v1/info").json();
    assert_eq!((&info["stage"], &info["max_tokens"], &info["probes"]), (&json!("onnx"), &json!(48), &json!(4)));
    assert_eq!(info["precision"], "fp32");
    assert_eq!(server.get("/livez").body, "ok\n");
    server.wait_until_it_says("4 rows of its export answered as then");
}

#[test]
fn extreme_inputs_are_answered() {
    let server = serve(&[]);
    for text in [
        "",
        "   \t\n",
        "\0\u{1}\u{7f}",
        "👩‍👩‍👧‍👦🏳️‍🌈",
        "שלום \u{202e}olleh",
        "e\u{301}\u{301}\u{301}\u{301}",
        "\u{feff}\u{fffd}\u{10ffff}",
        "[CLS] [SEP] [PAD] [MASK] [UNK]",
        "漢字かな交じり文",
        &"a".repeat(10_000),
        &"a ".repeat(100_000),
    ] {
        let result = &server.results(&json!(text), &TEXTS_TASKS)[0];
        for task in TEXTS_TASKS {
            let probability = &result["tasks"][task]["labels"][0]["probability"];
            assert!(probability.as_f64().is_some_and(|p| (0.0..=1.0).contains(&p)), "{result}");
        }
        let pair = &server.results(&json!({ "text": text, "pair": text }), &PAIRS_TASKS)[0];
        assert!(pair["tasks"]["similarity"]["value"].as_f64().is_some_and(f64::is_finite), "{pair}");
    }
}

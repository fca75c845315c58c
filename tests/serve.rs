//! `bam serve` from outside: a real model behind real sockets.

mod support;

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use serde_json::{Value, json};
use support::Sandbox;
use support::http::{Answer, Server};
use support::model::{PAIRS_TASKS, TEXTS_TASKS, exported};

/// Between the sums of one batch and another.
const TOLERANCE: f64 = 1e-5;

fn serve(args: &[&str]) -> Server {
    serve_in(exported(), args)
}

fn serve_in(sandbox: &Sandbox, args: &[&str]) -> Server {
    Server::start(sandbox.command(&[&["serve", "--listen", "127.0.0.1:0"], args].concat()))
}

/// Texts of all lengths, up to some that are cut.
fn texts() -> Vec<String> {
    (0..40).map(|number| format!("row {number} {}", "the old ferry leaves ".repeat(number % 13))).collect()
}

fn pairs() -> Vec<Value> {
    texts().iter().map(|text| json!({ "text": text, "pair": "nobody saw the ferry" })).collect()
}

/// Numbers within the tolerance, all else equal.
#[track_caller]
fn assert_alike(a: &Value, b: &Value) {
    match (a, b) {
        (Value::Object(a), Value::Object(b)) => {
            assert_eq!(a.keys().collect::<Vec<_>>(), b.keys().collect::<Vec<_>>());
            a.iter().for_each(|(name, value)| assert_alike(value, &b[name]));
        }
        (Value::Array(a), Value::Array(b)) => {
            assert_eq!(a.len(), b.len());
            a.iter().zip(b).for_each(|(a, b)| assert_alike(a, b));
        }
        (Value::Number(a), Value::Number(b)) => {
            let (a, b) = (a.as_f64().unwrap(), b.as_f64().unwrap());
            assert!((a - b).abs() <= TOLERANCE, "{a} is not {b}");
        }
        (a, b) => assert_eq!(a, b),
    }
}

#[test]
fn a_batch_answers_as_each_input_alone() {
    let server = serve(&[]);
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
    let server = serve(&["--sessions", "2", "--threads", "2"]);
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
    assert!(cut["lost_tokens"].as_u64().unwrap() > 900, "{}", cut["lost_tokens"]);

    let known = server.post("/predict?task=sentiment", &json!({ "inputs": "a fine day" })).json();
    assert_alike(&known[0]["score"], &labels[0]["probability"]);
    assert_eq!(known[0]["label"], labels[0]["label"]);
    let batch = server.post("/predict?task=sentiment", &json!({ "inputs": [["a fine day"], ["a dull day"]] })).json();
    assert_alike(&batch[0], &known);
    assert_eq!(batch.as_array().unwrap().len(), 2);
    let pair = server.post("/predict?task=entailment", &json!({ "inputs": ["a fine day", "a day"] })).json();
    assert_eq!(pair.as_array().unwrap().len(), 3);
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
    assert_eq!(server.get("/livez").body, "ok\n");
    assert!(server.said().contains("4 rows of its export answered as then"), "{}", server.said());
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

/// Method, path, headers, body; status and code.
type Case<'a> = (&'a str, &'a str, &'a [&'a str], &'a str, u16, &'a str);

#[test]
fn every_error_has_one_form() {
    let server = serve(&["--max-body", "20000", "--max-inputs", "3", "--queue-tokens", "100"]);
    let json_type = "content-type: application/json";
    let cases: &[Case<'_>] = &[
        ("GET", "/nowhere", &[], "", 404, "not_found"),
        ("GET", "/v1/predict", &[], "", 405, "wrong_method"),
        ("POST", "/v1/predict", &[], "{}", 415, "not_json"),
        ("POST", "/v1/predict", &["content-type: text/plain"], "{}", 415, "not_json"),
        ("POST", "/v1/predict", &[json_type], "", 400, "malformed_json"),
        ("POST", "/v1/predict", &[json_type], "{\"inputs\": \"a\"", 400, "malformed_json"),
        ("POST", "/v1/predict", &[json_type], "{\"inputs\": \"a\"} x", 400, "malformed_json"),
        ("POST", "/v1/predict", &[json_type], "{\"inputs\": \"\\ud800\"}", 400, "malformed_json"),
        ("POST", "/v1/predict", &[json_type], "[]", 422, "wrong_shape"),
        ("POST", "/v1/predict", &[json_type], "[\"a\"]", 422, "wrong_shape"),
        ("POST", "/v1/predict", &[json_type], "{}", 422, "wrong_shape"),
        ("POST", "/v1/predict", &[json_type], "{\"inputs\": [[\"a\", \"b\"]]}", 422, "wrong_shape"),
        ("POST", "/v1/predict", &[json_type], "{\"inputs\": {\"text\": \"a\", \"par\": \"b\"}}", 422, "wrong_shape"),
        ("POST", "/v1/predict", &[json_type], "{\"inputs\": 7}", 422, "wrong_shape"),
        ("POST", "/v1/predict", &[json_type], "{\"inputs\": [\"a\", null]}", 422, "wrong_shape"),
        ("POST", "/v1/predict", &[json_type], "{\"inputs\": \"a\", \"task\": \"x\"}", 422, "wrong_shape"),
        ("POST", "/v1/predict", &[json_type], "{\"inputs\": \"a\", \"top_k\": 0}", 422, "wrong_shape"),
        ("POST", "/v1/predict", &[json_type], "{\"inputs\": []}", 422, "no_inputs"),
        ("POST", "/v1/predict", &[json_type], "{\"inputs\": \"a\", \"tasks\": [\"sentimnt\"]}", 422, "unknown_task"),
        ("POST", "/v1/predict", &[json_type], "{\"inputs\": \"a\", \"tasks\": [\"entailment\"]}", 422, "no_pair"),
        (
            "POST",
            "/v1/predict",
            &[json_type],
            "{\"inputs\": {\"text\": \"a\", \"pair\": \"b\"}, \"tasks\": [\"sentiment\"]}",
            422,
            "not_a_pair",
        ),
        ("POST", "/v1/predict", &[json_type], "{\"inputs\": [\"a\", \"b\", \"c\", \"d\"]}", 413, "too_many_inputs"),
        ("POST", "/v1/tokenize", &[json_type], "{\"inputs\": [\"a\", \"b\", \"c\", \"d\"]}", 413, "too_many_inputs"),
        ("POST", "/predict", &[json_type], "{\"inputs\": [\"a\", \"b\", \"c\"]}", 422, "wrong_shape"),
        ("POST", "/predict", &[json_type], "{\"inputs\": [[]]}", 422, "wrong_shape"),
        ("POST", "/predict?task=none", &[json_type], "{\"inputs\": \"a\"}", 422, "unknown_task"),
    ];
    for (method, path, headers, body, status, code) in cases {
        let answer = server.try_request(method, path, headers, body).unwrap();
        assert_eq!(answer.status, *status, "{method} {path} {body}: {}", answer.body);
        assert_error(&answer, code);
    }
    let long = "a b c d e f g h i j k l m n o p q r s t u v w x y z ".repeat(4);
    assert_error(&server.post("/v1/predict", &json!({ "inputs": [long, long, long] })), "too_many_tokens");
    let near = server.post("/v1/predict", &json!({ "inputs": "a", "tasks": ["sentimnt"] })).json();
    assert_eq!(near["error"]["message"], "the model has no task `sentimnt`");
    assert_eq!(near["error"]["hint"], "did you mean `sentiment`?");
    let huge = format!("{{\"inputs\": \"{}\"}}", "a".repeat(20_001));
    let answer = server.try_request("POST", "/v1/predict", &[json_type], &huge).unwrap();
    assert_eq!(answer.status, 413);
    assert_error(&answer, "body_too_large");
}

#[track_caller]
fn assert_error(answer: &Answer, code: &str) {
    let json = answer.json();
    let error = json["error"].as_object().unwrap_or_else(|| panic!("{}", answer.body));
    assert_eq!(error.keys().collect::<Vec<_>>(), ["code", "hint", "message"]);
    assert_eq!(error["code"], code, "{}", answer.body);
    assert!(error.values().all(|text| !text.as_str().unwrap().is_empty()), "{}", answer.body);
    assert_eq!((json.as_object().unwrap().len(), answer.header("content-type")), (1, Some("application/json")));
}

#[test]
fn metrics_are_those_of_the_requests_made() {
    let server = serve(&[]);
    let mut tokens = 0;
    for number in 0..5 {
        let results = server.results(&json!(texts()[..=number]), &["sentiment"]);
        tokens += results.iter().map(|row| row["tokens"].as_u64().unwrap()).sum::<u64>();
    }
    server.post("/v1/predict", &json!({ "inputs": 3 }));
    server.get("/nowhere");
    let predictions =
        |label: &str| server.metric(&format!("bam_predictions_total{{task=\"sentiment\",label=\"{label}\"}}"));
    let labels = server.get("/v1/tasks").json()["tasks"][1]["labels"].clone();
    let labels: Vec<&str> = labels.as_array().unwrap().iter().map(|label| label.as_str().unwrap()).collect();
    assert_eq!(labels.iter().map(|label| predictions(label)).sum::<f64>(), 15.0);
    for (name, value) in [
        ("bam_requests_total{route=\"/v1/predict\",status=\"200\"}", 5.0),
        ("bam_requests_total{route=\"/v1/predict\",status=\"422\"}", 1.0),
        ("bam_requests_total{route=\"other\",status=\"404\"}", 1.0),
        ("bam_request_phase_seconds_count{phase=\"queue\"}", 5.0),
        ("bam_request_phase_seconds_count{phase=\"compute\"}", 5.0),
        ("bam_tokens_total", tokens as f64),
        ("bam_batch_rows_sum", 15.0),
        ("bam_batch_tokens_sum", tokens as f64),
        ("bam_queue_rows", 0.0),
        ("bam_queue_tokens", 0.0),
        // This very request.
        ("bam_requests_in_flight", 1.0),
    ] {
        assert_eq!(server.metric(name), value, "{name} in {}", server.get("/metrics").body);
    }
    let metrics = server.get("/metrics");
    let fingerprint = exported().manifest("onnx")["fingerprint"].as_str().unwrap().to_owned();
    assert!(metrics.body.contains(&format!("bam_model_info{{fingerprint=\"{fingerprint}\",stage=\"onnx\"}} 1")));
    assert!(
        metrics.body.ends_with("# EOF\n")
            && metrics.header("content-type").unwrap().starts_with("application/openmetrics-text")
    );
}

#[test]
fn a_full_queue_refuses_and_says_for_how_long() {
    let server = serve(&["--queue-tokens", "60"]);
    let busy = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                while !busy.load(Ordering::Relaxed) {
                    let answer =
                        server.post("/v1/predict", &json!({ "inputs": "word ".repeat(60), "tasks": ["sentiment"] }));
                    if answer.status == 429 {
                        assert_error(&answer, "busy");
                        assert!(answer.header("retry-after").unwrap().parse::<u64>().is_ok_and(|secs| secs >= 1));
                        busy.store(true, Ordering::Relaxed);
                    } else {
                        assert_eq!(answer.status, 200, "{}", answer.body);
                    }
                }
            });
        }
    });
    server.results(&json!("and then there is room again"), &["sentiment"]);
}

#[test]
fn hostile_clients_are_survived() {
    let server = serve(&["--timeout", "400ms", "--connections", "64", "--max-body", "64KiB"]);
    let head = "POST /v1/predict HTTP/1.1\r\nhost: test\r\nconnection: close\r\ncontent-type: application/json\r\n";
    let body = json!({ "inputs": texts(), "tasks": ["sentiment"] }).to_string();
    let storm = |rounds: usize| {
        thread::scope(|scope| {
            for client in 0..8 {
                let (server, body) = (&server, &body);
                scope.spawn(move || {
                    for round in 0..rounds {
                        let mut stream = server.connect().unwrap();
                        let whole = format!("{head}content-length: {}\r\n\r\n{body}", body.len());
                        let sent = match (client + round) % 8 {
                            0 => "\x16\x03\x01\x02\0\x01\0\x01".to_owned(),
                            1 => "GET / HTTP/9.9\r\n\r\n".to_owned(),
                            2 => "A".repeat(100_000),
                            3 => format!("{head}content-length: 99999999\r\n\r\n{body}"),
                            4 => format!("{head}transfer-encoding: chunked\r\n\r\nzz\r\n"),
                            5 => format!("{head}content-length: 10\r\ncontent-length: 20\r\n\r\n"),
                            // Gone without waiting for the answer, or half gone.
                            _ => whole,
                        };
                        // A server that has heard enough may hang up while we speak.
                        drop(stream.write_all(sent.as_bytes()));
                        if (client + round) % 8 == 7 {
                            drop(stream.shutdown(Shutdown::Write));
                        }
                        if round % 2 == 0 {
                            drop(stream.read(&mut [0; 64]));
                        }
                    }
                });
            }
        });
    };
    storm(20);
    let before = server.memory_bytes();
    storm(60);

    // Slow ones: a head, or a body, that never ends.
    let mut slow_head = server.connect().unwrap();
    slow_head.write_all(b"POST /v1/predict HTT").unwrap();
    let mut slow_body = server.connect().unwrap();
    slow_body.write_all(format!("{head}content-length: 50\r\n\r\n{{\"inputs\"").as_bytes()).unwrap();
    let answer = Answer::read(&mut slow_body).unwrap();
    assert_eq!(answer.status, 503);
    assert_error(&answer, "timeout");
    let mut rest = Vec::new();
    drop(slow_head.read_to_end(&mut rest));
    assert!(!String::from_utf8_lossy(&rest).starts_with("HTTP/1.1 200"), "{rest:?}");

    server.wait_until("the queue is empty", || server.metric("bam_queue_tokens") == 0.0);
    server.wait_until("only this request is under way", || server.metric("bam_requests_in_flight") == 1.0);
    assert_eq!(server.results(&json!("still there?"), &["sentiment"]).len(), 1);
    let after = server.memory_bytes();
    assert!(after < before + (32 << 20), "{before} bytes before, {after} after");
}

#[test]
fn sigterm_under_load_loses_nothing_that_was_accepted() {
    // One row a batch: the requests take long enough to be under way.
    let server = serve(&["--batch-tokens", "1", "--threads", "1"]);
    let body = json!({ "inputs": pairs(), "tasks": PAIRS_TASKS }).to_string();
    let head = "POST /v1/predict HTTP/1.1\r\nhost: test\r\ncontent-type: application/json\r\n";
    let mut streams: Vec<_> = (0..24)
        .map(|_| {
            let mut stream = server.connect().unwrap();
            stream.write_all(format!("{head}content-length: {}\r\n\r\n{body}", body.len()).as_bytes()).unwrap();
            stream
        })
        .collect();
    let done = "bam_requests_total{route=\"/v1/predict\",status=\"200\"}";
    server.wait_until("all are accepted", || server.metric("bam_requests_in_flight") + server.metric(done) >= 25.0);
    server.terminate();
    let answers = streams.iter_mut().map(|stream| Answer::read(stream).unwrap());
    for answer in answers {
        assert_eq!((answer.status, answer.json()["results"].as_array().unwrap().len()), (200, 40));
    }
    let address = server.address;
    let (status, said) = server.end();
    assert!(status.success(), "{status}: {said}");
    assert!(
        said.contains("DRAINING no new connections") && said.contains("all that was accepted has been answered"),
        "{said}"
    );
    assert!(std::net::TcpStream::connect(address).is_err());
}

#[test]
fn a_drain_has_an_end() {
    let server = serve(&["--drain", "100ms", "--timeout", "1h"]);
    let mut slow = server.connect().unwrap();
    slow.write_all(
        b"POST /v1/predict HTTP/1.1\r\nhost: test\r\ncontent-type: application/json\r\ncontent-length: 9\r\n\r\n{",
    )
    .unwrap();
    server.wait_until("it is accepted", || server.metric("bam_requests_in_flight") == 2.0);
    server.terminate();
    let (status, said) = server.end();
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains("1 connection cut off at the deadline"), "{said}");
}

/// A copy of the model that says it is another.
fn copy_of_model(to: &Path, fingerprint: &str) {
    let from = exported().path("artifacts/latest/onnx");
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap().flatten() {
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
    let mut info: Value = serde_json::from_str(&fs::read_to_string(to.join("bam.json")).unwrap()).unwrap();
    info["fingerprint"] = json!(fingerprint);
    fs::write(to.join("bam.json"), info.to_string()).unwrap();
}

#[test]
fn a_newer_model_is_taken_up_and_no_request_fails() {
    let sandbox = Sandbox::new();
    let [one, two, broken] = ["1", "2", "3"].map(|digit| digit.repeat(64));
    for (name, fingerprint) in [("one", &one), ("two", &two), ("broken", &broken)] {
        copy_of_model(&sandbox.path(name), fingerprint);
    }
    let probes = sandbox.read("broken/probes.json");
    let mut probes: Value = serde_json::from_str(&probes).unwrap();
    probes["rows"][0]["logits"]["sentiment"][0] = json!(99.0);
    sandbox.write("broken/probes.json", &probes.to_string());
    let turn = |to: &str| {
        symlink(to, sandbox.path("next")).unwrap();
        fs::rename(sandbox.path("next"), sandbox.path("model")).unwrap();
    };
    turn("one");
    let server = serve_in(&sandbox, &["model"]);
    let ended = AtomicBool::new(false);
    let serves = |fingerprint: &str| server.get("/v1/info").json()["model"] == fingerprint;
    assert!(serves(&one));
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let expected = server.results(&json!(texts()), &["sentiment"]);
                while !ended.load(Ordering::Relaxed) {
                    assert_alike(&json!(server.results(&json!(texts()), &["sentiment"])), &json!(expected));
                }
            });
        }
        turn("two");
        server.wait_until("the newer model is served", || serves(&two));
        turn("broken");
        server.wait_until("the broken one is refused", || server.metric("bam_reloads_total{result=\"failed\"}") == 1.0);
        ended.store(true, Ordering::Relaxed);
    });
    assert!(serves(&two));
    assert_eq!(server.metric("bam_reloads_total{result=\"taken_up\"}"), 1.0);
    let refusal = "the newer model is not taken up: the model in `";
    assert!(
        server.said().contains(refusal) && server.said().contains("answers probe 0 of `sentiment` otherwise"),
        "{}",
        server.said()
    );
}

#[test]
fn keys_are_asked_for_where_there_are_any() {
    exported().write("keys.txt", "# two\nfirst-key\nsecond-key\n");
    let server = serve(&["--api-keys", "keys.txt"]);
    let ask = |path: &str, header: &str| {
        let headers = [header];
        let headers = if header.is_empty() { &headers[..0] } else { &headers[..] };
        server.try_request("GET", path, headers, "").unwrap()
    };
    for (header, code) in [
        ("", "no_key"),
        ("authorization: Basic first-key", "no_key"),
        ("authorization: Bearer", "no_key"),
        ("authorization: Bearer first-ke", "unknown_key"),
        ("authorization: Bearer # two", "unknown_key"),
    ] {
        let answer = ask("/v1/tasks", header);
        assert_eq!((answer.status, answer.header("www-authenticate")), (401, Some("Bearer")), "{header}");
        assert_error(&answer, code);
    }
    for header in ["authorization: Bearer first-key", "Authorization: bearer second-key"] {
        assert_eq!(ask("/v1/tasks", header).status, 200);
    }
    assert_eq!(["/metrics", "/v1/info"].map(|path| ask(path, "").status), [401; 2]);
    assert_eq!(["/livez", "/readyz", "/", "/docs", "/openapi.json"].map(|path| ask(path, "").status), [200; 5]);
}

#[test]
fn what_is_unsafe_or_wrong_is_refused_before_anything_listens() {
    let sandbox = exported();
    sandbox.write("no-keys.txt", "\n# none\n");
    for (args, error) in [
        (&["--listen", "0.0.0.0:0"][..], "`--listen 0.0.0.0:0` lets others in, and there are no keys"),
        (&["--listen", "[::]:0"], "`--listen [::]:0` lets others in, and there are no keys"),
        (&["--api-keys", "no-keys.txt"], "`no-keys.txt` holds no key"),
        (&["--api-keys", "none.txt"], "the keys in `none.txt` can't be read"),
        (&["--cors", "example.org"], "`--cors example.org` is no origin"),
        (&["student"], "`student` is no exported model: it has no `model.onnx`"),
        (&["onyx"], "no artifact `onyx`"),
    ] {
        let said = sandbox.bam(&[&["serve"], args].concat());
        assert_eq!(said.code, 2, "{}", said.stderr);
        assert!(
            said.stderr.starts_with(&format!("error: {error}")) && said.stderr.contains("\nhint: "),
            "{}",
            said.stderr
        );
    }
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let said = sandbox.bam(&["serve", "--listen", &taken.local_addr().unwrap().to_string()]);
    assert_eq!(said.code, 2);
    assert!(
        said.stderr.contains("can't listen on 127.0.0.1:") && said.stderr.contains("ddress already in use"),
        "{}",
        said.stderr
    );
}

#[test]
fn other_origins_may_call_only_where_they_are_named() {
    let preflight = |server: &Server, origin: &str| {
        let headers = [format!("origin: {origin}"), "access-control-request-method: POST".to_owned()];
        let headers: Vec<&str> = headers.iter().map(String::as_str).collect();
        server.try_request("OPTIONS", "/v1/predict", &headers, "").unwrap()
    };
    let allowed = |answer: &Answer| answer.header("access-control-allow-origin").map(ToOwned::to_owned);
    assert_eq!(allowed(&preflight(&serve(&[]), "https://one.example")), None);
    let server = serve(&["--cors", "https://one.example"]);
    assert_eq!(allowed(&preflight(&server, "https://one.example")).as_deref(), Some("https://one.example"));
    assert_eq!(allowed(&preflight(&server, "https://two.example")), None);
}

#[test]
fn the_openapi_document_is_as_it_was_and_names_only_what_it_has() {
    let server = serve(&[]);
    let document = server.get("/openapi.json").json();
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"), "{document}");
    let text = document.to_string();
    for reference in text.split("\"#/components/schemas/").skip(1) {
        let name = reference.split('"').next().unwrap();
        assert!(document["components"]["schemas"].get(name).is_some(), "no shape `{name}`");
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/openapi.json");
    let shown = serde_json::to_string_pretty(&document).unwrap() + "\n";
    if std::env::var_os("BAM_UPDATE_FIXTURES").is_some() {
        fs::write(&path, &shown).unwrap();
    }
    assert_eq!(fs::read_to_string(&path).unwrap(), shown, "if it may differ: BAM_UPDATE_FIXTURES=1 writes it anew");
}

#[test]
fn pages_need_nothing_from_elsewhere() {
    let server = serve(&[]);
    for path in ["/", "/docs"] {
        let page = server.get(path);
        assert!(page.header("content-security-policy").unwrap().starts_with("default-src 'none'"));
        for elsewhere in ["http:", "https:", "src=\"", "@import", " url("] {
            assert!(!page.body.contains(elsewhere), "`{elsewhere}` in {path}");
        }
    }
}

#[test]
fn a_browser_shows_the_pages() {
    let Some(chromium) = ["chromium", "chromium-browser", "google-chrome"].into_iter().find(|name| {
        let found = Command::new(name).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
        found.is_ok_and(|status| status.success())
    }) else {
        eprintln!("skipped: there is no Chromium to show the pages");
        return;
    };
    let server = serve(&[]);
    let show = |path: &str| {
        let profile = tempfile::tempdir().unwrap();
        let output = Command::new(chromium)
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=10000", "--dump-dom"])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .arg(format!("http://{}{path}", server.address))
            .output()
            .expect("it starts");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let page = show("/");
    for text in ["acceptability", "sentiment", "similarity", "entailment", "up to 48 tokens"] {
        assert!(page.contains(text), "`{text}` in {page}");
    }
    assert!(!page.contains("class=\"card error\""), "{page}");
    let docs = show("/docs");
    for text in ["/v1/predict", "PredictRequest", "/metrics", "list of "] {
        assert!(docs.contains(text), "`{text}` in {docs}");
    }
}

//! Each error, and its form.

use serde_json::json;

use super::{assert_error, serve};

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
        ("POST", "/v1/predict", &[json_type, "content-encoding: gzip"], "{}", 415, "encoded_body"),
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
        (
            "POST",
            "/v1/predict",
            &[json_type],
            "{\"inputs\": \"a\", \"tasks\": [\"sentiment\", \"sentiment\", \"sentiment\", \"sentiment\", \"sentiment\"]}",
            422,
            "wrong_shape",
        ),
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
        ("POST", "/predict", &[json_type], "{\"inputs\": []}", 422, "no_inputs"),
        ("POST", "/predict?task=none", &[json_type], "{\"inputs\": \"a\"}", 422, "unknown_task"),
        ("POST", "/predict?tsk=sentiment", &[json_type], "{\"inputs\": \"a\"}", 422, "wrong_shape"),
        ("POST", "/predict", &[json_type], "{\"inputs\": \"a\", \"raw_score\": true}", 422, "wrong_shape"),
        (
            "POST",
            "/predict",
            &[json_type],
            "{\"inputs\": \"a\", \"truncation_direction\": \"Left\"}",
            422,
            "wrong_shape",
        ),
    ];
    for (method, path, headers, body, status, code) in cases {
        let answer = server.try_request(method, path, headers, body).unwrap();
        assert_eq!(answer.status, *status, "{method} {path} {body}: {}", answer.body);
        assert_error(&answer, code);
    }
    let long = "a b c d e f g h i j k l m n o p q r s t u v w x y z ".repeat(4);
    for route in ["/v1/predict", "/v1/tokenize"] {
        assert_error(&server.post(route, &json!({ "inputs": [long, long, long] })), "too_many_tokens");
    }
    let huge = format!("{{\"inputs\": \"{}\"}}", "a".repeat(20_001));
    let answer = server.try_request("POST", "/v1/predict", &[json_type], &huge).unwrap();
    assert_eq!(answer.status, 413);
    assert_error(&answer, "body_too_large");
}

#[test]
fn what_is_wrong_is_told_by_its_place_and_in_words_of_json() {
    let server = serve(&[]);
    let wrong = [
        (
            json!({ "inputs": 7 }),
            "`inputs`: invalid type: integer `7`, expected a text, an object of `text` and `pair`, or a list of such",
        ),
        (
            json!({ "inputs": ["a", null] }),
            "`inputs[1]`: invalid type: null, expected a text or an object of `text` and `pair`",
        ),
        (
            json!({ "inputs": ["a", { "text": "a", "par": "b" }] }),
            "`inputs[1].par`: unknown field `par`, expected `text` or `pair`",
        ),
        (
            json!({ "inputs": { "text": "a", "pair": 1 } }),
            "`inputs.pair`: invalid type: integer `1`, expected a string",
        ),
        (
            json!({ "inputs": "a", "tasks": "sentiment" }),
            "`tasks`: invalid type: string \"sentiment\", expected a list",
        ),
        (json!(7), "invalid type: integer `7`, expected an object"),
        (
            json!({ "inputs": [["a", "b"]] }),
            "`inputs[0]`: invalid type: list, expected a text or an object of `text` and `pair`",
        ),
        // What is the client's own stays as it is, as far as it is told.
        (
            json!({ "inputs": "a", "tasks": "a map at line 3" }),
            "`tasks`: invalid type: string \"a map at line 3\", expected a list",
        ),
        (json!({ "inputs": "a", "top_k": -1 }), "`top_k`: invalid value: integer `-1`, expected a whole number"),
    ];
    for (body, message) in wrong {
        assert_eq!(server.post("/v1/predict", &body).json()["error"]["message"], message);
    }
    for tasks in [json!("long".repeat(2000)), json!(["long".repeat(2000)]), json!([{ "long".repeat(2000): 1 }])] {
        let answer = server.post("/v1/predict", &json!({ "inputs": "a", "tasks": tasks }));
        assert!(answer.status == 422 && answer.body.len() < 1000, "{}", answer.body);
    }
    let near = server.post("/v1/predict", &json!({ "inputs": "a", "tasks": ["sentimnt"] })).json();
    assert_eq!(near["error"]["message"], "the model has no task `sentimnt`");
    assert_eq!(near["error"]["hint"], "did you mean `sentiment`?");
}

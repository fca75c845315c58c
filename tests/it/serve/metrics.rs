//! Counts are those of the requests made.

use std::io::Write as _;

use serde_json::json;

use super::{serve, texts};
use crate::support::model::exported;

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
    // A request's batch takes its time once, however many of its rows are in it.
    let seconds = |phase: &str| server.metric(&format!("bam_request_phase_seconds_sum{{phase=\"{phase}\"}}"));
    let all = server.metric("bam_request_seconds_sum{route=\"/v1/predict\"}");
    assert!(0.0 < seconds("compute") && seconds("queue") + seconds("compute") <= all);
    // Probes and scrapes are apart from it.
    assert_eq!(server.metric("bam_request_seconds_count{route=\"/v1/predict\"}"), 6.0);
    // A text beside a pair is asked by the heads of texts alone, and counted so.
    server.predict(&json!({ "inputs": ["a fine day", { "text": "a", "pair": "b" }] }));
    assert_eq!(server.metric("bam_predictions_total{task=\"similarity\",label=\"\"}"), 1.0);
    assert_eq!(labels.iter().map(|label| predictions(label)).sum::<f64>(), 16.0);
    let metrics = server.get("/metrics");
    let fingerprint = exported().manifest("onnx")["fingerprint"].as_str().unwrap().to_owned();
    assert!(metrics.body.contains(&format!("bam_model_info{{fingerprint=\"{fingerprint}\",stage=\"onnx\"}} 1")));
    assert!(
        metrics.body.ends_with("# EOF\n")
            && metrics.header("content-type").unwrap().starts_with("application/openmetrics-text")
    );
}

#[test]
fn older_scrapers_get_the_older_text() {
    let server = serve(&[]);
    server.results(&json!("a fine day"), &["sentiment"]);
    let accept = ["accept: text/plain;version=0.0.4;q=1,*/*;q=0.1"];
    let metrics = server.try_request("GET", "/metrics", &accept, "").unwrap();
    assert_eq!(metrics.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    for part in [
        "# HELP bam_requests_total Requests ",
        "# TYPE bam_requests_total counter\n",
        "bam_requests_total{route=\"/v1/predict\",status=\"200\"} 1\n",
        "# TYPE bam_build_info gauge\nbam_build_info{",
        "# TYPE bam_request_phase_seconds histogram\n",
    ] {
        assert!(metrics.body.contains(part), "`{part}` in {}", metrics.body);
    }
    assert!(!metrics.body.contains("# UNIT") && !metrics.body.contains("# EOF"), "{}", metrics.body);
}

#[test]
fn a_client_that_has_gone_is_counted_and_its_rows_are_dropped() {
    // Each row is a batch of its own, so that most of them still wait when the client goes.
    let server =
        serve(&["--batch-tokens=1", "--threads=1", "--max-inputs=20000", "--queue-tokens=2000000", "--max-body=16MiB"]);
    let body = json!({ "inputs": vec!["weather ".repeat(60); 20_000], "tasks": ["sentiment"] }).to_string();
    let head = "POST /v1/predict HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n";
    let mut client = server.connect().unwrap();
    client.write_all(format!("{head}content-length: {}\r\n\r\n{body}", body.len()).as_bytes()).unwrap();
    server.wait_until("its rows wait", || server.metric("bam_queue_rows") > 0.0);
    drop(client);
    let gone = "bam_requests_total{route=\"/v1/predict\",status=\"499\"}";
    server.wait_until("it is counted", || server.metric(gone) == 1.0);
    // A batch under way is finished.
    server.wait_until("nothing waits", || server.metric("bam_queue_rows") == 0.0);
    let computed = server.metric("bam_tokens_total");
    assert!(computed < 20_000.0 * 48.0, "{computed} tokens were computed: all");
    assert_eq!(server.metric("bam_requests_in_flight"), 1.0);
}

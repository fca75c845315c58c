//! What is beyond a bound is refused.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use super::{assert_error, serve};

/// In a rush, longer than it takes to be refused.
const LONG: Duration = Duration::from_mins(1);

#[test]
fn a_full_queue_refuses_and_says_for_how_long() {
    let server = serve(&["--queue-tokens", "60"]);
    let busy = AtomicBool::new(false);
    let answered = [200, 429].map(|status| (status, AtomicUsize::new(0)));
    let begun = Instant::now();
    thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                while !busy.load(Ordering::Relaxed) && begun.elapsed() < LONG {
                    let answer =
                        server.post("/v1/predict", &json!({ "inputs": "word ".repeat(60), "tasks": ["sentiment"] }));
                    let (_, count) = answered.iter().find(|(status, _)| *status == answer.status).expect("it is known");
                    count.fetch_add(1, Ordering::Relaxed);
                    if answer.status == 429 {
                        assert_error(&answer, "busy");
                        assert!(answer.header("retry-after").unwrap().parse::<u64>().is_ok_and(|secs| secs >= 1));
                        busy.store(true, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    assert!(busy.into_inner(), "none is refused");
    for (status, count) in answered {
        let counted = server.metric(&format!("bam_requests_total{{route=\"/v1/predict\",status=\"{status}\"}}"));
        assert_eq!(counted, count.into_inner() as f64, "{status}");
    }
    server.results(&json!("and then there is room again"), &["sentiment"]);
}

#[test]
fn what_would_wait_too_long_is_refused_however_little_it_is() {
    // One row a batch, and no time to wait: beyond the row that the session has next there is no room.
    let server = serve(&["--max-wait", "1us", "--batch-tokens", "1", "--threads", "1"]);
    let long = json!({ "inputs": "word ".repeat(60), "tasks": ["sentiment"] });
    let short = json!({ "inputs": "a fine day", "tasks": ["sentiment"] });
    assert_eq!(server.post("/v1/predict", &short).status, 200);
    let busy = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                while !busy.load(Ordering::Relaxed) {
                    assert!([200, 429].contains(&server.post("/v1/predict", &long).status));
                }
            });
        }
        server.wait_until("it is refused", || server.post("/v1/predict", &short).status == 429);
        busy.store(true, Ordering::Relaxed);
    });
    assert_eq!(server.post("/v1/predict", &short).status, 200);
}

#[test]
fn many_names_for_one_task_take_no_more_than_one() {
    let server = serve(&[]);
    let once = server.results(&json!("a fine day"), &["sentiment"]);
    let twice = server.results(&json!("a fine day"), &["sentiment", "sentiment"]);
    assert_eq!(once[0]["tasks"].as_object().unwrap().len(), twice[0]["tasks"].as_object().unwrap().len());
    let names = |names: usize| json!({ "inputs": vec![""; 256], "tasks": vec!["sentiment"; names] });
    server.post("/v1/predict", &names(4));
    let before = server.memory_bytes();
    assert_error(&server.post("/v1/predict", &names(80_000)), "wrong_shape");
    assert!(server.memory_bytes() < before + (64 << 20), "{before} bytes before, {} after", server.memory_bytes());
}

#[test]
fn a_text_of_a_megabyte_takes_little_more_memory_than_its_own() {
    let server = serve(&[]);
    server.results(&json!("a fine day"), &["sentiment"]);
    let before = server.peak_memory_bytes();
    for text in ["!".repeat(1_000_000), "\u{e9}! ".repeat(200_000)] {
        server.results(&json!(text), &["sentiment"]);
        assert_eq!(server.post("/v1/tokenize", &json!({ "inputs": text })).status, 200);
    }
    let after = server.peak_memory_bytes();
    assert!(after < before + (64 << 20), "{before} bytes before, {after} after");
}

#[test]
fn a_text_of_nothing_is_cut_first_and_others_after_it() {
    let server = serve(&[]);
    for text in ["", "", "a fine day", ""] {
        assert_eq!(server.post("/v1/tokenize", &json!({ "inputs": text })).status, 200, "`{text}`");
    }
    let long = server.post("/v1/tokenize", &json!({ "inputs": vec!["weather ".repeat(200); 20] }));
    assert_eq!(long.status, 200, "{}", long.body);
}

#[test]
fn a_large_request_in_a_rush_is_answered_or_refused_but_never_given_up() {
    // One row a batch, and small requests that come all the time.
    let bounds = ["--timeout", "10s", "--batch-tokens", "1", "--threads", "1", "--max-wait", "1h"];
    let sizes = ["--max-inputs", "4096", "--queue-tokens", "1000000", "--max-body", "4MiB"];
    let server = serve(&[&bounds[..], &sizes].concat());
    // Of some rows each, so that the session, and not what is around it, is what they wait for.
    let small = json!({ "inputs": vec!["word ".repeat(60); 4], "tasks": ["sentiment"] });
    // Alone it takes a fraction of the timeout, and beside the others several times it: also where the machine is busy, so that
    // half of them come late.
    let large = json!({ "inputs": vec!["word ".repeat(60); 4096], "tasks": ["sentiment"] });
    let ended = AtomicBool::new(false);
    let answered = thread::scope(|scope| {
        for _ in 0..32 {
            scope.spawn(|| {
                while !ended.load(Ordering::Relaxed) {
                    assert_eq!(server.post("/v1/predict", &small).status, 200);
                }
            });
        }
        // Until it is nearly known how many share the session.
        thread::sleep(Duration::from_secs(6));
        let answered = [(); 3].map(|()| server.post("/v1/predict", &large));
        ended.store(true, Ordering::Relaxed);
        answered
    });
    for answer in answered {
        assert!([200, 429].contains(&answer.status), "{}", answer.body);
    }
    assert_eq!(server.post("/v1/predict", &large).status, 200);
}

#[test]
fn a_request_that_waits_too_long_is_given_up_and_leaves_the_queue() {
    // Each row is a batch of its own, and there is more than can be computed in the time.
    let server = serve(&[
        "--timeout=500ms",
        "--batch-tokens=1",
        "--threads=1",
        "--max-inputs=50000",
        "--queue-tokens=5000000",
        "--max-body=32MiB",
    ]);
    let many = json!({ "inputs": vec!["weather ".repeat(60); 30_000], "tasks": ["sentiment"] });
    let answer = server.post("/v1/predict", &many);
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("1")));
    assert_error(&answer, "timeout");
    server.wait_until("nothing waits", || server.metric("bam_queue_tokens") == 0.0);
    server.results(&json!("and then there is time again"), &["sentiment"]);
}

//! What is beyond a bound is refused.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use serde_json::json;

use super::{assert_error, serve};

#[test]
fn a_full_queue_refuses_and_says_for_how_long() {
    let server = serve(&["--queue-tokens", "60"]);
    let busy = AtomicBool::new(false);
    let answered = [200, 429].map(|status| (status, AtomicUsize::new(0)));
    thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                while !busy.load(Ordering::Relaxed) {
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
    for (status, count) in answered {
        let counted = server.metric(&format!("bam_requests_total{{route=\"/v1/predict\",status=\"{status}\"}}"));
        assert_eq!(counted, count.into_inner() as f64, "{status}");
    }
    server.results(&json!("and then there is room again"), &["sentiment"]);
}

#[test]
fn what_would_wait_too_long_is_refused_however_little_it_is() {
    // One row a batch, and no time to wait: beyond 8 of its like there is no room.
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

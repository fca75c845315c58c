//! A server that is told to stop.

use std::io::Write as _;
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use serde_json::json;

use super::{pairs, serve};
use crate::support::http::{Answer, Server};
use crate::support::model::PAIRS_TASKS;

#[test]
fn sigterm_under_load_loses_nothing_that_was_accepted() {
    // One row a batch: the requests take long enough to be under way.
    let server = serve(&["--batch-tokens", "1", "--threads", "1", "--max-wait", "1h"]);
    let body = json!({ "inputs": pairs(), "tasks": PAIRS_TASKS }).to_string();
    let head = "POST /v1/predict HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n";
    let mut streams: Vec<_> = (0..24)
        .map(|_| {
            let mut stream = server.connect().unwrap();
            stream.write_all(format!("{head}content-length: {}\r\n\r\n{body}", body.len()).as_bytes()).unwrap();
            stream
        })
        .collect();
    let done = "bam_requests_total{route=\"/v1/predict\",status=\"200\"}";
    server.wait_until("all are accepted", || server.metric("bam_requests_in_flight") + server.metric(done) >= 25.0);
    thread::scope(|scope| {
        // Others come meanwhile, until nobody listens any more. What is answered is answered in full.
        let arrivals = [(); 8].map(|()| {
            scope.spawn(|| {
                let mut answered = 0;
                while let Ok(answer) = server.try_request("GET", "/v1/tasks", &[], "") {
                    assert_eq!((answer.status, answer.json()["tasks"].as_array().unwrap().len()), (200, 4));
                    answered += 1;
                }
                answered
            })
        });
        thread::sleep(Duration::from_millis(100));
        server.terminate();
        assert!(arrivals.map(|arrivals| arrivals.join().unwrap()).iter().sum::<i32>() > 8);
    });
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
    assert!(TcpStream::connect(address).is_err());
}

#[test]
fn connections_that_the_system_has_made_are_taken_up_at_the_end_though_all_places_are_taken() {
    let server = serve(&["--connections", "2", "--timeout", "2s"]);
    let speak = |said: &str| {
        let mut stream = server.connect().unwrap();
        stream.write_all(said.as_bytes()).unwrap();
        stream
    };
    let head = "POST /v1/predict HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n";
    let _taken = [(); 2].map(|()| speak(&format!("{head}content-length: 9\r\n\r\n{{")));
    thread::sleep(Duration::from_millis(300));
    let mut waiting = [(); 5].map(|()| speak("GET /v1/tasks HTTP/1.1\r\nhost: localhost\r\n\r\n"));
    server.terminate();
    for stream in &mut waiting {
        assert_eq!(Answer::read(stream).unwrap().status, 200);
    }
    let (status, said) = server.end();
    assert!(status.success(), "{status}: {said}");
}

/// A request that never ends.
fn endless(server: &Server) -> TcpStream {
    let mut stream = server.connect().unwrap();
    let head = "POST /v1/predict HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n";
    stream.write_all(format!("{head}content-length: 9\r\n\r\n{{").as_bytes()).unwrap();
    server.wait_until("it is accepted", || server.metric("bam_requests_in_flight") == 2.0);
    stream
}

#[test]
fn a_drain_has_an_end() {
    let server = serve(&["--drain", "100ms", "--timeout", "1h"]);
    let _slow = endless(&server);
    server.terminate();
    let (status, said) = server.end();
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains("1 connection cut off at the deadline"), "{said}");
}

#[test]
fn a_second_signal_ends_it_at_once_however_soon_it_comes() {
    for (second, is_awaited) in [(libc::SIGINT, false), (libc::SIGINT, true), (libc::SIGTERM, true)] {
        let server = serve(&["--drain", "5s", "--timeout", "1h"]);
        let _slow = endless(&server);
        server.terminate();
        if is_awaited {
            server.wait_until_it_says("DRAINING");
        }
        server.signal(second);
        let (status, said) = server.end();
        assert_eq!(status.code(), Some(130), "{status}: {said}");
        assert!(!said.contains("ENDED"), "{said}");
    }
}

#[test]
fn a_second_signal_ends_a_server_that_computes() {
    let server = serve(&["--batch-tokens", "1", "--threads", "1", "--max-wait", "1h"]);
    let body = json!({ "inputs": pairs(), "tasks": PAIRS_TASKS }).to_string();
    let head = "POST /v1/predict HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n";
    let _streams: Vec<_> = (0..64)
        .map(|_| {
            let mut stream = server.connect().unwrap();
            stream.write_all(format!("{head}content-length: {}\r\n\r\n{body}", body.len()).as_bytes()).unwrap();
            stream
        })
        .collect();
    server.wait_until("rows wait", || server.metric("bam_queue_rows") > 100.0);
    server.terminate();
    server.signal(libc::SIGINT);
    let (status, said) = server.end();
    assert_eq!(status.code(), Some(130), "{status}: {said}");
    assert!(!said.contains("warning"), "{said}");
}

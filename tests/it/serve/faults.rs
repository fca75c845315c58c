//! Clients that misbehave, by the thousand.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::json;

use super::{assert_error, serve, texts};
use crate::support::http::{Answer, Server};
use crate::support::model::exported;

const HEAD: &str =
    "POST /v1/predict HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: application/json\r\n";

/// One way after the other; what it sends, and whether it then closes its half of the connection.
fn misbehaviour(number: usize, body: &str) -> (String, bool) {
    let whole = format!("{HEAD}content-length: {}\r\n\r\n{body}", body.len());
    match number % 10 {
        0 => ("\x16\x03\x01\x02\0\x01\0\x01".to_owned(), false),
        1 => ("GET / HTTP/9.9\r\n\r\n".to_owned(), false),
        2 => ("A".repeat(100_000), false),
        3 => (format!("{HEAD}content-length: 99999999\r\n\r\n{body}"), false),
        4 => (format!("{HEAD}transfer-encoding: chunked\r\n\r\nzz\r\n"), false),
        5 => (format!("{HEAD}content-length: 10\r\ncontent-length: 20\r\n\r\n"), false),
        // Larger than it may be, and without a length that says so.
        6 => (format!("{HEAD}transfer-encoding: chunked\r\n\r\n40000\r\n{}\r\n0\r\n\r\n", "a".repeat(0x40000)), false),
        7 => (whole[..whole.len() / 2].to_owned(), true),
        8 => (whole, true),
        _ => (whole, false),
    }
}

/// So many clients, eight at a time. Half of them are gone without waiting for an answer.
fn storm(server: &Server, clients: usize) {
    let body = json!({ "inputs": texts(), "tasks": ["sentiment"] }).to_string();
    thread::scope(|scope| {
        for first in 0..8 {
            let body = &body;
            scope.spawn(move || {
                for number in (first..clients).step_by(8) {
                    let (sent, half_closed) = misbehaviour(number, body);
                    let mut stream = server.connect().unwrap();
                    // A server that has heard enough may hang up while we speak.
                    drop(stream.write_all(sent.as_bytes()));
                    if half_closed {
                        drop(stream.shutdown(Shutdown::Write));
                    }
                    if number % 4 < 2 {
                        drop(stream.read(&mut [0; 64]));
                    }
                }
            });
        }
    });
}

fn wait_until_quiet(server: &Server) {
    server.wait_until("the queue is empty", || server.metric("bam_queue_tokens") == 0.0);
    server.wait_until("only this request is under way", || server.metric("bam_requests_in_flight") == 1.0);
}

#[test]
fn thousands_of_broken_requests_leave_the_server_as_it_was() {
    // Each session's memory grows with the largest batch it has seen: few of them, so that all have seen large ones before.
    let bounds = ["--timeout", "400ms", "--keep-alive", "400ms", "--connections", "64", "--max-body", "64KiB"];
    let server = serve(&[&bounds[..], &["--threads", "2"]].concat());
    storm(&server, 400);
    wait_until_quiet(&server);
    let before = server.memory_bytes();
    storm(&server, 2000);
    wait_until_quiet(&server);
    let after = server.memory_bytes();
    // A tenth of what the clients sent.
    assert!(after < before + (8 << 20), "{before} bytes before, {after} after");
    assert_eq!(server.results(&json!("still there?"), &["sentiment"]).len(), 1);
}

#[test]
fn a_body_that_breaks_off_is_told() {
    let server = serve(&[]);
    let mut stream = server.connect().unwrap();
    stream.write_all(format!("{HEAD}transfer-encoding: chunked\r\n\r\nzz\r\n").as_bytes()).unwrap();
    let answer = Answer::read(&mut stream).unwrap();
    assert_eq!(answer.status, 400, "{}", answer.body);
    assert_error(&answer, "broken_body");
}

#[test]
fn slow_clients_are_given_up_and_do_not_keep_others_out() {
    let server = serve(&["--timeout", "400ms", "--keep-alive", "400ms", "--connections", "128"]);
    let speak = |said: &str| {
        let mut stream = server.connect().unwrap();
        stream.write_all(said.as_bytes()).unwrap();
        stream
    };
    // More than there is room for: a head, or a body, that never ends.
    let slow_head = |_| speak("POST /v1/predict HTT");
    let slow_body = |_| speak(&format!("{HEAD}content-length: 50\r\n\r\n{{\"inputs\""));
    let heads: Vec<TcpStream> = (0..600).map(slow_head).collect();
    let bodies: Vec<TcpStream> = (0..600).map(slow_body).collect();
    assert_eq!(server.results(&json!("is there room?"), &["sentiment"]).len(), 1);
    for mut stream in bodies {
        let answer = Answer::read(&mut stream).unwrap();
        assert_eq!(answer.status, 503);
        assert_error(&answer, "timeout");
    }
    for mut stream in heads {
        let mut rest = Vec::new();
        drop(stream.read_to_end(&mut rest));
        assert!(!String::from_utf8_lossy(&rest).starts_with("HTTP/1.1 200"), "{rest:?}");
    }
    wait_until_quiet(&server);
}

#[test]
fn clients_that_read_nothing_are_given_up_and_do_not_keep_others_out() {
    let server = serve(&["--timeout", "400ms", "--connections", "2"]);
    // As many answers as no buffer holds, and nobody who reads them.
    let requests = "GET /openapi.json HTTP/1.1\r\nhost: localhost\r\n\r\n".repeat(3000);
    let deaf = |_| {
        let mut stream = server.connect().unwrap();
        stream.set_nonblocking(true).unwrap();
        // It takes up no more than it can answer.
        drop(stream.write_all(requests.as_bytes()));
        stream
    };
    let _deaf: Vec<TcpStream> = (0..2).map(deaf).collect();
    assert_eq!(server.get("/livez").body, "ok\n");
}

#[test]
fn connections_that_nobody_uses_keep_nobody_out() {
    let server = serve(&["--connections", "4", "--keep-alive", "1h"]);
    let mut idle: Vec<TcpStream> = (0..4).map(|_| server.connect().unwrap()).collect();
    // Some have asked, some have never.
    assert!(idle[..2].iter_mut().all(asks_again));
    for _ in 0..4 {
        assert_eq!(server.get("/livez").body, "ok\n");
    }
    // One that waits for its answer doesn't give way.
    let slow = format!("{HEAD}content-length: 50\r\n\r\n{{\"inputs\"");
    let mut waits: Vec<TcpStream> = (0..4).map(|_| server.connect().unwrap()).collect();
    waits[0].write_all(slow.as_bytes()).unwrap();
    assert_eq!(server.get("/livez").body, "ok\n");
    waits[0].write_all(format!("{:<41}", ": \"a day\", \"tasks\": [\"sentiment\"]}").as_bytes()).unwrap();
    assert_eq!(Answer::read(&mut waits[0]).unwrap().status, 200);
}

#[test]
fn clients_that_drip_keep_nobody_out() {
    let server = serve(&["--connections", "4", "--keep-alive", "1h"]);
    let ended = AtomicBool::new(false);
    thread::scope(|scope| {
        // As many as there is room for; whoever is hung up on comes again.
        for _ in 0..4 {
            scope.spawn(|| {
                while !ended.load(Ordering::Relaxed) {
                    let mut stream = server.connect().unwrap();
                    _ = stream.write_all(b"GET /livez HTTP/1.1\r\nx-long: ");
                    while !ended.load(Ordering::Relaxed) && stream.write_all(b"a").is_ok() {
                        thread::sleep(Duration::from_millis(100));
                    }
                }
            });
        }
        thread::sleep(Duration::from_millis(300));
        let lives = |_| server.try_request("GET", "/livez", &[], "").is_ok_and(|answer| answer.body == "ok\n");
        let all_live = (0..8).all(lives);
        ended.store(true, Ordering::Relaxed);
        assert!(all_live);
    });
}

#[test]
fn a_head_that_drips_has_an_end_though_there_is_room() {
    let server = serve(&["--keep-alive", "1h"]);
    let mut stream = server.connect().unwrap();
    stream.write_all(b"GET /livez HTTP/1.1\r\nx-long: ").unwrap();
    let has_ended = |_| {
        thread::sleep(Duration::from_millis(100));
        stream.write_all(b"a").is_err()
    };
    assert!((0..600).any(has_ended));
}

#[test]
fn an_early_answer_reaches_a_client_that_sends_all_before_it_reads() {
    exported().write("early-keys.txt", "early-key\n");
    let [open, locked] = [&[][..], &["--api-keys", "early-keys.txt"]].map(serve);
    // As `http.client` and many another do it.
    let status = |server: &Server, headers: &str| {
        let mut stream = server.connect().unwrap();
        let body = "a".repeat(5_000_000);
        let head = format!("POST /v1/predict HTTP/1.1\r\ncontent-length: {}\r\n{headers}\r\n\r\n", body.len());
        stream.write_all((head + &body).as_bytes()).unwrap();
        Answer::read(&mut stream).unwrap().status
    };
    assert_eq!(status(&open, "host: localhost\r\ncontent-type: application/json"), 413);
    assert_eq!(status(&open, "host: localhost\r\ncontent-type: text/plain"), 415);
    assert_eq!(status(&open, "host: another.test\r\ncontent-type: application/json"), 421);
    assert_eq!(status(&locked, "host: localhost\r\ncontent-type: application/json"), 401);
}

#[test]
fn a_client_that_closes_its_half_is_taken_for_gone() {
    let server = serve(&["--batch-tokens", "1", "--threads", "1", "--max-wait", "1h"]);
    let body = json!({ "inputs": vec!["word ".repeat(60); 256], "tasks": ["sentiment"] }).to_string();
    let mut stream = server.connect().unwrap();
    stream.write_all(format!("{HEAD}content-length: {}\r\n\r\n{body}", body.len()).as_bytes()).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    assert_eq!(String::from_utf8_lossy(&answer), "");
    wait_until_quiet(&server);
}

/// Asks on a connection that stays open.
fn asks_again(stream: &mut TcpStream) -> bool {
    let mut answer = [0; 1024];
    stream.write_all(b"GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n").is_ok()
        && stream.read(&mut answer).is_ok_and(|read| answer[..read].ends_with(b"ok\n"))
}

#[test]
fn a_quiet_connection_stays_longer_than_a_request_may_take_but_not_for_ever() {
    let timed_out = |server: &Server| {
        let mut slow = server.connect().unwrap();
        slow.write_all(format!("{HEAD}content-length: 50\r\n\r\n{{").as_bytes()).unwrap();
        assert_error(&Answer::read(&mut slow).unwrap(), "timeout");
    };
    let server = serve(&["--timeout", "200ms", "--keep-alive", "1h"]);
    let mut quiet = server.connect().unwrap();
    assert!(asks_again(&mut quiet));
    timed_out(&server);
    assert!(asks_again(&mut quiet));

    let server = serve(&["--timeout", "1h", "--keep-alive", "200ms"]);
    let mut quiet = server.connect().unwrap();
    assert!(asks_again(&mut quiet));
    assert_eq!(quiet.read(&mut [0; 64]).unwrap(), 0);
}

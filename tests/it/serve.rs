//! `bam serve` from outside: a real model behind real sockets.

mod access;
mod answers;
mod conform;
mod ending;
mod errors;
mod faults;
mod limits;
mod metrics;
mod numbers;
mod page;
mod pages;
mod reload;

use crate::support::Sandbox;
use crate::support::http::{Answer, Server};
use crate::support::model::exported;
use serde_json::{Value, json};

/// Between the sums of one batch and another.
const TOLERANCE: f64 = 1e-5;

pub(crate) fn serve(args: &[&str]) -> Server {
    serve_in(exported(), args)
}

pub(crate) fn serve_in(sandbox: &Sandbox, args: &[&str]) -> Server {
    Server::start(sandbox.command(&[&["serve", "--listen", "127.0.0.1:0"], args].concat()))
}

/// Texts of all lengths, up to some that are cut.
pub(crate) fn texts() -> Vec<String> {
    (0..40).map(|number| format!("row {number} {}", "the old ferry leaves ".repeat(number % 13))).collect()
}

pub(crate) fn pairs() -> Vec<Value> {
    texts().iter().map(|text| json!({ "text": text, "pair": "nobody saw the ferry" })).collect()
}

/// Numbers within the tolerance, all else equal.
#[track_caller]
pub(crate) fn assert_alike(a: &Value, b: &Value) {
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

#[track_caller]
pub(crate) fn assert_error(answer: &Answer, code: &str) {
    let json = answer.json();
    let error = json["error"].as_object().unwrap_or_else(|| panic!("{}", answer.body));
    assert_eq!(error.keys().collect::<Vec<_>>(), ["code", "hint", "message"]);
    assert_eq!(error["code"], code, "{}", answer.body);
    assert!(error.values().all(|text| !text.as_str().unwrap().is_empty()), "{}", answer.body);
    assert_eq!((json.as_object().unwrap().len(), answer.header("content-type")), (1, Some("application/json")));
}

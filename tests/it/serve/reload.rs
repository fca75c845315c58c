//! A newer model in the place of the old one.

use std::ffi::CString;
use std::fs::{self, OpenOptions};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{OpenOptionsExt as _, symlink};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use super::{assert_alike, assert_error, serve_in, texts};
use crate::support::Sandbox;
use crate::support::http::Server;
use crate::support::model::exported;

/// A copy of the model that says it is another.
pub(super) fn copy_of_model(to: &Path, fingerprint: &str) {
    let from = exported().path("artifacts/latest/onnx");
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap().flatten() {
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
    let mut info: Value = serde_json::from_str(&fs::read_to_string(to.join("bam.json")).unwrap()).unwrap();
    let before = info["fingerprint"].as_str().unwrap().to_owned();
    info["fingerprint"] = json!(fingerprint);
    fs::write(to.join("bam.json"), info.to_string()).unwrap();
    let mut graph = fs::read(to.join("model.onnx")).unwrap();
    let at = graph.windows(64).position(|bytes| bytes == before.as_bytes()).unwrap();
    graph[at..at + 64].copy_from_slice(fingerprint.as_bytes());
    fs::write(to.join("model.onnx"), graph).unwrap();
}

/// A small student, and what is made of it.
fn pipeline(seed: u64, more: &str) -> String {
    let encoder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/tiny-bert");
    format!(
        "seed: {seed}\n\
         stages:\n  \
           examples: {{ data: {{ task: sentiment, grammar: {{ train: 20, dev: 10 }} }} }}\n  \
           tokens:   {{ tokenize: {{ examples: examples, encoder: {encoder}, max_tokens: 16 }} }}\n  \
           student:  {{ train: {{ tokens: [tokens], encoder: {encoder}, epochs: 1, learning_rate: 1e-3 }} }}\n\
         {more}"
    )
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
    server.wait_until_it_says(&format!("({}) instead of ", &two[..8]));
    server.wait_until_it_says("the newer model is not taken up: the model in `");
    server.wait_until_it_says("answers probe 0 of `sentiment` otherwise");
}

#[test]
fn a_folder_copied_over_another_is_taken_up_once_it_is_whole() {
    let sandbox = Sandbox::new();
    let [one, two, three, four] = ["1", "2", "3", "4"].map(|digit| digit.repeat(64));
    for (name, fingerprint) in [("model", &one), ("two", &two), ("three", &three), ("four", &four)] {
        copy_of_model(&sandbox.path(name), fingerprint);
    }
    let server = serve_in(&sandbox, &["model"]);
    let serves = |fingerprint: &str| server.get("/v1/info").json()["model"] == fingerprint;
    let refused = |times: f64| {
        server.wait_until("it is refused", || server.metric("bam_reloads_total{result=\"failed\"}") == times);
    };
    let copy = |from: &str, name: &str| {
        fs::copy(sandbox.path(from).join(name), sandbox.path("model").join(name)).unwrap();
    };
    copy("two", "bam.json");
    refused(1.0);
    assert!(serves(&one));
    server.wait_until_it_says(&format!("are of two models: `bam.json` says {two}, `model.onnx` {one}"));
    copy("two", "model.onnx");
    server.wait_until("the second is served", || serves(&two));

    copy("three", "model.onnx");
    refused(2.0);
    assert!(serves(&two));
    copy("three", "bam.json");
    server.wait_until("the third is served", || serves(&three));

    copy("four", "bam.json");
    let whole = fs::read(sandbox.path("four/model.onnx")).unwrap();
    fs::write(sandbox.path("model/model.onnx"), &whole[..whole.len() / 2]).unwrap();
    refused(3.0);
    assert!(serves(&three));
    copy("four", "model.onnx");
    server.wait_until("the fourth is served", || serves(&four));
}

/// A pipe that nobody writes to stands for a disk that hangs.
fn put_a_pipe(path: &Path) {
    fs::remove_file(path).unwrap();
    let name = CString::new(path.as_os_str().as_bytes()).unwrap();
    // SAFETY: a plain system call with a string that ends in zero.
    assert_eq!(unsafe { libc::mkfifo(name.as_ptr(), 0o600) }, 0);
}

#[test]
fn a_server_whose_model_is_still_to_come_says_so() {
    let sandbox = Sandbox::new();
    copy_of_model(&sandbox.path("model"), &"1".repeat(64));
    put_a_pipe(&sandbox.path("model/bam.json"));
    let server = Server::begin(sandbox.command(&["serve", "model", "--listen", "127.0.0.1:0"]));
    assert_eq!(server.get("/livez").body, "ok\n");
    let asked = server.post("/v1/predict", &json!({ "inputs": "a fine day" }));
    for answer in [server.get("/readyz"), server.get("/v1/info"), asked] {
        assert_eq!((answer.status, answer.header("retry-after")), (503, Some("1")));
        assert_error(&answer, "not_ready");
    }
    assert_eq!(server.metric("bam_queue_rows"), 0.0);
}

#[test]
fn a_file_that_never_comes_keeps_no_client_waiting() {
    let sandbox = Sandbox::new();
    copy_of_model(&sandbox.path("model"), &"1".repeat(64));
    let server = serve_in(&sandbox, &["model"]);
    let pipe = sandbox.path("model/bam.json");
    put_a_pipe(&pipe);
    let mut writer = None;
    server.wait_until("it reads the pipe", || {
        writer = OpenOptions::new().write(true).custom_flags(libc::O_NONBLOCK).open(&pipe).ok();
        writer.is_some()
    });
    assert_eq!(server.results(&json!("is anybody there?"), &["sentiment"]).len(), 1);
    server.terminate();
    let (status, said) = server.end();
    assert!(status.success(), "{status}: {said}");
}

#[test]
fn a_model_whose_run_failed_is_not_taken_up() {
    let sandbox = Sandbox::new();
    let write = |seed: u64, verdict: i32| {
        let output = r#"$(sed -n 's/.*"output": *"\([^"]*\)".*/\1/p' "$1")"#;
        sandbox.write("judge.sh", &format!("echo judged > {output}/word; exit {verdict}\n"));
        sandbox.write(
            "pipeline.yaml",
            &pipeline(
                seed,
                "  onnx:  { export: { model: student } }\n  judge: { exec: { run: [sh, judge.sh], inputs: { model: onnx } } }\n",
            ),
        );
    };
    let exported = || sandbox.manifest("onnx")["fingerprint"].as_str().unwrap().to_owned();
    write(1, 0);
    let said = sandbox.bam(&["run"]);
    assert_eq!(said.code, 0, "{}", said.stderr);
    let good = exported();
    let [following, named] = [&[][..], &["onnx"]].map(|args| serve_in(&sandbox, args));
    let served = |server: &Server| server.get("/v1/info").json()["model"].as_str().unwrap().to_owned();
    // A later stage refuses the model.
    write(2, 1);
    assert_ne!(sandbox.bam(&["run"]).code, 0);
    let refused = exported();
    assert_ne!(refused, good);
    named.wait_until("the stage's newer model is served", || served(&named) == refused);
    assert_eq!([served(&following), served(&serve_in(&sandbox, &[]))], [good.clone(), good.clone()]);
    // Nor does it help to leave that stage out.
    let said = sandbox.bam(&["run", "pipeline.yaml", "onnx"]);
    assert_eq!((said.code, exported()), (0, refused.clone()), "{}", said.stderr);
    assert_eq!(served(&serve_in(&sandbox, &[])), good);
    // But that it says otherwise does.
    write(2, 0);
    assert_eq!(sandbox.bam(&["run"]).code, 0);
    following.wait_until("the model is served after all", || served(&following) == refused);
    // And then one that doesn't.
    write(3, 0);
    assert_eq!(sandbox.bam(&["run"]).code, 0);
    following.wait_until("the newer model is served", || served(&following) == exported());
    // Of which each is refused in the end: then there is none to take its place.
    let served_last = exported();
    write(3, 1);
    assert_ne!(sandbox.bam(&["run", "--force=judge"]).code, 0);
    write(1, 1);
    assert_ne!(sandbox.bam(&["run", "--force=judge"]).code, 0);
    write(2, 1);
    assert_ne!(sandbox.bam(&["run", "--force=judge"]).code, 0);
    thread::sleep(Duration::from_secs(3));
    assert_eq!(served(&following), served_last, "it goes on with what it has");
}

#[test]
fn of_several_models_the_last_of_the_pipeline_is_served_whatever_ended_first() {
    let sandbox = Sandbox::new();
    sandbox.write(
        "pipeline.yaml",
        &pipeline(1, "  onnx@precision: { export: { model: student, precision: $precision } }\nfor: { precision: [fp32, fp16] }\n"),
    );
    // The last one is there already, and the first has to be made.
    for args in [&["run", "pipeline.yaml", "onnx@fp16"][..], &["run"]] {
        let said = sandbox.bam(args);
        assert_eq!(said.code, 0, "{}", said.stderr);
    }
    let record = sandbox.names_in("artifacts/runs").pop().unwrap();
    let record: Value = serde_json::from_str(&sandbox.read(&format!("artifacts/runs/{record}"))).unwrap();
    let ended: Vec<_> = record["stages"].as_array().unwrap().iter().map(|stage| stage["stage"].clone()).collect();
    assert_eq!(ended[3..], [json!("onnx@fp16"), json!("onnx@fp32")]);
    let server = serve_in(&sandbox, &[]);
    assert_eq!(server.get("/v1/info").json()["precision"], "fp16");
    server.wait_until_it_says("of the last run that ended well, `pipeline.yaml`, which exported `onnx@fp32` too");
}

#[test]
fn scores_that_come_later_are_told() {
    let sandbox = Sandbox::new();
    let scores = "  onnx: { export: { model: student } }\n  scores: { score: { models: [onnx], tokens: [tokens] } }\n";
    sandbox.write("pipeline.yaml", &pipeline(1, scores));
    assert_eq!(sandbox.bam(&["run", "pipeline.yaml", "onnx"]).code, 0);
    let server = serve_in(&sandbox, &[]);
    let dev_scores = || server.get("/v1/tasks").json()["tasks"][0]["dev_scores"].clone();
    assert_eq!(dev_scores(), json!({}));
    assert_eq!(sandbox.bam(&["run"]).code, 0);
    server.wait_until("the scores are told", || dev_scores()["accuracy"].is_f64());
}

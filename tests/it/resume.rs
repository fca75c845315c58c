//! A training that is stopped or killed goes on where it was, and ends with the same bits.

use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::thread::sleep;
use std::time::Duration;

use crate::support::{Sandbox, redact, worker_of};
use serde_json::Value;

const PIPELINE: &str = "\
name: long
seed: 17
vars: { encoder: ENCODER, epochs: 4 }
for:  { task: [acceptability, similarity] }
stages:
  examples@task:    { data:     { task: $task, grammar: { train: 160, dev: 40 } } }
  tokens@task:      { tokenize: { examples: examples@$task, encoder: $encoder, max_tokens: 48 } }
  teacher@task:     { train:    { tokens: [tokens@$task], encoder: $encoder, epochs: 1, learning_rate: 1e-3 } }
  predictions@task: { predict:  { model: teacher@$task, tokens: tokens@$task } }
  student:
    train:
      { tokens: [tokens@*], teachers: [predictions@*], epochs: $epochs, batch: 4, precision: PRECISION, MORE }
";

/// What the student starts from and how it learns.
const PLAIN: &str = "encoder: $encoder, keep: best";
const OTHER: &str = "init: teacher@similarity, heads: keep, patience: 3, unfreeze: gradual, schedule: slanted_triangle, \
    layer_decay: 0.9, temperature: 2, anneal_of: { similarity: cosine }, fold: { of: 4, leave_out: 1 }";

fn sandbox(precision: &str) -> Sandbox {
    sandbox_with(precision, PLAIN)
}

fn sandbox_with(precision: &str, more: &str) -> Sandbox {
    let sandbox = Sandbox::new();
    let encoder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/tiny-bert");
    sandbox.write(
        "pipeline.yaml",
        &PIPELINE.replace("ENCODER", encoder).replace("PRECISION", precision).replace("MORE", more),
    );
    sandbox
}

/// Starts the run with a state kept at every step.
fn start(sandbox: &Sandbox) -> Child {
    let mut command = sandbox.command(&["run", "--threads", "1", "--json"]);
    command.env("BAM_SAVE_SECS", "0").stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

fn signal(process: u32, signal: i32) {
    // SAFETY: a plain system call, on a child that was not waited for, or a worker of it.
    unsafe { libc::kill(process.cast_signed(), signal) };
}

fn state(sandbox: &Sandbox) -> Option<PathBuf> {
    let folders = sandbox.names_in("artifacts/resume");
    folders.iter().map(|name| sandbox.path(&format!("artifacts/resume/{name}/state.safetensors"))).find(|p| p.exists())
}

/// Steps that the kept state has behind it.
fn steps_kept(path: &Path) -> Option<u64> {
    let bytes = std::fs::read(path).ok()?;
    let length = u64::from_le_bytes(bytes.get(..8)?.try_into().ok()?) as usize;
    let header: Value = serde_json::from_slice(bytes.get(8..8 + length)?).ok()?;
    let text: Value = serde_json::from_str(header["__metadata__"]["text"].as_str()?).ok()?;
    text["progress"]["steps"].as_u64()
}

/// Waits until the student's state has so many steps behind it, and more than before; says whether it came to that.
fn wait_for_steps(sandbox: &Sandbox, engine: &mut Child, steps: u64) -> bool {
    let before = state(sandbox).and_then(|path| steps_kept(&path)).unwrap_or(0);
    while engine.try_wait().unwrap().is_none() {
        let is_students = sandbox.names_in("artifacts/latest").contains(&"predictions@similarity".to_owned());
        if is_students
            && state(sandbox).and_then(|path| steps_kept(&path)).is_some_and(|kept| kept >= steps.max(before + 1))
        {
            return true;
        }
        sleep(Duration::from_millis(1));
    }
    false
}

fn manifest(sandbox: &Sandbox) -> Value {
    sandbox.manifest("student")
}

fn history_length(sandbox: &Sandbox) -> i64 {
    use parquet::file::reader::{FileReader as _, SerializedFileReader};
    let file = std::fs::File::open(sandbox.path("artifacts/latest/student/history.parquet")).unwrap();
    SerializedFileReader::new(file).unwrap().metadata().file_metadata().num_rows()
}

#[test]
fn a_training_that_was_killed_or_stopped_ends_with_the_same_bits() {
    for (precision, more) in [("fp32", PLAIN), ("bf16", PLAIN), ("fp32", OTHER)] {
        let whole = sandbox_with(precision, more);
        assert_eq!(whole.bam(&["run", "--threads", "1"]).code, 0);
        let expected = manifest(&whole);
        assert!(expected["provenance"]["worker"].get("resumed").is_none());

        let broken = sandbox_with(precision, more);
        let mut resumed = 0;
        for (steps, how) in [(3, "stop"), (31, "kill the engine"), (33, "kill the worker"), (75, "stop"), (130, "stop")]
        {
            let mut engine = start(&broken);
            if !wait_for_steps(&broken, &mut engine, steps) {
                break;
            }
            match how {
                "stop" => signal(engine.id(), libc::SIGTERM),
                "kill the engine" => signal(engine.id(), libc::SIGKILL),
                _ => signal(worker_of(engine.id()).unwrap(), libc::SIGKILL),
            }
            let ended = engine.wait().unwrap();
            let code = ended.code();
            assert_eq!(
                code,
                match how {
                    "stop" => Some(130),
                    "kill the engine" => None,
                    _ => Some(1),
                },
                "{how}"
            );
            resumed += 1;
        }
        let last = broken.bam(&["run", "--threads", "1"]);
        assert_eq!(last.code, 0, "{}", last.stderr);
        let made = manifest(&broken);
        assert_eq!(made["content"], expected["content"], "{precision}, {more}");
        assert_eq!(made["metrics"], expected["metrics"]);
        assert_eq!(history_length(&broken), history_length(&whole));
        let worker = &made["provenance"]["worker"];
        assert_eq!(worker["resumed"], resumed);
        let secs = |value: &Value| value.as_f64().unwrap();
        assert!(secs(&made["provenance"]["wall_secs"]) > secs(&worker["seconds_before_resuming"]));
        assert!(made["summary"].as_str().unwrap().contains(", went on from step "), "{}", made["summary"]);
        assert!(resumed > 1, "the student was done before it was stopped");
        assert!(state(&broken).is_none(), "the state is removed once the stage is done");
    }
}

#[test]
fn a_state_of_other_settings_or_a_damaged_one_is_not_used() {
    let sandbox = sandbox("fp32");
    let mut engine = start(&sandbox);
    assert!(wait_for_steps(&sandbox, &mut engine, 3));
    signal(engine.id(), libc::SIGTERM);
    assert_eq!(engine.wait().unwrap().code(), Some(130));

    let other = sandbox.bam(&["run", "--threads", "1", "--set", "vars.epochs=5"]);
    let told = "warning: student: an unfinished state is of other settings and not used: param epochs: 4 → 5 (--set vars.epochs=5)\n";
    assert!(other.stderr.contains(told), "{}", other.stderr);
    assert_eq!((other.code, manifest(&sandbox)["provenance"]["worker"]["resumed"].is_null()), (0, true));

    let path = state(&sandbox).expect("the first run's state is still there");
    let mut bytes = std::fs::read(&path).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let run = sandbox.bam(&["run", "--threads", "1"]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert!(run.stderr.contains("is not used: it is damaged; the training starts anew\n"), "{}", run.stderr);
    assert!(manifest(&sandbox)["provenance"]["worker"]["resumed"].is_null());
}

#[test]
fn a_stop_is_told() {
    for number in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
        is_told_of(number);
    }
}

fn is_told_of(number: i32) {
    let sandbox = sandbox("fp32");
    let mut command = sandbox.command(&["run", "--threads", "1"]);
    let mut engine = command.env("BAM_SAVE_SECS", "0").stderr(Stdio::piped()).spawn().unwrap();
    assert!(wait_for_steps(&sandbox, &mut engine, 3));
    signal(engine.id(), number);
    let output = engine.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130));
    let story = redact(&String::from_utf8(output.stderr).unwrap());
    let end: Vec<&str> = story.lines().rev().take(3).collect();
    assert_eq!(end[2], "stopping student; Ctrl-C again ends at once");
    assert!(
        end[1].contains("STOPPED             (9/9) student") && end[1].ends_with("the next run goes on from there"),
        "{story}"
    );
    assert_eq!(end[0], "interrupted: 8 of 9 stages are done and stay cached");
}

#[test]
fn a_state_that_was_kept_is_told_by_the_plan() {
    let sandbox = Sandbox::with_small_pipeline();
    sandbox.bam(&["run", "pipeline.yaml", "tokens@sentiment"]);
    let plan = ["plan", "pipeline.yaml", "teacher@sentiment"];
    let lines = sandbox.command(&[&plan[..], &["--json"]].concat()).output().unwrap().stdout;
    let last: Value = serde_json::from_slice(lines.split(|byte| *byte == b'\n').rev().nth(1).unwrap()).unwrap();
    sandbox.write(&format!("artifacts/resume/{}/state.safetensors", last["fingerprint"].as_str().unwrap()), "");
    let told = "never ran; goes on from the state that was kept, if it is whole\n";
    let now = sandbox.bam(&plan);
    assert!(now.stdout.contains(told), "{}", now.stdout);
    let other = sandbox.bam(&[&plan[..], &["--set", "stages.teacher@task.train.epochs=4"]].concat());
    assert!(!other.stdout.contains("goes on from"), "of other settings: {}", other.stdout);
}

//! Attempts that a run which is gone has left, at odd moments; with stand-ins for Slurm's programs.

use std::fs;
use std::path::PathBuf;
use std::process::Stdio;

use serde_json::{Value, json};

use super::{before_others, of_stand_ins, run_with_stand_ins, stand_in};
use crate::support::{Sandbox, until};

const STAGE: &str = "examples@sentiment";

/// The queue has the job that was submitted last, and says this of its state.
const LISTED: &str = r#"test -f name || exec echo '{"jobs": []}'
echo "{\"jobs\": [{\"job_id\": 7, \"name\": \"$(cat name)\", \"job_state\": \"$(cat state)\", \"nodes\": \"n1\"}]}""#;

/// Notes the call and the job's name, and runs nothing.
const TAKES: &str = "echo tried >> tried
for word; do case $word in --job-name=*) echo \"${word#--job-name=}\" > name;; esac; done";

/// A sandbox with the attempt of a run that was killed once it had submitted its one job, which never began.
fn left() -> (Sandbox, PathBuf) {
    let sandbox = of_stand_ins(LISTED);
    sandbox.write("state", "RUNNING");
    stand_in(&sandbox, "sbatch", &format!("{TAKES}\necho 7"));
    let attempt = killed_when(&sandbox, |note| note["job"] == "7");
    (sandbox, attempt)
}

/// Begins a run of one stage, and kills it when the attempt's note is so.
fn killed_when(sandbox: &Sandbox, is_so: impl Fn(&Value) -> bool) -> PathBuf {
    let mut command = sandbox.command(&["run", "--profile", "cluster.yaml", "pipeline.yaml", STAGE]);
    before_others(&mut command, sandbox);
    command.env_remove("BAM_JOBS").stdout(Stdio::null()).stderr(Stdio::null());
    let mut engine = command.spawn().unwrap();
    let noted = || {
        let folder = fs::read_dir(sandbox.path("artifacts/tmp")).ok()?.flatten().next()?.path();
        let note: Value = serde_json::from_slice(&fs::read(folder.join("submitted.json")).ok()?).ok()?;
        is_so(&note).then_some(folder)
    };
    until("the job is submitted", || noted().is_some());
    engine.kill().unwrap();
    engine.wait().unwrap();
    noted().unwrap()
}

/// Writes what a node leaves of a job of that number that has done its work, but for the output.
fn done(attempt: &std::path::Path, number: u32) {
    let done = json!({"event": "done", "summary": "made", "provenance": {}});
    fs::write(attempt.join(format!("events.{number}.jsonl")), format!("{done}\n")).unwrap();
    let end = json!({"trouble": null, "peak_memory_bytes": 1, "wall_secs": 1.0, "host": "n1", "is_signalled": false});
    fs::write(attempt.join(format!("end.{number}.json")), end.to_string()).unwrap();
}

#[test]
fn an_attempt_that_said_much_is_adopted() {
    let (sandbox, attempt) = left();
    let mut note: Value = serde_json::from_slice(&fs::read(attempt.join("submitted.json")).unwrap()).unwrap();
    note["number"] = json!(2);
    fs::write(attempt.join("submitted.json"), note.to_string()).unwrap();
    let line = json!({"event": "progress", "done": 1, "total": 2, "unit": "step", "detail": ""}).to_string() + "\n";
    fs::write(attempt.join("events.1.jsonl"), line.repeat(5_000)).unwrap();
    fs::create_dir(attempt.join("output.2")).unwrap();
    fs::write(attempt.join("output.2/train.parquet"), "rows").unwrap();
    done(&attempt, 2);
    let again = run_with_stand_ins(&sandbox, STAGE);
    assert_eq!((again.code, again.stages("ADOPTED").len()), (0, 1), "{}", again.stderr);
    assert_eq!(sandbox.read("tried").lines().count(), 1, "it was submitted once");
}

#[test]
fn what_a_run_had_begun_to_commit_is_taken_in_by_the_next() {
    let (sandbox, attempt) = left();
    done(&attempt, 1);
    let local = Sandbox::with_small_pipeline();
    assert_eq!(local.bam(&["run", "pipeline.yaml", STAGE]).code, 0);
    // All was in its place, with manifest and log, but for the last step.
    fs::remove_dir(attempt.join("output.1")).unwrap();
    let made = local.path(&format!("artifacts/latest/{STAGE}"));
    for file in fs::read_dir(made).unwrap().flatten() {
        fs::copy(file.path(), attempt.join("output").join(file.file_name())).unwrap();
    }
    assert!(attempt.join("output/manifest.json").exists());
    let again = run_with_stand_ins(&sandbox, STAGE);
    assert_eq!((again.code, again.stages("RAN").len()), (0, 1), "{}", again.stderr);
    assert_eq!(sandbox.manifest(STAGE)["files"], local.manifest(STAGE)["files"]);
    assert_eq!(sandbox.names_in("artifacts/tmp"), [""; 0]);
}

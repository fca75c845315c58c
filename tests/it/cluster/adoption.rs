//! Attempts that a run which is gone has left, at odd moments; with stand-ins for Slurm's programs.

use std::fs::{self, File};
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use super::{LISTED, TAKES, before_others, ended, of_stand_ins, run_with_stand_ins, stand_in, start_with_stand_ins};
use crate::support::{Sandbox, said, until};

const STAGE: &str = "examples@sentiment";

/// A sandbox with the attempt of a run that was killed once it had submitted its one job, which never began.
fn left() -> (Sandbox, PathBuf) {
    let sandbox = of_stand_ins(LISTED);
    sandbox.write("state", "RUNNING");
    stand_in(&sandbox, "sbatch", &format!("{TAKES}\necho 7"));
    let attempt = killed_when(&sandbox, STAGE, |note| note["job"] == "7");
    (sandbox, attempt)
}

/// Begins a run of one stage, and kills it when the attempt's note is so.
fn killed_when(sandbox: &Sandbox, stage: &str, is_so: impl Fn(&Value) -> bool) -> PathBuf {
    let mut engine = start_with_stand_ins(sandbox, &[stage]);
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

/// What a node leaves of a job of that number that has done its work, but for the output.
fn done(attempt: &Path, number: u32) {
    let done = json!({"event": "done", "summary": "made", "provenance": {}});
    fs::write(attempt.join(format!("events.{number}.jsonl")), format!("{done}\n")).unwrap();
    let end = json!({"trouble": null, "peak_memory_bytes": 1, "wall_secs": 1.0, "host": "n1", "is_signalled": false});
    fs::write(attempt.join(format!("end.{number}.json")), end.to_string()).unwrap();
}

#[test]
fn status_tells_of_a_job_whose_stage_was_edited_since() {
    let (sandbox, _) = left();
    let status = || {
        let mut command = sandbox.command(&["status"]);
        before_others(&mut command, &sandbox);
        said(&mut command).stdout
    };
    assert!(!status().contains("left behind"), "the next run adopts it");
    sandbox.edit("pipeline.yaml", "train: 20", "train: 21");
    let wanted = "left behind: job 7 running on n1; it makes `examples@sentiment` with other settings than now. \
                  A run goes on with it only under those; it ends as jobs of the queue do (`scancel`)\n";
    assert!(status().contains(wanted), "{}", status());
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

#[test]
fn a_run_that_was_killed_before_sbatch_answered_finds_its_job() {
    let sandbox = of_stand_ins(LISTED);
    sandbox.write("state", "RUNNING");
    stand_in(&sandbox, "sbatch", &format!("{TAKES}\nsleep 2\necho 7"));
    let attempt = killed_when(&sandbox, STAGE, |note| note["name"] != "" && sandbox.path("name").exists());
    fs::write(attempt.join("output.1/train.parquet"), "rows").unwrap();
    let again = start_with_stand_ins(&sandbox, &[STAGE]);
    until("the job is seen", || fs::read_to_string(attempt.join("submitted.json")).unwrap().contains(r#""job":"7""#));
    done(&attempt, 1);
    let (story, code) = ended(again);
    assert!(code == Some(0) && story.contains("ADOPTED"), "{story}");
    assert_eq!(sandbox.read("tried").lines().count(), 1, "it was submitted once");
}

#[test]
fn a_number_that_is_another_jobs_now_is_not_taken_for_ones_own() {
    let (sandbox, _) = left();
    // The queue lost all that it had, and counts anew.
    sandbox.write("name", "somebody else's");
    stand_in(&sandbox, "sbatch", "for script; do :; done\nbash \"$script\" >/dev/null 2>&1 &\necho 8");
    let again = run_with_stand_ins(&sandbox, STAGE);
    assert_eq!(again.code, 0, "{}", again.stderr);
    assert!(again.stderr.contains("job 7 is gone from the queue"), "{}", again.stderr);
}

#[test]
fn an_adopted_job_that_somebody_cancels_fails_its_stage() {
    let (sandbox, _) = left();
    let asked = || fs::read_to_string(sandbox.path("asked")).unwrap_or_default().lines().count();
    let before = asked();
    let again = start_with_stand_ins(&sandbox, &[STAGE]);
    until("the job is seen", || asked() > before + 1);
    sandbox.write("state", "CANCELLED");
    let (story, code) = ended(again);
    assert!(code == Some(1) && story.contains("job 7 was cancelled, and not by this run"), "{story}");
    assert_eq!(sandbox.read("tried").lines().count(), 1, "it is not submitted again");
}

#[test]
fn a_job_of_another_users_is_theirs_to_go_on_with() {
    let (sandbox, attempt) = left();
    if chown(attempt.join("submitted.json"), Some(65534), None).is_err() {
        return;
    }
    let again = run_with_stand_ins(&sandbox, STAGE);
    assert_eq!(again.code, 1, "{}", again.stderr);
    assert!(
        again.stderr.contains("error: a job of another user (number 65534) makes it, or has made it"),
        "{}",
        again.stderr
    );
    assert!(attempt.join("submitted.json").exists());
    assert_eq!(sandbox.read("tried").lines().count(), 1);
}

#[test]
fn gc_keeps_what_jobs_read() {
    let sandbox = of_stand_ins(LISTED);
    sandbox.write("state", "PENDING");
    stand_in(&sandbox, "sbatch", &format!("{TAKES}\necho 7"));
    assert_eq!(sandbox.bam(&["run", "pipeline.yaml", STAGE]).code, 0);
    let attempt = killed_when(&sandbox, "tokens@sentiment", |note| note["job"] == "7");
    let read = sandbox.names_in("artifacts/store/data");
    sandbox.edit("pipeline.yaml", "train: 20", "train: 21");
    assert_eq!(sandbox.bam(&["run", "pipeline.yaml", STAGE]).code, 0);
    assert_eq!(sandbox.bam(&["gc"]).code, 0);
    assert!(sandbox.names_in("artifacts/store/data").contains(&read[0]), "the job reads it");
    fs::remove_dir_all(attempt).unwrap();
    assert_eq!(sandbox.bam(&["gc"]).code, 0);
    assert!(!sandbox.names_in("artifacts/store/data").contains(&read[0]), "nobody reads it");
}

#[test]
fn gc_removes_what_jobs_have_left_once_it_is_old() {
    let (sandbox, attempt) = left();
    sandbox.edit("pipeline.yaml", "train: 20", "train: 21");
    assert_eq!(sandbox.bam(&["gc", "--older-than", "30d"]).code, 0);
    assert!(attempt.exists(), "it may still be wanted");
    let long_ago = SystemTime::now() - Duration::from_hours(31 * 24);
    for entry in fs::read_dir(&attempt).unwrap().flatten() {
        File::open(entry.path()).unwrap().set_modified(long_ago).unwrap();
    }
    File::open(&attempt).unwrap().set_modified(long_ago).unwrap();
    assert_eq!(sandbox.bam(&["gc", "--older-than", "30d"]).code, 0);
    assert!(!attempt.exists());
}

#[test]
fn what_becomes_of_jobs_is_told_as_json_too() {
    let (sandbox, attempt) = left();
    fs::create_dir_all(attempt.join("output.1")).unwrap();
    fs::write(attempt.join("output.1/train.parquet"), "rows").unwrap();
    done(&attempt, 1);
    let mut command = sandbox.command(&["run", "--json", "--profile", "cluster.yaml", "pipeline.yaml", STAGE]);
    before_others(&mut command, &sandbox);
    let run = said(command.env_remove("BAM_JOBS"));
    assert_eq!(run.code, 0, "{}", run.stderr);
    let lines: Vec<Value> = run.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let adopted = lines.iter().find(|line| line["event"] == "adopted").unwrap();
    assert_eq!((&adopted["stage"], &adopted["index"]), (&json!(STAGE), &json!(0)));
}

#[test]
fn an_adopted_job_that_asks_for_something_else_than_it_would_now_is_told_of() {
    let (sandbox, attempt) = left();
    sandbox.write("cluster.yaml", "executor: slurm\npoll: 1s\nlimits: { data: { cpus: 2, time: 5m } }\n");
    fs::create_dir_all(attempt.join("output.1")).unwrap();
    fs::write(attempt.join("output.1/train.parquet"), "rows").unwrap();
    done(&attempt, 1);
    let again = run_with_stand_ins(&sandbox, STAGE);
    assert_eq!(again.code, 0, "{}", again.stderr);
    let told = "the job of `examples@sentiment` is the one submitted before, with cpus 1, and not 2; time by default, and not ";
    assert!(again.stderr.contains(told) && again.stderr.contains("(`scancel`)"), "{}", again.stderr);
}

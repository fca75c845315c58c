//! `bam` from outside, with a worker that misbehaves: what is told, and what is left in the store.

mod support;

use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;

use support::Sandbox;

#[test]
fn a_failed_stage_leaves_its_log_and_the_independent_finish() {
    let sandbox = Sandbox::with_small_pipeline();
    sandbox.write("behaviour.json", r#"{"tokens@sentiment": "fail", "teacher@entailment": "crash"}"#);
    let run = sandbox.bam(&["run"]);
    assert_eq!(
        run.stderr,
        "    Pipeline small: 11 stages
         RAN [time]  ( 1/11) examples@sentiment      made by data, peak <memory>  <hex>
         RAN [time]  ( 2/11) examples@entailment     made by data, peak <memory>  <hex>
      FAILED [time]  ( 3/11) tokens@sentiment
error: line 3 of `train.tsv` has 2 columns, not 4
  caused by: no column `label`

hint: mend the file

the end of its log, `artifacts/failed/tokens@sentiment/log.txt`:
  | working on tokens@sentiment

     SKIPPED             ( 5/11) teacher@sentiment       needs tokens@sentiment
     SKIPPED             ( 7/11) predictions@sentiment   needs teacher@sentiment
     SKIPPED             ( 9/11) student                 needs tokens@sentiment
     SKIPPED             (10/11) onnx                    needs student
     SKIPPED             (11/11) scores                  needs teacher@sentiment
         RAN [time]  ( 4/11) tokens@entailment       made by tokenize, peak <memory>  <hex>
      FAILED [time]  ( 6/11) teacher@entailment
error: the worker ended with exit code 3

the end of its log, `artifacts/failed/teacher@entailment/log.txt`:
  | a library prints this

     SKIPPED             ( 8/11) predictions@entailment  needs teacher@entailment
────────────
     Summary [time]  11 stages: 3 ran, 2 failed, 6 skipped
"
    );
    assert_eq!((run.code, run.stdout.as_str()), (1, ""));
    assert_eq!(sandbox.names_in("artifacts/store"), ["data", "tokenize"]);
    assert_eq!(sandbox.names_in("artifacts/store/tokenize").len(), 1);
    assert_eq!(sandbox.names_in("artifacts/tmp"), [""; 0]);
    assert_eq!(sandbox.read("artifacts/failed/tokens@sentiment/log.txt"), "working on tokens@sentiment\n");
    assert!(sandbox.bam(&["status"]).stdout.contains("log: artifacts/failed/tokens@sentiment/log.txt"));

    fs::remove_file(sandbox.path("behaviour.json")).unwrap();
    let mended = sandbox.bam(&["run"]);
    assert_eq!((mended.code, mended.stages("CACHED").len()), (0, 3));
    assert_eq!(sandbox.names_in("artifacts/failed"), [""; 0]);
}

#[test]
fn a_stage_that_is_done_without_its_files_has_failed() {
    let sandbox = Sandbox::with_small_pipeline();
    sandbox.write("behaviour.json", r#"{"examples@sentiment": "half"}"#);
    let run = sandbox.bam(&["run", "pipeline.yaml", "examples@sentiment"]);
    assert_eq!(run.code, 1);
    assert!(run.stderr.contains("error: the stage says it is done, but wrote no `*.parquet`\n"), "{}", run.stderr);
    assert_eq!(sandbox.names_in("artifacts/store"), [""; 0]);
}

#[test]
fn a_file_that_changes_while_a_stage_runs_fails_the_stage() {
    let sandbox = Sandbox::with_small_pipeline();
    sandbox.write("behaviour.json", r#"{"teacher@sentiment": "meddle"}"#);
    let run = sandbox.bam(&["run", "pipeline.yaml", "teacher@sentiment"]);
    assert_eq!(run.code, 1);
    assert!(run.stderr.contains("error: `enc/config.json` changed while the stage ran\n"), "{}", run.stderr);
    assert_eq!(sandbox.names_in("artifacts/store/train"), [""; 0]);
    fs::remove_file(sandbox.path("behaviour.json")).unwrap();
    assert_eq!(sandbox.bam(&["run", "pipeline.yaml", "teacher@sentiment"]).code, 0);
}

#[test]
fn a_damaged_artifact_is_named_set_aside_and_made_again() {
    let sandbox = Sandbox::with_small_pipeline();
    sandbox.bam(&["run", "pipeline.yaml", "tokens@sentiment"]);
    let file = fs::canonicalize(sandbox.path("artifacts/latest/tokens@sentiment/dev.parquet")).unwrap();
    fs::write(&file, "cut").unwrap();
    let run = sandbox.bam(&["run", "pipeline.yaml", "tokens@sentiment"]);
    assert_eq!(
        run.stderr,
        "    Pipeline small: 2 stages
      CACHED             (1/2) examples@sentiment  made by data                              <hex>
warning: tokens@sentiment: its damaged artifact now lies in `artifacts/damaged/<hex>`
         RAN [time]  (2/2) tokens@sentiment    made by tokenize, peak <memory>  <hex>
                         because its artifact is damaged: `dev.parquet` has 3 bytes, not 142
────────────
     Summary [time]  2 stages: 1 cached, 1 ran
"
    );
    assert_eq!((run.code, sandbox.names_in("artifacts/damaged").len()), (0, 1));
    assert_eq!(sandbox.bam(&["run", "pipeline.yaml", "tokens@sentiment"]).stages("RAN"), [""; 0]);
}

/// Waits until the worker has written half its output.
fn until_hanging(sandbox: &Sandbox) {
    for _ in 0..600 {
        if sandbox.path("hanging").exists() {
            return;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("the worker never got to its output");
}

/// Whether a process runs that was given a job of this sandbox.
fn a_worker_runs(sandbox: &Sandbox) -> bool {
    let artifacts = sandbox.path("artifacts/tmp").display().to_string();
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let arguments = processes.filter_map(|process| fs::read(process.path().join("cmdline")).ok());
    arguments.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).any(|line| line.contains(&artifacts))
}

#[test]
fn an_engine_that_is_killed_leaves_no_half_artifact_and_no_worker() {
    let sandbox = Sandbox::with_small_pipeline();
    sandbox.write("behaviour.json", r#"{"tokens@sentiment": "hang"}"#);
    let run = ["run", "pipeline.yaml", "tokens@sentiment"];
    let mut engine = sandbox.command(&run).stderr(Stdio::null()).spawn().unwrap();
    until_hanging(&sandbox);
    assert!(a_worker_runs(&sandbox));
    engine.kill().unwrap();
    engine.wait().unwrap();
    for _ in 0..200 {
        if !a_worker_runs(&sandbox) {
            break;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(!a_worker_runs(&sandbox), "the worker outlived the engine");
    assert_eq!(sandbox.names_in("artifacts/store"), ["data"]);

    fs::remove_file(sandbox.path("behaviour.json")).unwrap();
    let again = sandbox.bam(&run);
    assert_eq!((again.code, again.stages("RAN")), (0, vec!["tokens@sentiment".to_owned()]));
    assert_eq!(sandbox.names_in("artifacts/tmp"), [""; 0], "what the killed engine left is swept");
}

#[test]
fn ctrl_c_ends_the_run_with_a_clean_store() {
    let sandbox = Sandbox::with_small_pipeline();
    sandbox.write("behaviour.json", r#"{"tokens@sentiment": "hang"}"#);
    let run = ["run", "pipeline.yaml", "tokens@sentiment"];
    let engine = sandbox.command(&run).stderr(Stdio::piped()).spawn().unwrap();
    until_hanging(&sandbox);
    let interrupted = Command::new("kill").args(["-INT", &engine.id().to_string()]).status().unwrap();
    assert!(interrupted.success());
    let output = engine.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.ends_with("interrupted: 1 of 2 stages is done and stays cached\n"), "{said}");
    assert!(!a_worker_runs(&sandbox));
    assert_eq!(
        (sandbox.names_in("artifacts/store"), sandbox.names_in("artifacts/tmp")),
        (vec!["data".to_owned()], vec![])
    );
}

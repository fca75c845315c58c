//! `bam` from outside, with a worker that misbehaves: what is told, and what is left in the store.

use std::fs::{self, Permissions};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Stdio};

use crate::support::{Sandbox, said};

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

the end of its log, `artifacts/failed/pipeline.yaml/tokens@sentiment/log.txt`:
  | working on tokens@sentiment

     SKIPPED             ( 5/11) teacher@sentiment       needs tokens@sentiment
     SKIPPED             ( 7/11) predictions@sentiment   needs teacher@sentiment
     SKIPPED             ( 9/11) student                 needs tokens@sentiment
     SKIPPED             (10/11) onnx                    needs student
     SKIPPED             (11/11) scores                  needs teacher@sentiment
         RAN [time]  ( 4/11) tokens@entailment       made by tokenize, peak <memory>  <hex>
      FAILED [time]  ( 6/11) teacher@entailment
error: the worker ended with exit code 3

the end of its log, `artifacts/failed/pipeline.yaml/teacher@entailment/log.txt`:
  | a library prints this

     SKIPPED             ( 8/11) predictions@entailment  needs teacher@entailment
────────────
     Summary [time]  11 stages: 3 ran, 2 failed, 6 skipped
      Failed tokens@sentiment, teacher@entailment
"
    );
    assert_eq!((run.code, run.stdout.as_str()), (1, ""));
    assert_eq!(sandbox.names_in("artifacts/store"), ["data", "tokenize"]);
    assert_eq!(sandbox.names_in("artifacts/store/tokenize").len(), 1);
    assert_eq!(sandbox.names_in("artifacts/tmp"), [""; 0]);
    assert_eq!(
        sandbox.read("artifacts/failed/pipeline.yaml/tokens@sentiment/log.txt"),
        "working on tokens@sentiment\n"
    );
    let why = "line 3 of `train.tsv` has 2 columns, not 4: no column `label`";
    let status = sandbox.bam(&["status"]).stdout;
    let of_stage = |name: &str| status.lines().find(|line| line.starts_with(name)).unwrap();
    let told = format!("failed {why}; log: artifacts/failed/pipeline.yaml/tokens@sentiment/log.txt");
    assert_eq!(of_stage("tokens@sentiment").split_whitespace().collect::<Vec<_>>()[1..].join(" "), told);
    let log = sandbox.bam(&["log", "tokens@sentiment"]);
    assert_eq!((log.code, log.stdout.as_str()), (0, "working on tokens@sentiment\n"));
    assert_eq!(
        log.stderr,
        "artifacts/failed/pipeline.yaml/tokens@sentiment/log.txt
error: line 3 of `train.tsv` has 2 columns, not 4
  caused by: no column `label`

hint: mend the file
"
    );

    fs::remove_file(sandbox.path("behaviour.json")).unwrap();
    let mended = sandbox.bam(&["run"]);
    assert_eq!((mended.code, mended.stages("CACHED").len()), (0, 3));
    assert_eq!(sandbox.names_in("artifacts/failed"), [""; 0]);
}

#[test]
fn a_failure_is_of_its_pipeline_alone() {
    let sandbox = Sandbox::with_small_pipeline();
    sandbox.write("other.yaml", &sandbox.read("pipeline.yaml"));
    sandbox.bam(&["run", "other.yaml", "examples"]);
    sandbox.write("behaviour.json", r#"{"tokens@sentiment": "fail"}"#);
    assert_eq!(sandbox.bam(&["run", "pipeline.yaml", "tokens@sentiment"]).code, 1);
    let state = |pipeline: &str| {
        let status = sandbox.bam(&["status", pipeline]).stdout;
        let line = status.lines().find(|line| line.starts_with("tokens@sentiment ")).unwrap_or(&status);
        line.split_whitespace().skip(1).take(2).collect::<Vec<_>>().join(" ")
    };
    assert!(state("pipeline.yaml").starts_with("failed "), "{}", state("pipeline.yaml"));
    assert_eq!(state("other.yaml"), "never ran");
    let why = |pipeline: &str| {
        let plan = sandbox.bam(&["plan", pipeline]).stdout;
        let line = plan.lines().find(|line| line.starts_with("tokens@sentiment ")).unwrap_or(&plan);
        line.split_whitespace().skip(1).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(why("pipeline.yaml"), "run – failed the last time");
    assert_eq!(why("other.yaml"), "run – never ran");

    // The other one makes it, and this one's failure stays, with its log, till it has been run again.
    fs::remove_file(sandbox.path("behaviour.json")).unwrap();
    assert_eq!(sandbox.bam(&["run", "other.yaml", "tokens@sentiment"]).code, 0);
    assert_eq!(sandbox.names_in("artifacts/failed/pipeline.yaml"), ["tokens@sentiment"]);
    assert_eq!(state("pipeline.yaml"), "current just");
    assert_eq!(sandbox.bam(&["log", "tokens@sentiment"]).stderr, "artifacts/latest/tokens@sentiment/log.txt\n");
    assert_eq!(sandbox.bam(&["run", "pipeline.yaml", "tokens@sentiment"]).code, 0);
    assert_eq!(sandbox.names_in("artifacts/failed"), [""; 0]);

    // Both have one.
    sandbox.write("behaviour.json", r#"{"tokens@entailment": "fail"}"#);
    for pipeline in ["pipeline.yaml", "other.yaml"] {
        assert_eq!(sandbox.bam(&["run", pipeline, "tokens@entailment"]).code, 1);
    }
    assert_eq!(sandbox.names_in("artifacts/failed"), ["other.yaml", "pipeline.yaml"]);
}

#[test]
fn what_a_stage_had_last_is_of_its_pipeline_alone() {
    let sandbox = Sandbox::with_fake_worker();
    let pipeline =
        |value: &str| format!("stages: {{ x: {{ exec: {{ run: [sh, x.sh], params: {{ v: {value} }} }} }} }}\n");
    sandbox.write("x.sh", "cp \"$1\" \"$(dirname \"$1\")/output/job\"");
    sandbox.write("a.yaml", &pipeline("A"));
    sandbox.write("sub/b.yaml", &pipeline("B"));
    assert_eq!((sandbox.bam(&["run", "a.yaml"]).code, sandbox.bam(&["run", "sub/b.yaml"]).code), (0, 0));
    sandbox.write("a.yaml", &pipeline("C"));
    let plan = sandbox.bam(&["plan", "a.yaml"]).stdout;
    assert!(plan.contains("param params.v: A → C (a.yaml:1:"), "{plan}");
    // Its own last artifact stays, and that of the other, which isn't named, unless it is asked for; that is said beforehand.
    let gc = sandbox.bam(&["gc", "a.yaml"]).stdout;
    assert!(gc.starts_with("removed 0 artifacts of 2, ") && gc.contains("1 artifact, "), "{gc}");
    assert!(gc.ends_with(" left to pipelines that you didn't name: sub/b.yaml; `--all` takes them too\n"), "{gc}");
    let gc = sandbox.bam(&["gc", "--all", "a.yaml"]);
    assert_eq!(gc.stderr, "removing what pipelines that you didn't name have or had: sub/b.yaml\n");
    assert!(gc.stdout.contains("\nremoved 1 artifact of 2, "), "{}", gc.stdout);
    assert!(gc.stdout.ends_with("some were what pipelines that you didn't name have or had: sub/b.yaml\n"));
    assert_eq!(sandbox.bam(&["run", "sub/b.yaml"]).stages("RAN"), ["x"]);
    // A pipeline whose file is gone needs nothing.
    fs::remove_file(sandbox.path("sub/b.yaml")).unwrap();
    let gc = sandbox.bam(&["gc", "-n", "a.yaml"]).stdout;
    assert!(gc.contains("\nwould remove 1 artifact of 2, "), "{gc}");
    sandbox.write("a.yaml", &pipeline("A"));
    assert_eq!(sandbox.bam(&["run", "a.yaml"]).stages("CACHED"), ["x"]);
}

#[test]
fn a_pipeline_may_come_from_a_pipe() {
    let sandbox = Sandbox::with_small_pipeline();
    let mut command = sandbox.command(&["plan", "/dev/stdin"]);
    let mut plan = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    plan.stdin.take().unwrap().write_all(sandbox.read("pipeline.yaml").as_bytes()).unwrap();
    let said = plan.wait_with_output().unwrap();
    let shown = String::from_utf8(said.stdout).unwrap();
    assert!(shown.ends_with("11 stages: 0 cached, 11 to run, which never ran: no estimate\n"), "{shown}");
}

#[test]
fn what_takes_more_memory_than_there_is_says_so() {
    let sandbox = Sandbox::with_small_pipeline();
    let run = sandbox.bam(&["run", "pipeline.yaml", "examples@sentiment", "--memory", "10MiB"]);
    let told =
        "warning: examples@sentiment: it asks for about 256.0 MiB of 10.0 MiB memory, and runs with what there is\n";
    assert!(run.code == 0 && run.stderr.contains(told), "{}", run.stderr);
}

#[test]
fn all_that_a_worker_says_is_taken_in() {
    let sandbox = Sandbox::with_small_pipeline();
    sandbox.write("behaviour.json", r#"{"tokens@sentiment": "verbose"}"#);
    let run = sandbox.bam(&["run", "pipeline.yaml", "tokens@sentiment"]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    let log = sandbox.read("artifacts/latest/tokens@sentiment/log.txt");
    let longest = log.lines().map(str::len).max();
    assert_eq!((log.lines().count(), longest), (2, Some(3_000_000)));
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

#[test]
fn a_stage_that_failed_without_a_worker_is_told_of_later_too() {
    let sandbox = Sandbox::with_small_pipeline();
    let target = ["run", "pipeline.yaml", "examples@sentiment"];
    assert_eq!(sandbox.bam(&target).code, 0);
    // In the way of its lock.
    fs::remove_dir_all(sandbox.path("artifacts/locks")).unwrap();
    sandbox.write("artifacts/locks", "");
    assert_eq!(sandbox.bam(&[&target[..], &["--force"]].concat()).code, 1);
    let log = sandbox.bam(&["log", "examples@sentiment"]);
    assert!(log.code == 0 && log.stdout.is_empty(), "{}", log.stdout);
    assert!(log.stderr.starts_with("error: creating `artifacts/locks`\n  caused by: "), "{}", log.stderr);
    fs::remove_file(sandbox.path("artifacts/locks")).unwrap();
    assert_eq!(sandbox.bam(&target).code, 0);
    let log = sandbox.bam(&["log", "examples@sentiment"]);
    assert_eq!(log.stdout, "working on examples@sentiment\n");
}

#[test]
fn a_worker_that_is_killed_is_told() {
    let sandbox = Sandbox::with_small_pipeline();
    sandbox.write("behaviour.json", r#"{"examples@sentiment": "killed"}"#);
    let run = sandbox.bam(&["run", "pipeline.yaml", "examples@sentiment"]);
    assert!(run.stderr.contains("error: the worker was killed (signal 9): was memory short?\n"), "{}", run.stderr);
    assert_eq!((run.code, sandbox.names_in("artifacts/store")), (1, vec![]));
}

#[test]
fn what_is_denied_memory_says_so() {
    let sandbox = Sandbox::with_fake_worker();
    sandbox.write("own.sh", "ulimit -v 400000; exec python3 -c 'rows = bytearray(1 << 30)'");
    sandbox.write("pipeline.yaml", "stages: { own: { exec: { run: [sh, own.sh] } } }\n");
    let run = sandbox.bam(&["run"]);
    assert!(run.stderr.contains("error: `sh` ended with exit code 1\n"), "{}", run.stderr);
    assert!(run.stderr.contains("  | MemoryError\n"), "{}", run.stderr);
    assert_eq!((run.code, sandbox.names_in("artifacts/store")), (1, vec![]));
}

#[test]
fn a_file_that_goes_while_stages_run_fails_those_that_read_it() {
    let sandbox = Sandbox::with_small_pipeline();
    sandbox.write("behaviour.json", r#"{"tokens@sentiment": "remove"}"#);
    let run = sandbox.bam(&["run"]);
    let gone = "error: reading `enc/config.json`\n  caused by: No such file or directory";
    assert_eq!(run.stages("FAILED"), ["teacher@sentiment", "teacher@entailment"], "{}", run.stderr);
    assert_eq!((run.stages("RAN").len(), run.stages("SKIPPED").len()), (4, 5), "{}", run.stderr);
    assert!(run.code == 1 && run.stderr.contains(gone), "{}", run.stderr);
    assert_eq!(sandbox.bam(&["runs"]).stdout.lines().count(), 2, "the run has its record");
}

#[test]
fn a_file_that_may_not_be_read_is_found_before_anything_runs() {
    let sandbox = Sandbox::with_small_pipeline();
    let Some(mut command) = sandbox.humble_command(&["run"]) else {
        return println!("skipped: `setpriv` is not here to give up root's rights");
    };
    fs::set_permissions(sandbox.path("enc/model.safetensors"), Permissions::from_mode(0o0)).unwrap();
    let run = said(&mut command);
    let told = "error: `enc/model.safetensors` cannot be read: Permission denied (os error 13)
  --> pipeline.yaml:3:18
   |
 3 | vars: { encoder: enc, max_tokens: 128 }
   |                  ^^^

hint: give the user that runs `bam` the right to read it
";
    assert!(run.stderr.starts_with(told), "{}", run.stderr);
    assert_eq!((run.code, sandbox.names_in("artifacts/store")), (2, vec![]));
}

#[test]
fn a_store_that_may_not_be_written_serves_what_it_has() {
    let sandbox = Sandbox::with_small_pipeline();
    assert_eq!(sandbox.bam(&["run", "pipeline.yaml", "tokens@sentiment"]).code, 0);
    let Some(mut cached) = sandbox.humble_command(&["run", "pipeline.yaml", "tokens@sentiment"]) else {
        return println!("skipped: `setpriv` is not here to give up root's rights");
    };
    let mut more = sandbox.humble_command(&["run", "pipeline.yaml", "teacher"]).unwrap();
    let chmod = |mode: &str| {
        let chmod = Command::new("chmod").args(["-R", mode, "artifacts"]).current_dir(sandbox.path("")).status();
        assert!(chmod.unwrap().success());
    };
    chmod("a-w");
    let (cached, more) = (said(&mut cached), said(&mut more));
    chmod("u+w");
    assert_eq!((cached.code, cached.stages("CACHED").len()), (0, 2), "{}", cached.stderr);
    let mut failed = more.stages("FAILED");
    failed.sort();
    assert_eq!(failed, ["examples@entailment", "teacher@sentiment"], "{}", more.stderr);
    let told = "\
error: locking `artifacts/locks/<hex>`
  caused by: Permission denied (os error 13)

hint: what the store holds can be used without the right to write there; `--artifacts DIR` names another for what can't
";
    assert!(more.code == 1 && more.stderr.contains(told), "{}", more.stderr);
    assert_eq!(sandbox.bam(&["verify"]).code, 0);
}

#[test]
fn a_log_that_can_not_be_kept_hides_no_failure() {
    let sandbox = Sandbox::with_small_pipeline();
    sandbox.write("behaviour.json", r#"{"tokens@sentiment": "fail"}"#);
    sandbox.write("artifacts/failed", "in the way");
    let run = sandbox.bam(&["run", "pipeline.yaml", "tokens"]);
    assert_eq!(
        run.stderr,
        "    Pipeline small: 4 stages
         RAN [time]  (1/4) examples@sentiment   made by data, peak <memory>  <hex>
         RAN [time]  (2/4) examples@entailment  made by data, peak <memory>  <hex>
warning: tokens@sentiment: its log could not be kept: creating `artifacts/failed/pipeline.yaml/tokens@sentiment`: Not a directory (os error 20)
      FAILED [time]  (3/4) tokens@sentiment
error: line 3 of `train.tsv` has 2 columns, not 4
  caused by: no column `label`

hint: mend the file

the end of its log:
  | working on tokens@sentiment

         RAN [time]  (4/4) tokens@entailment    made by tokenize, peak <memory>  <hex>
────────────
     Summary [time]  4 stages: 3 ran, 1 failed
      Failed tokens@sentiment
"
    );
    assert_eq!(run.code, 1);
}

//! `bam` from outside, with a fake worker: what runs, what is found again, and what is left after trouble.

mod support;

use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;

use support::Sandbox;

const PIPELINE: &str = "\
name: small
seed: 17
vars: { encoder: enc, max_tokens: 128 }
for:  { task: [sentiment, entailment] }
stages:
  examples@task:    { data:     { task: $task, grammar: { train: 20, dev: 10 } } }
  tokens@task:      { tokenize: { examples: examples@$task, encoder: $encoder, max_tokens: $max_tokens } }
  teacher@task:     { train:    { tokens: [tokens@$task], encoder: $encoder, epochs: 3, learning_rate: 5e-5 } }
  predictions@task: { predict:  { model: teacher@$task, tokens: tokens@$task } }
  student:          { train:    { tokens: [tokens@*], teachers: [predictions@*], encoder: $encoder, epochs: 6 } }
  onnx:             { export:   { model: student } }
  scores:           { score:    { models: [teacher@*, student, onnx], tokens: [tokens@*] } }
";

const SCORES: &str = "\
TASK  METRIC    TEACHER  STUDENT  ONNX     Δ  ONNX max |Δlogit|
rte   accuracy     50.0     50.0  50.0  +0.0             1.0e-6
";

fn sandbox() -> Sandbox {
    let sandbox = Sandbox::with_fake_worker();
    sandbox.write("pipeline.yaml", PIPELINE);
    sandbox
}

#[test]
fn a_first_run_makes_everything_and_a_second_finds_it() {
    let sandbox = sandbox();
    let first = sandbox.bam(&["run"]);
    assert_eq!(
        first.stderr,
        "    Pipeline small: 11 stages
         RAN [time]  ( 1/11) examples@sentiment      made by data, peak <memory>  <hex>
         RAN [time]  ( 2/11) examples@entailment     made by data, peak <memory>  <hex>
         RAN [time]  ( 3/11) tokens@sentiment        made by tokenize, peak <memory>  <hex>
         RAN [time]  ( 4/11) tokens@entailment       made by tokenize, peak <memory>  <hex>
         RAN [time]  ( 5/11) teacher@sentiment       made by train, peak <memory>  <hex>
         RAN [time]  ( 6/11) teacher@entailment      made by train, peak <memory>  <hex>
         RAN [time]  ( 7/11) predictions@sentiment   made by predict, peak <memory>  <hex>
         RAN [time]  ( 8/11) predictions@entailment  made by predict, peak <memory>  <hex>
         RAN [time]  ( 9/11) student                 made by train, peak <memory>  <hex>
         RAN [time]  (10/11) onnx                    made by export, peak <memory>  <hex>
         RAN [time]  (11/11) scores                  made by score, peak <memory>  <hex>
────────────
     Summary [time]  11 stages: 11 ran

"
    );
    assert_eq!((first.code, first.stdout.as_str()), (0, SCORES));
    assert_eq!(sandbox.names_in("artifacts/tmp"), Vec::<String>::new());
    assert_eq!(sandbox.names_in("artifacts/latest").len(), 11);
    assert_eq!(
        sandbox.names_in("artifacts/latest/student"),
        ["bam.json", "config.json", "log.txt", "manifest.json", "model.safetensors"]
    );
    assert_eq!(sandbox.read("artifacts/latest/student/log.txt"), "a library prints this\n");

    let second = sandbox.bam(&["run"]);
    assert_eq!(
        second.stderr,
        "    Pipeline small: 11 stages
      CACHED             ( 1/11) examples@sentiment      made by data                              <hex>
      CACHED             ( 2/11) examples@entailment     made by data                              <hex>
      CACHED             ( 3/11) tokens@sentiment        made by tokenize                          <hex>
      CACHED             ( 4/11) tokens@entailment       made by tokenize                          <hex>
      CACHED             ( 5/11) teacher@sentiment       made by train                             <hex>
      CACHED             ( 6/11) teacher@entailment      made by train                             <hex>
      CACHED             ( 7/11) predictions@sentiment   made by predict                           <hex>
      CACHED             ( 8/11) predictions@entailment  made by predict                           <hex>
      CACHED             ( 9/11) student                 made by train                             <hex>
      CACHED             (10/11) onnx                    made by export                            <hex>
      CACHED             (11/11) scores                  made by score                             <hex>
────────────
     Summary [time]  11 stages: 11 cached

"
    );
    assert_eq!((second.code, second.stdout.as_str()), (0, SCORES));
    assert_eq!(sandbox.names_in("artifacts/runs").len(), 2);
}

#[test]
fn a_parameter_reruns_what_it_should_and_says_old_and_new() {
    let sandbox = sandbox();
    sandbox.bam(&["run", "pipeline.yaml", "student"]);
    sandbox.edit("pipeline.yaml", "max_tokens: 128", "max_tokens: 96");
    let plan = sandbox.bam(&["plan"]);
    let expected = "\
STAGE                   DECISION  WHY                                                                LAST TIME
examples@sentiment      cached                                                                           <secs>
examples@entailment     cached                                                                           <secs>
tokens@sentiment        run       param max_tokens: 128 → 96 (pipeline.yaml:3:35)                        <secs>
tokens@entailment       run       param max_tokens: 128 → 96 (pipeline.yaml:3:35)                        <secs>
teacher@sentiment       waits     on tokens@sentiment; cached if the bytes stay the same                 <secs>
teacher@entailment      waits     on tokens@entailment; cached if the bytes stay the same                <secs>
predictions@sentiment   waits     on tokens@sentiment and 1 more; cached if the bytes stay the same      <secs>
predictions@entailment  waits     on tokens@entailment and 1 more; cached if the bytes stay the same     <secs>
student                 waits     on tokens@sentiment and 3 more; cached if the bytes stay the same      <secs>
onnx                    run       never ran                                                                 –
scores                  run       never ran                                                                 –

11 stages: 2 cached, 9 to run, about <secs> and 2 stages that never ran
";
    let squeezed =
        |text: &str| text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect::<Vec<_>>();
    assert_eq!(squeezed(&plan.stdout), squeezed(expected));
    assert_eq!(
        sandbox.bam(&["plan", "--why", "predictions@sentiment"]).stdout,
        "predictions@sentiment runs if what it reads changes
  tokens@sentiment runs
    because param max_tokens: 128 → 96 (pipeline.yaml:3:35)
  teacher@sentiment runs if what it reads changes
    tokens@sentiment: see above
"
    );
    let run = sandbox.bam(&["run", "pipeline.yaml", "teacher@sentiment"]);
    assert_eq!(
        run.stderr,
        "    Pipeline small: 3 stages
      CACHED             (1/3) examples@sentiment  made by data                              <hex>
         RAN [time]  (2/3) tokens@sentiment    made by tokenize, peak <memory>  <hex>
                         because param max_tokens: 128 → 96 (pipeline.yaml:3:35)
         RAN [time]  (3/3) teacher@sentiment   made by train, peak <memory>  <hex>
                         because input tokens.0 (tokens@sentiment): new bytes
────────────
     Summary [time]  3 stages: 1 cached, 2 ran
"
    );
    let differences = sandbox.bam(&["show", "tokens@sentiment", "tokens@entailment"]);
    assert_eq!(
        differences.stdout,
        "tokens@sentiment (<hex>) → tokens@entailment (<hex>)
  param max_tokens: 96 → 128
  input examples: new bytes
"
    );
    assert_eq!(
        sandbox.bam(&["run", "--set", "vars.max_tokens=128", "pipeline.yaml", "student"]).stages("RAN"),
        [""; 0]
    );
}

#[test]
fn comments_order_and_spelling_rerun_nothing() {
    let sandbox = sandbox();
    sandbox.bam(&["run", "pipeline.yaml", "teacher"]);
    sandbox.edit("pipeline.yaml", "name: small", "# a comment\nname: small");
    sandbox.edit("pipeline.yaml", "epochs: 3, learning_rate: 5e-5", "learning_rate: 0.00005, epochs: 3.0, batch: 32");
    let run = sandbox.bam(&["run", "pipeline.yaml", "teacher"]);
    assert_eq!(run.stages("RAN"), [""; 0], "{}", run.stderr);
    assert_eq!(run.stages("CACHED").len(), 6);
}

#[test]
fn an_external_file_that_changes_is_seen_and_one_that_is_touched_is_not() {
    let sandbox = sandbox();
    sandbox.bam(&["run", "pipeline.yaml", "tokens@sentiment"]);
    let again = sandbox.read("enc/tokenizer.json");
    sandbox.write("enc/tokenizer.json", &again);
    assert_eq!(sandbox.bam(&["run", "pipeline.yaml", "tokens@sentiment"]).stages("RAN"), [""; 0]);
    sandbox.write("enc/tokenizer.json", "another");
    let run = sandbox.bam(&["run", "pipeline.yaml", "tokens@sentiment"]);
    assert!(run.stderr.contains("because file encoder/tokenizer.json changed\n"), "{}", run.stderr);
}

#[test]
fn equal_bytes_stop_the_rerun() {
    let sandbox = sandbox();
    sandbox.write("behaviour.json", r#"{"tokens@sentiment": "same"}"#);
    sandbox.bam(&["run", "pipeline.yaml", "predictions@sentiment"]);
    let run = sandbox.bam(&["run", "--set", "vars.max_tokens=96", "pipeline.yaml", "predictions@sentiment"]);
    assert_eq!(
        run.stderr,
        "    Pipeline small: 4 stages
      CACHED             (1/4) examples@sentiment     made by data                              <hex>
         RAN [time]  (2/4) tokens@sentiment       made by tokenize, peak <memory>  <hex>
                         because param max_tokens: 128 → 96 (--set vars.max_tokens=96)
      CACHED             (3/4) teacher@sentiment      made by train                             <hex>
                         tokens@sentiment reran, same bytes
      CACHED             (4/4) predictions@sentiment  made by predict                           <hex>
                         tokens@sentiment reran, same bytes
────────────
     Summary [time]  4 stages: 3 cached, 1 ran
"
    );
}

#[test]
fn a_failed_stage_leaves_its_log_and_the_independent_finish() {
    let sandbox = sandbox();
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
    let sandbox = sandbox();
    sandbox.write("behaviour.json", r#"{"examples@sentiment": "half"}"#);
    let run = sandbox.bam(&["run", "pipeline.yaml", "examples@sentiment"]);
    assert_eq!(run.code, 1);
    assert!(run.stderr.contains("error: the stage says it is done, but wrote no `*.parquet`\n"), "{}", run.stderr);
    assert_eq!(sandbox.names_in("artifacts/store"), [""; 0]);
}

#[test]
fn a_damaged_artifact_is_named_set_aside_and_made_again() {
    let sandbox = sandbox();
    sandbox.bam(&["run", "pipeline.yaml", "tokens@sentiment"]);
    let file = fs::canonicalize(sandbox.path("artifacts/latest/tokens@sentiment/dev.parquet")).unwrap();
    fs::write(&file, "cut").unwrap();
    let run = sandbox.bam(&["run", "pipeline.yaml", "tokens@sentiment"]);
    assert_eq!(
        run.stderr,
        "    Pipeline small: 2 stages
      CACHED             (1/2) examples@sentiment  made by data                              <hex>
warning: tokens@sentiment: its damaged artifact now lies in `artifacts/damaged/<hex>.1`
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
    let sandbox = sandbox();
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
    let sandbox = sandbox();
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

#[test]
fn json_is_one_event_a_line() {
    let sandbox = sandbox();
    let run = sandbox.command(&["run", "--json", "pipeline.yaml", "examples@sentiment"]).output().unwrap();
    assert_eq!(String::from_utf8(run.stderr).unwrap(), "");
    let events: Vec<String> = String::from_utf8(run.stdout)
        .unwrap()
        .lines()
        .map(|line| {
            let value: serde_json::Value = serde_json::from_str(line).unwrap();
            format!("{} {}", value["event"].as_str().unwrap(), value["stage"].as_str().unwrap_or_default())
        })
        .collect();
    assert_eq!(
        events,
        [
            "started ",
            "running examples@sentiment",
            "progress examples@sentiment",
            "metric examples@sentiment",
            "ran examples@sentiment",
            "finished "
        ]
    );
}

#[test]
fn show_explains_an_artifact() {
    let sandbox = sandbox();
    sandbox.bam(&["run", "pipeline.yaml", "teacher@sentiment"]);
    let by_name = sandbox.bam(&["show", "teacher@sentiment"]);
    let part = by_name.stdout.split("\nmade from\n").nth(1).unwrap();
    let expected = "  input tokens.0: <hex> tokens@sentiment (<hex>)
  file encoder/config.json: <hex>
  file encoder/model.safetensors: <hex>
  file encoder/tokenizer.json: <hex>
  param anneal: linear
  param batch: 32
  param bias_correction: true
  param clip_norm: 1.0
  param epochs: 3.0
  param keep: last
  param layer_decay: 1.0
  param learning_rate: 0.00005
  param precision: fp32
  param reduction: mean
  param regression_output: linear
  param sampling: 0.75
  param seed: 17
  param warmup: 0.1
  param weight_decay: 0.01

FILE                SIZE  BLAKE3
bam.json           139 B  <hex>
config.json        142 B  <hex>
model.safetensors  148 B  <hex>

metrics
  dev/rte/accuracy: 0.5
";
    assert_eq!(part.replace("5e-5", "0.00005"), expected);
    let by_path = sandbox.bam(&["show", "artifacts/latest/teacher@sentiment/bam.json"]);
    assert_eq!(by_path, by_name);
    let missing = sandbox.bam(&["show", "teacher@sentimnt"]);
    assert_eq!(
        (missing.code, missing.stderr.as_str()),
        (2, "error: no artifact `teacher@sentimnt`\n\nhint: did you mean `teacher@sentiment`?\n")
    );
}

#[test]
fn bam_does_not_need_libtorch() {
    let listed = Command::new("ldd").arg(env!("CARGO_BIN_EXE_bam")).output();
    let Ok(listed) = listed else {
        println!("skipped: `ldd` is not here to list the libraries that `bam` needs");
        return;
    };
    let libraries = String::from_utf8(listed.stdout).unwrap();
    assert!(libraries.contains("libc.so"), "{libraries}");
    for heavy in ["torch", "libc10", "onnxruntime", "libgomp"] {
        assert!(!libraries.contains(heavy), "{libraries}");
    }
}

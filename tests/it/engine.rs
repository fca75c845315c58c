//! `bam` from outside, with a fake worker: what runs, what is found again, and what is said of it.

use std::process::{Command, Stdio};

use crate::support::{Sandbox, until};

const SCORES: &str = "\
TASK  METRIC      TEACHER  STUDENT  ONNX     Δ  ONNX max |Δlogit|
rte   accuracy  50.0 of 2     50.0  50.0  +0.0             1.0e-6
";

#[test]
fn a_first_run_makes_everything_and_a_second_finds_it() {
    let sandbox = Sandbox::with_small_pipeline();
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
    let sandbox = Sandbox::with_small_pipeline();
    sandbox.bam(&["run", "pipeline.yaml", "student"]);
    sandbox.edit("pipeline.yaml", "max_tokens: 128", "max_tokens: 96");
    let plan = sandbox.bam(&["plan"]);
    let expected = "\
STAGE                   DECISION  LAST TIME  WHY
examples@sentiment      cached       <secs>
examples@entailment     cached       <secs>
tokens@sentiment        run          <secs>  param max_tokens: 128 → 96 (pipeline.yaml:3:35)
tokens@entailment       run          <secs>  param max_tokens: 128 → 96 (pipeline.yaml:3:35)
teacher@sentiment       may run      <secs>  waits on tokens@sentiment; cached if the bytes stay the same
teacher@entailment      may run      <secs>  waits on tokens@entailment; cached if the bytes stay the same
predictions@sentiment   may run      <secs>  waits on tokens@sentiment and 1 more; cached if the bytes stay the same
predictions@entailment  may run      <secs>  waits on tokens@entailment and 1 more; cached if the bytes stay the same
student                 may run      <secs>  waits on tokens@sentiment and 3 more; cached if the bytes stay the same
onnx                    run               –  never ran
scores                  run               –  never ran

11 stages: 2 cached, 4 to run, 5 may run, about <secs>, by runs of other settings, if 2 stages that never ran are like the others
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
    let sandbox = Sandbox::with_small_pipeline();
    sandbox.bam(&["run", "pipeline.yaml", "teacher"]);
    sandbox.edit("pipeline.yaml", "name: small", "# a comment\nname: small");
    sandbox.edit("pipeline.yaml", "epochs: 3, learning_rate: 5e-5", "learning_rate: 0.00005, epochs: 3.0, batch: 32");
    let run = sandbox.bam(&["run", "pipeline.yaml", "teacher"]);
    assert_eq!(run.stages("RAN"), [""; 0], "{}", run.stderr);
    assert_eq!(run.stages("CACHED").len(), 6);
}

#[test]
fn an_external_file_that_changes_is_seen_and_one_that_is_touched_is_not() {
    let sandbox = Sandbox::with_small_pipeline();
    sandbox.bam(&["run", "pipeline.yaml", "tokens@sentiment"]);
    let again = sandbox.read("enc/tokenizer.json");
    sandbox.write("enc/tokenizer.json", &again);
    assert_eq!(sandbox.bam(&["run", "pipeline.yaml", "tokens@sentiment"]).stages("RAN"), [""; 0]);
    sandbox.write("enc/tokenizer.json", "[]");
    let run = sandbox.bam(&["run", "pipeline.yaml", "tokens@sentiment"]);
    assert!(run.stderr.contains("because file encoder/tokenizer.json: <hex> → <hex>\n"), "{}", run.stderr);
}

#[test]
fn equal_bytes_stop_the_rerun() {
    let sandbox = Sandbox::with_small_pipeline();
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
                         tokens@sentiment ran, same bytes
      CACHED             (4/4) predictions@sentiment  made by predict                           <hex>
                         tokens@sentiment ran, same bytes
────────────
     Summary [time]  4 stages: 3 cached, 1 ran
"
    );
}

#[test]
fn a_forced_stage_runs_again_and_what_reads_it_is_found() {
    let sandbox = Sandbox::with_small_pipeline();
    sandbox.bam(&["run"]);
    let run = sandbox.bam(&["run", "--force=tokens@sentiment"]);
    assert_eq!((run.code, run.stages("RAN")), (0, vec!["tokens@sentiment".to_owned()]));
    assert!(run.stderr.contains("because forced\n") && run.stderr.contains("tokens@sentiment ran, same bytes\n"));
    assert_eq!(sandbox.bam(&["run", "pipeline.yaml", "examples", "--force"]).stages("RAN").len(), 2);
    assert_eq!(sandbox.bam(&["run", "--force"]).stages("RAN").len(), 11);
}

#[test]
fn downstream_takes_what_is_made_from_the_targets_too() {
    let sandbox = Sandbox::with_small_pipeline();
    let run = sandbox.bam(&["run", "pipeline.yaml", "teacher@sentiment", "--downstream"]);
    // `student` is made from `teacher@sentiment`, and needs all tasks.
    assert_eq!(run.stages("RAN").len(), 11);
    let run = sandbox.bam(&["run", "pipeline.yaml", "onnx", "--downstream"]);
    assert_eq!((run.stages("CACHED").len(), run.stages("RAN").len()), (11, 0));
    let alone = sandbox.bam(&["run", "--downstream"]);
    assert_eq!(alone.code, 2, "{}", alone.stderr);
}

#[test]
fn a_dry_run_runs_nothing_and_says_what_plan_says() {
    let sandbox = Sandbox::with_small_pipeline();
    let dry = sandbox.bam(&["run", "-n", "pipeline.yaml", "tokens"]);
    assert_eq!(dry, sandbox.bam(&["plan", "pipeline.yaml", "tokens"]));
    assert_eq!(
        dry.stdout,
        "\
STAGE                DECISION  LAST TIME  WHY
examples@sentiment   run               –  never ran
examples@entailment  run               –  never ran
tokens@sentiment     run               –  never ran
tokens@entailment    run               –  never ran

4 stages: 0 cached, 4 to run, which never ran: no estimate
"
    );
    assert_eq!(sandbox.names_in("artifacts/store"), [""; 0]);
}

#[test]
fn stages_run_side_by_side_within_their_resources() {
    let sandbox = Sandbox::with_small_pipeline();
    // Each waits for the other's sign of life.
    sandbox.write("behaviour.json", r#"{"tokens@sentiment": "meet", "tokens@entailment": "meet"}"#);
    let run = |more: &[&str]| {
        let mut command = sandbox.command(&[&["run", "--threads", "2", "pipeline.yaml", "tokens"], more].concat());
        command.env_remove("BAM_JOBS").output().unwrap()
    };
    let met = run(&[]);
    assert_eq!(met.status.code(), Some(0), "{}", String::from_utf8_lossy(&met.stderr));
    let threads = |stage: &str| sandbox.manifest(stage)["provenance"]["threads"].as_u64().unwrap();
    assert_eq!([threads("tokens@sentiment"), threads("tokens@entailment")], [1, 1], "a family shares the threads");

    for (number, limit) in
        [["--jobs", "1"], ["--set", "stages.tokens@task.resources={threads: 2}"], ["--memory", "1GiB"]]
            .iter()
            .enumerate()
    {
        let mut limit = limit.to_vec();
        if limit[0] == "--memory" {
            limit.extend(["--set", "resources.tokenize.memory=700MiB"]);
        }
        for name in ["met-tokens@sentiment", "met-tokens@entailment"] {
            std::fs::remove_file(sandbox.path(name)).unwrap();
        }
        let seed = format!("vars.max_tokens={}", 64 + number);
        let apart = run(&[&limit[..], &["--set", &seed]].concat());
        let told = String::from_utf8_lossy(&apart.stderr);
        assert_eq!(apart.status.code(), Some(1), "{limit:?}: {told}");
        assert!(told.contains("nobody came"), "{limit:?}: {told}");
        // The one that ran alone gave up; the other found its sign.
        assert_eq!(told.matches("FAILED").count(), 1, "{limit:?}: {told}");
    }
}

#[test]
fn a_stage_that_asks_for_more_than_there_is_runs_alone_and_says_so() {
    let sandbox = Sandbox::with_small_pipeline();
    let set = "stages.tokens@task.resources={threads: 64, gpus: 9}";
    let run = sandbox.bam(&["run", "--threads", "2", "--set", set, "pipeline.yaml", "tokens@sentiment"]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    let told = "warning: tokens@sentiment: it asks for 64 threads of 2 and 9 GPUs of ";
    assert!(run.stderr.contains(told) && run.stderr.contains(", and runs with what there is\n"), "{}", run.stderr);
}

#[test]
fn two_runs_at_once_share_work() {
    let sandbox = Sandbox::with_small_pipeline();
    sandbox.write("behaviour.json", r#"{"tokens@sentiment": "slow"}"#);
    let mut first = sandbox.command(&["run"]).stderr(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
    while !sandbox.path("slow-tokens@sentiment").exists() {
        assert!(first.try_wait().unwrap().is_none(), "the first run ended before it came to the slow stage");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    // What only looks doesn't wait.
    assert_eq!(sandbox.bam(&["status"]).code, 0);
    assert_eq!(sandbox.bam(&["plan"]).code, 0);
    let second = sandbox.bam(&["run"]);
    assert_eq!((second.code, first.wait().unwrap().code()), (0, Some(0)), "{}", second.stderr);
    let told =
        regex::Regex::new(r"WAITING +\( *\d+/11\) tokens@sentiment +another run makes it \(process \d+ on .+\)\n")
            .unwrap();
    assert!(told.is_match(&second.stderr), "{}", second.stderr);
    assert!(second.stages("CACHED").contains(&"tokens@sentiment".to_owned()), "{}", second.stderr);
    // Every stage was computed by one of the two.
    let kinds = ["data", "tokenize", "train", "predict", "export", "score"];
    let computed = kinds.map(|kind| sandbox.names_in(&format!("artifacts/store/{kind}")).len());
    assert_eq!(computed, [2, 2, 3, 2, 1, 1], "{}", second.stderr);
    assert_eq!(sandbox.names_in("artifacts/tmp"), [""; 0]);
}

#[test]
fn the_environment_gives_values_and_they_are_what_is_hashed() {
    let sandbox = Sandbox::with_fake_worker();
    sandbox.write(
        "pipeline.yaml",
        "stages:\n  x: { data: { task: sentiment, grammar: { train: '${env:BAM_TEST_ROWS:-7}', dev: 5 } } }\n",
    );
    let ran = |rows: Option<&str>| {
        let mut command = sandbox.command(&["run"]);
        command.env_remove("BAM_TEST_ROWS").envs(rows.map(|rows| ("BAM_TEST_ROWS", rows)));
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stderr).unwrap().contains(" RAN ")
    };
    assert_eq!([ran(None), ran(Some("7")), ran(Some("8")), ran(Some(""))], [true, false, true, false]);
}

#[test]
fn json_is_one_event_a_line() {
    let sandbox = Sandbox::with_small_pipeline();
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
    let sandbox = Sandbox::with_small_pipeline();
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
  param precision: auto
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
fn logs_are_told_while_a_stage_runs_and_after() {
    let sandbox = Sandbox::with_small_pipeline();
    sandbox.write("behaviour.json", r#"{"examples@sentiment": "slow", "examples@entailment": "fail"}"#);
    let mut run = sandbox.command(&["run"]).stderr(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
    while !sandbox.path("slow-examples@sentiment").exists() {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let followed = sandbox.bam(&["log", "-f", "examples@sentiment"]);
    assert_eq!((followed.code, followed.stdout.as_str()), (0, "working on examples@sentiment\n"));
    assert!(followed.stderr.ends_with("/log.txt (under way)\n"), "{}", followed.stderr);
    assert_eq!(run.wait().unwrap().code(), Some(1));
    let done = sandbox.bam(&["log", "examples@sentiment"]);
    assert_eq!(done.stderr, "artifacts/latest/examples@sentiment/log.txt\n");
    let failed = sandbox.bam(&["log", "examples@entailment"]);
    let why =
        "error: line 3 of `train.tsv` has 2 columns, not 4\n  caused by: no column `label`\n\nhint: mend the file\n";
    assert_eq!(failed.stderr, format!("artifacts/failed/pipeline.yaml/examples@entailment/log.txt\n{why}"));
    assert_eq!(failed.stdout, "working on examples@entailment\n");
    let none = sandbox.bam(&["log", "nothing"]);
    assert_eq!((none.code, none.stderr.lines().next()), (2, Some("error: no log of a stage `nothing`")));
}

#[test]
fn runs_are_remembered() {
    let sandbox = Sandbox::with_small_pipeline();
    sandbox.bam(&["run", "pipeline.yaml", "tokens@sentiment"]);
    sandbox.write("behaviour.json", r#"{"teacher@sentiment": "crash"}"#);
    sandbox.bam(&["run", "pipeline.yaml", "teacher@sentiment"]);
    let squeezed = |text: &str| text.split_whitespace().skip(1).collect::<Vec<_>>().join(" ");
    let runs = sandbox.bam(&["runs"]);
    let lines: Vec<String> = runs.stdout.lines().map(squeezed).collect();
    assert_eq!(lines[0], "PIPELINE OUTCOME RAN CACHED FETCHED FAILED TOOK SAVED PEAK");
    assert!(lines[1].starts_with("pipeline.yaml failed 0 2 0 1 <secs> <secs>"), "{}", lines[1]);
    assert!(lines[2].starts_with("pipeline.yaml done 2 0 0 0 <secs> "), "{}", lines[2]);
    let started = runs.stdout.lines().nth(1).unwrap().split(' ').next().unwrap();
    let one = sandbox.bam(&["runs", started]);
    assert!(one.stdout.contains("teacher@sentiment   failed"), "{}", one.stdout);
    assert!(one.stdout.contains("the worker ended with exit code 3"), "{}", one.stdout);
    assert_eq!(sandbox.bam(&["runs", "1999"]).code, 2);
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

/// `one` and `two` are one computation: while `one` is made again, what reads `two` has to wait, and nothing else.
#[test]
fn what_reads_an_artifact_that_is_being_made_again_waits_for_it() {
    let sandbox = Sandbox::with_fake_worker();
    let pipeline = "stages:
  one: { data: { task: sentiment, grammar: { train: 5, dev: 5 } }, resources: { threads: 1 } }
  two: { data: { task: sentiment, grammar: { train: 5, dev: 5 } }, resources: { threads: 1 } }
  tokens: { tokenize: { examples: two, encoder: enc }, resources: { threads: 1 } }
";
    sandbox.write("pipeline.yaml", pipeline);
    assert_eq!(sandbox.bam(&["run"]).code, 0);
    sandbox.write("behaviour.json", r#"{"one": "slow"}"#);
    let forced = ["run", "--force=one", "--force=tokens", "--jobs", "2", "--threads", "2"];
    let again = sandbox.bam(&forced);
    let mut ran = again.stages("RAN");
    ran.sort();
    assert_eq!((again.code, ran), (0, vec!["one".to_owned(), "tokens".to_owned()]), "{}", again.stderr);
    // Whichever came first, the other one waited for this run itself.
    assert_eq!(again.stages("WAITING"), [""; 0], "{}", again.stderr);

    // Another run's.
    std::fs::remove_file(sandbox.path("slow-one")).unwrap();
    let mut other = sandbox.command(&["run", "--force=one"]).stderr(Stdio::null()).spawn().unwrap();
    until("the other run makes it again", || sandbox.path("slow-one").exists());
    let waited = sandbox.bam(&["run", "--force=tokens"]);
    assert_eq!((waited.code, waited.stages("RAN")), (0, vec!["tokens".to_owned()]), "{}", waited.stderr);
    assert!(other.wait().unwrap().success());
}

#[test]
fn a_change_within_a_variable_that_is_a_mapping_is_told_where_it_stands() {
    let sandbox = Sandbox::with_fake_worker();
    let pipeline = "\
seed: 17
vars: { rows: $base, base: { train: 50, dev: 20, seed: 1 } }
stages:
  examples: { data: { task: sentiment, grammar: $rows } }
";
    sandbox.write("small.yaml", pipeline);
    assert_eq!(sandbox.bam(&["run", "small.yaml"]).code, 0);
    let why = |more: &[&str]| {
        let plan = sandbox.bam(&[&["plan", "small.yaml"][..], more].concat());
        assert_eq!(plan.code, 0, "{}", plan.stderr);
        plan.stdout
    };
    for (set, told) in [
        ("vars.base.seed=4", "param grammar.seed: 1 → 4 (--set vars.base.seed=4)"),
        ("vars.base.train=51", "param grammar.train: 50 → 51 (--set vars.base.train=51)"),
        ("vars.rows={train: 50, dev: 20, seed: 4}", "1 → 4 (--set vars.rows={train: 50, dev: 20, seed: 4})"),
    ] {
        let said = why(&["--set", set]);
        assert!(said.contains(told), "{said}");
    }
    sandbox.edit("small.yaml", "seed: 1 }", "seed: 5 }");
    let said = why(&[]);
    assert!(said.contains("param grammar.seed: 1 → 5 (small.yaml:2:56)"), "{said}");
}

//! What stages are given of the machine, and in which order they start.

use std::collections::BTreeMap;

use crate::support::Sandbox;
use serde_json::{Value, json};

/// Names of the stages of events of this kind, in order.
fn stages_of(events: &[Value], kind: &str) -> Vec<String> {
    let events = events.iter().filter(|event| event["event"] == kind);
    events.map(|event| event["stage"].as_str().unwrap().to_owned()).collect()
}

fn events(sandbox: &Sandbox, args: &[&str], environment: &[(&str, &str)]) -> Vec<Value> {
    let output = sandbox.command(args).envs(environment.iter().copied()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines = String::from_utf8(output.stdout).unwrap();
    lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn each_worker_sees_the_gpus_it_was_given() {
    let sandbox = Sandbox::with_small_pipeline();
    sandbox.edit("pipeline.yaml", "epochs: 6 } }", "epochs: 6 }, resources: { gpus: 2 } }");
    let two = [("CUDA_VISIBLE_DEVICES", "3,GPU-7"), ("BAM_JOBS", "8")];
    let events = events(&sandbox, &["run", "--json", "--threads", "8"], &two);
    let (mut holders, mut given) = (BTreeMap::new(), BTreeMap::new());
    for event in &events {
        let stage = event["stage"].as_str().unwrap_or_default();
        if event["event"] == "running" {
            let gpus: Vec<&str> = event["gpus"].as_array().unwrap().iter().map(|gpu| gpu.as_str().unwrap()).collect();
            let wanted = match stage.split('@').next().unwrap() {
                "teacher" | "predictions" | "scores" => 1,
                "student" => 2,
                _ => 0,
            };
            assert_eq!(gpus.len(), wanted, "{event}");
            for gpu in &gpus {
                assert!(["3", "GPU-7"].contains(gpu), "{event}");
                assert_eq!(holders.insert(*gpu, stage), None, "{event}");
            }
            given.insert(stage, gpus.join(","));
        } else if event["event"] == "ran" {
            holders.retain(|_, holder| *holder != stage);
            let log = sandbox.read(&format!("artifacts/latest/{stage}/log.txt"));
            assert!(log.contains(&format!("GPUs: {}\n", given[stage])), "{stage}: {log}");
        }
    }
    assert_eq!(stages_of(&events, "ran").len(), 11);
}

#[test]
fn stages_share_a_gpu() {
    let sandbox = Sandbox::with_small_pipeline();
    sandbox.edit(
        "pipeline.yaml",
        "stages:\n",
        "resources: { train: { gpus: 0.4 }, predict: { gpus: 0.6 } }\nstages:\n",
    );
    sandbox.write("behaviour.json", r#"{"teacher@sentiment": "meet", "teacher@entailment": "meet"}"#);
    let events =
        events(&sandbox, &["run", "--json", "--threads", "8"], &[("CUDA_VISIBLE_DEVICES", "3"), ("BAM_JOBS", "8")]);
    let (mut holders, mut most) = (Vec::new(), 0);
    for event in &events {
        let stage = event["stage"].as_str().unwrap_or_default();
        if event["event"] == "running" && event["gpus"] == json!(["3"]) {
            holders.push(stage);
            most = most.max(holders.len());
            let mut kinds: Vec<&str> = holders.iter().filter_map(|holder| holder.split('@').next()).collect();
            kinds.sort_unstable();
            let fits = [
                &["teacher"][..],
                &["teacher", "teacher"],
                &["predictions", "teacher"],
                &["predictions"],
                &["student"],
                &["scores"],
            ];
            assert!(fits.contains(&kinds.as_slice()), "{kinds:?}");
        } else if event["event"] == "ran" {
            holders.retain(|holder| *holder != stage);
        }
    }
    assert_eq!(most, 2);
    assert_eq!(stages_of(&events, "ran").len(), 11);
}

#[test]
fn without_gpus_nothing_is_said_of_them() {
    let sandbox = Sandbox::with_small_pipeline();
    let events = events(&sandbox, &["run", "--json"], &[("CUDA_VISIBLE_DEVICES", "")]);
    assert!(events.iter().all(|event| event["event"] != "running" || event["gpus"] == Value::Array(vec![])));
    assert_eq!(sandbox.read("artifacts/latest/scores/log.txt"), "working on scores\nGPUs: \n");
}

#[test]
fn the_longest_chain_by_past_times_starts_first() {
    let sandbox = Sandbox::with_fake_worker();
    let pipeline = "stages:
  a: { data: { task: sentiment, grammar: { train: 5, dev: 5 } } }
  b: { data: { task: entailment, grammar: { train: 5, dev: 5 } } }
  c: { data: { task: paraphrase, grammar: { train: 5, dev: 5 } } }
  tokens: { tokenize: { examples: c, encoder: enc } }
";
    sandbox.write("pipeline.yaml", pipeline);
    let started = |args: &[&str]| stages_of(&events(&sandbox, args, &[]), "running");
    // Nothing is known: that of two stages is longer than those of one, which start in the file's order.
    assert_eq!(started(&["run", "--json"]), ["c", "a", "b", "tokens"]);
    for (stage, secs) in [("a", 1), ("b", 5), ("c", 1), ("tokens", 10)] {
        let mut manifest = sandbox.manifest(stage);
        manifest["provenance"]["wall_secs"] = secs.into();
        sandbox.write(&format!("artifacts/latest/{stage}/manifest.json"), &manifest.to_string());
    }
    assert_eq!(started(&["run", "--json", "--force"]), ["c", "tokens", "b", "a"]);
}

#[test]
fn the_time_a_run_will_take_is_told_by_past_times_and_limits() {
    let sandbox = Sandbox::with_fake_worker();
    let pipeline = "stages:
  a: { data: { task: sentiment, grammar: { train: 5, dev: 5 } }, resources: { threads: 1 } }
  b: { data: { task: entailment, grammar: { train: 5, dev: 5 } }, resources: { threads: 1 } }
  tokens: { tokenize: { examples: a, encoder: enc }, resources: { threads: 1 } }
";
    sandbox.write("pipeline.yaml", pipeline);
    sandbox.bam(&["run"]);
    for (stage, secs) in [("a", 100), ("b", 60), ("tokens", 30)] {
        let mut manifest = sandbox.manifest(stage);
        manifest["provenance"]["wall_secs"] = secs.into();
        sandbox.write(&format!("artifacts/latest/{stage}/manifest.json"), &manifest.to_string());
    }
    // Unlike what tests see otherwise, with its times.
    let summary = |args: &[&str]| {
        let args = [&["plan", "--threads", "2", "--memory", "8GiB"], args].concat();
        let told = String::from_utf8(sandbox.command(&args).output().unwrap().stdout).unwrap();
        told.lines().last().unwrap().to_owned()
    };
    assert_eq!(summary(&[]), "3 stages: 3 cached, 0 to run");
    assert_eq!(summary(&["--force", "--jobs", "1"]), "3 stages: 0 cached, 3 to run, about 3m 10s");
    assert_eq!(summary(&["--force", "--jobs", "2"]), "3 stages: 0 cached, 3 to run, about 2m 10s");
    assert_eq!(summary(&["--force=a", "--jobs", "2"]), "3 stages: 1 cached, 1 to run, 1 may run, about 2m 10s");
    sandbox.write(
        "pipeline.yaml",
        &format!("{pipeline}  c: {{ data: {{ task: paraphrase, grammar: {{ train: 5, dev: 5 }} }} }}\n"),
    );
    // As long as the mean of its kind.
    let told = "4 stages: 3 cached, 1 to run, which never ran: no estimate";
    assert_eq!(summary(&[]), told);
    let told = "4 stages: 0 cached, 4 to run, about 4m 30s if 1 stage that never ran is like the others";
    assert_eq!(summary(&["--force", "--jobs", "1"]), told);
}

#[test]
fn the_time_of_other_epochs_is_scaled_and_that_of_other_settings_is_called_so() {
    let sandbox = Sandbox::with_fake_worker();
    sandbox.write(
        "pipeline.yaml",
        "stages:
  a: { data: { task: sentiment, grammar: { train: 5, dev: 5 } } }
  t: { tokenize: { examples: a, encoder: enc } }
  m: { train: { tokens: [t], encoder: enc, epochs: 2 } }
",
    );
    sandbox.bam(&["run"]);
    let mut manifest = sandbox.manifest("m");
    manifest["provenance"]["wall_secs"] = 100.into();
    sandbox.write("artifacts/latest/m/manifest.json", &manifest.to_string());
    let summary = |set: &str| {
        let told = String::from_utf8(sandbox.command(&["plan", "--set", set]).output().unwrap().stdout).unwrap();
        told.lines().last().unwrap().to_owned()
    };
    let start = "3 stages: 2 cached, 1 to run, about";
    assert_eq!(summary("stages.m.train.epochs=4"), format!("{start} 3m 20s"));
    assert_eq!(summary("stages.m.train.batch=4"), format!("{start} 1m 40s, by runs of other settings"));
    sandbox.bam(&["run", "pipeline.yaml", "t", "--set", "stages.a.data.limit=3"]);
    assert_eq!(summary("stages.a.data.limit=3"), format!("{start} 1m 40s, by runs of other settings"));
}

#[test]
fn memory_is_shared_out_and_a_stage_that_never_ran_is_given_a_guess() {
    let sandbox = Sandbox::with_fake_worker();
    let pipeline = "stages:
  a: { data: { task: sentiment, grammar: { train: 5, dev: 5 } }, resources: { threads: 1 } }
  b: { data: { task: entailment, grammar: { train: 5, dev: 5 } }, resources: { threads: 1 } }
";
    sandbox.write("pipeline.yaml", pipeline);
    let order = |memory: &str| -> Vec<String> {
        _ = std::fs::remove_dir_all(sandbox.path("artifacts"));
        let args = ["run", "--json", "--threads", "2", "--jobs", "2", "--memory", memory];
        let events = events(&sandbox, &args, &[]);
        let kinds = events.iter().filter(|event| event["event"] == "running" || event["event"] == "ran");
        kinds.map(|event| event["event"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(order("1GiB"), ["running", "running", "ran", "ran"]);
    assert_eq!(order("400MiB"), ["running", "ran", "running", "ran"]);
}

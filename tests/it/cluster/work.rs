//! Stages that run as jobs, well or not.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{Cluster, before_others, of_stand_ins, run_with_stand_ins, stand_in};
use crate::support::{Sandbox, said};

#[test]
fn the_same_pipeline_gives_the_same_artifacts_as_jobs() {
    let Some(cluster) = Cluster::shared("max_jobs: 8\nsetup: [echo set up]\nenvironment: { BAM_TOLD: it's told }\n")
    else {
        return;
    };
    let run = cluster.run(&[]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert_eq!(run.stages("RAN").len(), 11, "{}", run.stderr);
    let local = Sandbox::with_small_pipeline();
    assert_eq!(local.bam(&["run"]).code, 0);
    assert_eq!(cluster.sandbox.contents(), local.contents());
    let fingerprint = |sandbox: &Sandbox| sandbox.manifest("student")["fingerprint"].clone();
    assert_eq!(fingerprint(&cluster.sandbox), fingerprint(&local), "a profile is no part of a key");

    let made = &cluster.sandbox.manifest("student")["provenance"];
    assert!(made["peak_memory_bytes"].as_u64() > Some(1 << 20), "{made}");
    assert_eq!(made["worker"]["jobs"].as_array().map(Vec::len), Some(1), "{made}");
    let log = cluster.sandbox.read("artifacts/latest/student/log.txt");
    assert!(log.contains("a library prints this\n") && log.contains("set up\n"), "{log}");
    assert_eq!(cluster.sandbox.names_in("artifacts/tmp"), [""; 0]);
    assert_eq!(cluster.jobs().len(), 11);
    let record = &cluster.sandbox.names_in("artifacts/runs")[0];
    let record = cluster.sandbox.read(&format!("artifacts/runs/{record}"));
    let record: Value = serde_json::from_str(&record).unwrap();
    // A job may be done before it is seen in the queue, but hardly all of them.
    assert!(record["jobs"].as_object().is_some_and(|jobs| !jobs.is_empty()), "{record}");

    // What was made there is found here, and the other way round.
    assert_eq!(cluster.sandbox.bam(&["run"]).stages("CACHED").len(), 11);
    assert_eq!(cluster.run(&[]).stages("CACHED").len(), 11);
    assert_eq!(cluster.jobs().len(), 11);
}

#[test]
fn a_job_asks_for_what_its_stage_needs() {
    let Some(cluster) = Cluster::shared(
        "  predict: { cpus: 3, memory: 1GiB, time: 90m }\n  data: { time: 20m }\naccount: nlp\noptions: [--comment=told]\non_interrupt: leave\n",
    ) else {
        return;
    };
    cluster.sandbox.edit(
        "pipeline.yaml",
        "tokens: tokens@$task } }",
        "tokens: tokens@$task }, resources: { threads: 2, time: 45m } }",
    );
    let run = cluster.run(&["pipeline.yaml", "predictions@sentiment"]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    let jobs = cluster.jobs();
    let of = |stage: &str| jobs.iter().find(|job| job["name"].as_str().unwrap().contains(stage)).unwrap();
    let job = of("bam:predictions@sentiment:");
    assert_eq!((&job["cpus"], &job["memory_per_node"], &job["time_limit"]), (&2.into(), &1024.into(), &45.into()));
    assert_eq!(of("bam:examples@sentiment:")["time_limit"], 20);
    assert_eq!((&job["account"], &job["comment"]), (&"nlp".into(), &"told".into()));
    let name = job["name"].as_str().unwrap();
    let fingerprint = cluster.sandbox.manifest("predictions@sentiment")["fingerprint"].as_str().unwrap().to_owned();
    assert!(name.contains(&fingerprint), "{name}");
    let job = of("bam:tokens@sentiment:");
    assert_eq!((&job["cpus"], &job["memory_per_node"]), (&1.into(), &256.into()), "a guess where nothing is known");
}

#[test]
fn failures_are_told_with_what_the_worker_and_slurm_said() {
    let Some(cluster) = Cluster::shared("") else { return };
    cluster.sandbox.write("behaviour.json", r#"{"tokens@sentiment": "fail", "tokens@entailment": "crash"}"#);
    let run = cluster.run(&[]);
    assert_eq!(run.code, 1);
    let failed: BTreeSet<String> = run.stages("FAILED").into_iter().collect();
    assert_eq!(
        failed,
        BTreeSet::from(["tokens@sentiment".to_owned(), "tokens@entailment".to_owned()]),
        "{}",
        run.stderr
    );
    for said in [
        "error: line 3 of `train.tsv` has 2 columns, not 4\n  caused by: no column `label`\n\nhint: mend the file",
        "error: the worker ended with exit code 3\n",
        "  | working on tokens@entailment\n",
    ] {
        assert!(run.stderr.contains(said), "{said}: {}", run.stderr);
    }
    let jobs = cluster.jobs();
    let tokenized = jobs.iter().filter(|job| job["name"].as_str().is_some_and(|name| name.starts_with("bam:tokens@")));
    assert_eq!(tokenized.map(|job| job["job_state"].as_str().unwrap()).collect::<Vec<_>>(), ["FAILED"; 2]);
    assert_eq!(cluster.sandbox.names_in("artifacts/tmp"), [""; 0]);
}

#[test]
fn a_set_up_that_fails_is_told_with_what_it_said() {
    let Some(cluster) = Cluster::shared("setup: [echo no module cuda >&2, exit 7]\n") else { return };
    let run = cluster.run(&["pipeline.yaml", "examples@sentiment"]);
    assert_eq!(run.code, 1);
    assert!(run.stderr.contains("ended with exit code 7 before the worker did\n"), "{}", run.stderr);
    assert!(run.stderr.contains("  | no module cuda\n"), "{}", run.stderr);
}

#[test]
fn two_stages_at_once_have_a_gpu_each() {
    let Some(cluster) = Cluster::shared("  predict: { gpus: 2 }\n") else { return };
    cluster.sandbox.edit("cluster.yaml", "memory: 100MiB", "memory: 100MiB, gpus: 1");
    cluster.sandbox.write("behaviour.json", r#"{"teacher@sentiment": "meet", "teacher@entailment": "meet"}"#);
    let run = cluster.run(&["pipeline.yaml", "predictions"]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    let seen = |stage: &str| {
        let log = cluster.sandbox.read(&format!("artifacts/latest/{stage}/log.txt"));
        log.lines().find_map(|line| line.strip_prefix("GPUs: ").map(ToOwned::to_owned))
    };
    let teachers: BTreeSet<Option<String>> =
        ["teacher@sentiment", "teacher@entailment"].into_iter().map(seen).collect();
    assert_eq!(teachers, BTreeSet::from([Some("0".to_owned()), Some("1".to_owned())]));
    assert_eq!(seen("predictions@sentiment").as_deref(), Some("0,1"));
    assert_eq!(seen("tokens@sentiment").as_deref(), Some(""), "a stage that asked for none sees none");
}

#[test]
fn no_more_jobs_are_queued_than_the_profile_allows() {
    let Some(cluster) = Cluster::shared("max_jobs: 1\n") else { return };
    cluster.sandbox.write("behaviour.json", r#"{"examples@sentiment": "meet", "examples@entailment": "meet"}"#);
    let run = cluster.run(&["pipeline.yaml", "examples"]);
    assert_eq!(run.stages("FAILED").len(), 1, "the first waits for the other in vain: {}", run.stderr);
    let mut times: Vec<_> =
        cluster.jobs().iter().map(|job| [&job["submit_time"], &job["end_time"]].map(Value::as_u64)).collect();
    times.sort_unstable();
    let [[_, first_ended], [second_submitted, _]] = times[..] else { panic!("{times:?}") };
    assert!(first_ended <= second_submitted, "{times:?}");
}

#[test]
fn a_job_runs_in_its_container_and_in_the_partition_of_its_kind() {
    let Some(cluster) =
        Cluster::shared("  tokenize: { partition: low }\ncontainer: [sh, -c, 'touch boxed; exec \"$@\"', sh]\n")
    else {
        return;
    };
    let run = cluster.run(&["pipeline.yaml", "tokens@sentiment"]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert!(cluster.sandbox.path("boxed").exists());
    let jobs = cluster.jobs();
    let partitions: Vec<_> = jobs.iter().map(|job| job["partition"].as_str().unwrap()).collect();
    assert_eq!(partitions, ["main", "low"]);
}

#[test]
fn a_job_asks_for_the_qos_of_the_profile_and_for_each_resource_once() {
    let sandbox = of_stand_ins("echo '{\"jobs\": []}'");
    let profile = "executor: slurm\nqos: high\nlimits: { data: { gpus: 1 } }\noptions: [--gres=token:1]\n";
    sandbox.write("cluster.yaml", profile);
    stand_in(
        &sandbox,
        "sbatch",
        "echo \"$@\" > called; for script; do :; done\nbash \"$script\" >/dev/null 2>&1 &\necho 7",
    );
    assert_eq!(run_with_stand_ins(&sandbox, "examples@sentiment").code, 0);
    let called = sandbox.read("called");
    assert!(called.contains(" --qos=high ") && called.contains(" --gres=gpu:1,token:1 "), "{called}");
    assert_eq!(called.matches("--gres").count(), 1, "{called}");
}

#[test]
fn a_job_without_memory_says_so() {
    let Some(cluster) = Cluster::shared("  tokenize: { memory: 50MiB }\n") else { return };
    cluster.sandbox.write("behaviour.json", r#"{"tokens@sentiment": "greedy"}"#);
    let run = cluster.run(&["pipeline.yaml", "tokens@sentiment"]);
    assert_eq!(run.code, 1);
    assert!(run.stderr.contains("ran out of memory: it had asked for 50.0 MiB\n"), "{}", run.stderr);
}

#[test]
fn a_program_asks_for_no_memory_that_is_a_guess_and_is_asked_early_only_where_limits_say_so() {
    let sandbox = of_stand_ins("echo '{\"jobs\": []}'");
    let run = "for script; do :; done; bash \"$script\" >/dev/null 2>&1 & echo 7";
    stand_in(&sandbox, "sbatch", &format!("echo \"$@\" > called; {run}"));
    sandbox.write("own.sh", r#"echo "$SAYS" > "$(sed -n 's/.*"output": "\(.*\)".*/\1/p' "$1")/made""#);
    sandbox.write("pipeline.yaml", "stages: { own: { exec: { run: [sh, own.sh] } } }\n");
    let called = |limits: &str| {
        sandbox.write("cluster.yaml", &format!("executor: slurm\npoll: 1s\nlimits: {{ exec: {{ {limits} }} }}\n"));
        let mut command = sandbox.command(&["run", "--profile", "cluster.yaml", "--force"]);
        before_others(&mut command, &sandbox);
        let ran = said(command.env_remove("BAM_JOBS"));
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        sandbox.read("called")
    };
    let first = called("time: 2m");
    assert!(!first.contains("--signal") && !first.contains("--mem") && first.contains(" --time=2 "), "{first}");
    let second = called("time: 2m, grace: 30s");
    assert!(second.contains(" --signal=B:TERM@30 ") && second.contains(" --mem=256M "), "{second}");
    let third = called("memory: 3GiB");
    assert!(third.contains(" --mem=3072M ") && !third.contains("--signal"), "{third}");
}

#[test]
fn a_training_is_asked_early_by_the_profile_or_by_its_limits() {
    let sandbox = of_stand_ins("echo '{\"jobs\": []}'");
    let run = "for script; do :; done; bash \"$script\" >/dev/null 2>&1 & echo 7";
    stand_in(&sandbox, "sbatch", &format!("echo \"$@\" > called; {run}"));
    let called = |profile: &str| {
        sandbox.write("cluster.yaml", &format!("executor: slurm\npoll: 1s\n{profile}"));
        let mut command =
            sandbox.command(&["run", "--profile", "cluster.yaml", "pipeline.yaml", "--force", "teacher@sentiment"]);
        before_others(&mut command, &sandbox);
        assert_eq!(said(command.env_remove("BAM_JOBS")).code, 0);
        sandbox.read("called")
    };
    assert!(called("").contains("--signal=B:TERM@120 "));
    assert!(called("grace: 5m\n").contains("--signal=B:TERM@300 "));
    assert!(called("grace: 5m\nlimits: { train: { grace: 90s } }\n").contains("--signal=B:TERM@90 "));
}

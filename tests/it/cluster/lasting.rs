//! Jobs that outlive their run, or that their stage outlives.

use std::fs;
use std::process::Stdio;
use std::thread::sleep;
use std::time::Duration;

use super::{Cluster, ended};
use crate::support::{Sandbox, signal, until};

/// A training of so many steps, ten a second.
fn of_steps(cluster: &Cluster, steps: u32) {
    cluster.sandbox.write("behaviour.json", &format!(r#"{{"teacher@sentiment": "steps", "steps": {steps}}}"#));
}

const TEACHER: [&str; 2] = ["pipeline.yaml", "teacher@sentiment"];

fn until_step(cluster: &Cluster, step: u32) {
    let at = cluster.sandbox.path("at-step-teacher@sentiment");
    let reached = || fs::read_to_string(&at).ok().and_then(|text| text.parse().ok()).unwrap_or(0) >= step;
    until("the training takes its steps", reached);
}

/// Where the worker of the artifact's last log began.
fn began(cluster: &Cluster) -> Vec<String> {
    let log = cluster.sandbox.read("artifacts/latest/teacher@sentiment/log.txt");
    log.lines().filter(|line| line.starts_with("from step ")).map(ToOwned::to_owned).collect()
}

#[test]
fn ctrl_c_has_a_training_keep_its_state_and_leaves_no_job() {
    let Some(cluster) = Cluster::shared("") else { return };
    of_steps(&cluster, 100);
    let engine = cluster.start(&TEACHER);
    until_step(&cluster, 3);
    signal(engine.id(), libc::SIGINT);
    let (story, code) = ended(engine);
    assert_eq!(code, Some(130), "{story}");
    assert!(story.contains("STOPPED") && story.contains("the next run goes on from there"), "{story}");
    assert_eq!(cluster.sandbox.names_in("artifacts/tmp"), [""; 0]);
    until("the job has ended", || cluster.states("teacher@sentiment") == ["FAILED"]);

    of_steps(&cluster, 10);
    let again = cluster.run(&TEACHER);
    assert_eq!(again.code, 0, "{}", again.stderr);
    assert!(began(&cluster)[0] != "from step 0", "{:?}", began(&cluster));
}

#[test]
fn a_second_ctrl_c_cancels_jobs_at_once() {
    let Some(cluster) = Cluster::shared("") else { return };
    cluster.sandbox.write("behaviour.json", r#"{"tokens@sentiment": "stubborn"}"#);
    let engine = cluster.start(&["pipeline.yaml", "tokens@sentiment"]);
    until("the worker is at it", || cluster.sandbox.path("hanging").exists());
    signal(engine.id(), libc::SIGINT);
    sleep(Duration::from_millis(300));
    signal(engine.id(), libc::SIGINT);
    let (story, code) = ended(engine);
    assert_eq!(code, Some(130), "{story}");
    until("the job is cancelled", || cluster.states("tokens@sentiment") == ["CANCELLED"]);
    cluster.sandbox.write("behaviour.json", "{}");
    let again = cluster.run(&["pipeline.yaml", "tokens@sentiment"]);
    assert_eq!(again.code, 0, "{}", again.stderr);
}

#[test]
fn a_job_goes_on_without_its_run_and_the_next_run_adopts_it() {
    let Some(cluster) = Cluster::shared("") else { return };
    of_steps(&cluster, 60);
    let mut engine = cluster.start(&TEACHER);
    until_step(&cluster, 3);
    engine.kill().unwrap();
    engine.wait().unwrap();
    let status = crate::support::said(&mut cluster.command(&["status"])).stdout;
    let line = status.lines().find(|line| line.starts_with("teacher@sentiment ")).unwrap();
    assert!(line.contains("submitted") && line.contains(" running on ") && line.contains("adopts it"), "{line}");
    let local = cluster.sandbox.bam(&[&["run"], &TEACHER[..]].concat());
    assert_eq!(local.code, 1);
    assert!(local.stderr.contains("a job of a cluster makes it"), "{}", local.stderr);
    assert!(local.stderr.contains("hint: `bam run --profile FILE`"), "{}", local.stderr);

    let again = cluster.run(&TEACHER);
    assert_eq!(again.code, 0, "{}", again.stderr);
    assert_eq!(again.stages("ADOPTED"), ["teacher@sentiment"], "{}", again.stderr);
    assert_eq!(again.stages("RAN"), ["teacher@sentiment"]);
    assert_eq!(began(&cluster), ["from step 0"], "it ran once");
    assert_eq!(cluster.states("teacher@sentiment").len(), 1, "it was submitted once");
    let metrics = &cluster.sandbox.manifest("teacher@sentiment")["metrics"];
    assert_eq!(metrics["dev/rte/accuracy"], 0.5, "what it said before is heard too");
    assert_eq!(cluster.sandbox.names_in("artifacts/tmp"), [""; 0]);
}

#[test]
fn jobs_that_were_left_and_have_ended_are_taken_in_as_they_ended() {
    let Some(cluster) = Cluster::shared("") else { return };
    of_steps(&cluster, 20);
    let engine = cluster.start(&[&TEACHER[..], &["--on-interrupt", "leave"]].concat());
    until_step(&cluster, 3);
    signal(engine.id(), libc::SIGINT);
    let (story, code) = ended(engine);
    assert_eq!(code, Some(130), "{story}");
    assert!(story.contains("LEFT") && story.contains("its job goes on"), "{story}");
    until("the job is done", || cluster.states("teacher@sentiment") == ["COMPLETED"]);
    let again = cluster.run(&TEACHER);
    assert_eq!(again.code, 0, "{}", again.stderr);
    assert_eq!(again.stages("ADOPTED"), ["teacher@sentiment"]);
    assert_eq!(cluster.states("teacher@sentiment"), ["COMPLETED"]);
}

#[test]
fn at_a_time_limit_a_training_goes_on_in_another_job_and_a_stage_without_a_state_fails() {
    let Some(cluster) = Cluster::shared("  tokenize: { time: 1m }\ngrace: 30s\n") else { return };
    cluster.sandbox.edit("cluster.yaml", "memory: 100MiB", "memory: 100MiB, time: 1m");
    let behaviour = r#"{"teacher@sentiment": "steps", "steps": 450, "tokens@entailment": "hang"}"#;
    cluster.sandbox.write("behaviour.json", behaviour);
    let run = cluster.run(&["pipeline.yaml", "teacher@sentiment", "tokens@entailment"]);
    assert_eq!(run.code, 1, "{}", run.stderr);
    let limit = "came to its time limit, 1m, and the stage keeps no state to go on from";
    assert!(run.stderr.contains(limit), "{}", run.stderr);
    assert!(
        run.stderr
            .contains("hint: raise `time` in the stage's `resources`, or of `tokenize` in the profile's `limits`"),
        "{}",
        run.stderr
    );

    assert!(run.stages("RAN").contains(&"teacher@sentiment".to_owned()), "{}", run.stderr);
    assert!(run.stages("REQUEUED").contains(&"teacher@sentiment".to_owned()), "{}", run.stderr);
    assert!(run.stderr.contains("came to its time limit: step "), "{}", run.stderr);
    let began = began(&cluster);
    assert!(began.len() > 1 && began[1] != "from step 0", "{began:?}");
    let jobs = cluster.sandbox.manifest("teacher@sentiment")["provenance"]["worker"]["jobs"].as_array().unwrap().len();
    assert_eq!(jobs, began.len());
}

#[test]
fn a_preempted_training_goes_on_from_its_state() {
    let Some(cluster) = Cluster::shared("options: [--gres=token:1]\n") else { return };
    cluster.sandbox.edit("cluster.yaml", "partition: main", "partition: low");
    of_steps(&cluster, 3000);
    let engine = cluster.start(&TEACHER);
    until_step(&cluster, 5);
    let takes_the_token = ["-p", "urgent", "--gres=token:1", "--mem=10", "-o", "/dev/null", "--wrap", "sleep 5"];
    cluster.slurm("sbatch", &takes_the_token);
    until("the job is preempted", || cluster.states("teacher@sentiment") == ["PREEMPTED"]);
    // The next one has little left to do.
    of_steps(&cluster, 10);
    let (story, code) = ended(engine);
    assert_eq!(code, Some(0), "{story}");
    assert!(story.contains("REQUEUED") && story.contains(" was preempted: step "), "{story}");
    until("the job has ended", || cluster.states("teacher@sentiment") == ["PREEMPTED", "COMPLETED"]);
    let began = began(&cluster);
    assert!(began.len() == 2 && began[1] != "from step 0", "{began:?}");
}

#[test]
fn a_training_that_took_several_jobs_ends_with_the_same_bits() {
    let Some(mut cluster) = Cluster::shared("") else { return };
    // The real worker, and a training of some seconds that keeps its state at every step.
    let encoder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/tiny-bert");
    let pipeline = format!(
        "vars: {{ encoder: {encoder} }}
stages:
  examples: {{ data: {{ task: similarity, grammar: {{ train: 160, dev: 40 }} }} }}
  tokens: {{ tokenize: {{ examples: examples, encoder: $encoder, max_tokens: 48 }} }}
  student: {{ train: {{ tokens: [tokens], encoder: $encoder, epochs: 15, batch: 4, precision: fp32 }} }}
"
    );
    let whole = Sandbox::new();
    whole.write("pipeline.yaml", &pipeline);
    assert_eq!(whole.bam(&["run", "--threads", "1"]).code, 0);

    let profile = cluster.sandbox.read("cluster.yaml").replace("100MiB", "1GiB");
    cluster.sandbox = Sandbox::new();
    cluster.sandbox.write("pipeline.yaml", &pipeline);
    cluster.sandbox.write("cluster.yaml", &profile);
    let engine = cluster
        .command(&["run", "--profile", "cluster.yaml"])
        .env("BAM_SAVE_SECS", "0")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let state = || {
        let folders = cluster.sandbox.names_in("artifacts/resume");
        let paths =
            folders.iter().map(|name| cluster.sandbox.path(&format!("artifacts/resume/{name}/state.safetensors")));
        paths.filter_map(|path| fs::metadata(path).ok()?.modified().ok()).max()
    };
    for jobs in 1..=2 {
        let before = state();
        until("the training goes on", || cluster.states("student").len() == jobs && state() > before);
        let job = cluster.jobs().last().unwrap()["job_id"].to_string();
        cluster.slurm("scancel", &["--batch", "--signal=TERM", &job]);
    }
    let (story, code) = ended(engine);
    assert_eq!(code, Some(0), "{story}");
    assert_eq!(story.matches("REQUEUED").count(), 2, "{story}");
    assert_eq!(cluster.sandbox.contents(), whole.contents());
    let made = &cluster.sandbox.manifest("student")["provenance"]["worker"];
    assert!(made.get("resumed").is_some() && made["jobs"].as_array().map(Vec::len) == Some(3), "{made}");
}

/// On a partition that allows a minute, a program that sleeps for so long and then makes something.
fn program_that_sleeps(profile: &str, secs: &[u32]) -> Option<Cluster> {
    let cluster = Cluster::shared(profile)?;
    cluster.sandbox.edit("cluster.yaml", "partition: main", "partition: short");
    let output = r#"sed -n 's/.*"output": "\(.*\)".*/\1/p' "$2""#;
    cluster.sandbox.write("sleep.sh", &format!("sleep $1 && echo slept > \"$({output})/slept\"\n"));
    let stage = |secs| format!("  after_{secs}: {{ exec: {{ run: [sh, sleep.sh, '{secs}'] }} }}\n");
    cluster.sandbox.write("pipeline.yaml", &format!("stages:\n{}", secs.iter().map(stage).collect::<String>()));
    Some(cluster)
}

#[test]
fn a_program_has_all_of_its_time_and_the_limit_of_a_partition_is_one() {
    let Some(cluster) = program_that_sleeps("grace: 50s\n", &[45, 300]) else { return };
    // One that keeps a state when Slurm ends it goes on from there.
    let value = |name| format!("$(sed -n 's/.*\"{name}\": \"\\(.*\\)\".*/\\1/p' \"$1\")");
    cluster.sandbox.write(
        "keep.sh",
        &format!(
            // SIGTERM reaches what it starts too, and perhaps first.
            "resume={}\ntest -e $resume/kept && exec touch {}/made
             trap 'trap \"\" TERM; mkdir -p $resume; touch $resume/kept; exit 1' TERM
             while :; do sleep 1 & wait; done\n",
            value("resume"),
            value("output")
        ),
    );
    let pipeline = cluster.sandbox.read("pipeline.yaml");
    cluster.sandbox.write("pipeline.yaml", &format!("{pipeline}  keeps: {{ exec: {{ run: [sh, keep.sh] }} }}\n"));
    let run = cluster.run(&[]);
    let mut ran = run.stages("RAN");
    ran.sort_unstable();
    assert_eq!((run.code, ran), (1, ["after_45", "keeps"].map(ToOwned::to_owned).to_vec()), "{}", run.stderr);
    assert!(run.stderr.contains("came to its time limit, 1m, and the stage keeps no state"), "{}", run.stderr);
    assert!(run.stderr.contains("hint: the limit is the partition's: "), "{}", run.stderr);
    // All began as members of one array; what kept a state had a second job.
    let mut states: Vec<_> = cluster.jobs().iter().map(|job| job["job_state"].to_string()).collect();
    states.sort_unstable();
    assert_eq!(states, ["\"COMPLETED\"", "\"COMPLETED\"", "\"TIMEOUT\"", "\"TIMEOUT\""], "{}", run.stderr);
}

#[test]
fn a_program_is_asked_before_its_limit_where_its_limits_say_so() {
    let Some(cluster) = program_that_sleeps("  exec: { grace: 30s }\n", &[300]) else { return };
    let run = cluster.run(&[]);
    assert_eq!(run.code, 1, "{}", run.stderr);
    let asked = "was asked to end <secs> before its limit, 1m, and kept no state to go on from";
    assert!(run.stderr.contains(asked), "{}", run.stderr);
    assert!(run.stderr.contains("partition's: ") && run.stderr.contains("keep a state when SIGTERM"), "{}", run.stderr);
    assert_eq!(cluster.states("after_300"), ["FAILED"], "it is not submitted again");
}

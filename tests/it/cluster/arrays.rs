//! Stages that ask for the same, as one array.

use std::fs;

use super::{Cluster, ended, of_stand_ins, run_with_stand_ins, stand_in};
use crate::support::until;

const TEACHERS: [&str; 4] = ["teacher@acceptability", "teacher@entailment", "teacher@paraphrase", "teacher@sentiment"];
const TARGET: [&str; 2] = ["pipeline.yaml", "teacher"];

/// Four teachers, of which all that they read is there, so that they are ready at once; and a note of each call of `sbatch`.
fn four_teachers(profile: &str) -> Option<Cluster> {
    let cluster = Cluster::shared(profile)?;
    let tasks = "[sentiment, entailment, paraphrase, acceptability]";
    cluster.sandbox.edit("pipeline.yaml", "[sentiment, entailment]", tasks);
    assert_eq!(cluster.sandbox.bam(&["run", "pipeline.yaml", "tokens"]).code, 0);
    stand_in(&cluster.sandbox, "sbatch", "echo \"$@\" >> calls; PATH=${PATH#*:} exec sbatch \"$@\"");
    Some(cluster)
}

/// Each of so many steps, ten a second.
fn of_steps(cluster: &Cluster, steps: u32) {
    let of_each: String = TEACHERS.iter().map(|teacher| format!("\"{teacher}\": \"steps\", ")).collect();
    cluster.sandbox.write("behaviour.json", &format!("{{{of_each}\"steps\": {steps}}}"));
}

fn until_all_are_at_it(cluster: &Cluster) {
    let is_at_it = |teacher: &str| cluster.sandbox.path(&format!("at-step-{teacher}")).exists();
    until("all trainings are at it", || TEACHERS.iter().all(|teacher| is_at_it(teacher)));
}

/// The bounds of the arrays that were submitted, in the order of the calls of `sbatch`; `alone` for those that were none.
fn submitted(cluster: &Cluster) -> Vec<String> {
    let calls = cluster.sandbox.read("calls");
    let bounds = |call: &str| {
        let array = call.split(' ').find_map(|word| word.strip_prefix("--array="));
        array.unwrap_or("alone").to_owned()
    };
    calls.lines().map(bounds).collect()
}

/// The job of each teacher.
fn jobs(cluster: &Cluster) -> Vec<String> {
    let job = |teacher: &str| {
        let jobs = cluster.sandbox.manifest(teacher)["provenance"]["worker"]["jobs"].clone();
        let [job] = &jobs.as_array().expect("jobs")[..] else { panic!("{teacher} took {jobs}") };
        job.as_str().expect("a word").to_owned()
    };
    TEACHERS.into_iter().map(job).collect()
}

/// Members of one array, whatever its number.
fn indices(jobs: &[String]) -> Vec<&str> {
    let array = jobs[0].split_once('_').expect("a member").0;
    let mut indices: Vec<&str> = jobs
        .iter()
        .map(|job| job.strip_prefix(array).and_then(|rest| rest.strip_prefix('_')).unwrap_or_else(|| panic!("{job}")))
        .collect();
    indices.sort_unstable();
    indices
}

#[test]
fn equal_stages_go_as_one_array() {
    let Some(cluster) = four_teachers("setup: [echo set up]\n") else { return };
    let run = cluster.run(&TARGET);
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert_eq!(run.stages("RAN").len(), 4, "{}", run.stderr);
    assert_eq!(submitted(&cluster), ["0-3"]);
    assert_eq!(indices(&jobs(&cluster)), ["0", "1", "2", "3"]);
    for teacher in TEACHERS {
        let log = cluster.sandbox.read(&format!("artifacts/latest/{teacher}/log.txt"));
        assert!(log.contains("a library prints this\n") && log.contains("set up\n"), "{teacher}: {log}");
    }
    assert_eq!(cluster.sandbox.names_in("artifacts/tmp"), [""; 0]);
}

#[test]
fn stages_after_an_array_are_one_too() {
    let Some(cluster) = four_teachers("") else { return };
    of_steps(&cluster, 20);
    let engine = cluster.start(&["pipeline.yaml", "predictions"]);
    until_all_are_at_it(&cluster);
    // So that all of them have ended when it looks again, as it is with many jobs.
    crate::support::signal(engine.id(), libc::SIGSTOP);
    let has_ended = |job: &serde_json::Value| job["job_state"] == "COMPLETED";
    until("all trainings have ended", || cluster.jobs().iter().filter(|job| has_ended(job)).count() == 4);
    crate::support::signal(engine.id(), libc::SIGCONT);
    let (story, code) = ended(engine);
    assert_eq!(code, Some(0), "{story}");
    assert_eq!(submitted(&cluster), ["0-3", "0-3"], "{story}");
}

#[test]
fn stages_that_ask_for_something_else_are_no_members() {
    let Some(cluster) = four_teachers("") else { return };
    cluster.sandbox.edit(
        "pipeline.yaml",
        "learning_rate: 5e-5 } }",
        "learning_rate: 5e-5 } }\n  other: { train: { tokens: [tokens@sentiment], encoder: $encoder, epochs: 2 }, resources: { threads: 2 } }",
    );
    let run = cluster.run(&["pipeline.yaml", "teacher", "other"]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    let mut submitted = submitted(&cluster);
    submitted.sort();
    assert_eq!(submitted, ["0-3", "alone"]);
}

#[test]
fn an_array_is_no_larger_than_the_cluster_allows() {
    let Some(cluster) = four_teachers("") else { return };
    stand_in(&cluster.sandbox, "scontrol", "echo 'MaxArraySize            = 3'");
    let run = cluster.run(&TARGET);
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert_eq!(submitted(&cluster), ["0-2", "alone"]);
}

#[test]
fn a_member_that_somebody_cancels_leaves_the_others() {
    let Some(cluster) = four_teachers("") else { return };
    of_steps(&cluster, 60);
    let engine = cluster.start(&TARGET);
    until_all_are_at_it(&cluster);
    let array = cluster.jobs().iter().find_map(|job| job["array_job_id"].as_u64().filter(|array| *array > 0)).unwrap();
    cluster.slurm("scancel", &[&format!("{array}_2")]);
    let (story, code) = ended(engine);
    assert_eq!(code, Some(1), "{story}");
    let cancelled = format!("job {array}_2 on ");
    assert!(story.contains(&cancelled) && story.contains(" was cancelled, and not by this run"), "{story}");
    assert_eq!(story.matches(" RAN ").count(), 3, "{story}");
    assert_eq!(submitted(&cluster), ["0-3"]);
    assert_eq!(cluster.sandbox.names_in("artifacts/tmp"), [""; 0]);
}

#[test]
fn members_are_adopted_one_by_one() {
    let Some(cluster) = four_teachers("") else { return };
    of_steps(&cluster, 60);
    let mut engine = cluster.start(&TARGET);
    until_all_are_at_it(&cluster);
    engine.kill().unwrap();
    engine.wait().unwrap();
    let status = crate::support::said(&mut cluster.command(&["status"])).stdout;
    let running = status
        .lines()
        .filter(|line| line.starts_with("teacher@") && line.contains('_') && line.contains(" running on "));
    assert_eq!(running.count(), 4, "{status}");

    let again = cluster.run(&TARGET);
    assert_eq!(again.code, 0, "{}", again.stderr);
    assert_eq!((again.stages("ADOPTED").len(), again.stages("RAN").len()), (4, 4), "{}", again.stderr);
    assert_eq!(submitted(&cluster), ["0-3"]);
    assert_eq!(indices(&jobs(&cluster)), ["0", "1", "2", "3"]);
    for teacher in TEACHERS {
        let log = cluster.sandbox.read(&format!("artifacts/latest/{teacher}/log.txt"));
        assert_eq!(log.matches("from step ").count(), 1, "{teacher} ran once: {log}");
    }
    assert_eq!(cluster.sandbox.names_in("artifacts/tmp"), [""; 0]);
}

#[test]
fn ctrl_c_has_all_members_keep_their_states() {
    let Some(cluster) = four_teachers("") else { return };
    of_steps(&cluster, 300);
    let engine = cluster.start(&TARGET);
    until_all_are_at_it(&cluster);
    crate::support::signal(engine.id(), libc::SIGINT);
    let (story, code) = ended(engine);
    assert_eq!(code, Some(130), "{story}");
    assert_eq!(story.matches("the next run goes on from there").count(), 4, "{story}");
    assert_eq!(cluster.sandbox.names_in("artifacts/tmp"), [""; 0]);
}

#[test]
fn a_member_without_memory_says_so() {
    let Some(cluster) = four_teachers("") else { return };
    cluster.sandbox.edit("cluster.yaml", "memory: 100MiB", "memory: 50MiB");
    cluster.sandbox.write("behaviour.json", r#"{"teacher@paraphrase": "greedy"}"#);
    let run = cluster.run(&TARGET);
    assert_eq!((run.code, run.stages("RAN").len()), (1, 3), "{}", run.stderr);
    assert!(run.stderr.contains("ran out of memory: it had asked for 50.0 MiB\n"), "{}", run.stderr);
}

#[test]
fn an_array_that_was_taken_though_sbatch_failed_is_found_by_its_name() {
    let sandbox = of_stand_ins(
        r#"test -f name || exec echo '{"jobs": []}'
           echo "{\"jobs\": [{\"job_id\": 9, \"name\": \"$(cat name)\", \"job_state\": \"PENDING\",
                 \"array_job_id\": 9, \"array_task_id\": null, \"array_task_string\": \"0-1\"}]}""#,
    );
    stand_in(
        &sandbox,
        "sbatch",
        "echo tried >> tried
         for word; do case $word in --job-name=*) echo \"${word#--job-name=}\" > name;; esac; done
         for index in 0 1; do SLURM_ARRAY_TASK_ID=$index bash \"$word\" >/dev/null 2>&1 & done
         echo 'sbatch: error: Batch job submission failed: Socket timed out on send/recv operation' >&2; exit 1",
    );
    let said = run_with_stand_ins(&sandbox, "examples");
    assert_eq!(said.code, 0, "{}", said.stderr);
    assert_eq!(fs::read_to_string(sandbox.path("tried")).unwrap().lines().count(), 1, "it was submitted once");
    for (stage, job) in [("examples@sentiment", "9_0"), ("examples@entailment", "9_1")] {
        assert_eq!(sandbox.manifest(stage)["provenance"]["worker"]["jobs"], serde_json::json!([job]));
    }
}

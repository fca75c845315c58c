//! A cluster in trouble: programs that are missing, silent or wrong, and a node that is drained.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::process::Command;

use serde_json::Value;

use super::slurm::Slurm;
use super::{
    Cluster, LISTED, TAKES, before_others, ended, of_stand_ins, run_with_stand_ins, stand_in, start_with_stand_ins,
};
use crate::support::{Said, Sandbox, said, until};

/// `bam run` of one stage.
fn run(sandbox: &Sandbox) -> Said {
    run_with_stand_ins(sandbox, "examples@sentiment")
}

#[test]
fn without_slurm_on_the_path_nothing_runs() {
    let sandbox = Sandbox::with_small_pipeline();
    sandbox.write("cluster.yaml", "executor: slurm\n");
    let mut command = sandbox.command(&["run", "--profile", "cluster.yaml"]);
    let said = said(command.env("PATH", sandbox.path("none")));
    assert_eq!(said.code, 2);
    assert_eq!(
        said.stderr,
        "error: `sbatch` is not on the `PATH`: no Slurm here\n\nhint: run `bam` where jobs are submitted, a login node \
         mostly, or without `--profile` to run stages here\n"
    );
}

#[test]
fn a_partition_that_is_not_there_is_a_mistake_of_the_profile() {
    let Some(cluster) = Cluster::shared("") else { return };
    cluster.sandbox.edit("cluster.yaml", "partition: main", "partition: mian");
    let run = cluster.run(&[]);
    assert_eq!(run.code, 2);
    assert_eq!(
        run.stderr,
        "error: the cluster has no partition `mian`\n  --> cluster.yaml:2:12\n   |\n 2 | partition: mian\n   |            ^^^^\n\n\
         hint: did you mean `main`?\n"
    );
}

const AWAY: &str = "echo 'sbatch: error: Unable to contact slurm controller (connect failure)' >&2; exit 1";
const IS_IT_UP: &str = "hint: is Slurm's controller up? `scontrol ping` and `sinfo` tell";

#[test]
fn a_controller_that_is_away_at_the_start_ends_the_run_before_anything_is_submitted() {
    let sandbox = of_stand_ins(AWAY);
    stand_in(&sandbox, "sinfo", AWAY);
    stand_in(&sandbox, "sbatch", "echo tried >> tried; exit 1");
    let said = run(&sandbox);
    assert_eq!(said.code, 2, "{}", said.stderr);
    assert!(said.stderr.contains("Unable to contact slurm controller (connect failure)\n\n"), "{}", said.stderr);
    assert!(said.stderr.contains(IS_IT_UP) && !sandbox.path("tried").exists(), "{}", said.stderr);
}

#[test]
fn a_controller_that_goes_away_is_tried_at_the_times_that_are_told() {
    // It says nothing of jobs either, and can't have had them.
    let sandbox = of_stand_ins(AWAY);
    let back = "for script; do :; done; bash \"$script\" >/dev/null 2>&1 & echo 7";
    stand_in(
        &sandbox,
        "sbatch",
        &format!("echo tried >> tried; if test $(wc -l < tried) -lt 3; then {AWAY}; fi\n{back}"),
    );
    let said = run(&sandbox);
    assert_eq!(said.code, 0, "{}", said.stderr);
    for told in ["was not taken, try 1 of 8, the next in <secs>: `sbatch`: Unable", "try 2 of 8, the next in <secs>: "]
    {
        assert_eq!(said.stderr.matches(told).count(), 1, "{}", said.stderr);
    }
    assert!(said.stderr.contains(&format!("{IS_IT_UP}; it is submitted again")), "{}", said.stderr);
    assert_eq!(sandbox.read("tried").lines().count(), 3);
}

#[test]
fn an_empty_list_with_an_error_says_of_no_job_that_it_is_gone() {
    let sandbox = of_stand_ins(
        r#"echo '{"jobs": [], "errors": [{"description": "Failed while looking for jobs", "error_number": -1}]}'"#,
    );
    sandbox.write("behaviour.json", r#"{"examples@sentiment": "steps", "steps": 60}"#);
    let said = run(&sandbox);
    assert_eq!((said.code, said.stages("REQUEUED").len()), (0, 0), "{}", said.stderr);
    assert!(said.stderr.contains("the queue cannot be asked: `squeue`: Failed while looking"), "{}", said.stderr);
}

#[test]
fn a_dry_run_tells_of_a_partition_that_is_not_there_if_the_queue_answers() {
    let sandbox = of_stand_ins("exit 1");
    sandbox.write("cluster.yaml", "executor: slurm\npartition: mian\n");
    let run = |more: &[&str]| {
        let mut command = sandbox.command(&[&["run", "--profile", "cluster.yaml"], more].concat());
        before_others(&mut command, &sandbox);
        said(&mut command)
    };
    stand_in(&sandbox, "sinfo", "echo main");
    let dry = run(&["-n"]);
    assert_eq!((dry.code, dry.stdout.as_str()), (2, ""), "{}", dry.stderr);
    assert!(dry.stderr.starts_with("error: the cluster has no partition `mian`\n"), "{}", dry.stderr);
    assert_eq!(dry.stderr, run(&[]).stderr);
    stand_in(&sandbox, "sinfo", AWAY);
    assert_eq!(run(&["-n"]).code, 0);
}

#[test]
fn what_sbatch_refuses_fails_the_stage_in_slurms_words() {
    let Some(cluster) = Cluster::shared("  data: { memory: 900GiB }\n") else { return };
    let run = cluster.run(&["pipeline.yaml", "examples@sentiment"]);
    assert_eq!(run.code, 1);
    assert!(
        run.stderr.contains("error: `sbatch`: Memory specification can not be satisfied; Batch job submission"),
        "{}",
        run.stderr
    );
    assert!(run.stderr.contains("hint: the profile's `partition`, `account`"), "{}", run.stderr);
    assert_eq!(cluster.sandbox.names_in("artifacts/tmp"), [""; 0]);
}

#[test]
fn a_queue_that_hangs_keeps_no_stage_from_being_done() {
    let sandbox = of_stand_ins("sleep 600");
    let said = run(&sandbox);
    assert_eq!(said.code, 0, "{}", said.stderr);
    assert_eq!(said.stages("RAN"), ["examples@sentiment"]);
}

#[test]
fn a_queue_that_does_not_answer_is_told_once_and_asked_again() {
    let sandbox = of_stand_ins(
        "echo asked >> asked; test $(wc -l < asked) -gt 2 && exec echo '{\"jobs\": []}'
         echo 'squeue: error: Unable to contact slurm controller' >&2; exit 1",
    );
    sandbox.write("behaviour.json", r#"{"examples@sentiment": "steps", "steps": 60}"#);
    let said = run(&sandbox);
    assert_eq!(said.code, 0, "{}", said.stderr);
    let warning =
        "warning: the queue cannot be asked: `squeue`: Unable to contact slurm controller\n\nhint: jobs go on";
    assert_eq!(said.stderr.matches(warning).count(), 1, "{}", said.stderr);
    assert!(sandbox.read("asked").lines().count() > 2);
}

#[test]
fn a_job_that_vanishes_is_submitted_again_and_not_forever() {
    let sandbox = of_stand_ins("echo '{\"jobs\": []}'");
    stand_in(&sandbox, "sbatch", "echo submitted >> submitted; wc -l < submitted");
    let said = run(&sandbox);
    assert_eq!(said.code, 1, "{}", said.stderr);
    assert!(said.stderr.contains("error: job 4 is gone from the queue, as 3 before it were lost\n"), "{}", said.stderr);
    assert_eq!(said.stages("REQUEUED").len(), 3, "{}", said.stderr);
    assert_eq!(sandbox.read("submitted").lines().count(), 4);
}

#[test]
fn accounting_is_asked_about_jobs_that_the_queue_forgot() {
    let sandbox = of_stand_ins("echo '{\"jobs\": []}'");
    stand_in(&sandbox, "sbatch", "echo 7");
    stand_in(&sandbox, "sacct", "echo '7|OUT_OF_MEMORY'");
    let said = run(&sandbox);
    assert_eq!(said.code, 1);
    assert!(said.stderr.contains("error: job 7 ran out of memory: it had asked for 256.0 MiB\n"), "{}", said.stderr);
}

#[test]
fn a_controller_that_is_busy_is_asked_again() {
    let sandbox = of_stand_ins("echo '{\"jobs\": []}'");
    stand_in(
        &sandbox,
        "sbatch",
        "echo tried >> tried; if test $(wc -l < tried) -lt 2; then
           echo 'sbatch: error: Batch job submission failed: Socket timed out on send/recv operation' >&2; exit 1; fi
         for script; do :; done; bash \"$script\" >/dev/null 2>&1 & echo 7",
    );
    let said = run(&sandbox);
    assert_eq!(said.code, 0, "{}", said.stderr);
    assert!(
        said.stderr.contains(
            "the job of `examples@sentiment` was not taken, try 1 of 8, the next in <secs> at the earliest: `sbatch`: Batch"
        ),
        "{}",
        said.stderr
    );
    assert_eq!(sandbox.read("tried").lines().count(), 2);
}

#[test]
fn a_job_that_was_taken_though_sbatch_failed_is_found_by_its_name() {
    let sandbox = of_stand_ins(
        r#"test -f name || exec echo '{"jobs": []}'
           echo "{\"jobs\": [{\"job_id\": 9, \"name\": \"$(cat name)\", \"job_state\": \"RUNNING\", \"nodes\": \"n1\"}]}""#,
    );
    stand_in(
        &sandbox,
        "sbatch",
        "echo tried >> tried
         for word; do case $word in --job-name=*) echo \"${word#--job-name=}\" > name;; esac; done
         bash \"$word\" >/dev/null 2>&1 &
         echo 'sbatch: error: Batch job submission failed: Socket timed out on send/recv operation' >&2; exit 1",
    );
    let said = run(&sandbox);
    assert_eq!(said.code, 0, "{}", said.stderr);
    assert_eq!(sandbox.read("tried").lines().count(), 1, "it was submitted once");
    let jobs = &sandbox.manifest("examples@sentiment")["provenance"]["worker"]["jobs"];
    assert_eq!(jobs, &serde_json::json!(["9"]));
}

#[test]
fn why_a_job_waits_is_told_and_it_runs_when_it_can() {
    let Some(own) = Slurm::start() else { return };
    let cluster = Cluster::on(own.settings(), "");
    let host = cluster.slurm("sinfo", &["-h", "-o", "%n"]);
    let node = format!("nodename={}", host.lines().next().unwrap());
    cluster.slurm("scontrol", &["update", &node, "state=drain", "reason=test"]);
    let mut engine = cluster.start(&["pipeline.yaml", "examples@sentiment"]);
    let mut story = BufReader::new(engine.stderr.take().unwrap()).lines();
    let queued = story.by_ref().map(Result::unwrap).find(|line| line.contains("QUEUED")).expect("it waits");
    // In one or the other of Slurm's words.
    assert!(
        queued.contains(" pending: ") && ["DRAINED", "NotAvail"].iter().any(|word| queued.contains(word)),
        "{queued}"
    );
    let status = said(&mut cluster.command(&["status"])).stdout;
    let line = status.lines().find(|line| line.starts_with("examples@sentiment ")).unwrap();
    assert!(line.contains("submitted") && line.contains("pending"), "{line}");
    cluster.slurm("scontrol", &["update", &node, "state=resume"]);
    let rest: Vec<String> = story.map(Result::unwrap).collect();
    assert_eq!(ended(engine).1, Some(0), "{rest:?}");
    let record = cluster.sandbox.names_in("artifacts/runs").remove(0);
    let record: Value = serde_json::from_str(&cluster.sandbox.read(&format!("artifacts/runs/{record}"))).unwrap();
    let said = record["jobs"]["examples@sentiment"].to_string();
    assert!(["DRAINED", "NotAvail"].iter().any(|word| said.contains(word)), "the run's record keeps it: {said}");
}

#[test]
fn a_job_that_can_never_start_is_told_of() {
    let reason = r#"\"job_state\": \"$(cat state)\", \"state_reason\": \"PartitionTimeLimit\""#;
    let sandbox = of_stand_ins(&LISTED.replace(r#"\"job_state\": \"$(cat state)\""#, reason));
    sandbox.write("state", "PENDING");
    stand_in(&sandbox, "sbatch", &format!("{TAKES}\necho 7"));
    let mut engine = start_with_stand_ins(&sandbox, &["examples@sentiment"]);
    let mut story = BufReader::new(engine.stderr.take().unwrap()).lines().map(Result::unwrap);
    let told = story.find(|line| line.contains("its job asks for what it can't have (PartitionTimeLimit)"));
    engine.kill().unwrap();
    engine.wait().unwrap();
    assert!(told.is_some());
}

#[test]
fn a_job_that_somebody_cancels_fails_its_stage() {
    let Some(cluster) = Cluster::shared("") else { return };
    cluster.sandbox.write("behaviour.json", r#"{"examples@sentiment": "stubborn"}"#);
    let engine = cluster.start(&["pipeline.yaml", "examples@sentiment"]);
    until("the worker is at it", || cluster.sandbox.path("hanging").exists());
    let job = cluster.jobs()[0]["job_id"].to_string();
    cluster.slurm("scancel", &[&job]);
    let (story, code) = ended(engine);
    assert_eq!(code, Some(1), "{story}");
    assert!(story.contains("was cancelled, and not by this run"), "{story}");
    assert_eq!(cluster.states("examples@sentiment"), ["CANCELLED"], "it is not submitted again");
}

#[test]
fn a_disk_that_is_full_for_a_while_costs_no_job() {
    let sandbox = of_stand_ins("exec sleep 60");
    let disk = sandbox.path("artifacts");
    fs::create_dir(&disk).unwrap();
    let mount = Command::new("mount").args(["-t", "tmpfs", "-o", "size=512k", "tmpfs"]).arg(&disk).output();
    if !mount.is_ok_and(|mount| mount.status.success()) {
        return;
    }
    sandbox.write("behaviour.json", r#"{"examples@sentiment": "steps", "steps": 60}"#);
    let engine = start_with_stand_ins(&sandbox, &["examples@sentiment"]);
    let step = || fs::read_to_string(sandbox.path("at-step-examples@sentiment")).ok()?.parse::<u32>().ok();
    until("it takes steps", || step() > Some(3));
    let full = fs::write(disk.join("filler"), vec![0; 1 << 20]);
    let before = step();
    until("it goes on", || step() > before.map(|step| step + 20));
    fs::remove_file(disk.join("filler")).unwrap();
    let (story, code) = ended(engine);
    assert!(Command::new("umount").arg(&disk).status().unwrap().success());
    assert!(full.is_err() && code == Some(0), "{story}");
}
